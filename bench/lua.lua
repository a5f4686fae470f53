--- A claim and its release in Lua: nanoseconds and garbage for each pair, with a connection idle.
--   examples/run bench/lua.lua [PAIRS]
-- Medians of 5, after a warm-up; the libuv host with its real clock, which each pair reads twice. The goal of
-- try_claim + release: 100 ns, 0 bytes. Times are the processor's: nothing here waits, so that what others do on the
-- machine meanwhile is all that a wall clock would add.
-- Garbage is what collectgarbage("count") grows by while the collector stands still.
local cueball = require "cueball"
local measure = require "bench.support.measure"
local uv = require "luv"

local PAIRS = tonumber((...)) or 1000000
local CONNECTIONS = 10

local function bare_factory()
  return { connect = function() return {} end, close = function() end }
end

local function pool_of(factory, address)
  local pool = cueball.pool {
    resolver = cueball.resolver.static { address },
    connect = factory,
    max_connections = CONNECTIONS,
    check_interval_ms = 0,
  }
  while pool:stats().idle < CONNECTIONS do cueball.sleep(1) end
  return pool
end

local function by_try_claim(pool, count)
  for _ = 1, count do
    local lease = pool:try_claim()
    lease:release()
  end
end

local function by_claim(pool, count)
  for _ = 1, count do
    local lease = pool:claim()
    lease:release()
  end
end

local GIVEN = { timeout_ms = 100 }

local function by_claim_with_options(pool, count)
  for _ = 1, count do
    local lease = pool:claim(GIVEN)
    lease:release()
  end
end

local function by_clock(host, count)
  local sum = 0
  for _ = 1, count do sum = sum + host.now() + host.now() end
  return sum
end

local function nothing() end

local function by_with(pool, count)
  for _ = 1, count do pool:with(nothing) end
end

-- Each loop as it would be in a program that has only it: what LuaJIT compiled for the one before is forgotten.
local function row(name, pairs_wanted, pool, loop)
  jit.flush()
  loop(pool, math.floor(pairs_wanted / 10)) -- warm-up
  local ns, bytes = {}, {}
  for run = 1, 5 do
    collectgarbage()
    collectgarbage "stop"
    local before, began = collectgarbage "count", os.clock()
    loop(pool, pairs_wanted)
    ns[run] = (os.clock() - began) / pairs_wanted * 1e9
    bytes[run] = (collectgarbage "count" - before) * 1024 / pairs_wanted
    collectgarbage "restart"
  end
  measure.row("%-44s %8.1f ns  %8.2f bytes", name, measure.median(ns), measure.median(bytes))
end

local function echo_server()
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    client:read_start(function(_, data) if not data then client:close() end end)
  end)
  return server, "127.0.0.1:" .. server:getsockname().port
end

cueball.host().log_to(function() end)
cueball.run(function()
  measure.head(("Lua: claim + release, %d pairs, medians of 5"):format(PAIRS))
  row("the clock, read twice (part of all below)", PAIRS, cueball.host(), by_clock)
  local bare = pool_of(bare_factory(), "127.0.0.1:1")
  row("try_claim + release", PAIRS, bare, by_try_claim)
  row("claim() + release", PAIRS, bare, by_claim)
  row("claim{timeout_ms=} + release", PAIRS, bare, by_claim_with_options)
  row("with(fn)", PAIRS, bare, by_with)
  bare:stop()

  local server, address = echo_server()
  local tcp = pool_of(cueball.connection.tcp {}, address)
  row("TCP (broken, watch): try_claim + release", PAIRS, tcp, by_try_claim)
  row("TCP (broken, watch): claim() + release", PAIRS, tcp, by_claim)
  row("TCP (broken, watch): with(fn)", PAIRS, tcp, by_with)
  tcp:stop()
  server:close()
end)
