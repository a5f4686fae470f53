--- What send() makes of what it is given, as ngx_lua does it: so tells a real nginx.
local bytes = require "cueball.cosocket.bytes"

local function sent(data)
  return assert(bytes.of(data))
end

local function refused(data)
  local wire, message = bytes.of(data)
  assert.is_nil(wire)
  return message
end

describe("send takes", function()
  it("numbers, booleans and nil as text", function()
    assert.same({ "12", "1.5", "1e+15", "0", "true", "false", "nil" },
      { sent(12), sent(1.5), sent(1e15), sent(-0), sent(true), sent(false), sent(nil) })
  end)

  it("arrays, and arrays in them", function()
    assert.equal("a1b0\r\n", sent { "a", { 1, {}, { "b", -0, "\r\n" } }, "" })
    assert.equal("", sent {})
  end)

  it("an array however it came about", function()
    local backwards = {}
    for index = 10, 1, -1 do backwards[index] = index % 10 end
    assert.equal("1234567890", sent(backwards))
  end)

  it("what a table has itself, and not what a metatable says of it", function()
    assert.equal("a", sent(setmetatable({ "a" }, { __index = { "b", "c" }, __tostring = function() return "d" end })))
  end)
end)

describe("send refuses", function()
  it("arrays with holes, which it would send a part of", function()
    local HOLE = "bad data type nil found"
    assert.equal(HOLE, refused { "a", nil, "c" })
    assert.equal(HOLE, refused { "a", [4] = "d" })
    assert.equal(HOLE, refused { "a", { [2] = "c" } })
    assert.equal(HOLE, refused { [2 ^ 53] = "far" })
  end)

  it("tables whose keys are not those of an array", function()
    local wrong = {
      { "a", key = "v" }, { [true] = "a" }, { "a", [1.5] = "b" }, { "a", [0] = "b" }, { "a", [-1] = "b" }, { "a", { key = "v" } },
    }
    for _, data in ipairs(wrong) do
      assert.equal("non-array table found", refused(data))
    end
  end)

  it("anything else in an array", function()
    assert.equal("bad data type boolean found", refused { "a", true })
    assert.equal("bad data type function found", refused { { print } })
    assert.equal("bad data type cdata found", refused { 1ULL })
  end)
end)
