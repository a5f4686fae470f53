--- A line server in a process of its own: sends back what comes.
--
--   luajit examples/support/echo_server.lua [PORT]
--
-- Prints its port, then serves until it is killed or its stdin ends: so it never outlives whoever started it.
local uv = require "luv"

-- Free ports are sought below those the kernel gives to outgoing connections: while a server is down, one of those
-- could take its port, or even connect to itself.
local function port_ceiling()
  local file = io.open "/proc/sys/net/ipv4/ip_local_port_range"
  local low = file and file:read "*n"
  if file then file:close() end
  return math.max(low or 49152, 2048)
end

local function echo(client)
  client:nodelay(true)
  client:read_start(function(_, data)
    if data then client:write(data) elseif not client:is_closing() then client:close() end
  end)
end

-- A port that is taken shows only when listening: bind() lets it pass.
local function listen(port)
  local server = uv.new_tcp()
  local ok, message = server:bind("127.0.0.1", port)
  if ok then
    ok, message = server:listen(128, function(err)
      if err then return end
      local client = uv.new_tcp()
      server:accept(client)
      echo(client)
    end)
  end
  if ok then return port end
  server:close()
  return nil, message
end

local function listen_somewhere()
  local ceiling = port_ceiling()
  local low = math.max(1024, ceiling - 20000)
  local a, b, c = uv.random(3):byte(1, 3)
  local first = (a * 65536 + b * 256 + c) % (ceiling - low)
  for offset = 0, 999 do
    local port = low + (first + offset) % (ceiling - low)
    if listen(port) then return port end
  end
  return nil, "no port is free"
end

local wanted = tonumber((...))
local port, message
if wanted then port, message = listen(wanted) else port, message = listen_somewhere() end
if not port then
  io.stderr:write("echo_server: ", message, "\n")
  os.exit(1)
end

local stdin = uv.new_pipe(false)
if pcall(stdin.open, stdin, 0) then
  stdin:read_start(function(_, data)
    if not data then os.exit(0) end
  end)
end
io.stdout:write(port, "\n")
io.stdout:flush()
uv.run()
