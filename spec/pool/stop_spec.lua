--- The end of a pool: in a task and outside, twice, while claims wait, while leases are out.
local sim_pool = require "spec.support.sim_pool"

local town, pool, factory

local function open(options)
  town, factory = sim_pool.new(), sim_pool.factory()
  pool = town:open({ max_connections = 2, connect = factory }, options)
end

describe("stop", function()
  it("closes what is idle and is done at once, in a task or not", function()
    open()
    town:advance(1)
    assert.is_true(pool:stop())
    assert.equal("stopped", pool:state())
    assert.same({ 1, 2 }, factory.closed)
    assert.same({}, town.world.leaks())
    open()
    town:advance(1)
    town:run(function()
      assert.is_true(pool:stop())
      assert.equal("stopped", pool:state())
      assert.same({ 1, 2 }, factory.closed)
    end)
    assert.same({}, town.world.leaks())
    assert.equal("cueball.pool (db, stopped)", tostring(pool))
  end)

  it("may come before anything was opened", function()
    open()
    pool:stop()
    assert.equal("stopped", pool:state())
    assert.same(#factory.made, #factory.closed)
    assert.same({}, town.world.leaks())
  end)

  it("gives up an attempt under way, and closes its socket", function()
    town = sim_pool.new { hang = true }
    pool = town:open()
    town:advance(10)
    assert.equal(3, pool:stats().connecting)
    assert.equal(8, #town.world.leaks()) -- two alarms, and of each attempt a task and a socket
    pool:stop()
    assert.same({}, town.world.leaks())
    assert.is_nil(pool:last_error())
    town:stop()
  end)

  it("refuses claims that wait and those that come", function()
    open()
    for _, who in ipairs { "alice", "bob", "carol" } do town:claim(who) end
    town:advance(1)
    pool:stop()
    assert.equal("stopping", pool:state())
    town:claim "dave"
    town:advance(1)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   0] grant bob: db1
      [   1] refuse dave: pool_stopping
      [   1] refuse carol: pool_stopping]])
    assert.equal("pool db is stopping", town.refused)
    town:release "alice"
    town:release "bob"
    town:stop()
  end)

  it("waits in its task for the leases that are out, and everybody who stops waits", function()
    open()
    town:claim "alice"
    town:claim "bob"
    town:advance(1)
    for _, who in ipairs { "first", "second" } do
      town.world.spawn(function()
        pool:stop()
        town.world.trace("%s: %s", who, pool:state())
      end)
    end
    town:at(20, function() town:release "alice" end)
    town:at(30, function() town:release "bob" end)
    town:advance(19)
    assert.equal("stopping", pool:state())
    town:advance(80)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   0] grant bob: db1
      [  20] release alice
      [  30] release bob
      [  30] first: stopped
      [  30] second: stopped]])
    assert.equal(0, pool:stats().leases_revoked)
    assert.log(town, "info", [[
      [   0] cueball db: running (was starting)
      [   1] cueball db: stopping (was running)
      [  30] cueball db: stopped (was stopping)]])
    assert.same({}, town.world.leaks())
  end)

  it("takes leases back after drain_timeout_ms", function()
    open { drain_timeout_ms = 250 }
    town:claim "alice"
    town:claim "bob"
    town:advance(1)
    town:run(function()
      pool:stop()
      assert.equal(251, town.world.time_ms())
    end)
    assert.equal("stopped", pool:state())
    assert.same({ 1, 2 }, factory.closed)
    assert.equal(2, pool:stats().leases_revoked)
    town:release "alice"
    town:fail("bob", "late")
    assert.trace(town, [[
      [   0] grant alice: db1
      [   0] grant bob: db1
      [ 251] release alice
      [ 251] release alice: stale
      [ 251] fail bob
      [ 251] fail bob: stale]])
    assert.is_nil(pool:last_error())
    assert.same({}, town.world.leaks())
  end)

  it("closes a socket under the claimer that waits in it", function()
    town = sim_pool.new { reply = false }
    pool = town:open { drain_timeout_ms = 100 }
    town.world.spawn(function()
      local lease = pool:claim()
      local line, message = lease.connection:receive "*l"
      town.world.trace("alice: %s, %s", tostring(line), message)
      town.world.trace("alice: %s", (select(3, lease:release())))
    end)
    town:advance(10)
    pool:stop()
    town:advance(200)
    assert.trace(town, [[
      [ 110] alice: nil, closed
      [ 110] alice: stale]])
    town:stop()
  end)

  it("is harmless again, and so is everything else afterwards", function()
    open()
    town:stop()
    town:stop()
    town:run(function() assert.is_true(pool:stop()) end)
    assert.is_true(pool:set { max_connections = 5, name = "gone" })
    assert.is_true(pool:replace { resolver = function(sink) sink:add(sim_pool.backend(1)) end, connect = factory })
    assert.equal("pool gone is stopped", (select(2, pool:try_claim())))
    assert.equal(0, pool:stats().total)
    assert.same({ nil, "pool gone is stopped", "pool_stopping" }, { pool:claim() })
    assert.same({}, town.world.leaks())
  end)

  it("may be called by the resolver, a factory, a subscriber and a claimer", function()
    open { resolver = function(sink)
      sink:set(sim_pool.backends(1, 1))
      sink:sleep(10)
      pool:stop()
    end }
    town:advance(10)
    town:stop()

    local stop_now
    open { connect = function(_, context)
      context.host.sleep(5)
      if stop_now then pool:stop() end
      return {}
    end }
    stop_now = true
    town:advance(100)
    town:stop()

    open()
    pool:subscribe(function(event) if event.to == "idle" then pool:stop() end end)
    town:advance(10)
    town:stop()

    open()
    town:run(function() pool:with(function() town.world.spawn(pool.stop, pool) end) end)
    town:stop()
  end)

  it("closes a connection that comes after it, and waits for that no longer than for the attempt", function()
    local function late(wait_ms, close)
      local made, closed = 0, 0
      open { recovery = { default = { timeout_ms = 300 } }, connect = {
        connect = function(_, context)
          if wait_ms then context.host.sleep(wait_ms) end
          context.host.spawn(pool.stop, pool)
          made = made + 1
          return {}
        end,
        close = function()
          closed = closed + 1
          close()
        end,
      }, resolver = function(sink)
        sink:sleep(1)
        sink:set(sim_pool.backends(1, 1))
      end }
      town:advance(400)
      assert.is_true(made > 0)
      assert.same({ made, 0 }, { closed, pool:stats().opened })
      town:stop()
    end
    for _, close in ipairs { function() end, function() town.world.sleep(5) end, function() coroutine.yield() end, error } do
      late(nil, close)
      late(5, close)
    end
  end)

  it("ends an attempt that asked for the stop itself and hangs then", function()
    open { connect = function()
      pool:stop()
      coroutine.yield()
    end, resolver = function(sink)
      sink:sleep(1)
      sink:set(sim_pool.backends(1, 1))
    end }
    town:advance(100)
    town:stop()
  end)
end)
