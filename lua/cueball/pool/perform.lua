--- Does what the core asks for: opens, gives up, closes, checks, and tells
-- claimers their answers.  What a factory does runs in a task of its own, so it
-- may wait, and may throw without hurting anybody else.
local native = require "cueball.native"
local door = require "cueball.pool.core"
local Lease = require "cueball.pool.lease"
local explain = require "cueball.pool.explain"
local watchman = require "cueball.pool.leaks"
local condition = require "cueball.pool.condition"
local plain = require "cueball.pool.context"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi
local setmetatable, pcall, select = setmetatable, pcall, select

local work = {}

local traceback = text.traceback

--- The connection of this slot is about to be lent: it is watched no longer.
function work.lend_connection(pool, slot)
  local connection, factory, socket = pool.connections[slot], pool.factories[slot], pool.sockets[slot]
  if socket then socket:lend() end
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
end

-- The connection of this slot, which is not watched any more, is lent.
-- @return it, and what tells whether its lease was collected
local function lend(pool, slot, handle)
  local connection, place = pool.connections[slot], pool.places[slot]
  pool.lent[slot] = handle
  -- Set raw: the table is weak, and LuaJIT would look for what its metatable says of it.
  if pool.detects_deadlocks then rawset(pool.holders, slot, pool.claimer()) end
  if pool.detects_leaks then
    pool.places[slot] = nil -- only the lease holds it now
    if not pool.is_looking then watchman.look(pool.watchman) end
  end
  return connection, place
end

--- A lease on the connection of this slot, which is not watched any more.
function work.lease(pool, slot, handle)
  local connection, place = lend(pool, slot, handle)
  -- In brackets: LuaJIT gives up on code that ends with a call of such a function.
  return (setmetatable({ pool = pool, place = place, handle = handle, connection = connection }, Lease))
end

-- The same for a claim that waited.
local function lease_after(pool, slot, handle, waited_ms, ahead)
  local connection, place = lend(pool, slot, handle)
  return (setmetatable({
    pool = pool, place = place, handle = handle, connection = connection,
    waited_ms = waited_ms, ahead = ahead, waits = explain.noted(pool, waited_ms),
    dead = next(pool.dead_since) and explain.note_dead(pool) or nil,
  }, Lease))
end

-- What a task has borrowed with pool:with, by slot.  Made once for each task and pool: to guard each lease by itself
-- would need a table for each.
local Debt = {}

-- It does not keep the pool: see cueball.dropped.
function Debt.__index(self, name)
  if name == "pool" then return rawget(self, "reference").pool end
  return Debt[name]
end

-- Its task was killed: who knows what the connections were in the middle of.
function Debt:abort()
  local pool = self.pool
  if not pool then return end
  for _, handle in pairs(self.handles) do pool.core:lease_closed(pool.now(), handle) end
  self.handles = {}
  pool:pump()
end

-- The handles of the current task's debt; nil outside of tasks.
local function debt_of(pool)
  local host = pool.host
  local current = host.task()
  if current == nil then return nil end
  local debt = pool.debts[current]
  if debt then return debt.handles end
  debt = setmetatable({ reference = pool.reference, handles = {} }, Debt)
  if not pcall(host.guard, debt) then return nil end -- in a coroutine of the task's own
  pool.debts[current] = debt
  return debt.handles
end

-- LuaJIT compiles nothing that returns `...` behind a function of C, which a release may call.
local function finish_with_one(lease, value)
  if lease.connection ~= nil then lease:release() end
  return value
end

local function finish(lease, debt, slot, ok, ...)
  if debt then debt[slot] = nil end
  if ok then
    if select("#", ...) == 1 then return finish_with_one(lease, (...)) end
    if lease.connection ~= nil then lease:release() end
    return ...
  end
  if lease.connection ~= nil then lease:close() end
  error((...), 0)
end

--- Calls fn(connection, lease), and ends the lease: it is released if fn returns, closed if it throws or the task is killed
-- meanwhile.
-- @return what fn returned
function work.lend(pool, lease, fn)
  local debt, slot = debt_of(pool), lease.place.slot
  if debt then debt[slot] = lease.handle end
  return finish(lease, debt, slot, pcall(fn, lease.connection, lease))
end

local function backend_of(pool, handle)
  if pool.core:backend_spec(handle) < 0 then return nil end
  local spec = pool.core.spec
  return {
    key = ffi.string(spec.key), name = ffi.string(spec.name), address = ffi.string(spec.address),
    port = spec.port, weight = spec.weight, priority = spec.priority,
  }
end

local function close_quietly(pool, factory, connection)
  local ok, message = xpcall(factory.close, traceback, connection)
  if not ok then pool:log("warn", "closing a connection threw: " .. message) end
end

-- Closes a connection that came too late for its slot. The pool does not wait for it, but it may not take for ever either.
local function close_late(pool, backend, factory, connection, limit_ms)
  local host = pool.host
  local closed = host.waiter()
  local task = host.spawn(function()
    close_quietly(pool, factory, connection)
    closed:wake(true)
  end)
  host.spawn(function() -- not the attempt's own task: that may be at its end already
    if closed:wait(limit_ms) then return end
    pool:log("warn", ("closing a connection to %s took too long"):format(backend.key))
    host.kill(task)
  end)
