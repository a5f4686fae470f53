--- Backends come, go, die and come back; and how connections are spread over them.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

local function names(count)
  local list = {}
  for i = 1, count do
    list[i] = "b" .. i
  end
  return list
end

--- The live backends' slots, sorted: { 3, 3, 4 }.
local function shares(world)
  local list = {}
  for _, one in ipairs(world:backends()) do
    if not one.removed then
      list[#list + 1] = one.total
    end
  end
  table.sort(list)
  return list
end

describe("adding a backend", function()
  it("is planned for after rebalance_delay_ms", function()
    local world = World.new { max_connections = 2, rebalance_delay_ms = 30 }
    world:set { "db0" }
    assert.equal("ok", world:add("db1", { name = "one", address = "10.1.1.1", port = 1, weight = 3 }))
    world:advance(29)
    assert.equal("db0 2, db1 0", world:layout())
    world:advance(1)
    assert.equal("db0 0, db1 2", world:layout())
    world:remove "db0"
    local one = world:backends()[1]
    assert.same({ "db1", "one", "10.1.1.1", 1, 3 }, { one.key, one.name, one.address, one.port, one.weight })
  end)

  it("is planned for at once while nothing is open: all that is said in one instant together", function()
    local world = World.new { max_connections = 4, rebalance_delay_ms = 30 }
    world.host.open = 50
    world:add "db1"
    world:add "db2"
    assert.equal(0, world:stats().plans)
    world:advance(0)
    assert.equal("db1 2, db2 2", world:layout())
    assert.equal(1, world:stats().plans)
    world:advance(10)
    world:add "db3"
    world:advance(0)
    assert.equal(2, world:stats().plans)
    world:advance(50)
    world:add "db4"
    world:advance(29)
    assert.equal(2, world:stats().plans)
    world:advance(1)
    assert.equal("db1 1, db2 1, db3 1, db4 1", world:layout())
  end)

  it("is planned for at once when all others are dead", function()
    local world = World.new(World.recovery({ attempts = 1, delay_ms = 1000, spread = 0 }, { max_connections = 2 }))
    world.host.db1 = { open = "fail" }
    world:set { "db1" }
    assert.equal("failed", world:state())
    world:advance(10)
    world:add "db2"
    world:advance(0)
    assert.equal("running", world:state())
  end)

  it("again changes nothing but its weight and name", function()
    local world = World.new { max_connections = 3 }
    world:set { "db1", "db2" }
    local before = world:backends()[1]
    local other = world:backends()[2].key
    world:forget()
    assert.equal("exists", world:add(before.key))
    world:advance(1000)
    assert.trace(world, "")
    assert.equal("exists", world:add(other, { weight = 2, name = "a name" }))
    world:advance(99)
    assert.trace(world, "")
    world:advance(1)
    for _, one in ipairs(world:backends()) do
      assert.equal(one.key == other and 2 or 1, one.total)
      assert.equal(one.key == other and "a name" or one.key, one.name)
    end
  end)

  it("under a known key with another address replaces that one", function()
    local world = World.new { max_connections = 2 }
    world:set { "db1" }
    world:claim "ann"
    world:forget()
    local old = world:backends()[1].handle
    assert.equal("ok", world:add("db1", { address = "10.0.0.2" }))
    assert.equal("db1 0, db1 1 removed", world:layout())
    world:advance(100)
    assert.equal("db1 2, db1 1 removed", world:layout())
    world:release "ann"
    assert.equal("db1 2", world:layout())
    assert.is_true(old ~= world:backends()[1].handle)
    assert.equal("10.0.0.2", world:backends()[1].address)
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_pool_backend_info(world.pool, old, ffi.new "cueball_backend_info"))
    assert.trace(world, [[
      [   0] close db1/2
      [   0] closed db1/2
      [ 100] open db1/3
      [ 100] opened db1/3
      [ 100] open db1/4
      [ 100] opened db1/4
      [ 100] release ann
      [ 100] close db1/1
      [ 100] closed db1/1]])
  end)

  it("under a known key with another port does, too", function()
    local world = World.new { max_connections = 1 }
    world:set { "db1" }
    assert.equal("ok", world:add("db1", { port = 1 }))
  end)

  it("refuses what is no backend", function()
    local world = World.new()
    local long = ("x"):rep(1024)
    assert.equal("invalid", world:add "")
    assert.equal("invalid", world:add(long))
    assert.equal("invalid", world:add("a", { address = "" }))
    assert.equal("invalid", world:add("a", { address = long }))
    assert.equal("invalid", world:add("a", { name = "" }))
    assert.equal("invalid", world:add("a", { name = long }))
    assert.equal("invalid", world:add("a", { port = 65536 }))
    assert.equal("invalid", world:add("a", { weight = 65536 }))
    assert.equal("invalid", world:input("backend_added", ffi.new("cueball_backend_spec", { weight = 1 })))
    assert.equal("invalid", world:set { "fine", "" })
    assert.equal("", world:layout())
    assert.equal("ok", world:add(long:sub(2), { name = long:sub(2), address = long:sub(2), port = 65535, weight = 65535 }))
  end)
end)

