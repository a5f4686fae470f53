--- What a server of the simulated network can be made to do: data cut and joined, its own limit, silent failover, sends that block.
local town = require "spec.support.sim_world"
local assert_trace, connect, said = town.assert_trace, town.connect, town.said

local world

local function open(options)
  world = town.open(options)
  return world
end

before_each(function() open() end)

describe("data on its way", function()
  -- The pieces in which an answer of 26 letters arrives.
  local function pieces_of(seed, behaviour)
    open { seed = seed }
    behaviour.reply = function() return "abcdefghijklmnopqrstuvwxyz" end
    world.server("10.0.0.1", 5432, behaviour)
    local pieces = {}
    world.run(function()
      local sock = connect()
      sock:send "?"
      local size = 0
      while size < 26 do
        local piece = sock:receiveany(100)
        pieces[#pieces + 1] = piece
        size = size + #piece
      end
    end)
    return pieces
  end

  it("is cut as the seed has it, and stays in order", function()
    local seen = {}
    for seed = 1, 30 do
      local pieces = pieces_of(seed, { cut = true })
      assert.equal("abcdefghijklmnopqrstuvwxyz", table.concat(pieces))
      assert.is_true(#pieces > 1)
      assert.same(pieces, pieces_of(seed, { cut = true }))
      seen[#pieces] = true
    end
    assert.is_true(seen[2] and (seen[26] or seen[25] or seen[24] or seen[13]))
    assert.equal(1, #pieces_of(1, {}))
  end)

  it("is cut by the faults of the world too, both ways", function()
    open { faults = { cut = true } }
    local requests = {}
    world.server("10.0.0.1", 5432, { reply = function(data) requests[#requests + 1] = data end })
    world.run(function()
      connect():send "hello"
      world.sleep(1)
    end)
    assert.is_true(#requests > 1)
    assert.equal("hello", table.concat(requests))
  end)

  it("is held back and joined with what comes next, for join_ms at most", function()
    local function reply(data) world.trace(data) end
    world.server("10.0.0.1", 5432, { join = true, join_ms = 5, latency = 1, connect_delay = 0, reply = reply })
    world.run(function()
      local sock = connect()
      sock:send "a"
      sock:send "b"
      world.sleep(2)
      sock:send "c"
      world.sleep(10)
      sock:send "d"
      sock:close()
      world.sleep(10)
    end)
    assert_trace [[
      [   0] connect: 1
      [   6] abc
      [  13] d]]
  end)

  it("is joined by chance: some pieces wait, all arrive in order", function()
    local got = {}
    world.server("10.0.0.1", 5432, { join = 0.5, cut = 0.3, reply = function(data) got[#got + 1] = data end })
    local sent = {}
    world.run(function()
      local sock = connect()
      for index = 1, 200 do
        sent[index] = ("<%d>"):format(index)
        sock:send(sent[index])
      end
      world.sleep(10)
    end)
    assert.equal(table.concat(sent), table.concat(got))
    local joined = 0
    for _, piece in ipairs(got) do joined = joined + (piece:find ">." and 1 or 0) end
    assert.is_true(joined > 20)
  end)

  it("comes to a server as whole requests where it says what they are", function()
    local by_length = function(data) return #data >= 1 and #data > tonumber(data:sub(1, 1)) and tonumber(data:sub(1, 1)) + 1 or nil end
    for _, case in ipairs {
      { "line", { "one\n", "two\n", "three\n" } },
      { 2, { "ab", "cd", "ef" } },
      { by_length, { "3abc", "0", "1x" } },
    } do
      open { seed = 3, faults = { cut = true, join = 0.5 } }
      local requests = {}
      world.server("10.0.0.1", 5432, { request = case[1], reply = function(data) requests[#requests + 1] = data end })
      world.run(function()
        local sock = connect()
        sock:send { table.concat(case[2]), case[1] == "line" and "un" or "" }
        world.sleep(50)
      end)
      assert.same(case[2], requests)
    end
  end)

  it("refuses a request that is longer than what came", function()
    world.server("10.0.0.1", 5432, { request = function() return 10 end })
    assert.has_error(function() world.run(function() connect():send "x" world.sleep(1) end) end,
      "request: expected a length from 1 to 1 or nil, got 10")
  end)
end)

describe("a time", function()
  local function delays(count, time)
    world.server("10.0.0.1", 5432, { latency = 0, connect_delay = 0, reply_delay = time })
    local list = {}
    world.run(function()
      local sock = connect()
      for index = 1, count do
        local at = world.time_ms()
        sock:send "x"
        sock:receive(1)
        list[index] = world.time_ms() - at
      end
    end)
    table.sort(list)
    return list
  end

  it("comes by quantiles", function()
    local list = delays(2000, { p0 = 1, p50 = 2, p99 = 100, ["p99.9"] = 200, p100 = 1000 })
    assert.is_true(list[1] >= 1 and math.abs(list[1000] - 2) < 0.5, list[1000])
    assert.is_true(list[1980] > 90 and list[1980] < 160, list[1980])
    assert.is_true(list[2000] > 150 and list[2000] <= 1000)
  end)

  it("has 0 below the least quantile, and none above the highest", function()
    local list = delays(1000, { p90 = 10 })
    assert.is_true(list[1] < 1 and math.abs(list[1000] - 10) < 1e-6 and math.abs(list[950] - 10) < 1e-6)
  end)

  it("comes from a function, with the chance of the seed", function()
    local list = delays(100, function(random) return 5 + random(0, 10) end)
    assert.is_true(list[1] >= 5 and list[1] < 7 and list[100] < 15 and list[100] > 13)
    local count = 0
    world.nameserver("10.0.0.53:53", { latency = function() count = count + 1 return 3 end })
    world.run(function()
      local waiter = world.waiter()
      world.dns.ask("10.0.0.53:53", "a.example", 1, 1000, function() waiter:wake() end)
      waiter:wait()
    end)
    assert.equal(2, count)
  end)

  it("is refused if it is none", function()
    for _, time in ipairs { { p101 = 1 }, { q50 = 1 }, { p50 = -1 }, { p50 = 5, p99 = 1 }, {}, { 1, 2, 3 }, "1" } do
      assert.has_error(function() world.server("10.0.0.1", 5432, { latency = time }) end)
    end
    world.server("10.0.0.1", 5432, { connect_delay = function() return -1 end })
    assert.has_error(function() world.run(connect) end)
  end)
end)

describe("a server's limit of connections", function()
  local function try_three(how)
    how.max_connections, how.latency, how.connect_delay = 2, 1, 1
    world.server("10.0.0.1", 5432, how)
    local first
    world.run(function()
      first = connect()
      connect()
      said(connect(5432, 50):receive "*a")
      first:close()
      world.sleep(10)
      connect()
    end)
  end

  it("refuses the next connect, until one has gone", function()
    try_three {}
    assert_trace [[
      [   1] connect: 1
      [   2] connect: 1
      [   3] connect: connection refused
      [   3] closed
      [  14] connect: 1]]
  end)

  it("accepts it, says why and closes", function()
    try_three { when_full = "close", full_text = "too many clients" }
    assert_trace [[
      [   1] connect: 1
      [   2] connect: 1
      [   3] connect: 1
      [   4] too many clients
      [  15] connect: 1]]
  end)

  it("or lets it hang", function()
    try_three { when_full = "hang" }
    assert_trace [[
      [   1] connect: 1
      [   2] connect: 1
      [  52] connect: timeout
      [  52] closed
      [  63] connect: 1]]
  end)
end)

describe("a server", function()
  local server

  before_each(function() server = world.server("10.0.0.1", 5432) end)

  it("that another takes over for is silent to those of before, and answers new ones", function()
    world.run(function()
      local old = connect()
      old:settimeout(50)
      server:fail_over()
      assert.equal(0, server.connections)
      said(old:send "x")
      said(old:receive(1))
      local new = connect()
      new:send "y"
      said(new:receive(1))
      old:close()
      assert.equal(1, server.connections)
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] 1
      [  50] timeout
      [  50] connect: 1
      [  50] y]]
  end)

  it("that another takes over for resets those of before once they send", function()
    world.run(function()
      local old = connect()
      old:settimeout(50)
      server:fail_over { reset = true }
      said(old:receive(1))
      old:send "x"
      said(old:receive(1))
    end)
    assert_trace [[
      [   0] connect: 1
      [  50] timeout
      [  50] connection reset by peer]]
  end)

  it("that is slow answers late, and in order", function()
    server:set { slow = true, slow_ms = 30, latency = 0 }
    world.run(function()
      local sock = connect(5432, 10)
      sock:send "a"
      said(sock:receive(1))
      said(sock:receive(1) or sock:receive(1) or sock:receive(1))
    end)
    assert_trace "[   0] connect: 1\n[  10] timeout\n[  30] a"
  end)

  it("closes a connection on which nothing comes for idle_timeout", function()
    server:set { idle_timeout = 20, latency = 0 }
    world.run(function()
      local sock = connect()
      for _ = 1, 3 do
        world.sleep(15)
        sock:send "x"
        said(sock:receive(1))
      end
      said(sock:receive(1))
      assert.equal(0, server.connections)
    end)
    assert_trace [[
      [   0] connect: 1
      [  15] x
      [  30] x
      [  45] x
      [  65] closed]]
  end)

  it("that half-closes a connection takes what the client sends on", function()
    local got
    server:set { reply = function(data, connection)
      if data == "bye" then
        connection:send "last"
        connection:half_close()
        connection:send "lost"
      else
        got = data
      end
    end }
    world.run(function()
      local sock = connect()
      sock:send "bye"
      said(sock:receive "*a")
      said(sock:send "more")
      world.sleep(1)
      assert.equal(1, server.connections)
      assert.equal("more", got)
      said(sock:send "and more")
      sock:close()
      world.sleep(1)
      assert.equal(0, server.connections)
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] last
      [   0] 4
      [   1] 8]]
  end)
end)

describe("a send", function()
  local server, taken

  before_each(function()
    taken = 0
    local function reply(data) taken = taken + #data end
    server = world.server("10.0.0.1", 5432, { window = 1000, latency = 1, connect_delay = 0, reply = reply })
  end)

  it("blocks while more than the window lies unread", function()
    world.run(function()
      local sock = connect()
      server:list()[1]:pause()
      said(sock:send(("x"):rep(1000)))
      world.spawn(function() said(sock:send "y") end)
      world.sleep(50)
      assert.equal(0, taken)
      server:list()[1]:resume()
      world.sleep(5)
      assert.equal(1001, taken)
    end)
    assert_trace [[
      [   0] connect: 1
      [   0] 1000
      [  50] 1]]
  end)

  it("times out, and its socket is closed", function()
    world.run(function()
      local sock = connect(5432, 20)
      server:freeze()
      said(sock:send(("x"):rep(2000)))
      said(sock:send "y")
    end)
    assert_trace [[
      [   0] connect: 1
      [  20] timeout
      [  20] closed]]
    assert.same({}, world.leaks())
  end)

  it("that is blocked ends when the connection is reset", function()
    world.run(function()
      local sock = connect(5432, 1000)
      world.spawn(function() said(sock:send(("x"):rep(2000))) end)
      server:list()[1]:pause()
      world.sleep(10)
      server:reset_all()
      world.sleep(10)
    end)
    assert_trace [[
      [   0] connect: 1
      [  11] connection reset by peer]]
  end)

  it("of any size passes where the server reads, whatever the window", function()
    world.run(function()
      local sock = connect()
      sock:send(("x"):rep(3000000))
      world.sleep(1)
    end)
    assert.equal(3000000, taken)
    server:set { window = false }
    world.run(function()
      local sock = connect()
      server:freeze()
      said(sock:send(("x"):rep(3000000)))
    end)
    assert.matches("3000000$", world.trace_text())
  end)
end)
