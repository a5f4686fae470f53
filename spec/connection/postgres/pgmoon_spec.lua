--- PostgreSQL over pgmoon on libuv, against a real server. With pgmoon itself where CUEBALL_PGMOON names its folder, else with a stand-in
-- for its login. Under nginx: spec/nginx/pgmoon_spec.lua.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local postgres_pgmoon = require "spec.support.postgres_pgmoon"
local stand_still = require "spec.support.stand_still"
local until_true = require "spec.support.until_true"
local values = require "cueball.connection.postgres.values"

local ffi = require "ffi"
local uv = require "luv"
local value_of = require("spec.support.postgres_client").value_of

local ROLE = "set password_encryption = md5; create role ann login password 'secret'"

describe("PostgreSQL over pgmoon", function()
  local server, remove

  setup(function()
    remove = postgres_pgmoon.install()
    server = postgres.start { hba = { "host all ann 127.0.0.1/32 md5", "host all all 127.0.0.1/32 trust" }, sql = ROLE }
  end)
  teardown(function()
    remove()
    postgres.remove_all()
  end)

  local open = postgres_pgmoon.on(function() return server end)
  local connected = open.with

  describe("queries", function()
    it("give rows by column, their names in order, and what was done", function()
      connected(function(conn)
        local result = assert(conn:query "select 1 as a, 'x' as b union all select 2, null order by 1")
        assert.same({ { a = 1, b = "x" }, { a = 2 } }, { result[1], result[2] })
        assert.same({ "a", "b" }, result.columns)
        assert.equal("SELECT 2", result.command)
        assert.equal(2, result.affected)
        assert.is_nil(result.all)
        assert.same({ command = "", columns = {} }, conn:query "")
        local several = assert(conn:query "create temp table t (a int); insert into t values (1), (2); select a from t order by a")
        assert.equal(3, #several.all)
        assert.equal(2, several.all[2].affected)
        assert.same({ { a = 1 }, { a = 2 } }, { several[1], several[2] })
      end)
    end)

    it("read types without loss, and send them so", function()
      connected(function(conn)
        local big = value_of(conn, "select 9223372036854775807 as v")
        assert.is_true(ffi.istype("int64_t", big))
        assert.is_true(value_of(conn, "select $1::int8 = 9223372036854775807 as v", big))
        assert.equal("1.10", value_of(conn, "select 1.10 as v"))
        assert.equal("{1,NULL}", value_of(conn, "select array[1, null] as v"))
        assert.is_true(value_of(conn, "select $1::text is null and $2 = 'x' and not $3::boolean as v", nil, "x", false))
        local bytes = "\0\1\255'\\"
        assert.equal(bytes, value_of(conn, "select $1 as v", values.bytea(bytes)))
        assert.equal(5, value_of(conn, "select length($1) + length($2) as v", values.bytea "\0\1", "abc"))
      end)
    end)

    it("read what the readers say, and survive a reader that throws", function()
      local readers = values.readers("spec", { numeric = "number", date = function() error "no such day" end })
      connected(function(conn)
        assert.equal(1.5, value_of(conn, "select 1.50 as v"))
        local ok, message, name = conn:query "select date '2020-01-01' as v"
        assert.is_nil(ok)
        assert.matches("no such day", message)
        assert.equal("invalid", name)
        assert.equal("-", value_of(conn, "select null as v"))
        assert.is_true(conn:is_fit())
      end, nil, { readers = readers, null = "-" })
    end)

    it("may be large", function()
      connected(function(conn)
        local result = assert(conn:query "select repeat('x', 3000000) as a, i, repeat('y', 70000) as b from generate_series(1, 3) i")
        for index = 1, 3 do
          assert.equal(3000000, #result[index].a)
          assert.equal(index, result[index].i)
          assert.equal(70000, #result[index].b)
        end
        assert.equal(5000000, value_of(conn, "select length($1) as v", ("z"):rep(5000000)))
        assert.equal(20000, #assert(conn:query "select 1 from generate_series(1, 20000)"))
      end)
    end)

    it("fail with SQLSTATE and fields, and leave the connection fit", function()
      connected(function(conn)
        assert(conn:query "create temp table t (a int primary key)")
        assert(conn:query "insert into t values (1)")
        local ok, message, name, fields = conn:query("insert into t values ($1)", 1)
        assert.is_nil(ok)
        assert.matches('^duplicate key value violates unique constraint "t_pkey"', message)
        assert.equal("23505", name)
        assert.equal("t_pkey", fields.constraint)
        assert.equal("t", fields.table)
        assert.equal("Key (a)=(1) already exists.", fields.detail)
        assert.equal(8, select(4, conn:query "select nothing").position)
        assert.is_true(conn:is_fit())
        assert.equal("idle", conn:status())
      end)
    end)

    it("are refused where they cannot be sent", function()
      connected(function(conn)
        assert.equal("invalid", select(3, conn:query "select '\0'"))
        assert.equal("invalid", select(3, conn:query("select $1", "\0")))
        assert.has_error(function() conn:query(1) end, "conn:query: expected SQL as a string, got 1")
        assert.has_error(function() conn:query("select $1", {}) end)
        assert.is_true(conn:is_fit())
      end)
    end)

    it("that begin a COPY end, and leave the connection fit", function()
      connected(function(conn)
        assert(conn:query "create temp table t (a int)")
        for _, sql in ipairs { "copy t from stdin", "copy t to stdout", "select 1; copy t from stdin" } do
          local ok, message, name = conn:query(sql)
          assert.is_nil(ok)
          assert.equal("unsupported", name)
          assert.matches("libpq", message)
          assert.is_true(conn:is_fit())
        end
        local copy = assert(conn:prepare "copy t from stdin")
        assert.equal("unsupported", select(3, copy:query()))
        assert.equal(1, value_of(conn, "select 1 as v"))
        for _, method in ipairs { "pipeline", "rows", "copy_in", "copy_out" } do
          assert.equal("unsupported", select(3, conn[method](conn, "select 1")))
        end
      end)
    end)

    it("are one at a time", function()
      connected(function(conn)
        local name
        host.spawn(function() conn:query "select pg_sleep(0.2)" end)
        assert.equal("active", conn:status())
        assert.equal("left in the middle of a query", select(2, conn:is_fit()))
        name = select(3, conn:query "select 1")
        assert.equal("busy", name)
        until_true(function() return conn:status() == "idle" end)
        assert.equal(1, value_of(conn, "select 1 as v"))
      end)
    end)
  end)

  describe("a time limit", function()
    it("cancels the query, and the connection is fit", function()
      connected(function(conn)
        conn:settimeout(200)
        local ok, message, name, fields = conn:query "select pg_sleep(3600)"
        assert.is_nil(ok)
        assert.equal("the query took longer than 200 ms, and was cancelled", message)
        assert.equal("timeout", name)
        assert.equal("57014", fields.sqlstate)
        assert.is_true(conn:is_fit())
        assert.equal(0, server:connections "query like '%pg_sleep%' and state = 'active'")
        conn:settimeout(30000)
        for _ = 1, 50 do assert.equal(1, value_of(conn, "select 1 as v")) end
      end)
    end)

    it("cancels again where the server had not begun the query as the first cancel came", function()
      connected(function(conn)
        local pid, cancels = conn:pid(), 0
        local tcp = host.tcp
        host.tcp = function(...) -- each cancel has a socket of its own
          cancels = cancels + 1
          if cancels == 2 then uv.kill(pid, "sigcont") end -- the first one is over; it is told of it before it reads the query
          return tcp(...)
        end
        finally(function() host.tcp = tcp uv.kill(pid, "sigcont") end)
        stand_still { pid }
        conn:settimeout(100)
        local ok, _, name = conn:query "select pg_sleep(3600)"
        assert.same({ nil, "timeout" }, { ok, name })
        assert.is_true(cancels >= 2, cancels)
        assert.is_true(conn:is_fit())
        conn:settimeout(30000)
        assert.equal(1, value_of(conn, "select 1 as v"))
      end, nil, { cancel_ms = 30000 })
    end)

    it("ends the connection where the server does not answer at all", function()
      local frozen = postgres.start()
      host.run(function()
        local conn = assert(open.connect(nil, { cancel_ms = 200 }, frozen.port))
        conn:settimeout(100)
        frozen:freeze()
        local ok, message, name = conn:query "select 1"
        frozen:thaw()
        assert.is_nil(ok)
        assert.equal("a query took longer than 100 ms and could not be cancelled, so the connection was closed", message)
        assert.equal("timeout", name)
        assert.equal("timeout", select(3, conn:is_fit()))
        assert.equal("closed", conn:status())
        assert.equal("closed", select(3, conn:query "select 1"))
        conn:close()
      end)
      frozen:remove()
    end)

    it("is not needed to cancel: another task may", function()
      connected(function(conn)
        local pid = conn:pid()
        host.spawn(function()
          until_true(function() return server:connections(("pid = %d and wait_event = 'PgSleep'"):format(pid)) == 1 end)
          assert(conn:cancel())
        end)
        assert.equal("57014", select(3, conn:query "select pg_sleep(3600)"))
        assert.is_true(conn:is_fit())
      end)
    end)
  end)

  describe("statements", function()
    it("are prepared once, and known by their text", function()
      connected(function(conn)
        local add = assert(conn:prepare "select $1::int + $2::int as v")
        assert.equal(3, add:query(1, 2)[1].v)
        assert.equal(5, assert(conn:prepare "select $1::int + $2::int as v"):query(2, 3)[1].v)
        assert.equal(1, value_of(conn, "select count(*) as v from pg_prepared_statements"))
        assert.equal("invalid", select(3, add:query(1)))
        assert.equal("42703", select(3, conn:prepare "select nothing"))
      end)
    end)

    it("live on after DISCARD ALL", function()
      connected(function(conn)
        local one = assert(conn:prepare "select 1 as v")
        assert(conn:query "discard all")
        assert.equal(1, one:query()[1].v)
        assert(conn:query "begin")
        assert(conn:query "deallocate all")
        assert.equal(1, one:query()[1].v)
        assert.equal("in_transaction", conn:status())
        assert(conn:query "commit")
        assert(conn:query "deallocate cueball_3")
        assert.equal(1, one:query()[1].v)
      end)
    end)

    it("are not kept without end", function()
      connected(function(conn)
        for index = 1, 130 do assert.equal(index, assert(conn:prepare("select " .. index .. " as v")):query()[1].v) end
        assert.equal(100, value_of(conn, "select count(*) as v from pg_prepared_statements"))
      end)
    end)
  end)

  describe("what the server says unasked", function()
    it("is heard: notices, parameters, the transaction", function()
      connected(function(conn)
        local heard = {}
        conn:notice_handler(function(fields) heard[#heard + 1] = fields.message end)
        assert(conn:query "do $$ begin raise notice 'one'; raise warning 'two'; end $$")
        assert.same({ "one", "two" }, heard)
        assert.equal(tostring(postgres.version), conn:parameter "server_version":match "^%d+")
        assert(conn:query "set timezone = 'Asia/Tokyo'")
        assert.equal("Asia/Tokyo", conn:parameter "TimeZone")
        assert(conn:query "begin")
        assert.equal("in_transaction", conn:status())
        conn:query "nonsense"
        assert.equal("failed_transaction", conn:status())
        assert(conn:query "rollback")
        assert.equal("idle", conn:status())
      end)
    end)

    it("is waited for: notifications", function()
      connected(function(conn)
        assert(conn:query "listen news")
        local none, message, name = conn:wait_notification(20)
        assert.same({ nil, "no notification within 20 ms", "timeout" }, { none, message, name })
        assert.is_true(conn:is_fit())
        host.spawn(function()
          host.sleep(20)
          server:sql "notify news, 'hello'"
        end)
        local one = assert(conn:wait_notification(10000))
        assert.equal("news", one.channel)
        assert.equal("hello", one.payload)
        server:sql "select pg_notify('news', i::text) from generate_series(1, 3) i"
        assert(conn:query "select 1")
        for index = 1, 3 do assert.equal(tostring(index), assert(conn:wait_notification(0)).payload) end
        assert.equal("timeout", select(3, conn:wait_notification(0)))
        assert.is_true(conn:is_fit())
        server:sql "select pg_notify('news', i::text) from generate_series(1, 12) i"
        assert(conn:query "select 1")
        for index = 1, 10 do assert.equal(tostring(index), assert(conn:wait_notification()).payload) end
        assert.same({ nil, "2 notifications were lost: more than 10 waited to be taken", "overflow" }, { conn:wait_notification() })
        assert.same({}, (conn:notifications()))
      end, nil, { notifications = 10 })
    end)

    it("is heard at rest, and ends nothing but where it is the end", function()
      connected(function(conn)
        local lost, heard = nil, 0
        assert(conn:query "listen news")
        conn:watch(function(message, kind) lost = { message, kind } end, function() heard = heard + 1 end)
        for index = 1, 3 do
          server:sql(("notify news, '%d'"):format(index))
          until_true(function() return heard == index end)
        end
        assert.is_nil(lost)
        conn:unwatch()
        for index = 1, 3 do assert.equal(tostring(index), assert(conn:wait_notification(0)).payload) end
        assert.is_true(conn:is_fit())
        assert.equal(1, value_of(conn, "select 1 as v"))
        conn:watch(function(message, kind) lost = { message, kind } end)
        server:sql(("select pg_terminate_backend(%d)"):format(conn:pid()))
        until_true(function() return lost end)
        assert.equal("terminating connection due to administrator command", lost[1])
        assert.equal("lost", lost[2])
      end)
    end)

    it("is told to who asked meanwhile", function()
      connected(function(conn)
        local pid = conn:pid()
        host.spawn(function()
          until_true(function() return server:connections(("pid = %d and wait_event = 'PgSleep'"):format(pid)) == 1 end)
          server:sql(("select pg_terminate_backend(%d)"):format(pid))
        end)
        local ok, message, name = conn:query "select pg_sleep(3600)"
        assert.is_nil(ok)
        assert.equal("terminating connection due to administrator command", message)
        assert.equal("57P01", name)
        assert.equal("closed", conn:status())
        assert.is_nil((conn:is_fit()))
      end)
    end)
  end)

  it("refuses options that it cannot have", function()
    for option, value in pairs {
      sslmode = "verify-ca", service = "shop", passfile = "/x", gssencmode = "prefer", channel_binding = "require", require_auth = "md5",
      ssl_min_protocol_version = "TLSv1.1",
    } do
      local ok, message = pcall(cueball.connection.postgres, { driver = "pgmoon", [option] = value })
      assert.is_false(ok)
      assert.matches(("option '%s' = %q cannot be had over pgmoon"):format(option, value), message, 1, true)
    end
  end)

  it("is used by pools: watched, lent again, cleaned, closed", function()
    host.run(function()
      local pool = cueball.pool {
        resolver = cueball.resolver.static { server.backend }, max_connections = 3, claim_timeout_ms = 10000,
        connect = cueball.connection.postgres {
          driver = "pgmoon", user = "ann", password = "secret", dbname = "postgres", sslmode = "disable",
        },
      }
      local done = 0
      for _ = 1, 30 do
        host.spawn(function()
          for _ = 1, 10 do
            assert(pool:with(function(conn) return value_of(conn, "select $1::int as v", 7) == 7 end))
            done = done + 1
          end
        end)
      end
      until_true(function() return done == 300 end)
      until_true(function() return server:connections() == 3 end)
      pool:with(function(conn) assert(conn:query "begin") end)
      for _ = 1, 6 do pool:with(function(conn) assert.equal("idle", conn:status()) end) end
      local name = select(3, pool:with(function(conn)
        return conn:transaction(function(tx)
          assert(tx:query "create temp table t (a int)")
          return tx:query "select nothing"
        end)
      end))
      assert.equal("42703", name)
      assert.equal(3, pool:stats().opened)
      pool:stop()
    end)
    until_true(function() return server:connections() == 0 end)
  end)
end)
