--- Logging in to PostgreSQL by pgmoon, over a socket that is connected already: TLS, the startup message, the password.
--
-- pgmoon is given the socket as its own, with what to send first and how to receive messages. So it is the password that is left to it, but
-- for SCRAM where OpenSSL is at hand: pgmoon needs another library for that.
local problem = require "cueball.connection.postgres.problem"
local scram = require "cueball.connection.postgres.pgmoon.scram"
local text = require "cueball.text"
local tls = require "cueball.connection.tls"
local wire = require "cueball.connection.postgres.pgmoon.wire"

local login = {}

local NO_LIBRARY = "pgmoon was not found: install it with 'luarocks install pgmoon' or 'opm get leafo/pgmoon': %s"
local BROKEN_LIBRARY = "pgmoon cannot be loaded: %s"
local NO_SCRAM = "the server wants SCRAM, for which pgmoon needs lua-resty-openssl or luaossl beside it: %s"

local SASL = 10 -- what a server asks for that wants SCRAM

local function find_pgmoon(host)
  local found, message
  if host.name == "ngx" then
    local ok
    ok, found = pcall(require, "pgmoon")
    if ok then return found end
    message = text.of(found)
  else
    found, message = host.library "pgmoon"
    if found then return found end
  end
  local is_missing = message:find "module '[%l.]*pgmoon' not found"
  return nil, (is_missing and NO_LIBRARY or BROKEN_LIBRARY):format(text.message(message))
end

-- What pgmoon raises, without the place in its source.
local function login_error(message)
  message = text.message(message):gsub("^[^\n]-%.lua:%d+: ", "")
  if message:find("luaossl", 1, true) then message = NO_SCRAM:format(message) end
  return message
end

--- Asks the server for TLS.
-- @return true: the connection speaks TLS; false: it does not, and need not; or nil, message
function login.ask_for_tls(socket, backend, context, security)
  local sent, message = socket:send(wire.SSL_REQUEST)
  if not sent then return nil, message end
  local answer
  answer, message = socket:receiveany(2)
  if not answer then return nil, message end
  -- What stands behind the answer came unencrypted, and would be taken for what came encrypted.
  if #answer > 1 then return nil, "the server sent data before TLS began" end
  if answer == "S" then return tls.secure(socket, security.tls, backend, context) end
  if answer ~= "N" then return nil, "the server does not answer as PostgreSQL does" end
  if security.is_tls_required then return nil, "the server does not support TLS" end
  return false
end

-- Which mechanisms the server offers. pgmoon takes the one that is bound to the TLS channel wherever it is offered, and then finds out
-- that it cannot have the channel's certificate from sockets such as these.
local function without_binding(letter, body)
  if letter == "R" then body = body:gsub("SCRAM%-SHA%-256%-PLUS%z", "") end
  return body
end

-- A pgmoon that uses this channel, and says in `heard` how things went.
local function new_pgmoon(made, channel, backend, context, parameters, security, heard)
  local socket = channel.socket
  local pg = made.new {
    host = backend.address, port = backend.port, user = parameters.user, password = parameters.password, database = parameters.dbname,
    ssl = security.tls ~= nil, socket_type = "nginx",
  }
  -- The socket that pgmoon made is not needed. Where the task lives on, it would be kept with it.
  if pg.sock and pg.sock.abort then pg.sock:abort() end
  pg.sock, pg.sock_type = socket, "nginx"
  socket.connect = function() -- it is connected
    socket.connect = nil
    return 1
  end
  function pg.send_ssl_message()
    local is_secure, message = login.ask_for_tls(socket, backend, context, security)
    if is_secure == nil then return nil, message end
    heard.is_secure = is_secure
    return true
  end
  function pg.send_startup_message()
    return channel:send(wire.startup {
      user = parameters.user, database = parameters.dbname, options = parameters.options, client_encoding = parameters.client_encoding,
      application_name = parameters.application_name,
    })
  end
  function pg.receive_message()
    local letter, body, name = channel:receive()
    if letter == "R" and wire.authentication(body) == SASL and scram.is_there(context.host) then
      letter, body, name = scram.answer(context.host, channel, parameters.password, body)
    end
    if not letter then
      heard.name = name
      return nil, body
    end
    if letter == "E" then heard.refusal = wire.fields(body) end
    return letter, without_binding(letter, body)
  end
  function pg.disconnect() end -- before 1.14, of a login that failed: who made the socket closes it
  return pg
end

--- Logs in, over a channel of a connected socket. channel.state gets is_secure.
-- @param parameters of cueball.connection.postgres.pgmoon.options, and security
-- @return true; or nil, message, name, fields
function login.log_in(channel, backend, context, parameters, security)
  local made, message = find_pgmoon(context.host)
  if not made then return nil, message end
  local heard = {}
  channel.length_max = wire.GREETING_MAX
  local pg = new_pgmoon(made, channel, backend, context, parameters, security, heard)
  local returned, ok
  returned, ok, message = pcall(pg.connect, pg)
  channel.length_max = nil
  if heard.refusal then return nil, problem.sentence(heard.refusal), heard.refusal.sqlstate, heard.refusal end
  if not returned then return nil, login_error(ok), "invalid" end
  if not ok then return nil, text.message(message), heard.name or "closed" end
  channel.state.is_secure = heard.is_secure
  tls.keep(channel.socket)
  return true
end

return login
