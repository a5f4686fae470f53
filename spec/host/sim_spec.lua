--- The simulated host: virtual time, tasks in it, seeds, leaks; its network is in sim_network_spec.lua.
local sim = require "cueball.host.sim"
local town = require "spec.support.sim_world"
local assert_trace, connect, said = town.assert_trace, town.connect, town.said

local world

local function open(options)
  world = town.open(options)
  return world
end

before_each(function() open() end)

describe("virtual time", function()
  it("starts at 0, or where it is told", function()
    assert.equal(0, world.now())
    open { start_ns = 7e9 }
    assert.equal(7e9, world.now())
    world.at(5, function() world.trace "now" end)
    world.advance(5)
    assert.equal(7e9 + 5e6, world.now())
    assert_trace "[   5] now"
  end)

  it("goes from event to event in order, ties in order of arming", function()
    for _, ms in ipairs { 30, 10, 20, 10, 30, 0 } do
      world.at(ms, function() world.trace("for " .. ms) end)
    end
    world.at(10, function() world.trace "the third of 10" end)
    world.advance(30)
    assert_trace [[
      [   0] for 0
      [  10] for 10
      [  10] for 10
      [  10] the third of 10
      [  20] for 20
      [  30] for 30
      [  30] for 30]]
  end)

  it("settles a tie of sleeps, alarms and events by who was armed first", function()
    local alarm = world.alarm(function() world.trace "alarm" end)
    world.spawn(function() world.sleep(10) world.sleep(40) world.trace "sleep of 10 and 40" end)
    world.spawn(function() world.sleep(50) world.trace "sleep 1" end)
    alarm:set(50e6)
    world.spawn(function() world.sleep(50) world.trace "sleep 2" end)
    world.at(50, function() world.trace "at" end)
    world.spawn(function() world.sleep(50) world.trace "sleep 3" end)
    world.advance(50)
    assert_trace [[
      [  50] sleep 1
      [  50] alarm
      [  50] sleep 2
      [  50] at
      [  50] sleep 3
      [  50] sleep of 10 and 40]]
    alarm:close()
  end)

  it("counts a wait as armed when it began, though the task had an earlier time limit before", function()
    local waiter = world.waiter()
    world.spawn(function() waiter:wait(10) world.sleep(45) world.trace "sleep" end)
    world.at(5, function() waiter:wake() end)
    world.at(7, function() world.at(50, function() world.trace "at" end) end)
    world.advance(50)
    assert_trace "[  50] sleep\n[  50] at"
  end)

  it("lets what is ready run before it goes on", function()
    local waiter = world.waiter()
    world.spawn(function() world.trace(waiter:wait()) end)
    world.at(10, function() waiter:wake "woken" world.trace "wakes" end)
    world.at(10, function() world.trace "next at 10" end)
    world.advance(10)
    assert_trace [[
      [  10] wakes
      [  10] woken
      [  10] next at 10]]
  end)

  it("is left exactly where advance leads", function()
    world.at(10, function() world.trace "in" end)
    world.at(10.001, function() world.trace "out" end)
    world.advance(10)
    assert.equal(10e6, world.now())
    assert_trace "[  10] in"
    world.advance(90.5)
    assert.equal(100.5e6, world.now())
  end)

  it("goes one event at a time with step, and stands still in settle", function()
    local waiter = world.waiter()
    world.spawn(function() waiter:wait() world.trace "woken" end)
    waiter:wake()
    world.at(3, function() world.trace "event" end)
    world.settle()
    assert_trace "[   0] woken"
    assert.is_true(world.step())
    assert.equal(3e6, world.now())
    assert.is_false(world.step())
  end)

  it("does not go back", function()
    world.advance(10)
    assert.has_error(function() world.at(9, print) end, "at: expected ms from 10, got 9")
    assert.has_error(function() world.advance(-1) end, "advance: expected ms from 0, got -1")
  end)

  it("is driven from outside of tasks", function()
    local message = select(2, pcall(world.run, function() world.advance(1) end))
    assert.matches("advance: not inside a task", message)
  end)

  it("names an endless loop at one instant", function()
    open { events_max = 1000 }
    world.advance(12)
    local alarm
    alarm = world.alarm(function() alarm:set(world.now()) end)
    alarm:set(0)
    local message = select(2, pcall(world.advance, 1))
    assert.matches("endless: 1000 events at 12.000 ms, and time stands still; the last was: alarm made at .*sim_spec.lua:%d+", message)
    alarm:close()
    local function ping() return world.spawn(function() while true do world.sleep(0) end end) end
    ping()
    assert.matches("endless: 1000 events at 12.000 ms.*a task", select(2, pcall(world.advance, 1)))
    open { events_max = 1000 }
    local function again() world.tasks:defer(again) end
    again()
    assert.matches("endless: .*tasks that wake each other", select(2, pcall(world.settle)))
    assert.matches("endless: .*tasks that wake each other", select(2, pcall(world.advance, 1)))
  end)

  it("does not call many events endless as long as time goes by", function()
    open { events_max = 10 }
    world.run(function() for _ = 1, 1000 do world.sleep(0.001) end end)
    assert.equal(1e6, world.now())
  end)
end)

