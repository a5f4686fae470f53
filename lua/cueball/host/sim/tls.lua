--- The server's end of TLS in the simulated world: real OpenSSL over the fake network. The network's time is virtual, OpenSSL's clock,
-- by which certificates expire, is the machine's.
--
-- The happy path: the client's first bytes begin the handshake; what the server said before is sent once it is over.
-- What can go wrong: the client refuses the certificate, or has none that the server takes: the connection is closed, and
-- connection.tls_error says why. And what `handshake` of the behaviour says: in its middle the server closes ("close"), resets ("reset"),
-- says nothing more ("silent"), or answers what is no TLS ("garbage").
local engines = require "cueball.tls.engine"
local tls = require "cueball.tls"
local misuse = require "cueball.misuse"

local server_tls = {}

local ServerTls = {}
ServerTls.__index = ServerTls

local FAULTS = { close = true, reset = true, silent = true, garbage = true }
local GARBAGE = "HTTP/1.0 400 Bad Request\r\n\r\nThis is no TLS.\r\n"
local DONE, WANT, MORE = engines.DONE, engines.WANT, engines.MORE

--- Reads the field `tls` of a behaviour.
-- @param given false; or the options of cueball.tls.server, and `handshake`
-- @return { context =, handshake = } or false
function server_tls.read(given)
  if given == false then return false end
  local own = {}
  for name, value in pairs(given) do own[name] = value end
  local handshake = own.handshake
  own.handshake = nil
  if handshake and not FAULTS[handshake] then
    misuse.raise(('server: tls.handshake: expected "close", "reset", "silent", "garbage" or false, got %s'):format(tostring(handshake)))
  end
  local context, message = tls.server(own)
  if not context then misuse.raise("server: tls: " .. message) end
  return { context = context, handshake = handshake or false }
end

--- @param connection of cueball.host.sim.connection
-- @param how of server_tls.read
function server_tls.new(connection, how)
  local engine, message = engines.new(how.context)
  if not engine then error(message, 0) end
  assert(engines.begin(engine, {}))
  return setmetatable({
    connection = connection,
    engine = engine,
    fault = how.handshake,
    is_over = false,   -- the handshake
    is_spoilt = false, -- … has gone wrong: nothing is read any more
    unsent = {},       -- what is to be sent then
  }, ServerTls)
end

local function flush(self)
  local data = engines.take_output(self.engine)
  if data then self.connection.to_client:send(data) end
end

-- The handshake goes wrong, as the behaviour wants it: half of the server's first answer, and then.
local function spoil(self)
  local connection, data = self.connection, engines.take_output(self.engine)
  self.is_spoilt = true
  if self.fault == "garbage" then
    connection.to_client:send(GARBAGE)
    return
  end
  if data and #data > 1 then connection.to_client:send(data:sub(1, math.floor(#data / 2))) end
  if self.fault == "close" then return connection:truncate() end
  if self.fault == "reset" then return connection:reset() end
end

-- The engine failed: its alert is sent, and the connection ends.
local function fail(self)
  local connection = self.connection
  connection.tls_error = engines.message_of(self.engine)
  flush(self)
  connection:truncate()
end

-- → true: the handshake is over
local function shake(self, data)
  local result = engines.handshake(self.engine, data)
  if result ~= DONE and result ~= WANT then return fail(self) end
  if self.fault then return spoil(self) end
  flush(self)
  if result == WANT then return end
  self.is_over = true
  local unsent = self.unsent
  self.unsent = {}
  for _, text in ipairs(unsent) do self:send(text) end
  return true
end

--- Bytes of the client's have arrived.
-- @return what they say; or nil: nothing (yet)
function ServerTls:arrive(data)
  if self.is_spoilt then return nil end
  if not self.is_over then
    if not shake(self, data) then return nil end
    data = nil
  end
  local pieces = {}
  repeat
    local result, plain = engines.receive(self.engine, data)
    data = nil
    pieces[#pieces + 1] = plain
    if result ~= DONE and result ~= MORE and result ~= engines.CLOSED then fail(self) end
  until result ~= MORE
  if self.engine then flush(self) end
  return pieces[1] and table.concat(pieces) or nil
end

--- Sends, once the handshake is over.
function ServerTls:send(data)
  if not self.is_over then
    self.unsent[#self.unsent + 1] = data
  elseif engines.send(self.engine, data, 0, #data) == DONE then
    flush(self)
  end
end

--- Says that nothing more will be sent.
function ServerTls:shutdown()
  if self.is_over and engines.shutdown(self.engine) == DONE then flush(self) end
end

function ServerTls:close()
  local engine = self.engine
  self.engine = nil
  if engine then engines.free(engine) end
end

return server_tls
