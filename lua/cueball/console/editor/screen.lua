--- Where an input stands on the screen, and the bytes that put it there. No I/O: what it returns is to be written to the terminal.
--
--   local screen = require("cueball.console.editor.screen").new { columns = 80, rows = 24 }
--   screen:draw { prompt = "> ", more = ">> ", text = line.text, at = line.at }   → bytes
--   screen:erase()                                                               → bytes; the cursor is where the input began
--   screen:resized(columns, rows)                                                → bytes; draw afterwards
--
-- Each row is written by itself, so the terminal joins none of them; an input that is taller than the screen is shown around its cursor.
local characters = require "cueball.console.editor.characters"

local screen = {}

local TAB = "    "

local Screen = {}
Screen.__index = Screen

function screen.new(size)
  return setmetatable({
    columns = size.columns, rows = size.rows,
    drawn = nil,   -- { widths = of its rows, cursor = row of the cursor, column = of it }; nil: nothing is on the screen
  }, Screen)
end

-- What stands for a character.
local function shown(text, at, length)
  local character = text:sub(at, at + length - 1)
  if character == "\t" then return TAB, #TAB end
  if character:find "^[%z\1-\31\127]" then return "?", 1 end
  if length == 1 and character:byte() >= 0x80 then return "?", 1 end
  return character, characters.width(text, at, length)
end

local Layout = {}
Layout.__index = Layout

function Layout:break_row()
  self.rows[#self.rows + 1] = { text = table.concat(self.parts), width = self.width }
  self.parts, self.width = {}, 0
end

function Layout:put(text, width)
  if self.width + width > self.columns then self:break_row() end
  self.parts[#self.parts + 1] = text
  self.width = self.width + width
end

function Layout:mark()
  if self.width >= self.columns then self:break_row() end
  self.cursor, self.column = #self.rows + 1, self.width
end

-- The rows of an input, and where its cursor is.
local function layout_of(columns, input)
  local layout = setmetatable({ columns = columns, rows = {}, parts = {}, width = 0, cursor = nil, column = nil }, Layout)
  layout:put(input.prompt, characters.columns(input.prompt))
  local text, at = input.text, 1
  while at <= #text do
    if at == input.at + 1 then layout:mark() end
    if text:byte(at) == 10 then
      layout:break_row()
      layout:put(input.more, characters.columns(input.more))
      at = at + 1
    else
      local length = characters.length(text, at)
      layout:put(shown(text, at, length))
      at = at + length
    end
  end
  if not layout.cursor then layout:mark() end
  layout:break_row()
  return layout
end

-- The rows that are shown: all, or as many as fit, with the cursor's among them.
local function window(self, layout)
  local most = math.max(1, self.rows - 1)
  local first = math.max(1, math.min(layout.cursor - math.floor(most / 2), #layout.rows - most + 1))
  return first, math.min(#layout.rows, first + most - 1)
end

-- A row with its prompt in colours.
local function painted(input, words, is_first)
  local prompt = is_first and input.prompt or input.more
  if not input.paint or words:sub(1, #prompt) ~= prompt then return words end
  return input.paint(prompt) .. words:sub(#prompt + 1)
end

--- Takes the input off the screen.
function Screen:erase()
  local drawn = self.drawn
  self.drawn = nil
  if not drawn then return "" end
  return "\r" .. (drawn.cursor > 1 and ("\27[%dA"):format(drawn.cursor - 1) or "") .. "\27[J"
end

--- Shows it, in the place of what was shown before.
-- @param input { prompt =, more = prompt of further lines, text =, at =, paint = function(prompt) → with colours, or nil }
function Screen:draw(input)
  local layout = layout_of(self.columns, input)
  local first, last = window(self, layout)
  local parts, widths = { self:erase() }, {}
  for index = first, last do
    local row = layout.rows[index]
    parts[#parts + 1] = painted(input, row.text, index == 1) .. (index < last and "\r\n" or "")
    widths[#widths + 1] = row.width
  end
  local cursor, up = layout.cursor - first + 1, last - layout.cursor
  parts[#parts + 1] = (up > 0 and ("\27[%dA"):format(up) or "") .. "\r"
    .. (layout.column > 0 and ("\27[%dC"):format(layout.column) or "")
  self.drawn = { widths = widths, cursor = cursor, column = layout.column }
  return table.concat(parts)
end

--- The input stays on the screen, all of it, and the cursor goes onto a line of its own.
-- @return bytes, and how many rows it takes
function Screen:leave(input)
  local layout, parts = layout_of(self.columns, input), { self:erase() }
  for _, row in ipairs(layout.rows) do parts[#parts + 1] = painted(input, row.text, #parts == 1) .. "\r\n" end
  return table.concat(parts), #layout.rows
end

--- The same input goes on: takes back what leave did, if nothing was written since.
-- @param count of rows
function Screen:resume(count)
  return ("\27[%dA\r\27[J"):format(math.min(count, self.rows - 1))
end

--- The terminal has another size: it has broken the rows anew.
-- @return bytes that take away what it made of them
function Screen:resized(columns, rows)
  local drawn = self.drawn
  self.columns, self.rows = columns, rows
  if not drawn then return "" end
  local above = math.floor(drawn.column / columns)
  for index = 1, drawn.cursor - 1 do above = above + math.max(1, math.ceil(drawn.widths[index] / columns)) end
  drawn.cursor = math.min(above, rows - 1) + 1
  return self:erase()
end

return screen
