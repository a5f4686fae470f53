--- cueball.http.server on real sockets: what it answers, and that nobody can hold it up or fill its memory.
local host = require "cueball.host.uv"
local http_client = require "spec.support.http_client"
local memory = require "spec.support.memory"
local server = require "cueball.http.server"
local until_true = require "spec.support.until_true"

local GET = "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
local log = {}

-- Runs fn(client, server) against a server with those limits.
local function with_server(limits, handle, fn)
  host.run(function()
    local one = assert(server.start(host, "127.0.0.1:0", { limits = limits }, handle))
    local ok, message = xpcall(fn, debug.traceback, http_client.to(one.address), one)
    one:close()
    if not ok then error(message, 0) end
  end)
end

local function echo(request, response)
  response:answer(200, { { "Content-Type", "text/plain" } }, request.method .. " " .. request.path)
end

describe("an HTTP server", function()
  before_each(function()
    log = {}
    host.log_to(function(level, message) log[#log + 1] = level .. " " .. message end)
  end)
  after_each(function() host.log_to(nil) end)

  it("answers GET and HEAD on one connection, one after the other", function()
    with_server({}, echo, function(client)
      local socket = client:connect()
      for number = 1, 3 do
        socket:send(GET:format(number))
        local status, body, headers = http_client.answer(socket)
        assert.same({ 200, "GET /" .. number, "keep-alive" }, { status, body, headers.connection })
      end
      socket:send "HEAD /4 HTTP/1.1\r\n\r\n"
      local status, _, headers = http_client.answer(socket, true)
      assert.same({ 200, "7" }, { status, headers["content-length"] })
      socket:send "GET /5 HTTP/1.1\r\nConnection: close\r\n\r\n"
      assert.equal("GET /5", select(2, http_client.answer(socket)))
      assert.same({ nil, "closed", "" }, { socket:receive(1) })
    end)
  end)

  it("answers requests that came at once in their order", function()
    with_server({}, echo, function(client)
      local all = {}
      for number = 1, 200 do all[number] = GET:format(number) end
      local socket = client:connect()
      socket:send(table.concat(all))
      for number = 1, 200 do assert.equal("GET /" .. number, select(2, http_client.answer(socket))) end
      socket:close()
    end)
  end)

  it("streams what has no length", function()
    local function count(_, response)
      response:stream(200, {})
      for number = 1, 3 do response:write(number .. ";") end
    end
    with_server({}, count, function(client)
      assert.equal("1;2;3;", select(2, client:get "/"))
      local old = client:raw "GET / HTTP/1.0\r\n\r\n"
      assert.matches("\r\n\r\n1;2;3;$", old)
    end)
  end)

  it("closes a connection whose head is not whole in time, however slowly it comes", function()
    with_server({ head_timeout_ms = 300 }, echo, function(client)
      local began, socket = host.now(), client:connect()
      local is_over = false
      host.spawn(function()
        for byte in GET:format(("a"):rep(1000)):gmatch "." do
          if is_over or not socket:send(byte) then return end
          host.sleep(20)
        end
      end)
      local answer, _, partial = socket:receive "*a"
      is_over = true
      assert.matches("^HTTP/1%.1 408 ", answer or partial) -- the byte that comes as it closes is answered by a reset
      assert.is_true(host.now() - began < 10e9)
      assert.equal("", client:raw "", "who says nothing at all is not answered")
    end)
  end)

  it("closes a connection that asks for nothing more", function()
    with_server({ idle_timeout_ms = 50 }, echo, function(client)
      local socket = client:connect()
      socket:send(GET:format "1")
      http_client.answer(socket)
      assert.same({ nil, "closed", "" }, { socket:receive(1) })
    end)
  end)

  it("does not wait for who does not read", function()
    local is_over = false
    local function pour(_, response)
      response:stream(200, {})
      while response:write(("x"):rep(1048576)) do end
      is_over = true
    end
    with_server({ send_timeout_ms = 200 }, pour, function(client)
      local socket = client:connect()
      socket:send(GET:format "1")
      until_true(function() return is_over end)
      socket:close()
    end)
  end)

  it("refuses what is no HTTP, and too much of it", function()
    with_server({ head_max = 512, headers_max = 8 }, echo, function(client)
      local function refuses(status, bytes)
        assert.matches(("^HTTP/1.1 %d "):format(status), (client:raw(bytes)))
      end
      refuses(400, "\22\3\1\0\200\1\0\0\196\3\3" .. ("\0"):rep(32))
      refuses(414, "GET /" .. ("x"):rep(600))
      refuses(431, "GET / HTTP/1.1\r\n" .. ("a: b\r\n"):rep(20) .. "\r\n")
      refuses(431, ("\r\n"):rep(400))
      assert.equal(200, (client:get "/"))
    end)
  end)

  it("closes after an answer to who announced a body", function()
    with_server({}, echo, function(client)
      local answer = client:raw "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
      assert.matches("Connection: close\r\n\r\nPOST /$", answer)
    end)
  end)

  it("says nothing of what went wrong within, but in the log", function()
    with_server({}, function(request, response)
      if request.path == "/late" then response:stream(200, {}) end
      error "a secret"
    end, function(client)
      local status, body = client:get "/"
      assert.equal(500, status)
      assert.is_nil(body:find("secret", 1, true))
      assert.matches("error .*a request could not be answered: .*a secret", log[1])
      assert.matches("chunked\r\nConnection: .*\r\n\r\n$", (client:raw(GET:format "late")))
    end)
  end)

  it("has no more connections than it may, and no answer that nobody gave", function()
    with_server({ connections_max = 2 }, function() end, function(client)
      local first, second = client:connect(), client:connect()
      first:send(GET:format "1")
      second:send(GET:format "2")
      assert.equal(404, (http_client.answer(first)))
      assert.equal(404, (http_client.answer(second)))
      assert.equal("", client:raw(GET:format "3") or "")
      first:close()
      until_true(function() return (client:raw "GET / HTTP/1.0\r\n\r\n" or ""):find "404" ~= nil end)
      second:close()
    end)
  end)

  it("ends with its connections", function()
    with_server({}, echo, function(client, one)
      local socket = client:connect()
      socket:send(GET:format "1")
      http_client.answer(socket)
      one:close()
      assert.same({ nil, "closed", "" }, { socket:receive(1) })
      local another = host.tcp()
      assert.is_nil((another:connect("127.0.0.1", tonumber(one.address:match ":(%d+)$"))))
    end)
  end)

  it("holds no more memory for thousands of requests and connections", function()
    with_server({}, echo, function(client)
      local function round()
        for number = 1, 300 do client:raw(number % 2 == 0 and GET:format "a" .. "GET /b HTTP/1.0\r\n\r\n" or "garbage\r\n\r\n") end
      end
      round()
      local grown = memory.least_growth_kib(3, round)
      assert.is_true(grown < 100, ("%.0f KiB"):format(grown))
    end)
  end)
end)
