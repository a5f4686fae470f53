--- The pool as a whole: its numbers, its states, and how it spreads connections while servers come and go.
local sim_pool = require "spec.support.sim_pool"
local cueball = require "cueball"

local town, pool

local RECOVERY = { default = { attempts = 3, timeout_ms = 500, delay_ms = 50, max_delay_ms = 400, spread = 0 } }

local function trace_spread()
  town.world.trace(town:spread())
end

describe("a pool of 15 connections over three servers", function()
  before_each(function()
    town = sim_pool.new { servers = 3 }
    pool = town:open { max_connections = 15, recovery = RECOVERY }
  end)

  it("spreads evenly, survives the death of one, and spreads evenly again", function()
    pool:subscribe(function(event)
      if event.kind:match "^backend_[dr]" or event.kind == "pool_state" then
        town.world.trace(event.kind .. " " .. (event.backend or event.to))
      end
    end)
    town:at(100, trace_spread)
    town:at(200, function() town.servers[2]:kill() trace_spread() end)
    town:at(201, trace_spread)
    town:at(1000, trace_spread)
    town:at(1500, function() town.servers[2]:start() end)
    town:at(3000, trace_spread)
    town:advance(3000)
    assert.trace(town, [[
      [   0] pool_state running
      [ 100] 5/5/5
      [ 200] 5/5/5
      [ 201] 5/0/5
      [ 350] backend_dead db2
      [1000] 7/0/7
      [2550] backend_revived db2
      [3000] 5/5/5]])
    assert.log(town, "all", [[
      [   0] info: cueball db: running (was starting)
      [ 350] warn: cueball db: backend db2 is dead after 3 attempts, the last one failed: connection refused
      [2550] info: cueball db: backend db2 is alive again: a connection lasted]])
    local by_key = {}
    for _, backend in ipairs(pool:backends()) do by_key[backend.key] = backend.total .. "/" .. backend.idle end
    assert.same({ db1 = "5/5", db2 = "5/5", db3 = "5/5" }, by_key)
    for number = 1, 3 do assert.equal(5, town.servers[number].connections) end
    town:stop()
  end)

  it("goes through them evenly", function()
    town:advance(100)
    local counts = { db1 = 0, db2 = 0, db3 = 0 }
    for _ = 1, 300 do
      local lease = pool:claim()
      counts[lease:backend().key] = counts[lease:backend().key] + 1
      lease:release()
    end
    assert.same({ db1 = 100, db2 = 100, db3 = 100 }, counts)
    town:stop()
  end)

  it("tells claimers in the middle of it, and loses none", function()
    local replies, told, open_claims = 0, 0, 0
    local function claimer(number)
      for _ = 1, 20 do
        open_claims = open_claims + 1
        local ok = pcall(pool.with, pool, function(connection)
          local text = "request " .. number .. "\n"
          assert(connection:send(text))
          local line, message = connection:receive "*l"
          if not line then error(message, 0) end
          assert.equal("request " .. number, line)
        end)
        if ok then replies = replies + 1 else told = told + 1 end
        open_claims = open_claims - 1
        town.world.sleep(1)
      end
    end
    for number = 1, 30 do town.world.spawn(claimer, number) end
    town:at(10, function() town.servers[2]:kill() end)
    town:at(400, function() town.servers[2]:start() end)
    town:advance(10000)
    assert.same({ 600, 0 }, { replies + told, open_claims })
    assert.is_true(told >= 1 and told <= 5, told .. " were told of a failure")
    assert.equal("5/5/5", town:spread())
    assert.equal("", town:log "error")
    town:stop()
  end)

  it("is failed when all are dead, and runs again by itself", function()
    town:advance(100)
    for _, server in ipairs(town.servers) do server:kill() end
    town:advance(300)
    assert.equal("failed", pool:state())
    assert.equal(3, pool:stats().dead_backends)
    local one = "db%d %(connection refused; for 150 ms%)"
    assert.matches("^pool db has failed: dead: " .. one .. ", " .. one .. ", " .. one .. "$", (select(2, pool:try_claim())))
    for _, server in ipairs(town.servers) do server:start() end
    town:advance(1000)
    assert.equal("failed", pool:state()) -- they accept, which is no proof yet
    town:advance(1000)
    assert.equal("running", pool:state())
    assert.equal("5/5/5", town:spread())
    town:stop()
  end)
end)

describe("weights", function()
  it("share the connections out", function()
    town = sim_pool.new { servers = 3 }
    town:open { max_connections = 12, resolver = cueball.resolver.static {
      sim_pool.backend(1), sim_pool.backend(2, { weight = 2 }), sim_pool.backend(3, { weight = 3 }),
    } }
    town:advance(10)
    assert.equal("2/4/6", town:spread())
    town:stop()
  end)
end)

