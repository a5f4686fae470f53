--- Ctrl-C in Lua that does not come back to the event loop: `while true do end`.
--
-- A hook looks, every few thousand instructions, whether Ctrl-C was pressed. If the event loop does not hear of it within a tenth of a
-- second, the code that runs is ended: each of its instructions throws, so that no pcall of its goes on. cueball's own code is never ended
-- half way. Compiled code calls no hook: what is typed at a prompt, and the modules that it loads, are not compiled (`adopt`).
local misuse = require "cueball.misuse"

local interruption = {}

local INSTRUCTIONS, CLOSELY = 10000, 100 -- between two looks
local WAIT_MS = 100                      -- for the event loop to hear of it

local Interruption = {}
Interruption.__index = Interruption

local function set(self, instructions)
  debug.sethook(self.hook, "", instructions)
end

local function throw(self)
  local task = self.host.current() or "none"
  if self.hit and self.hit ~= task then return end
  local info = debug.getinfo(4, "Sl") -- throw, look, the hook, who runs
  if not info or misuse.is_own(info) then return end
  self.hit = task
  self.place = self.place or ("%s:%d: "):format(info.short_src, info.currentline)
  error(self.place .. "interrupted", 0)
end

local function look(self)
  if self.terminal:interrupts() == self.heard_of then return end
  local now = self.now()
  if not self.noticed_at then
    self.noticed_at = now
    set(self, CLOSELY)
  elseif now - self.noticed_at >= WAIT_MS * 1e6 then
    set(self, 1)
    throw(self)
  end
end

--- Begins to look.
-- @param terminal of cueball.cli.terminal
-- @param host     whose tasks run
-- @param now      function() → nanoseconds; the host's own time may be virtual, and stand still
function interruption.begin(terminal, host, now)
  local self = setmetatable({
    terminal = terminal, host = host, now = now, heard_of = terminal:interrupts(),
    noticed_at = nil,  -- when the hook saw it first
    hit = nil,         -- the task that is being ended
    place = nil, hook = nil,
  }, Interruption)
  if debug.gethook() then return self end -- a debugger looks
  self.hook = function() look(self) end
  set(self, INSTRUCTIONS)
  return self
end

--- The event loop has heard of every Ctrl-C so far.
function Interruption:heard()
  self.heard_of = self.terminal:interrupts()
  self.terminal:heard()
  self.noticed_at, self.hit, self.place = nil, nil, nil
  if self.hook then set(self, INSTRUCTIONS) end
end

--- A piece of Lua that may be ended: it is not compiled.
-- @return chunk
function interruption.adopt(chunk)
  jit.off(chunk, true)
  return chunk
end

--- The modules that are loaded from now on may be ended, but for cueball's own.
function interruption.adopt_modules()
  local load_lua = package.loaders[2]
  package.loaders[2] = function(name) -- luacheck: ignore
    local loader, extra = load_lua(name)
    if type(loader) == "function" and not misuse.is_own(debug.getinfo(loader, "S")) then interruption.adopt(loader) end
    return loader, extra
  end
end

--- Looks no more.
function Interruption:finish()
  if self.hook and debug.gethook() == self.hook then debug.sethook() end
  self.hook = nil
end

return interruption
