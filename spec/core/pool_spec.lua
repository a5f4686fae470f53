--- The pool as a whole: its life, its states, its time, its options while it lives.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

local full = World.full

describe("a pool", function()
  it("is starting until a connection opens, and then running", function()
    local world = World.new { max_connections = 1 }
    world.host.open = 10
    world:set { "db1" }
    assert.equal("starting", world:state())
    assert.equal("waiting", world:claim "ann")
    world:advance(9)
    assert.equal("starting", world:state())
    world:advance(1)
    assert.equal("running", world:state())
    assert.trace(world, [[
      [   0] open db1/1
      [   0] wait ann: 0 ahead
      [  10] opened db1/1
      [  10] grant ann: db1/1]])
  end)

  it("wants nothing of its host when there is nothing to do", function()
    local world = World.new { decoherence_interval_ms = 0 }
    assert.is_nil(world:deadline_ms())
    world:advance(1e9)
    assert.trace(world, "")
  end)

  it("gives the same outputs for the same seed and inputs, and others for another seed", function()
    local function run(seed)
      local world = World.new { seed = seed, max_connections = 5 }
      world.host.open = "fail 3"
      world:set { "a", "b", "c" }
      world:advance(2000)
      return world:trace()
    end
    assert.equal(run(7), run(7))
    assert.is_true(run(7) ~= run(8))
  end)

  it("cannot be made with options out of range", function()
    local made = ffi.new "cueball_pool *[1]"
    local options = World.options { max_connections = 0 }
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_pool_new(options, lib.cueball_allocator_libc(), 1, 0, made))
    assert.is_true(made[0] == nil)
  end)

  it("can be freed as NULL, and in the middle of everything", function()
    lib.cueball_pool_free(nil)
    local world = World.new { max_connections = 2 }
    world.host.open = "never"
    world:set { "a", "b" }
    world:owner "o"
    world:claim("ann", { owner = "o" })
    world.pool = nil
    collectgarbage()
    collectgarbage()
  end)
end)

describe("a stopped pool", function()
  it("refuses those who wait, closes what rests, waits for leases", function()
    local world = full(2)
    world:claim "ann"
    world:claim "bob"
    world:claim "cid"
    world:release "bob"
    world:claim "dan"
    world:forget()
    world:at(5, function() world:stop() end)
    world:at(6, function() assert.equal("pool_stopping", world:claim "eve") end)
    world:at(30, function() world:release "cid" end)
    world:at(40, function() world:close "ann" end)
    world:advance(39)
    assert.equal("stopping", world:state())
    world:advance(1)
    assert.equal("stopped", world:state())
    assert.equal("pool_stopping", world:claim "fay")
    assert.trace(world, [[
      [   5] stop pool
      [   5] refuse dan: pool_stopping
      [   6] refuse eve: pool_stopping
      [  30] release cid
      [  30] close db1/2
      [  30] closed db1/2
      [  40] discard ann
      [  40] close db1/1
      [  40] closed db1/1
      [  40] refuse fay: pool_stopping]])
    assert.is_nil(world:deadline_ms())
  end)

  it("takes its leases back when drain_timeout_ms is over", function()
    local world = full(2, { drain_timeout_ms = 100 })
    world:claim "ann"
    local handle = world.leases.ann.handle
    world:stop()
    world:advance(99)
    assert.equal("stopping", world:state())
    world:advance(1)
    assert.equal("stopped", world:state())
    assert.equal("stale", world:input("lease_released", handle))
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] stop pool
      [   0] close db1/2
      [   0] closed db1/2
      [ 100] close db1/1
      [ 100] closed db1/1]])
    assert.equal(1, world:stats().leases_revoked)
  end)

  it("refuses a claim that was granted and not told so when the drain time is over", function()
    local world = full(1, { drain_timeout_ms = 100 })
    world:claim "ann"
    world:claim "bob"
    world.is_draining = false
    world:release "ann"
    world:stop()
    world:oversleep(100)
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] release ann
      [   0] stop pool
      [ 100] refuse bob: pool_stopping
      [ 100] close db1/1
      [ 100] closed db1/1]])
    local stats = world:stats()
    assert.same({ 1, 1, 1, 0 }, { stats.granted, stats.claims_refused, stats.released, stats.leases_revoked })
  end)

  it("takes leases back at once with drain_timeout_ms 0", function()
    local world = full(1, { drain_timeout_ms = 0 })
    world:claim "ann"
    world:stop()
    world:advance(0)
    assert.equal("stopped", world:state())
  end)

  it("gives up attempts, forgets pauses, and does not wait for ever for a close", function()
    local world = World.new(World.recovery({ timeout_ms = 50, spread = 0 }, { max_connections = 3 }))
    world.host.bad = { open = "fail" }
    world.host.mute = { open = "never" }
    world.host.stuck = { close = "never" }
    world:set { "bad", "mute", "stuck" }
    world.shows = "give_up close stop"
    world:forget()
    world:stop()
    world:advance(49)
    assert.equal("stopping", world:state())
    world:advance(1)
    assert.equal("stopped", world:state())
    assert.trace(world, [[
      [   0] stop pool
      [   0] close stuck/1
      [   0] give_up mute/1]])
  end)

  it("can be stopped again, and stopped while it has nothing", function()
    local world = full(1)
    world:claim "ann"
    assert.equal("ok", world:stop())
    world:advance(20000)
    assert.equal("ok", world:stop()) -- and the drain time does not begin anew
    world:advance(10000)
    assert.equal("stopped", world:state())
    assert.equal("ok", world:stop())

    local empty = World.new()
    empty:stop()
    assert.equal("stopped", empty:state())
    assert.equal("ok", empty:add "db1")
    assert.equal("ok", empty:change { max_connections = 5 })
    empty:advance(1e6)
    assert.trace(empty, "[   0] stop pool")
  end)

  it("does not open again what was closing when it stopped", function()
    local world = full(1)
    world.host.close = 10
    world:lose "db1/1"
    world:stop()
    world:advance(10)
    assert.equal("stopped", world:state())
    assert.trace(world, [[
      [   0] lost db1/1
      [   0] close db1/1
      [   0] stop pool
      [  10] closed db1/1]])
  end)
