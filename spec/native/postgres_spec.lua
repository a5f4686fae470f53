--- The connection factory of examples/c/postgres_factory.c, against a real PostgreSQL.
local cueball = require "cueball"
local ffi = require "ffi"
local host = require "cueball.host.uv"
local lib = require("cueball.native").lib
local native_library = require "spec.support.native_library"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

ffi.cdef [[
  void *spec_native_pq_exec(void *conn, const char *sql) __asm__("PQexec");
  char *spec_native_pq_value(const void *result, int row, int column) __asm__("PQgetvalue");
  void spec_native_pq_clear(void *result) __asm__("PQclear");
  int spec_native_pq_send(void *conn, const char *sql) __asm__("PQsendQuery");
  int spec_native_pq_socket(const void *conn) __asm__("PQsocket");
]]

describe("a factory in C for PostgreSQL", function()
  local server, pq, logged

  setup(function()
    server = postgres.start {
      hba = { "host all ann 127.0.0.1/32 scram-sha-256", "local all all trust" },
      sql = "create role ann login password 'the first word'",
    }
    pq = ffi.load "libpq.so.5"
    local flags = shell.must("pkg-config --cflags --libs libpq"):match "^%s*(.-)%s*$"
    local library = native_library.load("examples/c/postgres_factory.c",
      "int postgres_factory_register(const char *name, const char *conninfo);", flags)
    assert.equal(0, library.postgres_factory_register("pg", "dbname=postgres user=ann password='the first word'"))
    assert.equal(0, library.postgres_factory_register("pg, wrong", "dbname=postgres user=ann password=no"))
    assert.equal(lib.CUEBALL_EEXISTS, library.postgres_factory_register("pg", ""))
    host.log_to(function(level, message) logged[#logged + 1] = level .. ": " .. message end)
  end)
  before_each(function() logged = {} end)
  teardown(function()
    lib.cueball_native_factory_unregister "pg"
    lib.cueball_native_factory_unregister "pg, wrong"
    host.log_to(nil)
    postgres.remove_all()
  end)

  local function pooled(name, given, fn)
    host.run(function()
      local options = { name = "spec", max_connections = 1, claim_timeout_ms = 20000, host = host,
        resolver = cueball.resolver.static { server.backend }, connect = cueball.native(name),
        recovery = { default = { attempts = 2, delay_ms = 20, timeout_ms = 10000 } } }
      for option, value in pairs(given or {}) do options[option] = value end
      local pool = cueball.pool(options)
      local ok, message = pcall(fn, pool)
      pool:stop()
      if not ok then error(message, 0) end
    end)
    until_true(function() return server:connections() == 0 end)
  end

  -- Blocks the event loop, as only a spec may.
  local function ask(connection, sql)
    local result = pq.spec_native_pq_exec(connection.pointer, sql)
    local value = pq.spec_native_pq_value(result, 0, 0)
    value = value ~= nil and ffi.string(value) or nil
    pq.spec_native_pq_clear(result)
    return value
  end

  it("logs in, and is given to leases as a PGconn", function()
    pooled("pg", nil, function(pool)
      assert.equal("ann", pool:with(function(connection) return ask(connection, "select current_user") end))
      pool:with(function(connection) assert.equal(connection.fd, pq.spec_native_pq_socket(connection.pointer)) end)
      assert.equal(1, pool:stats().opened)
    end)
  end)

  it("says in the server's words why it may not", function()
    pooled("pg, wrong", nil, function(pool)
      assert.equal("pool_failed", (select(3, pool:claim())))
      assert.matches('password authentication failed for user "ann"', pool:last_error(), 1, true)
    end)
  end)

  it("is rolled back when it was left in a transaction, and thrown away in the middle of a query", function()
    pooled("pg", nil, function(pool)
      local pid = pool:with(function(connection)
        ask(connection, "begin")
        return ask(connection, "select pg_backend_pid()")
      end)
      pool:with(function(connection)
        assert.equal(pid, ask(connection, "select pg_backend_pid()"))
        assert.is_nil(ask(connection, "savepoint x")) -- not in a transaction: the server refuses
        assert.equal(1, pq.spec_native_pq_send(connection.pointer, "select pg_sleep(0.01)"))
      end)
      assert.is_not_equal(pid, pool:with(function(connection) return ask(connection, "select pg_backend_pid()") end))
    end)
  end)

  it("is checked, and noticed to be lost while it rests", function()
    pooled("pg", { check_interval_ms = 5 }, function(pool)
      local pid = pool:with(function(connection) return ask(connection, "select pg_backend_pid()") end)
      until_true(function() return pool:stats().checks >= 3 end)
      assert.equal(1, pool:stats().opened)
      server:sql(("select pg_terminate_backend(%s)"):format(pid))
      until_true(function() return pool:stats().opened == 2 and pool:stats().idle == 1 end)
      pool:with(function(connection) assert.equal("ann", ask(connection, "select current_user")) end)
    end)
  end)

  -- On a busy machine an attempt may take too long: the pool has failed then, and goes on trying.
  local function serves(pool)
    return pool:with(function(connection) return ask(connection, "select 1") end) == "1"
  end

  it("does not wait for a server that is frozen longer than its pool", function()
    pooled("pg", { check_interval_ms = 20, check_timeout_ms = 50,
      recovery = { default = { attempts = 1, timeout_ms = 2000, max_timeout_ms = 2000, delay_ms = 20 } } }, function(pool)
      until_true(function() return serves(pool) end)
      server:freeze()
      until_true(function() return pool:state() == "failed" end)
      server:thaw()
      until_true(function() return pool:state() == "running" end)
      until_true(function() return serves(pool) end)
    end)
  end)
end)
