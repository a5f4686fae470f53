--- The verbs of consoles, in virtual time: what they show, what they change, and that the line which undoes a change does.
local cueball = require "cueball"
local changes = require "cueball.console.changes"
local sim = require "cueball.host.sim"
local listing = require "cueball.console.listing"
local verbs = require "cueball.console.verbs"

local world, pool, fn

local function start()
  world = sim.new {}
  for index = 1, 2 do world.server("10.0.0." .. index, 80) end
  pool = cueball.pool {
    name = "db", host = world, max_connections = 4, spares = 2, claim_sites = true,
    resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" }, connect = cueball.connection.tcp {},
  }
  world.advance(1000)
  fn = verbs.functions({ who = "spec" }, true)
end

local function finish()
  world.spawn(function() pool:stop() end)
  world.advance(60000)
  world.close()
end

-- Calls it in a task; time goes on as long as it waits.
local function done(call, ms)
  local result
  world.spawn(function() result = { call() } end)
  world.advance(ms or 100)
  assert.is_table(result, "it still waits")
  return unpack(result, 1, 3)
end

local function last() return changes.list()[#changes.list()] end

-- Types the line that undoes the last change.
local function undo()
  local line = assert(last().undo, "nothing undoes " .. last().what)
  return done(assert(load("return " .. line, "undo", "t", fn)))
end

local function column(list, name)
  local values = {}
  for index, row in ipairs(list) do values[index] = row[name] end
  table.sort(values)
  return table.concat(values, " ")
end

describe("the verbs that look", function()
  before_each(start)
  after_each(finish)

  it("show pools, backends and connections, filtered", function()
    assert.equal("running", column(fn.pools(), "state"))
    assert.equal("db", column(fn.pools "db", "pool"))
    assert.equal("", column(fn.pools { state = "failed" }, "pool"))
    assert.equal("10.0.0.1:80 10.0.0.2:80", column(fn.backends(), "backend"))
    assert.equal("10.0.0.2:80", column(fn.backends { backend = "10.0.0.2:80" }, "backend"))
    assert.equal("up up", column(fn.backends { state = "up" }, "state"))
    assert.equal("idle idle", column(fn.connections(), "state"))
    assert.equal("10.0.0.1:80", column(fn.connections { backend = "10.0.0.1:80", state = "idle" }, "backend"))
    assert.equal("", column(fn.connections { older = "1h" }, "backend"))
    assert.equal(1, fn.connections { limit = 1 }.more)
  end)

  it("show since when a backend is in its state, and when a dead one is tried again", function()
    world.server("10.0.0.3", 80):kill()
    pool:replace { resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.3:80" } }
    world.advance(30000)
    assert.equal("10.0.0.3:80", column(fn.backends { state = "dead" }, "backend"))
    assert.equal("10.0.0.1:80 10.0.0.3:80", column(fn.backends { older = "20s" }, "backend"))
    assert.equal("", column(fn.backends { state = "dead", older = "30s" }, "backend"))
    local one = fn.backends({ state = "dead" })[1]
    assert.is_true(one.since_ms > 25000 and one.since_ms < 30000, one.since_ms)
    local shown = listing.text(fn.backends { state = "dead" }, "table")
    assert.matches("^POOL .- STATE  SINCE  .- CONNECTING  BACK IN  ERROR +LAST ERROR AGO\n", shown)
  end)

  it("show what is measured of backends only where it is", function()
    assert.is_nil(listing.text(fn.backends(), "table"):find("SUCCESS", 1, true))
    pool:set { balance = "p2c" }
    world.spawn(function() local lease = pool:claim() world.sleep(7) lease:release() end)
    world.advance(100)
    assert.matches(" LATENCY  SUCCESS RATE", listing.text(fn.backends(), "table"))
  end)

  it("show who holds connections, and who waits", function()
    local lease
    world.spawn(function() lease = pool:claim() world.sleep(20000) lease:release() end)
    world.advance(6000)
    assert.equal(1, #fn.leases { older = "5s" })
    assert.equal(0, #fn.leases { older = 7000 })
    local one = fn.leases()[1]
    assert.matches("verbs_spec.lua:%d+$", one.site)
    assert.is_true(one.held_ms >= 6000 and one.held_ms < 6100)
    assert.is_nil(one.where)
    assert.matches("verbs_spec.lua", fn.leases { where = true }[1].where)
    world.advance(20000)
  end)

  it("give a list and nothing beside it, which a prompt shows as a table", function()
    for _, row in ipairs(verbs.rows) do
      if row.kind == "look" then assert.equal(1, select("#", fn[row.name]()), row.name) end
    end
  end)

  it("show where holders and waiters are, in a column of its own", function()
    for index = 1, 5 do
      world.spawn(function() pool:with(function() world.sleep(20000) end, { timeout_ms = index * 5000 }) end)
    end
    world.advance(1000)
    local shown = listing.text(fn.leases { where = true }, "table")
    assert.matches("^POOL +LEASE +BACKEND .- WHERE\n", shown)
    assert.matches("\ndb .- 10%.0%.0%.%d:80 .- < .-verbs_spec.lua:%d+: in function [^\n]+\n", shown)
    shown = listing.text(fn.waiters { where = true }, "table")
    assert.matches("^POOL  NUMBER  WAITED .- TASK +WHERE\n", shown) -- and no HOLDS, as it holds nothing
    assert.not_matches("{}", shown, 1, true)
    assert.not_matches("WHERE", listing.text(fn.waiters(), "table"))
    world.advance(60000)
  end)

  it("show options as they are, and their defaults", function()
    local one = fn.settings { option = "max_connections" }[1]
    assert.same({ pool = "db", option = "max_connections", value = 4, default = 10, given = true }, one)
    assert.is_nil(fn.settings { option = "max_waiters" }[1].given)
  end)

  it("show what happened, the last first by limit", function()
    assert.is_true(#fn.events { pool = "db" } > 2)
    assert.equal("backend_added", fn.events { pool = "db", event = "backend_added" }[1].event)
    assert.is_true(fn.events { limit = 1 }.more > 0)
    assert.equal(1, #fn.events { limit = 1 })
  end)

  it("say what is wrong", function()
    assert.same({ nil, 'there is no pool "cache"; there are: db', "not_found" }, { fn.backends "cache" })
    assert.matches("verbs_spec.lua:%d+: backends: unknown option 'sate'; did you mean 'state'%?$",
      select(2, pcall(function() fn.backends { sate = "up" } end)))
    assert.matches("backends: option 'older': \"soon\" is no time", select(2, pcall(function() fn.backends { older = "soon" } end)))
    assert.matches("backends: option 'state' must be a string, not 5$", select(2, pcall(function() fn.backends { state = 5 } end)))
  end)

  it("are shown as table, as Lua and as JSON", function()
    local list = fn.backends { limit = 1 }
    assert.matches("^POOL  BACKEND      STATE .-\ndb    10.0.0.%d:80  up .-\n… 1 more$", listing.text(list, "table"))
    assert.equal(list[1].backend, assert(loadstring("return " .. listing.text(list, "lua")))()[1].backend)
    assert.matches('^%[{.*"backend":"10.0.0.%d:80".*}%]$', listing.text(list, "json"))
    assert.equal("none", listing.text(fn.pools { state = "failed" }, "table"))
    assert.equal("[]", listing.text(fn.pools { state = "failed" }, "json"))
  end)
end)

describe("the verbs that change", function()
  before_each(start)
  after_each(finish)

  it("set options, and the line that undoes it does", function()
    assert.is_true(done(function() return fn.set { pool = "db", max_connections = 8, spares = 3 } end))
    assert.equal(8, pool:max_connections())
    assert.same({ max_connections = 4, spares = 2 }, last().old)
    assert.same({ max_connections = 8, spares = 3 }, last().new)
    assert.equal("spec", last().who)
    assert.equal('set { max_connections = 4, pool = "db", spares = 2 }', last().undo)
    assert.is_true(undo())
    assert.equal(4, pool:max_connections())
    assert.equal(2, pool.given.spares)
  end)

  it("set what was not given before, in tables too, and of Lua's side; undone it is the default", function()
    local before = {}
    for _, row in ipairs(fn.settings { limit = 1000 }) do before[row.option] = row.value end
    assert.is_true(done(function()
      return fn.set {
        claim_timeout_ms = 5, queue = "adaptive_lifo", target_claim_delay_ms = 9, recovery = { default = { attempts = 9 } },
        leak_warning_ms = 700, max_waiters = 3,
      }
    end))
    assert.equal(9, fn.settings { option = "recovery.default.attempts" }[1].value)
    assert.equal(700, pool.leak_warning_ms)
    assert.is_true(undo())
    for _, row in ipairs(fn.settings { limit = 1000 }) do assert.equal(before[row.option], row.value, row.option) end
    assert.is_nil(pool.leak_warning_ms)
  end)

  it("rename a pool, and back", function()
    assert.is_true(done(function() return fn.set { name = "other" } end))
    assert.equal("other", pool.name)
    assert.is_true(undo())
    assert.equal("db", pool.name)
  end)

  it("note nothing that was refused", function()
    local count = #changes.list()
    assert.matches("pool:set: unknown option 'spare'; did you mean 'spares'%?$", select(2, pcall(fn.set, { spare = 1 })))
    assert.matches("set: which option%?", select(2, done(function() return fn.set {} end)))
    assert.equal(count, #changes.list())
  end)

  it("pause and resume", function()
    assert.is_true(done(function() return fn.pause() end))
    assert.is_true(pool:is_paused())
    assert.is_true(fn.pools()[1].paused)
    assert.equal('resume { pool = "db" }', last().undo)
    assert.is_true(undo())
    assert.is_false(pool:is_paused())
    assert.equal('pause { pool = "db" }', last().undo)
    local count = #changes.list()
    assert.is_true(done(function() return fn.resume() end))
    assert.equal(count, #changes.list())
  end)

  it("drain a backend and restore it", function()
    assert.is_true(done(function() return fn.drain "10.0.0.1:80" end))
    assert.equal("drained", fn.backends { backend = "10.0.0.1:80" }[1].state)
    assert.is_true(undo())
    assert.equal("up", fn.backends { backend = "10.0.0.1:80" }[1].state)
    assert.matches("which backend%?", select(2, done(function() return fn.drain() end)))
  end)

  it("kill leases, by number and by age, and nothing undoes that", function()
    for _ = 1, 2 do
      world.spawn(function()
        local lease = pool:claim()
        world.sleep(30000)
        lease:release()
      end)
    end
    world.advance(3000)
    local leases = fn.leases()
    assert.equal(2, #leases)
    assert.is_true(done(function() return fn.kill(leases[1].lease) end))
    assert.equal(leases[1].lease, last().old.lease)
    assert.is_nil(last().undo)
    assert.equal(1, #fn.leases())
    assert.same({ nil, "no lease is like that", "not_found" }, { done(function() return fn.kill { older = "1h" } end) })
    assert.is_true(done(function() return fn.kill { older = "1s" } end))
    assert.equal(0, #fn.leases())
    assert.matches("which leases%?", select(2, done(function() return fn.kill() end)))
    world.advance(40000)
  end)

  it("renew connections", function()
    assert.is_true(done(function() return fn.renew { over_ms = "1s" } end))
    assert.equal("renew", last().what)
    assert.is_nil(last().undo)
    assert.matches("no backend has the key", select(2, done(function() return fn.renew { backend = "x" } end)))
  end)

  it("ask which pool, if there are several", function()
    local second = cueball.pool { name = "cache", host = world, resolver = cueball.resolver.static { "10.0.0.2:80" },
      connect = cueball.connection.tcp {} }
    world.advance(100)
    assert.same({ nil, 'which pool? There are db, cache; write pool = "NAME", or "*" for all', "not_found" },
      { done(function() return fn.pause() end) })
    assert.is_true(done(function() return fn.pause "*" end))
    assert.is_true(pool:is_paused() and second:is_paused())
    assert.is_true(done(function() return fn.resume "*" end))
    world.spawn(function() second:stop() end)
    world.advance(10000)
  end)

  it("are commands, too", function()
    local row = verbs.row "set"
    assert.same({ pool = "db", spares = 4, recovery = { default = { retries = 3 } }, queue = "codel", leak_detection = false },
      (verbs.read(row, "pool=db spares=4 recovery.default.retries=3 queue=codel leak_detection=false")))
    assert.same({ { backend = "10.0.0.1:80", older = "5s" }, "json" },
      { verbs.read(verbs.row "leases", "backend='10.0.0.1:80' older=5s form=json") })
    assert.same({ backend = "10.0.0.1:80" }, (verbs.read(verbs.row "drain", "10.0.0.1:80")))
    assert.same({ lease = "12" }, (verbs.read(verbs.row "kill", "12")))
    assert.same({ nil, "form=xml: there are table, lua, json" }, { verbs.read(verbs.row "leases", "form=xml") })
  end)
end)
