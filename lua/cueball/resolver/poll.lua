--- A resolver that looks again and again.
--
--   resolver.poll { interval_ms = 5000, step = function(sink) return { "10.0.0.1:80" } end }
--
-- docs/contracts.md has more.
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local options = require "cueball.options"

local WHAT = "cueball.resolver.poll"
local INTERVAL_MS = 5000

local Poll = {}
Poll.__index = Poll

-- What step gave: a list, or why there is none.
local function take(self, sink)
  local list, message = self.step(sink)
  if list ~= nil then
    local ok, why = sink:set(list)
    if ok then return true end
    message = why
  end
  sink:fail(message == nil and "the step returned neither a list nor a message" or message, { not_yet = true })
  return false
end

--- For a pool: see docs/contracts.md.
function Poll:run(sink)
  local goes_on
  repeat
    if take(self, sink) then goes_on = sink:sleep(self.interval_ms) else goes_on = sink:pause() end
  until not goes_on
end

local OPTIONS = {
  step = options.of_type("function", "a function(sink) that returns a list, or nil and a message"),
  interval_ms = options.number(1, 86400000, "milliseconds"),
  name = options.of_type "string",
}
options.note(WHAT, OPTIONS)

--- Makes a resolver.
-- @param given
--   step(sink)   all the backends there are, as for sink:set; or nil, message: they cannot be found at present, and it is tried
--                again after sink:pause().  It may wait
--   interval_ms  between two looks, 5000 by default; shorter while the pool has failed
--   name         of the service
-- @return a resolver; mistakes in the options raise an error at the caller's line
local function poll(given)
  given = options.check(WHAT, given, OPTIONS)
  if given.step == nil then misuse.raise(WHAT .. ": option 'step' is required: " .. OPTIONS.step.range) end
  local self = setmetatable({ step = given.step, interval_ms = given.interval_ms or INTERVAL_MS, name = given.name }, Poll)
  return made_of.note(self, WHAT, given)
end

return poll
