--- Whether a backend that no pool holds is alive: failures in a row, and pauses that grow.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local MS = 1e6

local function recovery(given)
  local all = { attempts = 3, delay_ms = 100, max_delay_ms = 450, spread = 0, jitter = lib.CUEBALL_JITTER_SPREAD }
  for name, value in pairs(given or {}) do all[name] = value end
  return ffi.new("cueball_recovery", all)
end

-- One failure at `ms`; whether it died of that.
local function fail(health, how, ms, chance)
  return lib.cueball_health_failed(health, how, ms * MS, chance or 0)
end

describe("the health of a backend", function()
  it("is good at first, and until so many failures in a row", function()
    local health, how = ffi.new "cueball_health", recovery()
    assert.is_false(health.is_dead)
    assert.is_false(fail(health, how, 1))
    assert.is_false(fail(health, how, 2))
    assert.is_false(lib.cueball_health_worked(health))
    assert.equal(0, health.failures)
    assert.is_false(fail(health, how, 3))
    assert.is_false(fail(health, how, 4))
    assert.is_true(fail(health, how, 5))
    assert.is_true(health.is_dead)
    assert.equal(105 * MS, tonumber(health.retry_at))
  end)

  it("has pauses that double until they are as long as may be", function()
    local health, how, at = ffi.new "cueball_health", recovery { attempts = 1 }, 0
    local pauses = {}
    for number = 1, 6 do
      assert.equal(number == 1, fail(health, how, at))
      pauses[number] = tonumber(health.pause) / MS
      at = tonumber(health.retry_at) / MS
    end
    assert.same({ 100, 200, 400, 450, 450, 450 }, pauses)
  end)

  it("counts what fails before the pause is over, and no more than that", function()
    local health, how = ffi.new "cueball_health", recovery { attempts = 2 }
    fail(health, how, 0)
    fail(health, how, 0)
    assert.is_false(fail(health, how, 99))
    assert.same({ 3, 1, 100 * MS }, { health.failures, health.pauses, tonumber(health.retry_at) })
    assert.is_false(fail(health, how, 100))
    assert.same({ 4, 2, 300 * MS }, { health.failures, health.pauses, tonumber(health.retry_at) })
  end)

  it("is good again once something worked, and begins anew", function()
    local health, how = ffi.new "cueball_health", recovery { attempts = 1 }
    for at = 0, 5000, 500 do fail(health, how, at) end
    assert.is_true(lib.cueball_health_worked(health))
    assert.is_false(lib.cueball_health_worked(health))
    assert.is_false(health.is_dead)
    assert.is_true(fail(health, how, 6000))
    assert.equal(100 * MS, tonumber(health.pause))
  end)

  it("has its pauses changed by chance, as those of a pool", function()
    local function pause(jitter, chance, spread)
      local health = ffi.new "cueball_health"
      fail(health, recovery { attempts = 1, jitter = jitter, spread = spread or 0.2 }, 0, chance)
      return tonumber(health.pause) / MS
    end
    local spread = lib.CUEBALL_JITTER_SPREAD
    assert.same({ 90, 100, 105 }, { pause(spread, 0), pause(spread, 0.5), pause(spread, 0.75) })
    assert.same({ 0, 50 }, { pause(lib.CUEBALL_JITTER_FULL, 0), pause(lib.CUEBALL_JITTER_FULL, 0.5) })
    assert.same({ 100, 200 }, { pause(lib.CUEBALL_JITTER_DECORRELATED, 0), pause(lib.CUEBALL_JITTER_DECORRELATED, 0.5) })
  end)

  it("never comes to a time before now", function()
    local health = ffi.new "cueball_health"
    lib.cueball_health_failed(health, recovery { attempts = 1 }, 0xfffffffffffffffeULL, 0)
    assert.is_true(health.retry_at == 0xffffffffffffffffULL)
  end)
end)
