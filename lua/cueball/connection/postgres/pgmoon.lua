--- Connections to PostgreSQL without libpq: pgmoon logs in, over the host's own sockets. In nginx, and elsewhere for those who ask for it.
--
-- pgmoon knows how PostgreSQL wants passwords (md5, SCRAM). What is asked and answered afterwards goes past it: its queries return no
-- SQLSTATE with every field, no order of columns and no state of the transaction, and take each number for a numeric. So any pgmoon from
-- 1.8.0 on will do, and a connection that was parked needs none.
--
-- What can go wrong: a query takes longer than it may. It is cancelled then, over a connection of its own, and what the server says to
-- that is waited for, so that the cancel cannot hit the next query. Where that takes too long as well, the connection is of no more use.
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local channels = require "cueball.connection.postgres.pgmoon.channel"
local answers = require "cueball.connection.postgres.pgmoon.answer"
local login = require "cueball.connection.postgres.pgmoon.login"
local options = require "cueball.connection.postgres.pgmoon.options"
local problem = require "cueball.connection.postgres.problem"
local text = require "cueball.text"
local transaction = require "cueball.connection.postgres.transaction"
local values = require "cueball.connection.postgres.values"
local wire = require "cueball.connection.postgres.pgmoon.wire"

local pgmoon = {}

local DEFAULT_MS = 60000
local CANCEL_MS = 2000           -- for cancelling, and for what the server says to that, each
local AGAIN_MS = 100             -- after so long without an end a cancel is sent again; then after twice as long
local NOTIFICATIONS = 10000      -- wait to be taken
local STATEMENTS_MAX = 100       -- prepared by one connection

local Connection = {}
Connection.__index = Connection
Connection.driver = "pgmoon"

local IN_FULL = ": name the socket in full, as unix:/run/postgresql/.s.PGSQL.5432"

local function close_socket(socket)
  if socket.abort then socket:abort() else socket:close() end
end

local function whole(ms)
  return ms > 1 and math.floor(ms) or 1
end

-- @return true; or nil, message, name, fields
local function log_in(channel, backend, context, settings)
  local parameters, message = settings.parameters(backend, context)
  if parameters then parameters, message = options.complete(parameters) end
  if not parameters then return nil, message, "invalid" end
  return login.log_in(channel, backend, context, parameters, settings.security)
end

--- Opens a connection, in an attempt's task; under nginx it takes what is parked.
-- @param backend, context of the attempt
-- @param settings
--   parameters   function(backend, context) → table by libpq's keywords; or nil, message: asked for a new connection only
--   security     of cueball.connection.postgres.pgmoon.options
--   connect_ms, query_ms, cancel_ms   time limits
--   notifications  how many may wait to be taken
--   readers, null  how results are read, see cueball.connection.postgres.values
--   notice         function(fields), or nil
-- @return connection; or nil, message, name, fields
function pgmoon.connect(backend, context, settings)
  local socket = context.host.tcp()
  local limit = whole(math.min(settings.connect_ms or math.huge, context.timeout_ms))
  socket:settimeouts(limit, limit, limit)
  local how, message = context.connect(socket)
  if not how then
    if address.is_unix(backend.address) and not backend.address:find(".s.PGSQL.", 1, true) then message = message .. IN_FULL end
    return nil, message, "closed"
  end
  -- The context lives as long as the connection, also where each claim makes a socket of its own.
  local state = how == "reused" and context.postgres or { statements = {}, statement_order = {}, statement_count = 0 }
  context.postgres = state
  local channel = channels.new(context.host, socket, state, settings.notifications or NOTIFICATIONS)
  channel.on_notice = settings.notice
  if how ~= "reused" then
    channel:limit(limit)
    local ok, name, fields
    ok, message, name, fields = log_in(channel, backend, context, settings)
    if not ok then
      close_socket(socket)
      return nil, message, name, fields
    end
  end
  return setmetatable({
    socket = socket, channel = channel, host = context.host, backend = backend, context = context, settings = settings, state = state,
    query_ms = settings.query_ms or DEFAULT_MS, is_busy = false, cancelling = nil,
    lost = nil, told = nil, heard = nil, ear_at_rest = nil, -- see watch
    deadline = nil,   -- see Connection:limit
    on_error = nil,   -- function(conn, sqlstate): hears of each error of the server
    fatal = nil,      -- the server's last words
  }, Connection)
