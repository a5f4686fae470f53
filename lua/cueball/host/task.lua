--- Tasks: coroutines that wait.  One scheduler, shared by every host that has
-- no tasks of its own (uv, sim).
--
-- How a host uses it:
--
--   local tasks = require("cueball.host.task").new {
--     now  = function() … end,      nanoseconds, monotonic
--     turn = function() … end,      "call tasks:run_ready() soon, outside of the present call";
--                                   asked once per time the queue stops being empty
--     timer = function(at) … end,   "call tasks:run_expired() once now() >= at"; replaces the
--                                   time given before; nil: never mind.  Calling early is harmless.
--     log  = function(level, message) … end,
--     threw = function(message) … end,   optional: hears what a task or a deferred function threw, beside the log
--     is_prompt = true,   optional: what tasks:resume makes ready goes on at the end of it, not in a turn of its own
--   }
--   host.tasks = tasks              (cueball.cosocket.socket looks for it there)
--   tasks:install(host)             fills in host.spawn, kill, current, living, can_wait, sleep, waiter, guard and unguard
--
-- tasks:run_ready() and tasks:run_expired() are called from the event loop,
-- never from inside a task.  One run_ready() takes what is ready at its start;
-- what becomes ready meanwhile waits for the next turn, so that tasks that wake
-- each other do not starve the loop.
--
-- For sockets and the like (a "task" is what spawn and current return):
--
--   tasks:park(timeout_ms)     the current task waits; returns the value it was woken with, or
--                              task.TIMEOUT.  timeout_ms nil: no limit.
--   tasks:wake(t, value)       it goes on, in its turn; from anywhere, also from inside a task
--   tasks:resume(t, value)     it goes on inside this call; from the event loop only
--   tasks:defer(fn, value)     fn(value) is called in its turn, outside of any task
--   tasks:call(fn, ...)        fn(...) now, an error in it logged
--   tasks:outside(fn, ...)     fn(...) now, though a task runs: it may not wait
--   tasks:apart(fn, ...)       the same for what anybody may have written: it may not yield either
--   t.is_done                  true once it returned, threw or was killed
--   tasks:own(t, resource)     resource:abort() is called if t is killed, unless t ends or
--   tasks:disown(t, resource)  this is called before; a resource with a method task_ended(heir) is told of that end,
--                              and whether the task that spawned t, the heir, goes on
--
-- wake and resume of a task that is not parked (done, killed, woken before) do
-- nothing: whoever wakes first wins.
--
-- A time limit is kept lazily: a task is among the timers at most once, and a
-- later deadline leaves it where it is until that time comes.  So a task
-- that reads a thousand times with a limit of 60 s arms a timer once.
local misuse = require "cueball.misuse"
local coroutines = require "cueball.host.coroutines"
local owned = require "cueball.host.owned"
local text = require "cueball.text"
local timers = require "cueball.host.timers"

local co_create, co_resume, co_running, co_status = coroutine.create, coroutines.raw_resume, coroutine.running, coroutine.status
local WAIT = coroutines.WAIT

local task = {}

--- What park() returns when the time was up.
task.TIMEOUT = setmetatable({}, { __tostring = function() return "timeout" end })
local TIMEOUT = task.TIMEOUT

local function check_timeout(who, ms)
  if type(ms) ~= "number" or ms ~= ms or ms < 0 then
    misuse.raise(("%s: expected a number of milliseconds from 0, got %s"):format(who, tostring(ms)))
  end
end

local Tasks = {}
Tasks.__index = Tasks

local Waiter = {}
Waiter.__index = Waiter

--- @param host now, turn, timer, log as above
function task.new(host)
  return setmetatable({
    now = host.now,
    turn = host.turn,
    log = host.log,
    threw = host.threw,
    is_prompt = host.is_prompt or false,
    timers = timers.new(host.timer),
    running = nil,   -- the current task
    ready = {},      -- FIFO of tasks and functions, ready[first .. last]
    values = {},     -- what each is woken with
    first = 1,
    last = 0,
    is_draining = false,
    is_over = false, -- nothing goes on any more: see tasks:close
    living = setmetatable({}, { __mode = "k" }), -- the tasks; those that are done may be among them
  }, Tasks)
end

local function with_traceback(message)
  return { message = message, trace = debug.traceback(text.of(message), 2) }
end

-- A log that throws must not stop the scheduler half way.
local function report(self, message, trace)
  pcall(self.log, "error", trace)
  if self.threw then self.threw(type(message) == "string" and trace or message) end
end

-- The task was killed: what it owns is aborted. One that throws is not in the way of the others, nor of who kills.
local function abort_owned(self, t)
  owned.abort(t, function(abort, resource)
    local ok, thrown = xpcall(abort, with_traceback, resource)
    if not ok then report(self, thrown.message, thrown.trace) end
  end)
end

