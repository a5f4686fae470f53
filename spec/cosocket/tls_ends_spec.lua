--- How TLS connections begin and end, beside what real servers do: openssl s_server, nginx, and servers that break the rules.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local certificates = require "spec.support.certificates"
local client = require "spec.support.tls_client"
local fake = require "spec.support.server"
local shell = require "spec.support.shell"
local tls_server = require "spec.support.tls_server"
local until_true = require "spec.support.until_true"
local TRUNCATED = require("cueball.cosocket.use").TRUNCATED
local trusting, secured = client.trusting, client.secured

local server

after_each(function()
  if server then (server.stop or server.close)(server) end
  server = nil
end)

local function task_it(name, fn)
  it(name, function() host.run(fn) end)
end

local function results(...)
  return { n = select("#", ...), ... }
end

-- Waits as until_true does, while the loop does not turn.
local function await(fn)
  for _ = 1, 2400 do
    if fn() then return end
    os.execute "sleep 0.05"
  end
  error "it did not come true in 2 minutes"
end

describe("what is agreed on", function()
  task_it("is told: the name that was asked for, the protocol", function()
    local other = certificates.name_only
    server = tls_server.start { "-rev", "-servername", "db.example", "-cert2", other.cert, "-key2", other.key, "-alpn", "postgresql,h2" }
    local sock = secured(trusting(), server.port, "db.example")
    assert.equal("CN=db", sock:tlsinfo().subject)
    sock:close()
    sock = secured(trusting { alpn = { "h2", "postgresql" } }, server.port)
    assert.equal("CN=localhost", sock:tlsinfo().subject)
    assert.equal("postgresql", sock:tlsinfo().alpn)
    assert.equal(("TLS_AES_"), sock:tlsinfo().cipher:sub(1, 8))
    sock:close()
    sock = secured(trusting { alpn = { "h2" } }, server.port)
    assert.equal("h2", sock:tlsinfo().alpn)
    sock:close()
    sock = secured(trusting(), server.port)
    assert.is_nil(sock:tlsinfo().alpn)
    sock:close()
  end)

  task_it("is no less than was asked for", function()
    server = tls_server.start { "-rev", "-tls1_2" }
    assert.matches("^TLS: the peer's alert: tlsv1 alert protocol version", client.refusal(trusting { min_version = "1.3" }, server.port))
    local sock = secured(trusting(), server.port)
    assert.equal("TLSv1.2", sock:tlsinfo().version)
    sock:close()
  end)

  task_it("may include a stapled response that nobody looks at", function()
    server = tls_server.start { "-rev" }
    local sock = client.connected(trusting(), server.port)
    assert.is_truthy(sock:sslhandshake(nil, "localhost", nil, true))
    sock:close()
  end)
end)

