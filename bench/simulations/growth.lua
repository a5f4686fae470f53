--- A steady load: claims come as a Poisson process, leases are exponentially distributed, connecting takes 5 ms. For how many
-- of the claims is a connection opened, once the pool has found its size?
local worlds = require "bench.simulations.world"

local growth = {}

local CONNECT_MS = 5
local WARM_UP = 0.25 -- share of the claims that find the pool's size

--- Options: lease_ms (the mean), spares, rate (claims a second), claims, seed.
-- → { opened, closed, claims }: counts after the warm-up; total: connections at its end.
function growth.run(given)
  local world = worlds.new(given.seed or 1)
  local pool = world:pool({ max_connections = 1000, spares = given.spares, check_interval_ms = 0, decoherence_interval_ms = 0 },
    function() return CONNECT_MS, true end)
  pool:backends { "db" }
  world:run(1000)
  local left, before = given.claims, nil
  local function come()
    left = left - 1
    if left == math.floor(given.claims * (1 - WARM_UP)) then before = pool:stats() end
    pool:claim(function(lease)
      world:after(world:exponential(given.lease_ms), function() pool:release(lease) end)
    end)
    if left > 0 then world:after(world:exponential(1000 / given.rate), come) end
  end
  come()
  while left > 0 do world:run(world.now + 100) end
  local after = pool:stats()
  local function since(name) return tonumber(after[name] - before[name]) end
  return { opened = since "opened", closed = since "closed", claims = since "claims", total = tonumber(after.total) }
end

function growth.print(row, seed)
  row("claims at 10 and 100 a second, 5 ms to connect, at most 1,000 connections; opened: for a hundred claims")
  row("%-10s %-8s %12s %12s %14s", "lease", "spares", "10/s opened", "100/s opened", "connections")
  for _, lease_ms in ipairs { 0.1, 1, 10, 100, 1000 } do
    for _, spares in ipairs { 0, 2, 10 } do
      local slow = growth.run { lease_ms = lease_ms, spares = spares, rate = 10, claims = 4000, seed = seed }
      local fast = growth.run { lease_ms = lease_ms, spares = spares, rate = 100, claims = 4000, seed = seed }
      row("%-10s %-8d %12.2f %12.2f %6d %7d", ("%g ms"):format(lease_ms), spares, 100 * slow.opened / slow.claims,
        100 * fast.opened / fast.claims, slow.total, fast.total)
    end
  end
end

return growth