describe("removing a backend", function()
  it("closes at once what rests, and leases when they come back", function()
    local world = World.new { max_connections = 3 }
    world:set { "db1" }
    world:claim "ann"
    world:claim "bob"
    world:forget()
    assert.equal("ok", world:remove "db1")
    assert.equal("db1 2 removed", world:layout())
    world:advance(500)
    world:release "ann"
    world:advance(500)
    world:close "bob"
    assert.equal("", world:layout())
    assert.trace(world, [[
      [   0] close db1/3
      [   0] closed db1/3
      [ 500] release ann
      [ 500] close db1/1
      [ 500] closed db1/1
      [1000] discard bob
      [1000] close db1/2
      [1000] closed db1/2]])
  end)

  it("gives up what is under way to it", function()
    local world = World.new { max_connections = 1 }
    world.host.open = "never"
    world:set { "db1" }
    world:remove "db1"
    assert.trace(world, [[
      [   0] open db1/1
      [   0] give_up db1/1]])
    assert.equal(0, world:stats().total)
  end)

  it("tells nobody of an attempt that the host was never told of", function()
    local world = World.new { max_connections = 1 }
    world.is_draining = false
    world:set { "db1" }
    world:remove "db1"
    assert.is_false(world:step())
  end)

  it("that is not known says so", function()
    local world = World.new()
    assert.equal("not_found", world:remove "db1")
    assert.equal("not_found", world:input("backend_removed", nil))
    world:set { "db1" }
    world:claim "ann"
    world:remove "db1"
    assert.equal("not_found", world:remove "db1")
  end)

  it("of the last one does not fail the pool: claims wait", function()
    local world = World.new { max_connections = 1 }
    world:set { "db1" }
    world:remove "db1"
    assert.equal("running", world:state())
    assert.equal("waiting", world:claim "ann")
    world:set { "db2" }
    assert.is_truthy(world.leases.ann)
  end)

  it("exceeds max_connections by its leases only", function()
    local world = World.new { max_connections = 2 }
    world:set { "db1" }
    world:claim "ann"
    world:claim "bob"
    world:set { "db2" }
    world:advance(100)
    assert.equal("db1 2 removed, db2 2", world:layout())
    world:release "ann"
    world:release "bob"
    assert.equal("db2 2", world:layout())
  end)

  it("and adding it again is a new one", function()
    local world = World.new { max_connections = 1 }
    world:set { "db1" }
    local old = world:backends()[1].handle
    world:claim "ann"
    world:remove "db1"
    world:add "db1"
    assert.equal("db1 0, db1 1 removed", world:layout())
    assert.is_true(old ~= world:backends()[1].handle)
    world:advance(100)
    assert.equal("db1 1, db1 1 removed", world:layout())
  end)
end)

