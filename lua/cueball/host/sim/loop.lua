--- The loop of a world: what is ready runs, then time goes on to the next event; and what ends a run that would not end.
--
-- Four things do: an instant with too many events, too many events or too much of the processor's time in one call (`budget`),
-- nothing left that could happen, and a run that has waited for a day for nothing that is to come (`is_stalled`).
local clock = require "cueball.host.sim.clock"
local members = require "cueball.host.sim.members"
local text = require "cueball.text"

local loop = {}

local TIME_MAX = 2 ^ 53          -- ns: beyond it a double cannot tell one from the next
local STEPS_BETWEEN_LOOKS = 1024 -- at the processor's time
local ASKED_BETWEEN_LOOKS = 1000000
local EPOCH_S = 1600000000       -- what a calendar says at 0 ns: 13 September 2020

local function check_ms(who, ms, min)
  if type(ms) ~= "number" or not (ms >= min and ms < math.huge) then
    error(("%s: expected ms from %g, got %s"):format(who, min, tostring(ms)), 3)
  end
end

-- ------------------------------------------------------------------ budget --

-- What one call of run, advance or step may cost.
local function add_budget(world, state, options)
  local time = state.clock
  local steps, began = 0, 0              -- of this call
  local asked, asked_at, asked_since = 0, 0, 0   -- how often now() was called in this very step
  local total = 0                        -- steps ever

  local function fail(why, ...)
    error(("budget: %s, at %.3f ms; is something asked again and again without a pause?"):format(why:format(...), world.time_ms()), 0)
  end

  function state.begin_budget()
    steps, began = 0, os.clock()
  end

  function state.spend()
    steps, total = steps + 1, total + 1
    if options.steps_max and steps > options.steps_max then fail("more than steps_max (%d) events", options.steps_max) end
    if not options.cpu_ms_max or steps % STEPS_BETWEEN_LOOKS ~= 0 then return end
    if (os.clock() - began) * 1000 > options.cpu_ms_max then
      fail("%d events took more than cpu_ms_max (%g ms) of the processor's time", steps, options.cpu_ms_max)
    end
  end

  -- A script that asks for the time without a pause never comes back to the loop: it is told here.
  local function look()
    asked = 0
    if not world.current() or not options.cpu_ms_max then return end
    local used = os.clock()
    if asked_at ~= total then asked_at, asked_since = total, used end
    if (used - asked_since) * 1000 > options.cpu_ms_max then
      fail("a task asks for the time, which stands still, for more than cpu_ms_max (%g ms)", options.cpu_ms_max)
    end
  end

  function world.now()
    asked = asked + 1
    if asked > ASKED_BETWEEN_LOOKS then look() end
    return time.now
  end

  function world.time_ms()
    asked = asked + 1
    if asked > ASKED_BETWEEN_LOOKS then look() end
    return time:ms_since_start()
  end

  function world.time_s()
    return EPOCH_S + world.now() / 1e9
  end
end

-- ----------------------------------------------------------------- driving --

-- An error that no task caught is the driver's to hear.
local function raise_failure(state)
  local failure = state.failure
  if not failure then return end
  state.failure = nil
  error(failure.message, 0)
end

local function add_steps(world, state, options)
  local time, tasks = state.clock, world.tasks
  local busy, instant, latest = 0, time.now, "nothing yet"

  local function count(what)
    if time.now ~= instant then busy, instant = 0, time.now end
    busy, latest = busy + 1, what
    if busy > options.events_max then
      busy = 0
      error(("endless: %d events at %.3f ms, and time stands still; the last was: %s")
        :format(options.events_max, world.time_ms(), latest), 0)
    end
  end

  local function run_ready()
    while state.is_turn_due do
      count("tasks that wake each other")
      state.is_turn_due = false
      tasks:run_ready()
    end
    if state.failure then raise_failure(state) end
  end

  -- → false if nothing is left to happen before time ends
  function state.step()
    run_ready()
    local at = time:next_at()
    if not at or at > TIME_MAX then return false end
    state.spend()
    local event = time:take()
    count(event and event.what or "a task's sleep or time limit")
    local polls = tasks.polls
    polls.begun, polls.done, polls.done_at = polls.begun + 1, polls.done + 1, time.now
    if event then event.fn() else tasks:run_expired() end
    run_ready()
    return true
  end

  function world.compute(ms)
    check_ms("compute", ms, 0)
    state.network.is_computing = true
    time:compute(time.now + math.floor(ms * 1e6 + 0.5))
    state.network.is_computing = false
  end

  state.settle = run_ready
