--- Requests per second on real sockets: through a pool, against the same socket code without one.
--   examples/run bench/sockets.lua [TRIPS]
--   examples/run bench/sockets.lua instructions [RUNS]     what a trip executes in user space, counted by valgrind's callgrind
-- One echo server in another process, as many connections as tasks; a trip sends a line and receives it again. Without
-- a pool each task owns its socket; with one it claims a connection for each trip. The goal: 0.9 of the requests.
-- Both kinds take turns in one run, 5 times; a ratio is of two neighbours. Where the server is what limits both, the
-- ratio of requests flatters the pool: so there is also the processor's time that this process spent on each trip.
-- Instructions do not depend on what else the machine does, but on which pieces LuaJIT happens to compile: so there are several runs.
local cueball = require "cueball"
local measure = require "bench.support.measure"
local servers = require "examples.support.servers"
local uv = require "luv"

local MODE = ...
local TRIPS = tonumber(MODE) or 60000
local ROUNDS = 5
local LINE = ("x"):rep(63) .. "\n"

local host = cueball.host()

local function trip(socket)
  assert(socket:send(LINE))
  assert(#assert(socket:receive "*l") == #LINE - 1)
end

-- Runs fn(index, count) in so many tasks, which share `trips`, and waits for all of them.
local function in_tasks(tasks, trips, fn)
  measure.together(host, tasks, function(index) fn(index, trips / tasks) end)
end

-- @return trips per second, microseconds of this process for each
local function timed(tasks, fn)
  collectgarbage()
  local began, spent = uv.hrtime(), os.clock()
  in_tasks(tasks, TRIPS, fn)
  return TRIPS / ((uv.hrtime() - began) / 1e9), (os.clock() - spent) / TRIPS * 1e6
end

local function without_pool(sockets)
  return function(index, count)
    local socket = sockets[index]
    for _ = 1, count do trip(socket) end
  end
end

local function with_pool(pool)
  return function(_, count)
    for _ = 1, count do
      local lease = assert(pool:claim())
      trip(lease.connection)
      lease:release()
    end
  end
end

local function connect_all(server, count)
  local sockets = {}
  for index = 1, count do
    sockets[index] = host.tcp()
    assert(sockets[index]:connect("127.0.0.1", server.port))
  end
  return sockets
end

local function pool_over(server, count)
  local pool = cueball.pool {
    resolver = cueball.resolver.static { server.address },
    connect = cueball.connection.tcp {},
    max_connections = count,
  }
  while pool:stats().idle < count do cueball.sleep(1) end
  return pool
end

local function compare(server, connections, claimers)
  local sockets, pool = connect_all(server, connections), pool_over(server, connections)
  local bare, pooled = without_pool(sockets), with_pool(pool)
  timed(connections, bare) -- warm-up
  timed(claimers, pooled)
  local rates, rates_pooled, cpus, cpus_pooled, ratios, cpu_ratios = {}, {}, {}, {}, {}, {}
  for round = 1, ROUNDS do
    -- Who goes first changes, so that a machine that speeds up or slows down favours neither.
    if round % 2 == 1 then rates[round], cpus[round] = timed(connections, bare) end
    rates_pooled[round], cpus_pooled[round] = timed(claimers, pooled)
    if round % 2 == 0 then rates[round], cpus[round] = timed(connections, bare) end
    ratios[round] = rates_pooled[round] / rates[round]
    cpu_ratios[round] = cpus[round] / cpus_pooled[round]
  end
  local median = measure.median
  measure.row("%11d %8d  %9.0f %9.0f  %5.2f  %8.2f %8.2f  %5.2f", connections, claimers, median(rates), median(rates_pooled),
    median(ratios), median(cpus), median(cpus_pooled), median(cpu_ratios))
  for _, socket in ipairs(sockets) do socket:close() end
  pool:stop()
end

-- ------------------------------------------------------------ instructions --

local FIRST, THEN = 6000, 12000 -- trips until everything is compiled, and those that are counted

-- Under valgrind: nothing but so many trips.
local function once(way, connections, claimers, trips, port)
  local server = { port = tonumber(port), address = "127.0.0.1:" .. port }
  local pool = way == "pool" and pool_over(server, tonumber(connections))
  local run = pool and with_pool(pool) or without_pool(connect_all(server, tonumber(connections)))
  in_tasks(tonumber(claimers), tonumber(trips), run)
  if pool then pool:stop() end
end

-- Of a whole run: the one with more trips has executed more, and nothing else is different.
local function executed(way, connections, claimers, trips, server)
  return measure.executed("once", way, connections, claimers, trips, server.port)
end

local function count_instructions(runs)
  local server = servers.start()
  print(("instructions of a round trip in user space, %d trips after %d, %d runs"):format(THEN, FIRST, runs))
  for _, case in ipairs { { "bare", 15, 15 }, { "pool", 15, 15 }, { "pool", 15, 60 } } do
    local way, connections, claimers = unpack(case)
    local counts = {}
    for run = 1, runs do
      local few = executed(way, connections, claimers, FIRST, server)
      counts[run] = (executed(way, connections, claimers, FIRST + THEN, server) - few) / THEN
    end
    measure.row("  %s, %d connections, %d claimers: median %.0f, least %.0f, most %.0f", way, connections, claimers,
      measure.median(counts), math.min(unpack(counts)), math.max(unpack(counts)))
  end
end

local function main()
  measure.head(("TCP on loopback: %d round trips, medians of %d"):format(TRIPS, ROUNDS))
  measure.row("%20s  %26s  %24s", "", "trips per second, ratio", "our us each, ratio")
  measure.row("%11s %8s  %9s %9s  %5s  %8s %8s  %5s", "connections", "claimers", "bare", "pool", "", "bare", "pool", "")
  local server = servers.start()
  compare(server, 1, 1)
  compare(server, 15, 15)
  compare(server, 100, 100)
  compare(server, 15, 60) -- the pool makes them wait, which bare sockets cannot
end

host.log_to(function() end)
local modes = { once = once, instructions = function(runs) count_instructions(tonumber(runs) or 5) end }
local ok, message = xpcall(cueball.run, debug.traceback, modes[MODE] or main, select(2, ...))
servers.kill_all()
if not ok then error(message, 0) end
