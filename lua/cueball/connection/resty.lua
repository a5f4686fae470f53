--- Connections that are clients of any library written for OpenResty's cosockets, on every host: docs/libraries.md.
--
--   cueball.pool { resolver = …, connect = cueball.connection.resty { module = "resty.memcached", read_timeout_ms = 1000 } }
--   pool:with(function(client) return client:get "key" end)
--
-- The client connects its socket in its own way, to whatever address: the first connect of the socket is lent to the pool
-- (context.through). So the connection is the pool's, is parked where the host parks connections, and its socket tells how it was used.
local options = require "cueball.options"
local limits = require "cueball.connection.limits"
local library = require "cueball.cosocket.library"
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local text = require "cueball.text"
local tls = require "cueball.connection.tls"

local WHAT = "cueball.connection.resty"
local DEFAULT_TIMEOUT_MS = 60000

local FUNCTION, LIMIT = options.of_type "function", options.number(1, 86400000, "milliseconds")

local function of_types(range, ...)
  local types = {}
  for _, name in ipairs { ... } do types[name] = true end
  return { range = range, check = function(value) return types[type(value)] == true and value ~= "" end }
end

local OPTIONS = {
  module = of_types("the name of a library, or a library", "string", "table"),
  new = of_types("a function, or a table of options", "function", "table"),
  connect = of_types("a function, or a table of arguments", "function", "table"),
  socket = of_types("the name of a field, or a function", "function", "string"),
  setup = FUNCTION, broken = FUNCTION, evidence = FUNCTION, check = FUNCTION, reset = FUNCTION, close = FUNCTION, park = FUNCTION,
  tls = tls.RULE,
  connect_timeout_ms = LIMIT, send_timeout_ms = LIMIT, read_timeout_ms = LIMIT,
}

for _, name in ipairs { "new", "connect" } do OPTIONS[name].is_secret = true end -- there are passwords in them

-- --------------------------------------------------------------- sockets --

local FIELDS = { "_sock", "sock", "socket" } -- in which libraries have it; then any

local function socket_among(host, fields)
  for _, name in ipairs(FIELDS) do
    local found = rawget(fields, name)
    if host.is_socket(found) then return found end
  end
  for _, found in next, fields do
    if host.is_socket(found) then return found end
  end
  return nil
end

-- The socket of a client; nil: it has none, or it cannot be found.
local function socket_of(settings, host, client)
  local where = settings.socket
  if type(where) == "function" then return where(client) end
  if host.is_socket(client) then return client end
  if type(client) ~= "table" then return nil end
  if where then return rawget(client, where) end
  local found = socket_among(host, client)
  if found then return found end
  for _, part in next, client do
    found = type(part) == "table" and socket_among(host, part)
    if found then return found end
  end
  return nil
end

local function shut(socket)
  if not socket then return end
  if socket.abort then socket:abort() else socket:close() end
end

-- ---------------------------------------------------------------- limits --

local function limit_all(socket, ms)
  ms = limits.whole(ms)
  socket:settimeouts(ms, ms, ms)
end

-- The limits of use: a claimer may have set others.
local function set_back(socket, settings)
  socket:settimeouts(settings.connect_timeout_ms or DEFAULT_TIMEOUT_MS, settings.send_timeout_ms or DEFAULT_TIMEOUT_MS,
    settings.read_timeout_ms or DEFAULT_TIMEOUT_MS)
end

-- ------------------------------------------------------------- connecting --

local function library_on(settings, host)
  local module = settings.module
  if type(module) == "table" then return module end
  return library.load(host, module)
end

-- A client, not connected.
local function new_client(settings, backend, context)
  local found, message = library_on(settings, context.host)
  if not found then return nil, message end
  local new = settings.new
  if type(new) == "function" then return new(found, backend, context) end
  if type(found.new) ~= "function" then return nil, ("%s has no function new: give option 'new'"):format(settings.name) end
  return found:new(new)
end

