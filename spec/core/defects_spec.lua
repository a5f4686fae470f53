--- The defects of the original cueballs (Joyent's, for Node.js and Rust) that touch a pool: each spec here is one that the original
-- would have failed. The numbers are those of a list that was made when the originals were read. Those that other files show already:
--
--     4   spread 0 became 0.2                       jitter_spec "spread of 0"
--     8   CoDel's next drop never moved on          overload_spec: what we do instead, and the mean waits that come of it
--     10  stop() left those who wait hanging        pool_spec "refuses those who wait, closes what rests"
--     16  the churn limit went by the wall clock    the core has no clock; pool_spec "does not run backwards", churn_spec
--     19  a check could last for ever               slot_spec "that takes longer than check_timeout_ms has failed"
--     26d claim_timeout for each wait, not in total claim_spec "bounds the whole wait"
--     shrinking began up to 10 s late, and ended at spares + 1 (8)   demand_spec "follows the low-pass filter"
--
-- 1, 2, 12, 13, 18, 20, 22 and 24 are of resolvers, agents and messages.

local World = require "spec.support.core_world"

local function pool(options, backends, recovery)
  local world = World.new({ rebalance_delay_ms = 0, check_interval_ms = 0 }, World.recovery(recovery or { spread = 0 }), options)
  world.shows = ""
  if backends then
    world:set(backends)
    world:advance(0)
  end
  return world
end

describe("defect 3:", function()
  it("recovery.connect is used once a slot has had a connection, though `initial` is given", function()
    local world = pool({ max_connections = 1, ["recovery.initial.delay_ms"] = 7, ["recovery.connect.delay_ms"] = 70 }, { "db" })
    world.host.open = "fail"
    world:claim "ann"
    world.shows = "open"
    world:fail "ann"
    world:advance(75)
    assert.trace(world, "[  70] open db/1, attempt 2")
  end)
end)

describe("defects 5 and 6:", function()
  it("3 attempts of 1 s with pauses of 100 ms have failed after 7300 ms, and go on every 400 ms, 4 s each", function()
    local world = pool({ max_connections = 1 }, nil, { attempts = 3, timeout_ms = 1000, delay_ms = 100, spread = 0 })
    world.host.open = "never"
    world.shows = "open give_up"
    world:set { "db" }
    world:advance(7299)
    assert.equal("starting", world:state())
    world:advance(1)
    assert.equal("failed", world:state())
    world:advance(8000)
    assert.trace(world, [[
      [   0] open db/1
      [1000] give_up db/1
      [1100] open db/1, attempt 2
      [3100] give_up db/1
      [3300] open db/1, attempt 3
      [7300] give_up db/1
      [7700] open db/1, attempt 4
      [11700] give_up db/1
      [12100] open db/1, attempt 5]])
  end)
end)

describe("defect 7:", function()
  it("a shuffle changes the first N of M backends with probability N/M", function()
    local changed, rounds = 0, 4000
    local world = pool({ max_connections = 2, decoherence_interval_ms = 1000 }, { "a", "b", "c", "d" })
    local function first_two()
      local list = world:backends()
      local keys = { list[1].key, list[2].key }
      table.sort(keys)
      return table.concat(keys)
    end
    local before = first_two()
    for _ = 1, rounds do
      world:advance(1000)
      local after = first_two()
      changed = changed + (after ~= before and 1 or 0)
      before = after
    end
    assert.is_true(math.abs(changed / rounds - 0.5) < 0.03, changed / rounds)
  end)
end)

describe("defect 9:", function()
  it("a claim refused for want of backends is in no queue", function()
    local world = pool { max_connections = 1 }
    assert.equal("no_backends", world:claim("ann", { error_on_empty = true }))
    assert.equal(0, world:stats().waiting)
    assert.equal(0, world:stats().waiting_max)
    world:set { "db" }
    assert.equal(1, world:stats().idle) -- and gets nothing later
    assert.equal(0, world:stats().granted)
  end)
end)

describe("defect 11:", function()
  it("a backend that accepts and closes is reconnected as its back-off allows: 11,299 times in 500 ms before", function()
    local world = pool({ max_connections = 1 }, nil, { attempts = 3, delay_ms = 10, spread = 0 })
    world.host.close = 0
    local performs = world.perform
    function world.perform(self, operation, conn, backend)
      performs(self, operation, conn, backend)
      if operation == "open" then
        self:schedule(self.now, function()
          self:lose(conn.label)
        end)
      end
    end
    world:set { "db" }
    world:advance(500)
    -- 0, 10, 30, 70, 150, 310: pauses of 10, 20, 40, 80, 160 ms
    assert.equal(6, world:stats().opened)
    assert.equal(1, world:stats().backend_deaths)
    assert.equal("failed", world:state())
  end)
end)

describe("defect 14:", function()
  it("a pool whose last backend leaves has not failed, with leases out or without, for spares or all", function()
    for _, spares in ipairs { 2, math.huge } do
      local world = pool({ max_connections = 4, spares = spares }, { "a", "b" })
      world:claim "ann"
      world:remove "a"
      world:remove "b"
      world:advance(10)
      assert.equal("running", world:state())
      world:release "ann"
      world:advance(10000)
      assert.equal(0, world:stats().total)
      assert.equal("running", world:state())
      assert.equal("waiting", world:claim "bob")
      world:add "c"
      world:advance(100)
      assert.is_truthy(world.leases.bob)
    end
  end)
end)

describe("defect 15:", function()
  it("a failed pool runs again though its resolver has failed meanwhile", function()
    local world = pool({ max_connections = 1, proven_after_ms = 1 }, nil, { attempts = 1, delay_ms = 50, spread = 0 })
    world.host.open = "fail"
    world:set { "db" }
    assert.equal("failed", world:state())
    world:input "resolver_failed"
    world.host.open = 0
    world:advance(51)
    assert.equal("running", world:state())
    assert.equal("granted", world:claim "ann")
  end)
end)

describe("defect 17:", function()
  it("a set plans once for many changes at once", function()
    local world = World.new { is_set = true, max_connections = 3, spares = 2, rebalance_delay_ms = 20, check_interval_ms = 0 }
    world:advance(100)
    local plans = world:stats().plans
    for i = 1, 50 do
      world:add("b" .. i)
    end
    world.host.open = "never"
    world:advance(21)
    assert.equal(plans + 1, world:stats().plans)
    assert.equal(2, world:stats().total)
  end)
end)

describe("defect 21:", function()
  it("the time limit of a claim does not begin anew with a connection it nearly had", function()
    -- The connection opens for "ann" who was granted it and is gone before she is told: bob, behind her, waits on.
    local world = pool({ max_connections = 1 })
    world.host.open = 40
    world:owner "gone"
    world:set { "db" }
    world:claim("ann", { owner = "gone" })
    world:claim("bob", { timeout_ms = 60 })
    world:claim("cat", { timeout_ms = 60 })
    world:advance(30)
    world:owner_gone "gone"
    world:advance(29)
    assert.is_truthy(world.leases.bob)
    world.shows = "refuse"
    world:advance(1)
    assert.trace(world, "[  60] refuse cat: claim_timeout")
  end)
end)

describe("defect 23:", function()
  it("the low-pass filter never lowers what is in use and spare", function()
    local world = pool({ max_connections = 200, spares = 2 }, { "db" })
    for i = 1, 100 do
      world:claim("c" .. i)
    end
    world:advance(10000)
    for i = 1, 4 do -- within 5 % of the filter
      world:release("c" .. i)
      world:advance(50)
    end
    for i = 101, 104 do
      world:claim("c" .. i)
      world:advance(50)
      local stats = world:stats()
      assert.is_true(stats.total >= stats.busy + 2, stats.total .. " of " .. stats.busy)
    end
  end)
end)

describe("defect 25:", function()
  it("a lease that is closed kills nobody, with one attempt only", function()
    local world = pool({ max_connections = 1 }, { "db" }, { attempts = 1, spread = 0 })
    for i = 1, 5 do
      world:claim("c" .. i)
      world:close("c" .. i)
      assert.equal(1, world:stats().idle)
    end
    assert.equal("running", world:state())
    assert.equal(0, world:stats().backend_deaths)
  end)

  it("no attempt at all is refused as an option, and is not one", function()
    assert.equal(1, World.descriptors["recovery.default.attempts"].min)
  end)
end)

describe("the defects of rust-cueball:", function()
  it("26 a: claims are granted while another connection opens, however long that takes", function()
    local world = pool({ max_connections = 2 })
    world.host.b = { open = "never" }
    world:set { "a", "b" }
    world:advance(1)
    for i = 1, 100 do
      assert.equal("granted", world:claim("c" .. i))
      world:release("c" .. i)
      world:advance(10)
    end
  end)

  it("26 b: a connection found broken when it comes back is replaced", function()
    local world = pool({ max_connections = 3 }, { "db" })
    world:advance(1000)
    for round = 1, 20 do
      world:claim("c" .. round)
      local label = world.leases["c" .. round].label
      world:lose(label)
      world:release("c" .. round)
      assert.equal(3, world:stats().idle)
      world:advance(1000)
    end
  end)

  it("26 c: after checks that failed claims wait and are answered, nobody spins", function()
    local world = pool({ max_connections = 3, check_interval_ms = 100, claim_timeout_ms = 500 })
    world.host.check = "fail"
    world:set { "db" }
    world:advance(85)
    world.host.open = "never"
    world:advance(50)
    assert.equal(0, world:stats().idle)
    assert.equal("waiting", world:claim "ann")
    world:advance(500)
    assert.is_nil(world.claims.ann)
    assert.equal(1, world:stats().claim_timeouts)
    world.host.open, world.host.check = 0, 0
    world:advance(20000)
    assert.equal(3, world:stats().idle)
    assert.equal("granted", world:claim "bob")
  end)

  it("26 e: claims are refused while the pool stops, though connections are open", function()
    local world = pool({ max_connections = 2, drain_timeout_ms = 1000 }, { "db" })
    world:claim "ann"
    world:stop()
    assert.equal("stopping", world:state())
    assert.equal("pool_stopping", world:claim "bob")
    world:release "ann"
    assert.equal("stopped", world:state())
    assert.equal("pool_stopping", world:claim "cat")
  end)
end)
