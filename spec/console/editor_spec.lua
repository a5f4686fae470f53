--- The line that is being typed: keys, what they do, and how it stands on the screen.
local characters = require "cueball.console.editor.characters"
local keys = require "cueball.console.editor.keys"
local lines = require "cueball.console.editor.line"
local screens = require "cueball.console.editor.screen"

-- The keys in bytes, as words.
local function keys_in(decoder, bytes)
  local words = {}
  for index, key in ipairs(decoder:feed(bytes)) do words[index] = key.name .. (key.text and ":" .. key.text or "") end
  return table.concat(words, " ")
end

describe("bytes of a terminal", function()
  it("are keys", function()
    assert.equal("text:abc enter", keys_in(keys.new(), "abc\r"))
    assert.equal("up down right left home end delete", keys_in(keys.new(), "\27[A\27[B\27OC\27[D\27[H\27[4~\27[3~"))
    assert.equal("word_left word_right cut_word line", keys_in(keys.new(), "\27b\27[1;5C\23\27\r"))
    assert.equal("home interrupt end_of_input erase tab", keys_in(keys.new(), "\1\3\4\127\t"))
    assert.equal("text:ä text:日 text:x", keys_in(keys.new(), "ä日x"))
  end)

  it("that are no key of ours are passed over", function()
    assert.equal("text:a", keys_in(keys.new(), "\27[99;99R\27[24~\27xa"))
  end)

  it("may come in pieces", function()
    local whole = "x\27[1;5Cä日\27[200~p\nq\27[201~y"
    for cut = 1, #whole - 1 do
      local decoder = keys.new()
      local words = keys_in(decoder, whole:sub(1, cut)) .. " " .. keys_in(decoder, whole:sub(cut + 1))
      assert.equal("text:x word_right text:ä text:日 paste:p\nq text:y", (words:gsub("^%s+", ""):gsub("%s+$", ""):gsub("  +", " ")), cut)
    end
  end)

  it("that were pasted are one key, tabs and line ends too", function()
    assert.equal("paste:a\tb\r\27[Ac", keys_in(keys.new(), "\27[200~a\tb\r\27[Ac\27[201~"))
  end)

  it("that are broken are no end of it", function()
    local decoder = keys.new()
    for _ = 1, 200 do decoder:feed "\27[" end
    assert.is_true(#decoder.rest < 100)
    assert.equal("text:\255", keys_in(keys.new(), "\255"))
  end)
end)

describe("a character", function()
  it("takes as many columns as the terminal gives it, in prompts and in top", function()
    local cases = { a = 1, ["ä"] = 1, ["日"] = 2, ["⌚"] = 2, ["ก"] = 1, ["\204\129"] = 0, ["\224\184\177"] = 0 }
    for character, columns in pairs(cases) do
      assert.equal(columns, characters.width(character, 1, #character), character)
      assert.equal(columns, require("cueball.cli.width").of(character), character)
    end
  end)
end)

describe("a line", function()
  local function typed(...)
    local line, history = lines.new {}, nil
    for index = 1, select("#", ...) do
      local what = select(index, ...)
      if what:find "^<.*>$" then line:press { name = what:match "<(.*)>" } else line:press { name = "text", text = what } end
    end
    return line.text:sub(1, line.at) .. "|" .. line.text:sub(line.at + 1), history
  end

  it("is written in, and moved in by whole characters", function()
    assert.equal("abc|", typed("abc"))
    assert.equal("aäX|b", typed("aäb", "<left>", "X"))
    assert.equal("|日本", typed("日本", "<left>", "<left>", "<left>"))
    assert.equal("日|本", typed("日本", "<home>", "<right>"))
    assert.equal("e\204\129|", typed("e\204\129x", "<erase>")) -- an accent stands on its letter
    assert.equal("|", typed("e\204\129", "<erase>"))
  end)

  it("is moved in by words", function()
    assert.equal("one |two", typed("one two", "<word_left>"))
    assert.equal("|one.two", typed("one.two", "<word_left>", "<word_left>"))
    assert.equal("one.two|", typed("one.two", "<home>", "<word_right>", "<word_right>"))
  end)

  it("is cut in, and what was cut is put elsewhere", function()
    assert.equal("one |", typed("one two", "<cut_word>"))
    assert.equal("twoone |", typed("one two", "<cut_word>", "<home>", "<insert_cut>", "<end>"))
    assert.equal("|two", typed("one two", "<word_left>", "<cut_begin>"))
    assert.equal("one |", typed("one two", "<word_left>", "<cut_end>"))
    assert.equal("|wo", typed("two", "<home>", "<delete>"))
    assert.equal("one| two", typed("one xtwo", "<home>", "<word_right>", "<right>", "<delete>", "<left>"))
    assert.equal("ab|", typed("ba", "<swap>"))
  end)

  it("may have several lines", function()
    local line = lines.new {}
    line:press { name = "paste", text = "for i = 1, 2 do\r\tprint(i)\r\nend" }
    assert.equal("for i = 1, 2 do\n\tprint(i)\nend", line.text)
    line:press { name = "up" }
    assert.equal("for i = 1, 2 do\n\tpr", line.text:sub(1, line.at))
    line:press { name = "home" }
    assert.equal("for i = 1, 2 do\n", line.text:sub(1, line.at))
    line:press { name = "down" }
    assert.equal(#line.text - 3, line.at)
  end)

  it("says what is to be done", function()
    local line = lines.new {}
    local expected = { enter = "submit", tab = "complete", interrupt = "interrupt", end_of_input = "end_of_input", clear = "clear" }
    for name, what in pairs(expected) do
      assert.equal(what, line:press { name = name })
    end
    line:insert "x"
    assert.is_nil(line:press { name = "end_of_input" }) -- there is something to lose
    assert.is_nil(line:press { name = "nothing of ours" })
  end)

  it("goes through the history, entries of several lines whole", function()
    local line = lines.new { "one", "two\nlines", "three" }
    line:insert "now"
    local seen = {}
    for index = 1, 5 do
      line:press { name = "page_up" }
      seen[index] = line.text
    end
    assert.same({ "three", "two\nlines", "one", "one", "one" }, seen)
    line:press { name = "down" }
    assert.equal("two\nlines", line.text)
    line:press { name = "last" }
    assert.equal("now", line.text)
    line:press { name = "down" }
    assert.equal("now", line.text)
  end)

  it("is sought in the history", function()
    local line = lines.new { "pool:claim()", "print(1)", "pool:stats()" }
    line:insert "kept"
    line:press { name = "search" }
    line:press { name = "text", text = "pool" }
    assert.equal("pool:stats()", line.text)
    line:press { name = "search" }
    assert.equal("pool:claim()", line.text)
    line:press { name = "search" }
    assert.is_true(line.search.is_failing)
    line:press { name = "cancel" }
    assert.equal("kept", line.text)
    line:press { name = "search" }
    line:press { name = "text", text = "print" }
    assert.equal("submit", line:press { name = "enter" })
    assert.equal("print(1)", line.text)
  end)

  it("takes nothing of a paste that acts on a terminal", function()
    local line = lines.new {}
    line:press { name = "paste", text = "a\27[31mb\0c\127\td" }
    assert.equal("a[31mbc\td", line.text)
  end)
end)

-- A terminal as far as the screen uses one: rows of characters, and a cursor.
local function terminal(columns, rows)
  local self = { grid = { {} }, row = 1, column = 0, columns = columns, rows = rows }
  local function put(text, width)
    if self.column + width > columns then
      self.row, self.column = self.row + 1, 0
      self.grid[self.row] = self.grid[self.row] or {}
    end
    self.grid[self.row][self.column + 1] = text
    for index = 2, width do self.grid[self.row][self.column + index] = "" end
    self.column = self.column + width
  end
  function self.write(bytes)
    local at = 1
    while at <= #bytes do
      local number, final, behind = bytes:match("^\27%[(%d*)(%a)()", at)
      number = tonumber(number) or 1
      if final == "A" then self.row = math.max(1, self.row - number) end
      if final == "C" then self.column = self.column + number end
      if final == "J" then
        for row = self.row + 1, #self.grid do self.grid[row] = nil end
        for column = self.column + 1, columns do self.grid[self.row][column] = nil end
      end
      local byte = bytes:byte(at)
      if not final and byte == 13 then self.column = 0 end
      if not final and byte == 10 then
        self.row = self.row + 1
        self.grid[self.row] = self.grid[self.row] or {}
      end
      if not final and byte ~= 13 and byte ~= 10 then
        behind = at + characters.length(bytes, at)
        put(bytes:sub(at, behind - 1), characters.width(bytes, at, behind - at))
      end
      at = behind or at + 1
    end
  end
  function self.text()
    local lines_of = {}
    for row = 1, #self.grid do lines_of[row] = (table.concat(self.grid[row]):gsub("%s+$", "")) end
    return table.concat(lines_of, "\n")
  end
  return self
end

describe("an input on the screen", function()
  local function input(text, at)
    return { prompt = "> ", more = ">> ", text = text, at = at or #text }
  end

  it("stands in rows as wide as the screen, with the cursor in its place", function()
    local seen, screen = terminal(10, 24), screens.new { columns = 10, rows = 24 }
    seen.write(screen:draw(input "abc"))
    assert.same({ "> abc", 1, 5 }, { seen.text(), seen.row, seen.column })
    seen.write(screen:draw(input("0123456789abcdef", 3)))
    assert.same({ "> 01234567\n89abcdef", 1, 5 }, { seen.text(), seen.row, seen.column })
    seen.write(screen:draw(input "01234567"))
    assert.same({ "> 01234567\n", 2, 0 }, { seen.text(), seen.row, seen.column })
    seen.write(screen:draw(input "x"))
    assert.equal("> x", seen.text())
  end)

  it("has wide characters whole, and tabs as blanks", function()
    local seen, screen = terminal(10, 24), screens.new { columns = 10, rows = 24 }
    seen.write(screen:draw(input "日本語日本"))
    assert.same({ "> 日本語日\n本", 2, 2 }, { seen.text(), seen.row, seen.column })
    seen.write(screen:draw(input "\tx\27"))
    assert.equal(">     x?", seen.text())
  end)

  it("has its further lines behind a prompt of their own", function()
    local seen, screen = terminal(20, 24), screens.new { columns = 20, rows = 24 }
    seen.write(screen:draw(input("for\nend", 2)))
    assert.same({ "> for\n>> end", 1, 4 }, { seen.text(), seen.row, seen.column })
  end)

  it("makes room for what is printed, and is drawn below", function()
    local seen, screen = terminal(10, 24), screens.new { columns = 10, rows = 24 }
    seen.write(screen:draw(input("0123456789abcdef", 12)))
    seen.write(screen:erase() .. "printed\r\n" .. screen:draw(input("0123456789abcdef", 12)))
    assert.same({ "printed\n> 01234567\n89abcdef", 3, 4 }, { seen.text(), seen.row, seen.column })
  end)

  it("that is taller than the screen is shown around its cursor", function()
    local rows = {}
    for index = 1, 200 do rows[index] = "line" .. index end
    local text = table.concat(rows, "\n")
    local seen, screen = terminal(20, 10), screens.new { columns = 20, rows = 10 }
    seen.write(screen:draw(input(text)))
    assert.equal(9, select(2, seen.text():gsub("[^\n]+", "")))
    assert.is_truthy(seen.text():find "line200$")
    seen.write(screen:draw(input(text, 0)))
    assert.is_truthy(seen.text():find "^> line1\n")
    local bytes, count = screen:leave(input(text))
    assert.equal(200, count)
    assert.equal(200, select(2, bytes:gsub("line", "")))
  end)

  it("is drawn anew when the size is another", function()
    local screen = screens.new { columns = 20, rows = 24 }
    screen:draw(input "0123456789012345678901234")     -- two rows of 20
    assert.equal("\r\27[2A\27[J", screen:resized(10, 24)) -- which are three and a bit of 10
    assert.equal("", screen:resized(30, 24))             -- nothing is drawn
  end)
end)
