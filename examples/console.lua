-- A program with a console: its pool is looked at and changed while it works.
--
--   examples/run examples/console.lua                    goes on until Ctrl-C; in another terminal:
--   cueball attach unix:/tmp/cueball-example.sock        then: backends(), leases(), :help
--   examples/run examples/console.lua --once             looks at itself, and ends
local cueball = require "cueball"
local uv = require "luv"

local ADDRESS = "unix:" .. (os.getenv "CONSOLE_SOCKET" or "/tmp/cueball-example.sock")

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

local function work(pool)
  local is_served = true
  while is_served do -- until the pool is stopped
    is_served = pool:with(function(socket)
      socket:send "hello\n"
      socket:receive "*l"
      return cueball.sleep(20)
    end)
  end
end

-- What `cueball attach ADDRESS -e LUA` does, within this program.
local function ask(lines)
  local one = assert(require("cueball.console.remote").connect {
    host = cueball.host(), address = ADDRESS, print = function(text) print(text) end,
  })
  for _, line in ipairs(lines) do
    print("> " .. line)
    one:submit(line)
  end
  one:close()
end

cueball.run(function()
  local pool = cueball.pool {
    name = "echo", max_connections = 4,
    resolver = cueball.resolver.static { echo_server(), echo_server() },
    connect = cueball.connection.tcp { read_timeout_ms = 5000 },
  }
  -- "write": what is typed runs with the program's own globals, and may change its pools. Leave it out to let people only look.
  -- budget_ms is how long a command may run, other processes' time included.
  local console = assert(cueball.console.listen(ADDRESS, { allow = "write", name = "example", budget_ms = 1000 }))
  for _ = 1, 8 do cueball.spawn(work, pool) end
  if arg[1] ~= "--once" then
    print("look into this program: cueball attach " .. ADDRESS)
    io.stdout:flush()
    return cueball.sleep(86400000)
  end
  pool:ready()
  ask { "pools()", "set { pool = \"echo\", max_connections = 6 }", "changes()", "kill { older = \"1h\" }" }
  console:close()
  pool:stop()
end)
