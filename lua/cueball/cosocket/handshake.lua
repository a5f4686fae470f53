--- TLS on a socket: the handshake in ngx_lua's words, and what goes with it. Methods of the class that begins in cueball.cosocket.idle.
--
-- With `settls` it differs from ngx_lua in two things, to be safe without being told to: it verifies unless `verify` is false or the
-- context says so, and the name that it asks for is by default the one that the socket was connected to.
local arguments = require "cueball.cosocket.arguments"
local idle = require "cueball.cosocket.idle"
local misuse = require "cueball.misuse"
local task = require "cueball.host.task"
local text = require "cueball.text"

local Socket, busy, unopened, shut, within = idle.Socket, idle.busy, idle.unopened, idle.shut, idle.within
local TIMEOUT = task.TIMEOUT

local LOOK_AGAIN_MS = 1   -- while a thread loads the system's certificates

-- The modules of TLS are loaded when TLS is first wanted.
-- @return the module; or nil, message
local function found(is_loaded, loaded)
  if is_loaded then return loaded end
  return nil, tostring(loaded)
end

local function transports() return found(pcall(require, "cueball.cosocket.tls")) end
local function contexts() return found(pcall(require, "cueball.tls")) end

-- The transport of a socket whose handshake is over; nil: there was none.
local function secured(self)
  return self.transport ~= self.wire and self.is_open and self.transport or nil
end

local function check_arguments(session, server_name, transport)
  if session ~= nil and type(session) ~= "boolean" and not transport.is_session(session) then
    misuse.raise(arguments.bad(1, "sslhandshake", "session or boolean expected, got " .. text.show(session)))
  end
  if server_name ~= nil and type(server_name) ~= "string" then
    misuse.raise(arguments.bad(2, "sslhandshake", "string expected, got " .. type(server_name)))
  end
end

-- What nobody may do a handshake over: bytes that came before it would count as the peer's, though anybody may have sent them.
local function unready(self)
  if self.ended or self.unsendable or self.is_read_over then return "closed" end
  if self.received.size > 0 then return "unread data in buffer" end
  return nil
end

-- Waits until the context is loaded.
-- @return true; or nil, message
local function await_context(self, context)
  local tasks = self.tasks
  local began = tasks.now()
  while not context:is_ready() and not self.wire.is_virtual do
    local woken = tasks:park(LOOK_AGAIN_MS)
    if woken ~= TIMEOUT then return nil, woken end
    if tasks.now() - began > within(self, self.connect_timeout_ms) * 1e6 then return nil, "timeout" end
  end
  return true
end

-- What the handshake is to be like.
local function plan(self, context, session, server_name, verify, send_status_req)
  local name = server_name ~= "" and server_name or nil
  if name and name:find "%z" then return nil, "TLS: that is no name of a server: " .. text.message(name) end -- C would see its beginning
  if self.tls_context then
    if verify == nil then verify = context.verify end
    local peer = self.peer
    name = name or peer and not peer:find "^unix:" and peer or nil -- who has connected to us has none
    if verify and not name then return nil, "TLS: no server name to check the certificate for, as the connection has no address" end
  end
  return {
    name = name, verify = verify and true or false, status = send_status_req and true or false,
    session = type(session) == "table" and session or nil, wants_session = session ~= false,
    cert = self.client_cert or nil, key = self.client_key or nil,
  }
end

-- The handshake itself. The socket is not open meanwhile, and this task its connector.
-- @return true, the session that is promised; or nil, message
local function shake(self, me, transport, context, given)
  local ready, message = await_context(self, context)
  if not ready then return nil, message end
  local made, promised
  made, message = transport.new(self.wire, self.tasks, context)
  if not made then return nil, message end
  self.transport = made
  ready, promised = made:handshake(given, function(err) self.tasks:resume(me, err or true) end)
  if not ready then return nil, promised end
  local result = self.tasks:park(within(self, self.connect_timeout_ms))
  if result == true then return true, promised end
  return nil, result == TIMEOUT and "timeout" or result
end

