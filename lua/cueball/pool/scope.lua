--- pool:with: a lease that ends with a function, or with the task that runs it.
--
-- What a task has leased so is one table for each task and pool, by slot: to guard each lease by itself would need a table for each.
-- pool.scopes is written here only.
local setmetatable, pcall, select = setmetatable, pcall, select

local scope = {}

local Scope = {}

-- A scope does not keep its pool: see cueball.pool.cleanup.
function Scope.__index(self, name)
  if name == "pool" then return rawget(self, "reference").pool end
  return Scope[name]
end

--- For host.guard: the task was killed, and who knows what the connections were in the middle of.
function Scope:abort()
  local pool = self.pool
  if not pool then return end
  for _, handle in pairs(self.handles) do pool.core:lease_closed(pool.now(), handle) end
  self.handles = {}
  pool:pump()
end

function scope.open(pool)
  pool.scopes = setmetatable({}, { __mode = "k" }) -- by task
end

-- The handles of what the current task has leased; nil outside of tasks.
local function handles_of_task(pool)
  local host = pool.host
  local current = host.task()
  if current == nil then return nil end
  local known = pool.scopes[current]
  if known then return known.handles end
  local made = setmetatable({ reference = pool.reference, handles = {} }, Scope)
  if not pcall(host.guard, made) then return nil end -- in a coroutine of the task's own
  pool.scopes[current] = made
  return made.handles
end

-- LuaJIT compiles nothing that returns `...` behind a function of C, which a release may call.
local function finish_with_one(lease, value)
  if lease.connection ~= nil then lease:release() end
  return value
end

local function finish(lease, handles, slot, ok, ...)
  if handles then handles[slot] = nil end
  if ok then
    if select("#", ...) == 1 then return finish_with_one(lease, (...)) end
    if lease.connection ~= nil then lease:release() end
    return ...
  end
  if lease.connection ~= nil then lease:close() end
  error((...), 0)
end

--- Calls fn(connection, lease), and ends the lease: it is released if fn returns, closed if fn throws or its task is killed meanwhile.
-- @return what fn returned
function scope.run(pool, lease, fn)
  local handles, slot = handles_of_task(pool), lease.tag.slot
  if handles then handles[slot] = lease.handle end
  return finish(lease, handles, slot, pcall(fn, lease.connection, lease))
end

return scope
