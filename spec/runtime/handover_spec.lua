--- What of a script goes from one run to the next as it is loaded anew, and reloads that come at a bad moment: tasks, subscriptions, sets,
-- a reload within a reload, while the script stops, by a task that is killed.
local collect = require "spec.support.collect"
local scripts = require "spec.support.scripts"

local town, world, seen

local HEAD = [[
local cueball = require "cueball"
local tcp, static = cueball.connection.tcp, cueball.resolver.static
]]

local DB = [[local db = cueball.pool { name = "db", max_connections = 2, resolver = static { "10.0.0.1:7000" }, connect = tcp {} }
]]

before_each(function()
  town = scripts.town()
  world = town.world
  seen = {}
  rawset(_G, "seen", function(text) seen[#seen + 1] = text end)
end)

after_each(function()
  town:finish()
  rawset(_G, "seen", nil)
end)

local function take()
  local list = table.concat(seen, " ")
  for index in ipairs(seen) do seen[index] = nil end
  return list
end

describe("of the run before", function()
  it("tasks end, with the leases that they have through pool:with and the claims that they wait for", function()
    local TASKS = HEAD .. DB .. [[
      db:ready { connections = 2 }
      for _ = 1, 2 do cueball.spawn(function() db:with(function() cueball.sleep(1e8) end) end) end
      cueball.spawn(function() cueball.spawn(function() seen(select(3, db:claim { timeout_ms = false }) or "granted") end) end)]]
    town:load(TASKS)
    local pool = town.script:pool "db"
    assert.same({ 2, 1 }, { pool:stats().busy, pool:stats().waiting })
    assert.equal("pool db: untouched", town:told(HEAD .. DB))
    world.advance(100)
    local stats = pool:stats()
    assert.same({ 0, 0, 1, 2 }, { stats.busy, stats.waiting, stats.claims_cancelled, stats.leases_closed })
    assert.equal("", take())
  end)

  it("functions hear no more events, and its endings are called", function()
    town:load(HEAD .. DB .. "db:subscribe(function(event) seen('first ' .. event.kind) end) cueball.on_end(function() seen 'end' end)")
    local pool, other = town.script:pool "db", {}
    pool:subscribe(function(event) other[#other + 1] = event.kind end)
    take()
    town:told(HEAD .. DB .. "db:subscribe(function(event) seen('second ' .. event.kind) end) cueball.on_end(function() seen 'end 2' end)")
    assert.equal("end", take())
    local count = #other
    pool:renew { over_ms = 0 }
    world.advance(50)
    assert.is_true(#other > count)
    assert.matches("second slot_state", (take()))
    local FAILS = "db:subscribe(function() seen('third') end) cueball.on_end(function() seen 'end 3' end) error 'x'"
    assert.is_nil(town:reload(HEAD .. DB .. FAILS))
    assert.equal("end 3", take())
    pool:renew { over_ms = 0 }
    world.advance(50)
    local heard = take()
    assert.matches("second", heard)
    assert.is_nil(heard:find "third" or heard:find "first")
  end)

  it("tasks go on that a resolver has spawned which goes on itself", function()
    local RESOLVER = HEAD .. [[cueball.pool { name = "own", connect = tcp {}, resolver = function(sink)
      cueball.spawn(function() cueball.sleep(500) sink:set { "10.0.0.2:7000" } end)
      sink:set { "10.0.0.1:7000" }
      sink:sleep(math.huge)
    end }]]
    town:load(RESOLVER)
    assert.equal("pool own: untouched", town:told())
    world.advance(1000)
    assert.equal("10.0.0.2:7000", town.script:pool("own"):backends()[1].key)
  end)
end)

describe("a run that nothing is left of", function()
  it("is forgotten, with its environment and the functions in it", function()
    local TEXT = HEAD .. [[cueball.pool { name = "db", connect = function(...) return tcp({}).connect(...) end,
      resolver = function(sink) sink:set { "10.0.0.1:7000" } return %d end }
      cueball.spawn(function() cueball.sleep(1e6) end)]]
    town:load(TEXT:format(0))
    local runs = setmetatable({}, { __mode = "k" })
    for number = 1, 6 do
      assert.equal("pool db: changed: another resolver", town:told(TEXT:format(number)))
      runs[town.script.run] = number
      assert.is_nil(town:reload(TEXT:format(number) .. " error 'x'"))
      world.advance(100)
    end
    collect()
    local numbers = {}
    for _, number in pairs(runs) do numbers[#numbers + 1] = number end
    assert.same({ 6 }, numbers)
  end)
end)

describe("a set", function()
  local SET = HEAD .. [[
    local count = 0
    cueball.set { name = "feeds", target = 2, resolver = static { "10.0.0.1:7000", "10.0.0.2:7000" }, connect = tcp {},
      added = function(member) count = count + 1 seen("one+" .. member.key .. "/" .. count) end,
      removed = function(member, cause) seen("one-" .. member.key .. " " .. cause) member:release() end }]]

  local function changed(pattern, instead) return (SET:gsub("one([+-])", "two%1"):gsub(pattern, instead)) end

  it("tells the new run of its connections, and goes on", function()
    town:load(SET)
    world.advance(100)
    assert.matches("^one%+10.0.0.%d:7000.1/1 one%+10.0.0.%d:7000.1/2$", (take()))
    assert.equal("set feeds: untouched", town:told(changed("xx", "xx")))
    world.advance(100)
    assert.equal("two+10.0.0.1:7000.1/1 two+10.0.0.2:7000.1/2", take())
    assert.equal("set feeds: changed: maximum from 2 to 1; target from 2 to 1", town:told(changed("target = 2", "target = 1")))
    world.advance(1000)
    assert.matches("^two%+10.0.0.1:7000.1/1 two%+10.0.0.2:7000.1/2 two%-10.0.0.%d:7000.1 plan$", (take()))
  end)

  it("has its connections asked back where the factory changed, one after the other", function()
    town:load(SET)
    world.advance(100)
    take()
    assert.equal("set feeds: changed: another connection factory, connections are renewed over 10 s",
      town:told(changed("tcp {}", "tcp { read_timeout_ms = 9 }")))
    world.advance(100)
    assert.equal("two+10.0.0.1:7000.1/1 two+10.0.0.2:7000.1/2 two-10.0.0.1:7000.1 renew two+10.0.0.1:7000.2/3", take())
    world.advance(10000)
    assert.equal("two-10.0.0.2:7000.1 renew two+10.0.0.2:7000.2/4", take())
    assert.equal("set feeds: changed: another resolver",
      town:told((changed("tcp {}", "tcp { read_timeout_ms = 9 }"):gsub("10.0.0.2:7000", "10.0.0.3:7000"))))
    world.advance(10000)
    assert.matches("two%-10.0.0.2:7000.2 removed two%+10.0.0.3:7000.1/3", (take()))
  end)

  it("tells it of connections that are asked back, too", function()
    town:load((SET:gsub("member:release%(%)", "")))
    world.advance(100)
    town.script:set("feeds"):set { target = 1, maximum = 1 }
    world.advance(1000)
    take()
    town:told(SET)
    world.advance(1000)
    assert.matches("^one%+10.0.0.%d:7000.1/1 one%-10.0.0.%d:7000.1 plan$", (take():gsub("(one%-%S+ plan) (one%+%S+)", "%2 %1")))
    assert.equal(1, town.script:set("feeds"):stats().total)
  end)
end)

describe("a reload", function()
  -- A script that has itself loaded anew: through a global, as the runtime's own functions would be.
  local function with_script()
    town:load(HEAD .. DB)
    rawset(_G, "loaded", town.script)
    finally(function() rawset(_G, "loaded", nil) end)
  end

  it("within a reload is refused", function()
    with_script()
    assert.equal("pool db: untouched", town:told(HEAD .. DB .. [[
      local report, message, name = loaded:reload()
      assert(not report and message == "script is being loaded already" and name == "busy")
      cueball.spawn(function() seen(select(3, loaded:reload())) end)
      cueball.sleep(5)]]))
    assert.equal("busy", take())
  end)

  it("by a task of the script's own ends that task", function()
    with_script()
    town:told(HEAD .. DB .. [[
      cueball.spawn(function() cueball.sleep(5) loaded:reload { text = 'seen "new"' } cueball.sleep(0) seen "old" end)]])
    world.advance(100)
    assert.equal("new", take())
    assert.same({}, town.script:names())
  end)

  it("goes on where the task that asked for it is killed", function()
    with_script()
    local task = world.spawn(function() town.script:reload { text = HEAD .. DB .. "cueball.sleep(10) seen 'new'" } end)
    world.kill(task)
    world.advance(100)
    assert.equal("new", take())
    assert.equal("pool db: untouched", town:told())
  end)

  it("is refused while the script stops, and afterwards", function()
    with_script()
    local lease = town.script:pool("db"):try_claim() or world.run(function() return town.script:pool("db"):claim() end)
    world.spawn(function() town.script:stop() end)
    local report, message, name = town:reload()
    assert.same({ "script is being stopped", "pool_stopping" }, { message, name })
    assert.is_nil(report)
    assert.is_true(lease:release())
    world.advance(100)
    assert.equal("pool_stopping", select(3, town:reload()))
  end)

  it("is ended by stop", function()
    with_script()
    local result
    local TEXT = HEAD .. DB .. "cueball.pool { name = 'new', resolver = static { '10.0.0.2:7000' }, connect = tcp {} } cueball.sleep(1e6)"
    world.spawn(function() result = { town.script:reload { text = TEXT } } end)
    world.advance(5)
    assert.is_true(town:stop())
    world.advance(0)
    assert.same({ nil, "script is being stopped", "pool_stopping" }, result)
    assert.same({}, world.leaks())
  end)

  it("has its options checked", function()
    local script = require "cueball.runtime.script"
    with_script()
    assert.blames("script:reload: it waits, so it must be called in a task: use host.run or host.spawn",
      function() town.script:reload() end)
    assert.blames("script:reload: option 'dry_run' must be true or false, not 1", function() town.script:reload { dry_run = 1 } end)
    assert.blames("script:reload: it must be called with a colon, on its object: script:reload(…), not script.reload(…)",
      function() town.script.reload {} end)
    local folder = town:folder { ["pools.lua"] = "" }
    local other = world.run(script.load, { file = folder .. "/pools.lua", host = world })
    assert.has_error(function() world.run(other.reload, other, { text = "" }) end)
    assert.is_true(world.run(other.stop, other))
  end)
end)

describe("an error after a script has loaded", function()
  it("is logged, and harms nobody", function()
    town:load(HEAD .. DB .. [[
      cueball.spawn(function() cueball.sleep(5) error "later" end)
      local alarm = cueball.host().alarm(function() error "alarm" end)
      alarm:set(7e6)
      cueball.on_end(function() alarm:close() end)]])
    town.errors = "script:4: later"
    assert.has_error(function() world.advance(100) end, "alarm")
    assert.equal("pool db: untouched", town:told(HEAD .. DB))
  end)
end)
