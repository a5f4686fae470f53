--- Puts lines on a terminal: only those that have changed since the last time.
local line = require "cueball.cli.screen.line"

local painter = {}

local Painter = {}
Painter.__index = Painter

--- The other screen of the terminal, so that what stood there comes back; no cursor; no line goes on in the next.
painter.ENTER = "\27[?1049h\27[?25l\27[?7l\27[2J"
painter.LEAVE = "\27[0m\27[?7h\27[?25h\27[?1049l"

--- @param look { has_color =, is_ascii = }
function painter.new(look)
  return setmetatable({ look = look, before = {}, columns = 0, rows = 0 }, Painter)
end

--- The next frame is drawn whole.
function Painter:forget()
  self.before, self.columns = {}, 0
end

--- @return what to send to the terminal
function Painter:frame(lines, columns, rows)
  local parts = {}
  if columns ~= self.columns or rows ~= self.rows then
    self.before, self.columns, self.rows = {}, columns, rows
    parts[1] = "\27[2J"
  end
  for row, pieces in ipairs(lines) do
    local text = line.render(pieces, self.look)
    if text ~= self.before[row] then
      self.before[row] = text
      -- In the last column the cursor stands on the last sign, which would be erased, too.
      local rest = line.width(pieces) < columns and "\27[K" or ""
      parts[#parts + 1] = ("\27[%d;1H%s%s"):format(row, text, rest)
    end
  end
  return table.concat(parts)
end

return painter