-- After a task came back from running, and does not just wait: it is over, or was killed while it ran.
local function settle(self, t, ok, message)
  local co = t.co
  if t.is_done or co_status(co) == "dead" then t.co = nil end   -- whoever keeps the task does not keep what it worked on
  if co_status(co) ~= "dead" then
    if t.is_done then abort_owned(self, t) end   -- killed while it ran; what it made since goes too
    return
  end
  self.timers:clear(t)
  if t.is_done then
    abort_owned(self, t)
  else
    t.is_done = true
    local parent = t.parent
    owned.finish(t, parent and not parent.is_done and parent or nil)
  end
  t.parent = false
  if not ok then report(self, message, debug.traceback(co, text.of(message))) end
end

local function came_back(self, t, outer, ok, message)
  self.running = outer
  coroutines.depth = coroutines.depth - 1
  if message ~= WAIT or t.is_done then settle(self, t, ok, message) end
end

-- The task goes on with this value. Its results are named, since LuaJIT compiles no call that ends with those of another.
local function step(self, t, value)
  local outer = self.running
  self.running = t
  coroutines.depth = coroutines.depth + 1
  local ok, message = co_resume(t.co, value)
  came_back(self, t, outer, ok, message)
end

local function begin(self, t, ...)
  local outer = self.running
  self.running = t
  coroutines.depth = coroutines.depth + 1
  came_back(self, t, outer, co_resume(t.co, ...))
end

--- Runs fn(...) in a new task, at once, until it first waits.
-- @return the task
function Tasks:spawn(fn, ...)
  if type(fn) ~= "function" then
    misuse.raise("spawn: expected a function, got " .. type(fn))
  end
  local parent = self.running or false
  local adopt = parent and parent.adopt
  local t = {
    co = co_create(adopt and adopt(fn) or fn),
    is_done = false,
    is_parked = false,
    parked_count = 0, -- so often it has parked
    deadline = nil,   -- of the present wait; `at` is where the timers have it, never later
    parent = parent, -- the task that spawned it
    adopt = adopt or false, -- nil or false; or function(fn) → what a task that it spawns runs in fn's place
    owned = nil, owned_count = 0,
  }
  self.living[t] = true
  begin(self, t, ...)
  return t
end

--- Ends a task: it is never resumed again and what it owns is aborted.
function Tasks:kill(t)
  if not self.living[t] then
    if type(t) == "table" and t.is_done then return end
    misuse.raise("kill: expected a task, got " .. text.show(t))
  end
  if t == self.running then misuse.raise "kill: a task may not kill itself" end
  if t.is_done then return end
  if t.is_parked then t.co = nil end
  t.is_done, t.is_parked, t.deadline = true, false, nil
  self.timers:clear(t)
  abort_owned(self, t)
end

function Tasks:own(t, resource)
  owned.add(t, resource)
end

function Tasks:disown(t, resource)
  owned.remove(t, resource)
end

--- The sockets that the current task has made or connected outlive it.
function Tasks:keep()
  if self.running then owned.keep(self.running) end
end

--- The current task; raises an error where nothing may wait.
function Tasks:must_be_in_task()
  local t = self.running
  if not t then misuse.raise "only a task may wait: use host.spawn or host.run" end
  return t
end

--- The current task, where something is about to wait: raises an error inside of a function that C code calls, too.
function Tasks:must_be_able_to_wait()
  local t = self:must_be_in_task()
  if not coroutines.leads_to(co_running(), t.co) then
    misuse.raise("nothing may wait here: inside a function that C code calls (a comparison of table.sort, a replacement of string.gsub), "
      .. "or in a coroutine that was resumed by a coroutine.resume of before cueball was loaded")
  end
  return t
end

function Tasks:park(timeout_ms)
  return self:suspend(self:must_be_able_to_wait(), timeout_ms)
end

--- The same for who knows that the current task `t` may wait.
function Tasks:suspend(t, timeout_ms)
  if t.is_done then return coroutines.wait() end   -- killed while it ran: for good
  if timeout_ms then
    local deadline = self.now() + timeout_ms * 1e6
    local order = self.timers:next_order()
    t.deadline, t.order = deadline, order
    if not t.timer_index or t.at > deadline then
      self.timers:set(t, deadline, order)
    elseif t.is_ignored then
      self.timers:heed(t)
    end
  else
    t.deadline = nil
    if t.timer_index then self.timers:ignore(t) end
  end
  t.is_parked, t.parked_count = true, t.parked_count + 1
  return coroutines.wait()
end

local function push(self, what, value)
  if self.is_over then return end
  local last = self.last + 1
  self.last = last
  self.ready[last], self.values[last] = what, value
  if last == self.first and not self.is_draining then self.turn() end
end

function Tasks:wake(t, value)
  if not t.is_parked then return end
  t.is_parked, t.deadline = false, nil
  push(self, t, value)
end

function Tasks:resume(t, value)
  if not t.is_parked or self.is_over then return end
  t.is_parked, t.deadline = false, nil
  if not self.is_prompt or self.is_draining then return step(self, t, value) end
  self.is_draining = true   -- nobody need call for a turn
  step(self, t, value)
  self.is_draining = false
  if self.first <= self.last then self:run_ready() end
