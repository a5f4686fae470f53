--- PostgreSQL through a pool: what the pool costs, and what pgbouncer does in its place.
--   examples/run bench/postgres.lua [TRANSACTIONS] [ROUNDS]
-- One server in processes of its own, 10 connections to it. A transaction is `select 1`.
--   bare      10 tasks with a connection each: the same calls of libpq without a pool. What the pool is measured against
--   pool      so many claimers, each of whom claims for each transaction
--   pgbouncer so many clients on 10 connections: transaction mode, each client has a connection to pgbouncer for good; session mode, where
--             a client has the server until it leaves, so it connects for each transaction
--   direct    so many connections to the server itself
-- All take turns in each round; ratios are of the same round. CPU is what this process, pgbouncer, and the server's processes have used for
-- each transaction. Latency is from before the claim, or connect, to the answer.
local client = require "cueball.connection.postgres.client"
local cueball = require "cueball"
local measure = require "bench.support.measure"
local pgbouncer = require "bench.support.pgbouncer"
local postgres = require "spec.support.postgres"
local uv = require "luv"

local TRANSACTIONS = tonumber((...)) or 5000
local ROUNDS = tonumber((select(2, ...))) or 5
local CONNECTIONS = 10
local CLAIMERS = { 1, 10, 100, 500 }
local CONNECTS_MAX = 300 -- transactions of session mode, each of which connects

local host = cueball.host()

-- -------------------------------------------------------------- measuring --

local TICK_US = 10000 -- of /proc/PID/stat

