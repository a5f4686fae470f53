--- Tasks and alarms under nginx: who runs them, and what if nobody can.
--
-- A request's light threads and sockets end with it. So tasks run as light threads of a timer runner: a timer that lives on, waits on a
-- semaphore until the next alarm, one second at most, and starts what was asked for meanwhile.
--
-- A runner is replaced after so many tasks: nginx gives back what they took (the sockets' memory, the record of each light thread)
-- only when the timer ends. The runner before stays until its last task is done, and only it can kill its tasks: ngx.thread.kill is for
-- the parent.
--
-- What can go wrong:
-- - No timer can be had (lua_max_running_timers, lua_max_pending_timers, worker_connections). A watchdog tries again every second.
-- - The worker is exiting: nginx would wait for the runner. So the runner ends its tasks and goes; requests that are left do without.
-- - No runner runs: then one of the requests that wait, the substitute, runs the alarms that are due, and the tasks that may be begun
--   anew, until its own wait is over; then another request does. Tasks not done by then are begun anew by that one.
local misuse = require "cueball.misuse"
local alarms_of = require "cueball.host.alarms"
local owned = require "cueball.host.owned"
local semaphore = require "ngx.semaphore"
local request = require "cueball.nginx.request"
local text = require "cueball.text"
local lib = require("cueball.native").lib

local TASKS_MAX = 200         -- begun by one runner
local TICK_S = 1              -- a runner looks around at least this often
local SILENCE_NS = 3e9        -- a runner not heard of for so long is gone
local LOOK_NS = 10e6          -- a substitute looks at least this often for requests that ended
local LOOK_S = LOOK_NS / 1e9
local SUBSTITUTE_NS = 250e6   -- a substitute not heard of for so long is gone
local HELPER_TASKS_MAX = 16   -- at once, in one request that waits

local spawn, kill, running = ngx.thread.spawn, ngx.thread.kill, coroutine.running

local runner = {
  log = nil,             -- set by the host: function(level, message)
  has_to_end = nil,      -- nil, or function() → true: not only when the worker exits
}

local current             -- the runner that takes tasks; nil: none
local heard_at = 0        -- when the current runner last looked around, by now()
local has_left = false    -- the worker is exiting
local waiting = setmetatable({}, { __mode = "k" }) -- requests' waiters
local substitute, substitute_at = nil, 0 -- one of those waiters, where no runner runs; and when it last looked
local watchdog_set = false
local queue = { first = 1, last = 0 }
local by_thread = setmetatable({}, { __mode = "k" }) -- light thread to its task

local function now()
  return (tonumber(lib.cueball_clock_now()))
end

local Runner = {}
Runner.__index = Runner

local function post(self)
  if self.is_posted then return end
  self.is_posted = true
  self.semaphore:post(1)
end

-- Does a runner see to things?
-- @param time by now(), if that is known
local function is_running(time)
  return current ~= nil and (time or now()) - heard_at < SILENCE_NS
end

-- ------------------------------------------------------------------ alarms --

local function call(fn, ...)
  local ok, message = xpcall(fn, text.traceback, ...)
  if not ok then runner.log("error", message, "task_threw") end
end

local alarms = alarms_of.new {
  now = now,
  arm = function(at)
    if at and current and at < current.wakes_at then post(current) end
  end,
  call = call,
  set = function()
    if not current then runner.ensure() end
  end,
}

--- host.alarm.
function runner.alarm(fn)
  return alarms:make(fn)
end

-- ------------------------------------------------------------------- tasks --

local function push(task)
  queue.last = queue.last + 1
  queue[queue.last] = task
end

local function pull()
  while queue.first <= queue.last do
    local task = queue[queue.first]
    queue[queue.first] = nil
    queue.first = queue.first + 1
    if not task.is_done then return task end
  end
end

-- A task's light thread.
local function run(task, by)
  task.thread = running()
  by_thread[task.thread] = task
  call(task.fn, unpack(task.arguments, 1, task.arguments.count))
  if task.runner ~= by then return end -- killed, and perhaps begun elsewhere, in the moment that it ended
  by_thread[task.thread] = nil
  task.is_done, task.owned = true, nil
  by:done(task)
end

-- Begins a task in a light thread of the coroutine that runs now. It may be over when this returns.
-- @param by what runs it: a runner, or a helper
local function begin(task, by)
  task.runner = by
  by.tasks[task] = true
  by.count = by.count + 1
  local thread, message = spawn(run, task, by)
  if thread then return true end
  by.tasks[task], task.runner = nil, nil
  by.count = by.count - 1
  runner.log("error", "a task could not begin: " .. tostring(message), "task_not_begun")
  return false
end

--- Runs fn(...) in a task of its own, soon.
-- @param kind "errand": it is over soon, and may be begun anew from its start if what ran it ends before; "service": the same, but it
--   goes on; "task": it cannot be begun anew
function runner.spawn(kind, fn, ...)
  if type(fn) ~= "function" then misuse.raise("spawn: expected a function, got " .. type(fn)) end
  local task = {
    fn = fn, arguments = { count = select("#", ...), ... }, kind = kind,
    is_done = false, thread = nil, runner = nil, owned = nil, owned_count = 0,
  }
  if current and current.main == running() then -- its own light threads begin at once
    begin(task, current)
    return task
  end
  push(task)
  if current then post(current) else runner.ensure() end
  return task
end

--- The task that runs now; nil in a request's own code.
-- @param record of request.record()
function runner.task(record)
  return record and record.runner and by_thread[running()] or nil
end

--- Ends a task: it goes no further than where it waits.
function runner.kill(task)
  if task.is_done then return end
  if task.thread and task.thread == running() then misuse.raise "kill: a task may not kill itself" end
  task.is_done = true
  owned.abort(task, call)
  local by = task.runner
  if not by then return end
  by.kills[#by.kills + 1] = task
  if by.semaphore then post(by) end
end

runner.own, runner.disown = owned.add, owned.remove

local never

--- A task that was killed while it ran stays here.
function runner.stay_if_killed(task)
  while task and task.is_done do
    never = never or semaphore.new()
    never:wait(60)
  end
end

-- ----------------------------------------------------------------- runners --

local function drop(self, task)
  if not self.tasks[task] then return end
  self.tasks[task] = nil
  self.count = self.count - 1
end

function Runner:done(task)
  drop(self, task)
  if self.count == 0 and self ~= current then post(self) end
end

-- Ends the tasks of a runner, or of a helper, that are to be killed.
local function kill_asked(self)
  local kills = self.kills
  if #kills == 0 then return end
  self.kills = {}
  for _, task in ipairs(kills) do
    if task.runner == self then
      task.runner = nil
      drop(self, task)
      by_thread[task.thread] = nil
      kill(task.thread)
    end
  end
end

local function begin_asked(self)
  local last = queue.last
  while queue.first <= last do
    local task = pull()
    if not task then break end
    begin(task, self)
    self.begun = self.begun + 1
  end
end

-- There is no runner any more: those who wait see to things.
local function end_current()
  current = nil
  request.ring(nil)
  for waiter in pairs(waiting) do waiter:look() end
end

-- The worker is exiting. Tasks that would keep it are ended; errands are over before long.
local function leave(self)
  has_left = true
  end_current()
  for task in pairs(self.tasks) do
    if task.kind ~= "errand" then runner.kill(task) end
  end
end

local function wait(self, seconds)
  self.wakes_at = math.min(alarms:next(), now() + seconds * 1e9)
  -- At least 1 ms: nginx counts in whole ones, and a wait of none would be no wait.
  local ok = self.semaphore:wait(math.max(0.001, (self.wakes_at - now()) / 1e9))
  self.wakes_at = 0
  if ok then self.is_posted = false end
end

-- The current runner, until it is replaced or the worker exits.
local function serve(self)
  while current == self do
    heard_at = now()
    if ngx.worker.exiting() or runner.has_to_end and runner.has_to_end() then return leave(self) end
    kill_asked(self)
    request.tell_ended()
    alarms:run()
    begin_asked(self)
    if self.begun >= TASKS_MAX and not self.is_replacement_asked then
      self.is_replacement_asked = ngx.timer.at(0, runner.run) and true or false
    end
    if current == self then wait(self, runner.has_to_end and TICK_S / 20 or TICK_S) end
  end
end

-- A runner that was replaced: until its last task is done.
local function remain(self)
  while self.count > 0 do
    if ngx.worker.exiting() then
      for task in pairs(self.tasks) do
        if task.kind ~= "errand" then runner.kill(task) end
      end
    end
    kill_asked(self)
    if self.count > 0 then
      local ok = self.semaphore:wait(TICK_S)
      if ok then self.is_posted = false end
    end
  end
end

--- What a runner's timer runs.
function runner.run(premature)
  if premature then
    has_left = true
    return
  end
  local record = request.record()
  if not record then return end -- no memory: the watchdog tries again
  local before = current
  local self = setmetatable({
    semaphore = semaphore.new(), is_posted = false, main = running(), wakes_at = 0,
    tasks = {}, kills = {}, count = 0, begun = 0, is_replacement_asked = false,
  }, Runner)
  record.runner = self
  current = self
  request.ring(self.semaphore)
  if before then post(before) end
  local ok, message = xpcall(serve, text.traceback, self)
  if not ok then
    if current == self then end_current() end
    runner.log("error", "the driver threw: " .. message, "task_threw")
  end
  remain(self)
end

local function watch(premature)
  if premature then
    has_left = true
  elseif not is_running() then
    runner.run(false)
  end
end

local NO_TIMERS = { init = true }

--- Sees to it that a runner runs, or will.
function runner.ensure()
  if current or has_left or NO_TIMERS[ngx.get_phase()] then return end
  if not watchdog_set then
    -- A timer that comes again and again would keep the Lua state of a request, with lua_code_cache off.
    watchdog_set = runner.has_to_end or ngx.timer.every(TICK_S, watch) and true or false
    ngx.timer.at(0, function(premature)
      if not current then runner.run(premature) end
    end)
  end
end

-- ----------------------------------------------------------------- helpers --

-- What a substitute runs in its request: its tasks are light threads of that request.
local Helper = {}
Helper.__index = Helper

-- ngx_lua keeps a light thread that has ended until its parent waits for it, ends, or kills it. If the parent is killed, they are kept for
-- ever, and with them the request. So a light thread of a helper never ends before its parent: it stays here until its parent kills it, or
-- was killed itself.
function Helper:done(task)
  drop(self, task)
  self.kills[#self.kills + 1] = task
  local over = semaphore.new()
  while coroutine.status(self.thread) ~= "dead" do over:wait(LOOK_S) end
end

-- A helper in the light thread that runs now. The entry thread of a request lives as long as the request. Another one may be killed, and
-- its tasks would go on in the request: an errand is soon over, a service would keep the request for ever.
local function new_helper()
  local thread = running()
  local _, refusal = kill(thread) -- ngx_lua refuses in any case, and says why
  return setmetatable({
    thread = thread, lives_as_long_as_its_request = refusal == "not user thread", tasks = {}, kills = {}, count = 0,
  }, Helper)
end

--- A waiter begins to wait in a request, or is done.
-- @param waiter has look(), which ends its sleep
function runner.wait_begins(waiter)
  waiting[waiter] = true
end

function runner.wait_ends(waiter)
  waiting[waiter] = nil
  if substitute ~= waiter then return end
  substitute = nil
  local other = next(waiting)
  if other then other:look() end
end

--- Until when a waiter in a request may sleep, in nanoseconds. Where a runner runs, the waiter has nothing to do but to wait.
-- @param time by now()
function runner.sleep_until(waiter, time)
  if is_running(time) then return time + SILENCE_NS end
  if substitute and substitute ~= waiter and time - substitute_at < SUBSTITUTE_NS then return time + SUBSTITUTE_NS end
  substitute, substitute_at = waiter, time
  return math.min(alarms:next(), time + LOOK_NS)
end

--- Does what is overdue, in the request that calls this, if its waiter is the substitute.
-- @param waiter as of runner.sleep_until
-- @param helper what this returned before in the same wait, or nil
-- @return the helper, to be given to runner.stop_helping when the wait is over; or nil
function runner.help(waiter, helper)
  if is_running() or substitute ~= waiter then return helper end
  request.tell_ended()
  if alarms:next() <= now() then alarms:run() end
  runner.ensure()
  helper = helper or new_helper()
  local held, last = {}, queue.last
  while queue.first <= last and helper.count < HELPER_TASKS_MAX do
    local task = pull()
    if not task then break end
    if task.kind == "errand" or task.kind == "service" and helper.lives_as_long_as_its_request then
      begin(task, helper)
    else
      held[#held + 1] = task
    end
  end
  for _, task in ipairs(held) do push(task) end
  kill_asked(helper)
  return helper
end

--- The wait is over: what is not done is left to the next helper, from its start.
function runner.stop_helping(helper)
  kill_asked(helper)
  for task in pairs(helper.tasks) do
    task.runner = nil
    by_thread[task.thread] = nil
    kill(task.thread)
    if not task.is_done then
      task.thread = nil
      push(task)
    end
  end
  if current then post(current) end
end

return runner