end

function Tasks:defer(fn, value)
  push(self, fn, value)
end

--- The host is going, and its handles with it: nothing is resumed, called or put into the queue from now on.
function Tasks:close()
  self.is_over = true
end

function Tasks:call(fn, ...)
  if self.is_over then return end
  local outer = self.running
  self.running = nil
  local ok, thrown = xpcall(fn, with_traceback, ...)
  self.running = outer
  if not ok then report(self, thrown.message, thrown.trace) end
end

--- Calls fn(...) in the middle of something that others depend on: nothing may wait in it, as outside of tasks.
-- @return what xpcall returns, three values at most; a message has a traceback
function Tasks:outside(fn, ...)
  local outer = self.running
  self.running = nil
  local ok, first, second = xpcall(fn, text.traceback, ...)
  self.running = outer
  return ok, first, second
end

--- The same for what anybody may have written: a coroutine.yield() in it is an error, too, and no task waits then. It costs a coroutine.
function Tasks:apart(fn, ...)
  local outer = self.running
  self.running = nil
  local co = co_create(function(...) return xpcall(fn, text.traceback, ...) end)
  local _, ok, first, second = co_resume(co, ...)
  self.running = outer
  if co_status(co) == "suspended" then return false, debug.traceback(co, "it waits, which it may not") end
  return ok, first, second
end

--- Lets everything that is ready now go on, in order.
-- @return true if something ran
function Tasks:run_ready()
  local ready, values, stop = self.ready, self.values, self.last
  if self.first > stop then return false end
  self.is_draining = true
  for index = self.first, stop do
    local what, value = ready[index], values[index]
    ready[index], values[index] = nil, nil
    self.first = index + 1
    if type(what) == "function" then
      self:call(what, value)
    elseif not what.is_done then
      step(self, what, value)
    end
  end
  self.is_draining = false
  if self.first <= self.last then
    self.turn()
  else
    self.first, self.last = 1, 0
  end
  return true
end

--- Wakes every task whose time is up, in the order of their deadlines.  All
-- that are due are taken before the first of them runs.
function Tasks:run_expired()
  local now, queue = self.now(), self.timers
  local t = queue:take(now)
  while t do
    if t.deadline and t.deadline > t.at then
      queue:set(t, t.deadline, t.order)
    elseif t.deadline then
      self:wake(t, TIMEOUT)
    end
    t = queue:take(now)
  end
  queue:rearm()
end

--- Waits `ms` milliseconds.
-- @return true
function Tasks:sleep(ms)
  check_timeout("sleep", ms)
  self:must_be_able_to_wait()
  self:park(ms)
  return true
end

--- One task waits for one event, once.
function Tasks:waiter()
  return setmetatable({ tasks = self, waiting = nil, woken = false, used = false, count = 0, a = nil, b = nil, more = nil }, Waiter)
end

local function woken_with(self)
  local count = self.count
  if count == 0 then return end
  if count == 1 then return self.a end
  if count == 2 then return self.a, self.b end
  return unpack(self.more, 1, count)
end

--- Parks the task until wake.
-- @param timeout_ms nil: no limit
-- @return what wake was given; or nil, "timeout"
function Waiter:wait(timeout_ms)
  if self.used then misuse.raise "waiter: wait may be called once" end
  if timeout_ms ~= nil then check_timeout("waiter", timeout_ms) end
  local current = self.tasks:must_be_able_to_wait()
  self.used = true
  if self.woken then return woken_with(self) end
  self.waiting = current
  if self.tasks:suspend(current, timeout_ms) == TIMEOUT then
    self.woken = true
    return nil, "timeout"
  end
  return woken_with(self)
end

--- The task goes on, in its turn, never inside this call.  Before wait:
-- remembered.  A second wake, or one after the time was up, is ignored.
function Waiter:wake(...)
  if self.woken then return end
  -- The time is up though the task has not run yet: it will say "timeout".
  if self.waiting and not self.waiting.is_parked then return end
  self.woken = true
  local count = select("#", ...)
  self.count = count
  if count <= 2 then
    self.a, self.b = ...
  else
    self.more = { ... }
  end
  if self.waiting then self.tasks:wake(self.waiting) end
end

--- Gives a host its task members: spawn, kill, current, living, can_wait, sleep, waiter, guard, unguard.
function Tasks:install(host)
  function host.spawn(...) return self:spawn(...) end
  function host.kill(t) return self:kill(t) end
  function host.current() return self.running end
  function host.living() return self.living end
  function host.can_wait() return self.running ~= nil and coroutines.leads_to(co_running(), self.running.co) end
  function host.sleep(ms) return self:sleep(ms) end
  function host.waiter() return self:waiter() end
  function host.guard(resource)
    if type(resource) ~= "table" or type(resource.abort) ~= "function" then
      misuse.raise("guard: expected a table with abort(self), got " .. text.show(resource))
    end
    self:own(self:must_be_in_task(), resource)
  end
  function host.unguard(resource) self:disown(self.running, resource) end
end

return task
