--- PostgreSQL's messages, protocol 3.0: made and read as strings, without I/O. Chapter "Frontend/Backend Protocol" of its manual.
local bit = require "bit"
local ffi = require "ffi"

local byte, char, find, sub = string.byte, string.char, string.find, string.sub
local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift

local wire = {}

local BYTES = ffi.typeof "const uint8_t *"

--- What a message of the server is at most before it has let us in: what is longer is no message of PostgreSQL's.
wire.GREETING_MAX = 30000

local PROTOCOL, SSL_REQUEST, CANCEL_REQUEST = 196608, 80877103, 80877102

-- Types of messages that a server sends.
local TYPES = {}
for letter in ("RKSZTDCENA123GHWcdIntsVv"):gmatch "." do TYPES[byte(letter)] = letter end

-- Fields of errors and notices, by their codes: as in cueball.connection.postgres.problem.
local FIELDS = {
  S = "shown_severity", V = "severity", C = "sqlstate", M = "message", D = "detail", H = "hint", P = "position", p = "internal_position",
  q = "internal_query", W = "context", s = "schema", t = "table", c = "column", n = "constraint", d = "datatype", R = "routine",
}

local function int16(number)
  return char(band(rshift(number, 8), 255), band(number, 255))
end

local function int32(number)
  return char(band(rshift(number, 24), 255), band(rshift(number, 16), 255), band(rshift(number, 8), 255), band(number, 255))
end

--- The number in four bytes from a position on, signed.
local function int32_at(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function int16_at(text, at)
  local a, b = byte(text, at, at + 1)
  return a * 256 + b
end

-- An object's number, which has no sign.
local function oid_at(text, at)
  return int32_at(text, at) % 4294967296
end

local function message(letter, body)
  return letter .. int32(#body + 4) .. body
end

-- ---------------------------------------------------------------- ours -----

wire.SYNC = message("S", "")
wire.TERMINATE = message("X", "")
wire.SSL_REQUEST = int32(8) .. int32(SSL_REQUEST)

--- The first message.
-- @param parameters { user =, database =, … }: what is told the server
function wire.startup(parameters)
  local words = {}
  for name, value in pairs(parameters) do words[#words + 1] = ("%s\0%s\0"):format(name, value) end
  table.sort(words)
  local body = int32(PROTOCOL) .. table.concat(words) .. "\0"
  return int32(#body + 4) .. body
end

function wire.cancel_request(pid, secret)
  return int32(16) .. int32(CANCEL_REQUEST) .. int32(pid) .. secret
end

--- Answers to a server that wants SASL: the first, and the next.
function wire.sasl_first(mechanism, text)
  return message("p", mechanism .. "\0" .. int32(#text) .. text)
end

function wire.sasl_next(text)
  return message("p", text)
end

--- One or several statements without parameters.
function wire.query(sql)
  return message("Q", sql .. "\0")
end

local BYTEA = 17

--- The server finds out the types of parameters, but of those that are bytes.
-- @param name of the statement, "" for one that the next replaces
-- @param given of values.parameters, or nil
function wire.parse(name, sql, given)
  local bytes, types = given and given.bytes, ""
  if bytes then
    for index = 1, given.count do types = types .. int32(bytes[index] and BYTEA or 0) end
  end
  return message("P", name .. "\0" .. sql .. "\0" .. int16(bytes and given.count or 0) .. types)
end

--- Binds parameters to a statement, as the portal that the next replaces.
function wire.bind(name, given)
  local bytes, parts = given.bytes, { "\0" .. name .. "\0" }
  if bytes then
    parts[2] = int16(given.count)
    for index = 1, given.count do parts[#parts + 1] = int16(bytes[index] and 1 or 0) end
  else
    parts[2] = "\0\0"
  end
  parts[#parts + 1] = int16(given.count)
  for index = 1, given.count do
    local value = given[index]
    parts[#parts + 1] = value and int32(#value) .. value or "\255\255\255\255"
  end
  parts[#parts + 1] = "\0\0"
  return message("B", table.concat(parts))
end

wire.DESCRIBE_PORTAL = message("D", "P\0")
wire.EXECUTE = message("E", "\0\0\0\0\0")

function wire.describe_statement(name)
  return message("D", "S" .. name .. "\0")
end

function wire.close_statement(name)
  return message("C", "S" .. name .. "\0")
end

function wire.copy_fail(reason)
  return message("f", reason .. "\0")
end

-- ----------------------------------------------------------- the server's ---

--- The beginning of a message that stands at a position.
-- @return its letter, how long its body is; nil: this is none; nothing follows if fewer than 5 bytes are there: see wire.HEADER
function wire.head(text, at)
  local letter, length = TYPES[byte(text, at)], int32_at(text, at + 1) - 4
  if not letter or length < 0 then return nil end
  return letter, length
end
wire.HEADER = 5

--- "R" → what the server wants: 0 nothing more, 10 SASL …; nil: this cannot be read
function wire.authentication(body)
  return #body >= 4 and int32_at(body, 1) or nil
end

--- The fields of an error or notice.
function wire.fields(body)
  local fields, at = {}, 1
  while true do
    local letter = sub(body, at, at)
    if letter == "" or letter == "\0" then break end
    local stop = find(body, "\0", at, true)
    if not stop then break end
    local name = FIELDS[letter]
    if name then fields[name] = sub(body, at + 1, stop - 1) end
    at = stop + 1
  end
  fields.severity, fields.shown_severity = fields.severity or fields.shown_severity, nil
  fields.position, fields.internal_position = tonumber(fields.position), tonumber(fields.internal_position)
  fields.message = fields.message or "an error without a message"
  return fields
end

--- "S" → name, value
function wire.parameter(body)
  return body:match "^([^%z]*)%z([^%z]*)"
end

--- "A" → channel, payload, pid
function wire.notification(body)
  local channel, payload = body:match("^([^%z]*)%z([^%z]*)", 5)
  return channel, payload, int32_at(body, 1)
end

--- "K" → pid, secret
function wire.backend_key(body)
  return int32_at(body, 1), sub(body, 5)
end

--- "T" → names of the columns, their types' oids
function wire.columns(body)
  local names, oids, at = {}, {}, 3
  for index = 1, int16_at(body, 1) do
    local stop = find(body, "\0", at, true)
    names[index] = sub(body, at, stop - 1)
    oids[index] = oid_at(body, stop + 7)
    at = stop + 19
  end
  return names, oids
end

--- "t" → how many parameters a statement has
function wire.parameter_count(body)
  return int16_at(body, 1)
end

--- "D" → a row.
-- @param names of the columns; readers by number, function(pointer, length) → value; null: what NULL is
function wire.row(body, names, readers, null)
  local row, at, bytes = {}, 3, ffi.cast(BYTES, body)
  for index = 1, int16_at(body, 1) do
    local length = int32_at(body, at)
    at = at + 4
    if length < 0 then
      row[names[index]] = null
    else
      if at + length - 1 > #body then error "a row is cut short" end
      row[names[index]] = readers[index](bytes + (at - 1), length)
      at = at + length
    end
  end
  return row
end

--- "C" → the command ("INSERT 0 3"), how many rows it touched
function wire.command(body)
  local command = body:match "^[^%z]*"
  return command, tonumber(command:match "(%d+)$")
end

return wire
