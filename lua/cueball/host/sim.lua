--- A host in virtual time, with a fake network and seeded faults (docs/hosts.md).
-- The same seed and the same inputs give the same trace, every time.
--
--   local world = sim.new { seed = 1 }
--     seed        0 to 2^53-1, default 1: all the chance there is
--     start_ns    what now() says at first, default 0
--     faults      as for world.faults
--     verbose     true: logs and traces go to stderr too
--     events_max  so many events without time going by are an endless loop, default 1,000,000
--     steps_max   so many events in one run, advance or step are too many; default false: any number
--     cpu_ms_max  so many ms of the processor's time that one of them takes are too many, default 30,000; false: no limit
--     stall_ms    a run is deadlocked that has waited for so long for nothing that is to come, default 86,400,000: a day
--     task_errors "raise", the default: an error that no task catches is raised where the world is driven; "log": it is logged only
--
-- Beside the members of every host (now, seed, spawn, kill, current, sleep, waiter, guard,
-- unguard, alarm, tcp, dns, log, run), with `ms` counted from the world's start:
--   world.time_ms()             the time
--   world.at(ms, fn)            fn() at that time, outside of any task
--   world.settle()              what is ready runs; time stands still
--   world.step()                → true: settled, and the next event happened; false: there is none
--   world.compute(ms)           time goes on, and with it servers and wires; nothing here runs: the program computes
--   world.advance(ms)           all that is due in the next ms happens; now is exactly there afterwards
--   world.server(address, port [, behaviour])   → server, see cueball.host.sim.server and .behaviour
--   world.servers                            the latest of each address: world.servers["10.0.0.1:80"]
--   world.zone(text), world.nameserver(address [, behaviour]), world.dns   see cueball.host.sim.dns
--   world.unreachable(address [, flag])         nothing travels to or from it: connects hang. false: it arrives now
--   world.faults { refuse=, hang=, reset=, cut=, join=, slow=, slow_ms= }   probabilities for all servers; false: none
--   world.random([low, high])   a fraction from 0 to 1 or a number from low to high, for the test's own chance
--   world.trace(text, ...)      adds a line "[  50] text"; with more arguments text is a format
--   world.trace_text()          the lines, joined by newlines
--   world.logs                  list of { time_ms=, level=, message= }
--   world.leaks()               list of what is open or waits: sockets, alarms, tasks
--   world.check([options])      raises an error if there is a leak, an error in the log or one of a task's, or something of
--                               world.at that has not come; options.errors: a pattern of errors in the log that are all right
--   world.close()               kills all tasks, closes everything, forgets what was to come
--
--   sim.for_seeds(count, fn [, options])        fn(world, seed) for each seed, see cueball.host.sim.seeds
--
-- At one instant things happen in the order of arming, be it a sleep, an alarm or a
-- packet, and after each of them the tasks that became ready run.  An error in a task, an
-- alarm, in world.at or in a behaviour is raised where the world is driven (run, advance, step).
-- Time ends at 2^53 ns (104 days): what is to come later never comes.
require "cueball.luajit"
local addresses = require "cueball.address"
local ends = require "cueball.host.sim.ends"
local log = require "cueball.log"
local text = require "cueball.text"
local misuse = require "cueball.misuse"
local contract = require "cueball.host.contract"
local clock = require "cueball.host.sim.clock"
local dns = require "cueball.host.sim.dns"
local loop = require "cueball.host.sim.loop"
local members = require "cueball.host.sim.members"
local network = require "cueball.host.sim.network"
local behaviour = require "cueball.host.sim.behaviour"
local random = require "cueball.host.sim.random"
local seeds = require "cueball.host.sim.seeds"
local socket = require "cueball.cosocket.socket"
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
  steps_max = { false, function(v) return v == false or is_whole(v, 1, SEED_MAX) end, "a whole number from 1, or false" },
  cpu_ms_max = { 30000, function(v) return v == false or type(v) == "number" and v > 0 end, "a number of milliseconds above 0, or false" },
  stall_ms = { 86400000, function(v) return v == false or type(v) == "number" and v > 0 end, "a number of milliseconds above 0, or false" },
  task_errors = { "raise", function(v) return v == "raise" or v == "log" end, '"raise" or "log"' },
  verbose = { false, function(v) return type(v) == "boolean" end, "true or false" },
  faults = { false, function(v) return v == false or type(v) == "table" end, "a table or false" },
}

