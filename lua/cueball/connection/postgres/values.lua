--- Values of PostgreSQL and of Lua: parameters of queries, and columns of results, which come as text. For every driver.
--
--   values.parameters("conn:query", count, ...)    → texts of parameters, to be sent; or nil, message
--   values.readers { types =, null = }             → by OID: function(pointer, length) → value
--   values.of(readers, oid, text)                  → value
local ffi = require "ffi"
local misuse = require "cueball.misuse"
local text_of = require "cueball.text"

local values = {}

local EXACT = 2 ^ 53          -- integers up to this are exact as a number
local PARAMETERS_MAX = 65535  -- the protocol counts them in 16 bits
values.BYTEA = 17

-- OIDs that are the same in every database.
local OIDS = {
  bool = 16, bytea = 17, char = 18, name = 19, int8 = 20, int2 = 21, int4 = 23, text = 25, oid = 26, json = 114, xml = 142, cidr = 650,
  float4 = 700, float8 = 701, money = 790, macaddr = 829, inet = 869, bpchar = 1042, varchar = 1043, date = 1082, time = 1083,
  timestamp = 1114, timestamptz = 1184, interval = 1186, timetz = 1266, bit = 1560, varbit = 1562, numeric = 1700, uuid = 2950,
  jsonb = 3802,
  _bool = 1000, _bytea = 1001, _int2 = 1005, _int4 = 1007, _text = 1009, _varchar = 1015, _int8 = 1016, _float4 = 1021, _float8 = 1022,
  _timestamp = 1115, _timestamptz = 1185, _numeric = 1231, _json = 199, _jsonb = 3807, _uuid = 2951,
}
local ALIASES = {
  boolean = "bool", smallint = "int2", integer = "int4", int = "int4", bigint = "int8", real = "float4", ["double precision"] = "float8",
  decimal = "numeric", ["character varying"] = "varchar", character = "bpchar",
}

-- ---------------------------------------------------------------- parameters --

local Bytea = {}
Bytea.__index = Bytea

--- Bytes, as a parameter: they may have NULs, and need not be text.
function values.bytea(bytes)
  if type(bytes) ~= "string" then misuse.raise("postgres.bytea: expected a string, got " .. text_of.show(bytes)) end
  return setmetatable({ bytes = bytes }, Bytea)
end

--- @return the bytes, if the value was made by values.bytea
function values.bytes_of(value)
  return getmetatable(value) == Bytea and value.bytes or nil
end

local function number_text(value)
  if value ~= value then return "NaN" end
  if value == math.huge then return "Infinity" end
  if value == -math.huge then return "-Infinity" end
  if value % 1 == 0 and value >= -EXACT and value <= EXACT then return ("%d"):format(value) end
  return ("%.17g"):format(value)
end

local INT64, UINT64 = ffi.typeof "int64_t", ffi.typeof "uint64_t"

local TEXT_OF = {
  string = function(value) return value end,
  number = number_text,
  boolean = function(value) return value and "true" or "false" end,
  cdata = function(value)
    if ffi.istype(INT64, value) or ffi.istype(UINT64, value) then return (tostring(value):gsub("U?LL$", "")) end
  end,
}

-- @return text, and whether it is bytes; or nil, message
local function parameter(who, index, value)
  if getmetatable(value) == Bytea then return value.bytes, true end
  local convert = TEXT_OF[type(value)]
  local text = convert and convert(value)
  if not text then
    misuse.raise(("%s: parameter $%d must be nil, a boolean, a number, a string, an int64_t or postgres.bytea(…), not %s")
      :format(who, index, text_of.show(value)))
  end
  if text:find("\0", 1, true) then
    return nil, ("parameter $%d has a NUL byte, which no text of PostgreSQL can have; send bytes as postgres.bytea(…)"):format(index)
  end
  return text, false
end

--- Makes parameters ready to be sent.
-- @param who who asks, for messages
-- @param count how many there are
-- @return { count =, [index] = text, or false for NULL, bytes = nil or { [index] = true } }; or nil, message
function values.parameters(who, count, ...)
  if count == 0 then return { count = 0 } end
  if count > PARAMETERS_MAX then return nil, ("a query has %d parameters at most, not %d"):format(PARAMETERS_MAX, count) end
  local given, sent = { ... }, { count = count }
  for index = 1, count do
    local value = given[index]
    if value == nil then
      sent[index] = false
    else
      local text, is_bytes = parameter(who, index, value)
      if not text then return nil, is_bytes end
      sent[index] = text
      if is_bytes then
        sent.bytes = sent.bytes or {}
        sent.bytes[index] = true
      end
    end
  end
  return sent
