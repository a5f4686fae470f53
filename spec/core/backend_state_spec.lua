--- Since when a backend is in its state, and the most slots that it ever had.

local World = require "spec.support.core_world"
local native = require "cueball.native"

local ffi, lib = native.ffi, native.lib

local DEFAULTS = {
  max_connections = 4, rebalance_delay_ms = 0, proven_after_ms = 1,
  ["outlier.consecutive"] = 1, ["outlier.interval_ms"] = 10000, ["outlier.ejection_ms"] = 40, ["outlier.max_ejected"] = 1,
}

local function pool(backends, options)
  local world = World.calm({ attempts = 2, delay_ms = 10, max_delay_ms = 10 }, DEFAULTS, options)
  world.shows = ""
  world:advance(5)
  world:set(backends)
  world:advance(1)
  return world
end

local function of(world, key)
  for _, one in ipairs(world:backends()) do
    if one.key == key then return one end
  end
end

-- In ms since the world began.
local function since(world, key)
  return of(world, key).since_ms
end

-- Fails a lease of a backend.
local function fail(world, key)
  for number = 1, 9 do
    assert.equal("granted", world:claim("f" .. number))
    if world.leases["f" .. number].label:find("^" .. key) then return world:fail("f" .. number) end
  end
end

describe("the state of a backend", function()
  it("begins when it is added", function()
    local world = pool { "db1" }
    world:advance(10)
    world:set { "db1", "db2" }
    world:advance(10)
    assert.equal(5, since(world, "db1"))
    assert.equal(16, since(world, "db2"))
  end)

  it("is another when it dies, and when it lives again", function()
    local world = pool { "db1", "db2" }
    world.host.db1 = { open = "fail" }
    world:advance(4)
    for number = 1, 2 do world:lose("db1/" .. number) end
    world:advance(11)
    assert.is_true(of(world, "db1").dead)
    local died = since(world, "db1")
    assert.is_true(died >= 10 and died <= 21, died)
    world:advance(50)
    assert.equal(died, since(world, "db1"))
    world.host.db1 = nil
    world:advance(50)
    assert.is_false(of(world, "db1").dead)
    assert.is_true(since(world, "db1") > 71)
    assert.equal(5, since(world, "db2"))
  end)

  it("is another when it is ejected, and when it returns", function()
    local world = pool { "db1", "db2" }
    world:advance(4)
    fail(world, "db1")
    assert.is_true(of(world, "db1").ejected)
    assert.equal(10, since(world, "db1"))
    world:advance(60)
    assert.is_false(of(world, "db1").ejected)
    assert.equal(50, since(world, "db1"))
  end)

  it("is another when it stands by, and when it is needed", function()
    local world = pool { { "db1", priority = 1 }, { "db2", priority = 2 } }
    world:advance(4)
    assert.is_true(of(world, "db2").standby)
    world:input("backend_drained", "db1")
    world:advance(10)
    assert.is_false(of(world, "db2").standby)
    assert.equal(10, since(world, "db2"))
    world:input("backend_restored", "db1")
    world:advance(10)
    assert.is_true(of(world, "db2").standby)
    assert.equal(20, since(world, "db2"))
  end)

  it("is another when it is drained, restored and removed; draining it again changes nothing", function()
    local world = pool { "db1", "db2" }
    for number = 1, 4 do world:claim("c" .. number) end
    world:advance(4)
    world:input("backend_drained", "db1")
    world:advance(10)
    world:input("backend_drained", "db1")
    assert.equal(10, since(world, "db1"))
    world:input("backend_restored", "db1")
    world:advance(10)
    assert.equal(20, since(world, "db1"))
    world:set { "db2" }
    world:advance(10)
    assert.is_true(of(world, "db1").removed)
    assert.equal(30, since(world, "db1"))
  end)

  it("is the same for another weight or name, and begins anew at another address", function()
    local world = pool { "db1" }
    world:advance(4)
    world:set { { "db1", weight = 3 } }
    world:advance(10)
    assert.equal(5, since(world, "db1"))
    world:set { { "db1", address = "10.9.9.9" } }
    assert.equal(20, since(world, "db1"))
  end)
end)

describe("the most slots of a backend", function()
  it("stays when there are fewer, and is that of this backend alone", function()
    local world = pool({ "db1" }, { max_connections = 6 })
    assert.equal(6, of(world, "db1").total_max)
    world:set { "db1", "db2", "db3" }
    world:advance(5)
    assert.equal(2, of(world, "db1").total)
    assert.equal(6, of(world, "db1").total_max)
    assert.equal(2, of(world, "db2").total_max)
    world:input("backend_drained", "db1")
    world:advance(5)
    assert.same({ 0, 6 }, { of(world, "db1").total, of(world, "db1").total_max })
    world:set { "db2" }
    world:set { "db1", "db2" }
    world:advance(5)
    assert.equal(3, of(world, "db1").total_max)
  end)
end)

describe("cueball_backend_info of the first version", function()
  it("has neither", function()
    local world = pool { "db1" }
    local info = ffi.new "cueball_backend_info"
    info.struct_size = ffi.offsetof("cueball_backend_info", "since")
    info.since, info.total_max = 77, 78
    assert.is_true(lib.cueball_pool_backend_at(world.pool, 0, info))
    assert.same({ 77, 78 }, { tonumber(info.since), info.total_max })
  end)
end)
