-- A pool over TLS. It makes a certificate and starts a server (`openssl s_server`), which sends each line back reversed.
-- examples/run examples/tls.lua
local cueball = require "cueball"
local uv = require "luv"

-- A certificate for localhost, signed by itself: so it is its own authority.
local function make_certificate()
  local folder = assert(uv.fs_mkdtemp "/tmp/cueball-example-XXXXXX")
  assert(os.execute(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
    .. "-keyout %s/key.pem -out %s/cert.pem 2>/dev/null"):format(folder, folder)) == 0, "the command openssl is needed")
  return folder
end

local function free_port()
  local socket = uv.new_tcp()
  socket:bind("127.0.0.1", 0)
  local port = socket:getsockname().port
  socket:close()
  return port
end

local function start_server(folder)
  local port = free_port()
  local process = assert(uv.spawn("openssl", { args = {
    "s_server", "-quiet", "-rev", "-accept", "127.0.0.1:" .. port, "-cert", folder .. "/cert.pem", "-key", folder .. "/key.pem",
  } }))
  return process, { { address = "127.0.0.1", port = port, name = "localhost" } }
end

local function ask(socket, lease)
  assert(socket:send "hello\n")
  local answer = assert(socket:receive "*l")
  local info = socket:tlsinfo()
  print(("%s over %s, %s"):format(answer, info.version, info.resumed and "resumed" or "a full handshake"))
  lease:close() -- so that the next one opens a connection
end

local function use(folder, nodes)
  local pool = cueball.pool {
    resolver = cueball.resolver.static(nodes), max_connections = 1,
    connect = cueball.connection.tcp { tls = { ca_file = folder .. "/cert.pem" } },
  }
  assert(pool:ready { timeout_ms = 30000 }) -- the server has only just been started
  for _ = 1, 3 do pool:with(ask) end
  pool:stop()

  -- Without the option the system's authorities are trusted, and none of them has signed this.
  local suspicious = cueball.pool {
    resolver = cueball.resolver.static(nodes), connect = cueball.connection.tcp { tls = true },
    recovery = { default = { attempts = 1, timeout_ms = 10000 } },
  }
  print(select(2, suspicious:claim()):match "TLS: [^)]*%)?")
  suspicious:stop()
end

cueball.run(function()
  local folder = make_certificate()
  local server, nodes = start_server(folder)
  local ok, message = xpcall(use, debug.traceback, folder, nodes)
  server:kill "sigterm"
  os.execute("rm -r " .. folder)
  if not ok then error(message, 0) end
end)
