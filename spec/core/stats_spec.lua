--- The numbers: every counter by what moves it, quantiles against the true ones, and that the accounts balance.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local lib = native.lib

--- One connection, two by default; nothing by chance.
local function make(options)
  options = options or {}
  options.max_connections = options.max_connections or 2
  options.check_interval_ms = options.check_interval_ms or 0
  options.decoherence_interval_ms = options.decoherence_interval_ms or 0
  local world = World.new(World.recovery({ attempts = 2, timeout_ms = 100, delay_ms = 10, spread = 0 }, options))
  world.shows = "nothing"
  world.host.close = 1
  world:set { "db1" }
  return world
end

--- What changed between two statistics, as { name = difference }; quantiles are left out.
local function difference(before, after)
  local changes = {}
  for name, value in pairs(after) do
    if value ~= before[name] and not name:find "_ms_" then
      changes[name] = value - before[name]
    end
  end
  return changes
end

describe("statistics", function()
  local world

  --- What fn changes in them.
  local function changed(fn)
    local before = world:stats()
    fn()
    return difference(before, world:stats())
  end

  before_each(function()
    world = make()
  end)

  it("count connections by state", function()
    assert.same({ 2, 2, 1 }, { world:stats().total, world:stats().idle, world:stats().backends })
    assert.same({ claims = 1, granted = 1, granted_at_once = 1, busy = 1, idle = -1 }, changed(function() world:claim "ann" end))
    assert.same({ released = 1, busy = -1, idle = 1 }, changed(function() world:release "ann" end))
  end)

  it("count leases by their ends", function()
    world:claim "ann"
    assert.same({ leases_closed = 1, busy = -1, closing = 1, closed = 1 }, changed(function() world:close "ann" end))
    assert.same({ closing = -1, idle = 1, attempts = 1, opened = 1 }, changed(function() world:advance(1) end))
    world:claim "bob"
    assert.same({ leases_failed = 1, busy = -1, closing = 1, closed = 1 }, changed(function() world:fail "bob" end))
    assert.same({ closing = -1, backing_off = 1 }, changed(function() world:advance(1) end))
    world:owner "o"
    world:claim("cid", { owner = "o" })
    assert.same({ leases_revoked = 1, busy = -1, closing = 1, closed = 1 }, changed(function()
      world:owner_gone "o"
      world:advance(0)
    end))
  end)

  it("count claims by their answers", function()
    world:claim "ann"
    world:claim "bob"
    assert.same({ claims = 1, waiting = 1, waiting_max = 1 }, changed(function() world:claim("cid", { timeout_ms = 5 }) end))
    assert.same({ claim_timeouts = 1, waiting = -1 }, changed(function() world:advance(5) end))
    assert.same({ claims = 1, claim_timeouts = 1 }, changed(function() world:claim("dan", { timeout_ms = 0 }) end))
    world:claim "eve"
    assert.same({ claims_cancelled = 1, waiting = -1 }, changed(function() world:cancel "eve" end))
    world:claim "fay"
    assert.same({ granted = 1, waiting = -1, released = 1 }, changed(function() world:release "ann" end))
    assert.same({ claims = 1, claims_refused = 1 }, changed(function()
      world:change { max_waiters = 0 }
      world:claim "gus"
    end))
    world:change { max_waiters = math.huge }
    world:claim "hal"
    world:claim "ida"
    assert.same({ claims_refused = 2, waiting = -2 }, changed(function() world:stop() end))
    assert.equal(2, world:stats().waiting_max)
  end)

  it("count attempts and their ends", function()
    world.host.open = "fail 2"
    assert.same({ lost = 1, idle = -1, closing = 1, closed = 1 }, changed(function() world:lose "db1/1" end))
    assert.same({ closing = -1, backing_off = 1 }, changed(function() world:advance(1) end))
    assert.same({ backing_off = -1, connecting = 1, attempts = 1 }, changed(function() world:advance(9) end))
    -- by the second failure it is known what the backend takes: that is planned for
    assert.same({ connecting = -1, backing_off = 1, open_failures = 1, plans = 1 }, changed(function() world:advance(2) end))
    world.host.open = "never"
    world:advance(20)
    assert.same({ open_timeouts = 1, connecting = -1, backing_off = 1 }, changed(function() world:advance(200) end))
  end)

  it("tell how long connecting took, and for what connections were closed", function()
    world = make { max_connections = 3 }
    world.host.open = 40
    world:lose "db1/1"
    world:advance(200)
    local stats = world:stats()
    assert.is_true(stats.create_ms_max == 40, stats.create_ms_max)
    assert.is_true(stats.create_ms_p50 < 1, "the first ones took no time")
    world:claim "ann"
    world:close "ann"
    world:claim "bob"
    world:fail "bob"
    local function closed_by(cause) return tonumber(lib.cueball_pool_closed_by(world.pool, lib["CUEBALL_CAUSE_" .. cause])) end
    assert.same({ 1, 1, 1, 0 }, { closed_by "LOST", closed_by "CLOSE", closed_by "FAIL", closed_by "IDLE" })
    assert.equal(3, world:stats().closed)
    assert.equal(0, tonumber(lib.cueball_pool_closed_by(world.pool, -1)))
    assert.equal(0, tonumber(lib.cueball_pool_closed_by(world.pool, 1000)))
  end)

  it("count deaths and plans", function()
    world.host.open = "fail"
    world:lose "db1/1"
    world:lose "db1/2"
    world:advance(5)
    assert.same({ backend_deaths = 1, dead_backends = 1, plans = 1, total = -1, attempts = 2, open_failures = 2, backing_off = -1 },
      changed(function() world:advance(5) end))
  end)

  it("count checks and shuffles", function()
    world = make { check_interval_ms = 100, decoherence_interval_ms = 1000, proven_after_ms = 1 }
    world.host.check = 1
    assert.same({ checks = 2 }, changed(function() world:advance(115) end))
    world.host.check = "never"
    world:change { check_timeout_ms = 10 }
    world:advance(130)
    assert.equal(2, world:stats().checks_failed)
    world.host.check = "fail"
    world:advance(130)
    assert.equal(4, world:stats().checks_failed)
    world.host.check = "never"
    world:change { check_timeout_ms = 1000 }
    world:advance(115)
    assert.equal(2, world:stats().checking)
    assert.equal(0, world:stats().shuffles)
    world:advance(1000)
    assert.equal(1, world:stats().shuffles)
  end)

  it("balance: claims are answered, cancelled or wait; leases end or last", function()
    local draw = 12345
    local function below(bound)
      draw = (draw * 1103515245 + 12345) % 2 ^ 31
      return math.floor(draw / 65536) % bound
    end
    world:change { max_connections = 5, max_waiters = 1, ["recovery.connect.attempts"] = 1000, ["recovery.initial.attempts"] = 1000 }
    world:advance(10)
    world.host.close = 3
    local number = 0
    for _ = 1, 5000 do
      local what = below(10)
      local name = next(world.leases)
      if what < 4 then
        number = number + 1
        world:claim("c" .. number, { timeout_ms = below(4) * 3 })
      elseif what == 4 and next(world.claims) then
        world:cancel((next(world.claims)))
      elseif what == 5 and name then
        world:close(name)
      elseif what == 6 and name then
        world:fail(name)
      elseif what < 9 and name then
        world:release(name)
      else
        world:advance(below(5))
      end
    end
    local stats = world:stats()
    assert.equal(stats.claims, stats.granted + stats.claim_timeouts + stats.claims_refused + stats.claims_cancelled + stats.waiting)
    assert.equal(stats.granted, stats.released + stats.leases_closed + stats.leases_failed + stats.leases_revoked + stats.busy)
    assert.equal(stats.attempts, stats.opened + stats.open_failures + stats.open_timeouts + stats.connecting)
    assert.equal(stats.opened, stats.closed + stats.idle + stats.busy + stats.checking)
    assert.equal(stats.total, stats.idle + stats.busy + stats.connecting + stats.backing_off + stats.checking + stats.closing)
    for _, name in ipairs { "granted_at_once", "claim_timeouts", "claims_refused", "claims_cancelled", "released", "leases_closed" } do
      assert.is_true(stats[name] > 30, name .. " " .. stats[name])
    end
  end)
end)

