--- Connections that come back dirty: the factory's reset cleans them before anybody else has them.
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local town, pool, factory

-- A factory whose connections are dirty once a claimer has said so; `clean` is what its reset does.
local function open(clean, options)
  town = sim_pool.new { seed = 1 }
  factory = sim_pool.factory {
    resets = 0,
    broken = function(connection)
      if connection.state then return connection.state, connection.kind or "dirty" end
      return nil
    end,
    reset = function(connection, timeout_ms)
      factory.resets, factory.timeout_ms = factory.resets + 1, timeout_ms
      return clean(connection)
    end,
  }
  pool = town:open(with({ max_connections = 1, connect = factory, check_interval_ms = false }, options))
  town:advance(10)
  return pool
end

local function after(ms)
  return function(connection)
    town.world.sleep(ms)
    connection.state = nil
    return true
  end
end

local function soil(who)
  town.leases[who].connection.state = "left in a transaction"
end

describe("a connection that comes back dirty", function()
  after_each(function() town:stop() end)

  it("is cleaned, and goes to whoever waits only then", function()
    open(after(20))
    town:claim "alice"
    soil "alice"
    town:claim "bob"
    town:at(100, function() town:release "alice" end)
    town:advance(200)
    assert.trace(town, [[
      [  10] grant alice: db1
      [ 100] release alice
      [ 120] grant bob: db1]])
    assert.same({ 1, 1, 0 }, { factory.resets, pool:stats().opened, pool:stats().closed })
    assert.equal(1, town.leases.bob.connection.id)
    town:release "bob"
  end)

  it("counts as busy until it is clean, and is at rest then; its lease is over at once", function()
    open(after(20))
    town:claim "alice"
    soil "alice"
    local lease = town.leases.alice
    assert.is_true(lease:release())
    assert.same({ nil, "stale" }, { (lease:release()), select(3, lease:release()) })
    assert.is_nil(lease:backend())
    assert.same({ 1, 0, 0 }, { pool:stats().busy, pool:stats().idle, pool:stats().released })
    town:advance(20)
    assert.same({ 0, 1, 1 }, { pool:stats().busy, pool:stats().idle, pool:stats().released })
  end)

  it("is cleaned at once where reset need not wait", function()
    open(function(connection)
      connection.state = nil
      return true
    end)
    town:claim "alice"
    soil "alice"
    town:release "alice"
    assert.same({ 0, 1 }, { pool:stats().busy, pool:stats().idle })
  end)

  it("is cleaned outside of tasks too", function()
    open(after(5))
    local lease = pool:try_claim()
    lease.connection.state = "left in a transaction"
    town:at(20, function() lease:release() end)
    town:advance(50)
    assert.same({ 1, 1 }, { factory.resets, pool:stats().idle })
  end)

  it("is not taken for its claimer's any more: claiming again is no deadlock", function()
    open(after(20))
    local answers = {}
    town.world.spawn(function()
      for number = 1, 3 do
        local lease, message = pool:claim()
        if not lease then answers[number] = message return end
        lease.connection.state = "left in a transaction"
        lease:release()
        answers[number] = lease.connection == nil
      end
    end)
    town:advance(200)
    assert.same({ true, true, true }, answers)
    assert.same({ 3, 1 }, { factory.resets, pool:stats().opened })
  end)

  it("is no forgotten lease, however long it takes", function()
    open(after(4000), { check_timeout_ms = 5000, leak_warning_ms = 100 })
    town:claim "alice"
    soil "alice"
    town:release "alice"
    town.leases = {}
    for _ = 1, 3 do
      collectgarbage()
      town:advance(1000)
    end
    assert.equal("", town:log "error")
    assert.equal("", town:log "warn")
    town:advance(2000)
    assert.equal(1, pool:stats().idle)
  end)

  it("is released by pool:with too, which does not wait for that", function()
    open(after(20))
    local took
    town.world.spawn(function()
      local begun = town.world.time_ms()
      pool:with(function(connection) connection.state = "left in a transaction" end)
      took = town.world.time_ms() - begun
    end)
    town:advance(100)
    assert.same({ 0, 1, 1 }, { took, factory.resets, pool:stats().idle })
  end)
end)

