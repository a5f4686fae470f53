--- Does what the core asks for: opens, gives up, closes and checks connections, and has claimers told their answers. What a factory does
-- runs in a task of its own, so that it may wait, and may throw without hurting anybody else.
--
-- What is known of the connection in each slot is written here only: pool.opened, sockets, conns, slot_backends, factories, losses
-- and tasks.
local native = require "cueball.native"
local door = require "cueball.pool.core"
local leases = require "cueball.pool.lease"
local claims = require "cueball.pool.claim"
local faults = require "cueball.pool.faults"
local condition = require "cueball.pool.condition"
local memo = require "cueball.pool.memo"
local plain = require "cueball.pool.context"
local secrets = require "cueball.pool.secrets"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local perform = {}

local traceback = text.traceback

function perform.open(pool)
  -- By slot:
  pool.opened = {}   -- while they are open
  pool.sockets = {}       -- under them, where they can be found
  pool.conns = {}         -- handles, as the core knows them
  pool.slot_backends = {} -- { key, name, address, port, weight, priority }
  pool.factories = {}     -- that opened them
  pool.losses = {}        -- what is told that they broke, where their factory watches
  pool.tasks = {}         -- attempts, checks and closes under way
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
  if not ok then pool:log("warn", "closing a connection threw: " .. message, "factory_threw", { cause = "close" }) end
end

--- Closes a connection that came too late for its slot. The pool does not wait for that, but closing may not take for ever either.
local function close_late(pool, backend, factory, connection, limit_ms)
  local host = pool.host
  local closed = host.waiter()
  local task = host.spawn(function()
    close_quietly(pool, factory, connection)
    closed:wake(true)
  end)
  host.spawn(function() -- not the attempt's own task: that may be at its end already
    if closed:wait(limit_ms) then return end
    pool:log("warn", ("closing a connection to %s took too long"):format(backend.key), "took_too_long",
      { backend = backend.key, cause = "close" })
    host.kill(task)
  end)
end

-- Tells the core what became of a connection.
-- @return whether the core still cares: it has given up on an attempt whose report it refuses as stale
local function report(pool, fact, conn, ...)
  return pool:input(fact, conn, ...) >= 0
end

-- Takes a slot's task off the list as the task ends.
-- @return false if the pool had ended it before
local function leave(pool, slot, conn)
  local entry = pool.tasks[slot]
  if not entry or entry.conn ~= conn then return false end
  pool.tasks[slot] = nil
  if entry.alarm then entry.alarm:close() end
  return true
end

local function attempt_failed(pool, backend, conn, message)
  faults.note(pool, backend.key, message)
  report(pool, "conn_failed", conn)
end

-- The function that a factory calls when a connection breaks that it watches. It is made once for each connection and not once for each
-- release: LuaJIT compiles no code that makes a function.
local function on_loss(reference, slot, conn)
  return function(message, kind)
    local pool = reference.pool
    if not pool or pool.conns[slot] ~= conn or pool.opened[slot] == nil then return end
    pool:unfit(slot, message or "the connection was lost", kind or "lost")
    pool:pump()
  end
end

-- Tells the core that the connection of this slot is open, and threads what they get of it.
local function report_opened(pool, slot, conn)
  if pool.threaded then return pool.threaded:opened(slot, conn) end
  return report(pool, "conn_opened", conn)
end

-- A connection that is nothing but a socket of the host's goes a short way between leases: one call of the socket's instead of several of
-- the factory's.
local function note_plain(pool, slot, factory, tag)
  local connection = pool.opened[slot]
  if not factory.bare or pool.threaded or pool.sockets[slot] ~= connection or not connection.rest_fit then return end
  tag.plain, tag.lost = connection, pool.losses[slot]
end

-- Looks for the socket under a connection that was opened: it is asked from now on. Where connections are parked each claimer has a socket
-- of its own.
local function find_socket(pool, slot, factory, client)
  if pool.parking then return end
  local socket = condition.socket_of(pool.host, pool.opened[slot], client)
  -- A socket that the factory itself has closed is not the one under the connection.
  if not socket or not socket.is_open then return end
  pool.sockets[slot], factory.inspects = socket, true
end

