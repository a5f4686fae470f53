--- Claims: who gets a connection, in which order, until when; and whose they are.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

--- A pool with `count` connections to db1 at rest; the trace shows what becomes of claims.
local function full(count, options)
  return World.full(count, options):forget "grant refuse release wait cancel gone"
end

describe("a claim", function()
  it("is granted at once while a connection rests, else waits, first come first served", function()
    local world = full(1)
    assert.equal("granted", world:claim "ann")
    for i, name in ipairs { "bob", "cid", "dan" } do
      assert.equal("waiting", world:claim(name))
      assert.equal(i - 1, world.grant.ahead)
    end
    for at, name in ipairs { "ann", "bob", "cid" } do
      world:at(at * 10, function() world:release(name) end)
    end
    world:advance(100)
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait cid: 1 ahead
      [   0] wait dan: 2 ahead
      [  10] release ann
      [  10] grant bob: db1/1
      [  20] release bob
      [  20] grant cid: db1/1
      [  30] release cid
      [  30] grant dan: db1/1]])
  end)

  it("is not overtaken by a newcomer, though the grant was not taken yet", function()
    local world = full(1)
    world:claim "ann"
    world:claim "bob"
    world.is_draining = false
    world:release "ann"
    assert.equal("waiting", world:claim "eve")
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] release ann
      [   0] wait eve: 0 ahead
      [   0] grant bob: db1/1]])
  end)

  it("is told how long it waited, and its user", function()
    local world = full(1)
    world:claim "ann"
    world:advance(5)
    world:claim "bob"
    world:advance(7.5)
    world:release "ann"
    assert.equal(7500000ULL, world.last.waited)
    assert.equal("bob", world.names[tonumber(world.last.user)])
    assert.equal(world.leases.bob.handle, world.last.lease)
    assert.equal(world.leases.bob.conn, world.last.conn)
    assert.equal(world:backends()[1].handle, world.last.backend)
  end)

  it("goes by the pool's own options if it has none", function()
    local world = full(1, { claim_timeout_ms = 20 })
    local grant = ffi.new "cueball_grant"
    assert.equal(0, lib.cueball_pool_claim(world.pool, world.now, nil, grant))
    assert.equal(1, lib.cueball_pool_claim(world.pool, world.now, nil, grant))
    world.is_draining = false
    world:advance(20)
    local action = ffi.new "cueball_action"
    assert.is_true(lib.cueball_pool_next_action(world.pool, action))
    assert.equal(lib.CUEBALL_ECLAIM_TIMEOUT, action.error)
    assert.equal(grant.claim, action.claim)
  end)
end)

