--- The event stream: every kind of event, with the fields that count for it; and what becomes of those not read.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

local SLOT_STATES = { [0] = "free", "connecting", "backoff", "idle", "busy", "checking", "closing" }

local function make(options)
  options = options or {}
  options.max_connections = options.max_connections or 1
  options.check_interval_ms = options.check_interval_ms or 0
  options.decoherence_interval_ms = options.decoherence_interval_ms or 0
  return World.new(World.recovery({ attempts = 2, timeout_ms = 100, delay_ms = 10, spread = 0 }, options))
end

--- "connecting > idle: opened" for slots; "kind count" for the rest.
local function told(world)
  local lines = {}
  for _, event in ipairs(world:take_events()) do
    local line
    if event.kind == "slot_state" then
      line = ("%s > %s: %s"):format(SLOT_STATES[event.from], SLOT_STATES[event.to], event.cause)
    elseif event.kind == "pool_state" then
      line = ("pool %s > %s"):format(ffi.string(lib.cueball_pool_state_name(event.from)),
        ffi.string(lib.cueball_pool_state_name(event.to)))
    elseif event.kind == "claim_refused" then
      line = event.kind .. " " .. event.error
    elseif event.kind == "lease_ended" then
      line = event.kind .. " " .. event.cause
    else
      line = event.kind .. (event.count > 0 and " " .. event.count or "")
    end
    lines[#lines + 1] = ("%g %s"):format(event.time, line)
  end
  return lines
end

describe("events", function()
  it("tell a pool's life", function()
    local world = make { max_connections = 1 }
    world:watch()
    world.host.open = 5
    world:add "db1"
    world:advance(105)
    world:claim "ann"
    world:claim("bob", { timeout_ms = 3 })
    world:claim "cid"
    world:advance(5)
    world:cancel "cid"
    world:release "ann"
    world:stop()
    assert.same({
      "0 backend_added",
      "0 planned 1",
      "0 free > connecting: plan",
      "5 pool starting > running",
      "5 connecting > idle: opened",
      "105 idle > busy: claim",
      "105 claim_granted",
      "105 claim_waiting",
      "105 claim_waiting 1",
      "108 claim_refused claim_timeout",
      "110 claim_cancelled 1",
      "110 lease_ended release",
      "110 busy > idle: release",
      "110 pool running > stopping",
      "110 idle > closing: stop",
      "110 closing > free: closed",
      "110 pool stopping > stopped",
    }, told(world))
  end)

  it("tell of a backend that changed, and of none that did not", function()
    local world = make()
    world:set { "db1", { "db2", weight = 2 } }
    world:watch(10, "backend_changed")
    world:set { "db1", { "db2", weight = 2 } }
    world:add("db1", { weight = 3 })
    world:set { { "db1", weight = 3, priority = 1 }, { "db2", weight = 2, name = "second" } }
    assert.same({ "0 backend_changed 3", "0 backend_changed 3", "0 backend_changed 2" }, told(world))
    world:add("db1", { weight = 3, priority = 1 })
    assert.same({}, told(world))
  end)

  it("tell why a slot changed", function()
    local world = make { check_interval_ms = 1000, check_timeout_ms = 10, proven_after_ms = 1 }
    world:set { "db1" }
    world:watch(1000, "slot_state")
    local function follows(expected, fn)
      fn()
      local lines = told(world)
      for i, line in ipairs(lines) do
        lines[i] = line:match "^%S+ (.*)$"
      end
      assert.same(expected, lines)
    end
    follows({ "idle > closing: lost", "closing > backoff: closed" }, function() world:lose "db1/1" end)
    world.host.open = "fail"
    follows({ "backoff > connecting: delay", "connecting > backoff: failed" }, function() world:advance(10) end)
    world.host.open = "never"
    follows({ "backoff > connecting: delay", "connecting > backoff: timeout", "backoff > connecting: delay" },
      function() world:advance(240) end)
    follows({ "connecting > idle: opened" }, function() world:input("conn_opened", world.conns["db1/1"].handle) end)
    follows({ "idle > checking: check", "checking > idle: check" }, function() world:advance(1100) end)
    world.host.open, world.host.check = 0, "fail"
    follows({ "idle > checking: check", "checking > closing: unfit", "closing > connecting: closed", "connecting > idle: opened" },
      function() world:advance(1100) end)
    world.host.check, world.host.close = "never", "never"
    follows({ "idle > checking: check", "checking > closing: timeout", "closing > connecting: timeout", "connecting > idle: opened" },
      function() world:advance(1250) end)
    world.host.close = 0
    world:change { check_interval_ms = 0, idle_timeout_ms = 500 }
    follows({ "idle > closing: idle", "closing > connecting: closed", "connecting > idle: opened" }, function() world:advance(500) end)
    world:change { idle_timeout_ms = 0, max_lifetime_ms = 700 }
    world:claim "ann"
    follows({ "idle > busy: claim", "busy > closing: close", "closing > connecting: closed", "connecting > idle: opened" },
      function() world:close "ann" end)
    follows({ "idle > closing: lifetime", "closing > connecting: closed", "connecting > idle: opened" },
      function() world:advance(770) end)
    world:owner "o"
    world:claim("bob", { owner = "o" })
    world:owner_gone "o"
    follows({ "idle > busy: claim", "busy > closing: owner", "closing > connecting: closed", "connecting > idle: opened" },
      function() world:advance(0) end)
    world:claim "cid"
    follows({ "idle > busy: claim", "busy > closing: fail", "closing > backoff: closed", "backoff > connecting: delay",
      "connecting > idle: opened" }, function()
      world:fail "cid"
      world:advance(10)
    end)
    follows({ "idle > closing: removed", "closing > free: closed" }, function() world:remove "db1" end)
  end)

  it("tell of deaths, revivals, resolvers, shuffles, options, removals", function()
    local world = make { max_connections = 2, decoherence_interval_ms = 100, proven_after_ms = 1 }
    world:set { "db1" }
    world:claim "ann"
    world:watch(1000, "backend_dead backend_revived resolver_failed resolver_recovered shuffled options_changed backend_removed")
    world:advance(100)
    world:release "ann"
    world:input "resolver_failed"
    world:input "resolver_failed"
    world:input "resolver_recovered"
    world:change { decoherence_interval_ms = 0 }
    world.host.open = "fail"
    world:lose "db1/1"
    world:lose "db1/2"
    world:advance(20)
    world.host.open = 0
    world:advance(20)
    world:remove "db1"
    assert.same({ "100 shuffled 1", "100 resolver_failed", "100 resolver_recovered", "100 options_changed", "110 backend_dead 2",
      "131 backend_revived", "140 backend_removed" }, told(world))
  end)

  it("carry handles that can be used", function()
    local world = make()
    world:watch()
    world:set { "db1" }
    world:claim "ann"
    world:claim "bob"
    local handle = world.claims.bob
    world:release "ann"
    local by_kind = {}
    for _, event in ipairs(world:take_events()) do
      by_kind[event.kind] = event -- the last of a kind
    end
    assert.equal(world:backends()[1].handle, by_kind.backend_added.backend)
    assert.equal(handle, by_kind.claim_waiting.claim)
    local granted = by_kind.claim_granted
    assert.same({ handle, world.leases.bob.handle, world.leases.bob.conn, world:backends()[1].handle, 2, 0 },
      { granted.claim, granted.lease, granted.conn, granted.backend, granted.user, granted.slot })
    assert.equal("bob", world.names[granted.user])
    assert.equal(world.leases.bob.conn, by_kind.slot_state.conn)
    assert.is_true(by_kind.lease_ended.lease ~= world.leases.bob.handle)
  end)

  it("tell of a claim granted at once, or refused at once, with no handle", function()
    local world = make()
    world:set { "db1" }
    world:watch(100, "claim_granted claim_refused")
    world:claim "ann"
    world:claim("bob", { timeout_ms = 0 })
    local events = world:take_events()
    assert.same({ "claim_granted", 0ULL, 1 }, { events[1].kind, events[1].claim, events[1].user })
    assert.same({ "claim_refused", 0ULL, 2, "claim_timeout" }, { events[2].kind, events[2].claim, events[2].user, events[2].error })
  end)

  it("that are not read in time are overwritten, the oldest first, and counted", function()
    local world = make()
    world:set { "db1" }
    world:watch(3, "claim_refused")
    world:claim "ann"
    for i = 1, 10 do
      world:claim("c" .. i, { timeout_ms = 0 })
    end
    assert.equal(3, lib.cueball_pool_outlook(world.pool).events)
    local events = world:take_events()
    assert.same({ 3, 9, 10, 11 }, { #events, events[1].user, events[2].user, events[3].user })
    assert.same({ 7, 0, 0 }, { events[1].missed, events[2].missed, events[3].missed })
    world:claim("d", { timeout_ms = 0 })
    assert.equal(0, world:take_events()[1].missed)
    assert.equal(0, lib.cueball_pool_outlook(world.pool).events)
  end)

  it("are of the kinds asked for only, and can be turned off", function()
    local world = make()
    world:watch(10, "planned")
    world:set { "db1" }
    world:claim "ann"
    assert.same({ "0 planned 1" }, told(world))
    world:watch(10)
    world:release "ann"
    assert.equal("ok", World.error_name(lib.cueball_pool_watch(world.pool, 0, 0)))
    assert.same({}, told(world))
    world:claim "bob"
    assert.same({}, told(world))
  end)

  it("are kept in a ring of 1 to 2^20", function()
    local world = make()
    assert.equal("invalid", world:watch(0))
    assert.equal("invalid", world:watch(2 ^ 20 + 1))
    assert.equal("ok", world:watch(2 ^ 20))
    assert.equal("ok", world:watch(1))
  end)

  it("have names, as all that is counted has", function()
    for kind = 0, tonumber(lib.CUEBALL_EVENT_LAST) do
      assert.is_true(ffi.string(lib.cueball_event_name(kind)) ~= "unknown")
    end
    for cause = 0, tonumber(lib.CUEBALL_CAUSE_LAST) do
      assert.is_true(ffi.string(lib.cueball_cause_name(cause)) ~= "unknown")
    end
    assert.equal("waiting", ffi.string(lib.cueball_error_name(lib.CUEBALL_WAITING)))
    for error = -16, 0 do
      assert.is_true(ffi.string(lib.cueball_error_name(error)) ~= "unknown")
      assert.is_true(#ffi.string(lib.cueball_error_message(error)) > 5)
      assert.is_nil(ffi.string(lib.cueball_error_message(error)):match "%.$")
    end
    for state = 0, 4 do
      assert.is_true(ffi.string(lib.cueball_pool_state_name(state)) ~= "unknown")
    end
    for state, name in pairs(SLOT_STATES) do
      assert.equal(name, ffi.string(lib.cueball_slot_state_name(state)))
    end
    for _, name in ipairs { "event_name", "cause_name", "error_name", "pool_state_name", "slot_state_name" } do
      for _, number in ipairs { -17, 28, 1000, -2147483648, 2147483647 } do
        assert.equal("unknown", ffi.string(lib["cueball_" .. name](number)))
      end
    end
  end)
end)
