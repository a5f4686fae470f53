--- Connections that are bare sockets: TCP, or UNIX ("unix:/path" as the address).
--
--   local tcp = require "cueball.connection.tcp"
--   cueball.pool { resolver = …, connect = tcp { read_timeout_ms = 2000 } }
--
-- The connection a lease then holds is a socket with ngx_lua's cosocket API,
-- on every host: send, receive, receiveuntil … (docs/sockets.md).
local address = require "cueball.address"
local made_of = require "cueball.made_of"
local options = require "cueball.options"
local tls = require "cueball.connection.tls"

local MILLISECONDS = options.number(0.001, 86400000, "milliseconds")
local BOOLEAN = options.of_type("boolean", "true or false")

local OPTIONS = {
  connect_timeout_ms = MILLISECONDS,
  send_timeout_ms = MILLISECONDS,
  read_timeout_ms = MILLISECONDS,
  keepalive_ms = MILLISECONDS,
  nodelay = BOOLEAN,
  tls = tls.RULE,
}
options.note("cueball.connection.tcp", OPTIONS)

-- What an open connection does not know.
local FREE = { connect_timeout_ms = true }

-- The shorter of two limits, either of which may be missing.
local function shorter(a, b)
  return a and b and math.min(a, b) or a or b
end

-- Some hosts' sockets have no options to set (a UNIX socket, a simulated one): that is no failure.
local function set_options(sock, settings)
  if settings.nodelay == false then sock:setoption("tcp-nodelay", false) end
  if settings.keepalive_ms then sock:setoption("keepalive", settings.keepalive_ms) end
end

local DEFAULT_MS = 60000 -- of a socket, as in nginx

-- The limits of use: a claimer may have set others.
local function set_back(sock, settings)
  local connect_ms, send_ms, read_ms = settings.connect_timeout_ms, settings.send_timeout_ms, settings.read_timeout_ms
  if sock.read_timeout_ms == (read_ms or DEFAULT_MS) and sock.send_timeout_ms == (send_ms or DEFAULT_MS)
    and sock.connect_timeout_ms == (connect_ms or DEFAULT_MS) then return end -- as sockets of our own hosts tell
  sock:settimeouts(connect_ms or 0, send_ms or 0, read_ms or 0)
end

local function close(sock)
  if sock.cueball_tls then tls.keep(sock) end -- it is closed before it came back
  if sock.abort then sock:abort() else sock:close() end
end

-- TLS, within what connecting has left of its limit.
local function secure(sock, settings, backend, context, deadline)
  local ok, message = tls.secure(sock, settings.tls, backend, context, deadline)
  if ok then return true end
  close(sock)
  return nil, message
end

-- A socket operation's argument of 0 is the host's default, 60 s. context.connect takes what is parked for this place, where
-- the host parks connections.
local function connect(settings, backend, context)
  local sock = context.host.tcp()
  local limit_ms = shorter(context.timeout_ms, settings.connect_timeout_ms)
  local deadline = settings.tls and limit_ms and context.host.now() + limit_ms * 1e6
  sock:settimeout(limit_ms or 0)
  local ok, message
  if context.connect then
    ok, message = context.connect(sock)
  else
    ok, message = address.connect(sock, backend, context.socket_options)
  end
  if ok and settings.tls and ok ~= "reused" then ok, message = secure(sock, settings, backend, context, deadline) end
  if not ok then return nil, message end
  set_back(sock, settings)
  set_options(sock, settings)
  return sock
end

--- Makes a connection factory.
-- @param given nil, or a table:
--   connect_timeout_ms  limit of connecting, besides what is left of the pool's attempt (the shorter counts)
--   send_timeout_ms     limit of each send, 60000 by default
--   read_timeout_ms     limit of waiting for data in each receive, 60000 by default
--   keepalive_ms        TCP keepalive: time at rest before the first probe; off by default
--   nodelay             true by default: small writes go out at once
--   tls                 true, or a table of options (docs/tls.md): TLS; off by default
--   Each _ms from 0.001 to 86400000.
-- @return {connect, close, broken, watch, unwatch, park, fault}
--   connect(backend, context) → socket; or nil, message ("connection refused", "timeout" …).  Must run in a task.
--     backend.address and backend.port; context.host, context.timeout_ms and context.socket_options.
--   close(socket): at once, also if a task waits in it
--   broken(socket) → message, kind if it may not be used again ("closed", "unexpected data" …; docs/contracts.md), else nil
--   watch(socket, lost): lost(message, kind), once, when it is lost at rest, where the host can tell
--   unwatch(socket)
--   park(socket, idle_ms) → 1; or nil, message, where the host parks connections
--   fault(host) → message, where a host cannot do what `tls` asks for
local function tcp(given)
  local settings = {}
  for name, value in pairs(options.check("cueball.connection.tcp", given, OPTIONS)) do settings[name] = value end
  settings.tls = tls.read("cueball.connection.tcp", settings.tls)

  local factory = { close = close }

  function factory.connect(backend, context)
    return connect(settings, backend, context)
  end

  function factory.broken(sock)
    if not sock.is_fit then return nil end
    local fit, message, kind = sock:is_fit()
    if not fit then return message, kind end
    return nil
  end

  factory.asks_socket = factory.broken -- it does no more than that

  function factory.watch(sock, lost)
    if not sock.watch then return end
    set_back(sock, settings) -- it came back; where sockets are parked each claimer has one of its own
    if sock.cueball_tls then tls.keep(sock) end
    sock:watch(lost)
  end

  function factory.unwatch(sock)
    if sock.unwatch then sock:unwatch() end
  end

  function factory.park(sock, idle_ms)
    local ok, message = tls.settle(sock)
    if not ok then return nil, message end
    return sock:setkeepalive(idle_ms)
  end

  if settings.tls then
    function factory.fault(host) return tls.fault(settings.tls, host) end
  else
    -- For the pool, which has asked the socket just now; as long as `watch` and `unwatch` are those above.
    factory.bare = { watch = factory.watch, unwatch = factory.unwatch, set_back = function(sock) set_back(sock, settings) end }
  end

  return made_of.note(factory, "cueball.connection.tcp", given or {}, FREE)
end

return tcp
