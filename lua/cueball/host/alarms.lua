--- The alarms of a host that has a clock of its own: what host.alarm makes, and when they go off.
--
--   local alarms = require("cueball.host.alarms").new { now = fn, arm = fn(at or nil), call = fn(fn), set = fn() or nil }
--   host.alarm = function(fn) return alarms:make(fn) end
--   alarms:run()       those that are due go off; to be called when `arm`'s time has come
--   alarms:next()      → when the first one goes off; math.huge: none does
--
-- `arm` is as for cueball.host.timers; `call` runs an alarm's function and logs what it throws; `set` is called after one was set.
local misuse = require "cueball.misuse"
local timers = require "cueball.host.timers"

local alarms = {}

local Alarms = {}
Alarms.__index = Alarms

local Alarm = {}
Alarm.__index = Alarm

function alarms.new(given)
  return setmetatable({ now = given.now, call = given.call, was_set = given.set, queue = timers.new(given.arm) }, Alarms)
end

-- All alarms that are due are taken before one acts. An alarm that another one clears meanwhile does not go off.
function Alarms:run()
  local queue, time, due = self.queue, self.now(), nil
  local alarm = queue:take(time)
  while alarm do
    alarm.is_due = true
    due = due or {}
    due[#due + 1] = alarm
    alarm = queue:take(time)
  end
  for _, each in ipairs(due or {}) do
    if each.is_due then
      each.is_due = false
      self.call(each.fn)
    end
  end
  queue:rearm()
end

function Alarms:next()
  return self.queue.count > 0 and self.queue.heap[1].at or math.huge
end

--- One re-armable deadline.
-- @param fn called when it comes, outside of any task; an error in it is logged
function Alarms:make(fn)
  if type(fn) ~= "function" then misuse.raise("alarm: expected a function, got " .. type(fn)) end
  return setmetatable({ alarms = self, fn = fn, is_due = false, is_closed = false }, Alarm)
end

--- @param at nanoseconds as in host.now(); past: soon, never inside this call
function Alarm:set(at)
  if self.is_closed then misuse.raise "alarm: it is closed" end
  if type(at) ~= "number" or at ~= at then misuse.raise("alarm: expected a time in nanoseconds, got " .. tostring(at)) end
  self.is_due = false
  if self.timer_index and self.at == at then return end
  local all = self.alarms
  all.queue:set(self, at)
  if all.was_set then all.was_set() end
end

function Alarm:clear()
  self.is_due = false
  self.alarms.queue:clear(self)
end

function Alarm:close()
  self:clear()
  self.is_closed = true
end

return alarms
