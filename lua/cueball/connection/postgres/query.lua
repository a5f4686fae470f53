--- Sends queries and reads their results, once the connection was taken for it; what ends a query when its time is up.
local ffi = require "ffi"
local cancel = require "cueball.connection.postgres.cancel"
local exchange = require "cueball.connection.postgres.exchange"
local libpq = require "cueball.connection.postgres.libpq"
local problem = require "cueball.connection.postgres.problem"
local text_of = require "cueball.text"
local values = require "cueball.connection.postgres.values"

local query = {}

local select = select

local AGAIN_MS = 100 -- after so long without an end a cancel is sent again; then after twice as long

-- --------------------------------------------------------------------- sending --

local SCRATCH = 32 -- as many parameters have their places made once; libpq copies them

local function places(count)
  return {
    types = ffi.new("unsigned int[?]", count), values = ffi.new("const char *[?]", count), lengths = ffi.new("int[?]", count),
    formats = ffi.new("int[?]", count),
  }
end

local scratch = places(SCRATCH)

-- Parameters as libpq takes them.
local function placed(sent)
  local count, bytes = sent.count, sent.bytes
  local into = count <= SCRATCH and scratch or places(count)
  for index = 1, count do
    local text = sent[index]
    into.values[index - 1] = text or nil
    local is_bytes = bytes ~= nil and bytes[index] == true
    into.types[index - 1], into.formats[index - 1] = is_bytes and values.BYTEA or 0, is_bytes and 1 or 0
    into.lengths[index - 1] = is_bytes and #text or 0
  end
  return into
end

--- Hands a query with parameters to libpq.
-- @param sent of values.parameters
-- @return whether libpq took it
function query.send(conn, sql, sent)
  exchange.sent(conn)
  local into = placed(sent)
  return conn.pq.PQsendQueryParams(conn.pg, sql, sent.count, into.types, into.values, into.lengths, into.formats, 0) == 1
end

--- Hands over a statement to be prepared under that name.
function query.send_prepare(conn, name, sql, sent)
  exchange.sent(conn)
  local into = placed(sent)
  return conn.pq.PQsendPrepare(conn.pg, name, sql, sent.count, into.types) == 1
end

--- The same of a prepared statement.
function query.send_prepared(conn, name, sent)
  exchange.sent(conn)
  local into = placed(sent)
  return conn.pq.PQsendQueryPrepared(conn.pg, name, sent.count, into.values, into.lengths, into.formats, 0) == 1
end

--- Without parameters, by the simple protocol, which takes several statements.
function query.send_plain(conn, sql)
  exchange.sent(conn)
  return conn.pq.PQsendQuery(conn.pg, sql) == 1
end

-- --------------------------------------------------------------------- reading --

--- What is known of a result's columns.
-- @return { count =, names =, readers = }
function query.shape(conn, result)
  local pq, readers = conn.pq, conn.readers
  local shape = { count = pq.PQnfields(result), names = {}, readers = {} }
  for column = 0, shape.count - 1 do
    shape.names[column + 1] = ffi.string(pq.PQfname(result, column))
    shape.readers[column + 1] = readers[pq.PQftype(result, column)] or values.read_text
  end
  return shape
end

--- One row of a result, as { column = value }.
function query.row(conn, result, shape, index)
  local pq, row, null = conn.pq, {}, conn.settings.null
  local names, readers = shape.names, shape.readers
  for column = 0, shape.count - 1 do
    if pq.PQgetisnull(result, index, column) ~= 0 then
      row[names[column + 1]] = null
    else
      row[names[column + 1]] = readers[column + 1](ffi.cast("const uint8_t *", pq.PQgetvalue(result, index, column)),
        pq.PQgetlength(result, index, column))
    end
  end
  return row
end

local function rows_of(conn, result, list)
  local shape = query.shape(conn, result)
  for index = 0, conn.pq.PQntuples(result) - 1 do list[index + 1] = query.row(conn, result, shape, index) end
  list.columns = shape.names
  return list
end

--- What a result that is an error says: message, name, fields.
function query.failure(conn, result)
  local fields = problem.of_result(conn.pq, result)
  if problem.is_fatal(fields) then conn.fatal = fields end
  if conn.on_error and fields.sqlstate then conn.on_error(conn, fields.sqlstate) end
  return problem.sentence(fields), fields.sqlstate or "closed", fields
