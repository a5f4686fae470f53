--- Many clients with fewer connections than there are backends: how evenly the backends are loaded.
local worlds = require "bench.simulations.world"

local subsets = {}

local function spread(counts, backends)
  local sum, squares, least, most = 0, 0, math.huge, 0
  for index = 1, backends do
    local count = counts[index] or 0
    sum, squares = sum + count, squares + count * count
    least, most = math.min(least, count), math.max(most, count)
  end
  local mean = sum / backends
  return { mean = mean, deviation = math.sqrt(math.max(0, squares / backends - mean * mean)), least = least, most = most }
end

--- Options: clients (500), backends (100), connections (10 each), minutes (30), away (share of the backends that is down
-- for the first ten minutes, 0.3), decoherence_ms (300,000), seed.
-- → list of { minute, mean, deviation, least, most } of connections per backend
function subsets.run(given)
  local clients, backends, connections = given.clients or 500, given.backends or 100, given.connections or 10
  local away = math.floor(backends * (given.away or 0.3))
  local world = worlds.new(given.seed or 1)
  local index_of, keys = {}, {}
  for index = 1, backends do
    keys[index] = "b" .. index
    index_of[keys[index]] = index
  end
  local pools = {}
  for client = 1, clients do
    pools[client] = world:pool({ max_connections = connections, decoherence_interval_ms = given.decoherence_ms or 300000,
      check_interval_ms = false, recovery = { default = { max_delay_ms = 10000 } } },
      function(key, now) return 1, index_of[key] > away or now >= 600000 end)
    pools[client]:backends(keys)
  end
  local found = {}
  for _, minute in ipairs(given.minutes or { 1, 9, 11, 20, 40 }) do
    world:run(minute * 60000)
    local counts = {}
    for _, pool in ipairs(pools) do
      for key, count in pairs(pool:layout()) do counts[index_of[key]] = (counts[index_of[key]] or 0) + count end
    end
    local one = spread(counts, backends)
    one.minute = minute
    found[#found + 1] = one
  end
  return found
end

--- Each client draws its backends at random (Finagle's random subsetting): what evenness chance alone gives.
function subsets.random(given)
  local clients, backends, connections = given.clients or 500, given.backends or 100, given.connections or 10
  local world, counts = worlds.new(given.seed or 1), {}
  for _ = 1, clients do
    local order = {}
    for index = 1, backends do order[index] = index end
    for index = 1, connections do
      local other = index + math.floor(world:uniform() * (backends - index + 1))
      order[index], order[other] = order[other], order[index]
      counts[order[index]] = (counts[order[index]] or 0) + 1
    end
  end
  return spread(counts, backends)
end

function subsets.print(row, seed)
  row "500 clients with 10 connections each, 100 backends, 30 of them down for the first 10 minutes: connections per backend"
  row("%-22s %6s %10s %6s %6s", "", "mean", "deviation", "least", "most")
  for _, one in ipairs(subsets.run { seed = seed }) do
    row("after %2d minutes %6s %6.1f %10.1f %6d %6d", one.minute, "", one.mean, one.deviation, one.least, one.most)
  end
  local one = subsets.random { seed = seed }
  row("%-22s %6.1f %10.1f %6d %6d", "drawn at random", one.mean, one.deviation, one.least, one.most)
end

return subsets
