--- What a resolver says in one go, by a clock that goes on meanwhile or not: one change.

local World = require "spec.support.core_world"

describe("a backend that is added", function()
  it("is planned for together also by a clock that goes on while a host says one after the other", function()
    local world = World.new { max_connections = 4, rebalance_delay_ms = 30 }
    world.host.open = 50
    for number = 1, 4 do
      world:add("db" .. number)
      world:input(number == 2 and "resolver_failed" or "resolver_recovered")
      world.now = world.now + 20000
    end
    assert.equal(0, world:stats().plans)
    world:advance(0)
    assert.equal(1, world:stats().plans)
    assert.equal("db1 1, db2 1, db3 1, db4 1", world:layout())
  end)

  it("is planned for with the next fact, if that is another and the host did not come back before, or it comes later", function()
    local world = World.new { max_connections = 4, rebalance_delay_ms = 30 }
    world:add "db1"
    world.now = world.now + 1000000
    world:add "db2"
    assert.equal("db1 4, db2 0", world:layout())
    world = World.new { max_connections = 4, rebalance_delay_ms = 30 }
    world:add "db1"
    world.now = world.now + 1
    world:claim "alice"
    assert.equal("db1 4", world:layout())
  end)

  it("is planned for in one with what else is said in that instant where there is no delay", function()
    local world = World.new { max_connections = 4, rebalance_delay_ms = 0 }
    world:set { "db1" }
    world:advance(10)
    local plans = world:stats().plans
    world:add "db2"
    world:remove "db1"
    world:add "db3"
    assert.equal(plans, world:stats().plans)
    world:advance(0)
    assert.equal("db2 2, db3 2", world:layout())
    assert.equal(plans + 1, world:stats().plans)
  end)
end)
