--- JSON by whichever library is there: lua-cjson (OpenResty has it) or dkjson.
local text = require "cueball.text"

local json = {}

local EMPTY = "cueball: a list with nothing in it" -- not every cjson can tell one from an object

local LIST = { __jsontype = "array" }
local NOTHING = setmetatable({}, { __jsontype = "object" })

local LIBRARIES = { "cjson", "dkjson" }

local WHOLE_FROM = 1e14 -- both libraries write 14 digits: from here on that is not all of a whole number, such as a lease's id
local WHOLE = "cueball: the number "
local has_whole = false -- since encode has begun

local function library()
  if not json.library then
    for _, name in ipairs(LIBRARIES) do
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
-- @param clean function(text) → text
local function prepare(value, clean)
  if type(value) == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return nil end
    if value >= WHOLE_FROM and value <= 2 ^ 53 and value % 1 == 0 then
      has_whole = true
      return ("%s%.0f"):format(WHOLE, value)
    end
    return value
  elseif type(value) == "string" then
    return clean(value)   -- an address may be a path in whatever bytes
  elseif type(value) ~= "table" then
    return value
  elseif getmetatable(value) == LIST and #value == 0 then
    return EMPTY
  end
  local made = {}
  for key, member in pairs(value) do made[key] = prepare(member, clean) end
  return next(made) == nil and NOTHING or made
end

--- @param clean nil, or what texts are made fit with: function(text) → text; text.clean by default
-- @return a text
function json.encode(value, clean)
  has_whole = false
  local encoded = library().encode(prepare(value, clean or text.clean)):gsub('"' .. EMPTY .. '"', "[]")
  if has_whole then encoded = encoded:gsub('"' .. WHOLE .. '(%d+)"', "%1") end
  return encoded
end

--- @return the value; nil if the text is no JSON
function json.decode(encoded)
  local ok, value = pcall(library().decode, encoded)
  return ok and value or nil
end

return json
