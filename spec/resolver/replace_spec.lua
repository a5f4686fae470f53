--- Resolvers that add their backends one by one, in the place of another.
local sim_pool = require "spec.support.sim_pool"

local backend, backends = sim_pool.backend, sim_pool.backends

describe("sink:complete", function()
  it("has go what the resolver before knew, and this one has not added", function()
    local town = sim_pool.new { servers = 4 }
    local pool = town:open { resolver = function(sink) sink:set(backends(1, 3)) end, rebalance_delay_ms = 0, max_connections = 3 }
    town:advance(15)
    pool:replace { resolver = function(sink)
      sink:add(backend(2))
      sink:add(backend(4))
      sink:sleep(10)
      assert(sink:complete() and sink:complete())
      sink:sleep(10)
      sink:add(backend(3))
      assert(sink:complete())
    end }
    town:advance(5)
    assert.equal("db1 db2 db3 db4", town:keys())
    town:advance(10)
    assert.equal("db2 db4", town:keys())
    town:advance(10)
    assert.equal("db2 db3 db4", town:keys())
    local old
    pool:replace { resolver = function(sink)
      old = sink
      sink:complete()
    end }
    assert.equal("", town:keys())
    town:stop()
    assert.same({ nil, "the resolver was ended", "pool_stopping" }, { old:complete() })
    assert.equal("", town:log "error")
  end)

  it("says that there are none, as the first word", function()
    local town = sim_pool.new()
    local pool = town:open { resolver = function(sink)
      sink:fail "not yet"
      sink:complete()
    end }
    assert.equal("starting", pool:state())
    assert.same({ failing = false }, pool:resolver())
    town:stop()
  end)
end)
