--- What a word could become, for the editors of the prompt: how far it can be completed, and the list that is shown.
local characters = require "cueball.console.editor.characters"
local text = require "cueball.text"

local candidates = {}

local SHOWN_MAX = 30 -- rows

--- What all candidates begin with.
-- @param list of { text =, note = or nil }, with one at least
function candidates.common(list)
  local common = list[1].text
  for _, one in ipairs(list) do
    local length = 0
    while length < #common and common:byte(length + 1) == one.text:byte(length + 1) do length = length + 1 end
    common = common:sub(1, length)
  end
  return characters.cut(common, #common)
end

--- Each with its note on a line of its own; or, without notes, beside each other.
function candidates.text(list, columns)
  local width, has_notes, rows = 0, false, {}
  for _, one in ipairs(list) do
    width = math.max(width, characters.columns(one.text))
    has_notes = has_notes or one.note ~= nil
  end
  local in_row = has_notes and 1 or math.max(1, math.floor(columns / (width + 2)))
  local shown = math.min(#list, has_notes and SHOWN_MAX or SHOWN_MAX * in_row)
  for first = 1, shown, in_row do
    local cells = {}
    for index = first, math.min(first + in_row - 1, shown) do
      local one = list[index]
      cells[#cells + 1] = one.text .. (" "):rep(width - characters.columns(one.text)) .. (one.note and "  " .. one.note or "")
    end
    rows[#rows + 1] = text.trimmed_end(table.concat(cells, "  "))
  end
  if shown < #list then rows[#rows + 1] = ("… %d more"):format(#list - shown) end
  return table.concat(rows, "\n")
end

return candidates
