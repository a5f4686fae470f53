--- What a command of a console may use of the program's time and memory. One that uses more is ended, and so hurts nobody for long.
--
--   local budget = require("cueball.console.budget").new { host = host, ms = 50 }
--   budget:adopt(chunk)         what was typed is not compiled: compiled code calls no hook
--   budget:call(fn, handler)    as xpcall; ends fn once it has run for so long. What it waits does not count
--
-- A hook looks every few instructions, in coroutines and metamethods, too. What was typed may spawn tasks: they have a budget as well, for
-- each time they run without waiting. No hook is called within a function in C, in compiled code of the program, and in finalizers: what
-- was typed is ended as soon as these come back.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"

local budget = {}

local INSTRUCTIONS = 100 -- between two looks
local CLOSELY, CLOCK_EVERY = 10, 10 -- where strings are not bounded: one doubles five times in 30 instructions; looks for one at the clock
local MEMORY_KIB = 64 * 1024
local STEP_MS = 2
local TYPED = "^=input " -- the source of what was typed
local format = string.format -- while a reader's text runs, that of strings is a bounded one

local Budget = {}
Budget.__index = Budget

local function now_ms()
  return tonumber(native.lib.cueball_clock_now()) / 1e6
end

-- Why it is over; nil: it is not.
local function excess(self)
  if collectgarbage "count" - self.memory_before > MEMORY_KIB then
    return format("the %s took more than %d MiB of memory", self.what, MEMORY_KIB / 1024)
  end
  self.looks = self.looks + 1
  if self.looks % self.clock_every ~= 0 then return nil end
  if self.used_ms + now_ms() - self.entered_at > self.ms then
    return format("the %s ran for more than %.15g ms without %s", self.what, self.ms, self.is_task and "waiting" or "an end")
  end
end

-- What was typed, of all that runs.
-- @param level of the first function that is looked at
local function place(level)
  local above, info = level -- this function is the first
  repeat
    above = above + 1
    info = debug.getinfo(above, "Sl")
  until not info or (info.what ~= "C" and not misuse.is_own(info))
  return info and format("%s:%d: ", info.short_src, info.currentline) or ""
end

-- From the end on each instruction of what was typed throws, so that no pcall goes on. cueball's own code is never ended half way.
local function throw(self)
  if not self.why then
    self.why = place(3) .. self.excess
    debug.sethook(self.hook, "", 1)
  end
  error(self.why, 0)
end

local function look(self)
  self.excess = self.why or excess(self)
  if self.excess and not misuse.is_own(debug.getinfo(3, "S")) then throw(self) end
end

local function is_typed(self, info)
  return info.source:find(TYPED) ~= nil or self.loaded[info.source] ~= nil
end

-- Where it cannot be seen that the command waits, others run meanwhile with this hook. So only what was typed is ended, and counted: the
-- time since the hook was there last, unless that was long ago.
local function look_among_others(self)
  local info = debug.getinfo(3, "S")
  if not is_typed(self, info) then return end
  local now = now_ms()
  if now - self.entered_at > STEP_MS then self.memory_before = collectgarbage "count" end -- others took what was taken
  self.used_ms = self.used_ms + math.min(now - self.entered_at, STEP_MS)
  self.entered_at = now
  self.excess = self.why or excess(self)
  if self.excess then throw(self) end
end

--- Throws if what was typed has had its time: for functions that may take long in C, where no hook is called.
function Budget:check()
  self.excess = self.why or excess(self)
  if self.excess then throw(self) end
end

local function as_thrown(thrown) return thrown end

local function rethrown(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- What a task that is spawned runs: what was typed has a budget there, too; what cueball or the program spawns for itself has none.
local function adopter(self)
  return function(fn)
    local info = type(fn) == "function" and debug.getinfo(fn, "S")
    if not info or not is_typed(self, info) then return fn end
    return function(...)
      local arguments = { n = select("#", ...), ... }
      local own = budget.new { host = self.host, ms = self.ms, is_task = true }
      return rethrown(own:call(function() return fn(unpack(arguments, 1, arguments.n)) end, as_thrown))
    end
  end
end

--- Makes one.
-- @param given
--   host        whose tasks wait
--   ms          how long a command may run
--   may_wait    false: what is called cannot wait anyway, and its strings are bounded
--   is_task     true: it is for a task that goes on, and each time between two waits counts alone
function budget.new(given)
  local self = setmetatable({
    host = given.host, ms = given.ms, may_wait = given.may_wait ~= false, is_task = given.is_task or false,
    what = given.is_task and "task" or "command", looks = 0, clock_every = 1, instructions = INSTRUCTIONS,
    loaded = {}, -- sources of what the present command has loaded
    used_ms = 0, entered_at = 0, memory_before = 0, excess = nil, why = nil, hook = nil, is_in = false,
  }, Budget)
  self.is_among_others = self.may_wait and not self.host.tasks
  if self.may_wait and self.host.tasks then self.instructions, self.clock_every = CLOSELY, CLOCK_EVERY end
  local fn = self.is_among_others and look_among_others or look
  self.hook = function() fn(self) end
  self.adopt_task = adopter(self)
  return self
end

--- What was typed, or loaded by what was typed, before it runs.
-- @return chunk
function Budget:adopt(chunk)
  jit.off(chunk, true)
  local source = debug.getinfo(chunk, "S").source
  if not source:find(TYPED) then self.loaded[source] = true end
  return chunk
end

local function enter(self)
  self.entered_at, self.memory_before = now_ms(), collectgarbage "count"
  if self.is_task then self.used_ms = 0 end
  local present = debug.gethook()
  self.is_in = not present or present == self.hook -- else somebody looks already: a debugger
  if self.is_in then debug.sethook(self.hook, "", self.why and 1 or self.instructions) end
end

local function leave(self)
  if self.is_in then debug.sethook() end
  self.is_in = false
  self.used_ms = self.used_ms + now_ms() - self.entered_at
end

local function left(self, ...)
  leave(self)
  return ...
end

-- In hosts with tasks of our own: the time of others, while this one waits, is not its own.
local function call_in_slices(self, fn, handler)
  local coroutines = require "cueball.host.coroutines"
  local co = coroutine.create(function() return xpcall(fn, handler) end)
  return coroutines.watched(function() enter(self) end, function() leave(self) end, co)
end

local function without_first(ok, ...)
  if ok then return ... end
  return false, text.of((...))
end

--- Calls fn in the current task, as xpcall does.
function Budget:call(fn, handler)
  self.used_ms, self.why, self.excess, self.loaded = 0, nil, nil, {}
  -- What tells of an error is allowed to be long: it is ours.
  local function handle(thrown)
    if self.is_in then debug.sethook() end
    local told = handler(self.why or thrown)
    if type(told) == "string" then told = told:gsub("\n%s+%[builtin#%d+%]: at 0x%x+$", "") end -- xpcall, at the bottom of a coroutine
    if self.is_in then debug.sethook(self.hook, "", self.why and 1 or self.instructions) end
    return told
  end
  if self.may_wait and self.host.tasks then
    self.host.current().adopt = self.adopt_task
    return without_first(call_in_slices(self, fn, handle))
  end
  enter(self)
  return left(self, xpcall(fn, handle))
end

--- The task that called was killed while it waited.
function Budget:stop()
  if debug.gethook() == self.hook then debug.sethook() end
  self.is_in = false
end

return budget
