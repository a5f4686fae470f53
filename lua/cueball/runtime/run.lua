--- One run of a script: what it declares meanwhile, and what of it goes on afterwards (tasks, what it registered for its end).
--
-- The happy path: the script runs in a task of its own, and may wait. A pool that it declares is made at once, and begins when the script
-- has returned or waits: by then the script has defined all that the pool's functions need. If a pool of that name lives the script gets
-- that one, and what has changed is for cueball.runtime.change to do, once the script has returned.
-- What can go wrong: the script throws, never returns, or is cancelled while it waits. Then the run is undone: its tasks are killed, and
-- the pools that it made are stopped.
local cueball = require "cueball"
local log = require "cueball.log"
local environment = require "cueball.runtime.environment"
local events = require "cueball.pool.events"
local likeness = require "cueball.runtime.likeness"
local limit = require "cueball.runtime.limit"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local rehearsal = require "cueball.runtime.rehearsal"
local text = require "cueball.text"
local Pool = require "cueball.pool"
local Set = require "cueball.set"

local run = {}

local Run = {}
Run.__index = Run

local KINDS = {
  pool = {
    what = "cueball.pool", read = function(given) return Pool.read(given, "cueball.pool") end,
    new = function(given) return Pool.new_for(given, "cueball.pool", nil, true) end,
  },
  set = { what = "cueball.set", read = Set.read, new = function(given) return Set.new_for(given, true) end },
}

-- ------------------------------------------------------------ declarations --

-- The name of a new declaration; nil: what is no table is for the options' own check.
local function name_of(self, kind, given)
  if not self.is_loading then
    misuse.raise(("%s: a script declares its pools and sets while it loads, and it has loaded"):format(kind.what))
  end
  if type(given) ~= "table" then return nil end
  options.check(kind.what, { name = given.name }, { name = options.NAME })
  if given.name == nil then misuse.raise(kind.what .. ": option 'name' is required in a script") end
  local before = self.by_name[given.name]
  if before then
    misuse.raise(("%s: the name %s is declared twice, here and at %s"):format(kind.what, text.show(given.name), before.site))
  end
  return given.name
end

local FIXED = { "seed", "host", "max_connections_scope", "max_connections_dict" }

-- A living pool cannot become everything.
local function check_fixed(what, before, read)
  for _, name in ipairs(FIXED) do
    if before.read.own[name] ~= read.own[name] then
      misuse.raise(("%s: option '%s' of %s cannot be changed while it lives: give the new one another name"):format(what, name,
        text.show(before.name)))
    end
  end
end

local function is_stopping(object)
  local state = object:state()
  return state == "stopping" or state == "stopped"
end

-- What is declared under this name already, and lives.
local function living(self, kind_name, kind, name)
  local before = self.before[name]
  if not before or is_stopping(before.object) then return nil end
  if before.kind ~= kind_name then
    misuse.raise(("%s: the name %s is that of a %s: give the new one another name"):format(kind.what, text.show(name), before.kind))
  end
  return before
end

-- How the functions that it brings are; before any of them runs.
local function note_all(self, one)
  local read = one.read
  one.resolver, one.connect = likeness.note(self.notes, read.own.resolver), likeness.note(self.notes, read.own.connect)
end

local function object_of(self, kind, given, one, before)
  if self.is_dry then
    return rehearsal.object(one.name, before and before.object, self.notes.stands_for)
  end
  if before then return before.object end
  one.is_made = true
  return kind.new(given)
end

