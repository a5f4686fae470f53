--- Scripts that are loaded anew while their pools live: what stays, what changes, and that a mistake changes nothing.
local backends_of = require "spec.support.backends_of"
local scripts = require "spec.support.scripts"

local town, world

local HEAD = [[
local cueball = require "cueball"
local tcp, static = cueball.connection.tcp, cueball.resolver.static
]]

local DB = [[cueball.pool { name = "db", max_connections = 4, resolver = static { "10.0.0.1:7000", "10.0.0.2:7000" }, connect = tcp {} }
]]

-- A pool whose resolver and factory are functions of the script's.
local OWN = HEAD .. [[
local list, count = { "10.0.0.1:7000" }, 0
local function open(backend, context)
  local socket = context.host.tcp()
  count = count + 1
  local ok, message = socket:connect(backend.address, backend.port)
  return ok and socket or nil, message
end
cueball.pool { name = "own", max_connections = 2, resolver = function(sink) list.run = true sink:set { list[1] } end, connect = open }
]]

local function loaded(text)
  assert(town:load(text))
  world.advance(100)
  return town.script
end

local function changed(text, pattern, instead)
  local made, count = text:gsub(pattern, instead)
  assert.is_true(count > 0, pattern)
  return made
end

local function keys(pool)
  return backends_of(pool, function(backend) return backend.address .. " " .. backend.idle + backend.busy end, ", ")
end

before_each(function()
  town = scripts.town()
  world = town.world
end)

after_each(function()
  town:finish()
end)

describe("a pool whose declaration is the same", function()
  it("is untouched: its connections, leases and numbers", function()
    loaded(HEAD .. DB)
    local pool = town.script:pool "db"
    local lease = pool:claim()
    local before = pool:stats()
    assert.equal("pool db: untouched", town:told())
    assert.equal("pool db: untouched", town:told("-- another line\n\n" .. HEAD .. "local unused = 1\n" .. DB))
    assert.equal(pool, town.script:pool "db")
    assert.same(before, pool:stats())
    assert.is_true(lease:release())
    local report = town:reload()
    assert.same({ 1, false, "untouched" }, { report.untouched, report.dry_run, report.pools[1].change })
    assert.equal("script: loaded anew\npool db: untouched", tostring(report))
  end)

  it("is untouched where its functions are the script's own, and have worked since", function()
    loaded(OWN)
    local pool = town.script:pool "own"
    assert.equal("10.0.0.1 2", keys(pool))
    assert.equal("pool own: untouched", town:told())
    assert.equal("pool own: untouched\npool db: made", town:told("-- moved\n" .. OWN .. DB))
    assert.equal("pool own: untouched\npool db: changed: max_connections from 4 to 5",
      town:told(OWN .. changed(DB, "4", "5")))
    assert.equal(2, pool:stats().opened)
  end)

  it("is untouched where its functions share what they change, also if the script waits in the middle", function()
    local SHARED = HEAD .. [[
      local count, made = 0, {}
      local function open(backend, context)
        count, made[1] = count + 1, true
        return tcp({}).connect(backend, context)
      end
      for _, name in ipairs { "a", "b" } do
        cueball.pool { name = name, max_connections = 2, resolver = static { "10.0.0.1:7000" },
          connect = function(...) return open(...) end }
      end]]
    loaded(SHARED)
    assert.equal("pool a: untouched\npool b: untouched", town:told())
    local WAITS = changed(SHARED:gsub(", made%[1%]", ""):gsub("count %+ 1, true", "count + 1"), "end }", "end }:ready()")
    town:told(WAITS)
    world.advance(100)
    assert.equal("pool a: untouched\npool b: untouched", town:told())
    assert.equal("pool a: untouched\npool b: untouched\npool db: made", town:told(WAITS .. " " .. DB))
  end)

  it("is changed where anything changed that its functions refer to", function()
    local GLOBALS = HEAD .. [[
      helpers = {}
      local later
      function helpers.list() return { address() } end
      function address() return later() end
      cueball.pool { name = "own", max_connections = 2, connect = tcp {},
        resolver = function(sink) sink:sleep(5) sink:set(helpers.list()) end }
      function later() return "10.0.0.1:7000" end
      function unrelated() return 1 end]]
    loaded(GLOBALS)
    assert.equal("10.0.0.1 2", keys(town.script:pool "own"))
    assert.equal("pool own: untouched", town:told(changed(GLOBALS, "return 1", "return 2")))
    local REPLACED = "pool own: changed: another resolver"
    assert.equal(REPLACED, town:told(changed(GLOBALS, "10.0.0.1", "10.0.0.2")))
    assert.equal(REPLACED, town:told(changed(GLOBALS, "return later%(%)", 'return "10.0.0.1:7000"')))
    assert.equal(REPLACED, town:told(changed(GLOBALS, "{ address%(%) }", '{ address(), "10.0.0.3:7000" }')))
    world.advance(1000)
    assert.equal("10.0.0.1 1, 10.0.0.3 1", keys(town.script:pool "own"))
  end)

  it("is changed where a module changed that lies beside the script and that it refers to", function()
    local folder = town:folder {
      ["pools.lua"] = HEAD .. 'local parts = require "parts"\n' .. DB
        .. 'cueball.pool { name = "own", resolver = function(sink) sink:set(parts.list()) end, connect = tcp {} }',
      ["parts.lua"] = 'return { list = function() return { "10.0.0.1:7000" } end }',
    }
    town:load(nil, { file = folder .. "/pools.lua" })
    assert.equal("pool db: untouched\npool own: untouched", town:told())
    require("spec.support.shell").write(folder .. "/parts.lua", 'return { list = function() return { "10.0.0.2:7000" } end }')
    assert.equal("pool db: untouched\npool own: changed: another resolver", town:told())
    world.advance(1000)
    assert.equal("10.0.0.2 10", keys(town.script:pool "own"))
  end)
end)

