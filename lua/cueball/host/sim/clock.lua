--- Virtual time: it stands still until somebody takes the next event.
--
-- Events come by (time, order of arming).  The time limits of tasks stand in
-- the same queue as everything else, so that a tie between a sleep, an alarm
-- and a packet is settled by who came first, as for two of a kind.
local timers = require "cueball.host.timers"

local NS_PER_MS = 1e6

local clock = {}

local Clock = {}
Clock.__index = Clock

-- What cueball.host.task sees as its timers (the interface of cueball.host.timers):
-- the clock's own queue, out of which one task at a time comes due.
local Limits = {}
Limits.__index = Limits

-- A wait for ever is no event: it would end when nothing else is left, at infinity.
function Limits:set(owner, at, order)
  if at == math.huge then return self:clear(owner) end
  self.clock:set(owner, at, order)
end

function Limits:clear(owner) self.clock.queue:clear(owner) end
function Limits:ignore(owner) self.clock.queue:clear(owner) end -- what comes due for nothing would be an event in virtual time
function Limits:heed() end
function Limits:next_order() return self.clock.queue:next_order() end
function Limits:rearm() end

function Limits:take()
  local due = self.due
  self.due = nil
  return due
end

function clock.new(start_ns)
  local self = setmetatable({
    now = start_ns,
    start = start_ns,
    queue = timers.new(function() end),
  }, Clock)
  self.limits = setmetatable({ clock = self, due = nil }, Limits)
  return self
end

--- An event that is not armed yet.
-- @param what names it if the world runs hot
-- @param is_far true: it happens elsewhere, and does not wait until the program of this host has time for it
function clock.event(fn, what, is_far)
  return { fn = fn, what = what, is_event = true, is_far = is_far or false }
end

function Clock:ms_since_start()
  return (self.now - self.start) / NS_PER_MS
end

--- Arms an event, or moves it; a time in the past means now, after what is due already.
function Clock:set(event, at, order)
  self.queue:set(event, math.max(at, self.now), order)
end

function Clock:clear(event)
  self.queue:clear(event)
end

--- Calls fn() in so many milliseconds.
function Clock:arm_in(ms, fn, what, is_far)
  self:set(clock.event(fn, what, is_far), self.now + math.floor(ms * NS_PER_MS + 0.5))
end

--- When the next event comes; nil if there is none.
function Clock:next_at()
  return self.queue:next()
end

--- Takes the next event out of the queue and moves time to it.
-- @return the event, for the caller to run; or nil: the time limit of a task, now in self.limits
function Clock:take()
  local owner = self.queue:take(self.queue:next())
  assert(owner.at >= self.now or owner.was_held, "time does not run backwards")
  self.now, owner.was_held = math.max(self.now, owner.at), nil
  if owner.is_event then return owner end
  self.limits.due = owner
  return nil
end

--- Time goes on to `until_ns` while the program computes: what is far happens, the rest is late.
function Clock:compute(until_ns)
  local held = {}
  while (self:next_at() or math.huge) <= until_ns do
    local owner = self.queue:take(self:next_at())
    if owner.is_far then
      self.now = math.max(self.now, owner.at)
      owner.fn()
    else
      held[#held + 1] = owner
    end
  end
  self.now = until_ns
  for _, owner in ipairs(held) do
    if not owner.timer_index then
      owner.was_held = true
      self.queue:set(owner, owner.at, owner.timer_order)
    end
  end
end

--- Forgets everything that was to come.
function Clock:forget()
  while self.queue:next() do self.queue:take(self.queue:next()) end
end

return clock
