--- How a connection to PostgreSQL stands: whether its server is what was asked for, and whether the connection is as the next claimer
-- expects it. The factory's check, broken, evidence and reset.
--
-- The happy path: a claimer's connection comes back outside of any transaction, and the server has reported nothing new.
-- What can go wrong:
--   * a transaction is open: the connection is dirty, and reset rolls it back;
--   * the server answered 25006, "cannot execute … in a read-only transaction". Either the claimer wanted it read-only itself, or this is
--     no primary any more: the server is asked, in reset;
--   * the server reports another role than before (since 14 it does, unasked, with any answer);
--   * the server said that it shuts down, as it ended the connection: evidence, however much it had delivered.
local role = require "cueball.connection.postgres.role"

local standing = {}

local RELEARN_NS = 30e9

-- With these the server ends connections as it goes down, or crashed.
local GOES_DOWN = {
  ["57P01"] = "the server ended the connection: it was told to, or shuts down (57P01)",
  ["57P02"] = "the server ended the connection: another of its processes crashed (57P02)",
  ["57P03"] = "the server takes no connections now (57P03)",
}
local READ_ONLY = "25006"
local BECAME_READ_ONLY = "the server became read-only"

-- What the server said as it went down, if it did: to a query, or at rest.
local function down_of(conn)
  local fatal = conn.fatal
  return conn.standing.down or fatal and GOES_DOWN[fatal.sqlstate]
end

local function heard(conn, sqlstate)
  local state = conn.standing
  if sqlstate == READ_ONLY and state.wanted ~= "any" then state.must_ask = true end
  state.down = state.down or GOES_DOWN[sqlstate]
end

-- ------------------------------------------------------------------- roles --

-- A pool that prefers standbys uses the primary while none is up. There is one primary: if another backend turns out to be it, the one
-- before may have become a standby, and is to be tried as one. Not too often: there might be two that take themselves for it.
local function tell_pool(conn, state, found)
  local known, now = state.known, conn.host.now()
  state.last_resort(found == "primary")
  if found ~= "primary" then return end
  if known.key and known.key ~= state.key then
    if known.moved and now < known.moved + RELEARN_NS then return end
    known.moved = now
    known.last_resort(false)
  end
  known.key, known.last_resort = state.key, state.last_resort
end

-- The server is found to be a primary, or a standby.
local function learnt(conn, found)
  local state = conn.standing
  if state.wanted == "prefer-standby" and state.last_resort and found ~= state.role then tell_pool(conn, state, found) end
  state.role = found
end

-- What is wrong with what the server reported last.
-- @return message, kind; nil: nothing
local function fault_of_reports(conn)
  local state = conn.standing
  if state.wanted == "any" then return nil end
  local found = role.reported(conn)
  if found and found ~= state.role then learnt(conn, found) end
  local fault = found and role.fault(state.wanted, found, true)
  if fault then return fault, state.wanted == "primary" and "lost" or "unfit" end
  return nil
end

-- Asks the server whether it is still what was wanted.
-- @return true; or false, message, kind
local function ask(conn)
  local state = conn.standing
  local found, is_read_only, name = role.ask(conn)
  if not found then return false, is_read_only, name end
  learnt(conn, found)
  state.must_ask = false
  local fault = role.fault(state.wanted, found, true)
  if not fault and state.wanted == "primary" and is_read_only and not state.was_read_only then fault = BECAME_READ_ONLY end
  if fault then return false, fault, state.wanted == "primary" and "lost" or "unfit" end
  return true
end

--- A connection was opened: notes what it is to be, and learns the server's role.
-- @param given  the factory's options
-- @param known  a table of the factory's own: which backend is the primary, for prefer-standby
-- @return true; or nil, message
function standing.begin(conn, given, known, backend, context)
  conn.standing = {
    wanted = given.role, reset = given.reset, query_ms = given.query_timeout_ms, notice = given.notice, setup = given.setup,
    role = nil, was_read_only = false, must_ask = false, down = nil, is_clean = false,
    key = backend.key, last_resort = context.last_resort, known = known,
    told = nil, on_loss = nil, on_news = nil, -- see standing.watch
  }
  conn.on_error = heard
  if given.role == "any" then return true end
  local found, is_read_only = role.reported(conn), conn:parameter "default_transaction_read_only" == "on"
  if not found then
    local why
    found, why = role.ask(conn)
    if not found then return nil, "asking the server for its role: " .. why end
    is_read_only = why
  end
  conn.standing.was_read_only = is_read_only
  learnt(conn, found)
  local fault = role.fault(given.role, found, false)
  if fault then return nil, fault end
  return true
end

-- Runs the option's SQL or function.
-- @return true; or false, message
local function run_setup(setup, conn)
  if type(setup) == "string" then return conn:query(setup) end
  local is_over, ok, message = pcall(setup, conn)
  if not is_over then return false, ok == nil and "it threw nil" or ok end
  return ok or ok == nil and message == nil, message or "it returned false"
