--- Claims: what waits, what is refused and with which words, and what becomes of a claim whose task is killed.
local collect = require "spec.support.collect"
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"

local town

local function open(options, servers)
  town = sim_pool.new { servers = servers or 1 }
  return town:open(options)
end

describe("a claim", function()
  it("is granted at once when a connection is idle, in a task or not", function()
    local pool = open()
    town:advance(10)
    local lease = pool:claim()
    assert.equal("db1", lease:backend().key)
    assert.equal("10.0.0.1", lease:backend().address)
    assert.is_truthy(lease.connection.send)
    assert.is_true(lease:release())
    town:run(function() assert(pool:claim { timeout_ms = 0 }):release() end)
    assert.equal(2, pool:stats().granted_at_once)
    town:stop()
  end)

  it("waits in its task until a connection comes back, the oldest first", function()
    open { max_connections = 1 }
    for _, who in ipairs { "alice", "bob", "carol" } do town:claim(who) end
    town:at(20, function() town:release "alice" end)
    town:at(30, function() town:release "bob" end)
    town:advance(30)
    assert.trace(town, [[
      [   0] grant alice: db1
      [  20] release alice
      [  20] grant bob: db1
      [  30] release bob
      [  30] grant carol: db1]])
    town:release "carol"
    town:stop()
  end)

  it("talks through the connection it was granted", function()
    local pool = open()
    local reply = town:run(function()
      local lease = assert(pool:claim())
      lease.connection:send "ping\n"
      local line = lease.connection:receive "*l"
      lease:release()
      return line
    end)
    assert.equal("ping", reply)
    town:stop()
  end)

  it("is refused at its deadline though a connection comes back that instant", function()
    open { max_connections = 1 }
    town:claim "alice"
    town:at(50, function() town:release "alice" end)
    town:advance(10)
    town:claim("bob", { timeout_ms = 40 })
    town:advance(100)
    assert.trace(town, [[
      [   0] grant alice: db1
      [  50] release alice
      [  50] refuse bob: claim_timeout]])
    assert.equal("claim timed out after 40 ms (0 ahead, 0 busy): 40 ms every connection was busy", town.refused) -- told after alice
    assert.equal(1, town.pool:stats().idle)
    town:stop()
  end)

  it("has the pool's time limit unless it has its own, and none if that is false", function()
    open { max_connections = 1, claim_timeout_ms = 30 }
    town:claim "alice"
    town:advance(1)
    town:claim "bob"
    town:claim("carol", { timeout_ms = 12.5 })
    town:claim("dave", { timeout_ms = false })
    town:advance(100000)
    assert.trace(town, [[
      [   0] grant alice: db1
      [  13] refuse carol: claim_timeout
      [  31] refuse bob: claim_timeout]])
    assert.equal(1, town.pool:stats().waiting)
    town:release "alice"
    town:advance(0)
    assert.truthy(town.leases.dave)
    town:release "dave"
    town:stop()
  end)

  it("outside of a task cannot wait: that is the caller's mistake", function()
    local pool = open { max_connections = 1 }
    local text = "pool:claim: no connection is idle, and only a task can wait for one: call it inside cueball.run or cueball.spawn"
    assert.blames(text, function() pool:claim() end)
    assert.blames(text, function() pool:claim { timeout_ms = 5 } end)
    assert.blames(text, function() pool:with(function() end) end)
    local lease, message, name = pool:claim { timeout_ms = 0 }
    assert.is_nil(lease)
    assert.equal("claim_timeout", name)
    assert.equal("claim timed out after 0 ms (0 ahead, 0 busy, 1 connecting)", message)
    pool:set { claim_timeout_ms = 0 }
    assert.equal("claim_timeout", (select(3, pool:claim())))
    town:stop()
  end)

  it("waits in a coroutine made inside the task, as the task itself would", function()
    local pool = open { max_connections = 1 }
    town:run(function()
      local each = coroutine.wrap(function()
        for number = 1, 3 do
          coroutine.yield(number, pool:claim())
        end
      end)
      local held
      for number, lease in each do
        town.world.trace("%d from %s, %d wait", number, lease:backend().key, pool:stats().waiting)
        held = lease
        if number == 3 then break end
        town.world.spawn(function() town.world.sleep(20) held:release() end)
      end
      held:release()
    end)
    assert.trace(town, [[
      [   0] 1 from db1, 0 wait
      [  20] 2 from db1, 0 wait
      [  40] 3 from db1, 0 wait]])
    town:stop()
  end)

  it("raises where it cannot wait, at the caller's line, and leaves nothing in the queue", function()
    local pool = open { max_connections = 1, drain_timeout_ms = 0 }
    local text = "pool:claim: no connection is idle, and a claim cannot wait here: inside a function that C code calls "
      .. "(a comparison of table.sort, a replacement of string.gsub), or in a coroutine that its host does not know"
    local seen = 0
    town:run(function()
      local first = pool:claim()
      for _, way in ipairs {
        function(fn) table.sort({ 2, 1 }, fn) end,
        function(fn) string.gsub("x", "x", fn) end,
        function(fn) coroutine.wrap(function() table.sort({ 2, 1 }, fn) end)() end,
        function(fn) table.sort({ 2, 1 }, function() coroutine.wrap(fn)() end) end,
      } do
        way(function()
          seen = seen + 1
          assert.blames(text, function() pool:claim() end)
          assert.blames(text, function() pool:with(function() end) end)
        end)
      end
      assert.equal(0, pool:stats().waiting)
      first:release()
      -- What is idle needs no wait.
      table.sort({ 2, 1 }, function(a, b) return pool:with(function() return a < b end) end)
      pool:claim({ timeout_ms = 1 }):release()
    end)
    assert.equal(4, seen)
    town:stop()
  end)
end)

