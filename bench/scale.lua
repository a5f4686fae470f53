--- Many backends: a pool over 1,000 of them, a connection each, on real sockets.
--   examples/run bench/scale.lua [BACKENDS]
-- How long from cueball.pool{} to all connected; and, when half of the backends are gone, to each of the others having
-- two connections. The servers listen in this very process: what they take is in the figures. Medians of 5, of new pools.
-- A bare connect beside it: the same sockets, without a pool. And what is the pool's own of all that: the processor's time of the same
-- with connections that are empty tables.
local cueball = require "cueball"
local measure = require "bench.support.measure"
local uv = require "luv"

local BACKENDS = tonumber((...)) or 1000
local ROUNDS = 5
local REBALANCE_DELAY_MS = 100 -- the default: quiet time after a change, which is part of the second figure

local host = cueball.host()

local function listen()
  local server = uv.new_tcp()
  assert(server:bind("127.0.0.1", 0))
  assert(server:listen(16, function(err)
    if err then return end
    local client = uv.new_tcp()
    server:accept(client)
    client:read_start(function(_, data)
      if not data and not client:is_closing() then client:close() end
    end)
  end))
  return { address = "127.0.0.1", port = server:getsockname().port }
end

local function milliseconds_until(is_so)
  local began = host.now()
  while not is_so() do cueball.sleep(0) end
  return (host.now() - began) / 1e6
end

-- As many sockets as the pool opens, at once.
local function connect_bare(backends)
  local sockets, left = {}, #backends
  for index, backend in ipairs(backends) do
    cueball.spawn(function()
      sockets[index] = host.tcp()
      assert(sockets[index]:connect(backend.address, backend.port))
      left = left - 1
    end)
  end
  return sockets, function() return left == 0 end
end

local function is_even(pool, backends, each)
  local stats = pool:stats()
  if stats.idle ~= backends * each or stats.total ~= stats.idle or stats.backends ~= backends then return false end
  for _, backend in ipairs(pool:backends()) do
    if backend.idle ~= each then return false end
  end
  return true
end

-- A pool with a connection to each of these backends.
-- @return it; what is woken for half of the backends to be removed; that half which stays
local function pool_to_halve(backends, connect)
  local half, change = {}, host.waiter()
  for index = 1, #backends / 2 do half[index] = backends[index] end
  local pool = cueball.pool {
    resolver = function(sink)
      sink:set(backends)
      change:wait()
      sink:set(half)
    end,
    connect = connect,
    max_connections = #backends,
    rebalance_delay_ms = REBALANCE_DELAY_MS,
  }
  return pool, change, half
end

local function one_round(backends)
  local bare_began = host.now()
  local sockets, is_connected = connect_bare(backends)
  milliseconds_until(is_connected)
  local bare_ms = (host.now() - bare_began) / 1e6
  for _, socket in ipairs(sockets) do socket:close() end
  cueball.sleep(50)

  local began = host.now()
  local pool, change, half = pool_to_halve(backends, cueball.connection.tcp {})
  milliseconds_until(function() return pool:stats().idle == #backends end)
  local start_ms = (host.now() - began) / 1e6
  assert(is_even(pool, #backends, 1))
  local memory = pool:stats().memory_bytes
  change:wake()
  local remove_ms = milliseconds_until(function() return is_even(pool, #half, 2) end)
  pool:stop()
  cueball.sleep(50)
  return bare_ms, start_ms, remove_ms, memory
end

-- Processor time of the same without sockets: until all are there; when half of the backends are removed, until it is planned for; and
-- from then on until the others have two connections each.
local function one_round_without_sockets(backends)
  local began = os.clock()
  local pool, change, half = pool_to_halve(backends, function() return {} end)
  while pool:stats().idle < #backends do cueball.sleep(0) end
  local started = os.clock()
  change:wake()
  cueball.sleep(REBALANCE_DELAY_MS / 2)
  local told = os.clock()
  cueball.sleep(REBALANCE_DELAY_MS)
  local ended = os.clock()
  assert(is_even(pool, #half, 2))
  pool:stop()
  return (started - began) * 1e3, (told - started) * 1e3, (ended - told) * 1e3
end

host.log_to(function() end)
cueball.run(function()
  measure.head(("TCP on loopback: %d backends, a connection each, medians of %d"):format(BACKENDS, ROUNDS))
  local backends = {}
  for index = 1, BACKENDS do backends[index] = listen() end
  local bare, start, remove, memory = {}, {}, {}, nil
  for round = 0, ROUNDS do -- 0: warm-up
    bare[round], start[round], remove[round], memory = one_round(backends)
  end
  measure.row("%-60s %8.1f ms", "the same sockets connected without a pool", measure.median(bare))
  measure.row("%-60s %8.1f ms", "from cueball.pool{} to all connected", measure.median(start))
  measure.row("%-60s %8.1f ms", ("half of the backends removed, to even again (%d ms of it delay)"):format(REBALANCE_DELAY_MS),
    measure.median(remove))
  local own_start, own_told, own_ended = {}, {}, {}
  for round = 1, ROUNDS do own_start[round], own_told[round], own_ended[round] = one_round_without_sockets(backends) end
  measure.row("%-60s %8.1f ms", "the pool's own processor time: to all connected", measure.median(own_start))
  measure.row("%-60s %8.1f ms", "likewise: told of the removal, and closing", measure.median(own_told))
  measure.row("%-60s %8.1f ms", "likewise: after the delay, to even again", measure.median(own_ended))
  measure.row("%-60s %8.0f bytes", "memory of the core for each connection", memory / BACKENDS)
end)
os.exit(0) -- the servers would go on
