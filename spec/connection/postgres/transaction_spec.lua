--- conn:transaction, against a fake connection that keeps the rules of a server's transactions, in virtual time.
local sim = require "cueball.host.sim"
local transaction = require "cueball.connection.postgres.transaction"

local world, conn

-- A connection whose statements are BEGIN and the like, "fail SQLSTATE", "break", "wait MS", or anything else, which succeeds.
local Fake = {}
Fake.__index = Fake

local function fake()
  return setmetatable({ host = world, state = "idle", log = {}, savepoints = {}, commits = {} }, Fake)
end

function Fake:status() return self.state end
function Fake:transaction(fn, given) return transaction.run(self, fn, given) end
function Fake:limit(at) self.deadline = at end

local function failed(self, sqlstate, severity)
  if self.state == "in_transaction" then self.state = "failed_transaction" end
  if self.on_error then self:on_error(sqlstate) end
  return nil, "error " .. sqlstate, sqlstate, { sqlstate = sqlstate, severity = severity or "ERROR" }
end

local CONTROLS = {
  BEGIN = function(self)
    self.state, self.savepoints = "in_transaction", {}
    return { command = "BEGIN" }
  end,
  COMMIT = function(self)
    local how = table.remove(self.commits, 1)
    local was = self.state
    if how == "break" then
      self.state = "closed"
      return nil, "server closed the connection unexpectedly", "closed"
    end
    self.state = "idle"
    if how == "rollback" then return { command = "ROLLBACK" } end
    if how then return failed(self, how, how == "57P01" and "FATAL" or nil) end
    return { command = was == "in_transaction" and "COMMIT" or "ROLLBACK" }
  end,
  ROLLBACK = function(self)
    self.state = "idle"
    return { command = "ROLLBACK" }
  end,
  SAVEPOINT = function(self, rest)
    table.insert(self.savepoints, rest)
    return { command = "SAVEPOINT" }
  end,
  RELEASE = function(self, rest)
    assert(table.remove(self.savepoints) == rest:match "%S+$")
    return { command = "RELEASE" }
  end,
}

