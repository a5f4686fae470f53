--- What goes wrong around a connection: servers that die, hang or throw it out, tasks that are killed. Against a real PostgreSQL.
local client = require "cueball.connection.postgres.client"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local server
local open = require("spec.support.postgres_client").on(function() return server end)

-- What the host has once for all is there from now on.
setup(function()
  server = postgres.start()
  open.with(function() end)
  server:remove()
  uv.new_tcp():close() -- libuv keeps a descriptor from the first one on
end)

local MANY = "select g, repeat('x', 1000) from generate_series(1, 10000000) g"

local function descriptors()
  local pipe = io.popen(("ls /proc/%d/fd | wc -l"):format(uv.os_getpid()))
  local count = tonumber(pipe:read "*a")
  pipe:close()
  return count
end

-- What was closed just now is closing still: give the loop a round.
local function settled_descriptors()
  collectgarbage()
  host.run(host.sleep, 50)
  return descriptors()
end

-- No more than before: less, if something of an earlier spec was collected meanwhile.
local function none_is_left(before)
  until_true(function() return settled_descriptors() <= before end, descriptors)
end

-- What the server does once somebody waits: before, a cancel would find nothing, and the sessions that are to be ended are not in it yet.
local ASLEEP, COPYING = "wait_event = 'PgSleep'", "state = 'active' and query like 'copy%'"

local function is_under_way(conn)
  return conn.operation == "wait_notification" or server:connections(("%s or %s"):format(ASLEEP, COPYING)) == 1
end

-- What one can wait in, by name: function(conn) that does not end by itself.
local WAITS = {
  query = function(conn) return conn:query "select pg_sleep(3600)" end,
  parameters = function(conn) return conn:query("select pg_sleep($1)", 3600) end,
  prepare = function(conn)
    local statement, message, name = conn:prepare "select pg_sleep(3600)"
    if not statement then return nil, message, name end
    return statement:query()
  end,
  rows = function(conn)
    local rows, why, code = conn:rows "select g, pg_sleep(case when g = 3000 then 3600 else 0 end) from generate_series(1, 4000) g"
    if not rows then return nil, why, code end
    while true do
      local row, message, name = rows:next()
      if not row then return nil, message, name end
    end
  end,
  pipeline = function(conn)
    local results, message, name = conn:pipeline(function(pipe)
      pipe:query "select 1"
      pipe:query "select pg_sleep(3600)"
    end)
    if not results then return nil, message, name end
    return nil, results[2].error.message, results[2].error.name
  end,
  copy_in = function(conn)
    local ok, message, name = conn:query "create temp table c (x int)"
    if not ok then return nil, message, name end
    return conn:copy_in("copy c from stdin", function() return ("1\n"):rep(10000) end)
  end,
  copy_out = function(conn) return conn:copy_out("copy (select pg_sleep(3600)) to stdout", function() end) end,
  sink = function(conn) return conn:copy_out("copy (" .. MANY .. ") to stdout", function() host.sleep(5) end) end,
  wait_notification = function(conn) return conn:wait_notification(15000) end,
}

