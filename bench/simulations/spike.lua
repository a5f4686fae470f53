--- A spike, as HikariCP tells of it ("Welcome to the Jungle"): 50 claims at once, connecting takes 150 ms, the work 2 ms,
-- 5 spares, at most 50 connections. How many are opened?
local worlds = require "bench.simulations.world"

local spike = {}

--- Options: claimers, connect_ms, work_ms, spares, max_connections, seed, warm (the pool has been used before).
-- → { opened, at_end, most, last_ms }: connections opened for the spike, there a tenth of a second after it, most at once;
-- ms until the last claim was done.
function spike.run(given)
  local function option(name, default)
    if given and given[name] ~= nil then return given[name] end
    return default
  end
  local connect_ms, work_ms = option("connect_ms", 150), option("work_ms", 2)
  local world = worlds.new(option("seed", 1))
  local pool = world:pool({ max_connections = option("max_connections", 50), spares = option("spares", 5) },
    function() return connect_ms, true end)
  pool:backends { "db" }
  world:run(1000)
  local function work(done)
    pool:claim(function(lease)
      world:after(work_ms, function()
        pool:release(lease)
        if done then done() end
      end)
    end)
  end
  if option("warm", true) then
    for at = 0, 40 do world:after(at * 10, work) end -- one at a time: what a lease takes is known
    world:run(1500)
  else
    world:run(1500)
  end
  local before = tonumber(pool:stats().opened)
  local most, last_ms, left = 0, 0, option("claimers", 50)
  local function look()
    most = math.max(most, pool:stats().total)
    if left > 0 then world:after(1, look) end
  end
  for _ = 1, left do
    work(function()
      left = left - 1
      last_ms = world.now - 1500
    end)
  end
  look()
  world:run(1900)
  local stats = pool:stats()
  pool:ensure()
  return { opened = tonumber(stats.opened) - before, at_end = stats.total, most = most, last_ms = last_ms }
end

function spike.print(row)
  row("50 claims at once, 150 ms to connect, 2 ms of work, 5 spares, at most 50 connections")
  row("%-34s %8s %8s %8s %10s", "", "opened", "most", "at end", "all done")
  for _, case in ipairs { { "used before", {} }, { "never used before", { warm = false } },
    { "10 times the claims", { claimers = 500 } } } do
    local found = spike.run(case[2])
    row("%-34s %8d %8d %8d %7.0f ms", case[1], found.opened, found.most, found.at_end, found.last_ms)
  end
  row "HikariCP's figures: it ends with 5 (6 in another run), others with 40 to 45"
end

return spike
