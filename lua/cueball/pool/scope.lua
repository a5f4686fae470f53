--- pool:with: a lease that ends with a function, or with the task that runs it.
--
-- What a task has of a pool (what it has leased so, by slot, and the claim that it waits for) is one table for each task and pool: to guard
-- each lease and claim by itself would need a table for each.
-- pool.scopes is written here only.
local setmetatable, rawget, pcall, select = setmetatable, rawget, pcall, select

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
  local claim = self.waits
  self.waits, self.claim = false, false -- they refer to the task, so that it would never be collected
  if claim then claim:abort() end
  for _, handle in pairs(self.handles) do
    if handle then pool.core:lease_closed(pool.now(), handle) end
  end
  self.handles = false
  pool:pump()
end

function scope.open(pool)
  pool.scopes = setmetatable({}, { __mode = "k" }) -- by task
end

--- What the current task has of the pool; nil outside of tasks.
-- @return { handles = by slot, false once it was aborted; waits = the claim that it waits for, or false;
--   claim = see cueball.pool.claim, or false }
function scope.of_task(pool)
  local host = pool.host
  local current = host.task()
  if current == nil then return nil end
  local known = rawget(pool.scopes, current)
  -- Without handles it was aborted: a task that is killed while it runs goes on to its next wait.
  if known and known.handles then return known end
  local made = setmetatable({ reference = pool.reference, handles = {}, waits = false, claim = false }, Scope)
  if not pcall(host.guard, made) then return nil end -- in a coroutine of the task's own
  pool.scopes[current] = made
  return made
end

-- LuaJIT compiles nothing that returns `...` behind a function of C, which a release may call.
local function finish_with_one(lease, value)
  if lease.connection ~= nil then lease:release() end
  return value
end

local function finish(lease, handles, slot, ok, ...)
  -- The slot may be another lease's by now, if this one came back early.
  if handles and handles[slot] == lease.handle then handles[slot] = false end
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
  local of_task, slot = scope.of_task(pool), lease.tag.slot
  local handles = of_task and of_task.handles
  if handles then handles[slot] = lease.handle end
  return finish(lease, handles, slot, pcall(fn, lease.connection, lease))
end

return scope
