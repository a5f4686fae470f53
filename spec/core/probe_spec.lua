--- Which dead backends are tried, and when; and backends that take fewer connections than the plan has for them.

local World = require "spec.support.core_world"

--- Attempts of 100 ms at first, pauses of 100, 200 and 400 ms; dead after three.
local function open(options)
  return World.calm({ attempts = 3, timeout_ms = 100, max_timeout_ms = 400, delay_ms = 100, max_delay_ms = 1600 }, options)
end

local function names(count)
  local list = {}
  for number = 1, count do
    list[number] = "db" .. number
  end
  return list
end

-- The times at which each backend was tried, in ms, by key.
local function attempts_in(world)
  local times = {}
  for time, key in world:trace():gmatch "%[ *([%d.]+)%] open (%w+)/" do
    times[key] = times[key] or {}
    table.insert(times[key], tonumber(time))
  end
  return times
end

local function longest_gap(times)
  local longest = 0
  for index = 2, #times do
    longest = math.max(longest, times[index] - times[index - 1])
  end
  return longest
end

-- The backend of those in the pool that is alive.
local function open_at_one(world, backend)
  world.host.open = function(_, key) return key == backend and 0 or "fail 5" end
end

describe("a dead backend", function()
  it("is not tried without a pause where the options make its row of attempts a longer one", function()
    local one = World.recovery { attempts = 1, timeout_ms = 100, delay_ms = 0, spread = 0 }
    local world = World.new(one, { max_connections = 1 })
    world.host.open = "fail"
    world:set { "db1" }
    world:advance(0)
    assert.equal(1, world:stats().dead_backends)
    world:change(World.recovery { attempts = 100, timeout_ms = 100, delay_ms = 0, spread = 0 })
    world:advance(5.5)
    assert.is_true(world:stats().attempts <= 7, world:stats().attempts)
  end)
end)