describe("options that changed", function()
  it("are those of the living pool, and no others", function()
    loaded(HEAD .. DB)
    local pool = town.script:pool "db"
    pool:set { spares = 1, max_waiters = 7 }
    assert.equal("pool db: changed: max_connections from 4 to 6; recovery.default.delay_ms from the default to 70",
      town:told(HEAD .. changed(DB, "max_connections = 4", "max_connections = 6, recovery = { default = { delay_ms = 70 } }")))
    local given = pool.given
    assert.same({ 6, 1, 7, 70 }, { given.max_connections, given.spares, given.max_waiters, given.recovery.default.delay_ms })
    assert.equal("pool db: changed: leak_detection from the default to false; recovery.default.attempts from the default to 2; "
      .. "recovery.default.delay_ms from 70 to the default",
      town:told(HEAD .. changed(DB, "max_connections = 4",
        "leak_detection = false, max_connections = 6, recovery = { default = { attempts = 2 } }")))
    assert.is_false(pool.detects_leaks)
    assert.equal("pool db: changed: leak_detection from false to the default; max_connections from 6 to the default; "
      .. "recovery.default.attempts from 2 to the default", town:told(HEAD .. changed(DB, "max_connections = 4, ", "")))
    assert.is_true(pool.detects_leaks)
    assert.same({ nil, 1, nil }, { pool.given.max_connections, pool.given.spares, pool.given.recovery })
  end)

  it("may not be those that a pool has for life", function()
    loaded(HEAD .. DB)
    local _, message, name = town:reload(HEAD .. changed(DB, "max_connections", "seed = 5, max_connections"))
    assert.matches("^script:3: cueball.pool: option 'seed' of \"db\" cannot be changed while it lives: give the new one another name\n",
      message)
    assert.equal("script", name)
    _, message = town:reload(HEAD .. changed(DB, "cueball.pool { ", "cueball.set { added = print, removed = print, "))
    assert.matches("^script:3: cueball.set: option 'max_connections' is for pools; a set has 'maximum'\n", message)
    _, message = town:reload(HEAD .. changed(DB, "cueball.pool { name = \"db\", max_connections = 4",
      "cueball.set { name = \"db\", added = print, removed = print"))
    assert.matches("^script:3: cueball.set: the name \"db\" is that of a pool: give the new one another name\n", message)
  end)
end)

describe("a resolver that changed", function()
  it("is replaced; leases go on, and connections to backends that it knows too", function()
    loaded(HEAD .. DB)
    local pool = town.script:pool "db"
    local lease = pool:claim()
    local address = lease:backend().address
    assert.equal("pool db: changed: another resolver", town:told(HEAD .. changed(DB, "10.0.0.1:7000", "10.0.0.3:7000")))
    world.advance(10000)
    assert.equal("10.0.0.2 2, 10.0.0.3 2", keys(pool):gsub("10.0.0.1 1, ", ""))
    assert.equal("release", lease:backend().address == address and "release")
    assert.is_true(lease:release())
    assert.equal(1, pool:stats().released)
    assert.equal(0, pool:stats().leases_revoked)
  end)
end)

