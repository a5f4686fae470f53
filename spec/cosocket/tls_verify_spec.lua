--- Whom a TLS client believes: real certificates of every kind, shown by openssl s_server.
local host = require "cueball.host.uv"
local tls = require "cueball.tls"
local certificates = require "spec.support.certificates"
local client = require "spec.support.tls_client"
local shell = require "spec.support.shell"
local tls_server = require "spec.support.tls_server"
local trusting, refusal = client.trusting, client.refusal

local server

after_each(function()
  if server then server:stop() end
  server = nil
end)

local function show(certificate, ...)
  server = tls_server.start { cert = false, "-rev", "-cert", certificate.cert, "-key", certificate.key, ... }
end

local function task_it(name, fn)
  it(name, function() host.run(fn) end)
end

local function answers(sock)
  sock:send "hello\n"
  assert.equal("olleh", sock:receive "*l")
  assert.equal(1, sock:close())
end

describe("a certificate", function()
  task_it("is for the names and the addresses in it", function()
    show(certificates.good)
    for _, name in ipairs { "localhost", "LOCALHOST", "localhost.", "db.example", "127.0.0.1", "::1", "[::1]" } do
      answers(client.secured(trusting(), server.port, name))
    end
    for _, name in ipairs { "other.example", "x.localhost", "127.0.0.2", "::2", "calhost" } do
      local message = refusal(trusting(), server.port, name)
      assert.equal(" mismatch (subject CN=localhost, for localhost, db.example, 127.0.0.1, ::1; asked for " .. name .. ")",
        message:gsub("^TLS: hostname", ""):gsub("^TLS: IP address", ""))
    end
  end)

  task_it("is for the address that was connected to, if nothing else was said", function()
    show(certificates.good)
    local sock = client.connected(trusting(), server.port)
    assert.is_truthy(sock:sslhandshake())
    answers(sock)
    server:stop()
    show(certificates.name_only)
    sock = client.connected(trusting(), server.port)
    local ok, message = sock:sslhandshake()
    assert.is_nil(ok)
    assert.matches("^TLS: IP address mismatch %(subject CN=db, for db.example; asked for 127.0.0.1%)", message)
  end)

  task_it("of a wildcard is for one label", function()
    show(certificates.wildcard)
    answers(client.secured(trusting(), server.port, "one.db.example"))
    for _, name in ipairs { "db.example", "one.two.db.example", "127.0.0.1" } do
      assert.matches("mismatch %(subject CN=wild", refusal(trusting(), server.port, name))
    end
  end)

  task_it("without names counts by its common name", function()
    show(certificates.common_name)
    answers(client.secured(trusting(), server.port, "localhost"))
    assert.matches("hostname mismatch", refusal(trusting(), server.port, "other"))
  end)

  local refused = {
    expired = "TLS: certificate has expired (subject CN=localhost, expired 2020-01-01)",
    not_yet_valid = "TLS: certificate is not yet valid (subject CN=localhost, valid from 2090-01-01)",
    self_signed = "TLS: self-signed certificate (subject CN=localhost)",
    unknown_ca = "TLS: unable to get local issuer certificate (subject CN=localhost, issuer CN=cueball unknown CA)",
    wrong_name = "TLS: hostname mismatch (subject CN=other, for other.example; asked for localhost)",
  }
  for kind, message in pairs(refused) do
    task_it("is refused, and told why: " .. kind, function()
      show(certificates[kind])
      assert.equal(message, refusal(trusting(), server.port))
      -- Whoever does not want to know is not told.
      answers(client.secured(trusting { verify = false }, server.port))
      assert.equal(message, refusal(trusting { verify = false }, server.port, nil, true))
      local sock = client.secured(nil, server.port)   -- without settls, as in ngx_lua
      assert.is_false(sock:tlsinfo().verified)
      answers(sock)
    end)
  end

  task_it("that signs itself may be trusted by itself", function()
    show(certificates.self_signed)
    answers(client.secured(assert(tls.context { ca_file = certificates.self_signed.cert }), server.port))
  end)

  task_it("that was revoked is refused by its CA's list", function()
    show(certificates.revoked)
    answers(client.secured(trusting(), server.port))
    local message = refusal(trusting { crl_file = certificates.revoked.crl }, server.port)
    assert.equal("TLS: certificate revoked (subject CN=localhost)", message)
    server:stop()
    show(certificates.good)
    answers(client.secured(trusting { crl_file = certificates.revoked.crl }, server.port))
    server:stop()
    show(certificates.unknown_ca)
    local context = assert(tls.context { ca_file = certificates.stranger.cert, crl_file = certificates.revoked.crl })
    assert.equal("TLS: unable to get certificate CRL (subject CN=localhost, issuer CN=cueball unknown CA)",
      refusal(context, server.port))
  end)

  task_it("may come with those that lead to its CA", function()
    show(certificates.chain, "-cert_chain", certificates.chain.cert)
    answers(client.secured(trusting(), server.port))
    server:stop()
    server = tls_server.start { cert = false, "-rev", "-cert", certificates.chain.alone, "-key", certificates.chain.key }
    assert.matches("^TLS: unable to get local issuer certificate %(subject CN=localhost, issuer CN=cueball intermediate CA%)",
      refusal(trusting(), server.port))
  end)
end)

