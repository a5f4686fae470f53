--- Connections to PostgreSQL on libpq, asynchronous on the host's poll: client.connect makes one. docs/postgres.md says what it can do.
--
-- The happy path: libpq says what it wants to do, read or write its socket; the task waits until it can; in the end libpq says that the
-- connection is open. From then on one operation at a time talks on it (cueball.connection.postgres.exchange).
--
-- What can go wrong: the server refuses (its words are in the error, with their SQLSTATE), nobody answers within the time limit, the task
-- is killed: in each case the connection is closed, and nothing is left.
local ffi = require "ffi"
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local cancel = require "cueball.connection.postgres.cancel"
local exchange = require "cueball.connection.postgres.exchange"
local inbox = require "cueball.connection.postgres.inbox"
local libpq = require "cueball.connection.postgres.libpq"
local prepared = require "cueball.connection.postgres.prepared"
local problem = require "cueball.connection.postgres.problem"
local query = require "cueball.connection.postgres.query"
local text_of = require "cueball.text"
local values = require "cueball.connection.postgres.values"

local client = {}

local Connection = {}
Connection.__index = Connection
client.Connection = Connection

-- LuaJIT makes a new type each time that it reads the declaration of a function, and has room for 65,536.
local FIELD = ffi.typeof "const char *(*)(const void *, int)"

local DEFAULTS = {
  connect_ms = 60000,      -- of connecting
  query_ms = 60000,        -- of a query; of each wait for more, where there is more to come
  cancel_ms = 1000,        -- how long a query may take to end once its time is up
  prepare = 0,             -- so many statements are prepared by themselves
  notifications = 10000,   -- so many wait to be taken
  notice_bytes = 1048576,  -- so much of the server's notices is kept until the loop comes to them
}

-- ------------------------------------------------------------------ connecting --

