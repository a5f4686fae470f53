--- What a socket remembers of how it was used: whether it is fit for the next claimer, and whose doing it is if not. In virtual time.
local sim = require "cueball.host.sim"
local use = require "cueball.cosocket.use"
local with = require "spec.support.with"

local RECEIVE = "a receive timed out, and its answer may still come"
local SEND = "a send timed out, and part of it may be on its way"

local world, conn

-- A server that answers "N text" with "text" after N ms, "N" with nothing, "bye text" with text and its end, and "reset" with that.
local function answer(data, connection)
  conn = connection
  for line in data:gmatch "[^\n]+" do
    local delay, text = line:match "^(%d+) ?(.*)$"
    if line == "close" then
      connection:close()
    elseif line == "reset" then
      connection:reset()
    elseif line:match "^bye" then
      connection:send(line:match "^bye (.*)$" .. "\n")
      connection:close()
    elseif text ~= "" then
      world.at(world.time_ms() + tonumber(delay), function() connection:send(text:gsub("|", "\n")) end)
    end
  end
end

local function nothing() end

-- Runs fn(socket) on a connection that is greeted by `greet`, rests, and is lent; → what is_fit says then.
local function left_by(fn, greet, behaviour)
  world = sim.new { seed = 1 }
  local all = with({ reply = answer, on_connect = function(connection) conn = connection end }, behaviour)
  world.server("10.0.0.1", 80, all)
  return world.run(function()
    local sock = world.tcp()
    sock:settimeout(100)
    assert(sock:connect("10.0.0.1", 80))
    if greet then greet(sock) end
    sock:watch(nothing)
    world.sleep(1)
    sock:unwatch()
    fn(sock)
    local verdict = { sock:is_fit() }
    sock:abort()
    return verdict
  end)
end

local function ask(sock, line)
  assert(sock:send(line .. "\n"))
  return sock:receive "*l"
end

local FIT = { true }

describe("a socket is fit after", function()
  local ways = {
    ["nothing"] = nothing,
    ["an answer"] = function(sock) assert.equal("a", ask(sock, "5 a|")) end,
    ["a receive that timed out, and one that got the answer"] = function(sock)
      assert.same({ nil, "timeout", "" }, { ask(sock, "150 late|") })
      assert.equal("late", sock:receive())
    end,
    ["a receive that timed out within an answer, and one that got the rest"] = function(sock)
      sock:send "1 ab\n150 cd\n"
      assert.same({ nil, "timeout", "ab" }, { sock:receive(4) })
      assert.equal("cd", sock:receive(2))
    end,
    ["a receiveany, and a receiveuntil, that timed out and were repeated"] = function(sock)
      sock:send "150 ab--\n"
      assert.equal("timeout", select(2, sock:receiveany(10)))
      assert.equal("ab", sock:receiveany(2))
      assert.equal("", sock:receiveuntil "--"())
      sock:send "150 ab--\n"
      local step = sock:receiveuntil "--"
      assert.equal("timeout", select(2, step()))
      assert.equal("ab", step())
    end,
  }
  for name, fn in pairs(ways) do
    it(name, function() assert.same(FIT, left_by(fn)) end)
  end

  it("a greeting whose receive timed out: the factory knows what it does", function()
    assert.same(FIT, left_by(nothing, function(sock) assert.equal("timeout", select(2, sock:receive())) end))
  end)
end)

describe("a socket with an answer under way is unfit:", function()
  local function timed_out(sock) assert.equal("timeout", select(2, ask(sock, "150 late|"))) end
  local ways = {
    ["a receive timed out"] = timed_out,
    ["a receive timed out within the answer"] = function(sock)
      sock:send "1 ab\n150 cd\n"
      assert.same({ nil, "timeout", "ab" }, { sock:receive(4) })
    end,
    ["a receiveany timed out"] = function(sock) sock:send "150 a\n" sock:receiveany(1) end,
    ["a receiveuntil timed out"] = function(sock) sock:send "150 a\n" sock:receiveuntil "--"() end,
    ["it was not got by a receive of no bytes"] = function(sock) timed_out(sock) assert.equal("", sock:receive(0)) end,
    ["something else was asked before it came"] = function(sock)
      timed_out(sock)
      assert.equal("late", ask(sock, "200 mine|"))
    end,
    ["its claimer closed it then"] = function(sock) timed_out(sock) sock:close() end,
  }
  for name, fn in pairs(ways) do
    it(name, function() assert.same({ nil, RECEIVE, "timeout" }, left_by(fn)) end)
  end

  it("a send timed out", function()
    local socket = require "cueball.cosocket.socket"
    world = sim.new { seed = 1 }
    world.run(function()
      local stuck = { connect = function(_, _, _, done) world.at(1, done) end, write = nothing, read = nothing, close = nothing }
      local sock = socket.new(world, stuck)
      sock:settimeout(100)
      assert(sock:connect("10.0.0.1", 80))
      sock:watch(nothing)
      sock:unwatch()
      assert.same({ nil, "timeout" }, { sock:send "x" })
      assert.same({ nil, SEND, "timeout" }, { sock:is_fit() })
    end)
  end)

  it("and is told to its watcher", function()
    local said
    left_by(function(sock)
      timed_out(sock)
      sock:watch(function(...) said = { ... } end)
      world.sleep(1)
    end)
    assert.same({ RECEIVE, "timeout" }, said)
  end)
end)