describe("a connection that cannot be cleaned", function()
  after_each(function() town:stop() end)

  local function come_back()
    town:claim "alice"
    soil "alice"
    town:claim "bob"
    town:release "alice"
    town:advance(10000)
    assert.equal(2, town.leases.bob.connection.id) -- another connection
    town:release "bob"
    assert.same({ 1 }, factory.closed)
    return pool:stats()
  end

  it("is closed and replaced at once if reset says so", function()
    open(function() return nil, "ROLLBACK: canceling" end)
    assert.same({ 1, 0 }, { come_back().closed_unfit, pool:stats().backend_deaths })
    assert.matches("is not lent again: ROLLBACK: canceling", town:log "debug")
  end)

  it("is held against its backend if reset finds it lost", function()
    open(function() return nil, "server closed the connection", "lost" end)
    assert.equal(1, come_back().closed_lost)
    assert.equal("db1: server closed the connection", pool:last_error())
  end)

  it("is closed if reset throws, with a line in the log", function()
    open(function() error "no idea" end)
    assert.equal(1, come_back().closed_unfit)
    assert.matches("the connection factory's reset threw: .*no idea", town:log "error")
  end)

  it("is closed if it is dirty still", function()
    open(function() return true end)
    assert.equal(1, come_back().closed_unfit)
    assert.equal(1, factory.resets)
  end)

  it("is closed if reset takes longer than a check may, and counts as slow", function()
    open(after(1e9), { check_timeout_ms = 300 })
    assert.equal(1, come_back().closed_timeout)
    assert.equal(300, factory.timeout_ms)
    assert.matches("cleaning a connection to db1 took too long", town:log "warn")
    assert.equal("db1: it could not be cleaned in time", pool:last_error())
  end)

  it("is closed without a word of the backend where the factory has no reset", function()
    open(after(1))
    factory.reset = nil
    pool:replace { connect = factory, renew = true }
    town:advance(20000)
    town:claim "alice"
    soil "alice"
    town:release "alice"
    town:advance(100)
    assert.same({ 0, 1 }, { factory.resets, pool:stats().closed_unfit })
    assert.equal("", town:log "warn")
  end)

  it("is closed if reset says an odd kind, and that is told", function()
    open(function() return nil, "no", "dirty" end)
    assert.equal(1, come_back().closed_unfit)
    assert.matches("the connection factory's reset says the kind dirty", town:log "warn")
  end)
end)

describe("a connection that is taken away while it is cleaned", function()
  it("is closed when its owner is gone, and its task is ended", function()
    local went_on = false
    open(function()
      town.world.sleep(1000)
      went_on = true
      return true
    end)
    local owner = pool:owner()
    town.world.spawn(function()
      local lease = pool:claim { owner = owner }
      lease.connection.state = "left in a transaction"
      lease:release()
    end)
    town:advance(10)
    owner:gone()
    town:advance(5000)
    assert.same({ false, 1, 1 }, { went_on, pool:stats().leases_revoked + pool:stats().released, #factory.closed })
    assert.equal(1, pool:stats().idle)
    town:stop()
  end)

  it("holds a stop up no longer than the drain time", function()
    open(after(1e9), { drain_timeout_ms = 100, check_timeout_ms = 86400000 })
    town:claim "alice"
    soil "alice"
    town:release "alice"
    town.world.spawn(function() pool:stop() end)
    town:advance(99)
    assert.same({ "stopping", 0 }, { pool:state(), #factory.closed })
    town:advance(2)
    assert.same({ "stopped", 1 }, { pool:state(), #factory.closed })
  end)
end)

describe("factories", function()
  it("may have a reset that is a function, and nothing else", function()
    town = sim_pool.new {}
    assert.has_error(function() town:open { connect = sim_pool.factory { reset = 5 } } end)
  end)
end)
