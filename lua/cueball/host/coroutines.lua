--- Coroutines that a task makes (iterators, body readers) may wait like the task itself: the wait passes up, from coroutine to
-- coroutine, to the task, which waits; what it is woken with passes down again.
--
-- For that coroutine.resume and coroutine.wrap are replaced, once for the Lua state, when the first host with tasks of its own is
-- loaded (ngx_lua does the same).  Outside of tasks they are what they were.  A coroutine that is resumed by the functions of before
-- cannot wait, and is told so.
--
--   coroutines.wait()              → what the task is woken with; yields up to the scheduler
--   coroutines.leads_to(co, top)   may the coroutine `co` wait for the task whose coroutine is `top`?
--   coroutines.raw_resume          coroutine.resume as it was: the scheduler's own
--   coroutines.WAIT                what it returns of a task that waits
--   coroutines.depth               how many tasks are running, one inside the other: the scheduler keeps it
local registry = debug.getregistry()
-- The functions were replaced already, by a module that is no longer in package.loaded.
if registry["cueball.coroutines"] then return registry["cueball.coroutines"] end

local create, resume, running, wrap = coroutine.create, coroutine.resume, coroutine.running, coroutine.wrap
local yield, isyieldable = coroutine.yield, coroutine.isyieldable or function() return true end

-- What a coroutine that waits yields; nobody else has it.
local WAIT = setmetatable({}, { __tostring = function() return "a wait of cueball's" end })

local coroutines = { depth = 0, raw_resume = resume, WAIT = WAIT }

local WEAK = { __mode = "k" }
local resumers = setmetatable({}, WEAK)     -- while a coroutine runs: the one that resumed it
local can_yield = setmetatable({}, WEAK)    -- and whether that one could yield then
local waiting = setmetatable({}, WEAK)      -- those whose wait was passed up

local run

local function woken(co, ...)
  waiting[co] = nil
  return run(co, ...)
end

local function returned(co, ok, first, ...)
  resumers[co] = nil
  if not ok or first ~= WAIT then return ok, first, ... end
  waiting[co] = true
  return woken(co, yield(WAIT))
end

function run(co, ...)
  resumers[co], can_yield[co] = running(), isyieldable()
  return returned(co, resume(co, ...))
end

local run_watched

local function returned_watched(enter, leave, co, ok, first, ...)
  leave()
  resumers[co] = nil
  if not ok or first ~= WAIT then return ok, first, ... end
  waiting[co] = true
  return run_watched(enter, leave, co, yield(WAIT))
end

function run_watched(enter, leave, co, ...)
  waiting[co] = nil
  resumers[co], can_yield[co] = running(), isyieldable()
  enter()
  return returned_watched(enter, leave, co, resume(co, ...))
end

--- As coroutine.resume, in a task: calls enter() whenever the coroutine begins to run, and leave() whenever it waits, and at its end.
function coroutines.watched(enter, leave, co, ...)
  return run_watched(enter, leave, co, ...)
end

local function resume_in_task(co, ...)
  if coroutines.depth == 0 or type(co) ~= "thread" then return resume(co, ...) end
  if waiting[co] then return false, "cannot resume a coroutine that waits" end
  return run(co, ...)
end

local function unwrap(ok, ...)
  if ok then return ... end
  error((...), 0)
end

coroutine.resume = resume_in_task   -- luacheck: ignore

function coroutine.wrap(fn)   -- luacheck: ignore
  if type(fn) ~= "function" then return wrap(fn) end   -- which says so
  local co = create(fn)
  return function(...) return unwrap(resume_in_task(co, ...)) end
end

--- Passes a wait up.  Of the scheduler.
function coroutines.wait()
  return yield(WAIT)
end

--- @return true if every coroutine from co up to top can pass a wait on
function coroutines.leads_to(co, top)
  if not isyieldable() then return false end
  while co ~= top do
    local resumer = resumers[co]
    if not resumer or not can_yield[co] then return false end
    co = resumer
  end
  return true
end

registry["cueball.coroutines"] = coroutines

return coroutines