describe("a connection whose server", function()
  before_each(function() server = postgres.start { settings = { max_connections = 20 } } end)
  after_each(postgres.remove_all)

  -- Each wait in a connection and a task of its own; then fn(); → by name what each returned.
  local function in_each_wait(fn, settings)
    local answers, conns, count = {}, {}, 0
    host.run(function()
      for name in pairs(WAITS) do conns[name] = assert(open.connect(settings)) end
      for name, wait in pairs(WAITS) do
        count = count + 1
        host.spawn(function()
          local _, message, code = wait(conns[name])
          answers[name] = { message, code }
        end)
      end
      until_true(function() return server:connections(ASLEEP) == 6 and server:connections(COPYING) == 3 end,
        function() return server:connections(ASLEEP) .. " asleep, " .. server:connections(COPYING) .. " copying" end)
      fn()
      until_true(function()
        local done = 0
        for _ in pairs(answers) do done = done + 1 end
        return done == count
      end)
    end)
    return answers, conns
  end

  it("is killed tells whoever waits", function()
    local before = settled_descriptors()
    local answers, conns = in_each_wait(function() server:kill() end)
    for name, answer in pairs(answers) do
      assert.is_truthy(answer[1], name)
      assert.is_truthy(answer[2] == "closed" or answer[2] == "57P01" or answer[2] == "57P02", name .. ": " .. tostring(answer[2]))
      assert.equal("closed", conns[name]:status())
      assert.is_nil((conns[name]:is_fit()))
      assert.equal("closed", (select(3, conns[name]:cancel())))
      host.run(function() assert.is_nil((conns[name]:query "select 1")) end)
    end
    none_is_left(before)
  end)

  it("throws it out says why", function()
    local answers = in_each_wait(function()
      server:sql [[select pg_terminate_backend(pid) from pg_stat_activity
        where backend_type = 'client backend' and application_name <> 'cueball_spec']]
    end)
    for name, answer in pairs(answers) do
      assert.equal("57P01", answer[2], name .. ": " .. tostring(answer[1]))
      assert.equal("terminating connection due to administrator command", answer[1])
    end
  end)

  it("hangs keeps nobody beyond the time limits, and the loop goes on meanwhile", function()
    local ticks, is_over = 0, false
    host.spawn(function()
      while not is_over do
        host.sleep(10)
        ticks = ticks + 1
      end
    end)
    local began
    local answers, conns = in_each_wait(function()
      server:freeze()
      began = host.now()
    end, { query_ms = 10000, cancel_ms = 300 })
    local took_ms = (host.now() - began) / 1e6
    is_over = true
    for name, answer in pairs(answers) do
      if name ~= "wait_notification" then
        assert.equal("timeout", answer[2], name .. ": " .. tostring(answer[1]))
        local fit, _, kind = conns[name]:is_fit()
        assert.same({ nil, "timeout" }, { fit, kind })
      end
    end
    assert.is_true(took_ms < 90000)
    assert.is_true(ticks > took_ms / 100, ("%d ticks in %d ms"):format(ticks, took_ms))
    host.run(function()
      local conn, message, name = open.connect { connect_ms = 200 }
      assert.same({ nil, "no connection after 200 ms", "timeout" }, { conn, message, name })
    end)
    server:thaw()
  end)
end)

describe("a connection that is closed under a task", function()
  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  for name, wait in pairs(WAITS) do
    it("in " .. name .. " has that go on, with nil, closed", function()
      open.with(function(conn)
        local answer
        host.spawn(function()
          local _, message, code = wait(conn)
          answer = { message, code }
        end)
        until_true(function() return is_under_way(conn) end)
        conn:close()
        until_true(function() return answer ~= nil end)
        assert.same({ "the connection was closed", "closed" }, answer)
        until_true(function() return server:connections() == 0 end)
      end)
    end)
  end

  it("or lost as somebody looks for notifications, is neither fit nor used", function()
    open.with(function(conn)
      assert(conn:query "listen a")
      server:sql(("select pg_terminate_backend(%d)"):format(conn:pid()))
      until_true(function()
        conn:notifications()
        return conn.is_lost
      end)
      assert.is_nil((conn:is_fit()))
      assert.equal("57P01", (select(3, conn:wait_notification(1000))))
      assert.equal("closed", conn:status())
    end)
  end)
end)

local function frame(kind, body)
  local size = #body + 4
  return kind .. string.char(math.floor(size / 2 ^ 24) % 256, math.floor(size / 65536) % 256, math.floor(size / 256) % 256, size % 256)
    .. body
end