describe("a task", function()
  it("runs at once until it waits, and sleeps in virtual time", function()
    local t = world.spawn(function(text)
      world.trace(text)
      assert.is_true(world.sleep(250))
      world.trace "slept"
    end, "runs")
    world.trace "spawned"
    assert.is_false(t.is_done)
    world.advance(1000)
    assert.is_true(t.is_done)
    assert_trace [[
      [   0] runs
      [   0] spawned
      [ 250] slept]]
  end)

  it("is the current one while it runs", function()
    assert.is_nil(world.current())
    local seen
    local t = world.spawn(function() world.sleep(1) seen = world.current() end)
    world.advance(1)
    assert.equal(t, seen)
    assert.is_nil(world.current())
  end)

  it("waits for a waiter no longer than it says", function()
    local late, early, before = world.waiter(), world.waiter(), world.waiter()
    before:wake("a", nil, "c")
    world.spawn(function() assert.same({ "a", nil, "c" }, { before:wait(1) }) world.trace "before" end)
    world.spawn(function() world.trace("%s %s", late:wait(20)) end)
    world.spawn(function() world.trace("%s %s", early:wait(20)) end)
    world.at(10, function() early:wake("in", "time") early:wake("a", "second") end)
    world.at(30, function() late:wake "too late" end)
    world.advance(100)
    assert.same({}, world.logs)
    assert_trace [[
      [   0] before
      [  10] in time
      [  20] nil timeout]]
  end)

  it("is woken in the order of the wakes, never inside the call", function()
    local first, second = world.waiter(), world.waiter()
    world.spawn(function() world.trace(first:wait()) end)
    world.spawn(function() world.trace(second:wait()) end)
    second:wake "second"
    first:wake "first"
    world.trace "woken"
    world.settle()
    assert_trace [[
      [   0] woken
      [   0] second
      [   0] first]]
  end)

  it("that is killed never goes on, and loses its sockets", function()
    local server = world.server("10.0.0.1", 5432, { on_close = function(c) world.trace("close %d", c.id) end })
    local t = world.spawn(function()
      for _ = 1, 20 do connect() end
      world.sleep(1e6)
      world.trace "still there"
    end)
    world.advance(100)
    assert.equal(20, server.connections)
    local lines = {}
    for index = 1, 20 do lines[index] = ("[ 100] close %d"):format(index) end
    world.kill(t)
    world.advance(1e6)
    assert.equal(0, server.connections)
    -- In the order of connecting: an order by address would differ from run to run.
    assert.equal(table.concat(lines, "\n"), world.trace_text():match "%[ 100%].*")
    assert.same({}, world.leaks())
  end)

  it("that is killed lets go of what it guards, in order", function()
    local t = world.spawn(function()
      local things = {}
      for index = 1, 9 do
        things[index] = { abort = function() world.trace("abort %d", index) end }
        world.guard(things[index])
      end
      for index = 3, 9 do world.unguard(things[index]) end
      world.sleep(10)
    end)
    world.kill(t)
    assert_trace "[   0] abort 1\n[   0] abort 2"
  end)

  it("may not kill itself", function()
    assert.matches("may not kill itself", select(2, pcall(world.run, function() world.kill(world.current()) end)))
  end)

  it("that throws is logged with its traceback and the time, and fails who drives the world", function()
    world.spawn(function() world.sleep(5) error "oops" end)
    assert.matches("oops.*traceback", select(2, pcall(world.advance, 10)))
    assert.equal(5, world.time_ms())
    world.advance(5)
    assert.equal(1, #world.logs)
    assert.equal("error", world.logs[1].level)
    assert.equal(5, world.logs[1].time_ms)
    assert.matches("oops.*traceback", world.logs[1].message)
  end)

  it("logs where world.log was replaced", function()
    local seen
    world.log = function(_, message) seen = message end
    world.spawn(function() error "oops" end)
    assert.matches("oops", seen)
  end)
end)

describe("run", function()
  it("returns what its function returned", function()
    local function args(...) return select("#", ...), ... end
    assert.same({ 4, nil, 2, 3, nil }, { args(world.run(function(...) world.sleep(10) return ... end, nil, 2, 3, nil)) })
    assert.equal(10e6, world.now())
  end)

  it("inside a task is a call", function()
    world.run(function()
      local me = world.current()
      assert.equal("x", world.run(function() world.sleep(1) assert.equal(me, world.current()) return "x" end))
    end)
  end)

  it("raises an error of its function, with the traceback", function()
    local function deep() error("far down", 0) end
    local ok, message = pcall(world.run, function() world.sleep(1) deep() end)
    assert.is_false(ok)
    assert.matches("^far down\nstack traceback:.*deep", message)
    local object = { "no string" }
    assert.same({ false, object }, { pcall(world.run, function() error(object) end) })
  end)

  it("raises an error of an event", function()
    world.at(5, function() error("in the event", 0) end)
    assert.has_error(function() world.run(function() world.sleep(10) end) end, "in the event")
  end)

  it("says deadlock when nothing is left to happen, and who waits", function()
    local message = select(2, pcall(world.run, function() world.waiter():wait() end))
    assert.matches("^deadlock: nothing left to happen; open or waiting: run at .*sim_spec.lua:%d+$", message)
    assert.same({}, world.leaks())
    assert.matches("^deadlock", select(2, pcall(world.run, function() world.waiter():wait(math.huge) end)))
    assert.equal(0, world.now())
  end)

  it("says so when its task was killed", function()
    local main
    world.at(5, function() world.kill(main) end)
    assert.has_error(function()
      world.run(function() main = world.current() world.sleep(10) end)
    end, "run: its task was killed")
  end)
end)

describe("an alarm", function()
  local alarm

  before_each(function()
    alarm = world.alarm(function()
      assert.is_nil(world.current())
      world.trace "alarm"
    end)
  end)

  it("comes once, at the time set last", function()
    alarm:set(50e6)
    alarm:set(20e6)
    alarm:set(30e6)
    world.advance(100)
    assert_trace "[  30] alarm"
    alarm:set(150e6)
    world.advance(100)
    assert_trace "[  30] alarm\n[ 150] alarm"
  end)

  it("comes soon for a time in the past, never inside the call", function()
    world.advance(10)
    alarm:set(3e6)
    world.trace "set"
    world.advance(0)
    assert_trace "[  10] set\n[  10] alarm"
    assert.equal(10e6, world.now())
  end)

  it("does not come when cleared or closed", function()
    alarm:set(10e6)
    alarm:clear()
    world.advance(20)
    alarm:set(30e6)
    alarm:close()
    alarm:close()
    world.advance(20)
    assert_trace ""
    assert.has_error(function() alarm:set(50e6) end, "alarm: it was closed")
    assert.is_false(world.step())
  end)

  it("refuses a time that is none", function()
    for _, at in ipairs { 0 / 0, math.huge, "1" } do assert.has_error(function() alarm:set(at) end) end
  end)
end)

describe("a seed", function()
  -- Everything that draws, and a kill, whose order of closing must not hang on addresses.
  local function story(seed)
    open { seed = seed, faults = { refuse = 0.1, hang = 0.05, reset = 0.05, slow = 0.1, slow_ms = { 5, 50 } } }
    for host = 1, 5 do
      world.server("10.0.0." .. host, 5432, { connect_delay = { 0.1, 5 }, latency = { 0.05, 2 }, reply_delay = { 0, 10 },
        on_close = function(c) world.trace("%s closes %d", c.server.address, c.id) end })
    end
    local clients = {}
    for index = 1, 30 do
      clients[index] = world.spawn(function()
        world.sleep(world.random(0, 50))
        for _ = 1, 10 do
          local sock = connect(5432, 20, "10.0.0." .. math.floor(world.random(1, 6)))
          sock:send(tostring(index))
          said(sock:receive(#tostring(index)))
        end
        world.sleep(1000)
      end)
    end
    world.advance(200)
    for index = 1, 30 do world.kill(clients[index]) end
    world.advance(100)
    world.trace("seeds %.0f %.0f", world.seed(), world.seed())
    assert.same({}, world.leaks())
    return world.trace_text()
  end

  it("gives the same story twice, and another seed another one", function()
    local first = story(7)
    assert.is_true(select(2, first:gsub("\n", "\n")) > 300)
    assert.matches("reset by peer", first)
    assert.matches("refused", first)
    assert.equal(first, story(7))
    assert.not_equal(first, story(8))
  end)

  it("gives the same story in another process", function()
    local program = [[
      local world = require "cueball.host.sim".new { seed = 3 }
      world.server("a", 1, { on_close = function(c) io.write(c.id, " ") end })
      local t = world.spawn(function()
        for _ = 1, 50 do world.tcp():connect("a", 1) end
        world.sleep(1000)
      end)
      world.advance(100) world.kill(t) world.advance(1) io.write(world.seed())]]
    local function run()
      local pipe = io.popen(("luajit -e '%s'"):format(program))
      local text = pipe:read "*a"
      pipe:close()
      return text
    end
    local first = run()
    assert.matches("^1 2 3 .* 50 %d+", first)
    assert.equal(first, run())
  end)

  it("gives seeds in range that do not hang on what the network draws", function()
    local one, two = sim.new { seed = 5 }, sim.new { seed = 5 }
    two.server("a", 1, { latency = { 1, 2 } })
    two.run(function() two.tcp():connect("a", 1) end)
    local seen = {}
    for _ = 1, 1000 do
      local seed = one.seed()
      assert.equal(seed, two.seed())
      assert.is_true(seed >= 0 and seed < 2 ^ 53 and seed % 1 == 0 and not seen[seed])
      seen[seed] = true
    end
    assert.not_equal(sim.new({ seed = 5 }).random(0, 2 ^ 53), sim.new({ seed = 5 }).seed())
    assert.not_equal(sim.new({ seed = 6 }).seed(), sim.new({ seed = 5 }).seed())
  end)

  it("draws evenly", function()
    local sum, low, high = 0, 1, 0
    for _ = 1, 10000 do
      local x = world.random()
      sum, low, high = sum + x, math.min(low, x), math.max(high, x)
    end
    assert.is_true(math.abs(sum / 10000 - 0.5) < 0.02 and low >= 0 and low < 0.01 and high < 1 and high > 0.99)
  end)
end)

describe("leaks", function()
  it("are sockets, alarms and tasks, by name", function()
    assert.same({}, world.leaks())
    world.server("10.0.0.1", 5432)
    local alarm = world.alarm(print)
    local sock
    world.run(function() sock = connect() sock:watch(print) end) -- watched, it stays open
    local t = world.spawn(function() world.sleep(1e6) end)
    local leaks = world.leaks()
    assert.equal(3, #leaks)
    assert.equal("socket to 10.0.0.1:5432", leaks[1])
    assert.matches("^alarm made at .*sim_spec.lua:%d+$", leaks[2])
    assert.matches("^task spawned at .*sim_spec.lua:%d+$", leaks[3])
    sock:close()
    alarm:close()
    world.kill(t)
    assert.same({}, world.leaks())
  end)

  it("count a socket whose peer has closed, until it is closed here too", function()
    world.server("10.0.0.1", 5432, { accept_then_close = true })
    world.run(function()
      local sock = connect()
      world.sleep(1)
      assert.equal(1, #world.leaks())
      sock:close()
      assert.same({}, world.leaks())
    end)
  end)

  it("survive a thousand tasks", function()
    for index = 1, 1000 do world.spawn(function() world.sleep(index % 10 == 0 and 100 or 1) end) world.advance(0.01) end
    -- Those of 100 ms, and those of 1 ms of the last ms but the first, which has just come due.
    assert.equal(100 + 89, #world.leaks())
    world.advance(100)
    assert.same({}, world.leaks())
  end)

  it("are gone after close, with all that was to come", function()
    local server = world.server("10.0.0.1", 5432)
    world.alarm(print):set(1e9)
    world.at(50, function() world.trace "never" end)
    world.spawn(function() connect() world.sleep(100) world.trace "never" end)
    world.run(function() connect():watch(print) end)   -- open though its task is done
    world.advance(10)
    assert.equal(2, server.connections)
    world.close()
    assert.same({}, world.leaks())
    assert.is_false(world.step())
    assert_trace "[   0] connect: 1\n[   0] connect: 1"
  end)
end)