describe("the time limit of a claim", function()
  it("bounds the whole wait", function()
    local world = full(1)
    world:claim "ann"
    world:claim("bob", { timeout_ms = 50 })
    world:claim("cid", { timeout_ms = 0.0000001 }) -- less than a nanosecond is one
    world:advance(49.999999)
    assert.is_truthy(world.claims.bob)
    assert.is_nil(world.claims.cid)
    world:advance(0.000001)
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait cid: 1 ahead
      [1e-06] refuse cid: claim_timeout
      [  50] refuse bob: claim_timeout]])
  end)

  it("holds though a connection comes back that instant", function()
    local world = full(1)
    world:claim "ann"
    world:claim("bob", { timeout_ms = 50 })
    world:at(50, function() world:release "ann" end)
    world:advance(50)
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [  50] release ann
      [  50] refuse bob: claim_timeout]])
    assert.equal(1, world:stats().idle)
  end)

  it("holds though one opens, is checked, or is freed by an owner that instant", function()
    local world = full(1)
    world.host.open = 50
    world:lose "db1/1"
    world:claim("ann", { timeout_ms = 50 })
    world:advance(50)
    assert.trace(world, [[
      [   0] wait ann: 0 ahead
      [  50] refuse ann: claim_timeout]])

    world = full(1)
    world:owner "o"
    world:claim("bob", { owner = "o" })
    world:claim("cid", { timeout_ms = 50 })
    world:at(50, function()
      world:owner_gone "o"
      world:input "time_advanced"
    end)
    world:advance(50)
    assert.trace(world, [[
      [   0] grant bob: db1/1
      [   0] wait cid: 0 ahead
      [  50] gone o
      [  50] refuse cid: claim_timeout]])
  end)

  it("holds though the grant of an owner that is gone is free again that instant", function()
    local world = full(1)
    world:owner "o"
    world:claim "ann"
    world:claim("bob", { owner = "o" })
    world:claim("cid", { timeout_ms = 50 })
    world:advance(40)
    world.is_draining = false
    world:release "ann"
    world:owner_gone "o"
    world:oversleep(10)
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait cid: 1 ahead
      [  40] release ann
      [  40] gone o
      [  50] refuse cid: claim_timeout]])
  end)

  it("of 0 means not to wait", function()
    local world = full(1)
    assert.equal("granted", world:claim("ann", { timeout_ms = 0 }))
    assert.equal("claim_timeout", world:claim("bob", { timeout_ms = 0 }))
    assert.equal(0, world:stats().waiting)
  end)

  it("that is not a number is refused, and changes nothing", function()
    local world = full(1)
    world:claim "ann"
    assert.equal("invalid", world:claim("bob", { timeout_ms = 0 / 0 }))
    assert.equal(1, world:stats().claims)
  end)
end)

describe("cancelling a claim", function()
  it("that waits takes it out of the queue", function()
    local world = full(1)
    for _, name in ipairs { "ann", "bob", "cid" } do
      world:claim(name)
    end
    local handle = world.claims.bob
    assert.equal("ok", world:cancel "bob")
    assert.equal("stale", world:input("claim_cancelled", handle))
    world:release "ann"
    assert.is_truthy(world.leases.cid)
  end)

  it("that was granted, and not told, passes the connection on", function()
    local world = full(1)
    for _, name in ipairs { "ann", "bob", "cid" } do
      world:claim(name)
    end
    world.is_draining = false
    world:release "ann"
    assert.equal("ok", world:cancel "bob")
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait cid: 1 ahead
      [   0] release ann
      [   0] cancel bob
      [   0] grant cid: db1/1]])
    local stats = world:stats()
    assert.same({ 3, 2, 1, 1 }, { stats.claims, stats.granted, stats.claims_cancelled, stats.released })
  end)

  it("that was granted, and not told, to nobody else: the connection rests", function()
    local world = full(1)
    world:claim "ann"
    world:claim "bob"
    world.is_draining = false
    world:release "ann"
    world:cancel "bob"
    assert.equal(1, world:stats().idle)
    assert.is_false(world:step())
  end)

  it("that was refused, and not told, is an end of it", function()
    local world = full(1)
    world:claim "ann"
    world:claim("bob", { timeout_ms = 10 })
    world.is_draining = false
    world:advance(10)
    assert.equal("ok", world:cancel "bob")
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [  10] cancel bob]])
    assert.same({ 0, 1 }, { world:stats().claim_timeouts, world:stats().claims_cancelled })
  end)

  it("that was answered is too late", function()
    local world = full(1)
    world:claim "ann"
    world:claim "bob"
    local handle = world.claims.bob
    world:release "ann"
    assert.equal("stale", world:input("claim_cancelled", handle))
    assert.is_truthy(world.leases.bob)
  end)
end)

