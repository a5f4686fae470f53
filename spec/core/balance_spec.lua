--- Which connection a claim gets: p2c, and what changes when the balance does. (fifo and lifo: claim_spec.)

local Load = require "spec.support.core_load"
local World = require "spec.support.core_world"

local DECAY = 10000 -- ms, of the peak EWMA

--- The balance's own arithmetic, once more, in ms.
local Model = {}
Model.__index = Model

local function model()
  local function both() return { a = 0, b = 0 } end
  return setmetatable({ latency = both(), at = both(), failing = both(), failing_at = both(), leases = { a = {}, b = {} } }, Model)
end

local function kept(since, now)
  return math.min(math.exp(-(now - since) / DECAY), 0.75)
end

function Model:began(key, name, now)
  self.leases[key][name] = now
end

function Model:ended(key, name, now, has_failed)
  local held = now - self.leases[key][name]
  self.leases[key][name] = nil
  local keeps = kept(self.failing_at[key], now)
  self.failing[key], self.failing_at[key] = self.failing[key] * keeps + (has_failed and 1 - keeps or 0), now
  if has_failed then -- it may say that the backend is slower, not that it is faster
    if held <= self.latency[key] * math.exp(-(now - self.at[key]) / DECAY) then
      return
    end
  elseif held < self.latency[key] then
    keeps = kept(self.at[key], now)
    held = self.latency[key] * keeps + held * (1 - keeps)
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

--- What it would take until one goes well, and whether the backend is left alone.
function Model:outlook(key, now, latency, slower)
  local fails = self.failing[key] * math.exp(-(now - self.failing_at[key]) / DECAY)
  if fails == 0 then
    return latency, false
  end
  local works = math.max(1 - fails, 0.001)
  return ((1 - fails) * latency + fails * math.max(slower, 0.001)) / works, works < 0.25 and now - self.failing_at[key] < 1000
end

--- The better of a and b; nil: too close to say.
function Model:better(now, weights)
  local a, a_leases = self:expects("a", now)
  local b, b_leases = self:expects("b", now)
  local slower = math.max(a, b)
  local a_rests, b_rests
  a, a_rests = self:outlook("a", now, a, slower)
  b, b_rests = self:outlook("b", now, b, slower)
  if a_rests ~= b_rests then
    return a_rests and "b" or "a"
  elseif math.abs(a - 4 * b) < 1e-6 * a or math.abs(b - 4 * a) < 1e-6 * b then
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
      return one.latency_ms, one.success_rate
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
    world:went(name, true)
    world:close(name) -- that leaves their backends' latency alone but for this instant
  end
  world:advance(span)
  world:release "found"
end

