--- Cancels: they end what they were meant for, and never a later query. Against a real PostgreSQL.
local cancel = require "cueball.connection.postgres.cancel"
local client = require "cueball.connection.postgres.client"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"

describe("a cancel", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function() server = postgres.start { settings = { max_connections = 60 } } end)
  teardown(postgres.remove_all)

  it("by another task ends the query with the server's error", function()
    open.with(function(conn)
      local answer
      host.spawn(function() answer = { conn:query "select pg_sleep(3600)" } end)
      until_true(function() return server:connections "wait_event = 'PgSleep'" == 1 end) -- before, there is nothing to be cancelled
      assert.is_true(conn:cancel())
      until_true(function() return answer ~= nil end)
      assert.same({ "canceling statement due to user request", "57014" }, { answer[2], answer[3] })
      assert.is_true(conn:is_fit())
      assert.equal(1, conn:query "select 1 as v"[1].v)
      assert.same({ nil, "nothing is under way", "idle" }, { conn:cancel() })
    end)
  end)

  it("goes over UNIX sockets too", function()
    host.run(function()
      local parameters = { host = server.socket_dir, port = server.port, user = "postgres", gssencmode = "disable" }
      local conn = assert(client.connect(host, parameters, { cancel_ms = 30000 }))
      conn:settimeout(50)
      assert.equal("timeout", (select(3, conn:query "select pg_sleep(3600)")))
      assert.is_true(conn:is_fit())
      conn:close()
    end)
  end)

  -- However the end of the query and the cancel meet, what follows must not be hit.
  it("at the time limit never hits the next query", function()
    open.with(function(conn)
      local timeouts, answers = 0, 0
      for round = 1, 120 do
        conn:settimeout(3)
        local result, _, name = conn:query(("select pg_sleep(%f)"):format(round % 30 == 29 and 3600 or (round % 30) * 0.001))
        if result then answers = answers + 1 else timeouts = timeouts + 1 end
        assert.is_true(result ~= nil or name == "timeout", name)
        assert.is_true(conn:is_fit())
        conn:settimeout(30000)
        local following, message = conn:query "select count(*) as n from generate_series(1, 3000)"
        assert.equal(3000, following and following[1].n, message)
      end
      assert.is_true(timeouts >= 4, ("%d timeouts, %d answers"):format(timeouts, answers))
    end)
  end)

  it("by another task never hits a later query", function()
    open.with(function(conn)
      local is_over, cancels = false, 0
      local task = host.spawn(function()
        while not is_over do
          if conn.operation == "query" and conn.is_target and conn:cancel() then cancels = cancels + 1 end
          host.sleep(0)
        end
      end)
      local hits = 0
      for round = 1, 150 do
        conn.is_target = true
        local result, _, name = conn:query(("select pg_sleep(%f)"):format(round % 20 == 19 and 3600 or (round % 20) * 0.003))
        conn.is_target = false
        if not result then
          assert.equal("57014", name)
          hits = hits + 1
        end
        local following, message = conn:query "select count(*) as n from generate_series(1, 3000)"
        assert.equal(3000, following and following[1].n, message)
      end
      is_over = true
      until_true(function() return task.is_done end)
      assert.is_true(hits >= 7 and cancels >= hits, ("%d cancels, %d hits"):format(cancels, hits))
    end)
  end)

  it("is one of eight at once; others wait for their turn", function()
    host.run(function()
      local done, conns = 0, {}
      for index = 1, 24 do
        conns[index] = assert(open.connect { query_ms = 300, cancel_ms = 20000 })
      end
      for _, conn in ipairs(conns) do
        host.spawn(function()
          assert.equal("timeout", (select(3, conn:query "select pg_sleep(3600)")))
          assert.is_true(conn:is_fit())
          conn:settimeout(30000)
          assert.equal(1, conn:query "select 1 as v"[1].v)
          conn:close()
          done = done + 1
        end)
      end
      until_true(function() return done == 24 end, function() return done end)
    end)
  end)

  it("that was given up while it waited for its turn is in nobody's way", function()
    -- The server does not answer: each request lasts until its own limit.
    local silent = require("luv").new_tcp()
    silent:bind("127.0.0.1", 0)
    silent:listen(100, function() end)
    local target = { address = "127.0.0.1", port = silent:getsockname().port, pid = 1, key = 1 }
    host.run(function()
      local over, tasks = 0, {}
      for index = 1, 30 do
        tasks[index] = host.spawn(function()
          local ok = cancel.send(host, target, 200)
          assert.is_nil(ok)
          over = over + 1
        end)
      end
      for index = 3, 30, 3 do host.kill(tasks[index]) end
      until_true(function() return over == 20 end, function() return over end)
      -- All turns are free again.
      local late
      for _ = 1, 8 do host.spawn(function() late = select(2, cancel.send(host, target, 100)) end) end
      until_true(function() return late ~= nil end)
      assert.equal("timeout", late)
    end)
    silent:close()
  end)
end)
