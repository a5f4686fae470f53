--- The input that is being typed: a text of one or more lines, a cursor, and what keys do to them. No I/O.
--
--   local line = require("cueball.console.editor.line").new(history)      history: a list of texts, the latest last
--   line:press { name = "text", text = "x" }    → nil, or what is to be done:
--       "submit", "complete", "interrupt", "end_of_input", "clear" (the screen)
--   line.text, line.at                          the cursor is behind that many bytes
--   line:insert(text)                           at the cursor
local characters = require "cueball.console.editor.characters"

local line = {}

local Line = {}
Line.__index = Line

--- @param history a list of texts; whoever has it adds to it
function line.new(history)
  return setmetatable({
    text = "", at = 0,
    cut = "",            -- what Ctrl-K and its like took away last
    history = history, place = nil, -- in the history; nil: at its end, below it
    kept = "",           -- what was being typed when the history was entered
    search = nil,        -- { needle =, place =, before =, at_before = } while Ctrl-R is on
  }, Line)
end

--- Another text, with the cursor at its end, or at the place.
function Line:set(text, at)
  self.text, self.at = text, at or #text
end

--- Empties it; what comes next is new.
function Line:clear()
  self:set ""
  self.place, self.kept, self.search = nil, "", nil
end

function Line:insert(text)
  self.text = self.text:sub(1, self.at) .. text .. self.text:sub(self.at + 1)
  self.at = self.at + #text
end

-- Takes away the bytes between two places.
local function take(self, from, to)
  local taken = self.text:sub(from + 1, to)
  self.text = self.text:sub(1, from) .. self.text:sub(to + 1)
  self.at = from
  return taken
end

local function line_begin(self)
  return #(self.text:sub(1, self.at):match "^(.*\n)" or "")
end

