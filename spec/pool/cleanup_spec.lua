--- Pools that were dropped without stop are stopped: their connections are closed and their resolvers end.
local collect = require "spec.support.collect"
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local with = require "spec.support.with"

local world, server

before_each(function()
  world = sim.new { seed = 1 }
  server = world.server("10.0.0.1", 80)
end)

-- A pool that is used and forgotten; → a table that is empty once it is collected
local function forget(options)
  local all = with({
    host = world, name = "db", max_connections = 3, connect = cueball.connection.tcp {},
    resolver = cueball.resolver.static { "10.0.0.1:80" },
  }, options)
  local pool = cueball.pool(all)
  local kept = setmetatable({ pool = pool }, { __mode = "v" })
  world.run(function()
    pool:ready { connections = 3 }
    pool:with(function(socket)
      socket:send "x"
      socket:receive(1)
    end)
    world.sleep(2000)
  end)
  return kept, pool
end

describe("a pool that was dropped", function()
  it("is collected, its connections are closed, and the log says so", function()
    local kept, pool = forget()
    collect()
    world.advance(20000)
    assert.equal(3, server.connections)
    assert.equal("running", pool:state())
    pool = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    world.advance(11000)
    assert.equal(0, server.connections)
    assert.same({}, world.leaks())
    local last = world.logs[#world.logs]
    assert.equal("warn", last.level)
    assert.equal("cueball db: the pool was dropped without pool:stop(); it is stopped, and its 3 connections are closed", last.message)
  end)

  it("takes its resolver along, whatever that says meanwhile", function()
    local ended, told, answers = false, nil, {}
    local kept, pool = forget { resolver = function(sink)
      told = sink
      sink:set { { address = "10.0.0.1", port = 80 } }
      while sink:sleep(1000) do sink:set { { address = "10.0.0.1", port = 80 } } end
      ended = true
    end }
    assert.is_table(pool)
    pool = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    for _, method in ipairs { "add", "remove", "set", "fail", "recover", "wake" } do
      answers[#answers + 1] = select(3, told[method](told, {}))
    end
    assert.same({ "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping" }, answers)
    world.advance(11000)
    assert.is_true(ended)
    assert.same({}, world.leaks())
  end)

  it("stays while a lease of it does, or a claim waits", function()
    local kept, pool = forget()
    local lease = pool:try_claim()
    pool = nil -- luacheck: ignore
    collect()
    world.advance(60000)
    assert.is_table(kept.pool)
    assert.is_true(lease:release())
    lease = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    world.advance(11000)
    assert.equal(0, server.connections)
  end)

  it("that was stopped is nothing to warn about", function()
    local _, pool = forget()
    world.run(function() pool:stop() end)
    assert.same({}, world.leaks())
    pool = nil -- luacheck: ignore
    collect()
    world.advance(60000)
    for _, line in ipairs(world.logs) do assert.is_nil(line.message:find "dropped") end
  end)
end)
