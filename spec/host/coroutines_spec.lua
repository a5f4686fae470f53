--- Coroutines that a task makes: a wait in one of them passes up to the task.
local raw_resume = coroutine.resume   -- replaced or not: what was there when this file was read
local collect = require "spec.support.collect"
local sim = require "cueball.host.sim"
local uv = require "cueball.host.uv"
local server = require "spec.support.server"

local world

before_each(function() world = sim.new { seed = 1 } end)

-- Numbers from 1 to count, one each ms.
local function slowly(host, count)
  return coroutine.wrap(function()
    for number = 1, count do
      host.sleep(1)
      coroutine.yield(number, number * 2)
    end
  end)
end

describe("a coroutine in a task", function()
  it("waits, and what it yields comes to its caller", function()
    for _, host in ipairs { world, uv } do
      local seen = {}
      host.run(function()
        for number, double in slowly(host, 3) do seen[#seen + 1] = number + double end
      end)
      assert.same({ 3, 6, 9 }, seen)
    end
    assert.equal(3, world.time_ms())
  end)

  it("waits in coroutines within coroutines, and other tasks go on meanwhile", function()
    local function nested(depth)
      if depth == 0 then
        world.sleep(10)
        world.trace "deep"
        return "deep"
      end
      local co = coroutine.create(nested)
      local ok, result = coroutine.resume(co, depth - 1)
      assert.is_true(ok)
      return result
    end
    world.spawn(function() world.sleep(5) world.trace "other" end)
    assert.equal("deep", world.run(nested, 20))
    assert.equal("[   5] other\n[  10] deep", world.trace_text())
  end)

  it("gives arguments, results and errors as ever", function()
    world.run(function()
      local co = coroutine.create(function(...)
        world.sleep(1)
        local more = { coroutine.yield(select("#", ...), ...) }
        world.sleep(1)
        error { #more }
      end)
      assert.same({ true, 3, nil, 2, nil }, { coroutine.resume(co, nil, 2, nil) })
      local ok, thrown = coroutine.resume(co, 1, 2)
      assert.same({ false, { 2 } }, { ok, thrown })
      assert.equal("dead", coroutine.status(co))
      assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
      local wrapped = coroutine.wrap(function() world.sleep(1) error("oops", 0) end)
      assert.same({ false, "oops" }, { pcall(wrapped) })
    end)
    assert.has_error(function() coroutine.wrap(5) end)
    assert.has_error(function() coroutine.resume(5) end)
  end)

  it("has waiters, sockets and time limits as the task has", function()
    world.server("10.0.0.1", 80)
    local waiter = world.waiter()
    world.at(5, function() waiter:wake("a", nil, "c") end)
    world.run(coroutine.wrap(function()
      local got = { coroutine.wrap(function() return waiter:wait() end)() }
      assert.same({ "a", nil, "c" }, { got[1], got[2], got[3] })
      local lines = coroutine.wrap(function()
        local sock = world.tcp()
        sock:connect("10.0.0.1", 80)
        sock:send "one\ntwo\n"
        coroutine.yield(sock:receive())
        coroutine.yield(sock:receive())
        sock:settimeout(10)
        coroutine.yield(select(2, sock:receive()))
        sock:close()
      end)
      local seen = {}
      for line in lines do seen[#seen + 1] = line end
      assert.same({ "one", "two", "timeout" }, seen)
    end))
  end)

  it("cannot be resumed by another task while it waits", function()
    world.run(function()
      local co = coroutine.create(function() world.sleep(10) return "done" end)
      world.spawn(function()
        world.sleep(5)
        assert.same({ false, "cannot resume a coroutine that waits" }, { coroutine.resume(co) })
      end)
      assert.same({ true, "done" }, { coroutine.resume(co) })
    end)
  end)

  it("goes with its task when that is killed, and is collected", function()
    local kept = setmetatable({}, { __mode = "k" })
    local task = world.spawn(function()
      local co = coroutine.create(function()
        local sock = world.tcp()
        kept[sock] = true
        world.sleep(1000)
        world.trace "never"
      end)
      kept[co] = true
      coroutine.resume(co)
    end)
    world.advance(1)
    world.kill(task)
    task = nil -- luacheck: ignore
    world.advance(2000)
    assert.equal("", world.trace_text())
    collect()
    assert.is_nil(next(kept))
  end)
end)

describe("where nothing can wait", function()
  local WORDS = "coroutines_spec.lua:%d+: nothing may wait here: inside a function that C code calls"

  it("that is told, and the task goes on", function()
    world.run(function()
      for _, way in ipairs {
        function(fn) table.sort({ 2, 1 }, fn) end,
        function(fn) string.gsub("x", "x", fn) end,
        function(fn) table.sort({ 2, 1 }, function() coroutine.wrap(fn)() end) end,
      } do
        assert.matches(WORDS, select(2, pcall(way, function() world.sleep(1) end)))
        assert.matches(WORDS, select(2, pcall(way, function() world.waiter():wait() end)))
      end
      world.sleep(1)
    end)
    assert.equal(1, world.time_ms())
    assert.same({}, world.leaks())
  end)

  it("in a coroutine that is resumed by what was there before, too", function()
    local is_replaced = raw_resume ~= coroutine.resume
    local resume = is_replaced and raw_resume or require("cueball.host.coroutines").raw_resume
    world.run(function()
      local ok, message = resume(coroutine.create(function() world.sleep(1) end))
      assert.is_false(ok)
      assert.matches(WORDS, message)
    end)
  end)

  it("outside of tasks coroutines are what they were", function()
    local co = coroutine.create(function() world.sleep(1) end)
    local ok, message = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("only a task may wait", message)
    local seen = {}
    for number in coroutine.wrap(function() for n = 1, 3 do coroutine.yield(n) end end) do seen[#seen + 1] = number end
    assert.same({ 1, 2, 3 }, seen)
  end)
end)

describe("on libuv", function()
  it("an iterator reads a socket", function()
    local before = server.open_handles()
    uv.run(function()
      local seen = {}
      for number in slowly(uv, 5) do seen[number] = true end
      assert.equal(5, #seen)
    end)
    assert.equal("", server.left_open(before))
  end)
end)
