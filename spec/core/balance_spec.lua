--- Which connection a claim gets: p2c, and what changes when the balance does. (fifo and lifo: claim_spec.)

local Load = require "spec.support.core_load"
local World = require "spec.support.core_world"

local DECAY = 10000 -- ms, of the peak EWMA

--- The balance's own arithmetic, once more, in ms.
local Model = {}
Model.__index = Model

local function model()
  return setmetatable({ latency = { a = 0, b = 0 }, at = { a = 0, b = 0 }, leases = { a = {}, b = {} } }, Model)
end

function Model:began(key, name, now)
  self.leases[key][name] = now
end

function Model:ended(key, name, now)
  local held = now - self.leases[key][name]
  self.leases[key][name] = nil
  if held < self.latency[key] then
    local kept = math.min(math.exp(-(now - self.at[key]) / DECAY), 0.75)
    held = self.latency[key] * kept + held * (1 - kept)
  end
  self.latency[key], self.at[key] = held, now
end

--- What a lease would take, and how many there are.
function Model:expects(key, now)
  local latency, ages, count = self.latency[key] * math.exp(-(now - self.at[key]) / DECAY), 0, 0
  for _, since in pairs(self.leases[key]) do
    ages, count = ages + now - since, count + 1
  end
  if count > 0 then
    latency = math.max(latency, 0.001, 2 * ages / count)
  end
  return latency, count
end

--- The better of a and b; nil: too close to say.
function Model:better(now, weights)
  local a, a_leases = self:expects("a", now)
  local b, b_leases = self:expects("b", now)
  if math.abs(a - 4 * b) < 1e-6 * a or math.abs(b - 4 * a) < 1e-6 * b then
    return nil
  elseif a > 4 * b and a_leases > 0 then
    return "b"
  elseif b > 4 * a and b_leases > 0 then
    return "a"
  end
  a, b = a * (a_leases + 1) / weights.a, b * (b_leases + 1) / weights.b
  if math.abs(a - b) > 1e-6 * (a + b) then
    return a < b and "a" or "b"
  end
end

local function key_of(lease)
  return lease.label:match "^[^/]+"
end

local function latency_of(world, key)
  for _, one in ipairs(world:backends()) do
    if one.key == key then
      return one.latency_ms
    end
  end
end

local function pool(options, backends)
  options.rebalance_delay_ms = 0
  local world = World.new(options)
  world.shows = ""
  world:set(backends)
  world:advance(1)
  return world
end

