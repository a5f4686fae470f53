--- A place where things pass in order, or wait until it opens again: the wire to
-- a host that cannot be reached, the door of a process that hangs.
local gate = {}

local Gate = {}
Gate.__index = Gate

function gate.new()
  return setmetatable({ is_shut = false, held = {}, first = 1, last = 0 }, Gate)
end

--- fn() now; or when the gate opens.
function Gate:pass(fn)
  if not self.is_shut then return fn() end
  self.last = self.last + 1
  self.held[self.last] = fn
end

function Gate:shut()
  self.is_shut = true
end

--- Lets pass what was held, in order, unless one of them shuts the gate again.
function Gate:open()
  self.is_shut = false
  while self.first <= self.last and not self.is_shut do
    local fn = self.held[self.first]
    self.held[self.first] = nil
    self.first = self.first + 1
    fn()
  end
end

return gate
