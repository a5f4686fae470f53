--- Does what the core asks for: opens, gives up, closes, checks, and tells
-- claimers their answers.  What a factory does runs in a task of its own, so it
-- may wait, and may throw without hurting anybody else.
local native = require "cueball.native"
local Lease = require "cueball.lease"
local lib, ffi = native.lib, native.ffi

local work = {}

local function traceback(message)
  return debug.traceback(tostring(message), 2)
end

--- A lease on the connection of this slot.
function work.lease(pool, slot, handle)
  local connection, factory = pool.connections[slot], pool.factories[slot]
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  return setmetatable({ pool = pool, slot = slot, handle = handle, connection = connection }, Lease)
end

local function backend_of(pool, handle)
  local info = pool.backend_info
  if lib.cueball_pool_backend_info(pool.core, handle, info) < 0 then return nil end
  return {
    key = ffi.string(info.key), name = ffi.string(info.name), address = ffi.string(info.address),
    port = info.port, weight = info.weight,
  }
end

local function close_quietly(pool, factory, connection)
  local ok, message = xpcall(factory.close, traceback, connection)
  if not ok then pool:log("warn", "closing a connection threw: " .. message) end
end

-- A report the core refuses as stale comes from an attempt it gave up on.
local function report(pool, fact, conn, ...)
  return pool:input(fact, conn, ...) >= 0
end

local function attempt_failed(pool, backend, conn, message)
  pool:remember(backend, message)
  report(pool, lib.cueball_pool_conn_failed, conn)
end

-- The task of one attempt.
local function attempt(pool, slot, conn, backend, factory, context)
  local ok, connection, message = xpcall(factory.connect, traceback, backend, context)
  if pool.tasks[slot] and pool.tasks[slot].conn == conn then pool.tasks[slot] = nil end
  if not ok then
    pool:log("error", ("connecting to %s threw: %s"):format(backend.key, connection))
    return attempt_failed(pool, backend, conn, connection:match "^[^\n]*")
  elseif connection == nil or connection == false then
    message = message ~= nil and tostring(message) or "the connection factory returned nothing"
    pool:log("debug", ("attempt %d to connect to %s failed: %s"):format(context.attempt, backend.key, message))
    return attempt_failed(pool, backend, conn, message)
  end
  if pool.conns[slot] == conn then
    pool.connections[slot] = connection
    pool:remember(backend, nil)
    if factory.watch then work.rest(pool, slot) end
    if report(pool, lib.cueball_pool_conn_opened, conn) then return end
    if pool.conns[slot] == conn then pool.connections[slot] = nil end
  end
  close_quietly(pool, factory, connection)
end

--- The connection of this slot comes to rest: it is watched, where the host can, so that its loss is noticed before it is claimed.
function work.rest(pool, slot)
  local factory, conn = pool.factories[slot], pool.conns[slot]
  pool:guarded("watch", factory.watch, pool.connections[slot], function(message)
    if pool.conns[slot] ~= conn then return end
    pool:remember(pool.backends[slot], message)
    report(pool, lib.cueball_pool_conn_lost, conn)
  end)
end

-- Runs fn(pool, slot, conn, ...) in a task that `halt` can end.
local function start(pool, slot, conn, fn, ...)
  local entry = { conn = conn, task = nil, is_over = false }
  pool.tasks[slot] = entry
  local task = pool.host.spawn(fn, pool, slot, conn, ...)
  if pool.tasks[slot] == entry then entry.task = task end
end

local function halt(pool, slot, conn)
  local entry = pool.tasks[slot]
  if not entry or entry.conn ~= conn then return end
  pool.tasks[slot] = nil
  if entry.task and entry.task ~= pool.host.current() then pool.host.kill(entry.task) end
end

local function open(pool, slot, conn, action)
  local backend = backend_of(pool, action.backend)
  local context = {
    host = pool.host,
    timeout_ms = math.max(0.001, (tonumber(action.deadline) - pool.now()) / 1e6),
    attempt = action.attempt,
    socket_options = { pool = ("cueball:%s:%d"):format(pool.name, slot), pool_size = 1 },
    log = function(level, message) pool:log(level, message) end,
  }
  pool.backends[slot], pool.factories[slot], pool.conns[slot] = backend, pool.factory, conn
  start(pool, slot, conn, attempt, backend, pool.factory, context)
end

local function give_up(pool, slot, conn)
  halt(pool, slot, conn)
  local backend = pool.backends[slot]
  if backend and pool.conns[slot] == conn then pool:remember(backend, "the attempt took too long") end
end

local function close_task(pool, slot, conn, factory, connection)
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
  close_quietly(pool, factory, connection)
  if pool.tasks[slot] and pool.tasks[slot].conn == conn then pool.tasks[slot] = nil end
  report(pool, lib.cueball_pool_conn_closed, conn)
end

local function close(pool, slot, conn)
  halt(pool, slot, conn) -- a check that took too long
  local connection, factory = pool.connections[slot], pool.factories[slot]
  pool.connections[slot] = nil
  start(pool, slot, conn, close_task, factory, connection)
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
    pool:log("error", "checking a connection threw: " .. tostring(message))
    fit, message = false, tostring(message):match "^[^\n]*"
  end
  if pool.tasks[slot] and pool.tasks[slot].conn == conn then pool.tasks[slot] = nil end
  if pool.conns[slot] ~= conn then return end
  if not fit then pool:remember(pool.backends[slot], "check failed: " .. tostring(message or "not fit")) end
  if fit and factory.watch then work.rest(pool, slot) end
  report(pool, lib.cueball_pool_conn_checked, conn, fit and true or false)
end

local function check(pool, slot, conn)
  start(pool, slot, conn, check_task, pool.factories[slot], pool.connections[slot])
end

local function grant(pool, slot, _, action)
  local claim = pool.waiting[tonumber(action.user)]
  pool.waiting[tonumber(action.user)] = nil
  local lease = work.lease(pool, slot, tonumber(action.lease))
  claim:answer(lease)
end

local function refuse(pool, _, _, action)
  local claim = pool.waiting[tonumber(action.user)]
  pool.waiting[tonumber(action.user)] = nil
  claim:answer(nil, pool:refusal(action.error, tonumber(action.waited) / 1e6, action.ahead))
end

local DO = {
  [tonumber(lib.CUEBALL_ACTION_OPEN)] = open,
  [tonumber(lib.CUEBALL_ACTION_GIVE_UP)] = give_up,
  [tonumber(lib.CUEBALL_ACTION_CLOSE)] = close,
  [tonumber(lib.CUEBALL_ACTION_CHECK)] = check,
  [tonumber(lib.CUEBALL_ACTION_GRANT)] = grant,
  [tonumber(lib.CUEBALL_ACTION_REFUSE)] = refuse,
}

--- Does everything there is to do.
function work.drain(pool)
  local action = pool.action
  while lib.cueball_pool_next_action(pool.core, action) do
    DO[action.kind](pool, action.slot, tonumber(action.conn), action)
  end
end

return work
