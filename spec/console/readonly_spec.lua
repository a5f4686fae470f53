--- What a reader of a console can reach, and use: each attack is typed at a seat, and the program is as it was.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local seat = require "cueball.console.seat"
local until_true = require "spec.support.until_true"

local shown
local AMPLE_MS, SHORT_MS = 20000, 50 -- what is not to be ended by it, on a busy machine; what is
local WAITS_MS = 1000                -- what waits for longer, or for others

local function sit(allow, budget_ms)
  return seat.new {
    host = host, allow = allow or "read", who = "spec", budget_ms = budget_ms or AMPLE_MS,
    output = function(words, kind) shown[#shown + 1] = (kind == "error" and "! " or "") .. words end,
  }
end

-- What one seat shows for these lines.
local function typed(lines, allow, budget_ms)
  shown = {}
  host.run(function()
    local one = sit(allow, budget_ms)
    for line in lines:gmatch "[^\n]+" do one:run(line) end
    one:close()
  end)
  return table.concat(shown, "\n")
end

local function refused(line, pattern)
  local words = typed(line)
  assert.matches("^! ", words, line)
  assert.matches(pattern, words, line)
end

local function is_ended(line, allow)
  assert.matches("^! input 1:1: the command ran for more than 50 ms without an end", typed(line, allow, SHORT_MS), line)
end

local STRING = string

local function is_whole()
  assert.equal(STRING, getmetatable("").__index)
  assert.is_nil((debug.gethook()))
  assert.equal(300000, #("x"):rep(300000))
end

describe("a reader at a console", function()
  after_each(is_whole)

  it("has Lua, and variables of his own", function()
    assert.equal("3\n\"ab1\"\n3", typed '1 + 2\n"a" .. "b" .. 1\nlocal x = _1\nx')
    assert.equal('"XXX", 2', typed '("x"):rep(3):gsub("x", "X"), 2')
    assert.equal("a\tnil\ttable", typed 'print("a", nil, {})')
    assert.equal("{ 1, 2, n = 5 }", typed "{ 1, 2, n = 5 }")
  end)

  it("has nothing of the program", function()
    for name in ("require load loadstring loadfile dofile getfenv setfenv getmetatable setmetatable rawget rawset rawequal newproxy module "
      .. "coroutine debug ffi io package jit collectgarbage cueball xpcall gcinfo"):gmatch "%S+" do
      assert.equal("", typed(name), name)
      assert.equal("", typed("_G." .. name), name)
    end
    assert.equal("", typed "os.execute\nos.exit\nos.getenv\nos.remove\nstring.dump\nmath.randomseed")
    refused("console {}", "attempt to call global 'console'")
    assert.equal("! there is no command :reload; :help lists them", typed ":reload cueball")
    refused("load(string.char(27, 76))", "attempt to call global 'load'")
    refused(string.char(27) .. "LJ\2", "attempt to load chunk with wrong mode")
  end)

  it("is told why what changes something does nothing", function()
    local why = " changes something, and this console is for looking only: the program offers no more (allow = \"write\")"
    for name in ("set pause resume renew drain restore kill"):gmatch "%S+" do
      assert.equal(("! nil, %q, \"read_only\""):format(name .. why), typed(name .. " {}"), name)
      assert.equal("! :" .. name .. why, typed(":" .. name .. " x=1"))
      assert.is_nil(typed(":help"):find(":" .. name .. " ", 1, true))
    end
    shown = {}
    host.run(function()
      local one = sit()
      assert.same({}, (one:complete("paus", 5)))
      one:close()
    end)
  end)

  it("has no names of ours among those that are completed", function()
    host.run(function()
      local one = sit()
      assert.same({ { text = "_G" }, { text = "_VERSION" } }, (one:complete("_", 1)))
      assert.same({}, (one:complete("_ENV_joint.", 11)))
      assert.same({ { text = "_G" }, { text = "_VERSION" } }, (one:complete("_G._", 4)))
      one:close()
    end)
  end)

  it("changes no function that others use", function()
    typed 'string.format = nil\nstring.rep = function() return "mine" end\n_G.print = nil\npools = nil\ntable.insert = nil'
    assert.equal(STRING.format, string.format)
    assert.equal("function", type(table.insert))
    assert.equal('"xx"', typed 'string.rep("x", 2)\n')
  end)

  it("gets copies: what he does to them changes nothing", function()
    host.run(function()
      local pool = cueball.pool { name = "copied", resolver = cueball.resolver.static { "127.0.0.1:1" },
        connect = function() return {} end, max_connections = 3 }
      typed 'x = pools { pool = "copied" }\nx[1].pool = "other"\ny = backends {}\ny[1].key = 5\nz = settings {}\nz[1].value = 77'
      assert.equal('"copied"', typed 'pools { pool = "copied" }[1].pool')
      assert.equal("copied", pool.name)
      assert.equal("127.0.0.1:1", pool:backends()[1].key)
      pool:stop()
    end)
  end)

  it("ends no program with a loop: each is over in its time", function()
    for _, line in ipairs {
      "while true do end", "repeat until false", "for i = 1, 1e15 do end", "local function f() return f() end f()",
      "pcall(function() while true do end end)", "while true do pcall(function() while true do end end) end",
      "while true do pcall(error) end", "table.sort({ 3, 1, 2 }, function() while true do end end)",
      '("x"):gsub(".", function() while true do end end)', "while true do pools() end", "while true do pcall(pools, 5) end",
      "for _ in next, setmetatable or {} do end while true do end", "goto a ::a:: goto a",
    } do
      local began = host.now()
      is_ended(line)
      assert.is_true(host.now() - began < 5e9, line)
    end
  end)

  it("takes no memory without an end", function()
    for _, line in ipairs {
      '("x"):rep(1e9)', 'string.rep("x", 1e9)', 'string.rep("x", 1e9, "y")', 's = "x" while true do s = s .. s end',
      's = ("x"):rep(200000) s = s .. s .. s .. s',
      't = {} for i = 1, 1000 do t[i] = ("x"):rep(1000) end table.concat(t)',
      '("x"):rep(200000):gsub("x", ("y"):rep(1000))', '("x"):rep(1000):gsub("x", function() return ("y"):rep(1000) end)',
      'string.format(("%s"):rep(50), ' .. ('("x"):rep(100000), '):rep(49) .. "1)",
    } do
      refused(line, "a string may have 262144 bytes at most in this console")
    end
    refused("t = {} while true do t[#t + 1] = { 1, 2, 3 } end", "the command")
    refused("unpack({}, 1, 1e7)", "unpack: at most 200 values at a time")
    refused('("x"):rep(1000):byte(1, -1)', "string.byte: at most 200 bytes at a time")
    assert.equal('""', typed 'string.rep("", 1e15)')
    refused("table.insert({}, -1e9, 1)", "table.insert: this place is outside of the list")
    refused("table.remove({ 1 }, -1e9)", "table.remove: this place is outside of the list")
    assert.equal('"c,a", "c"',
      typed 't = { "a", "b" } table.insert(t, 1, "c") table.remove(t) return table.concat(t, ","), table.remove(t, 1)')
  end)

  it("does not have the joint of `..` for himself", function()
    refused("do local _ENV_joint = '' x = 'a' .. 'b' end", "the name _ENV_joint is taken")
    refused('k = "_ENV" k = k .. "_joint" _G[k] = ""', "this name is taken")
    assert.equal('"a..b", "..", "a-..-b"', typed '"a..b", "..", "a-" .. ".." .. "-b" -- a .. b')
    assert.equal("6", typed "(function(...) return select('#', ...) end)(1, 2, 3, 4, 5, [[..]])")
    refused("{} .. 'x'", "attempt to concatenate a table value")
    refused("'x' .. nil", "attempt to concatenate a nil value")
  end)

  it("has no pattern that takes minutes", function()
    refused('("a"):rep(3000):find(("a*"):rep(10) .. "b")', "this pattern may take too long on a text of 3000 bytes")
    refused('("a"):rep(60):match(("a?"):rep(60) .. ("a"):rep(60))', "may take too long")
    refused('string.gsub(("("):rep(20000), "%b()", "")', "may take too long")
    refused('for x in ("a"):rep(5000):gmatch ".-b" do end', "may take too long")
    assert.equal('"key", "value"', typed '("key = value"):match "^(%w+)%s*=%s*(%w+)$"')
    assert.equal("2", typed '(("a.b"):find(".", 1, true))')
  end)

  it("has no search, and no comparison, that takes minutes", function()
    local LONG = 's = ("a"):rep(255000) p = ("a"):rep(60000) .. "b" '
    for _, line in ipairs {
      LONG .. "s:match(p)", LONG .. "s:find(p)", LONG .. 's:find("[" .. p .. "]")', LONG .. 's:find("%f[" .. p .. "]")',
      LONG .. "s:find(p, 1, true)",
      '("a"):rep(27):match(("a?"):rep(27) .. ("a"):rep(28))', '("a"):rep(3000):match "(a*)%1b"',
    } do
      refused(line, "may take too long")
    end
    assert.equal("200001, 200006", typed '(("a"):rep(200000) .. "needle"):find("needle", 1, true)')
    assert.equal('"0-12"', typed '(("a"):rep(2000) .. "0-12"):match "%d%-%d%d$"')
  end)

  it("is ended also where each step is short and in C", function()
    for _, step in ipairs { 's:match(p)', 's:find(p)', 's:gsub(p, "")', "for x in s:gmatch(p) do end",
      's:find(("a"):rep(7000) .. "b", 1, true)' } do
      is_ended('s = ("a"):rep(255000) p = ("a"):rep(38) .. "b" ' .. (step .. " "):rep(100))
    end
    is_ended "t = {} for i = 1, 9000 do t[i] = -i end while true do table.sort(t) end"
    assert.equal("1, 1500", typed "t = {} for i = 1, 1500 do t[i] = (i * 7) % 1501 end table.sort(t) return t[1], t[1500]")
  end)

  it("cannot hide `..` behind a line's end", function()
    for _, line in ipairs { '-- \rs = ("a"):rep(200000) s = s .. s', 'x = "\\\r\ns" s = ("a"):rep(200000) s = s .. s y = ""',
      'x = "\\z\ns" s = ("a"):rep(200000) s = s .. s y = ""' } do
      shown = {}
      host.run(function() sit():run(line) end)
      assert.matches("a string may have 262144 bytes at most", table.concat(shown, "\n"), line)
    end
  end)

  it("has nothing foreseen that takes seconds", function()
    host.run(function()
      local pool = cueball.pool { name = "planned", resolver = cueball.resolver.static { "127.0.0.1:1" },
        connect = function() return {} end }
      assert.matches("max_connections: 10000 at most can be foreseen here",
        typed 'plan { pool = "planned", max_connections = 1e6, spares = 1e6 }')
      assert.matches("add: 1000 backends at most",
        typed 'plan { pool = "planned", add = (function() local t = {} for i = 1, 1001 do t[i] = "x" end return t end)() }')
      pool:stop()
    end)
  end)

  it("hides nothing from what a session may keep", function()
    for _, line in ipairs {
      'for i = 1, 20 do string[i] = ("x"):rep(99999) .. i end',
      'do local t = {} function f() for i = 1, 20 do t[#t + 1] = ("x"):rep(99999) .. i end end end f()',
      'do local a = {} for i = 1, 20000 do a[i] = i end local g = function() return a end function f() return g end end',
    } do
      assert.matches("the variables of this session took too much memory: they are forgotten$", typed(line), line)
    end
    assert.equal("0", (typed('for i = 1, 20 do string[i] = ("x"):rep(99999) .. i end\n#string'):match "[^\n]*$"))
    refused('j = "_ENV" table.insert(_G[j .. "_joint"], 1)', "this table cannot be changed")
  end)

  it("has lines that go on compiled so often, and no longer", function()
    for _, input in ipairs { "x =\n" .. ("1 +\n"):rep(15000) .. "(]\n:help", ("1 +\n"):rep(15000) .. "1 1" } do
      shown = {}
      local began = host.now()
      host.run(function() sit():run(input) end)
      assert.matches("this is too long: give it in several pieces", table.concat(shown, "\n"))
      assert.is_true(host.now() - began < 10e9)
    end
  end)

  it("sees so much, and how much more there is", function()
    local words = typed 'for i = 1, 300 do print(("x"):rep(1000)) end'
    assert.is_true(#words < 70000)
    assert.matches("… %d+ more bytes$", words)
    assert.matches("too large to be shown", typed "t = {} for i = 1, 20000 do t[i] = i end return t")
    assert.matches("the variables of this session took too much memory: they are forgotten$",
      typed "t = {} for i = 1, 20000 do t[i] = i end")
    assert.equal("", ((typed "t = {} for i = 1, 20000 do t[i] = i end\nt"):gsub("^! the variables[^\n]*\n?", "")))
    assert.matches("%-%- … 150 more", typed "t = {} for i = 1, 200 do t[i] = i end return t")
    assert.equal("! the result is too large to be shown, or kept; choose a part of it\n"
      .. "! the variables of this session took too much memory: they are forgotten",
      typed "a = {} b = a for i = 1, 9000 do b.x = {} b = b.x end return a")
  end)

  it("is heard by nobody's hook, and leaves none", function()
    local count = 0
    finally(function() debug.sethook() end)
    debug.sethook(function() count = count + 1 end, "", 1000)
    assert.equal("2", typed "1 + 1")
    assert.is_function((debug.gethook()))
    assert.is_true(count > 0)
    debug.sethook()
  end)
end)

describe("a writer at a console", function()
  after_each(is_whole)

  it("has the program's globals, and what waits is waited for", function()
    _G.spec_console_value = 41
    assert.equal("42", typed("spec_console_value + 1", "write"))
    assert.equal("true", typed('require("cueball").sleep(1200)', "write", WAITS_MS))
    typed("spec_console_value = 7", "write")
    assert.equal(41, _G.spec_console_value)
    _G.spec_console_value = nil
  end)

  it("is ended in a loop, but not while he waits or others work", function()
    is_ended("while true do end", "write")
    is_ended('require("cueball").sleep(5) while true do end', "write")
    host.run(function()
      local is_over = false
      local other = host.spawn(function()
        while not is_over do
          local stop = host.now() + 200e6
          while host.now() < stop do end
          host.sleep(1)
        end
      end)
      assert.equal("true", typed('require("cueball").sleep(1500)', "write", WAITS_MS))
      is_over = true
      until_true(function() return other.is_done end)
    end)
  end)

  it("has a verb under its name only where the program has nothing there", function()
    _G.pools = "the program's"
    assert.equal('"the program\'s"', typed("pools", "write"))
    assert.equal('"function"', typed("type(console.pools)", "write"))
    _G.pools = nil
    assert.equal('"function"', typed("type(pools)", "write"))
  end)
end)
