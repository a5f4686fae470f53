--- One place for one connection: attempts and pauses, losses, checks, retirement, closing.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local with = require "spec.support.with"
local ffi, lib = native.ffi, native.lib

--- One slot; attempts of 100 ms, pauses of 10 ms.
local function one(options, recovery)
  local all = with({ attempts = 1000, timeout_ms = 100, delay_ms = 10 }, recovery)
  all.max_timeout_ms = all.max_timeout_ms or all.timeout_ms * 8
  all.max_delay_ms = all.max_delay_ms or all.delay_ms * 8
  return World.calm(all, { max_connections = 1 }, options)
end

describe("an attempt that fails", function()
  it("is made again after pauses that double up to max_delay_ms", function()
    local world = one({}, { attempts = 5 })
    world.host.open = "fail 1"
    world.shows = "open"
    world:set { "db1" }
    world:advance(500)
    assert.trace(world, [[
      [   0] open db1/1
      [  11] open db1/1, attempt 2
      [  32] open db1/1, attempt 3
      [  73] open db1/1, attempt 4
      [ 154] open db1/1, attempt 5
      [ 235] open db1/1, attempt 6
      [ 316] open db1/1, attempt 7
      [ 397] open db1/1, attempt 8
      [ 478] open db1/1, attempt 9]])
  end)

  it("stays at the last attempt's pause, be max_delay_ms further away", function()
    local world = one({}, { attempts = 3, max_delay_ms = 1e6 })
    world.host.open = "fail"
    world.shows = "open"
    world:set { "db1" }
    world:advance(150)
    assert.trace(world, [[
      [   0] open db1/1
      [  10] open db1/1, attempt 2
      [  30] open db1/1, attempt 3
      [  70] open db1/1, attempt 4
      [ 110] open db1/1, attempt 5
      [ 150] open db1/1, attempt 6]])
  end)

  it("is paused for to the nanosecond", function()
    local world = one({}, { delay_ms = 0.000007 })
    world.host.open = "fail"
    world:set { "db1" }
    for _, pause in ipairs { 7ULL, 14ULL, 28ULL, 56ULL, 56ULL } do
      assert.equal(world.now + pause, world:deadline())
      world.now = world.now + pause
      world:input "time_advanced"
    end
  end)

  it("is paused for a time spread evenly around delay_ms", function()
    local low, high, sum = math.huge, 0, 0
    for seed = 1, 2000 do
      local world = one({ seed = seed }, { delay_ms = 100, spread = 0.5 })
      world.host.open = "fail"
      world:set { "db1" }
      local pause = world:deadline_ms()
      low, high, sum = math.min(low, pause), math.max(high, pause), sum + pause
    end
    assert.is_true(low >= 75 and low < 75.5, "lowest " .. low)
    assert.is_true(high <= 125 and high > 124.5, "highest " .. high)
    assert.is_true(math.abs(sum / 2000 - 100) < 2, "mean " .. sum / 2000)
  end)

  it("goes by `initial` until the slot's first connection, then by `connect`", function()
    local world = one()
    world:change { ["recovery.initial.delay_ms"] = 3, ["recovery.initial.max_delay_ms"] = 3, proven_after_ms = 90 }
    world.host.open = "fail"
    world.shows = "open opened"
    world:set { "db1" }
    world.host.open = 0
    world:advance(100)
    world.host.open = "fail"
    world:lose "db1/1"
    world:advance(30)
    assert.trace(world, [[
      [   0] open db1/1
      [   3] open db1/1, attempt 2
      [   3] opened db1/1
      [ 100] open db1/1
      [ 110] open db1/1, attempt 2
      [ 130] open db1/1, attempt 3]])
  end)
end)

