--- Nameservers that are found by a name, and followed.
local cueball = require "cueball"
local nameservers = require "cueball.dns.nameservers"
local sim = require "cueball.host.sim"
local sim_town = require "spec.support.sim_town"
local with = require "spec.support.with"

local SYSTEM = "127.0.0.1:53"
-- What the system's nameserver knows, and what those of the zone do.
local BOOTSTRAP = [[
  _dns._udp.ns.example 60 SRV 0 0 53 ns1.example
  ns1.example          60 A   10.0.0.51
]]
local OWN = BOOTSTRAP .. [[
  db.example           30 A   10.0.0.1
]]

local world
local keys = sim_town.keys

before_each(function()
  world = sim.new { seed = 1 }
  world.nameserver(SYSTEM, { zone = BOOTSTRAP })
  world.nameserver("10.0.0.51:53", { zone = OWN })
  world.nameserver("10.0.0.52:53", { zone = OWN })
  world.server("10.0.0.1", 80)
end)

local function pool(more)
  local options = { domain = "db.example", default_port = 80, nameservers = "ns.example", families = "ipv4" }
  return cueball.pool {
    host = world, resolver = cueball.resolver.dns(with(options, more)), connect = cueball.connection.tcp {}, max_connections = 1,
  }
end

-- Which server was asked for what since then: "127.0.0.1:53 SRV _dns._udp.ns.example".
local function asked(from_ms)
  local list, seen = {}, {}
  for _, one in ipairs(world.dns.asked) do
    local text = ("%s %s %s"):format(one.server, one.type, one.name)
    if one.time_ms >= from_ms and one.type ~= "AAAA" and not seen[text] then
      seen[text] = true
      list[#list + 1] = text
    end
  end
  table.sort(list)
  return list
end

local function stop(...)
  for _, one in ipairs { ... } do one:stop() end
  world.advance(0)
  assert.same({}, world.leaks())
  assert.equal(0, nameservers.followers(world, "ns.example"))
end

describe("nameservers by name", function()
  it("are found by the system's, and then ask for themselves", function()
    local one = pool()
    world.advance(1000)
    assert.equal("10.0.0.1:80", keys(one))
    assert.same({ "10.0.0.51:53 A db.example", SYSTEM .. " SRV _dns._udp.ns.example" }, asked(0))
    local now = world.time_ms()
    world.advance(200000)
    assert.same({ "10.0.0.51:53 A db.example", "10.0.0.51:53 SRV _dns._udp.ns.example" }, asked(now))
    stop(one)
  end)

  it("are followed when they move", function()
    local one = pool()
    world.advance(1000)
    local moved = OWN:gsub("10%.0%.0%.51", "10.0.0.52")
    for _, at in ipairs { "10.0.0.51:53", "10.0.0.52:53" } do world.nameserver(at, { zone = moved }) end
    world.advance(70000)
    local now = world.time_ms()
    world.advance(200000)
    assert.same({ "10.0.0.52:53 A db.example", "10.0.0.52:53 SRV _dns._udp.ns.example" }, asked(now))
    assert.equal("10.0.0.1:80", keys(one))
    stop(one)
  end)

  it("are found by addresses alone, port 53, where there is no SRV", function()
    world.nameserver(SYSTEM, { zone = "ns.example 60 A 10.0.0.51" })
    world.nameserver("10.0.0.51:53", { zone = "ns.example 60 A 10.0.0.51\ndb.example 30 A 10.0.0.1" })
    local one = pool()
    world.advance(1000)
    assert.equal("10.0.0.1:80", keys(one))
    stop(one)
  end)

  it("may have a port of their own, and the best priority is first", function()
    world.nameserver(SYSTEM, { zone = [[
      _dns._udp.ns.example 60 SRV 9 0 53 ns1.example
      _dns._udp.ns.example 60 SRV 1 0 5353 ns2.example
      ns1.example 60 A 10.0.0.51
      ns2.example 60 A 10.0.0.52 ]] })
    world.nameserver("10.0.0.52:5353", { zone = OWN })
    local one = pool()
    world.advance(1000)
    assert.equal("10.0.0.1:80", keys(one))
    assert.equal("10.0.0.52:5353 A db.example", asked(0)[1])
    stop(one)
  end)

  it("are shared, and given up with the last who follows", function()
    local one, two = pool(), pool { nameservers = "NS.Example." }
    world.advance(1000)
    assert.equal(2, nameservers.followers(world, "ns.example"))
    local count = 0
    for _, question in ipairs(world.dns.asked) do
      if question.type == "SRV" then count = count + 1 end
    end
    assert.equal(1, count)
    one:stop()
    world.advance(1000)
    assert.equal(1, nameservers.followers(world, "ns.example"))
    assert.equal("10.0.0.1:80", keys(two))
    local now = world.time_ms()
    world.advance(100000)
    assert.is_true(#asked(now) == 2)
    stop(two)
    now = #world.dns.asked
    world.advance(1000000)
    assert.equal(now, #world.dns.asked)
    local three = pool()
    world.advance(1000)
    assert.equal("10.0.0.1:80", keys(three))
    stop(three)
  end)

  it("that are known already are there at once", function()
    local one = pool()
    world.advance(1000)
    local lookup = cueball.resolver.dns { domain = "db.example", default_port = 80, nameservers = "ns.example", host = world }
    local list = assert(lookup:lookup())
    assert.equal("10.0.0.1:80", list[1].key)
    assert.is_truthy(list[1].provenance:find("from 10.0.0.51:53", 1, true))
    stop(one)
  end)

  it("that all fail are looked for at the system's again", function()
    local one = pool()
    world.advance(1000)
    world.nameserver("10.0.0.51:53", { silence = "network" })
    world.nameserver(SYSTEM, { zone = BOOTSTRAP:gsub("10%.0%.0%.51", "10.0.0.52") })
    world.nameserver("10.0.0.52:53", { zone = OWN:gsub("10%.0%.0%.51", "10.0.0.52") })
    world.advance(3700000)
    local now = world.time_ms()
    world.advance(200000)
    assert.same({ "10.0.0.52:53 A db.example", "10.0.0.52:53 SRV _dns._udp.ns.example" }, asked(now))
    assert.equal("10.0.0.1:80", keys(one))
    stop(one)
  end)

  it("that cannot be found fail the pool, and it is said", function()
    world.nameserver(SYSTEM, { rcode = "REFUSED" })
    local one = pool()
    world.advance(30000)
    assert.equal("failed", one:state())
    assert.is_truthy(one:last_error():find("the nameservers ns.example: ", 1, true), one:last_error())
    world.nameserver(SYSTEM, { zone = BOOTSTRAP })
    world.advance(3700000)
    assert.equal("running", one:state())
    stop(one)
  end)
end)
