--- One connection found dead makes those of its backend suspect that were open already: they are checked before they are lent, or
-- lent last.

local World = require "spec.support.core_world"

local function open(options)
  local world = World.calm({ attempts = 3, timeout_ms = 500, delay_ms = 100, max_delay_ms = 400 }, { max_connections = 4 }, options)
  world.host.check = 5
  world:set { "db1" }
  world:advance(2000)
  return world:forget "grant check fit unfit wait close open blame lost release"
end

local function suspects(world)
  local count = 0
  for _, one in ipairs(world:backends()) do
    count = count + one.suspect
  end
  return count
end

describe("after a lease that failed, with a check", function()
  it("the others are checked at once, in parallel, before they are lent", function()
    local world = open { has_check = true }
    world:claim "alice"
    world:fail "alice"
    assert.equal(3, suspects(world))
    world:claim "bob"
    world:advance(200)
    assert.trace(world, [[
      [2000] grant alice: db1/1
      [2000] blame alice
      [2000] check db1/2
      [2000] check db1/3
      [2000] check db1/4
      [2000] close db1/1
      [2000] wait bob: 0 ahead
      [2005] fit db1/2
      [2005] grant bob: db1/2
      [2005] fit db1/3
      [2005] fit db1/4
      [2100] open db1/1, attempt 2]])
    assert.equal(0, suspects(world))
  end)

  it("those that are dead too are replaced, and nobody meets them", function()
    local world = open { has_check = true }
    world:claim "alice"
    world.host.check = "fail 5"
    world:fail "alice"
    world.host.check = 5
    world:claim("bob", { timeout_ms = 1000 })
    world:advance(1000)
    assert.matches("grant bob: db1/[234]", world:trace())
    assert.equal(3, world:stats().checks_failed)
    assert.equal(0, world:stats().backend_deaths)
    assert.equal(5, world:stats().closed + 1) -- all four
  end)

  it("those that are leased are suspect until they come back in order", function()
    local world = open { has_check = true }
    world:claim "alice"
    world:claim "bob"
    world:claim "carol"
    world:claim "dan"
    world:fail "alice"
    assert.equal(3, suspects(world))
    world:release "bob"
    assert.equal(2, suspects(world))
    world:claim("eve", { timeout_ms = 0 })
    assert.equal(world.leases.eve.label, "db1/2") -- it worked, and needs no check
    assert.equal(0, world:stats().checks)
  end)

  it("no more than a quarter of all, or ten, are checked at the same time", function()
    for _, case in ipairs { { 30, 10 }, { 80, 20 } } do
      local world = open { has_check = true, max_connections = case[1] }
      world:claim "alice"
      world:fail "alice"
      for _ = 1, case[1] / case[2] do
        world:advance(2)
        local checks = world:stats().checks
        world:advance(2)
        assert.equal(checks, world:stats().checks)
        assert.is_true(checks % case[2] == 0 or checks == case[1] - 1, checks)
        world:advance(1)
      end
      world:advance(5)
      assert.equal(case[1] - 1, world:stats().checks)
      assert.equal(0, suspects(world))
    end
  end)

  it("one claimer that fails each lease does not have all checked for ever", function()
    local world = open { has_check = true, max_connections = 20 }
    world.shows = ""
    for _ = 1, 400 do
      if world:claim("alice", { timeout_ms = 0 }) == "granted" then
        world:fail "alice"
      end
      world:advance(5)
    end
    assert.is_true(world:stats().leases_failed > 20)
    assert.is_true(world:stats().checks <= 3 * 5 * 20, world:stats().checks) -- in two seconds and a beginning
  end)
end)

describe("after a lease that failed, without a check", function()
  it("the others are lent last", function()
    local world = open()
    world:claim "alice"
    world:claim "bob"
    world:fail "alice"
    world:release "bob"
    world:advance(200) -- db1/1 is opened anew
    world:forget()
    for _, who in ipairs { "carol", "dan", "eve", "frank" } do
      world:claim(who)
    end
    assert.trace(world, [[
      [2200] grant carol: db1/2
      [2200] grant dan: db1/1
      [2200] grant eve: db1/3
      [2200] grant frank: db1/4]])
  end)

  it("p2c and lifo too", function()
    for _, balance in ipairs { "p2c", "lifo" } do
      local world = open { balance = balance }
      world:claim "alice"
      local first = world.leases.alice.label
      world:fail "alice"
      world:advance(200)
      for number = 1, 20 do
        local name = "user" .. number
        world:claim(name)
        assert.equal(first, world.leases[name].label, balance)
        world:release(name)
      end
    end
  end)

  it("one that works is suspect no longer", function()
    local world = open()
    world:claim "alice"
    world:fail "alice"
    assert.equal(3, suspects(world))
    for number = 1, 3 do
      world:claim("user" .. number)
    end
    for number = 1, 3 do
      world:release("user" .. number)
      assert.equal(3 - number, suspects(world))
    end
  end)

  it("one that is due to be looked at in that moment too, as that asks nothing", function()
    local world = open { check_interval_ms = 1000 }
    world:claim "alice"
    repeat
      world:advance(1)
    until world:stats().checking > 0
    world:fail "alice"
    assert.equal(3, suspects(world))
    world:advance(10)
    assert.equal(3, suspects(world))
  end)

  it("a claim waits for none of them: to wait would be no better", function()
    local world = open()
    world:claim "alice"
    world:fail "alice"
    assert.equal("granted", world:claim "bob")
  end)
end)

describe("suspect makes", function()
  it("a loss at rest", function()
    local world = open()
    world:lose "db1/1"
    assert.equal(3, suspects(world))
  end)

  it("a loss in a lease, as it comes back", function()
    local world = open()
    world:claim "alice"
    world:release_lost "alice"
    assert.equal(3, suspects(world))
  end)

  it("a check that failed: the others are checked that instant, though they are not due", function()
    local world = open { check_interval_ms = 1000, has_check = true }
    world:advance(2000)
    world.host.check = "fail"
    repeat
      world:advance(1)
    until world:stats().checks_failed > 0
    assert.equal(4, world:stats().checks_failed)
  end)

  it("not what a claimer did", function()
    local world = open()
    for _, act in ipairs {
      function() world:close "alice" end, function() world:release_as("alice", "unfit") end,
      function() world:release_as("alice", "worn") end, function() world:release_as("alice", "timeout") end,
    } do
      world:claim "alice"
      act()
      world:advance(10)
    end
    assert.equal(0, suspects(world))
  end)

  it("not one that was suspect itself: that is no news", function()
    local world = open { max_connections = 3 }
    world:claim "alice"
    world:claim "bob"
    world:fail "alice"
    world:advance(200) -- db1/1 is new
    assert.equal(2, suspects(world))
    world:fail "bob"
    assert.equal(1, suspects(world))
  end)

  it("not those of other backends", function()
    local world = open()
    world:set { "db1", "db2" }
    world:advance(3000)
    world:claim "alice"
    local failed = world.leases.alice.label:match "^[^/]+"
    world:fail "alice"
    for _, one in ipairs(world:backends()) do
      assert.equal(one.key == failed and 1 or 0, one.suspect)
    end
  end)
end)
