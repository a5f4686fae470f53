--- Owners: all claims and leases of one end together.
local collect_garbage = require "spec.support.collect"
local sim_pool = require "spec.support.sim_pool"

local town, pool, factory

before_each(function()
  town, factory = sim_pool.new(), sim_pool.factory()
  pool = town:open { max_connections = 2, connect = factory }
  town:advance(1)
end)

describe("an owner that is gone", function()
  it("has its leases closed and its waiting claims answered", function()
    local owner = pool:owner()
    for _, who in ipairs { "alice", "bob", "carol", "dave" } do town:claim(who, { owner = owner }) end
    town:claim "erin"
    town:advance(1)
    assert.equal(3, pool:stats().waiting)
    owner:gone()
    assert.same({ 1, 2 }, factory.closed)
    town:advance(1)
    assert.trace(town, [[
      [   1] grant alice: db1
      [   1] grant bob: db1
      [   2] refuse carol: cancelled
      [   2] refuse dave: cancelled
      [   2] grant erin: db1]])
    assert.equal("the claim's owner is gone", town.refused)
    assert.same({ nil, "the lease is over: it was released, closed or taken back before", "stale" }, { town.leases.alice:release() })
    assert.equal(2, pool:stats().leases_revoked)
    assert.equal(2, pool:stats().claims_cancelled)
    assert.equal(1, pool:stats().idle)
    town:release "erin"
    town:stop()
  end)

  it("is gone once", function()
    local owner = pool:owner()
    owner:gone()
    owner:gone()
    assert.blames("pool:claim: option 'owner' is of another pool, or gone", function() pool:claim { owner = owner } end)
    assert.equal(0, pool:stats().busy)
    town:stop()
  end)

  it("takes a lease along whose grant its task has not heard of yet", function()
    local owner = pool:owner()
    local holders = { pool:claim(), pool:claim() }
    town:claim("alice", { owner = owner })
    holders[1]:release()
    owner:gone()
    town:advance(1)
    assert.trace(town, "[   1] grant alice: ?")
    assert.is_nil(town.leases.alice:backend())
    assert.equal("stale", (select(3, town.leases.alice:release())))
    assert.equal(1, pool:stats().idle)
    holders[2]:release()
    town:stop()
  end)

  it("takes a lease away whose factory waits in its broken, and that says nothing of the next connection there", function()
    pool:stop()
    town = sim_pool.new()
    local host = setmetatable({ tasks = false }, { __index = town.world }) -- which cannot tell what may not wait
    pool = town:open { host = host, max_connections = 1, connect = sim_pool.factory { broken = function(connection)
      if connection.id > 1 then return nil end
      town.world.sleep(50)
      return "too slow to tell"
    end } }
    town:advance(1)
    local owner = pool:owner()
    town:claim("alice", { owner = owner })
    town.world.spawn(town.release, town, "alice")
    owner:gone()
    town:advance(20)
    town:claim "bob"
    town:advance(40)
    assert.equal(2, town.leases.bob.connection.id)
    assert.is_true(town.leases.bob:release())
    assert.same({ 0, 1 }, { pool:stats().closed_unfit, pool:stats().idle })
    town:stop()
  end)

  it("leaves alone what was released before, and the claims of others", function()
    local owner, other = pool:owner(), pool:owner()
    pool:claim({ owner = owner }):release()
    local lease = pool:claim { owner = other }
    owner:gone()
    assert.same({}, factory.closed)
    assert.is_true(lease:release())
    town:stop()
  end)

  it("is of one pool", function()
    local another = town.pool
    town:open { name = "another" }
    local owner = town.pool:owner()
    assert.blames("pool:claim: option 'owner' is of another pool, or gone", function() another:claim { owner = owner } end)
    another:stop()
    town:stop()
  end)

  it("forgets a claim whose task was killed", function()
    local owner = pool:owner()
    local holders = { pool:claim(), pool:claim() }
    local task = town:claim("alice", { owner = owner })
    town.world.kill(task)
    assert.is_nil(next(owner.claims))
    owner:gone()
    assert.equal(1, pool:stats().claims_cancelled)
    for _, lease in ipairs(holders) do lease:release() end
    town:stop()
  end)

  it("may be gone after the pool stopped", function()
    local owner = pool:owner()
    pool:claim({ owner = owner }):release()
    town:stop()
    owner:gone()
    assert.equal("stopped", pool:state())
  end)
end)

describe("an owner that was dropped", function()
  local function collect()
    collect_garbage()
    town:advance(1100)
  end

  it("is ended once it was collected, and its memory comes back", function()
    town:run(function()
      pool:with(function() end, { owner = pool:owner() })
      collect_garbage()
      local before = pool:stats().memory_bytes
      for _ = 1, 1000 do pool:with(function() end, { owner = pool:owner() }) end
      collect_garbage()
      town.world.sleep(2000)
      assert.is_true(pool:stats().memory_bytes <= before + 1000)
      assert.equal(0, pool:stats().leases_revoked)
    end)
    town:stop()
  end)

  it("stays while a lease or a waiting claim of it does", function()
    local first, second = pool:claim { owner = pool:owner() }, pool:claim { owner = pool:owner() }
    town:claim("ann", { owner = pool:owner() })
    collect()
    assert.equal(2, pool:stats().busy)
    assert.equal(1, pool:stats().waiting)
    first:release()
    town:advance(1)
    collect()
    assert.equal(2, pool:stats().busy)
    assert.is_true(second:release())
    assert.is_true(town:release "ann")
    assert.equal(0, pool:stats().leases_revoked)
    town.leases.ann = nil
    first, second = nil, nil -- luacheck: ignore
    collect()
    assert.same({}, pool.leaks.owners)
    town:stop()
  end)

  it("that was told gone is told so once", function()
    local owner = pool:owner()
    owner:gone()
    owner = nil -- luacheck: ignore
    collect()
    assert.is_false(pool.leaks.is_looking)
    town:stop()
  end)
end)