describe("quantiles", function()
  --- The true q-quantile of a sorted list.
  local function true_quantile(list, q)
    return list[math.max(1, math.ceil(q * #list))]
  end

  it("of lease times are within 5 %", function()
    local world = make { max_connections = 1 }
    local times = {}
    for i = 1, 2000 do
      -- Six orders of magnitude, most of them small.
      times[i] = 10 ^ (-3 + 6 * ((i * 0.618033988749895) % 1) ^ 2)
    end
    for _, ms in ipairs(times) do
      world:claim "ann"
      world:advance(ms)
      world:release "ann"
    end
    table.sort(times)
    for _, q in ipairs { 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1 } do
      local exact, told = true_quantile(times, q), lib.cueball_pool_quantile(world.pool, lib.CUEBALL_MEASURE_LEASE, q)
      assert.is_true(math.abs(told / exact - 1) < 0.05, ("q %g: %g, told %g"):format(q, exact, told))
    end
    local stats = world:stats()
    for name, q in pairs { lease_ms_p50 = 0.5, lease_ms_p90 = 0.9, lease_ms_p99 = 0.99, lease_ms_p999 = 0.999 } do
      assert.is_true(math.abs(stats[name] / true_quantile(times, q) - 1) < 0.05, name)
    end
    assert.is_true(math.abs(stats.lease_ms_max - times[#times]) < 1e-5)
    assert.equal(0, stats.wait_ms_p999)
  end)

  it("of waits count those that did not wait", function()
    local world = make { max_connections = 1 }
    -- 100 claims: 50 at once, 50 waited 1, 2, ... 50 ms.
    for i = 1, 50 do
      world:claim "ann"
      world:claim "bob"
      world:advance(i)
      world:release "ann"
      world:release "bob"
    end
    local function wait(q)
      return lib.cueball_pool_quantile(world.pool, lib.CUEBALL_MEASURE_WAIT, q)
    end
    assert.equal(0, wait(0.5))
    assert.is_true(math.abs(wait(0.51) - 1) < 0.05)
    assert.is_true(math.abs(wait(0.75) - 25) < 25 * 0.05)
    assert.is_true(math.abs(wait(0.9) - 40) < 40 * 0.05)
    assert.equal(50, wait(1))
    local stats = world:stats()
    assert.equal(0, stats.wait_ms_p50)
    assert.equal(50, stats.wait_ms_max)
    assert.is_true(math.abs(stats.wait_ms_p99 - 49) < 49 * 0.05)
  end)

  it("of nothing are 0, and take any q", function()
    local world = make()
    for _, measure in ipairs { lib.CUEBALL_MEASURE_WAIT, lib.CUEBALL_MEASURE_LEASE, lib.CUEBALL_MEASURE_CREATE, 3, -1 } do
      for _, q in ipairs { -1, 0, 0.5, 1, 2, 0 / 0, math.huge } do
        assert.equal(0, lib.cueball_pool_quantile(world.pool, measure, q))
      end
    end
    world:claim "ann"
    world:advance(10)
    world:release "ann"
    assert.equal(10, lib.cueball_pool_quantile(world.pool, lib.CUEBALL_MEASURE_LEASE, 2))
    assert.is_true(lib.cueball_pool_quantile(world.pool, lib.CUEBALL_MEASURE_LEASE, 0 / 0) > 9)
  end)

  it("and histograms of what is no measure are 0", function()
    local world = make()
    world:claim "ann"
    world:advance(10)
    world:release "ann"
    local ffi = native.ffi
    local bounds, counts, sum = ffi.new("double[2]", 1, 100), ffi.new("uint64_t[2]", 7, 7), ffi.new("double[1]", 7)
    assert.equal(1, tonumber(lib.cueball_pool_histogram(world.pool, lib.CUEBALL_MEASURE_LEASE, bounds, counts, 2, sum)))
    assert.same({ 0, 1, 10 }, { tonumber(counts[0]), tonumber(counts[1]), sum[0] })
    assert.equal(0, lib.cueball_pool_quantile(world.pool, 3, 0.5))
    assert.equal(0, tonumber(lib.cueball_pool_histogram(world.pool, 3, bounds, counts, 2, sum)))
    assert.same({ 0, 0, 0 }, { tonumber(counts[0]), tonumber(counts[1]), sum[0] })
  end)
end)
