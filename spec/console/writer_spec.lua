--- What a writer of a console may use of the program's time and memory: each attack is typed, and the program goes on.
local host = require "cueball.host.uv"
local registry = require "cueball.pool.registry"
local seat = require "cueball.console.seat"

local shown, logged

local PLENTY_MS = 5000 -- for what is to end by itself: a budget counts the time of other processes, too

-- What a seat shows for this input.
local function typed(input, budget_ms, values)
  shown, logged = {}, {}
  host.log_to(function(_, message) logged[#logged + 1] = message end)
  finally(function() host.log_to(nil) end)
  host.run(function()
    local one = seat.new {
      host = host, allow = "write", who = "spec", budget_ms = budget_ms or PLENTY_MS, values = values,
      output = function(words, kind) shown[#shown + 1] = (kind == "error" and "! " or "") .. words end,
    }
    one:run(input)
    one:close()
  end)
  return table.concat(shown, "\n")
end

local function is_ended(line, pattern, budget_ms)
  local began = host.now()
  local words = typed(line, budget_ms)
  assert.matches("^! ", words, line)
  assert.matches(pattern, words, line)
  assert.is_nil((debug.gethook()), line)
  assert.is_true(host.now() - began < 60e9, line)
end

local TIME, MEMORY = "the command ran for more than 50 ms without an end", "the command took more than 64 MiB of memory"

describe("a writer's command is ended", function()
  for _, line in ipairs {
    "while true do end", "pcall(function() while true do end end)", "while true do pcall(function() while true do end end) end",
    "while true do pcall(error) end", "local function f() return f() end f()", "repeat until false", "goto a ::a:: goto a",
    -- in a coroutine
    "coroutine.wrap(function() while true do end end)()",
    "coroutine.resume(coroutine.create(function() while true do end end)) while true do end",
    "f = coroutine.wrap(function() while true do coroutine.yield() end end) while true do f() end",
    "while true do coroutine.wrap(function() while true do end end)() end",
    -- in a metamethod
    "x = setmetatable({}, { __index = function() while true do end end }) return x.y",
    "x = setmetatable({}, { __tostring = function() while true do end end }) print(x)",
    "x = setmetatable({}, { __add = function() while true do end end }) return x + 1",
    "x = setmetatable({}, { __concat = function() while true do end end }) return x .. 1",
    "x = setmetatable({}, { __eq = function() while true do end end }) return x == setmetatable({}, getmetatable(x))",
    "x = setmetatable({}, { __call = function() while true do end end }) return x()",
    -- in what C calls
    "table.sort({ 3, 1, 2 }, function() while true do end end)", '("x"):gsub(".", function() while true do end end)',
    "xpcall(error, function() while true do end end)",
    -- in what is loaded
    "load 'while true do end' ()", "loadstring('while true do end', '@some/file.lua')()",
    -- when what is short, and in C, comes back
    's = ("a"):rep(200000) while true do s:find("b", 1, true) end', 'while true do ("x"):rep(100000) end',
    -- after a wait
    "require('cueball').sleep(1) while true do end",
    "require('cueball').sleep(1) coroutine.wrap(function() require('cueball').sleep(1) while true do end end)()",
  } do
    it("in: " .. line, function() is_ended(line, TIME, 50) end)
  end

  for _, line in ipairs {
    "s = 'x' while true do s = s .. s end", "local s = 'x' while true do s = s .. s end",
    "t = {} t[1] = ('x'):rep(9e7) while true do end",
  } do
    it("for what it takes: " .. line, function()
      is_ended(line, MEMORY)
      collectgarbage()
      collectgarbage()
    end)
  end

  it("for what functions of the program take, when they come back", function()
    local words = typed("busy() for i = 1, 1000 do end", 50, { busy = function()
      local stop = host.now() + 60e6
      while host.now() < stop do end
    end })
    assert.matches(TIME, words)
  end)

  it("and not for the time that others take while it waits", function()
    assert.equal("true", typed("local wait = require('cueball').sleep for i = 1, 5 do wait(300) end return true", 1000))
  end)
end)

describe("a task that a writer spawns", function()
  it("is ended too, also when it has waited, and the next command runs", function()
    for _, line in ipairs {
      "require('cueball').spawn(function() require('cueball').sleep(1) while true do end end) return require('cueball').sleep(100)",
      "require('cueball').spawn(function() require('cueball').spawn(function() require('cueball').sleep(1) while true do end end) end) "
        .. "return require('cueball').sleep(100)",
      "require('cueball').host().spawn(load \"require('cueball').sleep(1) while true do end\") return require('cueball').sleep(100)",
    } do
      assert.equal("true", typed(line, 500), line)
      assert.matches("the task ran for more than 500 ms without waiting", table.concat(logged, "\n"), line)
      assert.is_nil((debug.gethook()), line)
      assert.equal("2", typed "1 + 1")
    end
  end)

  it("has its time anew whenever it has waited", function()
    assert.equal("true", typed([[
      local cueball = require "cueball"
      spec_rounds = 0
      cueball.spawn(function()
        for round = 1, 8 do
          local stop = cueball.host().now() + 300e6
          while cueball.host().now() < stop do end
          cueball.sleep(1)
          spec_rounds = round
        end
      end)
      for _ = 1, 6000 do
        if spec_rounds == 8 then return true end
        cueball.sleep(10)
      end]], 2000))
    assert.equal("", table.concat(logged, "\n"):match "ran for more.*" or "")
  end)

  it("is not what a pool does for itself", function()
    assert.equal("true", typed [[
      local cueball = require "cueball"
      spec_pool = cueball.pool { name = "typed", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = function() return {} end }
      return (spec_pool:ready())
      ]])
    host.run(function()
      for _, pool in ipairs(registry.pools()) do
        if pool.name == "typed" then pool:stop() end
      end
    end)
    assert.is_nil(table.concat(logged, "\n"):find "ran for more")
  end)
end)