local function line_end(self)
  return (self.text:find("\n", self.at + 1, true) or #self.text + 1) - 1
end

local function word_before(self)
  local head = self.text:sub(1, self.at):gsub("[^%w_\128-\255]+$", "", 1)
  return #head:gsub("[%w_\128-\255]+$", "", 1)
end

local function word_behind(self)
  return select(2, self.text:find("^[^%w_\128-\255]*[%w_\128-\255]*", self.at + 1))
end

-- ----------------------------------------------------------------- history --

local function go(self, place)
  local history = self.history
  if place < 1 then return end
  if not self.place then self.kept = self.text end
  if place > #history then
    self.place = nil
    return self:set(self.kept)
  end
  self.place = place
  self:set(history[place])
end

-- The cursor one line up or down, if there is one; what it stands under counts in characters.
local function move_line(self, by)
  local begin = line_begin(self)
  if by < 0 and begin == 0 or by > 0 and line_end(self) == #self.text then return false end
  local columns = characters.columns(self.text:sub(begin + 1, self.at))
  local at = by < 0 and #(self.text:sub(1, begin - 1):match "^(.*\n)" or "") or line_end(self) + 1
  local stop = by < 0 and begin - 1 or (self.text:find("\n", at + 1, true) or #self.text + 1) - 1
  while at < stop and columns > 0 do
    local following = characters.behind(self.text, at)
    columns = columns - characters.columns(self.text:sub(at + 1, following))
    if columns < 0 then break end
    at = following
  end
  self.at = at
  return true
end

-- ------------------------------------------------------------------ search --

-- The latest entry at or before the place that has the needle; the place stays if there is none.
local function find(self, from)
  local search = self.search
  for place = math.min(from, #self.history), 1, -1 do
    local at = self.history[place]:find(search.needle, 1, true)
    if at then
      search.place, search.is_failing = place, false
      return self:set(self.history[place], at - 1)
    end
  end
  search.is_failing = true
end

local function press_in_search(self, key)
  local search = self.search
  if key.name == "text" then
    search.needle = search.needle .. key.text
    find(self, search.place)
  elseif key.name == "erase" then
    search.needle = search.needle:sub(1, characters.before(search.needle, #search.needle))
    search.place = #self.history
    find(self, search.place)
  elseif key.name == "search" then
    find(self, search.place - 1)
  elseif key.name == "cancel" or key.name == "interrupt" then
    self:set(search.before, search.at_before)
    self.search = nil
  else
    if search.place <= #self.history and not search.is_failing then self.place = search.place end
    self.search = nil
    return false
  end
  return true
end

-- -------------------------------------------------------------------- keys --

local PRESS = {
  text = function(self, key) self:insert(key.text) end,
  -- A paste is never run by itself: its lines stand there to be looked at. Tabs do not complete.
  paste = function(self, key)
    self:insert((key.text:gsub("\r\n?", "\n"):gsub("[%z\1-\8\11-\31\127]", "")))
  end,
  line = function(self) self:insert "\n" end,
  left = function(self) self.at = characters.before(self.text, self.at) end,
  right = function(self) self.at = characters.behind(self.text, self.at) end,
  word_left = function(self) self.at = word_before(self) end,
  word_right = function(self) self.at = word_behind(self) end,
  home = function(self) self.at = line_begin(self) end,
  ["end"] = function(self) self.at = line_end(self) end,
  erase = function(self) take(self, characters.before(self.text, self.at), self.at) end,
  delete = function(self) take(self, self.at, characters.behind(self.text, self.at)) end,
  cut_end = function(self)
    local stop = line_end(self)
    self.cut = take(self, self.at, stop == self.at and math.min(stop + 1, #self.text) or stop)
  end,
  cut_begin = function(self) self.cut = take(self, line_begin(self), self.at) end,
  cut_word = function(self) self.cut = take(self, word_before(self), self.at) end,
  delete_word = function(self) self.cut = take(self, self.at, word_behind(self)) end,
  insert_cut = function(self) self:insert(self.cut) end,
  swap = function(self)
    local behind = self.at < #self.text and characters.behind(self.text, self.at) or self.at
    local middle = characters.before(self.text, behind)
    local first = characters.before(self.text, middle)
    if first == middle then return end
    local text = self.text
    self.text = text:sub(1, first) .. text:sub(middle + 1, behind) .. text:sub(first + 1, middle) .. text:sub(behind + 1)
    self.at = behind
  end,
  up = function(self)
    if not move_line(self, -1) then go(self, (self.place or #self.history + 1) - 1) end
  end,
  down = function(self)
    if not move_line(self, 1) and self.place then go(self, self.place + 1) end
  end,
  page_up = function(self) go(self, (self.place or #self.history + 1) - 1) end,
  page_down = function(self) if self.place then go(self, self.place + 1) end end,
  first = function(self) go(self, math.min(1, #self.history)) end,
  last = function(self) if self.place then go(self, #self.history + 1) end end,
  search = function(self)
    self.search = { needle = "", place = #self.history, before = self.text, at_before = self.at, is_failing = false }
  end,
  enter = function() return "submit" end,
  tab = function() return "complete" end,
  clear = function() return "clear" end,
  interrupt = function() return "interrupt" end,
  end_of_input = function(self)
    if self.text == "" then return "end_of_input" end
    take(self, self.at, characters.behind(self.text, self.at))
  end,
}

--- A key was pressed.
-- @param key of cueball.console.editor.keys
-- @return what is to be done, see above; nil: nothing but to show it
function Line:press(key)
  if self.search and press_in_search(self, key) then return nil end
  local press = PRESS[key.name]
  if press then return press(self, key) end
  return nil
end

--- The word before the cursor was completed.
-- @param from where it begins, as a byte
function Line:replace(from, text)
  self.text = self.text:sub(1, from - 1) .. text .. self.text:sub(self.at + 1)
  self.at = from - 1 + #text
end

--- Whether the cursor stands in white space at the beginning of a line: Tab indents there.
function Line:is_at_indent()
  return not self.text:sub(line_begin(self) + 1, self.at):find "%S"
end

return line