local function check_options(given)
  local options = {}
  if given ~= nil and type(given) ~= "table" then misuse.raise("sim.new: expected a table of options, got " .. text.show(given)) end
  for name, option in pairs(OPTIONS) do options[name] = option[1] end
  for name, value in pairs(given or {}) do
    local option = OPTIONS[name]
    if not option then misuse.raise("sim.new: unknown option " .. text.message(name)) end
    if not option[2](value) then
      misuse.raise(("sim.new: %s: expected %s, got %s"):format(name, option[3], text.message(value)))
    end
    options[name] = value
  end
  return options
end

-- "spec/x.lua:12", for naming what somebody made and left.
local function site_of_caller()
  local level, info = 3, debug.getinfo(3, "Sl")
  while info and info.currentline < 0 do   -- pcall and its like
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  return info and ("%s:%d"):format(info.short_src, info.currentline) or "?"
end

local function add_tasks(world, state, options)
  local tasks = task.new {
    now = world.now,
    turn = function() state.is_turn_due = true end,
    timer = function() end,   -- the limits stand in the clock's own queue
    log = function(level, message) log.say(world, level, message, "task_threw") end,
    -- The first one is what a person has to look at.
    threw = function(message)
      if options.task_errors == "raise" then state.failure = state.failure or { message = message } end
    end,
  }
  tasks.timers = state.clock.limits
  tasks.polls = { begun = 0, done = 0, done_at = 0 } -- each event is one, see cueball.cosocket.idle
  world.tasks = tasks
  tasks:install(world)

  local living, prune_at = {}, 64

  -- Lists { task=, site=, is_background= }, in the order of spawning; the running task too.
  function state.living_tasks()
    local still = {}
    for _, one in ipairs(living) do
      if not one.task.is_done then still[#still + 1] = one end
    end
    return still
  end

  function state.spawn(site, is_background, fn, ...)
    local t = tasks:spawn(fn, ...)
    if t.is_done then return t end
    if #living >= prune_at then
      living = state.living_tasks()
      prune_at = #living * 2 + 64
    end
    living[#living + 1] = { task = t, site = site, is_background = is_background }
    return t
  end

  function world.spawn(fn, ...)
    if type(fn) ~= "function" then error("spawn: expected a function, got " .. type(fn), 2) end
    return state.spawn("task spawned at " .. site_of_caller(), false, fn, ...)
  end

  -- Resolvers, and what pools do for themselves: nothing that a run could wait for without an end.
  function world.service(fn, ...)
    return state.spawn("task spawned at " .. site_of_caller(), true, fn, ...)
  end
  world.errand = world.service
end

local function add_alarms(world, state)
  local Alarm = {}
  Alarm.__index = Alarm
  state.alarms = members.new()

  function world.alarm(fn)
    if type(fn) ~= "function" then error("alarm: expected a function, got " .. type(fn), 2) end
    local site = "alarm made at " .. site_of_caller()
    local alarm = setmetatable({ event = clock.event(fn, site), is_closed = false }, Alarm)
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

  function world.trace(words, ...)
    if select("#", ...) > 0 then words = words:format(...) end
    local line = ("[%4d] %s"):format(math.floor(world.time_ms()), words)
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
  net.faults = behaviour.of_faults(options.faults)

  state.dns = dns.install(world, net, random.new(options.seed, FOR_DNS))

  function world.tcp()
    return socket.new(world, net:transport())
  end
  world.is_socket = socket.is

  world.servers = {}

  function world.server(address, port, given)
    local server = net:add_server(address, port, given)
    world.servers[port and addresses.join(address, port) or address] = server
    return server
  end

  function world.unreachable(address, flag)
    local wire = net:wire(address)
    if flag == false then wire:open() else wire:shut() end
  end

  function world.faults(given)
    net.faults = behaviour.of_faults(given)
  end

  local for_pools, luck = random.new(options.seed, FOR_SEEDS), random.new(options.seed, FOR_TESTS)

  function world.seed()
    return for_pools:whole()
  end

  function world.random(low, high)
    return luck:between(low or 0, high or 1)
  end
end

--- @return a world: a host, and what a test needs beside it (see the top)
function sim.new(given)
  local options = check_options(given)
  local state = { clock = clock.new(options.start_ns), is_turn_due = false, failure = nil, site_of_caller = site_of_caller }
  local world = { name = "sim" }
  loop.install_time(world, state, options)
  add_records(world, options)
  add_tasks(world, state, options)
  add_alarms(world, state)
  add_network(world, state, options)
  loop.install(world, state, options)
  ends.install(world, state)
  return contract.complete(world)
end

--- fn(world, seed) for each of `count` seeds, each in a world of its own: docs/simulation.md.
-- @param options nil, or { from = the first seed, … } and what sim.new takes
function sim.for_seeds(count, fn, options)
  seeds.run(sim.new, count, fn, options)
end

return sim
