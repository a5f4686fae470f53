--- Events for subscribers, and what goes into the log.
local sim_pool = require "spec.support.sim_pool"

local town, pool

local function open(options)
  town = sim_pool.new()
  pool = town:open({ max_connections = 1, connect = sim_pool.factory(), rebalance_delay_ms = 0 }, options)
end

-- An event as text: its kind, then its fields but for time, in alphabetical order.
local function text_of(event)
  local parts = {}
  for name, value in pairs(event) do
    if name ~= "kind" and name ~= "time_ms" then parts[#parts + 1] = name .. "=" .. tostring(value) end
  end
  table.sort(parts)
  return event.kind .. (#parts > 0 and " " or "") .. table.concat(parts, " ")
end

local function trace_events()
  return pool:subscribe(function(event)
    assert.equal(town.world.time_ms(), event.time_ms)
    -- Handles are numbers that mean nothing here.
    for _, name in ipairs { "conn", "claim", "lease" } do
      if event[name] then event[name] = type(event[name]) == "number" and event[name] % 1 == 0 and "#" or "?" end
    end
    town.world.trace(text_of(event))
  end)
end

describe("subscribe", function()
  it("tells of a claim and a lease", function()
    open()
    town:advance(1)
    trace_events()
    local lease = pool:claim()
    pool:claim { timeout_ms = 0 }
    town.world.spawn(function() pool:claim { timeout_ms = 20 } end)
    local killed = town.world.spawn(function() pool:claim() end)
    town.world.spawn(function() pool:claim():close() end)
    town.world.kill(killed)
    town:advance(20)
    lease:release()
    town:advance(1)
    assert.trace(town, [[
      [   1] slot_state backend=db1 cause=claim conn=# count=1 from=idle slot=0 to=busy
      [   1] claim_granted backend=db1 conn=# lease=# slot=0
      [   1] claim_refused error=claim_timeout
      [   1] claim_waiting claim=# count=0
      [   1] claim_waiting claim=# count=1
      [   1] claim_waiting claim=# count=2
      [   1] claim_cancelled claim=#
      [  21] claim_refused claim=# error=claim_timeout
      [  21] lease_ended backend=db1 cause=release conn=# lease=# slot=0
      [  21] slot_state backend=db1 cause=claim conn=# count=0 from=busy slot=0 to=busy
      [  21] claim_granted backend=db1 claim=# conn=# lease=# slot=0
      [  21] lease_ended backend=db1 cause=close conn=# lease=# slot=0
      [  21] slot_state backend=db1 cause=close conn=# count=0 from=busy slot=0 to=closing
      [  21] slot_state backend=db1 cause=closed conn=# count=1 from=closing slot=0 to=connecting
      [  21] slot_state backend=db1 cause=opened conn=# count=1 from=connecting slot=0 to=idle]])
    pool:stop()
  end)

  it("tells of backends, the resolver, plans, options and states", function()
    local is_down = false
    local connect = function()
      if is_down then return nil, "down" end
      return {}
    end
    open { connect = connect, decoherence_interval_ms = 50, proven_after_ms = 2,
      recovery = { default = { attempts = 1, delay_ms = 5, spread = 0 } },
      resolver = function(sink) -- its sleep would end when the pool fails
        sink.host.sleep(10)
        sink:add(sim_pool.backend(1))
        sink.host.sleep(10)
        sink:fail "x"
        sink.host.sleep(10)
        sink:remove "db1"
      end }
    trace_events()
    town:advance(15)
    is_down = true
    pool:claim():close()
    is_down = false
    town:advance(5)
    pool:set { max_waiters = 5 }
    town:advance(60)
    pool:stop()
    assert.trace(town, [[
      [  10] backend_added backend=db1
      [  10] planned count=1
      [  10] slot_state backend=db1 cause=plan conn=# count=1 from=free slot=0 to=connecting
      [  10] pool_state from=starting to=running
      [  10] slot_state backend=db1 cause=opened conn=# count=1 from=connecting slot=0 to=idle
      [  15] slot_state backend=db1 cause=claim conn=# count=0 from=idle slot=0 to=busy
      [  15] claim_granted backend=db1 conn=# lease=# slot=0
      [  15] lease_ended backend=db1 cause=close conn=# lease=# slot=0
      [  15] slot_state backend=db1 cause=close conn=# count=0 from=busy slot=0 to=closing
      [  15] slot_state backend=db1 cause=closed conn=# count=1 from=closing slot=0 to=connecting
      [  15] slot_state backend=db1 cause=failed conn=# count=1 error=down from=connecting slot=0 to=backoff
      [  15] backend_dead backend=db1 cause=failed count=1 error=down
      [  15] planned count=1
      [  15] pool_state from=running message=dead: db1 (down) to=failed
      [  20] slot_state backend=db1 cause=delay conn=# count=2 from=backoff slot=0 to=connecting
      [  20] resolver_failed message=x
      [  20] slot_state backend=db1 cause=opened conn=# count=2 from=connecting slot=0 to=idle
      [  20] options_changed
      [  22] backend_revived backend=db1 cause=lasted
      [  22] pool_state from=failed to=running
      [  22] planned count=1
      [  30] backend_removed backend=db1
      [  30] slot_state backend=db1 cause=removed conn=# count=0 from=idle slot=0 to=closing
      [  30] slot_state backend=db1 cause=closed conn=# count=0 from=closing slot=0 to=free
      [  30] resolver_recovered
      [  30] planned count=0
      [  50] shuffled count=0
      [  80] pool_state from=running to=stopping
      [  80] pool_state from=stopping to=stopped]])
  end)

  it("tells what a backend was changed to", function()
    local told
    open { resolver = function(sink)
      told = sink
      sink:add(sim_pool.backend(1))
    end }
    town:advance(1)
    local seen = {}
    pool:subscribe(function(event) seen[#seen + 1] = event end)
    local backend = sim_pool.backend(1)
    told:add(backend)
    backend.weight, backend.priority, backend.name = 5, 2, "first"
    told:add(backend)
    assert.equal(1, #seen)
    assert.same({ "backend_changed", "db1", 5, 2, "first" },
      { seen[1].kind, seen[1].backend, seen[1].weight, seen[1].priority, seen[1].name })
    pool:stop()
  end)

  it("tells of overload, and of backends left out", function()
    local connect = sim_pool.factory()
    town = sim_pool.new { servers = 2 }
    pool = town:open { max_connections = 2, connect = connect, decoherence_interval_ms = false, queue = "codel",
      target_claim_delay_ms = 20, outlier = { consecutive = 2, ejection_ms = 300 }, recovery = { default = { delay_ms = 0 } } }
    town:advance(1)
    local seen = {}
    pool:subscribe(function(event)
      if event.kind:find "^backend_" or event.kind:find "ed$" and event.count and event.kind ~= "planned" or event.kind == "relieved" then
        seen[#seen + 1] = ("%g %s"):format(event.time_ms, (text_of(event):gsub("db%d", "db#")))
      end
    end)
    for ms = 1, 250, 4 do -- two and a half times what two connections can serve
      town:at(ms, function() town.world.spawn(function() pool:with(function() town.world.sleep(20) end) end) end)
    end
    town:advance(999)
    local lease = pool:claim()
    local key = lease:backend().key
    lease:fail "broken pipe"
    town:advance(1)
    while true do
      lease = pool:claim()
      if lease:backend().key == key then break end
      lease:release()
    end
    lease:fail "broken pipe"
    town:advance(400)
    assert.same({
      "141 overloaded count=22", "281 relieved", "1001 backend_ejected backend=db# count=1 error=broken pipe",
      "1301 backend_returned backend=db#",
    }, seen)
    assert.log(town, "all", ([[
      [   0] info: cueball db: running (was starting)
      [ 141] warn: cueball db: overloaded, 22 claims wait
      [ 281] info: cueball db: no longer overloaded
      [1001] warn: cueball db: backend %s is left out for a while, its leases failed: broken pipe
      [1301] info: cueball db: backend %s is used again]]):format(key, key))
    town:stop()
  end)

  it("ends when the function it returned is called, for this one only", function()
    open()
    local counts = { 0, 0 }
    local function counter(number) return function() counts[number] = counts[number] + 1 end end
    local ends = { pool:subscribe(counter(1)), pool:subscribe(counter(2)) }
    pool:claim():release()
    assert.same({ 4, 4 }, counts)
    ends[1]()
    ends[1]()
    pool:claim():release()
    assert.same({ 4, 8 }, counts)
    ends[2]()
    pool:claim():release()
    assert.same({ 4, 8 }, counts)
    local same = counter(1)
    local first, second = pool:subscribe(same), pool:subscribe(same)
    first()
    first()
    pool:claim():release()
    assert.same({ 8, 8 }, counts)
    second()
    town:stop()
  end)

  it("may be ended, and begun, by a subscriber", function()
    open()
    local seen = {}
    local stop_first, stop_second
    stop_first = pool:subscribe(function(event)
      seen[#seen + 1] = "first " .. event.kind
      stop_first()
      pool:subscribe(function(other) seen[#seen + 1] = "third " .. other.kind end)
    end)
    stop_second = pool:subscribe(function(event)
      seen[#seen + 1] = "second " .. event.kind
      stop_second()
    end)
    local lease = pool:claim()
    assert.same({ "first slot_state", "second slot_state", "third claim_granted" }, seen)
    lease:release()
    assert.equal("third slot_state", seen[#seen])
    town:stop()
  end)

  it("does not keep the log from what happened in the same moment", function()
    open { resolver = function(sink)
      sink:sleep(10)
      sink:set(sim_pool.backends(1, 1))
    end }
    local stop_it
    stop_it = pool:subscribe(function() stop_it() end)
    town:advance(20)
    assert.log(town, "info", "[  10] cueball db: running (was starting)")
    town:stop()

    -- In the middle of what the pool does, with events unread.
    local factory = { connect = function()
      pool:subscribe(function() end)()
      return {}
    end }
    open { connect = factory, resolver = function(sink)
      sink:sleep(10)
      sink:set(sim_pool.backends(1, 1))
    end }
    town:advance(20)
    assert.log(town, "debug", "[  10] cueball db: backend db1 added")
    assert.log(town, "info", "[  10] cueball db: running (was starting)")
    town:stop()
  end)

  it("survives a subscriber that throws, and one that uses the pool", function()
    open()
    town:advance(1)
    local granted = 0
    pool:subscribe(function() error "out of luck" end)
    pool:subscribe(function(event)
      if event.kind == "lease_ended" and granted < 3 then
        granted = granted + 1
        pool:claim():release()
      end
    end)
    pool:claim():release()
    assert.equal(3, granted)
    assert.equal(4, pool:stats().released)
    assert.matches("^%[   1%] cueball db: a subscriber threw: .*events_spec.lua:%d+: out of luck\n", town:log "error")
    assert.matches("stack traceback:", town.world.logs[#town.world.logs].message)
    town:stop()
  end)

  it("knows the key of a backend to its last connection, and forgets it then", function()
    local sink
    open { max_connections = 2, resolver = function(given)
      sink = given
      sink:set(sim_pool.backends(1, 1))
    end }
    local lease = pool:claim()
    trace_events()
    sink:set {}
    town:advance(5)
    lease:release()
    assert.trace(town, [[
      [   0] backend_removed backend=db1
      [   0] slot_state backend=db1 cause=removed conn=# count=0 from=idle slot=1 to=closing
      [   0] slot_state backend=db1 cause=closed conn=# count=0 from=closing slot=1 to=free
      [   0] planned count=0
      [   5] lease_ended backend=db1 cause=release conn=# lease=# slot=0
      [   5] slot_state backend=db1 cause=removed conn=# count=0 from=busy slot=0 to=closing
      [   5] slot_state backend=db1 cause=closed conn=# count=0 from=closing slot=0 to=free]])
    assert.is_nil(next(pool.events.names))
    assert.is_nil(next(pool.events.removed))
    town:stop()
  end)

  it("forgets what went wrong with a backend after that was removed, unless it is there again", function()
    local sink
    open { max_connections = 2, resolver = function(given)
      sink = given
      sink:set(sim_pool.backends(1, 1))
    end }
    local lease = assert(pool:try_claim())
    sink:set {}
    town:advance(5)
    lease:fail "too late"
    town:advance(1)
    sink:set(sim_pool.backends(2, 2)) -- events are read
    sink:set {}
    assert.same({}, pool.faults.last)
    assert.equal("db1: too late", pool:last_error())
    sink:set(sim_pool.backends(1, 1))
    town:advance(1000)
    lease = assert(pool:try_claim())
    sink:set {}
    town:advance(5)
    sink:set(sim_pool.backends(1, 1))
    lease:fail "too late"
    town:advance(1)
    assert.same({ db1 = "too late" }, pool.faults.last)
    town:stop()
  end)

  it("says how many events it missed", function()
    local list = {}
    for number = 1, 5000 do list[number] = { address = "10.1." .. math.floor(number / 250) .. "." .. number % 250, port = 1 } end
    local missed, count = 0, 0
    open { resolver = function(sink)
      sink:sleep(1)
      sink:set(list)
    end }
    pool:subscribe(function(event) missed, count = missed + (event.missed or 0), count + (event.kind == "backend_added" and 1 or 0) end)
    town:advance(1)
    assert.is_true(missed > 0)
    assert.is_true(missed + count >= 5000)
    town:stop()
  end)

  it("wants a function", function()
    open()
    assert.blames("pool:subscribe: expected a function, got nil", function() pool:subscribe() end)
    town:stop()
  end)
end)

describe("the log", function()
  it("has what a person wants to know, and no more", function()
    local is_down = true
    open { recovery = { default = { attempts = 2, delay_ms = 10, spread = 0 } }, connect = function()
      if is_down then return nil, "down" end
      return {}
    end }
    town:at(100, function() is_down = false end)
    town:advance(500)
    for _ = 1, 100 do pool:claim():release() end
    town:stop()
    assert.log(town, "all", [[
      [  10] warn: cueball db: backend db1 is dead after 2 attempts, the last one failed: down
      [  10] error: cueball db: failed (was starting): dead: db1 (down)
      [ 500] info: cueball db: backend db1 is alive again: a connection came back in order
      [ 500] info: cueball db: running (was failed)
      [ 500] info: cueball db: stopping (was running)
      [ 500] info: cueball db: stopped (was stopping)]])
  end)

  it("that throws hurts nobody", function()
    open { resolver = function(sink) sink:set { 5, sim_pool.backend(1) } end }
    town.world.log = function() error "no space left" end
    pool:log("error", "x")
    pool:claim():close()
    town:advance(1)
    town:stop()
  end)
end)