-- What a script gets for its declaration.
local function declare(self, kind_name, given)
  local kind = KINDS[kind_name]
  local name = name_of(self, kind, given)
  if name and given.host == nil then
    local with_host = { host = self.host }
    for option, value in pairs(given) do with_host[option] = value end
    given = with_host
  end
  local one = { name = name, kind = kind_name, read = kind.read(given), site = misuse.site(), object = nil, is_made = false }
  one.before = living(self, kind_name, kind, name)
  if one.before then check_fixed(kind.what, one.before, one.read) end
  note_all(self, one)
  one.object = object_of(self, kind, given, one, one.before)
  self.by_name[name] = one
  self.declarations[#self.declarations + 1] = one
  return one.object
end

-- ------------------------------------------------------------- its cueball --

-- Only tasks of the script's own are ended with it: one that a resolver or a factory has spawned belongs to a pool, which may stay.
local function spawn(self, fn, ...)
  if type(fn) ~= "function" then misuse.raise("cueball.spawn: expected a function, got " .. text.show(fn)) end
  local current = self.host.current()
  local is_own = current ~= nil and (current == self.task or self.tasks[current] ~= nil)
  if not is_own then return self.host.spawn(fn, ...) end
  if self.is_over then misuse.raise "cueball.spawn: this run of the script is over" end
  if self.is_dry then return rehearsal.task() end
  return self.host.spawn(function(...)
    self.tasks[self.host.current()] = true -- at once: it may spawn others
    return fn(...)
  end, ...)
end

local function on_end(self, fn)
  if type(fn) ~= "function" then misuse.raise("cueball.on_end: expected a function, got " .. text.show(fn)) end
  if self.is_over then misuse.raise "cueball.on_end: this run of the script is over" end
  self.endings[#self.endings + 1] = fn
end

-- What `require "cueball"` is in the script.
local function facade(self)
  local host = self.host
  return setmetatable({
    pool = function(given) return (declare(self, "pool", given)) end,
    set = function(given) return (declare(self, "set", given)) end,
    spawn = function(fn, ...) return spawn(self, fn, ...) end,
    on_end = function(fn) on_end(self, fn) end,
    host = function() return host end,
    sleep = function(ms) return host.sleep(ms) end,
    console = self.is_dry and rehearsal.console(cueball.console) or nil,
    run = function(fn, ...)
      if type(fn) ~= "function" then misuse.raise("cueball.run: expected a function, got " .. text.show(fn)) end
      return host.run(fn, ...)
    end,
  }, { __index = cueball })
end

-- ----------------------------------------------------------------- running --

--- Makes a run, which has not begun.
-- @param source of cueball.runtime.source
-- @param given  { host =, limit_ms = nil: none; before = the living declarations by name, or nil; is_dry = nothing is made or begun }
function run.new(source, given)
  local host = given.host
  local self = setmetatable({
    host = host, source = source, limit_ms = given.limit_ms, before = given.before or {}, is_dry = given.is_dry or false,
    limit = limit.begin(host, given.limit_ms),
    is_loading = false,     -- the script runs
    is_over = false,        -- nothing of it goes on
    -- In order: { name =, kind =, object =, site =, is_made = by this run, before = the living declaration, read = of Pool.read or
    -- Set.read, resolver =, connect = notes of cueball.runtime.likeness }
    declarations = {},
    by_name = {},
    tasks = setmetatable({}, { __mode = "k" }), -- that the script has spawned
    endings = {},           -- of cueball.on_end
    task = nil, waiter = nil, cancelled = nil,
  }, Run)
  local own = facade(self)
  self.environment = environment.new {
    cueball = own, folder = source.folder, adopt = function(chunk) return self.limit:adopt(chunk) end,
  }
  self.notes = likeness.notes {
    globals = self.environment.globals, injected = self.environment.injected, cueball = own,
    stands_for = setmetatable({}, { __mode = "k" }),
  }
  return self
end

-- What became of the script.
local function outcome(self, result)
  local timed_out = ("%s did not return within %.15g ms"):format(self.source.name, self.limit_ms or 0)
  if self.cancelled then return nil, self.cancelled, "pool_stopping" end
  if self.limit.has_ended then return nil, result and text.clean_lines(result.message or timed_out) or timed_out, "timeout" end
  if not result then return nil, timed_out, "timeout" end
  if not result.ok then return nil, text.clean_lines(result.message), "script" end
  return true
end

--- Runs the script, and waits until it has returned.
-- @return true; or nil, message, name, as script.load: then the run is to be undone
function Run:execute()
  local chunk, message = self.source.compile(self.environment.globals)
  if not chunk then
    self.limit:finish()
    return nil, text.clean_lines(message), "script"
  end
  local waiter, result = self.host.waiter(), nil
  self.waiter, self.is_loading = waiter, true
  self.limit:adopt(chunk)
  self.host.spawn(function()
    self.task = self.host.current()
    local ok, why = self.limit:run(chunk, unpack(self.source.arguments, 1, self.source.arguments.n))
    result = { ok = ok, message = why }
    waiter:wake()
  end)
  if not result then waiter:wait(self.limit_ms) end
  self.is_loading, self.waiter = false, nil
  self.limit:finish()
  if not result then self.host.kill(self.task) end
  likeness.complete(self.notes)
  self.before = nil -- else each run would keep the one before, as its functions keep it
  return outcome(self, result)
end

--- Ends a run that waits, from another task.
-- @param message why
function Run:cancel(message)
  self.cancelled = message
  if self.waiter then self.waiter:wake() end
end

-- ------------------------------------------------------------------ ending --

-- The script's functions hear no more of its pools.
local function unsubscribe(self, globals)
  for _, one in ipairs(self.declarations) do
    local pool = one.kind == "set" and one.object.pool or one.object
    if not self.is_dry then events.unsubscribe(pool, function(fn) return getfenv(fn) == globals end) end
  end
end

--- Ends what goes on of a run: its tasks are killed, its functions hear no more events, and what it gave to cueball.on_end is called, the
-- latest first.
function Run:finish()
  if self.is_over then return end
  self.is_over = true
  local tasks, host = {}, self.host
  for task in pairs(self.tasks) do tasks[#tasks + 1] = task end
  for _, task in ipairs(tasks) do
    if task ~= host.current() then host.kill(task) end
  end
  unsubscribe(self, self.environment.globals)
  for index = #self.endings, 1, -1 do
    local ok, message = xpcall(self.endings[index], text.traceback)
    if not ok then
      log.say(host, "error", ("%s: what it gave to cueball.on_end threw: %s"):format(self.source.name, message), "ending_threw")
    end
  end
  self.endings = {}
end

--- Waits, in a task, until all of these pools and sets have stopped.
function run.stop_all(host, objects)
  local left, waiter = #objects, host.waiter()
  for _, object in ipairs(objects) do
    host.spawn(function()
      object:stop()
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
  end
  if left > 0 then waiter:wait() end
end

--- Undoes a run: as finish, and the pools that it made are stopped at once.
function Run:undo()
  self:finish()
  local made = {}
  for _, one in ipairs(self.declarations) do
    if one.is_made then
      made[#made + 1] = one.object
      one.object:set { drain_timeout_ms = 0 }
    end
  end
  run.stop_all(self.host, made)
end

return run
