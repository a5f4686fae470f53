--- What many backends cost a pool that has some: claims that wait while backends are dead, what they are told, connections to one backend.
--   examples/run bench/backends.lua
-- In virtual time; the figures are the processor's time of this process, least of 3.
local cueball = require "cueball"
local sim = require "cueball.host.sim"

local ROUNDS = 3

local function least(fn, ...)
  local best = math.huge
  for _ = 1, ROUNDS do best = math.min(best, fn(...)) end
  return best
end

local function backends(count)
  local list = {}
  for i = 1, count do list[i] = { key = "b" .. i, address = ("10.%d.%d.%d"):format(i / 65536, i / 256 % 256, i % 256), port = 80 } end
  return list
end

local NEVER = { default = { attempts = 1, delay_ms = 3600000 } }

-- µs of processor time for a claim that waits: 30 claimers, 10 connections, leases of 1 ms.
local function claim_us(count, dead_count)
  local world, result = sim.new { seed = 1 }, nil
  world.run(function()
    local dead, deaths = {}, 0
    local pool = cueball.pool {
      host = world, max_connections = 10, seed = 1, recovery = NEVER, resolver = cueball.resolver.static(backends(count)),
      connect = function(backend)
        if deaths < dead_count then dead[backend.key], deaths = true, deaths + 1 end
        if dead[backend.key] then return nil, "connection refused" end
        return {}
      end,
    }
    world.sleep(1000)
    local done, wanted = 0, 2000
    for _ = 1, 30 do
      world.spawn(function()
        while done < wanted do
          local lease = pool:claim()
          world.sleep(1)
          done = done + 1
          lease:release()
        end
      end)
    end
    local began = os.clock()
    while done < wanted do world.sleep(10) end
    result = (os.clock() - began) / done * 1e6
    pool:stop()
  end)
  return result
end

-- Bytes of what a claim is told when all are dead.
local function refusal_bytes(count)
  local world, bytes = sim.new { seed = 1 }, nil
  world.run(function()
    local pool = cueball.pool {
      host = world, max_connections = count, recovery = NEVER, resolver = cueball.resolver.static(backends(count)),
      connect = function() return nil, "connection refused" end,
    }
    world.sleep(1000)
    bytes = #select(2, pool:claim { timeout_ms = 10 })
    pool:stop()
  end)
  return bytes
end

-- µs of processor time for each connection of a pool that opens so many to one backend.
local function open_us(count)
  local world = sim.new { seed = 1 }
  local began = os.clock()
  local pool = cueball.pool {
    host = world, max_connections = count, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = function() return {} end,
  }
  world.advance(2000)
  assert(pool:stats().idle == count)
  return (os.clock() - began) / count * 1e6
end

for _, count in ipairs { 1000, 10000 } do
  for _, dead in ipairs { 0, 1, 5 } do
    print(("a claim that waits, %d backends, %d dead: %.1f µs"):format(count, dead, least(claim_us, count, dead)))
  end
end
print(("a refusal's message, 1000 backends, all dead: %d bytes"):format(refusal_bytes(1000)))
for _, count in ipairs { 1000, 5000, 20000 } do
  print(("a connection opened, %d to one backend: %.1f µs"):format(count, least(open_us, count)))
end
