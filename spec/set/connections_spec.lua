--- cueball.set: one shared connection to each of some backends, announced and asked back.
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local town, set

local RECOVERY = { default = { attempts = 2, timeout_ms = 100, delay_ms = 10, max_delay_ms = 20, spread = 0 } }

local function forget(member)
  if town.members[member.key] == member then town.members[member.key] = nil end
end

-- A set on so many servers; what it says goes into the trace. `removed` releases 2 ms later, unless town.holds.
local function open(options, servers)
  town = sim_pool.new { servers = servers or 3, latency = 1 }
  town.members, town.removed = {}, {}
  local all = with({
    host = town.world, resolver = cueball.resolver.static(sim_pool.backends(1, servers or 3)),
    connect = cueball.connection.tcp {}, recovery = RECOVERY, decoherence_interval_ms = false,
    added = function(member)
      town.world.trace("added %s", member.key)
      town.members[member.key] = member
    end,
    removed = function(member, cause)
      town.world.trace("removed %s (%s)", member.key, cause)
      forget(member)
      town.removed[member.key] = member
      if town.holds then return end
      town.world.spawn(function()
        town.world.sleep(2)
        member:release()
      end)
    end,
  }, options)
  set = cueball.set(all)
  return set
end

local function keys()
  local list = {}
  for _, member in ipairs(set:connections()) do list[#list + 1] = member.key end
  return table.concat(list, " ")
end

-- The trace, without times; begun anew.
local seen
local function said()
  local text = town.world.trace_text()
  local fresh = text:sub(#seen + 1)
  seen = text
  return (fresh:gsub("%[ *%d+%] ", ""):gsub("^\n", ""):gsub("\n", ", "))
end

before_each(function() seen = "" end)

local function stop()
  set:stop()
  town:advance(10)
  assert.equal("stopped", set:state())
  assert.same({}, town.world.leaks())
end

local function nothing() end

describe("cueball.set", function()
  local function given(more)
    local all = with({ host = sim.new(), resolver = nothing, connect = nothing, added = nothing, removed = nothing }, more)
    for name, value in pairs(all) do if value == "none" then all[name] = nil end end
    return all
  end

  it("blames its caller for what is missing or wrong", function()
    local set_of = cueball.set
    assert.blames("cueball.set: expected a table of options, got nil", function() set_of() end)
    assert.blames("cueball.set: option 'added' is required: a function(member)", function() set_of(given { added = "none" }) end)
    assert.blames("cueball.set: option 'removed' is required: a function(member, cause)",
      function() set_of(given { removed = "none" }) end)
    assert.blames("cueball.set: option 'resolver' is required: a function(sink) or a table with run(self, sink)",
      function() set_of(given { resolver = "none" }) end)
    assert.blames("cueball.set: option 'connect' is required: a function(backend, context) or a table with connect(backend, context)",
      function() set_of(given { connect = "none" }) end)
    assert.blames("cueball.set: option 'target' must be a whole number from 1 to 1000000, not 0",
      function() set_of(given { target = 0 }) end)
    assert.blames("cueball.set: option 'maximum' must be a whole number from 1 to 1000000, not 1.5",
      function() set_of(given { maximum = 1.5 }) end)
    assert.blames("cueball.set: option 'target' must be at most maximum (2), not 3",
      function() set_of(given { target = 3, maximum = 2 }) end)
    assert.blames("cueball.set: option 'drain_timeout_ms' must be a number from 0 to 86400000 (milliseconds), or false for 0, not -1",
      function() set_of(given { drain_timeout_ms = -1 }) end)
    assert.blames("cueball.set: the connection factory's 'close' must be a function, not 3",
      function() set_of(given { connect = { connect = nothing, close = 3 } }) end)
    assert.blames("cueball.set: unknown option 'sed'; did you mean 'seed'?", function() set_of(given { sed = 1 }) end)
  end)

  it("says so where a socket cannot be leased for good, and takes what is none", function()
    local world = sim_pool.new { servers = 1, latency = 1 }.world
    local nginx = setmetatable({ set_factory = require("cueball.nginx.parking").without_sockets }, { __index = world })
    local function set_of(connect)
      local added = 0
      local made = cueball.set { host = nginx, resolver = cueball.resolver.static(sim_pool.backends(1, 1)), connect = connect,
        recovery = RECOVERY, added = function() added = added + 1 end, removed = function(member) member:release() end }
      world.advance(1000)
      local message = made:last_error()
      made:stop()
      world.advance(1000)
      return added, message
    end
    local added, message = set_of(cueball.connection.tcp {})
    assert.equal(0, added)
    assert.matches("a set cannot lease a socket here: it belongs to the request, or timer, that opened it", message, 1, true)
    assert.same({}, world.leaks())
    assert.equal(1, (set_of(function() return { id = 1 } end)))
  end)

  it("refuses what is for pools, and says what a set has instead", function()
    local set_of = cueball.set
    local refused = {
      max_connections = "; a set has 'maximum'", spares = "; a set has 'target'", claim_timeout_ms = "", max_waiters = "", queue = "",
      target_claim_delay_ms = "", balance = "", leak_detection = "", leak_warning_ms = "", claim_sites = "",
    }
    for name, instead in pairs(refused) do
      assert.blames(("cueball.set: option '%s' is for pools%s"):format(name, instead), function() set_of(given { [name] = 1 }) end)
    end
  end)

  it("opens as many as its target, one to each backend at most, and announces each", function()
    open { target = 2 }
    town:advance(100)
    assert.equal(2, #set:connections())
    assert.equal("running", set:state())
    assert.matches("^added db%d%.1, added db%d%.1$", said())
    local member = set:connections()[1]
    assert.equal(member.key, member.backend.key .. ".1")
    assert.equal(member, town.members[member.key])
    assert.equal(2, set:stats().busy)
    stop()
    open({ target = 5 }, 3)
    town:advance(100)
    assert.equal("db1.1 db2.1 db3.1", keys())
    assert.same({ 1, 1, 1 }, { town.servers[1].connections, town.servers[2].connections, town.servers[3].connections })
    stop()
  end)

  it("has one connection by default, that works", function()
    open()
    town.servers[1]:set { reply = function(data) return data end }
    town.servers[2]:set { reply = function(data) return data end }
    town.servers[3]:set { reply = function(data) return data end }
    town:advance(100)
    assert.equal(1, #set:connections())
    assert.equal("hello", town:run(function()
      local socket = set:connections()[1].connection
      assert(socket:send "hello\n")
      return socket:receive "*l"
    end))
    stop()
  end)

  it("adds the replacement of a removed backend before it takes the old one", function()
    local sink
    open { target = 1, rebalance_delay_ms = 0, resolver = function(given_sink)
      sink = given_sink
      sink:add(sim_pool.backend(1))
      town.world.waiter():wait()
    end }
    town:at(10, function() sink:set { sim_pool.backend(2) } end)
    town:advance(100)
    assert.trace(town, [[
      [   0] added db1.1
      [  10] added db2.1
      [  10] removed db1.1 (removed)]])
    assert.equal("db2.1", keys())
    assert.equal(0, town.servers[1].connections)
    stop()
  end)

  it("keeps the last that works while no other is up, though its backend was removed", function()
    local sink
    open { target = 1, rebalance_delay_ms = 0, proven_after_ms = 1, resolver = function(given_sink)
      sink = given_sink
      sink:add(sim_pool.backend(1))
      town.world.waiter():wait()
    end }
    town.servers[2]:stop()
    town:at(10, function() sink:set { sim_pool.backend(2) } end)
    town:at(500, function() town.servers[2]:start() end)
    town:advance(490)
    assert.equal("added db1.1", said())
    assert.equal("db1.1", keys())
    town:advance(500)
    assert.equal("added db2.1, removed db1.1 (removed)", said())
    stop()
  end)

  it("takes another backend for one that dies, and comes back to its preference", function()
    open({ target = 1, maximum = 2 }, 2)
    town:advance(50)
    local first = keys()
    local server = town.servers[tonumber(first:match "db(%d)")]
    local other = first == "db1.1" and "db2" or "db1"
    said()
    server:kill()
    town.members[first]:fail "the line is dead"
    town:advance(1000)
    assert.equal(("added %s.1"):format(other), said())
    assert.equal(1, set:stats().dead_backends)
    server:start()
    town:advance(2000)
    local preferred = first:sub(1, 3)
    assert.equal(("added %s.2, removed %s.1 (plan)"):format(preferred, other), said())
    assert.equal(preferred .. ".2", keys())
    stop()
  end)

  it("has failed while all backends are dead, and goes on with the first that lives", function()
    open({ target = 2, proven_after_ms = 1 }, 2)
    town:advance(50)
    said()
    for number = 1, 2 do town.servers[number]:kill() end
    for _, member in ipairs(set:connections()) do member:fail "gone" end
    town:advance(1000)
    assert.equal("failed", set:state())
    assert.equal("", keys())
    assert.matches("connection refused", set:last_error())
    town:advance(5000)
    assert.equal("", said())
    town.servers[2]:start()
    town:advance(30)
    assert.equal("running", set:state())
    assert.equal("added db2.2", said())
    town.servers[1]:start()
    town:advance(30)
    assert.equal("added db1.2", said())
    for number = 1, 2 do town.servers[number]:kill() end
    for _, member in ipairs(set:connections()) do member:fail "gone" end
    town:advance(1000)
    assert.equal("failed", set:state())
    stop()
  end)

  it("waits for its recovery without asking again and again", function()
    open({ target = 1 }, 1)
    town:advance(50)
    town.servers[1]:kill()
    town.members["db1.1"]:fail "gone"
    town:advance(1000)
    assert.equal("failed", set:state())
    local before = set:stats().claims
    town:advance(10000)
    assert.equal(before, set:stats().claims)
    stop()
  end)

  it("changes its target while it lives", function()
    open { target = 1, maximum = 3 }
    town:advance(50)
    said()
    set:set { target = 3 }
    town:advance(50)
    assert.equal("db1.1 db2.1 db3.1", keys())
    said()
    set:set { target = 1 }
    town:advance(50)
    assert.matches("^removed db%d%.1 %(plan%), removed db%d%.1 %(plan%)$", said())
    assert.equal(1, #set:connections())
    set:set { target = 2, maximum = 2 }
    town:advance(50)
    assert.equal(2, #set:connections())
    assert.blames("set:set: option 'target' must be at most maximum (2), not 3", function() set:set { target = 3 } end)
    assert.blames("set:set: option 'spares' is for pools; a set has 'target'", function() set:set { spares = 3 } end)
    assert.blames("set:set: the notices cannot be changed", function() set:set { added = nothing } end)
    assert.blames("set:set: option 'resolver' cannot be changed", function() set:set { resolver = nothing } end)
    assert.blames("set:set: unknown option 'max_churn_rat'; did you mean 'max_churn_rate'?", function() set:set { max_churn_rat = 3 } end)
    assert.equal(2, #set:connections())
    stop()
  end)

  it("moves members with time, never without one", function()
    open({ target = 1, decoherence_interval_ms = 1000 }, 3)
    local most_missing = false
    for _ = 1, 600 do
      town:advance(100)
      most_missing = most_missing or #set:connections() < 1
    end
    assert.is_false(most_missing)
    local text = said()
    assert.matches("removed db%d%.%d+ %(plan%)", text)
    local first = text:match "^added (db%d)%.1, "
    assert.truthy(first)
    for before in text:gmatch "(%S+ %S+), removed" do assert.matches("^added", before) end
    stop()
  end)

  it("survives notices that throw", function()
    open { target = 2, added = function() error "no room" end, removed = function() error "no way" end, drain_timeout_ms = 50 }
    town:advance(50)
    assert.equal(2, #set:connections())
    set:set { target = 1 }
    town:advance(50)
    assert.equal(1, #set:connections())
    local text = town:log "error"
    assert.matches("a set's notice threw: [^\n]*no room", text)
    assert.matches("a set's notice threw: [^\n]*no way", text)
    set:stop()
    town:advance(100)
    assert.equal("stopped", set:state())
    assert.same({}, town.world.leaks())
  end)

  it("says what it is", function()
    open { name = "brokers" }
    town:advance(50)
    assert.equal("cueball.set (brokers, running)", tostring(set))
    assert.equal(3, #set:backends())
    local kinds = {}
    local leave = set:subscribe(function(event) kinds[#kinds + 1] = event.kind end)
    set:set { target = 1 }
    leave()
    assert.truthy(table.concat(kinds, " "):find "options_changed")
    stop()
  end)
end)

describe("a member", function()
  it("is released only after it was removed", function()
    open { target = 2 }
    town.holds = true
    town:advance(50)
    local member = set:connections()[1]
    assert.blames("member:release: the connection was not removed; use member:close", function() member:release() end)
    set:set { target = 1 }
    town:advance(1000)
    local key, gone = next(town.removed)
    assert.equal(key, gone.key)
    assert.equal(2, set:stats().busy) -- it drains
    assert.equal(1, #set:connections())
    assert.is_true(gone:release())
    assert.same({ nil, "the lease is over: it was released, closed or taken back before", "stale" }, { gone:release() })
    town:advance(50)
    assert.equal(1, set:stats().total)
    town.holds = false
    stop()
  end)

  it("is replaced after close, with the next serial and without notice", function()
    open({ target = 1 }, 1)
    town:advance(50)
    said()
    local member = town.members["db1.1"]
    assert.is_true(member:close())
    assert.equal("stale", select(3, member:close()))
    assert.equal("", keys())
    town:advance(50)
    assert.equal("added db1.2", said())
    assert.equal("stale", select(3, member:fail "late"))
    assert.equal("db1.2", keys())
    assert.is_nil(set:last_error())
    stop()
  end)

  it("is replaced after fail, when recovery.connect allows, and the reason is kept", function()
    open({ target = 1 }, 1)
    town:advance(50)
    assert.is_true(town.members["db1.1"]:fail "bad frame")
    assert.equal("db1: bad frame", set:last_error())
    town:advance(9)
    assert.equal("", keys())
    town:advance(10)
    assert.equal("db1.2", keys())
    stop()
  end)

  it("may be closed or failed after it was removed", function()
    for _, way in ipairs { "close", "fail" } do
      open { target = 3 }
      town.holds = true
      town:advance(50)
      set:set { target = 1 }
      town:advance(10)
      for _, member in pairs(town.removed) do assert.is_true(member[way](member, "done")) end
      town:advance(50)
      assert.equal(1, set:stats().total)
      town.holds = false
      stop()
    end
  end)

  it("is removed while it is being announced, if `added` brings that about", function()
    open { target = 1, added = function(member)
      town.world.trace("added %s", member.key)
      if member.key:find "%.1$" then member:close() end
    end }
    town:advance(50)
    assert.matches("^added (db%d)%.1, added (db%d)%.2$", said())
    stop()
  end)
end)

describe("set:stop", function()
  it("removes all, and waits until they are released", function()
    open { target = 3 }
    town:advance(50)
    said()
    town.holds = true
    set:stop()
    town:advance(50)
    assert.equal("stopping", set:state())
    local _, count = said():gsub("removed db%d%.1 %(stop%)", "")
    assert.equal(3, count)
    assert.equal("", keys())
    for _, member in pairs(town.removed) do member:release() end
    town:advance(10)
    assert.equal("stopped", set:state())
    assert.same({}, town.world.leaks())
  end)

  it("closes what is not released within drain_timeout_ms", function()
    open { target = 2, drain_timeout_ms = 100 }
    town:advance(50)
    town.holds = true
    local stopped_at
    town.world.spawn(function()
      set:stop()
      stopped_at = town.world.time_ms()
    end)
    town:advance(99)
    assert.equal("stopping", set:state())
    town:advance(10)
    assert.equal("stopped", set:state())
    assert.is_true(stopped_at >= 150 and stopped_at < 160)
    local _, member = next(town.removed)
    assert.equal("stale", select(3, member:release()))
    assert.same({}, town.world.leaks())
  end)

  it("ends a set that has not got anywhere", function()
    open()
    set:stop()
    town:advance(10)
    assert.equal("", said())
    assert.equal("stopped", set:state())
    assert.same({}, town.world.leaks())
  end)
end)

describe("set:replace", function()
  it("keeps connections; with renew they are asked back, one after the other", function()
    open { target = 2 }
    town:advance(10)
    assert.is_true(set:replace { connect = cueball.connection.tcp {} })
    town:advance(20000)
    assert.is_true(set:replace { connect = cueball.connection.tcp {}, renew = true })
    town:advance(20000)
    assert.trace(town, [[
      [   0] added db3.1
      [   0] added db2.1
      [20010] removed db2.1 (renew)
      [20012] added db2.2
      [25010] removed db3.1 (renew)
      [25012] added db3.2]])
    set:stop()
    town:advance(100)
    assert.same({}, town.world.leaks())
  end)

  it("follows another resolver", function()
    open { target = 1 }
    town:advance(10)
    assert.is_true(set:replace { resolver = cueball.resolver.static(sim_pool.backends(1, 1)) })
    town:advance(1000)
    assert.equal("db1.1", set:connections()[1].key)
    set:stop()
    town:advance(100)
    assert.same({}, town.world.leaks())
  end)

  it("is done when the set stops in the middle of it, or is told to do it again", function()
    open { target = 2 }
    town:advance(10)
    for _ = 1, 2 do set:replace { connect = cueball.connection.tcp {}, renew = true } end
    town:advance(100)
    set:stop()
    town:advance(100)
    assert.same({}, town.world.leaks())
  end)

  it("checks what it is told", function()
    open()
    assert.blames("set:replace: option 'renew' must be true or false, beside option 'connect'", function() set:replace { renew = true } end)
    assert.blames("set:replace: option 'target' is not for replace; use set:set", function() set:replace { target = 1 } end)
    assert.blames("set:replace: it must be called with a colon, on its object: set:replace(…), not set.replace(…)",
      function() set.replace {} end)
    set:stop()
    town:advance(100)
  end)
end)
