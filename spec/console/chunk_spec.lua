--- What was typed, as a function.
local chunk = require "cueball.console.chunk"

local function nothing() end

local function compile(text, environment)
  return chunk.compile(text, "input", environment or {}, nothing)
end

describe("an input", function()
  it("that is an expression gives its values, nil among them", function()
    local made, is_expression = compile "1 + 1, nil, 'x', nil"
    assert.is_true(is_expression)
    assert.equal(4, select("#", made()))
    assert.same({ 2, nil, "x" }, { made() })
    assert.equal(0, select("#", compile "-- nothing"()))
  end)

  it("that is a statement does it", function()
    local globals = {}
    local made, is_expression = compile("x = 1 y = x + 1", globals)
    assert.is_false(is_expression)
    made()
    assert.equal(2, globals.y)
    assert.equal(7, compile "return 7"())
  end)

  it("that is not finished is told from one that is wrong", function()
    for _, text in ipairs { "f(", "for i = 1, 2 do", "x = [[a", "x = {", "function f()", "if x then", "x =", "1 +", "repeat", "--[[ a" } do
      assert.same({ nil, "incomplete" }, { compile(text) }, text)
    end
    for _, text in ipairs { "x y", ")", "for", "x = = 1", 'x = "abc', "end" } do
      if text ~= "for" then assert.is_truthy(select(2, compile(text)):find "^input:1: ", text) end
    end
  end)

  it("keeps its locals", function()
    local globals = {}
    for _, text in ipairs { "local a = 1", "local b, c", "local function f() return a end", "local d, e = 4, 5" } do
      compile(text, globals)()
    end
    assert.same({ 1, 4, 5 }, { globals.a, globals.d, globals.e })
    globals.a = 9
    assert.equal(9, globals.f()) -- shared with what follows
    assert.is_nil(globals.b)
  end)

  it("keeps locals of blocks and functions what they are", function()
    for _, text in ipairs { "do local x = 1 end", "for i = 1, 2 do local x = i end", "f = function() local x = 1 end",
      "if a then local x = 1 end", "while a do local x = 1 end", "repeat local x = 1 until x" } do
      assert.equal(text, chunk.globalized(text))
    end
    assert.equal(" x = 1 do local y = 2 end  z = 3", chunk.globalized "local x = 1 do local y = 2 end local z = 3")
  end)

  it("is not misread by words in strings, comments and members", function()
    for _, text in ipairs { "x = 'local y'", "x = [==[ local y ]] ]==]", "-- local x", "--[[ local\nx ]] y = 1", "t['end'] = 1",
      "x = t.local_", 'x = "a\\" local y"' } do
      assert.equal(text, chunk.globalized(text))
    end
    assert.equal(" a = t.e  b = 1", chunk.globalized "local a = t.e local b = 1")
    assert.equal(" a = nil; b = 1", chunk.globalized "local a; b = 1")
  end)

  it("names the line of an error, of calls too", function()
    local made = compile("\nerror 'no'", { error = error })
    assert.equal("input:2: no", select(2, pcall(made)))
    made = compile("(function() local x = nil; return x.y end)()", {})
    assert.is_truthy(select(2, pcall(made)):find "^input:1: ")
  end)

  it("is told to who adopts it", function()
    local adopted = {}
    chunk.compile("1", "input", {}, function(made) adopted[#adopted + 1] = made end)
    chunk.compile("x = 1", "input", {}, function(made) adopted[#adopted + 1] = made end)
    assert.equal(2, #adopted)
    assert.equal("function", type(adopted[1]))
  end)
end)
