--- Redis GET on libuv through a pool, beside the bare library.
--   examples/run bench/redis.lua [COMMANDS]
-- One redis-server, lua-resty-redis (Debian: lua-nginx-redis) on cueball's sockets. Without a pool each task has a client of its own; with
-- one it claims a client for each command. The goal: 0.9 of the commands per second.
-- Both kinds take turns, 5 times; a ratio is of two neighbours. Where the server is what limits both, the ratio of commands flatters the
-- pool: so there is also the processor's time that this process spent on each.
local cueball = require "cueball"
local library = require "cueball.cosocket.library"
local measure = require "bench.support.measure"
local redis = require "spec.support.redis"
local uv = require "luv"

local COMMANDS = tonumber((...)) or 60000
local ROUNDS = 5

local host = cueball.host()

local function timed(tasks, fn)
  local left, taken, waiter = tasks, 0, host.waiter()
  collectgarbage()
  local began, spent = uv.hrtime(), os.clock()
  for index = 1, tasks do
    host.spawn(function()
      while taken < COMMANDS do
        taken = taken + 1
        fn(index)
      end
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
  end
  if left > 0 then waiter:wait() end
  return COMMANDS / ((uv.hrtime() - began) / 1e9), (os.clock() - spent) / COMMANDS * 1e6
end

local function get(client)
  assert(client:get "key" == "value")
end

local function clients_to(server, count)
  local made, list = assert(library.load(host, "redis")), {}
  for index = 1, count do
    list[index] = made:new()
    assert(list[index]:connect("127.0.0.1", server.port))
  end
  return list
end

local function pool_over(server, count)
  local pool = cueball.pool {
    resolver = cueball.resolver.static { server.backend }, connect = cueball.connection.redis {}, max_connections = count,
    claim_timeout_ms = 60000,
  }
  while pool:stats().idle < count do host.sleep(1) end
  return pool
end

local function compare(server, connections, claimers)
  local clients, pool = clients_to(server, connections), pool_over(server, connections)
  local function bare() return timed(connections, function(index) get(clients[index]) end) end
  local function pooled()
    return timed(claimers, function()
      local lease = assert(pool:claim())
      get(lease.connection)
      lease:release()
    end)
  end
  bare()
  pooled()
  local rates, pool_rates, cpus, pool_cpus, ratios, cpu_ratios = {}, {}, {}, {}, {}, {}
  for round = 1, ROUNDS do
    if round % 2 == 1 then rates[round], cpus[round] = bare() end
    pool_rates[round], pool_cpus[round] = pooled()
    if round % 2 == 0 then rates[round], cpus[round] = bare() end
    ratios[round], cpu_ratios[round] = pool_rates[round] / rates[round], cpus[round] / pool_cpus[round]
  end
  local median = measure.median
  measure.row("%11d %8d  %9.0f %9.0f  %5.2f  %8.2f %8.2f  %5.2f", connections, claimers, median(rates), median(pool_rates), median(ratios),
    median(cpus), median(pool_cpus), median(cpu_ratios))
  for _, one in ipairs(clients) do one:close() end
  pool:stop()
end

local function main(server)
  measure.head(("Redis GET on loopback: %d commands, medians of %d"):format(COMMANDS, ROUNDS))
  measure.row("%20s  %26s  %24s", "", "commands per second, ratio", "our us each, ratio")
  measure.row("%11s %8s  %9s %9s  %5s  %8s %8s  %5s", "connections", "claimers", "bare", "pool", "", "bare", "pool", "")
  compare(server, 1, 1)
  compare(server, 10, 10)
  compare(server, 10, 100)
end

host.log_to(function() end)
local server = redis.start()
server:call("SET", "key", "value")
local ok, message = xpcall(cueball.run, debug.traceback, main, server)
server:stop()
if not ok then error(message, 0) end