-- The first connect of the socket leads to the backend, and TLS is spoken from then on, if it is to be.
-- @return function() → was it connected?
local function lend(settings, socket, backend, context, deadline)
  local own, has_connected = rawget(socket, "connect"), false
  context.through(socket)
  local lent = socket.connect
  socket.connect = function(self, ...)
    local ok, message = lent(self, ...)
    if ok and settings.tls and socket:getreusedtimes() == 0 then
      ok, message = tls.secure(socket, settings.tls, backend, context, deadline)
    end
    if not ok then return nil, message end
    has_connected = true
    -- What is left, also of a claim that opens the connection anew.
    limit_all(socket, math.min((deadline - context.host.now()) / 1e6, limits.of_attempt(settings, context)))
    return 1
  end
  return function()
    if not has_connected then socket.connect = own end
    return has_connected
  end
end

local function merged(given, backend, context)
  local arguments = { host = backend.address, port = backend.port }
  for name, value in pairs(given) do arguments[name] = value end
  if arguments.password == nil then return arguments end
  local password, message = context.secret("password", arguments.password)
  if not password then return nil, message end
  arguments.password = password
  return arguments
end

-- Has the client connect as it does.
-- @return what its connect returned
local function connect_client(settings, client, backend, context)
  local connect = settings.connect
  if type(connect) == "function" then return connect(client, backend, context) end
  if type(client) ~= "table" or type(client.connect) ~= "function" then
    return nil, ("a client of %s has no method connect: give option 'connect'"):format(settings.name)
  end
  if not connect then return client:connect(backend.address, backend.port) end
  if #connect > 0 then return client:connect(unpack(connect)) end
  local arguments, message = merged(connect, backend, context)
  if not arguments then return nil, message end
  return client:connect(arguments)
end

-- What a function of the application returned. Nothing at all is no complaint.
-- @return true; or nil, message
local function agreed(what, ...)
  local ok, message = ...
  if ok or select("#", ...) == 0 then return true end
  if message ~= nil then return nil, text.of(message) end
  return nil, ("its '%s' returned %s"):format(what, tostring(ok))
end

-- Brings a client that was made to where claimers expect it.
-- @return true; or nil, message
local function open(settings, client, socket, backend, context)
  local deadline = context.host.now() + limits.of_attempt(settings, context) * 1e6
  local was_connected
  if socket then
    limit_all(socket, limits.of_attempt(settings, context))
    was_connected = lend(settings, socket, backend, context, deadline)
  end
  local ok, message = agreed("connect", connect_client(settings, client, backend, context))
  if socket and not was_connected() and ok then
    ok, message = nil, ("its 'connect' did not connect the socket that the client of %s had before: give option 'socket'")
      :format(settings.name)
  end
  if not ok then return nil, message end
  local is_new = not socket or socket:getreusedtimes() == 0
  if settings.setup and is_new then return agreed("setup", settings.setup(client, backend, context)) end
  return true
end

local function connect_to(settings, backend, context)
  local client, message = new_client(settings, backend, context)
  if not client then return nil, message or ("the library's 'new' returned " .. tostring(client)) end
  local host = context.host
  local socket = socket_of(settings, host, client)
  if socket and not host.is_socket(socket) then
    return nil, ("option 'socket' found no socket of this host, but a %s"):format(type(socket))
  end
  if not socket and (host.keepalive or settings.tls) then
    return nil, ("a client of %s has no socket before it connects, so its connection cannot be %s: give option 'socket', or make "
      .. "the socket in 'new'"):format(settings.name, host.keepalive and "parked" or "secured")
  end
  local ok
  ok, message = open(settings, client, socket, backend, context)
  socket = socket or socket_of(settings, host, client)
  if not ok then
    shut(socket)
    return nil, message
  end
  if socket then
    if settings.tls then tls.keep(socket) end
    set_back(socket, settings)
  end
  return client, socket
end

-- --------------------------------------------------------------- factory --

