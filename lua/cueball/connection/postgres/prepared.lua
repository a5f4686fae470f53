--- Prepared statements: which the server knows on a connection, at most so many, the least recently used goes first.
--
-- The happy path: run() finds the statement's name, or prepares it, and executes it.
--
-- What can go wrong: the server knows the statement no more (DISCARD, DEALLOCATE, a pooler between), or it cannot execute it any more, as a
-- table has changed ("cached plan must not change result type"). Then it is prepared anew and executed once more. In a transaction that is
-- too late, as the server has ended it: the error is the caller's, and the next time the statement is prepared anew.
local exchange = require "cueball.connection.postgres.exchange"
local query = require "cueball.connection.postgres.query"

local prepared = {}

local EXPLICIT_MAX = 100 -- for conn:prepare, where none are prepared by themselves

local Cache = {}
Cache.__index = Cache

--- @param host draws the prefix of names: behind a pooler, those of other connections must not be the same
-- @param automatic so many are prepared by themselves; 0: none
function prepared.new(host, automatic)
  return setmetatable({
    host = host, prefix = nil, automatic = automatic, limit = automatic > 0 and automatic or EXPLICIT_MAX,
    names = {},    -- by key
    uses = {},     -- by key: the number of its last use
    count = 0, clock = 0, last = 0,
    is_short = false, -- there was no room for one
    obsolete = {}, -- names that the server may forget
  }, Cache)
end

local IS_PREPARED = { select = true, insert = true, update = true, delete = true, with = true, values = true, merge = true, table = true }

--- Is the query to be prepared by itself? Only one statement can be, and others than these gain nothing.
function Cache:takes(sql)
  if self.automatic == 0 then return false end
  if self.names[sql] then return true end
  local word = sql:match "^[%s(]*(%a+)"
  return word ~= nil and IS_PREPARED[word:lower()] == true and not sql:find ";%s*%S"
end

--- The server forgot all.
function Cache:clear()
  if self.count == 0 and #self.obsolete == 0 then return end
  self.names, self.uses, self.count, self.obsolete = {}, {}, 0, {}
end

function Cache:drop(key)
  if not self.names[key] then return end
  self.names[key], self.uses[key] = nil, nil
  self.count = self.count - 1
end

-- The one that was used least recently is obsolete.
local function evict(self)
  local oldest, least
  for key, number in pairs(self.uses) do
    if not least or number < least then oldest, least = key, number end
  end
  self.obsolete[#self.obsolete + 1] = self.names[oldest]
  self:drop(oldest)
end

local function use(self, key)
  self.clock = self.clock + 1
  self.uses[key] = self.clock
end

local function new_name(self)
  self.prefix = self.prefix or ("cueball_%x_"):format(self.host.seed())
  self.last = self.last + 1
  return self.prefix .. self.last
end

-- The same text with bytes for some parameters is another statement.
local function key_of(sql, sent)
  if not sent.bytes then return sql end
  local places = {}
  for index = 1, sent.count do places[index] = sent.bytes[index] and "b" or "t" end
  return sql .. "\0" .. table.concat(places)
end

-- Has the server forget what is obsolete, and what makes room for one more. In a transaction that would not be safe: a statement that the
-- server does not know would end it.
-- @return true; false: there is no room; or nil, message, name
local function make_room(conn)
  local cache = conn.prepared
  if conn:status() ~= "idle" then
    cache.is_short = cache.count + #cache.obsolete >= cache.limit
    return not cache.is_short
  end
  if cache.count >= cache.limit then evict(cache) end
  while cache.obsolete[1] do
    local name = table.remove(cache.obsolete)
    local ok, message, code, fields = query.run(conn, 'DEALLOCATE "' .. name .. '"', { count = 0 })
    if not ok and not fields then return nil, message, code end
  end
  cache.is_short = false
  return true
end

--- In a transaction there was no room for a statement: makes room, before something else is done outside of one.
-- @return true; or nil, message, name
function prepared.catch_up(conn)
  if conn:status() ~= "idle" then return true end
  return make_room(conn)
end

-- @return the statement's name at the server; false: there is no room for it; or nil, message, name, fields
local function prepare(conn, key, sql, sent)
  local cache = conn.prepared
  local name = cache.names[key]
  if name then
    use(cache, key)
    return name
  end
  local has_room, message, code = make_room(conn)
  if not has_room then return has_room, message, code end
  name = new_name(cache)
  if not query.send_prepare(conn, name, sql, sent) then return exchange.broken(conn) end
  local answer, fields
  answer, message, code, fields = query.answer(conn)
  if not answer then return nil, message, code, fields end
  cache.names[key] = name
  cache.count = cache.count + 1
  use(cache, key)
  return name
end

local UNKNOWN, CHANGED = "26000", "0A000"

-- Did the server refuse to begin with the statement? Then it is of no more use.
local function is_stale(cache, key, name, fields)
  if not fields or fields.context then return false end
  if fields.sqlstate == UNKNOWN then
    cache:drop(key)
    return true
  end
  if fields.sqlstate == CHANGED and fields.routine == "RevalidateCachedQuery" then
    cache:drop(key)
    cache.obsolete[#cache.obsolete + 1] = name
    return true
  end
  return false
end

--- Executes a query as a prepared statement, in an operation.
-- @return result; or nil, message, name, fields
function prepared.run(conn, sql, sent)
  local cache, key = conn.prepared, key_of(sql, sent)
  if conn:status() == "failed_transaction" then return query.run(conn, sql, sent) end
  local may_repeat = conn:status() == "idle"
  while true do
    local name, message, code, fields = prepare(conn, key, sql, sent)
    if name == false then return query.run(conn, sql, sent) end
    if not name then return nil, message, code, fields end
    if not query.send_prepared(conn, name, sent) then return exchange.broken(conn) end
    local answer
    answer, message, code, fields = query.answer(conn)
    if answer then return answer end
    if not is_stale(cache, key, name, fields) or not may_repeat then return nil, message, code, fields end
    may_repeat = false
  end
end

-- ------------------------------------------------------------------ statements --

local Statement = {}
Statement.__index = Statement

--- Executes it. What follows are its parameters.
-- @return result; or nil, message, name, fields
function Statement:query(...)
  local conn, sql = self.conn, self.sql
  local sent, message, name = query.check("statement:query", sql, ...)
  if not sent then return nil, message, name end
  local ok
  ok, message, name = exchange.begin(conn, "query")
  if not ok then return nil, message, name end
  return query.finished(conn, prepared.run(conn, sql, sent))
end

--- Methods of connections.
function prepared.install(Connection)
  --- Prepares a statement, unless the server knows it on this connection.
  -- @return a statement; or nil, message, name, fields
  function Connection:prepare(sql)
    local ok, message, name = query.check("conn:prepare", sql)
    if not ok then return nil, message, name end
    ok, message, name = exchange.begin(self, "prepare")
    if not ok then return nil, message, name end
    local fields
    ok, message, name, fields = query.finished(self, prepare(self, sql, sql, { count = 0 }))
    if ok == nil then return nil, message, name, fields end
    return setmetatable({ conn = self, sql = sql }, Statement)
  end
end

return prepared
