--- pool:set and pool:replace: options of a living pool.
local sim_pool = require "spec.support.sim_pool"

local town, pool, factory

local function open(options, members)
  town, factory = sim_pool.new { servers = 2 }, sim_pool.factory(members)
  pool = town:open({ max_connections = 4, connect = factory }, options)
  town:advance(1)
end

before_each(function() open() end)

describe("pool:set", function()
  it("changes max_connections: slots come and go, leases stay until they come back", function()
    assert.equal("2/2", town:spread())
    pool:set { max_connections = 8 }
    town:advance(1)
    assert.equal("4/4", town:spread())
    local leases = {}
    for number = 1, 8 do leases[number] = pool:claim() end
    pool:set { max_connections = 2 }
    town:advance(1)
    assert.equal("4/4", town:spread())
    for _, lease in ipairs(leases) do lease:release() end
    town:advance(1)
    assert.equal("1/1", town:spread())
    town:stop()
  end)

  it("changes claim_timeout_ms for claims to come", function()
    pool:set { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    town:claim("bob")
    pool:set { claim_timeout_ms = 10 }
    town:claim("carol")
    town:advance(20)
    pool:set { claim_timeout_ms = false }
    town:claim("dave")
    town:advance(1000)
    assert.trace(town, [[
      [   1] grant alice: db2
      [  12] refuse carol: claim_timeout]])
    assert.equal(2, pool:stats().waiting)
    town:release "alice"
    town:advance(1)
    town:release "bob"
    town:advance(1)
    town:release "dave"
    town:stop()
  end)

  it("changes max_waiters", function()
    pool:set { max_connections = 1, max_waiters = 0 }
    town:advance(1)
    town:claim "alice"
    town:claim "bob"
    pool:set { max_waiters = 1 }
    town:claim "carol"
    town:claim "dave"
    pool:set { max_waiters = false }
    town:claim "erin"
    assert.trace(town, [[
      [   2] grant alice: db2
      [   2] refuse bob: overloaded
      [   2] refuse dave: overloaded]])
    town:release "alice"
    town:advance(0)
    town:release "carol"
    town:advance(0)
    town:release "erin"
    town:stop()
  end)

  it("changes balance", function()
    local function next_two()
      local one = pool:claim()
      local first = one.connection.id
      one:release()
      local two = pool:claim()
      local second = two.connection.id
      two:release()
      return first == second
    end
    assert.is_false(next_two())
    pool:set { balance = "lifo" }
    assert.is_true(next_two())
    pool:set { balance = "fifo" }
    assert.is_false(next_two())
    town:stop()
  end)

  it("changes idle_timeout_ms and max_lifetime_ms", function()
    town:advance(10000)
    assert.equal(4, pool:stats().opened)
    pool:set { idle_timeout_ms = 1000 } -- they have been idle for longer
    town:advance(500)
    assert.equal(8, pool:stats().opened)
    town:advance(600)
    assert.equal(12, pool:stats().opened)
    pool:set { idle_timeout_ms = false, max_lifetime_ms = 3000 } -- from when it opened
    town:advance(1500)
    assert.equal(12, pool:stats().opened)
    town:advance(2000)
    assert.equal(16, pool:stats().opened)
    pool:set { max_lifetime_ms = 0 }
    town:advance(10000)
    assert.equal(16, pool:stats().opened)
    town:stop()
  end)

  it("changes check_interval_ms and check_timeout_ms", function()
    open({ check_interval_ms = 0 }, { check = function() town.world.sleep(60) return true end })
    town:advance(100000)
    assert.equal(0, pool:stats().checks)
    pool:set { check_interval_ms = 500 }
    town:advance(1000)
    assert.is_true(pool:stats().checks >= 4)
    assert.equal(0, pool:stats().checks_failed)
    pool:set { check_timeout_ms = 50 }
    town:advance(1000)
    assert.is_true(pool:stats().checks_failed >= 4)
    town:stop()
  end)

  it("changes decoherence_interval_ms and rebalance_delay_ms", function()
    local sink
    open { decoherence_interval_ms = 0, rebalance_delay_ms = 100, resolver = function(given)
      sink = given
      sink:set(sim_pool.backends(1, 1))
    end }
    pool:set { decoherence_interval_ms = 100 }
    town:advance(1000)
    assert.equal(10, pool:stats().shuffles)
    pool:set { decoherence_interval_ms = false }
    pool:set { rebalance_delay_ms = 20 }
    sink:add(sim_pool.backend(2))
    town:advance(19)
    assert.equal("4/0", town:spread())
    town:advance(1)
    assert.equal("2/2", town:spread())
    town:advance(1000)
    assert.equal(10, pool:stats().shuffles)
    town:stop()
  end)

  it("changes drain_timeout_ms", function()
    pool:set { drain_timeout_ms = 30 }
    pool:claim()
    town:run(function() pool:stop() end)
    assert.equal(31, town.world.time_ms())
  end)

  it("changes recovery, each operation by itself, keeping what is not named", function()
    local is_down = false
    local connect = function()
      if is_down then return nil, "down" end
      return {}
    end
    open { connect = connect, max_connections = 2, recovery = { default = { attempts = 3, delay_ms = 100, spread = 0 } } }
    pool:set { recovery = { connect = { delay_ms = 10 } } }
    is_down = true
    town:trace_slots()
    pool:claim():close()
    town:advance(100)
    -- spread and attempts are those of before: 10, 20, then dead, and on at its last pause.
    assert.trace(town, [[
      [   1] slot 0 db2: idle -> busy (claim)
      [   1] slot 0 db2: busy -> closing (close)
      [   1] slot 0 db2: closing -> connecting (closed)
      [   1] slot 0 db2: connecting -> backoff (failed)
      [  11] slot 0 db2: backoff -> connecting (delay)
      [  11] slot 0 db2: connecting -> backoff (failed)
      [  31] slot 0 db2: backoff -> connecting (delay)
      [  31] slot 0 db2: connecting -> backoff (failed)
      [  71] slot 0 db2: backoff -> connecting (delay)
      [  71] slot 0 db2: connecting -> backoff (failed)]])
    town:stop()
  end)

  it("changes the name", function()
    pool:set { name = "orders" }
    assert.equal("cueball.pool (orders, running)", tostring(pool))
    pool:log("warn", "x")
    assert.equal("[   1] cueball orders: x", town:log "warn")
    town:stop()
  end)

  it("may set every option the core has to what it is by default", function()
    local options = require "cueball.options"
    local given = {}
    for _, option in ipairs(options.all()) do
      local node, path, last = given, option.name:match "^(.-)([^.]+)$"
      for part in path:gmatch "[^.]+" do
        node[part] = node[part] or {}
        node = node[part]
      end
      local value = option.initial
      if option.choices then value = option.choices[value + 1] end
      node[last] = value ~= math.huge and value
    end
    assert.is_true(pool:set(given))
    assert.is_true(pool:set {})
    town:stop()
  end)

  it("refuses mistakes at the caller's line, and changes nothing", function()
    pool:set { claim_timeout_ms = 77 }
    local events = 0
    pool:subscribe(function(event) if event.kind == "options_changed" then events = events + 1 end end)
    assert.blames("pool:set: option 'max_connections' must be a whole number from 1 to 1000000, not 0",
      function() pool:set { name = "x", max_connections = 0 } end)
    assert.blames("pool:set: unknown option 'claim_timeout'; did you mean 'claim_timeout_ms'?",
      function() pool:set { claim_timeout = 5 } end)
    assert.blames("pool:set: option 'resolver' cannot be changed; use pool:replace", function() pool:set { resolver = print } end)
    assert.blames("pool:set: option 'connect' cannot be changed; use pool:replace", function() pool:set { connect = print } end)
    assert.blames("pool:set: option 'seed' cannot be changed", function() pool:set { seed = 5 } end)
    assert.blames("pool:set: option 'host' cannot be changed", function() pool:set { host = town.world } end)
    assert.blames("pool:set: option 'name' must be a string of 1 to 255 bytes without control characters, not 5",
      function() pool:set { name = 5 } end)
    assert.blames("pool:set: expected a table of options, got nil", function() pool:set() end)
    assert.blames("pool:set: option 'recovery.default.max_delay_ms' must be at least delay_ms (5000), not 4000",
      function() pool:set { max_connections = 1, recovery = { default = { delay_ms = 5000, max_delay_ms = 4000 } } } end)
    assert.blames("pool:set: option 'recovery.default.attempts' must be a whole number from 1 to 1000, not 1.5",
      function() pool:set { max_connections = 1, recovery = { default = { attempts = 1.5 } } } end)
    town:advance(1000)
    assert.equal(0, events)
    assert.equal("2/2", town:spread())
    assert.equal("cueball.pool (db, running)", tostring(pool))
    for _ = 1, 4 do town:claim "alice" end
    town:claim "bob"
    town:advance(100)
    assert.matches("^claim timed out after 77 ms %(0 ahead, 4 busy%): 77 ms every connection was busy;", town.refused)
  end)

  it("does not heed what becomes of the tables it was given", function()
    local given = { recovery = { default = { attempts = 5 } } }
    open(given)
    given.recovery.default.attempts = "many"
    assert.is_true(pool:set { max_connections = 2 })
    given = { recovery = { connect = { attempts = 5 } } }
    pool:set(given)
    given.recovery.connect.attempts = "many"
    assert.is_true(pool:set { max_connections = 3 })
    town:stop()
  end)
end)

describe("pool:replace", function()
  it("takes another factory: what is open stays, what comes is its", function()
    local another = sim_pool.factory()
    assert.is_true(pool:replace { connect = another })
    assert.equal(4, #factory.made)
    assert.equal(0, #another.made)
    local lease = pool:claim()
    assert.equal(lease.connection, factory.made[lease.connection.id])
    lease:close()
    town:advance(1)
    assert.equal(1, #factory.closed)
    assert.equal(1, #another.made)
    town:stop()
    assert.same({ 4, 1 }, { #factory.closed, #another.closed })
  end)

  it("takes both at once", function()
    local another = sim_pool.factory()
    pool:replace { connect = another, resolver = function(sink) sink:set(sim_pool.backends(2, 2)) end }
    town:advance(200)
    assert.equal("0/4", town:spread())
    assert.equal(2, #another.made)
    town:stop()
  end)

  it("refuses mistakes at the caller's line, and changes nothing", function()
    local resolver = { run = function() error "is not run" end }
    assert.blames("pool:replace: option 'max_connections' is not for replace; use pool:set",
      function() pool:replace { max_connections = 5 } end)
    assert.blames("pool:replace: option 'name' is not for replace; use pool:set", function() pool:replace { name = "x" } end)
    assert.blames("pool:replace: option 'resolver' must be a function(sink) or a table with run(self, sink), not 5",
      function() pool:replace { resolver = 5 } end)
    local range = "a function(backend, context) or a table with connect(backend, context)"
    assert.blames("pool:replace: option 'connect' must be " .. range .. ', not "tcp"',
      function() pool:replace { connect = "tcp", resolver = resolver } end)
    assert.blames("pool:replace: the connection factory's 'close' must be a function, not true",
      function() pool:replace { connect = { connect = print, close = true }, resolver = resolver } end)
    assert.blames("pool:replace: expected a table of options, got nil", function() pool:replace() end)
    town:advance(500)
    assert.equal("2/2", town:spread())
    assert.equal("", town:log "error")
    town:stop()
  end)
end)