describe("replacing the list of backends", function()
  it("keeps the connections of those that stay", function()
    local world = World.new { max_connections = 4, rebalance_delay_ms = 0 }
    world:set { "db1", "db2" }
    assert.equal("db1 2, db2 2", world:layout())
    world:forget()
    assert.equal("ok", world:set { "db2", "db3", "db3" })
    world:advance(0)
    assert.equal("db2 2, db3 2", world:layout())
    assert.trace(world, [[
      [   0] close db1/1
      [   0] closed db1/1
      [   0] close db1/2
      [   0] closed db1/2
      [   0] open db3/1
      [   0] opened db3/1
      [   0] open db3/2
      [   0] opened db3/2]])
  end)

  it("by the same list does nothing at all", function()
    local world = World.new { max_connections = 4 }
    world:set { "db1", "db2", "db3" }
    world:forget()
    local plans = world:stats().plans
    world:set { "db3", "db1", "db2" }
    world:advance(1000)
    assert.trace(world, "")
    assert.equal(plans, world:stats().plans)
  end)

  it("by none removes all", function()
    local world = World.new { max_connections = 2 }
    world:set { "db1", "db2" }
    world:set {}
    assert.equal("", world:layout())
    assert.equal("running", world:state())
  end)

  it("for the first time is planned for at once, later after the delay", function()
    local world = World.new { max_connections = 2, rebalance_delay_ms = 50 }
    world:set { "db1" }
    assert.equal("db1 2", world:layout())
    world:set { "db1", "db2" }
    assert.equal("db1 2, db2 0", world:layout())
    world:advance(50)
    assert.equal("db1 1, db2 1", world:layout())
  end)
end)

