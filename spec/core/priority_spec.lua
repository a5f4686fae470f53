--- Backends of a worse priority are used only while all better ones are dead or ejected (RFC 2782).

local World = require "spec.support.core_world"

local function pool(backends, options)
  local world = World.calm({ attempts = 2, delay_ms = 10, max_delay_ms = 10 },
    { max_connections = 10, proven_after_ms = 1, rebalance_delay_ms = 0 }, options)
  world.shows = ""
  world:watch(1000, "priority")
  world:set(backends)
  world:advance(1)
  return world
end

local TIERS = { { "a", priority = 1 }, { "b", priority = 1 }, { "c", priority = 2 }, { "d", priority = 3 } }

-- The priorities that came into use, in order.
local function priorities(world)
  local list = {}
  for _, event in ipairs(world:take_events()) do list[#list + 1] = event.count end
  return table.concat(list, " ")
end

local function standby(world)
  local list = {}
  for _, one in ipairs(world:backends()) do
    if one.standby then list[#list + 1] = one.key end
  end
  table.sort(list)
  return table.concat(list, " ")
end

-- Every connection to these breaks, and no other can be opened.
local function kill(world, ...)
  for _, key in ipairs { ... } do
    world.host[key] = { open = "fail" }
    for _, one in ipairs(world:backends()) do
      if one.key == key then
        for number = 1, 40 do pcall(world.lose, world, key .. "/" .. number) end
      end
    end
  end
end

local function revive(world, ...)
  for _, key in ipairs { ... } do world.host[key] = nil end
end

describe("priorities", function()
  it("leave the worse alone while a better backend lives", function()
    local world = pool(TIERS)
    assert.equal("a 5, b 5, c 0, d 0", world:layout())
    assert.equal("c d", standby(world))
    assert.equal("1", priorities(world))
  end)

  it("are numbers: lower is better, and nothing else counts", function()
    local world = pool { { "a", priority = 65535 }, { "b", priority = 9 }, { "c", priority = 10, weight = 100 } }
    assert.equal("a 0, b 10, c 0", world:layout())
  end)

  it("mean nothing with one backend of the best dead", function()
    local world = pool(TIERS)
    kill(world, "a")
    world:advance(100)
    assert.equal("a 1 dead, b 9, c 0, d 0", world:layout())
    assert.equal("1", priorities(world))
  end)

  it("leave a backend alone that is ejected too, and count it once: probes take a fifth of the places", function()
    local tiers = { { "a", priority = 1 }, { "y", priority = 2 }, { "z", priority = 2 } }
    for number = 1, 5 do tiers[#tiers + 1] = { "dead" .. number, priority = 1 } end
    local world = pool({}, { ["outlier.consecutive"] = 1, ["outlier.interval_ms"] = 10000, ["outlier.ejection_ms"] = 86400000 })
    for _, key in ipairs { "a", "dead1", "dead2", "dead3", "dead4", "dead5" } do world.host[key] = { open = "fail" } end
    world:set(tiers)
    world:advance(1000)
    assert.equal("", standby(world))
    for number = 1, 8 do world:claim(number) end
    for number = 1, 8 do
      if world.leases[number] and world.leases[number].label:find "^y" then world:fail(number) else world:release(number) end
    end
    revive(world, "a")
    world:advance(1000)
    assert.equal("y z", standby(world))
    assert.equal(1, world:stats().ejected_backends)
    assert.equal(8, world:stats().idle)
  end)

  it("fall to the next when all better are dead, which are monitored", function()
    local world = pool(TIERS)
    kill(world, "a", "b")
    world:advance(200)
    assert.equal("a 1 dead, b 1 dead, c 8, d 0", world:layout())
    assert.equal("d", standby(world))
    assert.equal("1 2", priorities(world))
    kill(world, "c")
    world:advance(200)
    -- Three to try, and two places for that: each is left as its probe pauses.
    assert.equal("a 0 dead, b 0 dead, c 0 dead, d 8", world:layout())
    assert.equal("3", priorities(world))
  end)

  it("rise again as soon as a better one is back", function()
    local world = pool(TIERS)
    kill(world, "a", "b")
    world:advance(200)
    revive(world, "b")
    world:advance(200)
    assert.equal("a 1 dead, b 9, c 0, d 0", world:layout())
    assert.equal("1 2 1", priorities(world))
  end)

  it("let a pool fail when all of them are dead, and try all", function()
    local world = pool(TIERS)
    kill(world, "a", "b", "c", "d")
    world:advance(1000)
    assert.equal("a 1 dead, b 1 dead, c 1 dead, d 1 dead", world:layout())
    assert.equal("failed", world:state())
    revive(world, "c")
    world:advance(100)
    assert.equal("running", world:state())
    assert.equal("a 1 dead, b 1 dead, c 8, d 0", world:layout())
  end)

  it("forget that a backend was dead that nobody looks at", function()
    local world = pool(TIERS)
    kill(world, "a", "b", "c")
    world:advance(400)
    revive(world, "a")
    world:advance(200)
    assert.equal("a 9, b 1 dead, c 0, d 0", world:layout())
    revive(world, "c")
    kill(world, "a")
    world:advance(200)
    assert.equal("a 1 dead, b 1 dead, c 8, d 0", world:layout())
  end)

  it("take a backend's leases back when they come, not before", function()
    local world = pool(TIERS)
    kill(world, "a", "b")
    world:advance(200)
    world:claim "alice"
    revive(world, "a", "b")
    world:advance(200)
    assert.equal(1, world:stats().busy)
    world:release "alice"
    world:advance(10)
    assert.equal("a 5, b 5, c 0, d 0", world:layout())
  end)

  it("follow a change of the resolver", function()
    local world = pool { { "a", priority = 1 }, { "b", priority = 2 } }
    world:set { { "a", priority = 3 }, { "b", priority = 2 } }
    world:advance(10)
    assert.equal("a 0, b 10", world:layout())
    world:remove "b"
    world:advance(10)
    assert.equal("a 10", world:layout())
  end)

  it("can be ignored, also on a living pool", function()
    local world = pool(TIERS, { priorities = 1 })
    assert.equal("a 3, b 2, c 3, d 2", world:layout())
    assert.equal("", priorities(world))
    world:change { priorities = 0 }
    world:advance(10)
    assert.equal("a 5, b 5, c 0, d 0", world:layout())
  end)

  it("count an ejected backend as one that cannot be used", function()
    local world = pool({ { "a", priority = 1 }, { "b", priority = 2 } }, {
      ["outlier.consecutive"] = 1, ["outlier.interval_ms"] = 10000, ["outlier.ejection_ms"] = 1000, ["outlier.max_ejected"] = 1,
    })
    world:claim "alice"
    world:fail "alice"
    world:advance(10)
    assert.equal("a 0, b 10", world:layout())
    world:advance(1100)
    assert.equal("a 10, b 0", world:layout())
  end)

  it("do not move monitors to backends that stand by", function()
    local world = pool({ { "a", priority = 1 }, { "b", priority = 1 }, { "c", priority = 1 }, { "d", priority = 2 } },
      { max_connections = 2 })
    kill(world, "a", "b")
    world:advance(5000)
    assert.equal(0, world:stats().overloaded)
    for _, one in ipairs(world:backends()) do
      if one.key == "d" then assert.equal(0, one.total) end
    end
  end)

  it("are from 0 to 65535", function()
    local world = pool { "a" }
    assert.equal("invalid", world:add("b", { priority = 65536 }))
  end)
end)