describe("ten backends of which nine are dead, with ten places", function()
  it("leave eight to the living one", function()
    local world = open { max_connections = 10 }
    open_at_one(world, "db4")
    world:set(names(10))
    world:advance(5000)
    for second = 1, 20 do
      world:advance(100)
      local stats = world:stats()
      assert.is_true(stats.idle >= 8 and stats.total <= 10, second .. ": " .. world:layout())
      assert.equal(9, stats.dead_backends)
    end
  end)

  it("are tried in turn, each once in its pause and what an attempt takes", function()
    local world = open { max_connections = 10 }
    open_at_one(world, "db4")
    world:set(names(10))
    world:advance(5000)
    world.shows = "open"
    world:forget()
    world:advance(10000)
    local times = attempts_in(world)
    for number = 1, 10 do
      local key = "db" .. number
      if key ~= "db4" then
        assert.is_true(longest_gap(times[key]) <= 400 + 9 * 5 / 2 + 5, key .. ": " .. table.concat(times[key], " "))
        assert.is_true(#times[key] >= 22 and #times[key] <= 25, key .. ": " .. #times[key])
      end
    end
  end)

  it("of those that hang, two at a time; the others wait for these two places", function()
    local world = open { max_connections = 10 }
    world.host.open = function(_, key) return key == "db4" and 0 or "never" end
    world:set(names(10))
    world:advance(10000)
    world.shows = "open"
    world:forget()
    for _ = 1, 200 do
      world:advance(100)
      assert.is_true(world:stats().idle >= 8, world:layout())
    end
    -- Nine of them, two at a time, 400 ms each.
    for key, times in pairs(attempts_in(world)) do
      assert.is_true(longest_gap(times) <= 2000 + 400, key .. ": " .. table.concat(times, " "))
    end
  end)

  it("come back one by one, as each has proven itself", function()
    local world = open { max_connections = 10 }
    open_at_one(world, "db4")
    world:set(names(10))
    world:advance(5000)
    world.host.open = 0
    world:advance(30000)
    assert.equal("db1 1, db10 1, db2 1, db3 1, db4 1, db5 1, db6 1, db7 1, db8 1, db9 1", world:layout())
  end)
end)

describe("with one place", function()
  it("the living one has it, and the dead one is tried when it is free no longer than for an attempt", function()
    local world = open { max_connections = 1 }
    open_at_one(world, "db2")
    world:set { "db1", "db2" }
    world:advance(20000)
    assert.same({ 1, 1 }, { world:stats().idle, world:stats().total })
    assert.equal("granted", world:claim "alice")
    assert.matches("^db2/", world.leases.alice.label)
  end)
end)

describe("a dead backend that falls out of the plan", function()
  it("is tried on, though the pool has shrunk to fewer slots than there are backends", function()
    local world = open { max_connections = 6, spares = 1 }
    world:set(names(3))
    world:advance(2000)
    for number = 1, 6 do
      world:claim("user" .. number)
      world:advance(300)
    end
    local victim = world.leases.user1.label:match "^[^/]+"
    world.host[victim] = { open = "fail" }
    for number = 1, 6 do
      local name = "user" .. number
      if world.leases[name] then
        if world.leases[name].label:match "^[^/]+" == victim then world:fail(name) else world:release(name) end
      end
    end
    for _ = 1, 40 do -- some load, so that its attempts come to three
      world:advance(100)
      for number = 1, 6 do world:claim("try" .. number, { timeout_ms = 0 }) end
      world:advance(5)
      for number = 1, 6 do
        if world.leases["try" .. number] then world:release("try" .. number) end
      end
    end
    assert.equal(1, world:stats().dead_backends)
    world:advance(20000)
    world.shows = "open"
    world:forget()
    world:advance(4000)
    assert.is_true(#(attempts_in(world)[victim] or {}) >= 4000 / 400 - 1, world:trace())
    world.host[victim] = nil
    world:advance(5000)
    assert.equal(0, world:stats().dead_backends)
  end)

  it("is tried on, though its weight has no slot for it", function()
    local world = open { max_connections = 3 }
    world.host.db2 = { open = "fail" }
    world:set { { "db1", weight = 100 }, { "db2", weight = 100 } }
    world:advance(2000)
    assert.equal(1, world:stats().dead_backends)
    world:set { { "db1", weight = 1000 }, { "db2", weight = 1 } }
    world:advance(2000)
    world.host.db2 = nil
    world:advance(5000)
    assert.equal(0, world:stats().dead_backends)
  end)
end)

describe("what the resolver names while nothing is open", function()
  it("is connected to in the same turn", function()
    local world = open { max_connections = 2, rebalance_delay_ms = 100 }
    world.shows = "open"
    world:add "db1"
    world:advance(0)
    assert.trace(world, "[   0] open db1/1\n[   0] open db1/2")
  end)

  it("is waited for no longer than the turn lasts: what is added with it is planned with it", function()
    local world = open { max_connections = 4, rebalance_delay_ms = 100 }
    world.shows = "open"
    world:add "db1"
    world:add "db2"
    world:advance(0)
    assert.trace(world, "[   0] open db1/1\n[   0] open db2/1\n[   0] open db1/2\n[   0] open db2/2")
  end)

  it("in a pool that has failed, too", function()
    local world = open { max_connections = 1, rebalance_delay_ms = 100 }
    world.host.db1 = { open = "fail" }
    world:set { "db1" }
    world:advance(2050)
    assert.equal("failed", world:state())
    world.shows = "open grant"
    world:forget()
    world:add "db2"
    world:advance(0)
    assert.trace(world, "[2050] open db2/1")
    assert.equal("running", world:state())
    assert.equal("granted", world:claim "alice")
  end)

  it("leaves the quiet time of later changes alone", function()
    local world = open { max_connections = 4, rebalance_delay_ms = 100 }
    world:add "db1"
    world:advance(60000)
    world.shows = "open"
    world:forget()
    world:add "db2"
    world:advance(50)
    world:add "db3"
    world:advance(99)
    assert.trace(world, "")
    world:advance(1)
    assert.is_truthy(world:trace():find("[60150] open db2/1", 1, true))
  end)
end)

describe("three servers that take 20 connections each, of a pool of 90", function()
  local function crowded(more)
    local world = open { max_connections = 90 }
    world.host.open = function(self, key)
      for _, one in ipairs(self:backends()) do
        if one.key == key and one.idle + one.busy >= (more and more[key] or 20) then
          return "fail 1"
        end
      end
      return 0
    end
    world:watch(1000, "backend_limited backend_dead")
    world:set { "db1", "db2", "db3" }
    return world
  end

  it("are tried by one more each, ever less often, and it is said once what they take", function()
    local world = crowded()
    world:advance(60000)
    assert.equal("db1 21, db2 21, db3 21", world:layout())
    local attempts = world:stats().attempts
    world:advance(600000)
    local each_minute = (world:stats().attempts - attempts) / 10
    assert.is_true(each_minute <= 3 * 60000 / 1600 + 1, each_minute .. " attempts a minute")
    local said = {}
    for _, event in ipairs(world:take_events()) do
      said[#said + 1] = ("%s %d"):format(event.kind, event.count)
      assert.is_true(event.from >= 30, event.from) -- what the plan had for it
    end
    assert.same({ "backend_limited 20", "backend_limited 20", "backend_limited 20" }, said)
    for _, one in ipairs(world:backends()) do
      assert.equal(20, one.takes)
    end
    assert.equal(60, world:stats().idle)
  end)

  it("and a fourth that takes more: it gets the rest", function()
    local world = crowded { db4 = 1000 }
    world:advance(10000)
    world:add "db4"
    world:advance(60000)
    assert.equal("db1 21, db2 21, db3 21, db4 27", world:layout())
  end)

  it("and give what they have for as long as they have it: nobody is dead", function()
    local world = crowded()
    world:advance(60000)
    for number = 1, 60 do
      assert.equal("granted", world:claim("user" .. number))
    end
    world:advance(60000)
    assert.equal(0, world:stats().backend_deaths)
  end)

  it("are found out when they take more", function()
    local limits = { db1 = 20, db2 = 20, db3 = 20 }
    local world = crowded(limits)
    world:advance(60000)
    limits.db2 = 1000
    world:advance(120000)
    assert.equal("db1 21, db2 48, db3 21", world:layout())
  end)
end)
