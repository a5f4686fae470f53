--- Connections to Redis: clients of lua-resty-redis (Debian: lua-nginx-redis).
--
--   cueball.pool { resolver = …, connect = cueball.connection.redis { password = "…", database = 2 } }
--   pool:with(function(red) return red:get "key" end)
--
-- The connection that a lease holds is the library's client object, with all its commands. One that is left in the middle of something
-- (subscribed, in a transaction, in another database …) is closed when it comes back, and replaced.
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local limits = require "cueball.connection.limits"
local library = require "cueball.cosocket.library"
local options = require "cueball.options"
local secret = require "cueball.secret"
local tls = require "cueball.connection.tls"
local text_of = require("cueball.text").of
local rawget, getmetatable, setmetatable, type = rawget, getmetatable, setmetatable, type

local LIMIT = options.number(1, 86400000, "milliseconds")

local ROLES = { any = true, primary = true, replica = true }

local OPTIONS = {
  username = secret.RULE,
  password = secret.RULE,
  role = { check = function(value) return ROLES[value] ~= nil end, range = '"any", "primary" or "replica"' },
  database = options.whole(0, 2 ^ 31 - 1),
  tls = tls.RULE,
  connect_timeout_ms = LIMIT,
  send_timeout_ms = LIMIT,
  read_timeout_ms = LIMIT,
}
options.note("cueball.connection.redis", OPTIONS)

local DEFAULT_TIMEOUT_MS = 60000

-- ------------------------------------------------------------------ clients --

-- Commands after which a connection is not what the next claimer expects, and what is wrong then.
local UNSETTLES = {
  multi = "left in a transaction", watch = "left watching keys", select = "left in another database",
  auth = "left as another user", monitor = "left in monitor mode", subscribe = "left subscribed", psubscribe = "left subscribed",
  ssubscribe = "left subscribed", client = "left with settings of its own", hello = "left in another protocol",
  asking = "left in the middle of a redirection", readonly = "left in read-only mode", reset = "left without a login",
  quit = "left closed",
}
local SETTLES = { exec = "transaction", discard = "transaction", unwatch = "watch" }

-- Errors by which a server says that it is not, or no longer, what this connection was opened for: a new one may lead elsewhere. By the
-- first word; the kind that the pool is told: what a server says of itself is evidence against the backend, so that its other connections
-- are suspect.
local ESTRANGED = {
  READONLY = "lost", MASTERDOWN = "lost", LOADING = "lost", CLUSTERDOWN = "lost", NOAUTH = "unfit", UNBLOCKED = "unfit",
}
local BECAME_REPLICA = "it answered READONLY"

-- What the library has that is no command.
local NO_COMMANDS = {}
for name in ("new connect set_timeout set_timeouts set_keepalive get_reused_times close read_reply array_to_hash add_commands "
  .. "register_module_prefix init_pipeline cancel_pipeline commit_pipeline"):gmatch "%S+" do
  NO_COMMANDS[name] = true
end

-- The library makes a command of any name that it does not know: what is noted in a client is looked up without it.
local function unfit(client)
  return rawget(client, "cueball_unfit")
end

local function unsettle(client, why)
  client.cueball_unfit = unfit(client) or why
end

local function settle(client, name)
  local why = unfit(client)
  if why == UNSETTLES.watch or why == UNSETTLES.multi and name ~= "unwatch" then client.cueball_unfit = nil end
end

-- The word of an error that says what is wrong. That of a script may follow the script's own, that of EXEC its EXECABORT.
local function word_in(message)
  return message:match "%-(READONLY) " or message:match "^EXECABORT .-because of: (%u+) " or message:match "^(%u+)"
end

-- An answer that is an error. What a server says of itself counts before all that a claimer left.
local function heard(client, message)
  local word = type(message) == "string" and word_in(message)
  local kind = ESTRANGED[word]
  if not kind then return end
  if word == "UNBLOCKED" and message:find("instance state changed", 1, true) then kind = "lost" end -- a primary became a replica
  if kind == "lost" then
    client.cueball_unfit, client.cueball_kind = "it answered " .. word, kind
  else
    unsettle(client, "it answered " .. word)
  end
end

