--- JSON: written here; read by whichever library is there, lua-cjson (OpenResty has it) or dkjson.
local text = require "cueball.text"
local writers = require "cueball.monitor.writer"
local find, format, gsub = string.find, string.format, string.gsub

local json = {}

local LIST = { __jsontype = "array" }

local LIBRARIES = { "cjson", "dkjson" }

-- lua-cjson, and not as others in the program have set it: it takes NaN for a number, which is no JSON.
local function strict(cjson)
  local own = cjson.new()
  own.decode_invalid_numbers(false)
  return own
end

local function library()
  if not json.library then
    for _, name in ipairs(LIBRARIES) do
      local found, module = pcall(require, name)
      if found then
        json.library = module.new and strict(module) or module
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

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(character)
  return ESCAPES[character] or format("\\u%04x", character:byte())
end

local QUOTED_MAX, LENGTH_MAX = 4096, 256
local quoted, quoted_count = {}, 0 -- names and addresses come again and again

-- Made fit first: an address may be a path in whatever bytes.
local function quote(value, clean)
  if find(value, '[^ !#-%[%]-~]') then value = gsub(clean(value), '[%z\1-\31"\\\127]', escape) end
  return '"' .. value .. '"'
end

local function put_text(writer, value, clean)
  local known = clean == text.clean and quoted[value]
  if not known then
    known = quote(value, clean)
    if clean == text.clean and #value <= LENGTH_MAX then
      if quoted_count >= QUOTED_MAX then quoted, quoted_count = {}, 0 end
      quoted[value], quoted_count = known, quoted_count + 1
    end
  end
  writer:put(known)
end

-- Can JSON say it? What it cannot is left out.
local function is_sayable(value)
  local kind = type(value)
  if kind == "number" then return value - value == 0 end
  return kind == "string" or kind == "boolean" or kind == "table"
end

local put

local function put_list(writer, list, clean)
  writer:put "["
  for index = 1, #list do
    if index > 1 then writer:put "," end
    if is_sayable(list[index]) then put(writer, list[index], clean) else writer:put "null" end
  end
  writer:put "]"
end

local function put_object(writer, object, clean)
  local lead = "{"
  for name, value in pairs(object) do
    if is_sayable(value) then
      writer:put(lead)
      put_text(writer, tostring(name), clean)
      writer:put ":"
      put(writer, value, clean)
      lead = ","
    end
  end
  writer:put(lead == "{" and "{}" or "}")
end

function put(writer, value, clean)
  local kind = type(value)
  if kind == "string" then return put_text(writer, value, clean) end
  if kind == "number" then return writer:number(value) end
  if kind == "boolean" then return writer:put(value and "true" or "false") end
  if getmetatable(value) == LIST or value[1] ~= nil then return put_list(writer, value, clean) end
  put_object(writer, value, clean)
end

--- Writes a value.
-- @param writer of cueball.monitor.writer
function json.put(writer, value)
  put(writer, value, text.clean)
end

--- The names of members that an object may have, in the order in which json.put_members writes them.
function json.members(names)
  local made = {}
  for index, name in ipairs(names) do
    made[index] = { name = name, first = format('{"%s":', name), next = format(',"%s":', name) }
  end
  return made
end

--- Writes an object's members of these names, and no others: faster than json.put. The brace that ends it is left to the caller.
-- @param members of json.members
-- @return whether there was one
function json.put_members(writer, object, members)
  local has_one = false
  for index = 1, #members do
    local member = members[index]
    local value = object[member.name]
    if value ~= nil and is_sayable(value) then
      writer:put(has_one and member.next or member.first)
      put(writer, value, text.clean)
      has_one = true
    end
  end
  return has_one
end

--- @param clean nil, or what texts are made fit with: function(text) → text; text.clean by default
-- @return a text
function json.encode(value, clean)
  if not is_sayable(value) then return "null" end
  local writer, whole = writers.kept()
  put(writer, value, clean or text.clean)
  return whole()
end

--- @return the value; nil if the text is no JSON
function json.decode(encoded)
  local ok, value = pcall(library().decode, encoded)
  return ok and value or nil
end

return json