describe("a connection that ended is", function()
  local function twice(sock) ask(sock, "0 a|") world.sleep(1) end
  local ways = {
    { "lost", "closed", "closed by the backend before it answered", function(sock) ask(sock, "close") end },
    { "lost", "closed", "closed while its claimer waits, though it was asked before", function(sock)
      ask(sock, "150 late|")
      conn:close()
      sock:receive()
    end },
    { "lost", "connection reset by peer", "reset before it answered", function(sock) ask(sock, "reset") end },
    { "lost", "closed", "closed before anybody asked", function() conn:close() world.sleep(1) end },
    { "worn", "closed", "closed after it answered", function(sock) assert.equal("a", ask(sock, "bye a")) world.sleep(1) end },
    { "worn", "closed", "closed after it answered, and found so by its claimer", function(sock)
      assert.equal("a", ask(sock, "bye a"))
      assert.same({ nil, "closed", "" }, { sock:receive() })
      sock:close()
    end },
    { "worn", "closed", "read to its end", function(sock) sock:send "bye all\n" assert.equal("all\n", sock:receive "*a") end },
    { "worn", "closed", "closed by its claimer after an answer", function(sock) ask(sock, "0 a|") sock:close() end },
    { "unfit", "closed", "closed by its claimer before an answer", function(sock) sock:close() end },
    { "worn", "unexpected data", "left with an answer unread", function(sock) sock:send "0 a|\n" world.sleep(1) end },
    { "worn", "unexpected data", "left with an answer unread, and its end", function(sock) sock:send "bye a\n" world.sleep(1) end },
    { "unfit", "closed", "closed instead of a second answer", function(sock) twice(sock) ask(sock, "close") end },
    { "unfit", "closed", "closed within an answer", function(sock) sock:send "bye ab\n" sock:receive(4) end },
    { "unfit", "connection reset by peer", "reset after it answered", function(sock)
      ask(sock, "0 a|")
      conn:reset()
      world.sleep(1)
    end },
    { "unfit", "connected anew by its claimer", "another one", function(sock) assert(sock:connect("10.0.0.1", 80)) end },
  }
  for _, way in ipairs(ways) do
    local kind, message, name, fn = unpack(way)
    it(("%s: %s"):format(kind, name), function() assert.same({ nil, message, kind }, left_by(fn)) end)
  end

  it("lost: what the greeting got is no answer to a claimer", function()
    local function greet(sock) assert.equal("hello", ask(sock, "0 hello|")) end
    assert.same({ nil, "closed", "lost" }, left_by(function(sock) ask(sock, "close") end, greet))
  end)

  it("lost: it sends what nobody asked for, and ends, before it was ever lent", function()
    local said
    world = sim.new { seed = 1 }
    world.server("10.0.0.1", 80, { banner = "too many clients\n" })
    world.run(function()
      local sock = world.tcp()
      assert(sock:connect("10.0.0.1", 80))
      sock:watch(function(...) said = { ... } end)
      world.sleep(1)
      sock:abort()
    end)
    assert.same({ "unexpected data", "lost" }, said)
  end)
end)

describe("what is known of a connection", function()
  it("ends with it, but that its claimer connected", function()
    local known = use.new()
    use.receive_timed_out(known)
    known = use.again(known)
    assert.is_nil(use.judge(known))
    use.pooled(known)
    use.lent(known)
    assert.same({ "connected anew by its claimer", "unfit" }, { use.judge(use.again(known)) })
  end)
end)