-- Speaks as much of the protocol as a login needs; then it says `greeting`, a little later, and `answer` to whatever is said.
local function fake(greeting, answer)
  local listener = uv.new_tcp()
  listener:bind("127.0.0.1", 0)
  listener:listen(10, function()
    local peer, is_in = uv.new_tcp(), false
    listener:accept(peer)
    peer:read_start(function(_, data)
      if not data then return peer:is_closing() or peer:close() end
      if is_in then return peer:write(answer) end
      is_in = true
      peer:write(frame("R", "\0\0\0\0") .. frame("K", "\0\0\0\1\0\0\0\2") .. frame("Z", "I"))
      host.spawn(function()
        host.sleep(50)
        if greeting and not peer:is_closing() then peer:write(greeting) end
      end)
    end)
  end)
  return listener, listener:getsockname().port
end

describe("a server that is none", function()
  local function with_fake(greeting, answer, fn)
    local listener, port = fake(greeting, answer)
    host.run(function()
      local conn = assert(client.connect(host, {
        hostaddr = "127.0.0.1", port = port, user = "x", sslmode = "disable", gssencmode = "disable",
      }, { query_ms = 150, cancel_ms = 50 }))
      fn(conn)
      conn:close()
    end)
    listener:close()
    host.run(host.sleep, 1)
  end

  it("is noticed at rest", function()
    for _, garbage in ipairs { "HTTP/1.1 400 Bad Request\r\n\r\n", ("\255"):rep(100), "D\0\0\0\6\0\0", "Z\0\0\0\1" } do
      with_fake(garbage, "", function(conn)
        local told
        conn:watch(function(...) told = { ... } end)
        until_true(function() return told ~= nil end, function() return garbage end)
        assert.is_nil((conn:is_fit()))
        assert.equal("lost", told[2])
      end)
    end
  end)

  it("does not hold up a query beyond its time", function()
    for index, answer in ipairs {
      "HTTP/1.1 400 Bad Request\r\n\r\n", ("\0"):rep(100), "D\127\127\127\127abc", "",
      frame("D", "\0\1\0\0\0\1x") .. frame("Z", "I"), frame("T", "\0\1x\0") .. frame("Z", "I"), frame("C", "SELECT 1"),
      frame("W", "\0\0\0") .. frame("Z", "I"), frame("H", "\0\0\0"), frame("Z", "I"), frame("E", "SERROR\0\0"),
    } do
      for name, ask in pairs {
        query = function(conn) return conn:query "select 1" end,
        rows = function(conn) return conn:rows "select 1" end,
        pipeline = function(conn) return conn:pipeline(function(pipe) pipe:query "select 1" end) end,
        copy_in = function(conn) return conn:copy_in("copy x from stdin", "x") end,
        copy_out = function(conn) return conn:copy_out("copy x to stdout", function() end) end,
      } do
        with_fake(nil, answer, function(conn)
          local began = host.now()
          local result, message = ask(conn)
          if name == "pipeline" and result then result, message = nil, result[1].error.message end
          assert.is_true(result == nil and message ~= nil, ("%s %d: %s"):format(name, index, tostring(message)))
          assert.is_true(host.now() - began < 20e9)
        end)
      end
    end
  end)
end)

