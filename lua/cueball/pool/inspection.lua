--- What becomes of a connection that a claimer is done with, or that broke at rest: whether it is fit is judged by cueball.pool.condition,
-- and the core is told. These are methods of the pool.
local condition = require "cueball.pool.condition"
local faults = require "cueball.pool.faults"
local native = require "cueball.native"
local perform = require "cueball.pool.perform"
local text = require "cueball.text"
local lib = native.lib

local inspection = {}

local CAUSES = {
  unfit = tonumber(lib.CUEBALL_CAUSE_UNFIT), worn = tonumber(lib.CUEBALL_CAUSE_WORN), timeout = tonumber(lib.CUEBALL_CAUSE_TIMEOUT),
}

--- A connection is not to be lent again.
-- @param kind whose doing it is, see cueball.pool.condition
function inspection.unfit(pool, slot, message, kind)
  local conn, cause, key = pool.conns[slot], CAUSES[kind], pool.slot_backends[slot].key
  if kind == "lost" or kind == "timeout" then faults.note(pool, key, text.message(message)) end
  if not cause then return pool.core:conn_lost(pool.now(), conn) end
  pool:log("debug", ("a connection to %s is not lent again: %s"):format(key, text.message(message)), "connection_unfit",
    { backend = key, cause = kind })
  pool.core:conn_unfit(pool.now(), conn, cause)
end

--- A connection that came back was judged: if it is fit, it is watched while it rests.
-- @param message, kind  of cueball.pool.condition; nil: it is fit
function inspection.settle(pool, slot, message, kind)
  local socket = pool.sockets[slot]
  if not message and socket and pool.core.outlook.waiting > 0 then message, kind = condition.at_handover(socket) end
  if message then return pool:unfit(slot, message, kind) end
  perform.rest(pool, slot)
end

--- A connection comes back: is it fit?
-- @return true if it is dirty: then it is to be cleaned first, see cueball.pool.reset, and the core has not been told anything
function inspection.inspect(pool, slot, connection)
  local factory = pool.factories[slot]
  if not factory.inspects then return false end
  local conn = pool.conns[slot]
  local message, kind = condition.judge(pool, factory, connection, pool.sockets[slot])
  if pool.conns[slot] ~= conn then return false end -- a `broken` that waited: the lease was taken away meanwhile
  if kind == "dirty" then return true end
  inspection.settle(pool, slot, message, kind)
  return false
end

--- The same of a connection that is nothing but a socket.
function inspection.inspect_plain(pool, slot, tag)
  local socket = tag.plain
  if socket.is_retimed then
    pool.factories[slot].bare.set_back(socket)
    socket.is_retimed = false
  end
  local message, kind = socket:rest_fit(tag.lost, pool.core.outlook.waiting > 0 and pool.now() or nil)
  if message then return pool:unfit(slot, message, kind) end
end

--- A claimer closes the connection. That blames nobody, but its factory or its socket may know that the backend failed it first, by closing
-- it or by keeping an answer back, or that it delivered.
-- @param socket under the connection; nil: it has none, or none that could be found
function inspection.inspect_closed(pool, slot, connection, socket)
  local conn = pool.conns[slot]
  local message, kind = condition.at_close(pool, pool.factories[slot], connection, socket)
  if pool.conns[slot] ~= conn then return end -- an `evidence` that waited, as above
  if kind == "worn" then
    pool.core:conn_unfit(pool.now(), pool.conns[slot], CAUSES.worn)
  elseif kind == "lost" or kind == "timeout" then
    pool:unfit(slot, message, kind)
  end
end

return inspection
