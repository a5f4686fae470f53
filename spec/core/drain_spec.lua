--- A drained backend has no connection until it is restored.

local World = require "spec.support.core_world"
local native = require "cueball.native"

local ffi, lib = native.ffi, native.lib

local function pool(backends, options)
  local world = World.calm({ attempts = 2, delay_ms = 10, max_delay_ms = 10 }, { max_connections = 6, rebalance_delay_ms = 0 }, options)
  world.shows = ""
  world:set(backends)
  world:advance(1)
  return world
end

describe("a drained backend", function()
  it("loses what rests at once, what is leased when it comes back, and others have its part", function()
    local world = pool { "db1", "db2" }
    for number = 1, 6 do world:claim("c" .. number) end
    local of_db1
    for name, lease in pairs(world.leases) do
      if lease.label:find "^db1" then of_db1 = of_db1 or name else world:release(name) end
    end
    world:forget "close open grant release"
    assert.equal("ok", world:input("backend_drained", "db1"))
    world:advance(1)
    assert.equal("db1 3 drained, db2 3", world:layout()) -- the ceiling holds while its leases are out
    world:release(of_db1)
    world:advance(1)
    assert.equal("db1 2 drained, db2 4", world:layout())
    for name, lease in pairs(world.leases) do
      if lease.label:find "^db1" then world:release(name) end
    end
    world:advance(1)
    assert.equal("db1 0 drained, db2 6", world:layout())
    for number = 11, 16 do assert.matches("^db2", world:claim("c" .. number) == "granted" and world.leases["c" .. number].label) end
    assert.equal(3, tonumber(lib.cueball_pool_closed_by(world.pool, lib.CUEBALL_CAUSE_DRAIN)))
  end)

  it("has its share again when it is restored", function()
    local world = pool { "db1", "db2" }
    world:input("backend_drained", "db1")
    world:advance(1)
    assert.equal("db1 0 drained, db2 6", world:layout())
    assert.equal(1, world:stats().drained_backends)
    world:input("backend_restored", "db1")
    world:advance(1)
    assert.equal("db1 3, db2 3", world:layout())
    assert.equal(0, world:stats().drained_backends)
  end)

  it("keeps a lease's connection that comes back after it was restored", function()
    local world = pool({ "db1" }, { max_connections = 1 })
    world:claim "alice"
    world:input("backend_drained", "db1")
    world:input("backend_restored", "db1")
    world:forget "close open release"
    world:release "alice"
    assert.trace(world, "[   1] release alice")
  end)

  it("gets it in steps, with slow_start_ms", function()
    local world = pool({ "db1", "db2" }, { slow_start_ms = 1000 })
    world:advance(2000)
    world:input("backend_drained", "db1")
    world:advance(1)
    world:input("backend_restored", "db1")
    world:advance(1)
    assert.equal("db1 0, db2 6", world:layout())
    world:advance(500)
    assert.equal("db1 2, db2 4", world:layout())
    world:advance(600)
    assert.equal("db1 3, db2 3", world:layout())
  end)

  it("is emptied whatever max_churn_rate is", function()
    local world = pool({ "db1" }, { max_churn_rate = 1000 })
    world:advance(1000)
    assert.equal("db1 6", world:layout())
    world:change { max_churn_rate = 1 }
    world:input("backend_drained", "db1")
    world:advance(1)
    assert.equal("db1 0 drained", world:layout())
  end)

  it("has its attempts given up, its checks too, and is not tried while it is dead", function()
    local world = pool({ "db1", "db2" }, { check_interval_ms = 5, has_check = true })
    world.host.db1 = { open = "never", check = "never" }
    world:advance(6)
    assert.matches("db1 3", world:layout())
    world:input("backend_drained", "db1")
    assert.matches("db1 0 drained", world:layout())
    world:input("backend_restored", "db1")
    world:advance(1)
    assert.matches("db1 [23]", world:layout())
    world:forget "open"
    world:input("backend_drained", "db1")
    assert.matches("db1 0 drained", world:layout())
    world.host.db1 = { open = "fail" }
    world:input("backend_restored", "db1")
    world:advance(100)
    assert.matches("db1 1 dead", world:layout())
    world:input("backend_drained", "db1")
    assert.matches("db1 0 drained", world:layout())
    world:forget "open"
    world:advance(1000)
    assert.not_matches("db1", world:trace())
    assert.equal("running", world:state())
  end)

  it("may be gone while it is ejected", function()
    local world = pool({ "db1", "db2" }, { ["outlier.consecutive"] = 1, ["outlier.ejection_ms"] = 1000,
      ["outlier.interval_ms"] = 1000, ["outlier.max_ejected"] = 1 })
    world:claim "alice"
    local key = world.leases.alice.label:match "^db%d"
    world:fail "alice"
    world:advance(1)
    assert.equal(1, world:stats().ejected_backends)
    world:input("backend_drained", key)
    assert.equal(0, world:stats().ejected_backends)
    world:advance(2000)
    assert.matches(key .. " 0 drained", world:layout())
  end)

  it("is not drained any more when it was removed and is added anew, or elsewhere", function()
    local world = pool { "db1", "db2" }
    world:input("backend_drained", "db1")
    world:remove "db1"
    world:add "db1"
    world:advance(1)
    assert.equal("db1 3, db2 3", world:layout())
    world:input("backend_drained", "db1")
    world:add("db1", { weight = 2 })
    assert.matches("db1 0 drained", world:layout())
    world:add("db1", { address = "10.0.0.77" })
    world:advance(1)
    assert.equal("db1 3, db2 3", world:layout())
  end)

  it("leaves what its preferred ones have to those of the next priority", function()
    local world = pool { { "db1", priority = 1 }, { "db2", priority = 2 } }
    assert.equal("db1 6, db2 0", world:layout())
    world:input("backend_drained", "db1")
    world:advance(1)
    assert.equal("db1 0 drained, db2 6", world:layout())
  end)

  it("is told as events", function()
    local world = pool { "db1" }
    world:watch(100, "backend_drained backend_restored")
    world:claim "alice"
    world:input("backend_drained", "db1")
    world:input("backend_drained", "db1")
    world:input("backend_restored", "db1")
    world:input("backend_restored", "db1")
    local events = world:take_events()
    assert.equal(2, #events)
    assert.same({ "backend_drained", 1, "backend_restored" }, { events[1].kind, tonumber(events[1].count), events[2].kind })
  end)

  it("has to be known", function()
    local world = pool { "db1" }
    assert.equal("not_found", world:input("backend_drained", "db2"))
    assert.equal("not_found", world:input("backend_restored", "db2"))
    assert.equal("not_found", world:input("backend_drained", nil))
  end)
end)

describe("a pool all of whose backends are drained", function()
  it("is like one that knows none", function()
    local world = pool { "db1", "db2" }
    world:input("backend_drained", "db1")
    world:input("backend_drained", "db2")
    world:forget "grant"
    assert.equal("running", world:state())
    assert.equal("no_backends", world:claim("alice", { error_on_empty = true }))
    assert.equal("waiting", world:claim "bob")
    world:advance(10)
    local waits = ffi.new "cueball_wait[5]"
    assert.equal(1, lib.cueball_pool_explain(world.pool, World.ns(1), world.now, waits, 5))
    assert.equal("drained", ffi.string(lib.cueball_reason_name(waits[0].reason)))
    world:input("backend_restored", "db2")
    world:advance(1)
    assert.matches("grant bob: db2", world:trace())
  end)

  it("has not failed: of those in use none is dead", function()
    local world = pool { "db1", "db2" }
    world.host.db1 = { open = "fail" }
    for number = 1, 3 do world:lose("db1/" .. number) end
    world:advance(100)
    assert.equal("running", world:state())
    world:input("backend_drained", "db2")
    assert.equal("failed", world:state())
    world:input("backend_drained", "db1")
    assert.equal("starting", world:state())
  end)
end)

describe("a set", function()
  it("keeps the last connection of a drained backend until another is open", function()
    local world = World.new { max_connections = 1, spares = 1, is_set = true, rebalance_delay_ms = 0 }
    world:set { "db1", "db2" }
    world:advance(1)
    world:claim("first", { timeout_ms = 100000 })
    world:claim("second", { timeout_ms = 100000 })
    world:advance(1)
    local key = world.leases.first.label:match "^db%d"
    world.host.open = 50
    world:forget "open grant recall discard close"
    world.recalled = function(name) world:at(world:time() + 5, function() world:close(name) end) end
    world:input("backend_drained", key)
    world:advance(100)
    local other = key == "db1" and "db2" or "db1"
    assert.trace(world, ([[
      [   2] open %s/1
      [  52] grant second: %s/1
      [  52] recall first: drain
      [  57] discard first
      [  57] close %s/1]]):format(other, other, key))
  end)
end)

describe("a lease that is killed", function()
  it("is over at once, and its connection closes", function()
    local world = World.full(1)
    world.shows = "grant wait close open"
    world:claim "alice"
    world:claim "bob"
    assert.equal("ok", world:input("lease_killed", world.leases.alice.handle))
    assert.equal("stale", world:input("lease_released", world.leases.alice.handle))
    assert.equal("stale", world:input("lease_killed", world.leases.alice.handle))
    assert.trace(world, [[
      [   0] grant alice: db1/1
      [   0] wait bob: 0 ahead
      [   0] close db1/1
      [   0] open db1/1
      [   0] grant bob: db1/1]])
    assert.equal(1, world:stats().leases_revoked)
    assert.equal(1, tonumber(lib.cueball_pool_closed_by(world.pool, lib.CUEBALL_CAUSE_KILLED)))
  end)
end)

describe("a slot", function()
  it("can be asked what it does", function()
    local world = pool({ "db1" }, { max_connections = 3 })
    world:claim "alice"
    world:advance(5)
    local info, states = ffi.new "cueball_slot_info", {}
    info.struct_size = ffi.sizeof(info)
    for index = 0, 2 do
      assert.is_true(lib.cueball_pool_slot_at(world.pool, index, info))
      local state = ffi.string(lib.cueball_slot_state_name(info.state))
      states[#states + 1] = ("%s %d %d"):format(state, info.uses, tonumber(world.now - info.since) / 1e6)
      assert.equal(state == "busy" and world.leases.alice.handle or 0ULL, info.lease)
    end
    table.sort(states)
    assert.same({ "busy 1 5", "idle 0 6", "idle 0 6" }, states)
    assert.is_false(lib.cueball_pool_slot_at(world.pool, 3, info))
  end)
end)
