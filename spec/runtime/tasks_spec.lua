--- require "cueball.runtime" in a state that runs a loop: claims in tasks wait in a mailbox, and the loop goes on.
local cueball = require "cueball"
local runtime = require "cueball.runtime"
local shell = require "spec.support.shell"
local support = require "spec.support.app"
local uv = require "luv"

describe("cueball.runtime in a task", function()
  local app, pool

  local function settled(idle)
    return support.settled(pool, idle)
  end

  before_each(function()
    app = support.start(support.LINES)
    pool = assert(runtime.pool "lines")
    settled(2)
  end)

  after_each(function() app:free() end)

  it("lets the loop go on while claims wait, first come, first served", function()
    local order, released = {}, 0
    cueball.run(function()
      local first, second = assert(pool:claim()), assert(pool:claim())
      for number = 1, 20 do
        cueball.spawn(function()
          local lease = assert(pool:claim())
          order[#order + 1] = number
          cueball.sleep(1)
          lease:release()
          released = released + 1
        end)
      end
      cueball.sleep(20)   -- it goes on, though everybody waits
      assert.equal(20, pool:stats().waiting)
      assert.equal(0, #order)
      first:release()
      second:release()
      while released < 20 do cueball.sleep(1) end
    end)
    for number = 1, 20 do assert.equal(number, order[number]) end
    settled(2)
  end)

  it("refuses as elsewhere", function()
    cueball.run(function()
      local first, second = assert(pool:claim()), assert(pool:claim())
      local lease, message, name = pool:claim { timeout_ms = 5 }
      assert.is_nil(lease)
      assert.equal("claim_timeout", name)
      assert.is_truthy(message:find "^claim timed out after %d+%.?%d* ms %(0 ahead, 2 busy%)", message)
      assert.equal("claim_timeout", select(3, pool:try_claim()))
      first:release()
      second:release()
    end)
  end)

  it("talks over a socket that stands on the descriptor", function()
    cueball.run(function()
      local done = 0
      for number = 1, 10 do
        cueball.spawn(function()
          local answer = pool:with(function(lease)
            local sock = assert(lease:socket())
            assert.equal(sock, lease:socket())
            sock:send("task " .. number .. "\n")
            return sock:receive()
          end)
          assert.equal("task " .. number, answer)
          done = done + 1
        end)
      end
      while done < 10 do cueball.sleep(1) end
    end)
    settled(2)
    local stats = pool:stats()
    assert.same({ 2, 0, 0 }, { stats.opened, stats.leases_closed, stats.leases_failed }) -- none was closed
  end)

  it("closes what is unfit, and holds a timeout against the backend", function()
    local before = pool:stats()
    cueball.run(function()
      local lease = assert(pool:claim())
      local sock = lease:socket()
      sock:send "two\nlines\n"
      assert.equal("two", sock:receive())
      assert.is_true(lease:release())   -- "lines" was read, and not received
      lease = assert(pool:claim())
      sock = lease:socket()
      sock:settimeout(1)
      sock:send "no line"
      assert.same({ nil, "timeout" }, { (select(1, sock:receive(100))), (select(2, sock:receive(100))) })
      assert.is_true(lease:release())
      assert.same({ nil, "closed" }, { sock:receive() })
      assert.equal("stale", select(3, lease:socket()))
    end)
    settled(2)
    local stats = pool:stats()
    assert.same({ 1, 1 }, { stats.leases_closed - before.leases_closed, stats.leases_failed - before.leases_failed })
  end)

  it("leaves the queue if it is killed, and closes what it has in pool:with", function()
    local before = pool:stats()
    cueball.run(function()
      local first, second = assert(pool:claim()), assert(pool:claim())
      local waiting = cueball.spawn(function() pool:claim() end)
      assert.equal(1, pool:stats().waiting)
      cueball.host().kill(waiting)
      assert.equal(0, pool:stats().waiting)
      local answered = cueball.spawn(function() pool:claim() end)
      first:release()          -- it is answered, and does not know yet
      cueball.host().kill(answered)
      local inside = cueball.spawn(function() pool:with(function() cueball.sleep(60000) end) end)
      while pool:stats().busy < 2 do cueball.sleep(1) end
      cueball.host().kill(inside)
      second:release()
    end)
    settled(2)
    assert.equal(1, pool:stats().leases_closed - before.leases_closed)
  end)

  it("is refused when the runtime stops", function()
    cueball.run(function()
      local first, second = assert(pool:claim()), assert(pool:claim())
      local name
      cueball.spawn(function() name = select(3, pool:claim()) end)
      app:stop()
      while not name do cueball.sleep(1) end
      assert.equal("pool_stopping", name)
      assert.equal("stale", select(3, first:release()))
      assert.equal("stale", select(3, second:close()))
    end)
  end)

  it("keeps no loop alive that has nothing else to do", function()
    cueball.run(function() pool:with(function() end) end)
    uv.run()   -- returns
  end)
end)

describe("cueball.runtime in the runtime's own thread", function()
  it("waits in a task, and never blocks the thread that serves it", function()
    local path = os.tmpname()
    local app = support.start(support.LINES .. [[
      local path = ...
      local same = assert(require("cueball.runtime").pool "lines")
      local host = cueball.host()
      cueball.spawn(function()
        cueball.sleep(1)
        local first, second = assert(same:claim()), assert(same:claim())
        local outside, inside
        host.alarm(function() outside = select(3, same:claim()) end):set(0)
        cueball.spawn(function()
          inside = same:with(function(lease)
            local sock = assert(lease:socket())
            sock:send "here\n"
            return sock:receive()
          end)
        end)
        while not outside do cueball.sleep(1) end
        first:release()
        second:release()
        while not inside do cueball.sleep(1) end
        local file = io.open(path, "w")
        file:write(outside, ", ", inside, ".")
        file:close()
      end)
    ]], path)
    local told = ""
    for _ = 1, 2000 do
      told = shell.read(path)
      if told:find("%.$") then break end
      uv.sleep(5)
    end
    app:free()
    os.remove(path)
    assert.equal("deadlock, here.", told)
  end)
end)