end

--- Whatever an application wants done first, and again after DISCARD ALL.
-- @return true; or nil, message
function standing.set_up(conn)
  local setup = conn.standing.setup
  if not setup then return true end
  local ok, message = run_setup(setup, conn)
  if ok and conn.settle then ok, message = conn:settle() end
  if ok then
    local fit, why = conn:is_fit()
    local status = conn:status()
    if not fit then
      ok, message = false, why
    elseif status == "in_transaction" or status == "failed_transaction" then
      ok, message = false, "it left a transaction open"
    end
  end
  if ok then return true end
  return nil, "setup: " .. tostring(message)
end

-- -------------------------------------------------- what the factory is asked --

--- The factory's broken.
function standing.broken(conn)
  local state = conn.standing
  local fit, message, kind = conn:is_fit()
  if not fit and kind ~= "dirty" then
    local down = down_of(conn)
    if down then return down, "lost" end
    return message, kind
  end
  local fault, its_kind = fault_of_reports(conn)
  if fault then return fault, its_kind end
  local status = conn:status()
  if status == "in_transaction" or status == "failed_transaction" then fit, message = false, "left in a transaction" end
  if not fit then return message, state.reset ~= "none" and "dirty" or "unfit" end
  if state.must_ask then return "it answered that it is read-only (25006)", "dirty" end
  if state.reset == "discard" and not state.is_clean then return "used", "dirty" end
  return nil
end

--- The factory's evidence.
function standing.evidence(conn)
  local state, down = conn.standing, down_of(conn)
  if down then return down, "lost" end
  local fit, message, kind = conn:is_fit()
  if not fit and (kind == "lost" or kind == "timeout") then return message, kind end
  message, kind = fault_of_reports(conn)
  if message then return message, kind end
  local is_new = state.must_ask and state.wanted == "primary" and not state.was_read_only
  if is_new and conn:parameter "default_transaction_read_only" == "on" then return BECAME_READ_ONLY, "lost" end
  return nil
end

--- The factory's check: a query that the server has to work for, which also says what the server is.
function standing.check(conn)
  local ok, message = ask(conn)
  return ok, message
end

-- What is wrong with a connection on which a query failed that cleans.
local function failed(conn, what, message)
  local down = down_of(conn)
  if down then return nil, down, "lost" end
  local fit, _, kind = conn:is_fit()
  return nil, ("%s: %s"):format(what, message), not fit and kind ~= "dirty" and kind or "unfit"
end

local function clean(conn)
  local state = conn.standing
  local ok, message, kind
  if conn.settle then
    ok, message = conn:settle()
    if not ok then return failed(conn, "ending its rows", message) end
  end
  local status = conn:status()
  if status == "in_transaction" or status == "failed_transaction" then
    ok, message = conn:query "ROLLBACK"
    if not ok then return failed(conn, "ROLLBACK", message) end
  end
  if state.reset == "discard" then
    ok, message = conn:query "DISCARD ALL"
    if not ok then return failed(conn, "DISCARD ALL", message) end
    ok, message = standing.set_up(conn)
    if not ok then return failed(conn, "after DISCARD ALL", message) end
  end
  if state.must_ask then
    ok, message, kind = ask(conn)
    if not ok then return nil, message, (kind == "lost" or kind == "unfit") and kind or "unfit" end
  end
  state.is_clean = true
  return true
end

--- The factory's reset.
function standing.reset(conn, timeout_ms)
  local host, deadline = conn.host, conn.host.now() + timeout_ms * 1e6
  if conn.limit then conn:limit(deadline) end
  conn:settimeout(math.max(1, (deadline - host.now()) / 1e6))
  local ok, message, kind = clean(conn)
  standing.set_back(conn)
  return ok, message, kind
end

--- What a claimer may have set is set back.
function standing.set_back(conn)
  local state = conn.standing
  if conn.limit then conn:limit(nil) end
  conn:settimeout(state.query_ms)
  if conn.notice_handler then conn:notice_handler(state.notice) end
  conn.on_error = heard
end

-- What is called when the connection breaks at rest, and when the server says something that ends nothing: a notice, or what it is now.
-- Made once for each connection and not once for each release: LuaJIT compiles no code that makes a function.
local function make_ears(conn, lost)
  local state = conn.standing
  state.told = lost
  function state.on_loss(message, kind)
    local down = down_of(conn)
    lost(down or message, down and "lost" or kind)
  end
  function state.on_news()
    local fault, kind = fault_of_reports(conn)
    if fault then lost(fault, kind) end
  end
end

--- The factory's watch.
function standing.watch(conn, lost)
  local state = conn.standing
  standing.set_back(conn)
  if state.told ~= lost then make_ears(conn, lost) end
  conn:watch(state.on_loss, state.on_news)
end

--- The connection is lent.
function standing.lent(conn)
  conn.standing.is_clean = false
end

return standing
