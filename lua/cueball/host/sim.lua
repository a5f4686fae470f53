--- A host in virtual time, with a fake network and seeded faults (docs/hosts.md).
-- The same seed and the same inputs give the same trace, every time.
--
--   local world = sim.new { seed = 1 }
--     seed        0 to 2^53-1, default 1: all the chance there is
--     start_ns    what now() says at first, default 0
--     faults      as for world.faults
--     verbose     true: logs and traces go to stderr too
--     events_max  so many events without time going by are an endless loop, default 1,000,000
--
-- Beside the members of every host (now, seed, spawn, kill, current, sleep, waiter, guard,
-- unguard, alarm, tcp, dns, log, run), with `ms` counted from the world's start:
--   world.time_ms()             the time
--   world.at(ms, fn)            fn() at that time, outside of any task
--   world.settle()              what is ready runs; time stands still
--   world.step()                → true: settled, and the next event happened; false: there is none
--   world.advance(ms)           all that is due in the next ms happens; now is exactly there afterwards
--   world.server(address, port [, behaviour])   → server, see cueball.host.sim.server and .behaviour
--   world.zone(text), world.nameserver(address [, behaviour]), world.dns   see cueball.host.sim.dns
--   world.unreachable(address [, flag])         nothing travels to or from it: connects hang. false: it arrives now
--   world.faults { refuse=, hang=, reset=, slow=, slow_ms= }   probabilities for all servers; false: no faults
--   world.random([low, high])   a fraction from 0 to 1 or a number from low to high, for the test's own chance
--   world.trace(text, ...)      adds a line "[  50] text"; with more arguments text is a format
--   world.trace_text()          the lines, joined by newlines
--   world.logs                  list of { time_ms=, level=, message= }
--   world.leaks()               list of what is open or waits: sockets, alarms, tasks
--   world.close()               kills all tasks, closes everything, forgets what was to come
--
-- At one instant things happen in the order of arming, be it a sleep, an alarm or a
-- packet, and after each of them the tasks that became ready run.  An error in an
-- alarm, in world.at or in a behaviour is raised where the world is driven (run, advance, step).
local clock = require "cueball.host.sim.clock"
local dns = require "cueball.host.sim.dns"
local members = require "cueball.host.sim.members"
local network = require "cueball.host.sim.network"
local behaviour = require "cueball.host.sim.behaviour"
local random = require "cueball.host.sim.random"
local socket = require "cueball.host.socket"
local task = require "cueball.host.task"

local sim = {}

local SEED_MAX = 2 ^ 53 - 1
-- One stream of chance for each purpose.
local FOR_NETWORK, FOR_SEEDS, FOR_TESTS, FOR_DNS = 1, 2, 3, 4

local function is_whole(value, min, max)
  return type(value) == "number" and value % 1 == 0 and value >= min and value <= max
end

local OPTIONS = {
  seed = { 1, function(v) return is_whole(v, 0, SEED_MAX) end, "a whole number from 0 to 2^53-1" },
  start_ns = { 0, function(v) return is_whole(v, 0, SEED_MAX) end, "a whole number from 0 to 2^53-1" },
  events_max = { 1000000, function(v) return is_whole(v, 1, SEED_MAX) end, "a whole number from 1" },
  verbose = { false, function(v) return type(v) == "boolean" end, "true or false" },
  faults = { false, function(v) return v == false or type(v) == "table" end, "a table or false" },
}

local function check_options(given)
  local options = {}
  for name, option in pairs(OPTIONS) do options[name] = option[1] end
  for name, value in pairs(given or {}) do
    local option = OPTIONS[name]
    if not option then error("sim.new: unknown option " .. tostring(name), 3) end
    if not option[2](value) then
      error(("sim.new: %s: expected %s, got %s"):format(name, option[3], tostring(value)), 3)
    end
    options[name] = value
  end
  return options
end

local function check_ms(who, ms, min)
  if type(ms) ~= "number" or not (ms >= min and ms < math.huge) then
    error(("%s: expected ms from %g, got %s"):format(who, min, tostring(ms)), 3)
  end
