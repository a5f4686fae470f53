--- Backends that the connection factory calls a last resort: they are used while no other is up.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

describe("a last resort", function()
  local town, pool, is_primary, down

  -- Three backends; the one of this key is a last resort as its connections find out.
  local function open(options)
    town, is_primary, down = sim_pool.new { servers = 3, seed = 1 }, { db1 = true }, {}
    local factory = sim_pool.factory {
      connect = function(backend, context)
        town.world.sleep(5)
        if down[backend.key] then return nil, "connection refused" end
        context.last_resort(is_primary[backend.key] or false)
        return { key = backend.key, context = context }
      end,
      broken = function(connection) return down[connection.key] and "down" end,
    }
    pool = town:open(with({
      max_connections = 6, connect = factory, check_interval_ms = 100, rebalance_delay_ms = 0,
      recovery = { default = { attempts = 2, delay_ms = 50, spread = 0 } },
    }, options))
    town:advance(500)
  end

  after_each(function() town:stop() end)

  local function kill(...)
    for _, key in ipairs { ... } do down[key] = true end
    town:advance(1000)
  end

  it("has no connections while others are up", function()
    open()
    assert.equal("0/3/3", town:spread())
    local backends = {}
    for _, backend in ipairs(pool:backends()) do backends[backend.key] = { backend.priority, backend.standby } end
    assert.same({ db1 = { 32768, true }, db2 = { 0, false }, db3 = { 0, false } }, backends)
    kill "db2"
    assert.equal("0/0/5", town:spread()) -- and a probe
  end)

  it("has them all while no other is up, and none as soon as one is", function()
    open()
    kill("db2", "db3")
    assert.equal("running", pool:state())
    assert.equal("5/0/0", town:spread())
    down.db3 = nil
    town:advance(2000)
    assert.equal("0/0/5", town:spread())
  end)

  it("stays one when the resolver says it again, and is forgotten with the backend", function()
    local sink
    open { resolver = function(given)
      sink = given
      sink:set(sim_pool.backends(1, 3))
      sink:sleep(math.huge)
    end }
    sink:set { sim_pool.backend(1, { weight = 2 }), sim_pool.backend(2), sim_pool.backend(3) }
    sink:add(sim_pool.backend(1, { weight = 3 }))
    town:advance(500)
    assert.equal("0/3/3", town:spread())
    is_primary.db1 = nil
    sink:remove "db1"
    sink:add(sim_pool.backend(1))
    town:advance(500)
    assert.equal("2/2/2", town:spread())
  end)

  it("is none any more once a connection says so", function()
    open()
    is_primary.db1 = nil
    kill("db2", "db3")
    assert.equal("5/0/0", town:spread())
    down = {}
    town:advance(5000) -- each has proven itself by then
    assert.equal("2/2/2", town:spread())
  end)

  it("is nothing where priorities are ignored", function()
    open { priorities = "ignored" }
    assert.equal("2/2/2", town:spread())
  end)

  it("comes after all priorities that the resolver says, and keeps its place among last resorts", function()
    open { resolver = cueball.resolver.static {
      sim_pool.backend(1), sim_pool.backend(2, { priority = 7 }), sim_pool.backend(3, { priority = 60000 }),
    } }
    assert.equal("0/6/0", town:spread())
    kill("db2", "db3")
    assert.equal("4/0/0", ((town:spread():gsub("^[45]", "4"))))
  end)

  it("is not learnt by a pool that is over", function()
    open()
    local lease = pool:try_claim()
    local last_resort = lease.connection.context.last_resort
    lease:release()
    pool:stop()
    town:advance(100)
    last_resort(true)
  end)
end)
