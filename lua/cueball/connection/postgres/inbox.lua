--- Notifications that came and were not taken yet: a queue of bounded length.
local inbox = {}

local Inbox = {}
Inbox.__index = Inbox

--- @param limit how many are kept at most
function inbox.new(limit)
  return setmetatable({ limit = limit, first = 1, last = 0, lost = 0, waiter = nil }, Inbox)
end

--- One has come. The latest are dropped, and counted, where there are too many.
function Inbox:add(channel, payload, pid)
  if self.last - self.first + 1 >= self.limit then
    self.lost = self.lost + 1
    return
  end
  self.last = self.last + 1
  self[self.last] = { channel = channel, payload = payload, pid = pid }
end

--- Is there one, or were some dropped?
function Inbox:has_any()
  return self[self.first] ~= nil or self.lost > 0
end

--- @return the oldest, which is taken out; nil: there is none
function Inbox:take()
  local one = self[self.first]
  if one == nil then return nil end
  self[self.first] = nil
  self.first = self.first + 1
  if self.first > self.last then self.first, self.last = 1, 0 end
  return one
end

--- Forgets them: the connection listens to nothing any more.
function Inbox:clear()
  for index = self.first, self.last do self[index] = nil end
  self.first, self.last, self.lost = 1, 0, 0
end

--- How many were dropped since this was asked last.
function Inbox:take_lost()
  local lost = self.lost
  self.lost = 0
  return lost
end

return inbox
