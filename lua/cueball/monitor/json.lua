--- JSON by whichever library is there: lua-cjson (OpenResty has it) or dkjson.
local text = require "cueball.text"

local json = {}

local EMPTY = "cueball: a list with nothing in it" -- not every cjson can tell one from an object

local LIST = { __jsontype = "array" }

local function library()
  if not json.library then
    for _, name in ipairs { "cjson", "dkjson" } do
      local found, module = pcall(require, name)
      if found then
        json.library = module
        break
      end
    end
  end
  return json.library or error("cueball.monitor needs lua-cjson or dkjson (Debian: apt install lua-cjson)", 0)
end

--- Marks a table as a list, so that it is one in JSON even if it is empty.
function json.list(given)
  return setmetatable(given, LIST)
end

-- What JSON cannot say is left out.
local function prepare(value)
  if type(value) == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return nil end
    return value
  elseif type(value) == "string" then
    return text.clean(value)   -- an address may be a path in whatever bytes
  elseif type(value) ~= "table" then
    return value
  elseif getmetatable(value) == LIST and #value == 0 then
    return EMPTY
  end
  local made = {}
  for key, member in pairs(value) do made[key] = prepare(member) end
  return made
end

--- @return a text
function json.encode(value)
  return (library().encode(prepare(value)):gsub('"' .. EMPTY .. '"', "[]"))
end

--- @return the value; nil if the text is no JSON
function json.decode(encoded)
  local ok, value = pcall(library().decode, encoded)
  return ok and value or nil
end

return json
