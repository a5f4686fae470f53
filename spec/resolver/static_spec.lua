--- The static resolver.
require "spec.support.sim_pool"
local cueball = require "cueball"

local static = cueball.resolver.static
local FROM = "static list"

-- What the resolver would tell a sink.
local function told(resolver)
  local said
  resolver:run { set = function(_, backends) said = backends end }
  return said
end

describe("resolver.static", function()
  it("takes addresses as text", function()
    assert.same({
      { key = "10.0.0.1:5432", name = "10.0.0.1:5432", address = "10.0.0.1", port = 5432, weight = 1, priority = 0, provenance = FROM },
      { key = "[fe80::1]:5432", name = "[fe80::1]:5432", address = "fe80::1", port = 5432, weight = 1, priority = 0, provenance = FROM },
      { key = "unix:/run/db.sock", name = "unix:/run/db.sock", address = "unix:/run/db.sock", port = 0, weight = 1, priority = 0,
        provenance = FROM },
    }, told(static { "10.0.0.1:5432", "[fe80::1]:5432", "unix:/run/db.sock" }))
  end)

  it("takes tables, and a port for those that name none", function()
    local given = { address = "10.0.0.2", weight = 3, name = "two", key = "2" }
    assert.same({
      { key = "10.0.0.1:80", name = "10.0.0.1:80", address = "10.0.0.1", port = 80, weight = 1, priority = 0, provenance = FROM },
      { key = "2", name = "two", address = "10.0.0.2", port = 80, weight = 3, priority = 0, provenance = FROM },
      { key = "[::1]:80", name = "[::1]:80", address = "::1", port = 80, weight = 1, priority = 0, provenance = FROM },
      { key = "10.0.0.3:81", name = "10.0.0.3:81", address = "10.0.0.3", port = 81, weight = 1, priority = 0, provenance = FROM },
      { key = "unix:/x", name = "unix:/x", address = "unix:/x", port = 0, weight = 1, priority = 0, provenance = FROM },
    }, told(static { "10.0.0.1", given, "[::1]", "10.0.0.3:81", "unix:/x", default_port = 80 }))
    assert.is_nil(given.port)
  end)

  it("passes on a priority, and what is known of where it is from", function()
    assert.same({ { key = "[::1]:80", name = "[::1]:80", address = "::1", port = 80, weight = 1, priority = 7, provenance = "the wall" } },
      told(static { { address = "::1", port = 80, priority = 7, provenance = "the wall" } }))
  end)

  it("may be empty, and may be given a name", function()
    assert.same({}, told(static {}))
    assert.equal("orders", static({ name = "orders" }).name)
    assert.is_nil(static({}).name)
  end)

  it("refuses mistakes at the caller's line", function()
    local WHAT = "cueball.resolver.static: "
    local PORT = "its port must be a whole number from 0 to 65535, not "
    local EXPECTED = " is not an address: expected IP, IP:PORT, [IPv6]:PORT or unix:/PATH"
    assert.blames(WHAT .. "expected a list of backends, got string", function() static "10.0.0.1:80" end)
    assert.blames(WHAT .. "expected a list of backends, got nil", function() static() end)
    assert.blames(WHAT .. "unknown option 'port'; there are default_port, name", function() static { port = 80 } end)
    assert.blames(WHAT .. "option 'default_port' must be a whole number from 0 to 65535, not 65536",
      function() static { default_port = 65536 } end)
    assert.blames(WHAT .. "option 'default_port' must be a whole number from 0 to 65535, not \"80\"",
      function() static { default_port = "80" } end)
    assert.blames(WHAT .. "option 'name' must be a string, not 5", function() static { name = 5 } end)
    assert.blames(WHAT .. 'number 1: "db.example:80"' .. EXPECTED, function() static { "db.example:80" } end)
    assert.blames(WHAT .. 'number 2: ":80"' .. EXPECTED, function() static { "10.0.0.1:80", ":80" } end)
    assert.blames(WHAT .. 'number 1: "10.0.0.1:65536": port 65536 is not from 0 to 65535', function() static { "10.0.0.1:65536" } end)
    assert.blames(WHAT .. "number 2: not a backend: " .. PORT .. "nil", function() static { "10.0.0.1:80", "10.0.0.2" } end)
    assert.blames(WHAT .. "number 1: not a backend: " .. PORT .. "nil", function() static { { address = "10.0.0.1" } } end)
    assert.blames(WHAT .. "number 1: a backend must be a table {address=, port=, …}, not number", function() static { 5 } end)
    assert.blames(WHAT .. "number 1: backend 10.0.0.1:80: its weight must be a whole number from 1 to 65535, not 0",
      function() static { { address = "10.0.0.1", port = 80, weight = 0 } } end)
    assert.blames(WHAT .. 'number 2: the key "10.0.0.1:80" is given twice',
      function() static { "10.0.0.1:80", { address = "10.0.0.1", port = 80 } } end)
    assert.blames(WHAT .. "expected a list without gaps, got one of 1 with a number 5",
      function() static { "10.0.0.1:80", [5] = "10.0.0.5:80" } end)
    assert.blames(WHAT .. "expected a list without gaps, got one of 0 with a number 0", function() static { [0] = "10.0.0.1:80" } end)
  end)
end)
