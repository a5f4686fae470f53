--- Connections for specs of the driver: cueball.connection.postgres.client on libuv, to a server of spec.support.postgres.
--
--   local open = require("spec.support.postgres_client").on(function() return server end)
--   open.parameters(more)           libpq's keywords for it
--   open.connect(settings, more)    → connection; or nil, message, name. In a task
--   open.with(fn, settings, more)   runs fn(conn) in a task of its own, closes conn; an error is raised on
--   postgres_client.value_of(conn, sql, ...)   what column v of the first row is, by whichever driver
local client = require "cueball.connection.postgres.client"
local host = require "cueball.host.uv"
local with = require "spec.support.with"

local postgres_client = {}

-- What the server had sent before a cancel is read, too: megabytes, which on a busy machine takes a while.
local CANCEL_MS = 30000

function postgres_client.value_of(conn, sql, ...)
  return assert(conn:query(sql, ...))[1].v
end

function postgres_client.on(server_of)
  local open = {}

  function open.parameters(more)
    return with({ hostaddr = "127.0.0.1", port = server_of().port, user = "postgres", dbname = "postgres", gssencmode = "disable" }, more)
  end

  function open.connect(settings, more)
    return client.connect(host, open.parameters(more), with({ cancel_ms = CANCEL_MS }, settings))
  end

  function open.with(fn, settings, more)
    host.run(function()
      local conn = assert(open.connect(settings, more))
      local ok, message = xpcall(fn, function(thrown)
        return type(thrown) == "string" and debug.traceback(thrown, 2) or thrown
      end, conn)
      conn:close()
      if not ok then error(message, 0) end
    end)
  end

  return open
end

return postgres_client