describe("an attempt that takes too long", function()
  it("is given up at its limit, which doubles up to max_timeout_ms", function()
    local world = one({}, { max_timeout_ms = 400, delay_ms = 0 })
    world.host.open = "never"
    world:set { "db1" }
    world:advance(1100)
    assert.trace(world, [[
      [   0] open db1/1
      [ 100] give_up db1/1
      [ 100] open db1/1, attempt 2
      [ 300] give_up db1/1
      [ 300] open db1/1, attempt 3
      [ 700] give_up db1/1
      [ 700] open db1/1, attempt 4
      [1100] give_up db1/1
      [1100] open db1/1, attempt 5]])
    assert.equal(4, world:stats().open_timeouts)
  end)

  it("is told its limit", function()
    local world = one()
    world.is_draining = false
    world:set { "db1" }
    world:step()
    assert.equal(world.now + 100000000ULL, world.last.deadline)
    assert.equal(1, world.last.attempt)
  end)

  it("and opens after all, is stale: the host closes it by itself", function()
    local world = one()
    world.host.open = "late 100"
    world.shows = nil
    world:set { "db1" }
    world:advance(105)
    assert.trace(world, [[
      [   0] open db1/1
      [ 100] opened db1/1
      [ 100] give_up db1/1
      [ 100] stale db1/1: opened]])
    assert.equal(0, world:stats().opened)
    assert.equal(1, world:stats().backing_off)
  end)

  it("and fails after all, does not count twice", function()
    local world = one()
    world.host.open = "never"
    world:set { "db1" }
    local conn = world.conns["db1/1"].handle
    world:advance(100)
    assert.equal("stale", world:input("conn_failed", conn))
    assert.equal("stale", world:input("conn_opened", conn))
    local stats = world:stats()
    assert.same({ 1, 0 }, { stats.open_timeouts, stats.open_failures })
  end)

  it("opens a nanosecond before its limit", function()
    local world = one()
    world.host.open = 99.999999
    world:set { "db1" }
    world:advance(100)
    assert.equal(1, world:stats().idle)
  end)

  it("is not heard of by a host that never drained its OPEN", function()
    local world = one({}, { delay_ms = 1 })
    world.is_draining = false
    world:set { "db1" }
    world:advance(101)
    assert.equal("connecting", world:stats().connecting == 1 and "connecting")
    world.host.open = "never"
    world:step()
    assert.equal(2, world.last.attempt)
    assert.is_false(world:step())
  end)
end)

describe("reports", function()
  it("count once, and only for what was asked", function()
    local world = one()
    world.host.open, world.host.close = "never", "never"
    world.shows = "nothing"
    world:set { "db1" }
    local conn = world.conns["db1/1"].handle
    local function reported(report)
      if report == "checked" then
        return world:input("conn_checked", conn, true)
      end
      return world:input("conn_" .. report, conn)
    end
    for _, report in ipairs { "lost", "closed", "checked" } do
      assert.equal("stale", reported(report), report)
    end
    assert.equal("ok", world:input("conn_opened", conn))
    for _, report in ipairs { "opened", "failed", "closed", "checked" } do
      assert.equal("stale", reported(report), report)
    end
    assert.equal("ok", world:input("conn_lost", conn))
    for _, report in ipairs { "opened", "failed", "lost", "checked" } do
      assert.equal("stale", reported(report), report)
    end
    assert.equal("ok", world:input("conn_closed", conn))
    for _, report in ipairs { "opened", "failed", "lost", "checked", "closed" } do
      assert.equal("stale", reported(report), report)
    end
  end)

  it("are too early before the action was drained", function()
    local world = one()
    world.is_draining = false
    world:watch()
    world:set { "db1" }
    local conn
    for _, event in ipairs(world:take_events()) do
      conn = event.kind == "slot_state" and event.conn or conn
    end
    assert.equal("stale", world:input("conn_opened", conn))
    assert.equal("stale", world:input("conn_failed", conn))
    world:step()
    assert.equal(conn, world.last.conn)
    assert.equal(1, world:stats().idle)
  end)
end)

describe("a connection that breaks", function()
  it("at rest, having served, is replaced at once", function()
    local world = one()
    world:set { "db1" }
    world:claim "ann"
    world:release "ann"
    world:forget()
    world:lose "db1/1"
    assert.trace(world, [[
      [   0] lost db1/1
      [   0] close db1/1
      [   0] closed db1/1
      [   0] open db1/1
      [   0] opened db1/1]])
    assert.equal(1, world:stats().lost)
  end)

  it("at rest, having lasted long enough, is replaced at once", function()
    local world = one { proven_after_ms = 10 }
    world:set { "db1" }
    world:advance(10)
    world:forget()
    world:lose "db1/1"
    assert.trace(world, [[
      [  10] lost db1/1
      [  10] close db1/1
      [  10] closed db1/1
      [  10] open db1/1
      [  10] opened db1/1]])
  end)

  it("right after it opened, again and again, is backed off like one that is refused", function()
    local world = one({}, { attempts = 4 })
    world:set { "db1" }
    world.shows = "open"
    world:forget()
    local function lose()
      if world:stats().idle == 1 then
        world:lose "db1/1"
      end
    end
    for i = 1, 2000 do
      world:at(i * 0.1, lose)
    end
    world:advance(200)
    assert.trace(world, [[
      [10.1] open db1/1, attempt 2
      [30.2] open db1/1, attempt 3
      [70.3] open db1/1, attempt 4
      [150.4] open db1/1, attempt 5]])
    assert.equal(1, world:stats().backend_deaths) -- by the fourth: what opens and closes revives nothing
    assert.equal(5, world:stats().opened)
  end)

  it("waits for its close, and the pause runs meanwhile", function()
    local world = one()
    world.host.close = 4
    world:set { "db1" }
    world:forget()
    world:lose "db1/1"
    world:advance(20)
    assert.trace(world, [[
      [   0] lost db1/1
      [   0] close db1/1
      [   4] closed db1/1
      [  10] open db1/1, attempt 2
      [  10] opened db1/1]])
  end)

  it("in use, twice reported, counts once", function()
    local world = one()
    world:set { "db1" }
    world:claim "ann"
    local conn = world.leases.ann.conn
    assert.equal("ok", world:input("conn_lost", conn))
    assert.equal("stale", world:input("conn_lost", conn))
    world:fail "ann"
    assert.equal(1, world:stats().lost)
    assert.equal(1, world:stats().leases_failed)
  end)
end)

