--- Lines of a screen: lists of pieces, each a text or { text, style }. They are made without a terminal, and rendered for one.
--
-- Styles are colours of the terminal's own sixteen, so that they suit its theme; what they say stands there in words, too.
local width = require "cueball.cli.width"

local line = {}

local COLORS = { red = "31", green = "32", yellow = "33", blue = "34", magenta = "35", cyan = "36", dim = "2" }
local OTHERS = { bold = "1", reverse = "7" }
local ASCII = {
  ["…"] = "~", ["▁"] = "_", ["▂"] = ".", ["▃"] = "-", ["▄"] = "=", ["▅"] = "+", ["▆"] = "*", ["▇"] = "#", ["█"] = "@",
}

local function parts_of(piece)
  if type(piece) == "table" then return piece[1], piece[2] end
  return piece
end

--- The columns that a line takes.
function line.width(pieces)
  local columns = 0
  for _, piece in ipairs(pieces) do columns = columns + width.of((parts_of(piece))) end
  return columns
end

--- As much of a line as fits.
function line.cut(pieces, columns)
  local made, left = {}, columns
  for _, piece in ipairs(pieces) do
    local text, style = parts_of(piece)
    local needed = width.of(text)
    if needed > left then
      made[#made + 1] = { width.cut(text, left), style }
      break
    end
    made[#made + 1], left = piece, left - needed
  end
  return made
end

--- Without styles.
function line.plain(pieces)
  local texts = {}
  for index, piece in ipairs(pieces) do texts[index] = parts_of(piece) end
  return table.concat(texts)
end

-- A terminal that is not for UTF-8 gets a sign for each character that it has not.
local function to_ascii(text)
  return (text:gsub("[\194-\244][\128-\191]*", function(character) return ASCII[character] or "?" end))
end

--- For a terminal.
-- @param look { has_color =, is_ascii =, is_plain = without bold and the like, too }
function line.render(pieces, look)
  local texts = {}
  for index, piece in ipairs(pieces) do
    local text, style = parts_of(piece)
    if look.is_ascii then text = to_ascii(text) end
    local code = not look.is_plain and OTHERS[style] or look.has_color and COLORS[style]
    texts[index] = code and text ~= "" and ("\27[%sm%s\27[0m"):format(code, text) or text
  end
  return table.concat(texts)
end

return line
