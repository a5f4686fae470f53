--- COPY: conn:copy_in sends data to the server, conn:copy_out receives them, as much of them at a time as the other side takes.
--
-- The happy path: the server says that COPY begins; pieces go over, and neither side is ahead of the other by more than one piece; the
-- server says how many rows there were.
--
-- What can go wrong: the server refuses the data (it says so once all were sent), the source or the sink gives up or throws (COPY is ended,
-- and nothing of it is kept), or nothing moves within the time limit (COPY is cancelled).
local ffi = require "ffi"
local exchange = require "cueball.connection.postgres.exchange"
local libpq = require "cueball.connection.postgres.libpq"
local misuse = require "cueball.misuse"
local query = require "cueball.connection.postgres.query"
local text_of = require "cueball.text"

local copy = {}

local PIECE = 65536

local STATUS = { copy_in = libpq.COPY_IN, copy_out = libpq.COPY_OUT }
local WANTED = { copy_in = "COPY … FROM STDIN", copy_out = "COPY … TO STDOUT" }

-- Sends the statement. → true: COPY has begun; or nil, message, name, fields
local function begin(conn, what, sql)
  if not query.send_plain(conn, sql) then return exchange.broken(conn) end
  local deadline = exchange.deadline(conn, conn.query_ms)
  local result, message, name = exchange.next_result(conn, deadline)
  if result == false then
    if name == "timeout" then
      local ok, why = query.stop(conn)
      return nil, query.too_long(conn) .. (ok and ", and was cancelled" or "; " .. why), name
    end
    return nil, message, name
  elseif result == nil then
    return query.no_answer(conn)
  end
  local status, fields = conn.pq.PQresultStatus(result), nil
  if status == STATUS[what] then
    exchange.clear(conn, result)
    return true
  end
  if status == libpq.FATAL_ERROR then
    message, name, fields = query.failure(conn, result)
  else
    message, name = ("conn:%s needs one statement, %s"):format(what, WANTED[what]), "invalid"
  end
  exchange.clear(conn, result)
  local ok, why = query.discard(conn, exchange.deadline(conn, conn.settings.cancel_ms))
  if not ok and conn.pg then ok, why = query.stop(conn) end
  return nil, ok and message or message .. "; " .. why, name, fields
end

-- ------------------------------------------------------------------------- in --

