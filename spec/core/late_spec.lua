--- A host whose loop stood still tells late of what happened in time: it counts.  And what is done for ever pauses 1 ms at least.
local World = require "spec.support.core_world"
local Tracker = require "spec.support.tracker_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

-- One slot, whose limits are 100 ms.
local function make(options)
  return World.calm({ attempts = 3, timeout_ms = 100, delay_ms = 10 }, { max_connections = 1, check_timeout_ms = 100 }, options)
end

local function state(world)
  local stats = world:stats()
  for _, name in ipairs { "idle", "busy", "connecting", "backing_off", "checking", "closing" } do
    if stats[name] > 0 then return name end
  end
end

-- The host slept for so long, and no deadline on the way was met.
local function sleep_through(world, ms)
  world.now = world.now + ffi.cast("int64_t", ms * 1e6)
end

describe("a report that is late", function()
  it("of a connection that opened, counts", function()
    local world = make()
    world.host.open = "never"
    world:set { "db1" }
    sleep_through(world, 900)
    assert.equal("ok", world:input("conn_opened", world.conns["db1/1"].handle))
    assert.equal("idle", state(world))
    assert.equal(0, world:stats().open_timeouts)
  end)

  it("of a check and of a close, counts", function()
    local world = make { check_interval_ms = 1000 }
    world:set { "db1" }
    world.host.check = "never"
    world:advance(1100)
    assert.equal("checking", state(world))
    local conn = world.conns["db1/1"].handle
    sleep_through(world, 900)
    assert.equal("ok", world:input("conn_checked", conn, true))
    assert.equal("idle", state(world))
    world.host.close = "never"
    world:claim "ann"
    world:close "ann"
    assert.equal("closing", state(world))
    sleep_through(world, 900)
    assert.equal("ok", world:input("conn_closed", conn))
    assert.is_true(state(world) ~= "closing")
  end)

  it("is stale once the time was taken, and a limit that nothing was told of runs out", function()
    local world = make()
    world.host.open = "never"
    world:set { "db1" }
    local conn = world.conns["db1/1"].handle
    world:oversleep(900)
    assert.equal("stale", world:input("conn_opened", conn))
    world = make()
    world.host.open = "never"
    world:set { "db1" }
    sleep_through(world, 900)
    world:input("conn_checked", world.conns["db1/1"].handle, true)   -- of something else
    world:advance(0)
    assert.equal(1, world:stats().open_timeouts)
  end)

  it("of an answer to a question counts too", function()
    local world = Tracker.new { domain = "db.example", default_port = 80, families = 1 }
    world.zone["A db.example"] = "never"
    world:start():advance(1)
    world.now = world.now + 3600000 * 1000000ULL
    world:reply("A db.example", { "30 A 10.0.0.1" })
    world:advance(0)
    assert.equal("10.0.0.1:80 db.example", world:layout())
  end)
end)

describe("what is done for ever", function()
  it("is not done more often than each millisecond, however short the pauses", function()
    local world = World.new(World.recovery({ attempts = 2, timeout_ms = 100, delay_ms = 0, spread = 0 },
      { max_connections = 1, decoherence_interval_ms = 0, check_interval_ms = 0 }))
    world.host.open = "fail 0"
    world:set { "db1" }
    world:advance(100)
    local attempts = world:stats().attempts
    assert.is_true(attempts > 50 and attempts <= 102, attempts)
  end)

  it("is refused as an option of less", function()
    local text = ffi.new "char[256]"
    for _, name in ipairs { "check_interval_ms", "decoherence_interval_ms", "idle_timeout_ms", "max_lifetime_ms" } do
      local options = ffi.new "cueball_options"
      lib.cueball_options_init_sized(options, ffi.sizeof(options))
      for _, value in ipairs { 0, 1, 5.5 } do
        options[name] = value
        assert.equal(0, lib.cueball_options_check(options, text, 256))
      end
      options[name] = 0.999
      assert.equal(lib.CUEBALL_EINVAL, lib.cueball_options_check(options, text, 256))
      assert.equal(("option '%s' must be 0, or at least 1 (milliseconds), not 0.999"):format(name), ffi.string(text))
    end
  end)
end)
