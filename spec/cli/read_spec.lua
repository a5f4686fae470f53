--- What a person types, and what comes of it.
local read = require "cueball.cli.read"

-- That the reader refuses the text, with a message that has these words.
local function refused(reader, text, words)
  local value, message = reader(text)
  assert.is_nil(value, text)
  assert.is_truthy(message:find(words, 1, true), message)
end

describe("a time", function()
  it("is a number with a unit, or of milliseconds", function()
    for text, ms in pairs { ["5000"] = 5000, ["1"] = 1, ["500ms"] = 500, ["5s"] = 5000, ["1.5s"] = 1500,
      ["2m"] = 120000, ["1440m"] = 86400000 } do
      assert.equal(ms, read.time(text), text)
    end
  end)

  it("is refused otherwise", function()
    for _, text in ipairs { "", "s", "0", "0.5ms", "-5", "5h", "5 s", "5S", "1441m", "1e3", "0x10", "1..5", "nan" } do
      refused(read.time, text, "from 1ms to 1440m")
    end
  end)
end)

describe("a port", function()
  it("is a whole number from 0 to 65535", function()
    assert.equal(0, read.port "0")
    assert.equal(65535, read.port "65535")
    for _, text in ipairs { "", "-1", "65536", "80abc", "8e1", "0x50", " 80", "99999999999999999999" } do
      refused(read.port, text, "from 0 to 65535")
    end
  end)
end)

describe("a service", function()
  it("is _NAME._PROTOCOL, or none", function()
    assert.equal("_http._tcp", read.service "_http._tcp")
    assert.equal("_a-b9._udp", read.service "_a-b9._udp")
    assert.is_false(read.service "none")
    for _, text in ipairs { "", "http", "_http", "http._tcp", "_http._tcp.x", "_._", "_a b._tcp", "_" .. ("x"):rep(63) .. "._tcp" } do
      refused(read.service, text, "_http._tcp, or none")
    end
  end)
end)

describe("nameservers", function()
  it("are addresses, on port 53 unless it is said", function()
    assert.same({ "10.0.0.1:53" }, read.servers "10.0.0.1")
    assert.same({ "10.0.0.1:5353", "[::1]:53", "[fe80::1]:54" }, read.servers "10.0.0.1:5353, ::1,[fe80::1]:54")
  end)

  it("or one name", function()
    assert.equal("dns.example", read.servers "dns.example")
  end)

  it("are refused otherwise", function()
    refused(read.servers, "10.0.0.1,dns.example", "with commas between them, or one name")
    for _, text in ipairs { "", ",", "10.0.0.1,", "10.0.0.1,dns.example", "a,b", "dns.example:53", "10.0.0", "10.0.0.1:99999",
      "unix:/x", "a b" } do
      refused(read.servers, text, "nameservers")
    end
  end)
end)

describe("a token", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  local function read_of(text, given)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    return read.token(path, given)
  end

  it("is what is in the file, else what the environment has", function()
    assert.equal("sesame", read_of("sesame\n", "other"))
    assert.equal("other", read.token(nil, " other\n"))
    assert.same({}, { read.token(nil, nil) })
    assert.same({}, { read.token(nil, "") })
  end)

  it("is refused if the file has none, or what no header could have", function()
    for _, text in ipairs { "", " \n" } do
      assert.same({ nil, ("%q has no token in it"):format(path) }, { read_of(text, "other") })
    end
    for _, text in ipairs { "a b", "a\r\nb", "a\27b" } do
      assert.same({ nil, "the token has blanks or control characters in it" }, { read_of(text) })
    end
    assert.same({ nil, "the token cannot be read: /nowhere: No such file or directory" }, { read.token "/nowhere" })
  end)
end)
