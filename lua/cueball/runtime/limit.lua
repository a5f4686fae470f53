--- Ends what a script does without end. A loop that never waits gives nobody else a turn, so a hook looks at the clock as the script runs.
--
-- Compiled code calls no hook: what the script loads is not compiled until its run is over.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"

local limit = {}

local INSTRUCTIONS = 100000 -- between two looks at the clock

local Limit = {}
Limit.__index = Limit

local function now_ms()
  return tonumber(native.lib.cueball_clock_now()) / 1e6
end

-- Whether the running task is the script's, or was spawned by it.
local function is_of(self)
  local task = self.host.current()
  while task do
    if task == self.task then return true end
    task = type(task) == "table" and task.parent
  end
  return false
end

-- From the limit on each instruction of the script's throws, so that no pcall of the script's goes on. cueball's own code is never ended
-- half way.
local function look(self)
  if now_ms() < self.ends_at or not is_of(self) or misuse.is_own(debug.getinfo(3, "S")) then return end
  if not self.has_ended then
    local info = debug.getinfo(3, "Sl")
    self.has_ended = ("%s:%d: "):format(info.short_src, info.currentline)
  end
  debug.sethook(self.hook, "", 1)
  error(("%sthe script ran for more than %.15g ms without an end"):format(self.has_ended, self.ms), 0)
end

--- Begins to look.
-- @param host whose current task runs the script
-- @param ms   how long the script may run; nil: for ever
-- @return { has_ended = false, or where the limit was reached, … }
function limit.begin(host, ms)
  local self = setmetatable({ host = host, task = nil, ms = ms, ends_at = nil, hook = nil, chunks = {}, has_ended = false }, Limit)
  if not ms or debug.gethook() then return self end -- somebody else looks: a debugger
  self.ends_at = now_ms() + ms
  self.hook = function() look(self) end
  return self
end

--- A piece of Lua that the script has loaded: it is not compiled for now.
-- @return chunk
function Limit:adopt(chunk)
  if self.hook then
    jit.off(chunk, true)
    self.chunks[#self.chunks + 1] = chunk
  end
  return chunk
end

-- What was thrown, and a traceback as far as it is the script's.
local function traced(thrown)
  local trace = debug.traceback(text.of(thrown), 3)
  return trace:match "^(.*)\n%s+%[C%]: in function 'xpcall'\n" or trace
end

--- Runs fn(...) in the current task, which is the script's.
-- @return true and nothing more; or false, message with a traceback
function Limit:run(fn, ...)
  self.task = self.host.current()
  if self.hook then debug.sethook(self.hook, "", INSTRUCTIONS) end
  local ok, message = xpcall(fn, function(thrown)
    if self.has_ended then debug.sethook(self.hook, "", INSTRUCTIONS) end
    return traced(thrown)
  end, ...)
  self:finish()
  if ok then return true end
  return false, message
end

--- Looks no more.
function Limit:finish()
  if self.hook and debug.gethook() == self.hook then debug.sethook() end
  self.hook = nil
  for _, chunk in ipairs(self.chunks) do jit.on(chunk, true) end
  self.chunks = {}
end

return limit
