--- The order of preference: who comes takes the place of who goes, and nobody else's connections are moved.

local World = require "spec.support.core_world"

local function shuffled(list)
  for i = #list, 2, -1 do
    local j = math.random(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

local function open(seed, backends, max_connections)
  local world = World.new {
    max_connections = max_connections, rebalance_delay_ms = 50, check_interval_ms = 0, decoherence_interval_ms = 0, seed = seed,
  }
  world.shows = ""
  world:set(backends)
  world:advance(500)
  return world
end

local function totals(world)
  local list = {}
  for _, one in ipairs(world:backends()) do
    if not one.removed then
      list[one.key] = one.total
    end
  end
  return list
end

-- { "b7", weight =, priority = }
local function backend(number, weights, priorities)
  return { "b" .. number, weight = weights[math.random(#weights)], priority = priorities[math.random(#priorities)] }
end

-- The ways in which a resolver may say that some go and others come.
local WAYS = {
  set = function(world, list)
    world:set(shuffled { unpack(list) })
  end,
  ["add, then remove"] = function(world, _, going, coming)
    for _, one in ipairs(coming) do world:add(one[1], one) end
    for _, one in ipairs(going) do world:remove(one[1]) end
  end,
  ["remove, then add"] = function(world, _, going, coming)
    for _, one in ipairs(going) do world:remove(one[1]) end
    for _, one in ipairs(coming) do world:add(one[1], one) end
  end,
  ["in any order"] = function(world, _, going, coming)
    local steps = {}
    for _, one in ipairs(going) do steps[#steps + 1] = function() world:remove(one[1]) end end
    for _, one in ipairs(coming) do steps[#steps + 1] = function() world:add(one[1], one) end end
    for _, step in ipairs(shuffled(steps)) do step() end
  end,
}

describe("who comes for who goes", function()
  for way, apply in pairs(WAYS) do
    it("moves no connection of those that stay, by " .. way, function()
      for seed = 1, 60 do
        math.randomseed(seed)
        local weights = seed % 3 == 0 and { 1, 2, 5 } or { 1 }
        local priorities = seed % 4 == 0 and { 0, 1 } or { 0 }
        local list, count = {}, math.random(2, 12)
        for number = 1, count do list[number] = backend(number, weights, priorities) end
        local world = open(seed, list, math.random(1, 40))
        for round = 1, 5 do
          local before, attempts = totals(world), world:stats().attempts
          local going, coming, fresh = {}, {}, 0
          shuffled(list)
          for i = 1, math.random(1, math.min(3, #list)) do
            going[i] = list[i]
            coming[i] = { "r" .. round .. "n" .. i, weight = list[i].weight, priority = list[i].priority }
            fresh = fresh + before[list[i][1]]
            list[i] = coming[i]
          end
          shuffled(coming)
          apply(world, list, going, coming)
          world:advance(1000)
          local after = totals(world)
          for _, one in ipairs(list) do
            local had = before[one[1]]
            assert.equal(had or after[one[1]], after[one[1]], ("seed %d, round %d, %s"):format(seed, round, one[1]))
          end
          assert.equal(attempts + fresh, world:stats().attempts, ("seed %d, round %d"):format(seed, round))
        end
      end
    end)
  end

  it("has nothing to do with one of another weight or priority, nor with one that went before the last plan", function()
    local moved = 0
    for seed = 1, 40 do
      local world = open(seed, { "a", "b", "c", "d" }, 6)
      world:remove "a"
      world:advance(100)
      local before = totals(world)
      world:add("e", { weight = 3 })
      world:advance(100)
      world:add("f", { priority = 5 })
      world:remove "b"
      world:advance(100)
      assert.equal(0, totals(world).f)
      assert.equal(6, world:stats().total)
      moved = moved + math.abs(totals(world).c - before.c)
    end
    assert.is_true(moved > 0)
  end)

  it("takes a place that is drawn, so that clients that hear the same still differ", function()
    for way, apply in pairs(WAYS) do
      local first = { a = 0, b = 0, c = 0 }
      for seed = 1, 300 do
        math.randomseed(seed)
        local world = open(seed, { "x", "y", "z" }, 1)
        local coming = { { "a" }, { "b" }, { "c" } }
        apply(world, coming, { { "x" }, { "y" }, { "z" } }, { { "a" }, { "b" }, { "c" } })
        world:advance(1000)
        for key, total in pairs(totals(world)) do first[key] = first[key] + total end
      end
      for key, count in pairs(first) do
        assert.is_true(count > 70 and count < 130, ("%s: %s is first %d times of 300"):format(way, key, count))
      end
    end
  end)

  it("holds for one that moves to another address under its key", function()
    for seed = 1, 40 do
      local world = open(seed, { "a", "b", "c", "d", "e" }, 7)
      local before = totals(world)
      world:add("c", { address = "10.9.9.9" })
      world:advance(500)
      assert.same(before, totals(world), "seed " .. seed)
    end
  end)
end)

describe("one that comes or goes alone", function()
  it("changes others by what it gets, or by what it had, and by no more", function()
    for seed = 1, 200 do
      math.randomseed(seed)
      local list, count = {}, math.random(1, 10)
      for number = 1, count do list[number] = "b" .. number end
      local world = open(seed, list, math.random(1, 30))
      local before = totals(world)
      world:add "new"
      world:advance(500)
      local after = totals(world)
      for key, had in pairs(before) do assert.is_true(after[key] <= had, "seed " .. seed) end
      local going = list[math.random(count)]
      world:remove(going)
      world:advance(500)
      for key, has in pairs(totals(world)) do assert.is_true(has >= after[key], "seed " .. seed) end
    end
  end)
end)
