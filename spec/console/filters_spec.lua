--- Every list of a console, by each of its filters and in each form: the same rows, and how many were left out.
local cueball = require "cueball"
local changes = require "cueball.console.changes"
local json = require "cueball.monitor.json"
local listing = require "cueball.console.listing"
local registry = require "cueball.pool.registry"
local seat = require "cueball.console.seat"
local sim = require "cueball.host.sim"
local verbs = require "cueball.console.verbs"

local world, fn, shown, others, kept

local function static(...) return cueball.resolver.static { ... } end

local function claim(pool, count, hold_ms)
  for _ = 1, count do
    world.spawn(function()
      local lease = pool:claim { timeout_ms = 600000 }
      if not lease then return end
      world.sleep(hold_ms)
      lease:release() -- harmless if it is over
    end)
  end
end

-- Two pools: "db" has 10.0.0.1 and 10.0.0.2, dead for 30 s; three of its connections are lent, one for 10 s, and four claims wait. "cache"
-- has one backend and nothing to do.
local function start()
  world = sim.new { task_errors = "log" }
  for index = 1, 2 do world.server("10.0.0." .. index, 80) end
  others = #registry.pools()
  local function pool_of(name, maximum, ...)
    return cueball.pool {
      name = name, host = world, max_connections = maximum, spares = maximum, claim_sites = true, connect = cueball.connection.tcp {},
      resolver = static(...),
    }
  end
  local db = pool_of("db", 4, "10.0.0.1:80", "10.0.0.9:80")
  kept = { db, pool_of("cache", 1, "10.0.0.2:80") } -- pools that nobody has are stopped
  fn = verbs.functions({ who = "alice", host = world }, true)
  world.advance(30000)
  claim(db, 1, 600000)
  world.advance(10000)
  claim(db, 2, 600000)
  claim(db, 2, 1)
  world.advance(10000)
  claim(db, 2, 1)
  world.spawn(function() fn.set { pool = "cache", claim_timeout_ms = 9000 } end)
  world.advance(20000)
  world.spawn(function() verbs.functions({ who = "bob", host = world }, true).pause { pool = "cache" } end)
  world.advance(1000)
end

