--- Values as a prompt shows them.
local show = require "cueball.console.show"

-- What Lua makes of what was shown.
local function pasted(value, limits)
  return assert(loadstring("return " .. show.value(value, limits)))()
end

describe("a value", function()
  it("is shown so that it can be pasted back", function()
    local values = { 1, -0.1, 1e300, 2 ^ 53, 0.1 + 0.2, true, false, "plain", 'with "quotes" \\ and\n\t\0\27[31m', "ä 日本", "\255\254",
      { 1, 2, { 3 } }, { name = "db", ["two words"] = 1, ["end"] = 2, [1.5] = 3, [true] = 4 }, {}, { {}, { {} } }, 5LL, 7ULL }
    for _, value in ipairs(values) do assert.same(value, pasted(value)) end
    assert.is_true(pasted(0 / 0) ~= pasted(0 / 0))
    assert.equal(math.huge, pasted(math.huge))
    assert.equal(-math.huge, pasted(-math.huge))
  end)

  it("is escaped: nothing of it acts on a terminal", function()
    assert.equal([["\x1b[31m\x9b"]], show.value "\27[31m\155")
    assert.equal([[{ ["\x1b"] = "\x1b" }]], show.value { ["\27"] = "\27" })
  end)

  it("stands in one line if it fits, else in several, short ones side by side", function()
    assert.equal('{ 1, 2, name = "db" }', show.value { 1, 2, name = "db" })
    assert.equal('{\n  1, 2,\n  first = "aaaaaaaaaa",\n  second = { "bbbbbbbbbb" },\n}',
      show.value({ 1, 2, first = "aaaaaaaaaa", second = { "bbbbbbbbbb" } }, { width = 40 }))
  end)

  it("is bounded, and says how much is left out", function()
    local list = {}
    for index = 1, 100 do list[index] = index end
    assert.equal("{ 1, 2, 3, --[[ … 97 more ]] }", show.value(list, { entries = 3 }))
    assert.is_truthy(show.value(list):find "\n  %-%- … 50 more\n}$")
    assert.equal('"aaaa" --[[ … 96 more bytes ]]', show.value(("a"):rep(100), { bytes = 4 }))
    assert.equal('"ä" --[[ … 4 more bytes ]]', show.value("äää", { bytes = 3 }))
    assert.equal("{ { { --[[ … ]] } } }", show.value({ { { { 1 } } } }, { depth = 2 }))
    local wide = {}
    for index = 1, 50 do wide[index] = list end
    local shown = show.value(wide, { entries = 1000 })
    assert.is_true(#shown < 20000, #shown)
    assert.is_truthy(shown:find("more", 1, true))
  end)

  it("may be around itself", function()
    local around = { name = "x" }
    around.self = around
    assert.equal('{ name = "x", self = <a table around this one> }', show.value(around))
    local twice = {}
    assert.equal("{ {}, {} }", show.value { twice, twice })
  end)

  it("that is no plain data says what it is", function()
    assert.equal("<function in C>", show.value(print))
    assert.is_truthy(show.value(function() end):find "^<function .*show_spec.lua:%d+>$")
    assert.equal("<a pool>", show.value(setmetatable({}, { __tostring = function() return "a pool" end })))
    assert.equal("<a table without a text>", show.value(setmetatable({}, { __tostring = function() error "no" end })))
    assert.is_truthy(show.value(coroutine.create(print)):find "^<thread: ")
  end)

  it("is not asked: __index and __pairs are not called", function()
    local asked = setmetatable({ a = 1 }, { __index = function() error "asked" end, __pairs = function() error "asked" end })
    assert.equal("{ a = 1 }", show.value(asked))
  end)

  it("may be described by who shows it", function()
    local limits = { describe = function(value) return type(value) == "table" and value.is_task and "a task" or nil end }
    assert.equal("{ <a task>, 1 }", show.value({ { is_task = true }, 1 }, limits))
  end)
end)

describe("several values", function()
  it("have commas between them, and nil counts", function()
    assert.equal('nil, "x", nil', show.list(3, { nil, "x", nil }))
    assert.equal("", show.list(0, {}))
  end)
end)