end

-- After these the server knows no prepared statement any more.
local FORGETS = { ["DISCARD ALL"] = true, ["DEALLOCATE ALL"] = true }

--- The result as Lua has it.
-- @return a list of rows, with columns, command and affected; or nil, message, name, fields
function query.read(conn, result)
  local pq = conn.pq
  local status = pq.PQresultStatus(result)
  if status == libpq.FATAL_ERROR then return nil, query.failure(conn, result) end
  local command = ffi.string(pq.PQcmdStatus(result))
  if FORGETS[command] then conn.prepared:clear() end
  if command == "DISCARD ALL" then conn.inbox:clear() end
  local list = { command = command, affected = tonumber(ffi.string(pq.PQcmdTuples(result))), columns = {} }
  if status ~= libpq.TUPLES_OK and status ~= libpq.SINGLE_TUPLE then return list end
  -- Readers may be the user's functions.
  local ok, message = pcall(rows_of, conn, result, list)
  if ok then return list end
  return nil, "reading a value threw: " .. text_of.message(message), "invalid"
end

-- ---------------------------------------------------------------------- ending --

-- Reads what COPY sends to its end, and forgets it.
local function discard_copy(conn, deadline)
  local pq, box = conn.pq, ffi.new "char *[1]"
  while true do
    local length = pq.PQgetCopyData(conn.pg, box, 1)
    exchange.note_loss(conn)
    if length > 0 then
      pq.PQfreemem(box[0])
    elseif length < 0 then
      return true -- what follows is a result
    else
      local ok, message, name = exchange.await(conn, deadline)
      if not ok then return false, message, name end
    end
  end
end

-- Ends a COPY that nobody feeds or reads. The server tells of it in a result.
local function end_copy(conn, status, deadline)
  if status == libpq.COPY_OUT then return discard_copy(conn, deadline) end
  if status == libpq.COPY_IN then
    exchange.sent(conn)
    conn.pq.PQputCopyEnd(conn.pg, "it was given up")
    return exchange.flush(conn, deadline, true)
  end
  conn:shut("replication is not supported", "claimer")
  return false, exchange.closed(conn)
end

local IS_COPY = { [libpq.COPY_IN] = true, [libpq.COPY_OUT] = true, [libpq.COPY_BOTH] = true }

-- The next result of what was sent, while the connection lasts. → result; nil: that was all; or false, message, name
local function next_result(conn, deadline)
  local result, message, name = exchange.next_result(conn, deadline)
  if result == nil and not conn.pg then return false, exchange.closed(conn) end
  return result, message, name
end

--- Reads all that is left of what was sent, to its end, and forgets it.
-- @return true; or false, message, name
function query.discard(conn, deadline)
  while true do
    local result, message, name = next_result(conn, deadline)
    if result == nil then return true end
    if result == false then return false, message, name end
    local status = conn.pq.PQresultStatus(result)
    exchange.clear(conn, result)
    if IS_COPY[status] then
      local ok
      ok, message, name = end_copy(conn, status, deadline)
      if not ok then return false, message, name end
    end
  end
end

-- Cancels, and reads to the end. A cancel that comes before the server has begun with the query does nothing: then it is sent again.
-- @return true; or false, message
local function cancel_and_read(conn, read, limit_ms)
  local host = conn.host
  local deadline, pause_ms = host.now() + limit_ms * 1e6, AGAIN_MS
  while conn.pg do
    local target, message = cancel.target(conn)
    if not target then return false, message end
    local ok, name
    ok, message = cancel.send(host, target, math.max(1, (deadline - host.now()) / 1e6))
    if not ok then return false, message end
    if not conn.pg then break end
    ok, message, name = read(conn, math.min(deadline, host.now() + pause_ms * 1e6))
    if ok then return true end
    if name ~= "timeout" or host.now() >= deadline then return false, message end
    pause_ms = pause_ms * 2
  end
  return false, "closed"
end

--- Ends what is under way: it is cancelled, and read to its end. Where that cannot be done in time the connection is closed.
-- @param read nil; or function(conn, deadline) → true; or false, message, name: in place of query.discard. It is called again after a
--   "timeout"
-- @return true: the connection is fit; or false, message
function query.stop(conn, read)
  local limit_ms = conn.settings.cancel_ms
  local ok, message = cancel_and_read(conn, read or query.discard, limit_ms)
  if ok and conn.pg then return true end
  message = ("it could not be cancelled within %g ms (%s), so the connection was closed"):format(limit_ms, message or "closed")
  conn:shut(message, "timeout")
  return false, message
