--- Answers as libcueball_http reads them: from a server that says what it likes, in pieces of any size. In virtual time.
local ffi = require "ffi"
local answer = require "cueball.http.answer"
local library = require "cueball.http.library"
local sim = require "cueball.host.sim"
local lib = library.lib

-- A socket that has these texts to read, one after the other, and then `message`.
local function socket_of(texts, message)
  local index = 0
  return {
    receiveany = function(_, max)
      index = index + 1
      local piece = texts[index]
      if not piece then return nil, message or "closed" end
      assert.is_true(#piece <= max)
      return piece
    end,
  }
end

local function letters_of(bytes)
  local list = {}
  for index = 1, #bytes do list[index] = bytes:sub(index, index) end
  return list
end

-- @return status, body; nil, message
local function read(bytes, limits, is_slow)
  local got, message = answer.read(socket_of(is_slow and letters_of(bytes) or { bytes }), limits)
  if not got then return nil, message end
  local body, why = got:rest()
  if not body then return nil, why end
  return got.status, body
end

local CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

describe("an answer", function()
  it("is read whole, wherever it is cut on its way", function()
    local cases = {
      ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"] = { 200, "hello" },
      ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 500 No\r\n\r\n"] = { 200, "hello" },
      ["HTTP/1.0 404\r\n\r\nuntil it closes"] = { 404, "until it closes" },
      [CHUNKED .. "5;x=\"y\"\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"] = { 200, "hello!" },
      ["HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 1\r\n\r\nx"] =
        { 201, "x" },
      ["HTTP/1.1 204 No\r\n\r\n"] = { 204, "" },
      ["HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"] = { 304, "" },
      ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] = { 200, "" },
      [CHUNKED .. "0\r\n\r\n"] = { 200, "" },
      ["HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes"] = { 101, "" },
    }
    for bytes, expected in pairs(cases) do
      assert.same(expected, { read(bytes) }, bytes)
      assert.same(expected, { read(bytes, nil, true) }, bytes)
    end
  end)

  it("has its headers by name, not those of answers before it or of trailers", function()
    local got = answer.read(socket_of {
      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" .. CHUNKED:sub(1, -3) .. "Set-Cookie: a\r\nset-cookie: b\r\nX-Empty:\r\n\r\n",
      "1\r\nx\r\n0\r\nX-Late: y\r\n\r\n",
    })
    assert.equal("x", got:rest())
    assert.same({ ["transfer-encoding"] = "chunked", ["set-cookie"] = "a, b", ["x-empty"] = "" }, got.headers)
    assert.same({ 200, 1 }, { got.status, got.minor })
  end)

  it("comes in pieces, as they are there", function()
    local got = answer.read(socket_of({ CHUNKED .. "3\r\none\r\n3\r\ntw", "o\r\n", "5\r\nthree\r\n" }, "timeout"))
    local pieces = {}
    for piece in function() return got:piece() end do pieces[#pieces + 1] = piece end
    assert.same({ "one", "tw", "o", "three" }, { pieces[1], pieces[2]:sub(1, 2), pieces[3], pieces[4] })
    assert.same({ nil, "timeout" }, { got:piece() })
    assert.same({ nil, "timeout" }, { got:rest() })
  end)

  it("is refused if it is none, is cut, or is too long", function()
    local limits = { head_max = 256, headers_max = 4, body_max = 100 }
    local cases = {
      [""] = "it closed the connection", ["+PONG\r\n"] = 'it does not speak HTTP: "+PONG"',
      ["\22\3\1\2"] = 'it does not speak HTTP: "\\22\\3\\1\\2"',
      ["HTTP/1.1 200 OK\r\nA: b"] = "the answer was cut", ["HTTP/1.1"] = "the answer was cut",
      ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] = "the answer was cut",
      [CHUNKED .. "5\r\nhello\r\n"] = "the answer was cut",
      ["HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"] = "the body is too long",
      ["HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(101)] = "the body is too long",
      [CHUNKED .. "32\r\n" .. ("x"):rep(50) .. "\r\n33\r\nx"] = "the body is too long",
      [CHUNKED .. "ffffffffffffffffff\r\n"] = "Chunk size overflow",
      [CHUNKED .. "1;" .. ("x"):rep(300)] = "what is between the pieces is too long",
      [CHUNKED .. "0\r\n" .. ("A: b\r\n"):rep(100)] = "what is between the pieces is too long",
      ["HTTP/1.1 200 OK\r\nA: " .. ("x"):rep(300)] = "the head is too long",
      ["HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(5)] = "there are too many headers",
      [("HTTP/1.1 100 Continue\r\n\r\n"):rep(100)] = "the head is too long",
      ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] = "Content-Length",
    }
    for bytes, message in pairs(cases) do
      for turn = 1, 2 do
        local status, why = read(bytes, limits, turn == 2)
        assert.is_nil(status, bytes)
        assert.is_truthy(why:find(message, 1, true), why .. " of " .. bytes)
      end
    end
  end)

  it("is read from a socket of any host, and as long as it takes", function()
    local world = sim.new { seed = 1, faults = { cut = 0.5, join = 0.5 } }
    local chunk = "186a0\r\n" .. ("x"):rep(100000) .. "\r\n"
    world.server("10.0.0.1", 80):set { reply = function(_, connection)
      connection:send(CHUNKED .. chunk:rep(3) .. "0\r\n\r\n")
    end }
    world.run(function()
      local socket = world.tcp()
      assert(socket:connect("10.0.0.1", 80))
      socket:send "GET / HTTP/1.1\r\n\r\n"
      assert.equal(300000, #assert(answer.read(socket)):rest())
      socket:close()
    end)
    world.close()
  end)

  it("is read at random without harm", function()
    math.randomseed(11)
    local parts = { "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 C\r\n\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "\r\n",
      "\n", "3\r\n", "abc", "0\r\n", "A: b\r\n", ";", "\0", "\255" }
    for _ = 1, 3000 do
      local list = {}
      for index = 1, math.random(8) do
        list[index] = ""
        for _ = 1, math.random(4) do list[index] = list[index] .. parts[math.random(#parts)] end
      end
      local got = answer.read(socket_of(list), { head_max = 128, headers_max = 3, body_max = 20 })
      local body = got and got:rest()
      assert.is_true(not body or #body <= 20)
    end
  end)

  it("has limits, and says what is wrong with them", function()
    local made = ffi.new "cueball_http *[1]"
    assert.equal(-1, lib.cueball_http_new_answer(63, 1, 0, made))
    assert.equal(-1, lib.cueball_http_new_answer(64, 1001, 0, made))
    assert.has_error(function() answer.read(socket_of {}, { head_max = 1 }) end)
  end)
end)

describe("a reader of an answer", function()
  it("is asked for nothing that it does not have", function()
    local made = ffi.new "cueball_http *[1]"
    local one, request = ffi.new "cueball_http_answer", ffi.new "cueball_http_request"
    assert.equal(0, lib.cueball_http_new_answer(64, 1, 0, made))
    assert.equal(0, tonumber(lib.cueball_http_piece_size(made[0])))
    assert.not_equal(0, lib.cueball_http_answer_of(made[0], one))
    assert.not_equal(0, lib.cueball_http_request_of(made[0], request))
    assert.equal(lib.CUEBALL_HTTP_FAILED, lib.cueball_http_closed(made[0]))
    assert.equal(lib.CUEBALL_HTTP_FAILED, lib.cueball_http_closed(made[0]))
    lib.cueball_http_free(made[0])
  end)
end)