--- Random claims on two backends, as many seeds as said, each choice compared with the model's.
-- @param ends list of how leases end, drawn from evenly: { function(world, name), has_failed }
local function compare(seeds, ends)
  for seed = 1, seeds do
    math.randomseed(seed)
    local weights = { a = 1, b = seed % 3 + 1 }
    local world = pool({ balance = "p2c", max_connections = 16, seed = seed, check_interval_ms = 0 },
      { "a", { "b", weight = weights.b } })
    local known, held, serial, choices = model(), {}, 0, { a = 0, b = 0 }
    for _ = 1, 500 do
      world:advance(math.random() < 0.02 and math.random() * 3000 or math.random() * 5)
      local now = world:time()
      if #held < 14 and math.random() < 0.55 then
        local rests = {}
        for _, one in ipairs(world:backends()) do
          rests[one.key] = one.idle > 0
        end
        serial = serial + 1
        local name = "c" .. serial
        if world:claim(name) == "granted" then
          local key = key_of(world.leases[name])
          if rests.a and rests.b then
            local better = known:better(now, weights)
            assert.equal(better or key, key, ("seed %d, claim %d"):format(seed, serial))
            choices[key] = choices[key] + (better and 1 or 0)
          end
          known:began(key, name, now)
          held[#held + 1] = { name = name, key = key }
        else
          world:cancel(name) -- those that were closed are not open again yet
        end
      elseif #held > 0 then
        local one = table.remove(held, math.random(#held))
        local how = ends[math.random(#ends)]
        known:ended(one.key, one.name, now, how.has_failed)
        how[1](world, one.name)
      end
    end
    assert.is_true(choices.a > 20 and choices.b > 20, ("a %d, b %d times"):format(choices.a, choices.b))
  end
end

describe("p2c", function()
  it("takes of two backends the one with the lower latency * (leases + 1) / weight, unless it is far slower and has leases", function()
    compare(30, { { World.release } })
  end)

  it("counts what fails as no latency unless it was slower, and divides by the share that goes well", function()
    local function well(world, name)
      world:went(name, false)
      world:went(name, true) -- the last word counts
      world:close(name)
    end
    local function badly(world, name)
      world:went(name, false)
      world:release(name)
    end
    compare(60, {
      { World.release }, { World.release }, { well },
      { badly, has_failed = true }, { World.close, has_failed = true }, -- a failed lease would make others suspect, which are lent last
    })
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

--- Load on backends of which some fail within 1 ms; the others take 40 to 60 ms.
-- @param given backends; every_ms, lasts_ms; fails(key, time): nil, true or "reported"
-- @return leases by key; and of each that failed: { key, time }
local function load_on(given)
  math.randomseed(1)
  local world = pool({ balance = "p2c", max_connections = 400, check_interval_ms = 0 }, given.backends)
  world:advance(10)
  local count, failed, began = {}, {}, world:time()
  Load.start(world, {
    every_ms = given.every_ms, until_ms = began + given.lasts_ms,
    hold_ms = function(lease)
      local key, now = key_of(lease), world:time() - began
      count[key] = (count[key] or 0) + 1
      lease.fails = given.fails(key, now)
      if lease.fails then
        failed[#failed + 1] = { key, now }
        return 1
      end
      return 40 + math.random() * 20
    end,
    fails = function(lease)
      return lease.fails
    end,
  })
  for _ = 1, given.lasts_ms / 1000 + 1 do
    world:advance(1000)
  end
  return count, failed
end

describe("p2c, of a backend that fails at once", function()
  for _, how in ipairs { "reported", true } do
    it("takes it now and then, not most of the time: " .. tostring(how), function()
      for _, every_ms in ipairs { 1, 5, 30, 100 } do
        local count, failed = load_on {
          backends = { "works", "fails" }, every_ms = every_ms, lasts_ms = 25000, fails = function(key)
            return key == "fails" and how
          end,
        }
        local told = ("every %g ms: %d of %d"):format(every_ms, count.fails, count.fails + count.works)
        assert.is_true(count.fails / (count.fails + count.works) < 0.05, told)
        -- Until it is known to fail there were some; then one a second at most, and one in 11 seconds at least.
        local last = 0
        for number, one in ipairs(failed) do
          assert.is_true(one[2] - last <= 11000, told)
          assert.is_true(number <= 12 or one[2] - last >= 990, told .. " at " .. one[2] .. " after " .. last)
          last = one[2]
        end
        assert.is_true(last > 14000, told)
      end
    end)
  end

  it("leaves it to the others, by weight as far as drawing two of three can", function()
    local function fails(key)
      return key == "c" and "reported"
    end
    local count = load_on { backends = { "a", "b", "c" }, every_ms = 5, lasts_ms = 20000, fails = fails }
    assert.is_true(count.c < 50 and math.abs(count.a - count.b) < 400, ("%d %d %d"):format(count.a, count.b, count.c))
    count = load_on {
      backends = { { "a", weight = 1 }, { "b", weight = 3 }, { "c", weight = 10 } }, every_ms = 1, lasts_ms = 20000, fails = fails,
    }
    assert.is_true(count.c < 100, "c " .. count.c)
    -- Of three draws one is a or c, which is a; one is b or c; so that b gets twice as many at most.
    assert.is_true(count.b > 1.7 * count.a and count.b < 2.1 * count.a, ("%d %d"):format(count.a, count.b))
  end)

  it("goes by the share that goes well: of one that fails half of the time a bit less, of one that fails rarely hardly less", function()
    local function half(share)
      return load_on {
        backends = { "a", "b" }, every_ms = 2, lasts_ms = 20000, fails = function(key)
          return key == "b" and math.random() < share and "reported"
        end,
      }
    end
    local rare, often = half(0.02), half(0.4)
    assert.is_true(rare.b > 0.9 * rare.a, ("%d %d"):format(rare.a, rare.b))
    assert.is_true(often.b > 0.1 * often.a and often.b < 0.97 * often.a, ("%d %d"):format(often.a, often.b))
  end)

  it("takes all evenly if all fail, by weight", function()
    local function fails()
      return "reported"
    end
    local count = load_on { backends = { "a", "b", "c" }, every_ms = 2, lasts_ms = 10000, fails = fails }
    for _, key in ipairs { "a", "b", "c" } do
      assert.is_true(math.abs(count[key] - 5000 / 3) < 250, ("%d %d %d"):format(count.a, count.b, count.c))
    end
    count = load_on { backends = { "a", { "b", weight = 3 } }, every_ms = 0.2, lasts_ms = 5000, fails = fails }
    assert.is_true(count.b > 2 * count.a and count.b < 4 * count.a, ("%d %d"):format(count.a, count.b))
  end)

  it("gives it its share again within 20 s of its recovery, sooner under load", function()
    for _, backends in ipairs { { "a", "b" }, { "a", "b", "c" } } do
      for every_ms, within_ms in pairs { [2] = 2000, [5] = 4000, [100] = 20000 } do
        local before, after = 0, { a = 0, b = 0 }
        load_on {
          backends = backends, every_ms = every_ms, lasts_ms = 45000, fails = function(key, now)
            local fails = key == "b" and now > 2000 and now < 15000
            before = before + (fails and 1 or 0)
            if now > 15000 + within_ms and after[key] then
              after[key] = after[key] + 1
            end
            return fails and "reported"
          end,
        }
        local told = ("of %d every %d ms: %d, then %d and %d"):format(#backends, every_ms, before, after.a, after.b)
        assert.is_true(before >= 1 and before < 40, told)
        assert.is_true(math.abs(after.a - after.b) < 0.35 * (after.a + after.b), told)
      end
    end
  end)

  it("holds a slow failure for what it is, and a quick one for nothing", function()
    local world = pool({ balance = "p2c", max_connections = 1, check_interval_ms = 0 }, { "a" })
    local function lease(span, is_well)
      world:claim "one"
      world:advance(span)
      world:went("one", is_well)
      world:release "one"
      return latency_of(world, "a")
    end
    assert.same({ 10, 1 }, { lease(10, true) })
    local latency, rate = lease(1, false)
    assert.equal(10, latency)
    assert.is_true(math.abs(rate - 0.75) < 1e-9, rate) -- one of those that ended of late: a quarter
    latency, rate = lease(2000, false)
    assert.equal(2000, latency)
    assert.is_true(rate < 0.61)
    world:advance(10000)
    world:input "time_advanced" -- what is known is as of the last input
    assert.is_true(math.abs(1 - select(2, latency_of(world, "a")) - (1 - rate) / math.exp(1)) < 1e-9)
  end)

  it("knows the share only with p2c, and has none of it otherwise", function()
    local world = pool({ max_connections = 2 }, { "a" })
    world:claim "one"
    world:went("one", false)
    world:release "one"
    assert.same({ 0, 1 }, { latency_of(world, "a") })
    world:change { balance = "p2c" }
    world:claim "one"
    world:went("one", false)
    world:release "one"
    assert.is_true(select(2, latency_of(world, "a")) < 1)
    assert.equal("stale", world:input("lease_reported", 12345, false))
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