describe("a check", function()
  local function checked(rule)
    local world = one({ check_interval_ms = 1000, check_timeout_ms = 50 })
    world.host.check = rule
    world:set { "db1" }
    world:forget()
    return world
  end

  local function until_checking(world)
    for _ = 1, 1200 do
      if world:stats().checking == 1 then
        return
      end
      world:advance(1)
    end
    error "no check came"
  end

  it("comes after check_interval_ms at rest, spread by a tenth, and the connection rests again", function()
    local world = checked(5)
    world:advance(899)
    assert.trace(world, "")
    world:advance(202)
    local stats = world:stats()
    assert.same({ 1, 0 }, { stats.checks, stats.checks_failed })
    local due = tonumber(world:trace():match "%[%s*([%d.]+)%] check db1/1")
    assert.is_true(due >= 900 and due < 1100)
    world:advance(100)
    assert.equal(1, world:stats().idle)
    world:advance(2200)
    assert.equal(3, world:stats().checks)
  end)

  it("spreads over connections", function()
    local world = World.new { max_connections = 100, check_interval_ms = 1000, decoherence_interval_ms = 0 }
    world.shows = "check"
    world:set { "db1" }
    world:advance(1110)
    local times, count = {}, 0
    for due in world:trace():gmatch "%[%s*([%d.]+)%]" do
      times[math.floor((due - 900) / 50)] = (times[math.floor((due - 900) / 50)] or 0) + 1
      count = count + 1
    end
    assert.equal(100, count)
    for part = 0, 3 do
      assert.is_true(times[part] > 8, part .. " of four: " .. tostring(times[part]))
    end
  end)

  it("that finds it unfit has it replaced", function()
    local world = checked "fail"
    world:advance(1100)
    assert.matches("check db1/1\n%[%s*[%d.]+%] unfit db1/1\n%[%s*[%d.]+%] close db1/1\n.-closed db1/1\n.-open db1/1\n.-opened db1/1",
      world:trace())
    assert.equal(1, world:stats().checks_failed)
  end)

  it("that takes longer than check_timeout_ms has failed", function()
    local world = checked "never"
    world:advance(1100)
    world:advance(50)
    local due, closed = world:trace():match "%[%s*([%d.]+)%] check db1/1\n%[%s*([%d.]+)%] close db1/1"
    assert.is_true(math.abs(closed - due - 50) < 1e-5)
    assert.equal(1, world:stats().checks_failed)
  end)

  it("that answers too late is stale", function()
    local world = checked "never"
    world:advance(1100)
    local conn = world.conns["db1/1"].handle
    world:advance(50)
    assert.equal("stale", world:input("conn_checked", conn, true))
  end)

  it("keeps the connection from claims, and gives it to one that waits when it is done", function()
    local world = checked(20)
    world.shows = "wait grant fit"
    until_checking(world)
    assert.equal("waiting", world:claim "ann")
    world:advance(20)
    assert.matches("fit db1/1\n.* grant ann: db1/1$", world:trace())
  end)

  it("that was asked for before it was known that the connection is lost, is not", function()
    local world = checked(5)
    world.is_draining = false
    until_checking(world)
    world:input("conn_lost", world.conns["db1/1"].handle)
    world:step()
    assert.equal(lib.CUEBALL_ACTION_CLOSE, world.last.kind)
  end)

  it("does not come while it is in use, and comes late after", function()
    local world = checked(0)
    for _ = 1, 100 do
      world:claim "ann"
      world:advance(500)
      world:release "ann"
      world:advance(300)
    end
    assert.equal(0, world:stats().checks)
    world:advance(1100)
    assert.equal(1, world:stats().checks)
  end)
end)

