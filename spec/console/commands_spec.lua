--- Commands of a prompt, in virtual time.
local commands = require "cueball.console.commands"
local prompts = require "spec.support.prompt"
local registry = require "cueball.pool.registry"

local POOL = ':pool "10.0.0.1:80,10.0.0.2:80" max=4 name=db recovery.default.spread=0'

describe("a time", function()
  it("is read with its unit, and seconds without one", function()
    for word, ms in pairs { ["500ms"] = 500, ["1.5s"] = 1500, ["2m"] = 120000, ["1h"] = 3600000, ["10"] = 10000 } do
      assert.equal(ms, commands.duration(word))
    end
    assert.is_truthy(select(2, commands.duration "soon"):find "no time")
    assert.is_nil(commands.duration "5 parsecs")
  end)

  it("is told as a person says it", function()
    for ms, words in pairs { [0] = "0 ms", [12.3456] = "12.35 ms", [1500] = "1.5 s", [125000] = "2 m 5 s", [7260000] = "2 h 1 m" } do
      assert.equal(words, commands.duration_text(ms))
    end
  end)
end)

describe("a command", function()
  local prompt

  before_each(function() prompt = prompts.new() end)
  after_each(function() prompt:close() end)

  local function heard(line, ...)
    local said = prompt:ask(line)
    for index = 1, select("#", ...) do
      local words = select(index, ...)
      assert.is_truthy(said:find(words, 1, true), ("%s: no %q in\n%s"):format(line, words, said))
    end
    return said
  end

  it("may be shortened, if it stays the only one", function()
    heard(":s", "! :s could be :script")
    heard(":nothing", "! there is no command :nothing; :help lists them")
    heard(":", "! there is no command")
    heard(":qu", "")
    assert.is_true(prompt.session.is_over)
  end)

  it("says what is wrong with a name that ends in a dot", function()
    for _, line in ipairs { ":backends a.=3", ":settings recovery.=3" } do heard(line, "! there is no pool") end
    for _, line in ipairs { ":pool a.=3", ":claim a.=3" } do heard(line, "!") end
    assert.is_nil(prompt:ask(":pool 10.0.0.1:80 recovery.default.=3"):find "index is nil")
  end)

  it(":help lists all, each with what it does", function()
    local said = heard(":help", ":claim [POOL] [TIME]")
    for _, name in ipairs(prompt.session.commands.names) do assert.is_truthy(said:find("  :" .. name, 1, true), name) end
    heard(":help watch", ":watch [POOL]")
  end)

  it(":time tells how long it took", function()
    heard(":time world.sleep(1500) or 7", "_1 = true", "# 1.5 s of virtual time")
    heard(":time )", "! ")
    assert.equal("incomplete", prompt:type ":time (")
  end)

  it("says so where there is no pool, or which there are", function()
    for _, line in ipairs { ":look", ":why", ":watch", ":claim", ":load 1/s 1s", ":plan" } do
      heard(line, "! there is no pool; make one")
    end
    heard(POOL, "")
    heard(":look nothere", '! there is no pool "nothere"; there are db')
    heard(POOL:gsub("name=db", "name=other"), "")
    heard(":look db", "db starting")
    heard(":why", "A claim would")
  end)

  it(":ask sends nothing on what is no socket", function()
    local client = setmetatable({}, { __index = function(_, name) return function() error("the command " .. name) end end })
    prompt.session.environment.connect = function() return client end
    prompt:type "db = cueball.pool { resolver = cueball.resolver.static { '10.0.0.1:1' }, connect = connect, name = 'clients' }"
    heard(":step 1s", "")
    heard(":ask PING", "! the connection is no socket: use its own methods")
    heard(":claim", "")
    heard(":ask PING", "! the connection is no socket: use its own methods")
  end)

  it(":pool makes a pool of what is typed, and shows the Lua of it", function()
    local said = heard(POOL, 'world.server("10.0.0.1", 80', "db = cueball.pool {", "max_connections = 4,", "spread = 0")
    assert.equal(1, #prompt:pools())
    assert.is_truthy(said:find 'cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" }')
    heard(":pool", "! it wants addresses")
    heard(':pool "10.0.0.3:80" carrier pigeon', "! ")
    heard(':pool "10.0.0.3:80" nonsense=3', "! ", "unknown option 'nonsense'")
    heard(':pool "10.0.0.3:80" read_timeout_ms=50', "cueball.connection.tcp { read_timeout_ms = 50 }", "pool = cueball.pool")
    heard(':pool "10.0.0.4:6379" redis', "cueball.connection.redis {}", "pool2 = ")
  end)

  it(":claim, :ask and :release use a connection", function()
    heard(POOL, "") heard(":step 1s", "")
    heard(":claim db 2s", "lease = a connection to 10.0.0.")
    assert.equal('"PING\\r\\n"', heard([[:ask "PING\r\n"]], ""))
    heard(":ask hello", [["hello\r\n"]])
    heard(":explain", "at once")
    heard(":release", "# released")
    heard(":release", "! the lease is over")
    heard(":ask again", [["again\r\n"]]) -- on a lease of its own
    heard(":freeze 10.0.0.1", "") heard(":freeze 10.0.0.2", "")
    heard(":ask nobody", "! nothing came within 200 ms")
    heard(":ask 'a' .. nil", "! ")
  end)

  it(":look and :why tell how a pool does", function()
    heard(POOL, "")
    heard(":step 2s", "")
    heard(":look", "db running: 4 of 4 connections, 0 busy, 4 idle", "10.0.0.1:80  up     2      2     0     0")
    heard(":why", "A claim would have a connection at once: 4 are idle.")
    heard(":kill 10.0.0.1", "# 10.0.0.1:80 is dead")
    heard(":step 5s", "")
    heard(":look", "10.0.0.1:80  dead", "connection refused")
    heard(":why", "10.0.0.1:80 is dead: connection refused; it is tried again in ")
    heard(":kill 10.0.0.2", "") heard(":step 5s", "")
    heard(":why", "A claim would be refused at once: the pool has failed.")
    prompt:type "held = {}"
    heard(":mend 10.0.0.1", "well again") heard(":mend 10.0.0.2", "") heard(":until db:stats().idle == 4", "")
    heard(":look", "10.0.0.2:80  up", "s ago: connection refused")
    prompt:type "for i = 1, 4 do held[i] = db:claim() end"
    heard(":why", "A claim would wait: all 4 connections that are open are busy.")
  end)

  it(":watch tells what happens, folded, until :unwatch", function()
    heard(POOL, "")
    heard(":watch", "# watching db")
    heard(":step 1s", "db: a connection to 10.0.0.1:80 is idle, it is open (2 times)")
    heard(":kill 10.0.0.2:80", "")
    local said = heard(":step 10s", "backend 10.0.0.2:80 is dead after 3 attempts, the last one failed: connection refused")
    assert.is_nil(said:find("attempt 5", 1, true)) -- attempts at a dead one go on and on
    assert.is_truthy(said:find("^# %[1 s%] db: a connection to 10%.0%.0%.2:80 is closed")) -- when it happened, not when it was folded
    heard(":unwatch", "")
    heard(":mend 10.0.0.2", "")
    assert.is_nil(heard(":step 10s", ""):find("%] db: "))
    heard(":unwatch", "! nothing is watched")
  end)

  it(":watch says why a connection is checked, and how that went", function()
    heard(POOL .. " check_interval_ms=2000", "") heard(":step 1s", "") heard(":watch", "")
    heard(":step 5s", "a connection to 10.0.0.1:80 is checked, a check is due", "a connection to 10.0.0.1:80 is idle, it passed its check")
    heard(":freeze 10.0.0.1", "")
  end)

  it(":trace tells of claims, too", function()
    heard(POOL, "") heard(":step 1s", "") heard(":trace db", "")
    prompt:type "db:with(function() end)"
    heard(":step 1s", "")
    prompt:type "lease = db:claim()"
    heard("lease:release()", "")
    heard(":unwatch db", "")
  end)

  it(":load claims at a rate, and counts waits from when a claim was due", function()
    heard(POOL, "") heard(":step 1s", "")
    heard(":load 100/s 2s hold=10ms", "200 claims in 2", "200 were granted", "p99 0 ms")
    heard(":load 1000/s 1s hold=10ms", "waits: p50 ") -- four connections take 400 a second
    local p50 = tonumber(heard(":load 1000/s 1s hold=10ms", ""):match "p50 ([%d.]+) ms")
    assert.is_true(p50 > 500, p50)
    heard(":load", "! :load wants a rate and a time")
    heard(":load 5/s soon", "! ")
    heard(":load 1e9/s 1s", "! ")
  end)

  it(":set changes options, and :undo takes it back", function()
    heard(POOL, "")
    heard(":set max_connections=8 recovery.default.attempts=5", "db:set { max_connections = 8, recovery = { default = { attempts = 5 } } }",
      ":undo does db:set { max_connections = 4, recovery = { default = { attempts = 3 } } }")
    assert.equal("_1 = 8", prompt:ask "db:max_connections()")
    heard(":undo", "# undone")
    assert.equal("_2 = 4", prompt:ask "db:max_connections()")
    heard(":undo", "! there is nothing to undo")
    heard(":set spares=x", "! ", "option 'spares'")
    heard(":set", "! :set wants OPTION=VALUE")
  end)

  it(":undo takes back what verbs did, the last first, and stands in a script as a method", function()
    heard(POOL, "")
    prompt:ask ":drain 10.0.0.1:80"
    heard(":pause", "done")
    heard(":resume", "done")
    heard(":undo", '# undone: pause { pool = "db" }')
    assert.equal("_1 = true", prompt:ask "(db:is_paused())")
    heard(":undo", '# undone: resume { pool = "db" }')
    assert.equal("_2 = false", prompt:ask "(db:is_paused())")
    heard(":undo", '# undone: restore { backend = "10.0.0.1:80", pool = "db" }')
    assert.equal("_3 = true", prompt:ask "not db:backends()[1].drained")
    heard(":undo", "! there is nothing to undo")
    heard(":script", "db:pause()\n", "db:resume()\n", 'db:restore({ backend = "10.0.0.1:80" })')
  end)

  it(":undo remembers the last 200, so a session of a whole day does not grow", function()
    heard(POOL, "")
    for _ = 1, 101 do
      heard(":pause", "done")
      heard(":resume", "done")
    end
    for number = 1, 10 do prompt:ask(":set spares=" .. number % 2) end
    assert.equal(200, #prompt.session.undoing)
  end)

  it(":undo says why it cannot", function()
    heard(POOL, "")
    prompt:ask ":drain 10.0.0.1:80"
    prompt:type "db:stop()"
    prompt:said()
    heard(":undo", "! ")
  end)

  it(":reload loads a module of the user's anew", function()
    package.preload["spec.reloaded"] = function() return { count = 1 } end
    prompt:type "module = require 'spec.reloaded'"
    package.preload["spec.reloaded"] = function() return { count = 2 } end
    heard(":reload spec.reloaded", "# loaded")
    assert.equal("_1 = 2", prompt:ask "module.count")
    package.preload["spec.reloaded"] = function() error "broken" end
    heard(":reload spec.reloaded", "broken", "the one of before stays")
    assert.equal(2, package.loaded["spec.reloaded"].count)
    heard(":reload cueball.pool", "! cueball's own modules")
    heard(":reload nothing", "! no module")
    package.loaded["spec.reloaded"], package.preload["spec.reloaded"] = nil, nil
  end)

  it(":plan tells what the planner would do, without doing it", function()
    heard(POOL, "") heard(":step 2s", "")
    heard(':plan { remove = { "10.0.0.1:80" } }', "10.0.0.1:80")
    heard(":look", "10.0.0.1:80  up     2")
    heard(":plan { max_conections = 3 }", "! ", "max_conections")
    heard(":pause", "done")
    heard(":look", "db running, paused")
    heard(":why", "the pool is paused")
  end)
end)

describe("a world at a prompt", function()
  local prompt

  before_each(function() prompt = prompts.new { seed = 7 } end)
  after_each(function() prompt:close() end)

  it("goes on by :step and :until", function()
    prompt:type ":step 10s"
    assert.equal(10000, prompt.world.time_ms())
    prompt:type ":step"
    assert.equal(11000, prompt.world.time_ms())
    assert.equal("# after 500 ms", prompt:ask ":until world.time_ms() >= 11500")
    assert.is_truthy(prompt:ask(":until false"):find "^! it did not come to hold within an hour")
    assert.is_truthy(prompt:ask(":step soon"):find "^! ")
  end)

  it("has servers, which are broken and mended", function()
    assert.is_truthy(prompt:ask(":fault 10.0.0.1:80 refuse"):find("! there is no server", 1, true))
    prompt:ask ":server 10.0.0.1:80"
    assert.is_truthy(prompt:ask(":fault 10.0.0.1:80 melt"):find("there are fail_over, freeze", 1, true))
    prompt:ask ":fault 10.0.0.1:80 slow 300ms"
    prompt:type "sock = world.tcp() began = world.time_ms() sock:connect('10.0.0.1', 80) sock:send 'x' sock:receive(1)"
    assert.equal("_1 = true", prompt:ask "world.time_ms() - began > 500")
    assert.is_truthy(prompt:ask(":undo"):find("# undone", 1, true))
    prompt:type "began = world.time_ms() sock:send 'x' sock:receive(1)"
    assert.equal("_2 = true", prompt:ask "world.time_ms() - began < 10")
    prompt:ask ":fault 10.0.0.1 refuse"
    assert.equal('! nil, "connection refused"', prompt:ask "world.tcp():connect('10.0.0.1', 80)")
    prompt:ask ":server 10.0.0.1:81"
    assert.is_truthy(prompt:ask(":kill 10.0.0.1"):find("! several servers have the address", 1, true))
  end)
end)

describe("a session as a script", function()
  -- The pools that scripts made, in worlds of their own, are not for the next spec to see.
  after_each(function()
    for _, pool in ipairs(registry.pools()) do
      pool.host.spawn(function() pool:stop() end)
      pool.host.advance(31000)
    end
    assert.same({}, registry.pools())
  end)

  local function script_of(kind)
    local prompt = prompts.new { seed = 7 }
    for _, line in ipairs { POOL, "local x = 1", ":step 2s", ":kill 10.0.0.1", "error 'not this'",
      ":until db:stats().dead_backends == 1", ":claim", [[:ask "PING\r\n"]], ":release", ":set max=8", ":undo", "x + 1", ":look" } do
      prompt:type(line)
    end
    prompt:said()
    local made = prompt:ask(":script " .. kind)
    local time_ms = prompt.world.time_ms()
    prompt:close()
    return made, time_ms
  end

  it("does the same again", function()
    local made, time_ms = script_of ""
    assert.is_nil(made:find("not this", 1, true))
    local chunk = assert(loadstring(made))
    local printed = {}
    local sim = require "cueball.host.sim"
    local new, world = sim.new, nil
    sim.new = function(given) world = new(given) return world end -- luacheck: ignore
    setfenv(chunk, setmetatable({ print = function(words) printed[#printed + 1] = words end }, { __index = _G }))
    local ok, message = pcall(chunk)
    sim.new = new -- luacheck: ignore
    local used = require("cueball.host").use(nil)
    assert.is_true(ok, message)
    assert.equal(world, used)
    assert.equal(time_ms, world.time_ms())
    assert.same({ "PING\r\n", 2 }, printed)
    world.close()
  end)

  it("puts the same load on a pool", function()
    local prompt = prompts.new()
    prompt:type(POOL)
    prompt:type ":step 1s"
    prompt:type ":load 200/s 1s hold=15ms"
    prompt:said()
    local made = prompt:ask(":script")
    prompt:close()
    local globals = setmetatable({}, { __index = _G })
    setfenv(assert(loadstring(made)), globals)()
    local world = require("cueball.host").use(nil)
    local stats = globals.db:stats()
    assert.equal(200, stats.granted)
    assert.is_true(stats.lease_ms_p50 > 14 and stats.lease_ms_p50 < 16)
    assert.is_true(world.time_ms() > 1990 and world.time_ms() < 2100, world.time_ms())
    world.close()
  end)

  it("has what was done to a pool by verbs", function()
    local prompt = prompts.new()
    for _, line in ipairs { POOL .. " name=web", ":step 1s", ":pause web wait_ms=50ms", ":resume web", ":drain 10.0.0.1:80 pool=web",
      ":restore 10.0.0.1:80 pool=web", ":renew web", ":backends", ":restore nobody pool=web" } do
      prompt:type(line)
    end
    prompt:said()
    local made = prompt:ask(":script"):match "max_connections = 4,.-\n  }\n(.-)end%)":gsub("  ", "")
    assert.equal('world.sleep(1000)\nweb:pause({ wait_ms = 50 })\nweb:resume()\nweb:drain({ backend = "10.0.0.1:80" })\n'
      .. 'web:restore({ backend = "10.0.0.1:80" })\nweb:renew()\n', made)
    prompt:close()
  end)

  it("is a spec for busted", function()
    local made = script_of "spec"
    local names = {}
    local globals = setmetatable({ print = function() end }, { __index = _G })
    function globals.describe(_, fn) fn() end
    function globals.it(name, fn) names[#names + 1] = name fn() end
    setfenv(assert(loadstring(made)), globals)()
    assert.same({ "goes as it went" }, names)
    assert.is_truthy(made:find("seed = 7", 1, true))
  end)

  it("is written into a file that was not there", function()
    local prompt, path = prompts.new(), os.tmpname()
    assert.is_truthy(prompt:ask(":script " .. path):find("is there already", 1, true))
    os.remove(path)
    prompt:type "x = 1"
    assert.is_truthy(prompt:ask(":script " .. path):find("# wrote", 1, true))
    assert.is_truthy(io.open(path):read("*a"):find("x = 1", 1, true))
    os.remove(path)
    prompt:close()
  end)
end)
