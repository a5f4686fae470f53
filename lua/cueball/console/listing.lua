--- Lists as consoles show them: rows with columns, as a table for people, as Lua or as JSON.
--
--   local list = listing.new({ { pool = "db", idle = 3 } }, { "pool", "idle" })
--   list.more = 12                  so many rows were left out
--   listing.text(list, "table")     "POOL  IDLE\ndb       3"
local json = require "cueball.monitor.json"
local show = require "cueball.console.show"
local text = require "cueball.text"

local listing = {}

local CELL_MAX = 60
local columns_of = setmetatable({}, { __mode = "k" })
local latest = setmetatable({}, { __mode = "k" }) -- lists whose last rows are wanted most

--- Marks rows as a list with these columns.
-- @param rows    list of tables
-- @param columns names of the members to show, in order; one that no row has is left out
-- @param is_latest true: the last rows are wanted most, as of what happened; what is left out was before them
function listing.new(rows, columns, is_latest)
  columns_of[rows], latest[rows] = columns, is_latest
  return rows
end

--- The first rows of a list, or the last ones, with the number of those left out as `more`.
function listing.limited(list, count)
  local from = latest[list] and math.max(0, #list - count) or 0
  local made = {}
  for index = 1, math.min(count, #list) do made[index] = list[from + index] end
  local more = #list - #made + (list.more or 0)
  if more > 0 then made.more = more end
  return listing.new(made, columns_of[list], latest[list])
end

--- Whether a value is such a list.
function listing.is(value)
  return columns_of[value] ~= nil
end

local UNITS = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" } }

-- 1234.5 → "1.23s"
local function span(ms)
  for _, unit in ipairs(UNITS) do
    if ms >= unit[1] then return ("%.3g%s"):format(ms / unit[1], unit[2]) end
  end
  return ("%.3gms"):format(ms)
end

-- A traceback in one line, the innermost call first.
local function frames(traceback)
  return text.clean((traceback:gsub("^stack traceback:%s*", ""):gsub("\n%s*", " < ")))
end

local function cell(name, value)
  if value == nil then return "" end
  if name == "where" and type(value) == "string" then return frames(value) end
  if type(value) == "number" then
    if name:find "_ms$" then return value < 1e9 * 1000 and span(value) or "-" end
    if name == "time_s" then return os.date("!%Y-%m-%d %H:%M:%SZ", value) end
    return value % 1 == 0 and math.abs(value) <= 2 ^ 53 and ("%.0f"):format(value) or ("%.6g"):format(value)
  elseif type(value) == "table" then
    if next(value) == nil then return "" end
    return (show.value(value, { width = 1e6, entries = 20 }):gsub("\n", " "))
  end
  local shown = text.clean(tostring(value))
  return shown
end

local function characters(value)
  return select(2, value:gsub("[^\128-\191]", ""))
end

local function is_wide(name)
  return name == "error" or name == "message" or name == "undo" or name == "who" or name == "site" or name == "key" or name == "backend"
    or name == "where"
end

local function cells_of(list, columns)
  local rows, widths, right, used = {}, {}, {}, {}
  for index, one in ipairs(list) do
    rows[index] = {}
    for at, name in ipairs(columns) do
      local shown = cell(name, one[name])
      if not is_wide(name) and characters(shown) > CELL_MAX then
        shown = shown:sub(1, CELL_MAX):gsub("[\192-\255]?[\128-\191]*$", "") .. "…"
      end
      rows[index][at] = shown
      widths[at] = math.max(widths[at] or 0, characters(shown))
      if type(one[name]) == "number" and name ~= "time_s" then right[at] = true end
      used[at] = used[at] or shown ~= ""
    end
  end
  return rows, widths, right, used
end

local function line_of(cells, widths, right, used)
  local parts = {}
  for at, shown in ipairs(cells) do
    if used[at] then
      local gap = (" "):rep(widths[at] - characters(shown))
      parts[#parts + 1] = right[at] and gap .. shown or shown .. gap
    end
  end
  return (table.concat(parts, "  "):gsub(" +$", ""))
end

local function table_text(list)
  local columns = columns_of[list]
  local rows, widths, right, used = cells_of(list, columns)
  local head, lines = {}, {}
  for at, name in ipairs(columns) do
    head[at] = (name:gsub("_ms$", ""):gsub("_s$", ""):gsub("_", " ")):upper()
    widths[at] = math.max(widths[at] or 0, #head[at])
  end
  if #rows == 0 then return "none" end
  lines[1] = line_of(head, widths, right, used)
  for index, cells in ipairs(rows) do lines[index + 1] = line_of(cells, widths, right, used) end
  return table.concat(lines, "\n")
end

local function plain(list)
  local rows = json.list {}
  for index, one in ipairs(list) do rows[index] = one end
  return rows
end

-- Rows are limited by who lists them.
local ROWS_WHOLE = setmetatable({ entries = 100000, total = math.huge }, { __index = show.LIMITS })

local FORMS = { table = true, lua = true, json = true }

--- Whether there is a form of this name.
function listing.is_form(name)
  return FORMS[name] == true
end

-- What JSON cannot say is said in words; a table that is not plain data, too.
local function for_json(value, depth)
  local kind = type(value)
  if kind == "table" and depth < 8 then
    local made = {}
    local is_list = value[1] ~= nil or listing.is(value)
    if is_list then
      json.list(made)
      for index, one in ipairs(value) do made[index] = for_json(one, depth + 1) end
      return made
    end
    for key, one in next, value do made[text.of(key)] = for_json(one, depth + 1) end
    return made
  elseif kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" then
    return value
  end
  return show.value(value)
end

--- A value in a form.
-- @param value  anything; a list of listing.new is a table in the form "table"
-- @param form   "table", "lua" or "json"
-- @param limits nil, or as for show.value
function listing.text(value, form, limits)
  if form == "json" then
    if value == nil then return "null" end
    -- Plans and tracebacks have lines: JSON escapes their ends.
    return json.encode({ value = for_json(value, 0) }, text.clean_lines):match "^{%s*\"value\"%s*:%s*(.*)}$"
  end
  if not listing.is(value) then return show.value(value, limits) end
  local more = value.more and ("… %d more%s"):format(value.more, latest[value] and " before" or "")
  if form == "table" then
    local shown = table_text(value)
    if not more then return shown end
    return latest[value] and more .. "\n" .. shown or shown .. "\n" .. more
  end
  local shown = show.value(plain(value), ROWS_WHOLE)
  return more and ("%s -- %s"):format(shown, more) or shown
end

--- A list in a form, in so many bytes: rows that do not fit are left out whole, so that it can be read again.
-- @param bytes nil: as many as it takes
-- @return a text; and what it cannot say itself, or nil: a note
function listing.within(list, form, bytes)
  local shown = listing.text(list, form)
  while bytes and #shown > bytes and #list > 0 do
    list = listing.limited(list, math.min(#list - 1, math.floor(#list * bytes / #shown * 0.9)))
    shown = listing.text(list, form)
  end
  local note = form == "json" and list.more and ("… %d more%s"):format(list.more, latest[list] and " before" or "") or nil
  return shown, note
end

return listing
