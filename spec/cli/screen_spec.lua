--- The screen of cueball top, without a terminal: what is drawn of what is known, and what keys do.
local draw = require "cueball.cli.screen.draw"
local keys_of = require "cueball.cli.screen.keys"
local line = require "cueball.cli.screen.line"
local model = require "cueball.cli.screen.model"
local painter = require "cueball.cli.screen.painter"
local width = require "cueball.cli.width"
local words = require "cueball.cli.screen.words"

local NOW = 1790000000

-- What a program with one pool of two backends would answer.
local function answer(changes)
  local db1 = { key = "10.0.0.1:5432", name = "db1.example", state = "up", since_ms = 130000, total = 4, total_max = 5, busy = 3, idle = 1,
    connecting = 0, latency_ms = 2.1, success_rate = 0.97, reason = "well" }
  local db2 = { key = "10.0.0.2:5432", name = "10.0.0.2:5432", state = "dead", since_ms = 3500, total = 1, total_max = 6, busy = 0,
    idle = 0, connecting = 1, takes = 7, reason = "dead: connection refused", next_attempt_ms = 1200 }
  local pool = { name = "db", state = "running", signals = { utilisation = 0.7, waiting = 3, claim_p99_ms = 12.4, churn_per_s = 0.2 },
    backends = { db1, db2 }, more = {},
    leases = { { id = 7, backend = "10.0.0.1:5432", held_ms = 12345, site = "app.lua:12", task = "task 3", is_overdue = true },
      { id = 9, backend = "10.0.0.1:5432", held_ms = 40, site = "job.lua:4" } },
    waiters = { { number = 1, waited_ms = 23, remaining_ms = 77, site = "app.lua:40", holds = { 7 } } } }
  local made = { version = "0.1.0", process = { pid = 4711, role = "program", host = "uv", age_s = 3600, started_s = 5 }, pools = { pool } }
  if changes then changes(made, pool, db1, db2) end
  return made
end

local function new(changes)
  local state = model.new { address = "127.0.0.1:9190" }
  model.snapshot(state, answer(changes), NOW)
  return state
end

local function text_of(state, columns, rows, now_s)
  local lines, texts = draw.lines(state, columns or 140, rows or 20, now_s or NOW), {}
  for index, one in ipairs(lines) do texts[index] = line.plain(one) end
  return table.concat(texts, "\n")
end

local function shows(pattern, state, ...)
  local text = text_of(state, ...)
  assert.is_truthy(text:find(pattern), pattern .. "\n" .. text)
end

local function type_in(state, ...)
  local wish
  for _, key in ipairs { ... } do wish = model.key(state, key, 10) end
  return wish
end

