--- Connections opened before now are replaced: over a time, one backend's or all, leased ones when they come back.

local World = require "spec.support.core_world"

local function open(options)
  local world = World.calm({ attempts = 3, timeout_ms = 100, delay_ms = 100, max_delay_ms = 400 }, { max_connections = 4 }, options)
  world:set { "db1", "db2" }
  world:advance(2000)
  return world:forget "renew open close grant release"
end

describe("renewing", function()
  it("replaces one after the other within the time, the backends in turn", function()
    local world = open()
    assert.equal("ok", world:renew(nil, 1000))
    world:advance(5000)
    assert.trace(world, [[
      [2000] renew all
      [2000] close db1/1
      [2000] open db1/1
      [2250] close db2/1
      [2250] open db2/1
      [2500] close db1/2
      [2500] open db1/2
      [2750] close db2/2
      [2750] open db2/2]])
  end)

  it("of very many backends of one connection each is no storm", function()
    local world = World.new { max_connections = 100, decoherence_interval_ms = 0, check_interval_ms = 0 }
    local list = {}
    for number = 1, 100 do
      list[number] = "db" .. number
    end
    world:set(list)
    world:advance(2000)
    local before = world:stats().attempts
    world:renew(nil, 10000)
    for second = 1, 10 do
      world:advance(999.9)
      assert.equal(before + second * 10, world:stats().attempts)
      world:advance(0.1)
    end
  end)

  it("replaces those of one backend, at once with no time given", function()
    local world = open()
    assert.equal("ok", world:renew("db2", 0))
    world:advance(5000)
    assert.trace(world, [[
      [2000] renew db2
      [2000] close db2/1
      [2000] close db2/2
      [2000] open db2/1
      [2000] open db2/2]])
    assert.equal("not_found", world:renew("db3", 0))
    assert.equal("invalid", world:renew("db2", -1))
    assert.equal("invalid", world:renew("db2", 0 / 0))
    assert.equal("invalid", world:renew("db2", 86400000.1))
  end)

  it("waits for leases, and does not end them", function()
    local world = open()
    world:claim "alice"
    world:renew(nil, 1000)
    world:at(4000, function() world:release "alice" end)
    world:advance(5000)
    assert.trace(world, [[
      [2000] grant alice: db1/1
      [2000] renew all
      [2250] close db2/1
      [2250] open db2/1
      [2500] close db1/2
      [2500] open db1/2
      [2750] close db2/2
      [2750] open db2/2
      [4000] release alice
      [4000] close db1/1
      [4000] open db1/1]])
  end)

  it("lends what comes back before its time again", function()
    local world = open()
    world.shows = "renew grant release close open"
    for _, who in ipairs { "alice", "bob", "carol" } do
      world:claim(who)
    end
    world:renew("db1", 1000)
    world:at(2100, function() world:release "carol" world:release "bob" end)
    world:at(2200, function() world:claim "dan" world:claim "eve" end)
    world:at(2600, function() world:release "eve" end)
    world:advance(1000)
    assert.trace(world, [[
      [2000] grant alice: db1/1
      [2000] grant bob: db2/1
      [2000] grant carol: db1/2
      [2000] renew db1
      [2100] release carol
      [2100] release bob
      [2200] grant dan: db2/2
      [2200] grant eve: db1/2
      [2600] release eve
      [2600] close db1/2
      [2600] open db1/2]])
  end)

  it("takes attempts under way along: whom they reached before is what is to go", function()
    local world = open { max_connections = 2 }
    world.host.open = 50
    world:claim "alice"
    world:close "alice"
    world:advance(10)
    world:renew("db1", 0)
    world:advance(500)
    assert.trace(world, [[
      [2000] grant alice: db1/1
      [2000] close db1/1
      [2000] open db1/1
      [2010] renew db1
      [2050] close db1/1
      [2050] open db1/1]])
  end)

  it("leaves those alone that are opened after it", function()
    local world = open { max_connections = 2 }
    world:renew(nil, 0)
    world:forget()
    world:advance(10000)
    assert.trace(world, "")
  end)

  it("closes for a cause of its own, blames nobody and pauses for nothing", function()
    local world = open { max_connections = 1 }
    world:watch(100, "slot_state")
    world:renew(nil, 0)
    local causes = {}
    for _, event in ipairs(world:take_events()) do
      causes[#causes + 1] = event.cause
    end
    assert.same({ "renew", "closed", "opened" }, causes)
    assert.same({ 0, 0 }, { world:stats().lost, world:stats().backing_off })
  end)
end)
