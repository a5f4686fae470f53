--- Instructions that the worker executes for each request, in user space, counted by valgrind's callgrind: where others take the
-- processor, times are noise and these are not. Run by bench/openresty/run instructions.
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local FIRST, THEN = 6000, 6000  -- requests until everything is compiled, and those that are counted

local SERVER = [[
  keepalive_requests 100000000;
  location = /cueball { content_by_lua_block { handlers.cueball() } }
  location = /own { content_by_lua_block { handlers.own() } }
  location = /nothing { content_by_lua_block { handlers.nothing() } }
]]

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function start(backend, connections, out)
  return nginx.start {
    log_level = "crit", main = "master_process off;", events = "worker_connections 4096;", server = SERVER,
    under = { "valgrind", "--tool=callgrind", "--callgrind-out-file=" .. out, "--quiet" },
    files = { ["handlers.lua"] = read((os.getenv "CUEBALL_ROOT" or ".") .. "/bench/openresty/handlers.lua") },
    http = ([[init_worker_by_lua_block {
      handlers = require "handlers"
      handlers.setup { backends = { %q }, max_connections = %d }
    }]]):format(backend.backend, connections),
  }
end

-- Asks so many times, over as many connections that are kept.
local function ask(one, path, count, width)
  host.run(function()
    local done, running, left = host.waiter(), width, count
    for _ = 1, width do
      host.spawn(function()
        local socket = host.tcp()
        assert(socket:connect("127.0.0.1", one.port))
        while left > 0 do
          left = left - 1
          socket:send("GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
          local status = assert(socket:receive "*l")
          assert(status:find " 200 ", status)
          repeat until assert(socket:receive "*l") == ""
          repeat
            local size = tonumber(assert(socket:receive "*l"), 16)
            socket:receive(size + 2)
          until size == 0
        end
        socket:close()
        running = running - 1
        if running == 0 then done:wake() end
      end)
    end
    done:wait()
  end)
end

-- Of a whole run: the one with more requests has executed more, and nothing else is different.
local function total(path, count, connections)
  local out = os.tmpname()
  local backend = redis.start()
  backend:call("SET", "key", "value")
  local one = start(backend, connections, out)
  ask(one, path, count, connections)
  one:signal "QUIT"
  one:wait_for_exit()
  one:stop()
  backend:stop()
  local counted = tonumber(read(out):match "\ntotals: (%d+)" or read(out):match "\nsummary: (%d+)")
  os.remove(out)
  return counted
end

local function per_request(path, connections)
  return (total(path, FIRST + THEN, connections) - total(path, FIRST, connections)) / THEN
end

print(("instructions of the worker per request, 1 worker, 16 connections, %d requests after %d"):format(THEN, FIRST))
local counted = {}
for _, path in ipairs { "/cueball", "/own", "/nothing" } do
  counted[path] = per_request(path, 16)
  print(("  %-20s %10.0f"):format(path, counted[path]))
end
print(("  cueball / own %.3f (goal: 1.05)"):format(counted["/cueball"] / counted["/own"]))
