--- What of a pool only grows and adds up: histograms, refusals, closes and deaths by their reason; and the waits of the last while.
local counts = require "cueball.pool.counts"
local cueball = require "cueball"
local native = require "cueball.native"
local sim_pool = require "spec.support.sim_pool"
local lib, ffi = native.lib, native.ffi

local town

local function open(options)
  town = sim_pool.new { servers = 2 }
  options.name, options.max_connections = "db", 2
  options.resolver = cueball.resolver.static { "10.0.0.1:7000", "10.0.0.2:7000" }
  town:open(options)
  town:advance(200)
end

-- All of a histogram: how many, and in which buckets they are.
local function histogram(made, measure)
  local all, where = made[measure .. "_above"] or 0, {}
  for index, bound in ipairs(counts.bounds_ms) do
    local count = made[("%s_le_%d"):format(measure, index)]
    if count then where[#where + 1] = ("%d <= %g"):format(count, bound) all = all + count end
  end
  return all, table.concat(where, ", ")
end

describe("the counts of a pool", function()
  after_each(function() town:stop() town = nil end)

  it("have waits, leases and attempts in buckets", function()
    open {}
    town:claim "alice"
    town:claim "bob"
    town:claim "cid"
    town:advance(40)
    town:release "alice"
    town:advance(400)
    town:release "bob"
    town:release "cid"
    local made, stats = town.pool:counts(), town.pool:stats()
    local all, where = histogram(made, "wait")
    assert.equal(stats.granted, all)
    assert.equal("2 <= 0.1, 1 <= 50", where)
    assert.is_true(math.abs(made.wait_sum_ms - 40) <= 40 / 32)
    all, where = histogram(made, "lease")
    assert.equal(3, all)
    assert.equal("1 <= 50, 2 <= 500", where)
    assert.is_true(math.abs(made.lease_sum_ms - (40 + 440 + 400)) < 1)
    assert.equal(stats.opened, (histogram(made, "create")))
  end)

  it("have refusals and closes by their reason, which add up to what is counted at all", function()
    open { max_waiters = 1 }
    town:claim "alice"
    town:claim "bob"
    town:claim("cid", { timeout_ms = 10 })
    town:claim "dora"
    assert.is_nil((town.pool:try_claim()))
    town:advance(20)
    town:close "alice"
    town:release "bob"
    town:advance(100)
    local made, stats = town.pool:counts(), town.pool:stats()
    assert.equal(stats.claim_timeouts, made.refused_by_claim_timeout)
    assert.equal(stats.claims_refused, made.refused_by_overloaded)
    assert.equal(1, made.closed_by_close)
    assert.is_nil(made.died_of_failed)
  end)

  it("have deaths by their cause", function()
    open {}
    town.world.servers["10.0.0.1:7000"]:kill()
    town:advance(20000)
    local made, stats, deaths = town.pool:counts(), town.pool:stats(), 0
    for name, count in pairs(made) do
      if name:find "^died_of_" then deaths = deaths + count end
    end
    assert.is_true(stats.backend_deaths >= 1)
    assert.equal(stats.backend_deaths, deaths)
  end)

  it("tell how long claims waited between two looks, and nothing of before", function()
    open {}
    town:claim "alice"
    town:claim "bob"
    town:claim "cid"
    town:advance(900)
    town:release "alice"
    town:advance(1)
    local first = town.pool:waits()
    assert.equal(0, counts.waited_between(first, town.pool:waits(), 0.99))
    town:claim "dora"
    town:advance(20)
    town:release "bob"
    town:advance(1)
    local waited = counts.waited_between(first, town.pool:waits(), 0.99)
    assert.is_true(waited >= 20 and waited <= 20 * 1.2, tostring(waited))
    town:release "cid"
    town:release "dora"
  end)
end)

describe("the histogram of the core", function()
  it("counts by the bounds that it is given, and what is none for nothing", function()
    open {}
    local core, bounds = town.pool.core, ffi.new("double[3]", { -1, 0, 1e9 })
    town:claim "alice"
    town:advance(5)
    town:release "alice"
    local room, sum = ffi.new "uint64_t[3]", ffi.new "double[1]"
    assert.equal(1, tonumber(core:histogram(lib.CUEBALL_MEASURE_WAIT, bounds, room, 3, sum)))
    assert.same({ 0, 1, 1 }, { tonumber(room[0]), tonumber(room[1]), tonumber(room[2]) })
    assert.equal(1, tonumber(core:histogram(lib.CUEBALL_MEASURE_LEASE, bounds, room, 3, sum)))
    assert.same({ 0, 0, 1, 5 }, { tonumber(room[0]), tonumber(room[1]), tonumber(room[2]), sum[0] })
    assert.equal(1, tonumber(core:histogram(lib.CUEBALL_MEASURE_LEASE, nil, nil, 0, sum)))
    for _, code in ipairs { 0, 5, -31, -32, -1000 } do assert.equal(0, tonumber(core:refused_by(code))) end
    assert.equal(0, tonumber(core:deaths_by(-1)))
    assert.equal(0, tonumber(core:deaths_by(1000)))
    town:stop()
  end)
end)
