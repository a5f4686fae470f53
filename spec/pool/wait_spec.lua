--- A task that waits for a connection more than once: each wait is one of its own.
local collect = require "spec.support.collect"
local sim_pool = require "spec.support.sim_pool"

local town

local function open(options, servers)
  town = sim_pool.new { servers = servers or 1 }
  return town:open(options)
end

describe("a task that claims again and again", function()
  it("takes its present claim along when it is killed", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    local bob = town.world.spawn(function()
      for _ = 1, 2 do pool:claim():release() end
    end)
    town:claim "carol"
    town:release "alice"
    town:advance(1)
    assert.equal(1, pool:stats().waiting)
    town.world.kill(bob)
    assert.same({ 0, 1 }, { pool:stats().waiting, pool:stats().claims_cancelled })
    town:release "carol"
    assert.equal(1, pool:stats().idle)
    town:stop()
  end)

  it("is forgotten once it was killed", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    for _ = 1, 1000 do town.world.kill(town.world.spawn(pool.claim, pool)) end
    town:advance(1)
    collect()
    local count = 0
    for _ in pairs(pool.scopes) do count = count + 1 end
    assert.is_true(count < 200, count .. " are remembered")
    town:release "alice"
    town:stop()
  end)

  it("hears of each claim what became of that one", function()
    local pool = open { max_connections = 1 }
    town:claim "alice"
    town:advance(1)
    local heard = {}
    town.world.spawn(function()
      for index = 1, 3 do
        heard[index] = { pool:claim { timeout_ms = 5 } }
        if heard[index][1] then heard[index][1]:release() end
      end
    end)
    town:at(8, function() town:release "alice" end)
    town:advance(20)
    assert.same({ "claim_timeout", 1, 1 }, { heard[1][3], #heard[2], #heard[3] })
    assert.equal("waited 2 ms (0 ahead): 2 ms every connection was busy", (heard[2][1]:explain()))
    assert.equal("granted at once", (heard[3][1]:explain()))
    town:stop()
  end)
end)

describe("a task that is killed while it runs goes on to its next wait:", function()
  local pool, task

  -- What the task does, `fn`, comes after its end.
  local function spawn_killed(fn)
    pool = open { max_connections = 1 }
    town:advance(1)
    task = town.world.spawn(function()
      town.world.sleep(1)
      pool:with(function() town.world.spawn(town.world.kill, task) end)
      fn()
    end)
  end

  it("what it leases until then is closed", function()
    spawn_killed(function() pool:with(function() town.world.sleep(1000) end) end)
    town:advance(10)
    assert.same({ 1, 0 }, { pool:stats().idle, pool:stats().busy })
    town:stop()
  end)

  it("what it claims until then is cancelled", function()
    spawn_killed(function()
      town:claim "alice"
      pool:claim()
    end)
    town:advance(10)
    assert.same({ 1, 0, 1 }, { pool:stats().busy, pool:stats().waiting, pool:stats().claims_cancelled })
    town:release "alice"
    assert.equal(1, pool:stats().idle)
    town:stop()
  end)
end)

it("a lease that a task gave back early is not taken for the next one on the same connection", function()
  local pool = open { max_connections = 1 }
  town:advance(1)
  local task = town.world.spawn(function()
    local early = coroutine.wrap(function()
      pool:with(function(_, lease)
        lease:release()
        coroutine.yield()
      end)
    end)
    early()
    pool:with(function()
      early()
      town.world.sleep(1000)
    end)
  end)
  assert.equal(1, pool:stats().busy)
  town.world.kill(task)
  town:advance(1)
  assert.same({ 0, 1 }, { pool:stats().busy, pool:stats().idle })
  town:stop()
end)

describe("what the pool calls in the middle of something may not wait, or its task could be killed there:", function()
  local function wait() town.world.sleep(5) end
  for _, member in ipairs { "unwatch", "watch", "broken" } do
    it("a factory's " .. member, function()
      local pool = open { max_connections = 1, connect = sim_pool.factory { [member] = function()
        if town.world.current() then wait() end
        wait()
      end } }
      town:advance(1)
      town:claim "alice"
      town:claim "bob"
      town.world.spawn(town.release, town, "alice")
      town:advance(1000)
      assert.is_false(pool.is_pumping)
      assert.is_true(town:logged("the connection factory's " .. member .. " threw: ") > 0)
      assert.equal(0, pool:stats().waiting)
      town:release "bob"
      town:stop()
    end)
  end

  it("a subscriber", function()
    local pool = open { max_connections = 1 }
    town:advance(1)
    local heard = 0
    pool:subscribe(wait)
    pool:subscribe(function() heard = heard + 1 end)
    town.world.kill(town.world.spawn(pool.with, pool, wait))
    assert.equal(5, heard)
    assert.equal(5, town:logged "a subscriber threw: ")
    town:stop()
  end)
end)