-- libpq's lists of keywords and their values, which Lua's strings stand behind.
-- @return keywords, values, what is to be kept alive; or nil, message
local function listed(parameters)
  local names = {}
  for name, value in pairs(parameters) do
    if tostring(value):find("\0", 1, true) then return nil, ("%s has a NUL byte"):format(tostring(name)) end
    names[#names + 1] = name
  end
  table.sort(names)
  local texts = {}
  for index, name in ipairs(names) do texts[index] = tostring(parameters[name]) end
  local keywords, given = ffi.new("const char *[?]", #names + 1), ffi.new("const char *[?]", #names + 1)
  for index = 1, #names do keywords[index - 1], given[index - 1] = names[index], texts[index] end
  return keywords, given, { names, texts }
end

-- libpq would ask the system's resolver, which blocks.
local function is_without_address(parameters)
  local host = parameters.host
  return not parameters.hostaddr and host ~= nil and not tostring(host):find "^[/@]"
end

local function new(host, pq, pg, settings)
  local conn = setmetatable({
    host = host, pq = pq, pg = ffi.gc(pg, pq.PQfinish), settings = settings,
    query_ms = settings.query_ms,
    readers = values.readers("cueball.connection.postgres", settings.types),
    inbox = inbox.new(settings.notifications),
    prepared = prepared.new(host, settings.prepare),
    notices = ffi.gc(ffi.new "cueball_notices", native.lib.cueball_notices_clear),
    on_notice = settings.notice,
    poll = nil,
    deadline = nil,         -- see Connection:limit
    on_error = nil,         -- function(conn, sqlstate): hears of each error of the server
    operation = nil,        -- what a task does with it: "query"
    rows_open = nil,        -- rows that are read one at a time
    cancelling = nil,       -- a waiter: a cancel of another task's is under way
    is_unproven = false,    -- a cancel was sent, and nobody knows whether it is over
    is_unsent = false,      -- libpq has bytes that the socket did not take; nil: it was not asked yet
    is_lost = false,        -- libpq has closed its socket
    is_encrypted = false,
    fatal = nil,            -- the server's last words
    told = nil, heard = nil, ear_at_rest = nil, -- see make_ear
    out_of_step = nil,      -- what came at rest that nobody understands
    was_lent = false, has_delivered = false,
    is_blocking = false,    -- for threads of a C program
    ended = nil, ended_by = nil, -- why it is closed
  }, Connection)
  conn.notices.limit, conn.notices.codes = settings.notice_bytes, problem.CODES
  conn.notices.field = ffi.cast(FIELD, pq.PQresultErrorField)
  pq.PQsetNoticeReceiver(pg, ffi.cast("cueball_pq_receiver", native.lib.cueball_notices_receive), conn.notices)
  pq.PQsetErrorVerbosity(pg, libpq.VERBOSITY_VERBOSE)
  return conn
end

-- Goes on with connecting until it is done. → "ok"; or "failed"; or "timeout" or another message of the host's
local function establish(conn, deadline)
  local pq, host = conn.pq, conn.host
  local state = pq.PQstatus(conn.pg) == 1 and "failed" or "w"
  while state == "r" or state == "w" do
    local poll, message = host.poll(pq.PQsocket(conn.pg))
    if not poll then return message end
    conn.poll = poll
    local ready
    ready, message = poll:wait(state, math.max(0, (deadline - host.now()) / 1e6))
    poll:close() -- the next call may close the socket and open another
    conn.poll = nil
    if not ready then return message end
    state = libpq.POLLING[pq.PQconnectPoll(conn.pg)]
  end
  return state
end

local function opened(conn)
  local pq, pg = conn.pq, conn.pg
  pq.PQsetErrorVerbosity(pg, libpq.VERBOSITY_DEFAULT)
  pq.PQsetnonblocking(pg, 1)
  conn.is_encrypted = pq.PQsslInUse(pg) ~= 0
  local poll, message = conn.host.poll(pq.PQsocket(pg))
  if not poll then
    conn:shut(message, "claimer")
    return nil, message, "closed"
  end
  conn.poll = poll
  return conn
end

local function failed(conn, state)
  local message, sqlstate
  if state == "failed" then
    message, sqlstate = problem.of_attempt(ffi.string(conn.pq.PQerrorMessage(conn.pg)))
  elseif state == "timeout" then
    message, sqlstate = ("no connection after %g ms"):format(conn.settings.connect_ms), "timeout"
  else
    message = state
  end
  conn:shut(message, "peer")
  return nil, message, sqlstate or "closed"
end

--- Connects, in a task.
-- @param host       its poll is used
-- @param parameters by libpq's keywords; a host name needs its address in hostaddr
-- @param settings   nil; or { connect_ms =, query_ms =, cancel_ms =, types =, null =, prepare =, notice = function(fields) }
-- @return a connection; or nil, message, name: the SQLSTATE if the server said one, "timeout", "invalid", "closed", "unsupported"
function client.connect(host, parameters, settings)
  local pq, why = libpq.load()
  if not pq then return nil, why, "unsupported" end
  if not host.poll then return nil, ("libpq cannot be used on the host %q: it has no poll"):format(host.name), "unsupported" end
  if is_without_address(parameters) then
    return nil, ("the host %q needs its address in hostaddr: libpq would block while it asks for it"):format(parameters.host), "invalid"
  end
  local keywords, given, alive = listed(parameters)
  if not keywords then return nil, given, "invalid" end
  local pg = pq.PQconnectStartParams(keywords, given, 0)
  if pg == nil or not alive then return nil, "out of memory", "closed" end
  local conn = new(host, pq, pg, setmetatable(settings or {}, { __index = DEFAULTS }))
  local ear = cancel.listen(pq, pg)
  conn.ear = ear
  host.guard(conn)
  local state = establish(conn, host.now() + conn.settings.connect_ms * 1e6)
  host.unguard(conn)
  if not conn.pg then return nil, exchange.closed(conn) end
  conn.ear, conn.cancel_key = nil, cancel.key(pq, pg, ear)
  if state == "ok" then return opened(conn) end
  return failed(conn, state)
end

-- --------------------------------------------------------------------- ending --

--- Ends the connection, at once.
-- @param who ended it: "peer", "claimer" or "timeout"
function Connection:shut(message, who)
  local pg = self.pg
  if not pg then return end
  if self.ear then cancel.key(self.pq, pg, self.ear) end
  self.ear, self.pg = nil, nil
  self.ended, self.ended_by = self.ended or text_of.message(message), self.ended_by or who
  if self.poll then self.poll:close() end
  self.poll = nil
  self.pq.PQfinish(ffi.gc(pg, nil))
  native.lib.cueball_notices_clear(self.notices)
end

-- The server would go on with what nobody waits for.
local function cancel_what_runs(self)
  if self.pg and (self.operation or self.rows_open) and not self.ear and self:status() == "active" then cancel.send_later(self) end
end

--- Closes the connection, at once, whatever is under way in it.
function Connection:close()
  cancel_what_runs(self)
  self:shut("the connection was closed", "claimer")
end

--- The task that uses the connection is killed in the middle of something.
function Connection:abort()
  cancel_what_runs(self)
  self:shut("a task was killed in the middle of an operation", "claimer")
end

-- ------------------------------------------------------------------- condition --

-- Whose doing the end of the connection is, see docs/contracts.md.
local function kind_of_end(self)
  if self.ended_by == "timeout" then return "timeout" end
  if self.ended_by == "claimer" then return self.has_delivered and "worn" or "unfit" end
  if not self.has_delivered then return "lost" end
  return self.was_at_rest and "worn" or "unfit"
end

--- May the connection be lent again? That it is in a transaction is not looked at: status() says so.
-- @return true; or nil, message, kind: of docs/contracts.md, "dirty" if settle() mends it
function Connection:is_fit()
  if not self.pg then return nil, self.ended, kind_of_end(self) end
  if self.operation then return nil, ("conn:%s is under way"):format(self.operation), "unfit" end
  if self.rows_open then return nil, "rows were left unread", "dirty" end
  if self.cancelling then return nil, "a cancel is under way", "unfit" end
  if self.is_lost and not self.fatal then
    return nil, (select(2, exchange.broken(self))), self.has_delivered and "unfit" or "lost"
  end
  if self.fatal then return nil, problem.sentence(self.fatal), self.has_delivered and "worn" or "lost" end
  if self.out_of_step then return nil, "out of step: " .. self.out_of_step, self.has_delivered and "unfit" or "lost" end
  return true
end

--- "idle", "active", "in_transaction", "failed_transaction" or "closed", as the server last said.
function Connection:status()
  if not self.pg then return "closed" end
  return libpq.TRANSACTION[self.pq.PQtransactionStatus(self.pg)]
end

--- What the server reported of itself: "server_version", "in_hot_standby" …
-- @return a text; nil: it did not report that
function Connection:parameter(name)
  if not self.pg then return nil end
  local found = self.pq.PQparameterStatus(self.pg, name)
  return found ~= nil and ffi.string(found) or nil
end

--- The number of the server's process.
function Connection:pid()
  return self.pg and self.pq.PQbackendPID(self.pg) or nil
end

--- Sets the time limit of queries, and of each wait of what goes on for longer.
-- @param query_ms a number of milliseconds; math.huge: none
function Connection:settimeout(query_ms)
  if type(query_ms) ~= "number" or query_ms ~= query_ms or query_ms <= 0 then
    misuse.raise("conn:settimeout: expected a number of milliseconds above 0, got " .. text_of.show(query_ms))
  end
  self.query_ms = query_ms
end

--- Whatever waits in the connection waits until then at most, however long its own limit is.
-- @param at as host.now(); nil: no longer
function Connection:limit(at)
  self.deadline = at
end

--- Asks the server to cancel what another task does with the connection, and waits until the server has taken that in. What is cancelled
-- ends with SQLSTATE 57014; it may also end well just before.
-- @return true; or nil, message, name
function Connection:cancel()
  local host = self.host
  if not self.pg then return nil, exchange.closed(self) end
  if self:status() ~= "active" then return nil, "nothing is under way", "idle" end
  if self.cancelling then return nil, "a cancel is under way already", "busy" end
  local target, message = cancel.target(self)
  if not target then return nil, message, "unsupported" end
  local waiter = host.waiter()
  self.cancelling = waiter
  local function over(is_proven)
    self.cancelling, self.is_unproven = nil, self.is_unproven or not is_proven
    waiter:wake()
  end
  local resource = { abort = function() over(false) end }
  host.guard(resource)
  local ok
  ok, message = cancel.send(host, target, self.settings.cancel_ms)
  host.unguard(resource)
  over(ok)
  if ok then return true end
  return nil, message, message == "timeout" and "timeout" or "closed"
end

-- --------------------------------------------------------------------- notices --

--- Notices of the server go to fn(fields), which may not wait. nil: nobody hears them.
function Connection:notice_handler(fn)
  self.on_notice = fn
end

-- In the middle of an operation: nothing may wait.
local function tell(self, fields)
  local fn = self.on_notice
  if not fn then return end
  local ok, message = self.host.tasks:outside(fn, fields)
  if not ok then log.say(self.host, "error", "the notice handler of a PostgreSQL connection threw: " .. message, "subscriber_threw") end
end

--- Takes the notices that have come.
function Connection:take_notices()
  local kept = self.notices
  local list = problem.of_notices(ffi.string(kept.text, kept.length))
  local dropped = tonumber(kept.dropped)
  native.lib.cueball_notices_clear(kept)
  kept.dropped = 0
  for _, fields in ipairs(list) do
    if problem.is_fatal(fields) then
      self.fatal = fields
    elseif not fields.sqlstate and not self.operation then
      self.out_of_step = fields.message -- libpq's own words
    else
      tell(self, fields)
    end
  end
  if dropped > 0 then
    tell(self, { severity = "WARNING", message = ("%d notices were dropped: too many came at once"):format(dropped) })
  end
end

-- --------------------------------------------------------------------- at rest --

-- Something came while nobody uses the connection. Notices, notifications and changed parameters do not end it.
local function heard_at_rest(self, lost, heard)
  exchange.consume(self)
  if not self.pg then return end
  if self.is_lost or self.fatal or self.out_of_step then
    local message = self.fatal and problem.sentence(self.fatal) or self.out_of_step
      or problem.trim(ffi.string(self.pq.PQerrorMessage(self.pg)))
    self.was_at_rest = not self.out_of_step
    self:shut(message, "peer")
    local _, why, kind = self:is_fit()
    return lost(why, kind)
  end
  if heard then heard() end
end

-- What the poll calls: made once and not for each release, as LuaJIT compiles no code that makes a function.
local function make_ear(self, lost, heard)
  self.told, self.heard = lost, heard
  self.ear_at_rest = function() heard_at_rest(self, lost, heard) end
end

--- The connection comes to rest: lost(message, kind) is called, once, outside of any task, if it ends meanwhile.
-- @param heard nil; or function(): something came that did not end it: a notice, a notification, a changed parameter
function Connection:watch(lost, heard)
  self.query_ms, self.on_notice = self.settings.query_ms, self.settings.notice
  local fit, message, kind = self:is_fit()
  if fit then
    if self.told ~= lost or self.heard ~= heard then make_ear(self, lost, heard) end
    fit, message = self.poll:watch(self.ear_at_rest)
    kind = "lost"
  end
  if fit then return end
  local alarm
  alarm = self.host.alarm(function()
    alarm:close()
    if not self.is_unwatched then lost(message, kind) end
  end)
  self.is_unwatched = false
  alarm:set(self.host.now())
end

--- What threads of a C program get of it (cueball_runtime.h): the number of its socket, and its PGconn *, which waits in the functions of
-- libpq that wait.
function Connection:descriptor()
  return self.pq.PQsocket(self.pg)
end

function Connection:lend_pointer()
  self.pq.PQsetnonblocking(self.pg, 0)
  self.is_blocking = true
  return self.pg
end

--- It is lent.
function Connection:unwatch()
  if self.is_blocking then
    self.pq.PQsetnonblocking(self.pg, 1)
    self.is_blocking = false
  end
  self.was_lent, self.is_unwatched = true, true
  if self.poll then self.poll:unwatch() end
end

-- ------------------------------------------------------------------ operations --

--- Sends a query and waits for its result: docs/postgres.md.
-- @return result; or nil, message, name, fields
function Connection:query(sql, ...)
  local sent, message, name = query.check("conn:query", sql, ...)
  if not sent then return nil, message, name end
  local ok
  ok, message, name = exchange.begin(self, "query")
  if not ok then return nil, message, name end
  if self.prepared.is_short then
    ok, message, name = prepared.catch_up(self)
    if not ok then return query.finished(self, nil, message, name) end
  end
  return query.finished(self, (self.prepared:takes(sql) and prepared.run or query.run)(self, sql, sent))
end

for _, part in ipairs { prepared, require "cueball.connection.postgres.rows", require "cueball.connection.postgres.pipeline",
  require "cueball.connection.postgres.copy", require "cueball.connection.postgres.notifications",
  require "cueball.connection.postgres.transaction" } do
  part.install(Connection)
end

return client
