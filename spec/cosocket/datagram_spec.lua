--- Datagrams with ngx_lua's API, on libuv.
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local uv = require "luv"

-- A socket that sends each datagram back, in capitals; "twice" twice, "silence" not at all.
local function echo()
  local handle = uv.new_udp()
  handle:bind("127.0.0.1", 0)
  handle:recv_start(function(_, data, from)
    if not data or data == "silence" then return end
    for _ = 1, data == "twice" and 2 or 1 do handle:try_send(data:upper(), from.ip, from.port) end
  end)
  return handle, handle:getsockname().port
end

local before, other, port

before_each(function()
  before = server.open_handles()
  other, port = echo()
end)

after_each(function()
  if not other:is_closing() then other:close() end
  assert.equal("", server.left_open(before))
end)

local function connected()
  local socket = host.udp()
  assert.equal(1, socket:setpeername("127.0.0.1", port))
  socket:settimeout(20000)
  return socket
end

describe("a datagram socket", function()
  it("sends datagrams, and receives one at a time", function()
    host.run(function()
      local socket = connected()
      assert.equal(1, socket:send { "hel", { "lo ", 1 } })
      assert.equal("HELLO 1", socket:receive())
      socket:send "twice"
      assert.equal("TWICE", socket:receive())
      assert.equal("TW", socket:receive(2)) -- and the rest is lost
      socket:settimeout(20)
      assert.same({ nil, "timeout" }, { socket:receive() })
      socket:settimeout(20000)
      socket:send ""
      assert.equal("", socket:receive())
      socket:send(("x"):rep(9000))
      assert.equal(8192, #socket:receive())
      assert.equal(1, socket:close())
      assert.same({ nil, "closed" }, { socket:close() })
      assert.same({ nil, "closed" }, { socket:send "x" })
      assert.same({ nil, "closed" }, { socket:receive() })
    end)
  end)

  it("says what it cannot do", function()
    host.run(function()
      local socket = host.udp()
      assert.same({ nil, "closed" }, { socket:send "x" })
      assert.same({ nil, "closed" }, { socket:receive() })
      assert.same({ nil, "missing the port number" }, { socket:setpeername "127.0.0.1" })
      assert.same({ nil, "bad port number: 65536" }, { socket:setpeername("127.0.0.1", 65536) })
      assert.matches("could not be resolved", (select(2, socket:setpeername("nonexistent.invalid", 1))))
      assert.same({ nil, "datagrams to UNIX sockets are not supported" }, { socket:setpeername "unix:/x" })
      local open = connected()
      assert.has_error(function() open:send(print) end)
      assert.has_error(function() open:receive {} end)
      assert.has_error(function() open:settimeout(-1) end)
      assert.has_error(function() open.send "x" end)
      assert.matches("message too long", (select(2, open:send(("x"):rep(70000)))):lower())
    end)
  end)

  it("hears that nobody listens", function()
    other:close()
    host.run(function()
      local socket = connected()
      socket:send "x"
      assert.same({ nil, "connection refused" }, { socket:receive() })
    end)
  end)

  it("is used by one task at a time, and closed with the task it belongs to", function()
    host.run(function()
      local socket = connected()
      local task = host.spawn(function() socket:receive() end)
      assert.same({ nil, "socket busy" }, { socket:receive() })
      assert.same({ nil, "socket busy" }, { socket:close() })
      host.kill(task)
      assert.equal(1, socket:close())
      local left
      local killed = host.spawn(function()
        left = connected()
        left:receive()
      end)
      host.sleep(10)
      host.kill(killed)
      assert.same({ nil, "closed" }, { left:send "x" })
      host.spawn(function() left = connected() end) -- it ends: the socket belongs to the one that spawned it
      host.sleep(10)
      assert.equal(1, left:send "still")
      assert.equal("STILL", left:receive())
    end)
  end)

  it("waits in coroutines of its task, and wakes who waits as it is closed", function()
    host.run(function()
      local socket = connected()
      socket:send "hello"
      assert.equal("HELLO", coroutine.wrap(function() return socket:receive() end)())
      local told
      host.spawn(function() told = { socket:receive() } end)
      socket:abort()
      host.sleep(0)
      assert.same({ nil, "closed" }, told)
    end)
  end)
end)
