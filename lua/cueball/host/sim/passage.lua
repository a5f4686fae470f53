--- A passage: what comes passes in order, or waits until it opens again: the wire to
-- a host that cannot be reached, the door of a process that hangs.
local passage = {}

local Passage = {}
Passage.__index = Passage

function passage.new()
  return setmetatable({ is_shut = false, held = {}, first = 1, last = 0 }, Passage)
end

--- fn() now; or when the passage opens.
function Passage:pass(fn)
  if not self.is_shut then return fn() end
  self.last = self.last + 1
  self.held[self.last] = fn
end

function Passage:shut()
  self.is_shut = true
end

--- Lets pass what was held, in order, unless one of them shuts the passage again.
function Passage:open()
  self.is_shut = false
  while self.first <= self.last and not self.is_shut do
    local fn = self.held[self.first]
    self.held[self.first] = nil
    self.first = self.first + 1
    fn()
  end
end

return passage
