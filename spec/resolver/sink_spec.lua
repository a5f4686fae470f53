--- The resolver contract: what a resolver may say, what becomes of rubbish, and of resolvers that throw or hang.
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local backend, backends = sim_pool.backend, sim_pool.backends

local town, pool

local function open(resolver, options)
  town = sim_pool.new { servers = 3 }
  pool = town:open(with({ resolver = resolver, connect = sim_pool.factory(), rebalance_delay_ms = 0 }, options))
  return pool
end

local function keys() return town:keys() end

-- When the resolver threw.
local function failures()
  local times = {}
  for _, one in ipairs(town.world.logs) do
    if one.message:find "the resolver threw" then times[#times + 1] = math.floor(one.time_ms + 0.5) end
  end
  return table.concat(times, " ")
end

describe("a resolver", function()
  it("is a function, or a table with run and perhaps a name", function()
    open(function(sink) sink:add(backend(1)) end)
    assert.equal("db1", keys())
    town:stop()

    local resolver = { name = "orders", list = backends(1, 2) }
    function resolver:run(sink) sink:set(self.list) end
    open(resolver)
    assert.equal("db1 db2", keys())
    town:stop()
    town.pools[2] = require("cueball").pool { host = town.world, resolver = resolver, connect = sim_pool.factory() }
    assert.equal("cueball.pool (orders, running)", tostring(town.pools[2]))
    town:stop()
  end)

  it("adds, removes and sets, and hears that it is well", function()
    open(function(sink)
      assert(sink:add(backend(1)) == true)
      assert(sink:add(backend(2, { name = "the second", weight = 3 })) == true)
      sink:sleep(10)
      assert(sink:remove "db1" == true)
      sink:sleep(10)
      assert(sink:set(backends(1, 3)) == true)
      sink:sleep(10)
      assert(sink:set {} == true)
    end)
    assert.equal("db1 db2", keys())
    town:advance(15)
    assert.equal("db2", keys())
    local one = pool:backends()[1]
    assert.same({ "the second", 3 }, { one.name, one.weight })
    town:advance(10)
    assert.equal("db1 db2 db3", keys())
    town:advance(10)
    assert.equal("", keys())
    assert.log(town, "debug", [[
      [   0] cueball db: backend db1 added
      [   0] cueball db: backend db2 added
      [  10] cueball db: backend db1 removed
      [  20] cueball db: backend db1 added
      [  20] cueball db: backend db3 added
      [  30] cueball db: backend db2 removed
      [  30] cueball db: backend db1 removed
      [  30] cueball db: backend db3 removed]])
    town:stop()
  end)

  it("may say the same again: the connections stay; another address under the key replaces it", function()
    open(function(sink)
      sink:set(backends(1, 1))
      sink:sleep(10)
      sink:add(backend(1))
      sink:set(backends(1, 1))
      sink:sleep(10)
      sink:add(backend(1, { port = 7001 }))
    end, { max_connections = 2 })
    town:advance(15)
    assert.equal(2, pool:stats().opened)
    town:advance(15)
    assert.equal(4, pool:stats().opened)
    assert.equal(7001, pool:backends()[1].port)
    assert.equal(1, #pool:backends())
    town:stop()
  end)

  it("fails: the last known backends stay, and the same failure is said once", function()
    open(function(sink)
      sink:set(backends(1, 2))
      for _ = 1, 3 do
        sink:sleep(10)
        sink:fail "SERVFAIL"
      end
      sink:sleep(10)
      sink:fail "no answer"
      sink:sleep(10)
      sink:set(backends(1, 3))
      sink:sleep(10)
      sink:fail "SERVFAIL"
    end)
    local events = {}
    pool:subscribe(function(event)
      if event.kind:match "^resolver" then events[#events + 1] = ("%d %s"):format(event.time_ms, event.kind) end
    end)
    town:advance(45)
    assert.equal("db1 db2", keys())
    assert.equal("resolver: no answer", pool:last_error())
    assert.equal("running", pool:state())
    town:advance(100)
    assert.equal("db1 db2 db3", keys())
    assert.log(town, "warn", [[
      [  10] cueball db: resolver: SERVFAIL
      [  40] cueball db: resolver: no answer
      [  60] cueball db: resolver: SERVFAIL]])
    assert.same({ "10 resolver_failed", "50 resolver_recovered", "60 resolver_failed" }, events)
    town:stop()
  end)

  it("that never found any fails the pool, which starts again when it does", function()
    open(function(sink)
      sink:fail "not yet"
      sink:sleep(10)
      sink:add(backend(1))
    end)
    assert.equal("failed", pool:state())
    assert.equal("pool_failed", (select(3, pool:try_claim())))
    town:advance(20)
    assert.log(town, "all", [[
      [   0] warn: cueball db: resolver: not yet
      [   0] error: cueball db: failed (was starting): the resolver failed: not yet
      [  10] info: cueball db: starting (was failed)
      [  10] info: cueball db: running (was starting)]])
    town:stop()
  end)

  it("may say where it has it from: the events and the log tell it", function()
    local seen, answers = {}, {}
    open(function(sink)
      sink:sleep(10)
      sink:add(backend(1, { provenance = "a note" }))
      sink:add(backend(2))
      sink:add(backend(1, { provenance = "a newer note" }))
      sink:sleep(10)
      sink:set { backend(1, { provenance = "the list" }), backend(3, { provenance = "the list too" }) }
      sink:sleep(10)
      sink:remove("db1", "the note is gone")
      sink:remove "db3"
      answers = { { sink:remove("db4", "x") }, { sink:remove("db1", 5) } }
      sink:add(backend(1))
    end)
    pool:subscribe(function(event)
      if event.kind:find "^backend_[ar]" then
        seen[#seen + 1] = ("%s %s: %s"):format(event.kind, event.backend, tostring(event.provenance))
      end
    end)
    town:advance(100)
    assert.same({
      "backend_added db1: a note", "backend_added db2: nil",
      "backend_added db3: the list too", "backend_removed db2: nil",
      "backend_removed db1: the note is gone", "backend_removed db3: nil",
      "backend_added db1: nil",
    }, seen)
    assert.same({ { nil, 'remove: no backend has the key "db4"', "not_found" },
      { nil, 'remove "db1": a provenance must be a string, not number', "invalid" } }, answers)
    assert.log(town, "debug", [[
      [  10] cueball db: backend db1 added: a note
      [  10] cueball db: backend db2 added
      [  20] cueball db: backend db3 added: the list too
      [  20] cueball db: backend db2 removed
      [  30] cueball db: backend db1 removed: the note is gone
      [  30] cueball db: backend db3 removed
      [  30] cueball db: backend db1 added]])
    town:stop()
  end)

  it("may take back a failure without a word about backends", function()
    local answers = {}
    open(function(sink)
      sink:add(backend(1))
      answers[1] = sink:recover()
      sink:sleep(10)
      sink:fail "no answer"
      sink:sleep(10)
      answers[2] = sink:recover()
    end)
    local events = {}
    pool:subscribe(function(event)
      if event.kind:match "^resolver" then events[#events + 1] = ("%d %s"):format(event.time_ms, event.kind) end
    end)
    town:advance(30)
    assert.same({ "10 resolver_failed", "20 resolver_recovered" }, events)
    assert.same({ true, true }, answers)
    assert.equal("db1", keys())
    town:stop()
  end)

  it("is woken early from its sleep, or from the next one", function()
    local sink, woken = nil, {}
    open(function(given)
      sink = given
      for _ = 1, 4 do
        sink:sleep(#woken < 2 and math.huge or 100)
        woken[#woken + 1] = town.world.time_ms()
        if #woken == 1 then sink:wake() end
      end
    end)
    town:at(50, function() sink:wake() end)
    town:at(60, function() sink:wake() end)
    town:at(61, function() sink:wake() end)
    town:advance(300)
    assert.same({ 50, 50, 60, 61 }, woken)
    town:stop()
    assert.same({ nil, "the resolver was ended", "pool_stopping" }, { sink:wake() })
    assert.same({ nil, "the resolver was ended", "pool_stopping" }, { sink:recover() })
  end)

  it("that sleeps for ever is told when the pool stops", function()
    local answer
    open(function(sink) answer = sink:sleep(math.huge) end)
    town:advance(1e9)
    assert.is_nil(answer)
    town:stop()
    assert.is_false(answer)
  end)

  it("is told how the pool recovers, for questions of its own", function()
    local recovery
    open(function(sink) recovery = sink.recovery end, { recovery = { default = { attempts = 7 } } })
    assert.same({ default = { attempts = 7 } }, recovery)
    town:stop()
  end)

  it("has the host for its own sockets and timers", function()
    local host
    open(function(sink) host = sink.host end)
    assert.equal(town.world, host)
    town:stop()
  end)
end)

describe("rubbish from a resolver", function()
  local IPS = "is neither an IP address nor unix:/PATH"
  local PORT = "its port must be a whole number from 0 to 65535, not "
  local rubbish = {
    { 7, "a backend must be a table {address=, port=, …}, not number" },
    { "10.0.0", 'not a backend: "10.0.0" is not an address: expected IP, IP:PORT, [IPv6]:PORT or unix:/PATH' },
    { {}, "not a backend: its address is nil, not a string" },
    { { address = "10.0.0.1" }, "not a backend: " .. PORT .. "nil" },
    { { address = "10.0.0.1", port = "80" }, "not a backend: " .. PORT .. "80" },
    { { address = "10.0.0.1", port = 70000 }, "not a backend: " .. PORT .. "70000" },
    { { address = "10.0.0.1", port = 80.5 }, "not a backend: " .. PORT .. "80.5" },
    { { address = "10.0.0.1", port = 0 / 0 }, "not a backend: " .. PORT .. "nan" },
    { { address = "db.example", port = 80 }, 'not a backend: its address "db.example" ' .. IPS },
    { { address = "10.0.0", port = 80 }, 'not a backend: its address "10.0.0" ' .. IPS },
    { { address = "", port = 80 }, "not a backend: its address has 0 bytes, not 1 to 1023" },
    { { address = ("x"):rep(1024), port = 80 }, "not a backend: its address has 1024 bytes, not 1 to 1023" },
    { { address = 10, port = 80 }, "not a backend: its address is number, not a string" },
    { { address = "10.0.0.1", port = 80, weight = 0 }, "backend 10.0.0.1:80: its weight must be a whole number from 1 to 65535, not 0" },
    { { address = "10.0.0.1", port = 80, weight = "2" }, "backend 10.0.0.1:80: its weight must be a whole number from 1 to 65535, not 2" },
    { { address = "::1", port = 80, priority = -1 }, "backend [::1]:80: its priority must be a whole number from 0 to 65535, not -1" },
    { { address = "::1", port = 80, provenance = 5 }, "backend [::1]:80: its provenance is number, not a string" },
    { { address = "::1", port = 80, key = 5 }, "backend [::1]:80: its key is number, not a string" },
    { { address = "::1", port = 80, key = "" }, "backend [::1]:80: its key has 0 bytes, not 1 to 1023" },
    { { address = "::1", port = 80, key = ("k"):rep(1024) }, "backend [::1]:80: its key has 1024 bytes, not 1 to 1023" },
    { { address = "::1", port = 80, name = {} }, "backend [::1]:80: its name is table, not a string" },
    { { address = "unix:/db.sock", name = "a\tb" }, 'backend unix:/db.sock: its name "a\\9b" has control characters' },
  }

  it("is refused by add, said in the log, and passed over by set", function()
    for _, one in ipairs(rubbish) do
      local given, message = one[1], one[2]
      local answers = {}
      open(function(sink)
        answers[1] = { sink:add(given) }
        answers[2] = { sink:set { backend(1), given, backend(2) } }
      end)
      assert.same({ { nil, message, "invalid" }, { true, 1, { message } } }, answers)
      assert.equal("db1 db2", keys())
      local line = "[   0] warn: cueball db: resolver: " .. message .. "\n"
      assert.equal(line .. line .. "[   0] info: cueball db: running (was starting)", town:log "all")
      town:stop()
    end
  end)

  it("is a key given twice, a list that is none, the removal of what is not there", function()
    local answers = {}
    open(function(sink)
      for _, answer in ipairs {
        { sink:set { backend(1), backend(2, { key = "db1" }), backend(3) } },
        { sink:set(nil) }, { sink:set "db1" },
        { sink:remove "db2" }, { sink:remove "db2" }, { sink:remove(7) }, { sink:remove(nil) },
      } do answers[#answers + 1] = answer end
    end)
    assert.same({
      { true, 1, { 'set: the key "db1" is given twice' } },
      { nil, "set: a list of backends is expected, not nil", "invalid" },
      { nil, "set: a list of backends is expected, not string", "invalid" },
      { nil, 'remove: no backend has the key "db2"', "not_found" },
      { nil, 'remove: no backend has the key "db2"', "not_found" },
      { nil, "remove: a key must be a string, not number", "invalid" },
      { nil, "remove: a key must be a string, not nil", "invalid" },
    }, answers)
    assert.equal("db1 db3", keys())
    assert.equal(7000, pool:backends()[1].port)
    assert.log(town, "warn", [[
      [   0] cueball db: resolver: set: the key "db1" is given twice
      [   0] cueball db: resolver: set: a list of backends is expected, not nil
      [   0] cueball db: resolver: set: a list of backends is expected, not string
      [   0] cueball db: resolver: remove: no backend has the key "db2"
      [   0] cueball db: resolver: remove: a key must be a string, not number
      [   0] cueball db: resolver: remove: a key must be a string, not nil]])
    assert.equal(3, pool:stats().idle + pool:stats().busy)
    town:stop()
  end)

  it("is a sleep that is no time", function()
    open(function(sink) sink:sleep "long" end)
    assert.matches("sink_spec.lua:%d+: sink:sleep: expected a number of milliseconds from 0, got long", town:log "error")
    town:stop()
  end)
end)

describe("a resolver that throws", function()
  it("is logged with its traceback, counted as failed, and started again", function()
    local runs = 0
    open(function(sink)
      runs = runs + 1
      if runs == 1 then error "at once" end
      sink:set(backends(1, 2))
    end)
    local logs = town.world.logs
    assert.equal("error", logs[1].level)
    assert.matches("^cueball db: the resolver threw and is started again in 100 ms: [^\n]*sink_spec.lua:%d+: at once\n"
      .. "stack traceback:\n.*sink_spec.lua", logs[1].message)
    assert.equal("failed", pool:state())
    assert.matches("^resolver: .*: at once$", pool:last_error())
    assert.matches("^pool db has failed: the resolver failed: .*: at once$", (select(2, pool:try_claim())))
    town:advance(99.9)
    assert.equal(1, runs)
    town:advance(0.1)
    assert.equal(2, runs)
    assert.equal("running", pool:state())
    town:advance(100000)
    assert.equal(2, runs)
    town:stop()
  end)

  it("later keeps the backends it gave", function()
    open(function(sink)
      sink:set(backends(1, 2))
      sink:sleep(500)
      error { "no string" }
    end)
    town:advance(550)
    assert.equal("db1 db2", keys())
    assert.equal("running", pool:state())
    assert.matches("the resolver threw and is started again in 100 ms: table: ", town:log "error")
    town:advance(550)
    assert.equal("500 1100", failures())
    town:stop()
  end)

  it("for ever is started at growing intervals, up to 30 s", function()
    open(function() error "again" end)
    town:advance(120000)
    assert.equal("0 100 300 700 1500 3100 6300 12700 25500 51100 81100 111100", failures())
    assert.matches("started again in 30000 ms", town.world.logs[#town.world.logs].message)
    town:stop()
  end)

  it("right after each good answer is not hammered either", function()
    open(function(sink)
      sink:set(backends(1, 1))
      error "again"
    end)
    town:advance(3200)
    assert.equal("0 100 300 700 1500 3100", failures())
    town:stop()
  end)

  it("after it did well for longer than its pause begins with a short one again", function()
    local runs = 0
    open(function(sink)
      runs = runs + 1
      if runs > 3 then
        sink:set(backends(1, 1))
        sink:sleep(1000)
      end
      error "again"
    end)
    town:advance(3000)
    assert.equal("0 100 300 1700 2800", failures())
    town:stop()
  end)
end)

describe("the end of a resolver", function()
  it("is told by sleep, which returns false at once", function()
    open(function(sink)
      sink:set(backends(1, 1))
      while sink:sleep(1000) do town.world.trace "goes on" end
      town.world.trace "ends"
      assert(sink:sleep(1000) == false)
    end)
    town:advance(2500)
    town:run(function()
      pool:stop()
      town.world.trace "stopped"
    end)
    assert.trace(town, [[
      [1000] goes on
      [2000] goes on
      [2500] ends
      [2500] stopped]])
    assert.same({}, town.world.leaks())
  end)

  it("comes to one that does not ask, wherever it waits", function()
    for _, hang in ipairs {
      function() coroutine.yield() end,
      function(sink) sink.host.sleep(1e9) end,
      function(sink) sink.host.waiter():wait() end,
      function(sink) while true do sink.host.sleep(10) end end,
      function(sink) while true do if not sink:sleep(10) then sink.host.sleep(10) end end end,
    } do
      open(function(sink)
        sink:set(backends(1, 1))
        hang(sink)
      end)
      town:advance(100)
      pool:claim():release()
      town:stop()
    end
  end)

  it("closes its sockets", function()
    open(function(sink)
      sink:set(backends(1, 1))
      local sock = sink.host.tcp()
      assert(sock:connect("10.0.0.1", 7000))
      sock:receive "*l"
    end)
    town:advance(100)
    assert.equal(1, town.servers[1].connections)
    town:stop()
    town:advance(1)
    assert.equal(0, town.servers[1].connections)
  end)

  it("makes the sink answer that it is over", function()
    local kept
    open(function(sink)
      kept = sink
      sink:set(backends(1, 1))
    end)
    town:stop()
    for _, answer in ipairs {
      { kept:add(backend(1)) }, { kept:remove "db1" }, { kept:set {} }, { kept:fail "too late" },
    } do
      assert.same({ nil, "the resolver was ended", "pool_stopping" }, answer)
    end
    assert.is_false(kept:sleep(10))
    assert.equal("", town:log "warn")
  end)
end)

describe("pool:replace of the resolver", function()
  it("kills the old one, keeps its backends until the new one has spoken", function()
    local old
    open(function(sink)
      old = sink
      sink:set(backends(1, 2))
      while true do
        sink:sleep(10)
        town.world.trace "the old one lives"
      end
    end, { max_connections = 4 })
    town:advance(15)
    local lease = pool:claim()
    pool:replace { resolver = function(sink)
      sink:sleep(10)
      sink:set(backends(2, 3))
    end }
    assert.same({ nil, "the resolver was ended", "pool_stopping" }, { old:set {} })
    town:advance(5)
    assert.equal("db1 db2", keys())
    assert.is_true(lease:release())
    town:advance(20)
    assert.equal("db2 db3", keys())
    assert.equal(6, pool:stats().opened) -- db2 kept its two
    assert.trace(town, "[  10] the old one lives")
    town:stop()
  end)

  it("ends one that throws or hangs, and its failure with it", function()
    for _, bad in ipairs { function() error "again" end, function(sink) sink:fail "bad" coroutine.yield() end } do
      open(bad)
      assert.equal("failed", pool:state())
      pool:replace { resolver = function(sink) sink:sleep(5) sink:add(backend(1)) end }
      assert.equal("starting", pool:state())
      assert.equal("pool db: no backend is known", (select(2, pool:claim { error_on_empty = true })))
      local lines = #town.world.logs
      town:advance(100000)
      assert.equal("running", pool:state())
      assert.equal(lines + 2, #town.world.logs)
      town:stop()
    end
  end)
end)
