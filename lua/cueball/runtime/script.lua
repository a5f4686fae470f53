--- Scripts that declare pools: loaded, loaded anew while their pools live, stopped. It works on every host with tasks; the runtime for C
-- programs with threads stands on it. docs/reload.md is the manual.
--
--   local script = require "cueball.runtime.script"
--   local loaded, message, name = script.load { file = "/etc/app/pools.lua", arguments = { "blue" } }
--   loaded:pool "db"                      → the pool of that name; or nil, message, "not_found"
--   loaded:set "feeds"                    → likewise a set
--   loaded:names()                        → the names of all pools and sets, in the order of their declarations
--   loaded:reload { dry_run = true }      → a report; or nil, message, name
--   loaded:stop { drain_timeout_ms = 0 }  → true
--
-- load, reload and stop wait: they are called in a task (host.run, host.spawn), and raise an error elsewhere. What goes wrong is
-- nil, message, name, and then everything is as it was before the call:
--   "script"         the script cannot be read, does not parse, or threw; the message has its place and a traceback, in several lines
--   "timeout"        the script did not return within limit_ms: it looped without end, or waited for too long
--   "busy"           the script is being loaded just now: reload within a reload
--   "pool_stopping"  loaded:stop was called, before or meanwhile
--
-- A script runs in an environment of its own: globals that it sets are its own, others are those of the Lua state. `require "cueball"`
-- gives it a cueball whose `pool` and `set` declare: each needs a name, which is unique in the script, and they are called while the
-- script loads. Modules that lie beside the script's file belong to it, and are loaded anew with it; all others are those of the Lua state.
-- Tasks that the script spawns with cueball.spawn end when it is loaded anew or stopped, and what it gave to cueball.on_end is called then.
--
-- A report is a table, and in words what tostring makes of it:
--   { dry_run = boolean, untouched = count, pools = { {
--       name =, kind = "pool" or "set",
--       change = "untouched", "changed", "made" or "removed",
--       options = { { name = "max_connections", before = 10, after = 20 }, … },   changed ones; nil: the default
--       resolver = "replaced" or nil,
--       connections = "kept" or "renewed", or nil    the connection factory was replaced
--   }, … } }
local change = require "cueball.runtime.change"
local hosts = require "cueball.host"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local runs = require "cueball.runtime.run"
local source = require "cueball.runtime.source"
local text = require "cueball.text"

local script = {}

local LIMIT_MS = 10000

local Script = {}
Script.__index = Script

-- What waits is called in a task.
local function must_wait(host, what)
  if not host.can_wait() then misuse.raise(what .. ": it waits, so it must be called in a task: use host.run or host.spawn") end
end

local function is_arguments(value)
  if type(value) ~= "table" then return false end
  for index = 1, value.n or #value do
    local kind = type(value[index])
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" and kind ~= "nil" then return false end
  end
  return true
end

local LIMIT = {
  check = function(value) return value == false or type(value) == "number" and value >= 1 and value <= 86400000 end,
  range = "a number of milliseconds from 1 to 86400000, or false for none",
}

local OPTIONS = {
  file = options.of_type("string", "the path of a file"),
  text = options.of_type("string", "the text of a script"),
  name = options.NAME,
  arguments = { check = is_arguments, range = "a list of strings, numbers and booleans" },
  limit_ms = LIMIT,
  host = options.of_type("table", "a host"),
}

-- ----------------------------------------------------------------- loading --