describe("stats", function()
  local NOW = [[ total idle busy connecting backing_off checking closing waiting backends dead_backends ejected_backends
    target overloaded memory_bytes paused paused_ms drained_backends ]]
  local COUNTERS = [[ waiting_max claims granted granted_at_once claim_timeouts claims_refused claims_cancelled released leases_closed
    leases_failed leases_revoked attempts opened open_failures open_timeouts lost closed checks checks_failed plans shuffles
    backend_deaths ejections
    closed_lost closed_fail closed_unfit closed_worn closed_timeout closed_close closed_owner closed_idle closed_lifetime
    closed_max_uses closed_renew closed_plan closed_removed closed_stop closed_drain closed_killed ]]
  local TIMES = [[ wait_ms_p50 wait_ms_p90 wait_ms_p99 wait_ms_p999 wait_ms_max
    lease_ms_p50 lease_ms_p90 lease_ms_p99 lease_ms_p999 lease_ms_max
    create_ms_p50 create_ms_p90 create_ms_p99 create_ms_p999 create_ms_max ]]

  before_each(function()
    town = sim_pool.new { servers = 2 }
    pool = town:open { max_connections = 2, max_waiters = 3, recovery = RECOVERY }
  end)

  it("is one flat table of numbers, with the documented names and no others", function()
    local stats = pool:stats()
    for name in (NOW .. COUNTERS .. TIMES):gmatch "%S+" do
      assert.equal("number", type(stats[name]), name)
      stats[name] = nil
    end
    assert.same({}, stats)
    town:stop()
  end)

  it("counts what happened", function()
    local owner = pool:owner()
    town:claim "alice"
    town:claim("bob", { owner = owner })
    town:advance(1)
    town:claim("carol", { timeout_ms = 20 })
    local dave = town:claim "dave"
    town:claim "erin"
    town:claim "frank"
    pool:try_claim()
    town:advance(30)
    town.world.kill(dave)
    assert.equal(1, pool:stats().waiting)
    town:release "alice"
    owner:gone()
    town:advance(10)
    town:close "erin"
    town:advance(1)
    pool:claim():fail()
    local is, was = pool:stats(), {
      claims = 8, granted = 4, granted_at_once = 1, claim_timeouts = 2, claims_refused = 1, claims_cancelled = 1,
      waiting = 0, waiting_max = 3,
      released = 1, leases_closed = 1, leases_failed = 1, leases_revoked = 1, closed = 3, lost = 0, attempts = 4, opened = 4, backends = 2,
      total = 2, idle = 1, busy = 0, backing_off = 1, connecting = 0, checking = 0, closing = 0, dead_backends = 0,
      open_failures = 0, open_timeouts = 0, checks = 0, checks_failed = 0, backend_deaths = 0,
      target = 2, ejected_backends = 0, ejections = 0, overloaded = 0,
    }
    for name, value in pairs(was) do assert.equal(value, is[name], name) end
    assert.equal(is.claims, is.granted + is.claim_timeouts + is.claims_refused + is.claims_cancelled + is.waiting)
    assert.equal(is.total, is.idle + is.busy + is.connecting + is.backing_off + is.checking + is.closing)
    town:stop()
  end)

  it("measures waits and leases to 5 %", function()
    pool:set { max_connections = 1, max_waiters = false }
    town:advance(1)
    for number = 1, 100 do
      town.world.spawn(function()
        pool:with(function() town.world.sleep(number) end)
      end)
    end
    town:advance(100000)
    local stats = pool:stats()
    local function near(name, expected)
      assert.is_true(math.abs(stats[name] - expected) <= expected * 0.05, ("%s is %g, not %g"):format(name, stats[name], expected))
    end
    -- The k-th lease lasts k ms, and the k-th claim waits for the k - 1 before it.
    near("lease_ms_p50", 50)
    near("lease_ms_p90", 90)
    near("lease_ms_p99", 99)
    near("lease_ms_max", 100)
    near("wait_ms_p50", 50 * 49 / 2)
    near("wait_ms_p90", 90 * 89 / 2)
    near("wait_ms_p99", 99 * 98 / 2)
    near("wait_ms_max", 100 * 99 / 2)
    town:stop()
  end)
end)