-- Opens a connection: the task of one attempt.
local function attempt(pool, slot, conn, backend, factory, context)
  local limit_ms = context.timeout_ms -- before the factory can change it
  local ok, connection, message = xpcall(factory.connect, traceback, backend, context)
  local fault = ok and connection and memo.fault(context.memo)
  if fault then
    close_late(pool, backend, factory, connection, limit_ms)
    connection, message = nil, fault
  elseif not ok or not connection then
    plain.close_client(context)
  end
  if ok and connection and pool.host.tasks then pool.host.tasks:keep() end -- its sockets are the pool's
  local is_wanted = leave(pool, slot, conn)
  if not ok then
    pool:log("error", ("connecting to %s threw: %s"):format(backend.key, connection), "factory_threw",
      { backend = backend.key, cause = "connect" })
    return is_wanted and attempt_failed(pool, backend, conn, connection:match "^[^\n]*")
  elseif connection == nil or connection == false then
    message = message ~= nil and text.message(message) or "the connection factory returned nothing"
    pool:log("debug", ("attempt %d to connect to %s failed: %s"):format(context.attempt, backend.key, message), "attempt_failed",
      { backend = backend.key, attempt = context.attempt, error = message })
    return is_wanted and attempt_failed(pool, backend, conn, message)
  elseif not is_wanted then
    return close_late(pool, backend, factory, connection, limit_ms)
  end
  pool.opened[slot] = connection
  local tag = leases.opened(pool, slot)
  faults.note(pool, backend.key, nil)
  find_socket(pool, slot, factory, context.client)
  if factory.watch and not pool.threaded then
    pool.losses[slot] = on_loss(pool.cleanup and pool.reference or { pool = pool }, slot, conn)
  end
  note_plain(pool, slot, factory, tag)
  perform.rest(pool, slot)
  if report_opened(pool, slot, conn) then return end
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  if pool.conns[slot] == conn then pool.opened[slot], pool.sockets[slot] = nil, nil end
  close_late(pool, backend, factory, connection, limit_ms)
end

--- The connection of this slot comes to rest: it is watched, where the host can, so that its loss is noticed before it is claimed.
function perform.rest(pool, slot)
  local socket, watch = pool.sockets[slot], pool.factories[slot].watch
  if socket then socket:rest() end
  if pool.threaded then return pool.threaded:rest(slot) end
  if watch then pool:guarded("watch", watch, pool.opened[slot], pool.losses[slot]) end
end

-- Ends a task; one that runs just now is ended as soon as it waits.
local function kill(pool, entry)
  local host = pool.host
  if entry.task and entry.task ~= host.current() then return host.kill(entry.task) end
  host.spawn(function()
    host.sleep(0)
    host.kill(entry.task)
  end)
end

-- Ends the task under way for this slot.
-- @return true if the task's time was up
local function halt(pool, slot)
  local entry = pool.tasks[slot]
  if not entry then return false end
  pool.tasks[slot] = nil
  if entry.alarm then entry.alarm:close() end
  kill(pool, entry)
  return pool.now() >= entry.deadline
end

local function halt_close(pool, slot)
  local entry = pool.tasks[slot]
  if entry and entry.is_close and not entry.has_begun then
    -- The host had no time for it: that is not the server's doing, and the connection is still to be closed.
    pool.tasks[slot] = nil
  elseif entry then
    local key = pool.slot_backends[slot].key
    pool:log("warn", ("closing a connection to %s took too long"):format(key), "took_too_long", { backend = key, cause = "close" })
    halt(pool, slot)
  end
end

--- Ends all tasks under way: the core waits for none of them any more.
function perform.abandon(pool)
  for slot in pairs(pool.tasks) do halt_close(pool, slot) end
end

-- The beginning of a task: the host may not come to it at once.
local function begin(entry, fn, ...)
  entry.has_begun = true
  return fn(...)
end

-- Runs fn(pool, slot, conn, ...) in a task that `halt` can end.
-- @param deadline when the pool will wait no longer
local function start(pool, slot, conn, deadline, fn, ...)
  local entry = { conn = conn, task = nil, deadline = tonumber(deadline), alarm = nil, has_begun = false, is_close = false }
  pool.tasks[slot] = entry
  entry.task = pool.host.errand(begin, entry, fn, pool, slot, conn, ...)
  return entry
end

--- Runs fn(...) in a task for a connection that the core takes for busy: it ends the task if it wants the connection closed, and knows no
-- time limit of it.
-- @param limit_ms how long it may take
-- @param overdue  function(): it took longer, and was ended
-- @param fn       calls perform.done(pool, slot, conn) when it is done, and goes on only if that is true
function perform.start_busy(pool, slot, limit_ms, overdue, fn, ...)
  local host, conn = pool.host, pool.conns[slot]
  local entry = { conn = conn, task = nil, deadline = math.huge, alarm = nil }
  entry.alarm = host.alarm(function()
    if pool.tasks[slot] ~= entry then return end
    halt(pool, slot)
    overdue()
  end)
  entry.alarm:set(host.now() + limit_ms * 1e6)
  pool.tasks[slot] = entry
  entry.task = host.errand(fn, pool, slot, conn, ...)
end

--- Such a task is done.
-- @return false if the pool had ended it before
perform.done = leave

-- What a factory calls when it has learnt whether a backend is a last resort. Connections may keep it: it does not keep the pool.
local function last_resort(pool, key)
  local reference = pool.cleanup and pool.reference or { pool = pool }
  return function(is_one)
    local of = reference.pool
    if of and not of.is_over then of.of_core:learnt(key, is_one ~= false) end
  end
end