end

--- What a time limit that is over is called.
function query.too_long(conn, what)
  what = what or "the query"
  if conn.deadline and conn.host.now() >= conn.deadline then return ("%s was not done when its lease's time was up"):format(what) end
  return ("%s took longer than %g ms"):format(what, conn.query_ms)
end

-- --------------------------------------------------------------------- answers --

--- The server says that it is done, and has not answered: it is no PostgreSQL, or out of step. The connection is closed.
-- @return nil, message, name
function query.no_answer(conn)
  if not conn.pg then return nil, exchange.closed(conn) end
  conn:shut((select(2, exchange.broken(conn))), "peer")
  return nil, "the server gave no answer: " .. conn.ended, "closed"
end

local Answers = {}
Answers.__index = Answers

local NEEDS = {
  [libpq.COPY_IN] = "COPY … FROM STDIN needs conn:copy_in", [libpq.COPY_OUT] = "COPY … TO STDOUT needs conn:copy_out",
  [libpq.COPY_BOTH] = "replication is not supported",
}

-- Takes a result in, and frees it. The first error counts: the server does nothing that follows.
-- @return true; or false: COPY begins, which is not for conn:query
function Answers:add(result)
  local conn = self.conn
  local needs = NEEDS[conn.pq.PQresultStatus(result)]
  if needs then
    self.failure = { needs, "unsupported" }
    exchange.clear(conn, result)
    return false
  end
  local answer, message, name, fields = query.read(conn, result)
  exchange.clear(conn, result)
  if not answer then
    self.failure = self.failure or { message, name, fields }
  else
    self[#self + 1] = answer
  end
  return true
end

-- Reads all results of a query. → true; or false, message, name
local function read_all(conn, deadline, answers)
  while true do
    local result, message, name = next_result(conn, deadline)
    if result == nil then return true end
    if result == false then return false, message, name end
    if not answers:add(result) then
      local ok
      ok, message = query.stop(conn)
      if not ok then return false, message, "closed" end
      return true
    end
  end
end

function Answers:final()
  local failure, last = self.failure, self[#self]
  if failure then return nil, failure[1], failure[2], failure[3] end
  if not last then return query.no_answer(self.conn) end
  if self[2] then
    last.all = {}
    for index, answer in ipairs(self) do last.all[index] = answer end
  end
  return last
end

-- Its time is up, and it was cancelled: whether that reached it says its result.
local function after_stop(conn, answer, message, name, fields)
  if name == "57014" then return nil, query.too_long(conn) .. ", and was cancelled", "timeout", fields end
  return answer, message, name, fields
end

--- Reads the answer to what was sent.
-- @return result; or nil, message, name, fields
function query.answer(conn)
  local answers = setmetatable({ conn = conn }, Answers)
  local ok, message, name = read_all(conn, exchange.deadline(conn, conn.query_ms), answers)
  if ok then
    conn.has_delivered = conn.has_delivered or conn.was_lent and not conn.is_lost
    return answers:final()
  end
  if name ~= "timeout" then return nil, message, name end
  ok, message = query.stop(conn, function(_, deadline) return read_all(conn, deadline, answers) end)
  if ok then return after_stop(conn, answers:final()) end
  return nil, ("%s; %s"):format(query.too_long(conn), message), "timeout"
end

-- --------------------------------------------------------------------- queries --

--- Sends a query as it is, and reads its answer. Without parameters it may be several statements.
-- @return result; or nil, message, name, fields
function query.run(conn, sql, sent)
  local is_taken
  if sent.count == 0 then is_taken = query.send_plain(conn, sql) else is_taken = query.send(conn, sql, sent) end
  if not is_taken then return exchange.broken(conn) end
  return query.answer(conn)
end

--- Checks a query and its parameters.
-- @return values.parameters of them; or nil, message, "invalid"
function query.check(who, sql, ...)
  local sent, message = values.check_sql(who, sql)
  if sent then sent, message = values.parameters(who, select("#", ...), ...) end
  if not sent then return nil, message, "invalid" end
  return sent
end

--- Ends an operation. → what it is given besides
function query.finished(conn, ...)
  exchange.finish(conn)
  return ...
end

return query