end

-- ------------------------------------------------------------------ cancel --

-- @return true; or nil, message, name
local function send_cancel(self, limit)
  local state = self.state
  local socket = self.host.tcp()
  socket:settimeouts(limit, limit, limit)
  -- A name of its own: nginx would else take what others have parked for that address.
  local ok, message = address.connect(socket, self.backend, { pool = "cueball:cancel" })
  if ok and state.is_secure then ok, message = login.ask_for_tls(socket, self.backend, self.context, self.settings.security) end
  if ok then ok, message = socket:send(wire.cancel_request(state.pid, state.secret)) end
  -- The server closes that connection once it has passed the request on.
  local _, how
  if ok then _, how = socket:receive(1) end
  socket:close()
  if not ok then return nil, "the query could not be cancelled: " .. text.message(message), "closed" end
  if how == "timeout" then return nil, "the query could not be cancelled: timeout", "timeout" end
  return true
end

local function cancel_within(self, limit_ms)
  if not self.state.pid then return nil, "the server gave no key to cancel by", "unsupported" end
  if self.cancelling then return nil, "it is being cancelled already", "busy" end
  local done = self.host.waiter()
  self.cancelling = done
  local ok, message, name = send_cancel(self, whole(limit_ms))
  self.cancelling = nil
  done:wake(true)
  return ok, message, name
end

--- Asks the server to cancel what this connection waits for: over another connection, so another task can call it.
-- @return true: the server has done what it will do; or nil, message, name
function Connection:cancel()
  return cancel_within(self, self.settings.cancel_ms or CANCEL_MS)
end

-- ----------------------------------------------------------------- queries --

-- What is left for an operation that may take so long.
local function bounded(self, ms)
  local deadline = self.deadline
  return deadline and math.max(1, math.min(ms, (deadline - self.host.now()) / 1e6)) or ms
end

-- The query took too long: it is cancelled, and the rest of its answer received. A cancel that comes before the server has begun with the
-- query does nothing: then it is sent again.
-- @param limit_ms how long it was given
-- @return whether the connection is in step again
local function give_up(self, answer, limit_ms)
  local channel, now = self.channel, self.host.now
  local is_sent, pause = self:cancel(), AGAIN_MS
  local deadline = now() + (self.settings.cancel_ms or CANCEL_MS) * 1e6
  while is_sent do
    local left = (deadline - now()) / 1e6
    channel:limit(math.max(1, math.min(pause, left)))
    local is_over, _, name = answers.finish(answer)
    if is_over then return true end
    if name ~= "timeout" or left <= pause then break end
    is_sent, pause = cancel_within(self, left), pause * 2
  end
  channel:fail(("a query took longer than %g ms and could not be cancelled, so the connection was closed"):format(limit_ms), "timeout")
  return false
end

-- A cancel of another task's that is still under way might hit the next query: it is waited for.
local function await_cancel(self)
  local cancelling = self.cancelling
  if not cancelling or cancelling:wait(2 * (self.settings.cancel_ms or CANCEL_MS)) then return end
  self.channel:fail("a cancel was sent, and nobody knows whether it is over", "unfit")
end

local BUSY = "the connection is busy: another query is under way"
local CANCELLED = "57014"

local FATAL = { FATAL = true, PANIC = true }