local function cpu_of(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local stat = file and file:read "*a" or ""
  if file then file:close() end
  local user, system = stat:match "^.*%) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) (%d+)"
  return (tonumber(user or 0) + tonumber(system or 0)) * TICK_US
end

-- The server's processes, of those that have ended too.
local function cpu_of_server(server)
  local file = assert(io.open(("/proc/%d/stat"):format(server.pid)))
  local stat = file:read "*a"
  file:close()
  local ended_user, ended_system = stat:match "^.*%) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %d+ %d+ (%d+) (%d+)"
  local total = (tonumber(ended_user) + tonumber(ended_system)) * TICK_US
  file = assert(io.open(("/proc/%d/task/%d/children"):format(server.pid, server.pid)))
  for pid in file:read("*a"):gmatch "%d+" do total = total + cpu_of(pid) end
  file:close()
  return total
end

local function own_cpu()
  local usage = uv.getrusage()
  return (usage.utime.sec + usage.stime.sec) * 1e6 + usage.utime.usec + usage.stime.usec
end

local function quantile(sorted, part)
  return sorted[math.max(1, math.ceil(#sorted * part))]
end

-- Runs fn(index) again and again in so many tasks, `count` times in all.
-- @return figures of the round
local function timed(tasks, count, server, bouncer, fn)
  local left, done, taken, waiter, times = tasks, 0, 0, host.waiter(), {}
  collectgarbage()
  local own, of_bouncer, of_server = own_cpu(), bouncer and cpu_of(bouncer.pid) or 0, cpu_of_server(server)
  local began = uv.hrtime()
  for index = 1, tasks do
    host.spawn(function()
      while taken < count do
        taken = taken + 1
        local at = uv.hrtime()
        fn(index)
        done = done + 1
        times[done] = uv.hrtime() - at
      end
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
  end
  if left > 0 then waiter:wait() end
  local seconds = (uv.hrtime() - began) / 1e9
  own = own_cpu() - own
  table.sort(times)
  return {
    rate = count / seconds, p50 = quantile(times, 0.5) / 1e6, p99 = quantile(times, 0.99) / 1e6, own = own / count,
    bouncer = bouncer and (cpu_of(bouncer.pid) - of_bouncer) / count or 0, server = (cpu_of_server(server) - of_server) / count,
  }
end

-- ------------------------------------------------------------------- arms --

-- @param name of the application, by which connections are counted
local function connect(port, name)
  return assert(client.connect(host, {
    hostaddr = "127.0.0.1", port = port, user = "postgres", dbname = "postgres", sslmode = "disable", gssencmode = "disable",
    application_name = name,
  }))
end

local function connect_all(port, name, count)
  local list = {}
  for index = 1, count do list[index] = connect(port, name) end
  return list
end

local function close_all(list)
  for _, conn in ipairs(list) do conn:close() end
end

local function transact(conn)
  assert(assert(conn:query "select 1 as v")[1].v == 1)
end

-- Each client with a connection of its own.
local function owned(list)
  return function(index) transact(list[index]) end
end

local function pooled(pool)
  return function()
    local lease = assert(pool:claim())
    transact(lease.connection)
    lease:release()
  end
end

local function connecting(port, name)
  return function()
    local conn = connect(port, name)
    transact(conn)
    conn:close()
  end
end

local function pool_over(server)
  local pool = cueball.pool {
    resolver = cueball.resolver.static { server.backend }, max_connections = CONNECTIONS, claim_timeout_ms = 60000,
    connect = cueball.connection.postgres { user = "postgres", sslmode = "disable", application_name = "pool" },
  }
  while pool:stats().idle < CONNECTIONS do host.sleep(1) end
  return pool
end

-- ------------------------------------------------------------------ tables --

local COLUMNS = { "rate", "p50", "p99", "own", "bouncer", "server" }

local function medians(rounds)
  local figures = {}
  for _, column in ipairs(COLUMNS) do
    local values = {}
    for index, round in ipairs(rounds) do values[index] = round[column] end
    figures[column] = measure.median(values)
  end
  return figures
end

local function ratio(rounds, others, column, is_inverse)
  local ratios = {}
  for index, round in ipairs(rounds) do
    ratios[index] = is_inverse and others[index][column] / round[column] or round[column] / others[index][column]
  end
  return measure.median(ratios)
end

local TITLES = { transaction = "pgbouncer, transaction", session = "pgbouncer, session" }

local function print_arm(arm, bare)
  local figures = medians(arm.rounds)
  measure.row("%-22s %7d %8.0f %6.2f %8.2f %8.2f %5d %7.1f %8.1f %7.1f", TITLES[arm.name] or arm.name, arm.clients, figures.rate,
    ratio(arm.rounds, bare, "rate"), figures.p50, figures.p99, arm.seen, figures.own, figures.bouncer, figures.server)
end

-- Runs all arms, in turn, as often as there are rounds.
-- @param arms list of { name =, clients =, count =, fn =, bouncer = }
local function run(arms, server)
  for _, arm in ipairs(arms) do
    arm.rounds = {}
    timed(arm.clients, math.min(arm.count, 200), server, arm.bouncer, arm.fn) -- warm-up
  end
  for round = 1, ROUNDS do
    for step = 1, #arms do
      local arm = arms[round % 2 == 1 and step or #arms + 1 - step]
      arm.rounds[round] = timed(arm.clients, arm.count, server, arm.bouncer, arm.fn)
      arm.seen = math.max(arm.seen or 0, server:connections(arm.bouncer and ("usename = '%s'"):format(arm.bouncer.user)
        or ("application_name = '%s'"):format(arm.name)))
    end
  end
end

local function compare(server, bouncers, claimers)
  local transaction, session = bouncers.transaction, bouncers.session
  local bare, pool = connect_all(server.port, "bare", CONNECTIONS), pool_over(server)
  local bounced, direct = connect_all(transaction.port, "transaction", claimers), connect_all(server.port, "direct", claimers)
  local arms = {
    { name = "bare", clients = CONNECTIONS, fn = owned(bare) },
    { name = "pool", clients = claimers, fn = pooled(pool) },
    { name = "transaction", clients = claimers, fn = owned(bounced), bouncer = transaction },
    { name = "session", clients = claimers, fn = connecting(session.port, "session"), bouncer = session,
      count = math.min(TRANSACTIONS, CONNECTS_MAX) },
    { name = "direct", clients = claimers, fn = owned(direct) },
  }
  for _, arm in ipairs(arms) do arm.count = arm.count or TRANSACTIONS end
  run(arms, server)
  for _, arm in ipairs(arms) do print_arm(arm, arms[1].rounds) end
  measure.row("  the pool with %d claimers: %.3f of bare in transactions/s, %.3f in CPU of this process", claimers,
    ratio(arms[2].rounds, arms[1].rounds, "rate"), ratio(arms[2].rounds, arms[1].rounds, "own", true))
  pool:stop()
  close_all(bare)
  close_all(bounced)
  close_all(direct)
end

-- A hundred queries, one after the other and in one pipeline.
local function pipelines(server)
  local conn, ratios, singles, piped = connect(server.port, "pipeline"), {}, {}, {}
  for round = 1, ROUNDS do
    local at = uv.hrtime()
    for _ = 1, 10 * 100 do transact(conn) end
    singles[round] = (uv.hrtime() - at) / 1e6 / 10
    at = uv.hrtime()
    for _ = 1, 10 do
      local results = assert(conn:pipeline(function(pipe)
        for _ = 1, 100 do pipe:query "select 1 as v" end
      end))
      assert(#results == 100 and results[100][1].v == 1)
    end
    piped[round] = (uv.hrtime() - at) / 1e6 / 10
    ratios[round] = singles[round] / piped[round]
  end
  conn:close()
  measure.row("100 queries: one by one %.2f ms, in one pipeline %.2f ms: %.1f times as fast", measure.median(singles),
    measure.median(piped), measure.median(ratios))
end

local function main()
  local server = postgres.start { settings = { max_connections = 600 } }
  local bouncers = {}
  for _, mode in ipairs { "transaction", "session" } do bouncers[mode] = pgbouncer.start(server, mode, CONNECTIONS) end
  measure.head(("PostgreSQL %d on loopback: %d x select 1, medians of %d"):format(postgres.version, TRANSACTIONS, ROUNDS))
  measure.row("%-22s %7s %8s %6s %8s %8s %5s %24s", "", "", "", "", "", "", "", "CPU, us each")
  measure.row("%-22s %7s %8s %6s %8s %8s %5s %7s %8s %7s", "", "clients", "tx/s", "ratio", "p50 ms", "p99 ms", "seen", "own", "bouncer",
    "server")
  for _, claimers in ipairs(CLAIMERS) do compare(server, bouncers, claimers) end
  pipelines(server)
  bouncers.transaction:stop()
  bouncers.session:stop()
end

host.log_to(function() end)
local ok, message = xpcall(cueball.run, debug.traceback, main)
postgres.remove_all()
if not ok then error(message, 0) end
