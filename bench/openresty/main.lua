--- cueball in nginx beside the Redis library's own keepalive: see README.md here. Run by bench/openresty/run.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local ROUNDS = tonumber(arg[1]) or 5
local SECONDS = tonumber(arg[2]) or 3

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function median(list)
  local sorted = {}
  for index, value in ipairs(list) do sorted[index] = value end
  table.sort(sorted)
  return sorted[math.floor((#sorted + 1) / 2)]
end

local SERVER = [[
  keepalive_requests 100000000;
  location = /cueball { content_by_lua_block { handlers.cueball() } }
  location = /own { content_by_lua_block { handlers.own() } }
  location = /nothing { content_by_lua_block { handlers.nothing() } }
  location = /micro { content_by_lua_block { handlers.micro() } }
  location = /cpu { content_by_lua_block { ngx.print(os.clock()) } }
]]

-- The worker has the first processor for itself; Redis and wrk share the second.
local function pin(one, backends)
  for _, pid in ipairs(one:workers()) do run("taskset -pc 0 " .. pid) end
  for _, each in ipairs(backends) do run("taskset -pc 1 " .. each.pid) end
end

-- @param workers 1 by default
local function start(backends, settings, workers)
  local list = {}
  for index, each in ipairs(backends) do list[index] = ("%q"):format(each.backend) end
  local one = nginx.start {
    log_level = "crit", events = "worker_connections 4096;", server = SERVER, workers = workers,
    files = { ["handlers.lua"] = read((os.getenv "CUEBALL_ROOT" or ".") .. "/bench/openresty/handlers.lua") },
    http = ([[lua_shared_dict cueball 1m;
    init_worker_by_lua_block {
      handlers = require "handlers"
      handlers.setup { backends = { %s }, %s }
    }]]):format(table.concat(list, ", "), settings),
  }
  pin(one, backends)
  return one
end

-- One run of wrk: { rate, count, errors, p99_ms }.
local function wrk(one, path, connections, seconds, timeout_s)
  local text = run(("taskset -c 1 wrk -t1 -c%d -d%d --timeout %ds --latency http://127.0.0.1:%d%s")
    :format(connections, seconds, timeout_s or 5, one.port, path))
  local p99, unit = text:match "99%%%s+([%d.]+)(%a+)"
  local scale = { us = 0.001, ms = 1, s = 1000, m = 60000 }
  local errors = tonumber(text:match "Non%-2xx or 3xx responses: (%d+)" or 0)
  local socket_errors = text:match "Socket errors: ([^\n]*)"
  for count in (socket_errors or ""):gmatch "(%d+)" do errors = errors + tonumber(count) end
  return {
    rate = tonumber(text:match "Requests/sec:%s+([%d.]+)"), count = tonumber(text:match "(%d+) requests in"),
    errors = errors, p99_ms = p99 and tonumber(p99) * scale[unit] or 0 / 0,
  }
end

local function received(backend)
  return tonumber(backend:call("INFO", "stats"):match "total_connections_received:(%d+)")
end

-- Closed sockets that wait, to this port; redis-cli's own among them.
local function time_wait(port)
  local count = 0
  for line in io.lines "/proc/net/tcp" do
    local to, state = line:match "^%s*%d+: %x+:%x+ %x+:(%x+) (%x+)"
    if state == "06" and tonumber(to, 16) == port then count = count + 1 end
  end
  return count
end

local function compare_rates()
  local backend = redis.start()
  backend:call("SET", "key", "value")
  local one = start({ backend }, "max_connections = 16")
  local rates, cpu = {}, {}
  local ways = { "/cueball", "/own", "/nothing" }
  for _, path in ipairs(ways) do wrk(one, path, 16, 1) end -- until everything is compiled
  for _ = 1, ROUNDS do
    for _, path in ipairs(ways) do
      local before = tonumber(one:ask "/cpu")
      local result = wrk(one, path, 16, SECONDS)
      rates[path], cpu[path] = rates[path] or {}, cpu[path] or {}
      table.insert(rates[path], result.rate)
      table.insert(cpu[path], (tonumber(one:ask "/cpu") - before) / result.count * 1e6)
      assert(result.errors == 0, path .. " failed")
    end
  end
  print(("GET, 1 worker, 16 connections of wrk, medians of %d runs of %d s"):format(ROUNDS, SECONDS))
  print("                          requests/s     us of CPU per request")
  for _, path in ipairs(ways) do
    print(("  %-20s %14.0f %14.1f (least %.1f)"):format(path, median(rates[path]), median(cpu[path]), math.min(unpack(cpu[path]))))
  end
  local ratios = {}
  for index, rate in ipairs(rates["/cueball"]) do ratios[index] = rate / rates["/own"][index] end
  print(("  cueball / own, round by round: median %.3f (goal: 0.95)"):format(median(ratios)))
  local ours, theirs = {}, {}
  for index = 1, ROUNDS do
    ours[index], theirs[index] = one:ask("/micro"):match "([%d.]+) ([%d.]+)"
    ours[index], theirs[index] = tonumber(ours[index]), tonumber(theirs[index])
  end
  print(("  claim + release %.2f us, connect + set_keepalive of the library alone %.2f us: added %.2f us (goal: 5)")
    :format(median(ours), median(theirs), median(ours) - median(theirs)))
  one:stop()
  backend:stop()
end

local function row(name, result, opened, waiting)
  print(("  %-30s %9.0f %9d %9d %9d %10.1f"):format(name, result.rate, result.errors, opened, waiting, result.p99_ms))
end

-- One run each of 300 connections of wrk, with a limit to the connections to Redis.
local function crowd(settings, workers)
  print("                                 requests/s    errors    opened TIME_WAIT     p99 ms")
  local rates = {}
  for _, path in ipairs { "/cueball", "/own" } do
    local backend = redis.start { "--maxclients 20000" }
    backend:call("SET", "key", "value")
    local before = received(backend)
    local waiting = time_wait(backend.port)
    local one = start({ backend }, settings, workers)
    wrk(one, path, 4, 1) -- until everything is compiled
    local result = wrk(one, path, 300, SECONDS)
    row(path, result, received(backend) - before - 1, time_wait(backend.port) - waiting - 1)
    rates[path] = result.rate * (result.count - result.errors) / result.count
    one:stop()
    backend:stop()
  end
  return rates["/cueball"] / rates["/own"]
end

local function crowds(settings, workers)
  local ratios = {}
  for round = 1, ROUNDS do ratios[round] = crowd(settings, workers) end
  print(("  cueball / own, answers without error, round by round: median %.3f (goal: 1.0)"):format(median(ratios)))
end

-- 300 at once, and 4 connections allowed: openresty/openresty#768.
local function stampede()
  print("\nstampede: 300 connections of wrk, 4 connections to Redis allowed (own: pool_size = 4, backlog = 300)")
  crowds "max_connections = 4, own_options = { pool = 'own', pool_size = 4, backlog = 300 }"
end

-- The library knows no limit for all workers: it has half for each of two.
local function server_wide()
  print("\nserver-wide cap: the same with 2 workers, 8 connections for both (own: pool_size = 4, backlog = 300 in each)")
  crowds("max_connections = 8, scope = 'server', own_options = { pool = 'own', pool_size = 4, backlog = 300 }", 2)
end

-- Two backends, of which one is killed after a second.
local function death()
  print("\na backend of two is killed in the middle (own: in turn)")
  print("                                 requests/s    errors    opened TIME_WAIT     p99 ms")
  for _, path in ipairs { "/cueball", "/own" } do
    local first, second = redis.start(), redis.start()
    first:call("SET", "key", "value")
    second:call("SET", "key", "value")
    local before = received(first)
    local waiting = time_wait(first.port) + time_wait(second.port)
    local one = start({ first, second }, "max_connections = 16")
    run(("(sleep 1; kill -9 %d) & true"):format(second.pid))
    local result = wrk(one, path, 16, SECONDS + 1)
    row(path, result, received(first) - before - 1, time_wait(first.port) + time_wait(second.port) - waiting - 1)
    one:stop()
    first:stop()
    nginx.until_true(function() return second.has_exited end)
  end
end

print(run("grep -m1 'model name' /proc/cpuinfo"):match ": ([^\n]*)", os.date "!%Y-%m-%d", "load " .. read("/proc/loadavg"):match "%S+")
compare_rates()
stampede()
server_wide()
death()
