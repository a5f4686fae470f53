--- cueball.connection.postgres against a real PostgreSQL: logging in, passwords that change, UNIX sockets, clean-up, transactions.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

describe("cueball.connection.postgres", function()
  local server, logged

  setup(function()
    server = postgres.start {
      hba = { "host all ann 127.0.0.1/32 scram-sha-256", "host all bob 127.0.0.1/32 password", "host all all 127.0.0.1/32 trust",
        "local all all trust" },
      sql = "create role ann login password 'the first word'; create role bob login password 'cleartext-word'; "
        .. "grant all on schema public to public; create table numbers (number int primary key)",
    }
    host.log_to(function(level, message) logged[#logged + 1] = level .. ": " .. message end)
  end)
  before_each(function()
    logged = {}
    server:sql "truncate numbers"
  end)
  teardown(function()
    host.log_to(nil)
    postgres.remove_all()
  end)

  -- Runs fn(pool) in a task, with a pool on the server.
  local function pooled(given, fn, options)
    host.run(function()
      local pool = cueball.pool(with({
        name = "spec", max_connections = 1, claim_timeout_ms = 10000, resolver = cueball.resolver.static { server.backend },
        connect = cueball.connection.postgres(with({ user = "postgres", dbname = "postgres" }, given)),
        recovery = { default = { attempts = 2, delay_ms = 20 } },
      }, options))
      local ok, message = pcall(fn, pool)
      pool:stop()
      if not ok then error(message, 0) end
    end)
    until_true(function() return server:connections() == 0 end) -- nothing is left
  end

  local function one(pool, sql, ...)
    local arguments = { ... }
    return pool:with(function(conn)
      local rows, message, name = conn:query(sql, unpack(arguments))
      if not rows then return nil, message, name end
      return rows[1] and rows[1].v
    end)
  end

  it("logs in as it is told, and says who it is", function()
    pooled({ user = "ann", password = "the first word", dbname = "postgres", options = "-c work_mem=1MB" }, function(pool)
      assert.equal("ann", one(pool, "select current_user as v"))
      assert.equal("1MB", one(pool, "show work_mem") or one(pool, "select current_setting('work_mem') as v"))
      assert.matches("^spec %d+$", one(pool, "select current_setting('application_name') as v"))
    end)
  end)

  it("uses UNIX sockets, by their path", function()
    for _, address in ipairs { "unix:" .. server.socket } do
      pooled({}, function(pool)
        assert.is_nil(one(pool, "select inet_server_addr() as v"))
        assert.equal("postgres", one(pool, "select current_user as v"))
      end, { resolver = cueball.resolver.static { address } })
    end
  end)

  it("tells why nobody gets in, without the password", function()
    for _, case in ipairs {
      { { user = "ann", password = "a wrong secret" }, 'password authentication failed for user "ann"' },
      { { user = "bob", password = "a wrong secret" }, 'password authentication failed for user "bob"' },
      { { dbname = "nowhere" }, 'database "nowhere" does not exist' },
      { { user = "ann", password = function() return nil, "the vault is sealed" end }, "password: the vault is sealed" },
      { { user = "ann", password = function() error "no vault" end }, "no vault" },
      { { setup = "select a_wrong_secret()" }, "setup: function a_wrong_secret%(%) does not exist" },
      { { setup = function() return false, "not today" end }, "setup: not today" },
      { { setup = function() error() end }, "setup: it threw nil" },
      { { setup = function(conn) conn:close() end }, "setup: the connection was closed" },
      { { setup = "begin" }, "setup: it left a transaction open" },
      { { options = "-c nonsense=1" }, 'unrecognized configuration parameter "nonsense"' },
    } do
      pooled(case[1], function(pool)
        local lease, message, name = pool:claim()
        assert.same({ nil, "pool_failed" }, { lease, name })
        assert.matches(case[2], message)
      end)
      assert.is_nil(table.concat(logged, "\n"):find("a wrong secret", 1, true))
    end
  end)

  it("asks for the password at each connect, so that pool:renew takes a new one into use", function()
    local word, asked = "the first word", 0
    pooled({ user = "ann", password = function()
      asked = asked + 1
      cueball.sleep(1)
      return word
    end }, function(pool)
      local pid = one(pool, "select pg_backend_pid() as v")
      server:sql "alter role ann password 'the second word'"
      word = "the second word"
      assert.equal(pid, one(pool, "select pg_backend_pid() as v")) -- those that are open go on
      pool:renew { over_ms = 0 }
      pool:ready { timeout_ms = 20000 }
      assert.not_equal(pid, one(pool, "select pg_backend_pid() as v"))
      assert.equal(2, asked)
    end)
    server:sql "alter role ann password 'the first word'"
  end)

  it("rolls back what was left open, in time for the next", function()
    pooled({}, function(pool)
      local pid = one(pool, "select pg_backend_pid() as v")
      pool:with(function(conn) conn:query "begin" conn:query "insert into numbers values (1)" end)
      assert.equal(0, one(pool, "select count(*) as v from numbers"))
      pool:with(function(conn) conn:query "begin" conn:query "select 1/0" end)
      assert.equal(pid, one(pool, "select pg_backend_pid() as v"))
      assert.same({ 1, 0 }, { pool:stats().opened, pool:stats().closed })
    end)
  end)

  -- What a claimer may leave besides.
  local function leave(pool)
    pool:with(function(conn)
      for _, sql in ipairs { "set work_mem = '2MB'", "create temp table left_behind (x int)", "listen left_behind",
        "select pg_advisory_lock(4711)", "prepare left_behind as select 1", "begin", "insert into numbers values (1)" } do
        assert(conn:query(sql))
      end
    end)
  end

  local LEFT = "select current_setting('work_mem') || ' ' || coalesce(to_regclass('left_behind')::text, '-') || ' ' || "
    .. "(select count(*) from pg_listening_channels()) || ' ' || (select count(*) from pg_locks where locktype = 'advisory') || ' ' || "
    .. "(select count(*) from pg_prepared_statements) as v"

  it("leaves the session as it is with reset = rollback, and nothing of it with discard", function()
    pooled({}, function(pool)
      leave(pool)
      assert.equal("2MB left_behind 1 1 1", one(pool, LEFT))
    end)
    pooled({ reset = "discard", setup = "set work_mem = '3MB'" }, function(pool)
      assert.equal("3MB - 0 0 0", one(pool, LEFT))
      leave(pool)
      assert.equal("3MB - 0 0 0", one(pool, LEFT))
      assert.equal(1, pool:stats().opened)
    end)
    assert.equal("0", server:sql "select count(*) from numbers")
  end)

  it("replaces a connection left in a transaction with reset = none, and one with a query under way always", function()
    pooled({ reset = "none" }, function(pool)
      pool:with(function(conn) conn:query "begin" end)
      assert.equal("idle", pool:with(function(conn) return conn:status() end))
      assert.same({ 2, 1 }, { pool:stats().opened, pool:stats().closed_unfit })
    end)
    pooled({}, function(pool)
      pool:with(function(conn)
        cueball.spawn(function() conn:query "select pg_sleep(3600)" end)
        until_true(function() return server:connections "wait_event = 'PgSleep'" == 1 end) -- before, a cancel would find nothing
      end)
      assert.equal(1, one(pool, "select 1 as v"))
      assert.same({ 2, 1 }, { pool:stats().opened, pool:stats().closed_unfit })
      until_true(function() return server:connections "state = 'active'" == 0 end) -- the query was cancelled
    end)
  end)

  it("binds queries to the lease's deadline", function()
    pooled({}, function(pool)
      assert(pool:ready { timeout_ms = 20000 })
      local began = host.now()
      local ok, message, name = pool:with(function(conn) return conn:query "select pg_sleep(3600)" end, { timeout_ms = 200 })
      assert.same({ nil, "timeout" }, { ok, name }, message)
      assert.is_true(host.now() - began < 20e9)
      assert.equal(1, one(pool, "select 1 as v"))
    end)
  end)

  it("checks with a query, and finds what the server would not do", function()
    pooled({}, function(pool)
      pool:ready { timeout_ms = 20000 }
      until_true(function()
        cueball.sleep(10)
        return pool:stats().checks >= 2
      end)
      assert.equal(0, pool:stats().checks_failed)
    end, { check_interval_ms = 50, check_timeout_ms = 20000 })
  end)
end)

describe("conn:transaction on a real server", function()
  local server

  setup(function()
    server = postgres.start { sql = "create table accounts (id int primary key, balance int not null)" }
    host.log_to(function() end)
  end)
  before_each(function() server:sql "truncate accounts; insert into accounts values (1, 100), (2, 100)" end)
  teardown(function()
    host.log_to(nil)
    postgres.remove_all()
  end)

  local function pooled(fn)
    host.run(function()
      local pool = cueball.pool {
        max_connections = 8, claim_timeout_ms = 10000, resolver = cueball.resolver.static { server.backend },
        connect = cueball.connection.postgres { user = "postgres", query_timeout_ms = 30000, cancel_timeout_ms = 30000 },
      }
      local ok, message = pcall(fn, pool)
      pool:stop()
      if not ok then error(message, 0) end
    end)
  end

  local function balances() return (server:sql "select balance from accounts order by id"):gsub("%s+", " "):gsub(" $", "") end

  local function check(...)
    if not (...) then error((select(2, ...)), 0) end
    return ...
  end

  it("commits, rolls back, and nests", function()
    pooled(function(pool)
      pool:with(function(conn)
        assert.equal(90, conn:transaction(function(tx)
          return check(tx:query "update accounts set balance = balance - 10 where id = 1 returning balance")[1].balance
        end))
        assert.has_error(function() conn:transaction(function(tx) tx:query "delete from accounts" error "a bug" end) end)
        local ok, _, name = conn:transaction(function(tx)
          tx:query "insert into accounts values (1, 0)"
          return "done"
        end)
        assert.same({ nil, "23505" }, { ok, name })
        assert.is_true(conn:transaction(function(tx)
          tx:query "update accounts set balance = 5 where id = 2"
          assert.is_nil((tx:transaction(function() return tx:query "insert into accounts values (1, 0)" end)))
          pcall(tx.transaction, tx, function() tx:query "delete from accounts" error "undone" end)
          return true
        end, { isolation = "repeatable read" }))
        assert.equal("idle", conn:status())
        assert.is_nil((conn:transaction(function(tx) return tx:query "delete from accounts" end, { read_only = true })))
      end)
    end)
    assert.equal("90 5", balances())
  end)

  it("does again what could not be serialized: nothing is lost, nothing done twice", function()
    pooled(function(pool)
      local left, attempts = 8, 0
      for _ = 1, 8 do
        cueball.spawn(function()
          for _ = 1, 5 do
            check(pool:with(function(conn)
              return conn:transaction(function(tx)
                attempts = attempts + 1
                local sum = check(tx:query "select sum(balance)::int as sum from accounts")[1].sum
                check(tx:query("update accounts set balance = balance + 1 where id = $1", 1 + sum % 2))
                return true
              end, { isolation = "serializable", retry = { attempts = 200, delay_ms = 2, max_delay_ms = 50 } })
            end))
          end
          left = left - 1
        end)
      end
      until_true(function()
        cueball.sleep(10)
        return left == 0
      end)
      assert.is_true(attempts > 40, attempts .. " attempts")
    end)
    assert.equal("240", server:sql "select sum(balance) from accounts":gsub("%s+", ""))
  end)

  it("does again what was the victim of a deadlock", function()
    server:configure { deadlock_timeout = "10ms" }
    pooled(function(pool)
      local done, deadlocks, locked = 0, 0, 0
      for turn = 0, 1 do
        cueball.spawn(function()
          check(pool:with(function(conn)
            return conn:transaction(function(tx)
              check(tx:query("update accounts set balance = balance + 1 where id = $1", 1 + turn))
              locked = locked + 1
              until_true(function() return locked >= 2 end) -- each has what the other one wants
              local ok, message, name = tx:query("update accounts set balance = balance + 1 where id = $1", 2 - turn)
              if name == "40P01" then deadlocks = deadlocks + 1 end
              return ok, message
            end, { retry = 20 })
          end))
          done = done + 1
        end)
      end
      until_true(function()
        cueball.sleep(10)
        return done == 2
      end)
      assert.is_true(deadlocks >= 1)
    end)
    assert.equal("102 102", balances())
  end)

  it("says that it does not know of a commit whose answer never came", function()
    server:sql [[create function hang() returns trigger language plpgsql as 'begin perform pg_sleep(3600); return null; end';
      create constraint trigger hangs after insert on accounts deferrable initially deferred for each row execute function hang()]]
    pooled(function(pool)
      local ok, message, name = pool:with(function(conn)
        cueball.spawn(function()
          until_true(function() return server:connections "query = 'COMMIT' and wait_event = 'PgSleep'" == 1 end)
          server:terminate "query = 'COMMIT'"
        end)
        return conn:transaction(function(tx) return check(tx:query "insert into accounts values (3, 0)") and true end, { retry = 3 })
      end)
      assert.same({ nil, "commit_unknown" }, { ok, name }, message)
      assert.matches("it is not known whether the transaction was committed", message)
    end)
    server:sql "drop trigger hangs on accounts; drop function hang"
  end)

  it("ends in time, and leaves the connection fit", function()
    pooled(function(pool)
      local ok, _, name = pool:with(function(conn)
        return conn:transaction(function(tx) return tx:query "select pg_sleep(3600)" end, { timeout_ms = 100 })
      end)
      assert.same({ nil, "timeout" }, { ok, name })
      for _ = 1, 8 do assert.equal("idle", pool:with(function(conn) return conn:status() end)) end
      assert.equal(0, pool:stats().closed)
    end)
  end)
end)
