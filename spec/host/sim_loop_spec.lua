--- What ends a simulated run that would not end, and what fails one: budgets, deadlocks, errors in tasks, world.check, many seeds.
local sim = require "cueball.host.sim"
local town = require "spec.support.sim_world"
local cueball = require "cueball"

local world

local function open(options)
  world = town.open(options)
  return world
end

before_each(function() open() end)

local function raised(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return message
end

local function pool_of_one()
  return cueball.pool {
    host = world, max_connections = 1, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = function() return {} end,
  }
end

describe("an error that a task does not catch", function()
  it("is raised by run, which ends", function()
    local message = raised(world.run, function()
      world.spawn(function() world.sleep(5) error("oops", 0) end)
      world.sleep(100)
      world.trace "never"
    end)
    assert.matches("^oops\nstack traceback", message)
    assert.equal(5, world.time_ms())
    assert.same({}, world.leaks())
  end)

  it("is raised as it is if it is no text, as a failing assert of busted's", function()
    local thrown = raised(world.run, function()
      world.spawn(function() assert.equal(1, 2) end)
      world.sleep(1)
    end)
    assert.matches("Expected objects to be equal", tostring(thrown))
    local object = {}
    world.spawn(function() error(object) end)
    assert.equal(object, raised(world.settle))
    assert.is_nil(world.settle())
  end)

  it("is raised for what an event brought about too", function()
    world.server("10.0.0.1", 80, { accept_then_close = true })
    local message = raised(world.run, function()
      local sock = world.tcp()
      sock:connect("10.0.0.1", 80)
      sock:watch(function() error("in the watcher", 0) end)
      world.sleep(10)
    end)
    assert.matches("in the watcher", message)
  end)

  it("is only logged where the test wants that", function()
    open { task_errors = "log" }
    world.run(function()
      world.spawn(function() error("oops", 0) end)
      world.sleep(1)
    end)
    assert.equal(1, #world.logs)
  end)

  it("harms nobody if it has no text", function()
    local bad = setmetatable({}, { __tostring = function() error "no text" end })
    world.spawn(function() error(bad) end)
    assert.is_true(rawequal(bad, raised(world.settle)))
    assert.matches("a table without a text", world.logs[1].message)
  end)
end)

describe("a task that is killed", function()
  it("has all that it owns aborted, whatever an abort throws", function()
    local aborted = 0
    open { task_errors = "log" }
    world.run(function()
      local task = world.spawn(function()
        world.guard { abort = function() error "cannot be aborted" end }
        world.guard { abort = function() aborted = aborted + 1 end }
        world.sleep(1000)
      end)
      world.kill(task)
    end)
    assert.equal(1, aborted)
    assert.matches("cannot be aborted", world.logs[1].message)
  end)

  it("has to be one, and what it owns has to have an abort", function()
    world.run(function()
      assert.matches("sim_loop_spec.lua:%d+: kill: expected a task, got nil$", raised(function() world.kill(nil) end))
      assert.matches("sim_loop_spec.lua:%d+: kill: expected a task, got 5$", raised(function() world.kill(5) end))
      assert.matches("sim_loop_spec.lua:%d+: guard: expected a table with abort%(self%), got 5$", raised(function() world.guard(5) end))
    end)
  end)
end)

describe("a deadlock", function()
  it("is told though a pool's alarms and a resolver go on for ever", function()
    local pool
    local message = raised(world.run, function()
      pool = cueball.pool {
        host = world, max_connections = 1, connect = function() return {} end,
        resolver = function(sink)
          sink:set { { address = "10.0.0.1", port = 80 } }
          while sink:sleep(1000) do sink:recover() end
        end,
      }
      local lease = pool:claim()
      world.waiter():wait()
      lease:release()
    end)
    assert.matches("^deadlock: for 8.64e%+07 ms nothing happened that these tasks could be waiting for; open or waiting: .*run at",
      message)
    assert.is_true(world.time_ms() <= 2 * 86400000)
    pool:stop()
  end)

  it("is none while a task has a time limit, something is to come, or tasks go on", function()
    open { stall_ms = 1000 }
    local pool = pool_of_one()
    world.run(function() world.sleep(50000) end)
    world.at(world.time_ms() + 50000, function() world.trace "at" end)
    local waiter = world.waiter()
    world.run(function()
      world.at(world.time_ms() + 100000, function() waiter:wake() end)
      waiter:wait()
    end)
    world.run(function()
      for _ = 1, 10 do
        local one = world.waiter()
        world.spawn(function() world.sleep(900) one:wake() end)
        one:wait()
      end
    end)
    assert.matches("^deadlock: for 1000 ms", raised(world.run, function() world.waiter():wait() end))
    pool:stop()
  end)

  it("may be looked for by nobody", function()
    open { stall_ms = false, steps_max = 100000 }
    local pool = pool_of_one()
    assert.matches("^budget: more than steps_max", raised(world.run, function() world.waiter():wait() end))
    pool:stop()
  end)
end)

describe("virtual time", function()
  it("ends at 2^53 ns: nothing spins there", function()
    open { start_ns = 2 ^ 53 - 5e6 }
    local beats = 0
    assert.matches("^deadlock: nothing left to happen", raised(world.run, function()
      while true do
        world.sleep(0.5)
        beats = beats + 1
      end
    end))
    assert.equal(10, beats)
    assert.has_error(function() world.advance(1) end, "advance: time ends at 2^53 ns, 104 days")
    assert.is_false(world.step())
  end)
end)

describe("the budget", function()
  it("ends a run that polls for ever, by events", function()
    open { steps_max = 10000 }
    local message = raised(world.run, function() while true do world.sleep(0.001) end end)
    assert.matches("^budget: more than steps_max %(10000%) events, at 10.000 ms; is something asked again", message)
    assert.same({}, world.leaks())
    for _ = 1, 3 do world.advance(5) end   -- it is for each call anew
  end)

  it("ends one by the processor's time", function()
    open { cpu_ms_max = 50 }
    assert.matches("^budget: %d+ events took more than cpu_ms_max %(50 ms%)", raised(world.run, function()
      while true do world.sleep(0.001) end
    end))
  end)

  it("ends a task that asks for the time and never waits", function()
    open { cpu_ms_max = 50 }
    assert.matches("budget: a task asks for the time, which stands still", raised(world.run, function()
      while world.time_ms() < 100 do end
    end))
    local pool = pool_of_one()
    world.advance(1)
    local lease = pool:try_claim()
    assert.matches("budget: a task asks for the time", raised(world.run, function() repeat until pool:try_claim() end))
    lease:release()
    pool:stop()
  end)
end)

describe("check", function()
  it("is content with a world in which nothing is left and nothing went wrong", function()
    world.run(function()
      local pool = pool_of_one()
      pool:with(function() end)
      pool:stop()
      assert.is_true(world.check())
    end)
    assert.is_true(world.check())
  end)

  it("names leaks, errors in the log, and what has not come", function()
    world.spawn(function() world.sleep(10) end)
    world.at(20, function() end)
    world.log("warn", "well")
    world.log("error", "bad")
    local message = raised(world.check)
    assert.matches("check: an error was logged at 0.000 ms: bad\nleft: task spawned at .*:%d+\nhas not come: at .*:%d+$", message)
    world.advance(20)
    assert.matches("check: an error was logged at 0.000 ms: bad$", raised(world.check))
    assert.is_true(world.check { errors = "^ba" })
    assert.has_error(function() world.check { error = "x" } end, "check: unknown option error")
  end)

  it("raises what a task threw", function()
    world.spawn(function() error("oops", 0) end)
    assert.matches("^oops", raised(world.check))
  end)
end)

describe("for_seeds", function()
  it("runs a test once for each seed, in a world of its own", function()
    local seeds, drawn = {}, {}
    sim.for_seeds(5, function(one, seed)
      seeds[#seeds + 1], drawn[one.random()] = seed, true
      one.spawn(function() one.sleep(1e6) end)
    end, { from = 3, faults = { refuse = true } })
    assert.same({ 3, 4, 5, 6, 7 }, seeds)
    local count = 0
    for _ in pairs(drawn) do count = count + 1 end
    assert.equal(5, count)
  end)

  -- What it writes to stderr, by a process of its own.
  it("says which seed failed, and runs one alone", function()
    local program = [[
      local sim = require "cueball.host.sim"
      print(pcall(sim.for_seeds, 9, function(world, seed)
        io.write(seed, " ")
        if seed == 4 then world.spawn(function() error("no", 0) end) end
      end))]]
    local function run(before)
      local pipe = io.popen(("%s luajit -e '%s' 2>&1"):format(before, program))
      local text = pipe:read "*a"
      pipe:close()
      return text
    end
    local text = run ""
    assert.matches("seed 4 failed; CUEBALL_SEED=4 runs it alone", text, 1, true)
    assert.matches("1 2 3 4 false%sseed 4: no\nstack traceback", text)
    assert.matches("^7 true", run "CUEBALL_SEED=7")
  end)

  it("refuses what makes no sense", function()
    for _, given in ipairs { { 0, print }, { 1.5, print }, { 1 }, { 1, print, { seed = 1 } }, { 1, print, { from = -1 } } } do
      assert.has_error(function() sim.for_seeds(given[1], given[2], given[3]) end)
    end
  end)
end)