-- @return true; or false, message, name
local function put(conn, piece)
  local pq = conn.pq
  while true do
    local taken = pq.PQputCopyData(conn.pg, piece, #piece)
    exchange.collect(conn)
    if not conn.pg then return false, exchange.closed(conn) end
    if taken < 0 then return false, select(2, exchange.broken(conn)), "closed" end
    exchange.sent(conn)
    local ok, message, name = exchange.flush(conn, exchange.deadline(conn, conn.query_ms), true)
    if not ok then return false, message, name end
    if conn.is_lost then return false, select(2, exchange.broken(conn)), "closed" end
    if taken == 1 then return true end
  end
end

local function put_all(conn, data)
  for from = 1, #data, PIECE do
    local ok, message, name = put(conn, #data <= PIECE and data or data:sub(from, from + PIECE - 1))
    if not ok then return false, message, name end
  end
  return true
end

-- The source as a function.
local function source_of(source)
  if type(source) ~= "string" then return source end
  local data = source
  return function()
    local all = data
    data = nil
    return all
  end
end

-- Takes all that the source has. → true; or false, message, name, and what it threw
local function pump(conn, source)
  while true do
    local ok, data, message = pcall(source)
    if not conn.pg then return false, exchange.closed(conn) end
    if not ok then return false, "the source threw", "stopped", { data } end
    if data == nil then
      if message ~= nil then return false, text_of.message(message), "stopped" end
      return true
    end
    if type(data) ~= "string" then
      return false, ("the source must return strings, and nil at the end, not a %s"):format(type(data)), "invalid"
    end
    local name
    ok, message, name = put_all(conn, data)
    if not ok then return false, message, name end
  end
end

-- Says that the data are complete, or why they are not. → whether libpq took it
local function put_end(conn, why)
  exchange.sent(conn)
  return conn.pq.PQputCopyEnd(conn.pg, why) >= 0
end

local function run_in(conn, sql, source)
  local ok, message, name, fields = begin(conn, "copy_in", sql)
  if not ok then return nil, message, name, fields end
  local thrown
  ok, message, name, thrown = pump(conn, source)
  if not conn.pg then return nil, message, name, nil, thrown end
  if ok then
    if not put_end(conn, nil) then return exchange.broken(conn) end
    return query.answer(conn)
  end
  if name == "timeout" then
    local is_ended = false
    local is_fit, why = query.stop(conn, function(_, deadline)
      is_ended = is_ended or put_end(conn, "its time is up")
      return query.discard(conn, deadline)
    end)
    message = query.too_long(conn, "sending a piece of the data")
    return nil, is_fit and message or message .. "; " .. why, name
  end
  put_end(conn, (message:gsub("%z", "?")))
  local answer, told, code, said = query.answer(conn)
  if name == "closed" and not answer then return nil, told, code, said end -- what the server said before it closed
  return nil, message, name, nil, thrown
end

-- ------------------------------------------------------------------------ out --

-- Gives the sink what has been gathered. → true; or false, message, name, and what it threw
local function pour(conn, batch, sink)
  if batch.length == 0 then return true end
  local data = ffi.string(batch.bytes, batch.length)
  batch.length = 0
  local ok, answer, message = pcall(sink, data)
  if not conn.pg then return false, exchange.closed(conn) end
  if not ok then return false, "the sink threw", "stopped", { answer } end
  if answer == false or answer == nil and message ~= nil then
    return false, message ~= nil and text_of.message(message) or "the sink wants no more", "stopped"
  end
  return true
end

-- One message of the server's is one row; rows are gathered to pieces.
local function gather(batch, pointer, length)
  if batch.length + length > batch.size then
    local size = math.max(batch.size * 2, batch.length + length)
    local bytes = ffi.new("uint8_t[?]", size)
    ffi.copy(bytes, batch.bytes, batch.length)
    batch.bytes, batch.size = bytes, size
  end
  ffi.copy(batch.bytes + batch.length, pointer, length)
  batch.length = batch.length + length
end

local function drain(conn, sink)
  local pq, box = conn.pq, ffi.new "char *[1]"
  local batch = { bytes = ffi.new("uint8_t[?]", PIECE + 8192), size = PIECE + 8192, length = 0 }
  while true do
    local length = pq.PQgetCopyData(conn.pg, box, 1)
    exchange.note_loss(conn)
    local ok, message, name, thrown = true, nil, nil, nil
    if length > 0 then
      gather(batch, box[0], length)
      pq.PQfreemem(box[0])
    end
    if length <= 0 or batch.length >= PIECE then ok, message, name, thrown = pour(conn, batch, sink) end
    if not ok then return false, message, name, thrown end
    if length < 0 then return true end
    if length == 0 then
      ok, message, name = exchange.await(conn, exchange.deadline(conn, conn.query_ms))
      if not ok then return false, message, name end
    end
  end
end

local function run_out(conn, sql, sink)
  local ok, message, name, fields = begin(conn, "copy_out", sql)
  if not ok then return nil, message, name, fields end
  local thrown
  ok, message, name, thrown = drain(conn, sink)
  if ok then return query.answer(conn) end
  if not conn.pg or name == "closed" then return nil, message, name, nil, thrown end
  if name == "timeout" then message = query.too_long(conn, "waiting for more data") end
  local is_fit, why = query.stop(conn)
  return nil, is_fit and message or message .. "; " .. why, name, nil, thrown
end

-- ----------------------------------------------------------------------- both --

local function is_callable(value)
  if type(value) == "function" then return true end
  local meta = getmetatable(value)
  return type(meta) == "table" and type(meta.__call) == "function"
end

-- What a source or a sink threw goes on, once the connection is in order again.
local function finished(conn, answer, message, name, fields, thrown)
  exchange.finish(conn)
  if thrown then error(thrown[1], 0) end
  return answer, message, name, fields
end

--- Methods of connections.
function copy.install(Connection)
  --- Sends data: COPY … FROM STDIN.
  -- @param source a string; or a function that returns strings, and nil at the end, or nil, message to give up; it may wait
  -- @return result; or nil, message, name, fields
  function Connection:copy_in(sql, source)
    if type(source) ~= "string" and not is_callable(source) then
      misuse.raise("conn:copy_in: expected the data as a string or a function, got " .. text_of.show(source))
    end
    local sent, message, name = query.check("conn:copy_in", sql)
    if not sent then return nil, message, name end
    local ok
    ok, message, name = exchange.begin(self, "copy_in")
    if not ok then return nil, message, name end
    return finished(self, run_in(self, sql, source_of(source)))
  end

  --- Receives data: COPY … TO STDOUT.
  -- @param sink function(data), called with pieces of whole rows; it may wait. If it returns false, or nil, message, COPY is ended
  -- @return result; or nil, message, name, fields
  function Connection:copy_out(sql, sink)
    if not is_callable(sink) then misuse.raise("conn:copy_out: expected a function, got " .. text_of.show(sink)) end
    local sent, message, name = query.check("conn:copy_out", sql)
    if not sent then return nil, message, name end
    local ok
    ok, message, name = exchange.begin(self, "copy_out")
    if not ok then return nil, message, name end
    return finished(self, run_out(self, sql, sink))
  end
end

return copy