describe("trust", function()
  task_it("is in a file, a folder, a text, or any of them", function()
    show(certificates.good)
    local folder = shell.must "mktemp -d"
    shell.must(("cp %s %s/one.pem && openssl rehash %s"):format(certificates.ca.cert, folder, folder))
    local stranger = certificates.stranger
    for _, given in ipairs {
      { ca_file = certificates.ca.cert }, { ca_dir = folder }, { ca = certificates.ca.cert_pem },
      { ca = stranger.cert_pem .. "between them\n" .. certificates.ca.cert_pem },
      { ca_file = stranger.cert, ca_dir = folder }, { ca_file = stranger.cert, ca = certificates.ca.cert_pem },
    } do
      answers(client.secured(assert(tls.context(given)), server.port))
    end
    for _, given in ipairs { { ca_file = stranger.cert }, { ca_dir = "/" }, { ca = stranger.cert_pem }, {} } do
      assert.matches("^TLS: unable to get local issuer certificate", refusal(assert(tls.context(given)), server.port))
    end
    shell.must("rm -r " .. folder)
  end)

  it("of the system is what OpenSSL's installation and SSL_CERT_FILE say", function()
    show(certificates.good)
    local program = ([[
      local host, tls = require "cueball.host.uv", require "cueball.tls"
      host.run(function()
        local sock = host.tcp()
        if arg[1] == "context" then sock:settls(assert(tls.context())) end
        assert(sock:connect("127.0.0.1", %d))
        local ok, message = sock:sslhandshake(nil, "localhost", true)
        print(ok and "believed" or message)
      end)]]):format(server.port)
    local path = certificates.path "system.lua"
    shell.write(path, program)
    for _, way in ipairs { "context", "none" } do
      local run = ("luajit %s %s"):format(path, way)
      assert.equal("believed", shell.must(("SSL_CERT_FILE=%s %s"):format(certificates.ca.cert, run)))
      assert.matches("^TLS: unable to get local issuer certificate", (shell.must(run)))
      assert.matches("^TLS: unable to get local issuer", (shell.must(("SSL_CERT_FILE=/nowhere SSL_CERT_DIR=/nowhere %s"):format(run))))
    end
  end)

  it("that cannot be read is told when the context is made", function()
    local function told(given)
      local context, message = tls.context(given)
      assert.is_nil(context)
      return message
    end
    local path = certificates.path "no.pem"
    shell.write(path, "no certificate\n")
    assert.equal("TLS: /nowhere/ca.pem: No such file or directory", told { ca_file = "/nowhere/ca.pem" })
    assert.equal("TLS: ca_dir: there is no folder /nowhere", told { ca_dir = "/nowhere" })
    assert.matches("^TLS: " .. path:gsub("%p", "%%%0") .. ": no certificate or crl found", told { ca_file = path })
    assert.matches("^TLS: the certificates to trust cannot be read: no start line", told { ca = "nothing" })
    assert.matches("^TLS: the certificates to trust cannot be read", told { ca = certificates.ca.cert_pem:sub(1, 300) })
    assert.matches("^TLS: .*no.pem", told { crl_file = path })
    assert.matches("^TLS: /tmp: ", told { ca_file = "/tmp" })
    assert.matches("^TLS: /nowhere/x: No such file", told { cert_file = "/nowhere/x" })
    assert.matches("^TLS: the certificate cannot be read: no start line %(" .. path:gsub("%p", "%%%0"), told { cert_file = path })
    assert.matches("^TLS: the private key does not fit the certificate",
      told { cert = certificates.client.cert_pem, key = certificates.good.key_pem })
    assert.matches("^TLS: the private key cannot be read", told { cert = certificates.client.cert_pem })
    assert.matches("^TLS: the private key is encrypted",
      told { cert_file = certificates.encrypted.cert, key_file = certificates.encrypted.key })
  end)

  it("is asked for in options that make sense, or at the caller's line it is said that they do not", function()
    local function raised(given)
      local ok, message = pcall(function() tls.context(given) end)
      assert.is_false(ok)
      return message
    end
    assert.matches("tls_verify_spec.lua:%d+: cueball.tls.context: unknown option 'cafile'; did you mean 'ca_file'?",
      raised { cafile = "x" })
    assert.matches("option 'min_version' must be \"1.2\" or \"1.3\"", raised { min_version = "1.1" })
    assert.matches("option 'verify' must be true or false", raised { verify = "no" })
    assert.matches("option 'alpn' must be a list of strings", raised { alpn = "h2" })
    assert.matches("give 'cert' or 'cert_file', not both", raised { cert = "x", cert_file = "y" })
    assert.matches("a key wants a certificate", raised { key = "x" })
    local message = raised { key = 17 }
    assert.matches("option 'key' must be", message)
    assert.is_nil(message:find "17")
  end)
end)

