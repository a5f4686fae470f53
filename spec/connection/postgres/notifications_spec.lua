--- Notifications and notices, against a real PostgreSQL.
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"

describe("a connection that listens", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  it("waits for notifications, of others and its own", function()
    open.with(function(conn)
      local other = assert(open.connect())
      assert(conn:query "listen jobs")
      local task = host.spawn(function()
        host.sleep(50)
        assert(other:query "notify jobs, 'one'")
      end)
      assert.same({ channel = "jobs", payload = "one", pid = other:pid() }, conn:wait_notification(10000))
      while not task.is_done do host.sleep(1) end
      assert(conn:query "notify jobs")
      assert.same({ channel = "jobs", payload = "", pid = conn:pid() }, conn:wait_notification(10000))
      assert.same({ nil, "timeout", "timeout" }, { conn:wait_notification(50) })
      assert.same({ nil, "timeout", "timeout" }, { conn:wait_notification(0) })
      assert.is_true(conn:is_fit())
      other:close()
    end)
  end)

  it("loses none that come during queries, rows, COPY and pipelines", function()
    open.with(function(conn)
      local other = assert(open.connect())
      assert(conn:query "listen jobs")
      local sent, is_over = 0, false
      local task = host.spawn(function()
        while not is_over do
          sent = sent + 1
          assert(other:query("select pg_notify('jobs', $1)", sent))
        end
      end)
      for _ = 1, 20 do
        assert(conn:query "select pg_sleep(0.005)")
        for _ in conn:rows "select generate_series(1, 2000)" do end -- luacheck: ignore
        assert(conn:copy_out("copy (select generate_series(1, 2000)) to stdout", function() end))
        assert(conn:pipeline(function(pipe)
          for _ = 1, 10 do pipe:query "select 1" end
        end))
      end
      is_over = true
      while not task.is_done do host.sleep(1) end
      local got = 0
      while got < sent do
        local one = assert(conn:wait_notification(10000))
        got = got + 1
        assert.equal(tostring(got), one.payload)
      end
      assert.same({}, (conn:notifications()))
      other:close()
    end)
  end)

  it("gives what has come without waiting", function()
    open.with(function(conn)
      assert(conn:query "listen a; listen b; notify a, '1'; notify b, '2'")
      local list, lost = conn:notifications()
      assert.same({ { channel = "a", payload = "1", pid = conn:pid() }, { channel = "b", payload = "2", pid = conn:pid() } }, list)
      assert.equal(0, lost)
      assert.same({}, (conn:notifications()))
    end)
  end)

  it("keeps so many, and says how many were lost", function()
    open.with(function(conn)
      assert(conn:query "listen a; select pg_notify('a', g::text) from generate_series(1, 25) g")
      for index = 1, 10 do assert.equal(tostring(index), conn:wait_notification(10000).payload) end
      assert.same({ nil, "15 notifications were lost: more than 10 waited to be taken", "overflow" }, { conn:wait_notification(10000) })
      assert(conn:query "notify a, 'x'")
      assert.equal("x", conn:wait_notification(10000).payload)
    end, { notifications = 10 })
  end)

  it("hears that the server ends", function()
    open.with(function(conn)
      assert(conn:query "listen a")
      local pid = conn:pid()
      host.spawn(function()
        local other = assert(open.connect())
        assert(other:query("select pg_terminate_backend($1)", pid))
        other:close()
      end)
      local one, message, name = conn:wait_notification(30000)
      assert.is_nil(one)
      assert.equal("57P01", name)
      assert.matches("terminating connection due to administrator command", message, 1, true)
      assert.is_nil(conn:is_fit())
      assert.equal("closed", (select(3, conn:wait_notification(10))))
    end)
  end)

  it("wants a time limit that is one", function()
    open.with(function(conn)
      assert.has_error(function() conn:wait_notification "x" end)
      assert.has_error(function() conn:wait_notification(-1) end)
    end)
  end)
end)

describe("notices", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  it("come to a function with all their fields, as they happen", function()
    open.with(function(conn)
      local heard = {}
      conn:notice_handler(function(fields) heard[#heard + 1] = fields end)
      local ended
      host.spawn(function()
        ended = { conn:query [[do $$ begin
          raise notice E'two\nlines %', 1 using hint = 'do it', detail = 'more', errcode = '01234';
          raise warning 'second';
          raise debug 'not heard';
          perform pg_sleep(3600);
        end $$]] }
      end)
      until_true(function() return #heard >= 2 end)
      assert.is_nil(ended)
      assert.same({ "NOTICE", "two\nlines 1", "do it", "more", "01234" },
        { heard[1].severity, heard[1].message, heard[1].hint, heard[1].detail, heard[1].sqlstate })
      assert.same({ "WARNING", "second" }, { heard[2].severity, heard[2].message })
      assert(conn:cancel())
      until_true(function() return ended end)
      assert.equal("57014", ended[3])
      conn:notice_handler(nil)
      assert(conn:query "do $$ begin raise notice 'nobody'; end $$")
      assert.equal(2, #heard)
    end)
  end)

  it("of a thousand none is lost, and of too many at once it is told how many", function()
    local count, lost = 0, 0
    local function hear(fields)
      if fields.message:find "were dropped" then lost = lost + tonumber(fields.message:match "%d+") else count = count + 1 end
    end
    local sql = "do $$ begin for i in 1 .. 1000 loop raise notice '%', repeat('x', 100); end loop; end $$"
    open.with(function(conn) assert(conn:query(sql)) end, { notice = hear })
    assert.same({ 1000, 0 }, { count, lost })
    count = 0
    open.with(function(conn) assert(conn:query(sql)) end, { notice = hear, notice_bytes = 1000 })
    assert.equal(1000, count + lost)
    assert.is_true(lost > 0)
  end)

  it("do no harm through a handler that throws, waits or closes the connection", function()
    local lines = {}
    host.log_to(function(_, message) lines[#lines + 1] = message end)
    open.with(function(conn)
      conn:notice_handler(function() error "no notices" end)
      assert.equal(1, conn:query "do $$ begin raise notice 'x'; end $$; select 1 as v"[1].v)
      conn:notice_handler(function() conn:query "select 1" end)
      assert.equal(1, conn:query "do $$ begin raise notice 'x'; end $$; select 1 as v"[1].v)
      conn:notice_handler(function() host.sleep(1) end)
      assert.equal(1, conn:query "do $$ begin raise notice 'x'; end $$; select 1 as v"[1].v)
      assert.is_true(conn:is_fit())
      conn:notice_handler(function() conn:close() end)
      assert.same({ nil, "the connection was closed", "closed" },
        { conn:query "do $$ begin raise notice 'x'; end $$; select pg_sleep(0.1)" })
    end)
    host.log_to(nil)
    assert.equal(3, #lines)
    assert.matches("the notice handler of a PostgreSQL connection threw: .*no notices", lines[1])
    assert.matches("only a task may wait", lines[2], 1, true)
  end)
end)
