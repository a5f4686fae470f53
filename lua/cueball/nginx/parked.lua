--- One connection of a pool that is parked in a keepalive pool of its own between two leases (cueball.nginx.parking): taking it, or opening
-- it anew where it was dropped meanwhile, and parking it again. The pool's slot holds this, and a claimer what was taken.
local condition = require "cueball.pool.condition"
local memo = require "cueball.pool.memo"
local plain = require "cueball.pool.context"
local text = require "cueball.text"
local broken = condition.broken

local pcall, xpcall, rawget, type = pcall, xpcall, rawget, type
local traceback = text.traceback

local IDLE_MS = 0 -- for ever: when a connection is to go is the pool's business

local Parked = {}
Parked.__index = Parked

--- How long a connection stays parked, for nginx.
Parked.IDLE_MS = IDLE_MS

--- Makes one, of a connection that was opened just now. It is not parked yet: see put.
-- @param parking the pool's; factory: what the application gave; park: function(connection, idle_ms) that parks
-- @param context of the attempt; limit_ms: how long an attempt may take
-- @param uses_connect whether the factory connects by context.connect
function Parked.new(parking, factory, park, backend, context, limit_ms, uses_connect)
  return setmetatable({
    parking = parking, keepalive = parking.keepalive, given = factory, park = park, backend = backend, context = context,
    limit_ms = limit_ms, uses_connect = uses_connect, is_taken = true,
    -- The short way to take what is parked: function(context) → connection, socket; or nil.
    take_short = factory.parked and factory.parked.take,
    broken = factory.parked and factory.parked.broken, -- of the factory, if it raises no error
    socket = nil,       -- under what is taken, where it could be found
    request = nil,      -- that took it in the short way
    known = nil,        -- of the connection, see track
    socket_field = nil, -- of the connection
  }, Parked)
end

-- Where the socket is: in the same field of the connection as the last time, most often.
local function find_socket(self, connection)
  local context, field = self.context, self.socket_field
  local is_socket = context.host.is_socket
  if field then
    local found = type(connection) == "table" and rawget(connection, field)
    if found and is_socket(found) then return found end
  end
  local found = condition.socket_of(context.host, connection, context.client)
  self.socket_field = nil
  if found and type(connection) == "table" then
    for name, value in next, connection do
      if value == found then self.socket_field = name end
    end
  end
  return found
end

-- From now on the claimer's socket remembers what is done with it. What is known of the connection is kept here between leases.
local function track(self, connection)
  local context = self.context
  local socket = find_socket(self, connection)
  self.socket = socket
  self.known = socket and self.keepalive.track(socket, self.known, context.descriptor, context.how) or nil
  context.client = nil
end

local function untrack(self)
  local socket = self.socket
  if not socket then return end
  self.keepalive.untrack(socket)
  self.socket = nil
end

local UNREAD = "connection in dubious state" -- what ngx_lua calls bytes that nobody has read
local TICKETS = " (bytes came that nobody has read: tickets of TLS 1.3, perhaps, which `park` of cueball.connection.tcp { tls = … } reads)"

-- Parks in the way that may raise an error: `park` of a client does, if the lease ends in another request than began it.
local function put_anyhow(self, connection)
  untrack(self)
  local ok, is_parked, message = pcall(self.park, connection, IDLE_MS)
  if ok and is_parked then
    self.is_taken = false
    return true
  end
  pcall(self.given.close, connection)
  message = text.message(ok and message or is_parked)
  message = "it could not be parked: " .. message .. (message == UNREAD and TICKETS or "")
  if self.known then return false, self.keepalive.not_parked(self.known, message) end
  return false, message, "unfit"
end

--- Parks the connection that was taken.
-- The short way is that of a connection whose `park` is its socket's, in the request that took it: no error is raised there. It has no
-- pcall, as LuaJIT compiles nothing that returns from one to what called it.
-- @return true; or false, why, kind: it is closed
function Parked:put(connection)
  local keepalive, socket = self.keepalive, self.socket
  if not self.take_short or not socket or self.request ~= keepalive.request() then return put_anyhow(self, connection) end
  self.socket = nil
  local is_parked, message = keepalive.park(socket)
  if is_parked then
    self.is_taken = false
    return true
  end
  pcall(self.given.close, connection)
  local kind
  message, kind = keepalive.not_parked(self.known, "it could not be parked: " .. text.message(message))
  return false, message, kind
end

-- What takes what is parked takes no time, and what it may take is no limit for what the connection is used for then. Only what
-- opens a connection is limited by what is left of the claim.
local function limit(self, limit_ms)
  local context, keepalive = self.context, self.keepalive
  context.timeout_ms, context.left_ms = self.limit_ms, nil
  if not limit_ms or limit_ms >= self.limit_ms then return end
  if self.uses_connect or keepalive.is_known(context.socket_options) then
    context.left_ms = limit_ms
  else
    context.timeout_ms = limit_ms
  end
end

local function taken(self, connection)
  track(self, connection)
  self.request = nil
  local socket = self.socket
  if not self.uses_connect and socket and socket:getreusedtimes() == 0 then self.parking.reopened = self.parking.reopened + 1 end
  return connection
end

--- Has the factory connect: it takes what is parked, or opens a connection.
-- @param limit_ms what is left of the claim's time; nil: no limit but that of an attempt
-- @return the connection; or nil, message
function Parked:take(limit_ms)
  local context = self.context
  self.is_taken = true
  context.client, context.how = nil, nil
  limit(self, limit_ms)
  local ok, connection, message = xpcall(self.given.connect, traceback, self.backend, context)
  local fault = ok and connection and memo.fault(context.memo)
  if fault then
    pcall(self.given.close, connection)
    connection, message = nil, fault
  end
  if ok and connection then return taken(self, connection) end
  self.is_taken = false
  plain.close_client(context)
  if not ok then
    context.log("error", ("connecting to %s threw: %s"):format(self.backend.key, connection), false, "factory_threw")
    return nil, context.hide(connection:match "^[^\n]*")
  else
    return nil, message ~= nil and context.hide(text.message(message)) or "the connection factory returned nothing"
  end
end

--- The short way of what is parked, if the factory has one: the client is made, and the socket that stands under it is known.
-- @return the connection; nil: the factory has none, or nothing was parked
function Parked:take_if_parked()
  local context, keepalive, take_short = self.context, self.keepalive, self.take_short
  if not take_short then return nil end
  local connection, socket = take_short(context)
  if not connection then return nil end
  self.is_taken, self.socket, self.request = true, socket, keepalive.request()
  self.known = keepalive.track(socket, self.known, context.descriptor, "reused")
  return connection
end

--- What is wrong with a connection that comes back, as condition.judge: its socket has no reader but its claimer.
-- @return message, kind; nil: nothing
function Parked:fault(pool, connection)
  local socket = self.socket
  if self.broken and socket and not self.broken(connection) and self.keepalive.is_fit(socket) then return nil end
  local message, kind = broken(pool, self.given, connection, socket)
  if message and kind ~= "dirty" or not socket then return message, kind end
  local fit, why, its_kind = socket:is_fit()
  if fit then return message, kind end
  return why, its_kind
end

--- Has a dirty connection cleaned, in the request that has it: it waits there. As condition.clean.
function Parked:clean(pool, connection, limit_ms)
  return condition.clean(pool, self.given, connection, self.socket, limit_ms)
end

return Parked
