--- Connections that are bare sockets: TCP, or UNIX ("unix:/path" as the address).
--
--   local tcp = require "cueball.connection.tcp"
--   cueball.pool { resolver = …, connect = tcp { read_timeout_ms = 2000 } }
--
-- The connection a lease then holds is a socket with ngx_lua's cosocket API,
-- on every host: send, receive, receiveuntil … (docs/hosts.md).
local misuse = require "cueball.misuse"
local address = require "cueball.address"

local TIMEOUT_MS_MIN, TIMEOUT_MS_MAX = 0.001, 86400000

local function is_milliseconds(value)
  return type(value) == "number" and value >= TIMEOUT_MS_MIN and value <= TIMEOUT_MS_MAX
end

local function is_boolean(value)
  return type(value) == "boolean"
end

local MILLISECONDS = { check = is_milliseconds, range = "a number of milliseconds from 0.001 to 86400000" }
local BOOLEAN = { check = is_boolean, range = "true or false" }

local OPTIONS = {
  connect_timeout_ms = MILLISECONDS,
  send_timeout_ms = MILLISECONDS,
  read_timeout_ms = MILLISECONDS,
  keepalive_ms = MILLISECONDS,
  nodelay = BOOLEAN,
}

local function option_names()
  local names = {}
  for name in pairs(OPTIONS) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

local function show(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function check_options(options)
  if type(options) ~= "table" then
    misuse.raise("cueball.connection.tcp: expected a table of options, got " .. show(options))
  end
  for name, value in pairs(options) do
    local option = OPTIONS[name]
    if not option then
      misuse.raise(("cueball.connection.tcp: unknown option %s; there are %s")
        :format(type(name) == "string" and "'" .. name .. "'" or tostring(name), option_names()))
    end
    if not option.check(value) then
      misuse.raise(("cueball.connection.tcp: option '%s' must be %s, got %s"):format(name, option.range, show(value)))
    end
  end
end

-- The shorter of two limits, either of which may be missing.
local function shorter(a, b)
  return a and b and math.min(a, b) or a or b
end

-- Some hosts' sockets have no options to set (a UNIX socket, a simulated one): that is no failure.
local function set_options(sock, options)
  if options.nodelay == false then sock:setoption("tcp-nodelay", false) end
  if options.keepalive_ms then sock:setoption("keepalive", options.keepalive_ms) end
end

local DEFAULT_MS = 60000 -- of a socket, as in nginx

-- The limits of use: a claimer may have set others.
local function set_back(sock, options)
  if sock.read_timeout_ms == (options.read_timeout_ms or DEFAULT_MS) and sock.send_timeout_ms == (options.send_timeout_ms or DEFAULT_MS)
    and sock.connect_timeout_ms == (options.connect_timeout_ms or DEFAULT_MS) then return end -- as sockets of our own hosts tell
  sock:settimeouts(options.connect_timeout_ms or 0, options.send_timeout_ms or 0, options.read_timeout_ms or 0)
end

-- A socket operation's argument of 0 is the host's default, 60 s. context.connect takes what is parked for this place, where
-- the host parks connections.
local function connect(options, backend, context)
  local sock = context.host.tcp()
  local limit_ms = shorter(context.timeout_ms, options.connect_timeout_ms)
  sock:settimeout(limit_ms or 0)
  local ok, message
  if context.connect then
    ok, message = context.connect(sock)
  else
    ok, message = address.connect(sock, backend, context.socket_options)
  end
  if not ok then return nil, message end
  set_back(sock, options)
  set_options(sock, options)
  return sock
end

--- Makes a connection factory.
-- @param options nil, or a table:
--   connect_timeout_ms  limit of connecting, besides what is left of the pool's attempt (the shorter counts)
--   send_timeout_ms     limit of each send, 60000 by default
--   read_timeout_ms     limit of waiting for data in each receive, 60000 by default
--   keepalive_ms        TCP keepalive: time at rest before the first probe; off by default
--   nodelay             true by default: small writes go out at once
--   Each _ms from 0.001 to 86400000.
-- @return {connect, close, broken, watch, unwatch}
--   connect(backend, context) → socket; or nil, message ("connection refused", "timeout" …).  Must run in a task.
--     backend.address and backend.port; context.host, context.timeout_ms and context.socket_options.
--   close(socket): at once, also if a task waits in it
--   broken(socket) → message, kind if it may not be used again ("closed", "unexpected data" …; docs/contracts.md), else nil
--   watch(socket, lost): lost(message, kind), once, when it is lost at rest, where the host can tell
--   unwatch(socket)
local function tcp(options)
  options = options or {}
  check_options(options)
  local copy = {}
  for name, value in pairs(options) do copy[name] = value end

  local factory = {}

  function factory.connect(backend, context)
    return connect(copy, backend, context)
  end

  function factory.close(sock)
    if sock.abort then sock:abort() else sock:close() end
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
    set_back(sock, copy) -- it came back; where sockets are parked each claimer has one of its own
    sock:watch(lost)
  end

  function factory.unwatch(sock)
    if sock.unwatch then sock:unwatch() end
  end

  -- For the pool, which has asked the socket just now; as long as `watch` and `unwatch` are those above.
  factory.bare = { watch = factory.watch, unwatch = factory.unwatch, set_back = function(sock) set_back(sock, copy) end }

  return factory
end

return tcp
