--- Prepared statements, by conn:prepare and by themselves, against a real PostgreSQL.
local postgres = require "spec.support.postgres"
local values = require "cueball.connection.postgres.values"

describe("prepared statements", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  -- How many the server knows; asked in a way that is not prepared.
  local function count(conn)
    return conn:query "select count(*) as n from pg_prepared_statements; select 1".all[1][1].n
  end

  local function uses(conn)
    local result = conn:query "select sum(generic_plans + custom_plans) as n from pg_prepared_statements; select 1"
    return tonumber(result.all[1][1].n)
  end

  it("are prepared once, and executed as often as one likes", function()
    open.with(function(conn)
      local statement = assert(conn:prepare "select $1::int + $2::int as v")
      for index = 1, 10 do assert.equal(index + 1, statement:query(index, 1)[1].v) end
      assert.equal(1, count(conn))
      assert.equal(10, uses(conn))
      local again = assert(conn:prepare "select $1::int + $2::int as v")
      assert.equal(3, again:query(1, 2)[1].v)
      assert.equal(1, count(conn))
      assert.equal(0, select(2, pcall(conn.query, conn, "select 1")) and count(conn) - 1)
    end)
  end)

  it("say what is wrong with them at once", function()
    open.with(function(conn)
      local statement, message, name, fields = conn:prepare "select nothing"
      assert.is_nil(statement)
      assert.same({ 'column "nothing" does not exist', "42703", 8 }, { message, name, fields.position })
      assert.equal("42601", (select(3, conn:prepare "select 1; select 2")))
      assert.equal("invalid", (select(3, conn:prepare "select 1\0")))
      statement = assert(conn:prepare "select 1 / $1::int as v")
      assert.equal("22012", (select(3, statement:query(0))))
      assert.equal("08P01", (select(3, statement:query(1, 2))))
      assert.equal(1, statement:query(1)[1].v)
    end)
  end)

  it("are made by themselves, at most as many as the option says", function()
    open.with(function(conn)
      for round = 1, 3 do
        for index = 1, 20 do assert.equal(index + round, conn:query(("select %d + $1::int as v"):format(index), round)[1].v) end
      end
      assert.equal(5, count(conn))
      for _ = 1, 7 do assert(conn:query "select 99 as v") end
      assert.equal(5, count(conn))
      assert.is_true(uses(conn) >= 7)
    end, { prepare = 5 })
  end)

  it("leave alone what cannot be prepared, or gains nothing", function()
    open.with(function(conn)
      assert(conn:query "begin; select 1; commit")
      assert.equal(2, conn:query "select 1 as v; select 2 as v"[1].v)
      assert.equal("a;b", conn:query "select 'a;b' as v"[1].v)
      assert(conn:query "create temp table t (x int)")
      assert(conn:query "set local work_mem = '1MB'")
      assert(conn:query "")
      assert(conn:query "-- select 1")
      assert.equal(0, count(conn))
      assert(conn:query " (select 1) ;")
      assert.equal(1, count(conn))
    end, { prepare = 5 })
  end)

  it("are not confused by bytes and text for the same place", function()
    open.with(function(conn)
      for _ = 1, 2 do
        assert.equal("\0\1", conn:query("select $1 as v", values.bytea "\0\1")[1].v)
        assert.equal("x", conn:query("select $1 as v", "x")[1].v)
      end
      assert.equal(2, count(conn))
    end, { prepare = 5 })
  end)

  it("are forgotten by DISCARD and DEALLOCATE, however that happens", function()
    open.with(function(conn)
      for _, sql in ipairs { "discard all", "deallocate all", "do $$ begin execute 'deallocate all'; end $$" } do
        local statement = assert(conn:prepare "select 5 as v")
        assert.equal(5, statement:query()[1].v)
        assert.equal(6, conn:query "select 6 as v"[1].v)
        assert(conn:query(sql))
        assert.equal(5, statement:query()[1].v)
        assert.equal(6, conn:query "select 6 as v"[1].v)
        assert.equal(2, count(conn))
      end
    end, { prepare = 5 })
  end)

  it("are prepared anew when a table has changed", function()
    open.with(function(conn)
      assert(conn:query "create temp table t (a int)")
      assert(conn:query "insert into t values (1)")
      assert.same({ a = 1 }, conn:query "select * from t"[1])
      assert(conn:query "alter table t add b int default 2")
      assert.same({ a = 1, b = 2 }, conn:query "select * from t"[1])
      assert.is_true(count(conn) <= 5)
      -- In a transaction it is too late; the next one is well.
      assert(conn:query "alter table t add c int default 3")
      assert(conn:query "begin")
      assert.equal("0A000", (select(3, conn:query "select * from t")))
      assert(conn:query "rollback")
      assert.same({ a = 1, b = 2, c = 3 }, conn:query "select * from t"[1])
    end, { prepare = 5 })
  end)

  it("do not end a transaction to make room", function()
    open.with(function(conn)
      assert(conn:query "select 1")
      assert(conn:query "select 2")
      assert(conn:query "do $$ begin execute 'deallocate all'; end $$")
      assert(conn:query "begin")
      for index = 3, 20 do assert(conn:query("select " .. index)) end
      assert.equal("in_transaction", conn:status())
      assert(conn:query "commit")
      assert(conn:query "begin")
      assert(conn:query "select 20")
      assert.equal(1, count(conn))
      assert(conn:query "commit")
    end, { prepare = 2 })
  end)

  it("are not tried in a failed transaction", function()
    open.with(function(conn)
      assert(conn:query "begin")
      assert.is_nil(conn:query "select 1 / 0")
      assert.equal("25P02", (select(3, conn:query "select 1")))
      assert(conn:query "rollback")
      assert.equal(1, conn:query "select 1 as v"[1].v)
    end, { prepare = 2 })
  end)
end)