end

-- "spec/x.lua:12", for naming what somebody made and left.
local function place_of_caller()
  local level, info = 3, debug.getinfo(3, "Sl")
  while info and info.currentline < 0 do   -- pcall and its like
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  return info and ("%s:%d"):format(info.short_src, info.currentline) or "?"
end

local function add_tasks(world, state)
  local tasks = task.new {
    now = world.now,
    turn = function() state.is_turn_due = true end,
    timer = function() end,   -- the limits stand in the clock's own queue
    log = function(level, message) world.log(level, message) end,
  }
  tasks.timers = state.clock.limits
  world.tasks = tasks
  tasks:install(world)

  local living, prune_at = {}, 64

  -- Entries { task=, place= }, in the order of spawning; the running one too.
  function state.living_tasks()
    local still = {}
    for _, entry in ipairs(living) do
      if not entry.task.is_done then still[#still + 1] = entry end
    end
    return still
  end

  function state.spawn(place, fn, ...)
    local t = tasks:spawn(fn, ...)
    if t.is_done then return t end
    if #living >= prune_at then
      living = state.living_tasks()
      prune_at = #living * 2 + 64
    end
    living[#living + 1] = { task = t, place = place }
    return t
  end

  function world.spawn(fn, ...)
    if type(fn) ~= "function" then error("spawn: expected a function, got " .. type(fn), 2) end
    return state.spawn("task spawned at " .. place_of_caller(), fn, ...)
  end
end

local function add_alarms(world, state)
  local Alarm = {}
  Alarm.__index = Alarm
  state.alarms = members.new()

  function world.alarm(fn)
    if type(fn) ~= "function" then error("alarm: expected a function, got " .. type(fn), 2) end
    local place = "alarm made at " .. place_of_caller()
    local alarm = setmetatable({ event = clock.event(fn, place), is_closed = false }, Alarm)
    state.alarms:add(alarm)
    return alarm
  end

  function Alarm:set(at)
    if self.is_closed then error("alarm: it was closed", 2) end
    if type(at) ~= "number" or not (at > -math.huge and at < math.huge) then
      error("alarm: expected a time in nanoseconds, got " .. tostring(at), 2)
    end
    state.clock:set(self.event, at)
  end

  function Alarm:clear()
    state.clock:clear(self.event)
  end

  function Alarm:close()
    self.is_closed = true
    self:clear()
    state.alarms:remove(self)
  end
end

local function add_records(world, options)
  local lines = {}
  world.logs = {}

  local function show(line)
    if options.verbose then io.stderr:write(line, "\n") end
  end

  function world.log(level, message)
    world.logs[#world.logs + 1] = { time_ms = world.time_ms(), level = level, message = message }
    show(("[%4d] %s: %s"):format(math.floor(world.time_ms()), level, tostring(message)))
  end

  function world.trace(text, ...)
    if select("#", ...) > 0 then text = text:format(...) end
    local line = ("[%4d] %s"):format(math.floor(world.time_ms()), text)
    lines[#lines + 1] = line
    show(line)
  end

  function world.trace_text()
    return table.concat(lines, "\n")
  end
end

local function add_network(world, state, options)
  local net = network.new(state.clock, random.new(options.seed, FOR_NETWORK))
  state.network = net
  net.faults = behaviour.of_faults(options.faults, 3)

  state.dns = dns.install(world, net, random.new(options.seed, FOR_DNS))

  function world.tcp()
    return socket.new(world, net:transport())
  end
  world.is_socket = socket.is

  function world.server(address, port, given)
    return net:add_server(address, port, given, 2)
  end

  function world.unreachable(address, flag)
    local wire = net:wire(address)
    if flag == false then wire:open() else wire:shut() end
  end

  function world.faults(given)
    net.faults = behaviour.of_faults(given, 2)
  end

  local seeds, luck = random.new(options.seed, FOR_SEEDS), random.new(options.seed, FOR_TESTS)

  function world.seed()
    return seeds:whole()
  end

  function world.random(low, high)
    return luck:between(low or 0, high or 1)
  end
end

-- The loop itself: what is ready, then the next event.
local function add_loop(world, state, options)
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

  local function settle()
    while state.is_turn_due do
      count("tasks that wake each other")
      state.is_turn_due = false
      tasks:run_ready()
    end
  end

  local function step()
    settle()
    if not time:next_at() then return false end
    local event = time:take()
    count(event and event.what or "a task's sleep or time limit")
    if event then event.fn() else tasks:run_expired() end
    settle()
    return true
  end

  local function driver(who, fn)
    return function(...)
      if tasks.running then error(who .. ": not inside a task", 2) end
      return fn(...)
    end
  end

  world.settle = driver("settle", settle)
  world.step = driver("step", step)
  state.step, state.settle, state.driver = step, settle, driver

  world.advance = driver("advance", function(ms)
    check_ms("advance", ms, 0)
    local until_ns = time.now + math.floor(ms * 1e6 + 0.5)
    settle()
    while (time:next_at() or math.huge) <= until_ns do step() end
    assert(time.now <= until_ns, "advance: not inside what advance brought about")
    time.now = until_ns
  end)

  function world.at(ms, fn)
    check_ms("at", ms, world.time_ms())
    if type(fn) ~= "function" then error("at: expected a function, got " .. type(fn), 2) end
    time:set(clock.event(fn, "at " .. place_of_caller()), time.start + math.floor(ms * 1e6 + 0.5))
  end
end

local function add_ends(world, state)
  function world.leaks()
    local leaks = {}
    for _, transport in ipairs(state.network.transports:list()) do
      leaks[#leaks + 1] = "socket to " .. transport.peer
    end
    for _, question in ipairs(state.dns.leaks()) do leaks[#leaks + 1] = question end
    for _, alarm in ipairs(state.alarms:list()) do leaks[#leaks + 1] = alarm.event.what end
    for _, entry in ipairs(state.living_tasks()) do
      if entry.task ~= world.current() then leaks[#leaks + 1] = entry.place end
    end
    return leaks
  end

  world.close = state.driver("close", function()
    for _, entry in ipairs(state.living_tasks()) do world.kill(entry.task) end
    for _, transport in ipairs(state.network.transports:list()) do transport:close() end
    for _, alarm in ipairs(state.alarms:list()) do alarm:close() end
    state.dns.close()
    state.clock:forget()
  end)
end

local function pack(...)
  return { count = select("#", ...), ... }
end

-- An error that is no string (busted's are tables) has no room for a traceback and stays what it is.
local function with_traceback(message)
  if type(message) ~= "string" then return message end
  return debug.traceback(message, 2)
end

local function add_run(world, state)
  function world.run(fn, ...)
    if world.current() then return fn(...) end
    if type(fn) ~= "function" then error("run: expected a function, got " .. type(fn), 2) end
    local result
    local main = state.spawn("run at " .. place_of_caller(), function(...) result = pack(xpcall(fn, with_traceback, ...)) end, ...)
    state.settle()
    while not result do
      if main.is_done then error("run: its task was killed", 0) end
      if not state.step() then
        local waiting = table.concat(world.leaks(), ", ")
        world.kill(main)
        error("deadlock: nothing left to happen; open or waiting: " .. waiting, 0)
      end
    end
    if not result[1] then error(result[2], 0) end
    return unpack(result, 2, result.count)
  end
end

--- @return a world: a host, and what a test needs beside it (see the top)
function sim.new(given)
  local options = check_options(given)
  local time = clock.new(options.start_ns)
  local state = { clock = time, is_turn_due = false }
  local world = { name = "sim" }
  function world.now() return time.now end
  function world.time_ms() return time:ms_since_start() end
  add_records(world, options)
  add_tasks(world, state)
  add_alarms(world, state)
  add_network(world, state, options)
  add_loop(world, state, options)
  add_ends(world, state)
  add_run(world, state)
  return world
end

return sim
