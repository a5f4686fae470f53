--- The lines of consoles: how they come out of pieces, and how long they may be and take. A stream of our own, and its own time.
local protocol = require "cueball.console.protocol"

-- A peer that sends these pieces, so many milliseconds apart; then it is silent.
local function lines_of(pieces, apart_ms, limit)
  local at_ms, sent, limit_ms = 0, 0, nil
  local stream = {}
  function stream.receiveany()
    if limit_ms and (limit_ms < apart_ms or not pieces[sent + 1]) then
      at_ms = at_ms + limit_ms
      return nil, "timeout"
    end
    at_ms, sent = at_ms + apart_ms, sent + 1
    if not pieces[sent] then return nil, "closed" end
    return pieces[sent]
  end
  local lines = protocol.lines(stream, limit or 100, function(_, ms) limit_ms = ms end, function() return at_ms * 1e6 end)
  return lines, function() return at_ms end
end

describe("the lines of a console", function()
  it("come out of pieces of any size", function()
    local lines = lines_of({ "a", "b\r\nc\n\nd", "e\n" }, 1)
    assert.same({ "ab", "c", "", "de" }, { lines:next(), lines:next(), lines:next(), lines:next(1000) })
    assert.same({ nil, "closed" }, { lines:next() })
  end)

  it("may be so long, however they come", function()
    assert.same({ nil, "too long" }, { lines_of({ ("x"):rep(101) }, 1):next() })
    assert.same({ nil, "too long" }, { lines_of({ ("x"):rep(60), ("x"):rep(60) }, 1):next() })
    assert.equal(100, #(lines_of({ ("x"):rep(60), ("x"):rep(40) .. "\n" }, 1):next()))
  end)

  it("take so long as a whole, also where a byte comes now and then", function()
    local pieces = {}
    for index = 1, 90 do pieces[index] = "x" end
    local lines, at_ms = lines_of(pieces, 400)
    assert.same({ nil, "timeout" }, { lines:next(1000) })
    assert.equal(1000, at_ms())
    pieces[3] = "y\n"
    assert.equal("xxy", (lines:next(1000)))
  end)
end)
