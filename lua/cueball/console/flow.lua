--- How much of what happens a session is told, so that a busy pool neither floods who looks nor costs the program much.
--
--   local one = flow.new(host, { lines_max = 1000, events_max = 20000 }, tell, on_excess)
--   one:sees()   an event came → false: there are too many, and on_excess was called
--   one:takes()  → true: it is to be told; false: it is counted, and the number is told when the second is over
--   one:close()
local flow = {}

local SECOND = 1e9

local Flow = {}
Flow.__index = Flow

local function tell_left_out(self)
  if self.left_out == 0 then return end
  self.tell(("… %d more within a second"):format(self.left_out), "note")
  self.left_out = 0
end

-- Begins another second, if this one is over.
local function go_on(self)
  local now = self.host.now()
  if now < self.ends_at then return end
  tell_left_out(self)
  self.ends_at, self.seen, self.taken = now + SECOND, 0, 0
end

function Flow:sees()
  if not self.limits.events_max then return true end
  go_on(self)
  self.seen = self.seen + 1
  if self.seen <= self.limits.events_max then return true end
  self.on_excess(self.limits.events_max)
  return false
end

-- What all flows of a host with such a limit have taken in the present second.
local together = setmetatable({}, { __mode = "k" })

local function has_room_together(self)
  local most, now = self.limits.together_max, self.host.now()
  if not most then return true end
  local all = together[self.host]
  if not all or now >= all.ends_at then
    all = { ends_at = now + SECOND, taken = 0 }
    together[self.host] = all
  end
  all.taken = all.taken + 1
  return all.taken <= most
end

function Flow:takes()
  if not self.limits.lines_max then return true end
  go_on(self)
  self.taken = self.taken + 1
  if self.taken <= self.limits.lines_max and has_room_together(self) then return true end
  self.left_out = self.left_out + 1
  if self.left_out == 1 then self.alarm:set(self.ends_at) end
  return false
end

function Flow:close()
  self.alarm:close()
  tell_left_out(self)
end

--- @param limits    { lines_max = told in a second, together_max = told in a second by all of the host that have it, events_max = seen in a
--   second }; each may be nil: no limit
-- @param tell       function(text, kind)
-- @param on_excess  function(events_max): there were more
function flow.new(host, limits, tell, on_excess)
  local self = setmetatable({
    host = host, limits = limits, tell = tell, on_excess = on_excess, ends_at = 0, seen = 0, taken = 0, left_out = 0, alarm = nil,
  }, Flow)
  self.alarm = host.alarm(function() go_on(self) end)
  return self
end

return flow
