--- pool:ready: waiting until so many connections are open.
local sim_pool = require "spec.support.sim_pool"

local town, pool

local function open(options)
  town = sim_pool.new { servers = 2 }
  town.servers[1]:set { connect_delay = 80 }
  town.servers[2]:set { connect_delay = 50 }
  pool = town:open(options)
end

describe("pool:ready", function()
  it("waits until so many connections are open, leased or not", function()
    open { max_connections = 4 }
    for _, count in ipairs { 1, 4 } do
      town.world.spawn(function() town.world.trace("%d: %s", count, pool:ready { connections = count }) end)
    end
    town.world.spawn(function() town.world.trace("%s", (pool:ready())) end)
    town:claim "ann"
    town:advance(200)
    assert.trace(town, [[
      [  50] grant ann: db2
      [  50] 1: true
      [  50] true
      [  80] 4: true]])
    assert.is_true(town:run(function() return pool:ready { connections = 4 } end))
    assert.is_nil(pool.readiness)
    town:release "ann"
    town:stop()
  end)

  it("says what is missing when the time is up", function()
    open { max_connections = 4, recovery = { default = { attempts = 1 } } }
    town.servers[2]:set { refuse = true }
    town:run(function()
      local is_ready, message, name = pool:ready { connections = 4, timeout_ms = 100 }
      assert.same({ nil, "timeout" }, { is_ready, name })
      assert.matches("^not ready after 100 ms: 2 of 4 connections are open %(.*db2.*connection refused", message)
      assert.is_true(pool:ready { connections = 2 })
    end)
    assert.is_nil(pool.readiness)
    town:run(function() pool:stop() end)
  end)

  it("does not wait where it is not to: outside of tasks too", function()
    open { max_connections = 2 }
    local is_ready, message, name = pool:ready { connections = 2, timeout_ms = 0 }
    assert.same({ nil, "not ready after 0 ms: 0 of 2 connections are open", "timeout" }, { is_ready, message, name })
    assert.blames("pool:ready: only a task can wait: call it inside cueball.run or cueball.spawn, or with timeout_ms = 0",
      function() pool:ready() end)
    town:advance(100)
    assert.is_true(pool:ready { connections = 2 })
    town:stop()
  end)

  it("ends when the pool stops, or its task is killed", function()
    open { max_connections = 2 }
    town.world.spawn(function() town.world.trace("%s %s %s", pool:ready()) end)
    local killed = town.world.spawn(function() pool:ready() end)
    town:advance(10)
    town.world.kill(killed)
    assert.equal(1, #pool.readiness)
    town:run(function() pool:stop() end)
    assert.trace(town, "[  10] nil pool db is stopped pool_stopping")
    assert.same({ nil, "pool db is stopped", "pool_stopping" }, { pool:ready { timeout_ms = 5 } })
  end)

  it("raises at the caller's line where nothing can wait, and leaves nothing behind", function()
    open { max_connections = 4 }
    town:run(function()
      local ok, message = pcall(function()
        return ("x"):gsub(".", function()
          local is_ready = pool:ready { connections = 4 }
          return is_ready
        end)
      end)
      assert.is_false(ok)
      assert.matches("^spec/pool/readiness_spec.lua:%d+: pool:ready: nothing can wait here: inside a function that C code calls", message)
      assert.is_nil(pool.readiness)
      assert.is_true(pool:ready { connections = 4 })
    end)
    town:stop()
  end)

  it("refuses what makes no sense at the caller's line", function()
    open { max_connections = 2 }
    assert.blames("pool:ready: option 'connections' must be at most max_connections (2), not 3",
      function() pool:ready { connections = 3 } end)
    assert.blames("pool:ready: option 'connections' must be a whole number from 1 to 1000000, not 0",
      function() pool:ready { connections = 0 } end)
    assert.has_error(function() pool:ready { timeout_ms = -1 } end)
    assert.has_error(function() pool:ready(5) end)
    town:run(function() pool:stop() end)
  end)
end)
