--- Rows in columns, as wide as they must be: where the screen is too narrow, those that matter least are left out.
local line = require "cueball.cli.screen.line"
local width = require "cueball.cli.width"

local columns = {}

local GAP = 2
local REST_MIN = 24   -- columns that the last one should have
local UNLIMITED = 1000   -- no screen is so wide: nothing is cut then

local function cells_of(column, rows, has_limits)
  local cells, widest = {}, width.of(column.title)
  for index, row in ipairs(rows) do
    cells[index] = column.text(row)
    widest = math.max(widest, width.of(cells[index]))
  end
  local is_limited = has_limits and column.limit
  return { column = column, cells = cells, width = is_limited and math.min(widest, math.max(column.limit, #column.title)) or widest }
end

-- Leaves out what matters least, until the others fit. The last one takes what is left, or it goes, too.
local function fit(list, available)
  local function needed()
    local sum = -GAP
    for _, one in ipairs(list) do sum = sum + GAP + (one.column.is_rest and math.min(one.width, REST_MIN) or one.width) end
    return sum
  end
  while #list > 1 and needed() > available do
    local least = 1
    for index, one in ipairs(list) do
      if one.column.weight < list[least].column.weight then least = index end
    end
    table.remove(list, least)
  end
  for _, one in ipairs(list) do
    if one.column.is_rest then one.width = math.max(0, math.min(one.width, available - (needed() - math.min(one.width, REST_MIN)))) end
  end
  return list
end

local function line_of(list, text_of, style_of)
  local pieces = {}
  for index, one in ipairs(list) do
    if index > 1 then pieces[#pieces + 1] = (" "):rep(GAP) end
    local text = width.pad(text_of(one), one.width, one.column.is_number)
    pieces[#pieces + 1] = { text, style_of(one) }
  end
  return pieces
end

--- @param given list of { title =, text = function(row) → string, style = function(row) → style or nil, is_number =, weight = how much it
--   matters, limit = so many columns at most, is_rest = it takes what is left, is_optional = it goes where it is
--   empty, key = the name that it is sorted by }
-- @param rows list
-- @param available columns of the screen
-- @param sort the key that the rows are sorted by, or nil
-- @return the line of titles, and a list of lines
function columns.lines(given, rows, available, sort)
  local list = {}
  for _, column in ipairs(given) do
    local one = cells_of(column, rows, available < UNLIMITED)
    if not column.is_optional or table.concat(one.cells) ~= "" then list[#list + 1] = one end
  end
  list = fit(list, available)
  local head = line_of(list, function(one) return one.column.title end, function(one)
    return one.column.key == sort and sort and "reverse" or "bold"
  end)
  local made = {}
  for index, row in ipairs(rows) do
    local pieces = line_of(list, function(one) return one.cells[index] end, function(one)
      return one.column.style and one.column.style(row) or nil
    end)
    made[index] = line.cut(pieces, available)
  end
  return line.cut(head, available), made
end

return columns
