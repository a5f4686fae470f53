--- The factory of bare sockets, on real ones.
local free_port = require("spec.support.port").free
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local until_true = require "spec.support.until_true"
local tcp = require "cueball.connection.tcp"

local LIMIT_MS = 20000 -- of an attempt, on a machine that may be busy

local function context(timeout_ms)
  return { host = host, timeout_ms = timeout_ms, attempt = 1, socket_options = {}, log = function() end }
end

local function served(make, fn)
  local before = server.open_handles()
  local one = make()
  local ok, message = pcall(host.run, fn, one)
  one:close()
  if not ok then error(message, 0) end
  assert.equal("", server.left_open(before))
end

describe("cueball.connection.tcp", function()
  it("connects and hands out the socket", function()
    served(server.echo, function(one)
      local factory = tcp { read_timeout_ms = 1500, send_timeout_ms = 2500.5, nodelay = false, keepalive_ms = 1000 }
      local sock = assert(factory.connect({ address = "127.0.0.1", port = one.port }, context(LIMIT_MS)))
      assert.equal(1500, sock.read_timeout_ms)
      assert.equal(2500.5, sock.send_timeout_ms)
      sock:send "x\n"
      assert.equal("x", (sock:receive()))
      assert.is_nil(factory.broken(sock))
      factory.close(sock)
      assert.equal("closed", factory.broken(sock))
      factory.close(sock)
    end)
  end)

  it("has nginx's time limits by default, whatever was left of the attempt", function()
    served(server.echo, function(one)
      local sock = assert(tcp().connect({ address = "127.0.0.1", port = one.port }, context(LIMIT_MS)))
      assert.equal(60000, sock.read_timeout_ms)
      assert.equal(60000, sock.send_timeout_ms)
      sock:close()
    end)
  end)

  it("connects to a path", function()
    local path = os.tmpname()
    os.remove(path)
    served(function() return server.listen_unix(path, server.echo_client) end, function()
      local sock = assert(tcp { keepalive_ms = 5 }.connect({ address = "unix:" .. path }, context()))
      sock:send "x\n"
      assert.equal("x", (sock:receive()))
      sock:close()
    end)
    os.remove(path)
  end)

  it("returns nil and what went wrong", function()
    local port = free_port()
    host.run(function()
      local sock, message = tcp().connect({ address = "127.0.0.1", port = port }, context(LIMIT_MS))
      assert.is_nil(sock)
      assert.equal("connection refused", message)
    end)
  end)

  it("takes the shorter of its own time limit and the attempt's", function()
    local limits = {}
    local fake = { host = { tcp = function()
      return {
        settimeout = function(_, ms) limits[#limits + 1] = ms end,
        connect = function() return nil, "timeout" end,
      }
    end } }
    for _, pair in ipairs { { 100, 50 }, { 50, 100 }, { nil, 100 }, { 100, nil }, {} } do
      fake.timeout_ms = pair[2]
      local sock, message = tcp({ connect_timeout_ms = pair[1] }).connect({ address = "x", port = 1 }, fake)
      assert.is_nil(sock)
      assert.equal("timeout", message)
    end
    assert.same({ 50, 50, 100, 100, 0 }, limits)
  end)

  it("passes the socket options on", function()
    local seen
    local sock = {
      settimeout = function() end, settimeouts = function() end,
      connect = function(_, ...) seen = { ... } return 1 end,
    }
    local with = { host = { tcp = function() return sock end }, socket_options = { pool = "slot 1" } }
    assert.equal(sock, tcp().connect({ address = "10.0.0.1", port = 80 }, with))
    assert.same({ "10.0.0.1", 80, { pool = "slot 1" } }, seen)
    assert.equal(sock, tcp().connect({ address = "unix:/x" }, with))
    assert.same({ "unix:/x", { pool = "slot 1" } }, seen)
  end)

  it("notices a connection lost at rest, and stray bytes", function()
    served(function() return server.listen(function() end) end, function(one)
      local factory, told = tcp(), {}
      for index, act in ipairs { "close", "close_reset", "write" } do
        local sock = assert(factory.connect({ address = "127.0.0.1", port = one.port }, context(LIMIT_MS)))
        while not one.clients[index] do host.sleep(1) end
        local waiter = host.waiter()
        factory.watch(sock, function(message) waiter:wake(message) end)
        local client = one.clients[index]
        client[act](client, act == "write" and "stray" or nil)
        told[index] = waiter:wait(20000)
        assert.equal(told[index], factory.broken(sock))
        factory.close(sock)
      end
      assert.same({ "closed", "connection reset by peer", "unexpected data" }, told)
    end)
  end)

  it("is silent once unwatched, and the bytes are there", function()
    served(server.echo, function(one)
      local factory = tcp()
      local sock = assert(factory.connect({ address = "127.0.0.1", port = one.port }, context(LIMIT_MS)))
      factory.watch(sock, function() error "not reached" end)
      factory.unwatch(sock)
      sock:send "x\n"
      until_true(function() return factory.broken(sock) == "unexpected data" end)
      assert.equal("x", (sock:receive()))
      assert.is_nil(factory.broken(sock))
      factory.close(sock)
    end)
  end)

  it("closes though a task waits in it", function()
    served(server.echo, function(one)
      local factory = tcp()
      local sock = assert(factory.connect({ address = "127.0.0.1", port = one.port }, context(LIMIT_MS)))
      local message
      host.spawn(function() message = select(2, sock:receive()) end)
      factory.close(sock)
      until_true(function() return message == "closed" end)
    end)
  end)

  it("works with sockets that can do no more than ngx_lua's", function()
    local closed = 0
    local sock = { close = function() closed = closed + 1 return 1 end }
    local factory = tcp()
    assert.is_nil(factory.broken(sock))
    factory.watch(sock, print)
    factory.unwatch(sock)
    factory.close(sock)
    assert.equal(1, closed)
  end)

  it("refuses what it does not know, at the caller's line", function()
    local function refuses(options, message)
      local ok, got = pcall(function() return (tcp(options)) end)
      assert.is_false(ok)
      assert.matches("tcp_spec.lua:%d+: ", got)
      assert.truthy(got:find(message, 1, true), got)
    end
    refuses({ timeout = 1 }, "cueball.connection.tcp: unknown option 'timeout'; there are connect_timeout_ms, "
      .. "keepalive_ms, nodelay, read_timeout_ms, send_timeout_ms")
    refuses({ "x" }, "cueball.connection.tcp: unknown option 1")
    refuses({ read_timeout_ms = "5" }, "cueball.connection.tcp: option 'read_timeout_ms' must be a number of "
      .. 'milliseconds from 0.001 to 86400000, not "5"')
    refuses({ send_timeout_ms = 0 }, "option 'send_timeout_ms' must be a number of milliseconds from 0.001 to 86400000, not 0")
    refuses({ keepalive_ms = 86400001 }, "option 'keepalive_ms' must be")
    refuses({ connect_timeout_ms = 0 / 0 }, "option 'connect_timeout_ms' must be")
    refuses({ nodelay = 1 }, "option 'nodelay' must be true or false, not 1")
    refuses(5, "cueball.connection.tcp: expected a table of options, got 5")
  end)
end)
