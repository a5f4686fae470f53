--- A day of a pool with 50 backends that come, go, slow down and die, with every feature on; simulated.
local native = require "cueball.native"
local worlds = require "bench.simulations.world"
local ffi, lib = native.ffi, native.lib

local day = {}

local BACKENDS, NAMES = 50, 60 -- of 60 there are, some 50 are known at a time

-- What a backend is like now: fit, or slow (20 times), or dead (attempts fail), or hanging (attempts never end), or failing
-- (connections open, leases fail).
local CONDITIONS = { "fit", "fit", "fit", "fit", "slow", "dead", "hanging", "failing" }

local function options_for(balance)
  return { max_connections = 200, spares = 20, balance = balance, queue = "codel", target_claim_delay_ms = 200, claim_timeout_ms = 1000,
    max_churn_rate = 5, slow_start_ms = 10000, check_interval_ms = 30000, max_lifetime_ms = 3600000, idle_timeout_ms = 600000,
    outlier = { consecutive = 5 }, recovery = { default = { jitter = "full", max_delay_ms = 30000 } } }
end

--- Options: hours (24), rate (claims per second on average, 20), balance ("p2c"), seed, check_s (60: how often the pool is checked).
-- → { events, claims, granted, refused, timed_out, checks, deaths, ejections, opened, changes }, all counts
function day.run(given)
  local hours, rate = given.hours or 24, given.rate or 20
  local world = worlds.new(given.seed or 1)
  local limit = hours * 3600000
  local condition = {}
  local pool = world:pool(options_for(given.balance or "p2c"), function(key)
    local is = condition[key]
    if is == "hanging" then return nil end
    return world:lognormal(2, 0.5), is ~= "dead"
  end, function(key) return 1, condition[key] ~= "dead" and condition[key] ~= "hanging" end)
  local conns, known = {}, {} -- conn -> key of those that are open
  pool.opened = function(conn, key) conns[conn] = key end
  pool.closed = function(conn) conns[conn] = nil end

  local events, checks, changes = 0, 0, 0
  assert(lib.cueball_pool_watch(pool.pool, bit.bnot(bit.lshift(3, 13)) % 2 ^ 32, 65536) == 0)
  local event = ffi.new "cueball_event"
  local function take_events()
    while lib.cueball_pool_next_event(pool.pool, event) do events = events + 1 + event.missed end
  end

  local function resolve() -- backends come and go: each of 60 is there with a probability of 5 in 6
    local list = {}
    for index = 1, NAMES do
      local key = "backend" .. index
      if known[key] == nil or world:uniform() < 0.05 then known[key] = world:uniform() < BACKENDS / NAMES end
      if known[key] then list[#list + 1] = { key, 1 + index % 3 } end
    end
    changes = changes + 1
    pool:backends(list)
    world:after(world:exponential(300000), resolve)
  end

  local function turn() -- the condition of one backend changes; those that die lose their connections
    local key = "backend" .. math.floor(world:uniform() * NAMES) + 1
    condition[key] = CONDITIONS[math.floor(world:uniform() * #CONDITIONS) + 1]
    changes = changes + 1
    if condition[key] == "dead" then
      local broken = {}
      for conn, of in pairs(conns) do
        if of == key then broken[#broken + 1] = conn end
      end
      table.sort(broken)
      for _, conn in ipairs(broken) do pool:lose(conn) end
    end
    world:after(world:exponential(20000), turn)
  end

  local function ended(lease)
    if lease.fails then pool:fail(lease.lease) else pool:release(lease.lease) end
  end
  local function granted(lease, key)
    if not lease then return end
    local is = condition[key]
    local takes = world:lognormal(30, 0.7) * (is == "slow" and 20 or 1)
    world:after(takes, ended, { lease = lease, fails = is == "failing" or is == "dead" or is == "hanging" })
  end
  local function arrive()
    pool:claim(granted)
    -- The load swings over the hours, and once an hour there are 100 times as many claims for some seconds.
    local now = rate * (1 + 0.8 * math.sin(world.now / 14400000 * 2 * math.pi))
    if world.now % 3600000 > 1800000 and world.now % 3600000 < 1803000 then now = rate * 100 end
    world:after(world:exponential(1000 / now), arrive)
  end
  local function look()
    take_events()
    pool:ensure()
    checks = checks + 1
    world:after((given.check_s or 60) * 1000, look)
  end
  resolve()
  turn()
  arrive()
  look()
  world:run(limit)
  take_events()
  local stats = pool:stats()
  return { events = events, claims = tonumber(stats.claims), granted = tonumber(stats.granted), refused = tonumber(stats.claims_refused),
    timed_out = tonumber(stats.claim_timeouts), checks = checks, deaths = tonumber(stats.backend_deaths), changes = changes,
    ejections = tonumber(stats.ejections), opened = tonumber(stats.opened), lost = tonumber(stats.lost) }
end

function day.print(row, seed)
  row "24 hours: 50 backends that come, go, slow down, fail, hang and die; spares, outliers, churn limit, slow start, codel"
  row("%-8s %9s %9s %9s %8s %8s %7s %9s %8s %7s %8s", "balance", "claims", "granted", "refused", "too late",
    "events", "deaths", "ejections",
    "opened", "checks", "seconds")
  for _, balance in ipairs { "p2c", "fifo" } do
    local began = os.clock()
    local found = day.run { balance = balance, seed = seed }
    row("%-8s %9d %9d %9d %8d %8d %7d %9d %8d %7d %8.1f", balance, found.claims, found.granted, found.refused, found.timed_out,
      found.events, found.deaths, found.ejections, found.opened, found.checks, os.clock() - began)
  end
end

return day
