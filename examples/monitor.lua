-- A pool that is looked at: by a browser, by curl, by Prometheus. It brings its own servers, and stops one of them on the way.
-- examples/run examples/monitor.lua              shows what there is to see, and ends
-- examples/run examples/monitor.lua 600          goes on for 600 s: open the address that it prints in a browser
local cueball = require "cueball"
local monitor = require "cueball.monitor"
local uv = require "luv"

local function echo_server()
  local clients, server = {}, uv.new_tcp()
  server:bind("127.0.0.1", 0)
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    clients[#clients + 1] = client
    client:read_start(function(_, data)
      if data then client:write(data) elseif not client:is_closing() then client:close() end
    end)
  end)
  local function stop()
    server:close()
    for _, client in ipairs(clients) do
      if not client:is_closing() then client:close() end
    end
  end
  return "127.0.0.1:" .. server:getsockname().port, stop
end

-- Claims a connection, says something, hears it again, and holds the connection for a while.
local function work(pool)
  while pool:state() ~= "stopped" do
    pool:with(function(socket)
      socket:send "hello\n"
      socket:receive "*l"
      cueball.sleep(math.random(5, 40))
    end, { timeout_ms = 500 })
    cueball.sleep(1)
  end
end

-- What curl would be told.
local function ask(address, path)
  local socket = require("cueball.host.uv").tcp()
  assert(socket:connect(address:match "^(.*):(%d+)$"))
  socket:send(("GET %s HTTP/1.0\r\nHost: %s\r\n\r\n"):format(path, address))
  return (assert(socket:receive "*a"):match "\r\n\r\n(.*)$")
end

cueball.run(function()
  local first = echo_server()
  local second, stop_second = echo_server()
  local pool = cueball.pool {
    name = "echo", max_connections = 4, resolver = cueball.resolver.static { first, second },
    connect = cueball.connection.tcp { read_timeout_ms = 5000 },
  }
  local server = assert(monitor.serve { listen = "127.0.0.1:0" })
  print(("the dashboard: http://%s/   metrics: /metrics   everything: /snapshot   what happens: /events"):format(server.address))
  io.stdout:flush()
  for _ = 1, 12 do cueball.spawn(work, pool) end
  cueball.sleep(500)
  stop_second()
  while pool:stats().dead_backends == 0 do cueball.sleep(20) end -- it is dead once the attempts to connect again have failed
  cueball.sleep(500)

  print "\nsome of the metrics:"
  for line in ask(server.address, "/metrics?names=cueball"):gmatch "[^\n]+" do
    if line:find "^cueball_pool_deaths" or line:find "^cueball_pool_connections{.* [1-9]" or line:find "^cueball_backend_up" then
      print(line)
    end
  end
  print "\nits backends, in words:"
  for _, backend in ipairs(monitor.snapshot({ detail = true }).pools[1].backends) do
    print(("%s: %d of %d connections, %s"):format(backend.key, backend.total, backend.limit, backend.reason))
  end

  cueball.sleep((tonumber(arg and arg[1]) or 0) * 1000)
  server:close()
  pool:stop()
end)
