--- What is to be done once the loop has polled.  Where the program computed for long, time limits have passed and answers lie in
-- the sockets: libuv runs timers first, and an answer that came in time would be late.  Likewise a timer that is set to the past
-- again and again, in itself, would run for ever before the loop polls.
local polled = {}

local Polled = {}
Polled.__index = Polled

local function nothing() end

--- @param uv the luv module
function polled.new(uv)
  local self = setmetatable({ idle = uv.new_idle(), check = uv.new_check(), waiting = {} }, Polled)
  self.check:unref()
  self.on_check = function()
    self.idle:stop()
    self.check:stop()
    local waiting = self.waiting
    self.waiting = {}
    for _, fn in ipairs(waiting) do fn() end
  end
  return self
end

--- Calls fn(), once, after the loop has polled without waiting.  Of the event loop's time only.
-- @param keeps_alive whether the loop has to go on for it
function Polled:call(fn, keeps_alive)
  if #self.waiting == 0 then
    self.idle:start(nothing)   -- an active idle handle keeps libuv from sleeping in its poll
    self.check:start(self.on_check)
    self.idle:unref()
  end
  if keeps_alive then self.idle:ref() end
  self.waiting[#self.waiting + 1] = fn
end

return polled