end)

describe("a pool whose resolver fails", function()
  it("fails while it never had a backend, and starts again", function()
    local world = World.new { max_connections = 1 }
    world:claim "ann"
    world:input "resolver_failed"
    assert.equal("failed", world:state())
    assert.equal("pool_failed", world:claim "bob")
    world:input "resolver_recovered"
    assert.equal("starting", world:state())
    assert.equal("waiting", world:claim "cid")
    world:set { "db1" }
    assert.trace(world, [[
      [   0] wait ann: 0 ahead
      [   0] refuse ann: pool_failed
      [   0] refuse bob: pool_failed
      [   0] wait cid: 0 ahead
      [   0] open db1/1
      [   0] opened db1/1
      [   0] grant cid: db1/1]])
  end)

  it("goes on with the backends it knows", function()
    local world = full(1)
    world:input "resolver_failed"
    assert.equal("running", world:state())
    assert.equal("granted", world:claim "ann")
  end)

  it("fails, and starts with a backend that was added after all", function()
    local world = World.new { max_connections = 1 }
    world:input "resolver_failed"
    world:add "db1"
    assert.equal("starting", world:state())
    world:advance(100)
    assert.equal("running", world:state())
  end)
end)

describe("the time of a pool", function()
  it("does not run backwards", function()
    local world = full(1)
    world:claim "ann"
    world:advance(1000)
    world:input "time_advanced"
    world.lag = 500000000ULL
    world:claim("bob", { timeout_ms = 50 })
    world:advance(49)
    world:input "time_advanced"
    assert.is_truthy(world.claims.bob)
    world.lag = 0ULL
    world:advance(1)
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [1000] wait bob: 0 ahead
      [1050] refuse bob: claim_timeout]])
  end)

  it("may have any origin, and years may pass", function()
    for _, start in ipairs { 0, 1, 5e9, 2 ^ 52 / 1e6 } do
      local world = full(1, { start = start, decoherence_interval_ms = 0, check_interval_ms = 0 })
      world:claim "ann"
      local year = 365.25 * 86400e3
      world:claim("bob", { timeout_ms = 30 * year })
      world:claim("cid", { timeout_ms = math.huge })
      world:advance(30 * year - 1)
      assert.is_truthy(world.claims.bob)
      world:advance(1)
      assert.is_nil(world.claims.bob)
      world:oversleep(100 * year)
      assert.is_truthy(world.claims.cid)
      world:release "ann"
      assert.is_truthy(world.leases.cid)
    end
  end)

  it("may pass in one leap: what was due happens in order of its time", function()
    local world = full(1)
    world:claim "ann"
    world:claim("bob", { timeout_ms = 30 })
    world:claim("cid", { timeout_ms = 10 })
    world:claim("dan", { timeout_ms = 20 })
    world:claim("eve", { timeout_ms = 20 })
    world:forget()
    world:oversleep(1000)
    assert.trace(world, [[
      [1000] refuse cid: claim_timeout
      [1000] refuse dan: claim_timeout
      [1000] refuse eve: claim_timeout
      [1000] refuse bob: claim_timeout]])
  end)

  it("is told by the outlook, never later than the deadline", function()
    local world = full(1)
    local outlook = lib.cueball_pool_outlook(world.pool)
    assert.is_true(outlook.deadline <= world:deadline())
    world:claim "ann"
    world:claim("bob", { timeout_ms = 7 })
    assert.equal(1, outlook.waiting)
    assert.is_true(outlook.deadline <= world:deadline())
    assert.equal(7, world:deadline_ms())
    world:owner "o"
    world:owner_gone "o"
    assert.equal(0ULL, outlook.deadline)
    assert.equal(0ULL, world:deadline())
    world:input "time_advanced"
    assert.equal(7, world:deadline_ms())
    assert.equal(0, outlook.actions)
    world.is_draining = false
    world:advance(7)
    assert.equal(1, outlook.actions)
  end)