describe("try_claim", function()
  it("takes what is idle, or says that nothing is", function()
    local pool = open { max_connections = 2 }
    assert.same({ nil, "no connection is idle", "claim_timeout" }, { pool:try_claim() })
    town:advance(10)
    local one, two = pool:try_claim(), pool:try_claim()
    assert.equal("db1", one:backend().key)
    assert.are_not.equal(one.connection, two.connection)
    assert.same({ nil, "no connection is idle", "claim_timeout" }, { pool:try_claim() })
    two:release()
    assert.truthy(pool:try_claim():release())
    one:release()
    town:stop()
    assert.same({ nil, "pool db is stopped", "pool_stopping" }, { pool:try_claim() })
  end)
end)

describe("the refusal of a claim", function()
  it("says how long, how many were before, and where the connections are", function()
    local pool = open { max_connections = 2 }
    town:claim "alice"
    town:advance(1)
    town:claim "bob"
    town:claim("carol", { timeout_ms = 90 })
    town:claim("dave", { timeout_ms = 99.5 })
    town:advance(100)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   1] grant bob: db1
      [  91] refuse carol: claim_timeout
      [ 100] refuse dave: claim_timeout]])
    assert.matches("^claim timed out after 99.5 ms %(1 ahead, 2 busy%): 99.5 ms every connection was busy; the oldest lease, on db1, "
      .. "is held 100%.?%d* ms by task %d+ %(over%)$", town.refused)
    assert.equal(2, pool:stats().claim_timeouts)
    town:release "alice"
    town:release "bob"
    town:stop()
  end)

  it("names what is dead and why", function()
    open({ max_connections = 2, recovery = { default = { attempts = 2, delay_ms = 10, spread = 0 } } }, 2)
    town.servers[2]:stop()
    town:claim "alice"
    town:advance(1)
    town:claim("bob", { timeout_ms = 200 })
    town:advance(200)
    town:claim("carol", { timeout_ms = 200 })
    town:advance(200)
    local words = "claim timed out after 200 ms (0 ahead, 1 busy, 1 connecting, dead: db2 (connection refused; for 391 ms)): "
      .. "in 21 turns, 199 ms every connection was busy, 1 ms every connection was busy and more were opening; the oldest lease, on db1, "
      .. "is held 400.9 ms by task "
    assert.equal(words, town.refused:sub(1, #words))
    town:release "alice"
    town:stop()
  end)

  it("is overloaded when max_waiters wait already", function()
    open { max_connections = 1, max_waiters = 1 }
    for _, who in ipairs { "alice", "bob", "carol" } do town:claim(who) end
    assert.trace(town, [[
      [   0] refuse bob: overloaded
      [   0] refuse carol: overloaded]])
    assert.equal("overloaded: 1 claims wait already (0 busy, 1 connecting)", town.refused)
    town:advance(10)
    town:release "alice"
    town:stop()
  end)

  it("is no_backends only where that was asked for", function()
    open { resolver = function() end }
    town:claim("alice", { error_on_empty = true })
    assert.equal("pool db: no backend is known", town.refused)
    town:claim("bob", { timeout_ms = 10 })
    town:advance(20)
    assert.trace(town, [[
      [   0] refuse alice: no_backends
      [  10] refuse bob: claim_timeout]])
    assert.equal("claim timed out after 10 ms (0 ahead, 0 busy, no backend is known): 10 ms no backend was known", town.refused)
    town:stop()
  end)

  it("is pool_failed with every backend and its reason", function()
    local connect = function(backend) return nil, "no " .. backend.key .. " here" end
    local pool = open({ connect = connect, recovery = { default = { attempts = 1 } } }, 2)
    town:claim "alice"
    town:advance(0)
    assert.equal("failed", pool:state())
    assert.trace(town, "[   0] refuse alice: pool_failed")
    local in_order = {}
    for _, backend in ipairs(pool:backends()) do
      in_order[#in_order + 1] = ("%s (no %s here)"):format(backend.key, backend.key)
    end
    local reasons = "dead: " .. table.concat(in_order, ", ")
    assert.equal("pool db has failed: " .. reasons, town.refused)
    assert.same({ nil, "pool db has failed: " .. reasons, "pool_failed" }, { pool:try_claim() })
    assert.log(town, "error", "[   0] cueball db: failed (was starting): " .. reasons)
    town:stop()
  end)

  it("is pool_failed with the resolver's reason where no backend was ever known", function()
    open { resolver = function(sink) sink:fail "no such name" end }
    town:claim "alice"
    assert.equal("pool db has failed: the resolver failed: no such name", town.refused)
    assert.log(town, "error", "[   0] cueball db: failed (was starting): the resolver failed: no such name")
    town:stop()
  end)

  it("is pool_stopping once stop was called", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    town:claim "bob"
    pool:stop()
    town:claim "carol"
    assert.equal("pool db is stopping", town.refused)
    town:advance(1)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   1] refuse carol: pool_stopping
      [   1] refuse bob: pool_stopping]])
    town:release "alice"
    town:stop()
  end)
