--- Whether a connection may be lent again, and whose doing it is if not: what its factory says, and what its socket remembers.
--
-- Factories that say nothing are covered too: the pool asks the socket under the connection, where it can find it.
local text = require "cueball.text"

local condition = {}

--- The kinds of what is wrong with a connection, see docs/contracts.md.
condition.KINDS = { unfit = true, worn = true, lost = true, timeout = true }

-- The socket in a field in which client libraries have it; other fields are tried after these. The fields are written out: LuaJIT would not
-- compile a loop that is over so soon.
local function known_field(is_socket, value)
  local found = rawget(value, "_sock")
  if found ~= nil and is_socket(found) then return found end
  found = rawget(value, "sock")
  if found ~= nil and is_socket(found) then return found end
  found = rawget(value, "socket")
  if found ~= nil and is_socket(found) then return found end
  return nil
end

local function field_with_socket(is_socket, value)
  if type(value) ~= "table" then return nil end
  local known = known_field(is_socket, value)
  if known then return known end
  for _, found in next, value do
    if is_socket(found) then return found end
  end
  return nil
end

-- The socket that a value is, or has in one of its fields.
local function socket_in(is_socket, value)
  return is_socket(value) and value or field_with_socket(is_socket, value)
end

--- The socket under a connection.
-- @param host   whose sockets they are
-- @param client what context.connect connected last, or nil
-- @return it, or nil
function condition.socket_of(host, connection, client)
  local is_socket = host.is_socket
  local found = socket_in(is_socket, connection) or client ~= nil and socket_in(is_socket, client)
  if found or type(connection) ~= "table" then return found or nil end
  for _, part in next, connection do -- a client in a field of the connection
    found = field_with_socket(is_socket, part)
    if found then return found end
  end
  return nil
end

--- Asks a factory whether a connection at rest still works: its check, or its broken, if it has one.
-- @param timeout_ms how long that may take
-- @return true; or false, message, and whether it threw: then the message has a traceback
function condition.check(factory, connection, timeout_ms)
  local ok, fit, message = true, true, nil
  if factory.check then
    ok, fit, message = xpcall(factory.check, text.traceback, connection, timeout_ms)
  elseif factory.broken then
    ok, message = xpcall(factory.broken, text.traceback, connection)
    fit = not message
  end
  if not ok then return false, factory.check and fit or message, true end
  if fit then return true end
  return false, message, false
end

-- The kind of a connection whose factory gives a message without a kind: the socket knows how the backend did.
local function kind_by(socket)
  if not socket then return "unfit" end
  local fit, _, kind = socket:is_fit()
  if not fit then return kind end
  return socket:has_delivered() and "worn" or "unfit"
end

-- @param member of the factory, that says the kind
local function known_kind(pool, member, kind)
  if condition.KINDS[kind] then return kind end
  pool:log("warn", ("the connection factory's %s says the kind %s; there are lost, timeout, unfit and worn")
    :format(member, text.message(kind)), "factory_mistaken", { cause = member })
  return "unfit"
end

--- What a factory says about a connection that comes back.
-- @param factory of the connection
-- @param socket  under it, or nil
-- @return nil if it may be lent again; or message, kind. The kind "dirty": it may be, once the factory's reset has cleaned it
function condition.broken(pool, factory, connection, socket)
  if not factory.broken or socket and factory.asks_socket then return nil end
  local ok, message, kind = pool:guarded("broken", factory.broken, connection)
  if not ok then return "its factory cannot tell whether it is fit", "unfit" end
  if not message then return nil end
  if kind == "dirty" then return message, factory.reset and kind or "unfit" end
  return message, kind == nil and kind_by(socket) or kind ~= nil and known_kind(pool, "broken", kind)
end

--- Asks whether a connection that comes back may be lent again: its factory, and its socket.
-- @param factory, socket as above
-- @return nil if it may; or message, kind, as condition.broken
function condition.judge(pool, factory, connection, socket)
  local message, kind = condition.broken(pool, factory, connection, socket)
  -- Whoever waits in the socket while nobody has the connection is a reader of the factory's own.
  if message and kind ~= "dirty" or not socket or socket.reader then return message, kind end
  local fit, why, its_kind = socket:is_fit()
  if fit then return message, kind end
  return why, its_kind
end

--- Asks a factory to clean a connection that it calls dirty: its reset, which may wait.
-- @param socket     under it, or nil
-- @param timeout_ms how long that may take
-- @return nil if it is clean and fit now; or message, kind
function condition.clean(pool, factory, connection, socket, timeout_ms)
  local ok, is_clean, message, kind = xpcall(factory.reset, text.traceback, connection, timeout_ms)
  if not ok then
    pool:log("error", "the connection factory's reset threw: " .. is_clean, "factory_threw", { cause = "reset" })
    return "its factory could not clean it", "unfit"
  end
  if not is_clean then
    message = message ~= nil and message or "its factory could not clean it"
    return message, kind == nil and kind_by(socket) or known_kind(pool, "reset", kind)
  end
  message, kind = condition.judge(pool, factory, connection, socket)
  return message, kind == "dirty" and "unfit" or kind -- one that cannot be cleaned is not tried for ever
end

--- A claimer closes the connection: what do its factory and its socket know of the backend? Its `broken` is not asked, as nobody is to get
-- the connection any more.
-- @return nil if nothing; or message, kind
function condition.at_close(pool, factory, connection, socket)
  if factory.evidence then
    local ok, said, its_kind = pool:guarded("evidence", factory.evidence, connection)
    if ok and said then return said, known_kind(pool, "evidence", its_kind) end
  end
  if not socket or socket.reader then return nil end -- a reader of the factory's own
  local fit, message, kind = socket:is_fit()
  if not fit then return message, kind end
  if socket:has_delivered() then return "closed by its claimer", "worn" end
  return nil
end

local function still_fit(socket)
  if socket.reader then return nil end
  local fit, message, kind = socket:is_fit_still()
  if fit then return nil end
  return message, kind
end

--- Asks whether a connection that is about to be lent ended while it rested, and the event loop had no time to say so.
-- @return nil if not; or message, kind
function condition.at_claim(socket)
  return still_fit(socket)
end

--- Whose doing it is that a connection at rest is found unfit as it is about to be lent: it worked in an earlier lease, nothing new is
-- proven.
function condition.kind_at_claim(kind)
  return kind == "worn" and "unfit" or kind
end

--- Asks the same of one that came back in order and goes to a claimer who waits: a server that closes after each answer has closed it by
-- now, and the event loop may not know.
-- @return nil if it has not; or message, kind
function condition.at_handover(socket)
  socket:rest()
  return still_fit(socket)
end

return condition
