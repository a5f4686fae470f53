--- Leases that a claimer had one after the other without asking, told at once: cueball_pool_lease_repeated.
local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

--- One connection, leased by ann since now.
local function make(options)
  local world = World.full(1, options)
  world:claim "ann"
  return world
end

--- Tells of leases that lasted so many ms each (nil: untold), the last of which began so many ms ago.
local function repeated(world, spans, count, ago)
  local handle = ffi.new("cueball_handle[1]", world.leases.ann.handle)
  local told = spans and ffi.new("uint32_t[?]", #spans + 1)
  for index, ms in ipairs(spans or {}) do told[index - 1] = ms * 1e6 end
  local result = lib.cueball_pool_lease_repeated(world.pool, world.now, handle, world.now - World.ns(ago or 0), told, count or #spans)
  world:check()
  world.leases.ann.handle = handle[0]
  return World.error_name(result)
end

local function repeats_max(world)
  return lib.cueball_pool_lease_repeats_max(world.pool, world.now, world.leases.ann.handle)
end

describe("a lease that was repeated", function()
  it("counts as so many claims and releases, each as long as it was", function()
    local world = make()
    world:advance(100)
    assert.equal("ok", repeated(world, { 10, 20, 60 }, nil, 5))
    world:release "ann"
    local stats = world:stats()
    assert.same({ 4, 4, 4, 4, 0 }, { stats.claims, stats.granted, stats.granted_at_once, stats.released, stats.busy })
    assert.equal(60, stats.lease_ms_max)
    assert.is_true(math.abs(stats.lease_ms_p50 - 10) < 0.5, stats.lease_ms_p50)
    local least = lib.cueball_pool_quantile(world.pool, lib.CUEBALL_MEASURE_LEASE, 0)
    assert.is_true(math.abs(least - 5) < 0.25, least) -- the last one: since it began, not since the claim
  end)

  it("takes its share of the time if its span was not measured", function()
    local world = make()
    world:advance(100)
    assert.equal("ok", repeated(world, nil, 4, 20))
    world:release "ann"
    assert.equal(20, world:stats().lease_ms_max)
    assert.equal(5, world:stats().released)
  end)

  it("is another lease: the handle before is stale", function()
    local world = make()
    local before = world.leases.ann.handle
    assert.equal("ok", repeated(world, { 0 }))
    assert.equal("stale", world:input("lease_released", before))
    assert.equal("ok", repeated(world, {}))
    assert.equal("ok", world:release "ann")
    world.leases.ann = { handle = before }
    assert.equal("stale", repeated(world, { 0 }))
    assert.equal(0, repeats_max(world))
  end)

  it("uses its connection, which is good for max_uses", function()
    local world = make { max_uses = 4 }
    assert.equal(3, repeats_max(world))
    assert.equal("invalid", repeated(world, { 0, 0, 0, 0 }))
    assert.equal("ok", repeated(world, { 0, 0 }))
    assert.equal(1, repeats_max(world))
    assert.equal("ok", repeated(world, { 0 }))
    world:release "ann"
    assert.equal(1, tonumber(lib.cueball_pool_closed_by(world.pool, lib.CUEBALL_CAUSE_MAX_USES)))
  end)

  it("is proof that the backend works", function()
    local function dead_after(is_repeated)
      local world = World.calm({ attempts = 1, delay_ms = 10 }, { max_connections = 1 })
      world:set { "db1" }
      world:claim "ann"
      if is_repeated then assert.equal("ok", repeated(world, { 1 })) end
      world:lose(world.leases.ann.label) -- a failed attempt, if nothing was proven
      world:close "ann"
      return world:stats().dead_backends
    end
    assert.equal(1, dead_after(false))
    assert.equal(0, dead_after(true))
  end)

  it("tells p2c its mean and its peak", function()
    local world = make { balance = "p2c" }
    world:advance(1000)
    assert.equal("ok", repeated(world, { 10, 30, 20 }, nil, 1))
    local info = ffi.new "cueball_backend_info"
    assert.equal(0, lib.cueball_pool_backend_info(world.pool, world.grant.backend, info))
    assert.is_true(info.latency_ms > 29 and info.latency_ms <= 30, info.latency_ms)
    world:release "ann"
  end)

  it("may be, unless its connection has to go, or leases are watched", function()
    local NONE = 2 ^ 32 - 1
    local world = make()
    assert.equal(NONE, repeats_max(world))
    world:watch(10, "lease_ended")
    assert.equal(0, repeats_max(world))
    lib.cueball_pool_watch(world.pool, 0, 1)
    assert.equal(NONE, repeats_max(world))
    world:went("ann", true)
    assert.equal(0, repeats_max(world))
    for _, ends in ipairs {
      function(w) w:stop() end, function(w) w:remove "db1" end, function(w) w:unfit(w.leases.ann.label, "worn") end,
      function(w) w:renew(nil, 0) end,
    } do
      local other = make { drain_timeout_ms = 1000 }
      ends(other)
      assert.equal(0, repeats_max(other))
    end
  end)
end)

describe("a lease whose claimer is gone", function()
  it("is revoked, as if its owner were", function()
    local world = make()
    assert.equal("ok", world:input("lease_revoked", world.leases.ann.handle))
    assert.equal(1, world:stats().leases_revoked)
    assert.equal(1, tonumber(lib.cueball_pool_closed_by(world.pool, lib.CUEBALL_CAUSE_OWNER)))
    assert.equal("stale", world:release "ann")
  end)
end)

describe("what can be asked in constant time", function()
  it("is how many there are, a connection's state, and until when a claim waits", function()
    local world = make()
    local counts, info = ffi.new "cueball_counts", ffi.new "cueball_conn_info"
    local lease = world.leases.ann
    world:claim("bob", { timeout_ms = 50 })
    lib.cueball_pool_counts(world.pool, counts)
    assert.same({ 0, 1, 0, 1, 1, 0 },
      { counts.idle, counts.busy, counts.connecting, counts.waiting, counts.backends, counts.dead_backends })
    assert.equal(0, lib.cueball_pool_conn_info(world.pool, lease.conn, info))
    assert.same({ tonumber(lib.CUEBALL_SLOT_BUSY), lease.slot }, { info.state, info.slot })
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_pool_conn_info(world.pool, lease.conn + 2 ^ 21, info))
    local waits = world.claims.bob
    assert.equal(50, tonumber(lib.cueball_pool_claim_deadline(world.pool, waits) - world.now) / 1e6)
    world:advance(50)
    assert.equal(0, tonumber(lib.cueball_pool_claim_deadline(world.pool, waits)))
  end)
end)