--- A lease of that length on a connection of that backend; others are held meanwhile.
local function lease_at(world, key, span)
  local others, found = {}, nil
  while not found do
    local name = "try" .. #others
    assert.equal("granted", world:claim(name))
    if key_of(world.leases[name]) == key then
      found = name
    else
      others[#others + 1] = name
    end
  end
  world.leases.found, world.leases[found] = world.leases[found], nil
  for _, name in ipairs(others) do
    world:close(name) -- that leaves their backends' latency alone but for this instant
  end
  world:advance(span)
  world:release "found"
end

describe("p2c", function()
  it("takes of two backends the one with the lower latency * (leases + 1) / weight, unless it is far slower and has leases", function()
    for seed = 1, 30 do
      math.randomseed(seed)
      local weights = { a = 1, b = seed % 3 + 1 }
      local world = pool({ balance = "p2c", max_connections = 16, seed = seed, check_interval_ms = 0 },
        { "a", { "b", weight = weights.b } })
      local known, held, serial, choices = model(), {}, 0, { a = 0, b = 0 }
      for _ = 1, 500 do
        world:advance(math.random() * 5)
        local now = world:time()
        if #held < 14 and math.random() < 0.55 then
          local rests = {}
          for _, one in ipairs(world:backends()) do
            rests[one.key] = one.idle > 0
          end
          serial = serial + 1
          local name = "c" .. serial
          assert.equal("granted", world:claim(name))
          local key = key_of(world.leases[name])
          if rests.a and rests.b then
            local better = known:better(now, weights)
            assert.equal(better or key, key, ("seed %d, claim %d"):format(seed, serial))
            choices[key] = choices[key] + (better and 1 or 0)
          end
          known:began(key, name, now)
          held[#held + 1] = { name = name, key = key }
        elseif #held > 0 then
          local one = table.remove(held, math.random(#held))
          known:ended(one.key, one.name, now)
          world:release(one.name)
        end
      end
      assert.is_true(choices.a > 20 and choices.b > 20, ("a %d, b %d times"):format(choices.a, choices.b))
    end
  end)

  it("draws two of all: of five the best gets 4/10, then 3/10, 2/10, 1/10, and the slowest nothing", function()
    local backends, count, draws = { "a", "b", "c", "d", "e" }, {}, 1500
    local spans = { a = 10, b = 12, c = 15, d = 18, e = 30 }
    for seed = 1, draws do
      local world = pool({ balance = "p2c", max_connections = 5, check_interval_ms = 0, seed = seed }, backends)
      for i = 1, 5 do
        world:claim("c" .. i)
      end
      for i = 1, 5 do
        world:at(1 + spans[key_of(world.leases["c" .. i])], function()
          world:release("c" .. i)
        end)
      end
      world:advance(50)
      world:claim "one"
      local key = key_of(world.leases.one)
      count[key] = (count[key] or 0) + 1
    end
    assert.is_nil(count.e)
    for i = 1, 4 do
      local expected = (5 - i) * draws / 10
      assert.is_true(math.abs(count[backends[i]] - expected) < 70, backends[i] .. " " .. count[backends[i]])
    end
  end)

  it("hands out the connection of the chosen backend that rested longest", function()
    local world = pool({ balance = "p2c", max_connections = 3 }, { "a" })
    world.shows = "grant"
    for _ = 1, 4 do
      world:claim "ann"
      world:advance(1)
      world:release "ann"
    end
    assert.trace(world, [[
      [   1] grant ann: a/1
      [   2] grant ann: a/2
      [   3] grant ann: a/3
      [   4] grant ann: a/1]])
  end)

  it("sees a latency that rises at once, and lets it fall with a time constant of 10 s", function()
    local world = pool({ balance = "p2c", max_connections = 1 }, { "a" })
    local function lease(span)
      world:claim "ann"
      world:advance(span)
      world:release "ann"
      return latency_of(world, "a")
    end
    assert.equal(5, lease(5))
    assert.equal(500, lease(500))
    assert.equal(2000, lease(2000))
    world:advance(9990)
    local expected = 2000 * math.exp(-1) + 10 * (1 - math.exp(-1)) -- the greater part: one lease counts a quarter at least
    assert.is_true(math.abs(lease(10) - expected) < 1e-6)
    assert.equal(3000, lease(3000))
    for _ = 1, 10000 do
      lease(10)
    end
    assert.is_true(latency_of(world, "a") < 11)
  end)

  it("comes back to a slow backend when its latency has decayed", function()
    local world = pool({ balance = "p2c", max_connections = 8, check_interval_ms = 0 }, { "a", "b" })
    lease_at(world, "a", 2000)
    lease_at(world, "b", 10)
    local first
    local began = world:time()
    for i = 1, 100000 do
      local name = "c" .. i
      world:claim(name)
      if key_of(world.leases[name]) == "a" then
        first = world:time() - began
        break
      end
      world:advance(10)
      world:release(name)
    end
    -- 2000 exp(-t / 10 s) against 10, once over: 10 s * ln 200 = 53 s
    assert.is_true(first > 45000 and first < 60000, "first after " .. first)
  end)

  it("avoids a slow backend: of three, one that takes 2 s gets a small part", function()
    local world = pool({ balance = "p2c", max_connections = 30, check_interval_ms = 0 }, { "a", "b", "c" })
    local count, total = {}, 0
    local load = Load.start(world, {
      every_ms = 10, until_ms = 30000,
      hold_ms = function(lease)
        local key = key_of(lease)
        count[key], total = (count[key] or 0) + 1, total + 1
        return key == "c" and 2000 or 20
      end,
    })
    world:advance(40000)
    assert.equal(total, #load.answers)
    assert.is_true(count.c / total < 0.02, ("c got %d of %d"):format(count.c, total))
    assert.is_true(math.min(count.a, count.b) / total > 0.35)
  end)

  it("serves those who wait in order, whichever backend's connection comes", function()
    local world = pool({ balance = "p2c", max_connections = 2 }, { "a", "b" })
    world:claim "x"
    world:claim "y"
    for i = 1, 3 do
      world:claim("c" .. i)
    end
    world.shows = "grant"
    world:forget()
    world:release "y"
    world:release "x"
    world:release "c1"
    local names = {}
    for name in world:trace():gmatch "grant (%w+)" do
      names[#names + 1] = name
    end
    assert.same({ "c1", "c2", "c3" }, names)
  end)
end)

describe("the balance", function()
  it("may change at any moment, in any order, with connections in any state", function()
    local kinds = { "fifo", "lifo", "p2c" }
    for seed = 1, 60 do
      math.randomseed(seed)
      local world = World.new {
        balance = kinds[seed % 3 + 1], max_connections = 9, spares = seed % 2 == 0 and 4 or math.huge, seed = seed,
        check_interval_ms = 20, max_lifetime_ms = 200, idle_timeout_ms = 150, rebalance_delay_ms = 5, drain_timeout_ms = 50,
      }
      world.shows = ""
      local names = { "a", "b", "c", "d" }
      local held, serial = {}, 0
      world:owner "own"
      for _ = 1, 250 do
        local dice = math.random(12)
        if dice <= 2 then
          world:change { balance = kinds[math.random(3)] }
        elseif dice <= 6 then
          serial = serial + 1
          world:claim("c" .. serial, { timeout_ms = 20, owner = math.random(3) == 1 and "own" or nil })
          held[#held + 1] = "c" .. serial
        elseif dice <= 9 and #held > 0 then
          local name = table.remove(held, math.random(#held))
          if world.leases[name] then
            world[({ "release", "release", "close", "fail" })[math.random(4)]](world, name)
          end
        elseif dice == 10 then
          world:add(names[math.random(4)])
        elseif dice == 11 then
          world:remove(names[math.random(4)])
        else
          world.host.open = ({ 0, 3, "fail 1" })[math.random(3)]
          world.host.check = ({ 0, 2, "fail" })[math.random(3)]
        end
        world:advance(math.random() * 15) -- every input is followed by the pool's own check
      end
      world:stop()
      world:advance(60000)
      assert.equal("stopped", world:state())
    end
  end)

  for _, kind in ipairs { "fifo", "lifo", "p2c" } do
    it(kind .. " honours weights: connections, and so leases, are shared by them", function()
      local world = pool({ balance = kind, max_connections = 40, check_interval_ms = 0 },
        { { "a", weight = 1 }, { "b", weight = 3 } })
      assert.equal("a 10, b 30", world:layout())
      local count = { a = 0, b = 0 }
      Load.start(world, {
        every_ms = 1, until_ms = 10000,
        hold_ms = function(lease)
          local key = key_of(lease)
          count[key] = count[key] + 1
          return 38 + math.random() * 0.5 -- so that nearly all are in use
        end,
      })
      world:advance(10100)
      local share = count.b / (count.a + count.b)
      assert.is_true(share > 0.7 and share < 0.8, "b got " .. share)
    end)
  end
end)
