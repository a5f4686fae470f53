--- TLS on the sockets of cueball.cosocket.socket (host.tls of docs/hosts.md): what hosts have that bring no TLS of their own.
local text = require "cueball.text"

local tls = {}

-- @return cueball.tls; or nil, message
local function load_engine()
  local is_there, engine = pcall(require, "cueball.tls")
  if is_there then return engine end
  return nil, text.message(engine)
end

--- What of the options cannot be had here.
-- @return a message; nil: nothing
function tls.fault()
  local engine, message = load_engine()
  return not engine and message or nil
end

--- The client that handshakes are made as.
-- @param options checked; cert and key as PEM texts
-- @return identity; or nil, message
function tls.identity(options)
  local engine, message = load_engine()
  if not engine then return nil, message end
  return engine.context(options)
end

--- Makes a connected socket speak TLS.
-- @param server_name a name or an address; nil: none is told to the server, nor checked
-- @param session of tls.session, or nil
-- @return true; or nil, message
function tls.handshake(socket, identity, server_name, verify, session)
  if not socket.settls then return nil, "this host's sockets have no TLS" end
  socket:settls(identity)
  local ok, message = socket:sslhandshake(session, server_name, verify)
  if not ok then return nil, message == "timeout" and "the handshake took too long" or message end
  return true
end

--- What the next connection to this server can go on with.
-- @return a session; nil: there is none yet, as the server has sent no ticket
function tls.session(socket)
  return socket:getsslsession()
end

return tls
