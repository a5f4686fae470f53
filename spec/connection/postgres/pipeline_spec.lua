--- conn:pipeline: many queries at once, against a real PostgreSQL.
local postgres = require "spec.support.postgres"
local values = require "cueball.connection.postgres.values"

describe("conn:pipeline", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  local function names(results)
    local list = {}
    for index, result in ipairs(results) do list[index] = result.error and result.error.name or "ok" end
    return table.concat(list, " ")
  end

  local function is_idle(conn)
    assert.is_true(conn:is_fit())
    assert.equal("idle", conn:status())
    assert.equal(7, assert(conn:query "select 7 as v")[1].v)
  end

  it("gives the results in order", function()
    open.with(function(conn)
      local results = assert(conn:pipeline(function(pipe)
        for index = 1, 100 do assert.equal(index, pipe:query("select $1::int * 2 as v, $2::bytea as b", index, values.bytea "\0")) end
      end))
      assert.equal(100, #results)
      for index, result in ipairs(results) do
        assert.equal(index * 2, result[1].v)
        assert.equal("\0", result[1].b)
        assert.equal("SELECT 1", result.command)
      end
      is_idle(conn)
    end)
  end)

  it("says of each that follows an error that it was aborted, and undoes what went before", function()
    open.with(function(conn)
      assert(conn:query "create temp table t (x int)")
      local results = assert(conn:pipeline(function(pipe)
        for index = 1, 100 do pipe:query("insert into t values (100 / ($1::int - 50))", index) end
      end))
      assert.equal(("ok "):rep(49) .. "22012" .. (" aborted"):rep(50), names(results))
      assert.same({ "division by zero", "22012" }, { results[50].error.message, results[50].error.fields.sqlstate })
      assert.equal(0, conn:query "select count(*) as n from t"[1].n)
      is_idle(conn)
    end)
  end)

  it("keeps apart what a sync parts", function()
    open.with(function(conn)
      assert(conn:query "create temp table t (x int)")
      local results = assert(conn:pipeline(function(pipe)
        pipe:sync()
        pipe:query "insert into t values (1)"
        pipe:sync()
        pipe:sync()
        pipe:query "insert into t values (2)"
        pipe:query "select 1 / 0"
        pipe:query "insert into t values (3)"
        pipe:sync()
        pipe:query "insert into t values (4)"
      end))
      assert.equal("ok ok 22012 aborted ok", names(results))
      assert.equal("{1,4}", conn:query "select array_agg(x order by x) as v from t"[1].v)
      is_idle(conn)
    end)
  end)

  it("leaves a transaction failed where one was begun", function()
    open.with(function(conn)
      assert(conn:query "begin")
      assert(conn:pipeline(function(pipe) pipe:query "select 1 / 0" end))
      assert.equal("failed_transaction", conn:status())
      assert(conn:query "rollback")
      is_idle(conn)
    end)
  end)

  it("does not hang when both sides have much to say", function()
    open.with(function(conn)
      local long = ("x"):rep(100000)
      local results = assert(conn:pipeline(function(pipe)
        for _ = 1, 300 do pipe:query("select $1::text || $1::text as v", long) end
      end))
      assert.equal(300, #results)
      assert.equal(200000, #results[300][1].v)
      is_idle(conn)
    end)
  end)

  it("gives the rows right after rows were read one by one", function()
    open.with(function(conn)
      assert.is_nil(conn:rows "select nothing")
      local results = assert(conn:pipeline(function(pipe)
        for _ = 1, 3 do pipe:query "select generate_series(1, 3) as v" end
      end))
      for _, result in ipairs(results) do
        assert.equal(3, #result)
        assert.same({ { v = 1 }, { v = 2 }, { v = 3 } }, { result[1], result[2], result[3] })
        assert.equal("SELECT 3", result.command)
      end
      is_idle(conn)
    end)
  end)

  it("cancels the one that takes too long", function()
    open.with(function(conn)
      conn:settimeout(3000) -- for those as well that do not sleep
      local results = assert(conn:pipeline(function(pipe)
        pipe:query "select 1"
        pipe:query "select pg_sleep(3600)"
        pipe:query "select 2"
        pipe:sync()
        pipe:query "select 3"
      end))
      assert.equal("ok timeout aborted ok", names(results))
      assert.equal("the query took longer than 3000 ms, and was cancelled", results[2].error.message)
      conn:settimeout(30000)
      is_idle(conn)
    end)
  end)

  it("sends nothing where one cannot be sent", function()
    open.with(function(conn)
      local results, message, name = conn:pipeline(function(pipe)
        pipe:query "create temp table never (x int)"
        pipe:query("select $1", "\0")
      end)
      assert.is_nil(results)
      assert.equal("invalid", name)
      assert.matches("query 2: parameter $1 has a NUL byte", message, 1, true)
      assert.is_nil(conn:query "select * from never")
      assert.has_error(function() conn:pipeline(function() error("no more", 0) end) end, "no more")
      assert.same({}, conn:pipeline(function() end))
      local kept
      conn:pipeline(function(pipe) kept = pipe end)
      assert.has_error(function() kept:query "select 1" end)
      is_idle(conn)
    end)
  end)

  it("refuses COPY and several statements in one", function()
    open.with(function(conn)
      local results = assert(conn:pipeline(function(pipe) pipe:query "select 1; select 2" end))
      assert.equal("42601", names(results))
      is_idle(conn)
      local answer, _, name = conn:pipeline(function(pipe)
        pipe:query "copy (select 1) to stdout"
        pipe:query "select 1"
      end)
      assert.same({ nil, "unsupported" }, { answer, name })
      assert.equal("closed", conn:status())
    end)
  end)
end)
