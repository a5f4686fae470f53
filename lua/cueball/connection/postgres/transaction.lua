--- Transactions of PostgreSQL, on any connection with `query` and `status`.
--
--   local balance, message, name = conn:transaction(function(tx)
--     assert(tx:query("update accounts set balance = balance - $1 where id = $2", 10, 1))
--     return tx:query("select balance from accounts where id = $1", 1)[1].balance
--   end, { isolation = "serializable", retry = 3 })
--
-- The happy path: BEGIN, the function, COMMIT, and what the function returned is returned.
-- What can go wrong:
--   * the function throws: ROLLBACK, and the error is raised on, unchanged;
--   * it returns nil and a message, as functions here do that fail: ROLLBACK, and that is returned;
--   * it returns although a statement failed: the server answers COMMIT with ROLLBACK; nil, message, and the SQLSTATE of that statement;
--   * the server cannot serialize it, or ended it as a deadlock's victim (40001, 40P01): ROLLBACK, a pause, and again, as `retry` says;
--   * the connection breaks in COMMIT: nobody knows whether it was committed: nil, message, "commit_unknown";
--   * the function ends the transaction itself (COMMIT, ROLLBACK): nil, message, "invalid".
-- Within a transaction the same is done with a savepoint.
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local random = require "cueball.random"
local text = require "cueball.text"

local transaction = {}

local MILLISECONDS = options.number(0.001, 86400000, "milliseconds")
local PAUSE = options.number(0, 86400000, "milliseconds")

local ISOLATION = {
  ["read uncommitted"] = "READ UNCOMMITTED", ["read committed"] = "READ COMMITTED", ["repeatable read"] = "REPEATABLE READ",
  serializable = "SERIALIZABLE",
}

local BOOLEAN = options.of_type("boolean", "true or false")

local RULES = {
  isolation = {
    check = function(value) return ISOLATION[value] ~= nil end,
    range = '"read committed", "repeatable read", "serializable" or "read uncommitted"',
  },
  read_only = BOOLEAN,
  deferrable = BOOLEAN,
  retry = {
    check = function(value)
      return value == false or type(value) == "table" or type(value) == "number" and value % 1 == 0 and value >= 0 and value <= 1000
    end,
    range = "a whole number from 0 to 1000, false, or a table",
  },
  timeout_ms = MILLISECONDS,
}

local RETRY_RULES = { attempts = options.whole(1, 1001), delay_ms = PAUSE, max_delay_ms = PAUSE }

local DELAY_MS, MAX_DELAY_MS = 10, 1000

-- The server could not serialize the transaction, or ended it to resolve a deadlock: it may be done again.
local MAY_BE_REPEATED = { ["40001"] = true, ["40P01"] = true }

local FAILED = "25P02" -- in_failed_sql_transaction

local WHAT = "conn:transaction"

-- ------------------------------------------------------------------ options --

local function read_retry(given)
  if type(given) ~= "table" then return { attempts = (given or 0) + 1, delay_ms = DELAY_MS, max_delay_ms = MAX_DELAY_MS } end
  local retry = options.check(WHAT .. ": option 'retry'", given, RETRY_RULES)
  local delay_ms = retry.delay_ms or DELAY_MS
  return { attempts = retry.attempts or 4, delay_ms = delay_ms, max_delay_ms = math.max(delay_ms, retry.max_delay_ms or MAX_DELAY_MS) }
end

local function read(fn, given)
  if type(fn) ~= "function" then misuse.raise(("%s: expected a function, got %s"):format(WHAT, options.show(fn))) end
  given = options.check(WHAT, given or {}, RULES)
  return given, read_retry(given.retry)
end

