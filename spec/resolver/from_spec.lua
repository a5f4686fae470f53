--- From what somebody typed to the right resolver.
require "spec.support.sim_pool"
local cueball = require "cueball"

local from = cueball.resolver.from

-- What became of a text, in short: "static 10.0.0.1:80", "dns db.example 80".
local function kind(text, options)
  local resolver, message, name = from(text, options)
  if not resolver then
    assert.equal("invalid", name)
    return message
  end
  if resolver.options then return ("dns %s %s"):format(resolver.options.domain, tostring(resolver.options.default_port)) end
  local keys = {}
  resolver:run { set = function(_, backends)
    for _, backend in ipairs(backends) do keys[#keys + 1] = backend.key end
  end }
  return "static " .. table.concat(keys, " ")
end

describe("resolver.from", function()
  it("tells addresses from names", function()
    for text, is in pairs {
      ["10.0.0.1:80"] = "static 10.0.0.1:80", ["10.0.0.1:0"] = "static 10.0.0.1:0", ["10.0.0.1"] = "static 10.0.0.1:99",
      ["::1"] = "static [::1]:99", ["[::1]"] = "static [::1]:99", ["[::1]:80"] = "static [::1]:80",
      ["fe80::1:80"] = "static [fe80::1:80]:99",
      ["unix:/run/db.sock"] = "static unix:/run/db.sock",
      ["db.example"] = "dns db.example 99", ["db.example:5432"] = "dns db.example 5432", ["db.example:65535"] = "dns db.example 65535",
      ["db.example.:80"] = "dns db.example. 80", ["db.example."] = "dns db.example. 99", ["DB.Example:80"] = "dns DB.Example 80",
      ["localhost:80"] = "dns localhost 80", ["db"] = "dns db 99", ["1.example:080"] = "dns 1.example 80",
    } do assert.equal(is, kind(text, { default_port = 99 }), text) end
  end)

  it("says what is wrong with a text, and raises nothing", function()
    local NUMBER = " is neither an address nor a name: its last part is a number, so it looks like an IPv4 address, but is none"
    local COLONS = " has several colons, but is no IPv6 address; expected HOST:PORT or [IPv6]:PORT"
    local function port(text, digits) return ("%q: %q is no port: expected a number from 0 to 65535"):format(text, digits) end
    local long = ("a"):rep(64) .. ".example"
    for text, message in pairs {
      [""] = "the address or name is empty", [":80"] = '":80": there is nothing before the port',
      [":"] = '":": there is nothing before the port',
      ["host:"] = "\"host:\": the port after ':' is missing", ["10.0.0.1:"] = "\"10.0.0.1:\": the port after ':' is missing",
      ["[::1]:"] = "\"[::1]:\": the port after ':' is missing",
      ["host:99999"] = port("host:99999", "99999"), ["host:65536"] = port("host:65536", "65536"), ["host:-1"] = port("host:-1", "-1"),
      ["host:0x50"] = port("host:0x50", "0x50"), ["host:1e3"] = port("host:1e3", "1e3"), ["1.2.3.4:80abc"] = port("1.2.3.4:80abc", "80abc"),
      ["[::1]:80x"] = port("[::1]:80x", "80x"), ["host:000080"] = port("host:000080", "000080"),
      ["a:b:c"] = '"a:b:c"' .. COLONS, ["::1::"] = '"::1::"' .. COLONS, ["host:80:"] = '"host:80:"' .. COLONS, ["::g"] = '"::g"' .. COLONS,
      ["[::1"] = '"[::1": the bracket is not closed; expected [IPv6]:PORT',
      ["[db.example]:80"] = '"[db.example]:80": "db.example" is no IPv6 address, and only those stand in brackets',
      ["[10.0.0.1]:80"] = '"[10.0.0.1]:80": "10.0.0.1" is no IPv6 address, and only those stand in brackets',
      ["[]:80"] = '"[]:80": "" is no IPv6 address, and only those stand in brackets',
      ["[::1]80"] = '"[::1]80": after the bracket a port such as :80 is expected, not "80"',
      ["db example"] = '"db example": there are blanks in it', [" db"] = '" db": there are blanks in it',
      ["db\t"] = '"db\\9": there are blanks in it',
      [long] = ('%q is neither an address nor a name: the part %q has 64 octets, and 63 are the most'):format(long, ("a"):rep(64)),
      ["1.2.3"] = '"1.2.3"' .. NUMBER, ["1.2.3.4.5:80"] = '"1.2.3.4.5:80"' .. NUMBER, ["12345"] = '"12345"' .. NUMBER,
      ["unix:run"] = '"unix:run": expected unix:/PATH', ["unix:"] = '"unix:": expected unix:/PATH',
      ["unix:/" .. ("x"):rep(107)] = "the path of a UNIX socket has 108 bytes, 107 at most fit",
      ["unix:@db"] = '"unix:@db": abstract sockets are not supported, only sockets with a path: unix:/PATH',
      ["http://db/"] = "\"http://db/\": \"//db/\" is no port: expected a number from 0 to 65535",
      ["-.a/b"] = '"-.a/b" is neither an address nor a name: "/" is no part of a host name',
    } do assert.equal(message, kind(text, { default_port = 99 }), text) end
    assert.equal("expected an address or a name as a string, got nil", kind(nil))
    assert.equal("expected an address or a name as a string, got 5", kind(5))
    for length = 1, 300 do assert.is_truthy(kind(("a:"):rep(length))) end
  end)

  it("needs a port from somewhere, unless SRV records tell it", function()
    assert.equal('"10.0.0.1" has no port, and no default_port is given', kind "10.0.0.1")
    assert.equal('"::1" has no port, and no default_port is given', kind "::1")
    assert.equal('"db.example" has no port, and no default_port is given', kind "db.example")
    assert.equal("dns db.example nil", kind("db.example", { service = "_pg._tcp" }))
    assert.equal("static unix:/x", kind "unix:/x")
  end)

  it("hands the options on to DNS; for an address they are passed over", function()
    local options = { service = "_pg._tcp", default_port = 5432, nameservers = { "10.0.0.53" }, recovery = { dns = { attempts = 2 } } }
    local resolver = from("db.example:1", options)
    assert.same({ "_pg._tcp", 1, { "10.0.0.53:53" } },
      { resolver.options.service, resolver.options.default_port, resolver.options.nameservers })
    assert.equal("db.example", resolver.name)
    assert.equal("static 10.0.0.1:5432", kind("10.0.0.1", options))
    assert.equal("orders", from("db.example:1", { name = "orders" }).name)
    assert.equal("orders", from("10.0.0.1:1", { name = "orders" }).name)
    assert.equal(5432, options.default_port)
  end)

  it("raises mistakes in the options at the caller's line", function()
    assert.blames("cueball.resolver.from: unknown option 'defaultport'; did you mean 'default_port'?",
      function() from("db:1", { defaultport = 1 }) end)
    assert.blames("cueball.resolver.from: option 'default_port' must be a whole number from 0 to 65535, not -1",
      function() return (from("10.0.0.1", { default_port = -1 })) end)
    assert.blames('cueball.resolver.from: option \'service\' must be like "_http._tcp", not "http": '
      .. "a service is two parts with underscores",
      function() local _ = from("db:1", { service = "http" }) end)
    assert.blames("cueball.resolver.from: expected a table of options, got 80", function() from("db", 80) end)
  end)
end)
