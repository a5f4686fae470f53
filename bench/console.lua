--- What being looked at costs: the wait of claims while a console is polled each second, beside that of the same program without.
--   examples/run bench/console.lua [SECONDS]
-- 20 claimers over 10 connections in this process; another process polls, and is stopped in each second turn. So both have the same
-- machine, and the start of that process is in neither.
local cueball = require "cueball"
local measure = require "bench.support.measure"
local uv = require "luv"

local TURNS, SECONDS = 30, tonumber(arg[1] or "1")

local PEER = [[
  local host, remote = require "cueball.host.uv", require "cueball.console.remote"
  host.run(function()
    local one = assert(remote.connect { host = host, address = arg[1] })
    while true do
      one:submit "leases { older = '1s' }"
      one:submit "backends()"
      host.sleep(1000)
    end
  end)
]]

local folder = uv.fs_mkdtemp "/tmp/cueball-bench-XXXXXX"
local address = "unix:" .. folder .. "/sock"

local function start_peer()
  local path = folder .. "/peer.lua"
  local file = assert(io.open(path, "w"))
  file:write(PEER)
  file:close()
  local handle
  handle = assert(uv.spawn("luajit", { args = { path, address }, stdio = { nil, 1, 2 } }, function() handle:close() end))
  return handle
end

-- Milliseconds of processor time that one poll takes in the program, without the socket.
local function poll_ms(host)
  local one = require("cueball.console.seat").new { host = host, allow = "read", who = "bench", budget_ms = 50, output = function() end }
  local began, count = os.clock(), 500
  for _ = 1, count do
    one:run "leases { older = '1s' }"
    one:run "backends()"
  end
  return (os.clock() - began) / count * 1000
end

local function percentile(waits, fraction)
  table.sort(waits)
  return waits[math.max(1, math.ceil(#waits * fraction))]
end

-- The waits of all claims in one turn, in ms.
local function turn(pool, host)
  local waits, ends_at = {}, host.now() + SECONDS * 1e9
  local left = 20
  local waiter = host.waiter()
  for _ = 1, 20 do
    host.spawn(function()
      while host.now() < ends_at do
        local began = host.now()
        local lease = assert(pool:claim())
        waits[#waits + 1] = (host.now() - began) / 1e6
        host.sleep(2)
        lease:release()
      end
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
  end
  waiter:wait()
  return { p50 = percentile(waits, 0.5), p99 = percentile(waits, 0.99), claims = #waits }
end

cueball.run(function()
  local host = cueball.host()
  local pool = cueball.pool {
    name = "bench", max_connections = 10, resolver = cueball.resolver.static { "127.0.0.1:1", "127.0.0.1:2" },
    connect = function() return {} end,
  }
  assert(cueball.console.listen(address))
  pool:ready()
  turn(pool, host)
  local lists = { without = { p50 = {}, p99 = {}, claims = {} }, polled = { p50 = {}, p99 = {}, claims = {} } }
  local peer = start_peer()
  host.sleep(1500)
  for number = 1, TURNS do
    local name = number % 2 == 1 and "without" or "polled"
    peer:kill(name == "polled" and "sigcont" or "sigstop")
    host.sleep(20)
    local found = turn(pool, host)
    for key, value in pairs(found) do table.insert(lists[name][key], value) end
  end
  measure.head(("Claims while a console is polled each second, %d turns of %g s each"):format(TURNS / 2, SECONDS))
  for _, key in ipairs { "p50", "p99", "claims" } do
    local without, polled = measure.median(lists.without[key]), measure.median(lists.polled[key])
    measure.row("%-7s without %.3f, polled %.3f, ratio %.4f", key, without, polled, polled / without)
  end
  measure.row("a poll takes %.3f ms of processor time in the program", poll_ms(host))
  peer:kill "sigkill"
  pool:stop()
end)
os.execute("rm -rf " .. folder)