end

-- A report the core refuses as stale comes from an attempt it gave up on.
local function report(pool, fact, conn, ...)
  return pool:input(fact, conn, ...) >= 0
end

-- Takes the slot's task off the list as it ends; false if it was ended before.
local function leave(pool, slot, conn)
  local entry = pool.tasks[slot]
  if not entry or entry.conn ~= conn then return false end
  pool.tasks[slot] = nil
  return true
end

local function attempt_failed(pool, backend, conn, message)
  pool:remember(backend, message)
  report(pool, "conn_failed", conn)
end

-- What is told that a connection broke while it was watched. Made once for each connection and not once for each
-- release: LuaJIT compiles no code that makes a function.
local function on_loss(reference, slot, conn)
  return function(message, kind)
    local pool = reference.pool
    if not pool or pool.conns[slot] ~= conn or pool.connections[slot] == nil then return end
    pool:unfit(slot, message or "the connection was lost", kind or "lost")
    pool:pump()
  end
end

-- A connection that is nothing but a socket of the host's goes a short way between leases: one call of the socket's in place of several of
-- the factory's.
local function note_plain(pool, slot, factory, place)
  local connection = pool.connections[slot]
  if not factory.bare or pool.sockets[slot] ~= connection or not connection.rest_fit then return end
  place.plain, place.lost = connection, pool.losses[slot]
end

-- The task of one attempt.
local function attempt(pool, slot, conn, backend, factory, context)
  local limit_ms = context.timeout_ms -- before the factory can change it
  local ok, connection, message = xpcall(factory.connect, traceback, backend, context)
  local is_wanted = leave(pool, slot, conn)
  if not ok then
    pool:log("error", ("connecting to %s threw: %s"):format(backend.key, connection))
    return is_wanted and attempt_failed(pool, backend, conn, connection:match "^[^\n]*")
  elseif connection == nil or connection == false then
    message = message ~= nil and text.message(message) or "the connection factory returned nothing"
    pool:log("debug", ("attempt %d to connect to %s failed: %s"):format(context.attempt, backend.key, message))
    return is_wanted and attempt_failed(pool, backend, conn, message)
  elseif not is_wanted then
    return close_late(pool, backend, factory, connection, limit_ms)
  end
  pool.connections[slot] = connection
  local place = watchman.opened(pool.watchman, slot)
  pool:remember(backend, nil)
  condition.opened(pool, slot, factory, context.client)
  if factory.watch then pool.losses[slot] = on_loss(pool.will and pool.reference or { pool = pool }, slot, conn) end
  note_plain(pool, slot, factory, place)
  work.rest(pool, slot)
  if report(pool, "conn_opened", conn) then return end
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  if pool.conns[slot] == conn then pool.connections[slot], pool.sockets[slot] = nil, nil end
  close_late(pool, backend, factory, connection, limit_ms)
end

--- The connection of this slot comes to rest: it is watched, where the host can, so that its loss is noticed before it is claimed.
function work.rest(pool, slot)
  local socket, watch = pool.sockets[slot], pool.factories[slot].watch
  if socket then socket:rest() end
  if watch then pool:guarded("watch", watch, pool.connections[slot], pool.losses[slot]) end
end

-- A task that brought this about itself is ended as soon as it waits.
local function kill(pool, entry)
  local host = pool.host
  if entry.task and entry.task ~= host.current() then return host.kill(entry.task) end
  host.spawn(function()
    host.sleep(0)
    host.kill(entry.task)
  end)
end

-- Ends what is under way for this slot.
-- @return true if its time was up
local function halt(pool, slot)
  local entry = pool.tasks[slot]
  if not entry then return false end
  pool.tasks[slot] = nil
  kill(pool, entry)
  return pool.now() >= entry.deadline
end

local function halt_close(pool, slot)
  if pool.tasks[slot] then
    pool:log("warn", ("closing a connection to %s took too long"):format(pool.slot_backends[slot].key))
    halt(pool, slot)
  end
end

--- Ends everything under way: the core waits for nothing any more.
function work.abandon(pool)
  for slot in pairs(pool.tasks) do halt_close(pool, slot) end
end

-- Runs fn(pool, slot, conn, ...) in a task that `halt` can end.
-- @param deadline when the pool will wait no longer
local function start(pool, slot, conn, deadline, fn, ...)
  local entry = { conn = conn, task = nil, deadline = tonumber(deadline) }
  pool.tasks[slot] = entry
  entry.task = pool.host.errand(fn, pool, slot, conn, ...)
end

local function open(pool, slot, conn, action)
  halt_close(pool, slot) -- of the connection before
  local backend, equipment = backend_of(pool, action.backend), pool.parking or plain
  local context = {
    host = pool.host,
    timeout_ms = math.max(0.001, (tonumber(action.deadline) - pool.now()) / 1e6),
    attempt = action.attempt,
    socket_options = equipment.options(pool, slot, conn),
    log = function(level, message, has_lines) pool:log(level, has_lines and message or text.message(message)) end,
  }
  equipment.equip(pool, backend, context)
  pool.slot_backends[slot], pool.factories[slot], pool.conns[slot] = backend, pool.factory, conn
  start(pool, slot, conn, action.deadline, attempt, backend, pool.factory, context)
