--- Waiting until so many connections are open: for programs that are to say when they can serve.
local cleanup = require "cueball.pool.cleanup"
local misuse = require "cueball.misuse"
local door = require "cueball.pool.core"
local options = require "cueball.options"

local readiness = {}

-- One call of pool:ready that waits.
local Wait = {}
Wait.__index = Wait

local RULES = {
  connections = options.whole(1, 1000000),
  timeout_ms = options.TIMEOUT,
}
options.note("pool:ready", RULES)

-- Connections that are open: at rest, leased, or being checked.
local function open_in(pool)
  pool.core:stats()
  local stats = pool.core.numbers
  return stats.idle + stats.busy + stats.checking
end

local function is_over(pool)
  return pool.core:state_of() >= door.STOPPING
end

function readiness.open(pool)
  pool.readiness = nil -- who waits; nil: nobody, which is what the pool asks after each of its turns
end

--- Something happened in the pool: wakes those who have what they waited for.
function readiness.look(pool)
  local open, over = open_in(pool), is_over(pool)
  for _, one in ipairs(pool.readiness) do
    if over or open >= one.count then one.waiter:wake(true) end
  end
end

-- The call waits no longer; for host.guard, its task was killed.
function Wait:abort()
  local pool = self.pool
  for index, other in ipairs(pool.readiness) do
    if other == self then table.remove(pool.readiness, index) end
  end
  if #pool.readiness == 0 then pool.readiness = nil end
  cleanup.readiness_changed(pool)
end

local CANNOT_WAIT = "pool:ready: nothing can wait here: inside a function that C code calls (a comparison of table.sort, a replacement of "
  .. "string.gsub), or in a coroutine that its host does not know"

local function answer(pool, count, began)
  local open = open_in(pool)
  if open >= count then return true end
  if is_over(pool) then return nil, ("pool %s is %s"):format(pool.name, pool:state()), "pool_stopping" end
  local why = pool:stats().dead_backends > 0 and pool:cause() or pool:last_error()
  return nil, ("not ready after %.6g ms: %d of %d connections are open%s"):format((pool.now() - began) / 1e6, open, count,
    why and " (" .. why .. ")" or ""), "timeout"
end

--- What pool:ready does.
function readiness.wait(pool, given)
  given = options.check("pool:ready", given, RULES)
  local count, timeout = given.connections or 1, given.timeout_ms
  local most = pool:max_connections()
  if count > most then
    misuse.raise(("pool:ready: option 'connections' must be at most max_connections (%d), not %d"):format(most, count))
  end
  local began = pool.now()
  if open_in(pool) >= count or is_over(pool) or timeout == 0 then return answer(pool, count, began) end
  if not pool.host.current() then
    misuse.raise("pool:ready: only a task can wait: call it inside cueball.run or cueball.spawn, or with timeout_ms = 0")
  end
  local one = setmetatable({ pool = pool, count = count, waiter = pool.host.waiter() }, Wait)
  pool.readiness = pool.readiness or {}
  table.insert(pool.readiness, one)
  cleanup.readiness_changed(pool)
  local can_wait = pcall(pool.host.guard, one)
  if can_wait then
    can_wait = pcall(one.waiter.wait, one.waiter, timeout and timeout < math.huge and timeout or nil)
    pool.host.unguard(one)
  end
  one:abort()
  if not can_wait then misuse.raise(CANNOT_WAIT) end
  return answer(pool, count, began)
end

return readiness