function Fake:query(sql)
  table.insert(self.log, sql)
  if self.state == "closed" then return nil, "closed", "closed" end
  local word, rest = sql:match "^(%S+)%s*(.*)$"
  local savepoint = sql:match "^ROLLBACK TO SAVEPOINT (.*)$"
  if savepoint then
    assert(self.savepoints[#self.savepoints] == savepoint)
    self.state = "in_transaction"
    return { command = "ROLLBACK" }
  end
  if self.state == "failed_transaction" and word ~= "COMMIT" and word ~= "ROLLBACK" then return failed(self, "25P02") end
  if CONTROLS[word] then return CONTROLS[word](self, rest) end
  if word == "fail" then return failed(self, rest) end
  if word == "break" then
    self.state = "closed"
    return nil, "connection reset", "closed"
  end
  if word == "wait" then world.sleep(tonumber(rest)) end
  return { { value = 1 }, command = "SELECT 1" }
end

local function run(fn)
  world = sim.new { seed = 1 }
  return world.run(function()
    conn = fake()
    return fn()
  end)
end

-- assert as programs have it: busted's throws tables.
local function check(...)
  if not (...) then error((select(2, ...)), 0) end
  return ...
end

-- What conn:transaction returns or throws, and what it sent.
local function transacted(fn, given, commits)
  local function first_four(a, b, c, d) return { a, b, c, d } end
  local outcome = first_four(run(function()
    conn.commits = commits or {}
    return pcall(conn.transaction, conn, fn, given)
  end))
  return outcome, table.concat(conn.log, "; ")
end

describe("conn:transaction", function()
  it("commits what the function did, and returns what it returned", function()
    local outcome, sent = transacted(function(tx)
      tx:query "one"
      return 1, nil, "three"
    end)
    assert.same({ true, 1, nil, "three" }, outcome)
    assert.equal("BEGIN; one; COMMIT", sent)
    assert.same({ "idle", nil }, { conn.state, conn.on_error })
  end)

  it("begins as its options say", function()
    local function begun(given) return select(2, transacted(function() end, given)):match "^[^;]+" end
    assert.equal("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
      begun { isolation = "serializable", read_only = true, deferrable = true })
    assert.equal("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE NOT DEFERRABLE",
      begun { isolation = "repeatable read", read_only = false, deferrable = false })
    assert.equal("BEGIN", begun {})
  end)

  it("rolls back what throws, and raises it on as it was", function()
    local thrown = { "an object" }
    local outcome, sent = transacted(function(tx)
      tx:query "one"
      error(thrown)
    end)
    assert.is_true(outcome[1] == false and outcome[2] == thrown)
    assert.equal("BEGIN; one; ROLLBACK", sent)
    outcome = transacted(function() error("why", 0) end)
    assert.same({ false, "why" }, outcome)
  end)

  it("rolls back what returns nil and a message, and returns that", function()
    local outcome, sent = transacted(function() return nil, "not enough", "poor", 5 end)
    assert.same({ true, nil, "not enough", "poor" }, outcome)
    assert.equal("BEGIN; ROLLBACK", sent)
    assert.matches("COMMIT$", select(2, transacted(function() return nil end)))
    assert.matches("COMMIT$", select(2, transacted(function() return false, "a message" end)))
  end)

  it("says that nothing was committed if a statement failed, though the function does not care", function()
    local outcome, sent = transacted(function(tx)
      tx:query "fail 23505"
      tx:query "another" -- 25P02: nothing new
      return "done"
    end)
    assert.same({ true, nil, "a statement of the transaction failed (SQLSTATE 23505), so it was rolled back", "23505" }, outcome)
    assert.equal("BEGIN; fail 23505; another; ROLLBACK", sent)
  end)

  it("tells what the server says to COMMIT", function()
    assert.same({ true, nil, "the server rolled the transaction back instead of committing it", "25P02" },
      (transacted(function() return "done" end, {}, { "rollback" })))
    assert.same({ true, nil, "COMMIT: error 23503", "23503" }, (transacted(function() end, {}, { "23503" })))
  end)

  it("does not claim to know whether it was committed if the connection breaks in COMMIT", function()
    local message = "COMMIT: server closed the connection unexpectedly (it is not known whether the transaction was committed)"
    assert.same({ true, nil, message, "commit_unknown" }, (transacted(function() end, { retry = 5 }, { "break" })))
    assert.equal("commit_unknown", (transacted(function() end, {}, { "57P01" }))[4])
  end)

  it("notices a function that ended the transaction itself, broke the connection, or left a query under way", function()
    assert.same({ true, nil, "the function ended the transaction itself, by COMMIT or ROLLBACK", "invalid" },
      (transacted(function(tx) tx:query "ROLLBACK" end)))
    assert.same({ true, nil, "the connection broke within the transaction, which the server rolls back", "closed" },
      (transacted(function(tx) tx:query "break" end)))
    assert.same({ true, nil, "the function returned in the middle of a query, or released the connection", "invalid" },
      (transacted(function(tx) tx.state = "active" end)))
  end)

  it("fails where BEGIN does", function()
    assert.same({ nil, "BEGIN: closed", "closed" }, { run(function()
      conn.state = "closed"
      return conn:transaction(function() error "not called" end)
    end) })
  end)
end)

describe("conn:transaction with retry", function()
  -- A function that fails so often, in this way.
  local function failing(times, how)
    local count = 0
    return function(tx)
      count = count + 1
      if count <= times then return how(tx) end
      return count
    end
  end

  for sqlstate in ("40001 40P01"):gmatch "%S+" do
    it("does again what the server could not do just now: " .. sqlstate, function()
      local ways = {
        function(tx) return tx:query("fail " .. sqlstate) end,
        function(tx) check(tx:query("fail " .. sqlstate)) end,
        function(tx) tx:query("fail " .. sqlstate) error "because of that" end,
        function(tx) tx:query("fail " .. sqlstate) end,
        function() error { sqlstate = sqlstate } end,
      }
      for _, how in ipairs(ways) do
        assert.same({ true, 3 }, (transacted(failing(2, how), { retry = 2 })))
      end
      local count = 0
      assert.same({ true, 3 }, (transacted(function()
        count = count + 1
        return count
      end, { retry = 5 }, { sqlstate, sqlstate })))
    end)
  end

  it("gives up after that, with what happened last", function()
    assert.same({ true, nil, "error 40001", "40001" }, (transacted(function(tx) return tx:query "fail 40001" end, { retry = 2 })))
    local outcome = transacted(function(tx) tx:query "fail 40001" error("my words", 0) end, { retry = 2 })
    assert.same({ false, "my words" }, outcome)
    assert.equal(3, select(2, table.concat(conn.log, ";"):gsub("BEGIN", "")))
  end)

  it("does nothing again that failed otherwise, nor without being told to", function()
    for _, case in ipairs {
      { "fail 23505", { retry = 5 } }, { "fail 40001", nil }, { "fail 40001", { retry = false } }, { "break", { retry = 5 } },
    } do
      transacted(function(tx) return tx:query(case[1]) end, case[2])
      assert.equal(1, select(2, table.concat(conn.log, ";"):gsub("BEGIN", "")), case[1])
    end
    -- A claimer's own error after a statement that failed for another reason.
    transacted(function(tx)
      pcall(tx.transaction, tx, function() tx:query "fail 40001" error "caught" end)
      error "a bug of mine"
    end, { retry = 5 })
    assert.equal(1, select(2, table.concat(conn.log, ";"):gsub("BEGIN", "")))
  end)

  it("pauses by chance, longer each time, up to the longest", function()
    local times = {}
    transacted(function(tx)
      times[#times + 1] = world.time_ms()
      return tx:query "fail 40001"
    end, { retry = { attempts = 40, delay_ms = 10, max_delay_ms = 80 } })
    local least, most = math.huge, 0
    for index = 2, #times do
      local pause = times[index] - times[index - 1]
      assert.is_true(pause <= 10 * 2 ^ (index - 2) and pause <= 80)
      least, most = math.min(least, pause), math.max(most, pause)
    end
    assert.equal(40, #times)
    assert.is_true(least < 20 and most > 60, least .. " to " .. most)
  end)

  it("ends in time", function()
    local outcome = transacted(function(tx)
      tx:query "wait 30"
      return tx:query "fail 40001"
    end, { timeout_ms = 100, retry = 1000 })
    assert.equal("40001", outcome[4])
    assert.is_true(world.time_ms() <= 130, world.time_ms())
    assert.is_nil(conn.deadline)
  end)

  it("binds the connection's waits, and leaves the rollback to others when the time is up", function()
    local seen
    local _, sent = transacted(function(tx)
      seen = tx.deadline
      tx:query "wait 200"
      return nil, "too late"
    end, { timeout_ms = 100 })
    assert.same({ 100e6, "BEGIN; wait 200" }, { seen, sent })
  end)
end)

describe("a transaction within a transaction", function()
  it("is a savepoint, which is released", function()
    local outcome, sent = transacted(function(tx)
      return tx:transaction(function(inner)
        inner:query "a"
        return inner:transaction(function() return "deep" end)
      end)
    end)
    assert.same({ true, "deep" }, outcome)
    assert.equal("BEGIN; SAVEPOINT cueball_1; a; SAVEPOINT cueball_2; RELEASE SAVEPOINT cueball_2; "
      .. "RELEASE SAVEPOINT cueball_1; COMMIT", sent)
  end)

  it("is rolled back by itself if it throws, fails or lets a statement fail", function()
    for _, how in ipairs {
      function() error "thrown" end, function() return nil, "said" end, function(tx) tx:query "fail 23505" return "done" end,
    } do
      local outcome, sent = transacted(function(tx)
        local ok, first = pcall(tx.transaction, tx, how)
        assert.is_true(not ok or first == nil)
        check(tx:query "after")
        return "committed"
      end)
      assert.same({ true, "committed" }, outcome)
      assert.matches("ROLLBACK TO SAVEPOINT cueball_1; RELEASE SAVEPOINT cueball_1; after; COMMIT$", sent)
    end
  end)

  it("is repeated with all that is around it, if what happened is passed on", function()
    for _, pass_on in ipairs {
      function(tx, inner) return tx:transaction(inner) end,
      function(tx, inner) return check(tx:transaction(inner)) end,
      function(tx, inner)
        local ok, message = tx:transaction(inner)
        if not ok then error("in my function: " .. message) end
        return ok
      end,
    } do
      local count = 0
      local outcome = transacted(function(tx)
        return pass_on(tx, function(inner)
          count = count + 1
          if count < 3 then return inner:query "fail 40001" end
          return count
        end)
      end, { retry = 5 })
      assert.same({ true, 3 }, outcome)
    end
  end)

  it("works within a transaction that was begun by hand", function()
    run(function()
      conn:query "BEGIN"
      assert.equal("x", conn:transaction(function() return "x" end))
      assert.equal("in_transaction", conn:status())
    end)
  end)

  it("is refused where the transaction has failed", function()
    local outcome = transacted(function(tx)
      tx:query "fail 23505"
      return tx:transaction(function() error "not called" end)
    end)
    assert.same({ true, nil, "the transaction around it has failed: it can only be rolled back", "25P02" }, outcome)
  end)
end)

describe("mistakes with conn:transaction", function()
  local function blamed(message, ...)
    local arguments = { ... }
    local ok, thrown = run(function() return pcall(function() conn:transaction(unpack(arguments, 1, 2)) end) end)
    assert.is_false(ok)
    assert.equal(message, (thrown:gsub("^.-transaction_spec.lua:%d+: ", "")))
  end

  it("are raised at the caller's line", function()
    local function fn() end
    blamed("conn:transaction: expected a function, got 5", 5)
    blamed("conn:transaction: unknown option 'isolatoin'; did you mean 'isolation'?", fn, { isolatoin = "serializable" })
    blamed("conn:transaction: option 'isolation' must be "
      .. '"read committed", "repeatable read", "serializable" or "read uncommitted", not "snapshot"', fn, { isolation = "snapshot" })
    blamed("conn:transaction: option 'retry' must be a whole number from 0 to 1000, false, or a table, not -1", fn, { retry = -1 })
    blamed("conn:transaction: option 'retry': unknown option 'attempt'; did you mean 'attempts'?", fn, { retry = { attempt = 1 } })
    blamed("conn:transaction: option 'isolation' is for the outermost transaction", function(tx)
      tx:transaction(fn, { isolation = "serializable" })
    end)
  end)
end)
