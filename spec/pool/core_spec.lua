--- The one door to the core: whoever is put there sees every fact, and can stand in for it.
local cueball = require "cueball"
local door = require "cueball.pool.core"
local sim_pool = require "spec.support.sim_pool"

local town, pool

before_each(function()
  town = sim_pool.new { servers = 1 }
  pool = town:open { connect = sim_pool.factory(), max_connections = 1 }
  town:advance(10)
end)

after_each(function()
  town:stop()
end)

-- Writes down the facts that the core is told.
local function write_down(list, mark)
  return door.between(pool.core, function(name, call, ...)
    if door.is_fact(name) then list[#list + 1] = ("%s%s %.0f"):format(mark or "", name, (...) / 1e6) end
    return call(...)
  end)
end

describe("who stands between a pool and its core", function()
  it("is told each fact, with the time", function()
    local facts = {}
    write_down(facts)
    local lease = pool:claim()
    town:claim("bob", { timeout_ms = 50 })
    town:advance(20)
    lease:close()
    town:advance(1)
    town.leases.bob:release()
    assert.same({ "claim 10", "claim 10", "lease_closed 30", "conn_closed 30", "conn_opened 30", "lease_released 31" }, facts)
  end)

  it("is told what the C function is given, and its answer goes to who asked", function()
    local given = {}
    local finish = door.between(pool.core, function(name, call, ...)
      if name == "claim" then
        given = { ... }
        return tonumber(require("cueball.native").lib.CUEBALL_EOVERLOADED)
      end
      return call(...)
    end)
    local said = { pool:try_claim() }
    finish()
    assert.equal("overloaded", said[3])
    assert.equal(pool.now(), given[1])
    assert.equal(tonumber(require("cueball.native").lib.CUEBALL_NO_WAIT), given[2].timeout_ms)
    assert.equal(pool.core.grant, given[3])
    local lease = assert(pool:try_claim())
    lease:release()
  end)

  it("may be one of several, and the latest is told first", function()
    local facts = {}
    local finish_first = write_down(facts, "1: ")
    local finish_second = write_down(facts, "2: ")
    pool:claim():release()
    finish_second()
    pool:claim():release()
    finish_first()
    pool:claim():release()
    assert.same({
      "2: claim 10", "1: claim 10", "2: lease_released 10", "1: lease_released 10", "1: claim 10", "1: lease_released 10",
    }, facts)
  end)

  it("is told of owners and of what is asked, too", function()
    local names = {}
    door.between(pool.core, function(name, call, ...)
      if not door.is_fact(name) then names[name] = true end
      return call(...)
    end)
    pool:owner():gone()
    pool:stats()
    pool:backends()
    for name in ("owner_new owner_gone stats backend_at memory state_of"):gmatch "%S+" do assert.is_true(names[name], name) end
  end)

  it("stands there for one pool only", function()
    local facts = {}
    write_down(facts)
    local other = cueball.pool { host = town.world, resolver = function() end, connect = sim_pool.factory() }
    other:try_claim()
    other:stop()
    town:advance(1)
    assert.same({}, facts)
  end)
end)
