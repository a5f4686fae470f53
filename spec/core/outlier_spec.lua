--- Backends whose leases fail, though connections to them open, are left out for a while.

local World = require "spec.support.core_world"

local DEFAULTS = {
  max_connections = 10, rebalance_delay_ms = 0,
  ["outlier.consecutive"] = 3, ["outlier.interval_ms"] = 10000, ["outlier.ejection_ms"] = 1000, ["outlier.max_ejected"] = 1,
}

local function pool(backends, options)
  local world = World.calm({ attempts = 2, delay_ms = 10, max_delay_ms = 10 }, DEFAULTS, options)
  world.shows = ""
  world:watch(1000, "backend_ejected backend_returned")
  world:set(backends)
  world:advance(1)
  return world
end

local function backend(world, key)
  for _, one in ipairs(world:backends()) do
    if one.key == key and not one.removed then
      return one
    end
  end
end

--- Keys of those ejected, sorted: "a c".
local function ejected(world)
  local list = {}
  for _, one in ipairs(world:backends()) do
    if one.ejected then
      list[#list + 1] = one.key
    end
  end
  table.sort(list)
  assert.equal(#list, world:stats().ejected_backends)
  return table.concat(list, " ")
end

--- Ends leases at that backend so: "fail fail badly:release"; what stands before a colon is said before it ends.
-- Others taken on the way are closed, which says nothing.
local function leases(world, key, ends)
  for step in ends:gmatch "%S+" do
    local said, word = step:match "^(%a-):?(%a+)$"
    local others, found = {}, nil
    while not found do
      local name = "try" .. #others
      if world:claim(name) ~= "granted" then
        world:cancel(name)
        for _, other in ipairs(others) do
          world:close(other)
        end
        error("no connection to " .. key)
      end
      if world.leases[name].label:match "^[^/]+" == key then
        found = name
      else
        others[#others + 1] = name
      end
    end
    if said ~= "" then
      world:went(found, said == "well")
    end
    world[word](world, found)
    for _, other in ipairs(others) do
      world:close(other)
    end
    world:advance(20) -- the pause of the connection that failed
  end
end

describe("a backend whose leases fail", function()
  it("so often in a row is ejected: no connections, and its share goes to the others", function()
    local world = pool { "a", "b", "c" }
    leases(world, "a", "fail fail")
    assert.equal("", ejected(world))
    leases(world, "a", "fail")
    assert.equal("a", ejected(world))
    assert.equal(0, backend(world, "a").total)
    assert.equal(10, world:stats().total)
    assert.equal(1, world:stats().ejections)
    local event = world:take_events()[1]
    assert.same({ "backend_ejected", 1 }, { event.kind, event.count })
    assert.same(backend(world, "a").handle, event.backend)
    world:advance(500)
    world:add "d" -- a new plan leaves it out, too
    world:advance(10)
    assert.equal(0, backend(world, "a").total)
  end)

  it("returns after ejection_ms", function()
    local world = pool { "a", "b", "c" }
    world:advance(1000)
    leases(world, "a", "fail fail")
    local began = world:time()
    leases(world, "a", "fail")
    world:advance(began + 1000 - world:time() - 0.001)
    assert.equal("a", ejected(world))
    world:advance(0.001)
    assert.equal("", ejected(world))
    assert.is_true(backend(world, "a").total >= 3)
    local events = world:take_events()
    assert.equal("backend_returned", events[2].kind)
  end)

  it("is forgiven by one that succeeds, not by one that is closed", function()
    local world = pool { "a", "b" }
    leases(world, "a", "fail fail release fail fail")
    assert.equal("", ejected(world))
    leases(world, "a", "close fail")
    assert.equal("a", ejected(world))
  end)

  it("may be told so and keep its connection, and is alive", function()
    local world = pool { "a", "b" }
    for number = 1, 10 do
      world:claim("c" .. number)
    end
    for number = 1, 10 do
      world:went("c" .. number, number % 2 == 0)
      world:went("c" .. number, true)
      world:release("c" .. number)
    end
    assert.same({ 10, 0, 10 }, { world:stats().opened, world:stats().leases_failed, world:stats().idle })
    leases(world, "a", "badly:release badly:release well:release badly:release badly:release")
    assert.equal("", ejected(world))
    leases(world, "a", "badly:release")
    assert.equal("a", ejected(world))
    assert.is_false(backend(world, "a").dead)
    world:advance(2000)
    leases(world, "a", "badly:close badly:fail well:close badly:fail badly:release") -- each counts once
    assert.equal("", ejected(world))
    leases(world, "a", "close badly:close")
    assert.equal("a", ejected(world))
  end)

  it("is counted by itself", function()
    local world = pool { "a", "b", "c", "d" }
    leases(world, "a", "fail fail")
    leases(world, "b", "fail fail")
    leases(world, "c", "release release")
    assert.equal("", ejected(world))
    leases(world, "b", "fail")
    assert.equal("b", ejected(world))
    leases(world, "a", "fail")
    assert.equal("a b", ejected(world))
  end)

  it("is ejected for longer each time, up to ten times as long", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1, ["outlier.interval_ms"] = 86400000 })
    for i = 1, 13 do
      leases(world, "a", "fail")
      local began = world:time() - 20
      assert.equal("a", ejected(world))
      local times = math.min(i, 10)
      world:advance(began + times * 1000 - 1 - world:time())
      assert.equal("a", ejected(world))
      world:advance(1.001)
      assert.equal("", ejected(world))
    end
  end)

  it("has one ejection forgotten for each interval without", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1, ["outlier.interval_ms"] = 5000 })
    local function eject()
      leases(world, "a", "fail")
      local events = world:take_events()
      local count = events[#events].count
      world:advance(count * 1000)
      assert.equal("", ejected(world))
      return count
    end
    assert.same({ 1, 2, 3, 4 }, { eject(), eject(), eject(), eject() })
    world:advance(4900)
    assert.equal(5, eject())
    world:advance(5000) -- one interval: 5 - 1, and this one
    assert.equal(5, eject())
    world:advance(15000)
    assert.equal(3, eject())
    world:advance(1e6)
    assert.equal(1, eject())
  end)

  it("leaves leases that are out alone, and takes their connections when they come back", function()
    local world = pool({ "a", "b" }, { max_connections = 6 })
    local mine = {}
    for i = 1, 6 do
      world:claim("c" .. i)
      if world.leases["c" .. i].label:match "^a" then
        mine[#mine + 1] = "c" .. i
      end
    end
    assert.equal(3, #mine)
    world:release(mine[1])
    world:claim(mine[1])
    for _ = 1, 3 do
      for i, name in ipairs(mine) do
        if world.leases[name] and i > 1 then
          world:fail(name)
          world:advance(20)
          if not backend(world, "a").ejected then
            world:claim(name)
          end
        end
      end
    end
    assert.equal("a", ejected(world))
    assert.is_truthy(world.leases[mine[1]])
    assert.equal(1, backend(world, "a").total)
    world:release(mine[1])
    assert.equal(0, backend(world, "a").total)
  end)
end)

describe("of the backends", function()
  it("at most the share may be ejected at once, but one at least", function()
    for share, most in pairs { [0] = 1, [0.1] = 1, [0.3] = 1, [0.4] = 2, [0.75] = 3, [1] = 4 } do
      local world = pool({ "a", "b", "c", "d", "e" }, { ["outlier.max_ejected"] = share, ["outlier.consecutive"] = 1 })
      local count = 0
      for _, key in ipairs { "a", "b", "c", "d", "e" } do
        leases(world, key, "fail")
        count = count + 1
        assert.equal(math.min(count, most), world:stats().ejected_backends, "share " .. share)
      end
    end
  end)

  it("the last that lives is never ejected", function()
    local world = pool({ "a" }, { ["outlier.consecutive"] = 1 })
    leases(world, "a", "fail fail fail fail")
    assert.equal("", ejected(world))
    world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1 })
    leases(world, "a", "fail")
    leases(world, "b", "fail fail fail")
    assert.equal("a", ejected(world))
  end)

  it("the last that lives is never ejected beside dead ones", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1 })
    world.host.b = { open = "fail" }
    for label in pairs(world.conns) do
      if label:match "^b" then
        world:lose(label)
      end
    end
    world:advance(1000)
    assert.is_true(backend(world, "b").dead)
    leases(world, "a", "fail fail fail")
    assert.equal("", ejected(world))
    assert.equal(0, world:stats().ejections) -- not even for an instant
  end)

  it("all ejected ones return when the rest is dead", function()
    local world = pool({ "a", "b", "c" }, { ["outlier.consecutive"] = 1, ["outlier.ejection_ms"] = 1e6 })
    leases(world, "a", "fail")
    leases(world, "b", "fail")
    assert.equal("a b", ejected(world))
    world.host.c = { open = "fail" }
    for label in pairs(world.conns) do
      if label:match "^c" then
        world:lose(label)
      end
    end
    world:advance(1000)
    assert.equal("", ejected(world))
    assert.is_true(backend(world, "c").dead)
    assert.equal("running", world:state())
    assert.is_true(backend(world, "a").idle > 0 and backend(world, "b").idle > 0)
  end)

  it("all ejected ones return when the rest is removed", function()
    local world = pool({ "a", "b", "c" }, { ["outlier.consecutive"] = 1, ["outlier.ejection_ms"] = 1e6 })
    leases(world, "a", "fail")
    leases(world, "b", "fail")
    world:remove "c"
    assert.equal("", ejected(world))
    world:advance(1)
    assert.equal("a 5, b 5", world:layout())
  end)

  it("one that is ejected may be removed, and is new when it comes again", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1 })
    leases(world, "a", "fail")
    leases(world, "b", "release")
    world:remove "a"
    assert.equal("", ejected(world))
    world:advance(10)
    world:add "a"
    world:advance(10)
    assert.equal("a 5, b 5", world:layout())
    leases(world, "a", "fail")
    local events = world:take_events()
    assert.equal(1, events[#events].count)
    world:advance(5000)
    assert.equal("", ejected(world))
  end)
end)

describe("outlier.consecutive", function()
  it("of 0 is off, as it is unless it is set", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 0 })
    leases(world, "a", ("fail "):rep(30))
    assert.equal("", ejected(world))
    assert.equal(0, World.descriptors["outlier.consecutive"].initial)
  end)

  it("turned off lets all return; turned on again begins at none", function()
    local world = pool { "a", "b", "c" }
    leases(world, "a", "fail fail fail")
    leases(world, "b", "fail fail")
    assert.equal("a", ejected(world))
    world:change { ["outlier.consecutive"] = 0 }
    assert.equal("", ejected(world))
    assert.is_true(backend(world, "a").total >= 3)
    world:change { ["outlier.consecutive"] = 3 }
    leases(world, "b", "fail fail")
    assert.equal("", ejected(world))
    leases(world, "b", "fail")
    assert.equal("b", ejected(world))
  end)

  it("does not keep a stopping pool", function()
    local world = pool({ "a", "b" }, { ["outlier.consecutive"] = 1 })
    leases(world, "a", "fail")
    world:stop()
    world:advance(100000)
    assert.equal("stopped", world:state())
    assert.equal(World.NEVER, world:deadline())
  end)
end)