local function begin_of(given)
  local words = { "BEGIN" }
  if given.isolation then words[#words + 1] = "ISOLATION LEVEL " .. ISOLATION[given.isolation] end
  if given.read_only ~= nil then words[#words + 1] = given.read_only and "READ ONLY" or "READ WRITE" end
  if given.deferrable ~= nil then words[#words + 1] = given.deferrable and "DEFERRABLE" or "NOT DEFERRABLE" end
  return table.concat(words, " ")
end

-- ------------------------------------------------------------------- errors --

-- What is known of the transactions of a connection, the innermost: made by listen.
local innermost = setmetatable({}, { __mode = "k" })

-- Notes the SQLSTATE of the statement that failed last, while the function runs.
-- @return { sqlstate = if one failed, passed_on = the message of a nested one that may be repeated, depth =, outer = }
local function listen(conn)
  local outer, before = innermost[conn], conn.on_error
  local heard = { sqlstate = nil, passed_on = nil, depth = outer and outer.depth + 1 or 0, outer = outer, before = before or false }
  innermost[conn] = heard
  function conn.on_error(of, sqlstate)
    if sqlstate ~= FAILED then heard.sqlstate = sqlstate end -- those that follow say nothing new
    if before then before(of, sqlstate) end
  end
  return heard
end

local function forget(conn, heard)
  conn.on_error, innermost[conn] = heard.before or nil, heard.outer
end

-- How a function's run ended.
-- @return { ok =, count =, … what it returned or threw }
local function packed(ok, ...)
  return { ok = ok, count = select("#", ...), ... }
end

-- Did the function itself say that it failed: by an error, or by nil and a message?
local function says_failed(result)
  return not result.ok or result.count >= 2 and result[1] == nil and result[2] ~= nil
end

-- What it said: the error, or the message.
local function said(result)
  if result.ok then return result[2] end
  return result[1]
end

-- A failure, as the transaction returns it.
local function failure(message, name, fields)
  return { ok = true, count = 4, nil, message, name, fields }
end

-- Was it the function's failure that the server cannot do this now, and may be asked again?
local function may_be_repeated(result, heard, has_failed)
  if has_failed then return MAY_BE_REPEATED[heard.sqlstate] or false end
  local what = says_failed(result) and said(result)
  if type(what) == "table" then return MAY_BE_REPEATED[rawget(what, "sqlstate")] or false end
  return type(what) == "string" and heard.passed_on ~= nil and what:find(heard.passed_on, 1, true) ~= nil
end

-- ---------------------------------------------------------------- one attempt --

-- The function is over: what is wrong?
-- @return nil: nothing yet; or what the transaction returns or throws
local function fault_of(conn, result, heard)
  if says_failed(result) then return result end
  local status, sqlstate = conn:status(), heard.sqlstate
  if status == "in_transaction" then return nil end
  if status == "failed_transaction" then
    return failure(("a statement of the transaction failed%s, so it was rolled back")
      :format(sqlstate and " (SQLSTATE " .. text.message(sqlstate) .. ")" or ""), sqlstate or FAILED)
  elseif status == "idle" then
    return failure("the function ended the transaction itself, by COMMIT or ROLLBACK", "invalid")
  elseif status == "closed" then
    return failure("the connection broke within the transaction, which the server rolls back", "closed")
  end
  return failure("the function returned in the middle of a query, or released the connection", "invalid")
end

-- Where the time is up, whoever gets the connection next has to do it: a pool does, as the lease ends.
local function roll_back(conn, how)
  local status = conn:status()
  if status ~= "in_transaction" and status ~= "failed_transaction" then return false end
  if conn.deadline and conn.host.now() >= conn.deadline then return false end
  return (conn:query(how))
end

local function commit(conn, result, heard)
  local answer, message, name, fields = conn:query "COMMIT"
  if not answer then
    -- An error that the server answered is clear: nothing was committed. One by which it ended the session is not.
    if fields and fields.sqlstate and fields.severity ~= "FATAL" and fields.severity ~= "PANIC" then
      heard.sqlstate = fields.sqlstate
      return failure("COMMIT: " .. text.message(message), name, fields)
    end
    return failure(("COMMIT: %s (it is not known whether the transaction was committed)"):format(text.message(message)), "commit_unknown")
  elseif answer.command ~= "COMMIT" then
    return failure("the server rolled the transaction back instead of committing it", heard.sqlstate or FAILED)
  end
  return result
end

-- @return what the transaction returns or throws; and whether it may be tried again
local function attempt(conn, fn, begin)
  local ok, message, name, fields = conn:query(begin)
  if not ok then return failure("BEGIN: " .. text.message(message), name, fields), false end
  innermost[conn] = nil
  local heard = listen(conn)
  local result = packed(pcall(fn, conn))
  local fault, has_failed = fault_of(conn, result, heard), conn:status() == "failed_transaction"
  if fault then
    roll_back(conn, "ROLLBACK")
  else
    fault = commit(conn, result, heard)
    has_failed = fault ~= result
  end
  forget(conn, heard)
  return fault, may_be_repeated(result, heard, has_failed)
end

-- ------------------------------------------------------------------- nesting --

local function savepoint_failure(what, message, name, fields)
  return failure(("%s: %s"):format(what, text.message(message)), name, fields)
end

local function nested(conn, fn)
  local outer = innermost[conn] -- nil: the transaction was begun by hand
  local savepoint = "cueball_" .. (outer and outer.depth + 1 or 1)
  local ok, message, name, fields = conn:query("SAVEPOINT " .. savepoint)
  if not ok then return savepoint_failure("SAVEPOINT", message, name, fields) end
  local heard = listen(conn)
  local result = packed(pcall(fn, conn))
  local fault, has_failed = fault_of(conn, result, heard), conn:status() == "failed_transaction"
  forget(conn, heard)
  if not fault then
    ok, message, name, fields = conn:query("RELEASE SAVEPOINT " .. savepoint)
    return ok and result or savepoint_failure("RELEASE SAVEPOINT", message, name, fields)
  end
  -- What may be repeated is for the outermost to repeat, if this is passed on to it.
  if outer and may_be_repeated(result, heard, has_failed) then
    local what = said(fault)
    outer.passed_on = type(what) == "string" and what or nil
  end
  if roll_back(conn, "ROLLBACK TO SAVEPOINT " .. savepoint) then conn:query("RELEASE SAVEPOINT " .. savepoint) end
  return fault
end

-- --------------------------------------------------------------------- whole --

local draws = setmetatable({}, { __mode = "k" }) -- by host

-- Evenly from 0 to the pause: those that collided must not collide again.
local function pause_of(host, retry, number)
  local draw = draws[host]
  if not draw then
    draw = random.from(host.seed())
    draws[host] = draw
  end
  return draw() * math.min(retry.max_delay_ms, retry.delay_ms * 2 ^ (number - 1))
end

local function repeated(conn, fn, given, retry, deadline)
  local host, begin = conn.host, begin_of(given)
  for number = 1, retry.attempts do
    local result, is_repeated = attempt(conn, fn, begin)
    if not is_repeated or number == retry.attempts or conn:status() ~= "idle" then return result end
    local pause_ms = pause_of(host, retry, number)
    if deadline and host.now() + pause_ms * 1e6 >= deadline then return result end
    host.sleep(pause_ms)
  end
end

-- What was returned is returned, what was thrown is raised, as it was.
local function finish(result)
  if not result.ok then error(result[1], 0) end
  return unpack(result, 1, result.count)
end

local OUTERMOST = { "isolation", "read_only", "deferrable" }

-- What a nested one cannot have: it is a part of the transaction around it.
local function check_nested(given)
  for _, name in ipairs(OUTERMOST) do
    if given[name] ~= nil then misuse.raise(("%s: option '%s' is for the outermost transaction"):format(WHAT, name)) end
  end
end

-- Runs fn() with the connection's waits bound to a deadline, where it knows one.
local function within(conn, deadline, fn, ...)
  if not deadline or not conn.limit then return fn(...) end
  local before = conn.deadline
  conn:limit(before and math.min(before, deadline) or deadline)
  local result = fn(...)
  if conn:status() ~= "closed" then conn:limit(before) end
  return result
end

--- Calls fn(conn) in a transaction, or, if one is open, with a savepoint.
-- @param given nil, or a table:
--   isolation   "read committed", "repeatable read", "serializable"; the server's default_transaction_isolation by default
--   read_only, deferrable  booleans; the server's defaults by default
--   retry       how many times more it is tried after 40001 and 40P01; or { attempts = in all, delay_ms = 10, max_delay_ms = 1000 };
--               0 by default. A nested one is not tried again: what is around it is
--   timeout_ms  for all attempts and pauses together
-- @return what fn returned; or nil, message, name, fields: what fn returned so, or what the server said; "commit_unknown", "closed",
--   "invalid". What fn throws is raised on
function transaction.run(conn, fn, given)
  local retry
  given, retry = read(fn, given)
  local deadline = given.timeout_ms and conn.host.now() + given.timeout_ms * 1e6
  local status = conn:status()
  if status == "failed_transaction" then return nil, "the transaction around it has failed: it can only be rolled back", FAILED end
  if status ~= "in_transaction" then
    return finish(within(conn, deadline, repeated, conn, fn, given, retry, deadline))
  end
  check_nested(given)
  return finish(within(conn, deadline, nested, conn, fn))
end

--- Gives a class of connections its method.
function transaction.install(Connection)
  Connection.transaction = transaction.run
end

return transaction
