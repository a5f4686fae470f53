--- What people in charge do with a living pool: claims wait (pause), a backend has no connections (drain), a lease is taken away (revoke).
--
-- pool.paused_by is written here only.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local options = require "cueball.options"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local manage = {}

local methods = {}
manage.methods = methods -- of pools, by name

local NEVER = 0xffffffffffffffffULL

-- ------------------------------------------------------------------ in words --

--- How a span of time is told: "120 ms", "12 s", "3 min", "2 h".
local function span_text(ms)
  if ms < 1000 then return ("%.0f ms"):format(ms) end
  if ms < 120000 then return ("%.0f s"):format(ms / 1000) end
  if ms < 7200000 then return ("%.0f min"):format(ms / 60000) end
  return ("%.0f h"):format(ms / 3600000)
end

-- Since when the pool is paused, in milliseconds; nil: it is not.
local function paused_for(pool)
  local since = pool.core:paused_since()
  return since ~= NEVER and math.max(0, (pool.now() - tonumber(since)) / 1e6) or nil
end

--- " by ann", if somebody said who paused the pool; else "".
function manage.by(pool)
  return pool.paused_by and " by " .. pool.paused_by or ""
end

--- "paused for 12 s by ann"; nil: the pool is not.
function manage.paused_text(pool)
  local ms = paused_for(pool)
  return ms and ("paused for %s%s"):format(span_text(ms), manage.by(pool)) or nil
end

local NAMED_MAX = 3

