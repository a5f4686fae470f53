--- context.memo: what a factory has learnt in its greeting, and what it may put there. spec/nginx/factory_spec.lua has what nginx adds.
local memo = require "cueball.pool.memo"
local sim_pool = require "spec.support.sim_pool"

local RECOVERY = { default = { attempts = 2, timeout_ms = 200, delay_ms = 100, spread = 0 } }

local town, pool

-- A pool whose greeting is greet(memo, how often it was made before); its connections keep the memo.
local function open(greet, more)
  local made = 0
  pool = town:open({ max_connections = 2, recovery = RECOVERY, connect = {
    connect = function(_, context)
      context.memo.early = true
      local socket = context.host.tcp()
      local how, message = context.connect(socket)
      if not how then return nil, message end
      greet(context.memo, made)
      made = made + 1
      return { socket = socket, memo = context.memo, close = function(self) self.socket:close() end }
    end,
  } }, more)
  return pool
end

before_each(function() town = sim_pool.new() end)
after_each(function() town:stop() end)

describe("context.memo", function()
  it("is a table of each connection's own, empty when it opens", function()
    open(function(learnt, made)
      assert.is_nil(next(learnt))
      learnt.number = made
    end)
    town:advance(1)
    local one, other = pool:claim(), pool:claim()
    assert.same({ 0, 1 }, { one.connection.memo.number, other.connection.memo.number })
    one:close()
    town:advance(1)
    local third = pool:claim()
    assert.equal(2, third.connection.memo.number)
    other:release()
    third:release()
  end)

  it("fails the attempt that fills it with other things, or with more, and closes what was opened", function()
    open(function(learnt, made)
      if made == 0 then learnt.socket = {} end
    end, { max_connections = 1 })
    town:advance(1)
    assert.matches("context.memo takes strings, numbers and booleans under names, not a table under \"socket\"", pool:last_error())
    assert.equal(0, pool:stats().idle)
    town:advance(200)
    assert.same({ 1, 2 }, { pool:stats().idle, pool:stats().attempts })
    pool:stop()
    town:advance(10)
    assert.same({}, town.world.leaks())
  end)

  it("leaves the close of such a connection to its factory, which may say goodbye, and wait", function()
    local heard, ended = {}, nil
    town:stop()
    town = sim_pool.new { latency = 10, reply = function(data)
      heard[#heard + 1] = data
      return "farewell\n"
    end }
    town:open { max_connections = 1, recovery = RECOVERY, connect = {
      connect = function(_, context)
        local socket = context.host.tcp()
        assert(context.connect(socket))
        context.memo.socket = socket
        return socket
      end,
      close = function(socket)
        assert(socket:send "goodbye\n")
        ended = { socket:receive() }
        socket:close()
      end,
    } }
    town:advance(50)
    assert.same({ "goodbye\n" }, heard)
    assert.same({ "farewell" }, ended)
    assert.same({}, town.world.servers["10.0.0.1:7000"]:list())
  end)

  it("takes strings, numbers and booleans, so many of them", function()
    local many = {}
    for index = 1, 32 do many["n" .. index] = index end
    assert.is_nil(memo.fault(many))
    assert.is_nil(memo.fault { version = "16.2", is_primary = true, pid = 7, text = ("x"):rep(4000) })
    many.one_more = true
    assert.equal("context.memo has 33 members, and may have 32", memo.fault(many))
    assert.equal("context.memo has 4097 bytes of names and texts, and may have 4096", memo.fault { a = ("x"):rep(4096) })
    assert.matches("not a function under \"f\"", memo.fault { f = print })
    assert.matches("not a string under 1", memo.fault { "listed" })
    assert.equal('context.memo must stay a table, not "x"', memo.fault "x")
  end)
end)
