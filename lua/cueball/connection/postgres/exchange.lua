--- The talk with the server under all that a connection does: sending, waiting and receiving without ever blocking the loop; who may talk.
--
-- The happy path: begin() takes the connection for one operation; the operation sends; next_result() flushes what is unsent, waits until
-- the server has answered, and gives the results one by one; finish() leaves the connection to the next operation.
--
-- What can go wrong:
--   * The connection breaks. libpq then closes its socket inside one of its functions, so the poll is closed right after each of them
--     that may do so: the number of the socket may be another's soon. What the server had said before is in the results still to come.
--   * The task is killed: abort() closes the connection, since nobody knows what is under way in it.
--   * Somebody closes the connection meanwhile: the task goes on with nil, "closed".
local ffi = require "ffi"
local misuse = require "cueball.misuse"
local problem = require "cueball.connection.postgres.problem"

local exchange = {}

local huge = math.huge

--- When a time limit is over: the connection may have a deadline besides.
function exchange.deadline(conn, ms)
  local at = ms == huge and huge or conn.host.now() + ms * 1e6
  return conn.deadline and conn.deadline < at and conn.deadline or at
end

-- libpq closed its socket, or the protocol is out of step: nothing more comes but what it has read.
local function note_loss(conn)
  local pq, pg = conn.pq, conn.pg
  if pq.PQstatus(pg) == 0 and pq.PQsocket(pg) >= 0 then return end
  if conn.poll then
    conn.poll:close()
    conn.poll = nil
  end
  conn.is_lost = true
end
exchange.note_loss = note_loss

--- Takes out what libpq keeps beside results: notifications and notices.
local function collect(conn)
  local pq, pg = conn.pq, conn.pg
  local one = pq.PQnotifies(pg)
  while one ~= nil do
    conn.inbox:add(ffi.string(one.relname), ffi.string(one.extra), one.be_pid)
    pq.PQfreemem(one)
    one = pq.PQnotifies(pg)
  end
  if conn.notices.length > 0 or conn.notices.dropped > 0 then conn:take_notices() end
end
exchange.collect = collect

--- Reads what has come, without waiting.
function exchange.consume(conn)
  local pq, pg = conn.pq, conn.pg
  pq.PQconsumeInput(pg)
  -- The TLS library may hold back a part of a record: the socket would never tell of it.
  if conn.is_encrypted then pq.PQconsumeInput(pg) end
  pq.PQisBusy(pg) -- which parses
  note_loss(conn)
  collect(conn)
end

-- Waits until the socket is ready. → true; or nil, "timeout"; or nil, "closed"
-- Without a socket nothing is ready any more: libpq has lost it amid a message, of whose rest it goes on saying that it is to come.
local function wait(conn, events, deadline)
  if conn.is_lost then return nil, "closed" end
  local limit_ms = deadline ~= huge and math.max(0, (deadline - conn.host.now()) / 1e6) or nil
  local ready, message = conn.poll:wait(events, limit_ms)
  if not conn.pg then return nil, "closed" end
  if not ready then return nil, message end
  if ready ~= "w" then exchange.consume(conn) end
  return true
end

--- Why the connection cannot be talked on: message, "closed".
function exchange.closed(conn)
  return conn.ended or "the connection is closed", "closed"
end

--- What the server said as it ended the connection, or what libpq says of a connection that it could not use.
-- @return nil, message, name, fields
function exchange.broken(conn)
  note_loss(conn)
  local fatal = conn.fatal
  if fatal then return nil, problem.sentence(fatal), fatal.sqlstate or "closed", fatal end
  local message = problem.trim(ffi.string(conn.pq.PQerrorMessage(conn.pg)))
  return nil, message ~= "" and message or "the connection was lost", "closed"
end

local function waited(conn, message)
  if message == "closed" and not conn.pg then return false, exchange.closed(conn) end
  if conn.is_lost then return false, select(2, exchange.broken(conn)) end
  return false, message, message == "timeout" and "timeout" or "closed"
end

--- Sends what libpq has not sent yet.
-- @param is_all false: some of it may stay unsent if the server does not take it
-- @return true; or false, message, name
function exchange.flush(conn, deadline, is_all)
  local pq = conn.pq
  while true do
    local left = pq.PQflush(conn.pg)
    conn.is_unsent = left == 1
    if left ~= 1 then
      note_loss(conn) -- a failure shows in the results
      return true
    end
    if not is_all then return true end
    local ok, message = wait(conn, "rw", deadline)
    if not ok then return waited(conn, message) end
    if conn.is_lost then return true end
  end
end

--- The next result of what was sent.
-- @return the result, which exchange.clear frees; nil: there is no more; or false, message, name
function exchange.next_result(conn, deadline)
  local pq = conn.pq
  if conn.is_unsent == nil then exchange.flush(conn, deadline) end
  while pq.PQisBusy(conn.pg) ~= 0 do
    note_loss(conn)
    if conn.is_lost then break end
    local ok, message = wait(conn, conn.is_unsent and "rw" or "r", deadline)
    if not ok then return waited(conn, message) end
    if conn.is_unsent and not conn.is_lost then exchange.flush(conn, deadline) end
  end
  local result = pq.PQgetResult(conn.pg)
  note_loss(conn)
  collect(conn)
  if result == nil then return nil end
  return ffi.gc(result, pq.PQclear)
end

--- Waits until something has come, or the time is up.
-- @return true; or false, message, name
function exchange.await(conn, deadline)
  local ok, message = wait(conn, "r", deadline)
  if ok then return true end
  return waited(conn, message)
end

--- Frees a result.
function exchange.clear(conn, result)
  conn.pq.PQclear(ffi.gc(result, nil))
end

--- Something was handed to libpq, to be sent.
function exchange.sent(conn)
  conn.is_unsent = nil
end

--- Takes the connection for one operation of the current task.
-- @param what it is, for messages: "query"
-- @param rows nil; or the rows that are read: others are ended
-- @return true; or nil, message, name
function exchange.begin(conn, what, rows)
  if not conn.host.can_wait() then misuse.raise(("conn:%s: only a task may wait: use host.spawn or host.run"):format(what)) end
  if not conn.pg then return nil, exchange.closed(conn) end
  if conn.operation then
    return nil, ("the connection is busy: conn:%s of another task is under way"):format(conn.operation), "busy"
  end
  if conn.rows_open and conn.rows_open ~= rows then
    local ok, message, name = conn.rows_open:close(what)
    if not ok then return nil, message, name end
  end
  if conn.is_lost then -- found out as somebody looked for notifications
    local _, message, name = exchange.broken(conn)
    conn:shut(message, "peer")
    return nil, message, name
  end
  conn.operation = what
  conn.host.guard(conn)
  return true
end

--- Ends the operation. A cancel of another task's that is still under way might hit the next one: it is waited for.
function exchange.finish(conn)
  while conn.pg and conn.cancelling do conn.cancelling:wait() end
  conn.operation = nil
  conn.host.unguard(conn)
  if not conn.pg then return end
  if conn.is_lost then
    conn:shut((select(2, exchange.broken(conn))), "peer")
  elseif conn.is_unproven then
    conn:shut("a cancel was sent, and nobody knows whether it is over", "claimer")
  end
end

return exchange
