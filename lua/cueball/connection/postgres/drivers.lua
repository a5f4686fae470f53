--- What speaks to PostgreSQL: libpq where the host can wait for its sockets, else pgmoon over the host's own.
local text_of = require "cueball.text"

local drivers = {}

local WHAT = "cueball.connection.postgres"

-- How columns are read, made once for each factory.
local function readers_of(made)
  made.readers = made.readers or require("cueball.connection.postgres.values").readers(WHAT, made.types)
  return made.readers
end

local function left_ms(deadline, context)
  return math.max(1, (deadline - context.host.now()) / 1e6)
end

local function with_libpq(made, ask, deadline, backend, context)
  local client = require "cueball.connection.postgres.client"
  local parameters, message = ask(backend, context)
  if not parameters then return nil, message end
  return client.connect(context.host, parameters, {
    connect_ms = left_ms(deadline, context), query_ms = made.query_timeout_ms, types = made.types, null = made.null,
    prepare = made.prepare, notice = made.notice, cancel_ms = made.cancel_timeout_ms, notifications = made.max_notifications,
  })
end

-- What is said of TLS. Read once: sessions are kept in it.
local function security_of(made)
  made.security = made.security or require("cueball.connection.postgres.pgmoon.options").security(WHAT, made)
  return made.security
end

local function with_pgmoon(made, ask, deadline, backend, context)
  local pgmoon = require "cueball.connection.postgres.pgmoon"
  local ok, security = pcall(security_of, made)
  if not ok then return nil, text_of.message(security) end
  return pgmoon.connect(backend, context, {
    parameters = ask, security = security, connect_ms = left_ms(deadline, context), query_ms = made.query_timeout_ms,
    readers = readers_of(made), null = made.null, notice = made.notice, cancel_ms = made.cancel_timeout_ms,
    notifications = made.max_notifications,
  })
end

--- Which of them a factory has on this host.
-- @return function(made, ask, deadline, backend, context) → conn; or nil, message, name. Or nil, message: none. ask(backend, context) →
-- what the connection is opened with, by libpq's keywords; or nil, message: called where a connection is opened, and not taken from where
-- it was parked
function drivers.of(made, host)
  if made.driver == "pgmoon" or not made.driver and not host.poll then return with_pgmoon end
  if host.poll then return with_libpq end
  return nil, ("the driver libpq cannot be used on the host %s, which has no way to wait for libpq's sockets: use driver = \"pgmoon\"")
    :format(host.name)
end

--- Checks options that depend on the driver; mistakes raise.
function drivers.check(made)
  readers_of(made)
  if made.driver == "pgmoon" then security_of(made) end
end

return drivers
