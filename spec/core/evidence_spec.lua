--- What proves that a backend works, what counts against it, and what does neither: opened is not working, and what a claimer did is not
-- the backend's fault.

local World = require "spec.support.core_world"

--- Pauses of 100, 200, 400 ms … up to 1600; dead after three attempts.
local function open(options)
  local recovery = { attempts = 3, timeout_ms = 100, max_timeout_ms = 800, delay_ms = 100, max_delay_ms = 1600 }
  return World.calm(recovery, { max_connections = 1 }, options)
end

-- The events of some kinds since the last call: "[ 300] backend_dead lost".
local function told(world)
  local lines = {}
  for _, event in ipairs(world:take_events()) do
    lines[#lines + 1] = ("[%4.10g] %s%s"):format(event.time, event.kind, event.cause ~= "none" and " " .. event.cause or "")
  end
  return table.concat(lines, ", ")
end

-- A world whose only backend is dead, and accepts again from its fourth attempt, at 700 ms, on.
local function with_a_dead_one(options)
  local world = open(options)
  world:watch(1000, "backend_dead backend_revived pool_state")
  world.host.open = "fail"
  world:set { "db1" }
  world:advance(350)
  assert.equal("failed", world:state())
  world.host.open = 0
  world:advance(400)
  world:take_events()
  world.shows = "open"
  world:forget()
  return world
end

describe("a backend that accepts and closes", function()
  it("at once, is tried by one connection, with pauses that grow on", function()
    local world = open()
    world.host.lasts = 0
    world.shows = "open"
    world:watch(1000, "backend_dead backend_revived pool_state")
    world:set { "db1" }
    world:advance(6000)
    assert.trace(world, [[
      [   0] open db1/1
      [ 100] open db1/1, attempt 2
      [ 300] open db1/1, attempt 3
      [ 700] open db1/1, attempt 4
      [1500] open db1/1, attempt 5
      [3100] open db1/1, attempt 6
      [4700] open db1/1, attempt 7]])
    assert.equal("[   0] pool_state, [ 300] backend_dead lost, [ 300] pool_state", told(world))
  end)

  for _, case in ipairs { { 50, 450, 1700 }, { 120, 660, 1980 }, { 900, 3000, 5100 } } do
    local lasts, death, fifth = unpack(case)
    it(("after %d ms, likewise"):format(lasts), function()
      local world = open()
      world.host.lasts = lasts
      world.shows = "open"
      world:watch(1000, "backend_dead backend_revived pool_state")
      world:set { "db1" }
      world:advance(fifth)
      assert.matches(("%%[%d%%] open db1/1, attempt 5$"):format(fifth), world:trace())
      world:advance(600000)
      assert.equal(("[   0] pool_state, [%4d] backend_dead lost, [%4d] pool_state"):format(death, death), told(world))
      local attempts = world:stats().attempts
      world:advance(60000)
      local cycle = lasts + 1600
      assert.is_true(world:stats().attempts - attempts <= 60000 / cycle + 1, world:stats().attempts - attempts)
    end)
  end

  it("costs as much with 100 connections as with one, once it is dead", function()
    local world = open { max_connections = 100 }
    world.host.lasts = 0
    world:set { "db1" }
    world:advance(3100)
    local attempts = world:stats().attempts
    world:advance(16000)
    assert.equal(10, world:stats().attempts - attempts)
    assert.equal("db1 1 dead", world:layout())
  end)

  it("after longer than a connection needs to prove itself, is one that closes idle connections", function()
    local world = open()
    world.host.lasts = 1100
    world.shows = "open lost"
    world:set { "db1" }
    world:advance(2200)
    assert.trace(world, [[
      [   0] open db1/1
      [1100] lost db1/1
      [1100] open db1/1
      [2200] lost db1/1
      [2200] open db1/1]])
  end)
end)

describe("a dead backend is alive again", function()
  it("when its connection came back in order", function()
    local world = with_a_dead_one()
    assert.equal("granted", world:claim "alice")
    world:advance(10)
    world:release "alice"
    assert.equal("[ 760] backend_revived release, [ 760] pool_state", told(world))
  end)

  it("when it has delivered, though it is used up", function()
    local world = with_a_dead_one()
    world:claim "alice"
    world:release_as("alice", "worn")
    assert.equal("[ 750] backend_revived worn, [ 750] pool_state", told(world))
    assert.trace(world, "[ 750] open db1/1") -- without a pause
  end)

  it("when it has delivered, though its claimer closes it", function()
    local world = with_a_dead_one()
    world:claim "alice"
    world:unfit("db1/1", "worn")
    world:close "alice"
    assert.equal("[ 750] backend_revived worn, [ 750] pool_state", told(world))
  end)

  it("when it was checked before it was lent, and found fit", function()
    local world = open { has_check = true }
    world:watch(1000, "backend_dead backend_revived pool_state")
    world.host.open, world.host.check = "fail", 5
    world.shows = "open check fit unfit grant"
    world:set { "db1" }
    world:advance(350)
    world.host.open = 0
    world:take_events()
    world:forget()
    world:advance(400)
    assert.trace(world, [[
      [ 700] open db1/1, attempt 4
      [ 700] check db1/1
      [ 705] fit db1/1]])
    assert.equal("[ 705] backend_revived check, [ 705] pool_state", told(world))
  end)

  it("when it lasted for twice the pause before its attempt, one second at least", function()
    local world = with_a_dead_one()
    world:advance(10000)
    assert.equal("[1700] backend_revived lasted, [1700] pool_state", told(world))
    world = open()
    world:watch(1000, "backend_revived")
    world.host.lasts = 0
    world:set { "db1" }
    world:advance(4000)
    world.host.lasts = nil
    world:advance(10000) -- attempt 7 at 4700, after a pause of 1600
    assert.equal("[7900] backend_revived lasted", told(world))
  end)

  it("when it lasted for proven_after_ms, leased or not", function()
    local world = with_a_dead_one { proven_after_ms = 70 }
    world:claim "alice"
    world:advance(1000)
    assert.equal("[ 770] backend_revived lasted, [ 770] pool_state", told(world))
    world:release "alice"
  end)

  for _, case in ipairs {
    { "its connection was closed by its claimer", function(world) world:close "alice" end },
    { "its connection came back in a state that is not to be lent", function(world) world:release_as("alice", "unfit") end },
    { "an answer did not come in time", function(world) world:release_as("alice", "timeout") end },
    { "its claimer's owner went", function(world) world:owner_gone "somebody" world:input "time_advanced" end },
  } do
    local what, act = unpack(case)
    it("not when " .. what .. "; and that attempt does not count", function()
      local world = with_a_dead_one()
      world:owner "somebody"
      world:claim("alice", { owner = "somebody" })
      act(world)
      world:advance(700)
      assert.equal("", told(world))
      assert.trace(world, "[1150] open db1/1, attempt 4")
    end)
  end

  for _, case in ipairs {
    { "failed its claimer", function(world) world:fail "alice" end },
    { "broke in its lease", function(world) world:release_lost "alice" end },
    { "broke in its lease, whose claimer closes it", function(world) world:lose "db1/1" world:close "alice" end },
  } do
    local what, act = unpack(case)
    it("not when its connection " .. what .. "; and that attempt counts", function()
      local world = with_a_dead_one()
      world:claim "alice"
      act(world)
      world:advance(900)
      assert.equal("", told(world))
      assert.trace(world, "[1550] open db1/1, attempt 5")
    end)
  end

  it("not when a check that asks nothing is over", function()
    local world = open { check_interval_ms = 20 }
    world:watch(1000, "backend_revived")
    world.host.open = "fail"
    world:set { "db1" }
    world:advance(350)
    world.host.open = 0
    world:advance(400 + 200)
    assert.is_true(world:stats().checks > 3)
    assert.equal("", told(world))
  end)
end)

describe("what a claimer did", function()
  for _, case in ipairs {
    { "an unfit connection", function(world) world:release_as("alice", "unfit") end },
    { "one whose answer did not come in time", function(world) world:release_as("alice", "timeout") end },
    { "one that was closed", function(world) world:close "alice" end },
    { "one that was used up", function(world) world:release_as("alice", "worn") end },
  } do
    local what, act = unpack(case)
    it("is not the backend's fault: " .. what .. " is replaced at once, however young", function()
      local world = open()
      world:set { "db1" }
      for number = 1, 50 do
        assert.equal("granted", world:claim "alice", "claim " .. number)
        act(world)
        world:advance(1)
      end
      local stats = world:stats()
      assert.same({ 0, 0, 51, 50 }, { stats.backend_deaths, stats.lost, stats.opened, stats.closed })
    end)
  end

  it("costs an attempt each time, and these are paced: so many at once, then 2000 a second", function()
    local world = open()
    world.shows = ""
    world:set { "db1" }
    local function storm()
      local count = 0
      while count < 1000 and world:claim("alice", { timeout_ms = 0 }) == "granted" do
        world:close "alice"
        count = count + 1
      end
      return count
    end
    world:advance(1000)
    assert.is_true(storm() <= 110)
    for _ = 1, 20 do
      world:advance(10)
      assert.equal(20, storm())
    end
  end)
end)

describe("a backend dies", function()
  it("of connections that broke before they delivered anything, three times in a row", function()
    local world = open()
    world:watch(1000, "backend_dead")
    world.shows = "open grant lost release"
    world:set { "db1" }
    for number = 1, 3 do
      world:claim("alice", { timeout_ms = 1000 })
      world:advance(number * 100)
      world:release_lost "alice"
      world:advance(100 * 2 ^ (number - 1))
    end
    assert.equal("[ 900] backend_dead lost", told(world))
    assert.equal("db1 1 dead", world:layout())
  end)

  it("not of one that closes each connection after it has answered", function()
    local world = open()
    world.shows = "open"
    world:set { "db1" }
    for _ = 1, 100 do
      assert.equal("granted", world:claim "alice")
      world:advance(1)
      world:release_as("alice", "worn")
    end
    assert.same({ 0, 101 }, { world:stats().backend_deaths, world:stats().attempts })
  end)

  it("of leases that failed, after pauses", function()
    local world = open()
    world:watch(1000, "backend_dead")
    world.shows = "open blame"
    world:set { "db1" }
    for _ = 1, 3 do
      world:claim("alice", { timeout_ms = 5000 })
      world:advance(1)
      world:fail "alice"
      world:advance(400)
    end
    assert.trace(world, [[
      [   0] open db1/1
      [   1] blame alice
      [ 101] open db1/1, attempt 2
      [ 402] blame alice
      [ 602] open db1/1, attempt 3
      [ 803] blame alice
      [1203] open db1/1, attempt 4]])
    assert.equal("[ 803] backend_dead fail", told(world))
  end)

  it("of checks that fail", function()
    local world = open { has_check = true, check_interval_ms = 50 }
    world:watch(1000, "backend_dead")
    world.host.check = "fail"
    world:set { "db1" }
    world:advance(2000)
    assert.matches("^%[ *%d+[%.%d]*%] backend_dead unfit$", told(world))
  end)

  it("not while others of its connections do better: then it takes so many", function()
    local world = open { max_connections = 3 }
    world:watch(1000, "backend_dead backend_limited")
    world:set { "db1" }
    world:advance(2000)
    world.host.open = "fail"
    world:claim "alice"
    world:fail "alice"
    world:advance(5000)
    local event = world:take_events()[1]
    assert.same({ "backend_limited", 3, 2 }, { event.kind, event.from, event.count })
    assert.equal(2, world:backends()[1].takes)
    assert.equal(0, world:stats().backend_deaths)
  end)
end)

describe("an opened connection to a dead backend decides nothing", function()
  it("about priorities: the standby's connections stay", function()
    local world = open { max_connections = 4 }
    world.host.db1 = { open = 0, lasts = 30 }
    world:watch(1000, "priority pool_state backend_dead backend_revived")
    world:set { "db1", { "db2", priority = 1 } }
    world:advance(1000)
    assert.equal("[   0] priority, [   0] pool_state, [ 390] backend_dead lost, [ 390] priority", told(world))
    world:claim "alice"
    local opened = world:stats().opened
    world.shows = "open close"
    world:forget()
    world:advance(6000)
    assert.equal("", told(world))
    assert.is_nil(world:trace():find("db2", 1, true))
    assert.is_true(world:stats().opened > opened + 2) -- to db1, in vain
    assert.equal("db2", world.leases.alice.label:match "^[^/]+")
  end)

  it("about slow start, which begins when it has proven itself", function()
    local world = open { max_connections = 20, slow_start_ms = 10000 }
    world.host.db1 = { open = "fail" }
    world:set { "db1", "db2" }
    world:advance(1000)
    assert.equal("db1 1 dead, db2 19", world:layout())
    world.host.db1 = { open = 0 }
    world:advance(1000)
    assert.equal("db1 1 dead, db2 19", world:layout()) -- open since 1100, and too young
    world:advance(200)
    assert.matches("^db1 [123], db2 1[789]$", world:layout())
    world:advance(10000)
    assert.equal("db1 10, db2 10", world:layout())
  end)

  it("about outlier: what opened has not made good for the leases that failed", function()
    local world = open { max_connections = 2, ["outlier.consecutive"] = 3 }
    world:watch(1000, "backend_ejected")
    world:set { "db1", "db2" }
    world:advance(2000)
    for number = 1, 3 do
      local name = "user" .. number
      repeat
        world:claim(name)
        local is_db1 = world.leases[name].label == "db1/1"
        if not is_db1 then world:release(name) end
      until is_db1
      world:fail(name)
      world:advance(300)
    end
    assert.matches("backend_ejected", told(world))
  end)

  it("about the plan: 100 connections wait for the proof", function()
    local world = open { max_connections = 100 }
    world.host.open = "fail"
    world:set { "db1" }
    world:advance(650)
    world.host.open = 0
    world:advance(1000) -- open since 700
    assert.equal("db1 1 dead", world:layout())
    world:advance(100)
    assert.equal("db1 100", world:layout())
  end)
end)
