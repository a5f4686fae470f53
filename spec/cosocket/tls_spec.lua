--- TLS on a socket, against a real server: openssl s_server.
local host = require "cueball.host.uv"
local tls = require "cueball.tls"
local certificates = require "spec.support.certificates"
local tls_server = require "spec.support.tls_server"

local server

after_each(function()
  if server then server:stop() end
  server = nil
end)

local function trusting(more)
  local given = { ca_file = certificates.ca.cert }
  for name, value in pairs(more or {}) do given[name] = value end
  return assert(tls.context(given))
end

-- A socket that is connected; context nil: without settls.
local function connected(context, port)
  local sock = host.tcp()
  sock:settimeout(60000)
  if context then sock:settls(context) end
  assert(sock:connect("127.0.0.1", port or server.port))
  return sock
end

local function results(...)
  return { n = select("#", ...), ... }
end

-- it(), inside a task.
local function task_it(name, fn)
  it(name, function() host.run(fn) end)
end

local VERSIONS = { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" }

for version, flag in pairs(VERSIONS) do
  describe("TLS " .. version, function()
    before_each(function() server = tls_server.start { "-rev", flag } end)

    task_it("sends and receives", function()
      local sock = connected(trusting())
      assert.is_truthy(sock:sslhandshake(nil, "localhost"))
      assert.equal(6, sock:send "hello\n")
      assert.equal("olleh", sock:receive "*l")
      local info = sock:tlsinfo()
      assert.equal("TLSv" .. version, info.version)
      assert.equal("CN=localhost", info.subject)
      assert.equal("CN=cueball spec CA", info.issuer)
      assert.is_true(info.verified)
      assert.is_false(info.resumed)
      assert.same(results(1), results(sock:close()))
      assert.is_nil(sock:tlsinfo())
    end)

    task_it("resumes a session that was taken after the first answer", function()
      local context = trusting()
      local session
      for round = 1, 3 do
        local sock = connected(context)
        assert.is_truthy(sock:sslhandshake(session, "localhost"))
        assert.equal(round > 1, sock:tlsinfo().resumed)
        assert.equal("CN=localhost", sock:tlsinfo().subject)
        assert.is_true(sock:tlsinfo().verified)
        sock:send "hello\n"
        assert.equal("olleh", sock:receive "*l")
        session = assert(sock:getsslsession())
        sock:close()
      end
    end)

    task_it("resumes what sslhandshake returned, as unmodified libraries do", function()
      local context = trusting()
      local first = connected(context)
      local session = first:sslhandshake(nil, "localhost")
      first:send "hello\n"
      first:receive "*l"
      first:close()
      local second = connected(context)
      assert.is_true(second:sslhandshake(session, "localhost") ~= nil)
      assert.is_true(second:tlsinfo().resumed)
      second:close()
    end)
  end)
end