describe("a claim that may not wait", function()
  it("is refused at once where max_waiters wait", function()
    local world = full(1, { max_waiters = 2 })
    world:claim "ann"
    world:claim "bob"
    world:claim "cid"
    assert.equal("overloaded", world:claim "dan")
    world:cancel "cid"
    assert.equal("waiting", world:claim "eve")
    world:change { max_waiters = 0 }
    assert.equal("overloaded", world:claim "fay")
    world:release "ann"
    assert.is_truthy(world.leases.bob)
  end)

  it("is refused at once where no backend is known, if it says so", function()
    local world = World.new { max_connections = 1 }
    assert.equal("no_backends", world:claim("ann", { error_on_empty = true }))
    assert.equal("waiting", world:claim "bob")
    world.host.open = "never"
    world:set { "db1" }
    assert.equal("waiting", world:claim("cid", { error_on_empty = true }))
  end)
end)

describe("the connection at rest that is claimed", function()
  local function use(balance)
    local world = full(3, { balance = balance })
    local order = {}
    for _ = 1, 6 do
      world:claim "ann"
      order[#order + 1] = world.leases.ann.label:sub(-1)
      world:release "ann"
    end
    return table.concat(order)
  end

  it("is the one that rested longest with fifo", function()
    assert.equal("123123", use "fifo")
  end)

  it("is the one that rested shortest with lifo", function()
    assert.equal("333333", use "lifo")
  end)

  it("changes with the option", function()
    local world = full(3)
    world:change { balance = "lifo" }
    world:claim "ann"
    assert.equal("db1/3", world.leases.ann.label)
  end)
end)

describe("a lease", function()
  it("ends once", function()
    for _, first in ipairs { "released", "closed", "failed" } do
      for _, second in ipairs { "released", "closed", "failed" } do
        local world = full(1)
        world:claim "ann"
        local handle = world.leases.ann.handle
        assert.equal("ok", world:input("lease_" .. first, handle))
        assert.equal("stale", world:input("lease_" .. second, handle))
        world:advance(200)
        world:claim "bob"
        assert.equal("stale", world:input("lease_" .. second, handle))
        assert.equal(1, world:stats().busy)
      end
    end
  end)

  it("cannot end before its claimer was told of it", function()
    local world = full(1)
    world:watch()
    world:claim "ann"
    world:claim "bob"
    world.is_draining = false
    world:release "ann"
    local events = world:take_events()
    local granted
    for _, event in ipairs(events) do
      granted = event.kind == "claim_granted" and event or granted
    end
    assert.equal("stale", world:input("lease_released", granted.lease))
    world:drain()
    assert.equal(granted.lease, world.leases.bob.handle)
    assert.equal("ok", world:release "bob")
  end)

  it("that is closed has its connection replaced at once", function()
    local world = full(1)
    world.shows = nil
    world:claim "ann"
    world:close "ann"
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] discard ann
      [   0] close db1/1
      [   0] closed db1/1
      [   0] open db1/1
      [   0] opened db1/1]])
  end)

  it("that failed has its connection replaced after a pause", function()
    local world = full(1, { ["recovery.connect.spread"] = 0 })
    world.shows = nil
    world:claim "ann"
    world:fail "ann"
    world:advance(1000)
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] blame ann
      [   0] close db1/1
      [   0] closed db1/1
      [ 100] open db1/1, attempt 2
      [ 100] opened db1/1]])
  end)

  it("on a connection that is lost lasts until it is given back", function()
    local world = full(1)
    world.shows = nil
    world:claim "ann"
    world:advance(500)
    world:lose "db1/1"
    assert.equal(1, world:stats().busy)
    world:advance(500)
    world:release "ann"
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [ 500] lost db1/1
      [1000] release ann
      [1000] close db1/1
      [1000] closed db1/1
      [1000] open db1/1
      [1000] opened db1/1]])
  end)
end)