describe("a client's certificate", function()
  local function demanding(...)
    show(certificates.good, "-Verify", "1", "-verify_return_error", "-CAfile", certificates.ca.cert, ...)
  end

  for version, flag in pairs { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" } do
    task_it("is shown, from a file or a text, with TLS " .. version, function()
      demanding(flag)
      local of = certificates.client
      answers(client.secured(trusting { cert_file = of.cert, key_file = of.key }, server.port))
      answers(client.secured(trusting { cert = of.cert_pem, key = of.key_pem }, server.port))
      answers(client.secured(trusting { cert = of.key_pem .. of.cert_pem }, server.port))
      local sock = client.connected(trusting(), server.port)
      assert.is_true(sock:setclientcert(of.cert_pem, of.key_pem))
      assert(sock:sslhandshake(nil, "localhost"))
      answers(sock)
      sock = client.connected(trusting { cert = of.cert_pem, key = of.key_pem }, server.port)
      sock:setclientcert()
      assert(sock:sslhandshake(nil, "localhost"))   -- the context's is left
      answers(sock)
    end)
  end

  task_it("that is missing, or not believed, is told by the server's alert", function()
    demanding "-tls1_2"
    assert.matches("^TLS: the peer's alert: .*handshake failure", refusal(trusting(), server.port))
    local unknown = certificates.unknown_client
    assert.matches("^TLS: the peer's alert: tlsv1 alert unknown ca",
      refusal(trusting { cert_file = unknown.cert, key_file = unknown.key }, server.port))
    server:stop()
    demanding "-tls1_3"   -- which tells with the first bytes
    local sock = client.secured(trusting(), server.port)
    local data, message = sock:receive(1)
    assert.is_nil(data)
    assert.matches("^TLS: the peer's alert: tlsv13 alert certificate required", message)
  end)

  task_it("that is nonsense is told before anything is sent", function()
    show(certificates.good)
    local sock = client.connected(trusting(), server.port)
    sock:setclientcert("nonsense", "too")
    local ok, message = sock:sslhandshake(nil, "localhost")
    assert.is_nil(ok)
    assert.matches("^TLS: the certificate cannot be read", message)
    for _, pair in ipairs { { "x" }, { nil, "x" }, { {}, {} } } do
      assert.has_error(function() host.tcp():setclientcert(pair[1], pair[2]) end)
    end
  end)
end)

describe("a session", function()
  task_it("is not resumed by whom it was not made for", function()
    show(certificates.good)
    local context, unverified = trusting(), trusting { verify = false }
    local function session_of(of, name)
      local sock = client.secured(of, server.port, name)
      sock:send "hello\n"
      sock:receive "*l"
      local session = assert(sock:getsslsession())
      sock:close()
      return session
    end
    local function is_resumed(session, of, name, cert, verify)
      local sock = client.connected(of, server.port)
      if cert then sock:setclientcert(cert.cert_pem, cert.key_pem) end
      assert(sock:sslhandshake(session, name or "localhost", verify))
      local info = sock:tlsinfo()
      sock:close()
      return info.resumed
    end
    local session = session_of(context)
    assert.is_true(is_resumed(session, context))
    assert.is_true(is_resumed(session, context))                               -- again
    assert.is_false(is_resumed(session, trusting()))                           -- another context
    assert.is_false(is_resumed(session, context, "db.example"))                -- another name
    assert.is_false(is_resumed(session, context, nil, certificates.client))    -- another identity
    assert.is_true(is_resumed(session, context, nil, nil, false))              -- verified is more than not verified
    session = session_of(unverified)
    assert.is_true(is_resumed(session, unverified))
    assert.is_false(is_resumed(session, unverified, nil, nil, true))           -- it was not verified
  end)

  task_it("of a server that came up anew is not resumed, and nothing is the worse for it", function()
    show(certificates.good)
    local context = trusting()
    local sock = client.secured(context, server.port)
    sock:send "hello\n"
    sock:receive "*l"
    local session = sock:getsslsession()
    sock:close()
    server:stop()
    show(certificates.renewed)
    sock = client.secured(context, server.port, "localhost", session)
    assert.is_false(sock:tlsinfo().resumed)
    answers(sock)
  end)

  it("is kept under a key, the latest 256 of them", function()
    local context = trusting()
    for index = 1, 300 do context:keep_session("key " .. index, { index }) end
    assert.is_nil(context:session "key 44")
    assert.same({ 45 }, context:session "key 45")
    context:keep_session("key 300", { "new" })
    assert.same({ "new" }, context:session "key 300")
    context:keep_session("key 300", nil)
    assert.is_nil(context:session "key 300")
    context:keep_session("key 301", nil)
    assert.same({ 45 }, context:session "key 45")
    for index = 301, 1000 do context:keep_session("key " .. index % 10, { index }) end
    assert.same({ 1000 }, context:session "key 0")
  end)
end)
