--- The simulated host's network: servers, faults, and the cosocket API on it. Nothing here waits in real time.
local sim = require "cueball.host.sim"
local town = require "spec.support.sim_world"
local assert_trace, connect, said = town.assert_trace, town.connect, town.said

local world

local function open(options)
  world = town.open(options)
  return world
end

before_each(function() open() end)

describe("the network", function()
  it("echoes after one latency each way", function()
    local server = world.server("10.0.0.1", 5432, { connect_delay = 3, latency = 10, reply_delay = 100 })
    world.run(function()
      local sock = connect()
      assert.equal(5, sock:send { "he", { "llo" } })
      said(sock:receive(5))
      assert.equal(1, server.connections)
      sock:close()
      assert.equal(1, server.connections)
      world.sleep(10)
      assert.equal(0, server.connections)
      assert.equal(1, server.accepted)
    end)
    assert_trace [[
      [   3] connect: 1
      [ 123] hello]]
  end)

  it("refuses where nobody listens", function()
    world.server("10.0.0.1", 5432)
    world.run(function() connect(5433) connect(5432, nil, "10.0.0.2") connect(nil, nil, "unix:/no") end)
    assert_trace [[
      [   0] connect: connection refused
      [   0] connect: connection refused
      [   0] connect: connection refused]]
    assert.same({}, world.leaks())
  end)

  it("reaches unix: addresses", function()
    world.server("unix:/tmp/db", nil, { banner = "hi\n" })
    world.run(function() said(connect(nil, nil, "unix:/tmp/db"):receive()) end)
    assert_trace "[   0] connect: 1\n[   0] hi"
  end)

  it("lets connects hang that an unreachable host does not answer, until it can be reached", function()
    world.server("10.0.0.1", 5432)
    world.unreachable "10.0.0.1"
    world.spawn(connect, 5432, 50)
    world.spawn(connect, 5432, 500)
    world.spawn(connect, 9999, 500)
    world.at(100, function() world.unreachable("10.0.0.1", false) end)
    world.advance(200)
    assert_trace [[
      [  50] connect: timeout
      [ 100] connect: 1
      [ 100] connect: connection refused]]
  end)

  it("holds what is under way to a host that becomes unreachable, in order", function()
    world.server("10.0.0.1", 5432)
    world.at(10, function() world.unreachable "10.0.0.1" end)
    world.at(50, function() world.unreachable("10.0.0.1", false) end)
    world.run(function()
      local sock = connect()
      world.sleep(20)
      for index = 1, 5 do sock:send(index) end
      said(sock:receive(5))
    end)
    assert_trace "[   0] connect: 1\n[  50] 12345"
  end)

  it("calls the hooks of the behaviour", function()
    world.server("10.0.0.1", 5432, {
      banner = "welcome\n",
      on_connect = function(connection)
        connection.count = 0
        world.trace("on_connect %d", connection.id)
      end,
      reply = function(data, connection)
        connection.count = connection.count + 1
        return data ~= "quiet" and ("%d: %s\n"):format(connection.count, data) or nil
      end,
      on_close = function(connection) world.trace("on_close %d after %d", connection.id, connection.count) end,
    })
    world.run(function()
      local sock = connect()
      said(sock:receive())
      sock:send "quiet"
      sock:send "loud"
      said(sock:receive())
      sock:close()
      world.sleep(1)
    end)
    assert_trace [[
      [   0] on_connect 1
      [   0] connect: 1
      [   0] welcome
      [   0] 2: loud
      [   0] on_close 1 after 2]]
  end)

  it("refuses, hangs and resets as the behaviour says", function()
    local server = world.server("10.0.0.1", 5432, { refuse = true })
    world.run(function()
      connect()
      server:set { refuse = false, hang = true }
      connect(5432, 20)
      server:set { hang = false, reset = true, latency = 5 }
      local sock = connect()
      sock:send "x"
      said(sock:receive())
      assert.equal(0, server.connections)
      assert.equal(1, server.accepted)
    end)
    assert_trace [[
      [   0] connect: connection refused
      [  20] connect: timeout
      [  20] connect: 1
      [  30] connection reset by peer]]
    assert.same({}, world.leaks())
  end)

  it("accepts and closes", function()
    world.server("10.0.0.1", 5432, { accept_then_close = true, close_after = 7, banner = "par", latency = 1, connect_delay = 1 })
    world.run(function() said(connect():receive()) end)
    assert_trace [[
      [   1] connect: 1
      [   9] closed after par]]
  end)

  it("ends a connection from the server's side, orderly or not, what was sent before arriving first", function()
    world.server("10.0.0.1", 5432, { reply = function(data, connection)
      connection:send "bye"
      connection[data](connection)
      connection:send "not any more"
    end })
    world.run(function()
      for _, how in ipairs { "close", "reset" } do
        local sock = connect()
        sock:send(how)
        said(sock:receive "*a")
        sock:close()
      end
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] bye
      [   0] connect: 1
      [   0] connection reset by peer after bye]]
  end)

  it("tells a client that writes to a closed connection", function()
    world.server("10.0.0.1", 5432, { accept_then_close = true, latency = 1 })
    world.run(function()
      local sock = connect()
      world.sleep(10)
      said(sock:send "one")
      world.sleep(10)
      said(sock:send "two")
    end)
    assert_trace [[
      [   0] connect: 1
      [  10] 3
      [  20] connection reset by peer]]
  end)

  it("keeps replies in the order of the requests, whatever the delays", function()
    world.server("10.0.0.1", 5432, { reply_delay = { 0, 50 }, latency = { 0, 20 } })
    world.run(function()
      local sock, sent = connect(), {}
      for index = 1, 100 do
        sent[index] = ("%03d"):format(index)
        sock:send(sent[index])
        world.sleep(1)
      end
      assert.equal(table.concat(sent), sock:receive(300))
    end)
    assert.is_true(world.time_ms() > 100 and world.time_ms() < 190)
  end)

  it("keeps a socket usable after a timeout", function()
    world.server("10.0.0.1", 5432, { reply_delay = 30 })
    world.run(function()
      local sock = connect(5432, 20)
      sock:send "late\n"
      said(sock:receive())
      said(sock:receive())
    end)
    assert_trace "[   0] connect: 1\n[  20] timeout\n[  30] late"
  end)

  it("pauses for a client that does not read, and loses nothing", function()
    world.server("10.0.0.1", 5432, { reply = function() return ("x"):rep(100000) end })
    world.run(function()
      local sock = connect()
      for _ = 1, 20 do sock:send "more" end
      assert.equal("x", sock:receive(1))
      world.sleep(100)
      assert.equal(2000000 - 1, #sock:receive(2000000 - 1))
      sock:close()
    end)
  end)

  it("passes large data and reconnects on the same socket", function()
    local server = world.server("10.0.0.1", 5432)
    world.run(function()
      local sock, data = connect(), ("0123456789"):rep(300000)
      assert.equal(3000000, sock:send(data))
      assert.is_true(sock:receive(3000000) == data)
      assert.equal(1, sock:connect("10.0.0.1", 5432))
      sock:send "again"
      assert.equal("again", sock:receive(5))
      assert.equal(1, server.connections)
      assert.equal(2, server.accepted)
      sock:close()
    end)
  end)

  it("brings nothing from a connection that was closed, not even to the next one of the same socket", function()
    world.server("10.0.0.1", 5432, { latency = 10 })
    world.run(function()
      local sock = connect()
      sock:send "old"
      world.sleep(15)
      sock.transport:write("x", function() world.trace "never" end)
      assert.equal(1, sock:connect("10.0.0.1", 5432))
      sock:send "new"
      said(sock:receive(3))
    end)
    assert_trace "[   0] connect: 1\n[  35] new"
  end)

  it("tells a watcher at rest", function()
    local server = world.server("10.0.0.1", 5432)
    world.run(function()
      local sock = connect()
      sock:watch(world.trace)
      world.sleep(10)
      server:kill()
      world.sleep(10)
      assert.same({ nil, "connection reset by peer", "lost" }, { sock:is_fit() })
      sock:close()
    end)
    assert_trace "[   0] connect: 1\n[  10] connection reset by peer"
  end)

  it("refuses behaviours and addresses that are none", function()
    for message, given in pairs {
      ["server: unknown field refused"] = { refused = true },
      ["server: refuse: expected a probability from 0 to 1, false or true, got 2"] = { refuse = 2 },
      ["server: latency: expected a time in ms from 0, {min, max}, quantiles as { p50 = 2, p99 = 40 }, or a function, got -1"] = {
        latency = -1,
      },
      ["server: reply: expected a function or false, got x"] = { reply = "x" },
    } do
      assert.has_error(function() world.server("10.0.0.1", 1, given) end, message)
    end
    assert.has_error(function() world.server("10.0.0.1", 1, { latency = { 2, 1 } }) end)
    assert.has_error(function() world.server("10.0.0.1", 0) end, "server: expected a port from 1 to 65535, got 0")
    assert.has_error(function() world.server("unix:/x", 1) end, "server: a unix: address has no port")
    local server = world.server("10.0.0.1", 1)
    assert.has_error(function() world.server("10.0.0.1", 1) end, "server: there is one at 10.0.0.1:1 already")
    assert.has_error(function() server:set { hangs = 1 } end, "server: unknown field hangs")
    assert.has_error(function() world.faults { reply = 1 } end, "faults: unknown field reply")
    assert.has_error(function() sim.new { sead = 1 } end, "sim.new: unknown option sead")
    assert.has_error(function() sim.new(1) end, "sim.new: expected a table of options, got 1")
    assert.has_error(function() sim.new { seed = 0.5 } end, "sim.new: seed: expected a whole number from 0 to 2^53-1, got 0.5")
  end)
end)