end

local function give_up(pool, slot)
  -- One that the plan has no more need of did nothing wrong, and must not hide what did.
  if not halt(pool, slot) then return end
  local key = pool.slot_backends[slot].key
  pool:log("debug", ("the attempt to connect to %s took too long"):format(key))
  pool:failed_with(slot, "the attempt took too long")
end

local function close_task(pool, slot, conn, factory, connection)
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  close_quietly(pool, factory, connection)
  if not leave(pool, slot, conn) then return end
  if not (pool.quota and pool.quota:tells_later(conn)) then report(pool, "conn_closed", conn) end
end

local function close(pool, slot, conn, action)
  if halt(pool, slot) then
    pool:log("warn", ("checking a connection to %s took too long"):format(pool.slot_backends[slot].key))
    pool:failed_with(slot, "the check took too long")
  end
  local connection, factory = pool.connections[slot], pool.factories[slot]
  pool.connections[slot], pool.sockets[slot], pool.lent[slot] = nil, nil, nil
  start(pool, slot, conn, action.deadline, close_task, factory, connection)
end

local function check_task(pool, slot, conn, factory, connection)
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  local ok, fit, message = true, true, nil
  if factory.check then
    ok, fit, message = xpcall(factory.check, traceback, connection)
  elseif factory.broken then
    ok, message = xpcall(factory.broken, traceback, connection)
    fit = not message
  end
  if not ok then
    message = factory.check and fit or message
    pool:log("error", "checking a connection threw: " .. message)
    fit, message = false, message:match "^[^\n]*"
  end
  if not leave(pool, slot, conn) then return end
  if not fit then pool:remember(pool.slot_backends[slot], "check failed: " .. text.message(message or "not fit")) end
  if fit then work.rest(pool, slot) end
  report(pool, "conn_checked", conn, fit and true or false)
end

local function check(pool, slot, conn, action)
  start(pool, slot, conn, action.deadline, check_task, pool.factories[slot], pool.connections[slot])
end

local function grant(pool, slot, _, action)
  local claim = pool.waiting[tonumber(action.user)]
  pool.waiting[tonumber(action.user)] = nil
  if not claim then -- its claimer was killed without a word
    pool.core:lease_released(pool.now(), tonumber(action.lease))
    return
  end
  work.lend_connection(pool, slot)
  local lease = lease_after(pool, slot, tonumber(action.lease), tonumber(action.waited) / 1e6, action.ahead)
  if claim.owner then lease.place.owner = claim.owner end
  pool.holders[slot] = claim.holder
  if pool.notes_sites then watchman.lent(pool.watchman, slot, claim.site) end
  claim:answer(lease)
end

local function refuse(pool, _, _, action)
  local claim = pool.waiting[tonumber(action.user)]
  pool.waiting[tonumber(action.user)] = nil
  if not claim then return end
  claim:answer(nil, pool:refusal(action.error, tonumber(action.waited) / 1e6, action.ahead))
end

local function recall(pool, slot, _, action)
  local recalls = pool.recalls or {}
  pool.recalls = recalls
  recalls[#recalls + 1] = { slot = slot, handle = tonumber(action.lease), cause = ffi.string(lib.cueball_cause_name(action.cause)) }
end

-- A set asks again once its pool has not failed any more.
-- @return true if it did
local function tell_recovered(pool)
  local recovered = pool.on_recovery
  if not recovered or pool.core:state_of() == door.FAILED then return false end
  pool.on_recovery = nil
  recovered()
  return true
end

-- After all else, so that a set hears of what is new before it is asked for what is old.
-- @return true if there were any
local function tell_recalled(pool)
  local recalls = pool.recalls
  if not recalls then return false end
  pool.recalls = nil
  for _, one in ipairs(recalls) do pool.recalled(one.slot, one.handle, one.cause) end
  return true
end

local DO = {
  [tonumber(lib.CUEBALL_ACTION_OPEN)] = open,
  [tonumber(lib.CUEBALL_ACTION_GIVE_UP)] = give_up,
  [tonumber(lib.CUEBALL_ACTION_CLOSE)] = close,
  [tonumber(lib.CUEBALL_ACTION_CHECK)] = check,
  [tonumber(lib.CUEBALL_ACTION_GRANT)] = grant,
  [tonumber(lib.CUEBALL_ACTION_REFUSE)] = refuse,
  [tonumber(lib.CUEBALL_ACTION_RECALL)] = recall,
}

--- Does everything there is to do.
function work.drain(pool)
  local core = pool.core
  local action = core.action
  repeat
    while core:next_action() do
      DO[action.kind](pool, action.slot, tonumber(action.conn), action)
    end
  until not (tell_recovered(pool) or tell_recalled(pool))
end

return work