end

--- Checks the text of a query.
-- @return it; or nil, message
function values.check_sql(who, sql)
  if type(sql) ~= "string" then misuse.raise(("%s: expected SQL as a string, got %s"):format(who, text_of.show(sql))) end
  if sql:find("\0", 1, true) then return nil, "the query has a NUL byte, which no text of PostgreSQL can have" end
  return sql
end

-- ------------------------------------------------------------------- columns --

local function read_text(pointer, length)
  return ffi.string(pointer, length)
end

local function read_boolean(pointer)
  return pointer[0] == 116 -- "t"
end

local function read_small(pointer, length)
  local is_negative = pointer[0] == 45 -- "-"
  local number = 0
  for index = is_negative and 1 or 0, length - 1 do number = number * 10 + (pointer[index] - 48) end
  return is_negative and -number or number
end

-- 15 digits are below 2^53 in any case.
local function read_integer(pointer, length)
  if length <= 15 then return read_small(pointer, length) end
  local is_negative = pointer[0] == 45
  local number = 0LL
  for index = is_negative and 1 or 0, length - 1 do
    local digit = pointer[index] - 48
    number = is_negative and number * 10LL - digit or number * 10LL + digit -- the lowest has no positive counterpart
  end
  if number >= -9007199254740992LL and number <= 9007199254740992LL then return tonumber(number) end
  return number
end

local NUMBERS = { NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge }

-- What is no number of Lua's (money, a date) stays a text.
local function read_number(pointer, length)
  local text = ffi.string(pointer, length)
  return NUMBERS[text] or tonumber(text) or text
end

local function nibble(byte)
  return byte >= 97 and byte - 87 or byte - 48
end

-- The older form: backslashes doubled, bytes that are not ASCII in octal.
local function unescape(text)
  return (text:gsub("\\(\\?)(%d?%d?%d?)", function(backslash, octal)
    if backslash ~= "" then return "\\" .. octal end
    return string.char(tonumber(octal, 8))
  end))
end

local function read_bytea(pointer, length)
  if length < 2 or pointer[0] ~= 92 or pointer[1] ~= 120 then return unescape(ffi.string(pointer, length)) end -- "\x"
  local size = (length - 2) / 2
  local bytes = ffi.new("uint8_t[?]", size)
  for index = 0, size - 1 do
    bytes[index] = nibble(pointer[2 + 2 * index]) * 16 + nibble(pointer[3 + 2 * index])
  end
  return ffi.string(bytes, size)
end

local DEFAULTS = {
  [OIDS.bool] = read_boolean, [OIDS.int2] = read_small, [OIDS.int4] = read_small, [OIDS.int8] = read_integer,
  [OIDS.float4] = read_number, [OIDS.float8] = read_number, [OIDS.bytea] = read_bytea,
}

local function oid_of(who, given)
  if type(given) == "number" and given % 1 == 0 and given >= 1 and given < 2 ^ 32 then return given end
  local oid = OIDS[ALIASES[given] or given]
  if oid then return oid end
  misuse.raise(("%s: types: %s is no OID and none of the built-in types; the OID of a type of yours is in pg_type")
    :format(who, text_of.show(given)))
end

local function reader_of(who, name, given)
  if given == "text" then return read_text end
  if given == "number" then return read_number end
  if type(given) == "function" then
    return function(pointer, length) return given(ffi.string(pointer, length)) end
  end
  misuse.raise(('%s: types: type %s must be read as "text", "number" or by a function(text), not %s')
    :format(who, text_of.show(name), text_of.show(given)))
end

--- How columns are read.
-- @param who   whose option it is, for messages
-- @param types nil; or by OID, or name of a built-in type: "text", "number" or function(text) → value
-- @return by OID: function(pointer, length); what is not in it is read as text
function values.readers(who, types)
  if types == nil then return DEFAULTS end
  if type(types) ~= "table" then misuse.raise(("%s: types must be a table, not %s"):format(who, text_of.show(types))) end
  local readers = setmetatable({}, { __index = DEFAULTS })
  for name, given in pairs(types) do readers[oid_of(who, name)] = reader_of(who, name, given) end
  return readers
end

--- A value that is at hand as a Lua string.
function values.of(readers, oid, text)
  return (readers[oid] or read_text)(ffi.cast("const uint8_t *", text), #text)
end

values.read_text = read_text

return values