describe("a server", function()
  local server

  before_each(function() server = world.server("10.0.0.1", 5432) end)

  it("that stops refuses connects and keeps what it has, until it starts again", function()
    world.run(function()
      local sock = connect()
      server:stop()
      connect()
      sock:send "still\n"
      said(sock:receive())
      server:start()
      connect()
      assert.equal(2, server.connections)
      server:stop { reset = true }
      assert.equal(0, server.connections)
      said(sock:receive())
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] connect: connection refused
      [   0] still
      [   0] connect: 1
      [   0] connection reset by peer]]
  end)

  it("that is killed resets and refuses, and reset_all only resets", function()
    world.run(function()
      local a, b = connect(), connect()
      server:reset_all()
      said(a:receive())
      said(b:receive())
      local c = connect()
      server:kill()
      said(c:receive())
      connect()
      assert.same({ 0, 3 }, { server.connections, server.accepted })
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] connect: 1
      [   0] connection reset by peer
      [   0] connection reset by peer
      [   0] connect: 1
      [   0] connection reset by peer
      [   0] connect: connection refused]]
  end)

  it("resets its connections in the order of accepting", function()
    local expected = {}
    for index = 1, 50 do
      expected[index] = ("[   0] %d reset"):format(index)
      world.spawn(function()
        local sock = world.tcp()
        sock:connect("10.0.0.1", 5432)
        sock:receive()
        world.trace("%d reset", index)
      end)
    end
    world.advance(0.5)
    server:reset_all()
    world.advance(0.1)
    assert_trace(table.concat(expected, "\n"))
  end)

  it("that is frozen does nothing until it thaws", function()
    server:set { reply = function(data) world.trace "replies" return data end }
    local sock
    world.spawn(function()
      sock = connect(5432, 1000)
      server:freeze()
      sock:send "hello"
      said(sock:receive(5))
    end)
    world.at(10, function() world.spawn(connect, 5432, 20) end)
    world.at(20, function() world.spawn(connect, 5432, 200) end)
    world.at(100, function() server:thaw() end)
    world.advance(100)
    world.advance(1)
    assert_trace [[
      [   0] connect: 1
      [  30] connect: timeout
      [ 100] replies
      [ 100] connect: 1
      [ 100] hello]]
  end)

  it("that is frozen learns of closes when it thaws, and of nothing when it is killed", function()
    world.run(function()
      local a, b = connect(), connect()
      server:freeze()
      a:close()
      world.sleep(5)
      assert.equal(2, server.connections)
      server:thaw()
      assert.equal(1, server.connections)
      server:freeze()
      world.spawn(connect)
      world.sleep(5)
      server:kill()
      assert.equal(0, server.connections)
      said(b:receive())
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] connect: 1
      [  10] connect: connection refused
      [  10] connection reset by peer]]
  end)

  it("never hears of a client that gave up before", function()
    server:set { connect_delay = 50 }
    world.run(function() connect(5432, 10) world.sleep(100) end)
    assert.equal(0, server.accepted)
    assert_trace "[  10] connect: timeout"
  end)