describe("a connection retires", function()
  --- When each of 200 connections was closed, sorted.
  local function closings(options)
    options.max_connections, options.check_interval_ms, options.decoherence_interval_ms = 200, 0, 0
    local world = World.new(options)
    world:set { "db1" }
    world:forget()
    world.shows = "close"
    world:advance(1101)
    local times = {}
    for time in world:trace():gmatch "%[%s*([%d.]+)%]" do
      times[#times + 1] = tonumber(time)
    end
    return times
  end

  for _, option in ipairs { "idle_timeout_ms", "max_lifetime_ms" } do
    it("after " .. option .. ", spread by a tenth either way", function()
      local times = closings { [option] = 1000 }
      assert.equal(200, #times)
      assert.is_true(times[1] >= 900 and times[1] < 905, "first at " .. times[1])
      assert.is_true(times[200] < 1100 and times[200] > 1095, "last at " .. times[200])
    end)
  end

  it("idle, counted from its last use", function()
    local world = one { idle_timeout_ms = 1000 }
    world:set { "db1" }
    world:forget()
    world.shows = "close"
    for _ = 1, 10 do
      world:advance(800)
      world:claim "ann"
      world:release "ann"
    end
    assert.trace(world, "")
    world:advance(1100)
    assert.equal(1, world:stats().closed)
  end)

  it("idle, though it is checked meanwhile", function()
    local world = one { idle_timeout_ms = 1000, check_interval_ms = 300 }
    world:set { "db1" }
    world.shows = "close"
    world:advance(1100)
    assert.equal(1, world:stats().closed)
    assert.is_true(world:stats().checks >= 2)
  end)

  it("old, when it comes back if it is in use", function()
    local world = one { max_lifetime_ms = 1000 }
    world:set { "db1" }
    world:claim "ann"
    world:forget()
    world:advance(5000)
    assert.trace(world, "")
    world:release "ann"
    assert.trace(world, [[
      [5000] release ann
      [5000] close db1/1
      [5000] closed db1/1
      [5000] open db1/1
      [5000] opened db1/1]])
  end)

  it("old, though it is used all the time", function()
    local world = one { max_lifetime_ms = 1000 }
    world:set { "db1" }
    for _ = 1, 220 do
      world:claim "ann"
      world:advance(5)
      world:release "ann"
    end
    assert.equal(1, world:stats().closed)
  end)
end)

describe("a close", function()
  it("that never ends is waited for as long as recovery.default.timeout_ms", function()
    local world = one()
    world.host.close = "never"
    world:set { "db1" }
    world:claim "ann"
    world:close "ann"
    local conn = world.conns["db1/1"].handle
    world:forget()
    world:advance(99)
    assert.equal(1, world:stats().closing)
    world:advance(1)
    assert.trace(world, [[
      [ 100] open db1/1
      [ 100] opened db1/1]])
    assert.equal("stale", world:input("conn_closed", conn))
  end)

  it("is told before it can take too long", function()
    local world = one()
    world:set { "db1" }
    world.is_draining = false
    world:claim "ann"
    world:close "ann"
    world:advance(1000)
    assert.equal(1, world:stats().closing)
    world:step()
    assert.equal(lib.CUEBALL_ACTION_CLOSE, world.last.kind)
  end)

  it("comes before another connection of that slot: never more than was allowed", function()
    local world = one()
    world.host.close = 30
    world:set { "db1" }
    world:claim "ann"
    world:forget()
    world:close "ann"
    world:claim "bob"
    world:advance(30)
    assert.trace(world, [[
      [   0] discard ann
      [   0] close db1/1
      [   0] wait bob: 0 ahead
      [  30] closed db1/1
      [  30] open db1/1
      [  30] opened db1/1
      [  30] grant bob: db1/1]])
  end)
end)

describe("handles", function()
  it("are not 0, below 2^53, and good for nothing when their time is over", function()
    local world = World.new(World.recovery({ delay_ms = 0, spread = 0 }, { max_connections = 2, decoherence_interval_ms = 0 }))
    world:set { "db1" }
    world.shows = "nothing"
    local seen, old = {}, {}
    local function note(kind, handle)
      assert.is_true(handle ~= 0ULL and handle < 2ULL ^ 53)
      local text = kind .. tostring(handle)
      assert.is_nil(seen[text], "a handle came twice")
      seen[text] = true
      old[#old + 1] = handle
    end
    for round = 1, 300 do
      world:claim "ann"
      world:claim "bob"
      world:claim "cid"
      note("claim", world.claims.cid)
      world:cancel "cid"
      note("lease", world.leases.ann.handle)
      note("lease", world.leases.bob.handle)
      if round % 3 == 0 then
        note("conn", world.leases.ann.conn)
        world:close "ann"
      else
        world:release "ann"
      end
      world:release "bob"
    end
    world:claim "ann"
    local before = world:stats()
    local info = ffi.new "cueball_backend_info"
    for _, handle in ipairs(old) do
      for _, lease in ipairs { "released", "closed", "failed" } do
        assert.equal("stale", world:input("lease_" .. lease, handle))
      end
      assert.equal("stale", world:input("claim_cancelled", handle))
      lib.cueball_pool_backend_info(world.pool, handle, info)
    end
    assert.same(before, world:stats())
  end)

  it("that were invented are refused everywhere", function()
    local world = World.new { max_connections = 2 }
    world:set { "db1" }
    world:claim "ann"
    world:claim "bob"
    world:claim "cid"
    world:release "ann"
    local known = { [tonumber(world.leases.bob.handle)] = true, [tonumber(world.leases.cid.handle)] = true }
    local before = world:stats()
    local info = ffi.new "cueball_backend_info"
    local function try(handle)
      if not known[tonumber(handle)] then
        assert.equal("stale", world:input("lease_released", handle))
        assert.equal("stale", world:input("lease_failed", handle))
      end
      assert.equal("stale", world:input("claim_cancelled", handle))
      assert.equal("stale", world:input("conn_closed", handle))
      assert.equal("stale", world:input("conn_opened", handle))
      assert.equal("stale", world:input("conn_failed", handle))
      assert.equal("stale", world:input("conn_checked", handle, true))
    end
    for index = 0, 70 do
      for generation = 0, 6 do
        try(ffi.cast("uint64_t", generation) * 2097152ULL + index)
      end
    end
    for _, handle in ipairs { 0ULL, 2ULL ^ 53, 2ULL ^ 53 + 2097152ULL, 0xffffffffffffffffULL, world.leases.bob.handle + 2ULL ^ 53 } do
      try(handle)
      assert.equal(lib.CUEBALL_ESTALE, lib.cueball_pool_backend_info(world.pool, handle, info))
    end
    assert.same(before, world:stats())
  end)
end)

describe("max_uses", function()
  it("closes a connection when it came back for the last time", function()
    local world = one { max_uses = 3 }
    world:set { "db1" }
    world:advance(1)
    world:forget()
    for i = 1, 4 do
      world:claim("c" .. i)
      world:release("c" .. i)
    end
    assert.trace(world, [[
      [   1] grant c1: db1/1
      [   1] release c1
      [   1] grant c2: db1/1
      [   1] release c2
      [   1] grant c3: db1/1
      [   1] release c3
      [   1] close db1/1
      [   1] closed db1/1
      [   1] open db1/1
      [   1] opened db1/1
      [   1] grant c4: db1/1
      [   1] release c4]])
    assert.equal(1, tonumber(lib.cueball_pool_closed_by(world.pool, lib.CUEBALL_CAUSE_MAX_USES)))
  end)

  it("may change while the pool runs", function()
    local world = one()
    world:set { "db1" }
    for i = 1, 5 do
      world:claim("c" .. i)
      world:release("c" .. i)
    end
    world:change { max_uses = 2 }
    world:claim "last"
    world:release "last"
    assert.equal(2, world:stats().opened)
  end)
end)

describe("lifetime_spread", function()
  local function lifetimes(spread)
    local low, high = math.huge, 0
    for seed = 1, 400 do
      local world = one { seed = seed, max_lifetime_ms = 1000, lifetime_spread = spread, proven_after_ms = 1 }
      world:set { "db1" }
      world:advance(10)
      local ends = world:deadline_ms()
      low, high = math.min(low, ends), math.max(high, ends)
    end
    return low, high
  end

  it("is how far lifetimes differ", function()
    local low, high = lifetimes(0)
    assert.same({ 1000, 1000 }, { low, high })
    low, high = lifetimes(0.5)
    assert.is_true(low >= 500 and low < 510 and high <= 1500 and high > 1490, low .. " " .. high)
    low, high = lifetimes(1)
    assert.is_true(low >= 50 and low < 80 and high <= 2000 and high > 1980, low .. " " .. high)
  end)
end)