local function copy(arguments)
  local copied = { n = arguments.n or #arguments }
  for index = 1, copied.n do copied[index] = arguments[index] end
  return copied
end

-- @return for cueball.runtime.source, the host, and the limit
local function read_options(given)
  given = options.check("script.load", given, OPTIONS)
  if (given.file == nil) == (given.text == nil) then misuse.raise "script.load: one of the options 'file' and 'text' is required" end
  local limit_ms = given.limit_ms
  if limit_ms == nil then limit_ms = LIMIT_MS end
  local from = { file = given.file, text = given.text, name = given.name, arguments = copy(given.arguments or {}) }
  return from, hosts.of("script.load", given.host), limit_ms or nil
end

local function stopping(self)
  return self.shown .. " is being stopped", "pool_stopping"
end

--- Loads a script, in a task.
-- @param given
--   file       its path; or
--   text       the script itself
--   name       what messages call it, where it is given as a text; "script" by default
--   arguments  its `...`: a list of strings, numbers and booleans; `n`, if it is there, says how many
--   limit_ms   how long it may take until it returns, 1 to 86400000, 10000 by default; false: for ever
--   host       that it runs on, and its pools; cueball.host() by default
-- @return it; or nil, message, name: "script", "timeout". Mistakes in the options raise an error at the caller's line
function script.load(given)
  local from, host, limit_ms = read_options(given)
  must_wait(host, "script.load")
  local first = runs.new(source.of(from), { host = host, limit_ms = limit_ms })
  local ok, message, name = first:execute()
  if not ok then
    first:undo()
    return nil, message, name
  end
  return setmetatable({
    host = host, given = from, limit_ms = limit_ms, shown = first.source.name,
    run = first,         -- the latest that succeeded
    begun = nil,         -- the run under way
    leaving = {},        -- pools and sets that no declaration has any more, until they have stopped
    is_stopping = false,
    waiters = {},        -- of those who wait until no run is under way
  }, Script)
end

-- ------------------------------------------------------------- what it has --

local function find(self, kind, name)
  local found = self.run.by_name[name]
  if found and found.kind == kind then return found.object end
  return nil, ("%s declares no %s %s"):format(self.shown, kind, text.show(name)), "not_found"
end

--- The pool of this name.
-- @return it; or nil, message, "not_found"
function Script:pool(name)
  return find(self, "pool", name)
end

--- The set of this name.
-- @return it; or nil, message, "not_found"
function Script:set(name)
  return find(self, "set", name)
end

--- The names of all pools and sets, in the order of their declarations.
function Script:names()
  local names = {}
  for index, one in ipairs(self.run.declarations) do names[index] = one.name end
  return names
end

-- ---------------------------------------------------------- loading it anew --

local RELOAD = {
  dry_run = options.of_type("boolean", "true or false"),
  text = options.of_type("string", "the text of a script"),
  arguments = OPTIONS.arguments,
}

-- Where the script comes from now.
local function source_now(self, given)
  if given.text and self.given.file then misuse.raise "script:reload: option 'text' is for a script that was loaded from a text" end
  if not given.text and not given.arguments then return self.given end
  return {
    file = self.given.file, text = given.text or self.given.text, name = self.given.name,
    arguments = given.arguments and copy(given.arguments) or self.given.arguments,
  }
end

-- Stops what the script does not declare any more; it goes on by itself.
local function leave(self, objects)
  for _, object in ipairs(objects) do
    self.leaving[object] = true
    self.host.service(function()
      object:stop()
      self.leaving[object] = nil
    end)
  end
end

-- The script has run; nothing is changed yet.
-- @return a plan; or nil, message, name
local function plan_of(self, new)
  if self.is_stopping then return nil, stopping(self) end
  local ok, plan = xpcall(change.plan, text.traced, self.run.declarations, new)
  if not ok then return nil, text.clean_lines(text.of(plan)), "script" end
  return plan
end

local function execute(self, new)
  local ok, message, name = new:execute()
  if not ok then return nil, message, name end
  return plan_of(self, new)
end

-- Runs the script, and does what follows.
-- @return a report; or nil, message, name
local function reload(self, from, is_dry)
  local new = runs.new(source.of(from), { host = self.host, limit_ms = self.limit_ms, before = self.run.by_name, is_dry = is_dry })
  self.begun = new
  local plan, message, name = execute(self, new)
  if plan and not is_dry then
    self.run:finish()
    leave(self, change.apply(plan))
    self.run, self.given = new, from
  else
    new:undo()
  end
  self.begun = nil
  for _, waiter in ipairs(self.waiters) do waiter:wake() end
  self.waiters = {}
  if plan then return plan.report end
  return nil, message, name
end

--- Loads the script anew, in a task.
-- @param given nil, or
--   dry_run    true: nothing is changed, it is only told what would be; the script runs all the same, but spawns no tasks
--   text       what the script is from now on, if it was loaded from a text
--   arguments  likewise its arguments
-- @return a report, see above; or nil, message, name: "script", "timeout", "busy", "pool_stopping": then nothing was changed
function Script:reload(given)
  given = options.check("script:reload", given, RELOAD)
  must_wait(self.host, "script:reload")
  if self.is_stopping then return nil, stopping(self) end
  if self.begun then return nil, self.shown .. " is being loaded already", "busy" end
  local from, is_dry, waiter = source_now(self, given), given.dry_run or false, self.host.waiter()
  self.host.spawn(function() waiter:wake(reload(self, from, is_dry)) end) -- it goes on, though the caller's task be killed meanwhile
  return waiter:wait()
end

-- ---------------------------------------------------------------- stopping --

local STOP = { drain_timeout_ms = options.number(0, 86400000, "milliseconds") }

--- Ends the script, in a task: its tasks are killed, its pools and sets stopped. Waits until all that is done.
-- @param given nil, or { drain_timeout_ms = how long leases are waited for, 0 to 86400000; as each pool has it by default }
-- @return true, the second time too
function Script:stop(given)
  given = options.check("script:stop", given, STOP)
  must_wait(self.host, "script:stop")
  self.is_stopping = true
  if self.begun then self.begun:cancel((stopping(self))) end
  self.run:finish()
  local objects = {}
  for index, one in ipairs(self.run.declarations) do objects[index] = one.object end
  for object in pairs(self.leaving) do objects[#objects + 1] = object end
  for _, object in ipairs(objects) do
    if given.drain_timeout_ms then object:set { drain_timeout_ms = given.drain_timeout_ms } end
  end
  runs.stop_all(self.host, objects)
  if self.begun then -- it is being undone
    local waiter = self.host.waiter()
    table.insert(self.waiters, waiter)
    waiter:wait()
  end
  return true
end

misuse.guard(Script, "script", { "pool", "set", "names", "reload", "stop" })

return script
