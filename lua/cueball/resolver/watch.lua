--- A resolver for a directory that tells of changes: all of it is listed once, then the changes are followed from there.
--
--   resolver.watch {
--     list = function(sink) … return backends, position end,
--     follow = function(sink, position) … sink:add(backend) … return position end,
--   }
--
-- The happy path: list, then follow again and again, each time from where the last one ended.
-- What can go wrong: list fails (it is tried again, with longer and longer pauses), follow says that the position is too old or that the
-- stream broke (all is listed anew), either of them at once each time (the pauses grow all the same).
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local options = require "cueball.options"

local WHAT = "cueball.resolver.watch"
local LONG_NS = 10e9 -- a follow that lasted so long went well

local Watch = {}
Watch.__index = Watch

-- @return whether the directory was listed, and followed for long; and why it is not followed any more
local function list_and_follow(self, sink)
  local backends, position = self.list(sink)
  if backends == nil then return false, position == nil and "it returned neither a list nor a message" or position end
  local pauses = sink.pauses
  local ok, message = sink:set(backends)
  if not ok then return false, message end
  local began = sink.host.now()
  repeat
    local next_position, why = self.follow(sink, position)
    if next_position then position = next_position end
    message = why
  until not next_position or not sink:is_wanted()
  local was_long = sink.host.now() - began >= LONG_NS
  if not was_long then sink.pauses = pauses end -- else what ends at once would be begun again at once
  return was_long, message
end

--- For a pool: see docs/contracts.md.
function Watch:run(sink)
  local goes_on
  repeat
    local was_long, message = list_and_follow(self, sink)
    if message ~= nil then sink:fail(message, { not_yet = true }) end
    goes_on = sink:is_wanted() and (was_long and message == nil or sink:pause())
  until not goes_on
end

local OPTIONS = {
  list = options.of_type("function", "a function(sink) that returns a list and a position, or nil and a message"),
  follow = options.of_type("function", "a function(sink, position) that returns the next position, or nil"),
  name = options.of_type "string",
}
options.note(WHAT, OPTIONS)

local REQUIRED = { "list", "follow" }

--- Makes a resolver.
-- @param given
--   list(sink)              all the backends there are, as for sink:set, and any value that says as of when; or nil, message
--   follow(sink, position)  waits for changes since then, tells sink:add and sink:remove of them (or sink:set of all), and returns
--                           the position after them; or false: all is to be listed anew; or nil, message: it broke
--   name                    of the service
-- @return a resolver; mistakes in the options raise an error at the caller's line
local function watch(given)
  given = options.check(WHAT, given, OPTIONS)
  for _, name in ipairs(REQUIRED) do
    if given[name] == nil then misuse.raise(("%s: option '%s' is required: %s"):format(WHAT, name, OPTIONS[name].range)) end
  end
  return made_of.note(setmetatable({ list = given.list, follow = given.follow, name = given.name }, Watch), WHAT, given)
end

return watch