-- What the commands of a pipeline leave, in their order.
local function pipeline_sent(client, names, answers)
  for _, name in ipairs(names or {}) do
    if UNSETTLES[name] then unsettle(client, UNSETTLES[name]) end
    if SETTLES[name] and answers then settle(client, name) end
  end
  for _, answer in ipairs(answers or {}) do
    if type(answer) == "table" and answer[1] == false then heard(client, answer[2]) end
  end
end

-- A command that leaves something, or ends what another left. In a pipeline it is not sent yet.
local function noted(name, command)
  return function(client, ...)
    if rawget(client, "_reqs") then
      local names = rawget(client, "cueball_piped") or {}
      client.cueball_piped = names
      names[#names + 1] = name
      return command(client, ...)
    end
    if UNSETTLES[name] then unsettle(client, UNSETTLES[name]) end
    local answer, message = command(client, ...)
    if SETTLES[name] and answer ~= nil then settle(client, name) end
    if message == nil then return answer end
    if answer == false then heard(client, message) end
    return answer, message
  end
end

local function plain(command)
  return function(client, ...)
    local answer, message = command(client, ...)
    if answer and message == nil then return answer end
    if answer == nil and rawget(client, "_reqs") then return end -- into a pipeline: the library returns nothing
    if message == nil then return answer end
    if answer == false then heard(client, message) end
    return answer, message
  end
end

local PIPELINES = { "init_pipeline", "cancel_pipeline" }

local function with_pipelines(methods, redis)
  for _, name in ipairs(PIPELINES) do
    methods[name] = function(client, ...)
      client.cueball_piped = nil
      return redis[name](client, ...)
    end
  end
  function methods.commit_pipeline(client, ...)
    local names = rawget(client, "cueball_piped")
    client.cueball_piped = nil
    local answers, message = redis.commit_pipeline(client, ...)
    pipeline_sent(client, names, answers)
    if message == nil then return answers end
    return answers, message
  end
  return methods
end

-- The library's methods, those that are commands with an ear on what they leave. Redis knows commands in capitals too.
local function methods_of(redis)
  return setmetatable(with_pipelines({}, redis), { __index = function(methods, name)
    local command = redis[name]
    if type(command) ~= "function" or NO_COMMANDS[name] then return command end
    local lower = name:lower()
    methods[name] = (UNSETTLES[lower] or SETTLES[lower]) and noted(lower, command) or plain(command)
    return methods[name]
  end })
end

local function socket_of(client)
  return rawget(client, "_sock") or rawget(client, "sock")
end

-- A constant as Lua has it; nil: it is none.
local function constant(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "boolean" or type(value) == "number" and value == value then return tostring(value) end
  if type(value) ~= "table" or getmetatable(value) then return nil end
  local fields = {}
  for name, field in next, value do
    local key, text = constant(name), constant(field)
    if not key or not text then return nil end
    fields[#fields + 1] = ("[%s] = %s"):format(key, text)
  end
  return "{ " .. table.concat(fields, ", ") .. " }"
end

-- Redis clients are made for each claim, where sockets end with requests. What the library makes is made here then, in a way that
-- LuaJIT compiles: its fields are copied, if they are its socket and constants.
-- @return function(socket) → a client without its methods; nil: the library does more than that
local function find_shell(redis)
  local client = redis:new()
  local socket = client and socket_of(client)
  if not socket then return nil end
  local fields = {}
  for name, value in next, client do
    local text = value == socket and "..." or constant(value)
    if type(name) ~= "string" or not text then return nil end
    fields[#fields + 1] = ("[%q] = %s"):format(name, text == "..." and "socket" or text)
  end
  return loadstring("return function(socket) return { " .. table.concat(fields, ", ") .. " } end", "=redis client")()
end

local makers = setmetatable({}, { __mode = "k" }) -- by host: how to make a client, see below

local function new_maker(host, redis)
  local meta = { __index = methods_of(redis) }
  local limited_tcp = host.limited_tcp
  local shell = limited_tcp and find_shell(redis)
  if shell then
    return function(connect_ms, send_ms, read_ms)
      local socket = limited_tcp(connect_ms, send_ms, read_ms)
      return setmetatable(shell(socket), meta), socket
    end
  end
  return function(connect_ms, send_ms, read_ms)
    local client, message = redis:new()
    if not client then return nil, message end
    local socket = socket_of(client)
    socket:settimeouts(connect_ms, send_ms, read_ms)
    return setmetatable(client, meta), socket
  end
end

-- How to make a client, where that is not known yet: function(connect_ms, send_ms, read_ms) → client, socket; or nil, message.
local function find_maker(host)
  local redis, message = library.load(host, "redis")
  if not redis then return nil, message end
  makers[host] = new_maker(host, redis)
  return makers[host]
end

-- --------------------------------------------------------------- connecting --

-- The library: nil, message is a broken connection; false, message an answer of the server.
local function ask(client, name, ...)
  local answer, message = client[name](client, ...)
  if not answer then return nil, name .. ": " .. tostring(message) end
  return answer
end

local function close(client)
  local socket = socket_of(client)
  if socket.abort then socket:abort() else socket:close() end
end

-- @return true, and the secrets that were sent; or nil, message
local function log_in(client, settings, context)
  local username, password, message
  if settings.username then
    username, message = context.secret("username", settings.username)
    if not username then return nil, message end
  end
  password, message = context.secret("password", settings.password)
  if not password then return nil, message end
  local ok
  if username then
    ok, message = client:auth(username, password)
  else
    ok, message = client:auth(password)
  end
  if not ok then return nil, "auth: " .. secret.hide_echo(tostring(message), username, password) end
  return true, username, password
end

-- What Redis calls the roles.
local PRIMARY, REPLICA = "master", "slave"

-- Is the server in the role that was asked for?
local function is_in_role(client, role)
  local answer, message = ask(client, "role")
  if not answer then return nil, message end
  if type(answer) ~= "table" then answer = { answer } end
  local found, host, port = answer[1], answer[2], answer[3]
  if found == (role == "primary" and PRIMARY or REPLICA) then return true end
  if found == PRIMARY then return nil, "the server is a primary, not a replica" end
  if found == REPLICA then return nil, ("the server is a replica of %s:%s, not a primary"):format(text_of(host), text_of(port)) end
  return nil, ("the server is a %s, not a %s"):format(text_of(found), role)
end

-- Does the server answer, and in its role? One that refuses (too many clients, still loading) says so only in its first answer.
local function check(client, role)
  local ok, message = ask(client, "ping")
  if ok and role ~= "any" then ok, message = is_in_role(client, role) end
  return ok, message
end

-- A new connection is brought to where claimers expect it. It is asked something in any case, see check.
local function greet(client, settings, context)
  local ok, message, username, password = true, nil, nil, nil
  if settings.password then
    ok, username, password = log_in(client, settings, context)
    if not ok then return nil, username end
  end
  if ok and settings.database and settings.database ~= 0 then ok, message = ask(client, "select", settings.database) end
  if ok then ok, message = check(client, settings.role) end
  client.cueball_unfit, client.cueball_kind = nil, nil
  if not ok then return nil, secret.hide(message, username, password) end
  return true
end

-- The limits of use: a claimer may have set others.
local function set_back(socket, settings)
  socket:settimeouts(settings.connect_timeout_ms or DEFAULT_TIMEOUT_MS, settings.send_timeout_ms, settings.read_timeout_ms)
end

-- TLS, within what connecting has left of its limit, and the greeting.
local function secured_greeting(settings, backend, context, client, socket, deadline)
  local ok, message = tls.secure(socket, settings.tls, backend, context, deadline)
  if not ok then return nil, message end
  local left = limits.whole((deadline - context.host.now()) / 1e6)
  socket:settimeouts(left, left, left)
  ok, message = greet(client, settings, context)
  if not ok then return nil, tls.explained(message) end
  tls.keep(socket) -- the server has answered, and sent its tickets before
  return true
end

-- A new connection. The greeting is part of connecting, and so is its time.
local function greeted(settings, backend, context, client, socket, deadline)
  local ok, message
  if settings.tls then
    ok, message = secured_greeting(settings, backend, context, client, socket, deadline)
  else
    local limit = limits.whole(limits.of_attempt(settings, context))
    socket:settimeouts(limit, limit, limit)
    ok, message = greet(client, settings, context)
  end
  if not ok then
    close(client)
    return nil, message
  end
  set_back(socket, settings)
  return client
end

local function connect(settings, backend, context)
  local make, no_library = makers[context.host]
  if not make then
    make, no_library = find_maker(context.host)
    if not make then return nil, no_library end
  end
  local limit = limits.whole(limits.of_attempt(settings, context))
  local deadline = settings.tls and context.host.now() + limit * 1e6
  local client, socket = make(limit, settings.send_timeout_ms, settings.read_timeout_ms)
  if not client then return nil, socket end
  local how, message = context.connect(socket)
  if how == "reused" then return client end
  if not how then return nil, message end
  return greeted(settings, backend, context, client, socket, deadline)
end

-- What connect does where a connection is parked.
-- @return client, socket; nil: none is
local function take(settings, context)
  local make = makers[context.host]
  if not make then return nil end
  local client, socket = make(settings.connect_timeout_ms or DEFAULT_TIMEOUT_MS, settings.send_timeout_ms, settings.read_timeout_ms)
  if client and context.take(socket, context) then return client, socket end
  return nil
end

-- ------------------------------------------------------------------ factory --

-- What a claimer left it in. How the server did, and whether the socket is fit, the pool asks the socket itself.
local function broken(client)
  local why = rawget(client, "cueball_unfit")
  if why then return why, rawget(client, "cueball_kind") end
  if rawget(client, "_subscribed") then return "left subscribed" end
  if rawget(client, "_reqs") then return "left with a pipeline that was not sent" end
  return nil
end

local function park(client, idle_ms)
  return socket_of(client):setkeepalive(idle_ms)
end

-- Of a replica: that it is one is nothing against it. Its claimer wanted to write.
local function broken_of_replica(client)
  local why, kind = broken(client)
  if why == BECAME_REPLICA then return why end
  return why, kind
end

-- What an open connection does not know.
local FREE = { connect_timeout_ms = true, password = true }

--- Makes a connection factory.
-- @param given nil, or a table:
--   password, username   for AUTH; a username needs a password, and Redis 6. Strings, or function(backend, context) → string; or nil,
--                        message: asked at each connect, in its task
--   database             a number, 0 by default
--   role                 "primary" or "replica": an attempt to connect to another server fails; "any" by default
--   tls                  true, or a table of options (docs/tls.md): TLS; off by default
--   connect_timeout_ms   limit of connecting, besides what is left of the pool's attempt (the shorter counts)
--   send_timeout_ms, read_timeout_ms  of each command, 60000 by default
--   Each _ms from 1 to 86400000.
-- @return { connect, close, check, broken, evidence, park, watch, unwatch }; mistakes in the options raise an error at the caller's line
local function redis(given)
  local settings = { role = "any", send_timeout_ms = DEFAULT_TIMEOUT_MS, read_timeout_ms = DEFAULT_TIMEOUT_MS }
  for name, value in pairs(options.check("cueball.connection.redis", given, OPTIONS)) do settings[name] = value end
  if settings.username and not settings.password then
    misuse.raise("cueball.connection.redis: option 'username' needs option 'password' beside it")
  end
  settings.tls = tls.read("cueball.connection.redis", settings.tls)
  local role, is_broken = settings.role, settings.role == "replica" and broken_of_replica or broken
  local function connect_to(backend, context) return connect(settings, backend, context) end
  local factory = {
    fault = settings.tls and function(host) return tls.fault(settings.tls, host) end or nil,
    connect = connect_to, close = close, park = park, broken = is_broken,
    evidence = function(client)
      local why, kind = is_broken(client)
      if kind == "lost" then return why, kind end
      return nil
    end,
    check = function(client) return check(client, role) end,
    -- For the pool, where connections are parked, as long as `connect`, `park` and `broken` are those above: `park` parks the
    -- client's socket, `broken` raises no error, and what is parked is taken so.
    parked = { connect = connect_to, park = park, broken = is_broken, take = function(context) return take(settings, context) end },
    watch = function(client, lost)
      local socket = socket_of(client)
      if not socket.watch then return end
      set_back(socket, settings) -- where a client is not made anew for each claimer
      socket:watch(lost)
    end,
    unwatch = function(client)
      local socket = socket_of(client)
      if socket.unwatch then socket:unwatch() end
    end,
  }
  return made_of.note(factory, "cueball.connection.redis", given or {}, FREE)
end

return redis
