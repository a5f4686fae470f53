--- What load is put on: a pool made of options, or what a script returns.
local read = require "cueball.cli.read"
local said = require("cueball.text").format
local text = require "cueball.text"

local target = {}

local KINDS = { "tcp", "redis", "postgres" }
local SIMULATED = "10.0.0.1:80,10.0.0.2:80"

-- ---------------------------------------------------------------------- requests --

-- By kind of connection: function(what was typed, or nil) → function(connection), which returns a value, or nil and what went wrong.
local REQUESTS = {}

function REQUESTS.tcp(typed)
  if not typed then return nil end
  return function(socket)
    local sent, message = socket:send(typed)
    if not sent then return nil, message end
    return socket:receive "*l"
  end
end

function REQUESTS.redis(typed)
  local words = {}
  for word in (typed or "PING"):gmatch "%S+" do words[#words + 1] = word end
  local command = table.remove(words, 1):lower()
  return function(client) return client[command](client, unpack(words)) end
end

function REQUESTS.postgres(typed)
  local sql = typed or "SELECT 1"
  return function(conn) return conn:query(sql) end
end

-- ----------------------------------------------------------------- made of options --

--- Which kind of connection is asked for.
-- @return its name; nil, message: more than one
function target.kind(given)
  local found
  for _, kind in ipairs(KINDS) do
    if given[kind] then
      if found then return nil, said("options '--%s' and '--%s' exclude each other", found, kind) end
      found = kind
    end
  end
  return found or "tcp"
end

-- Servers in virtual time, one for each backend.
local function add_servers(world, backends, behaviour)
  local address = require "cueball.address"
  for part in backends:gmatch "[^,]+" do
    local host, port = address.split(part)
    world.server(host, port, behaviour)
  end
end

-- The addresses in a list, or the resolver of one name.
local function resolver_of(backends, host)
  local address, list = require "cueball.address", text.parts(backends, ",")
  local first_host, first_port = address.split(list[1])
  if #list == 1 and not first_host then return require "cueball.resolver.from"(backends, { host = host }) end
  for _, part in ipairs(list) do
    local one, port = address.split(part)
    if not one then return nil, port end
    if not port then return nil, said("%q: there is no port", part) end
  end
  if not first_port then return nil, said("%q: there is no port", list[1]) end
  return require "cueball.resolver.static"(list)
end

-- What went wrong when a pool was made, without the place: it was typed, not written.
local function without_place(message)
  return (text.first_line(message):gsub("^[^:]+:%d+: ", ""))
end

--- A pool of options.
-- @param host   the event loop, in a task of which this is called
-- @param given  { backends =, redis =, … } as argparse has read it
-- @param asked  { kind =, request =, max_connections =, pool = options, connect = options, server = behaviour, seed = }
-- @return { pool =, request = }; or nil, message
function target.of_options(host, given, asked)
  local backends = given.backends or given.sim and SIMULATED
  local resolver, message = resolver_of(backends, host)
  if not resolver then return nil, "option '-b/--backends': " .. message end
  if given.sim then add_servers(host, backends, asked.server) end
  local cueball = require "cueball"
  local ok, pool = pcall(function()
    local options = asked.pool
    options.host, options.resolver, options.name = host, resolver, options.name or "bench"
    options.connect = cueball.connection[asked.kind](asked.connect)
    options.max_connections = asked.max_connections or options.max_connections
    options.seed = options.seed or asked.seed
    return cueball.pool(options)
  end)
  if not ok then return nil, without_place(pool) end
  return { pool = pool, request = REQUESTS[asked.kind](asked.request) }
end

-- ------------------------------------------------------------------ made by a script --

local function is_pool(value)
  return type(value) == "table" and type(value.claim) == "function" and type(value.stats) == "function"
end

--- What a script returns: a pool and, if it likes, function(connection, lease); or a table { pool =, request = }.
-- It is given the host, in whose task it runs.
-- @return { pool =, request = }; or nil, message
function target.of_script(host, path)
  local chunk, fault = loadfile(path)
  if not chunk then return nil, fault end
  local ok, first, second = xpcall(chunk, text.traced, host)
  if not ok then return nil, text.of(first) end
  if type(first) == "table" and not is_pool(first) then first, second = first.pool, first.request end
  if not is_pool(first) then
    return nil, said("%s: expected that it returns a pool, and perhaps a function(connection, lease), not %s", path, text.show(first))
  end
  if second ~= nil and type(second) ~= "function" then
    return nil, said("%s: the request must be a function(connection, lease), not %s", path, text.show(second))
  end
  return { pool = first, request = second }
end

--- What was typed as the request, read.
function target.request_of(kind, typed)
  if not typed then return nil end
  if kind ~= "tcp" then return typed end
  return read.escaped(typed)
end

return target
