--- How fast connections may come and go: max_churn_rate, and slow_start_ms of a backend that is back.

local World = require "spec.support.core_world"

local function totals(world)
  return world:stats().total
end

--- Slots that come to a backend and slots that are dropped, by backend: { a = { 0, 250, ... } }; of the events so far.
-- One that was leased is dropped when the plan says so, and closes when it comes back: it is left out here.
local function changes(world)
  local keys, list = {}, {}
  for _, one in ipairs(world:backends()) do
    keys[tostring(one.handle)] = one.key
  end
  for _, event in ipairs(world:take_events()) do
    local key = keys[tostring(event.backend)]
    local comes = event.from == 0 and event.to == 1
    if key and (comes or event.cause == "plan" and event.from ~= 4) then
      list[key] = list[key] or {}
      table.insert(list[key], event.time)
    end
  end
  return list
end

describe("max_churn_rate", function()
  -- node-cueball's test: 4/s, spares and maximum 4, one backend
  it("of 4/s opens 1, 2, 3, 4 connections at 0, 250, 500, 750 ms", function()
    local world = World.new { max_connections = 4, spares = 4, max_churn_rate = 4 }
    world.shows = "open"
    world:set { "db" }
    world:advance(10000)
    assert.trace(world, [[
      [   0] open db/1
      [ 250] open db/2
      [ 500] open db/3
      [ 750] open db/4]])
  end)

  it("holds for each backend by itself", function()
    local world = World.new { max_connections = 6, max_churn_rate = 4 }
    world:set { "a", "b" }
    local list = {}
    for i = 1, 5 do
      list[i] = totals(world)
      world:advance(250)
    end
    assert.same({ 2, 4, 6, 6, 6 }, list)
  end)

  it("holds for those that go, too", function()
    local world = World.new { max_connections = 4, max_churn_rate = 4 }
    world:set { "db" }
    world:advance(5000)
    world.shows = "close"
    world:forget()
    world:change { max_connections = 1 }
    world:advance(5000)
    assert.trace(world, [[
      [5000] close db/1
      [5250] close db/2
      [5500] close db/3]])
  end)

  it("counts one that came and one that goes alike", function()
    local world = World.new { max_connections = 2, max_churn_rate = 4 }
    world:set { "db" } -- at 0 and 250
    world:advance(300)
    world.shows = "open close"
    world:forget()
    world:change { max_connections = 1 }
    world:advance(5000)
    assert.trace(world, "[ 500] close db/1")
  end)

  it("does not hold for those of a removed backend, nor for one opened anew in its place", function()
    local world = World.new { max_connections = 4, max_churn_rate = 4 }
    world:set { "a" }
    world:advance(5000)
    world:claim "ann"
    world:release "ann"
    world:lose "a/1"
    assert.equal("a 4", world:layout())
    assert.equal(4, world:stats().idle)
    world:remove "a"
    assert.equal(0, totals(world))
  end)

  it("may change: none at all opens all at once", function()
    local world = World.new { max_connections = 10, max_churn_rate = 0.001 }
    world:set { "db" }
    world:advance(10000)
    assert.equal(1, totals(world))
    world:change { max_churn_rate = math.huge }
    assert.equal(10, totals(world))
  end)

  it("is never exceeded, whatever changes", function()
    for seed = 1, 30 do
      math.randomseed(seed)
      local rate = ({ 1, 4, 50 })[seed % 3 + 1]
      local world = World.new { max_connections = 8, spares = 3, max_churn_rate = rate, seed = seed, rebalance_delay_ms = 10 }
      world.shows = ""
      world:watch(20000, "slot_state")
      local backends = { "a", "b", "c" }
      world:set(backends)
      local held = {}
      for i = 1, 300 do
        local dice = math.random(6)
        if dice == 1 then
          world:change { max_connections = math.random(1, 12) }
        elseif dice == 2 then
          world:change { spares = math.random(0, 5) }
        elseif dice <= 4 then
          world:claim("c" .. i, { timeout_ms = 100 })
          held[#held + 1] = "c" .. i
        elseif #held > 0 then
          local name = table.remove(held, math.random(#held))
          if world.leases[name] then
            world:release(name)
          end
        end
        world.host.open = ({ 0, 10, "fail 5" })[math.random(3)]
        world:advance(math.random() * 300)
      end
      local count = 0
      for key, times in pairs(changes(world)) do
        for i = 2, #times do
          assert.is_true(times[i] - times[i - 1] >= 1000 / rate - 1e-3,
            ("seed %d: %s changes at %g and %g"):format(seed, key, times[i - 1], times[i]))
        end
        count = count + #times
      end
      assert.is_true(count > 20)
    end
  end)
end)

describe("slow_start_ms", function()
  --- Two backends, one of which was dead and is found alive at 0 of the time returned.
  local function revived(options)
    World.recovery({ attempts = 1, delay_ms = 100, max_delay_ms = 100, spread = 0 }, options)
    options.rebalance_delay_ms, options.proven_after_ms = 0, 1
    local world = World.new(options)
    world.shows = ""
    world.host.b = { open = "fail" }
    world:set { "a", "b" }
    world:advance(1000)
    assert.equal(("a %d, b 1 dead"):format(options.max_connections - 1), world:layout())
    world.host.b = nil
    while world:layout():find("dead", 1, true) do
      world:advance(1)
    end
    return world
  end

  local function share(world)
    return tonumber(world:layout():match "b (%d+)")
  end

  it("gives a revived backend its share in ten steps", function()
    local world = revived { max_connections = 20, slow_start_ms = 10000 }
    local list, last = {}, 0
    world:advance(1)
    for i = 1, 11 do
      list[i] = share(world)
      assert.is_true(list[i] >= last)
      assert.equal(20, totals(world))
      last = list[i]
      world:advance(1000)
    end
    assert.is_true(list[1] >= 1 and list[1] <= 2, "first " .. list[1])
    -- step k has the weight k/10 beside 1: 20 k / (10 + k)
    for k = 1, 10 do
      local exact = 20 * k / (10 + k)
      assert.is_true(math.abs(list[k] - exact) < 1.0001, ("step %d: %d, exactly %g"):format(k, list[k], exact))
    end
    assert.equal(10, list[11])
    world:advance(100000)
    assert.equal("a 10, b 10", world:layout())
  end)

  it("of 0 gives it at once", function()
    local world = revived { max_connections = 20 }
    assert.equal("a 10, b 10", world:layout())
  end)

  it("turned off meanwhile gives the rest at once", function()
    local world = revived { max_connections = 20, slow_start_ms = 1e6 }
    world:advance(5000)
    assert.is_true(share(world) <= 2)
    world:change { slow_start_ms = 0 }
    assert.equal("a 10, b 10", world:layout())
  end)

  it("does not matter to backends that all came back at once, or that are new", function()
    local world = World.new(World.recovery({ attempts = 1, delay_ms = 100, max_delay_ms = 100, spread = 0 },
      { max_connections = 20, slow_start_ms = 10000, proven_after_ms = 1 }))
    world.host.open = "fail"
    world:set { "a", "b" }
    world:advance(1000)
    world.host.open = 0
    world:advance(102)
    assert.equal("a 10, b 10", world:layout())
    world:advance(10000)
    world:add "c"
    world:add "d"
    world:advance(200)
    assert.equal("a 5, b 5, c 5, d 5", world:layout())
  end)

  it("ends: nothing is planned for it afterwards", function()
    local world = revived { max_connections = 4, slow_start_ms = 1000, check_interval_ms = 0, decoherence_interval_ms = 0 }
    world:advance(2000)
    assert.equal(World.NEVER, world:deadline())
  end)
end)
