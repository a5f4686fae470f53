--- conn:rows: large results, a row at a time, against a real PostgreSQL.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local memory = require "spec.support.memory"
local postgres = require "spec.support.postgres"

describe("conn:rows", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  local MANY = "select g as x, repeat('x', 100) as t from generate_series(1, 1000000) g"

  local function is_idle(conn)
    assert.is_true(conn:is_fit())
    assert.equal("idle", conn:status())
    assert.equal(7, assert(conn:query "select 7 as v")[1].v)
  end

  it("gives a million rows, and holds none of them", function()
    open.with(function(conn)
      local count, sum, before, most = 0, 0, nil, 0
      for row in conn:rows(MANY) do
        count, sum = count + 1, sum + row.x
        if count == 50000 then
          collectgarbage()
          before = memory.held_kb()
        elseif count % 100000 == 0 then
          collectgarbage()
          most = math.max(most, memory.held_kb())
        end
      end
      assert.same({ 1000000, 500000500000 }, { count, sum })
      -- 100 MB came.
      assert.is_true(most - before < 30000, ("%d kB more"):format(most - before))
      is_idle(conn)
    end)
  end)

  it("gives none where there are none, and knows their columns", function()
    open.with(function(conn)
      local rows = assert(conn:rows("select 1 as a, 2 as b where $1::int = 2", 1))
      assert.same({ "a", "b" }, rows.columns)
      assert.is_nil(rows())
      assert.is_nil(rows())
      assert.is_nil(rows:next())
      for _ in conn:rows "create temp table t (x int)" do error "a row" end
      for _ in conn:rows "" do error "a row" end
      is_idle(conn)
    end)
  end)

  it("ends early by close, or by another use of the connection, and cancels the rest", function()
    open.with(function(conn)
      local rows = assert(conn:rows(MANY))
      for row in rows do
        if row.x == 3 then break end
      end
      assert.is_nil(conn:is_fit())
      assert.is_true(rows:close())
      assert.is_true(rows:close())
      assert.is_nil(rows())
      is_idle(conn)
      for row in conn:rows(MANY) do
        if row.x == 3 then break end
      end
      assert.equal(1, assert(conn:query "select 1 as v")[1].v)
      is_idle(conn)
      -- What has come already needs no cancel.
      assert(conn:query "begin")
      for row in conn:rows "select generate_series(1, 10) as x" do
        if row.x == 2 then break end
      end
      assert(conn:query "select 1")
      assert.equal("in_transaction", conn:status())
    end)
  end)

  it("does not let a loop go on as if it were complete, once something else used the connection", function()
    open.with(function(conn)
      local count = 0
      local ok, message = pcall(function()
        for _ in conn:rows(MANY) do
          count = count + 1
          if count == 5 then assert(conn:query "select 1") end
        end
      end)
      assert.is_false(ok)
      assert.matches("rows_spec.lua:%d+: conn:rows: the rows were ended, as conn:query was called", message)
      assert.equal(5, count)
      is_idle(conn)
    end)
  end)

  it("ends with its lease, and the connection goes to the next claimer", function()
    host.run(function()
      local pool = cueball.pool {
        host = host, max_connections = 1, resolver = cueball.resolver.static { server.backend },
        connect = cueball.connection.postgres { user = "postgres", sslmode = "disable", cancel_timeout_ms = 30000 },
      }
      local function left_by_break(conn)
        for row in assert(conn:rows(MANY)) do
          if row.x == 3 then return conn:pid() end
        end
      end
      local pid = pool:with(left_by_break)
      for _ = 1, 3 do assert.equal(pid, pool:with(left_by_break)) end
      assert.equal(1, pool:with(function(conn) return conn:query "select 1 as v"[1].v end))
      assert.equal(1, pool:stats().opened)
      pool:stop()
    end)
  end)

  it("raises in a loop what breaks it off, and returns it from next", function()
    open.with(function(conn)
      local sql, count = "select 1 / (5000 - g) as x from generate_series(1, 10000) g", 0
      local ok, message = pcall(function()
        for _ in conn:rows(sql) do count = count + 1 end
      end)
      assert.is_false(ok)
      assert.matches("conn:rows: division by zero", message, 1, true)
      assert.equal(4999, count)
      is_idle(conn)
      local rows = assert(conn:rows(sql))
      for _ = 1, 4999 do assert(rows:next()) end
      for _ = 1, 2 do
        local row, why, name, fields = rows:next()
        assert.same({ "division by zero", "22012", "22012" }, { why, name, fields.sqlstate })
        assert.is_nil(row)
      end
      is_idle(conn)
    end)
  end)

  it("returns what the server refuses at once", function()
    open.with(function(conn)
      local rows, message, name = conn:rows "select nothing"
      assert.is_nil(rows)
      assert.same({ 'column "nothing" does not exist', "42703" }, { message, name })
      assert.equal("42601", (select(3, conn:rows "select 1; select 2")))
      assert.equal("unsupported", (select(3, conn:rows "copy (select 1) to stdout")))
      assert.equal("invalid", (select(3, conn:rows("select $1", "\0"))))
      is_idle(conn)
    end)
  end)

  it("cancels when the next row takes too long", function()
    open.with(function(conn)
      conn:settimeout(2000) -- for those as well that come at once
      local rows = assert(conn:rows "select g, pg_sleep(case when g = 3000 then 3600 else 0 end) from generate_series(1, 4000) g")
      local row, message, name, last
      repeat
        row, message, name = rows:next()
        last = row or last
      until not row
      assert.equal("timeout", name)
      assert.matches("the next row took longer than 2000 ms", message, 1, true)
      assert.is_true(last.g < 3000)
      conn:settimeout(30000)
      is_idle(conn)
    end)
  end)

  it("waits as long as its reader does: the time limit is the server's", function()
    open.with(function(conn)
      conn:settimeout(2000)
      local count = 0
      for _ in conn:rows "select g, repeat('x', 1000) from generate_series(1, 5000) g" do
        count = count + 1
        if count == 1000 then host.sleep(3000) end
      end
      assert.equal(5000, count)
    end)
  end)
end)
