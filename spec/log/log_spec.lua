--- The log: records, where they go, and what becomes of functions that misbehave.
local cueball = require "cueball"
local form = require "cueball.log.form"
local log = require "cueball.log"
local sim = require "cueball.host.sim"
local sim_pool = require "spec.support.sim_pool"

local world

local function say(level, message, event, facts)
  log.say(world, level, message, event or "attempt_failed", facts)
end

-- The lines that a sink got.
local function collect(options)
  local lines = {}
  options.sink = function(line) lines[#lines + 1] = line end
  log.to(options)
  return lines
end

before_each(function() world = sim.new { seed = 1 } end)

after_each(function()
  log.to()
  log.limit()
  world.close()
end)

describe("a record", function()
  it("goes to the host's log as text where nobody says otherwise", function()
    say("warn", "it is hot", "attempt_failed", { pool = "db" })
    say("info", "alone")
    assert.same({
      { time_ms = 0, level = "warn", message = "cueball db: it is hot" }, { time_ms = 0, level = "info", message = "cueball: alone" },
    }, world.logs)
  end)

  it("is text, logfmt or JSON", function()
    local facts = { pool = "my db", backend = "10.0.0.1:80", cause = "failed", count = 3, error = 'say "no"\n', is_new = true }
    local wanted = {
      text = "2020-09-13T12:26:40.000Z warn cueball my db: first\nsecond",
      logfmt = 'time=2020-09-13T12:26:40.000Z level=warn pool="my db" backend=10.0.0.1:80 event=attempt_failed cause=failed count=3 '
        .. 'error="say \\"no\\"\\n" is_new=true msg="first\\nsecond"',
      json = '{"time":"2020-09-13T12:26:40.000Z","time_s":1600000000.000,"level":"warn","pool":"my db","backend":"10.0.0.1:80",'
        .. '"event":"attempt_failed","cause":"failed","message":"first\\nsecond",'
        .. '"fields":{"count":3,"error":"say \\"no\\"\\\\n","is_new":true}}',
    }
    for name, line in pairs(wanted) do
      local lines = collect { form = name, level = "debug" }
      say("warn", "first\nsecond", nil, facts)
      assert.same({ line }, lines)
    end
    local decoded = require("dkjson").decode(wanted.json)
    assert.equal("first\nsecond", decoded.message)
  end)

  it("has nothing in it that could forge a line or act on a terminal", function()
    local hostile = "a\27[31m\0\r b\194\155</script>\255"
    for _, name in ipairs { "text", "logfmt", "json" } do
      local lines = collect { form = name, level = "debug" }
      say("warn", hostile, nil, { backend = hostile, note = hostile })
      assert.is_nil(lines[1]:find "[%z\1-\31\127\255]", name)
      assert.is_nil(lines[1]:find("\194\155", 1, true), name)
      if name == "json" then
        assert.is_nil(lines[1]:find("<", 1, true))
        assert.equal("a\\x1b[31m\\x00\\x0d b\\xc2\\x9b</script>\\xff", require("dkjson").decode(lines[1]).message:gsub("\\r", "\\x0d"))
      end
    end
  end)

  it("has whole numbers with all digits: those of leases are long", function()
    local lease = 2 ^ 32 * 40000 + 3
    for name, wanted in pairs { logfmt = " lease=171798691840003 ", json = '"lease":171798691840003}' } do
      local lines = collect { form = name, level = "debug" }
      say("info", "x", nil, { lease = lease, part = 0.5 })
      assert.is_truthy(lines[1]:gsub(',"part":0.5', ""):find(wanted, 1, true), lines[1])
    end
  end)

  it("is bounded in length", function()
    local lines = collect { form = "text", level = "debug" }
    say("warn", ("x"):rep(100000))
    assert.is_true(#lines[1] < 8200)
  end)
end)

describe("log.to", function()
  it("leaves out what is below its level", function()
    local lines = collect { level = "warn" }
    for _, level in ipairs { "debug", "info", "warn", "error" } do say(level, level) end
    assert.same({ "warn cueball: warn", "error cueball: error" }, { lines[1]:match "%S+ %S+ %S+$", lines[2]:match "%S+ %S+ %S+$" })
    lines = collect { level = "none" }
    say("error", "x")
    assert.same({}, lines)
  end)

  it("goes to the host's log in another form", function()
    log.to { form = "logfmt", sink = "host" }
    say("debug", "it is hot")
    assert.matches('^time=%S+ level=debug event=attempt_failed msg="it is hot"$', world.logs[1].message)
    assert.equal("debug", world.logs[1].level)
  end)

  it("refuses what it does not know, at the caller's line", function()
    assert.blames('log.to: option \'form\' must be "text", "logfmt" or "json", not "xml"', function() log.to { form = "xml" } end)
    assert.error_matches(function() log.to { sink = 1 } end, "option 'sink' must be \"stderr\"")
    assert.error_matches(function() log.subscribe "x" end, "log.subscribe: expected a function")
    assert.error_matches(function() log.recent { limit = 0 } end, "a whole number from 1 to 1000")
    assert.error_matches(function() log.limit { lines = 0 } end, "option 'lines'")
  end)

  it("tells of a sink that throws on the host's log, once a minute, and goes on calling it", function()
    local calls = 0
    log.to { level = "debug", sink = function()
      calls = calls + 1
      error "no disk"
    end }
    for _ = 1, 5 do say("warn", "x") end
    assert.equal(5, calls)
    assert.equal(1, #world.logs)
    assert.matches("the function that log.to was given threw: .*no disk", world.logs[1].message)
    world.advance(61000)
    say("warn", "x")
    assert.equal(2, #world.logs)
  end)

  it("holds nobody up with a sink that waits or yields: that is its error, told once", function()
    local function sleep() world.sleep(10) end
    local ways = { coroutine.yield, sleep, function() coroutine.wrap(sleep)() end }
    for index, way in ipairs(ways) do
      local calls, ended, before = 0, 0, #world.logs
      log.to { level = "debug", sink = function()
        calls = calls + 1
        way()
      end }
      for _ = 1, 3 do
        world.spawn(function()
          say("warn", "x")
          world.sleep(10)
          ended = ended + 1
        end)
      end
      world.advance(100)
      assert.same({ 3, 3, before + 1 }, { calls, ended, #world.logs }, index)
      assert.matches("the function that log.to was given threw: .*wait", world.logs[before + 1].message)
    end
  end)

  it("goes on where a host cannot keep a sink from waiting", function()
    local told, host = {}, setmetatable({ tasks = false }, { __index = world })
    host.log = function(_, message) told[#told + 1] = message end
    local calls = 0
    log.to { level = "debug", sink = function()
      calls = calls + 1
      if calls == 1 then coroutine.yield() end
    end }
    local function speak(words) log.say(host, "warn", words, "attempt_failed") end
    local one = coroutine.create(function()
      speak "first"
      speak "third"
    end)
    coroutine.resume(one)
    speak "second"
    assert.equal(2, calls)
    assert.same({ "cueball: the function that log.to was given threw: it waits, which it may not" }, told)
    assert.is_true(coroutine.resume(one))
    assert.equal("dead", coroutine.status(one))
    assert.same({ 3, 1 }, { calls, #told })
    speak "fourth"
    assert.equal(4, calls)
  end)

  it("calls no function within its own call: what it logs follows", function()
    local seen = {}
    log.to { level = "debug", sink = function(_, record)
      seen[#seen + 1] = record.message
      if #seen < 3 then say("info", "from within " .. #seen) end
      seen[#seen + 1] = "end"
    end }
    say("warn", "first")
    assert.same({ "first", "end", "from within 1", "end" }, seen)
  end)

  it("bounds what a function logs that logs at each call", function()
    local calls = 0
    log.limit(false)
    log.to { level = "debug", sink = function()
      calls = calls + 1
      say("info", "again")
    end }
    say("warn", "first")
    assert.equal(101, calls)
  end)

  it("has a function that would wait raise an error, in a task of a pool's too", function()
    log.to { level = "info", sink = function() world.sleep(10) end }
    world.run(function() say("warn", "x") end)
    assert.equal(0, world.time_ms())
    assert.matches("only a task may wait", world.logs[1].message)
  end)
end)

describe("log.subscribe", function()
  it("has every record, until it ends", function()
    local seen = {}
    local finish = log.subscribe(function(record) seen[#seen + 1] = record.level .. " " .. record.message end)
    say("debug", "a")
    say("error", "b")
    finish()
    say("error", "c")
    assert.same({ "debug a", "error b" }, seen)
  end)

  it("of one that throws, others hear, and it does not", function()
    local seen, thrown = {}, 0
    local finish_one = log.subscribe(function()
      thrown = thrown + 1
      error "oops"
    end)
    local finish_other = log.subscribe(function(record) seen[#seen + 1] = record.event end)
    say("info", "a")
    say("info", "b")
    finish_one()
    finish_other()
    assert.equal(2, thrown)
    assert.same({ "attempt_failed", "log_threw", "attempt_failed" }, seen)
  end)

  it("of one that changes what it is given, others hear the same, and the log goes on", function()
    local function spoil(record)
      record.message, record.level, record.event, record.fields.key = nil, {}, nil, nil
      record.fields = 5
    end
    local seen = {}
    local finish_one = log.subscribe(spoil)
    local finish_other = log.subscribe(function(record) seen[#seen + 1] = record.message end)
    log.to { sink = function(_, record) spoil(record) end }
    say("warn", "a")
    say("warn", "b")
    spoil(log.recent { limit = 1 }[1])
    finish_one()
    finish_other()
    log.to()
    assert.same({ "a", "b" }, seen)
    assert.same({ "a", "b" }, { log.recent { limit = 2 }[1].message, log.recent { level = "warn", limit = 1 }[1].message })
  end)
end)

describe("log.recent", function()
  it("has the last 1,000 records, by pool and level, oldest first", function()
    log.limit(false)
    for number = 1, 1500 do
      say(number % 2 == 0 and "warn" or "debug", "n" .. number, nil, { pool = number % 10 == 0 and "ten" or "other" })
    end
    local all = log.recent()
    assert.equal(1000, #all)
    assert.same({ "n501", "n1500" }, { all[1].message, all[1000].message })
    local ten = log.recent { pool = "ten", limit = 2 }
    assert.same({ "n1490", "n1500" }, { ten[1].message, ten[2].message })
    assert.equal(500, #log.recent { level = "warn" })
  end)
end)

describe("a pool's log", function()
  it("is records of its events, with the time at which they happened, and no secrets", function()
    local records = {}
    local finish = log.subscribe(function(record) records[#records + 1] = record end)
    local town = sim_pool.new()
    local pool = town:open({ max_connections = 1, connect = function(_, context)
      context.secret("password", "hunter2hunter2")
      return nil, "the server says hunter2hunter2"
    end, recovery = { default = { attempts = 1 } } })
    town:advance(100)
    pool:stop()
    finish()
    local dead
    for _, record in ipairs(records) do
      if record.event == "backend_dead" then dead = record end
      assert.is_nil(form.json(record):find("hunter2", 1, true))
    end
    assert.same({ "warn", "db", "db1", "failed" }, { dead.level, dead.pool, dead.backend, dead.cause })
    assert.equal(1, dead.fields.count)
    assert.matches("^backend db1 is dead after 1 attempts, the last one failed: the server says", dead.message)
  end)

  it("of a function of cueball.log is reached as cueball.log, too", function()
    assert.equal(log, cueball.log)
  end)
end)
