--- Growth on demand: spares, how fast the pool grows, how soon and how smoothly it shrinks.

local Load = require "spec.support.core_load"
local World = require "spec.support.core_world"

local function claim_many(world, count, prefix)
  for i = 1, count do
    world:claim((prefix or "c") .. i)
  end
end

local function release_many(world, count, prefix)
  for i = 1, count do
    world:release((prefix or "c") .. i)
  end
end

--- total, idle, busy now.
local function numbers(world)
  local stats = world:stats()
  return { stats.total, stats.idle, stats.busy }
end

--- What the totals were, at every so many ms: "22 22 19".
local function totals(world, step, count)
  local list = {}
  for i = 1, count do
    world:advance(step)
    list[i] = world:stats().total
  end
  return table.concat(list, " ")
end

local function started(options, host)
  local world = World.new(options)
  for name, rule in pairs(host or {}) do
    world.host[name] = rule
  end
  world.shows = ""
  world:set { "db" }
  world:advance(1000)
  return world
end

describe("spares", function()
  it("are what an unused pool has", function()
    local world = started { spares = 2, max_connections = 10 }
    assert.same({ 2, 2, 0 }, numbers(world))
    world:advance(100000)
    assert.same({ 2, 2, 0 }, numbers(world))
  end)

  it("are kept beside what is in use, up to max_connections", function()
    local world = started({ spares = 2, max_connections = 5 }, { open = 10 })
    for busy, total in ipairs { 3, 4, 5, 5, 5 } do
      assert.equal("granted", world:claim("c" .. busy))
      world:advance(15)
      assert.same({ total, total - busy, busy }, numbers(world))
    end
    assert.equal("waiting", world:claim "c6")
    world:advance(1000)
    assert.equal(5, world:stats().total)
  end)

  it("may be 0: there is a connection when somebody wants one, and some time later there is none", function()
    local world = started({ spares = 0, max_connections = 5 }, { open = 10 })
    assert.same({ 0, 0, 0 }, numbers(world))
    assert.equal("waiting", world:claim "ann")
    world:advance(10)
    assert.same({ 1, 0, 1 }, numbers(world))
    world:release "ann"
    world:advance(9000)
    assert.same({ 1, 1, 0 }, numbers(world))
    world:advance(6000)
    assert.same({ 0, 0, 0 }, numbers(world))
    assert.equal("waiting", world:claim "bob")
    world:advance(10)
    assert.is_truthy(world.leases.bob)
  end)

  it("0 still has a dead backend tried", function()
    local options = World.recovery({ attempts = 1, delay_ms = 50, max_delay_ms = 50, spread = 0 },
      { spares = 0, max_connections = 5, proven_after_ms = 1 })
    local world = started(options, { open = "fail 1" })
    world:claim "ann"
    world:advance(10)
    assert.equal("failed", world:state())
    local attempts = world:stats().attempts
    world:advance(60000)
    assert.is_true(world:stats().attempts - attempts > 1000)
    world.host.open = 1
    world:advance(53)
    assert.equal("running", world:state())
    world:advance(5000)
    assert.equal("db 0", world:layout())
  end)

  it("of a pool whose backends are all dead are monitors, one each", function()
    local options = World.recovery({ attempts = 1, delay_ms = 50, max_delay_ms = 50, spread = 0 }, { spares = 2, max_connections = 8 })
    local world = World.new(options)
    world.host.open = "fail 1"
    world:set { "a", "b", "c" }
    world:advance(5000)
    assert.equal("a 1 dead, b 1 dead, c 1 dead", world:layout())
    world.host.open = 1
    world:advance(5000)
    assert.equal("running", world:state())
    assert.equal(2, world:stats().total)
  end)

  it("above max_connections are max_connections", function()
    local world = started { spares = 50, max_connections = 3 }
    assert.same({ 3, 3, 0 }, numbers(world))
    world:advance(100000)
    assert.same({ 3, 3, 0 }, numbers(world))
  end)

  it("change with the option, both ways, and to none", function()
    local world = started { spares = 2, max_connections = 10 }
    world:change { spares = 6 }
    assert.equal(6, world:stats().total)
    world:change { spares = 1 }
    world:advance(5000)
    assert.equal(1, world:stats().total)
    world:change { spares = math.huge }
    assert.equal(10, world:stats().total)
    world:change { spares = 3 }
    world:advance(5000)
    assert.equal(3, world:stats().total)
    world:change { max_connections = 2 }
    assert.equal(2, world:stats().total)
  end)
end)