describe("sslhandshake", function()
  task_it("returns what ngx_lua returns", function()
    server = tls_server.start { "-rev" }
    local sock = host.tcp()
    assert.same(results(nil, "closed"), results(sock:sslhandshake()))
    sock = client.connected(nil, server.port)
    assert.same(results(true), results(sock:sslhandshake(false)))
    assert.same(results(true), results(sock:sslhandshake(false)))      -- it has TLS already
    assert.is_truthy(sock:sslhandshake())
    sock:send "x\n"
    assert.equal("x", sock:receive "*l")
    local session = sock:sslhandshake()
    assert.equal("cueball TLS session", tostring(session))
    assert.equal(session, sock:sslhandshake(session))
    assert.same(results(1), results(sock:setkeepalive()))
    assert.same(results(nil, "closed"), results(sock:sslhandshake()))
    -- The same socket, connected anew, has none.
    assert.equal(1, sock:connect("127.0.0.1", server.port))
    assert.is_nil(sock:tlsinfo())
    assert.is_truthy(sock:sslhandshake(session, "localhost"))
    sock:close()
  end)

  task_it("refuses what makes no sense, at the caller's line", function()
    server = tls_server.start { "-rev" }
    local sock = client.connected(nil, server.port)
    for _, arguments in ipairs { { 17 }, { "x" }, { {} }, { nil, 17 }, { nil, {} } } do
      local ok, message = pcall(function() sock:sslhandshake(arguments[1], arguments[2]) end)
      assert.is_false(ok)
      assert.matches("tls_ends_spec.lua:%d+: bad argument #%d to 'sslhandshake'", message)
    end
    for _, given in ipairs { 17, "x", {} } do
      local ok, message = pcall(function() sock:settls(given) end)
      assert.is_false(ok)
      assert.matches("tls_ends_spec.lua:%d+: sock:settls: expected a context", message)
    end
    sock:close()
    for _, name in ipairs { ("x"):rep(300), "localhost\0.evil.example" } do
      sock = client.connected(trusting(), server.port)
      local ok, message = sock:sslhandshake(nil, name)
      assert.is_nil(ok)
      assert.matches("^TLS: that is no name of a server: " .. name:sub(1, 3), message)
      assert.same(results(nil, "closed"), results(sock:send "x"))
    end
  end)

  task_it("is done over UNIX sockets, and wants a name to verify there", function()
    local path = os.tmpname() .. ".sock"
    server = tls_server.start { "-rev", unix = path }
    local sock = host.tcp()
    sock:settls(trusting())
    assert(sock:connect("unix:" .. path))
    local ok, message = sock:sslhandshake()
    assert.is_nil(ok)
    assert.equal("TLS: no server name to check the certificate for, as the connection has no address", message)
    assert(sock:connect("unix:" .. path))
    assert.is_truthy(sock:sslhandshake(nil, "db.example"))
    sock:send "hello\n"
    assert.equal("olleh", sock:receive "*l")
    sock:close()
    assert(sock:connect("unix:" .. path))
    assert.is_truthy(sock:sslhandshake(nil, nil, false))
    sock:close()
    os.remove(path)
  end)

  task_it("is not done over bytes that came before it", function()
    server = fake.listen(function(one) one:write "220 ready, and more" end)
    local sock = client.connected(nil, server.port)
    assert.equal("220 ready", sock:receive(9))
    assert.same(results(nil, "unread data in buffer"), results(sock:sslhandshake(nil, "localhost")))
    assert.same(results(nil, "closed"), results(sock:send "in clear text"))
  end)

  task_it("keeps others out of the socket", function()
    server = fake.listen(function() end)
    local sock = client.connected(trusting(), server.port)
    local ended
    host.spawn(function() ended = results(sock:sslhandshake(nil, "localhost")) end)
    assert.same(results(nil, "socket busy connecting"), results(sock:send "x"))
    assert.same(results(nil, "socket busy connecting"), results(sock:receive(1)))
    assert.same(results(nil, "socket busy connecting"), results(sock:close()))
    assert.same(results(nil, "socket busy connecting"), results(sock:sslhandshake()))
    sock:abort()
    until_true(function() return ended end)
    assert.same(results(nil, "closed"), ended)
  end)
end)

