--- Connections to PostgreSQL.
--
--   cueball.pool { resolver = …, connect = cueball.connection.postgres { user = "app", password = read_secret, dbname = "shop" } }
--   pool:with(function(conn) return conn:query("select name from goods where id = $1", 7) end)
--
-- The connection that a lease holds is that of a driver: libpq (cueball.connection.postgres.client), or pgmoon where there is none. This
-- file opens them as the options say, and tells the pool what becomes of them; docs/postgres.md is the manual.
local drivers = require "cueball.connection.postgres.drivers"
local made_of = require "cueball.made_of"
local settings = require "cueball.connection.postgres.settings"
local standing = require "cueball.connection.postgres.standing"

-- A new connection is brought to where claimers expect it. All of that is part of connecting, and so is its time.
local function greet(conn, made, known, backend, context, deadline)
  local host = context.host
  local waiting = { abort = function() conn:close() end }
  host.guard(waiting)
  conn:settimeout(math.max(1, (deadline - host.now()) / 1e6))
  local ok, message = standing.begin(conn, made, known, backend, context)
  if ok then ok, message = standing.set_up(conn) end
  host.unguard(waiting)
  if not ok then
    conn:close()
    return nil, message
  end
  standing.set_back(conn)
  return conn
end

-- Where connections are parked, each claimer has an object of its own, and what is known of the connection stays with its context.
local function taken(conn, context)
  conn.standing = context.postgres_standing
  standing.lent(conn)
  standing.set_back(conn)
  return conn
end

local function connect(made, known, backend, context)
  local limit_ms = math.min(context.timeout_ms, made.connect_timeout_ms or math.huge)
  local deadline = context.host.now() + limit_ms * 1e6
  local driver, message = drivers.of(made, context.host)
  if not driver then return nil, message end
  local conn
  conn, message = driver(made, function(...) return settings.parameters(made, ...) end, deadline, backend, context)
  if not conn then return nil, message end
  if context.how == "reused" and context.postgres_standing then return taken(conn, context) end
  conn, message = greet(conn, made, known, backend, context, deadline)
  if not conn then return nil, message end
  context.postgres_standing = conn.standing
  return conn
end

-- What an open connection does not know.
local FREE = { connect_timeout_ms = true, password = true, sslpassword = true, passfile = true }

--- Makes a connection factory.
-- @param given nil, or a table of options: docs/postgres.md lists them
-- @return { connect, close, check, broken, reset, evidence, limit, park, descriptor, pointer, watch, unwatch }; mistakes in the options
--   raise an error at the caller's line
local function postgres(given)
  local made, known = settings.read(given), {}
  drivers.check(made)
  local factory = {
    connect = function(backend, context) return connect(made, known, backend, context) end,
    close = function(conn) conn:close() end,
    check = standing.check, broken = standing.broken, reset = standing.reset, evidence = standing.evidence,
    limit = function(conn, at) conn:limit(at) end,
    park = function(conn, idle_ms) return conn:park(idle_ms) end,
    descriptor = function(conn) return conn:descriptor() end,
    pointer = function(conn) return conn:lend_pointer() end,
    watch = standing.watch,
    unwatch = function(conn)
      conn:unwatch()
      standing.lent(conn)
    end,
  }
  return made_of.note(factory, "cueball.connection.postgres", given or {}, FREE)
end

-- cueball.connection.postgres.bytea(bytes): bytes, as a parameter of a query.
return setmetatable({}, {
  __call = function(_, given) return postgres(given) end,
  __index = function(_, name) return name == "bytea" and require("cueball.connection.postgres.values").bytea or nil end,
})
