--- The libuv host: tasks, waiters, alarms, the log; then real connections on loopback.
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local function results(...)
  return { n = select("#", ...), ... }
end

-- Runs fn with the log lines collected.
local function logged(fn)
  local lines = {}
  host.log_to(function(level, message) lines[#lines + 1] = { level = level, message = message } end)
  local ok, message = pcall(fn)
  host.log_to(nil)
  if not ok then error(message, 0) end
  return lines
end

-- it(), inside a task, and nothing may be left open.
local function task_it(name, fn)
  it(name, function()
    local before = server.open_handles()
    host.run(fn)
    assert.equal("", server.left_open(before))
  end)
end

describe("a task", function()
  task_it("runs at once until it waits; nested ones too", function()
    local trace, main = {}, host.current()
    local t = host.spawn(function(a, b)
      trace[#trace + 1] = a .. b
      local inner = host.spawn(function()
        trace[#trace + 1] = "inner"
        host.sleep(0)
        trace[#trace + 1] = "inner again"
      end)
      assert.not_equal(inner, host.current())
      trace[#trace + 1] = "outer"
      assert.is_true(host.sleep(1))
      trace[#trace + 1] = "outer again"
    end, 1, 2)
    assert.equal(main, host.current())
    assert.same({ "12", "inner", "outer" }, trace)
    assert.is_false(t.is_done)
    host.sleep(20)
    assert.is_true(t.is_done)
    assert.same({ "12", "inner", "outer", "inner again", "outer again" }, trace)
  end)

  it("is nil outside of any", function()
    assert.is_nil(host.current())
    local _, message = pcall(function() host.sleep(1) end)
    assert.matches("uv_spec.lua:%d+: only a task may wait", message)
    assert.error_matches(function() host.spawn(1) end, "spawn: expected a function, got number")
  end)

  task_it("that throws is logged with its traceback, and nobody else notices", function()
    local lines = logged(function()
      host.spawn(function()
        local function deep() error "ouch" end
        deep()
      end)
      host.spawn(function()
        host.sleep(1)
        error { code = 7 }
      end)
      host.sleep(20)
    end)
    assert.equal(2, #lines)
    assert.equal("error", lines[1].level)
    assert.matches("uv_spec.lua:%d+: ouch\nstack traceback:.*in function 'deep'", lines[1].message)
    assert.matches("^cueball: table: .*\nstack traceback:", lines[2].message)
  end)

  task_it("killed is never resumed, whatever it waits for", function()
    local trace = {}
    local waiter = host.waiter()
    local tasks = {
      host.spawn(function() host.sleep(1) trace[#trace + 1] = "slept" end),
      host.spawn(function() waiter:wait() trace[#trace + 1] = "woken" end),
      host.spawn(function() coroutine.yield() trace[#trace + 1] = "yielded" end),
    }
    local woken = host.waiter()
    tasks[4] = host.spawn(function() woken:wait() trace[#trace + 1] = "woken before" end)
    woken:wake()
    for _, t in ipairs(tasks) do host.kill(t) end
    waiter:wake()
    host.sleep(20)
    assert.same({}, trace)
    host.kill(tasks[1])
    assert.has_error(function() host.kill(host.current()) end, "kill: a task may not kill itself")
  end)

  task_it("killed by one that it spawned ends where it next waits", function()
    local reached
    local outer
    outer = host.spawn(function()
      local me = host.current()
      host.spawn(function() host.kill(me) end)
      reached = "the wait"
      host.sleep(0)
      reached = "too far"
    end)
    host.sleep(10)
    assert.is_true(outer.is_done)
    assert.equal("the wait", reached)
  end)

  task_it("killed while it runs gives up what it takes on after that, though it ends without waiting", function()
    local aborted = 0
    host.spawn(function()
      local me = host.current()
      host.spawn(function() host.kill(me) end)
      host.guard { abort = function() aborted = aborted + 1 end }
    end)
    assert.equal(1, aborted)
  end)

  task_it("sleeps as long as it should, in the order of the deadlines", function()
    -- The process may be preempted between the spec's look at the clock and the host's: each deadline lies between two.
    local order = {}
    for _, ms in ipairs { 12, 4, 8, 4.5, 0 } do
      local sleep = { earliest = host.now() + ms * 1e6 }
      host.spawn(function()
        host.sleep(ms)
        assert.is_true(host.now() >= sleep.earliest)
        order[#order + 1] = sleep
      end)
      sleep.latest = host.now() + ms * 1e6
    end
    until_true(function() return #order == 5 end)
    for later = 2, #order do
      for earlier = 1, later - 1 do
        assert.is_true(order[earlier].earliest <= order[later].latest, "woken too early")
      end
    end
    for _, wrong in ipairs { -1, 0 / 0, "x" } do
      assert.error_matches(function() host.sleep(wrong) end, "sleep: expected a number of milliseconds from 0")
    end
  end)
end)

describe("a waiter", function()
  task_it("is woken in the order of the wakes, never inside wake", function()
    local trace = {}
    local waiters = {}
    for index = 1, 3 do
      waiters[index] = host.waiter()
      host.spawn(function()
        local value = waiters[index]:wait()
        trace[#trace + 1] = value
      end)
    end
    for _, index in ipairs { 2, 3, 1 } do waiters[index]:wake(index) end
    assert.same({}, trace)
    host.sleep(0)
    assert.same({ 2, 3, 1 }, trace)
  end)

  task_it("returns what wake was given, nils counted", function()
    for _, given in ipairs { results(), results(nil), results(1, nil), results(nil, nil, 3), results(1, 2, 3, 4, nil) } do
      local early, late, got = host.waiter(), host.waiter(), nil
      early:wake(unpack(given, 1, given.n))
      early:wake "ignored"
      assert.same(given, results(early:wait()))
      host.spawn(function() got = results(late:wait(1000)) end)
      late:wake(unpack(given, 1, given.n))
      late:wake "ignored"
      host.sleep(0)
      assert.same(given, got)
    end
  end)

  task_it("times out; a wake after that is ignored", function()
    local waiter, start = host.waiter(), host.now()
    assert.same(results(nil, "timeout"), results(waiter:wait(5)))
    assert.is_true(host.now() - start >= 5e6)
    waiter:wake(1)
    assert.error_matches(function() waiter:wait() end, "wait may be called once")
    assert.same(results(nil, "timeout"), results(host.waiter():wait(0)))
  end)

  task_it("that was woken does not time out later", function()
    local waiter = host.waiter()
    host.spawn(function() waiter:wake(1) end)
    assert.equal(1, (waiter:wait(5)))
    local start = host.now()
    host.sleep(20)
    assert.is_true(host.now() - start >= 20e6)
  end)

  task_it("lets tasks that wake each other not starve the loop", function()
    local rounds, is_over = 0, false
    local function ping()
      while not is_over do
        local waiter = host.waiter()
        waiter:wake()
        host.spawn(function() host.sleep(0) end)
        local other = host.waiter()
        host.tasks:defer(function() other:wake() end)
        other:wait()
        rounds = rounds + 1
      end
    end
    host.spawn(ping)
    host.spawn(ping)
    host.sleep(10)
    is_over = true
    assert.is_true(rounds > 0)
    host.sleep(5)
  end)
end)

describe("an alarm", function()
  task_it("goes off at its time, outside of any task, once", function()
    local times = {}
    local alarm = host.alarm(function()
      assert(not host.current())
      times[#times + 1] = host.now()
    end)
    local at = host.now() + 7.3e6
    alarm:set(at)
    until_true(function() return #times > 0 end)
    host.sleep(20)
    assert.equal(1, #times)
    assert.is_true(times[1] >= at)
    alarm:close()
    assert.error_matches(function() alarm:set(0) end, "alarm: it is closed")
  end)

  task_it("in the past goes off soon, not inside the call", function()
    local count = 0
    local alarm = host.alarm(function() count = count + 1 end)
    alarm:set(0)
    assert.equal(0, count)
    until_true(function() return count > 0 end)
    assert.equal(1, count)
    alarm:set(host.now() - 1)
    alarm:clear()
    host.sleep(5)
    assert.equal(1, count)
    alarm:close()
  end)

  -- Keeps the loop from turning, as a program does that computes.
  local function block(ms)
    local start = host.now()
    while host.now() - start < ms * 1e6 do end
  end

  task_it("that is late does not come before what lies in a socket", function()
    local trace, client = {}, nil
    local one = server.listen(function(accepted) client = accepted end)
    local alarm = host.alarm(function() trace[#trace + 1] = "alarm" end)
    local sock = host.tcp()
    assert.equal(1, sock:connect("127.0.0.1", one.port))
    until_true(function() return client end)
    sock:settimeout(300)
    local async = uv.new_async(function()   -- in the middle of a poll: what it writes is found by the next
      client:write "here"
      client:shutdown(function() client:close() end)
      alarm:set(host.now() + 300e6)
      block(350)
    end)
    async:send()
    trace[#trace + 1] = sock:receive(4)
    until_true(function() return #trace == 2 end)
    assert.same({ "here", "alarm" }, trace)
    async:close()
    alarm:close()
    sock:close()
    one:close()
  end)

  task_it("that sets itself to the past again and again lets the loop turn", function()
    local count, alarm = 0, nil
    alarm = host.alarm(function()
      count = count + 1
      if count < 1000000 then alarm:set(0) end
    end)
    alarm:set(0)
    host.sleep(20)   -- would never end
    assert.is_true(count > 1 and count < 1000000)
    alarm:close()
  end)

  task_it("is moved both ways by another set", function()
    local times = {}
    local alarm = host.alarm(function() times[#times + 1] = host.now() end)
    local start = host.now()
    alarm:set(start + 5e6)
    alarm:set(start + 20e6)
    until_true(function() return #times > 0 end)
    host.sleep(20)
    assert.equal(1, #times)
    assert.is_true(times[1] >= start + 20e6)
    alarm:set(host.now() + 1e12)
    alarm:set(host.now() + 1e6)
    until_true(function() return #times == 2 end)
    alarm:set(math.huge)
    alarm:close()
  end)

  task_it("can set itself again, and silence one that is due with it", function()
    local trace, first, second = {}, nil, nil
    first = host.alarm(function()
      trace[#trace + 1] = "first"
      second:clear()
      if #trace < 3 then first:set(host.now()) end
    end)
    second = host.alarm(function() trace[#trace + 1] = "second" end)
    local at = host.now() + 1e6
    first:set(at)
    second:set(at)
    until_true(function() return #trace >= 3 end)
    host.sleep(20)
    assert.same({ "first", "first", "first" }, trace)
    first:close()
    second:close()
  end)

  task_it("that throws is logged", function()
    local alarm = host.alarm(function() error "broken alarm" end)
    local lines = logged(function()
      local is_due = false
      alarm:set(0)
      local after = host.alarm(function() is_due = true end)
      after:set(0)
      until_true(function() return is_due end)
      after:close()
    end)
    assert.equal(1, #lines)
    assert.matches("broken alarm\nstack traceback", lines[1].message)
    alarm:close()
  end)
end)

describe("host.run", function()
  it("returns what fn returned, nils counted", function()
    assert.same(results(1, nil, 3, nil), results(host.run(function(...) return ... end, 1, nil, 3, nil)))
    assert.same(results(2), results(host.run(function()
      host.sleep(1)
      return host.run(function() return 2 end)
    end)))
  end)

  it("raises an error with its traceback, and one that is no string as it is", function()
    local ok, message = pcall(host.run, function()
      host.sleep(1)
      error "in here"
    end)
    assert.is_false(ok)
    assert.matches("uv_spec.lua:%d+: in here\nstack traceback:", message)
    local object = {}
    ok, message = pcall(host.run, function() error(object) end)
    assert.is_false(ok)
    assert.equal(object, message)
  end)

  it("says when nothing can happen any more", function()
    assert.error_matches(function() host.run(function() host.waiter():wait() end) end,
      "every task waits and nothing can wake them")
    assert.error_matches(function() host.run(function() coroutine.yield() end) end,
      "every task waits and nothing can wake them")
    assert.equal("fine", host.run(function() return "fine" end))
  end)

  it("knows that an alarm may be what is waited for", function()
    local waiter = host.waiter()
    local alarm = host.alarm(function() waiter:wake "rung" end)
    alarm:set(host.now() + 3e6)
    assert.equal("rung", host.run(function() return waiter:wait() end))
    alarm:close()
  end)

  it("is not kept from returning by tasks and alarms that are left", function()
    local alarm = host.alarm(function() end)
    alarm:set(host.now() + 3600e9)
    local t
    host.run(function() t = host.spawn(function() host.sleep(3600e3) end) end)
    host.kill(t)
    -- Nor does an alarm keep a plain loop running.
    uv.run()
    alarm:close()
  end)

  it("leaves nothing behind that crashes at exit (luvit/luv#599)", function()
    local code = [[
      local host, server = require "cueball.host.uv", require "spec.support.server"
      local path = os.tmpname()
      os.remove(path)
      local one, sock = server.listen_unix(path, server.echo_client), host.tcp()
      host.run(function()
        assert(sock:connect("unix:" .. path))
        sock:send "x\n"
        sock:receive()
      end)
      host.run(function()
        one:close()
        sock:close()
      end)]]
    assert.equal(0, os.execute(("luajit -e '%s'"):format(code)))
  end)

  -- Its loop dies with luv's table, and luv, required again, would use freed memory.
  it("keeps luv alive though package.loaded forgets it", function()
    local code = [[
      require "cueball.host.uv"
      local weak = setmetatable({ package.loaded.luv }, { __mode = "v" })
      package.loaded.luv, package.loaded["cueball.host.uv"], package.loaded["cueball.host.task"] = nil, nil, nil
      collectgarbage()
      collectgarbage()
      os.exit(weak[1] and 0 or 1)]]
    assert.equal(0, os.execute(("luajit -e '%s'"):format(code)))
  end)

  it("says so when its task was killed", function()
    assert.error_matches(function()
      host.run(function()
        local me = host.current()
        host.spawn(function()
          host.sleep(1)
          host.kill(me)
        end)
        host.sleep(1000)
      end)
    end, "killed")
  end)
end)

describe("the log", function()
  local function stderr_of(environment, code)
    local pipe = io.popen(("%s luajit -e '%s' 2>&1 >/dev/null"):format(environment, code))
    local text = pipe:read "*a"
    pipe:close()
    return text
  end
  local code = [[local host = require "cueball.host.uv"
    for _, level in ipairs { "debug", "info", "warn", "error" } do host.log(level, level .. " line") end]]

  it("is a line with the time, from info on", function()
    local text = stderr_of("CUEBALL_LOG=", code)
    assert.matches("CUEBALL_LOG must be debug, info, warn, error or none", text)
    text = stderr_of("env -u CUEBALL_LOG", code)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ info info line\n", text)
    assert.not_matches("debug line", text)
    assert.matches("Z error error line\n$", text)
  end)

  it("goes by CUEBALL_LOG", function()
    assert.matches("debug line", stderr_of("CUEBALL_LOG=debug", code))
    assert.matches("^[^\n]* error line\n$", stderr_of("CUEBALL_LOG=error", code))
    assert.equal("", stderr_of("CUEBALL_LOG=none", code))
  end)
end)

describe("finding luv", function()
  it("is what the default host does", function()
    assert.equal(host, require("cueball.host").default())
  end)

  it("fails with how to install it", function()
    for _, module in ipairs { 'require "cueball.host.uv"', 'require("cueball.host").default()' } do
      local pipe = io.popen(([[luajit -e 'package.preload.luv = nil; package.cpath = package.cpath:gsub("[^;]*lua/5%%.1[^;]*", "")
        print(pcall(function() %s end))' 2>&1]]):format(module))
      local text = pipe:read "*a"
      pipe:close()
      assert.matches("^false\tcueball.host.uv needs luv.*apt install lua%-luv.*luarocks install luv", text)
      assert.not_matches("no file", text)
    end
  end)
end)

describe("host.now and host.seed", function()
  it("are numbers", function()
    local a, b = host.now(), host.now()
    assert.is_number(a)
    assert.is_true(b >= a)
    local seed, other = host.seed(), host.seed()
    assert.is_true(seed >= 0 and seed < 2 ^ 53 and seed % 1 == 0)
    assert.not_equal(seed, other)
  end)
end)

describe("a real connection", function()
  local one

  -- As task_it, with a server, which is closed after.
  local function served_it(name, make, fn)
    it(name, function()
      local before = server.open_handles()
      one = make()
      local ok, message = pcall(host.run, fn)
      one:close()
      if not ok then error(message, 0) end
      assert.equal("", server.left_open(before))
    end)
  end

  local function connected(address)
    local sock = host.tcp()
    assert.same(results(1), results(sock:connect(address or "127.0.0.1", one.port)))
    return sock
  end

  served_it("carries bytes both ways", server.echo, function()
    local sock = connected()
    for index = 1, 100 do
      assert.equal(#tostring(index) + 1, sock:send { index, "\n" })
      assert.equal(tostring(index), (sock:receive()))
    end
    assert.is_true(sock:setoption("tcp-nodelay", false))
    assert.is_true(sock:setoption("keepalive", true))
    assert.is_true(sock:setoption("keepalive", 1500))
    assert.same(results(nil, "unsupported option reuseaddr"), results(sock:setoption("reuseaddr", true)))
    assert.same(results(1), results(sock:close()))
    assert.same(results(nil, "closed"), results(sock:close()))
  end)

  served_it("goes by name, and by number in brackets", server.echo, function()
    local sock = connected "localhost"
    sock:send "x\n"
    assert.equal("x", (sock:receive()))
    sock:close()
    local other = host.tcp()
    assert.equal("connection refused", select(2, other:connect("[::1]", 1)))
    local _, message = host.tcp():connect("no-such-name.invalid", 1)
    assert.matches("^no%-such%-name%.invalid could not be resolved %(.+%)$", message)
    _, message = host.tcp():connect("1.2.3.999", 1)
    assert.matches("^1%.2%.3%.999 could not be resolved %(.+%)$", message)
  end)

  served_it("carries 50 MB both ways, unharmed", server.echo, function()
    local sock = connected()
    local much = ("0123456789abcdef"):rep(50 * 1024 * 64)
    local sent
    host.spawn(function() sent = results(sock:send(much)) end)
    local got = sock:receive(#much)
    assert.is_true(got == much)
    assert.same(results(#much), sent)
    sock:close()
  end)

  served_it("is held up by a peer that does not read, until the time limit", function()
    return server.listen(function() end)
  end, function()
    local sock = connected()
    sock:settimeouts(1000, 50, 1000)
    assert.same(results(nil, "timeout"), results(sock:send(("x"):rep(64 * 1024 * 1024))))
    assert.same(results(nil, "closed"), results(sock:send "x"))
  end)

  served_it("does not read for ever what nobody wants", function()
    return server.listen(function(client)
      client:write(("y"):rep(32 * 1024 * 1024))
    end)
  end, function()
    local sock = connected()
    assert.equal("y", (sock:receive(1)))
    host.sleep(100)
    assert.is_true(sock.received.size < 4 * 1024 * 1024)
    assert.equal(32 * 1024 * 1024 - 1, #sock:receive(32 * 1024 * 1024 - 1))
    sock:close()
  end)

  served_it("times out with what had come", function()
    return server.listen(function(client) client:write("part", function() one.has_written = true end) end)
  end, function()
    local sock = connected()
    until_true(function() return one.has_written end)
    sock:settimeout(30)
    assert.same(results(nil, "timeout", "part"), results(sock:receive(10)))
    assert.equal(1, sock:close())
  end)

  served_it("knows the peer's orderly end", function()
    return server.listen(function(client)
      client:write("bye\nrest", function() client:shutdown() end)
    end)
  end, function()
    local sock = connected()
    assert.equal("bye", (sock:receive()))
    assert.same(results(nil, "closed", "rest"), results(sock:receive()))
    assert.same(results(nil, "closed"), results(sock:receive()))
  end)

  served_it("may still send after receiving all of a half-closed peer", function()
    return server.listen(function(client)
      one.received = ""
      client:read_start(function(_, data) one.received = one.received .. (data or "") end)
      client:write("all", function() client:shutdown() end)
    end)
  end, function()
    local sock = connected()
    assert.same(results "all", results(sock:receive "*a"))
    assert.equal(5, sock:send "still")
    until_true(function() return one.received == "still" end)
    assert.equal(1, sock:close())
  end)

  served_it("knows a reset", function()
    return server.listen(function(client)
      client:read_start(function() client:close_reset() end)
    end)
  end, function()
    local sock = connected()
    sock:send "x"
    assert.same(results(nil, "connection reset by peer", ""), results(sock:receive()))
    assert.same(results(nil, "broken pipe"), results(sock:send "x"))
  end)

  served_it("is told broken when sending to one who left", function()
    return server.listen(function(client)
      client:read_start(function() client:close_reset() end)
    end)
  end, function()
    local sock = connected()
    local message
    for _ = 1, 100 do
      local ok
      ok, message = sock:send "x"
      if not ok then break end
      host.sleep(2)
    end
    assert.is_true(message == "broken pipe" or message == "connection reset by peer", message)
  end)

  served_it("tells its watcher of an end, a reset and stray bytes", function()
    return server.listen(function() end)
  end, function()
    local told = {}
    local actions = {
      function(client) client:shutdown() end,
      function(client) client:close_reset() end,
      function(client) client:write "stray" end,
    }
    for index, act in ipairs(actions) do
      local sock, waiter = connected(), host.waiter()
      while not one.clients[index] do host.sleep(1) end
      sock:watch(function(message) waiter:wake(message) end)
      assert.is_true(sock:is_fit())
      act(one.clients[index])
      told[index] = waiter:wait(30000)
      sock:abort()
    end
    assert.same({ "closed", "connection reset by peer", "unexpected data" }, told)
  end)

  served_it("goes with its killed task: in connect, in receive, in resolving", server.echo, function()
    local function kill_in(ms, act)
      local sock, reached
      local t = host.spawn(function()
        sock = host.tcp()
        act(sock)
        reached = true
      end)
      if ms then host.sleep(ms) end
      host.kill(t)
      assert.is_nil(sock.transport.handle)
      assert.same(results(nil, "closed"), results(sock:close()))
      host.sleep(20)
      assert.is_nil(reached)
    end
    kill_in(nil, function(sock) sock:connect("127.0.0.1", one.port) end)
    kill_in(20, function(sock) sock:connect("127.0.0.1", one.port) sock:receive() end)
    kill_in(nil, function(sock) sock:connect("localhost", one.port) end)
  end)

  served_it("stays open when the task that made it ends", server.echo, function()
    local sock
    host.spawn(function() sock = connected() end)
    while not (sock and sock.is_open) do host.sleep(1) end
    sock:send "x\n"
    assert.equal("x", (sock:receive()))
    sock:close()
  end)

  it("is refused where nobody listens", function()
    local port = require("spec.support.port").free()
    local before = server.open_handles()
    host.run(function()
      local sock = host.tcp()
      assert.same(results(nil, "connection refused"), results(sock:connect("127.0.0.1", port)))
      assert.same(results(nil, "no such file or directory"), results(sock:connect "unix:/nonexistent/socket"))
    end)
    assert.equal("", server.left_open(before))
  end)

  it("ends when the other process is killed", function()
    local other = server.process()
    local message = host.run(function()
      local sock = host.tcp()
      assert(sock:connect("127.0.0.1", other.port))
      sock:send "x\n"
      assert.equal("x", (sock:receive()))
      other.kill "sigkill"
      local _, why = sock:receive()
      while not other.is_over do host.sleep(1) end
      assert.equal("connection refused", select(2, sock:connect("127.0.0.1", other.port)))
      return why
    end)
    assert.is_true(message == "closed" or message == "connection reset by peer", message)
  end)

  it("speaks over a UNIX socket", function()
    local path = os.tmpname()
    os.remove(path)
    local unix = server.listen_unix(path, server.echo_client)
    host.run(function()
      local sock = host.tcp()
      assert.equal(1, sock:connect("unix:" .. path))
      sock:send "x\n"
      assert.equal("x", (sock:receive()))
      assert.same(results(nil, "not supported"), results(sock:setoption("keepalive", true)))
      sock:close()
    end)
    unix:close()
    os.remove(path)
  end)
end)