describe("a connection factory that changed", function()
  local function with_factory(text) return HEAD .. changed(DB, "connect = tcp {}", "connect = " .. text) end

  it("of which open connections know nothing keeps them", function()
    loaded(HEAD .. DB)
    local pool = town.script:pool "db"
    local KEPT = "pool db: changed: another connection factory, connections are kept"
    assert.equal(KEPT, town:told(with_factory "tcp { connect_timeout_ms = 100 }"))
    assert.equal("pool db: untouched", town:told(with_factory "tcp { connect_timeout_ms = 100 }"))
    assert.equal(KEPT, town:told(with_factory "tcp { connect_timeout_ms = 200 }"))
    world.advance(20000)
    assert.equal(4, pool:stats().opened)
  end)

  it("otherwise has them renewed, one after the other", function()
    loaded(HEAD .. DB)
    local pool = town.script:pool "db"
    local lease = pool:claim()
    assert.equal("pool db: changed: another connection factory, connections are renewed over 10 s",
      town:told(with_factory "tcp { read_timeout_ms = 100 }"))
    world.advance(5000)
    local opened = pool:stats().opened
    assert.is_true(opened > 4 and opened < 8, "opened " .. opened)
    world.advance(10000)
    assert.equal(7, pool:stats().opened)
    assert.is_true(lease:release())
    world.advance(100)
    assert.equal(8, pool:stats().opened)
    assert.equal(4, pool:stats().closed_renew)
  end)

  it("has all of them renewed that do not fit, also those of earlier ones", function()
    loaded(with_factory "tcp { read_timeout_ms = 100 }")
    local pool = town.script:pool "db"
    -- Its own word counts for what it was given, and that is all that it hears.
    local FITS = "{ connect = tcp {}.connect, made_of = 7, fits = function(made) return made == nil or made == 7 end }"
    local ANOTHER = "{ connect = tcp {}.connect, made_of = 8, fits = function(made) return made == 7 end }"
    assert.matches("connections are kept", town:told(with_factory(FITS)))
    assert.equal("pool db: untouched", town:told(with_factory(FITS)))
    assert.matches("connections are renewed", town:told(with_factory(ANOTHER)))
    world.advance(15000)
    assert.equal(8, pool:stats().opened)
    assert.matches("connections are kept", town:told(with_factory((FITS:gsub("made == nil or made == 7", "made == 8")))))
    world.advance(15000)
    assert.equal(8, pool:stats().opened)
    assert.matches("connections are renewed", town:told(with_factory((FITS:gsub("return.-end", "error 'x' end")))))
  end)

  it("is one where somebody has put another function into it", function()
    loaded(with_factory "(function() local made = tcp {} return made end)()")
    assert.equal("pool db: untouched", town:told())
    assert.matches("another connection factory", town:told(with_factory [[(function()
      local made = tcp {}
      local connect = made.connect
      made.connect = function(...) return connect(...) end
      return made
    end)()]]))
  end)
end)

describe("pools that come and go", function()
  it("are made at once, and drained", function()
    loaded(HEAD .. DB)
    local old = town.script:pool "db"
    local lease = old:claim()
    assert.equal("pool new: made\npool db: removed, and drained", town:told(HEAD .. changed(DB, '"db"', '"new"') .. [[
      assert(cueball.pool { name = "newer", resolver = static {}, connect = tcp {} })]]):gsub("pool newer: made\n", ""))
    assert.same({ "new", "newer" }, town.script:names())
    assert.same({ nil, "pool_stopping" }, { (old:try_claim()), select(3, old:try_claim()) })
    world.advance(100)
    assert.equal("stopping", old:state())
    assert.is_true(lease:release())
    world.advance(100)
    assert.equal("stopped", old:state())
  end)

  it("are others under the same name, where the one before is being stopped", function()
    loaded(HEAD .. DB)
    local old = town.script:pool "db"
    local lease = old:claim()
    old:stop()
    assert.equal("pool db: made\npool db: removed, and drained", town:told())
    assert.are_not.equal(old, town.script:pool "db")
    assert.equal("stopping", old:state())
    assert.is_true(lease:release())
  end)

  it("are awaited by stop", function()
    loaded(HEAD .. DB)
    local old = town.script:pool "db"
    local lease = old:claim()
    town:told(HEAD)
    assert.equal("it declares no pools", town:told(HEAD))
    town:stop { drain_timeout_ms = 50 }
    assert.equal("stopped", old:state())
    assert.is_nil((lease:release()))
  end)
end)

