--- The factory cueball.connection.postgres in virtual time, over a fake driver: roles, clean-up, evidence. With real servers:
-- spec/connection/postgres/outage_spec.lua.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local CLIENT = "cueball.connection.postgres.client"

-- What the fake servers are, by address: { is_standby, read_only, reports, refuses = what it says to those who connect }.
local servers, town, pool, sent, opened

local Fake = {}
Fake.__index = Fake

local function server_error(self, sqlstate, severity)
  if self.state == "in_transaction" then self.state = "failed_transaction" end
  if self.on_error then self:on_error(sqlstate) end
  if severity == "FATAL" then self.state, self.ended = "closed", { "terminating connection", "worn" } end
  return nil, "error " .. sqlstate, sqlstate, { sqlstate = sqlstate, severity = severity or "ERROR" }
end

local ANSWERS = {
  BEGIN = function(self) self.state = "in_transaction" end,
  COMMIT = function(self) self.state = "idle" end,
  ROLLBACK = function(self) self.state = "idle" end,
}

function Fake:query(sql)
  sent[#sent + 1] = sql:find "is_standby" and "role?" or sql
  town.world.sleep(self.server.delay or 1)
  if self.state == "closed" then return nil, "closed", "closed" end
  if sql:match "^fail" then return server_error(self, sql:match "%w+$") end
  if sql:match "^fatal" then return server_error(self, sql:match "%w+$", "FATAL") end
  if sql:match "is_standby" then
    return { { is_standby = self.server.is_standby or false, read_only = self.server.read_only and "on" or "off" } }
  end
  local change = ANSWERS[sql]
  if change then change(self) end
  return { command = sql }
end

function Fake:parameter(name)
  if not self.server.reports then return nil end
  if name == "in_hot_standby" then return self.server.is_standby and "on" or "off" end
  return self.server.read_only and "on" or "off"
end

function Fake:is_fit()
  if self.ended then return nil, unpack(self.ended) end
  return true
end

function Fake:status() return self.state end
function Fake:settimeout(ms) self.query_ms = ms end
function Fake:limit(at) self.deadline = at end
function Fake:notice_handler(fn) self.notice = fn end
function Fake:watch(lost) self.lost = lost end
function Fake:unwatch() self.lost = nil end
function Fake:close() self.state = "closed" end

local function fake_client()
  return { connect = function(host, parameters, limits)
    local server = servers[parameters.hostaddr]
    host.sleep(5)
    opened[#opened + 1] = parameters
    if server.refuses then return nil, server.refuses, server.sqlstate or "closed" end
    return setmetatable({ host = host, server = server, state = "idle", query_ms = limits.query_ms }, Fake)
  end }
end

local function open(given, options, count)
  town, servers, sent, opened = sim_pool.new { servers = count or 1, seed = 1 }, {}, {}, {}
  town.world.poll = function() end
  for number = 1, count or 1 do servers["10.0.0." .. number] = { reports = true } end
  for number, server in pairs(given.servers or {}) do servers["10.0.0." .. number] = with({ reports = true }, server) end
  given.servers = nil
  pool = town:open(with({
    max_connections = 1, check_interval_ms = false, rebalance_delay_ms = 0,
    connect = cueball.connection.postgres(with({ user = "ann" }, given)),
    recovery = { default = { attempts = 2, delay_ms = 50, spread = 0 } },
  }, options))
  town:advance(500)
  sent = {}
  return pool
end

-- Runs fn(conn) in a lease, and waits until all is over.
local function use(fn, how)
  local results
  town.world.spawn(function()
    local lease = assert(pool:claim { timeout_ms = 1000 })
    results = { fn(lease.connection) }
    lease[how or "release"](lease)
  end)
  town:advance(500)
  return results
end

local function stat(name) return pool:stats()[name] end

local before

setup(function() before = package.loaded[CLIENT] end)
before_each(function() package.loaded[CLIENT] = fake_client() end)
after_each(function() town:stop() end)
teardown(function() package.loaded[CLIENT] = before end)

describe("a PostgreSQL connection that comes back", function()
  it("is idle again, without a word to the server, if all is well", function()
    open {}
    use(function(conn) conn:query "select 1" end)
    assert.same({ { "select 1" }, 1, 0 }, { sent, stat "idle", stat "closed" })
  end)

  it("has its open transaction rolled back", function()
    open {}
    use(function(conn) conn:query "BEGIN" end)
    use(function(conn) conn:query "BEGIN" conn:query "fail 23505" end)
    assert.same({ "BEGIN", "ROLLBACK", "BEGIN", "fail 23505", "ROLLBACK" }, sent)
    assert.same({ 1, 1, 0 }, { stat "idle", stat "opened", stat "closed" })
  end)

  it("is closed in a transaction with reset = none", function()
    open { reset = "none" }
    use(function(conn) conn:query "BEGIN" end)
    assert.same({ { "BEGIN" }, 1, 2 }, { sent, stat "closed_unfit", stat "opened" })
  end)

  it("forgets all with reset = discard, and is set up again", function()
    open { reset = "discard", setup = "set search_path = app" }
    use(function(conn) conn:query "BEGIN" end)
    assert.same({ "BEGIN", "ROLLBACK", "DISCARD ALL", "set search_path = app" }, sent)
    use(function() end)
    assert.same({ 6, 1, 0 }, { #sent, stat "opened", stat "closed" })
  end)

  it("has the factory's time limit and notice handler again, and no deadline", function()
    local function notice() end
    open { query_timeout_ms = 1234, notice = notice }
    local seen
    use(function(conn)
      conn:settimeout(1)
      conn:notice_handler(print)
      conn:limit(1)
      conn.on_error = nil
      conn:query "BEGIN"
    end)
    use(function(conn) seen = { conn.query_ms, conn.notice == notice, conn.deadline, conn.on_error ~= nil } end)
    assert.same({ 1234, true, nil, true }, seen)
  end)

  it("keeps to the deadline of its lease, and only that lease", function()
    open {}
    local seen = {}
    town.world.spawn(function()
      local now = town.world.now()
      pool:with(function(conn) seen[1] = (conn.deadline - now) / 1e6 end, { timeout_ms = 200 })
      pool:with(function(conn) seen[2] = conn.deadline or "none" end)
    end)
    town:advance(100)
    assert.same({ 200, "none" }, seen)
  end)

  it("is closed if it cannot be rolled back", function()
    open { servers = { [1] = { delay = 10 } } }
    use(function(conn)
      conn:query "BEGIN"
      conn.server.delay = 1e9
    end)
    servers["10.0.0.1"].delay = 1
    town:advance(10000)
    assert.same({ 1, 2, 1 }, { stat "closed_timeout", stat "opened", stat "idle" })
  end)
end)

describe("what the server says as it goes down", function()
  for sqlstate in ("57P01 57P02"):gmatch "%S+" do
    for _, how in ipairs { "release", "close" } do
      it(("is evidence: %s, %s"):format(sqlstate, how), function()
        open {}
        use(function(conn) conn:query("fatal " .. sqlstate) end, how)
        assert.equal(1, stat "closed_lost")
        assert.matches("10%.?0?.*db1: the server ended the connection: .*%(" .. sqlstate .. "%)$", "10.0 " .. pool:last_error())
      end)
    end
  end

  it("is told where it comes at rest", function()
    open {}
    local conn
    use(function(of) conn = of end)
    conn.fatal = { sqlstate = "57P01" }
    conn.lost("terminating connection due to administrator command", "worn")
    assert.equal(1, stat "closed_lost")
    assert.matches("shuts down", pool:last_error())
  end)

  it("is nothing against it if it ended the session for what the claimer did", function()
    open {}
    use(function(conn) conn:query "fatal 25P03" end)
    assert.same({ 0, 1 }, { stat "closed_lost", stat "closed" })
  end)

  it("is in the refusal, with its text", function()
    open({ servers = { [1] = { refuses = "FATAL: sorry, too many clients already", sqlstate = "53300" } } })
    assert.equal("failed", pool:state())
    assert.matches("too many clients", (select(2, pool:try_claim())))
  end)
end)

describe("role = primary", function()
  local function spread() return town:spread() end

  it("uses the primary alone, wherever it is, and says what the others are", function()
    open({ role = "primary", servers = { [1] = { is_standby = true }, [2] = {}, [3] = { is_standby = true, reports = false } } },
      { max_connections = 10 }, 3)
    assert.equal("0/8/0", spread())
    for _, backend in ipairs(pool:backends()) do
      if backend.key ~= "db2" then assert.equal("the server is a standby, not a primary", backend.error) end
    end
  end)

  for most = 1, 3 do
    it(("finds it with %d connections at most, and finds the next one"):format(most), function()
      open({ role = "primary", servers = { [1] = { is_standby = true }, [2] = { is_standby = true }, [3] = {} } },
        { max_connections = most }, 3)
      town:advance(1000)
      assert.equal(math.max(1, most - 1), pool:stats().idle)
      assert.equal("db3", pool:with(function(_, lease) return lease:backend().key end))
      servers["10.0.0.3"].refuses, servers["10.0.0.1"].is_standby = "connection refused", false
      for _ = 1, most do use(function(conn) conn.ended = { "closed", "lost" } end) end
      town:advance(3000)
      local key
      use(function(_) key = "x" end)
      for _, backend in ipairs(pool:backends()) do
        if backend.idle > 0 then key = backend.key end
      end
      assert.equal("db1", key)
    end)
  end

  it("finds a standby that was promoted", function()
    open({ role = "primary", servers = { [1] = {}, [2] = { is_standby = true } } }, { max_connections = 5 }, 2)
    assert.equal("4/0", spread())
    servers["10.0.0.1"].refuses = "connection refused"
    servers["10.0.0.2"].is_standby = false
    for _ = 1, 4 do use(function(conn) conn.ended = { "closed", "lost" } end) end
    town:advance(2000)
    assert.equal("0/4", spread())
  end)

  it("asks once a claimer met a read-only transaction: it may have wanted that", function()
    open { role = "primary" }
    use(function(conn) conn:query "BEGIN" conn:query "fail 25006" end)
    assert.same({ "BEGIN", "fail 25006", "ROLLBACK", "role?" }, sent)
    assert.same({ 1, 0 }, { stat "idle", stat "closed" })
    use(function() end)
    assert.equal(4, #sent)
  end)

  for _, how in ipairs { "release", "close" } do
    it("drops one whose server became read-only, as evidence: " .. how, function()
      open { role = "primary" }
      servers["10.0.0.1"].read_only = true
      use(function(conn) conn:query "fail 25006" end, how)
      assert.equal(1, stat "closed_lost")
      assert.equal("db1: the server became read-only", pool:last_error())
    end)

    it("drops one whose server became a standby, as it reports that: " .. how, function()
      open { role = "primary" }
      use(function(conn) conn.server.is_standby = true end, how)
      assert.equal(1, stat "closed_lost")
      assert.equal("failed", pool:state())
    end)
  end

  it("lets be what was read-only by default from the beginning", function()
    open { role = "primary", servers = { [1] = { read_only = true } } }
    use(function(conn) conn:query "fail 25006" end)
    assert.same({ 1, 0 }, { stat "idle", stat "closed" })
  end)

  it("finds by a check what the server does not report", function()
    open({ role = "primary", servers = { [1] = { reports = false } } }, { check_interval_ms = 100 })
    servers["10.0.0.1"].is_standby = true
    town:advance(300)
    assert.equal("failed", pool:state())
    assert.matches("the server is a standby, not a primary", pool:last_error())
  end)
end)

describe("role = standby", function()
  it("leaves one that was promoted, by a check or as it comes back", function()
    open({ role = "standby", servers = { [1] = { is_standby = true }, [2] = {} } }, { max_connections = 4, check_interval_ms = 100 }, 2)
    assert.equal("3/0", town:spread())
    servers["10.0.0.1"].is_standby = false
    town:advance(300)
    assert.equal("0/0", town:spread())
    assert.equal("failed", pool:state())
  end)
end)

describe("role = prefer-standby", function()
  local function open_three()
    open({ role = "prefer-standby", servers = { [1] = {}, [2] = { is_standby = true }, [3] = { is_standby = true } } },
      { max_connections = 6, check_interval_ms = 100 }, 3)
  end

  local function down(...)
    for _, number in ipairs { ... } do
      servers["10.0.0." .. number].refuses = "connection refused"
    end
    for _ = 1, 2 do
      local leases = {}
      town.world.spawn(function()
        for number = 1, 10 do leases[number] = pool:try_claim() end
        for _, lease in ipairs(leases) do
          if lease.connection.server.refuses then lease.connection.ended = { "closed", "lost" } end
          lease:release()
        end
      end)
      town:advance(1000)
    end
  end

  it("uses standbys alone while one is up", function()
    open_three()
    assert.equal("0/3/3", town:spread())
    down(2)
    assert.equal("0/0/5", town:spread())
  end)

  it("uses the primary while none is, and leaves it again", function()
    open_three()
    down(2, 3)
    assert.equal("5/0/0", town:spread())
    servers["10.0.0.3"].refuses = nil
    town:advance(2000)
    assert.equal("0/0/5", town:spread())
  end)

  it("follows a failover: the standby that became the primary is left, the old primary is used when it is back as a standby", function()
    open_three()
    servers["10.0.0.1"].refuses = "connection refused"
    servers["10.0.0.2"].is_standby = false
    town:advance(40000)
    assert.equal("0/0/5", town:spread())
    servers["10.0.0.1"] = { is_standby = true, reports = true }
    town:advance(5000)
    assert.equal("3/0/3", town:spread())
  end)
end)
