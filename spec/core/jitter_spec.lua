--- How chance enters the pauses between attempts: see "Exponential Backoff And Jitter" (M. Brooker, AWS, 2015).

local World = require "spec.support.core_world"
local with = require "spec.support.with"

local DELAY, MOST, ATTEMPTS = 100, 450, 5

--- The first pauses of a pool whose attempts all fail at once, in ms.
local function pauses(seed, count, recovery)
  local options = World.recovery(with({ attempts = ATTEMPTS, delay_ms = DELAY, max_delay_ms = MOST }, recovery))
  local world = World.new(options, { max_connections = 1, seed = seed, rebalance_delay_ms = 0 })
  world.host.open = "fail"
  world.shows = "open"
  world:set { "db" }
  local list, last = {}, 0
  while #list < count do
    world:advance(world:deadline_ms() - world:time())
    local at = tonumber(world.lines[#world.lines]:match "^%[ *([%d.]+)%]")
    if at > last then
      list[#list + 1], last = math.floor((at - last) * 1e6 + 0.5) / 1e6, at
    end
  end
  return list
end

--- nominal pause k, from 1; it stays at that of the last attempt
local function nominal(k)
  return math.min(DELAY * 2 ^ (math.min(k, ATTEMPTS) - 1), MOST)
end

--- Of pauses k over many seeds: least, greatest, mean.
local function ranges(count, recovery)
  local low, high, sum = {}, {}, {}
  local seeds = 400
  for seed = 1, seeds do
    for k, pause in ipairs(pauses(seed, count, recovery)) do
      low[k] = math.min(low[k] or pause, pause)
      high[k] = math.max(high[k] or pause, pause)
      sum[k] = (sum[k] or 0) + pause / seeds
    end
  end
  return low, high, sum
end

local function assert_within(what, value, least, most)
  assert.is_true(value >= least and value <= most, ("%s is %g, not from %g to %g"):format(what, value, least, most))
end

describe("jitter", function()
  it("spread: half of it either way, evenly", function()
    for _, spread in ipairs { 0.2, 0.5, 1 } do
      local low, high, mean = ranges(7, { spread = spread })
      for k = 1, 7 do
        local d = nominal(k)
        assert_within("the least", low[k], d * (1 - spread / 2) - 1e-6, d * (1 - spread / 2 * 0.95))
        assert_within("the greatest", high[k], d * (1 + spread / 2 * 0.95), d * (1 + spread / 2))
        assert_within("the mean", mean[k], d * (1 - spread * 0.05), d * (1 + spread * 0.05))
      end
    end
  end)

  it("spread of 0: to the nanosecond", function()
    for seed = 1, 20 do
      for k, pause in ipairs(pauses(seed, 7, { spread = 0 })) do
        assert.equal(nominal(k), pause)
      end
    end
  end)

  it("full: from nothing to the whole, evenly, whatever the spread", function()
    local low, high, mean = ranges(7, { jitter = "full", spread = 0 })
    for k = 1, 7 do
      local d = nominal(k)
      assert_within("the least", low[k], 0, d * 0.03)
      assert_within("the greatest", high[k], d * 0.97, d)
      assert_within("the mean", mean[k], d * 0.45, d * 0.55)
    end
  end)

  it("decorrelated: from delay_ms to three times the last, up to the last attempt's", function()
    local seen_most = 0
    for seed = 1, 400 do
      local last = DELAY
      for k, pause in ipairs(pauses(seed, 9, { jitter = "decorrelated", spread = 0 })) do
        assert_within(("seed %d, pause %d"):format(seed, k), pause, DELAY - 1e-6, math.min(MOST, 3 * last) + 1e-6)
        seen_most = math.max(seen_most, pause)
        last = pause
      end
    end
    assert.equal(MOST, seen_most)
    local low, high, mean = ranges(1, { jitter = "decorrelated" })
    assert_within("the least", low[1], DELAY, DELAY * 1.05)
    assert_within("the greatest", high[1], DELAY * 2.9, DELAY * 3)
    assert_within("the mean", mean[1], DELAY * 1.9, DELAY * 2.1)
  end)

  it("decorrelated: begins anew with a connection that opened", function()
    local options = World.recovery({ attempts = ATTEMPTS, delay_ms = DELAY, max_delay_ms = MOST, jitter = "decorrelated" },
      { max_connections = 1, rebalance_delay_ms = 0 })
    for seed = 1, 100 do
      options.seed = seed
      local world = World.new(options)
      world.host.open = "fail"
      world:set { "db" }
      world:advance(5000)
      world.host.open = 0
      world:advance(MOST + 1)
      world.host.open = "fail"
      world:claim "ann"
      world:release "ann"
      world:forget()
      world.shows = "open failed"
      local at = world:time()
      world:lose "db/1" -- opened anew at once, which fails
      world:advance(3 * DELAY + 1)
      local second = world:trace():match "\n%[ *([%d.]+)%] open db/1, attempt 2"
      assert_within("the pause", tonumber(second) - at, DELAY - 1e-6, 3 * DELAY)
    end
  end)

  it("of any kind is the same for the same seed", function()
    for _, jitter in ipairs { "spread", "full", "decorrelated" } do
      assert.same(pauses(7, 9, { jitter = jitter }), pauses(7, 9, { jitter = jitter }))
    end
  end)
end)