end)

describe("options of a living pool", function()
  it("change how many connections there are, at once", function()
    local world = full(3)
    world:claim "ann"
    world:change { max_connections = 1 }
    assert.equal("db1 1", world:layout())
    assert.is_truthy(world.leases.ann)
    world:change { max_connections = 4 }
    assert.equal("db1 4", world:layout())
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] close db1/2
      [   0] closed db1/2
      [   0] close db1/3
      [   0] closed db1/3
      [   0] open db1/3
      [   0] opened db1/3
      [   0] open db1/2
      [   0] opened db1/2
      [   0] open db1/4
      [   0] opened db1/4]])
  end)

  it("let a lease beyond the new maximum come back first", function()
    local world = full(2)
    world:claim "ann"
    world:claim "bob"
    world:change { max_connections = 1 }
    assert.equal(2, world:stats().total)
    world:claim "cid"
    world:release "bob"
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] grant bob: db1/2
      [   0] wait cid: 0 ahead
      [   0] release bob
      [   0] grant cid: db1/2]])
  end)

  it("set the time limit of later claims only", function()
    local world = full(1, { claim_timeout_ms = 50 })
    world.shows = "refuse"
    world:claim "ann"
    world:claim "bob"
    world:change { claim_timeout_ms = 10 }
    world:claim "cid"
    world:claim("dan", { timeout_ms = 20 })
    world:change { claim_timeout_ms = math.huge }
    world:claim "eve"
    world:advance(1e6)
    assert.trace(world, [[
      [  10] refuse cid: claim_timeout
      [  20] refuse dan: claim_timeout
      [  50] refuse bob: claim_timeout]])
  end)

  it("reach connections at rest at once, and leased ones when they come back", function()
    local world = full(2, { check_interval_ms = 0, seed = 3 })
    world:claim "ann"
    world:change { idle_timeout_ms = 100 }
    world.shows = "close"
    world:advance(1000)
    world:release "ann"
    local busy = world.conns["db1/1"].handle
    world:advance(89)
    assert.equal(busy, world.conns["db1/1"].handle)
    world:advance(21.1)
    assert.is_true(busy ~= world.conns["db1/1"].handle)
  end)

  it("reach a leased connection though it was armed for something later", function()
    local world = full(1, { check_interval_ms = 30000 })
    world:claim "ann"
    world:change { check_interval_ms = 10 }
    world:release "ann"
    world:forget()
    world:advance(11.1)
    assert.equal(1, world:stats().checks)
  end)

  local function failing(options)
    local all = World.recovery({ attempts = 5, delay_ms = 60000, spread = 0 }, options)
    all.check_interval_ms, all.decoherence_interval_ms = 0, 0
    local world = World.new(all)
    world.host.open = "fail"
    world.shows = "open"
    return world
  end

  it("shorten a pause under way", function()
    local world = failing { max_connections = 1 }
    world:set { "db" }
    world:advance(1000)
    world:change(World.recovery { delay_ms = 3000, max_delay_ms = 3000 })
    world:advance(3000)
    assert.trace(world, [[
      [   0] open db/1
      [3000] open db/1, attempt 2]])
  end)

  it("shorten the pause of a dead backend that has no slot meanwhile", function()
    local world = failing { max_connections = 1 }
    world:change(World.recovery { attempts = 1 })
    world:set { "a", "b" }
    world:advance(1000)
    assert.equal("failed", world:state())
    world:forget()
    world:change(World.recovery { delay_ms = 2000, max_delay_ms = 2000 })
    world:advance(3000)
    assert.truthy(world:trace():find("open a/", 1, true) and world:trace():find("open b/", 1, true), world:trace())
  end)

  it("shorten the time of an attempt under way", function()
    local world = failing { max_connections = 1 }
    world.host.open = "never"
    world:set { "db" }
    world:change(World.recovery { timeout_ms = 50, max_timeout_ms = 50 })
    world:advance(50)
    assert.equal(1, world:stats().open_timeouts)
  end)

  it("judge by fewer attempts at once", function()
    local world = failing { max_connections = 1 }
    world:set { "db" }
    assert.equal("starting", world:state())
    world:change(World.recovery { attempts = 1 })
    assert.equal("failed", world:state())
  end)

  it("of a pool that stops may change: its leases are counted on", function()
    local world = full(2, { balance = "p2c" })
    world:claim "ann"
    world:stop()
    world:change { balance = "fifo" } -- each input is followed by the pool's own check
    world:change { balance = "p2c" }
    world:release "ann"
    assert.equal("stopped", world:state())
  end)

  it("are left as they were by wrong ones", function()
    local world = full(1)
    local before = world:layout()
    assert.equal("invalid", world:change { max_connections = 0 })
    assert.equal(before, world:layout())
  end)
end)