-- @param limit_ms how long the query was given, if that was too short
local function outcome(self, answer, limit_ms)
  local fields = answer.fields
  if fields then
    if FATAL[fields.severity] then self.fatal = fields end
    if self.on_error and fields.sqlstate then self:on_error(fields.sqlstate) end
  end
  if answer.unsupported then return nil, answer.unsupported, "unsupported" end
  if fields and limit_ms and fields.sqlstate == CANCELLED then
    return nil, ("the query took longer than %g ms, and was cancelled"):format(limit_ms), "timeout", fields
  end
  if fields then return nil, problem.sentence(fields), fields.sqlstate or "closed", fields end
  if answer.unreadable then return nil, "reading a value threw: " .. answer.unreadable, "invalid" end
  return answer
end

-- Sends a question and receives the answer.
-- @return the answer of answers.new; or nil, message, name, fields
local function ask(self, request, is_extended)
  local channel = self.channel
  if channel.failure then return nil, channel.failure, "closed" end
  if self.is_busy then return nil, BUSY, "busy" end
  self.is_busy = true
  local answer, limit_ms, exceeded = answers.new(channel, self.settings, is_extended), bounded(self, self.query_ms), nil
  channel:limit(limit_ms)
  local ok, message, name = channel:send(request)
  if ok then
    ok, message, name = answers.finish(answer)
    if not ok and name == "timeout" then
      exceeded = limit_ms
      ok = give_up(self, answer, limit_ms)
      message = ok and message or channel.failure
    end
  end
  await_cancel(self)
  self.is_busy = false
  -- A server that ends a connection says why before it does.
  if ok or answer.fields then return outcome(self, answer, exceeded) end
  return nil, message, name
end