describe("a list of backends", function()
  it("with a key given twice means the first", function()
    local world = World.new { max_connections = 2 }
    world:set { { "db1", address = "10.0.0.1", weight = 2 }, { "db1", address = "10.0.0.2", weight = 5 } }
    local backends = world:backends()
    assert.equal(1, #backends)
    assert.same({ "10.0.0.1", 2 }, { backends[1].address, backends[1].weight })
  end)
end)

describe("a resolver", function()
  it("that goes on changing is planned for when it is quiet", function()
    local world = World.new { max_connections = 10, rebalance_delay_ms = 100 }
    world:set { "b0" }
    for i = 1, 4 do
      world:at((i - 1) * 90, function() world:add("b" .. i) end)
    end
    world:advance(369)
    assert.equal(1, world:stats().plans)
    world:advance(1)
    assert.equal(2, world:stats().plans)
    assert.same({ 2, 2, 2, 2, 2 }, shares(world))
  end)

  it("that is never quiet is planned for after ten times the delay", function()
    local world = World.new { max_connections = 10, rebalance_delay_ms = 100 }
    world:set { "b0" }
    for i = 1, 30 do
      world:at((i - 1) * 90, function() world:add("b" .. i) end)
    end
    world:advance(999)
    assert.equal(1, world:stats().plans)
    world:advance(1)
    assert.equal(2, world:stats().plans)
    world:advance(2000)
    assert.is_true(world:stats().plans >= 3)
  end)
end)

describe("connections", function()
  it("are spread evenly, the remainder by preference", function()
    for _, case in ipairs {
      { 15, 3, { 5, 5, 5 } }, { 10, 3, { 3, 3, 4 } }, { 11, 3, { 3, 4, 4 } }, { 2, 4, { 0, 0, 1, 1 } },
      { 1, 1, { 1 } }, { 7, 7, { 1, 1, 1, 1, 1, 1, 1 } },
    } do
      local world = World.new { max_connections = case[1] }
      world:set(names(case[2]))
      assert.same(case[3], shares(world))
    end
  end)

  it("follow the weights", function()
    local world = World.new { max_connections = 12 }
    world:set { { "a", weight = 1 }, { "b", weight = 2 }, { "c", weight = 3 } }
    assert.equal("a 2, b 4, c 6", world:layout())
  end)

  it("are spread differently by pools of different seeds", function()
    local chosen = {}
    for seed = 1, 50 do
      local world = World.new { max_connections = 1, seed = seed }
      world:set { "a", "b", "c" }
      chosen[world:layout()] = true
    end
    assert.same({ ["a 1, b 0, c 0"] = true, ["a 0, b 1, c 0"] = true, ["a 0, b 0, c 1"] = true }, chosen)
  end)

  it("move as backends come and go, one closed for one opened", function()
    local world = World.new { max_connections = 12, rebalance_delay_ms = 0 }
    world:set(names(2))
    world:set(names(3))
    world:advance(0)
    assert.same({ 4, 4, 4 }, shares(world))
    world:remove "b2"
    world:advance(0)
    assert.same({ 6, 6 }, shares(world))
    assert.equal(12 + 4 + 4, world:stats().opened)
  end)

  it("that are leased stay in use while their backend has too many, and go when they come back", function()
    local world = World.new { max_connections = 2, rebalance_delay_ms = 0 }
    world:set { "a" }
    world:claim "ann"
    world:claim "bob"
    world:set { "a", "b" }
    world:advance(0)
    assert.equal("a 2, b 0", world:layout())
    world:release "ann"
    world:release "bob"
    assert.equal("a 1, b 1", world:layout())
  end)

  it("are planned over a thousand backends without planning for each", function()
    local world = World.new { max_connections = 3000 }
    local list = names(1000)
    world:set(list)
    assert.same({ 3, 3 }, { shares(world)[1], shares(world)[1000] })
    assert.equal(1, world:stats().plans)
    for i = 1, 500 do
      world:remove("b" .. i)
    end
    world:advance(100)
    assert.equal(3000, world:stats().total)
    assert.same({ 6, 6 }, { shares(world)[1], shares(world)[500] })
    assert.is_true(world:stats().plans <= 3)
  end)
end)

--- Attempts of 100 ms, pauses of 10 ms, no chance in it.
local function quick(options)
  options.proven_after_ms = options.proven_after_ms or 1
  return World.recovery({ attempts = 2, timeout_ms = 100, delay_ms = 10, spread = 0 }, options)
end

describe("a backend that is dead", function()
  it("is so after its attempts, keeps one slot that goes on trying, and its share moves", function()
    local world = World.new(quick { max_connections = 4 })
    world.host.db2 = { open = "fail" }
    world.shows = "open opened failed"
    world:set { "db1", "db2" }
    world:advance(9)
    assert.equal("db1 2, db2 2", world:layout())
    assert.equal(0, world:stats().dead_backends)
    world:advance(1)
    assert.equal("db1 3, db2 1 dead", world:layout())
    world:forget()
    world:advance(60)
    assert.trace(world, [[
      [  30] open db2/2, attempt 3
      [  30] failed db2/2
      [  50] open db2/2, attempt 4
      [  50] failed db2/2
      [  70] open db2/2, attempt 5
      [  70] failed db2/2]])
    assert.equal("running", world:state())
    assert.equal(1, world:stats().backend_deaths)
  end)

  it("that comes back gets its share again", function()
    local world = World.new(quick { max_connections = 15 })
    world:set { "db1", "db2", "db3" }
    assert.equal("db1 5, db2 5, db3 5", world:layout())
    world.host.db2 = { open = "fail" }
    for i = 1, 5 do
      world:lose("db2/" .. i)
    end
    world:advance(30)
    assert.equal("db1 7, db2 1 dead, db3 7", world:layout())
    world.host.db2 = nil
    world:advance(30)
    assert.equal("db1 5, db2 5, db3 5", world:layout())
    assert.equal(15, world:stats().idle)
    assert.equal(0, world:stats().dead_backends)
  end)

  it("is not, while one of its connections lives", function()
    local world = World.new(quick { max_connections = 2 })
    world:set { "db1" }
    world.host.open = "fail"
    world:lose "db1/1"
    world:advance(1000)
    assert.equal("db1 2", world:layout())
    world:lose "db1/2"
    world:advance(1000)
    assert.equal("db1 1 dead", world:layout())
  end)

  it("fails the pool if it is the last: claims are refused at once", function()
    local world = World.new(quick { max_connections = 2 })
    world.host.open = "fail"
    world:set { "db1", "db2" }
    world:claim "ann"
    assert.equal("starting", world:state())
    world.shows = "refuse grant"
    world:forget()
    world:advance(10)
    assert.equal("failed", world:state())
    assert.equal("pool_failed", world:claim "bob")
    assert.equal("db1 1 dead, db2 1 dead", world:layout())
    world.host.open = 0
    world:advance(21)
    assert.equal("running", world:state())
    world:claim "cid"
    assert.trace(world, [[
      [  10] refuse ann: pool_failed
      [  10] refuse bob: pool_failed
      [  31] grant cid: db1/1]])
    assert.equal("db1 1, db2 1", world:layout())
  end)

  it("leaves with its mark: the pool starts again with what is left", function()
    local world = World.new(quick { max_connections = 2 })
    world.host.open = "fail"
    world:set { "db1" }
    world:advance(100)
    assert.equal("failed", world:state())
    world.host.open = 0
    world:set { "db2" }
    assert.equal("starting", world:state())
    assert.equal("waiting", world:claim "ann")
    world:advance(100)
    assert.equal("running", world:state())
    assert.is_truthy(world.leases.ann)
    assert.equal(0, world:stats().dead_backends)
  end)

  it("does not keep a pool of fewer connections than backends from those that live", function()
    for max = 1, 4 do
      for alive = 1, 5 do
        local world = World.new(quick { max_connections = max, seed = 10 * max + alive })
        for i = 1, 5 do
          world.host["b" .. i] = { open = i == alive and 0 or "fail" }
        end
        world:set(names(5))
        world:advance(1000)
        assert.equal("running", world:state(), ("max_connections %d, b%d lives"):format(max, alive))
        assert.equal("granted", world:claim "ann")
        assert.equal("b" .. alive .. "/1", world.leases.ann.label)
      end
    end
  end)
end)

describe("decoherence", function()
  it("shuffles the connections at rest, every order equally often", function()
    local world = World.new { max_connections = 4, decoherence_interval_ms = 10, check_interval_ms = 0 }
    world:set { "db1" }
    world.shows = "nothing"
    local ROUNDS = 12000
    local counts, kinds = {}, 0
    for _ = 1, ROUNDS do
      world:advance(10)
      local order = {}
      for i = 1, 4 do
        world:claim("c" .. i)
        order[i] = world.leases["c" .. i].label:sub(-1)
      end
      for i = 1, 4 do
        world:release("c" .. i)
      end
      local text = table.concat(order)
      if not counts[text] then
        counts[text], kinds = 0, kinds + 1
        table.sort(order)
        assert.equal("1234", table.concat(order))
      end
      counts[text] = counts[text] + 1
    end
    assert.equal(24, kinds)
    local expected, distance = ROUNDS / 24, 0
    for _, count in pairs(counts) do
      distance = distance + (count - expected) ^ 2 / expected
    end
    -- Chi-square with 23 degrees of freedom: above 49.7 once in a thousand seeds, below 7.5 as rarely.
    assert.is_true(distance < 49.7 and distance > 7.5, "chi-square " .. distance)
    assert.equal(ROUNDS, world:stats().shuffles)
  end)

  it("may be off", function()
    local world = World.new { max_connections = 3, decoherence_interval_ms = 0, check_interval_ms = 0 }
    world:set { "db1" }
    world:advance(1e9)
    assert.equal(0, world:stats().shuffles)
    world:change { decoherence_interval_ms = 100 }
    world:advance(1000)
    assert.equal(10, world:stats().shuffles)
  end)
end)