describe("a connection at rest", function()
  before_each(function() server = postgres.start() end)
  after_each(postgres.remove_all)

  -- At rest; → a function that returns what was told: list of { message, kind }, and how often something was heard
  local function resting(conn)
    local told, heard = {}, 0
    conn:watch(function(...) told[#told + 1] = { ... } end, function() heard = heard + 1 end)
    return function() return told, heard end
  end

  local function wait_for_loss(look)
    until_true(function() return #look() > 0 end)
    host.sleep(50)
    assert.equal(1, #look())
    return look()[1][1], look()[1][2]
  end

  it("tells once that it was thrown out, with the server's words", function()
    open.with(function(conn)
      local look = resting(conn)
      server:sql(("select pg_terminate_backend(%d)"):format(conn:pid()))
      local message, kind = wait_for_loss(look)
      assert.same({ "terminating connection due to administrator command", "lost" }, { message, kind })
      assert.same({ nil, message, "lost" }, { conn:is_fit() })
    end)
  end)

  it("is worn, not lost, once it has delivered in a lease", function()
    open.with(function(conn)
      conn:unwatch()
      assert(conn:query "select 1")
      local look = resting(conn)
      server:stop()
      local message, kind = wait_for_loss(look)
      assert.same({ "terminating connection due to administrator command", "worn" }, { message, kind })
    end)
  end)

  it("tells that the server was killed", function()
    open.with(function(conn)
      local look = resting(conn)
      server:kill()
      local message, kind = wait_for_loss(look)
      assert.equal("lost", kind)
      assert.is_truthy(message:find "server closed the connection" or message:find "reset by peer", message)
    end)
  end)

  it("goes on through notices, notifications and changed parameters", function()
    open.with(function(conn)
      assert(conn:query "listen a")
      local look = resting(conn)
      server:sql "notify a, 'x'"
      until_true(function() return select(2, look()) >= 1 end)
      server:configure { timezone = "Asia/Tokyo" }
      assert.same({}, (look()))
      conn:unwatch()
      assert.is_true(conn:is_fit())
      assert.equal("x", conn:wait_notification(0).payload)
      assert(conn:query "select 1") -- the server reports it with the next command
      assert.equal("Asia/Tokyo", conn:parameter "TimeZone")
      assert.is_nil(conn:parameter "no_such_thing")
    end)
  end)

  it("says nothing once it is lent again, and what is wrong already is told too", function()
    open.with(function(conn)
      local look = resting(conn)
      conn:unwatch()
      server:terminate("pid = " .. conn:pid())
      host.sleep(50)
      assert.same({}, (look()))
      assert.equal("57P01", (select(3, conn:query "select 1")))
      look = resting(conn)
      assert.same({}, (look()))
      wait_for_loss(look)
    end)
  end)

  it("has what a pool set for it, whatever its last user set", function()
    open.with(function(conn)
      local heard = 0
      conn:settimeout(1)
      conn:notice_handler(error)
      resting(conn)
      conn:unwatch()
      assert(conn:query "do $$ begin raise notice 'x'; perform pg_sleep(0.2); end $$")
      assert.equal(0, heard)
    end, { query_ms = 30000 })
  end)
end)

describe("a task that is killed", function()
  setup(function() server = postgres.start() end)
  teardown(postgres.remove_all)

  for name, wait in pairs(WAITS) do
    it("in " .. name .. " leaves nothing, neither here nor at the server", function()
      local before = settled_descriptors()
      host.run(function()
        local conn
        local task = host.spawn(function()
          conn = assert(open.connect())
          wait(conn)
        end)
        until_true(function() return conn ~= nil and is_under_way(conn) end)
        host.kill(task)
        assert.equal("closed", conn:status())
        assert.same({ nil, "a task was killed in the middle of an operation", "closed" }, { conn:query "select 1" })
        until_true(function() return server:connections() == 0 end)
      end)
      none_is_left(before)
    end)
  end

  it("in connect leaves nothing", function()
    server:freeze()
    local before = settled_descriptors()
    host.run(function()
      for _ = 1, 20 do
        local task = host.spawn(function() open.connect() end)
        host.sleep(5)
        host.kill(task)
      end
    end)
    server:thaw()
    until_true(function() return server:connections() == 0 end)
    none_is_left(before)
  end)

  it("in cancel makes the connection unfit, as nobody knows whether the cancel is over", function()
    open.with(function(conn)
      local answer
      host.spawn(function() answer = { conn:query "select pg_sleep(1)" } end)
      until_true(function() return conn:status() == "active" end)
      local task = host.spawn(function() conn:cancel() end)
      host.kill(task)
      until_true(function() return answer ~= nil end)
      assert.is_nil((conn:is_fit()))
      assert.equal("closed", conn:status())
    end)
  end)
end)