local function open(pool, slot, conn, action)
  halt_close(pool, slot) -- of the connection before
  local backend, equipment = backend_of(pool, action.backend), pool.parking or plain
  local context = {
    host = pool.host,
    pool_name = pool.name,
    claim_timeout_ms = pool.given.claim_timeout_ms or nil,
    last_resort = last_resort(pool, backend.key),
    timeout_ms = math.max(0.001, (tonumber(action.deadline) - pool.now()) / 1e6),
    attempt = action.attempt,
    socket_options = equipment.options(pool, slot, conn),
    log = plain.logger(pool),
  }
  equipment.equip(pool, backend, context)
  secrets.forget(pool, slot)
  secrets.equip(pool, slot, backend, context)
  pool.slot_backends[slot], pool.factories[slot], pool.conns[slot] = backend, pool.factory, conn
  start(pool, slot, conn, action.deadline, attempt, backend, pool.factory, context)
end

local function give_up(pool, slot)
  -- An attempt that the plan needs no more did nothing wrong: its message must not hide an error.
  if not halt(pool, slot) then return end
  local key = pool.slot_backends[slot].key
  pool:log("debug", ("the attempt to connect to %s took too long"):format(key), "took_too_long", { backend = key, cause = "connect" })
  faults.note(pool, key, "the attempt took too long")
end

local function close_task(pool, slot, conn, factory, connection)
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  close_quietly(pool, factory, connection)
  if not leave(pool, slot, conn) then return end
  if not (pool.quota and pool.quota:tells_later(conn)) then report(pool, "conn_closed", conn) end
end

local function close(pool, slot, conn, action)
  if halt(pool, slot) then
    local key = pool.slot_backends[slot].key
    pool:log("warn", ("checking a connection to %s took too long"):format(key), "took_too_long", { backend = key, cause = "check" })
    faults.note(pool, key, "the check took too long")
  end
  local connection, factory = pool.opened[slot], pool.factories[slot]
  pool.opened[slot], pool.sockets[slot] = nil, nil
  leases.closed(pool, slot)
  local threaded = pool.threaded
  if threaded and threaded:keeps(slot, conn, factory, connection) then return report(pool, "conn_closed", conn) end
  start(pool, slot, conn, action.deadline, close_task, factory, connection).is_close = true
end

--- Closes a connection for which the pool does not wait.
perform.close_late = close_late

local function check_task(pool, slot, conn, factory, connection, limit_ms)
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  local fit, message, has_thrown = condition.check(factory, connection, limit_ms)
  if has_thrown then
    pool:log("error", "checking a connection threw: " .. message, "factory_threw", { cause = "check" })
    message = message:match "^[^\n]*"
  end
  if not leave(pool, slot, conn) then return end
  if not fit then faults.note(pool, pool.slot_backends[slot].key, "check failed: " .. text.message(message or "not fit")) end
  if fit then perform.rest(pool, slot) end
  report(pool, "conn_checked", conn, fit)
end

local function check(pool, slot, conn, action)
  local limit_ms = math.max(0.001, (tonumber(action.deadline) - pool.now()) / 1e6)
  start(pool, slot, conn, action.deadline, check_task, pool.factories[slot], pool.opened[slot], limit_ms)
end

local function grant(pool, _, _, action)
  claims.granted(pool, action)
end

local function refuse(pool, _, _, action)
  claims.refused(pool, action)
end

-- The leases that the core asks back are told to the set after all else, so that a set hears of what is new before it is asked for what is
-- old.
local function recall(pool, slot, _, action)
  pool.of_set:recall(slot, tonumber(action.lease), ffi.string(lib.cueball_cause_name(action.cause)))
end

local GRANT = tonumber(lib.CUEBALL_ACTION_GRANT)

local DO = {
  [tonumber(lib.CUEBALL_ACTION_OPEN)] = open,
  [tonumber(lib.CUEBALL_ACTION_GIVE_UP)] = give_up,
  [tonumber(lib.CUEBALL_ACTION_CLOSE)] = close,
  [tonumber(lib.CUEBALL_ACTION_CHECK)] = check,
  [GRANT] = grant,
  [tonumber(lib.CUEBALL_ACTION_REFUSE)] = refuse,
  [tonumber(lib.CUEBALL_ACTION_RECALL)] = recall,
}

local function act(pool, action)
  DO[action.kind](pool, action.slot, tonumber(action.conn), action)
end

-- Does what the core asks for beyond the first: seldom more than nothing. A function of its own, since LuaJIT compiles no function with a
-- loop that is over so soon.
local function act_on_all(pool, core, action)
  repeat
    while core:next_action() do act(pool, action) end
  until not (pool.of_set and pool.of_set:drained(core:state_of() ~= door.FAILED))
end

--- Tells the first of the core's answers.
function perform.answer(pool)
  local core = pool.core
  local action = core.action
  if not core:next_action() then return end
  if action.kind == GRANT then claims.granted(pool, action) else act(pool, action) end
end

--- Does all that the core asks for.
function perform.drain(pool)
  local core = pool.core
  local action, outlook = core.action, core.outlook
  if core:next_action() then act(pool, action) end
  if outlook.actions ~= 0 or pool.of_set then act_on_all(pool, core, action) end
end

return perform