describe("a handshake that goes wrong", function()
  local function ends_with(expected, on_client)
    server = fake.listen(on_client)
    local sock = client.connected(trusting(), server.port)
    sock:settimeout(expected == "timeout" and 100 or 20000)
    local ok, message = sock:sslhandshake(nil, "localhost")
    assert.is_nil(ok)
    assert.equal(expected, message)
    assert.same(results(nil, "closed"), results(sock:send "x"))
    assert.same(results(nil, "closed"), results(sock:close()))
  end

  task_it("for a server that says nothing ends at the limit", function()
    ends_with("timeout", function(one) one:read_start(function() end) end)
  end)

  task_it("for a server that stops in its middle ends at the limit", function()
    local real = tls_server.start { "-rev" }
    ends_with("timeout", function(one)
      -- A hundred bytes of a real server's answer, and no more.
      local back = require("luv").new_tcp()
      back:connect("127.0.0.1", real.port, function()
        one:read_start(function(_, data) if data then back:write(data) end end)
        local sent = 0
        back:read_start(function(_, data)
          if data and sent < 100 then one:write(data:sub(1, 100)) end
          sent = sent + #(data or "")
        end)
      end)
      server.clients[#server.clients + 1] = back
    end)
    real:stop()
  end)

  task_it("for a server that trickles ends at the limit, however often bytes come", function()
    ends_with("timeout", function(one)
      local timer = require("luv").new_timer()
      one:write "\22\3\3\63\255\2"   -- a record of 16,383 bytes
      timer:start(0, 10, function() if one:is_closing() then timer:close() else one:write "\0" end end)
    end)
  end)

  task_it("for a server that closes, or resets", function()
    ends_with("TLS: the connection was closed in the middle of the handshake", function(one)
      one:read_start(function() if not one:is_closing() then one:close() end end)
    end)
  end)

  task_it("for garbage, of any kind", function()
    ends_with("TLS: wrong version number: what came may be no TLS", function(one) one:write "HTTP/1.0 400 Bad Request\r\n\r\n" end)
    server:close()
    ends_with("TLS: wrong version number: what came may be no TLS", function(one) one:write(("\0"):rep(10000)) end)
    server:close()
    ends_with("TLS: the peer's alert: sslv3 alert handshake failure", function(one) one:write "\21\3\3\0\2\2\40" end)
  end)

  task_it("with its task leaves nothing", function()
    server = fake.listen(function() end)
    local sock
    local task = host.spawn(function()
      sock = client.connected(trusting(), server.port)
      sock:sslhandshake(nil, "localhost")
    end)
    until_true(function() return sock and sock.connector end)
    host.kill(task)
    assert.same(results(nil, "closed"), results(sock:send "x"))
  end)
end)

describe("the end of a connection", function()
  for version, flag in pairs { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" } do
    task_it("that the server says is orderly, with TLS " .. version, function()
      server = tls_server.start { flag, "-www" }
      local sock = secured(trusting(), server.port)
      sock:send "GET / HTTP/1.0\r\n\r\n"
      local page = assert(sock:receive "*a")
      assert.matches("^HTTP/1.0 200 ok", page)
      assert.matches("</BODY></HTML>%s*$", page)
      assert.same(results(nil, "closed", ""), results(sock:receive(1)))
    end)

    task_it("without a word is an error for who reads to the end, with TLS " .. version, function()
      server = tls_server.start { flag }
      local sock = secured(trusting(), server.port)
      server:write "so far\n"
      assert.equal("so far", sock:receive "*l")
      server:write "and so"
      host.spawn(function()
        until_true(function() return sock.received.size == #"and so" end)
        server.handle:kill "sigkill"
      end)
      assert.same(results(nil, TRUNCATED, "and so"), results(sock:receive "*a"))
      assert.same(results(nil, "worn"), { n = 2, nil, (select(3, sock:is_fit())) and "worn" })
      sock:close()
    end)
  end

  task_it("is told to the server by close()", function()
    server = tls_server.start { "-rev" }
    local sock = secured(trusting(), server.port)
    sock:close()   -- at once: tickets may lie unread
    until_true(function() return server:log():find "CONNECTION CLOSED" end, function() return server:log() end)
    assert.is_nil(server:log():find "error")
  end)

  task_it("with the last data on its way loses none of it", function()
    server = tls_server.start {}
    local sock = secured(trusting(), server.port)
    local text = ("0123456789\n"):rep(100000)
    -- Its tickets are sent by then, and lie in the kernel; such as come to a connection that is closed are answered by a reset.
    await(function() return server:log():find "CIPHER is" end)
    assert.equal(#text, sock:send(text))
    sock:close()
    until_true(function() return #server:log() >= #text end, function() return #server:log() end)
  end)
end)

describe("a connection at rest", function()
  local function rested(flag)
    server = tls_server.start { flag }
    local sock = secured(trusting(), server.port)
    server:write "hello\n"
    assert.equal("hello", sock:receive "*l")
    sock:lend()
    local told = {}
    sock:watch(function(message, kind) told[#told + 1] = message .. ", " .. tostring(kind) end)
    host.sleep(50)
    assert.same({}, told)
    return sock, told
  end

  task_it("ends with the server", function()
    local sock, told = rested "-tls1_2"
    server.handle:kill "sigkill"
    until_true(function() return told[1] end)
    assert.same({ TRUNCATED .. ", lost" }, told)
    sock:abort()
  end)

  task_it("does not end with a request for new keys, which is answered", function()
    for _, command in ipairs { "K\n", "k\n" } do
      local sock, told = rested "-tls1_3"
      server:write(command)
      host.sleep(100)
      assert.same({}, told)
      assert.same(results(true), results(sock:is_fit_still()))
      sock:unwatch()
      sock:settimeout(500)
      until_true(function()   -- what s_server reads in one with a command is lost
        server:write "again\n"
        return sock:receive "*l" == "again"
      end)
      sock:send "still here\n"
      until_true(function() return server:log():find "still here" end, function() return server:log() end)
      sock:close()
      server:stop()
    end
  end)

  task_it("refuses to renegotiate", function()
    local sock = rested "-tls1_2"
    server:write "r\n"
    host.sleep(100)
    sock:unwatch()
    sock:settimeout(1000)
    -- The server may insist, or go on; no data is taken for another's, and nothing hangs.
    local sent, message = sock:send "x\n"
    assert.is_true(sent == 2 or message ~= nil)
    sock:abort()
  end)

  task_it("is told bytes that nobody asked for", function()
    local sock, told = rested "-tls1_3"
    server:write "unasked\n"
    until_true(function() return told[1] end)
    assert.same({ "unexpected data, worn" }, told)
    assert.equal("unasked", sock:receive "*l")
    sock:close()
  end)

  -- How many bytes of the connection nobody has read.
  local function kernel_has(sock)
    local own = (":%04X"):format(sock.transport.inner.handle:getsockname().port)
    local peer = (":%04X"):format(server.port)
    local queue = shell.read("/proc/net/tcp"):match(own .. " %x+" .. peer .. " %x+ %x+:(%x+)")
    return tonumber(queue, 16)
  end

  it("is asked while the loop does not turn: a ticket is no reason to refuse it", function()
    host.run(function()
      server = tls_server.start { "-rev", "-tls1_3" }
      local sock = secured(trusting(), server.port)
      sock:rest()
      await(function() return kernel_has(sock) > 0 end)   -- a ticket
      assert.same(results(true), results(sock:is_fit_still()))
      assert.is_truthy(sock:getsslsession())
      sock:lend()
      sock:send "hello\n"
      assert.equal("olleh", sock:receive "*l")
      sock:rest()
      server.handle:kill "sigkill"
      await(function() return shell.read(("/proc/%d/stat"):format(server.pid)):match "%) (%a)" == "Z" end)
      assert.same(results(nil, TRUNCATED, "worn"), results(sock:is_fit_still()))
      sock:abort()
    end)
  end)
end)

describe("a pool", function()
  setup(function() host.log_to(function() end) end)
  teardown(function() host.log_to(nil) end)

  task_it("keeps connections with TLS, and resumes", function()
    server = tls_server.start { "-rev" }
    local context = trusting()
    local resumed = 0
    local pool = cueball.pool {
      resolver = cueball.resolver.static { "127.0.0.1:" .. server.port }, max_connections = 1,
      recovery = { default = { timeout_ms = 60000, max_timeout_ms = 60000 } },
      connect = function(_, attempt)
        local sock = attempt.host.tcp()
        sock:settimeout(attempt.timeout_ms)
        sock:settls(context)
        local ok, message = attempt.connect(sock)
        if ok then ok, message = sock:sslhandshake(context:session "here", "localhost") end
        if not ok then return nil, message end
        if sock:tlsinfo().resumed then resumed = resumed + 1 end
        return sock
      end,
    }
    for round = 1, 6 do
      local lease = assert(pool:claim { timeout_ms = 60000 })
      local sock = lease.connection
      sock:send "hello\n"
      assert.equal("olleh", sock:receive "*l")
      context:keep_session("here", sock:getsslsession())
      if round % 2 == 0 then lease:close() else lease:release() end
    end
    assert.equal(2, resumed)
    pool:stop()
  end)
end)
