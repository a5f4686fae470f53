--- conn:copy_in and conn:copy_out: COPY with backpressure, against a real PostgreSQL.
local host = require "cueball.host.uv"
local memory = require "spec.support.memory"
local postgres = require "spec.support.postgres"

describe("COPY", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start { sql = "create table t (x int, s text)" } end)
  teardown(postgres.remove_all)

  local function is_idle(conn)
    assert.is_true(conn:is_fit())
    assert.equal("idle", conn:status())
    assert.equal(7, assert(conn:query "select 7 as v")[1].v)
  end

  local function nothing() end

  it("takes a string, or what a function returns until nil", function()
    open.with(function(conn)
      assert(conn:query "create temp table c (x int, s text)")
      local result = assert(conn:copy_in("copy c from stdin", "1\ta\n2\tb\\nb\n"))
      assert.same({ "COPY 2", 2 }, { result.command, result.affected })
      local lines, at = { "3,c", "\n4,", "\"d,d\"\n", "" }, 0
      result = assert(conn:copy_in("copy c from stdin (format csv)", function()
        at = at + 1
        host.sleep(1)
        return lines[at]
      end))
      assert.equal(2, result.affected)
      assert.equal("{a,\"b\nb\",c,\"d,d\"}", conn:query "select array_agg(s order by x) as v from c"[1].v)
      assert.equal(0, assert(conn:copy_in("copy c from stdin", "")).affected)
      local all = {}
      result = assert(conn:copy_out("copy (select * from c order by x) to stdout", function(data) all[#all + 1] = data end))
      assert.equal(4, result.affected)
      assert.equal("1\ta\n2\tb\\nb\n3\tc\n4\td,d\n", table.concat(all))
      assert.equal(0, assert(conn:copy_out("copy (select 1 where false) to stdout", error)).affected)
      is_idle(conn)
    end)
  end)

  it("moves 100 MB either way, and holds none of them", function()
    open.with(function(conn)
      assert(conn:query "create temp table big (s text)")
      local piece, count = (("x"):rep(99) .. "\n"):rep(10000), 0
      local before, most = nil, 0
      local calls = 0
      -- Lua keeps what is garbage until it collects: as much again as it holds.
      local function look(every)
        calls = calls + 1
        if calls % every ~= 0 then return end
        collectgarbage()
        before = before or memory.held_kb()
        most = math.max(most, memory.held_kb())
      end
      local result = assert(conn:copy_in("copy big from stdin", function()
        count = count + 1
        look(10)
        return count <= 100 and piece or nil
      end))
      assert.equal(1000000, result.affected)
      local size = 0
      result = assert(conn:copy_out("copy big to stdout", function(data)
        size = size + #data
        look(100000)
      end))
      assert.same({ 1000000, 100000000 }, { result.affected, size })
      assert.is_true(most - before < 30000, ("%d kB more"):format(most - before))
      is_idle(conn)
    end)
  end)

  it("does not read ahead of a sink that waits", function()
    open.with(function(conn)
      local size, before = 0, nil
      assert(conn:copy_out("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout", function(data)
        size = size + #data
        if not before then
          collectgarbage()
          before = memory.held_kb()
          host.sleep(300)
          assert.is_true(memory.held_kb() - before < 5000)
        end
      end))
      assert.equal(20000 * 1001, size)
      is_idle(conn)
    end)
  end)

  it("copies from one connection into another", function()
    open.with(function(from)
      local into = assert(open.connect())
      assert(into:query "create temp table copied (x int)")
      local pieces = coroutine.wrap(function()
        assert(from:copy_out("copy (select generate_series(1, 50000)) to stdout", coroutine.yield))
      end)
      assert.equal(50000, assert(into:copy_in("copy copied from stdin", pieces)).affected)
      is_idle(from)
      is_idle(into)
      into:close()
    end)
  end)

  it("sends all bytes in binary form", function()
    open.with(function(conn)
      assert(conn:query "create temp table b (v bytea)")
      assert(conn:query "insert into b select decode(string_agg(lpad(to_hex(g), 2, '0'), ''), 'hex') from generate_series(0, 255) g")
      local parts = {}
      assert(conn:copy_out("copy b to stdout (format binary)", function(data) parts[#parts + 1] = data end))
      assert.equal(1, assert(conn:copy_in("copy b from stdin (format binary)", table.concat(parts))).affected)
      assert.equal(1, conn:query "select count(distinct v) as n from b"[1].n)
      is_idle(conn)
    end)
  end)

  it("tells what the server refuses, and keeps nothing", function()
    open.with(function(conn)
      local answer, message, name, fields = conn:copy_in("copy t from stdin", ("1\ta\n"):rep(100000) .. "x\ty\n")
      assert.is_nil(answer)
      assert.equal("22P02", name)
      assert.matches('invalid input syntax for type integer: "x"', message, 1, true)
      assert.matches("COPY t, line 100001", fields.context, 1, true)
      assert.equal("42P01", (select(3, conn:copy_in("copy nowhere from stdin", "1\n"))))
      assert.equal("22012", (select(3, conn:copy_out("copy (select 1 / (5 - g) from generate_series(1, 9) g) to stdout", nothing))))
      assert.equal(0, conn:query "select count(*) as n from t"[1].n)
      is_idle(conn)
    end)
  end)

  it("keeps nothing of what its source gives up or throws", function()
    open.with(function(conn)
      local calls = 0
      local function some()
        calls = calls + 1
        if calls % 3 ~= 0 then return ("1\ta\n"):rep(1000) end
        return nil, "no more today"
      end
      local answer, message, name = conn:copy_in("copy t from stdin", some)
      assert.same({ "no more today", "stopped" }, { message, name })
      assert.is_nil(answer)
      local thrown = {}
      local ok, caught = pcall(conn.copy_in, conn, "copy t from stdin", function() error(thrown) end)
      assert.is_false(ok)
      assert.equal(thrown, caught)
      assert.equal("invalid", (select(3, conn:copy_in("copy t from stdin", function() return 5 end))))
      assert.equal(0, conn:query "select count(*) as n from t"[1].n)
      is_idle(conn)
    end)
  end)

  it("ends when its sink wants no more, or throws", function()
    open.with(function(conn)
      local sql = "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"
      local pieces = 0
      local answer, message, name = conn:copy_out(sql, function()
        pieces = pieces + 1
        return pieces < 3
      end)
      assert.same({ 3, "the sink wants no more", "stopped" }, { pieces, message, name })
      assert.is_nil(answer)
      is_idle(conn)
      assert.equal("disk full", (select(2, conn:copy_out(sql, function() return nil, "disk full" end))))
      local ok, caught = pcall(conn.copy_out, conn, sql, function() error("boo", 0) end)
      assert.same({ false, "boo" }, { ok, caught })
      is_idle(conn)
    end)
  end)

  it("refuses other statements, and conn:query refuses COPY; the connection stays fit", function()
    open.with(function(conn)
      for _, sql in ipairs { "select 1", "copy t to stdout", "", "select 1; copy t from stdin", "create temp table z (x int)" } do
        local answer, message, name = conn:copy_in(sql, "1\ta\n")
        assert.same({ nil, "conn:copy_in needs one statement, COPY … FROM STDIN", "invalid" }, { answer, message, name })
        is_idle(conn)
      end
      for _, sql in ipairs { "select 1", "copy t from stdin" } do
        assert.equal("invalid", (select(3, conn:copy_out(sql, nothing))))
        is_idle(conn)
      end
      assert.equal("COPY … FROM STDIN needs conn:copy_in", (select(2, conn:query "copy t from stdin")))
      is_idle(conn)
      assert.equal("unsupported", (select(3, conn:query "copy (select generate_series(1, 1000000)) to stdout")))
      is_idle(conn)
      assert.has_error(function() conn:copy_in("copy t from stdin", 5) end)
      assert.has_error(function() conn:copy_out "copy t to stdout" end)
    end)
  end)

  it("is cancelled where nothing moves within the time limit", function()
    open.with(function(conn)
      local function is_idle_in_time() -- whatever else the machine does
        conn:settimeout(30000)
        is_idle(conn)
        conn:settimeout(200)
      end
      local other = assert(open.connect())
      assert(other:query "begin; lock table t in access exclusive mode")
      conn:settimeout(200)
      assert.equal("timeout", (select(3, conn:copy_in("copy t from stdin", ("1\ta\n"):rep(100000)))))
      is_idle_in_time()
      -- The server takes data, and stands still in a trigger.
      assert(other:query [[rollback;
        create function stand() returns trigger language plpgsql as 'begin perform pg_sleep(3600); return new; end';
        create table slow (x int, s text);
        create trigger stand before insert on slow for each row execute function stand()]])
      local answer, message, name = conn:copy_in("copy slow from stdin", ("1\t" .. ("x"):rep(1000) .. "\n"):rep(20000))
      assert.same({ nil, "sending a piece of the data took longer than 200 ms", "timeout" }, { answer, message, name })
      is_idle_in_time()
      assert.equal("timeout", (select(3, conn:copy_in("copy slow from stdin", "1\tx\n"))))
      is_idle_in_time()
      assert.equal("timeout", (select(3, conn:copy_out("copy (select pg_sleep(3600)) to stdout", nothing))))
      is_idle_in_time()
      other:close()
    end)
  end)
end)