local function finish()
  for _, pool in ipairs(kept) do world.spawn(function() pool:stop { timeout_ms = 1 } end) end
  world.advance(700000)
  world.close()
  assert.equal(others, #registry.pools()) -- of other specs
end

-- What is typed at a console, its results and its notes.
local function typed(line, form)
  shown = { result = "", note = "", error = "" }
  world.spawn(function()
    local one = seat.new { host = world, allow = "read", who = "spec", budget_ms = 5000, output = function(words, kind)
      shown[kind] = shown[kind] .. words
    end }
    one:run(line, form)
    one:close()
  end)
  world.settle()
  assert.equal("", shown.error, line)
  return shown.result, shown.note
end

local function text_of(value)
  return type(value) == "number" and ("%.6g"):format(value) or tostring(value)
end

local function column(rows, name)
  local values = {}
  for index, row in ipairs(rows) do values[index] = text_of(row[name]) end
  return table.concat(values, " ")
end

-- Verb, what it is given, and what a column of the rows that pass has.
local CASES = {
  { "pools", {}, "pool", "cache db" }, { "pools", { pool = "db" }, "pool", "db" }, { "pools", { state = "running" }, "pool", "cache db" },
  { "pools", { state = "failed" }, "pool", "" }, { "pools", { pool = "db", state = "failed" }, "pool", "" },
  { "pools", { pool = "*" }, "pool", "cache db" },
  { "backends", {}, "backend", "10.0.0.1:80 10.0.0.2:80 10.0.0.9:80" }, { "backends", { pool = "cache" }, "backend", "10.0.0.2:80" },
  { "backends", { state = "dead" }, "backend", "10.0.0.9:80" }, { "backends", { state = "up" }, "backend", "10.0.0.1:80 10.0.0.2:80" },
  { "backends", { backend = "10.0.0.9:80" }, "state", "dead" },
  { "backends", { older = "50s" }, "backend", "10.0.0.1:80 10.0.0.2:80 10.0.0.9:80" },
  { "backends", { older = 50000, state = "dead" }, "backend", "10.0.0.9:80" }, { "backends", { older = "2h" }, "backend", "" },
  { "backends", { newer = "2h", pool = "cache" }, "backend", "10.0.0.2:80" }, { "backends", { newer = "5s" }, "backend", "" },
  { "connections", { state = "busy" }, "backend", "10.0.0.1:80 10.0.0.1:80 10.0.0.1:80" },
  { "connections", { pool = "cache" }, "state", "idle" }, { "connections", { backend = "10.0.0.2:80" }, "pool", "cache" },
  { "connections", { state = "busy", older = "35s" }, "pool", "db" }, { "connections", { state = "busy", newer = "35s" }, "pool", "db db" },
  { "connections", { state = "busy", older = "20s", newer = "35s" }, "pool", "db db" },
  { "leases", {}, "pool", "db db db" }, { "leases", { pool = "cache" }, "pool", "" },
  { "leases", { backend = "10.0.0.1:80" }, "pool", "db db db" }, { "leases", { backend = "10.0.0.2:80" }, "pool", "" },
  { "leases", { older = "35s" }, "pool", "db" }, { "leases", { newer = "35s" }, "pool", "db db" },
  { "leases", { site = "nowhere.lua:1" }, "pool", "" }, { "leases", { where = true, older = "35s" }, "pool", "db" },
  { "waiters", {}, "pool", "db db db db" }, { "waiters", { pool = "cache" }, "pool", "" },
  { "waiters", { older = "25s" }, "pool", "db db" },
  { "waiters", { newer = "25s" }, "pool", "db db" }, { "waiters", { site = "nowhere.lua:1" }, "pool", "" },
  { "waiters", { where = true, newer = "25s" }, "pool", "db db" },
  { "events", { event = "backend_dead", pool = "db" }, "backend", "10.0.0.9:80" },
  { "events", { backend = "10.0.0.9:80", event = "backend_dead" }, "pool", "db" },
  { "events", { event = "backend_dead", cause = "nothing" }, "pool", "" },
  { "events", { event = "console_change", newer = "50s" }, "pool", "cache cache" },
  { "events", { event = "console_change", newer = "50s", older = "10s" }, "pool", "cache" },
  { "events", { level = "error", pool = "cache" }, "pool", "" },
  { "changes", { newer = "1h", pool = "cache" }, "who", "alice bob" }, { "changes", { newer = "10s", pool = "cache" }, "who", "bob" },
  { "changes", { pool = "cache", what = "pause", newer = "1h" }, "who", "bob" },
  { "changes", { pool = "cache", who = "alice", newer = "1h" }, "what", "set" },
  { "changes", { pool = "cache", older = "10s", newer = "1h" }, "what", "set" }, { "changes", { pool = "none" }, "what", "" },
  { "settings", { pool = "db", option = "max_connections" }, "value", "4" }, { "settings", { option = "max_connections" }, "value", "1 4" },
  { "workers", {}, "here", "true" },
}

-- What a command is given, as it is typed.
local function words_of(given)
  local words = {}
  for name, value in pairs(given) do words[#words + 1] = ("%s=%s"):format(name, tostring(value)) end
  table.sort(words)
  return table.concat(words, " ")
end

local function sorted(text)
  local words = {}
  for word in text:gmatch "%S+" do words[#words + 1] = word end
  table.sort(words)
  return table.concat(words, " ")
end

local function lua_of(given)
  local parts = {}
  for name, value in pairs(given) do
    parts[#parts + 1] = ("%s = %s"):format(name, type(value) == "string" and ("%q"):format(value) or tostring(value))
  end
  table.sort(parts)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- The rows of a text in a form.
local function rows_of(text, form)
  if form == "json" then return json.decode('{"list":' .. text .. "}").list end
  return assert(loadstring("return " .. text))()
end

describe("the lists of a console", function()
  setup(start)
  teardown(finish)

  for _, case in ipairs(CASES) do
    local verb, given, name, expected = case[1], case[2], case[3], case[4]
    it(("%s %s in each form"):format(verb, lua_of(given)), function()
      assert.equal(expected, sorted(column(fn[verb](given), name)))
      for _, form in ipairs { "lua", "json" } do
        assert.equal(expected, sorted(column(rows_of(typed(verb .. " " .. lua_of(given), form), form), name)), form)
        local as_command = (":%s %s form=%s"):format(verb, words_of(given), form)
        assert.equal(expected, sorted(column(rows_of(typed(as_command), form), name)), as_command)
      end
      for _, line in ipairs { verb .. " " .. lua_of(given), ":" .. verb .. " " .. words_of(given) } do
        local text = typed(line)
        local rows = select(2, text:gsub("\n", ""))
        assert.equal(select(2, expected:gsub("%S+", "")), rows, line)
        assert.equal(rows == 0, text == "none", line)
      end
    end)
  end

  it("have every filter that they name in a case above", function()
    for _, row in ipairs(verbs.rows) do
      if row.kind == "look" and row.name ~= "plan" then
        for option in pairs(row.options) do
          local is_there = option == "limit"
          for _, case in ipairs(CASES) do is_there = is_there or case[1] == row.name and case[2][option] ~= nil end
          assert.is_true(is_there, ("%s { %s = … }"):format(row.name, option))
        end
      end
    end
  end)

  it("have the same names for the same things", function()
    local has_age = { backends = true, connections = true, leases = true, waiters = true, events = true, changes = true }
    for _, row in ipairs(verbs.rows) do
      if row.kind == "look" then
        assert.equal(has_age[row.name] or false, row.options.older ~= nil and row.options.newer ~= nil, row.name)
        if row.name ~= "plan" then assert.is_table(row.options.limit, row.name) end
        if row.name ~= "workers" then assert.is_table(row.options.pool, row.name) end
      end
    end
  end)

  it("say in each form how many were left out", function()
    for _, verb in ipairs { "pools", "backends", "connections", "leases", "waiters", "events", "changes", "settings" } do
      local all = fn[verb] { limit = 1000 }
      local is_latest = verb == "events" or verb == "changes"
      local words = ("… %d more%s"):format(#all - 1, is_latest and " before" or "")
      local one = fn[verb] { limit = 1 }
      assert.is_true(#all > 1, verb)
      assert.equal(#all - 1, one.more, verb)
      assert.equal(1, #one, verb)
      assert.is_truthy(typed(verb .. " { limit = 1 }"):find(words, 1, true), verb)
      assert.is_truthy(typed(verb .. " { limit = 1 }", "lua"):find("-- " .. words, 1, true), verb)
      assert.equal(1, #rows_of(typed(verb .. " { limit = 1 }", "lua"), "lua"), verb)
      for _, line in ipairs { verb .. " { limit = 1 }", (":%s limit=1 form=json"):format(verb) } do
        local text, note = typed(line, "json")
        assert.equal(1, #rows_of(text, "json"), line)
        assert.equal(words, note, line)
      end
    end
  end)

  it("show the latest of what happened, and the rest by number", function()
    local list = changes.list()
    assert.equal(list[#list].number, fn.changes({ limit = 1 })[1].number)
    local all, last = fn.events { limit = 1000 }, fn.events { limit = 2 }
    assert.equal(all[#all].message, last[2].message)
    assert.matches("^… %d+ more before\nTIME", listing.text(last, "table"))
  end)

  it("leave out rows whole where there are too many to be shown, so that what is shown can be read", function()
    local rows = {}
    for index = 1, 3000 do rows[index] = { pool = "db", number = index, site = ("x"):rep(50) } end
    local list = listing.new(rows, { "pool", "number", "site" })
    for _, form in ipairs { "table", "lua", "json" } do
      local text, note = listing.within(list, form, 60 * 1024)
      local told = tonumber((note or text):match "… (%d+) more")
      assert.is_true(#text <= 60 * 1024 and #text > 40 * 1024, #text)
      local count = form == "table" and select(2, text:gsub("\ndb ", "")) or #rows_of(text, form)
      assert.equal(3000, told + count, form)
    end
    assert.equal(3000, #rows_of(listing.text(list, "lua"), "lua")) -- nobody limits it: all of them
  end)
end)

describe("a list of a console", function()
  it("counts what a pool has beyond what it tells at once", function()
    world = sim.new {}
    local pool = cueball.pool {
      name = "crowd", host = world, max_connections = 1, resolver = static "10.0.0.1:80", connect = function() return {} end,
    }
    local list_of = verbs.functions({ who = "alice", host = world }, false).waiters
    world.advance(100)
    claim(pool, 1, 600000)
    world.advance(100)
    claim(pool, 1200, 1)
    local list = list_of { pool = "crowd", limit = 1100 }
    assert.same({ 1100, 100 }, { #list, list.more })
    list = list_of { pool = "crowd" }
    assert.same({ 100, 1100 }, { #list, list.more })
    assert.equal(1200, #list_of { pool = "crowd", newer = "1s", limit = 5000 })
    world.spawn(function() pool:stop() end)
    world.advance(700000)
    assert.equal("stopped", pool:state())
    world.close()
  end)
end)
