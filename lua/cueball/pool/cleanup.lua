--- Pools that were dropped without stop: nobody can use them any more, but their connections would stay open and their resolver
-- would run on.
--
-- What the host keeps for a pool (its alarms, its resolver's task, watched sockets) knows the pool by a weak reference only. So a pool
-- that nobody else refers to is collected; no lease is out then, since a lease refers to its pool. pool.cleanup has what is needed
-- afterwards, and does not refer to the pool itself: once the pool is found collected its resolver is ended, its connections are closed,
-- and the log says so.
--
-- A task that waits without a limit of time is known to nobody but its pool, and may be the only one that knows the pool. The host would
-- lose both, and the task would never go on. So pool.cleanup, which the host keeps, refers to those who wait, and they to their pool.
local text = require "cueball.text"
local leaks = require "cueball.pool.leaks"
local log = require "cueball.log"

local cleanup = {}

local LOOK_NS = 10e9
local WEAK = { __mode = "v" }

--- Makes pool.reference, a weak one: { pool = … } until that is collected.
function cleanup.open(pool)
  pool.reference = setmetatable({ pool = pool }, WEAK)
end

local function close(self, slot, connection)
  local factory = self.factories[slot]
  self.host.spawn(function()
    local ok, message = xpcall(factory.close, text.traceback, connection)
    if ok then return end
    log.say(self.host, "warn", "closing a connection threw: " .. message, "factory_threw", { pool = self.name, cause = "close" })
  end)
end

-- The pool was collected: ends what is left of it.
local function execute(self)
  self.alarm:close()
  self.pool_alarm:close()
  leaks.close(self.leaks)
  self.sink:finish()
  self.sink:kill()
  local slots = {}
  for slot in pairs(self.opened) do slots[#slots + 1] = slot end
  table.sort(slots)
  log.say(self.host, "warn", ("the pool was dropped without pool:stop(); it is stopped, and its %d connections are closed"):format(#slots),
    "pool_dropped", { pool = self.name, connections = #slots })
  for _, slot in ipairs(slots) do close(self, slot, self.opened[slot]) end
end

--- Makes pool.cleanup, and looks from now on whether the pool was collected. The pool has its alarm and pool.leaks, and no resolver yet.
function cleanup.watch(pool)
  local self = {
    host = pool.host, name = pool.name, opened = pool.opened, factories = pool.factories,
    sink = nil, -- of its resolver, see resolver_changed
    waiting = pool.waiting, readiness = nil, -- who waits: for claims, and in pool:ready, see readiness_changed
    leaks = pool.leaks, pool_alarm = pool.alarm, alarm = nil,
  }
  local reference, now = pool.reference, pool.now
  self.alarm = pool.host.alarm(function()
    if not reference.pool then return execute(self) end
    self.alarm:set(now() + LOOK_NS)
  end)
  self.alarm:set(now() + LOOK_NS)
  pool.cleanup = self
end

--- The pool has another resolver.
function cleanup.resolver_changed(pool)
  if pool.cleanup then pool.cleanup.sink = pool.sink end
end

--- Others wait in pool:ready than before.
function cleanup.readiness_changed(pool)
  if pool.cleanup then pool.cleanup.readiness = pool.readiness end
end

--- The pool has stopped.
function cleanup.over(pool)
  if pool.cleanup then pool.cleanup.alarm:close() end
end

return cleanup
