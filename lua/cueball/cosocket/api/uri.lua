--- What ngx_lua's API has for texts in URIs, and for SQL: escape_uri, unescape_uri, encode_args, decode_args, quote_sql_str.
local misuse = require "cueball.misuse"

local uri = {}

local char, format, concat = string.char, string.format, table.concat

-- What stays as it is, by the number of the kind of escaping: of a whole URI, its arguments, a component of it, HTML, a refresh, memcached,
-- mail. A class of bytes for a Lua pattern.
local ESCAPED = {
  [0] = "[%z\1-\32#%%?\127-\255]", [1] = "[%z\1-\32#%%+?\127-\255]", [2] = "[^%w!'()*%-._~]", [3] = "[%z\1-\32\"#%%'\127-\255]",
  [4] = "[%z\1-\32\"'\127-\255]", [5] = "[%z\1-\32%%]", [6] = "[%z\1-\32%%]",
}
local COMPONENT = ESCAPED[2]

local DIGITS = { "%02x", "%02X" }

local escapes, bytes = {}, {}
for byte = 0, 255 do
  escapes[char(byte)] = format("%%%02X", byte)
  for _, digits in ipairs(DIGITS) do
    local text = format(digits, byte)
    for _, digit in ipairs { text:sub(1, 1), text:sub(1, 1):upper() } do
      bytes[digit .. text:sub(2)], bytes[digit .. text:sub(2):upper()] = char(byte), char(byte)
    end
  end
end

local function text_of(value)
  if type(value) == "string" then return value end
  return value and tostring(value) or ""
end

-- The same where nginx is strict.
local function must_be_text(name, value)
  if type(value) == "string" then return value end
  if type(value) == "number" then return tostring(value) end
  misuse.raise(("bad argument #1 to '%s' (string expected, got %s)"):format(name, value == nil and "no value" or type(value)))
end

--- @param kind of escaping, 0 to 6; 2, a component, by default
function uri.escape_uri(text, kind)
  if kind == nil then kind = 2 end
  if type(kind) ~= "number" then misuse.raise '"type" is not a number' end
  if kind < 0 or kind > 6 then misuse.raise(('"type" %s out of range'):format(kind)) end
  return (text_of(text):gsub(ESCAPED[kind - kind % 1], escapes))
end

local function unescape(text)
  if text:find("+", 1, true) then text = text:gsub("%+", " ") end
  if text:find("%", 1, true) then text = text:gsub("%%(%x%x)", bytes) end
  return text
end

function uri.unescape_uri(text)
  return unescape(text_of(text))
end

local function escape(text)
  return (text:gsub(COMPONENT, escapes))
end

local function add_argument(list, key, value)
  local kind = type(value)
  if kind == "string" or kind == "number" then
    list[#list + 1] = key .. "=" .. escape(tostring(value))
  elseif value == true then
    list[#list + 1] = key
  elseif kind ~= "boolean" then
    misuse.raise(("attempt to use %s as query arg value"):format(kind))
  end
end

--- @param arguments by name: strings, numbers, booleans (true: the name alone; false: nothing), or lists of them
function uri.encode_args(arguments)
  if type(arguments) ~= "table" then
    misuse.raise(("bad argument #1 to 'encode_args' (table expected, got %s)"):format(arguments == nil and "no value" or type(arguments)))
  end
  local list = {}
  for name, value in pairs(arguments) do
    if type(name) ~= "string" then misuse.raise "attempt to use a non-string key in the \"args\" option table" end
    local key = escape(name)
    if type(value) == "table" then
      for _, one in ipairs(value) do add_argument(list, key, one) end
    else
      add_argument(list, key, value)
    end
  end
  return concat(list, "&")
end

local function put(found, key, value)
  local before = found[key]
  if before == nil then
    found[key] = value
  elseif type(before) == "table" then
    before[#before + 1] = value
  else
    found[key] = { before, value }
  end
end

--- @param most arguments that are read, 100 by default; 0: any number
-- @return them by name, a list where there are several of one name; and "truncated" if there were more
function uri.decode_args(text, most)
  text = must_be_text("decode_args", text)
  most = most == nil and 100 or most
  if type(most) ~= "number" then misuse.raise(("bad argument #2 to 'decode_args' (number expected, got %s)"):format(type(most))) end
  if most < 0 then most = 100 end
  local found, count = {}, 0
  for part, separator in text:gmatch "([^&]*)(&?)" do
    local key, value = part:match "^([^=]*)=(.*)$"
    key = unescape(key or part)
    if key ~= "" then put(found, key, value and unescape(value) or not value) end
    count = count + 1 -- as nginx counts: an empty one too, and the last one only if more may follow
    if separator ~= "" and count == most then return found, "truncated" end
  end
  return found
end

local SQL = {
  ["\0"] = "\\0", ["\b"] = "\\b", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\26"] = "\\Z", ["\\"] = "\\\\", ["'"] = "\\'",
  ['"'] = '\\"',
}

--- A text as a constant of MySQL's SQL.
function uri.quote_sql_str(text)
  return "'" .. must_be_text("quote_sql_str", text):gsub("[%z\b\n\r\t\26\\'\"]", SQL) .. "'"
end

return uri
