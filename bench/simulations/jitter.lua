--- A herd: 100 clients, each a pool of one connection, all begin at the same moment with a server that lets one in at a
-- time. As in the simulator of "Exponential Backoff And Jitter" (M. Brooker, AWS, 2015): a client asks for the server's
-- version and comes back with it; if another got in meanwhile, it fails and has to pause. Every way over the network
-- takes 10 ms, with a standard deviation of 2 ms; pauses are 5 ms, doubled up to 2 s.
local worlds = require "bench.simulations.world"

local jitter = {}

--- Options: jitter ("spread"), spread (0.2: +-10 %), clients (100), seed.
-- → { calls, seconds }: attempts until all had succeeded, and when that was.
function jitter.run(given)
  local world = worlds.new(given.seed or 1)
  local calls, last, version = 0, 0, 0
  local function way() return math.abs(10 + 2 * world:normal()) end
  local function open()
    calls = calls + 1
    local there, back_and_there, back = way(), way() + way(), way()
    local outcome = { is_well = false }
    world:after(there, function()
      local seen = version
      world:after(back_and_there, function()
        if version ~= seen then return end
        version = version + 1
        outcome.is_well = true
      end)
    end)
    return there + back_and_there + back, outcome
  end
  local recovery = { attempts = 1000, delay_ms = 5, max_delay_ms = 2000, jitter = given.jitter, spread = given.spread or 0.2,
    timeout_ms = 60000 }
  for _ = 1, given.clients or 100 do
    local pool = world:pool({ max_connections = 1, rebalance_delay_ms = 0, check_interval_ms = false, decoherence_interval_ms = false,
      recovery = { default = recovery } }, open)
    pool.opened = function() last = world.now end
    pool:backends { "server" }
  end
  while version < (given.clients or 100) do world:run(world.now + 1000) end
  world:run(world.now + 100)
  return { calls = calls, seconds = last / 1000 }
end

--- The mean of many seeds.
function jitter.mean(given, seeds)
  local calls, seconds = 0, 0
  for seed = 1, seeds do
    local found = jitter.run { jitter = given.jitter, spread = given.spread, clients = given.clients,
      seed = (given.seed or 1) * 1000 + seed }
    calls, seconds = calls + found.calls / seeds, seconds + found.seconds / seeds
  end
  return { calls = calls, seconds = seconds }
end

jitter.KINDS = { { "none", { jitter = "spread", spread = 0 } }, { "spread 0.2", { jitter = "spread" } },
  { "spread 1", { jitter = "spread", spread = 1 } }, { "full", { jitter = "full" } }, { "decorrelated", { jitter = "decorrelated" } } }

function jitter.print(row, seed)
  row "100 clients begin at once with a server that lets one in at a time; mean of 20 herds"
  row("%-16s %8s %10s", "jitter", "calls", "seconds")
  for _, kind in ipairs(jitter.KINDS) do
    local found = jitter.mean({ jitter = kind[2].jitter, spread = kind[2].spread, seed = seed }, 20)
    row("%-16s %8.0f %10.1f", kind[1], found.calls, found.seconds)
  end
  row "AWS's figures: 925 calls and 12.7 s with +-10 %, 795 and 4.9 s with full jitter"
end

return jitter
