--- docs/logs.md has each event that the code tells, with its levels, and no other; and each event of a pool has a sentence.
local native = require "cueball.native"
local pool_events = require "cueball.pool.events"
local sentence = require "cueball.log.sentence"
local source = require "spec.support.source"
local lib, ffi = native.lib, native.ffi

-- The arguments of a call whose bracket opens before this place.
local function arguments_at(words, from)
  local list, depth, at = {}, 0, from
  while at <= #words and depth >= 0 do
    local character = words:sub(at, at)
    if character == '"' or character == "'" then
      repeat at = words:find(character, at + 1, true) until words:sub(at - 1, at - 1) ~= "\\"
    elseif character:find "[({%[]" then
      depth = depth + 1
    elseif character:find "[)}%]]" then
      depth = depth - 1
    end
    if depth < 0 or character == "," and depth == 0 then
      list[#list + 1] = words:sub(from, at - 1)
      from = at + 1
    end
    at = at + 1
  end
  for index, one in ipairs(list) do list[index] = one:match "^%s*(.-)%s*$" end
  return list
end

-- Calls that tell a line, and which of their arguments are the level and the event.
local CALLS = { { "[%w_%.]+[:.]log%(()", 1, 3 }, { "log%.say%(()", 2, 4 } }

-- Which arguments a text of Lua tells lines with: list of { level =, event =, line = }.
local function lines_in(text)
  local found = {}
  for _, call in ipairs(CALLS) do
    for at, inside in text:gmatch("()" .. call[1]) do
      local before = text:sub(1, at - 1)
      local arguments = arguments_at(text, inside)
      local level, event = arguments[call[2]] or "", arguments[call[3]]
      -- What passes on what it was given is no line of its own.
      if not before:match "function%s*$" and level:find '"' then
        local _, number = before:gsub("\n", "")
        if event and (event == "false" or event == "nil") then event = arguments[call[3] + 1] end
        found[#found + 1] = { levels = level, event = event and event:match '^"([%w_]+)"$' or event, line = number + 1 }
      end
    end
  end
  return found
end

-- What the code tells: { [event] = { [level] = true } }, and the lines without an event.
local function of_code()
  local events, without = {}, {}
  local function add(event, level)
    events[event] = events[event] or {}
    events[event][level] = true
  end
  for _, path in ipairs(source.files("lua/cueball", "*.lua")) do
    if not path:find "lua/cueball/log/" then
      for _, one in ipairs(lines_in(source.read(source.root .. "/" .. path))) do
        if one.event then
          for level in one.levels:gmatch '"(%a+)"' do add(one.event, level) end
        else
          without[#without + 1] = path .. ":" .. one.line
        end
      end
    end
  end
  return events, without, add
end

local ALL = "debug, info, warn, error"

-- Of what passes on the words of somebody else the code has no level; what two places tell under one name has two.
local PASSED_ON = {
  library_says = ALL, factory_says = ALL, held_back = ALL, log_threw = "error", shared_memory = "error", task_threw = "error",
}

-- Events of a pool that the log has: samples of all levels that they may have.
local SAMPLES = {
  pool_state = { { to = "failed", from = "running" }, { to = "running", from = "starting" } },
  backend_revived = { { cause = "plan" }, { cause = "check" } },
}

local function add_pool_events(add)
  for kind in pairs(pool_events.FOR_THE_LOG) do
    for _, sample in ipairs(SAMPLES[kind] or { { cause = "failed" } }) do
      sample.kind, sample.backend, sample.count, sample.wanted = kind, "db1", 1, 2
      add(kind, (sentence.words(sample)))
    end
  end
end

local function sorted(levels)
  local list = {}
  for level in ALL:gmatch "%a+" do
    if levels[level] then list[#list + 1] = level end
  end
  return table.concat(list, ", ")
end

-- The table of the manual: { [event] = levels }.
local function of_manual()
  local events = {}
  local part = source.read(source.root .. "/docs/logs.md"):match "## What each line means\n(.*)"
  for event, levels, meaning, what_to_do in part:gmatch "\n| `([%w_]+)` | ([^|]-) | ([^|]-) | ([^|]-) |" do
    assert(meaning ~= "" and what_to_do ~= "", event)
    local set = {}
    for level in levels:gmatch "%a+" do set[level] = true end
    events[event] = sorted(set)
  end
  return events
end

describe("the check of lines", function()
  it("finds level and event, over several lines and among brackets and strings", function()
    assert.same({ { levels = '"warn"', event = "a_b", line = 2 } },
      lines_in '\npool:log("warn", ("x, %s (")\n  :format(y, { 1, 2 }), "a_b", { c = 1 })')
    assert.same({ { levels = '"warn"', event = "a", line = 1 } }, lines_in 'log.say(self.host, "warn", "m", "a")')
    assert.same({ { levels = 'is_x and "warn" or "error"', line = 1 } }, lines_in 'self.sink.log(is_x and "warn" or "error", "m")')
    assert.same({}, lines_in "pool:log(level, message, event) function Pool:log(level, message) end")
  end)
end)

describe("the log", function()
  local events, without, add = of_code()

  it("has no line without an event", function()
    assert.same({}, without)
  end)

  it("is told in docs/logs.md: each event with its levels, and no other", function()
    add_pool_events(add)
    local wanted = {}
    for event, levels in pairs(events) do wanted[event] = sorted(levels) end
    for event, levels in pairs(PASSED_ON) do wanted[event] = levels end
    assert.same(wanted, of_manual())
  end)
end)

describe("every kind of event", function()
  it("has a sentence", function()
    local kinds = {}
    for kind = 0, tonumber(lib.CUEBALL_EVENT_LAST) do
      local name = ffi.string(lib.cueball_event_name(kind))
      if name ~= "unknown" then kinds[#kinds + 1] = name end
    end
    table.sort(kinds)
    assert.same(kinds, sentence.kinds())
  end)

  it("has one for each cause, and for kinds to come", function()
    for cause = 1, tonumber(lib.CUEBALL_CAUSE_LAST) do
      local name = ffi.string(lib.cueball_cause_name(cause))
      local level, words = sentence.words {
        kind = "slot_state", slot = 1, backend = "db1", from = "idle", to = "closing", cause = name, count = 1,
      }
      assert.equal("debug", level)
      assert.is_nil(words:find(", " .. name .. "$") and name ~= "unknown" or nil, words)
    end
    assert.same({ "debug", "backend moved db1, it broke" },
      { sentence.words { kind = "backend_moved", backend = "db1", cause = "lost" } })
  end)
end)