-- By the client: { socket =, host = }.
local function known_of(settings)
  local known = setmetatable({}, { __mode = "k" })
  return function(client) return known[client] end, function(backend, context)
    local client, socket = connect_to(settings, backend, context)
    if not client then return nil, socket end
    known[client] = { socket = socket, host = context.host }
    return client
  end
end

-- Closes its socket, whatever the library, or the application's own `close`, does.
local function close(settings, of, client)
  local known = of(client) or {}
  local resource = { abort = function() shut(known.socket) end }
  if not settings.close then
    if known.socket then return shut(known.socket) end
    if type(client) == "table" and client.close then client:close() end
    return
  end
  if known.host then known.host.guard(resource) end -- it may take longer than the pool allows
  local ok, message = pcall(settings.close, client)
  if known.host then known.host.unguard(resource) end
  shut(known.socket)
  if not ok then error(message, 0) end
end

local PARKS = { "set_keepalive", "setkeepalive", "keepalive" }

-- Its socket's way is that of all libraries, and says why not.
local function park(settings, of, client, idle_ms)
  local known = of(client)
  local socket = known and known.socket
  if socket then
    if settings.tls then
      local ok, message = tls.settle(socket)
      if not ok then return nil, message end
    end
    return socket:setkeepalive(idle_ms)
  end
  for _, name in ipairs(PARKS) do
    if client[name] then return client[name](client, idle_ms) end
  end
  return nil, ("a client of %s has no socket that could be found, and no set_keepalive, setkeepalive or keepalive: give option 'park'")
    :format(settings.name)
end

-- What an open connection does not know.
local FREE = { connect_timeout_ms = true }

local function check_options(given)
  local settings = {}
  for name, value in pairs(options.check(WHAT, given, OPTIONS)) do settings[name] = value end
  if settings.module == nil then misuse.raise(WHAT .. ": option 'module' must be the name of a library, or a library, not nil") end
  settings.name = type(settings.module) == "string" and settings.module or "the library"
  settings.tls = tls.read(WHAT, settings.tls)
  return settings
end

--- Makes a connection factory. Functions may wait where the pool's factories may: docs/contracts.md.
-- @param given a table:
--   module      the library's name, or the library itself
--   new         function(library, backend, context) → client; or options for library:new(options); library:new() by default
--   connect     function(client, backend, context) → true; or nil, message. A list: the arguments of client:connect. Another table: its
--               only argument, with `host` and `port` unless they are in it. client:connect(address, port) by default
--   setup       function(client, backend, context) → true; or nil, message: greets on a new connection, and not on one that was parked
--   socket      the client's field, or function(client), that has its socket; found by default
--   broken, evidence, check, reset, park, close    of a factory, called with the client
--   tls         true, or a table of options (docs/tls.md)
--   connect_timeout_ms    limit of connecting, besides what is left of the pool's attempt (the shorter counts)
--   send_timeout_ms, read_timeout_ms    limits of use, 60000 by default. Each _ms from 1 to 86400000
-- @return a factory; mistakes in the options raise an error at the caller's line
return function(given)
  local settings = check_options(given)
  local of, connect = known_of(settings)
  local factory = {
    connect = connect, broken = settings.broken, evidence = settings.evidence, check = settings.check, reset = settings.reset,
    close = function(client) return close(settings, of, client) end,
    park = settings.park or function(client, idle_ms) return park(settings, of, client, idle_ms) end,
    fault = function(host)
      local found, message = library_on(settings, host)
      return not found and message or settings.tls and tls.fault(settings.tls, host) or nil
    end,
    watch = function(client, lost)
      local socket = (of(client) or {}).socket
      if not socket or not socket.watch then return end
      set_back(socket, settings) -- where a client is not made anew for each claimer
      if settings.tls then tls.keep(socket) end
      socket:watch(lost)
    end,
    unwatch = function(client)
      local socket = (of(client) or {}).socket
      if socket and socket.unwatch then socket:unwatch() end
    end,
  }
  return made_of.note(factory, WHAT, given, FREE)
end
