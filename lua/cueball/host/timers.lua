--- Deadlines in the order in which they come: a binary heap that can also take
-- a deadline out or move it.  Ties keep the order in which they were set.
--
-- An owner is any table; the heap keeps `at` (nanoseconds) and two fields of
-- its own (`timer_index`, `timer_order`) in it, so setting makes no garbage.
--
--   local timers = require("cueball.host.timers").new(arm)
--   timers:set(owner, at [, order])   arm(at) is called when `at` is earlier than anything armed;
--                              `order` breaks ties: timers:next_order() of an earlier time, or left out
--   timers:clear(owner)        arm(nil) is called when nothing is left
--   timers:ignore(owner)       it may stay, if that is less work, and then comes due for nothing; arm(nil) is called at the next
--                              timers:settle() if all that are left are such ones
--   timers:heed(owner)         it counts again
--   timers:take(now)           → the next owner that is due, taken out, or nil
--   timers:rearm()             after a round of take(): arm for what is left
--
-- `arm(at)` replaces what it was told before.  It may be left armed earlier
-- than need be (a deadline moved away): such a call finds nothing due and
-- rearm() puts it right.
local timers = {}

local Timers = {}
Timers.__index = Timers

--- @param arm function(at or nil)
function timers.new(arm)
  return setmetatable({ arm = arm, heap = {}, count = 0, ignored = 0, order = 0, armed = nil }, Timers)
end

local function is_before(a, b)
  if a.at ~= b.at then return a.at < b.at end
  return a.timer_order < b.timer_order
end

local function put(heap, owner, index)
  heap[index] = owner
  owner.timer_index = index
end

local function sift_up(heap, owner, index)
  while index > 1 do
    local parent = (index - index % 2) / 2
    if not is_before(owner, heap[parent]) then break end
    put(heap, heap[parent], index)
    index = parent
  end
  put(heap, owner, index)
end

local function sift_down(heap, count, owner, index)
  while true do
    local child = index * 2
    if child > count then break end
    if child < count and is_before(heap[child + 1], heap[child]) then child = child + 1 end
    if not is_before(heap[child], owner) then break end
    put(heap, heap[child], index)
    index = child
  end
  put(heap, owner, index)
end

local function take_out(self, owner)
  local heap, index, count = self.heap, owner.timer_index, self.count
  local moved = heap[count]
  heap[count] = nil
  self.count = count - 1
  owner.timer_index = nil
  if owner.is_ignored then owner.is_ignored, self.ignored = false, self.ignored - 1 end
  if moved == owner then return end
  if index > 1 and is_before(moved, heap[(index - index % 2) / 2]) then
    sift_up(heap, moved, index)
  else
    sift_down(heap, count - 1, moved, index)
  end
end

function Timers:next_order()
  self.order = self.order + 1
  return self.order
end

function Timers:set(owner, at, order)
  if owner.timer_index then take_out(self, owner) end
  owner.at, owner.timer_order = at, order or self:next_order()
  self.count = self.count + 1
  sift_up(self.heap, owner, self.count)
  if not self.armed or at < self.armed then
    self.armed = at
    self.arm(at)
  end
end

function Timers:clear(owner)
  if not owner.timer_index then return end
  take_out(self, owner)
  if self.count == 0 and self.armed then
    self.armed = nil
    self.arm(nil)
  end
end

function Timers:ignore(owner)
  if not owner.timer_index or owner.is_ignored then return end
  owner.is_ignored, self.ignored = true, self.ignored + 1
end

function Timers:heed(owner)
  if not owner.is_ignored then return end
  owner.is_ignored, self.ignored = false, self.ignored - 1
  if not self.armed or owner.at < self.armed then
    self.armed = owner.at
    self.arm(owner.at)
  end
end

--- To be called before the host waits.
function Timers:settle()
  if self.armed and self.ignored == self.count then
    self.armed = nil
    self.arm(nil)
  end
end

function Timers:take(now)
  local owner = self.heap[1]
  if not owner or owner.at > now then return nil end
  take_out(self, owner)
  return owner
end

function Timers:rearm()
  local owner = self.heap[1]
  self.armed = owner and self.ignored < self.count and owner.at or nil
  self.arm(self.armed)
end

--- The earliest deadline, or nil.
function Timers:next()
  local owner = self.heap[1]
  return owner and owner.at
end

return timers
