--- Scripts that declare pools: how they are loaded, what they see, and that nothing stays behind of one that fails.
local scripts = require "spec.support.scripts"

local town

-- The message, as far as the script's own lines go.
local function message_of(text, given)
  local loaded, message, name = town:load(text, given)
  assert.is_nil(loaded)
  return message:match "^[^\n]*", name, message
end

before_each(function()
  town = scripts.town()
end)

after_each(function()
  town:finish()
end)

describe("a script", function()
  it("declares pools and sets, which are found by their names", function()
    local loaded = town:load [[
      local cueball = require "cueball"
      db = cueball.pool { name = "db", resolver = cueball.resolver.static { "10.0.0.1:7000" }, connect = cueball.connection.tcp {} }
      cueball.set { name = "feeds", resolver = cueball.resolver.static { "10.0.0.2:7000" }, connect = cueball.connection.tcp {},
        added = function() end, removed = function(member) member:release() end }
      assert(db:ready())
      assert(db == _G.db)]]
    assert.same({ "db", "feeds" }, loaded:names())
    assert.equal("running", loaded:pool("db"):state())
    assert.equal("feeds", loaded:set("feeds").pool.name)
    assert.is_nil(rawget(_G, "db"))
    assert.same({ nil, 'script declares no pool "feeds"', "not_found" }, { loaded:pool "feeds" })
    assert.same({ nil, 'script declares no set "db"', "not_found" }, { loaded:set "db" })
    assert.is_true(town:stop())
    assert.is_true(town:stop())
    assert.equal("stopped", loaded:pool("db"):state())
  end)

  it("has its pools begin once it has returned, or waits", function()
    town.seen = {}
    _G.seen = function(text) town.seen[#town.seen + 1] = text end
    town:load [[
      local cueball = require "cueball"
      local seen, open = seen
      local function pool(name)
        cueball.pool { name = name, connect = function() return open(name) end,
          resolver = function(sink) seen(name .. " begins") sink:set { "10.0.0.1:7000" } end }
      end
      pool "one"
      pool "two"
      function open(name) seen(name .. " connects") return nil, "not yet" end
      seen "waits"
      cueball.sleep(0)
      pool "three"
      seen "returns"]]
    town.world.advance(0)
    _G.seen = nil
    local told, last = {}, nil
    for _, what in ipairs(town.seen) do
      if what ~= last then told[#told + 1] = what end -- each pool makes several attempts
      last = what
    end
    assert.equal("waits, one begins, one connects, two begins, two connects, returns, three begins, three connects",
      table.concat(told, ", "))
    town.errors = "cueball %l+: "
  end)

  it("is given its arguments, and a host", function()
    town.seen = {}
    _G.seen = town.seen
    town:load([[
      local cueball = require "cueball"
      seen.count, seen.first, seen.last, seen.host = select("#", ...), (...), select(-1, ...), cueball.host()
      cueball.run(function() cueball.sleep(5) end)
      seen.version = cueball.version]], { arguments = { "blue", nil, 7, n = 3 } })
    _G.seen = nil
    assert.same({ count = 3, first = "blue", last = 7, host = town.world, version = require("cueball").version }, town.seen)
    assert.equal(5, town.world.time_ms())
  end)

  it("has tasks, which end with it, and may say what is to be done then", function()
    town.seen = {}
    _G.seen = town.seen
    town:load [[
      local cueball = require "cueball"
      local seen = seen
      cueball.spawn(function()
        cueball.spawn(function() while true do cueball.sleep(10) seen.inner = (seen.inner or 0) + 1 end end)
        while true do cueball.sleep(10) seen.outer = (seen.outer or 0) + 1 end
      end)
      cueball.on_end(function() seen.ends = (seen.ends or "") .. "first" end)
      cueball.on_end(function() error "oops" end)
      cueball.on_end(function() seen.ends = "last " end)]]
    _G.seen = nil
    town.world.advance(35)
    town.errors = "oops"
    town:stop()
    town.world.advance(100)
    assert.same({ inner = 3, outer = 3, ends = "last first" }, town.seen)
    assert.matches("script: what it gave to cueball.on_end threw: script:8: oops", town.world.logs[#town.world.logs].message, 1, true)
  end)

  it("loads the modules that lie beside its file for itself", function()
    local folder = town:folder { ["pools.lua"] = [[
      local names = require "parts.names"
      assert(names == require "parts.names" and package.loaded["parts.names"] == names)
      local cueball = require "cueball"
      assert(names.cueball == cueball and require "cueball.address" == names.address and require "string" == string)
      for _, name in ipairs(names) do
        cueball.pool { name = name, resolver = cueball.resolver.static {}, connect = cueball.connection.tcp {} }
      end
      assert(load "return _G" () == _G and loadstring "return _G" () == _G)
      dofile((...) .. "/more.lua")]],
      ["parts/names.lua"] = 'return { "a", "b", cueball = require "cueball", address = require "cueball.address" }',
      ["string.lua"] = "error 'this is no module'",
      ["more.lua"] = [[
        local cueball = require "cueball"
        cueball.pool { name = "c", resolver = cueball.resolver.static {}, connect = cueball.connection.tcp {} }]] }
    local loaded = town:load(nil, { file = folder .. "/pools.lua", arguments = { folder } })
    assert.same({ "a", "b", "c" }, loaded:names())
    assert.is_nil(package.loaded["parts.names"])
    town:stop()
  end)
end)

describe("a module beside a script", function()
  it("says where it was asked for, if it cannot be had", function()
    local folder = town:folder {
      ["one.lua"] = "require 'broken'", ["broken.lua"] = "return return", ["two.lua"] = "\nrequire 'a'", ["a.lua"] = "require 'b'",
      ["b.lua"] = "require 'a'", ["three.lua"] = "require 'nowhere'", ["four.lua"] = "dofile '/nowhere.lua'",
      ["five.lua"] = "local ok = pcall(require, 'thrower') assert(not ok and not pcall(require, 'thrower'))", ["thrower.lua"] = "error 'x'",
      ["six.lua"] = "require 'empty' assert(package.loaded.empty == true and require 'empty' == true)", ["empty.lua"] = "local x = 1",
    }
    local function why(name) return (message_of(nil, { file = folder .. "/" .. name })) end
    assert.matches("one.lua:1: error loading module 'broken' from file '.*/broken.lua':$", why "one.lua")
    assert.matches("b.lua:1: loop or previous error loading module 'a'$", why "two.lua")
    assert.matches("module 'nowhere' not found:", why "three.lua")
    assert.matches("four.lua:1: cannot open /nowhere.lua", why "four.lua")
    for _, name in ipairs { "five.lua", "six.lua" } do
      assert(town:load(nil, { file = folder .. "/" .. name }))
      town:stop()
    end
  end)
end)

describe("a script that fails", function()
  local POOL = [[
    local cueball = require "cueball"
    local function pool(name)
      local made = cueball.pool { name = name, resolver = cueball.resolver.static { "10.0.0.1:7000" }, connect = cueball.connection.tcp {} }
      return made
    end
  ]]

  it("says where and why, with a traceback", function()
    local message, name, all = message_of("local function inner() error 'oops' end\nlocal function outer() inner() end\nouter()\nreturn 1")
    assert.equal("script:1: oops", message)
    assert.equal("script", name)
    assert.equal("script:1: oops\nstack traceback:\n\tscript:1: in function 'inner'\n"
      .. "\tscript:2: in function 'outer'\n\tscript:3: in main chunk", all)
    assert.equal("script:1: unexpected symbol near '<eof>'", (message_of "local x ="))
    assert.equal("pools.lua:2: unexpected symbol near '<eof>'", (message_of("\nlocal x =", { name = "pools.lua" })))
    assert.equal("cannot open /nowhere.lua: No such file or directory", (message_of(nil, { file = "/nowhere.lua" })))
    assert.equal("a table without a text", (message_of "error(setmetatable({}, { __tostring = function() error 'x' end }))"))
  end)

  it("leaves nothing behind: pools are stopped, tasks are killed", function()
    local message = message_of(POOL .. [[
      local one = pool "one"
      one:ready()
      lease = one:claim()
      pool "two"
      cueball.spawn(function() one:claim { timeout_ms = false } cueball.sleep(1e6) end)
      error "in the middle"]])
    assert.equal("script:11: in the middle", message)
    assert.same({}, town.world.leaks())
  end)

  it("may not declare a name twice, nor none, nor later", function()
    assert.equal('script:7: cueball.pool: the name "db" is declared twice, here and at script:3',
      (message_of(POOL .. "pool 'db'\ncueball.pool { name = 'db' }")))
    assert.equal("script:6: cueball.pool: option 'name' is required in a script", (message_of(POOL .. "cueball.pool {}")))
    assert.equal("script:6: cueball.pool: option 'name' must be a string of 1 to 255 bytes without control characters, not 7",
      (message_of(POOL .. "cueball.pool { name = 7 }")))
    assert.equal("script:6: cueball.pool: expected a table of options, got nil", (message_of(POOL .. "cueball.pool()")))
    assert.equal("script:6: cueball.set: option 'added' is required: a function(member)",
      (message_of(POOL .. "cueball.set { name = 'x' }")))
    town:load(POOL .. "later = pool cueball.spawn(function() cueball.sleep(10) pool 'late' end)")
    town.world.advance(20)
    assert.matches("script:3: cueball.pool: a script declares its pools and sets while it loads, and it has loaded",
      town.world.logs[#town.world.logs].message, 1, true)
    town.errors = "it has loaded"
  end)

  it("is ended if it loops, whatever it catches", function()
    for _, loop in ipairs { "while true do end", "while true do pcall(function() while true do end end) end",
      "cueball.spawn(function() while true do end end)", "pool 'db' while true do end" } do
      local message, name = message_of(POOL .. loop, { limit_ms = 30 })
      assert.equal("script:6: the script ran for more than 30 ms without an end", message)
      assert.equal("timeout", name)
      assert.is_nil(debug.gethook())
    end
    town.errors = "without an end"
  end)

  it("is ended if it waits for too long", function()
    local message, name = message_of(POOL .. "pool 'db' cueball.sleep(1e9)", { limit_ms = 30 })
    assert.equal("script did not return within 30 ms", message)
    assert.equal("timeout", name)
    assert.equal(30, math.floor(town.world.time_ms()))
  end)
end)

describe("script.load", function()
  local script = require "cueball.runtime.script"

  it("is called in a task, with options that are checked", function()
    assert.blames("script.load: it waits, so it must be called in a task: use host.run or host.spawn",
      function() script.load { text = "", host = town.world } end)
    assert.blames("script.load: one of the options 'file' and 'text' is required", function() script.load {} end)
    assert.blames("script.load: one of the options 'file' and 'text' is required", function() script.load { file = "a", text = "b" } end)
    assert.blames("script.load: option 'arguments' must be a list of strings, numbers and booleans, not 7",
      function() script.load { text = "", arguments = 7 } end)
    assert.blames("script.load: unknown option 'arg'; there are arguments, file, host, limit_ms, name, text",
      function() script.load { text = "", arg = 1 } end)
  end)
end)
