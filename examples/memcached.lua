-- Memcached: a pool of clients of lua-resty-memcached, unmodified, over two servers, of which one is killed on the way.
--   examples/run examples/memcached.lua                 needs memcached and its library: apt install memcached lua-nginx-memcached
-- The same factory fits any library for OpenResty's cosockets: docs/libraries.md.
local cueball = require "cueball"
local uv = require "luv"

local REQUESTS, CLAIMERS = 400, 20

-- A server on a UNIX socket. It ends with this program, however that ends: the shell around it sees the end of its stdin.
local GUARD = [[exec 3<&0; "$0" "$@" & pid=$!; { read -r _ <&3; kill -9 $pid; } 2>/dev/null & wait $pid; kill -9 $! 2>/dev/null]]

local function start_server(path)
  local arguments = { "-c", GUARD, "memcached", "-s", path, "-t", "1", "-P", path .. ".pid" }
  if uv.getuid() == 0 then
    arguments[#arguments + 1] = "-u"
    arguments[#arguments + 1] = "root"
  end
  local stdin, handle = uv.new_pipe(false), nil
  handle = assert(uv.spawn("sh", { args = arguments, stdio = { stdin } }, function() handle:close() end))
  local server = { address = "unix:" .. path }
  function server.kill()
    local file = assert(io.open(path .. ".pid"))
    uv.kill(file:read "*n", "sigkill")
    file:close()
  end
  function server.stop()
    stdin:close()
    os.remove(path .. ".pid")
    os.remove(path)
  end
  handle:unref()
  stdin:unref()
  for _ = 1, 600 do
    if uv.fs_stat(path) then return server end
    cueball.sleep(100)
  end
  error "memcached did not start: is it installed?"
end

-- Stores a key and finds it again. A client says nil, and why not, where its connection breaks: the pool finds that out by itself.
local function asked(client, number)
  return client:set("key" .. number, number) and client:get("key" .. number) == tostring(number)
end

-- Many claimers at once.
-- @return how many of them were served
local function work(pool, each)
  local done, served = cueball.host().waiter(), 0
  local left = CLAIMERS
  for claimer = 1, CLAIMERS do
    cueball.spawn(function()
      for number = claimer, REQUESTS, CLAIMERS do
        if pool:with(function(client) return asked(client, number) end) then served = served + 1 end
        each(number)
      end
      left = left - 1
      if left == 0 then done:wake() end
    end)
  end
  done:wait()
  return served
end

cueball.run(function()
  local folder = assert(uv.fs_mkdtemp "/tmp/cueball-memcached-XXXXXX")
  local servers = { start_server(folder .. "/one"), start_server(folder .. "/two") }
  local pool = cueball.pool {
    name = "cache", max_connections = 6, claim_timeout_ms = 10000, check_interval_ms = 500,
    resolver = cueball.resolver.static { servers[1].address, servers[2].address },
    connect = cueball.connection.resty {
      module = "resty.memcached", read_timeout_ms = 5000,
      check = function(client) return client:version() end,
    },
  }
  pool:ready { connections = 6 }
  print(("%d of %d served"):format(work(pool, function() end), REQUESTS))
  while pool:stats().idle < 6 do cueball.sleep(5) end -- one may be checked just now
  for _, backend in ipairs(pool:backends()) do print(("%d connections to each"):format(backend.idle)) end

  -- One server is killed. Those who are being served by it are told; the others do not notice.
  local served = work(pool, function(number)
    if number == REQUESTS / 2 then servers[1].kill() end
  end)
  print(served >= REQUESTS - 2 * CLAIMERS and "nearly all served, though one server was killed" or ("only %d served"):format(served))
  while pool:stats().dead_backends == 0 do cueball.sleep(20) end -- it is dead once the attempts to connect again have failed
  print "one server is dead, and asked now and then whether it is back"
  pool:stop()
  for _, server in ipairs(servers) do server.stop() end
  os.remove(folder)
end)
