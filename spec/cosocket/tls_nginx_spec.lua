--- TLS on a socket against nginx: much data both ways, requests one behind the other, the end of a connection at rest.
local host = require "cueball.host.uv"
local certificates = require "spec.support.certificates"
local client = require "spec.support.tls_client"
local nginx = require "spec.support.nginx"
local free_port = require("spec.support.port").free
local until_true = require "spec.support.until_true"
local trusting, secured = client.trusting, client.secured

local HTTP = [[
  server {
    listen 127.0.0.1:%d ssl;
    ssl_certificate %s;
    ssl_certificate_key %s;
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    client_body_buffer_size 64m;
    location = /hello { return 200 "hello"; }
    location = /brief { keepalive_timeout 1s; return 200 "hello"; }
    location = /echo {
      content_by_lua_block {
        ngx.req.read_body()
        local body = ngx.req.get_body_data()
        ngx.header.content_length = #body
        ngx.print(body)
      }
    }
    location = /drip {
      content_by_lua_block {
        for index = 1, 20 do ngx.print("line " .. index .. "\n") ngx.flush(true) ngx.sleep(0.005) end
      }
    }
  }
]]

local function task_it(name, fn)
  it(name, function() host.run(fn) end)
end

if not nginx.is_there() then return end

describe("a socket with TLS and nginx", function()
  local one, port

  setup(function()
    port = free_port()
    one = nginx.start { http = HTTP:format(port, certificates.good.cert, certificates.good.key) }
  end)
  teardown(function() one:stop() end)

  local function ask(sock, path)
    assert(sock:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path)))
  end

  -- The body of an answer that has a length.
  local function body_of(sock)
    local length
    for _ = 1, 100 do
      local line = assert(sock:receive "*l")
      if line == "" then break end
      length = length or tonumber(line:lower():match "^content%-length: (%d+)$")
    end
    return sock:receive(length)
  end

  task_it("asks and is answered, one after the other", function()
    local sock = secured(trusting(), port)
    for _ = 1, 50 do
      ask(sock, "/hello")
      assert.equal("hello", body_of(sock))
    end
    for _ = 1, 50 do ask(sock, "/hello") end   -- and one behind the other
    for _ = 1, 50 do assert.equal("hello", body_of(sock)) end
    sock:close()
  end)

  for _, version in ipairs { "1.2", "1.3" } do
    task_it("sends and receives much, both at once, TLS " .. version, function()
      local sock = secured(trusting { min_version = version }, port)
      local text = ("0123456789abcdef"):rep(2 * 1024 * 1024)   -- 32 MiB
      local received
      host.spawn(function()
        assert(sock:send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: " .. #text .. "\r\n\r\n"))
        assert(sock:send(text))
      end)
      received = body_of(sock)
      assert.is_true(received == text)
      sock:close()
    end)
  end

  task_it("is held up where nobody reads, and goes on from there", function()
    local sock = secured(trusting(), port)
    local text = ("x"):rep(8 * 1024 * 1024)
    sock:send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: " .. #text .. "\r\n\r\n")
    sock:send(text)
    assert.equal("HTTP/1.1 200 OK", sock:receive "*l")
    host.sleep(100)
    assert.is_true(sock.received.size < 1024 * 1024, sock.received.size)
    assert.equal(text, body_of(sock))
    sock:close()
  end)

  task_it("receives lines as they drip in, and the end of them", function()
    local sock = secured(trusting(), port)
    sock:send "GET /drip HTTP/1.0\r\nHost: localhost\r\n\r\n"
    repeat local line = assert(sock:receive "*l") until line == ""
    for index = 1, 20 do assert.equal("line " .. index, sock:receive "*l") end
    assert.equal("", sock:receive "*a")   -- with a close_notify
    sock:close()
  end)

  task_it("is told when nginx closes it at rest", function()
    local sock = secured(trusting(), port)
    ask(sock, "/hello")
    body_of(sock)
    sock:rest()
    sock:lend()
    ask(sock, "/brief")
    body_of(sock)
    local told
    sock:watch(function(message, kind) told = message .. ", " .. kind end)
    until_true(function() return told end)
    assert.equal("closed, worn", told)
    sock:abort()
  end)

  task_it("serves many at once", function()
    local context, left = trusting(), 50
    for _ = 1, 50 do
      host.spawn(function()
        local sock = secured(context, port)
        for _ = 1, 5 do
          ask(sock, "/hello")
          assert.equal("hello", body_of(sock))
        end
        sock:close()
        left = left - 1
      end)
    end
    until_true(function() return left == 0 end)
  end)
end)
