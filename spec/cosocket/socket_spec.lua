--- The cosocket API, byte by byte: a transport made of a table, on the real scheduler.
local host = require "cueball.host.uv"
local sim = require "cueball.host.sim"
local socket = require "cueball.cosocket.socket"

-- A transport whose other end is the spec.  What it does to the socket it does in
-- the loop's time, as a transport must.
local function fake_transport(tasks)
  local fake = { written = {}, log = {}, connect_result = nil, hold_writes = false }
  local function later(fn, ...)
    local args = { ... }
    (tasks or host.tasks):defer(function() fn(unpack(args, 1, 2)) end)
  end
  function fake:connect(address, port, done)
    self.log[#self.log + 1] = ("connect %s %s"):format(address, tostring(port))
    self.done = done
    if not self.hold_connect then later(done, self.connect_result) end
  end
  function fake:write(data, done)
    self.written[#self.written + 1] = data
    self.write_done = done
    if self.at_once then return true end
    if not self.hold_writes then later(done, self.write_result) end
  end
  function fake:read(on_read)
    self.on_read, self.is_reading = on_read, true
    self.log[#self.log + 1] = "read"
  end
  function fake:pause()
    self.is_reading = false
    self.log[#self.log + 1] = "pause"
  end
  function fake:close()
    self.log[#self.log + 1] = "close"
    self.is_reading = false
  end
  -- A piece from the peer; or the end, with err.
  function fake:feed(data, err)
    (tasks or host.tasks):defer(function()
      if self.is_reading then self.on_read(data, err) end
    end)
  end
  return fake
end

local function connected(on)
  local fake = fake_transport(on and on.tasks)
  local sock = socket.new(on or host, fake)
  assert.equal(1, sock:connect("127.0.0.1", 80))
  return sock, fake
end

-- it(), inside a task.
local function task_it(name, fn)
  it(name, function() host.run(fn) end)
end

local function results(...)
  return { n = select("#", ...), ... }
end

describe("connect", function()
  task_it("returns 1", function()
    local sock, fake = connected()
    assert.same({ "connect 127.0.0.1 80" }, fake.log)
    assert.same(results(1), results(sock:close()))
  end)

  task_it("gives the transport a path without a port", function()
    local fake = fake_transport()
    assert.equal(1, socket.new(host, fake):connect("unix:/tmp/x"))
    assert.same({ "connect unix:/tmp/x nil" }, fake.log)
  end)

  task_it("returns nil and what went wrong, closed", function()
    local fake = fake_transport()
    fake.connect_result = "connection refused"
    local sock = socket.new(host, fake)
    assert.same(results(nil, "connection refused"), results(sock:connect("127.0.0.1", 80)))
    assert.same({ "connect 127.0.0.1 80", "close" }, fake.log)
    assert.same(results(nil, "closed"), results(sock:send "x"))
  end)

  task_it("times out, and the late answer is nobody's", function()
    local fake = fake_transport()
    fake.hold_connect = true
    local sock = socket.new(host, fake)
    sock:settimeout(1)
    assert.same(results(nil, "timeout"), results(sock:connect("127.0.0.1", 80)))
    assert.same(results(nil, "closed"), results(sock:close()))
  end)

  task_it("refuses a second connect under way", function()
    local fake = fake_transport()
    fake.hold_connect = true
    local sock = socket.new(host, fake)
    local first
    host.spawn(function() first = results(sock:connect("127.0.0.1", 80)) end)
    assert.same(results(nil, "socket busy connecting"), results(sock:connect("127.0.0.1", 80)))
    assert.same(results(nil, "socket busy connecting"), results(sock:close()))
    sock:abort()
    host.sleep(0)
    assert.same(results(nil, "closed"), first)
  end)

  task_it("connects anew, without the bytes of before", function()
    local sock, fake = connected()
    sock:settimeout(1)
    fake:feed "old"
    assert.same(results(nil, "timeout", "old"), results(sock:receive(9)))
    fake:feed "older"
    host.sleep(0)
    assert.equal(1, sock:connect("127.0.0.1", 81))
    assert.same({ "connect 127.0.0.1 80", "read", "close", "connect 127.0.0.1 81" }, fake.log)
    assert.same(results(nil, "timeout", ""), results(sock:receive(9)))
    sock:close()
  end)

  task_it("says what is missing", function()
    local sock = socket.new(host, fake_transport())
    assert.same(results(nil, "missing the port number"), results(sock:connect("127.0.0.1")))
    assert.same(results(nil, 'failed to parse host name "": no host'), results(sock:connect("", 80)))
    assert.same(results(nil, "bad port number: 65536"), results(sock:connect("127.0.0.1", 65536)))
    assert.has_error(function() sock:connect(nil, 80) end, "bad argument #1 to 'connect' (string expected, got nil)")
  end)

  it("waits in a task only", function()
    local sock = socket.new(host, fake_transport())
    assert.error_matches(function() sock:connect("127.0.0.1", 80) end, "only a task may wait")
    host.run(function()
      local ok, message = pcall(table.sort, { 2, 1 }, function() sock:connect("127.0.0.1", 80) end)
      assert.is_false(ok)
      assert.matches("socket_spec.lua:%d+: nothing may wait here", message)
      assert.is_nil(sock.connector)
    end)
  end)
end)

describe("a socket that is not connected", function()
  task_it("is closed for every operation", function()
    local sock = socket.new(host, fake_transport())
    local closed = results(nil, "closed")
    assert.same(closed, results(sock:send "x"))
    assert.same(closed, results(sock:receive()))
    assert.same(closed, results(sock:receiveany(1)))
    assert.same(closed, results(sock:receiveuntil "x" ()))
    assert.same(closed, results(sock:close()))
    assert.same(closed, results(sock:setkeepalive()))
    assert.same(closed, results(sock:getreusedtimes()))
    assert.same(closed, results(sock:setoption("keepalive", true)))
    assert.same(closed, results(sock:sslhandshake()))
    assert.same(results(nil, "closed", "unfit"), results(sock:is_fit()))
    sock:abort()
  end)
end)

describe("send", function()
  task_it("takes strings, numbers, booleans, nil and nested arrays", function()
    local sock, fake = connected()
    assert.equal(3, sock:send "abc")
    assert.equal(3, sock:send(1.5))
    assert.equal(4, sock:send(true))
    assert.equal(5, sock:send(false))
    assert.equal(3, sock:send(nil))
    assert.equal(6, sock:send { "a", { 1, { "b", "\r\n" } }, "c" })
    assert.equal(0, sock:send "")
    assert.equal(0, sock:send {})
    assert.same({ "abc", "1.5", "true", "false", "nil", "a1b\r\nc" }, fake.written)
    fake.at_once = true
    assert.equal(2, sock:send "at")
    sock:close()
  end)

  task_it("raises for what cannot be sent, at the caller's line", function()
    local sock = connected()
    local ok, message = pcall(function() sock:send(print) end)
    assert.is_false(ok)
    assert.matches("socket_spec.lua:%d+: bad argument #1 to 'send' %(string, number, boolean, nil, or array table expected, "
      .. "got function%)", message)
    assert.error_matches(function() sock:send { "a", { true } } end,
      "bad argument #1 to 'send' %(bad data type boolean found%)")
    sock:close()
  end)

  task_it("times out, and nothing is sent any more", function()
    local sock, fake = connected()
    fake.hold_writes = true
    sock:settimeouts(1000, 1, 1000)
    assert.same(results(nil, "timeout"), results(sock:send "x"))
    assert.same(results(nil, "closed"), results(sock:send "x"))
    assert.same(results(1), results(sock:close()))
  end)

  task_it("fails; once there is nothing to receive either, the connection is closed", function()
    local sock, fake = connected()
    fake.write_result = "broken pipe"
    local read
    host.spawn(function() read = results(sock:receive()) end)
    assert.same(results(nil, "broken pipe"), results(sock:send "x"))
    fake:feed(nil, "connection reset by peer")
    host.sleep(0)
    assert.same(results(nil, "connection reset by peer", ""), read)
    assert.equal("close", fake.log[#fake.log])
  end)

  task_it("refuses a second writer, lets a reader in", function()
    local sock, fake = connected()
    fake.hold_writes = true
    local sent
    host.spawn(function() sent = results(sock:send "x") end)
    assert.same(results(nil, "socket busy writing"), results(sock:send "y"))
    assert.same(results(nil, "socket busy writing"), results(sock:close()))
    fake:feed "line\n"
    local line = sock:receive()
    assert.equal("line", line)
    host.tasks:defer(fake.write_done)
    host.sleep(0)
    assert.same(results(1), sent)
    sock:close()
  end)

  task_it("writes much in pieces", function()
    local sock, fake = connected()
    local much = ("0123456789"):rep(250000)
    assert.equal(#much, sock:send(much))
    assert.equal(3, #fake.written)
    assert.is_true(table.concat(fake.written) == much)
    sock:close()
  end)
end)

describe("receive", function()
  task_it("gives exactly a size, over pieces", function()
    local sock, fake = connected()
    for _, piece in ipairs { "ab", "c", "defgh", "i" } do fake:feed(piece) end
    assert.same(results "abcd", results(sock:receive(4)))
    assert.same(results "", results(sock:receive(0)))
    assert.same(results "ef", results(sock:receive "2"))
    assert.same(results "ghi", results(sock:receive(3.9)))
    sock:close()
  end)

  task_it("gives a line without LF and any CR", function()
    local sock, fake = connected()
    fake:feed "one\r\ntw\ro\n"
    fake:feed "\nthr"
    fake:feed "ee\r"
    fake:feed "\nfour"
    assert.equal("one", (sock:receive()))
    assert.equal("two", (sock:receive "*l"))
    assert.equal("", (sock:receive "*l"))
    assert.equal("three", (sock:receive "*l"))
    fake:feed(nil, "closed")
    assert.same(results(nil, "closed", "four"), results(sock:receive()))
    assert.same(results(nil, "closed"), results(sock:receive()))
    assert.same(results(1), results(sock:close()))
  end)

  task_it("gives all until the end, which is no error; then closed", function()
    local sock, fake = connected()
    fake:feed "some"
    fake:feed "thing\r\n"
    fake:feed(nil, "closed")
    assert.same(results "something\r\n", results(sock:receive "*a"))
    assert.equal(2, sock:send "hi")
    assert.same(results(nil, "closed", ""), results(sock:receive(1)))
    assert.same(results(1), results(sock:close()))
  end)

  task_it("keeps the socket after a timeout; the partial result is consumed", function()
    local sock, fake = connected()
    sock:settimeout(1)
    fake:feed "par"
    assert.same(results(nil, "timeout", "par"), results(sock:receive(10)))
    fake:feed "t\rial"
    assert.same(results(nil, "timeout", "tial"), results(sock:receive()))
    fake:feed "x"
    assert.same(results(nil, "timeout", "x"), results(sock:receive "*a"))
    assert.same(results(nil, "timeout", ""), results(sock:receiveany(5)))
    fake:feed "rest\n"
    assert.equal("rest", (sock:receive()))
    assert.equal(1, sock:close())
  end)

  task_it("counts bytes that came after the time was up and before the task ran", function()
    local sock, fake = connected()
    sock:settimeout(1)
    host.tasks:defer(function()
      local start = host.now()
      while host.now() - start < 3e6 do end -- luacheck: ignore 542
      host.tasks:run_expired()
      fake.on_read "abc"
    end)
    assert.same(results "abc", results(sock:receive(3)))
    sock:close()
  end)

  it("waits as long as pieces keep coming", function()
    local world = sim.new {}
    world.run(function()
      local sock, fake = connected(world)
      sock:settimeout(200)
      world.spawn(function() for _ = 1, 8 do world.sleep(150) fake:feed "ab" end end)
      assert.equal(("ab"):rep(8), (sock:receive(16)))
      sock:close()
    end)
  end)

  task_it("gives an error with what had come, and closes", function()
    local sock, fake = connected()
    fake:feed "half"
    fake:feed(nil, "connection reset by peer")
    assert.same(results(nil, "connection reset by peer", "half"), results(sock:receive(10)))
    assert.same(results(nil, "closed"), results(sock:receive(10)))
    local other, second = connected()
    second:feed "half"
    second:feed(nil, "connection reset by peer")
    assert.same(results(nil, "connection reset by peer", "half"), results(other:receive "*a"))
  end)

  task_it("refuses a second reader", function()
    local sock, fake = connected()
    local read
    host.spawn(function() read = results(sock:receive(3)) end)
    local busy = results(nil, "socket busy reading")
    assert.same(busy, results(sock:receive()))
    assert.same(busy, results(sock:receiveany(1)))
    assert.same(busy, results(sock:receiveuntil "x" ()))
    assert.same(busy, results(sock:close()))
    assert.same(results(nil, "socket busy reading", "unfit"), results(sock:is_fit()))
    fake:feed "abc"
    host.sleep(0)
    assert.same(results "abc", read)
    sock:close()
  end)

  task_it("raises for a bad argument, in nginx's words", function()
    local sock = connected()
    local function refuses(what, message)
      assert.error_matches(function() sock:receive(what) end, message, 1, true)
    end
    refuses("*x", "bad argument #1 to 'receive' (bad pattern argument)")
    refuses("*n", "bad argument #1 to 'receive' (bad pattern argument)")
    refuses("line", "bad argument #1 to 'receive' (bad pattern argument: line)")
    refuses(-1, "bad argument #1 to 'receive' (bad pattern argument)")
    refuses({}, "bad argument #1 to 'receive' (bad pattern argument)")
    assert.error_matches(function() sock:receiveany(0) end, "bad argument #1 to 'receiveany' (bad max argument)", 1, true)
    assert.error_matches(function() sock:receiveany "x" end, "bad argument #1 to 'receiveany' (bad max argument)", 1, true)
    assert.error_matches(function() sock:settimeout(-1) end, "bad timeout value")
    assert.error_matches(function() sock:settimeouts(1, 2, "x") end, "bad timeout value")
    sock:close()
  end)

  task_it("any gives what is there", function()
    local sock, fake = connected()
    fake:feed "abc"
    assert.equal("abc", (sock:receiveany(10)))
    fake:feed "defg"
    assert.equal("de", (sock:receiveany(2.5)))
    assert.equal("fg", (sock:receiveany(2)))
    fake:feed(nil, "closed")
    assert.same(results(nil, "closed", ""), results(sock:receiveany(2)))
  end)
end)

describe("time limits", function()
  task_it("are 60 s where none was set, and where 0 was", function()
    local sock = socket.new(host, fake_transport())
    assert.equal(60000, sock.read_timeout_ms)
    sock:settimeout(5)
    sock:settimeout(0)
    assert.same({ 60000, 60000, 60000 }, { sock.connect_timeout_ms, sock.send_timeout_ms, sock.read_timeout_ms })
    sock:settimeouts(1, 0, 0.5)
    assert.same({ 1, 60000, 0.5 }, { sock.connect_timeout_ms, sock.send_timeout_ms, sock.read_timeout_ms })
  end)
end)

describe("receiveuntil", function()
  -- Feeds `text` in pieces of every size, and collects what fn(sock) says.
  local function in_all_pieces(text, fn)
    for size = 1, #text do
      local sock, fake = connected()
      for from = 1, #text, size do fake:feed(text:sub(from, from + size - 1)) end
      fn(sock, size)
      sock:abort()
    end
  end

  task_it("gives what is before the pattern, however it is cut", function()
    in_all_pieces("hello, world! -agentzh\r\n--abcedhb blah\r\n--abcedhb.", function(sock)
      local reader = sock:receiveuntil "\r\n--abcedhb"
      assert.same(results "hello, world! -agentzh", results(reader()))
      assert.same(results " blah", results(reader()))
      assert.equal(".", (sock:receive(1)))
    end)
  end)

  task_it("finds a pattern that begins within a failed match", function()
    in_all_pieces("aaabaaababab-aab|", function(sock)
      assert.equal("aaabaa", (sock:receiveuntil "ababab" ()))
      assert.equal("-", (sock:receiveuntil "aab" ()))
    end)
  end)

  task_it("includes the pattern if asked to", function()
    in_all_pieces("one--two--", function(sock)
      local reader = sock:receiveuntil("--", { inclusive = true })
      assert.same(results "one--", results(reader()))
      assert.same(results "two--", results(reader()))
    end)
  end)

  task_it("gives pieces of a size, and three nils at the end, and starts anew", function()
    in_all_pieces("hello, world! -agentzh\r\n--abcedhbnext\r\n--abcedhb", function(sock)
      local reader = sock:receiveuntil "\r\n--abcedhb"
      for _, piece in ipairs { "hell", "o, w", "orld", "! -a", "gent", "zh" } do
        assert.same(results(piece), results(reader(4)))
      end
      assert.same(results(nil, nil, nil), results(reader(4)))
      assert.same(results "next", results(reader(4)))
      assert.same(results "", results(reader(4)))
      assert.same(results(nil, nil, nil), results(reader(4)))
    end)
  end)

  task_it("with a size includes the pattern in the last piece", function()
    in_all_pieces("abcdef--", function(sock)
      local reader = sock:receiveuntil("--", { inclusive = true })
      assert.same({ "abcd", "ef--" }, { (reader(4)), (reader(4)) })
      assert.same(results(nil, nil, nil), results(reader(4)))
    end)
  end)

  task_it("mixes with receive", function()
    in_all_pieces("key: value\r\nbody!", function(sock)
      assert.equal("key", (sock:receiveuntil ": " ()))
      assert.equal("value", (sock:receive()))
      assert.equal("body", (sock:receiveuntil "!" ()))
    end)
  end)

  task_it("keeps after a timeout what may be the beginning of the pattern", function()
    local sock, fake = connected()
    sock:settimeout(1)
    local reader = sock:receiveuntil "--end"
    fake:feed "data--e"
    assert.same(results(nil, "timeout", "data"), results(reader()))
    fake:feed "nd."
    assert.same(results "", results(reader()))
    assert.equal(".", (sock:receive(1)))
    sock:close()
  end)

  task_it("gives everything when the peer closes", function()
    local sock, fake = connected()
    fake:feed "data--e"
    fake:feed(nil, "closed")
    assert.same(results(nil, "closed", "data--e"), results(sock:receiveuntil "--end" ()))
  end)

  task_it("checks its arguments", function()
    local sock = connected()
    assert.same(results(nil, "pattern is empty"), results(sock:receiveuntil ""))
    assert.error_matches(function() sock:receiveuntil() end, "bad argument #1 to 'receiveuntil' (string expected, got nil)", 1, true)
    assert.error_matches(function() sock:receiveuntil("x", 1) end,
      "bad argument #2 to 'receiveuntil' (table expected, got number)", 1, true)
    assert.error_matches(function() sock:receiveuntil("x", { inclusive = 1 }) end,
      'bad "inclusive" option value type: number', 1, true)
    assert.error_matches(function() sock:receiveuntil "x" "y" end, "number expected, got string", 1, true)
    assert.is_function(sock:receiveuntil(12))
    sock:close()
  end)

  task_it("takes time in proportion to the data", function()
    local sock, fake = connected()
    local much = ("x"):rep(4 * 1024 * 1024)
    fake:feed(much .. "--")
    local reader, pieces = sock:receiveuntil "--", 0
    while reader(64) do pieces = pieces + 1 end
    assert.equal(#much / 64 + 1, pieces)
    sock:close()
  end)
end)

describe("reading", function()
  task_it("pauses over the high-water mark while nobody reads, and goes on when somebody does", function()
    local sock, fake = connected()
    fake:feed "x"
    assert.equal("x", (sock:receive(1)))
    local piece = ("y"):rep(100 * 1024)
    for _ = 1, 3 do fake:feed(piece) end
    host.sleep(0)
    assert.same({ "connect 127.0.0.1 80", "read", "pause" }, fake.log)
    assert.equal(300 * 1024, #sock:receive(300 * 1024))
    assert.equal("pause", fake.log[#fake.log])
    fake:feed "lost: the transport is paused"
    host.sleep(0)
    host.spawn(function() host.sleep(0) fake:feed "z" end)
    assert.equal("z", (sock:receive(1)))
    assert.equal("read", fake.log[#fake.log])
    sock:close()
  end)
end)

describe("a socket at rest", function()
  task_it("is fit unless there are bytes, an end or somebody in it", function()
    local sock, fake = connected()
    assert.is_true(sock:is_fit())
    fake:feed "ab"
    assert.equal("a", (sock:receive(1)))
    assert.same(results(nil, "unexpected data", "unfit"), results(sock:is_fit()))
    assert.equal("b", (sock:receive(1)))
    assert.is_true(sock:is_fit())
    fake:feed(nil, "closed")
    host.sleep(0)
    assert.same(results(nil, "closed", "lost"), results(sock:is_fit()))
    assert.equal(1, sock:close())
  end)

  task_it("tells its watcher once of the end", function()
    local sock, fake = connected()
    local told = {}
    sock:watch(function(message)
      assert.is_nil(host.current())
      told[#told + 1] = message
    end)
    fake:feed(nil, "connection reset by peer")
    host.sleep(0)
    assert.same({ "connection reset by peer" }, told)
    sock:close()
  end)

  task_it("tells of stray bytes and keeps them", function()
    local sock, fake = connected()
    local told = {}
    sock:watch(function(message) told[#told + 1] = message end)
    fake:feed "stray"
    fake:feed " more"
    host.sleep(0)
    assert.same({ "unexpected data" }, told)
    sock:unwatch()
    assert.equal("stray more", (sock:receive(10)))
    sock:close()
  end)

  task_it("tells what was wrong before, not inside the call", function()
    local sock, fake = connected()
    fake:feed "ab"
    sock:receive(1)
    local told = {}
    sock:watch(function(message) told[#told + 1] = message end)
    assert.same({}, told)
    host.sleep(0)
    assert.same({ "unexpected data" }, told)
    sock:watch(function() told[#told + 1] = "never" end)
    sock:unwatch()
    host.sleep(0)
    assert.equal(1, #told)
    sock:close()
  end)

  task_it("loses nothing between watch, unwatch and receive", function()
    local sock, fake = connected()
    sock:watch(function() error "not reached" end)
    sock:unwatch()
    fake:feed "data"
    host.sleep(0)
    assert.equal("data", (sock:receive(4)))
    sock:close()
  end)
end)

describe("abort", function()
  task_it("closes whoever waits", function()
    local sock, fake = connected()
    fake.hold_writes = true
    local read, sent
    host.spawn(function() read = results(sock:receive(3)) end)
    host.spawn(function() sent = results(sock:send "x") end)
    sock:abort()
    host.sleep(0)
    assert.same(results(nil, "closed", ""), read)
    assert.same(results(nil, "closed"), sent)
    sock:abort()
    assert.same(results(nil, "closed"), results(sock:close()))
  end)

  task_it("comes to the sockets of a killed task, not to those of one that ended", function()
    local kept = connected()
    local made, fake
    local t = host.spawn(function()
      made, fake = connected()
      made:receive(1)
    end)
    local ended
    host.spawn(function() ended = connected() end)
    host.sleep(0)
    host.kill(t)
    assert.equal("close", fake.log[#fake.log])
    assert.same(results(nil, "closed"), results(made:send "x"))
    assert.equal(1, ended:send "x")
    assert.equal(1, kept:close())
    assert.equal(1, ended:close())
  end)

  -- A task that was killed by one that it spawned, and then connects.
  local function connects_though_killed(hold_connect)
    local fake, result = fake_transport(), nil
    fake.hold_connect = hold_connect
    host.spawn(function()
      local me = host.current()
      host.spawn(function() host.kill(me) end)
      local sock = socket.new(host, fake)
      if hold_connect then result = results(sock:connect("127.0.0.1", 80)) end
    end)
    host.sleep(0)
    assert.is_nil(result)
    return fake.log
  end

  task_it("comes to what a killed task makes before it next waits, and leaves no time limit", function()
    local before = host.tasks.timers.count   -- of tasks that earlier specs left
    assert.same({ "connect 127.0.0.1 80", "close" }, connects_though_killed(true))
    assert.same({}, connects_though_killed(false))
    assert.is_true(host.tasks.timers.count <= before)
  end)

  task_it("a killed reader is not in the way of the next one", function()
    local sock, fake = connected()
    local t = host.spawn(function() sock:receive(3) end)
    host.kill(t)
    fake:feed "abc"
    assert.equal("abc", (sock:receive(3)))
    sock:close()
  end)

  task_it("has what its transport has", function()
    local sock = connected()
    assert.same(results(nil, "not supported"), results(sock:setoption("keepalive", true)))
    assert.same(results(0), results(sock:getreusedtimes()))
    sock:close()
  end)
end)