-- What sslhandshake returns for a socket that has TLS already, as in ngx_lua.
local function again(self, session)
  if type(session) == "table" then return session end
  if session == false then return true end
  return self.transport:resumable() or true
end

-- What is needed before anything is sent.
-- @return the context, what the handshake is to be like; or nil, message
local function prepare(self, session, server_name, verify, send_status_req)
  local why = unready(self)
  if why then return nil, why end
  local context = self.tls_context
  if not context then
    local made, message = contexts().default()
    if not made then return nil, message end
    context = made
  end
  local given, message = plan(self, context, session, server_name, verify, send_status_req)
  if not given then return nil, message end
  return context, given
end

-- Whoever does not look at what sslhandshake returns must not go on in clear text.
local function refuse(self, message)
  shut(self, message)
  return nil, message
end

--- The TLS handshake, over a connection that is open.
-- @param session nil; what sslhandshake returned for an earlier connection: it is resumed if the server will; false: none is wanted
-- @param server_name told to the server (SNI), and what its certificate must be for if it is verified
-- @param verify true: the certificate must be valid and trusted. Without settls false by default, as in ngx_lua
-- @param send_status_req true: ask for an OCSP response; nobody looks at it
-- @return the session, or true if `session` is false; or nil, message, and the connection is closed
function Socket:sslhandshake(session, server_name, verify, send_status_req)
  if getmetatable(self) ~= Socket then misuse.colon("sock:sslhandshake") end
  if not self.is_open then return nil, unopened(self) end
  local me = self.tasks:must_be_able_to_wait()
  local why = busy(self)
  if why then return nil, why end
  local transport, message = transports()
  if not transport then return refuse(self, message) end
  check_arguments(session, server_name, transport)
  if secured(self) then return again(self, session) end
  local context, given = prepare(self, session, server_name, verify, send_status_req)
  if not context then return refuse(self, given) end
  if self.is_reading then
    self.is_reading = false
    self.transport:pause()
  end
  self.is_open, self.connector = false, me
  local ok, promised = shake(self, me, transport, context, given)
  self.connector = nil
  if not ok then return refuse(self, promised) end
  self.is_open = true
  return promised or true
end

--- The context of the next handshake, instead of one that trusts what the system trusts.
-- @param context of cueball.tls; nil: none
function Socket:settls(context)
  if getmetatable(self) ~= Socket then misuse.colon("sock:settls") end
  if context ~= nil then
    local module, message = contexts()
    if not module then misuse.raise(message) end
    if not module.is_context(context) then
      misuse.raise("sock:settls: expected a context of cueball.tls, got " .. text.show(context))
    end
  end
  self.tls_context = context or false
end

--- The client's certificate and its key, for the next handshake.
-- @param cert, key PEM both; nil both: none of its own
-- @return true
function Socket:setclientcert(cert, key)
  if getmetatable(self) ~= Socket then misuse.colon("sock:setclientcert") end
  if cert == nil and key == nil then
    self.client_cert, self.client_key = false, false
    return true
  end
  for index, value in ipairs { cert or false, key or false } do
    if type(value) ~= "string" then
      misuse.raise(arguments.bad(index, "setclientcert", "PEM expected, got " .. type(value)))
    end
  end
  self.client_cert, self.client_key = cert, key
  return true
end

--- The session that a later connection may resume: with TLS 1.3 it comes with the first bytes that are received.
-- @return it; or nil: there is none (yet), or no TLS
function Socket:getsslsession()
  if getmetatable(self) ~= Socket then misuse.colon("sock:getsslsession") end
  local transport = secured(self)
  return transport and transport:resumable() or nil
end

--- What TLS has agreed on.
-- @return { version = "TLSv1.3", cipher =, alpn = or nil, resumed =, verified =, subject =, issuer =, expires_s = } of the server's
--   certificate; or nil: there is no TLS, or the connection is closed
function Socket:tlsinfo()
  if getmetatable(self) ~= Socket then misuse.colon("sock:tlsinfo") end
  local transport = secured(self)
  return transport and transport:info() or nil
end
