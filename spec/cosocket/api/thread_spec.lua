--- Threads, timers, semaphores and `ctx` of the `ngx` that client libraries are given, in virtual time.
local sim = require "cueball.host.sim"
local library = require "cueball.cosocket.library"

local world, api

before_each(function()
  world = sim.new {}
  api = select(3, library.load(world, "resty.core"))
end)

-- What is left when the program is over: nothing.
local function run(fn)
  world.run(fn)
  assert.same({}, world.leaks())
end

describe("a thread", function()
  it("runs at once, and is waited for once", function()
    run(function()
      local seen = {}
      local first = api.thread.spawn(function(a, b)
        seen[#seen + 1] = a .. b
        api.sleep(0.2)
        return 1, nil, 3
      end, "a", "b")
      assert.same({ "ab" }, seen)
      assert.equal("thread", type(first))
      assert.same({ true, 1, nil, 3 }, { api.thread.wait(first) })
      assert.equal(200, world.time_ms())
      assert.same({ nil, "already waited or killed" }, { api.thread.wait(first) })
    end)
  end)

  it("is one of several, the first of which counts", function()
    run(function()
      local function after(seconds) return api.thread.spawn(function() api.sleep(seconds) return seconds end) end
      local slow, fast = after(3), after(1)
      assert.same({ true, 1 }, { api.thread.wait(slow, fast) })
      assert.same({ true, 3 }, { api.thread.wait(slow) })
      local over = api.thread.spawn(function() return "over" end)
      assert.same({ true, "over" }, { api.thread.wait(after(1), over) })
      assert.equal(3000, world.time_ms())
      api.sleep(1)
    end)
  end)

  it("that throws is told of, and logged", function()
    run(function()
      local ok, message = api.thread.wait(api.thread.spawn(function() error("bad luck", 0) end))
      assert.same({ false, "bad luck" }, { ok, message })
    end)
    assert.matches("^cueball: thread aborted: bad luck", world.logs[1].message)
  end)

  it("is killed: its waiters hear of it, and its sockets are closed", function()
    world.server("10.0.0.1", 80)
    run(function()
      local thread = api.thread.spawn(function()
        local socket = api.socket.tcp()
        socket:connect("10.0.0.1", 80)
        socket:receive()
      end)
      api.sleep(0.1)
      local told
      api.thread.spawn(function() told = { api.thread.wait(thread) } end)
      assert.equal(1, api.thread.kill(thread))
      api.sleep(0)
      assert.same({ nil, "already waited or killed" }, told)
      assert.same({ nil, "already waited or killed" }, { api.thread.kill(thread) })
    end)
  end)

  it("ends with the task that spawned it, if that is killed, and goes on if that just ends", function()
    run(function()
      local ended = {}
      local function parent(name, seconds)
        return world.spawn(function()
          api.thread.spawn(function()
            api.sleep(1)
            ended[#ended + 1] = name
          end)
          api.sleep(seconds)
        end)
      end
      parent("of one that ended", 0.1)
      local killed = parent("of one that was killed", 10)
      world.sleep(500)
      world.kill(killed)
      world.sleep(2000)
      assert.same({ "of one that ended" }, ended)
    end)
  end)

  it("is what thread.wait and thread.kill want", function()
    run(function()
      for _, wrong in ipairs { 1, "x", {}, coroutine.create(print) } do
        assert.has_error(function() api.thread.wait(wrong) end)
        assert.has_error(function() api.thread.kill(wrong) end)
      end
      assert.has_error(function() api.thread.wait() end)
      assert.has_error(function() api.thread.spawn "x" end)
    end)
  end)
end)

describe("a timer", function()
  it("goes off once, or again and again, in tasks of its own", function()
    world.run(function()
      local seen = {}
      local function note(premature, word)
        seen[#seen + 1] = ("%d %s %s"):format(world.time_ms(), tostring(premature), word)
        api.sleep(0.15)
      end
      assert.equal(1, api.timer.at(0, note, "at once"))
      assert.same({}, seen)
      api.timer.at(0.25, note, "later")
      api.timer.every(0.1, note, "again")
      api.sleep(0.26)
      assert.same({ "0 false at once", "100 false again", "200 false again", "250 false later" }, seen)
      assert.equal(3 - 1, api.timer.running_count())
      assert.equal(1, api.timer.pending_count())
    end)
  end)

  it("that throws is logged, and the next one comes", function()
    world.run(function()
      local count = 0
      api.timer.every(0.1, function()
        count = count + 1
        error("bad luck", 0)
      end)
      api.sleep(0.35)
      assert.equal(3, count)
    end)
    assert.matches("^cueball: timer aborted: bad luck", world.logs[1].message)
  end)

  it("wants seconds and a function", function()
    for _, wrong in ipairs { { nil, print }, { math.huge, print }, { "x", print }, { 0 / 0, print }, { 1, "x" }, {} } do
      assert.has_error(function() api.timer.at(wrong[1], wrong[2]) end)
    end
    assert.has_error(function() api.timer.every(0, print) end, nil)
  end)
end)

describe("ctx", function()
  it("belongs to a task and the threads that it spawns", function()
    run(function()
      api.ctx.name = "main"
      assert.equal("main", api.thread.wait(api.thread.spawn(function() return api.ctx.name end)) and api.ctx.name)
      world.spawn(function() assert.is_nil(api.ctx.name) end)
      api.thread.spawn(function() api.ctx = { name = "changed" } end)
      assert.equal("changed", api.ctx.name)
    end)
  end)
end)

describe("a semaphore", function()
  local semaphore

  before_each(function() semaphore = library.load(world, "ngx.semaphore") end)

  it("gives what was posted, in order, and keeps the rest", function()
    run(function()
      local one, seen = semaphore.new(1), {}
      assert.is_true(one:wait(0))
      assert.same({ nil, "timeout" }, { one:wait(0) })
      assert.same({ false, "timeout" }, { one:wait(0.1) })
      assert.equal(100, world.time_ms())
      for number = 1, 3 do
        world.spawn(function()
          if one:wait(10) then seen[#seen + 1] = number end
        end)
      end
      assert.equal(-3, one:count())
      one:post(2)
      api.sleep(0)
      assert.same({ 1, 2 }, seen)
      one:post(4)
      api.sleep(0)
      assert.same({ 1, 2, 3 }, seen)
      assert.equal(3, one:count())
    end)
  end)

  it("gives nothing to those who are gone", function()
    run(function()
      local one, seen = semaphore.new(), {}
      local gone = world.spawn(function() one:wait(10) end)
      local killed_when_given
      killed_when_given = world.spawn(function() one:wait(10) end)
      world.spawn(function() seen[1] = one:wait(10) end)
      world.kill(gone)
      one:post(1) -- to the second, which is killed before it goes on
      world.kill(killed_when_given)
      api.sleep(0)
      assert.same({ true }, seen)
      assert.equal(0, one:count())
    end)
  end)

  it("refuses what is no count", function()
    assert.has_error(function() semaphore.new(-1) end)
    local one = semaphore.new()
    assert.has_error(function() one:post(0) end)
    assert.has_error(function() one.post({}, 1) end)
    assert.has_error(function() one.wait({}, 1) end)
    assert.has_error(function() world.run(function() one:wait(-1) end) end)
  end)
end)