describe("a pool that grows", function()
  -- HikariCP's spike test: 50 claimers at once, 150 ms to connect, 2 ms of work, 5 spares, 50 at most. It ends with 5 or 6.
  for seed = 1, 5 do
    it("does not open what the connections that are there will have served by then, seed " .. seed, function()
      local world = World.new { spares = 5, max_connections = 50, seed = seed }
      world.host.open = 150
      world.shows = ""
      world:set { "db" }
      world:advance(1000)
      assert.equal(5, world:stats().opened)
      local load = Load.start(world, { hold_ms = 2 })
      for _ = 1, 50 do
        load:claim()
      end
      world:advance(400)
      assert.equal(50, select(2, Load.mean(load.answers, "granted")))
      local stats = world:stats()
      assert.is_true(stats.attempts <= 6, stats.attempts .. " attempts")
      assert.is_true(stats.total >= 5 and stats.total <= 6, stats.total .. " connections")
      for _, one in ipairs(load.answers) do
        assert.is_true(one.waited <= 20, one.waited .. " ms")
      end
    end)
  end

  it("asks again five times a second, and then still counts what will be served without more", function()
    local world = started({ spares = 5, max_connections = 50 }, { open = 150 })
    local load = Load.start(world, { hold_ms = 2 })
    for _ = 1, 600 do -- 240 ms of work for five
      load:claim()
    end
    world:advance(400)
    assert.equal(600, select(2, Load.mean(load.answers, "granted")))
    -- One at a time for spares, of which there are none meanwhile: one at once, one when that has opened.
    assert.is_true(world:stats().attempts <= 7, world:stats().attempts .. " attempts")
  end)

  it("doubles round by round where leases are long", function()
    local world = started({ spares = 1, max_connections = 64 }, { open = 100 })
    claim_many(world, 64)
    assert.same({ 2, 0, 1 }, numbers(world))
    assert.equal("2 4 8 16 32 64", (function()
      world:advance(50) -- in the middle of each round
      local list = { world:stats().total }
      for i = 2, 6 do
        world:advance(100)
        list[i] = world:stats().total
      end
      return table.concat(list, " ")
    end)())
    world:advance(100)
    assert.same({ 64, 0, 64 }, numbers(world))
  end)

  it("never exceeds max_connections, whatever comes and goes", function()
    for seed = 1, 20 do
      local world = World.new { spares = seed % 4, max_connections = 7, seed = seed }
      world.host.open = 20
      world.shows = ""
      world:set { "a", "b" }
      math.randomseed(seed)
      local busy, serial = {}, 0
      for _ = 1, 400 do
        if math.random() < 0.55 then
          serial = serial + 1
          world:claim("c" .. serial)
          busy[#busy + 1] = "c" .. serial
        elseif #busy > 0 then
          local name = table.remove(busy, math.random(#busy))
          if world.leases[name] then
            world:release(name)
          elseif world.claims[name] then
            world:cancel(name)
          end
        end
        assert.is_true(world:stats().total <= 7)
        world:advance(math.random() * 30)
      end
    end
  end)

  it("serves a claim that waits with no more than is needed", function()
    local world = started({ spares = 1, max_connections = 64 }, { open = 100 })
    claim_many(world, 3) -- one has the spare, two wait
    world:advance(1000)
    assert.same({ 4, 1, 3 }, numbers(world))
  end)
end)

describe("a pool that shrinks", function()
  --- 20 in use for 18 s, then none.
  local function fallen(spares)
    local world = started { spares = spares, max_connections = 50 }
    claim_many(world, 20)
    world:advance(18000)
    assert.same({ 20 + spares, spares, 20 }, numbers(world))
    release_many(world, 20)
    return world
  end

  it("follows the low-pass filter: 63 % after 1 s, 95 % after 3 s", function()
    local world = fallen(2)
    world:advance(1)
    assert.equal(22, world:stats().total)
    world:advance(599) -- within the first sample they were in use
    assert.is_true(world:stats().total < 22, "it begins within 0.6 s")
    -- 2 + 20 exp(-t), rounded up, from the sample before; a hair above 2 is 2 in the end.
    for tenths = 6, 24, 2 do
      world:advance(200)
      local exact = 2 + 20 * math.exp(-tenths / 10)
      local total = world:stats().total
      assert.is_true(total >= math.ceil(exact - 0.001) and total <= math.ceil(2 + 20 * math.exp(-(tenths - 2) / 10)),
        ("%d after %g s, %g by the filter"):format(total, tenths / 10, exact))
    end
    world:advance(600)
    assert.is_true(world:stats().total <= 3, "after 3 s")
    world:advance(1000)
    assert.equal(2, world:stats().total)
    world:advance(100000)
    assert.equal(2, world:stats().total)
  end)

  it("ends with exactly its spares, be they 0", function()
    local world = fallen(0)
    world:advance(15000)
    assert.equal(0, world:stats().total)
  end)

  it("does not flap while the load does", function()
    local world = started { spares = 2, max_connections = 50 }
    claim_many(world, 20)
    world:advance(8000)
    local attempts = world:stats().attempts
    for round = 1, 50 do
      release_many(world, 20, round == 1 and "c" or "c" .. round .. ".")
      world:advance(20)
      claim_many(world, 20, "c" .. round + 1 .. ".")
      world:advance(100)
    end
    local opened = world:stats().attempts - attempts
    assert.is_true(opened <= 10, opened .. " opened anew")
    assert.equal(0, world:stats().waiting)
  end)

  it("closes one for 200 claims while there are claims, and more when there are none", function()
    local world = started { spares = 2, max_connections = 50 }
    claim_many(world, 20)
    world:advance(18000)
    for i = 1, 10 do
      claim_many(world, 1, "d" .. i)
      world:release("d" .. i .. "1")
    end
    local before = world:stats().total
    release_many(world, 20)
    for i = 1, 600 do -- 60 s with ten a second
      world:claim("e" .. i)
      world:release("e" .. i)
      world:advance(100)
    end
    assert.is_true(before - world:stats().total <= 3, "3 for 600 claims")
    world:advance(20000)
    assert.equal(2, world:stats().total)
  end)

  it("keeps what is in use, and closes the rest", function()
    local world = started { spares = 1, max_connections = 50 }
    claim_many(world, 10)
    world:advance(5000)
    for i = 1, 7 do
      world:release("c" .. i)
    end
    world:advance(10000)
    assert.same({ 4, 1, 3 }, numbers(world))
  end)

  it("leaves off looking when nothing moves any more", function()
    local world = started { spares = 2, max_connections = 50, check_interval_ms = 0, decoherence_interval_ms = 0 }
    world:advance(5000)
    assert.equal(World.NEVER, world:deadline())
    world:claim "ann"
    world:advance(5000)
    world:release "ann"
    world:advance(20000)
    assert.equal(World.NEVER, world:deadline())
    assert.equal(2, world:stats().total)
  end)
end)

describe("a claim that does not wait", function()
  it("has a connection opened for those that come after it", function()
    local world = started({ spares = 0, max_connections = 5 }, { open = 10 })
    assert.equal("claim_timeout", world:claim("ann", { timeout_ms = 0 }))
    world:advance(10)
    assert.equal("granted", world:claim("bob", { timeout_ms = 0 }))
    assert.equal(1, world:stats().attempts)
  end)
end)

describe("a pool without spares of its own", function()
  it("never looks at the demand", function()
    local world = started { max_connections = 3, check_interval_ms = 0, decoherence_interval_ms = 0 }
    claim_many(world, 5)
    assert.equal(World.NEVER, world:deadline())
    assert.equal(3, world:stats().total)
    local plans = world:stats().plans
    world:advance(10000)
    assert.equal(plans, world:stats().plans)
    assert.equal("3 3", totals(world, 1000, 2))
  end)
end)
