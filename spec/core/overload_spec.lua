--- Too many claims: how that is found out, who is refused, who is served, and how long all of them wait.

local Load = require "spec.support.core_load"
local World = require "spec.support.core_world"

--- One connection, taken by "holder"; claims "c1", "c2"... wait since 0, 10, 20... ms.
local function crowd(options, count)
  options.max_connections = 1
  options.rebalance_delay_ms = 0
  local world = World.new(options)
  world:add "db"
  world:advance(0)
  assert.equal("granted", world:claim "holder")
  for i = 1, count do
    world:at((i - 1) * 10, function()
      world:claim("c" .. i)
    end)
  end
  world:advance((count - 1) * 10)
  world.shows = "grant refuse"
  world:forget()
  return world
end

--- The holder gives its connection back and takes the next one.
local function serve(world)
  local label = next(world.leases)
  world:release(label)
end

describe("overload", function()
  it("is when for 100 ms every claim that left had waited for the target or longer", function()
    local world = crowd({ queue = "codel", target_claim_delay_ms = 50 }, 20)
    world:watch(10, "overloaded relieved")
    serve(world) -- c1, at 190, after 190: the 100 ms begin
    world:advance(99.999999)
    serve(world) -- c2
    assert.equal(0, world:stats().overloaded)
    world:advance(0.000001)
    serve(world) -- at 290, those up to c20 have waited 100 ms: all too long
    local expected = { "[ 190] grant c1: db/1", "[289.999999] grant c2: db/1" }
    for i = 3, 20 do
      expected[i] = ("[ 290] refuse c%d: overloaded"):format(i)
    end
    assert.trace(world, table.concat(expected, "\n"))
    local events = world:take_events()
    assert.same({ "overloaded", "relieved" }, { events[1].kind, events[2].kind })
    assert.same({ 290, 18 }, { events[1].time, events[1].count })
    assert.equal(18, world:stats().claims_refused)
    assert.equal(0, world:stats().claim_timeouts)
  end)

  it("refuses those past the target, serves the first that is not, and ends with it", function()
    local world = crowd({ queue = "codel", target_claim_delay_ms = 50 }, 30)
    serve(world) -- at 290
    world:advance(100)
    world:claim "late"
    world:advance(20)
    world:forget()
    serve(world) -- at 410
    assert.equal(0, world:stats().overloaded)
    assert.equal(28 + 1, select(2, world:trace():gsub("refuse", "")))
    assert.truthy(world:trace():find("grant late: db/1", 1, true))
    assert.equal(0, world:stats().waiting)
  end)

  it("is put off by one claim that waited less", function()
    local world = crowd({ queue = "codel", target_claim_delay_ms = 50 }, 4)
    world:advance(60) -- at 90
    serve(world) -- c1 after 90: above
    world:cancel "c2"
    world:cancel "c3"
    world:advance(30)
    world:cancel "c4"
    world:claim "short"
    world:advance(40)
    world:claim "x1"
    world:claim "x2"
    serve(world) -- "short" after 40, at 160: below
    world:advance(60)
    serve(world) -- x1 at 220 after 60: above again, since now
    world:advance(99)
    assert.equal(0, world:stats().overloaded)
    serve(world) -- x2
    assert.trace(world, [[
      [  90] grant c1: db/1
      [ 160] grant short: db/1
      [ 220] grant x1: db/1
      [ 319] grant x2: db/1]])
  end)

  it("counts a claim that waited exactly for the target as above it, and serves it", function()
    local world = crowd({ queue = "codel", target_claim_delay_ms = 50 }, 1)
    world:advance(50)
    world:claim "in between"
    serve(world) -- c1, after 50: the 100 ms begin
    world:advance(50)
    world:claim "c3"
    world:advance(50)
    world:claim "c4"
    world:cancel "in between"
    serve(world) -- at 150: c3 has waited 50, which is above; so overload, but it is not past the target
    assert.equal(1, world:stats().overloaded)
    assert.trace(world, [[
      [  50] grant c1: db/1
      [ 150] grant c3: db/1]])
  end)

  it("ends when nobody waits", function()
    local world = crowd({ queue = "adaptive_lifo", target_claim_delay_ms = 50 }, 6)
    world:watch(10, "overloaded relieved")
    world:advance(60) -- at 110
    serve(world)
    world:advance(100)
    serve(world)
    assert.equal(1, world:stats().overloaded)
    for i = 2, 6 do
      if world.claims["c" .. i] then
        world:cancel("c" .. i)
      end
    end
    assert.equal(0, world:stats().overloaded)
    local events = world:take_events()
    assert.same({ "overloaded", "relieved" }, { events[1].kind, events[2].kind })
  end)

  it("is not looked for by fifo, which serves in order whatever happens", function()
    local world = crowd({ queue = "fifo", target_claim_delay_ms = 50 }, 5)
    for _ = 1, 5 do
      world:advance(1000)
      serve(world)
    end
    assert.equal(0, world:stats().claims_refused)
    assert.trace(world, [[
      [1040] grant c1: db/1
      [2040] grant c2: db/1
      [3040] grant c3: db/1
      [4040] grant c4: db/1
      [5040] grant c5: db/1]])
  end)

  it("may be turned off while it lasts: fifo from there on", function()
    local world = crowd({ queue = "adaptive_lifo", target_claim_delay_ms = 50 }, 6)
    world:advance(60)
    serve(world)
    world:advance(100)
    serve(world)
    assert.equal("ok", world:change { queue = "fifo" })
    assert.equal(0, world:stats().overloaded)
    serve(world)
    serve(world)
    assert.trace(world, [[
      [ 110] grant c1: db/1
      [ 210] grant c6: db/1
      [ 210] grant c2: db/1
      [ 210] grant c3: db/1]])
  end)
end)