describe("the screen", function()
  it("has a row for each backend, with current, maximum, limit, state, since when and why", function()
    local state = new()
    shows("\nBACKEND +STATE +FOR +CUR +MAX +LIMIT +BUSY +IDLE +CONN +LATENCY +ERRORS +REASON *\n", state, 200)
    shows("\ndb1.example %(10.0.0.1:5432%) +up +2 min +4 +5 +%- +3 +1 +0 +2.1 ms +3 %% +well *\n", state, 200)
    shows("\n10.0.0.2:5432 +dead +3.5 s +1 +6 +7 +0 +0 +1 +%- +%- +dead: connection refused; tried again in 1.2 s *\n", state, 200)
  end)

  it("has the four signals above, and who it is that answers", function()
    local state = new()
    shows("^cueball top 127.0.0.1:9190  pid 4711, program on uv, up 60 min +%d%d:%d%d:%d%d\n", state)
    shows("\nPOOL +STATE +UTILISATION +WAITING +CLAIM P99 +CHURN *\ndb +running +70 %% +▆ +3 +█ +12 ms +█ +0.2/s +█\n", state)
    shows("\ndb +running +70 %% +3 +12 ms", state, 80)   -- too narrow for charts
  end)

  it("says that a pool is paused, and what became of the pool last", function()
    local state = new(function(_, pool) pool.is_paused, pool.last_error = true, "10.0.0.1:1: connection refused" end)
    shows("\ndb +paused.*connection refused", state)
  end)

  it("is as large as it is told, whatever that is", function()
    local state = new(function(made, pool)
      for index = 1, 40 do
        made.pools[index + 1] = answer().pools[1]
        made.pools[index + 1].name = "pool-" .. index
      end
      pool.name = ("日本"):rep(40)
    end)
    for _, screen in ipairs { "1", "2", "3", "4", "?" } do
      type_in(state, screen)
      for columns = 1, 200, 13 do
        for _, rows in ipairs { 1, 2, 3, 5, 24, 100 } do
          local lines = draw.lines(state, columns, rows, NOW)
          assert.equal(rows, #lines)
          for _, one in ipairs(lines) do assert.is_true(line.width(one) <= columns, line.plain(one)) end
        end
      end
    end
    type_in(state, "1")
    shows("\n… %d+ more pools; p shows one of them\n", state, 100, 24)
  end)

  it("leaves out what matters least where it is narrow", function()
    local state = new()
    shows("REASON", state, 80)
    assert.is_nil(text_of(state, 80):find "LATENCY")
    shows("BACKEND", state, 30)
    assert.is_nil(text_of(state, 30):find "REASON")
  end)

  it("shows names in any script in their columns, and hostile ones escaped", function()
    local state = new(function(_, _, db1, db2)
      db1.name, db2.key, db2.reason = "データ.例え", "\27]0;owned\7x", "dead:\27[2J\nnew line \155 \226\128\168"
    end)
    shows("\nデータ.例え %(10.0.0.1:5432%) +up ", state, 200)
    shows("\\x1b%]0;owned\\x07x", state, 200)
    shows("dead:\\x1b%[2J\\nnew line \\x9b \\xe2\\x80\\xa8;", state, 200)
    for _, one in ipairs(draw.lines(state, 200, 20, NOW)) do assert.is_nil(line.plain(one):find "%c") end
  end)

  it("takes whatever a program sends, and nothing that is no snapshot", function()
    for _, value in ipairs { 5, "x", {}, { pools = 5 }, false } do
      assert.is_nil(model.snapshot(model.new { address = "x" }, value, NOW))
    end
    local backend = { key = {}, total = "many", busy = 0 / 0, success_rate = {}, state = 3, reason = false }
    local odd = { pools = { 5, { name = {}, signals = 7, backends = { 1, backend }, leases = { { site = {} } },
      waiters = { { holds = 5 } }, more = { leases = "x" } } }, process = "x" }
    local state = model.new { address = "x" }
    assert.is_true(model.snapshot(state, odd, NOW))
    for _, key in ipairs { "1", "2", "3", "4", "s", "r", "s" } do
      type_in(state, key)
      assert.is_string(text_of(state))
    end
    model.event(state, { message = {}, time_s = "now", level = 4 })
    model.event(state, 5)
    type_in(state, "4")
    assert.is_string(text_of(state))
  end)

  it("takes large answers whole, or not at all", function()
    local function many(count)
      return answer(function(_, pool)
        for index = 1, count do pool.leases[index] = { id = index, held_ms = index, site = "x", backend = "y" } end
      end)
    end
    local state = model.new { address = "x" }
    assert.is_true(model.snapshot(state, many(30000), NOW))
    type_in(state, "2")
    shows("30000 rows", state)
    assert.is_nil(model.snapshot(state, many(300000), NOW))
    shows("30000 rows", state)
  end)

  it("says that nobody answers, since when, and when it is tried again; what it knew stays", function()
    local state = new()
    model.lost(state, "connection refused", NOW + 10, 4)
    model.lost(state, "connection refused", NOW + 14, 8)
    local since = os.date("%H:%M:%S", NOW + 10)
    shows("\nNo answer since " .. since .. ": connection refused. Tried again in 5 s. The figures are of %d%d:", state, 140, 20, NOW + 17)
    shows("db1.example", state)
    model.snapshot(state, answer(), NOW + 22)
    assert.is_nil(text_of(state):find "No answer")
    local fresh = model.new { address = "x" }
    shows("waiting for the first answer", fresh)
    model.lost(fresh, "connection refused", NOW, 1)
    shows("No answer since %d%d:%d%d:%d%d: connection refused. Tried again in 1 s.\n", fresh)
  end)

  it("keeps a backend that is gone for ten seconds", function()
    local state = new()
    local function without_db2(_, pool) table.remove(pool.backends, 2) end
    model.snapshot(state, answer(without_db2), NOW + 1)
    model.snapshot(state, answer(without_db2), NOW + 4)
    shows("\n10.0.0.2:5432 +gone +3.0 s .*not there any more", state)
    model.snapshot(state, answer(without_db2), NOW + 12)
    assert.is_nil(text_of(state):find("10.0.0.2", 1, true))
  end)

  it("begins its charts anew when another process answers", function()
    local state = new()
    model.snapshot(state, answer(), NOW + 1)
    assert.equal(2, #state.history.db.waiting)
    model.snapshot(state, answer(function(made) made.process.pid = 4712 end), NOW + 2)
    assert.equal(1, #state.history.db.waiting)
    for second = 1, 300 do model.snapshot(state, answer(), NOW + second) end
    assert.equal(120, #state.history.db.waiting)
  end)

  it("is plain for a pipe, with nothing cut", function()
    local state = new(function(_, _, db1) db1.name, db1.reason = ("n"):rep(100), ("r"):rep(300) end)
    local texts = {}
    for index, one in ipairs(draw.once(state)) do texts[index] = line.plain(one) end
    local text = table.concat(texts, "\n")
    assert.is_truthy(text:find(("n"):rep(100) .. " %(") and text:find(("r"):rep(300)), text)
    assert.is_nil(text:find "q quit")
  end)
end)

describe("keys on the screen", function()
  it("choose lists: leases with who holds and where, waiters with what they hold, events", function()
    local state = new()
    type_in(state, "2")
    shows("\nLEASE +HELD +BACKEND +CLAIMED AT +BY +NOTE *\n +7 +12 s +10.0.0.1:5432 +app.lua:12 +task 3 +overdue *\n +9 +40 ms +", state)
    type_in(state, "3")
    shows("\nNO +WAITED +LEFT +CLAIMS AT +BY +HOLDS *\n 1 +23 ms +77 ms +app.lua:40 +%- +leases 7", state)
    type_in(state, "tab")
    shows("nothing has happened since this began", state)
    model.event(state, { time_s = NOW, level = "warn", pool = "db", backend = "10.0.0.2:5432", message = "is dead" })
    model.event(state, { time_s = NOW + 1, level = "info", pool = "db", message = "goes on" })
    shows("\nTIME +LEVEL +BACKEND +MESSAGE *\n%d%d:%d%d:%d%d +info +goes on *\n%d%d:%d%d:%d%d +warn +10.0.0.2:5432 +is dead *\n", state)
    type_in(state, "tab")
    shows("\nBACKEND", state)
  end)

  it("sort, and turn the order round", function()
    local state = new()
    local function first() return text_of(state, 200):match "REASON *\n(%S+)" end
    assert.equal("db1.example", first())
    type_in(state, "s")   -- by state, the worst first
    assert.equal("10.0.0.2:5432", first())
    shows("2 rows, state  ", state)
    type_in(state, "r")
    assert.equal("db1.example", first())
    shows("2 rows, state, reversed", state)
    type_in(state, "s")   -- by current
    assert.equal("db1.example", first())
    type_in(state, "S", "S")
    assert.equal("db1.example", first())
    shows("2 rows, as they come", state)
  end)

  it("filter by any text in a row, typed in any script, and end that", function()
    local state = new(function(_, _, db1) db1.name = "例え" end)
    type_in(state, "/", "R", "e", "f", "x", "backspace")
    shows("\n/Ref ", state)
    assert.is_nil(text_of(state):find "例え")
    shows("10.0.0.2", state)
    type_in(state, "enter")
    shows("1 row, as they come  /Ref", state)
    type_in(state, "escape")
    shows("例え", state)
    type_in(state, "/", "例", "え", "enter")
    assert.is_nil(text_of(state):find("10.0.0.2", 1, true))
    type_in(state, "/", "q", "up")   -- a letter here, and no key
    shows("no row has the text 例えq", state)
    type_in(state, "ctrl-u", "backspace", "escape")
    shows("2 rows", state)
  end)

  it("choose one pool after the other", function()
    local state = new(function(made)
      made.pools[2] = answer().pools[1]
      made.pools[2].name = "cache"
    end)
    shows("\nPOOL +BACKEND", state)
    shows("4 rows", state)
    type_in(state, "p", "p")
    shows("2 rows, as they come  pool cache", state)
    type_in(state, "p")
    shows("4 rows", state)
  end)

  it("hold the picture while the program goes on, and let it go", function()
    local state = new()
    type_in(state, " ")
    model.snapshot(state, answer(function(_, _, db1) db1.reason = "new" end), NOW + 5)
    model.event(state, { message = "an event" })
    shows("PAUSED at " .. os.date("%H:%M:%S", NOW) .. "\n", state)
    assert.is_nil(text_of(state):find " new")
    type_in(state, "4")
    assert.is_nil(text_of(state):find "an event")
    type_in(state, " ")
    shows("an event", state)
    type_in(state, "1")
    shows(" new", state)
  end)

  it("scroll, no further than there are rows", function()
    local state = new(function(_, pool)
      for index = 1, 50 do pool.backends[index] = { key = ("b%02d"):format(index), state = "up" } end
    end)
    local function first() return text_of(state, 100, 20):match "\nBACKEND[^\n]*\n(%S+)" end
    local _, room = draw.lines(state, 100, 20, NOW)
    assert.equal("b01", first())
    local function press(key) model.key(state, key, room) end
    press "down" press "j"
    assert.equal("b03", first())
    press "page_down"
    assert.equal(("b%02d"):format(3 + room), first())
    press "end" press "down"
    assert.equal(("b%02d"):format(51 - room), first())
    press "up" press "k"
    assert.equal(("b%02d"):format(49 - room), first())
    press "home" press "page_up"
    assert.equal("b01", first())
  end)

  it("show help and quit", function()
    local state = new()
    type_in(state, "2", "?")
    shows("Space +hold the picture", state)
    type_in(state, "?")
    shows("CLAIMED AT", state)
    type_in(state, "h", "escape")
    shows("CLAIMED AT", state)
    assert.equal("quit", type_in(state, "q"))
    assert.equal("interrupt", type_in(state, "ctrl-c"))
    assert.equal("redraw", type_in(state, "ctrl-l"))
    assert.is_nil(type_in(state, "x"))
    assert.is_nil(type_in(state, "unknown"))
  end)

  it("have the same names in the help as they have", function()
    local text = {}
    for _, one in ipairs(draw.HELP) do text[#text + 1] = one[1] end
    text = table.concat(text, ", ")
    for _, name in ipairs { "1, 2, 3, 4, Tab", "s, S, r", "/", "p", "Space", "Up, Down, j, k", "?, h", "q, Ctrl-C" } do
      assert.is_truthy(text:find(name, 1, true), name)
    end
  end)
end)

describe("what a terminal sends", function()
  it("is read as keys, however it is cut", function()
    local function read(...)
      local parser, found = keys_of.new(), {}
      for _, bytes in ipairs { ... } do
        for _, key in ipairs(parser:feed(bytes)) do found[#found + 1] = key end
      end
      return table.concat(found, " ")
    end
    assert.equal("a up down page_down home end", read "a\27[A\27OB\27[6~\27[H\27[4~")
    assert.equal("up a", read("\27[", "A", "a"))
    assert.equal("日 é", read("\230\151", "\165\195", "\169"))
    assert.equal("escape", read "\27")
    assert.equal("escape q", read "\27q")
    assert.equal("ctrl-c ctrl-z enter tab backspace", read "\3\26\r\t\127")
    assert.equal("unknown a", read "\27[1;5Pa")
    assert.equal("unknown", read("\27[" .. ("1"):rep(40)))
  end)
end)

describe("a painter", function()
  it("sends only the lines that have changed, and all when the size is another", function()
    local one = painter.new { has_color = true, is_ascii = false }
    local function frame(columns, ...)
      local lines = {}
      for index, text in ipairs { ... } do lines[index] = { { text, "red" } } end
      return one:frame(lines, columns, #lines)
    end
    assert.equal("\27[2J\27[1;1H\27[31mab\27[0m\27[K\27[2;1H\27[31mcd\27[0m\27[K", frame(4, "ab", "cd"))
    assert.equal("", frame(4, "ab", "cd"))
    assert.equal("\27[2;1H\27[31mabcd\27[0m", frame(4, "ab", "abcd"))
    assert.matches("^\27%[2J.*ab.*abcd", frame(5, "ab", "abcd"))
    one:forget()
    assert.matches("^\27%[2J.*ab.*abcd", frame(5, "ab", "abcd"))
  end)

  it("uses no colours and no UTF-8 where there are none", function()
    local pieces = { { "▁▅… é", "red" }, { "x", "bold" }, { "y", "reverse" } }
    assert.equal("_+~ ?\27[1mx\27[0m\27[7my\27[0m", line.render(pieces, { has_color = false, is_ascii = true }))
    assert.equal("▁▅… éxy", line.render(pieces, { is_plain = true }))
  end)
end)

describe("the width of a text", function()
  it("is that of its characters", function()
    assert.equal(4, width.of "日本")
    assert.equal(1, width.of "e\204\129")   -- an accent of its own
    assert.equal("日本…", width.cut("日本語x", 5))
    assert.equal("日…", width.cut("日本語x", 4))
    assert.equal("", width.cut("日", 0))
    assert.equal("  日", width.pad("日", 4, true))
    assert.equal("日  ", width.pad("日", 4))
  end)
end)

describe("words of a screen", function()
  it("are short", function()
    local cases = { [0.04] = "0.0 ms", [9.94] = "9.9 ms", [35] = "35 ms", [1234] = "1.2 s", [12345] = "12 s", [3600000] = "60 min",
      [7200000] = "2 h", [86400000 * 3] = "3 d" }
    for ms, text in pairs(cases) do assert.equal(text, words.span(ms)) end
    for _, value in ipairs { {}, "x", 0 / 0, math.huge } do
      assert.equal("-", words.span(value))
      assert.equal("-", words.count(value))
      assert.equal("-", words.share(value))
    end
    assert.equal("▁▄█", words.spark({ 0, 5, 10 }, 3))
    assert.equal("  ▁", words.spark({ 0 }, 3))
    assert.equal("▄▁", words.spark({ 9, 0.5, 0 }, 2, 1))
  end)
end)
