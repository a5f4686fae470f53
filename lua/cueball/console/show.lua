--- Values as a person at a prompt reads them: near-Lua, so that what is plain data can be pasted back. Always bounded: what is left out is
-- counted, "… 12 more".
--
--   show.value({ 1, 2, name = "db" })              → '{ 1, 2, name = "db" }'
--   show.list(3, { "x", nil, "no" })               → '"x", nil, "no"'
--   show.value(big, { entries = 10, width = 60 })
local text = require "cueball.text"

local show = {}

--- What is shown at most, where the caller does not say.
show.LIMITS = {
  depth = 6,       -- tables in tables
  entries = 50,    -- of one table
  total = 1000,    -- entries of all tables in one value
  bytes = 1000,    -- of one string
  width = 80,      -- columns of a line, where a table may be broken into lines
}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch "%S+" do
  KEYWORDS[word] = true
end

local function is_name(value)
  return type(value) == "string" and value:find "^[%a_][%w_]*$" ~= nil and not KEYWORDS[value]
end

-- The bytes up to a limit, and no part of a character at the end.
local function cut(value, bytes)
  local last = bytes
  while last > bytes - 4 and last > 0 and value:byte(last + 1) >= 0x80 and value:byte(last + 1) < 0xc0 do last = last - 1 end
  return value:sub(1, last)
end

-- Quoted so that Lua reads the same bytes again.
local function quoted(value, limits)
  local whole = #value
  if whole > limits.bytes then value = cut(value, limits.bytes) end
  local left = whole - #value
  local made = '"' .. text.clean((value:gsub('[\\"]', "\\%0"))) .. '"'
  return left > 0 and ("%s --[[ … %d more bytes ]]"):format(made, left) or made
end

local function number(value)
  if value ~= value then return "0/0" end
  if value == math.huge then return "math.huge" end
  if value == -math.huge then return "-math.huge" end
  local short = ("%.14g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

local function function_name(value)
  local info = debug.getinfo(value, "S")
  if info.what == "C" then return "<function in C>" end
  return ("<function %s:%d>"):format(text.clean(info.short_src), info.linedefined)
end

-- Whether the object says by itself what it is; the text of one that does.
local function own_text(value)
  local meta = debug.getmetatable(value)
  if type(meta) ~= "table" or rawget(meta, "__tostring") == nil then return nil end
  return text.message(value)
end

-- A value that is no table of plain data.
local function leaf(value, limits)
  local kind = type(value)
  if kind == "string" then return quoted(value, limits) end
  if kind == "number" then return number(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  if kind == "cdata" and text.of(value):find "^%-?%d+U?LL$" then return text.of(value) end
  if kind == "function" then return function_name(value) end
  return ("<%s>"):format(own_text(value) or text.message(value))
end

local ORDER = { number = 1, string = 2, boolean = 3 }

local function precedes(a, b)
  local first, second = ORDER[type(a)] or 4, ORDER[type(b)] or 4
  if first ~= second then return first < second end
  if first <= 2 then return a < b end
  return text.of(a) < text.of(b)
end

-- The keys beside the list 1 … count, in order.
local function other_keys(value, count)
  local keys = {}
  for key in next, value do
    if not (type(key) == "number" and key >= 1 and key <= count and key % 1 == 0) then keys[#keys + 1] = key end
  end
  table.sort(keys, precedes)
  return keys
end

local function list_length(value)
  local count = 0
  while rawget(value, count + 1) ~= nil do count = count + 1 end
  return count
end

local render

local function key_text(state, key, depth)
  if is_name(key) then return key end
  if type(key) == "table" then return "[" .. render(state, key, math.huge, 0) .. "]" end
  return depth and "[" .. leaf(key, state.limits) .. "]"
end

-- The entries of a table as texts, and how many more there are.
local function entries_of(state, value, depth, indent)
  local limits, parts = state.limits, {}
  local count = list_length(value)
  local keys = other_keys(value, count)
  local all = count + #keys
  local most = math.min(all, limits.entries, math.max(0, limits.total - state.shown))
  for index = 1, most do
    state.shown = state.shown + 1
    if index <= count then
      parts[index] = render(state, rawget(value, index), depth + 1, indent + 2)
    else
      local key = keys[index - count]
      local name = key_text(state, key, depth)
      parts[index] = name .. " = " .. render(state, rawget(value, key), depth + 1, indent + 2)
    end
  end
  return parts, all - most
end

local function characters(value)
  return select(2, value:gsub("[^\128-\191]", ""))
end

-- Entries in lines: short ones beside each other, one that has a line of its own to itself.
local function filled(parts, margin, width)
  local lines, line = {}, nil
  for _, part in ipairs(parts) do
    local is_short = characters(part) <= 12 and not part:find("[\n=]")
    if line and is_short and characters(line) + characters(part) + 2 <= width then
      line = line .. " " .. part .. ","
    else
      lines[#lines + 1] = line
      line = margin .. part .. ","
      if not is_short then
        lines[#lines + 1] = line
        line = nil
      end
    end
  end
  lines[#lines + 1] = line
  return lines
end

local function joined(parts, more, indent, width)
  local line = table.concat(parts, ", ")
  if more > 0 then line = ("%s%s--[[ … %d more ]]"):format(line, #parts > 0 and ", " or "", more) end
  if not line:find("\n", 1, true) and characters(line) + indent + 4 <= width then return "{ " .. line .. " }" end
  local margin = (" "):rep(indent + 2)
  local lines = filled(parts, margin, width)
  table.insert(lines, 1, "{")
  if more > 0 then lines[#lines + 1] = ("%s-- … %d more"):format(margin, more) end
  lines[#lines + 1] = (" "):rep(indent) .. "}"
  return table.concat(lines, "\n")
end

function render(state, value, depth, indent)
  local described = state.limits.describe and state.limits.describe(value)
  if described then return ("<%s>"):format(described) end
  if type(value) ~= "table" or own_text(value) then return leaf(value, state.limits) end
  if next(value) == nil then return "{}" end
  if state.open[value] then return "<a table around this one>" end
  if depth >= state.limits.depth then return "{ --[[ … ]] }" end
  state.open[value] = true
  local parts, more = entries_of(state, value, depth, indent)
  state.open[value] = nil
  return joined(parts, more, indent, state.limits.width)
end

local function limits_of(given)
  if not given or given == show.LIMITS or getmetatable(given) then return given or show.LIMITS end
  return setmetatable(given, { __index = show.LIMITS })
end

--- A value as near-Lua.
-- @param value  anything
-- @param limits nil, or a table with some fields of show.LIMITS, and perhaps `describe`: a function(value) → what it is, in words, or nil
function show.value(value, limits)
  return render({ limits = limits_of(limits), open = {}, shown = 0 }, value, 0, 0)
end

--- Several values, with commas between.
-- @param count how many; values that are nil count
-- @param values a list
-- @param limits as for show.value
function show.list(count, values, limits)
  local parts = {}
  for index = 1, count do parts[index] = show.value(values[index], limits) end
  return table.concat(parts, ", ")
end

return show