end)

describe("with", function()
  local pool
  before_each(function()
    pool = open { max_connections = 1, connect = sim_pool.factory() }
  end)

  it("gives the connection and the lease, returns all that fn returns, and releases", function()
    local results = { n = 0 }
    local function keep(...) results = { n = select("#", ...), ... } end
    keep(pool:with(function(connection, lease)
      assert.equal(1, connection.id)
      assert.equal(connection, lease.connection)
      assert.equal(1, pool:stats().busy)
      return nil, 2, nil, nil
    end))
    assert.same({ n = 4, nil, 2, nil, nil }, results)
    assert.equal(1, pool:stats().idle)
    town:stop()
  end)

  it("closes the connection if fn throws, blames nobody, and rethrows what it threw, whatever that is", function()
    local thrown = { "a table" }
    local ok, message = pcall(pool.with, pool, function() error(thrown) end)
    assert.is_false(ok)
    assert.equal(thrown, message)
    assert.same({ 0, 1 }, { pool:stats().leases_failed, pool:stats().leases_closed })
    town:advance(1)
    ok, message = pcall(pool.with, pool, function() error("as it is", 0) end)
    assert.same({ false, "as it is" }, { ok, message })
    assert.is_nil(pool:last_error())
    town:advance(1)
    assert.same({ false, nil }, { pcall(pool.with, pool, function() error() end) })
    town:advance(1)
    local stats = pool:stats()
    assert.same({ 0, 3, 1, 0 }, { stats.leases_failed, stats.leases_closed, stats.idle, stats.backend_deaths })
    town:stop()
  end)

  it("lets the lease be ended inside", function()
    assert.equal("done", pool:with(function(_, lease) lease:release() return "done" end))
    assert.equal("done", pool:with(function(_, lease) lease:close() return "done" end))
    assert.is_false(pcall(pool.with, pool, function(_, lease) lease:release() error "late" end))
    local stats = pool:stats()
    assert.same({ 1, 0, 0, 1 }, { stats.idle, stats.busy, stats.leases_failed, stats.leases_closed })
    town:stop()
  end)

  it("waits as claim does, may wait inside, and returns its refusals", function()
    town:run(function()
      local seen = {}
      for number = 1, 3 do
        town.world.spawn(function()
          local result = pool:with(function(connection)
            town.world.sleep(10)
            return number .. " on " .. connection.id
          end)
          seen[#seen + 1] = result
        end)
      end
      local line = debug.getinfo(1, "l").currentline
      local _, message, name = pool:with(error, { timeout_ms = 5 })
      assert.equal("claim_timeout", name)
      assert.matches(("^claim timed out after 5 ms %%(2 ahead, 1 busy%%): 5 ms every connection was busy; the oldest lease, on db1, is "
        .. "held 5 ms by task %%d+, claimed at spec/pool/claim_spec.lua:%d, now at "
        .. "spec/pool/claim_spec.lua:%d$"):format(line - 7, line - 6), message)
      town.world.sleep(100)
      assert.same({ "1 on 1", "2 on 1", "3 on 1" }, seen)
    end)
    town:stop()
  end)

  it("wants a function", function()
    assert.blames("pool:with: expected a function, got nil", function() pool:with() end)
    assert.blames("pool:with: expected a function, got \"f\"", function() pool:with "f" end)
    town:stop()
  end)
end)

describe("the options of a claim", function()
  it("are checked at the caller's line", function()
    local pool = open()
    local timeout = "pool:claim: option 'timeout_ms' must be a number of milliseconds from 0 to 86400000, or false for none, not "
    assert.blames("pool:claim: unknown option 'timeout'; did you mean 'timeout_ms'?", function() pool:claim { timeout = 1 } end)
    assert.blames("pool:claim: unknown option 'priority'; there are deadline_ms, error_on_empty, owner, timeout_ms",
      function() pool:claim { priority = 1 } end)
    assert.blames(timeout .. "-1", function() pool:claim { timeout_ms = -1 } end)
    assert.blames(timeout .. "nan", function() pool:claim { timeout_ms = 0 / 0 } end)
    assert.blames(timeout .. "86400001", function() pool:claim { timeout_ms = 86400001 } end)
    assert.blames(timeout .. "\"1\"", function() pool:claim { timeout_ms = "1" } end)
    assert.blames("pool:claim: option 'error_on_empty' must be true or false, not 1", function() pool:claim { error_on_empty = 1 } end)
    assert.blames("pool:claim: option 'owner' must be of pool:owner(), not \"me\"", function() pool:claim { owner = "me" } end)
    assert.blames("pool:claim: expected a table of options, got 50", function() pool:claim(50) end)
    assert.blames(timeout .. "-1", function() pool:with(print, { timeout_ms = -1 }) end)
    assert.equal(0, pool:stats().claims)
    town:stop()
  end)
end)

describe("the task of a claim", function()
  it("takes its claim along when it is killed while it waits", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    local bob = town:claim "bob"
    town:claim "carol"
    town.world.kill(bob)
    assert.equal(1, pool:stats().waiting)
    assert.equal(1, pool:stats().claims_cancelled)
    town:release "alice"
    town:advance(1)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   1] release alice
      [   1] grant carol: db1]])
    town:release "carol"
    town:stop()
  end)

  it("gives the connection back when it is killed between the grant and its turn", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    local bob = town:claim "bob"
    town:release "alice"
    assert.equal(1, pool:stats().busy)
    town.world.kill(bob)
    assert.equal(0, pool:stats().busy)
    assert.equal(1, pool:stats().idle)
    town:advance(1)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   1] release alice]])
    town:stop()
  end)

  it("passes it on to who waits next", function()
    open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    local bob = town:claim "bob"
    town:claim "carol"
    town:release "alice"
    town.world.kill(bob)
    town:advance(1)
    assert.trace(town, [[
      [   0] grant alice: db1
      [   1] release alice
      [   1] grant carol: db1]])
    town:release "carol"
    town:stop()
  end)
