--- cueball.connection.tcp { tls = … } on libuv, against real TLS servers: what is verified, sessions, connections at rest, what goes wrong.
-- In nginx: spec/nginx/tls_spec.lua.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local run_pool = require "spec.support.run_pool"
local server = require "spec.support.server"
local tls_web = require "spec.support.tls_web"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }

local web, others

before_each(function() others = {} end)
after_each(function()
  if web then web:stop() web = nil end
  for _, other in ipairs(others) do other:close() end
end)

local function serve(certificate, more)
  web = tls_web.start(with({ certificate = certificate }, more))
end

-- A server that behaves so.
local function listen(behave)
  local other = server.listen(behave)
  others[#others + 1] = other
  return "127.0.0.1:" .. other.port
end

-- Runs fn(pool) with a pool of connections with these options.
local function with_pool(tls, fn, more)
  if type(tls) == "table" and tls.ca_file == nil and tls.ca == nil then tls = with({ ca_file = certificates.ca.cert }, tls) end
  run_pool(with({
    host = host, max_connections = 1, claim_timeout_ms = 20000, recovery = RECOVERY,
    resolver = cueball.resolver.static { web and web.backend },
    connect = cueball.connection.tcp { tls = tls, read_timeout_ms = 20000 },
  }, more), fn)
end

local function ask(pool)
  return assert(pool:with(function(socket) return assert(tls_web.ask(socket)) end))
end

-- Asks over a connection that is closed then.
local function ask_once(pool)
  return assert(pool:with(function(socket, lease)
    local answer = assert(tls_web.ask(socket))
    lease:close()
    return answer
  end))
end

local function failure_of(pool)
  until_true(function() return pool:last_error() end)
  return pool:last_error()
end

-- @param other nil, or what may be said instead
local function assert_fails(tls, expected, more, other)
  local function is_expected(message) return message:find(expected, 1, true) or other and message:find(other, 1, true) end
  with_pool(tls, function(pool)
    local message = failure_of(pool)
    assert.is_truthy(is_expected(message), message)
    local lease, told = pool:claim() -- whoever claims is told
    assert.is_nil(lease)
    assert.is_truthy(is_expected(told), told)
  end, more)
end

describe("a pool over TLS on libuv", function()
  for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
    it("lends connections again and again, and has spares: " .. version, function()
      serve(certificates.good, { versions = version })
      with_pool({ server_name = "localhost" }, function(pool)
        until_true(function() return pool:stats().idle == 3 end)
        for _ = 1, 30 do
          local answer = ask(pool)
          assert.equal(version, answer.version)
          assert.equal("localhost", answer.name)
        end
        assert.equal(3, pool:stats().opened)
        assert.equal(0, pool:stats().lost)
      end, { max_connections = 3, spares = 3 })
    end)

    it("goes on with the session of a connection that was closed, as the server counts: " .. version, function()
      serve(certificates.good, { versions = version })
      with_pool({}, function(pool)
        assert.equal(".", ask(pool).reused)
        assert.equal(".", ask_once(pool).reused)
        for _ = 1, 5 do assert.equal("r", ask_once(pool).reused) end
      end)
    end)

    it("has the claims of many, while connections are closed: " .. version, function()
      serve(certificates.good, { versions = version })
      with_pool({}, function(pool)
        local done = 0
        for index = 1, 200 do
          host.spawn(function()
            if index % 7 == 0 then ask_once(pool) else ask(pool) end
            done = done + 1
          end)
        end
        until_true(function() return done == 200 end, function() return done .. " " .. tostring(pool:last_error()) end)
        assert.equal(0, pool:stats().busy)
      end, { max_connections = 8 })
    end)
  end

  it("has a client certificate, and the sessions of another are not used", function()
    serve(certificates.good, { client_ca = certificates.ca.cert })
    local count, told = 0, {}
    local function who()
      return count % 4 < 2 and certificates.client or certificates.other_client
    end
    with_pool({
      cert = function(backend, context)
        told[#told + 1] = backend.key
        context.host.sleep(1)
        return who().cert_pem
      end,
      key = function()
        local key = who().key_pem
        count = count + 1
        return key
      end,
    }, function(pool)
      local is_known = {}
      for _ = 1, 12 do
        local answer = ask(pool)
        assert.equal(is_known[answer.client] and "r" or ".", answer.reused, answer.client)
        is_known[answer.client] = true
        ask_once(pool)
      end
      assert.same({ ["CN=alice"] = true, ["CN=bob"] = true }, is_known)
      assert.equal(web.backend, told[1])
    end)
  end)

  it("has the certificate that is in the file at the time", function()
    serve(certificates.good, { client_ca = certificates.ca.cert })
    local shell = require "spec.support.shell"
    local cert, key = certificates.path "rotated.pem", certificates.path "rotated.key"
    local function rotate(to)
      shell.write(cert, to.cert_pem)
      shell.write(key, to.key_pem)
    end
    rotate(certificates.client)
    with_pool({ cert_file = cert, key_file = key }, function(pool)
      assert.equal("CN=alice", ask(pool).client)
      rotate(certificates.other_client)
      assert.equal("CN=alice", ask(pool).client)
      pool:renew { over_ms = 0 }
      until_true(function() return ask(pool).client == "CN=bob" end)
    end)
  end)

  it("is told of a certificate that is for another name, or address", function()
    serve(certificates.wrong_name)
    assert_fails({ server_name = "localhost" }, "TLS: ")
    assert_fails({}, "127.0.0.1")
    with_pool({ server_name = "other.example" }, function(pool) assert.equal("other.example", ask(pool).name) end)
    with_pool({ verify = false }, function(pool) assert.equal("", ask(pool).name) end)
  end)

  it("takes the name that the backend was found by", function()
    serve(certificates.wrong_name)
    with_pool({}, function(pool) assert.equal("other.example", ask(pool).name) end,
      { resolver = cueball.resolver.static { { address = "127.0.0.1", port = web.port, name = "other.example." } } })
  end)

  it("wants to be told the name of a server behind a UNIX socket", function()
    local path = certificates.path "tls.sock"
    serve(certificates.good, { more = ("listen unix:%s ssl;"):format(path) })
    local at = { resolver = cueball.resolver.static { "unix:" .. path } }
    assert_fails({}, "TLS: the server of a UNIX socket has no name to check: give option 'server_name', or verify = false", at)
    with_pool({ server_name = "localhost." }, function(pool) assert.equal("localhost", ask(pool).name) end, at)
    with_pool({ verify = false }, function(pool) assert.equal("", ask(pool).name) end, at)
  end)

  it("knows IPv6 addresses in certificates", function()
    serve(certificates.good)
    with_pool({}, function(pool) assert.equal("", ask(pool).name) end,
      { resolver = cueball.resolver.static { { address = "::1", port = web.port } } })
  end)

  for name, expected in pairs {
    expired = "certificate has expired", not_yet_valid = "certificate is not yet valid",
    self_signed = "self-signed certificate", unknown_ca = "issuer certificate",
  } do
    it("is told of a certificate of the kind " .. name, function()
      serve(certificates[name])
      assert_fails({}, expected)
    end)
  end

  it("trusts the system's authorities by default, which ours is not of", function()
    serve(certificates.good)
    assert_fails(true, "issuer certificate")
  end)

  it("is told of a certificate that its list has as revoked", function()
    serve(certificates.revoked)
    assert_fails({ crl_file = certificates.revoked.crl }, "certificate revoked")
  end)

  it("takes a chain that leads to its authority", function()
    serve(certificates.chain)
    with_pool({}, function(pool) assert.equal("TLSv1.3", ask(pool).version) end)
  end)

  it("notices a certificate that the server has changed, with its next connection", function()
    serve(certificates.good)
    with_pool({}, function(pool)
      ask(pool)
      web:present(certificates.expired) -- which closes what is idle
      until_true(function() return pool:state() == "failed" end)
      assert.is_truthy(pool:last_error():find("certificate has expired", 1, true), pool:last_error())
      local lease, message = pool:claim()
      assert.is_nil(lease)
      assert.is_truthy(message:find("certificate has expired", 1, true), message)
      web:present(certificates.renewed)
      until_true(function() return pool:state() == "running" end)
      ask(pool)
    end)
  end)

  it("is told of a server that speaks no TLS", function()
    local backend = listen(function(client) client:write "220 mail.example ESMTP\r\n" end)
    assert_fails({}, "TLS: ", { resolver = cueball.resolver.static { backend } })
  end)

  it("is told of a server that closes in the handshake", function()
    local backend = listen(function(client) client:read_start(function() if not client:is_closing() then client:close() end end) end)
    assert_fails({}, "TLS: the connection was closed in the middle of the handshake", { resolver = cueball.resolver.static { backend } })
  end)

  it("does not wait for a server that says nothing in the handshake", function()
    local backend = listen(function(client) client:read_start(function() end) end)
    -- The pool's limit and the handshake's end at one moment: either may be first.
    assert_fails({}, "TLS: the handshake took too long", {
      resolver = cueball.resolver.static { backend }, recovery = { default = { attempts = 2, timeout_ms = 300, delay_ms = 20 } },
    }, "the attempt took too long")
  end)

  it("replaces a connection whose server ends it at rest", function()
    serve(certificates.good, { rest = "1s" })
    with_pool({}, function(pool)
      ask(pool)
      until_true(function() return pool:stats().opened >= 2 end)
      ask(pool)
    end)
  end)

  it("says what is wrong with files", function()
    serve(certificates.good)
    local client = certificates.client
    assert_fails({ cert_file = "/nowhere/cert", key_file = client.key }, "TLS: cert_file: /nowhere/cert: No such file or directory")
    assert_fails({ cert_file = client.cert, key_file = certificates.encrypted.key }, "encrypted.key is encrypted")
    assert_fails({ cert_file = client.cert, key_file = certificates.good.key }, "TLS: ")
    local function spoilt() return client.key_pem .. "\0" end
    assert_fails({ cert = client.cert_pem, key = spoilt }, "TLS: key: its function returned no text in PEM")
    assert_fails({ cert = client.cert_pem, key = function() return nil, "the vault is sealed" end }, "TLS: key: the vault is sealed")
    assert_fails({ ca_file = "/nowhere/ca" }, "/nowhere/ca: No such file or directory")
    assert_fails({ ca_file = client.key }, "TLS: ")
  end)

  it("has no secret in its messages, and its tables tell none", function()
    serve(certificates.good, { client_ca = certificates.ca.cert })
    local key = certificates.good.key_pem -- of another certificate
    local lines = {}
    host.log_to(function(_, message) lines[#lines + 1] = message end)
    assert_fails({ cert = certificates.client.cert_pem, key = key }, "TLS: ")
    local function odd() return "no key, but " .. key:gsub("%-", "") end
    assert_fails({ cert = certificates.client.cert_pem, key = odd }, "key: its function")
    with_pool({ cert = certificates.client.cert_pem, key = certificates.client.key_pem }, function(pool)
      pool:with(function(socket, lease)
        for _, value in ipairs { pool, socket, lease, lease:backend() } do lines[#lines + 1] = tostring(value) end
      end)
      lines[#lines + 1] = cueball.monitor.json()
    end)
    host.log_to(nil)
    assert.is_true(#lines > 0)
    assert.is_nil(table.concat(lines, "\n"):find(certificates.client.key_pem:match "\n(%w+)", 1, true))
    local secret = key:match "\n(%w+)"
    assert.is_nil(table.concat(lines, "\n"):find(secret, 1, true))
  end)
end)