describe("last_error and backends", function()
  it("tell what went wrong last, and per backend until it is well", function()
    town = sim_pool.new { servers = 2 }
    town.servers[1]:stop()
    pool = town:open { max_connections = 2, recovery = RECOVERY }
    assert.is_nil(pool:last_error())
    town:advance(10)
    local function errors()
      local by_key = {}
      for _, backend in ipairs(pool:backends()) do by_key[backend.key] = backend.error or "none" end
      return by_key
    end
    assert.same({ db1 = "connection refused", db2 = "none" }, errors())
    assert.equal("db1: connection refused", pool:last_error())
    town.servers[1]:start()
    town:advance(200)
    assert.same({ db1 = "none", db2 = "none" }, errors())
    assert.equal("db1: connection refused", pool:last_error())
    town:stop()
  end)

  it("keep what it was, and how long ago, where all is well again, as long as the backend is known", function()
    town = sim_pool.new { servers = 2 }
    local sink
    pool = town:open { max_connections = 4, connect = sim_pool.factory(), rebalance_delay_ms = 0, resolver = function(given)
      sink = given
      sink:set(sim_pool.backends(1, 2))
    end }
    town:advance(10)
    local function last_of(key)
      for _, backend in ipairs(pool:backends()) do
        if backend.key == key then return { backend.last_error, backend.last_error_ago_ms, backend.error } end
      end
    end
    local lease = pool:claim()
    local key = lease:backend().key
    local other = key == "db1" and "db2" or "db1"
    lease:fail "the disk is full"
    town:advance(1000)
    assert.same({ "the disk is full", 1000 }, last_of(key))
    assert.same({}, last_of(other))
    town:advance(500)
    assert.equal(1500, last_of(key)[2])
    sink:set(sim_pool.backends(other == "db1" and 1 or 2, other == "db1" and 1 or 2))
    town:advance(10)
    sink:set(sim_pool.backends(1, 2))
    town:advance(10)
    assert.same({}, last_of(key))
    town:stop()
  end)

  it("describe each backend, removed ones last", function()
    local sink
    town = sim_pool.new { servers = 2 }
    pool = town:open { max_connections = 4, connect = sim_pool.factory(), rebalance_delay_ms = 0, resolver = function(given)
      sink = given
      sink:set { sim_pool.backend(1, { name = "one", weight = 1 }), sim_pool.backend(2) }
    end }
    local lease = pool:claim()
    local key = lease:backend().key
    sink:remove(key)
    town:advance(1)
    local list = pool:backends()
    assert.equal(2, #list)
    assert.same({ key, 1, 0, 1, 0, true, false, false, 0 },
      { list[2].key, list[2].total, list[2].idle, list[2].busy, list[2].connecting, list[2].removed, list[2].dead, list[2].ejected,
        list[2].latency_ms })
    assert.same({ 4, false }, { list[1].total, list[1].removed })
    lease:release()
    assert.equal(1, #pool:backends())
    town:stop()
  end)
end)

describe("backends", function()
  it("tells which are left out, and with p2c how slow each is, and how often it works", function()
    town = sim_pool.new { servers = 2 }
    pool = town:open { max_connections = 2, connect = sim_pool.factory(), balance = "p2c", outlier = { consecutive = 1 } }
    town:advance(1)
    local function fields()
      local by_key = {}
      for _, backend in ipairs(pool:backends()) do by_key[backend.key] = { backend.ejected, backend.latency_ms, backend.success_rate } end
      return by_key
    end
    assert.same({ db1 = { false, 0, 1 }, db2 = { false, 0, 1 } }, fields())
    local lease = pool:claim()
    local key = lease:backend().key
    town:advance(7)
    lease:fail "no"
    town:advance(1)
    local all = fields()
    local rate = table.remove(all[key], 3)
    assert.same({ [key] = { true, 7 }, [key == "db1" and "db2" or "db1"] = { false, 0, 1 } }, all)
    assert.is_true(rate > 0 and rate <= 0.76, rate)
    town:stop()
  end)
end)

describe("a pool without backends", function()
  it("lets claims wait until there are some; the last one removed does not fail it", function()
    local sink
    town = sim_pool.new()
    pool = town:open { resolver = function(given) sink = given end, connect = sim_pool.factory(), rebalance_delay_ms = 10 }
    assert.equal("starting", pool:state())
    town:claim "alice"
    town:at(50, function() sink:add(sim_pool.backend(1)) end)
    town:at(100, function() town:release "alice" sink:remove "db1" end)
    town:at(150, function() town:claim "bob" end)
    town:at(200, function() sink:add(sim_pool.backend(1)) end)
    town:advance(300)
    assert.trace(town, [[
      [  50] grant alice: db1
      [ 100] release alice
      [ 200] grant bob: db1]])
    assert.equal("running", pool:state())
    assert.log(town, "all", "[  50] info: cueball db: running (was starting)")
    town:release "bob"
    town:stop()
  end)
end)

describe("very many backends", function()
  it("come and go at once, more than the journal keeps", function()
    local list = {}
    for number = 1, 2000 do list[number] = { address = "10.1." .. math.floor(number / 250) .. "." .. number % 250, port = 1 } end
    town = sim_pool.new()
    local sink
    pool = town:open { connect = sim_pool.factory(), resolver = function(given)
      sink = given
      sink:set(list)
    end }
    assert.equal(2000, pool:stats().backends)
    sink:set {}
    town:advance(1000)
    assert.same({ 0, 0 }, { pool:stats().backends, pool:stats().total })
    sink:set { list[1] }
    town:advance(1000)
    assert.equal(3, pool:stats().idle)
    town:stop()
  end)
end)