end)

describe("the task of a with", function()
  it("has its connection closed when it is killed: who knows what it was in the middle of", function()
    local factory = sim_pool.factory()
    local pool = open { max_connections = 1, connect = factory }
    local task = town.world.spawn(function() pool:with(function() town.world.sleep(1e6) end) end)
    town:advance(10)
    assert.equal(1, pool:stats().busy)
    town.world.kill(task)
    assert.same({ 1 }, factory.closed)
    town:advance(1)
    assert.same({ 1, 0, 1 }, { pool:stats().idle, pool:stats().busy, pool:stats().leases_closed })
    -- One that has gone on is no longer tied to it, and does not keep its lease either.
    local leases = setmetatable({}, { __mode = "k" })
    local ended = town.world.spawn(function()
      pool:with(function(_, lease) leases[lease] = true end)
      coroutine.yield()
    end)
    collect()
    assert.is_nil(next(leases))
    town.world.kill(ended)
    assert.same({ 1 }, factory.closed)
    town:stop()
  end)
end)

describe("the face of the package", function()
  it("has run, spawn and sleep of the default host, and says which parts there are not", function()
    local host = require "cueball.host"
    local before = host.default
    local world = sim_pool.new().world
    host.default = function() return world end -- luacheck: ignore
    local ok, message = pcall(function()
      local seen = {}
      assert.equal("result", cueball.run(function(argument)
        cueball.spawn(function() cueball.sleep(5) seen[#seen + 1] = world.time_ms() end)
        cueball.sleep(10)
        seen[#seen + 1] = argument
        return "result"
      end, "argument"))
      assert.same({ 5, "argument" }, seen)
    end)
    host.default = before -- luacheck: ignore
    assert(ok, message)
    assert.matches("^%d+%.%d+%.%d+$", cueball.version)
    assert.blames("there is no cueball.resolver.bogus", function() return (cueball.resolver.bogus) end)
  end)
end)
