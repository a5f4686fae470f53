--- Long texts, in pieces or kept.
local random = require "cueball.random"
local writers = require "cueball.monitor.writer"

describe("a writer", function()
  it("gives pieces of 64 KiB at most, unless one text is longer, and in their order", function()
    local pieces, expected = {}, {}
    local writer = writers.new(function(piece) pieces[#pieces + 1] = piece end)
    local function put(text)
      writer:put(text)
      expected[#expected + 1] = text
    end
    for number = 1, 3000 do
      put(("%05d "):format(number):rep(number % 17))
      writer:line("a", "b", ("c"):rep(number % 5), number, tostring)
      expected[#expected + 1] = "ab" .. ("c"):rep(number % 5) .. number .. "\n"
    end
    put(("x"):rep(100000))
    put "end"
    writer:flush()
    writer:flush()
    assert.is_true(table.concat(expected) == table.concat(pieces))
    for index, piece in ipairs(pieces) do assert.is_true(#piece <= 65536 or #piece == 100000, index) end
    assert.is_true(#pieces > 3)
  end)

  it("keeps all where nobody takes pieces", function()
    local writer, whole = writers.kept()
    assert.equal("", whole())
    for _ = 1, 300 do writer:put(("y"):rep(1001)) end
    writer:line("a", "", "", 7, tostring)
    assert.is_true(("y"):rep(300300) .. "a7\n" == whole())
  end)

  it("writes numbers without losing a digit of whole ones", function()
    for _, number in ipairs { 0, 1, 9, 10, 999, 1000, 1001, 65536, 999999, 1000000, 123456789, 2 ^ 53, -1, -1000, 1234567890123456 } do
      local writer, whole = writers.kept()
      writer:number(number)
      assert.equal(("%.0f"):format(number), whole())
    end
    local writer, whole = writers.kept()
    writer:number(0.5)
    writer:put " "
    writer:number(1 / 3)
    writer:put " "
    writer:number(1e300)
    assert.equal("0.5 0.33333333333333 1e+300", whole())
  end)

  it("writes times, which have six decimals, or seven halfway between two, as they are", function()
    local draw = random.from(7)
    local function check(number)
      local writer, whole = writers.kept()
      writer:number(number)
      assert.equal(number, tonumber(whole()), whole())
      assert.is_nil(whole():find "0$", whole())
    end
    for _, units in ipairs { 1, 5, 10, 99, 100, 999, 1000, 1001, 9999, 10000, 10001, 100000, 1234567, 9999999 } do
      for _, whole in ipairs { 0, 1, 999, 1000, 999999 } do check((whole * 1e7 + units) / 1e7) end
    end
    for _ = 1, 10000 do check((math.floor(draw() * 10 ^ (1 + draw() * 11)) * 10 + 5) / 1e7) end
  end)

  it("gives back large memory, and can be written to again", function()
    local writer, whole = writers.kept()
    for round = 1, 3 do
      for _ = 1, 300 do writer:put(("z"):rep(1001)) end
      assert.equal(300300, #whole(), round)
      writer:clear()
      assert.equal("", whole())
    end
    writer:put "again"
    assert.equal("again", whole())
  end)
end)
