--- What runs beside each other in ngx_lua's API: sleep, thread, timer, ctx, and its module ngx.semaphore; over the tasks of any host.
--
--   thread.of(host) → { sleep =, thread =, timer =, semaphore =, context = function() → a table for `ctx`'s value }
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local thread = {}

local function number_of(what, value)
  local number = tonumber(value)
  if not number or number ~= number or number < 0 then
    misuse.raise(("%s: expected seconds from 0, got %s"):format(what, text.show(value)))
  end
  return number
end

local function pack(...)
  return { count = select("#", ...), ... }
end

-- ------------------------------------------------------------- contexts --

-- `ctx` of a task is that of all threads it spawns, as in a request.
local function contexts_of(host)
  local holders = setmetatable({}, { __mode = "k" })
  local outside = {}
  return function(task)
    task = task or host.current() or outside
    local holder = holders[task]
    if not holder then
      holder = { value = {} }
      holders[task] = holder
    end
    return holder
  end, holders
end

-- -------------------------------------------------------------- threads --

local function finish(record, ...)
  record.values = pack(...)
  record.is_done = true
  for waiter in pairs(record.waiters) do waiter:wake(record) end
  record.waiters = {}
end

-- What wait returns of a thread that is over, once.
local function collect(record)
  if record.is_collected then return nil, "already waited or killed" end
  record.is_collected = true
  return unpack(record.values, 1, record.values.count)
end

local Threads = {}
Threads.__index = Threads

local function record_of(self, co, name)
  local record = type(co) == "thread" and self.records[co]
  if not record then misuse.raise(("thread.%s: expected a thread of thread.spawn, got %s"):format(name, type(co))) end
  return record
end

-- Killed with the task that spawned it, where the host tells: what a request is elsewhere.
local function bind(host, record)
  local tasks, parent = host.tasks, host.current()
  if not tasks or not parent then return function() end end
  local resource = { abort = function()
    if record.is_done or not record.task then return end
    host.kill(record.task)
    finish(record, false, "killed")
  end }
  tasks:own(parent, resource)
  return function() tasks:disown(parent, resource) end
end

function Threads:spawn(fn, ...)
  if type(fn) ~= "function" then misuse.raise("thread.spawn: expected a function, got " .. type(fn)) end
  local host, holder = self.host, self.context()
  local record = { waiters = {}, is_done = false, is_collected = false }
  local unbind = bind(host, record)
  local made
  local function report(message)
    log.say(host, "error", "thread aborted: " .. text.traceback(message), "task_threw")
    return message
  end
  record.task = host.spawn(function(...)
    made = coroutine.running()
    self.records[made], self.holders[host.current() or made] = record, holder
    local values = pack(xpcall(fn, report, ...))
    unbind()
    finish(record, unpack(values, 1, values.count))
  end, ...)
  return made
end

--- Waits for the first of them that is over.
-- @return true and what it returned; or false, what it threw; nil, message: it was waited for before
function Threads:wait(...)
  local list = { ... }
  if #list == 0 then misuse.raise "thread.wait: expected a thread" end
  for index, co in ipairs(list) do list[index] = record_of(self, co, "wait") end
  for _, record in ipairs(list) do
    if record.is_done then return collect(record) end
  end
  local waiter = self.host.waiter()
  for _, record in ipairs(list) do record.waiters[waiter] = true end
  local first = waiter:wait()
  for _, record in ipairs(list) do record.waiters[waiter] = nil end
  return collect(first)
end

function Threads:kill(co)
  local record = record_of(self, co, "kill")
  if record.is_collected then return nil, "already waited or killed" end
  if record.is_done then
    record.is_collected = true
    return nil, "already terminated"
  end
  self.host.kill(record.task)
  record.is_collected = true
  finish(record)
  return 1
end

-- --------------------------------------------------------------- timers --

local Timers = {}
Timers.__index = Timers

local function run_timer(self, fn, values)
  self.running = self.running + 1
  local ok, message = xpcall(fn, text.traced, false, unpack(values, 1, values.count))
  self.running = self.running - 1
  if not ok then log.say(self.host, "error", "timer aborted: " .. text.of(message), "task_threw") end
end

local function check_timer(name, delay, fn)
  local seconds = tonumber(delay)
  if not seconds or seconds ~= seconds or seconds == math.huge then
    misuse.raise(("timer.%s: expected seconds, got %s"):format(name, text.show(delay)))
  end
  if type(fn) ~= "function" then misuse.raise(("timer.%s: expected a function, got %s"):format(name, type(fn))) end
  return seconds
end

--- fn(false, …) in a task of its own, after `delay` seconds; never inside this call.
function Timers:at(delay, fn, ...)
  delay = check_timer("at", delay, fn)
  local values, host, alarm = pack(...), self.host, nil
  self.pending = self.pending + 1
  alarm = host.alarm(function()
    alarm:close()
    self.pending = self.pending - 1
    host.spawn(run_timer, self, fn, values)
  end)
  alarm:set(host.now() + delay * 1e9)
  return 1
end

--- The same again and again.
function Timers:every(delay, fn, ...)
  delay = check_timer("every", delay, fn)
  if delay <= 0 then misuse.raise "delay cannot be zero" end
  local values, host, alarm = pack(...), self.host, nil
  self.pending = self.pending + 1
  alarm = host.alarm(function()
    alarm:set(host.now() + delay * 1e9)
    host.spawn(run_timer, self, fn, values)
  end)
  alarm:set(host.now() + delay * 1e9)
  return 1
end

-- ----------------------------------------------------------- semaphores --

local Semaphore = {}
Semaphore.__index = Semaphore

local function check_semaphore(self)
  if getmetatable(self) ~= Semaphore then misuse.raise "not a semaphore instance" end
end

-- Takes a waiting one out of the list.
local function leave(self, one)
  for index, other in ipairs(self.waiting) do
    if other == one then return table.remove(self.waiting, index) end
  end
end

local function give(self)
  local one = table.remove(self.waiting, 1)
  if not one then
    self.resources = self.resources + 1
    return
  end
  one.is_given = true
  one.waiter:wake(true)
end

--- @return true; or nil, "timeout", false where it has waited, as in nginx
function Semaphore:wait(seconds)
  check_semaphore(self)
  local limit = number_of("semaphore:wait", seconds)
  if self.resources > 0 then
    self.resources = self.resources - 1
    return true
  end
  if limit == 0 then return nil, "timeout" end
  local host, one = self.host, { waiter = self.host.waiter(), is_given = false }
  self.waiting[#self.waiting + 1] = one
  -- Killed while it waits: nobody is to give it anything, and what it was given goes to the next.
  local resource = { abort = function() if one.is_given then give(self) else leave(self, one) end end }
  host.guard(resource)
  one.waiter:wait(limit * 1000)
  host.unguard(resource)
  if one.is_given then return true end
  leave(self, one)
  return false, "timeout"
end

function Semaphore:post(count)
  check_semaphore(self)
  count = count == nil and 1 or tonumber(count) or 0
  if count < 1 then misuse.raise "positive number required" end
  for _ = 1, count do give(self) end
  return true
end

--- How much there is to take; below 0: how many wait.
function Semaphore:count()
  check_semaphore(self)
  return self.resources - #self.waiting
end

local function new_semaphore(host, count)
  count = tonumber(count) or 0
  if count < 0 then misuse.raise "no negative number" end
  return setmetatable({ host = host, resources = count, waiting = {} }, Semaphore)
end

-- ------------------------------------------------------------- the whole --

function thread.of(host)
  local context, holders = contexts_of(host)
  local threads = setmetatable({ host = host, records = setmetatable({}, { __mode = "k" }), context = context, holders = holders }, Threads)
  local timers = setmetatable({ host = host, pending = 0, running = 0 }, Timers)
  return {
    context = context,
    sleep = function(seconds)
      host.sleep(number_of("sleep", seconds) * 1000)
    end,
    thread = {
      spawn = function(...) return threads:spawn(...) end,
      wait = function(...) return threads:wait(...) end,
      kill = function(co) return threads:kill(co) end,
    },
    timer = {
      at = function(...) return timers:at(...) end,
      every = function(...) return timers:every(...) end,
      running_count = function() return timers.running end,
      pending_count = function() return timers.pending end,
    },
    semaphore = { new = function(count) return new_semaphore(host, count) end, version = "0.1.25" },
  }
end

return thread
