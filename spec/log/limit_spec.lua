--- Floods: what is held back of a kind, and when that is told.
local log = require "cueball.log"
local sim = require "cueball.host.sim"

local world, seen, finish

local function say(message, event, cause, pool)
  log.say(world, "warn", message, event or "attempt_failed", { cause = cause, pool = pool })
end

local function flood(count, ...)
  for number = 1, count do say("n" .. number, ...) end
end

-- "[ ms] message" of records that tell what was held back.
local function summaries()
  local list = {}
  for _, one in ipairs(seen) do
    if one.record.event == "held_back" then list[#list + 1] = ("[%d] %s"):format(one.time_ms, one.record.message) end
  end
  return list
end

before_each(function()
  world, seen = sim.new { seed = 1 }, {}
  finish = log.subscribe(function(record) seen[#seen + 1] = { time_ms = world.time_ms(), record = record } end)
end)

after_each(function()
  finish()
  log.limit()
  world.close()
end)

describe("of one kind", function()
  it("20 lines pass, and the number of the others is told when it is over", function()
    flood(50, "attempt_failed", "failed")
    assert.equal(20, #seen)
    world.advance(3000)
    flood(3, "attempt_failed", "failed")
    world.advance(12000)
    assert.same({}, summaries())
    world.advance(10000)
    assert.equal(21, #seen)
    assert.same({ "[20000] 33 more lines of this kind (attempt_failed, failed) were held back in 20 s, the last one: n3" }, summaries())
    assert.same({ count = 33, span_ms = 20000, of_cause = "failed" }, seen[21].record.fields)
    assert.same({ "warn", "attempt_failed" }, { seen[21].record.level, seen[21].record.cause })
    assert.same({}, world.leaks())
  end)

  it("a flood that goes on is told of each minute", function()
    for _ = 1, 1300 do
      flood(2)
      world.advance(100)
    end
    local list = summaries()
    assert.equal(2, #list)
    for _, one in ipairs(list) do assert.matches("held back in 6%d s", one) end
    assert.is_true(#seen < 70)
  end)

  it("the next 20 pass a minute later", function()
    flood(20)
    world.advance(60000)
    flood(20)
    assert.equal(40, #seen)
    assert.same({}, summaries())
  end)

  it("another pool, event, cause or level is another kind", function()
    flood(20, "attempt_failed", "failed", "a")
    flood(20, "attempt_failed", "failed", "b")
    flood(20, "attempt_failed", "timeout", "a")
    flood(20, "factory_says", "failed", "a")
    log.say(world, "info", "x", "attempt_failed", { cause = "failed", pool = "a" })
    assert.equal(81, #seen)
  end)
end)

describe("what is held back", function()
  it("of a pool is told when that stops", function()
    flood(30, "attempt_failed", nil, "a")
    flood(30, "attempt_failed", nil, "b")
    log.flush(world, "a")
    assert.equal(41, #seen)
    assert.matches("^10 more lines", seen[41].record.message)
    assert.equal("a", seen[41].record.pool)
    world.advance(10000)
    assert.equal(42, #seen)
  end)

  it("is nothing for what somebody did at a console", function()
    flood(100, "console_command")
    flood(100, "console_change")
    assert.equal(200, #seen)
  end)

  it("is nothing where the limit says so, or that of what a library writes", function()
    log.limit(false)
    flood(100)
    assert.equal(100, #seen)
    log.limit()
    flood(100, "library_says")
    assert.equal(200, #seen)
    log.limit { lines = 2, per_ms = 1000 }
    flood(100, "took_too_long")
    assert.equal(202, #seen)
  end)

  it("is told by the next line where no alarm can be set", function()
    local alarm = world.alarm
    world.alarm = function() error "not here" end
    flood(25)
    world.advance(61000)
    assert.equal(20, #seen)
    flood(1)
    assert.equal(22, #seen)
    assert.matches("^5 more lines", seen[21].record.message)
    world.alarm = alarm
  end)
end)

describe("kinds", function()
  it("do not gather for ever, and none that is held back is forgotten", function()
    finish()
    log.to { sink = function() end }
    flood(21, "attempt_failed", "first")
    for number = 1, 5000 do say("x", "attempt_failed", "cause " .. number) end
    collectgarbage()
    local before = collectgarbage "count"
    for number = 1, 20000 do say("x", "attempt_failed", "other cause " .. number) end
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 1000)
    log.flush(world)
    log.to()
    local last = log.recent { limit = 1 }[1]
    assert.same({ "held_back", 1 }, { last.event, last.fields.count })
  end)
end)