--- "every backend is drained: db1, db2", if that is so; else nil.
function manage.all_drained(pool)
  local core, index, keys = pool.core, 0, {}
  local info = core.info
  while core:backend_at(index) do
    if not info.removed then
      if not info.drained then return nil end
      keys[#keys + 1] = ffi.string(info.key)
    end
    index = index + 1
  end
  if #keys == 0 then return nil end
  local rest = #keys > NAMED_MAX and (" and %d more"):format(#keys - NAMED_MAX) or ""
  return ("every backend is drained: %s%s"):format(table.concat(keys, ", ", 1, math.min(#keys, NAMED_MAX)), rest)
end

-- ------------------------------------------------------------------- waiting --

local LOOK_MS = 50 -- where claimers end without a word, or threads keep connections, nothing tells of it

-- Waits until is_done() or so long. Leases that end, and connections that close, are looked at as they do.
-- @param wait_ms nil or 0: not at all
-- @return true; or nil, milliseconds waited: the time is up
local function await(pool, what, wait_ms, is_done)
  if is_done() then return true end
  if not wait_ms or wait_ms == 0 then return true end
  local host, began = pool.host, pool.now()
  if not host.current() then
    misuse.raise(what .. ": only a task can wait: call it inside cueball.run or cueball.spawn, or without wait_ms")
  end
  local waiter
  local leave = pool:subscribe(function(event)
    if (event.kind == "lease_ended" or event.kind == "slot_state") and waiter then waiter:wake(true) end
  end)
  local deadline = began + wait_ms * 1e6
  local guard = { abort = leave }
  host.guard(guard)
  local done
  repeat
    local left_ms = (deadline - pool.now()) / 1e6
    waiter = host.waiter()
    waiter:wait(math.max(0.001, math.min(left_ms, LOOK_MS)))
    waiter = nil
    pool:input "time_advanced"
    done = is_done()
  until done or pool.now() >= deadline
  host.unguard(guard)
  leave()
  if done then return true end
  return nil, (pool.now() - began) / 1e6
end

local WAIT = options.number(0, 86400000, "milliseconds")

-- --------------------------------------------------------------------- pause --

local PAUSE_RULES = { wait_ms = WAIT, by = options.NAME }

local STOPPING = tonumber(lib.CUEBALL_EPOOL_STOPPING)

local function refused(pool, result)
  if result == STOPPING then return nil, ("pool %s is %s"):format(pool.name, pool:state()), "pool_stopping" end
  return nil, ffi.string(lib.cueball_error_message(result)), ffi.string(lib.cueball_error_name(result))
end

local function leased(pool)
  pool.core:stats()
  return pool.core.numbers.busy
end

--- Grants no claim until pool:resume(): claims wait, in their order and within their time limits. Leases go on.
-- @param given nil, or a table:
--   wait_ms  wait until no lease is out, so long at most, 0 to 86400000; 0, the default: not at all
--   by       who pauses, for messages and the log
-- @return true; or nil, message, name: "timeout" (leases are out yet; the pool is paused all the same), "pool_stopping"
function methods.pause(pool, given)
  given = options.check("pool:pause", given, PAUSE_RULES)
  if pool.of_set then misuse.raise "pool:pause: a set has no claims that could wait" end
  if given.by or not methods.is_paused(pool) then pool.paused_by = given.by end
  local result = pool:input "paused"
  if result < 0 then return refused(pool, result) end
  local is_done, waited_ms = await(pool, "pool:pause", given.wait_ms, function() return leased(pool) == 0 end)
  if is_done then return true end
  return nil, ("paused, but %d leases are out after %s"):format(leased(pool), span_text(waited_ms)), "timeout"
end

--- Grants claims again, those that wait first. Where every backend is dead, each is tried at once, and claims wait for what comes of it.
-- @return true; or nil, message, "pool_stopping"
function methods.resume(pool)
  local result = pool:input "resumed"
  if result < 0 then return refused(pool, result) end
  pool.paused_by = nil
  return true
end

--- Whether the pool is paused.
-- @return boolean; and for how long, in milliseconds, and who paused it, if that was said
function methods.is_paused(pool)
  local ms = paused_for(pool)
  if not ms then return false end
  return true, ms, pool.paused_by
end

-- ------------------------------------------------------------------ backends --

local KEY = options.of_type("string", "the key of a backend")
local DRAIN_RULES = { backend = KEY, wait_ms = WAIT }
local BACKEND_RULES = { backend = KEY }

local function need_key(what, given, rules)
  options.check(what, given, rules)
  if not given or not given.backend then misuse.raise(what .. ": option 'backend' is required: the key of a backend") end
  return given.backend
end

local function tell(pool, fact, key)
  if pool:input(fact, key) >= 0 then return true end
  return nil, "no backend has the key " .. text.show(key), "not_found"
end

-- How many connections the drained backend has; nil: it is not there any more.
local function connections_left(pool, key)
  local core, index, total = pool.core, 0, 0
  local info = core.info
  while core:backend_at(index) do
    if ffi.string(info.key) == key then total = total + info.total end
    index = index + 1
  end
  return total
end

--- The backend has no connection any more: those at rest close at once, leased ones when they come back; others have its part. Until
-- pool:restore.
-- @param given a table:
--   backend  its key
--   wait_ms  wait until its last connection is closed, so long at most; 0, the default: not at all
-- @return true; or nil, message, name: "not_found", "timeout" (it has connections yet; it is drained all the same)
function methods.drain(pool, given)
  return manage.drain(pool, given, "pool:drain")
end

--- The same, for others: `what` is what was called, for messages. So are the next two.
function manage.drain(pool, given, what)
  local key = need_key(what, given, DRAIN_RULES)
  local ok, message, name = tell(pool, "backend_drained", key)
  if not ok then return nil, message, name end
  local is_done, waited_ms = await(pool, what, given.wait_ms, function() return connections_left(pool, key) == 0 end)
  if is_done then return true end
  return nil, ("%s is drained, but has %d connections after %s"):format(key, connections_left(pool, key), span_text(waited_ms)), "timeout"
end

--- The backend is used again.
-- @param given { backend = its key }
-- @return true; or nil, message, "not_found"
function methods.restore(pool, given)
  return manage.restore(pool, given, "pool:restore")
end

function manage.restore(pool, given, what)
  return tell(pool, "backend_restored", need_key(what, given, BACKEND_RULES))
end

--- The pauses before the next attempts end now: those of one backend, or of all that are dead.
-- @param given nil, or { backend = its key }
-- @return true; or nil, message, "not_found"
function methods.ask_anew(pool, given)
  return manage.ask_anew(pool, given, "pool:ask_anew")
end

function manage.ask_anew(pool, given, what)
  options.check(what, given, BACKEND_RULES)
  return tell(pool, "backend_retried", given and given.backend or nil)
end

-- -------------------------------------------------------------------- leases --

local REVOKE_RULES = { lease = options.whole(1, 2 ^ 53 - 1) }

--- Ends a lease: its connection is closed, whatever its claimer does with it just now, and what the claimer does next with the lease fails
-- as "stale".
-- @param given { lease = its number, as pool:connections() and the events have it }
-- @return true; or nil, message, "stale"
function methods.revoke(pool, given)
  options.check("pool:revoke", given, REVOKE_RULES)
  if not given or not given.lease then misuse.raise "pool:revoke: option 'lease' is required: the number of a lease" end
  if pool:input("lease_killed", given.lease) >= 0 then return true end
  return nil, ("there is no lease %.0f any more"):format(given.lease), "stale"
end

manage.names = {}
for name in pairs(methods) do manage.names[#manage.names + 1] = name end
table.sort(manage.names)

return manage
