--- Which names may be asked for.
local name = require "cueball.dns.name"

describe("a name", function()
  it("is what hosts are called by", function()
    local longest = ("a"):rep(63) .. "." .. ("b"):rep(63) .. "." .. ("c"):rep(63) .. "." .. ("d"):rep(61)
    for _, text in ipairs {
      "db", "db.example", "DB.Example.", "a-b.c_d.example", "_pg._tcp.example", "1.example", "4711x", "xn--bcher-kva.example", "localhost",
      "0x7f.com", longest, longest .. ".", ("a"):rep(63) .. ".x", "with\\.dot.example", ("\\046"):rep(63) .. ".x",
    } do assert.is_nil(name.fault(text), text) end
  end)

  it("is nothing else, and it is said why", function()
    local NUMBER = "its last part is a number, so it looks like an IPv4 address, but is none"
    local DOTS = "two dots stand side by side, or one at its beginning"
    for text, fault in pairs {
      [""] = "it is empty", ["."] = "it is empty", ["10.0.0.1"] = "it is an address, not a name", ["::1"] = "it is an address, not a name",
      ["1.2.3"] = NUMBER, ["1.2.3.4.5"] = NUMBER, ["256.1.1.1"] = NUMBER, ["db.7"] = NUMBER, ["12"] = NUMBER, ["1.2.3."] = NUMBER,
      ["a..b"] = DOTS, [".a"] = DOTS, ["a.."] = DOTS, ["a b"] = "there are blanks in it", ["a\n"] = "there are blanks in it",
      ["bücher.example"] = "it has letters beyond ASCII: write the name in its xn-- form (RFC 5890)",
      ["a/b"] = '"/" is no part of a host name', ["a:80"] = '":" is no part of a host name', ["[::1]"] = '"[" is no part of a host name',
      [("a"):rep(64) .. ".x"] = ('the part %q has 64 octets, and 63 are the most'):format(("a"):rep(64)),
      [("a.") :rep(126) .. "bc"] = "it has 254 octets, and 253 are the most",
    } do assert.equal(fault, name.fault(text), text) end
    assert.equal("it is no string but number", name.fault(5))
  end)

  it("is compared without case and without the last dot", function()
    assert.equal("db.example", name.folded "DB.Example.")
    assert.equal("db.example", name.folded "db.example")
  end)
end)

describe("a service", function()
  it("is two parts with underscores", function()
    assert.is_nil(name.service_fault "_http._tcp")
    assert.is_nil(name.service_fault "_x-y9._udp")
    for _, text in ipairs { "http", "_http", "_http._tcp.", "http.tcp", "_http.tcp", "_a._b._c", "", "_._tcp", "_ht tp._tcp" } do
      assert.equal("a service is two parts with underscores", name.service_fault(text), text)
    end
    assert.equal("it is no string but boolean", name.service_fault(true))
    assert.equal("a part has more than 63 octets", name.service_fault("_" .. ("a"):rep(63) .. "._tcp"))
  end)
end)
