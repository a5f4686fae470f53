--- Requests as libcueball_http reads them: whole, in pieces, and what is none.
local ffi = require "ffi"
local library = require "cueball.http.library"
local reader = require "cueball.http.reader"
local target = require "cueball.http.target"
local lib = library.lib

local function read(text, head_max, headers_max)
  return reader.new(head_max or 1024, headers_max or 16):feed(text)
end

describe("a reader of requests", function()
  it("reads a request, and gives what is in it", function()
    local request = read "GET /plan?pool=db&remove=a%3A1&remove=b HTTP/1.1\r\nHost: localhost:9190\r\nX-Empty:\r\nAccept: */*\r\n\r\n"
    assert.equal("GET /plan", request.method .. " " .. request.path)
    assert.same({ "db" }, request.arguments:all "pool")
    assert.same({ "a:1", "b" }, request.arguments:all "remove")
    assert.same({ "pool", "remove" }, request.arguments:names())
    assert.same({ host = "localhost:9190", ["x-empty"] = "", accept = "*/*" }, request.headers)
    assert.is_true(request.keeps_alive)
    assert.is_false(request.has_body)
  end)

  it("reads it byte by byte to the same", function()
    local one, text = reader.new(1024, 16), "\r\nHEAD /a%20b HTTP/1.0\r\nHost: x\r\nx-a:  1\r\nX-A: 2\r\n\r\n"
    local request
    for index = 1, #text do
      assert.is_nil(request)
      request = one:feed(text:sub(index, index))
    end
    assert.equal("HEAD /a b", request.method .. " " .. request.path)
    assert.equal("1, 2", request.headers["x-a"])
    assert.equal(2, request.counts["x-a"])
    assert.is_false(request.keeps_alive)
  end)

  it("reads several that come together, one after the other", function()
    local one = reader.new(256, 4)
    local first = one:feed "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3"
    assert.equal("/1", first.path)
    assert.equal("/2", one:feed().path)
    assert.is_nil(one:feed())
    assert.is_false(one:is_between())
    assert.equal("/3", one:feed(" HTTP/1.1\r\n\r\n").path)
    assert.is_true(one:is_between())
    for number = 1, 2000 do assert.equal("/" .. number, one:feed(("GET /%d HTTP/1.1\r\nA: b\r\n\r\n"):format(number)).path) end
  end)

  it("tells of a body, and reads nothing behind it", function()
    for _, announcement in ipairs { "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: Upgrade\r\nUpgrade: websocket" } do
      local one = reader.new(1024, 16)
      local request = one:feed(("POST / HTTP/1.1\r\n%s\r\n\r\nhello"):format(announcement))
      assert.is_true(request.has_body, announcement)
      assert.is_false(request.keeps_alive)
      local none, message, status = one:feed()
      assert.same({ nil, "there was a body, which is not read", 400 }, { none, message, status })
    end
  end)

  it("refuses what is no request", function()
    local function refuses(text, expected_status, expected)
      local none, message, status = read(text)
      assert.is_nil(none)
      assert.equal(expected_status, status, text)
      assert.matches(expected, message)
    end
    refuses("\22\3\1\2\0\1\0\1\252\3\3", 400, "method")
    refuses("GOT / HTTP/1.1\r\n\r\n", 400, "method")
    refuses("GET / HTTP/3.0\r\n\r\n", 400, ".")
    refuses("GET / HTTP/0.9\r\n\r\n", 505, "no HTTP/1")
    refuses("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, ".")
    refuses("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400, ".")
    refuses("GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "Content%-Length")
    refuses("GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Content%-Length")
    refuses("GET http:/x HTTP/1.1\r\n\r\n", 400, ".")
    refuses("GET /%zz HTTP/1.1\r\n\r\n", 400, "percent")
    refuses("GET /?a=%f HTTP/1.1\r\n\r\n", 400, "percent")
    refuses("GET * HTTP/1.1\r\n\r\n", 400, ".")
    refuses("GET /?" .. ("a&"):rep(101) .. " HTTP/1.1\r\n\r\n", 400, "more than 100")
  end)

  it("bounds a head, whatever it consists of", function()
    local function refuses(text, expected_status)
      local one = reader.new(256, 4)
      local none, message, status = one:feed(text)
      assert.is_nil(none)
      assert.equal(expected_status, status, message)
      assert.equal(expected_status, select(3, one:feed "GET / HTTP/1.1\r\n\r\n"), "nothing more is read of it")
    end
    refuses("GET /" .. ("x"):rep(300), 414)
    refuses("GET / HTTP/1.1\r\nA: " .. ("x"):rep(300), 431)
    refuses("GET / HTTP/1.1\r\nA:" .. (" "):rep(300), 431)
    refuses("GET / HTTP/1.1\r\n" .. ("A: b\r\n"):rep(5) .. "\r\n", 431)
    refuses("GET / HTTP/1.1\r\n" .. ("x"):rep(300), 431)
    refuses(("\r\n"):rep(200), 431)
  end)

  it("takes heads that just fit", function()
    local text = "GET / HTTP/1.1\r\n" .. ("A: b\r\n"):rep(4) .. "\r\n"
    assert.truthy(read(text, 64, 4))
    assert.truthy(read("GET /" .. ("x"):rep(200) .. " HTTP/1.1\r\n\r\n", 256, 1))
  end)

  it("says what is wrong with its limits", function()
    local made = ffi.new "cueball_http *[1]"
    for _, wrong in ipairs { { 63, 1 }, { 1048577, 1 }, { 64, 0 }, { 64, 1001 } } do
      assert.equal(-1, lib.cueball_http_new(wrong[1], wrong[2], made))
    end
    lib.cueball_http_free(nil)
    assert.matches("^%d+%.%d+%.%d+$", ffi.string(lib.cueball_http_llhttp_version()))
  end)

  it("reads random bytes without harm", function()
    math.randomseed(7)
    local pieces = { "GET ", "/", "?", "%", " HTTP/1.1", "\r\n", "\n", ": ", "Host", "\0", "\255", "Content-Length: 3", "x", "A:b", "\r" }
    for _ = 1, 3000 do
      local one = reader.new(128, 3)
      for _ = 1, math.random(8) do
        local parts = {}
        for index = 1, math.random(6) do parts[index] = pieces[math.random(#pieces)] end
        one:feed(table.concat(parts))
      end
      one:free()
    end
  end)
end)

describe("a target", function()
  it("is taken apart", function()
    local path, arguments, authority = target.parse "http://Example:80/a+b%2f?x=1+2&y&x=%26"
    assert.equal("/a+b/", path)
    assert.equal("&", arguments:get "x")
    assert.same({ "1 2", "&" }, arguments:all "x")
    assert.equal("", arguments:get "y")
    assert.is_nil(arguments:get "z")
    assert.equal("Example:80", authority)
    assert.equal("/", (target.parse "http://host"))
  end)
end)