describe("an owner that is gone", function()
  it("takes its claims and leases with it, at the next input", function()
    local world = full(2)
    world.shows = nil
    world:owner "o"
    world:claim("ann", { owner = "o" })
    world:claim "bob"
    world:claim("cid", { owner = "o" })
    world:claim "dan"
    world:claim("eve", { owner = "o" })
    local lease, claim = world.leases.ann.handle, world.claims.cid
    world:owner_gone "o"
    assert.equal(2, world:stats().busy)
    world:advance(0)
    assert.equal("stale", world:input("lease_released", lease))
    assert.equal("stale", world:input("claim_cancelled", claim))
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] grant bob: db1/2
      [   0] wait cid: 0 ahead
      [   0] wait dan: 1 ahead
      [   0] wait eve: 2 ahead
      [   0] gone o
      [   0] close db1/1
      [   0] closed db1/1
      [   0] open db1/1
      [   0] opened db1/1
      [   0] grant dan: db1/1]])
    local stats = world:stats()
    assert.same({ 1, 2, 0 }, { stats.leases_revoked, stats.claims_cancelled, stats.waiting })
  end)

  it("passes on, unharmed, the connection of a grant that was not told", function()
    local world = full(1)
    world.shows = nil
    world:owner "o"
    world:claim "ann"
    world:claim("bob", { owner = "o" })
    world:claim "cid"
    world.is_draining = false
    world:release "ann"
    world:owner_gone "o"
    world:input "time_advanced"
    world:drain()
    assert.trace(world, [[
      [   0] grant ann: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait cid: 1 ahead
      [   0] release ann
      [   0] gone o
      [   0] grant cid: db1/1]])
  end)

  it("may have had nothing, or no more", function()
    local world = full(1)
    local before = tonumber(lib.cueball_pool_memory(world.pool))
    world:owner "o"
    world:owner "p"
    world:claim("ann", { owner = "p" })
    world:release "ann"
    world:owner_gone "o"
    world:owner_gone "p"
    world:advance(0)
    assert.equal(before, tonumber(lib.cueball_pool_memory(world.pool)))
    assert.equal(1, world:stats().idle)
    assert.equal(0, world:stats().leases_revoked)
  end)

  it("may leave, and come again", function()
    local world = full(2)
    world.shows = nil
    world:owner "o"
    assert.is_false(world:owner_left "o")
    world:claim("ann", { owner = "o" })
    world:claim("bob", { owner = "o" })
    world:claim("cid", { owner = "o" })
    world:release "bob"
    assert.is_true(world:owner_left "o")
    world:claim("dan", { owner = "o" }) -- before anybody has looked: what was, ends first
    world:advance(0)
    assert.trace(world, [[
      [   0] left o
      [   0] grant ann: db1/1
      [   0] grant bob: db1/2
      [   0] wait cid: 0 ahead
      [   0] release bob
      [   0] grant cid: db1/2
      [   0] left o
      [   0] wait dan: 0 ahead
      [   0] close db1/1
      [   0] closed db1/1
      [   0] close db1/2
      [   0] closed db1/2
      [   0] open db1/1
      [   0] opened db1/1
      [   0] grant dan: db1/1
      [   0] open db1/2
      [   0] opened db1/2]])
    assert.same({ 2, 1 }, { world:stats().leases_revoked, world:stats().busy })
    world:owner_left "o"
    world:owner_gone "o" -- both before the next input
    world:advance(0)
    assert.same({ 3, 0 }, { world:stats().leases_revoked, world:stats().busy })
  end)

  it("leaves a stopping pool free to stop", function()
    local world = full(1)
    world:owner "o"
    world:claim("ann", { owner = "o" })
    world:stop()
    world:owner_gone "o"
    world:advance(0)
    assert.equal("stopped", world:state())
  end)
end)

describe("many claims", function()
  it("are answered in order, each once", function()
    local world = full(3)
    world.shows = "grant"
    for i = 1, 500 do
      world:claim("c" .. i)
    end
    while next(world.leases) do
      world:advance(1)
      world:release((next(world.leases)))
    end
    local order = {}
    for number in world:trace():gmatch "grant c(%d+)" do
      order[#order + 1] = tonumber(number)
      assert.equal(#order, order[#order])
    end
    assert.equal(500, #order)
    assert.equal(500, world:stats().granted)
    assert.equal(0, world:stats().waiting)
  end)
end)