end

local function add_drivers(world, state)
  local time, tasks = state.clock, world.tasks

  function state.driver(who, fn)
    return function(...)
      if tasks.running then error(who .. ": not inside a task", 2) end
      state.begin_budget()
      return fn(...)
    end
  end

  world.settle = state.driver("settle", state.settle)
  world.step = state.driver("step", state.step)

  world.advance = state.driver("advance", function(ms)
    check_ms("advance", ms, 0)
    local until_ns = time.now + math.floor(ms * 1e6 + 0.5)
    if until_ns > TIME_MAX then error("advance: time ends at 2^53 ns, 104 days", 2) end
    state.settle()
    while (time:next_at() or math.huge) <= until_ns do state.step() end
    assert(time.now <= until_ns, "advance: not inside what advance brought about")
    time.now = until_ns
  end)

  state.awaited = members.new()   -- events of world.at that have not come

  function world.at(ms, fn)
    check_ms("at", ms, world.time_ms())
    if type(fn) ~= "function" then error("at: expected a function, got " .. type(fn), 2) end
    local event = clock.event(nil, "at " .. state.site_of_caller())
    function event.fn()
      state.awaited:remove(event)
      fn()
    end
    state.awaited:add(event)
    time:set(event, time.start + math.floor(ms * 1e6 + 0.5))
  end
end

-- ----------------------------------------------------------------- stalled --

local function add_watch(state, options)
  local time = state.clock

  -- The test's own tasks, each with how often it has parked; nil: one of them can go on, or something is still to come for it.
  local function parked_tasks()
    if state.awaited:count() > 0 then return nil end
    local parked = {}
    for _, one in ipairs(state.living_tasks()) do
      local t = one.task
      local may_go_on = not t.is_parked or t.deadline and t.deadline <= TIME_MAX
      if not one.is_background then
        if may_go_on then return nil end
        parked[#parked + 1] = { task = t, count = t.parked_count }
      end
    end
    return parked
  end

  local function are_same(one, other)
    if not one or not other or #one ~= #other then return false end
    for index, wait in ipairs(one) do
      if wait.task ~= other[index].task or wait.count ~= other[index].count then return false end
    end
    return true
  end

  -- A pool's alarms go on for ever, and resolvers look again for ever.  So a run is over when for stall_ms none of its own
  -- tasks went on and none has a time limit.
  -- → function() → true once it is
  function state.stall_watch()
    if not options.stall_ms then return function() return false end end
    local stall_ns = options.stall_ms * 1e6
    local look_at, before = time.now + stall_ns, parked_tasks()
    return function()
      if time.now < look_at then return false end
      local parked = parked_tasks()
      if are_same(before, parked) then return true end
      look_at, before = time.now + stall_ns, parked
      return false
    end
  end
end

-- --------------------------------------------------------------------- run --

local function pack(...)
  return { count = select("#", ...), ... }
end

local function add_run(world, state, options)
  local function deadlock(why)
    error(("deadlock: %s; open or waiting: %s"):format(why, table.concat(world.leaks(), ", ")), 0)
  end

  local function drive(main, finished)
    local is_stalled = state.stall_watch()
    state.settle()
    while not finished.result do
      if main.is_done then error("run: its task was killed", 0) end
      if not state.step() then deadlock "nothing left to happen" end
      if is_stalled() and not finished.result then
        deadlock(("for %g ms nothing happened that these tasks could be waiting for"):format(options.stall_ms))
      end
    end
  end

  function world.run(fn, ...)
    if world.current() then return fn(...) end
    if type(fn) ~= "function" then error("run: expected a function, got " .. type(fn), 2) end
    local finished = {}
    state.begin_budget()
    local main = state.spawn("run at " .. state.site_of_caller(), false, function(...)
      finished.result = pack(xpcall(fn, text.traced, ...))
    end, ...)
    local ok, message = pcall(drive, main, finished)
    if not ok then
      world.kill(main)
      error(message, 0)
    end
    local result = finished.result
    if not result[1] then error(result[2], 0) end
    return unpack(result, 2, result.count)
  end
end

--- Gives a world settle, step, advance, at, run, now and time_ms.
-- @param state what the parts of the world share: its clock, failure, is_turn_due, living_tasks, spawn and site_of_caller
function loop.install(world, state, options)
  add_steps(world, state, options)
  add_drivers(world, state)
  add_watch(state, options)
  add_run(world, state, options)
end

--- What must be there before anything of the world runs: its time.
loop.install_time = add_budget

return loop
