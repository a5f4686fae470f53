--- The option `tls` of connection factories: what is refused, at the caller's line, without the secrets in it.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"

local function refused(tls)
  local ok, message = pcall(function() return (cueball.connection.tcp { tls = tls }) end)
  assert.is_false(ok)
  assert.is_truthy(message:find("^spec/connection/tls_options_spec.lua:%d+: cueball.connection.tcp: option 'tls'"), message)
  return message
end

local function assert_refused(tls, expected)
  local message = refused(tls)
  assert.is_truthy(message:find(expected, 1, true), message)
end

describe("the option tls", function()
  it("is true, false or a table", function()
    for _, value in ipairs { true, false, {} } do cueball.connection.tcp { tls = value } end
    assert_refused("yes", "must be true, false or a table, not the string that was given")
    assert_refused(1, "must be true, false or a table, not a number")
  end)

  it("has members of a kind", function()
    local client = certificates.client
    for _, value in ipairs {
      { server_name = "db.example", verify = true, ca_file = "/etc/ca.pem", ca_dir = "/etc/ssl/certs", ca = certificates.ca.cert_pem,
        crl_file = "/etc/crl.pem", min_version = "1.3", alpn = { "h2", "http/1.1" }, cert_file = client.cert, key_file = client.key },
      { server_name = "10.0.0.1", cert = client.cert_pem, key = client.key_pem },
      { server_name = "::1", cert = function() end, key = function() end, min_version = "1.2" },
      { server_name = "_db._tcp.example.", cert = client.cert_pem, key_file = client.key },
    } do
      cueball.connection.tcp { tls = value }
    end
    assert_refused({ verfy = true }, "unknown option 'verfy'; did you mean 'verify'?")
    assert_refused({ certificate = "x" }, "unknown option 'certificate'; there are alpn, ca, ca_dir, ca_file, cert, cert_file,")
    assert_refused({ verify = "no" }, "option 'verify' must be true or false")
    assert_refused({ server_name = "" }, "option 'server_name' must be a host name or an IP address")
    assert_refused({ server_name = "two words" },
      "option 'server_name' must be a host name or an IP address, not the string that was given")
    assert_refused({ server_name = "a..b" }, "option 'server_name' must be")
    assert_refused({ server_name = ("a"):rep(254) }, "option 'server_name' must be")
    assert_refused({ ca_file = "" }, "option 'ca_file' must be the path of a file")
    assert_refused({ ca = "/etc/ca.pem" }, "option 'ca' must be a text in PEM, not the string that was given")
    assert_refused({ ca = certificates.ca.cert_pem .. "\0" }, "option 'ca' must be a text in PEM, not the string that was given")
    assert_refused({ cert = "/etc/cert.pem", key = client.key_pem }, "option 'cert' must be a text in PEM, or a function")
    assert_refused({ min_version = 1.2 }, "option 'min_version' must be \"1.2\" or \"1.3\"")
    assert_refused({ min_version = "1.1" }, "option 'min_version' must be \"1.2\" or \"1.3\"")
    for _, alpn in ipairs { "h2", {}, { "" }, { ("x"):rep(256) }, { "h2", x = 1 }, { 5 } } do
      assert_refused({ alpn = alpn }, "option 'alpn' must be a list of names of protocols")
    end
  end)

  it("has members that belong together", function()
    local client = certificates.client
    assert_refused({ cert_file = client.cert }, "a client certificate needs its private key")
    assert_refused({ key = client.key_pem }, "a private key needs its certificate")
    assert_refused({ cert_file = client.cert, cert = client.cert_pem, key = client.key_pem },
      "options 'cert' and 'cert_file' exclude each other")
    assert_refused({ cert_file = client.cert, key_file = client.key, key = client.key_pem },
      "options 'key' and 'key_file' exclude each other")
    assert_refused({ crl_file = "/x", verify = false }, "option 'crl_file' means nothing where 'verify' is false")
    assert_refused({ cert = client.cert_pem, key = certificates.encrypted.key_pem }, "option 'key' is encrypted")
  end)

  it("does not show a private key, wherever it was put", function()
    local key = certificates.client.key_pem
    local secret = key:match "\n(%w+)"
    for _, tls in ipairs {
      key, { key }, { key_file = key }, { cert_file = key, key_file = "x" }, { ca_file = key }, { ca_dir = key }, { crl_file = key },
      { key = 5 }, { cert = key }, { server_name = key }, { ca = { key } }, { min_version = key }, { alpn = key }, { verify = key },
    } do
      local message = refused(tls)
      assert.is_nil(message:find(secret, 1, true), message)
    end
  end)

  it("is the same for Redis", function()
    local ok, message = pcall(function() return (cueball.connection.redis { tls = { server_name = 5 } }) end)
    assert.is_false(ok)
    assert.is_truthy(message:find("cueball.connection.redis: option 'tls': option 'server_name' must be", 1, true), message)
  end)
end)
