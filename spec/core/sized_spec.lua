--- Structs that begin with struct_size: what is zero means the default, a user of an earlier version is served, one of a
-- later version as far as what it asks for is known.

local native = require "cueball.native"
local World = require "spec.support.core_world"

local ffi, lib = native.ffi, native.lib

--- A struct of a version to come: `more` bytes beyond what there is now.
local function longer(type, more)
  local size = ffi.sizeof(type)
  local room = ffi.new("uint64_t[?]", (size + more) / 8) -- aligned
  local struct = ffi.cast(type .. " *", room)
  struct.struct_size = size + more
  return struct, ffi.cast("uint8_t *", room) + size, room
end

local function options_text(options)
  local text = ffi.new "char[200]"
  return lib.cueball_options_check(options, text, 200), ffi.string(text)
end

describe("a struct with struct_size", function()
  it("has it first, wherever there is one", function()
    local sized = {}
    for _, one in ipairs(native.layout) do
      if one.member == "struct_size" then
        assert.equal(0, one.offset, one.type)
        sized[#sized + 1] = one.type
      end
    end
    table.sort(sized)
    assert.same({
      "cueball_backend_info", "cueball_backend_spec", "cueball_change", "cueball_claim_options", "cueball_native_call",
      "cueball_native_factory", "cueball_native_request", "cueball_native_resolver", "cueball_options", "cueball_preview",
      "cueball_slot_info", "cueball_stats", "cueball_threaded_backend",
      "cueball_threaded_claim_options", "cueball_threaded_holder", "cueball_threaded_options",
      "cueball_tracker_options", "cueball_tracker_stats",
    }, sized)
  end)

  it("may be zeroed: a backend has weight 1, a claim waits as long as the pool says", function()
    local world = World.new { claim_timeout_ms = 70 }
    local claim, grant = ffi.new "cueball_claim_options", ffi.new "cueball_grant"
    assert.equal(lib.CUEBALL_WAITING, lib.cueball_pool_claim(world.pool, world.now, claim, grant))
    world:input("time_advanced")
    assert.equal(70, world:deadline_ms())
    assert.equal("ok", world:input("backend_added", ffi.new("cueball_backend_spec", { key = "db1", address = "10.0.0.1" })))
    assert.equal(1, world:backends()[1].weight)
  end)

  it("has to be there", function()
    local world = World.new()
    for _, result in ipairs {
      world:input("backend_added", nil), world:input("backends_replaced", nil, 2), world:input("options_changed", nil),
    } do
      assert.equal("invalid", result)
    end
    assert.equal("ok", world:input("backends_replaced", nil, 0))
  end)

  it("may be of a later version, if nothing that is not known here is set", function()
    local world = World.new()
    local spec, beyond = longer("cueball_backend_spec", 16)
    spec.key, spec.address = "db1", "10.0.0.1"
    assert.equal("ok", world:input("backend_added", spec))
    beyond[15] = 1
    assert.equal("invalid", world:input("backend_added", spec))
    local claim, unknown = longer("cueball_claim_options", 8)
    unknown[0] = 1
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_pool_claim(world.pool, world.now, claim, ffi.new "cueball_grant"))
  end)

  it("may not be shorter than its first version", function()
    local world = World.new()
    assert.equal("invalid", world:input("backend_added", ffi.new("cueball_backend_spec", { struct_size = 8, key = "a", address = "b" })))
    local options = World.options()
    options.struct_size = 100
    local size = ffi.sizeof "cueball_options"
    local result, text = options_text(options)
    assert.equal(lib.CUEBALL_EINVAL, result)
    assert.equal(("struct_size must be 0, or at least %d without anything set beyond %d"):format(size, size), text)
    assert.equal("invalid", world:input("options_changed", options))
  end)

  it("is refused by name where zero is no default", function()
    local result, text = options_text(ffi.new "cueball_options")
    assert.equal(lib.CUEBALL_EINVAL, result)
    assert.matches("option 'max_connections' must be .*, not 0", text)
    local tracker, told = ffi.new "cueball_tracker_options", ffi.new "char[200]"
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tracker_options_check(tracker, told, 200))
    assert.equal("option 'domain' is needed", ffi.string(told))
    local made = ffi.new "cueball_pool *[1]"
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_pool_new(nil, lib.cueball_allocator_libc(), 1, 0, made))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_pool_new(World.options(), ffi.new "cueball_allocator", 1, 0, made))
  end)

  it("is read from a list by the size of the first", function()
    local world = World.new()
    local size = ffi.sizeof "cueball_backend_spec" + 16
    local room = ffi.new("uint64_t[?]", 2 * size / 8)
    for i, key in ipairs { "db1", "db2" } do
      local spec = ffi.cast("cueball_backend_spec *", ffi.cast("char *", room) + (i - 1) * size)
      spec.struct_size, spec.key, spec.address = size, key, key
    end
    assert.equal(lib.CUEBALL_OK, lib.cueball_pool_backends_replaced(world.pool, world.now, ffi.cast("cueball_backend_spec *", room), 2))
    assert.equal(2, #world:backends())
    ffi.cast("cueball_backend_spec *", ffi.cast("char *", room) + size).struct_size = 0
    assert.equal(lib.CUEBALL_EINVAL,
      lib.cueball_pool_backends_replaced(world.pool, world.now, ffi.cast("cueball_backend_spec *", room), 2))
  end)

  it("is filled in as far as it goes, and not beyond", function()
    local world = World.new()
    world:set { "db1" }
    local stats, beyond = longer("cueball_stats", 16)
    ffi.fill(beyond, 16, 0x55)
    lib.cueball_pool_stats(world.pool, stats)
    assert.equal(ffi.sizeof "cueball_stats" + 16, stats.struct_size)
    assert.equal(1, stats.backends)
    for i = 0, 15 do assert.equal(0x55, beyond[i]) end
    for _, size in ipairs { 0, ffi.sizeof "cueball_backend_info" } do
      local info = ffi.new("cueball_backend_info", { struct_size = size })
      assert.is_true(lib.cueball_pool_backend_at(world.pool, 0, info))
      assert.equal(size, info.struct_size)
      assert.equal("db1", ffi.string(info.key))
      assert.equal(1, info.success_rate)
    end
  end)

  it("gets its defaults as far as it goes", function()
    local options, beyond = longer("cueball_options", 16)
    ffi.fill(beyond, 16, 0x55)
    lib.cueball_options_init_sized(options, options.struct_size)
    assert.equal(lib.CUEBALL_OK, (options_text(options)))
    for i = 0, 15 do assert.equal(0, beyond[i]) end
  end)
end)