describe("adaptive_lifo", function()
  it("serves the oldest, and the newest while overloaded, and the oldest again", function()
    local world = crowd({ queue = "adaptive_lifo", target_claim_delay_ms = 50 }, 10)
    world:advance(10) -- at 100
    serve(world)
    world:advance(50)
    serve(world)
    world:advance(50)
    serve(world) -- at 200, 100 ms after the first
    world:advance(10)
    serve(world)
    for i = 3, 8 do
      world:cancel("c" .. i)
    end
    world:claim "d1"
    world:advance(10)
    world:claim "d2"
    serve(world) -- d1 has waited 10 ms: relieved
    assert.trace(world, [[
      [ 100] grant c1: db/1
      [ 150] grant c2: db/1
      [ 200] grant c10: db/1
      [ 210] grant c9: db/1
      [ 220] grant d1: db/1]])
  end)
end)

describe("while nothing connects a claim waits", function()
  for _, queue in ipairs { "codel", "adaptive_lifo" } do
    it("ten targets at most with " .. queue, function()
      local world = World.new(World.recovery({ attempts = 1000, timeout_ms = 1e6, max_timeout_ms = 1e6 },
        { queue = queue, target_claim_delay_ms = 50 }))
      world.host.open = "never"
      world.shows = "refuse"
      world:add "db"
      world:claim "ann"
      world:claim("bob", { timeout_ms = 500 })
      world:claim("cat", { timeout_ms = 499 })
      world:advance(1000)
      assert.trace(world, [[
        [ 499] refuse cat: claim_timeout
        [ 500] refuse ann: overloaded
        [ 500] refuse bob: claim_timeout]])
    end)

    it("three, if it came while there was overload, with " .. queue, function()
      local world = crowd({ queue = queue, target_claim_delay_ms = 50 }, 12)
      world:advance(40) -- at 150
      serve(world)
      world:at(200, function()
        world:claim "new"
      end)
      world:advance(100)
      serve(world) -- at 250: overload; "new" has waited 50
      if queue == "codel" then
        assert.truthy(world:trace():find("[ 250] grant new: db/1", 1, true))
        assert.equal(0, world:stats().waiting)
        return
      end
      assert.equal(1, world:stats().overloaded)
      world:claim "last" -- at 250
      world:forget()
      world:advance(149)
      assert.trace(world, "")
      world:advance(1)
      assert.trace(world, "[ 400] refuse last: overloaded")
    end)
  end

  it("as long as it likes with fifo", function()
    local world = World.new(World.recovery({ attempts = 1000, timeout_ms = 1e6, max_timeout_ms = 1e6 }, { target_claim_delay_ms = 50 }))
    world.host.open = "never"
    world:add "db"
    world:claim "ann"
    world:advance(100000)
    assert.equal(1, world:stats().waiting)
  end)
end)

-- The set-up of node-cueball's test/codel.test.js: 500 claims/s on 2 connections held 50 ms, which is 12.5 times what they
-- can serve. The mean is of every claim that was answered, granted or refused, as there.
describe("at 500 claims/s on 2 connections held 50 ms", function()
  local function run(queue, target)
    local world = World.new { max_connections = 2, queue = queue, target_claim_delay_ms = target }
    world.shows = ""
    world:add "db"
    world:advance(200)
    local load = Load.start(world, { every_ms = 2, hold_ms = 50, until_ms = 20200 })
    world:advance(20000 + 11 * target)
    assert.equal(10000, #load.answers)
    assert.is_nil(next(load.open))
    return load.answers
  end

  for _, target in ipairs { 300, 500, 1000, 2000, 3000, 5000 } do
    it(("the mean wait is %d ms with that target and codel"):format(target), function()
      local answers = run("codel", target)
      local mean = Load.mean(answers)
      assert.is_true(math.abs(mean - target) < 175, "mean " .. mean)
      -- Once the queue has filled up, that of the granted ones is, too.
      local later = {}
      for _, one in ipairs(answers) do
        if one.begun > 200 + 2 * target and one.begun < 20200 - 2 * target then
          later[#later + 1] = one
        end
      end
      local of_granted, count = Load.mean(later, "granted")
      assert.is_true(count == 0 or math.abs(of_granted - target) < 175, "mean of the granted " .. of_granted)
      assert.is_true(target == 5000 or count > 0)
      -- None is kept much longer than one can find out.
      for _, one in ipairs(answers) do
        assert.is_true(one.waited < target + 175)
      end
    end)
  end

  it("adaptive_lifo serves the most within the target", function()
    local in_time = {}
    for _, queue in ipairs { "codel", "adaptive_lifo" } do
      in_time[queue] = 0
      for _, one in ipairs(run(queue, 300)) do
        if one.outcome == "granted" and one.waited <= 100 then
          in_time[queue] = in_time[queue] + 1
        end
      end
    end
    assert.is_true(in_time.codel < 100, "codel " .. in_time.codel) -- those before the queue filled up
    assert.is_true(in_time.adaptive_lifo > 600, "adaptive_lifo " .. in_time.adaptive_lifo) -- of the 800 that can be served
  end)
end)
