--- conn:pipeline: many queries are sent without waiting for the answer to each; the answers are read together.
--
-- The happy path: a function says what is to be sent; all of it is sent, with a sync at the end, while answers that come meanwhile are
-- read; then each query's answer is taken.
--
-- What can go wrong: one fails. The server does nothing of what follows it up to the next sync, and says so: each of these is "aborted".
-- What was done since the sync before is undone, unless it was in a transaction of its own.
local exchange = require "cueball.connection.postgres.exchange"
local libpq = require "cueball.connection.postgres.libpq"
local misuse = require "cueball.misuse"
local query = require "cueball.connection.postgres.query"
local text_of = require "cueball.text"

local pipeline = {}

local QUERIES_MAX = 65536
local PIECE = 65536  -- bytes that are handed to libpq before it has sent them
local OVERHEAD = 64  -- of a query, in bytes

-- ------------------------------------------------------------------ collecting --

local Pipe = {}
Pipe.__index = Pipe

local SYNC = {}

--- Adds a query.
-- @return its number among the results
function Pipe:query(sql, ...)
  if self.is_over then misuse.raise "pipe:query: the pipeline was sent already" end
  local sent, message = query.check("pipe:query", sql, ...)
  self.count = self.count + 1
  if not sent then
    self.fault = self.fault or ("query %d: %s"):format(self.count, message)
  elseif self.count > QUERIES_MAX then
    self.fault = self.fault or ("a pipeline has %d queries at most"):format(QUERIES_MAX)
  else
    self[#self + 1] = { sql = sql, sent = sent }
  end
  return self.count
end

--- An error before does not touch what follows, and one after does not undo what went before.
function Pipe:sync()
  if self[#self] ~= SYNC and #self > 0 then self[#self + 1] = SYNC end
end

local function collected(fn)
  if type(fn) ~= "function" then misuse.raise("conn:pipeline: expected a function, got " .. text_of.show(fn)) end
  local pipe = setmetatable({ count = 0, fault = nil, is_over = false }, Pipe)
  fn(pipe)
  pipe.is_over = true
  if pipe.fault then return nil, pipe.fault, "invalid" end
  if pipe[#pipe] ~= SYNC and #pipe > 0 then pipe[#pipe + 1] = SYNC end
  return pipe
end

-- --------------------------------------------------------------------- sending --

-- Hands one to libpq. → whether libpq took it
local function send(conn, one)
  if one ~= SYNC then return query.send(conn, one.sql, one.sent) end
  exchange.sent(conn)
  return conn.pq.PQpipelineSync(conn.pg) == 1
end

-- Sends all that libpq has. What comes meanwhile is read: the server may take nothing before somebody reads its answers.
local function flush(conn)
  local ok, message, name = exchange.flush(conn, exchange.deadline(conn, conn.query_ms), true)
  if not ok then return false, message, name end
  if conn.is_lost then return false, select(2, exchange.broken(conn)), "closed" end
  return true
end

local function size_of(one)
  local size = one.sql and #one.sql or 0
  for index = 1, one.sent and one.sent.count or 0 do size = size + #(one.sent[index] or "") end
  return size + OVERHEAD
end

-- @return true; or false, message, name
local function send_all(conn, pipe)
  local size = 0
  for _, one in ipairs(pipe) do
    if not send(conn, one) then return false, select(2, exchange.broken(conn)), "closed" end
    size = size + size_of(one)
    if size >= PIECE then
      local ok, message, name = flush(conn)
      if not ok then return false, message, name end
      size = 0
    end
  end
  return flush(conn)
end

-- --------------------------------------------------------------------- reading --

local function failure(message, name, fields)
  return { error = { message = message, name = name, fields = fields } }
end

-- What became of one query, from one of its results.
-- @param single nil; or rows that came before it. After conn:rows was the last, libpq gives the first query's rows one by one.
local function outcome(conn, result, status, single)
  if status == libpq.PIPELINE_ABORTED then return failure("aborted, as a query before it failed", "aborted") end
  local answer, message, name, fields = query.read(conn, result)
  if not answer then return failure(message, name, fields) end
  if single and status ~= libpq.SINGLE_TUPLE then
    for index, row in ipairs(single) do answer[index] = row end
  end
  return answer
end

local IS_COPY = { [libpq.COPY_IN] = true, [libpq.COPY_OUT] = true, [libpq.COPY_BOTH] = true }

-- The answer to one query: results up to the end of it. What has come of it stays in `results` if the time is up in the middle.
local function read_query(conn, results, deadline)
  local result, message, name = exchange.next_result(conn, deadline)
  while result do
    local status = conn.pq.PQresultStatus(result)
    if IS_COPY[status] then
      exchange.clear(conn, result)
      conn:shut("COPY in a pipeline", "claimer")
      return false, "COPY cannot be part of a pipeline; the connection was closed", "unsupported"
    end
    local answer = outcome(conn, result, status, results.single)
    if status == libpq.SINGLE_TUPLE and not answer.error then
      results.single = results.single or {}
      table.insert(results.single, answer[1])
    else
      results.found = results.found or answer
    end
    exchange.clear(conn, result)
    result, message, name = exchange.next_result(conn, deadline)
  end
  if result == false then return false, message, name end
  if not conn.pg then return false, exchange.closed(conn) end
  local found = results.found
  if conn.fatal or conn.is_lost and (not found or found.error) then
    local _
    _, message, name = exchange.broken(conn)
    return false, message, name
  end
  if not found then return false, select(2, query.no_answer(conn)), "closed" end
  results.found, results.single = nil, nil
  results[#results + 1] = found
  return true
end

local function read_sync(conn, deadline)
  local result, message, name = exchange.next_result(conn, deadline)
  if not result then return false, message or select(2, exchange.broken(conn)), name or "closed" end
  local status = conn.pq.PQresultStatus(result)
  if status == libpq.FATAL_ERROR then message, name = query.failure(conn, result) end
  exchange.clear(conn, result)
  if status == libpq.PIPELINE_SYNC then return true end
  return false, message or "the server's answers are out of step", name or "closed"
end

-- Reads from where reading stands. The time limit is for each answer, or for all of them.
local function read_from(conn, pipe, results, deadline)
  while pipe[results.at] do
    local one = pipe[results.at]
    local limit = deadline or exchange.deadline(conn, conn.query_ms)
    local ok, message, name
    if one == SYNC then ok, message, name = read_sync(conn, limit) else ok, message, name = read_query(conn, results, limit) end
    if not ok then return false, message, name end
    results.at = results.at + 1
  end
  return true
end

-- What was cancelled is an error among the others. Which of them that was says the server: it keeps back answers until the next sync.
local function name_timeout(conn, results, from)
  for index = from, #results do
    local problem = results[index].error
    if problem and problem.name == "57014" then
      problem.name, problem.message = "timeout", query.too_long(conn) .. ", and was cancelled"
      return
    end
  end
end

local function read_all(conn, pipe)
  local results = { at = 1 }
  local ok, message, name = read_from(conn, pipe, results)
  if not ok and name == "timeout" then
    local from = #results + 1
    ok, message = query.stop(conn, function(_, deadline) return read_from(conn, pipe, results, deadline) end)
    if not ok then message = query.too_long(conn) .. "; " .. message end
    name_timeout(conn, results, from)
  end
  results.at, results.found, results.single = nil, nil, nil
  if not ok then return nil, message, name end
  conn.has_delivered = conn.has_delivered or conn.was_lent
  return results
end

local function run(conn, pipe)
  if conn.pq.PQenterPipelineMode(conn.pg) == 0 then return exchange.broken(conn) end
  local results
  local ok, message, name = send_all(conn, pipe)
  if ok or conn.is_lost then
    results, message, name = read_all(conn, pipe) -- of a lost connection, what the server said before
  elseif conn.pg then
    conn:shut(message, name == "timeout" and "timeout" or "peer") -- half of it is sent
  end
  if conn.pg and conn.pq.PQexitPipelineMode(conn.pg) == 0 then conn:shut("a pipeline did not end", "peer") end
  return results, message, name
end

--- Methods of connections.
function pipeline.install(Connection)
  --- Sends many queries at once. fn(pipe) calls pipe:query(sql, ...), once for each.
  -- @return a list of results, in order, one that failed being { error = { message =, name =, fields = } }; or nil, message, name
  function Connection:pipeline(fn)
    local pipe, message, name = collected(fn)
    if not pipe then return nil, message, name end
    if #pipe == 0 then return {} end
    local ok
    ok, message, name = exchange.begin(self, "pipeline")
    if not ok then return nil, message, name end
    return query.finished(self, run(self, pipe))
  end
end

return pipeline
