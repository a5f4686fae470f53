--- cueball.connection.postgres against real servers that are killed, frozen, full, promoted: nothing hangs beyond its limit, every claimer
-- is told, and nothing is lost.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local logged = {}

local function start_log()
  logged = {}
  host.log_to(function(level, message) logged[#logged + 1] = level .. ": " .. message end)
end

local function stop_all()
  host.log_to(nil)
  postgres.remove_all()
end

-- Runs fn(pool) in a task, with a pool on these servers.
local function pooled(servers, given, options, fn)
  host.run(function()
    local backends = {}
    for index, server in ipairs(servers) do backends[index] = server.backend end
    local pool = cueball.pool(with({
      name = "spec", max_connections = 4, claim_timeout_ms = 20000, check_interval_ms = 500, resolver = cueball.resolver.static(backends),
      connect = cueball.connection.postgres(with({ user = "postgres", dbname = "postgres", query_timeout_ms = 10000 }, given)),
      recovery = { default = { attempts = 3, delay_ms = 20, timeout_ms = 2000, max_timeout_ms = 2000 } },
    }, options))
    local ok, message = pcall(fn, pool)
    pool:stop()
    if not ok then error(message, 0) end
  end)
end

-- So many tasks insert numbers, each its own, until `load.is_over`. A number counts as written once the server has said so.
-- @return { written = { number, … }, told = { message, … }, longest_ms = of one call, left = tasks that go on }
local function start_load(pool, count)
  local load = { written = {}, told = {}, longest_ms = 0, left = count, is_over = false }
  for task = 1, count do
    cueball.spawn(function()
      local number = task * 1000000
      while not load.is_over do
        number = number + 1
        local began = host.now()
        local done, message = pool:with(function(conn) return conn:query("insert into numbers values ($1)", number) end)
        load.longest_ms = math.max(load.longest_ms, (host.now() - began) / 1e6)
        if done then load.written[#load.written + 1] = number else load.told[#load.told + 1] = message end
        if not done then cueball.sleep(20) end
      end
      load.left = load.left - 1
    end)
  end
  return load
end

local function end_load(load)
  load.is_over = true
  until_true(function() return load.left == 0 end, function() return load.left .. " tasks go on" end)
end

-- More than so many were written.
local function until_written(load, count)
  until_true(function() return #load.written > count end, function() return load.told[#load.told] end)
end

-- What those were told whose query was under way, and not those who got no connection.
local function in_use_of(load)
  local said = {}
  for _, message in ipairs(load.told) do
    if not message:find "^pool spec has failed" then said[#said + 1] = message end
  end
  return said
end

-- What was acknowledged is there. More may be: of what was told otherwise nobody knows.
local function assert_all_there(server, load)
  local there = {}
  for number in server:sql("select number from numbers"):gmatch "%d+" do there[tonumber(number)] = true end
  for _, number in ipairs(load.written) do assert.is_true(there[number], number .. " is missing") end
end

local TABLE = "create table numbers (number int primary key)"

describe("a PostgreSQL server under load", function()
  local server

  before_each(function()
    start_log()
    server = postgres.start { sql = TABLE, settings = { max_connections = 20 } }
  end)
  after_each(stop_all)

  it("that is killed and started again costs what was under way, and no more", function()
    pooled({ server }, {}, nil, function(pool)
      local load = start_load(pool, 12)
      until_written(load, 100)
      server:kill()
      cueball.sleep(200)
      server:start()
      until_written(load, #load.written + 100)
      end_load(load)
      assert_all_there(server, load)
      assert.is_true(load.longest_ms < 20000, load.longest_ms)
      until_true(function() return pool:stats().idle == 4 end, function() return pool:last_error() end)
    end)
    until_true(function() return server:connections() == 0 end)
  end)

  it("that is restarted says so, which counts against it, and its text is told", function()
    pooled({ server }, {}, nil, function(pool)
      local load = start_load(pool, 12)
      until_written(load, 100)
      local told, name
      cueball.spawn(function()
        told, name = select(2, pool:with(function(conn) return conn:query "select pg_sleep(3600)" end))
      end)
      until_true(function() return server:connections "query like '%pg_sleep(3600)%'" == 1 end)
      server:restart "fast"
      until_written(load, #load.written + 100)
      end_load(load)
      assert_all_there(server, load)
      assert.matches("terminating connection due to administrator command", told)
      assert.equal("57P01", name)
      assert.is_true(pool:stats().closed_lost >= 1)
      assert.is_true(#in_use_of(load) <= 4)
    end)
  end)

  it("that is frozen for 12 s holds nobody up beyond the limits", function()
    pooled({ server }, { query_timeout_ms = 300 }, { claim_timeout_ms = 1000 }, function(pool)
      local load = start_load(pool, 8)
      until_written(load, 100)
      server:freeze()
      local before = #load.told
      cueball.sleep(12000)
      server:thaw()
      assert.is_true(#load.told >= before + 8, #load.told - before .. " were told")
      until_written(load, #load.written + 100)
      end_load(load)
      -- The claim 1 s, the query 300 ms, its cancel 1 s; the rest is the machine's.
      assert.is_true(load.longest_ms < 11000, load.longest_ms)
      assert_all_there(server, load)
    end)
  end)

  it("that ends sessions is not dead for it: at rest and in use they are replaced", function()
    pooled({ server }, {}, { check_interval_ms = false }, function(pool)
      local load = start_load(pool, 3) -- one connection is at rest
      until_written(load, 100)
      for _ = 1, 5 do
        server:terminate "application_name like 'spec %'"
        until_written(load, #load.written + 30)
      end
      end_load(load)
      assert_all_there(server, load)
      assert.same({ 0, "running" }, { pool:stats().backend_deaths, pool:state() })
      assert.is_true(#load.told <= 5 * 4, #load.told .. " were told: " .. tostring(load.told[1]))
    end)
  end)
end)

describe("a PostgreSQL server that is full", function()
  before_each(start_log)
  after_each(stop_all)

  it("takes fewer, and serves all claimers; its text is told", function()
    local server = postgres.start { sql = TABLE .. "; create role ann login; grant all on numbers to ann", settings = {
      max_connections = 8, superuser_reserved_connections = 3,
    } }
    pooled({ server }, { user = "ann" }, { max_connections = 5 }, function(pool)
      pool:ready { connections = 5, timeout_ms = 20000 }
      pool:set { max_connections = 12 }
      until_true(function() return pool:last_error() ~= nil end)
      -- The server has two texts, of which the other one is for those who come while the last slots are being given back.
      local text = pool:last_error()
      assert.is_truthy(text:find("remaining connection slots are reserved for non-replication superuser connections", 1, true)
        or text:find("sorry, too many clients already", 1, true), text)
      local load = start_load(pool, 20)
      until_written(load, 200)
      end_load(load)
      assert.same({}, load.told)
      assert.same({ 0, "running" }, { pool:stats().backend_deaths, pool:state() })
      assert.equal(5, pool:backends()[1].takes)
    end)
  end)

  it("for all is dead, and claimers are told why", function()
    local server = postgres.start { settings = { max_connections = 4, superuser_reserved_connections = 0, max_wal_senders = 0 } }
    pooled({ server }, {}, { max_connections = 4 }, function(other)
      other:ready { connections = 4, timeout_ms = 20000 }
      pooled({ server }, {}, nil, function(pool)
        local lease, message, name = pool:claim()
        assert.same({ nil, "pool_failed" }, { lease, name })
        assert.matches("sorry, too many clients already", message)
      end)
    end)
  end)
end)

describe("a PostgreSQL server that stops in the middle of connecting", function()
  before_each(start_log)
  after_each(stop_all)

  it("fails the attempt at its limit, and leaves nothing open", function()
    local server = postgres.start()
    server:freeze()
    local hasty = { default = { attempts = 2, timeout_ms = 100, max_timeout_ms = 100, delay_ms = 10 } }
    pooled({ server }, {}, { recovery = hasty }, function(pool)
      local lease, message, name = pool:claim()
      assert.same({ nil, "pool_failed" }, { lease, name })
      -- The pool's limit and the driver's end at one moment: either may be first.
      assert.is_truthy(message:find "too long" or message:find "no connection after", message)
    end)
    server:thaw()
    until_true(function() return server:connections() == 0 end)
  end)
end)

describe("a cluster of a primary and a standby", function()
  local one, two

  before_each(function()
    start_log()
    one = postgres.start { sql = TABLE }
    two = postgres.standby_of(one)
    -- What was acknowledged is on both.
    one:configure { synchronous_standby_names = "*" }
  end)
  after_each(stop_all)

  it("costs one error for each connection in use when the standby is promoted", function()
    pooled({ one, two }, { role = "primary" }, nil, function(pool)
      local load = start_load(pool, 12)
      until_written(load, 100)
      one:kill()
      two:promote()
      until_written(load, #load.written + 100)
      end_load(load)
      assert_all_there(two, load)
      local said = in_use_of(load)
      assert.is_true(#said <= 4, table.concat(said, "\n"))
      assert.is_true(load.longest_ms < 20000, load.longest_ms .. " ms")
      -- The old primary comes back as a standby, and is left alone.
      one.settings.synchronous_standby_names = nil
      two:configure { synchronous_standby_names = "" }
      one:follow(two)
      local function error_of_one()
        for _, backend in ipairs(pool:backends()) do
          if backend.key == one.backend then return backend.error end
        end
      end
      until_true(function() return error_of_one() == "the server is a standby, not a primary" end, error_of_one)
      assert.equal(two.port, pool:with(function(conn) return conn:query("select inet_server_port() as port")[1].port end))
    end)
  end)

  it("has its standbys found by what they are, and preferred while they are up", function()
    local function port(pool) return pool:with(function(conn) return conn:query("select inet_server_port() as port")[1].port end) end
    pooled({ one, two }, { role = "standby" }, nil, function(standbys)
      pooled({ one, two }, { role = "prefer-standby" }, nil, function(preferring)
        for _ = 1, 6 do
          assert.equal(two.port, port(standbys))
        end
        -- The primary's connections go as the standby's come: it is the standby's turn alone from some moment on.
        until_true(function()
          for _ = 1, 6 do
            if port(preferring) ~= two.port then return false end
          end
          return true
        end)
        two:stop()
        until_true(function() return port(preferring) == one.port end)
        assert.matches("the server is the primary, not a standby", (select(2, standbys:claim { timeout_ms = 20000 })))
        two:start()
        until_true(function() return port(preferring) == two.port and port(standbys) == two.port end)
      end)
    end)
  end)

  it("leaves a standby that was promoted, where standbys were asked for", function()
    pooled({ two }, { role = "standby" }, { check_interval_ms = 100 }, function(pool)
      pool:ready { timeout_ms = 20000 }
      two:promote()
      until_true(function() return pool:state() == "failed" end)
      assert.matches("the server is the primary, not a standby", pool:last_error())
    end)
  end)

  it("drops a primary that became read-only, once somebody wanted to write", function()
    one:configure { synchronous_standby_names = "" }
    pooled({ one, two }, { role = "primary" }, { check_interval_ms = false }, function(pool)
      pool:ready { timeout_ms = 20000 }
      -- Somebody's own read-only transaction is nothing against the server.
      pool:with(function(conn)
        return conn:transaction(function(tx) return tx:query "insert into numbers values (1)" end, { read_only = true })
      end)
      until_true(function() return pool:stats().busy == 0 end)
      assert.equal(0, pool:stats().closed)
      local lost = {}
      pool:subscribe(function(event)
        if event.kind == "slot_state" and event.cause == "lost" then lost[#lost + 1] = { event.backend, event.error } end
      end)
      one:configure { default_transaction_read_only = true }
      local name = select(3, pool:with(function(conn) return conn:query "insert into numbers values (2)" end))
      assert.equal("25006", name)
      until_true(function() return pool:stats().closed_lost >= 1 end)
      -- The pool's last error may be the standby's by now, and the backend has none any more if another connection has opened: the
      -- server takes it, as it is a primary still.
      assert.equal(one.backend, lost[1][1])
      assert.matches("read%-only", lost[1][2])
    end)
  end)
end)
