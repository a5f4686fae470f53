--- Backends that are not equally fast, or slow down: who gets the claims.
local worlds = require "bench.simulations.world"

local balance = {}

--- Eleven backends; one answers after 2 s only from the 15th to the 45th of 60 seconds (linkerd, "Beyond Round Robin", 2016).
-- 1,000 requests/s (Poisson), latency log-normal with a median of 167 ms and sigma 0.4.
-- Options: balance, connections (1,100), seconds (60), rate (1000), seed.
-- → { success, slow_share, waited_most, requests }: share of the requests done within 1 s, claim included; share of those that went to the
-- slow backend while it was slow.
function balance.slow(given)
  local world = worlds.new(given.seed or 1)
  local seconds = given.seconds or 60
  local limit = seconds * 1000
  local from, to = limit / 4, limit * 3 / 4
  local warm = 2000 -- connections open meanwhile
  local pool = world:pool({ max_connections = given.connections or 1100, balance = given.balance, rebalance_delay_ms = 0 },
    function() return 1, true end)
  local keys = {}
  for index = 1, 11 do keys[index] = "backend" .. index end
  pool:backends(keys)
  local requests, good, slow, during, waited_most = 0, 0, 0, 0, 0
  local function ended(request)
    pool:release(request.lease)
    requests = requests + 1
    if world.now - request.began <= 1000 then good = good + 1 end
  end
  local function arrive()
    local began = world.now
    pool:claim(function(lease, key, _, waited)
      local at = world.now - warm
      local is_slow = at >= from and at < to
      local latency = world:lognormal(167, 0.4)
      if is_slow then during = during + 1 end
      if is_slow and key == "backend1" then slow, latency = slow + 1, 2000 end
      waited_most = math.max(waited_most, waited)
      world:after(latency, ended, { lease = lease, began = began })
    end)
    if world.now < warm + limit then world:after(world:exponential(1000 / (given.rate or 1000)), arrive) end
  end
  world:after(warm, arrive)
  world:run(warm + limit + 5000)
  pool:ensure()
  return { success = good / requests, slow = slow / during, waited_most = waited_most, requests = requests, late = requests - good }
end

local function quantile(sorted, q) return sorted[math.max(1, math.ceil(#sorted * q))] end

--- Ten endpoints that take 0 to 1, 10 (four), 100 (four) and 1,000 ms, evenly; 50,000 requests, 50 at a time (tower#76).
-- Options: balance, requests, connections (500: 50 for each, no endpoint's connections can run out), seed.
-- → { p50, p99, p999, mean } in ms
function balance.uneven(given)
  local world = worlds.new(given.seed or 1)
  local total = given.requests or 50000
  local pool = world:pool({ max_connections = given.connections or 500, balance = given.balance, rebalance_delay_ms = 0 },
    function() return 1, true end)
  local keys, latency = {}, {}
  for index = 1, 10 do
    keys[index] = "endpoint" .. index
    latency[keys[index]] = (given.latencies or balance.LATENCIES)[index]
  end
  pool:backends(keys)
  world:run(1000)
  local begun, times, work = 0, {}, nil
  local function ended(request)
    pool:release(request.lease)
    times[#times + 1] = world.now - request.began
    work()
  end
  function work()
    if begun >= total then return end
    begun = begun + 1
    local began = world.now
    pool:claim(function(lease, key) world:after(latency[key] * world:uniform(), ended, { lease = lease, began = began }) end)
  end
  for _ = 1, 50 do work() end
  while #times < total do world:run(world.now + 1000) end
  pool:ensure()
  table.sort(times)
  return { p50 = quantile(times, 0.5), p99 = quantile(times, 0.99), p999 = quantile(times, 0.999) }
end

balance.LATENCIES = { 1, 10, 10, 10, 10, 100, 100, 100, 100, 1000 }

function balance.print(row, seed)
  row "11 backends, one takes 2 s for 30 s of 60 s; 1,000 requests/s, median 167 ms"
  row("%-12s %-8s %18s %14s %16s", "connections", "balance", "done within 1 s", "late requests", "to the slow one")
  for _, connections in ipairs { 1100, 400 } do
    for _, kind in ipairs { "fifo", "lifo", "p2c" } do
      local found = balance.slow { balance = kind, connections = connections, seed = seed }
      row("%-12d %-8s %16.3f %% %14d %14.2f %%", connections, kind, found.success * 100, found.late, found.slow * 100)
    end
  end
  row "linkerd's figures: round robin 95 %, least loaded 99 %, peak EWMA 99.9 %"
  row ""
  row "10 endpoints of up to 1, 10 (4), 100 (4) and 1,000 ms, 50,000 requests, 50 at a time, 500 connections"
  row("%-8s %10s %10s %10s", "balance", "p50", "p99", "p99.9")
  for _, kind in ipairs { "fifo", "lifo", "p2c" } do
    local found = balance.uneven { balance = kind, seed = seed }
    row("%-8s %7.0f ms %7.0f ms %7.0f ms", kind, found.p50, found.p99, found.p999)
  end
  row "tower's figures for p99.9: round robin 988, least loaded 857, peak EWMA 105"
end

return balance
