--- What people in charge do: pause, drain, ask anew, revoke, and look at each connection.
local sim_pool = require "spec.support.sim_pool"

local town, pool

local function open(options, servers)
  town = sim_pool.new { servers = servers or 2 }
  pool = town:open(options or { max_connections = 4 })
  town:advance(100)
end

-- The total of each backend: "db1 2, db2 2".
local function layout()
  local words = {}
  for _, one in ipairs(pool:backends()) do words[#words + 1] = ("%s %d%s"):format(one.key, one.total, one.drained and " drained" or "") end
  table.sort(words)
  return table.concat(words, ", ")
end

describe("pool:pause", function()
  it("has claims wait until pool:resume", function()
    open()
    assert.is_true(pool:pause())
    town:claim "ann"
    town:advance(50)
    assert.equal("", town:trace())
    assert.is_true(pool:resume())
    assert.is_false(pool:is_paused())
    town:advance(1)
    assert.matches("grant ann", town:trace())
    town:release "ann"
    town:stop()
  end)

  it("waits until no lease is out, if asked to", function()
    open()
    town:claim "ann"
    town:advance(1)
    town.world.spawn(function() town.world.trace("paused: %s", pool:pause { wait_ms = 1000 }) end)
    town:advance(100)
    town:claim "bob"
    town:release "ann"
    town:advance(10)
    assert.matches("%[ 201%] release ann\n%[ 201%] paused: true$", town:trace())
    assert.same({ 0, 1, 1 }, { pool:stats().busy, pool:stats().waiting, pool:stats().paused })
    pool:resume()
    town:advance(1)
    town:release "bob"
    town:stop()
  end)

  it("does not wait with wait_ms = 0, which is the default", function()
    open()
    town:claim "ann"
    town:advance(1)
    assert.is_true(pool:pause { wait_ms = 0 })
    pool:resume()
    assert.is_true(pool:drain { backend = pool:backends()[1].key, wait_ms = 0 })
    assert.is_true(pool:drain { backend = pool:backends()[2].key, wait_ms = 0 })
    town:release "ann"
    town:stop()
  end)

  it("says how many are out when the time is up, and stays", function()
    open()
    town:claim "ann"
    town:advance(1)
    town:run(function()
      local ok, message, name = pool:pause { wait_ms = 200 }
      assert.same({ nil, "paused, but 1 leases are out after 200 ms", "timeout" }, { ok, message, name })
    end)
    assert.is_true(pool:is_paused())
    assert.blames("pool:pause: only a task can wait: call it inside cueball.run or cueball.spawn, or without wait_ms",
      function() pool:pause { wait_ms = 1 } end)
    town:release "ann"
    pool:resume()
    town:stop()
  end)

  it("is told in refusals: for how long, and by whom", function()
    open { max_connections = 1, max_waiters = 1 }
    pool:pause { by = "ann at the console" }
    town:advance(12000)
    local lease, message, name = pool:try_claim()
    assert.same({ nil, "pool db is paused for 12 s by ann at the console, and the claim may not wait (0 claims wait)", "paused" },
      { lease, message, name })
    town:run(function()
      local _, why, what = pool:claim { timeout_ms = 30 }
      assert.same({ "claim timed out after 30 ms (0 ahead, 0 busy, paused for 12 s by ann at the console): 30 ms the pool was paused",
        "claim_timeout" }, { why, what })
    end)
    local is_paused, ms, by = pool:is_paused()
    assert.same({ true, 12030, "ann at the console" }, { is_paused, ms, by })
    assert.near(12030, pool:stats().paused_ms, 0.001)
    pool:resume()
    assert.equal(0, pool:stats().paused_ms)
    town:stop()
  end)

  it("outlives other options, and ends with the pool", function()
    open()
    pool:pause()
    pool:set { max_connections = 2 }
    assert.is_true(pool:is_paused())
    town:claim "ann"
    town:stop()
    assert.is_false(pool:is_paused())
    assert.matches("refuse ann: pool_stopping", town:trace())
    local ok, message, name = pool:pause()
    assert.same({ nil, "pool db is stopped", "pool_stopping" }, { ok, message, name })
    assert.equal("pool_stopping", select(3, pool:resume()))
  end)

  it("is refused at the caller's line what it does not know", function()
    open()
    assert.blames("pool:pause: unknown option 'wait'; did you mean 'wait_ms'?", function() pool:pause { wait = 5 } end)
    town:stop()
  end)
end)

describe("pool:drain", function()
  it("takes a backend out of use, until pool:restore", function()
    open()
    assert.equal("db1 2, db2 2", layout())
    assert.is_true(pool:drain { backend = "db1" })
    town:advance(50)
    assert.equal("db1 0 drained, db2 4", layout())
    assert.equal(1, pool:stats().drained_backends)
    assert.equal(2, pool:stats().closed_drain)
    assert.is_true(pool:restore { backend = "db1" })
    town:advance(50)
    assert.equal("db1 2, db2 2", layout())
    town:stop()
  end)

  it("waits until the last connection is closed, if asked to", function()
    open { max_connections = 1 }
    town:claim "ann"
    town:advance(1)
    local key = town.leases and nil or pool:connections()[1].backend
    town.world.spawn(function() town.world.trace("drained: %s", pool:drain { backend = key, wait_ms = 1000 }) end)
    town:advance(100)
    assert.equal("drain", pool:connections()[1].closes_for)
    town:release "ann"
    town:advance(100)
    assert.matches("drained: true$", town:trace())
    town:run(function() assert.is_true(pool:drain { backend = key, wait_ms = 10 }) end)
    town:stop()
  end)

  it("says so when there are connections left", function()
    open { max_connections = 1 }
    town:claim "ann"
    town:advance(1)
    local key = pool:connections()[1].backend
    town:run(function()
      local ok, message, name = pool:drain { backend = key, wait_ms = 100 }
      assert.same({ nil, key .. " is drained, but has 1 connections after 100 ms", "timeout" }, { ok, message, name })
    end)
    town:release "ann"
    town:stop()
  end)

  it("of all backends is told to those who claim", function()
    open({ max_connections = 4 }, 5)
    for number = 1, 5 do pool:drain { backend = "db" .. number } end
    town:advance(10)
    town:run(function()
      local _, message, name = pool:claim { timeout_ms = 20, error_on_empty = true }
      assert.equal("no_backends", name)
      assert.matches("^pool db: every backend is drained: db%d, db%d, db%d and 2 more$", message)
      _, message, name = pool:claim { timeout_ms = 20 }
      assert.equal("claim_timeout", name)
      assert.matches("every backend is drained: .*: 20 ms every backend was drained$", message)
    end)
    town:stop()
  end)

  it("has to be of a backend that is known", function()
    open()
    for _, verb in ipairs { "drain", "restore", "ask_anew" } do
      local ok, message, name = pool[verb](pool, { backend = "db9" })
      assert.same({ nil, 'no backend has the key "db9"', "not_found" }, { ok, message, name })
    end
    assert.blames("pool:drain: option 'backend' is required: the key of a backend", function() pool:drain {} end)
    assert.blames("pool:restore: option 'backend' is required: the key of a backend", function() pool:restore() end)
    town:stop()
  end)

  it("is told to those who subscribed, and in the log", function()
    open()
    local kinds = {}
    pool:subscribe(function(event)
      if event.kind:find "drain" or event.kind:find "restored" or event.kind:find "paused" or event.kind == "resumed" then
        kinds[#kinds + 1] = ("%s %s %s"):format(event.kind, event.backend or event.by or "-", event.count or "-")
      end
    end)
    pool:drain { backend = "db1" }
    pool:restore { backend = "db1" }
    pool:pause { by = "ann" }
    pool:resume()
    assert.same({ "backend_drained db1 0", "backend_restored db1 -", "paused ann 0", "resumed - 0" }, kinds)
    town:stop()
  end)
end)

describe("pool:ask_anew", function()
  it("ends the pauses before attempts at dead backends", function()
    open { max_connections = 2, recovery = { default = { attempts = 1, delay_ms = 60000, max_delay_ms = 60000 } } }
    for number = 1, 2 do town.servers[number]:set { refuse = true } end
    pool:renew { over_ms = 0 }
    town:advance(1000)
    assert.equal("failed", pool:state())
    local dead = pool:backends()[1]
    assert.is_true(dead.dead and dead.back_in_ms > 1000 and dead.attempt >= 1)
    for _, one in ipairs(pool:connections()) do
      assert.equal("backing_off", one.state)
      assert.is_true(one.next_attempt_ms > 1000)
      assert.matches("connection refused", one.error)
    end
    for number = 1, 2 do town.servers[number]:set { refuse = false } end
    assert.is_true(pool:ask_anew())
    town:claim "ann"
    town:advance(100)
    assert.matches("grant ann", town:trace())
    town:release "ann"
    town:stop()
  end)
end)

describe("pool:revoke", function()
  it("ends a lease: its connection is closed, and its claimer is told", function()
    open { max_connections = 1 }
    town:run(function()
      local lease = pool:claim()
      local id = pool:connections()[1].lease
      assert.is_true(pool:revoke { lease = id })
      assert.equal("stale", select(3, lease:release()))
      local ok, message, name = pool:revoke { lease = id }
      assert.same({ nil, ("there is no lease %.0f any more"):format(id), "stale" }, { ok, message, name })
      local other = pool:claim()
      assert.is_true(other:release())
    end)
    assert.same({ 1, 1 }, { pool:stats().closed_killed, pool:stats().leases_revoked })
    town:stop()
  end)

  it("wants the number of a lease", function()
    open()
    assert.blames("pool:revoke: option 'lease' is required: the number of a lease", function() pool:revoke() end)
    assert.blames("pool:revoke: option 'lease' must be a whole number from 1 to 9007199254740991, not \"x\"",
      function() pool:revoke { lease = "x" } end)
    town:stop()
  end)
end)

describe("pool:backends", function()
  it("has for how long each is in its state, and the most slots it ever had", function()
    open()
    local function row(key)
      for _, one in ipairs(pool:backends()) do
        if one.key == key then return { math.floor(one.since_ms + 0.5), one.total, one.total_max } end
      end
    end
    assert.same({ 100, 2, 2 }, row "db1")
    pool:drain { backend = "db1" }
    town:advance(30)
    assert.same({ 30, 0, 2 }, row "db1")
    assert.same({ 130, 4, 4 }, row "db2")
    pool:restore { backend = "db1" }
    town:advance(20)
    assert.same({ 20, 2, 2 }, row "db1")
    assert.same({ 150, 2, 4 }, row "db2")
    town:stop()
  end)
end)

describe("pool:connections", function()
  it("has a row for every slot, by backend and number", function()
    open()
    town:claim "ann"
    town:advance(50)
    local busy, order = nil, {}
    for _, one in ipairs(pool:connections()) do
      order[#order + 1] = one.backend .. " " .. one.slot
      if one.state == "busy" then busy = one else assert.same({ "idle", nil }, { one.state, one.lease }) end
    end
    assert.equal(4, #order)
    local known = pool:backends()
    assert.matches("^" .. known[1].key, order[1])
    assert.matches("^" .. known[2].key, order[4])
    assert.equal(1, busy.uses)
    assert.near(50, busy.since_ms, 1)
    assert.is_true(busy.age_ms >= 50 and busy.lease > 0)
    town:release "ann"
    town:stop()
    assert.same({}, pool:connections())
  end)
end)

describe("pool:plan", function()
  it("says what would come, in numbers and in words, and changes nothing", function()
    open { max_connections = 6 }
    for _, server in ipairs(town.servers) do server:set { connect_delay = 20 } end
    local before = layout()
    local made = pool:plan { remove = { "db1" }, add = { "10.0.0.9:80" }, max_connections = 8 }
    assert.same({ db1 = 3, db2 = 3 }, made.before)
    assert.same({ db2 = 4, ["10.0.0.9:80"] = 4 }, made.after)
    assert.same({ db2 = 1, ["10.0.0.9:80"] = 4 }, made.adds)
    assert.same({ db1 = 3 }, made.removes)
    assert.same({ 5, 3, true }, { made.opens, made.closes, made.settles })
    assert.matches("^add 10.0.0.9:80, remove db1, max_connections = 8:\n", made.text)
    assert.matches("\n  db1  3 %-> 0 %(removed%)\n", made.text)
    assert.matches("\n5 opened, 3 closed, settled after ", made.text)
    assert.equal(before, layout())
    assert.same(pool:plan().before, pool:plan {}.after)
    town:stop()
  end)

  it("tells what cannot be", function()
    open()
    assert.equal("not_found", select(3, pool:plan { remove = { "db9" } }))
    local _, message, name = pool:plan { add = { "nowhere" } }
    assert.equal("invalid", name)
    assert.matches("^add: number 1: ", message)
    assert.blames("pool:plan: option 'add' must be a list of backends, as a resolver says them, not \"x\"",
      function() pool:plan { add = "x" } end)
    assert.blames("pool:plan: option 'seed' cannot be changed", function() pool:plan { seed = 1 } end)
    assert.blames("pool:plan: option 'max_connections' must be a whole number from 1 to 1000000, not 0",
      function() pool:plan { max_connections = 0 } end)
    town:stop()
    assert.equal("pool_stopping", select(3, pool:plan()))
  end)
end)
