--- The connection factory's contract: what it is given, what it may return, and what becomes of one that throws or hangs.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"

local RECOVERY = { default = { attempts = 3, timeout_ms = 200, delay_ms = 100, spread = 0 } }

local town, pool

local function open(connect, options)
  town = town or sim_pool.new()
  pool = town:open({ max_connections = 1, connect = connect, recovery = RECOVERY }, options)
  return pool
end

before_each(function() town = sim_pool.new() end)

describe("a factory", function()
  it("is a function, or a table with connect", function()
    open(function() return "a connection" end)
    assert.equal("a connection", pool:claim().connection)
    pool:stop()
    open { connect = function() return "another" end }
    assert.equal("another", pool:claim().connection)
  end)

  it("is given the backend and the context", function()
    local given
    open({ connect = function(...)
      given = { ... }
      return true
    end }, { name = "orders" })
    local backend, context = given[1], given[2]
    assert.equal(2, #given)
    assert.same({ key = "db1", name = "db1", address = "10.0.0.1", port = 7000, weight = 1, priority = 0 }, backend)
    assert.equal(town.world, context.host)
    assert.equal(200, context.timeout_ms)
    assert.equal(1, context.attempt)
    assert.same({ pool = "cueball:orders:0", pool_size = 1 }, context.socket_options)
    context.log("warn", "said by the factory")
    assert.log(town, "warn", "[   0] cueball orders: said by the factory")
    town:stop()
  end)

  it("makes connections of any type, and closes those that have a method for it", function()
    local closed = {}
    local value
    local function connect() return value end
    local with_close = { close = function(self) closed[#closed + 1] = self end }
    for _, one in ipairs { 7, "text", true, print, coroutine.create(print), {}, with_close, io.stderr } do
      value = one
      open(connect)
      assert.equal(value, pool:with(function(connection) return connection end))
      local lease = pool:claim()
      assert.equal(value, lease.connection)
      assert.is_true(lease:close())
      assert.equal("stale", (select(3, lease:release())))
      assert.equal("", town:log "warn")
      town:stop()
    end
    assert.same({ with_close, with_close }, closed)
  end)

  it("may wait", function()
    open(function(_, context)
      context.host.sleep(30)
      return {}
    end)
    town:claim "alice"
    town:advance(100)
    assert.trace(town, "[  30] grant alice: db1")
    town:release "alice"
    town:stop()
  end)
end)

describe("an attempt that fails", function()
  -- Three attempts, each at the time it was made, then the death of the backend.
  local function assert_failed(message, errors)
    town:advance(299)
    assert.log(town, "debug", ([[
      [   0] cueball db: attempt 1 to connect to db1 failed: %s
      [   0] cueball db: backend db1 added: static list
      [ 100] cueball db: attempt 2 to connect to db1 failed: %s]]):format(message, message))
    town:advance(1)
    assert.log(town, "warn", ("[ 300] cueball db: backend db1 is dead after 3 attempts, the last one failed: %s"):format(message))
    assert.equal(errors or ("[ 300] cueball db: failed (was starting): dead: db1 (%s)"):format(message), town:log "error")
    assert.equal("db1: " .. message, pool:last_error())
    assert.equal(message, pool:backends()[1].error)
    assert.equal("failed", pool:state())
    assert.equal(3, pool:stats().open_failures)
    town:stop()
  end

  it("returns nil and a message", function()
    open(function() return nil, "no route" end)
    assert_failed "no route"
  end)

  it("returns nothing, false, or a message that is no string", function()
    open(function() end)
    assert_failed "the connection factory returned nothing"
    town = sim_pool.new()
    open(function() return false end)
    assert_failed "the connection factory returned nothing"
    town = sim_pool.new()
    open(function() return nil, 404 end)
    assert_failed "404"
  end)

  it("is refused by the server", function()
    town.servers[1]:stop()
    open(cueball.connection.tcp {})
    town:advance(1000)
    assert.log(town, "warn", "[ 300] cueball db: backend db1 is dead after 3 attempts, the last one failed: connection refused")
    town:stop()
  end)

  it("throws: with the traceback in the log", function()
    open(function() error "out of luck" end)
    local where = "factory_spec.lua:%d+: out of luck"
    local first = town.world.logs[1]
    assert.equal("error", first.level)
    assert.matches("^cueball db: connecting to db1 threw: [^\n]*" .. where .. "\nstack traceback:\n.*factory_spec.lua", first.message)
    assert.matches("^db1: .*" .. where .. "$", pool:last_error())
    town:advance(300)
    assert.matches("dead after 3 attempts, the last one failed: [^\n]*" .. where .. "$", town:log "warn")
    assert.equal(3, pool:stats().open_failures)
    town:stop()
  end)

  it("throws what is no string", function()
    open(function() error { code = 7 } end)
    assert.matches("connecting to db1 threw: table: 0x%x+$", town:log "error")
    town:stop()
  end)
end)

describe("an attempt that takes too long", function()
  it("is ended wherever it waits, and its socket closed", function()
    local hangs = {
      function() coroutine.yield() end,
      function(_, context) context.host.sleep(1e6) end,
      function(_, context) context.host.waiter():wait() end,
      function(backend, context)
        local sock = context.host.tcp()
        assert(sock:connect(backend.address, backend.port))
        sock:receive "*l"
      end,
      function(_, context) while true do context.host.sleep(7) end end,
    }
    for _, hang in ipairs(hangs) do
      town = sim_pool.new { reply = false }
      open(function(backend, context)
        hang(backend, context)
        error "is not reached"
      end)
      town:advance(199.9)
      assert.equal(0, pool:stats().open_timeouts)
      town:advance(1500.2) -- 200 ms, a pause of 100, 400 ms, a pause of 200, 800 ms: then it is dead
      assert.log(town, "debug", [[
        [   0] cueball db: backend db1 added: static list
        [ 200] cueball db: the attempt to connect to db1 took too long
        [ 700] cueball db: the attempt to connect to db1 took too long
        [1700] cueball db: the attempt to connect to db1 took too long]])
      assert.log(town, "warn",
        "[1700] cueball db: backend db1 is dead after 3 attempts, the last one took too long: the attempt took too long")
      assert.equal("db1: the attempt took too long", pool:last_error())
      town:advance(50)
      assert.equal(0, town.servers[1].connections)
      town:stop()
    end
  end)

  it("does so on the network", function()
    for _, behaviour in ipairs { { hang = true }, { connect_delay = 1e6 } } do
      town = sim_pool.new(behaviour)
      open(cueball.connection.tcp {})
      town:advance(1700)
      assert.equal("dead after 3 attempts, the last one took too long: timeout", town:log("warn"):match "dead.*")
      assert.equal(0, town.servers[1].accepted)
      town:stop()
    end
  end)

  it("does not hold up others", function()
    town = sim_pool.new { servers = 2 }
    open(function(backend)
      if backend.key == "db1" then coroutine.yield() end
      return {}
    end, { max_connections = 2 })
    town:claim "alice"
    town:advance(0)
    assert.trace(town, "[   0] grant alice: db2")
    town:release "alice"
    town:stop()
  end)
end)

describe("closing", function()
  it("that throws is logged, and the connection counts as closed", function()
    open(sim_pool.factory { close = function() error "the peer is rude" end })
    pool:claim():close()
    town:advance(1)
    assert.equal(1, pool:stats().idle)
    assert.matches("^%[   0%] cueball db: closing a connection threw: .*factory_spec.lua:%d+: the peer is rude$", town:log "warn")
    assert.matches("\nstack traceback:\n", town.world.logs[#town.world.logs].message)
    town:stop()
  end)

  it("may wait", function()
    open(sim_pool.factory { close = function() town.world.sleep(50) end })
    town:trace_slots()
    pool:claim():close()
    town:advance(100)
    assert.trace(town, [[
      [   0] slot 0 db1: idle -> busy (claim)
      [   0] slot 0 db1: busy -> closing (close)
      [  50] slot 0 db1: closing -> connecting (closed)
      [  50] slot 0 db1: connecting -> idle (opened)]])
    town:run(function() pool:stop() end)
    assert.equal(150, town.world.time_ms())
    assert.same({}, town.world.leaks())
  end)

  it("that hangs keeps the slot no longer than recovery.default.timeout_ms, and is ended then", function()
    open(sim_pool.factory { close = function() coroutine.yield() end })
    town:trace_slots()
    pool:claim():close()
    town:advance(300)
    assert.trace(town, [[
      [   0] slot 0 db1: idle -> busy (claim)
      [   0] slot 0 db1: busy -> closing (close)
      [ 200] slot 0 db1: closing -> connecting (timeout)
      [ 200] slot 0 db1: connecting -> idle (opened)]])
    assert.log(town, "warn", "[ 200] cueball db: closing a connection to db1 took too long")
    assert.same(3, #town.world.leaks()) -- the pool's alarms: the task that closed is ended
    town:run(function() pool:stop() end)
    assert.equal(500, town.world.time_ms())
    assert.log(town, "warn", [[
      [ 200] cueball db: closing a connection to db1 took too long
      [ 500] cueball db: closing a connection to db1 took too long]])
    assert.same({}, town.world.leaks())
  end)

  it("is done by the factory that made the connection, also after pool:replace", function()
    local first, second = sim_pool.factory(), sim_pool.factory()
    open(first)
    local lease = pool:claim()
    pool:replace { connect = second }
    lease:close()
    town:advance(1)
    assert.same({ 1 }, first.closed)
    assert.equal(second.made[1], pool:claim().connection)
    pool:stop()
    town:advance(30000)
    assert.same({ 1 }, second.closed)
    town:stop()
  end)
end)

describe("the check", function()
  local answers, asked

  -- A check that answers what `answers` lists, one a time, then true.
  local function open_checked()
    asked = 0
    local factory = sim_pool.factory {
      check = function()
        asked = asked + 1
        local answer = answers[asked]
        if answer then return answer() end
        return true
      end,
    }
    open(factory, { check_interval_ms = 1000, check_timeout_ms = 100 })
    town:trace_slots()
    return factory
  end

  local function lost(cause)
    return ([[
      slot 0 db1: idle -> checking (check)
      slot 0 db1: checking -> closing (%s)
      slot 0 db1: closing -> connecting (closed)
      slot 0 db1: connecting -> idle (opened)]]):format(cause)
  end

  local function trace_without_times()
    return (town.world.trace_text():gsub("%[%s*%d+%] ", "      "))
  end

  it("keeps what is fit", function()
    answers = {}
    open_checked()
    town:advance(5000)
    assert.is_true(asked >= 4)
    assert.equal(1, pool:stats().opened)
    assert.equal(asked, pool:stats().checks)
    town:stop()
  end)

  it("replaces what is not: false, nil and a message, a throw", function()
    for _, one in ipairs {
      { function() return false end, "check failed: not fit" },
      { function() end, "check failed: not fit" },
      { function() return nil, "read only" end, "check failed: read only" },
      { function() error("out of luck", 0) end, "check failed: out of luck", "checking a connection threw: out of luck" },
    } do
      town = sim_pool.new()
      answers = { one[1] }
      local factory = open_checked()
      local message
      pool:subscribe(function(event)
        if event.cause == "unfit" then message = pool:last_error() end
      end)
      town:advance(1100)
      assert.equal(lost "unfit", trace_without_times())
      assert.equal("db1: " .. one[2], message)
      assert.same({ 1 }, factory.closed)
      assert.equal(1, pool:stats().checks_failed)
      assert.equal(one[3] or nil, town:log("error"):match "cueball db: (.*)")
      town:stop()
    end
  end)

  it("is ended when it takes too long", function()
    for _, hang in ipairs { function() coroutine.yield() end, function() town.world.sleep(1e6) return true end } do
      town = sim_pool.new()
      answers = { hang }
      open_checked()
      town:advance(1300)
      assert.equal(lost "timeout", trace_without_times())
      assert.matches("^%[ *%d+%] cueball db: checking a connection to db1 took too long$", town:log "warn")
      assert.equal("db1: the check took too long", pool:last_error())
      town:stop()
    end
  end)

  it("without a check asks whether the connection is broken", function()
    local factory = sim_pool.factory { broken = function(connection) return connection.is_broken end }
    open(factory, { check_interval_ms = 1000 })
    town:advance(1100)
    assert.equal(1, pool:stats().checks)
    assert.equal(0, pool:stats().checks_failed)
    factory.made[1].is_broken = "half closed"
    town:advance(1100)
    assert.equal(1, pool:stats().checks_failed)
    assert.equal("db1: check failed: half closed", pool:last_error())
    town:stop()
  end)
end)

describe("broken", function()
  it("is asked at release, and what is broken is replaced", function()
    local is_broken
    local factory = sim_pool.factory { broken = function(connection) return is_broken and "half closed " .. connection.id end }
    open(factory)
    pool:claim():release()
    assert.same({}, factory.closed)
    town:advance(500)
    is_broken = true
    assert.is_true(pool:claim():release())
    is_broken = false
    assert.same({ 1 }, factory.closed)
    assert.is_nil(pool:last_error()) -- its claimer's doing, as far as is known
    assert.matches("%[ 500%] cueball db: a connection to db1 is not lent again: half closed 1$", town:log "debug")
    assert.equal(2, pool:claim { timeout_ms = 0 }.connection.id)
    assert.same({ 0, 1 }, { pool:stats().lost, pool:stats().closed })
    pool:stop()
  end)

  it("is not asked of what is closed anyway", function()
    local factory = sim_pool.factory { broken = function() error "asked" end }
    open(factory)
    pool:claim():close()
    pool:claim():fail "why"
    assert.equal("", town:log "error")
    town:stop()
  end)

  it("that throws means that it is", function()
    local factory = sim_pool.factory { broken = function() error "cannot tell" end }
    open(factory)
    assert.is_true(pool:claim():release())
    assert.same({ 1 }, factory.closed)
    assert.matches("the connection factory's broken threw: .*factory_spec.lua:%d+: cannot tell$", town:log "error")
    assert.matches("a connection to db1 is not lent again: its factory cannot tell whether it is fit$", town:log "debug")
    town:stop()
  end)
end)

describe("watch", function()
  local watched, factory

  local function open_watched(members)
    watched = {}
    factory = sim_pool.factory {
      watch = function(connection, lost) watched[connection.id] = lost end,
      unwatch = function(connection) watched[connection.id] = nil end,
    }
    for name, value in pairs(members or {}) do factory[name] = value end
    open(factory, { check_interval_ms = 1000, proven_after_ms = 1 })
  end

  it("lasts while the connection is at rest", function()
    open_watched()
    assert.is_function(watched[1])
    local lease = pool:claim()
    assert.same({}, watched)
    lease:release()
    assert.is_function(watched[1])
    town:advance(2500)
    assert.equal(2, pool:stats().checks)
    assert.is_function(watched[1])
    town:stop()
    assert.same({}, watched)
  end)

  it("replaces what is lost at rest, before a claim sees it", function()
    open_watched()
    town:advance(500)
    town:trace_slots()
    watched[1] "reset by peer"
    assert.equal("db1: reset by peer", pool:last_error())
    town:advance(0)
    assert.trace(town, [[
      [ 500] slot 0 db1: idle -> closing (lost)
      [ 500] slot 0 db1: closing -> connecting (closed)
      [ 500] slot 0 db1: connecting -> idle (opened)]])
    assert.same({ 1 }, factory.closed)
    assert.equal(2, pool:claim().connection.id)
    pool:stop()
  end)

  it("may say so more than once, late, or without a reason", function()
    open_watched()
    town:advance(500)
    local lost = watched[1]
    lost()
    assert.equal("db1: the connection was lost", pool:last_error())
    lost "again"
    local lease = pool:claim()
    assert.equal(2, lease.connection.id)
    lost "much later"
    lease:release()
    assert.equal("db1: the connection was lost", pool:last_error())
    assert.same({ 1, 1 }, { pool:stats().lost, pool:stats().idle })
    town:stop()
  end)

  it("notices a server's close through a socket", function()
    open(cueball.connection.tcp {}, { max_connections = 3, proven_after_ms = 1 })
    town:advance(500)
    town.servers[1]:reset_all()
    town:advance(0.1)
    assert.same({ 3, 0 }, { pool:stats().lost, pool:stats().idle })
    town:advance(0.1)
    assert.same({ 3, 3 }, { pool:stats().idle, town.servers[1].connections })
    assert.equal("db1: connection reset by peer", pool:last_error())
    town:claim "alice"
    town:release "alice"
    assert.trace(town, "[ 500] grant alice: db1\n[ 500] release alice")
    town:stop()
  end)

  it("notices bytes nobody asked for", function()
    open(cueball.connection.tcp {}, { proven_after_ms = 1 })
    town:advance(500)
    town.servers[1]:list()[1]:send "surprise"
    town:advance(10)
    assert.equal("db1: unexpected data", pool:last_error())
    assert.equal(2, town.servers[1].accepted)
    town:stop()
  end)

  it("that throws, as unwatch may, is logged and no more", function()
    open_watched { watch = function() error "no watch" end, unwatch = function() error "no unwatch" end }
    town:claim "alice"
    town:release "alice"
    assert.equal(1, pool:stats().idle)
    local lines = town:log "error"
    assert.matches("the connection factory's watch threw: .*: no watch\n", lines)
    assert.matches("the connection factory's unwatch threw: .*: no unwatch\n", lines)
    town:stop()
  end)
end)

describe("a backend that accepts and closes", function()
  it("is tried as one that refuses, by one connection with pauses that grow", function()
    town = sim_pool.new { accept_then_close = true, latency = 0 }
    local tcp = cueball.connection.tcp {}
    local connect = tcp.connect
    tcp.connect = function(...)
      town.world.trace "connect"
      return connect(...)
    end
    open(tcp, { recovery = { default = { attempts = 3, delay_ms = 100, max_delay_ms = 1600, spread = 0 } } })
    town:advance(10000)
    assert.trace(town, [[
      [   0] connect
      [ 100] connect
      [ 300] connect
      [ 700] connect
      [1500] connect
      [3100] connect
      [4700] connect
      [6300] connect
      [7900] connect
      [9500] connect]])
    assert.equal("db1: closed", pool:last_error())
    assert.log(town, "all", [[
      [   0] info: cueball db: running (was starting)
      [ 300] warn: cueball db: backend db1 is dead after 3 attempts, the last one opened and broke: closed
      [ 300] error: cueball db: failed (was running): dead: db1 (closed)]])
    town:stop()
  end)
end)
