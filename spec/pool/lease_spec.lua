--- Leases: how they end, and that one which is over harms nobody.
local sim_pool = require "spec.support.sim_pool"

local STALE = { nil, "the lease is over: it was released, closed or taken back before", "stale" }

local town, pool

local function open(options, factory)
  town = sim_pool.new()
  factory = factory or sim_pool.factory()
  pool = town:open({ max_connections = 1, connect = factory }, options)
  town:advance(1)
  return factory
end

describe("a lease", function()
  it("knows its connection and its backend until it is over", function()
    open()
    local lease = pool:claim()
    assert.equal(1, lease.connection.id)
    assert.same({ key = "db1", name = "db1", address = "10.0.0.1", port = 7000, weight = 1, priority = 0 }, lease:backend())
    assert.equal("cueball.lease (db, db1)", tostring(lease))
    assert.is_true(lease:release())
    assert.is_nil(lease.connection)
    assert.is_nil(lease:backend())
    assert.equal("cueball.lease (db, over)", tostring(lease))
    town:stop()
  end)

  it("gives the connection back with release", function()
    local factory = open()
    town:trace_slots()
    pool:claim():release()
    assert.trace(town, [[
      [   1] slot 0 db1: idle -> busy (claim)
      [   1] slot 0 db1: busy -> idle (release)]])
    assert.same({}, factory.closed)
    assert.equal(1, pool:claim().connection.id)
    pool:stop()
  end)

  it("has the connection replaced at once with close: nobody's fault", function()
    local factory = open()
    town:trace_slots()
    assert.is_true(pool:claim():close())
    town:advance(1)
    assert.trace(town, [[
      [   1] slot 0 db1: idle -> busy (claim)
      [   1] slot 0 db1: busy -> closing (close)
      [   1] slot 0 db1: closing -> connecting (closed)
      [   1] slot 0 db1: connecting -> idle (opened)]])
    assert.same({ 1 }, factory.closed)
    assert.is_nil(pool:last_error())
    town:stop()
  end)

  it("has it replaced after a pause with fail, and says why", function()
    local factory = open { recovery = { connect = { delay_ms = 40, spread = 0 } } }
    town:trace_slots()
    assert.is_true(pool:claim():fail "the reply made no sense")
    assert.equal("db1: the reply made no sense", pool:last_error())
    assert.equal("the reply made no sense", pool:backends()[1].error)
    town:advance(100)
    assert.trace(town, [[
      [   1] slot 0 db1: idle -> busy (claim)
      [   1] slot 0 db1: busy -> closing (fail)
      [   1] slot 0 db1: closing -> backoff (closed)
      [  41] slot 0 db1: backoff -> connecting (delay)
      [  41] slot 0 db1: connecting -> idle (opened)]])
    assert.same({ 1 }, factory.closed)
    assert.is_nil(pool:backends()[1].error)
    pool:claim():fail()
    assert.equal("db1: a claimer failed the lease", pool:last_error())
    pool:claim { timeout_ms = 0 }
    town:stop()
  end)

  it("may say that it did not go well, and keep its connection", function()
    local factory = open { max_connections = 2, outlier = { consecutive = 2 }, resolver = function(sink)
      sink:set { sim_pool.backend(1), sim_pool.backend(2) }
    end }
    local events = {}
    pool:subscribe(function(event) events[#events + 1] = event.kind == "backend_ejected" and event.backend or nil end)
    local function answer(status)
      return pool:with(function(_, lease)
        if status >= 500 then assert.is_true(lease:report(false)) end
        return lease:backend().key
      end)
    end
    local first = answer(503)
    assert.is_true(first ~= answer(200))
    assert.equal(first, answer(200)) -- which ends the row
    answer(200)
    answer(503) answer(200)
    assert.same({ 0, 0, 0 }, { #events, pool:stats().leases_failed, #factory.closed })
    answer(503)
    assert.same({ first }, events)
    assert.is_nil(pool:last_error())
    town:stop()
  end)

  it("is told what it may report", function()
    open()
    local lease = pool:claim()
    for _, wrong in ipairs { "failed", 0 } do
      local ok, message = pcall(function() lease:report(wrong) end)
      assert.is_false(ok)
      assert.matches("lease_spec.lua:%d+: lease:report: expected true %(it went well%) or false, got ", message)
    end
    assert.is_false((pcall(function() lease:report() end)))
    assert.is_true(lease:report(true))
    lease:release()
    assert.same(STALE, { lease:report(true) })
    town:stop()
  end)

  it("is stale once it is over, whatever ended it", function()
    open { recovery = { default = { delay_ms = 0 } } }
    for _, ended in ipairs { "release", "close", "fail" } do
      local lease = pool:try_claim()
      assert.is_true(lease[ended](lease))
      for _, again in ipairs { "release", "close", "fail" } do
        assert.same(STALE, { lease[again](lease, "again") })
      end
      town:advance(1)
    end
    local stats = pool:stats()
    assert.same({ 1, 1, 1 }, { stats.released, stats.leases_closed, stats.leases_failed })
    assert.equal("db1: a claimer failed the lease", pool:last_error())
    town:stop()
  end)

  it("that is stale does not touch the same connection in other hands", function()
    local factory = open()
    local alice = pool:claim()
    alice:release()
    local bob = pool:claim()
    assert.equal(1, bob.connection.id)
    assert.same(STALE, { alice:release() })
    assert.same(STALE, { alice:close() })
    assert.same(STALE, { alice:fail "bad" })
    assert.equal(1, pool:stats().busy)
    assert.is_nil(pool:try_claim())
    assert.same({}, factory.closed)
    assert.is_nil(pool:last_error())
    assert.is_true(bob:release())
    town:stop()
  end)

  -- The lease itself does not know that it was taken back: the pool must.
  it("that was taken back does not touch what is in its place now", function()
    local watched = {}
    local factory = open({}, sim_pool.factory {
      broken = function(connection) return connection.is_broken end,
      watch = function(connection) watched[connection.id] = true end,
      unwatch = function(connection) watched[connection.id] = nil end,
    })
    local owner = pool:owner()
    local alice = pool:claim { owner = owner }
    owner:gone()
    town:advance(1)
    assert.same({ 1 }, factory.closed)
    alice.connection.is_broken = "its owner is gone"
    local bob = pool:claim()
    assert.equal(2, bob.connection.id)
    assert.is_nil(alice:backend())
    assert.equal("cueball.lease (db, over)", tostring(alice))
    assert.same(STALE, { alice:release() })
    assert.same({}, watched)
    assert.is_nil(pool:last_error())
    assert.is_true(bob:release())
    assert.same({ [2] = true }, watched)
    assert.same({ 1 }, factory.closed)
    assert.equal(0, pool:stats().lost)
    town:stop()
  end)

  it("stays good for its connection when the backend was removed meanwhile", function()
    local factory = open { resolver = function(sink)
      sink:set(sim_pool.backends(1, 1))
      sink:sleep(50)
      sink:remove "db1"
    end }
    local lease = pool:claim()
    town:advance(100)
    assert.equal("db1", lease:backend().key)
    assert.is_true(pool:backends()[1].removed)
    assert.same({}, factory.closed)
    assert.is_true(lease:release())
    assert.same({ 1 }, factory.closed)
    assert.same({}, pool:backends())
    town:stop()
  end)
end)

describe("a lease with a deadline", function()
  local cueball = require "cueball"
  local world, db, server

  before_each(function()
    world = require("cueball.host.sim").new { seed = 1 }
    server = world.server("10.0.0.1", 80, { connect_delay = 50, latency = 0, reply = false })
    db = cueball.pool {
      host = world, max_connections = 1, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = cueball.connection.tcp {},
    }
  end)

  -- fn runs at 100 ms, in a task.
  local function run(fn)
    world.run(function()
      world.sleep(100)
      fn()
      db:set { drain_timeout_ms = 0 }
      db:stop()
    end)
    world.check()
  end

  it("has what the wait left, and so have its socket's operations", function()
    for _, how in ipairs {
      function(fn) return db:with(fn, { timeout_ms = 200 }) end,
      function(fn) return db:with(fn, { timeout_ms = 1000, deadline_ms = 200 }) end,
      function(fn)
        local lease = db:claim { deadline_ms = 200 }
        local socket = lease.connection
        fn(socket, lease)
        lease:close()
      end,
    } do
      local began
      run(function()
        began = world.time_ms()
        local first = db:claim()
        world.spawn(function() world.sleep(60) first:release() end)
        how(function(socket, lease)
          assert.near(140, lease:remaining_ms(), 1e-6)
          socket:settimeouts(50, 5000, 5000)
          local got = { socket:receive(1) }
          assert.same({ nil, "timeout", "" }, { got[1], got[2], got[3] })
          assert.near(began + 200, world.time_ms(), 1e-6)
          assert.equal(0, lease:remaining_ms())
          assert.equal("timeout", (select(2, socket:receive(1))))
          server:set { hang = true }
          assert.equal("timeout", (select(2, socket:connect("10.0.0.1", 80))))
          assert.near(began + 200, world.time_ms(), 1e-6)
        end)
      end)
      server:set { hang = false }
      db = cueball.pool {
        host = world, max_connections = 1, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = cueball.connection.tcp {},
      }
    end
    db:stop()
  end)

  it("is refused at its deadline", function()
    run(function()
      world.spawn(function() db:with(function() world.sleep(100) end) end)
      local began = world.time_ms()
      local lease, _, name = db:claim { deadline_ms = 30, timeout_ms = 5000 }
      assert.same({ nil, "claim_timeout" }, { lease, name })
      assert.near(began + 30, world.time_ms(), 1e-6)
      world.sleep(100)
    end)
  end)

  it("leaves no limit to the next one", function()
    server:set { reply = function(data) return data end, reply_delay = 500 }
    run(function()
      db:with(function(socket)
        socket:send "x"
        assert.equal("timeout", (select(2, socket:receive(1))))
        assert.equal("timeout", (select(2, socket:receive(1))))
      end, { timeout_ms = 50 })
      world.sleep(1000)
      db:with(function(socket, lease)
        assert.equal(math.huge, lease:remaining_ms())
        socket:send "y"
        assert.equal("y", socket:receive(1))
      end)
    end)
  end)

  it("has one that is a time", function()
    run(function()
      for _, deadline in ipairs { 0, -1, "5", 86400001, math.huge } do
        assert.has_error(function() db:claim { deadline_ms = deadline } end)
      end
      assert.blames("pool:claim: option 'deadline_ms' must be a number of milliseconds from 0.001 to 86400000, not 0",
        function() db:claim { deadline_ms = 0 } end)
      db:claim({ deadline_ms = 5 }):release()
      local ended = db:claim { deadline_ms = 5 }
      ended:release()
      assert.is_number(ended:remaining_ms())
    end)
  end)
end)
