--- Connections that come back dirty, and are clean again before anybody else has them: the factory's reset, in a task.
--
-- The happy path: a claimer releases a connection in the middle of a transaction. Its factory's `broken` calls it "dirty", the factory's
-- `reset` rolls the transaction back, `broken` has nothing against it then, and it is idle, or goes to whoever waits longest. For the core
-- the lease goes on meanwhile; for its claimer it is over.
--
-- What can go wrong: `reset` throws, says that it could not, hangs (it may take as long as a check), or leaves the connection dirty: the
-- connection is closed and replaced. The core takes the connection away meanwhile (its owner is gone, the pool stops and the drain time is
-- over): the task is ended, and the core hears nothing of it.
local condition = require "cueball.pool.condition"
local inspection = require "cueball.pool.inspection"
local leases = require "cueball.pool.lease"
local options = require "cueball.options"
local perform = require "cueball.pool.perform"

local reset = {}

--- How long cleaning may take: as long as a check.
function reset.limit_ms(pool)
  return pool.given.check_timeout_ms or options.initial "check_timeout_ms"
end

-- The lease is over for the core too.
local function released(pool, slot, lease, message, kind)
  inspection.settle(pool, slot, message, kind)
  pool.core:lease_released(pool.now(), lease)
  pool:pump()
end

local function clean(pool, slot, conn, connection, lease, limit_ms)
  local message, kind = condition.clean(pool, pool.factories[slot], connection, pool.sockets[slot], limit_ms)
  if perform.done(pool, slot, conn) then released(pool, slot, lease, message, kind) end
end

--- A lease ends with a dirty connection: has it cleaned.
-- @param tag   of the connection
-- @param lease its handle
-- @return true
function reset.begin(pool, slot, tag, connection, lease)
  local limit_ms = reset.limit_ms(pool)
  leases.returned(pool, slot, tag)
  perform.start_busy(pool, slot, limit_ms, function()
    local key = pool.slot_backends[slot].key
    pool:log("warn", ("cleaning a connection to %s took too long"):format(key), "took_too_long", { backend = key, cause = "reset" })
    released(pool, slot, lease, "it could not be cleaned in time", "timeout")
  end, clean, connection, lease, limit_ms)
  return true
end

return reset
