--- Under the real nginx: connections that come back dirty are cleaned by the request that has them, before they are parked.
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

local POOLS = [[
local cueball = require "cueball"
local tcp = cueball.connection.tcp { read_timeout_ms = 15000 }
local function ask(connection, line)
  local ok, message = connection.socket:send(line .. "\n")
  if not ok then return nil, message end
  return connection.socket:receive "*l"
end
return { ask = ask, one = cueball.pool {
  name = "one", max_connections = 1, claim_timeout_ms = 15000, check_interval_ms = false, check_timeout_ms = %d,
  resolver = cueball.resolver.static { "%s" },
  connect = {
    connect = function(backend, context)
      local socket, message = tcp.connect(backend, context)
      return socket and { socket = socket }, message
    end,
    close = function(connection) tcp.close(connection.socket) end,
    park = function(connection, idle_ms) return connection.socket:setkeepalive(idle_ms) end,
    broken = function(connection) if connection.is_dirty then return "left dirty", "dirty" end end,
    reset = function(connection, timeout_ms)
      connection.socket:settimeout(timeout_ms)
      local answer, message = ask(connection, "reset")
      if not answer then return nil, message end
      connection.is_dirty = nil
      return true
    end,
  },
} }
]]

local SERVER = [[
location = /soil { content_by_lua_block {
  pools.one:with(function(connection)
    pools.ask(connection, "soil")
    connection.is_dirty = true
  end)
  ngx.print(pools.one:with(function(connection) return pools.ask(connection, "state") end))
} }
location = /stat { content_by_lua_block { ngx.print(tostring(pools.one:stats()[ngx.var.arg_s])) } }
]]

describe("a connection that comes back dirty under nginx", function()
  local one, backend, accepted

  after_each(function()
    one:stop()
    backend:close()
  end)

  -- @param answers_reset function(client, state): what the server does when it is asked to clean
  local function start(answers_reset, check_timeout_ms)
    accepted = 0
    backend = server.listen(function(client)
      local state = "clean"
      accepted = accepted + 1
      client:read_start(function(_, data)
        if client:is_closing() then return end
        if not data then return client:close() end
        if data == "soil\n" then state = "dirty" end
        if data ~= "reset\n" then return client:write(state .. "\n") end
        state = answers_reset(client) or state
      end)
    end)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(check_timeout_ms or 15000, "127.0.0.1:" .. backend.port) },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }\n", server = SERVER,
    }
  end

  local function stat(which) return one:ask("/stat?s=" .. which) end

  it("is cleaned, and parked", function()
    start(function(client)
      client:write "done\n"
      return "clean"
    end)
    for _ = 1, 5 do assert.equal("clean", one:ask "/soil") end
    assert.same({ "1", "0", 1 }, { stat "opened", stat "closed", accepted })
  end)

  it("is closed if the server does not answer in time", function()
    start(function() end, 200)
    assert.equal("clean", one:ask "/soil") -- another connection
    assert.same({ "2", "1" }, { stat "opened", stat "closed_timeout" })
  end)

  it("is closed if the server closes instead", function()
    start(function(client) client:close() end)
    assert.equal("clean", one:ask "/soil")
    assert.same({ "2", "1" }, { stat "opened", stat "closed" })
  end)
end)
