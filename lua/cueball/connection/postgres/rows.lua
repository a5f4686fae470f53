--- conn:rows: the rows of a large result, one at a time; no more than a piece of it is ever in memory.
--
-- The happy path: the first row is waited for; each call of the iterator gives the next one, and waits where it has not come yet.
--
-- What can go wrong: the server breaks off in the middle: the iterator raises it, as a loop that just ended would look complete. Whoever
-- reads no further ends the rows (by rows:close(), or by using the connection for something else): the rest is cancelled.
local exchange = require "cueball.connection.postgres.exchange"
local libpq = require "cueball.connection.postgres.libpq"
local misuse = require "cueball.misuse"
local query = require "cueball.connection.postgres.query"
local text_of = require "cueball.text"

local rows = {}

local Rows = {}
Rows.__index = Rows

-- Nothing more comes.
local function over(self)
  self.is_over = true
  if self.conn.rows_open == self then self.conn.rows_open = nil end
end

local function fail(self, message, name, fields)
  self.failure = { message, name, fields }
  over(self)
  return nil, message, name, fields
end

-- Its time is up, or a row cannot be read.
local function stop(self, message, name)
  local ok, why = query.stop(self.conn)
  if not ok then message = message .. "; " .. why end
  return fail(self, message, name)
end

-- A result that is no row: the end, or an error. What follows it is nothing.
local function last(self, result, status, deadline)
  local conn = self.conn
  local message, name, fields
  local is_copy = status == libpq.COPY_IN or status == libpq.COPY_OUT or status == libpq.COPY_BOTH
  if status == libpq.FATAL_ERROR then
    message, name, fields = query.failure(conn, result)
  elseif not is_copy then -- the columns of COPY have no names
    self.columns = self.columns or query.shape(conn, result).names
  end
  exchange.clear(conn, result)
  if is_copy then return stop(self, "COPY needs conn:copy_in or conn:copy_out", "unsupported") end
  local ok, why, code = query.discard(conn, deadline)
  if message then return fail(self, message, name, fields) end
  if not ok then return fail(self, why, code) end
  conn.has_delivered = conn.has_delivered or conn.was_lent
  over(self)
  return nil
end

-- @return a row; nil at the end; or nil, message, name, fields
local function take(self, result, deadline)
  local conn = self.conn
  local status = conn.pq.PQresultStatus(result)
  if status ~= libpq.SINGLE_TUPLE then return last(self, result, status, deadline) end
  if not self.shape then
    self.shape = query.shape(conn, result)
    self.columns = self.shape.names
  end
  local ok, row = pcall(query.row, conn, result, self.shape, 0)
  exchange.clear(conn, result)
  if ok then return row end
  return stop(self, "reading a value threw: " .. text_of.message(row), "invalid")
end

local function step(self)
  local conn = self.conn
  local deadline = exchange.deadline(conn, conn.query_ms)
  local result, message, name = exchange.next_result(conn, deadline)
  if result then return take(self, result, deadline) end
  if result == nil then
    local _
    _, message, name = query.no_answer(conn)
    return fail(self, message, name)
  end
  if name == "timeout" then return stop(self, query.too_long(conn, "the next row"), name) end
  return fail(self, message, name)
end

-- The next row as an operation of its own, if it has to be waited for.
local function advance(self)
  local conn = self.conn
  local ok, message, name = exchange.begin(conn, "rows", self)
  if not ok then
    if not conn.pg then return fail(self, message, name) end
    return nil, message, name
  end
  return query.finished(conn, step(self))
end

--- The next row.
-- @return a row; nil: there are no more; or nil, message, name, fields
function Rows:next()
  local first = self.first
  if first then
    self.first = nil
    return first
  end
  local failure = self.failure
  if failure then return nil, failure[1], failure[2], failure[3] end
  if self.is_over then return nil end
  return advance(self)
end

--- The same for loops: what goes wrong is raised.
function Rows:__call()
  local row, message = self:next()
  if row == nil and message then misuse.raise("conn:rows: " .. message) end
  return row
end

-- Takes what has come already. → whether that was all
local function skim(conn)
  local pq = conn.pq
  exchange.consume(conn)
  while conn.pg and pq.PQisBusy(conn.pg) == 0 do
    local result = pq.PQgetResult(conn.pg)
    if result == nil then return true end
    pq.PQclear(result)
  end
  return false
end

--- Ends them. What the server has not sent yet is cancelled.
-- @param by nil; or the operation that needs the connection
-- @return true; or nil, message, name
function Rows:close(by)
  if self.is_over then return true end
  local conn = self.conn
  local ok, message, name = exchange.begin(conn, "rows", self)
  if not ok then return nil, message, name end
  if by then self.failure = { ("the rows were ended, as conn:%s was called"):format(by), "closed" } end
  self.first = nil
  over(self)
  if not skim(conn) then ok, message = query.stop(conn) end
  exchange.finish(conn)
  if ok then return true end
  return nil, message, "timeout"
end

local function begin(conn, sql, sent)
  if not query.send(conn, sql, sent) then return exchange.broken(conn) end
  conn.pq.PQsetSingleRowMode(conn.pg)
  local self = setmetatable({ conn = conn, columns = nil, shape = nil, first = nil, is_over = false, failure = nil }, Rows)
  conn.rows_open = self
  local message, name, fields
  self.first, message, name, fields = step(self)
  if message then return nil, message, name, fields end
  return self
end

--- Methods of connections.
function rows.install(Connection)
  --- Ends rows that were left unread, as any other use of the connection would.
  -- @return true; or nil, message, name
  function Connection:settle()
    if not self.rows_open then return true end
    return self.rows_open:close "settle"
  end

  --- Reads the rows of one statement, one at a time: for row in conn:rows(sql, ...) do … end
  -- @return an iterator, with next(), close() and `columns`; or nil, message, name, fields
  function Connection:rows(sql, ...)
    local sent, message, name = query.check("conn:rows", sql, ...)
    if not sent then return nil, message, name end
    local ok
    ok, message, name = exchange.begin(self, "rows")
    if not ok then return nil, message, name end
    return query.finished(self, begin(self, sql, sent))
  end
end

return rows
