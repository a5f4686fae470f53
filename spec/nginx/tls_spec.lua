--- cueball.connection.tcp { tls = … } under nginx, against real TLS servers: what is verified, by whom, spares over TLS 1.3, sessions.
local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local tls_web = require "spec.support.tls_web"
local until_true = require "spec.support.until_true"

local POOLS = [[
local cueball = require "cueball"
return {
  ask = function(socket) %s return ask(socket) end,
  pool = cueball.pool {
    name = "web", claim_timeout_ms = 20000, resolver = cueball.resolver.static { %s },
    connect = cueball.connection.tcp { tls = %s, read_timeout_ms = 20000 },
    recovery = { default = { attempts = 2, timeout_ms = %d, delay_ms = 20, max_delay_ms = 40 } }, %s
  },
} ]]

local LOCATIONS = [[
  location = /ask { content_by_lua_block {
    local answer, message = pools.pool:with(function(socket) return assert(pools.ask(socket)) end)
    if not answer then return ngx.print(message) end
    ngx.print(("%s %s %s %s"):format(answer.reused, answer.version, answer.client, answer.name))
  } }
  location = /close { content_by_lua_block {
    ngx.print(pools.pool:with(function(socket, lease) local a = assert(pools.ask(socket)) lease:close() return a.reused end))
  } }
  location = /unused { content_by_lua_block { pools.pool:with(function() end) ngx.print "unused" } }
  location = /stats { content_by_lua_block {
    local stats = pools.pool:stats()
    ngx.print(stats.opened, " opened, ", stats.idle, " idle, ", stats.lost, " lost")
  } }
  location = /error { content_by_lua_block { ngx.print(tostring(pools.pool:last_error())) } } ]]

local one, web, others

before_each(function() others = {} end)
after_each(function()
  if one then one:stop() one = nil end
  if web then web:stop() web = nil end
  for _, other in ipairs(others) do other:close() end
end)

-- A pool of connections with these options.
local function start(options, more, given)
  given = given or {}
  local ca = given.ca == nil and certificates.ca.cert or given.ca
  one = nginx.start {
    files = { ["my_pools.lua"] = POOLS:format(tls_web.ASK, given.backend or ("%q"):format(web.backend), options or "true",
      given.timeout_ms or 15000, more or "max_connections = 1") },
    http = ("lua_ssl_protocols TLSv1.2 TLSv1.3; %s init_worker_by_lua_block { pools = require 'my_pools' }\n"):format(
      ca and "lua_ssl_trusted_certificate " .. ca .. "; " .. (given.directives or "") or ""),
    server = LOCATIONS,
  }
end

-- What an attempt says that fails.
local function failure()
  local message
  until_true(function()
    message = one:ask "/error"
    return message ~= "nil"
  end, function() return one:log() end)
  return message
end

local function assert_fails(expected)
  local message = failure()
  assert.is_truthy(message:find(expected, 1, true), message)
end

local function serve(certificate, more)
  more = more or {}
  more.certificate = certificate
  web = tls_web.start(more)
end

