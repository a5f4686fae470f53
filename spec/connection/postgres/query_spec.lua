--- conn:query on libpq, against a real PostgreSQL: values, results, errors, time limits.
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local values = require "cueball.connection.postgres.values"

local ffi = require "ffi"
local value_of = require("spec.support.postgres_client").value_of

local function pack(...)
  return { n = select("#", ...), ... }
end

describe("conn:query", function()
  local server

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  local open = require("spec.support.postgres_client").on(function() return server end)
  local connected = open.with

  it("gives rows by column, their names in order, and what was done", function()
    connected(function(conn)
      local result = assert(conn:query "select 1 as a, 'x' as b union all select 2, null order by 1")
      assert.same({ { a = 1, b = "x" }, { a = 2 } }, { result[1], result[2] })
      assert.same({ "a", "b" }, result.columns)
      assert.equal("SELECT 2", result.command)
      assert.equal(2, result.affected)
      assert.is_nil(result.all)
    end)
  end)

  it("reads every type at its extremes without loss", function()
    connected(function(conn)
      assert.is_true(value_of(conn, "select true as v"))
      assert.is_false(value_of(conn, "select false as v"))
      assert.equal(-32768, value_of(conn, "select (-32768)::int2 as v"))
      assert.equal(2147483647, value_of(conn, "select 2147483647 as v"))
      assert.equal(2 ^ 53, value_of(conn, "select 9007199254740992::int8 as v"))
      assert.equal(-2 ^ 53, value_of(conn, "select -9007199254740992::int8 as v"))
      for _, text in ipairs { "9223372036854775807", "-9223372036854775808", "9007199254740993", "-9007199254740993" } do
        local value = value_of(conn, ("select (%s)::int8 as v"):format(text == "-9223372036854775808" and "'" .. text .. "'" or text))
        assert.is_true(ffi.istype("int64_t", value), text)
        assert.equal(text .. "LL", tostring(value))
        assert.is_true(value_of(conn, "select $1::int8 = '" .. text .. "'::int8 as v", value))
      end
      assert.equal(1.7976931348623157e308, value_of(conn, "select 1.7976931348623157e308::float8 as v"))
      assert.equal(5e-324, value_of(conn, "select 5e-324::float8 as v"))
      assert.equal(math.huge, value_of(conn, "select 'Infinity'::float8 as v"))
      assert.equal(-math.huge, value_of(conn, "select '-Infinity'::float4 as v"))
      local nan = value_of(conn, "select 'NaN'::float8 as v")
      assert.is_true(nan ~= nan)
      assert.equal("123456789012345678901234567890.000000001", value_of(conn, "select 123456789012345678901234567890.000000001 as v"))
      assert.equal("{1,NULL,3}", value_of(conn, "select array[1,null,3] as v"))
      assert.equal("2020-02-29 12:34:56.789", value_of(conn, "select '2020-02-29 12:34:56.789'::timestamp as v"))
      assert.is_nil(value_of(conn, "select null as v"))
      assert.equal("", value_of(conn, "select '' as v"))
    end)
  end)

  it("sends and reads all bytes", function()
    local bytes = {}
    for byte = 0, 255 do bytes[byte + 1] = string.char(byte) end
    local all = table.concat(bytes)
    connected(function(conn)
      assert.equal(all, value_of(conn, "select $1 as v", values.bytea(all)))
      assert.equal(256, value_of(conn, "select length($1) as v", values.bytea(all)))
      assert.equal("", value_of(conn, "select $1 as v", values.bytea ""))
      assert(conn:query "set bytea_output = 'escape'")
      assert.equal(all, value_of(conn, "select $1 as v", values.bytea(all)))
      assert.equal("a\\\0b", value_of(conn, "select $1 as v", values.bytea "a\\\0b"))
    end)
  end)

  it("sends parameters apart from the query", function()
    connected(function(conn)
      local nasty = "'; drop table x; -- \\ \" $1 \195\164"
      assert.equal(nasty, value_of(conn, "select $1::text as v", nasty))
      assert.is_true(value_of(conn, "select $1::text is null and $2 = 3 as v", nil, 3))
      assert.is_true(value_of(conn, "select $1 = 1 and $2::text is null as v", 1, nil))
      assert.is_true(value_of(conn, "select not $1::boolean as v", false))
      for _, number in ipairs { 0.1, -1e300, 2 ^ 53, 1 / 3, math.huge, -math.huge } do
        assert.equal(number, value_of(conn, "select $1::float8 as v", number))
      end
      assert.equal("18446744073709551615", value_of(conn, "select $1::numeric as v", 18446744073709551615ULL))
      local list, places = {}, {}
      for index = 1, 1000 do list[index], places[index] = index, "$" .. index .. "::int" end
      assert.equal(500500, value_of(conn, "select " .. table.concat(places, "+") .. " as v", unpack(list)))
    end)
  end)

  it("refuses what cannot be sent, and goes on", function()
    connected(function(conn)
      local words = "parameter $2 has a NUL byte, which no text of PostgreSQL can have; send bytes as postgres.bytea(…)"
      assert.same({ nil, words, "invalid", n = 3 },
        pack(conn:query("select $1, $2", "a", "b\0c")))
      assert.same({ nil, "the query has a NUL byte, which no text of PostgreSQL can have", "invalid", n = 3 },
        pack(conn:query "select 1\0; drop table x"))
      local ok, message = pcall(conn.query, conn, "select $1", {})
      assert.is_false(ok)
      assert.matches("conn:query: parameter $1 must be nil, a boolean, a number, a string, an int64_t or postgres.bytea", message, 1, true)
      ok, message = pcall(conn.query, conn)
      assert.is_false(ok)
      assert.matches("conn:query: expected SQL as a string, got nil", message, 1, true)
      assert.equal(1, value_of(conn, "select 1 as v"))
    end)
  end)

  it("takes several statements, and gives all their results", function()
    connected(function(conn)
      local result = assert(conn:query "create temp table t (x int); insert into t values (1), (2); select * from t order by x")
      assert.same({ { x = 1 }, { x = 2 } }, { result[1], result[2] })
      assert.same({ "CREATE TABLE", "INSERT 0 2", "SELECT 2" },
        { result.all[1].command, result.all[2].command, result.all[3].command })
      assert.equal(2, result.all[2].affected)
      local answer, message, name = conn:query "insert into t values (3); select 1/0; insert into t values (4)"
      assert.is_nil(answer)
      assert.equal("division by zero", message)
      assert.equal("22012", name)
      assert.equal("idle", conn:status())
      assert.equal(2, value_of(conn, "select count(*) as v from t"))
    end)
  end)

  it("takes an empty query", function()
    connected(function(conn)
      for _, sql in ipairs { "", " ", ";", "-- nothing" } do
        local result = assert(conn:query(sql))
        assert.equal(0, #result)
        assert.equal("", result.command)
      end
    end)
  end)

  it("tells all that the server says of an error", function()
    connected(function(conn)
      assert(conn:query "create temp table u (id int primary key, n int check (n > 0) not null)")
      assert(conn:query "insert into u values (1, 1)")
      local _, message, name, fields = conn:query("insert into u values ($1, 1)", 1)
      assert.equal('duplicate key value violates unique constraint "u_pkey" (Key (id)=(1) already exists.)', message)
      assert.equal("23505", name)
      assert.equal("ERROR", fields.severity)
      assert.equal("Key (id)=(1) already exists.", fields.detail)
      assert.same({ "u", "u_pkey", "23505" }, { fields.table, fields.constraint, fields.sqlstate })
      _, _, name, fields = conn:query "insert into u values (2, null)"
      assert.same({ "23502", "n" }, { name, fields.column })
      _, _, name, fields = conn:query "select nothing from u"
      assert.same({ "42703", 8 }, { name, fields.position })
      _, message = conn:query "select max(true)"
      assert.matches("hint: No function matches", message, 1, true)
    end)
  end)

  it("reads types as it is told, and survives a reader that throws", function()
    connected(function(conn)
      local row = assert(conn:query "select 1.5 as a, 2::int8 as b, '2020-01-01'::date as c, null as d, '{\"x\":1}'::jsonb as e")[1]
      assert.same({ a = 1.5, b = "2", c = "on 2020-01-01", d = "none", e = 8 }, row)
      local answer, message, name = conn:query "select '00000000-0000-0000-0000-000000000000'::uuid as v"
      assert.is_nil(answer)
      assert.equal("invalid", name)
      assert.matches("reading a value threw: .*no uuids", message)
      assert.equal(1, value_of(conn, "select 1 as v"))
    end, {
      types = { numeric = "number", bigint = "text", [1082] = function(text) return "on " .. text end, jsonb = string.len,
        uuid = function() error "no uuids" end },
      null = "none",
    })
    assert.has_error(function() values.readers("x", { nothing = "text" }) end)
    assert.has_error(function() values.readers("x", { int8 = "int" }) end)
  end)

  it("cancels at its time limit, and the connection is fit again", function()
    connected(function(conn)
      conn:settimeout(100)
      local began = host.now()
      local answer, message, name = conn:query "select pg_sleep(3600)"
      assert.is_nil(answer)
      assert.equal("the query took longer than 100 ms, and was cancelled", message)
      assert.equal("timeout", name)
      assert.is_true((host.now() - began) / 1e9 < 30)
      assert.is_true(conn:is_fit())
      conn:settimeout(30000)
      assert.equal(1, value_of(conn, "select 1 as v"))
      assert(conn:query "begin")
      conn:settimeout(100)
      assert.equal("timeout", (select(3, conn:query "select pg_sleep(3600)")))
      assert.equal("failed_transaction", conn:status())
      conn:settimeout(30000)
      assert(conn:query "rollback")
      assert.equal("idle", conn:status())
    end)
  end)

  it("does not let two tasks into one connection", function()
    connected(function(conn)
      local first
      local task = host.spawn(function() first = conn:query "select pg_sleep(0.2)" end)
      assert.same({ nil, "the connection is busy: conn:query of another task is under way", "busy", n = 3 },
        pack(conn:query "select 1"))
      assert.same({ nil, "conn:query is under way", "unfit", n = 3 }, pack(conn:is_fit()))
      while not task.is_done do host.sleep(10) end
      assert.equal(1, #first)
      assert.is_true(conn:is_fit())
    end)
  end)

  it("makes no types: LuaJIT has room for so many, and keeps them", function()
    -- Each declaration of a struct is a new type, and its number the next one.
    local count = 0
    local function next_type()
      count = count + 1
      return tonumber(ffi.typeof(("struct { int x%d; }"):format(count)))
    end
    local function all_once()
      open.with(function(conn)
        assert(conn:query("select $1::int", 1))
        assert(conn:prepare "select 1"):query()
        for row in conn:rows "select generate_series(1, 3) as x" do assert(row.x) end
        assert(conn:pipeline(function(pipe) pipe:query("select $1::bytea", values.bytea "\0") end))
        assert(conn:copy_out("copy (select 1) to stdout", function() end))
        conn:settimeout(1)
        conn:query "select pg_sleep(0.05)"
      end)
      host.run(function() open.connect(nil, { user = "nobody" }) end)
    end
    all_once()
    local before = next_type()
    local step = next_type() - before
    for _ = 1, 10 do all_once() end
    assert.equal(before + 2 * step, next_type())
  end)

  it("wants a time limit that is one", function()
    open.with(function(conn)
      for _, wrong in ipairs { 0, -1, "x", 0 / 0, false } do
        assert.has_error(function() conn:settimeout(wrong) end)
      end
      conn:settimeout(math.huge)
      assert.equal(1, value_of(conn, "select 1 as v"))
    end)
  end)

  it("waits in tasks only", function()
    local conn
    host.run(function() conn = assert(open.connect()) end)
    local ok, message = pcall(function() conn:query "select 1" end)
    assert.is_false(ok)
    assert.matches("query_spec.lua:%d+: conn:query: only a task may wait", message)
    conn:close()
  end)
end)

describe("what libpq says in several lines", function()
  local problem = require "cueball.connection.postgres.problem"

  it("is one line, with whole sentences, and without what it says of its own socket", function()
    assert.equal("server closed the connection unexpectedly; This probably means the server terminated abnormally before or while "
      .. "processing the request.", problem.trim("server closed the connection unexpectedly\n\tThis probably means the server terminated "
      .. "abnormally\n\tbefore or while processing the request.\ninvalid socket\n"))
    assert.equal("one; two", problem.trim "one\n  two\n\n")
    assert.equal("invalid socket", problem.trim "invalid socket\n")
    local blanks = (" "):rep(1024 * 1024)
    assert.equal("one" .. blanks .. "two; three", problem.trim("one" .. blanks .. "two" .. blanks .. "\n" .. blanks .. "three" .. blanks))
  end)
end)
