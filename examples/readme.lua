-- Two servers, a pool of four connections over them, eight claimers.  examples/run examples/readme.lua
local cueball = require "cueball"
local uv = require "luv"

local function echo_server()
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    client:read_start(function(_, data) if data then client:write(data) else client:close() end end)
  end)
  return "127.0.0.1:" .. server:getsockname().port
end

cueball.run(function()
  local pool = cueball.pool {
    resolver = cueball.resolver.static { echo_server(), echo_server() },
    connect = cueball.connection.tcp { read_timeout_ms = 5000 },
    max_connections = 4,
  }
  for number = 1, 8 do
    print(pool:with(function(socket, lease)
      socket:send("hello " .. number .. "\n")
      return socket:receive "*l", lease:backend().key
    end))
  end
  pool:stop()
end)
