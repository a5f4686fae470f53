--- Who holds the connections, who waits for one, and where they are: pool:leases, pool:waiters, pool:tree, and refusals.
local cueball = require "cueball"
local collect = require "spec.support.collect"
local sim_pool = require "spec.support.sim_pool"

local HERE = "spec/pool/holders_spec.lua:"
local town, pool

local function open(options, more)
  town = sim_pool.new()
  pool = town:open({ max_connections = 3, connect = sim_pool.factory() }, options, more)
  town:advance(1)
end

-- The line of what calls this, and so many further on.
local function line(further)
  return HERE .. debug.getinfo(2, "l").currentline + (further or 0)
end

-- Tasks have numbers of the whole process.
local function without_numbers(words)
  return (words:gsub("task %d+", "task #"):gsub("lease %d+", "lease #"))
end

local function finish()
  town:advance(100000)
  pool:stop()
  town:advance(10)
end

describe("pool:leases", function()
  it("lists the leases that are out, oldest first, with who holds them and where that one is now", function()
    open()
    local with_line, at_line = line(2), line(2)
    town.world.spawn(function()
      pool:with(function() town.world.sleep(500) end)
    end)
    town:advance(100)
    local later_at = line(3)
    town.world.spawn(function()
      local lease = pool:claim()
      town.world.sleep(300)
      lease:release()
    end)
    town:advance(50)
    local list = pool:leases()
    assert.same({ 2, 0 }, { #list, list.more })
    local first, second = list[1], list[2]
    assert.same({ "db1", 150, with_line, at_line, false, 0 },
      { first.backend, first.held_ms, first.site, first.at, first.is_overdue, first.slot })
    assert.same({ 50, later_at, 1 }, { second.held_ms, second.at, second.slot })
    assert.is_nil(second.site)
    assert.matches("^task %d+$", first.task)
    assert.are_not.equal(first.task, second.task)
    assert.matches("^stack traceback:\n.*" .. at_line:gsub("%p", "%%%0"), first.where)
    assert.equal(first.task, pool:leases()[1].task)
    finish()
    assert.same({}, pool:leases())
  end)

  it("has the same numbers as the events and pool:connections", function()
    open()
    local granted
    local leave = pool:subscribe(function(event)
      if event.kind == "claim_granted" then granted = event.lease end
    end)
    local lease = pool:claim()
    assert.equal(granted, pool:leases()[1].id)
    for _, connection in ipairs(pool:connections()) do
      if connection.lease then assert.equal(granted, connection.lease) end
    end
    assert.is_true(pool:revoke { lease = pool:leases()[1].id })
    assert.same({}, pool:leases())
    lease:release()
    leave()
    finish()
  end)

  it("tells the line of an iterator or coroutine within the task that waits", function()
    open()
    local at = line(1)
    local function inner() town.world.sleep(50) end
    town.world.spawn(function()
      pool:with(function() coroutine.wrap(inner)() end)
    end)
    town:advance(10)
    assert.equal(at, pool:leases()[1].at)
    assert.matches("holders_spec.lua", pool:leases()[1].where)
    finish()
  end)

  it("has the line that claimed as it was noted, with claim_sites", function()
    open { claim_sites = true }
    local at = line(2)
    town.world.spawn(function()
      local lease = pool:claim()
      town.world.sleep(50)
      lease:release()
    end)
    town:advance(10)
    assert.equal(at, pool:leases()[1].site)
    finish()
  end)

  it("knows owners, overdue ones, and those whose task is over or that no task claimed", function()
    open { leak_warning_ms = 100 }
    local owner = pool:owner()
    local lease = pool:claim { owner = owner }
    local kept
    town.world.spawn(function() kept = pool:claim() end)
    town:advance(50)
    local list = pool:leases()
    assert.equal("owner 1", list[1].owner)
    assert.same({ nil, nil, nil }, { list[1].task, list[1].at, list[1].where })
    assert.is_false(list[1].is_overdue)
    assert.matches("^task %d+ %(over%)$", list[2].task)
    town:advance(50)
    assert.is_true(pool:leases()[1].is_overdue)
    owner:gone()
    assert.equal(1, #pool:leases())
    kept:release()
    lease:release()
    finish()
  end)

  it("keeps neither tasks nor leases alive", function()
    open()
    local weak = setmetatable({}, { __mode = "v" })
    do
      local task = town.world.spawn(function()
        weak.lease = pool:claim()
        pool:leases()
        weak.lease = nil
      end)
      weak.task = task
    end
    town:advance(1)
    pool:leases()
    town.world.spawn(function() end)
    collect()
    assert.is_nil(weak.task)
    town:advance(2000)
    assert.same({}, pool:leases())
    finish()
  end)

  it("is bounded, and says how many are left out", function()
    open { max_connections = 50, spares = 50 }
    town:advance(100)
    local held = {}
    for number = 1, 30 do held[number] = pool:claim() end
    local list = pool:leases { limit = 7, where = false }
    assert.same({ 7, 23 }, { #list, list.more })
    assert.is_nil(next(list, 7)) -- `more` is no member
    for _, lease in ipairs(held) do lease:release() end
    finish()
  end)

  it("refuses mistakes at the caller's line", function()
    open()
    assert.blames("pool:leases: option 'limit' must be a whole number from 1 to 1000000, not 0", function() pool:leases { limit = 0 } end)
    assert.blames("pool:waiters: unknown option 'x'; there are limit, where", function() pool:waiters { x = 1 } end)
    assert.blames("pool:tree: it must be called with a colon, on its object: pool:tree(…), not pool.tree(…)", function() pool.tree() end)
    finish()
  end)
end)

describe("pool:waiters", function()
  it("lists the claims that wait, in the order of the queue", function()
    open { max_connections = 1 }
    local lease, at = pool:claim(), line(2)
    for number = 1, 3 do
      town.world.spawn(function() pool:claim { timeout_ms = number < 3 and 1000 or false } end)
      town:advance(10)
    end
    local list = pool:waiters()
    assert.same({ 3, 0 }, { #list, list.more })
    assert.same({ { 1, 30, 970, at }, { 2, 20, 980, at }, { 3, 10, nil, at } }, {
      { list[1].number, list[1].waited_ms, list[1].remaining_ms, list[1].site },
      { list[2].number, list[2].waited_ms, list[2].remaining_ms, list[2].site },
      { list[3].number, list[3].waited_ms, list[3].remaining_ms, list[3].site },
    })
    assert.matches("in function 'claim'", list[1].where)
    assert.same({ 1, 2 }, { #pool:waiters { limit = 1 }, pool:waiters({ limit = 1 }).more })
    lease:release()
    finish()
  end)

  it("tells what each holds meanwhile, of this pool and of others", function()
    open { max_connections = 1, deadlock_detection = false }
    local other = cueball.pool {
      host = town.world, name = "cache", resolver = cueball.resolver.static { "10.0.0.1:7000" }, connect = sim_pool.factory(),
      max_connections = 1,
    }
    town:advance(1)
    town.world.spawn(function()
      local lease = other:claim()
      pool:with(function() pool:claim { timeout_ms = 50 } end)
      lease:release()
    end)
    town:advance(10)
    local one = pool:waiters()[1]
    assert.same({ pool:leases()[1].id }, one.holds)
    assert.same({ { pool = "cache", id = other:leases()[1].id, backend = "10.0.0.1:7000" } }, one.holds_elsewhere)
    assert.same({ "db", "db" }, { pool:leases()[1].waits_for, other:leases()[1].waits_for })
    town:advance(1000)
    other:stop()
    finish()
  end)
end)

describe("pool:tree", function()
  it("shows waiters, holders, and what holders wait for themselves", function()
    open { max_connections = 1 }
    local cache = cueball.pool {
      host = town.world, name = "cache", resolver = cueball.resolver.static { "10.0.0.1:7000" }, connect = sim_pool.factory(),
      max_connections = 1,
    }
    town:advance(1)
    local first = debug.getinfo(1, "l").currentline + 1
    town.world.spawn(function() cache:with(function() town.world.sleep(500) end) end)
    town.world.spawn(function() pool:with(function() cache:with(function() end) end) end)
    town:advance(20)
    town.world.spawn(function() pool:claim { timeout_ms = 1000 } end)
    town:advance(30)
    assert.equal(([[
db: 1 claim waits, 1 lease
  claim 1 has waited 30 ms of 1000 ms by task #, claimed at HERE+3
  lease # on db1: held 50 ms by task #, claimed at HERE+1
    which waits for a claim on
    cache: 1 claim waits, 1 lease
      claim 1 has waited 50 ms by task #, claimed at HERE+1, and holds 1 lease meanwhile
      lease # on 10.0.0.1:7000: held 50 ms by task #, claimed at HERE+0]]):gsub("HERE%+(%d)", function(more)
      return HERE .. first + more
    end), without_numbers(pool:tree()))
    town:advance(1000)
    cache:stop()
    finish()
  end)

  it("comes to an end where pools wait for one another, and is bounded", function()
    open { max_connections = 1, deadlock_detection = false }
    local other = cueball.pool {
      host = town.world, name = "cache", resolver = cueball.resolver.static { "10.0.0.1:7000" }, connect = sim_pool.factory(),
      max_connections = 1, deadlock_detection = false,
    }
    town:advance(1)
    local function both(one, two)
      town.world.spawn(function()
        one:with(function()
          town.world.sleep(1)
          two:claim { timeout_ms = 1000 }
        end)
      end)
    end
    both(pool, other)
    both(other, pool)
    for _ = 1, 30 do town.world.spawn(function() pool:claim { timeout_ms = 1000 } end) end
    town:advance(10)
    local tree = pool:tree { limit = 5 }
    assert.matches("which waits for a claim on db, see there", tree)
    assert.matches("\n  … 26 more\n", tree)
    assert.is_true(#tree < 2000)
    town:advance(2000)
    other:stop()
    finish()
  end)
end)

describe("the message of a claim that timed out", function()
  it("names the oldest lease, who holds it, and where", function()
    open { max_connections = 2 }
    local with_line = line(1)
    town.world.spawn(function() pool:with(function() town.world.sleep(5000) end) end)
    town:advance(10)
    local other = pool:claim()
    town:claim("bob", { timeout_ms = 20 })
    town:advance(30)
    assert.equal("claim timed out after 20 ms (0 ahead, 2 busy): 20 ms every connection was busy; the oldest lease, on db1, is held "
      .. "30 ms by task #, claimed at " .. with_line, without_numbers(town.refused))
    other:release()
    finish()
  end)

  it("looks for it only once the one before has come back", function()
    open { max_connections = 20, spares = 20, max_waiters = 1000 }
    town:advance(100)
    local held = {}
    for number = 1, 20 do held[number] = pool:claim() end
    local asked, slot_at = 0, pool.core.slot_at
    pool.core.slot_at = function(...)
      asked = asked + 1
      return slot_at(...)
    end
    for number = 1, 100 do town:claim("waiter " .. number, { timeout_ms = 20 }) end
    town:advance(30)
    assert.equal(100, pool:stats().claim_timeouts)
    assert.is_true(asked <= 21 + 100, asked)
    for _, lease in ipairs(held) do lease:release() end
    finish()
  end)
end)
