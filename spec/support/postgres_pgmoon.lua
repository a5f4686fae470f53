--- Connections for specs of the driver pgmoon: cueball.connection.postgres.pgmoon on libuv, to a server of spec.support.postgres.
--
--   local open = require("spec.support.postgres_pgmoon").on(function() return server end)
--   local remove = postgres_pgmoon.install() pgmoon, or what stands for it, is found by require until remove() is called
--   open.connect(parameters, more, port)     → connection; or nil, message, name, fields. In a task of its own, or in one
--   open.with(fn, parameters, more)          runs fn(conn) in a task of its own, closes conn; an error is raised on
--   parameters: of libpq's; more: settings of pgmoon.connect; open.settings(parameters, more), open.context(backend)
local host = require "cueball.host.uv"
local pgmoon = require "cueball.connection.postgres.pgmoon"
local shell = require "spec.support.shell"
local values = require "cueball.connection.postgres.values"
local with = require "spec.support.with"

local postgres_pgmoon = {}

postgres_pgmoon.folder = os.getenv "CUEBALL_PGMOON" or shell.root .. "/spec/support/stand_in"

--- Has it found by require, until the function that is returned is called.
function postgres_pgmoon.install()
  local path = package.path
  package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(postgres_pgmoon.folder, postgres_pgmoon.folder, path)
  return function() package.path = path end
end

function postgres_pgmoon.backend(port)
  return { key = "127.0.0.1:" .. port, name = "127.0.0.1:" .. port, address = "127.0.0.1", port = port }
end

--- What a pool gives a factory.
function postgres_pgmoon.context(backend)
  local context = { host = host, timeout_ms = 30000, log = function() end }
  function context.connect(client)
    local ok, message = require("cueball.address").connect(client, backend)
    if not ok then return nil, message end
    return "new"
  end
  return context
end

function postgres_pgmoon.settings(parameters, more)
  parameters = with({ user = "postgres" }, parameters)
  return with({
    parameters = function() return parameters end, security = {}, readers = values.readers "spec", query_ms = 30000, cancel_ms = 30000,
  }, more)
end

function postgres_pgmoon.on(server_of)
  local open = { settings = postgres_pgmoon.settings, context = postgres_pgmoon.context }

  function open.connect(parameters, more, port)
    return host.run(function()
      local backend = postgres_pgmoon.backend(port or server_of().port)
      return pgmoon.connect(backend, open.context(backend), open.settings(parameters, more))
    end)
  end

  function open.with(fn, parameters, more)
    host.run(function()
      local conn = assert(open.connect(parameters, more))
      local ok, message = pcall(fn, conn)
      conn:close()
      if not ok then error(message, 0) end
    end)
  end

  return open
end

return postgres_pgmoon