local function result_of(answer, message, name, fields)
  if not answer then return nil, message, name, fields end
  local results = answer.results
  local result = results[#results] or { columns = {}, command = "" }
  if #results > 1 then result.all = results end
  return result
end

--- One query; without parameters, one or several statements.
-- @param ... parameters $1, $2 …
-- @return { row, …, columns =, affected =, command = }; or nil, message, name, fields
function Connection:query(sql, ...)
  local count = select("#", ...)
  local ok, message = values.check_sql("conn:query", sql)
  if not ok then return nil, message, "invalid" end
  if count == 0 then return result_of(ask(self, wire.query(sql), false)) end
  local given
  given, message = values.parameters("conn:query", count, ...)
  if not given then return nil, message, "invalid" end
  return result_of(ask(self, wire.parse("", sql, given) .. wire.bind("", given) .. wire.DESCRIBE_PORTAL .. wire.EXECUTE .. wire.SYNC, true))
end

-- -------------------------------------------------------------- statements --

local Statement = {}
Statement.__index = Statement

-- Statements are known by their text, as long as the connection is open. The oldest is given up for one too many.
local function name_for(state, sql)
  local order = state.statement_order
  local dropped = ""
  if #order >= STATEMENTS_MAX then
    local oldest = table.remove(order, 1)
    dropped = wire.close_statement(state.statements[oldest].name)
    state.statements[oldest] = nil
  end
  state.statement_count = state.statement_count + 1
  order[#order + 1] = sql
  return "cueball_" .. state.statement_count, dropped
end

local function forget(state, sql)
  state.statements[sql] = nil
  for index, known in ipairs(state.statement_order) do
    if known == sql then return table.remove(state.statement_order, index) end
  end
end

-- @return { name, count }; or nil, message, name, fields
local function prepared(self, sql)
  local state = self.state
  local known = state.statements[sql]
  if known then return known end
  local name, dropped = name_for(state, sql)
  local answer, message, code, fields = ask(self, dropped .. wire.parse(name, sql) .. wire.describe_statement(name) .. wire.SYNC, true)
  if not answer then
    forget(state, sql)
    return nil, message, code, fields
  end
  known = { name = name, count = answer.parameter_count or 0 }
  state.statements[sql] = known
  return known
end

--- Has the server prepare a query.
-- @return statement; or nil, message, name, fields
function Connection:prepare(sql)
  local checked, fault = values.check_sql("conn:prepare", sql)
  if not checked then return nil, fault, "invalid" end
  local known, message, name, fields = prepared(self, sql)
  if not known then return nil, message, name, fields end
  return setmetatable({ connection = self, sql = sql }, Statement)
end

local NO_STATEMENT = "26000" -- somebody said DEALLOCATE

--- @return as Connection:query
function Statement:query(...)
  local count = select("#", ...)
  local given, message, name, fields = values.parameters("statement:query", count, ...)
  if not given then return nil, message, "invalid" end
  for _ = 1, 2 do
    local known
    known, message, name, fields = prepared(self.connection, self.sql)
    if not known then return nil, message, name, fields end
    if count ~= known.count then
      return nil, ("the statement has %d parameters, and was given %d"):format(known.count, count), "invalid"
    end
    local answer
    answer, message, name, fields = ask(self.connection, wire.bind(known.name, given)
      .. wire.DESCRIBE_PORTAL .. wire.EXECUTE .. wire.SYNC, true)
    if answer then return result_of(answer) end
    if name ~= NO_STATEMENT then break end
    forget(self.connection.state, self.sql)
  end
  return nil, message, name, fields
end

-- ------------------------------------------------- notices, notifications --

--- @param fn function(fields), or nil: hears of the server's notices, as they come with answers. It may not wait
function Connection:notice_handler(fn)
  if fn ~= nil and type(fn) ~= "function" then misuse.raise("notice_handler: expected a function or nil, got " .. text.show(fn)) end
  self.channel.on_notice = fn
end

-- @return a notification; or nil, message, name: some were dropped. Nothing: none has come
local function taken(inbox)
  local one = inbox:take()
  if one then return one end
  local lost = inbox:take_lost()
  if lost > 0 then
    return nil, ("%d notifications were lost: more than %d waited to be taken"):format(lost, inbox.limit), "overflow"
  end
end

--- Waits for a notification, unless one has come already: LISTEN first.
-- @param timeout_ms nil: the time limit of queries
-- @return { channel =, payload =, pid = }; or nil, message, name: "timeout" if none came, "overflow" after which some were dropped
function Connection:wait_notification(timeout_ms)
  if timeout_ms ~= nil and (type(timeout_ms) ~= "number" or timeout_ms < 0 or timeout_ms ~= timeout_ms) then
    misuse.raise("conn:wait_notification: expected a number of milliseconds from 0, got " .. text.show(timeout_ms))
  end
  timeout_ms = timeout_ms or self.query_ms
  local channel = self.channel
  local one, why, how = taken(channel.inbox)
  if one or why then return one, why, how end
  if channel.failure then return nil, channel.failure, "closed" end
  if self.is_busy then return nil, BUSY, "busy" end
  if timeout_ms == 0 then return nil, "no notification has come", "timeout" end
  self.is_busy = true
  channel:limit(bounded(self, timeout_ms))
  local ok, message, name = channel:wait_for_notification()
  self.is_busy = false
  if ok then return taken(channel.inbox) end
  if name ~= "timeout" or channel.failure then return nil, message, name end
  if self.socket.expected_nothing then self.socket:expected_nothing() end
  return nil, ("no notification within %.6g ms"):format(timeout_ms), name
end

--- Takes the notifications that have come, without waiting.
-- @return a list, perhaps empty; how many were lost before
function Connection:notifications()
  local list, inbox = {}, self.channel.inbox
  local one = inbox:take()
  while one do
    list[#list + 1] = one
    one = inbox:take()
  end
  return list, inbox:take_lost()
end

-- ---------------------------------------------------------------- the rest --

function Connection:status()
  if self.channel.failure then return "closed" end
  if self.is_busy then return "active" end
  return self.state.status
end

--- The number of the server's process.
function Connection:pid()
  return self.state.pid
end

--- What the server reported of itself: "server_version", "in_hot_standby" …
function Connection:parameter(name)
  return self.state.parameters[name]
end

--- @param query_ms how long a query may take from now on
function Connection:settimeout(query_ms)
  self.query_ms = query_ms
end

--- Whatever waits in the connection waits until then at most, however long its own limit is.
-- @param at as host.now(); nil: no longer
function Connection:limit(at)
  self.deadline = at
end

--- May it be lent again? That it is in a transaction is not looked at: status() says so.
-- @return true; or nil, message, kind
function Connection:is_fit()
  local channel, socket = self.channel, self.socket
  local fit, why, kind = true, nil, nil
  if socket.is_fit then fit, why, kind = socket:is_fit() end
  if channel.failure then
    if not fit then return nil, channel.failure, kind end
    return nil, channel.failure, channel.failure_name == "timeout" and "timeout" or "unfit"
  end
  if self.is_busy then return nil, "left in the middle of a query", "unfit" end
  if self.cancelling then return nil, "a cancel is under way", "unfit" end
  if not fit then return nil, why, kind end
  if not channel:is_empty() then return nil, "unexpected data", "unfit" end
  return true
end

-- Something came while nobody uses the connection: it is read, in a task, but nothing is waited for.
local function hear_at_rest(self, lost, heard)
  if self.lost ~= lost then return end
  local socket, channel = self.socket, self.channel
  socket:unwatch()
  channel:limit(CANCEL_MS)
  local ok, why, fields = channel:hear_unasked()
  self.fatal = fields or self.fatal
  if self.lost ~= lost then return end
  if not ok then
    channel:fail(why, "closed")
    return lost(why, "lost")
  end
  socket:watch(self.ear_at_rest)
  if heard then heard() end
end

-- What the socket calls: made once and not for each release, as LuaJIT compiles no code that makes a function.
local function make_ear(self, lost, heard)
  self.told, self.heard = lost, heard
  self.ear_at_rest = function(message, kind)
    if self.lost ~= lost then return end
    if message ~= "unexpected data" then return lost(message, kind) end
    self.host.spawn(hear_at_rest, self, lost, heard)
  end
end

--- At rest: calls lost(message, kind) if the connection breaks. What a server may say at any time does not break it.
-- @param heard nil; or function(): something came that did not end it
function Connection:watch(lost, heard)
  self.lost = lost
  self.query_ms, self.channel.on_notice = self.settings.query_ms or DEFAULT_MS, self.settings.notice
  if not self.socket.watch then return end
  if self.told ~= lost or self.heard ~= heard then make_ear(self, lost, heard) end
  self.socket:watch(self.ear_at_rest)
end

--- What threads of a C program get of it: the descriptor of its socket, on which they speak PostgreSQL's protocol; there is no pointer.
function Connection:descriptor()
  if self.socket.lend_descriptor then return self.socket:lend_descriptor() end
end

function Connection:lend_pointer()
  self:descriptor() -- it reads no more
end

function Connection:unwatch()
  self.lost = nil
  if self.socket.unwatch then self.socket:unwatch() end
end

--- Parks it, where the host does that.
function Connection:park(idle_ms)
  return self.socket:setkeepalive(idle_ms)
end

function Connection:close()
  local channel = self.channel
  if not channel.failure then
    channel:limit(CANCEL_MS)
    if self.is_busy then
      self.host.spawn(function() self:cancel() end) -- the server would go on with what nobody waits for
    else
      channel:send(wire.TERMINATE)
    end
    channel:fail("the connection was closed", "closed")
  end
  close_socket(self.socket)
end

-- What pgmoon's sockets could be made to do, but libpq does well.
for name, what in pairs { pipeline = "pipelines", rows = "rows one at a time", copy_in = "COPY", copy_out = "COPY" } do
  Connection[name] = function()
    return nil, what .. " are not to be had over pgmoon: use the driver libpq", "unsupported"
  end
end

transaction.install(Connection)

function Connection:__tostring()
  return ("postgres connection to %s (pgmoon, %s)"):format(self.backend.key, self:status())
end

return pgmoon