describe("a reload that fails", function()
  it("leaves everything as it was", function()
    loaded(HEAD .. DB .. "beats = 0 cueball.spawn(function() while true do cueball.sleep(10) beats = beats + 1 end end)")
    local pool = town.script:pool "db"
    local lease, seen, before = pool:claim(), {}, pool:stats()
    rawset(_G, "seen", seen)
    for _, text in ipairs {
      HEAD .. changed(DB, "4", "9") .. "error 'in the middle'", HEAD .. "x =", HEAD .. DB .. DB,
      HEAD .. changed(DB, "4", "9") .. changed(DB, '"db"', '"more"') .. "cueball.pool {}",
      HEAD .. changed(DB, "4", "'four'"),
      HEAD .. changed(DB, '"db"', '"more"')
        .. "cueball.spawn(function() cueball.sleep(5) seen.task = true end) cueball.sleep(1) error {}",
      HEAD .. "cueball.pool { name = 'db' }",
    } do
      local report, message, name = town:reload(text)
      assert.is_nil(report)
      assert.equal("script", name, message)
    end
    rawset(_G, "seen", nil)
    world.advance(100)
    assert.same({}, seen)
    assert.same({ "db" }, town.script:names())
    assert.same(before.opened, pool:stats().opened)
    assert.equal(4, pool.given.max_connections)
    assert.is_true(town.script.run.environment.globals.beats > 5)
    assert.is_true(lease:release())
  end)

  it("ends a script that loops, or waits for too long", function()
    town:load(HEAD .. DB, { limit_ms = 40 })
    local _, message, name = town:reload(HEAD .. "while true do end")
    assert.same({ "script:3: the script ran for more than 40 ms without an end", "timeout" }, { message:match "^[^\n]*", name })
    _, message, name = town:reload(HEAD .. "cueball.sleep(1e6)")
    assert.same({ "script did not return within 40 ms", "timeout" }, { message, name })
    assert.equal("pool db: untouched", town:told(HEAD .. DB))
  end)
end)

describe("a dry run", function()
  it("tells what would be, and changes nothing", function()
    loaded(HEAD .. DB .. "cueball.pool { name = 'gone', resolver = static {}, connect = tcp {} }")
    local pool, count = town.script:pool "db", 0
    rawset(_G, "count", function() count = count + 1 end)
    local text = HEAD .. "local db = " .. changed(DB, "4", "5") .. [[
      local new = cueball.pool { name = "new", resolver = static {}, connect = function() return db and new end }
      assert(db:ready() and db:with(function(socket) return socket ~= nil end) and db.name == "db" and #db:backends() == 2)
      assert(db:set { max_connections = 1 } and db:stop() and db:subscribe(count))
      assert(new:state() == "starting" and new.name == "new" and #new:backends() == 0 and new:subscribe(count) and new.host == nil)
      local lease, message, name = new:claim()
      assert(not lease and name == "dry_run" and message == "there is no new yet: this is a dry run")
      local task = cueball.spawn(count)
      cueball.host().kill(task)
      cueball.on_end(count)]]
    local report = town:reload(text, { dry_run = true })
    rawset(_G, "count", nil)
    assert.equal("script: a dry run; loaded anew it would be\npool db: changed: max_connections from 4 to 5\npool new: made\n"
      .. "pool gone: removed, and drained", tostring(report))
    assert.is_true(report.dry_run)
    assert.equal(1, count) -- of on_end
    world.advance(100)
    assert.same({ 4, "running" }, { pool.given.max_connections, pool:state() })
    assert.same({ "db", "gone" }, town.script:names())
    assert.equal("pool db: untouched\npool gone: untouched", town:told())
    local _, message = town:reload(HEAD .. "cueball.pool { name = 'x' }", { dry_run = true })
    assert.matches("^script:3: cueball.pool: option 'resolver' is required", message)
  end)
end)
