--- The two directions of a connection end one by one, and a socket ends with its task, as ngx_lua has it. In virtual time.
local sim = require "cueball.host.sim"
local with = require "spec.support.with"

local world, conn, got

-- it(name), with fn(sock) in a task of a world; nothing is left after it.
local function world_it(name, behaviour, fn)
  it(name, function()
    world, got = sim.new { seed = 1 }, ""
    local function note(data) got = got .. data end
    world.server("10.0.0.1", 80, with({ reply = note, on_connect = function(connection) conn = connection end }, behaviour))
    world.run(function()
      local sock = world.tcp()
      sock:settimeout(100)
      assert(sock:connect("10.0.0.1", 80))
      fn(sock)
    end)
    world.check()
  end)
end

local function results(...)
  return { n = select("#", ...), ... }
end

local CLOSED = results(nil, "closed")

describe("after the peer closed its direction", function()
  local function read_out(sock)
    world.sleep(1)
    conn:send "last"
    conn:half_close()
    assert.same(results(nil, "closed", "last"), results(sock:receive(9)))
  end

  world_it("nothing is received, and all is still sent", {}, function(sock)
    read_out(sock)
    assert.same(CLOSED, results(sock:receive()))
    assert.same(CLOSED, results(sock:receiveany(1)))
    assert.same(CLOSED, results(sock:receiveuntil "x" ()))
    assert.same(CLOSED, results(sock:setkeepalive()))
    assert.equal(5, sock:send "still")
    world.sleep(5)
    assert.equal("still", got)
    assert.same(results(1), results(sock:close()))
    assert.same(CLOSED, results(sock:close()))
  end)

  world_it("the socket is not fit, open as it is", {}, function(sock)
    sock:rest()
    sock:lend()
    read_out(sock)
    assert.same(results(nil, "closed", "worn"), results(sock:is_fit()))
    sock:close()
  end)

  world_it("it may be connected anew, and both directions work", {}, function(sock)
    read_out(sock)
    assert.equal(1, sock:connect("10.0.0.1", 80))
    assert.equal(2, sock:send "hi")
    conn:send "you\n"
    assert.equal("you", (sock:receive()))
    sock:close()
  end)
end)

describe("once both directions failed", function()
  world_it("the connection is closed, and close says so", {}, function(sock)
    world.sleep(1)
    conn:reset()
    assert.same(results(nil, "connection reset by peer", ""), results(sock:receive()))
    assert.same(results(nil, "broken pipe"), results(sock:send "x"))
    assert.same({}, { sock.is_open or nil })
    assert.same(CLOSED, results(sock:close()))
  end)
end)

describe("after a send that timed out", function()
  world_it("nothing is sent, and all is still received", { window = 0, on_connect = function(connection)
    conn = connection
    connection:pause()
  end }, function(sock)
    assert.same(results(nil, "timeout"), results(sock:send "much"))
    assert.same(CLOSED, results(sock:send "more"))
    conn:send "early\n"
    conn:resume() -- the late end of the write is taken for nothing else
    assert.equal("early", (sock:receive()))
    assert.same(results(nil, "timeout", ""), results(sock:receive()))
    assert.same(CLOSED, results(sock:setkeepalive()))
    assert.same(results(nil, "a send timed out, and part of it may be on its way", "timeout"), results(sock:is_fit()))
    assert.same(results(1), results(sock:close()))
  end)
end)

describe("a socket whose task ended", function()
  -- A task of no other, as those of callbacks are, runs fn() to its end.
  local function apart(fn)
    world.at(world.time_ms(), function() world.spawn(fn) end)
    world.sleep(20)
  end

  local function another()
    local sock = world.tcp()
    assert(sock:connect("10.0.0.1", 80))
    return sock
  end

  world_it("is closed", {}, function()
    local left
    for _ = 1, 100 do apart(function() left = another() end) end
    assert.same(CLOSED, results(left:send "x"))
    assert.equal(1, #world.leaks()) -- the socket of this task
  end)

  world_it("belongs to the task that spawned it", {}, function()
    local left
    apart(function()
      world.spawn(function() left = another() end)
      world.sleep(10)
      assert.equal(1, left:send "x")
    end)
    assert.same(CLOSED, results(left:send "x"))
  end)

  world_it("is closed though there is such a task, if its peer has closed", {}, function()
    local left
    world.spawn(function()
      left = another()
      conn:close()
      left:receive()
    end)
    world.sleep(20)
    assert.is_false(left.is_open)
  end)

  world_it("belongs to the task that waits in it", {}, function()
    local left, line
    apart(function()
      left = another()
      world.at(world.time_ms(), function() world.spawn(function() line = left:receive() end) end)
      world.sleep(0)
    end)
    conn:send "line\n"
    world.sleep(5)
    assert.equal("line", line)
    assert.is_false(left.is_open)
  end)
end)
