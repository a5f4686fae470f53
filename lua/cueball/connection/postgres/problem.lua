--- Errors and notices of PostgreSQL, as tables of Lua: what the server says, field by field.
local ffi = require "ffi"
local text_of = require "cueball.text"

local problem = {}

-- The fields of the protocol, by their codes. `severity` is never translated; servers before 9.6 do not send it so.
local NAMES = {
  S = "shown_severity", V = "severity", C = "sqlstate", M = "message", D = "detail", H = "hint", P = "position", p = "internal_position",
  q = "internal_query", W = "context", s = "schema", t = "table", c = "column", n = "constraint", d = "datatype", R = "routine",
}
local CODES = "SVCMDHPpqWstcndR"
problem.CODES = CODES

local function finish(fields)
  fields.severity = fields.severity or fields.shown_severity
  fields.shown_severity = nil
  fields.position = tonumber(fields.position)
  fields.internal_position = tonumber(fields.internal_position)
  return fields
end

--- The fields of a result that is an error.
-- @return a table; it has no sqlstate if the error is the library's own
function problem.of_result(pq, result)
  local fields = {}
  for code in CODES:gmatch "." do
    local text = pq.PQresultErrorField(result, code:byte())
    if text ~= nil then fields[NAMES[code]] = ffi.string(text) end
  end
  if not fields.message then fields.message = problem.trim(ffi.string(pq.PQresultErrorMessage(result))) end
  return finish(fields)
end

--- The notices in what a cueball_notices keeps.
-- @return a list of tables
function problem.of_notices(kept)
  local list, at = {}, 1
  while at <= #kept do
    local fields = {}
    while kept:byte(at) ~= 0 do
      local stop = kept:find("\0", at, true)
      fields[NAMES[kept:sub(at, at)]] = kept:sub(at + 1, stop - 1)
      at = stop + 1
    end
    at = at + 1
    if next(fields) then list[#list + 1] = finish(fields) end
  end
  return list
end

--- Does the server close the connection with it?
function problem.is_fatal(fields)
  return fields.severity == "FATAL" or fields.severity == "PANIC"
end

--- A message of the library's in one line. It breaks long sentences, with a tab at the beginning of what follows; and it may add that
-- there is no socket any more, as it goes on with a connection that it has found closed.
function problem.trim(message)
  message = message:gsub("\n\t(%l)", " %1"):gsub("\ninvalid socket\n*$", "")
  local lines = {}
  for _, line in ipairs(text_of.parts(message, "\n")) do
    if line ~= "" then lines[#lines + 1] = line end
  end
  return table.concat(lines, "; ")
end

--- What a person needs: the message, and what the server added to it.
function problem.sentence(fields)
  local parts = { fields.message }
  if fields.detail then parts[#parts + 1] = "(" .. fields.detail .. ")" end
  if fields.hint then parts[#parts + 1] = "hint: " .. fields.hint end
  return text_of.message(table.concat(parts, " "))
end

--- What the library says of a failed attempt to connect: it has the SQLSTATE in its text, as it was asked to be verbose.
-- @return message, and the SQLSTATE if the server said one
function problem.of_attempt(message)
  message = message:gsub("\nLOCATION:[^\n]*", "")
  local from, to, sqlstate = message:find ":  (%w%w%w%w%w): "
  if from then message = message:sub(1, from) .. " " .. message:sub(to + 1) end
  return text_of.message(problem.trim(message)), sqlstate
end

return problem