end)

describe("faults", function()
  local function count(times, how)
    local tally = {}
    world.run(function()
      for _ = 1, times do
        local name = how()
        tally[name] = (tally[name] or 0) + 1
      end
    end)
    return tally
  end

  local function request()
    local sock = world.tcp()
    sock:settimeout(50)
    local ok, err = sock:connect("10.0.0.1", 5432)
    if ok then ok, err = sock:send "x" end
    if ok then ok, err = sock:receive(1) end
    sock:close()
    return ok and "fine" or err
  end

  before_each(function() world.server("10.0.0.1", 5432) end)

  it("strike all servers with the probability given", function()
    for fault, err in pairs { refuse = "connection refused", hang = "timeout", reset = "connection reset by peer", slow = "timeout" } do
      world.faults { [fault] = 0.25, slow_ms = { 60, 100 } }
      local tally = count(1000, request)
      assert.is_true(tally[err] > 200 and tally[err] < 300, fault)
      assert.equal(1000, tally[err] + tally.fine, fault)
    end
  end)

  it("end", function()
    world.faults { refuse = true }
    assert.same({ ["connection refused"] = 10 }, count(10, request))
    world.faults(false)
    assert.same({ fine = 10 }, count(10, request))
    open { faults = { refuse = true } }
    world.server("10.0.0.1", 5432)
    assert.same({ ["connection refused"] = 1 }, count(1, request))
  end)
end)
