--- Texts in columns of a terminal: how wide one is, and one made as wide as it is to be. cueball.console.editor.characters knows how wide a
-- character is.
--
-- Texts are UTF-8 without control characters, as cueball.text.clean makes them.
local characters = require "cueball.console.editor.characters"

local width = {}

--- The columns that a text takes.
function width.of(text)
  if not text:find "[\128-\255]" then return #text end
  return characters.columns(text)
end

--- As much of a text as fits, with "…" at its end where something is missing.
-- @param columns a whole number from 0
function width.cut(text, columns)
  if width.of(text) <= columns then return text end
  if columns < 1 then return "" end
  local at, left = 1, columns - 1
  while at <= #text do
    local length = characters.length(text, at)
    left = left - characters.width(text, at, length)
    if left < 0 then break end
    at = at + length
  end
  return text:sub(1, at - 1) .. "…"
end

--- Exactly so many columns of it: cut, or filled up with blanks.
-- @param is_right whether the text stands at the right, as numbers do
function width.pad(text, columns, is_right)
  text = width.cut(text, columns)
  local blanks = (" "):rep(columns - width.of(text))
  return is_right and blanks .. text or text .. blanks
end

return width
