--- Addresses as text, and back.
local address = require "cueball.address"

describe("address", function()
  it("tells families apart", function()
    for text, family in pairs {
      ["10.0.0.1"] = 4, ["0.0.0.0"] = 4, ["255.255.255.255"] = 4, ["::1"] = 6, ["fe80::1"] = 6, ["::ffff:10.0.0.1"] = 6, ["::"] = 6,
    } do assert.equal(family, address.family(text), text) end
    for _, text in ipairs {
      "", "10.0.0", "10.0.0.256", "10.0.0.1 ", "010.0.0.1.", "db.example", ":::1", "[::1]", "1:2", "unix:/x", "10.0.0.1:80",
    } do
      assert.is_nil(address.family(text), text)
    end
    assert.is_true(address.is_unix "unix:/run/x")
    for _, text in ipairs { "unix:run", "/run/x", "unix:", "10.0.0.1" } do assert.is_false(address.is_unix(text)) end
  end)

  it("splits what it joins", function()
    for text, parts in pairs {
      ["10.0.0.1:80"] = { "10.0.0.1", 80 }, ["[::1]:80"] = { "::1", 80 }, ["unix:/run/x"] = { "unix:/run/x", 0 },
      ["10.0.0.1:0"] = { "10.0.0.1", 0 }, ["[fe80::1]:65535"] = { "fe80::1", 65535 },
    } do
      assert.same(parts, { address.split(text) })
      assert.equal(text, address.join(parts[1], parts[2]))
    end
    assert.same({ "10.0.0.1" }, { address.split "10.0.0.1" })
    assert.same({ "::1" }, { address.split "::1" })
    assert.same({ "::1" }, { address.split "[::1]" })
  end)

  it("refuses the rest", function()
    for _, text in ipairs {
      "", "db.example:80", "10.0.0.1:", ":80", "10.0.0.1:x", "[10.0.0.1:80", "[::1]:", "[]:80", "[db]:80", "10.0.0.1:-1",
      "10.0.0.1:8 ", "/run/x",
    } do
      local host, message = address.split(text)
      assert.is_nil(host, text)
      assert.equal(("%q is not an address: expected IP, IP:PORT, [IPv6]:PORT or unix:/PATH"):format(text), message)
    end
    for _, text in ipairs { "unix:", "unix:x", "unix:./x" } do
      assert.same({ nil, ("%q: expected unix:/PATH"):format(text) }, { address.split(text) })
    end
    local ABSTRACT = ": abstract sockets are not supported, only sockets with a path: unix:/PATH"
    assert.same({ nil, '"unix:@db"' .. ABSTRACT }, { address.split "unix:@db" })
    assert.same({ nil, 'not a backend: its address "unix:@db"' .. ABSTRACT }, { address.backend { address = "unix:@db" } })
    assert.same({ nil, '"[::1]:65536": port 65536 is not from 0 to 65535' }, { address.split "[::1]:65536" })
    assert.is_nil((address.split("10.0.0.1:" .. ("9"):rep(400))))
  end)

  it("reads a backend, with everything filled in", function()
    assert.same({ key = "10.0.0.1:80", name = "10.0.0.1:80", address = "10.0.0.1", port = 80, weight = 1, priority = 0 },
      address.backend { address = "10.0.0.1", port = 80 })
    assert.same({ key = "a", name = "b", address = "::1", port = 0, weight = 65535, priority = 65535, provenance = "said so" },
      address.backend { key = "a", name = "b", address = "::1", port = 0, weight = 65535, priority = 65535, provenance = "said so" })
    assert.same({ key = "unix:/x", name = "unix:/x", address = "unix:/x", port = 0, weight = 1, priority = 0 },
      address.backend { address = "unix:/x", port = 80 })
    assert.equal("k", address.backend({ key = "k", address = "::1", port = 1 }).name)
  end)

  it("says what is wrong with one", function()
    for text, more in pairs {
      ["its priority must be a whole number from 0 to 65535, not -1"] = { priority = -1 },
      ["its priority must be a whole number from 0 to 65535, not 65536"] = { priority = 65536 },
      ["its priority must be a whole number from 0 to 65535, not low"] = { priority = "low" },
      ["its weight must be a whole number from 1 to 65535, not 1.5"] = { weight = 1.5 },
      ["its provenance is number, not a string"] = { provenance = 5 },
    } do
      more.address, more.port = "::1", 80
      assert.same({ nil, "backend [::1]:80: " .. text }, { address.backend(more) })
    end
  end)
end)