describe("a pool over TLS in nginx", function()
  for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
    it("lends connections again and again, and has spares: " .. version, function()
      serve(certificates.good, { versions = version })
      start("{ server_name = 'localhost' }", "max_connections = 3, spares = 3")
      until_true(function() return one:ask "/stats" == "3 opened, 3 idle, 0 lost" end, function() return one:ask "/stats" .. one:log() end)
      for _ = 1, 30 do assert.equal(version .. "  localhost", one:ask("/ask"):match "^[.r] (.*)") end
      assert.equal("3 opened, 3 idle, 0 lost", one:ask "/stats")
    end)

    it("goes on with the session of a connection that was closed: " .. version, function()
      serve(certificates.good, { versions = version })
      start("true", "max_connections = 1")
      assert.equal(".", one:ask "/close")
      for _ = 1, 5 do assert.equal("r", one:ask "/close") end
    end)

    it("lends a connection that was lent before and not used: " .. version, function()
      serve(certificates.good, { versions = version })
      start("true", "max_connections = 1")
      for _ = 1, 3 do assert.equal("unused", one:ask "/unused") end
      assert.equal("1 opened, 1 idle, 0 lost", one:ask "/stats")
    end)

    it("keeps connections that were idle when the server sends no tickets: " .. version, function()
      serve(certificates.good, { versions = version, session_cache = "off", more = "ssl_session_tickets off;" })
      start("true", "max_connections = 2, spares = 2")
      until_true(function() return one:ask "/stats" == "2 opened, 2 idle, 0 lost" end, function() return one:ask "/stats" .. one:log() end)
      for _ = 1, 10 do assert.equal(". " .. version .. "  ", one:ask "/ask") end
      assert.equal("2 opened, 2 idle, 0 lost", one:ask "/stats")
    end)
  end

  it("is that of a factory that is built on it", function()
    serve(certificates.good, { versions = "TLSv1.3" })
    one = nginx.start {
      files = { ["my_pools.lua"] = ([[
        local cueball = require "cueball"
        %s
        local tcp = cueball.connection.tcp { tls = true }
        local function connect(backend, context)
          local socket, message = tcp.connect(backend, context)
          if not socket then return nil, message end
          return { socket = socket, ask = function(self) return ask(self.socket) end }
        end
        return cueball.pool {
          name = "web", claim_timeout_ms = 20000, max_connections = 2, spares = 2, resolver = cueball.resolver.static { %q },
          connect = {
            connect = connect, fault = tcp.fault,
            close = function(connection) tcp.close(connection.socket) end,
            park = function(connection, idle_ms) return tcp.park(connection.socket, idle_ms) end,
            broken = function(connection) return tcp.broken(connection.socket) end,
          },
        } ]]):format(tls_web.ASK, web.backend) },
      http = ("lua_ssl_protocols TLSv1.3; lua_ssl_trusted_certificate %s; init_worker_by_lua_block { pool = require 'my_pools' }"):format(
        certificates.ca.cert),
      server = [[
        location = /ask { content_by_lua_block { ngx.print(pool:with(function(connection) return assert(connection:ask()).reused end)) } }
        location = /close { content_by_lua_block { ngx.print(pool:with(function(_, lease) lease:close() end)) } }
        location = /stats { content_by_lua_block { ngx.print(pool:stats().idle, " idle, ", pool:stats().opened) } } ]],
    }
    until_true(function() return one:ask "/stats" == "2 idle, 2" end, function() return one:log() end)
    for _ = 1, 10 do one:ask "/ask" end
    assert.equal("2 idle, 2", one:ask "/stats")
    for _ = 1, 2 do one:ask "/close" end
    until_true(function() return one:ask "/stats" == "2 idle, 4" end, function() return one:ask "/stats" .. one:log() end)
    assert.equal("r", one:ask "/ask")
  end)

  it("answers the claims of many, while connections are closed", function()
    serve(certificates.good)
    start("true", "max_connections = 8, spares = 8")
    nginx.many(200, 24, function(index)
      local answer = one:ask(index % 5 == 0 and "/close" or index % 7 == 0 and "/unused" or "/ask")
      assert.is_truthy(answer:find "^[.r]$" or answer:find "^[.r] TLSv1.3  $" or answer == "unused", answer)
    end)
    until_true(function() return one:ask("/stats"):find ", 8 idle," end, function() return one:ask "/stats" end)
  end)

  it("opens anew what the server closed at rest, with its session", function()
    serve(certificates.good, { requests = 1 })
    start()
    assert.equal(". TLSv1.3  ", one:ask "/ask")
    for _ = 1, 3 do -- a request may come as the server closes
      until_true(function() return select(2, one:get "/ask") == "r TLSv1.3  " end, function() return one:log() end)
    end
  end)

  it("has a client certificate, and the sessions of another are not used", function()
    serve(certificates.good, { client_ca = certificates.ca.cert })
    local client, other = certificates.client, certificates.other_client
    start(([[(function()
      local function read(path) local file = io.open(path) local text = file:read "*a" file:close() return text end
      local count = 0
      local function who() return count %% 4 < 2 and { "%s", "%s" } or { "%s", "%s" } end
      return {
        cert = function() return read(who()[1]) end,
        key = function() local path = who()[2] count = count + 1 return read(path) end,
      }
    end)()]]):format(client.cert, client.key, other.cert, other.key))
    local is_known = {}
    for _ = 1, 12 do
      local reused, subject = one:ask("/ask"):match "^(.) TLSv1.3 (CN=%a+) $"
      assert.equal(is_known[subject] and "r" or ".", reused, subject)
      is_known[subject] = true
      one:ask "/close"
    end
    assert.same({ ["CN=alice"] = true, ["CN=bob"] = true }, is_known)
    assert.is_nil(one:log():find("PRIVATE KEY", 1, true))
  end)

  it("is told of a certificate that is for another name, or address", function()
    serve(certificates.wrong_name)
    start "{ server_name = 'localhost' }"
    assert_fails "TLS: the certificate is not for localhost"
    one:stop()
    start "{ server_name = 'other.example' }"
    assert.equal(". TLSv1.3  other.example", one:ask "/ask")
    one:stop()
    start()
    assert_fails "TLS: the certificate is not for 127.0.0.1 (subject CN=other)"
    one:stop()
    start "{ verify = false }"
    assert.equal(". TLSv1.3  ", one:ask "/ask")
  end)

  it("takes the name that the backend was found by", function()
    serve(certificates.wrong_name)
    start("true", nil, { backend = ("{ address = '127.0.0.1', port = %d, name = 'other.example.' }"):format(web.port) })
    assert.equal(". TLSv1.3  other.example", one:ask "/ask")
  end)

  it("takes a chain that leads to its authority", function()
    serve(certificates.chain)
    start()
    assert.equal(". TLSv1.3  ", one:ask "/ask")
  end)

  it("knows IPv6 addresses in certificates", function()
    serve(certificates.good)
    start("true", nil, { backend = ("{ address = '::1', port = %d }"):format(web.port) })
    assert.equal(". TLSv1.3  ", one:ask "/ask")
  end)

  for name, expected in pairs {
    expired = "TLS: certificate has expired", not_yet_valid = "TLS: certificate is not yet valid",
    self_signed = "TLS: self-signed certificate (nginx trusts the authorities in its lua_ssl_trusted_certificate)",
    unknown_ca = "(nginx trusts the authorities in its lua_ssl_trusted_certificate)",
  } do
    it("is told of a certificate of the kind " .. name, function()
      serve(certificates[name])
      start()
      assert_fails(expected)
    end)
  end

  it("is told of a certificate that its list has as revoked", function()
    serve(certificates.revoked)
    start("true", nil, { directives = ("lua_ssl_crl %s;"):format(certificates.revoked.crl) })
    assert_fails "TLS: certificate revoked"
  end)

  it("is told that nginx trusts nobody without the directive", function()
    serve(certificates.good)
    start("true", nil, { ca = false })
    assert_fails "(nginx trusts the authorities in its lua_ssl_trusted_certificate)"
  end)

  it("notices a certificate that the server has changed, with its next connection", function()
    serve(certificates.good)
    start("{ server_name = 'localhost' }")
    assert.equal(". TLSv1.3  localhost", one:ask "/ask")
    web:present(certificates.expired) -- which closes what is idle
    one:get "/ask" -- it opens another
    assert_fails "TLS: certificate has expired"
    web:present(certificates.renewed)
    until_true(function() return one:ask "/ask" == ". TLSv1.3  localhost" end, function() return one:ask "/error" end)
  end)

  it("notices that a certificate has expired since its session began", function()
    local life_s = 4
    local expires
    repeat -- on a slow machine it is over before the first connection
      if one then one:stop() end
      if web then web:stop() end
      expires = os.time() + life_s
      serve(certificates.make("short" .. life_s, { to = os.date("!%Y%m%d%H%M%SZ", expires) }))
      start()
      local is_in_time = one:ask "/close" == "." and one:ask "/close" == "r" and os.time() < expires
      life_s = life_s * 2
    until is_in_time
    until_true(function() return os.time() > expires + 1 end)
    one:get "/close"
    assert_fails "TLS: certificate has expired"
  end)

  for what, behave in pairs {
    ["speaks no TLS"] = function(client) client:write "220 mail.example\r\n" end,
    ["closes in the handshake"] = function(client) client:read_start(function() if not client:is_closing() then client:close() end end) end,
  } do
    it("is told of a server that " .. what, function()
      local other = server.listen(behave)
      others[1] = other
      start("true", nil, { backend = ('"127.0.0.1:%d"'):format(other.port) })
      assert_fails "TLS: the handshake failed; nginx's error log has the reason"
    end)
  end

  it("does not wait for a server that says nothing in the handshake", function()
    local other = server.listen(function(client) client:read_start(function() end) end)
    others[1] = other
    start("true", nil, { backend = ('"127.0.0.1:%d"'):format(other.port), timeout_ms = 150 })
    local message = failure()
    assert.is_truthy(message:find "TLS: the handshake took too long" or message:find "the attempt took too long", message)
    assert.is_truthy(one:ask("/ask"):find("127.0.0.1", 1, true))
  end)

  for options, expected in pairs {
    ["{ ca_file = '/x' }"] = "'ca_file' is no option of a pool: use the directive lua_ssl_trusted_certificate in nginx.conf",
    ["{ crl_file = '/x' }"] = "'crl_file' is no option of a pool: use the directive lua_ssl_crl in nginx.conf",
    ["{ min_version = '1.3' }"] = "'min_version' is no option of a pool: use the directive lua_ssl_protocols in nginx.conf",
    ["{ alpn = { 'h2' } }"] = "nginx's sockets cannot offer protocols ('alpn')",
  } do
    it("says where the pool is made what is a directive in nginx: " .. options, function()
      start(options, nil, { backend = "'127.0.0.1:1'" })
      local log = one:log()
      assert.is_truthy(log:find("my_pools.lua:%d+: cueball.pool: the connection factory cannot work on this host: option 'tls': "), log)
      assert.is_truthy(log:find(expected, 1, true), log)
    end)
  end

  it("says what is wrong with files", function()
    serve(certificates.good)
    local client = certificates.client
    for options, expected in pairs {
      [("{ cert_file = '/nowhere/cert', key_file = %q }"):format(client.key)] = "TLS: cert_file: /nowhere/cert: No such file",
      [("{ cert_file = %q, key_file = %q }"):format(client.cert, certificates.encrypted.key)] = "encrypted.key is encrypted",
      [("{ cert_file = %q, key_file = %q }"):format(client.cert, certificates.good.key)] = "TLS: the certificate and the private key",
    } do
      start(options)
      assert_fails(expected)
      one:stop()
    end
    one = nil
  end)
end)
