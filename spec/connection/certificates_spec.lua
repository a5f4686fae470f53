--- The certificates that specs of TLS stand on are what their names say, as the openssl command sees it.
local certificates = require "spec.support.certificates"
local shell = require "spec.support.shell"

-- What `openssl verify` says of it: "OK", or the reason.
local function verdict(certificate, flags)
  local text = shell.run(("openssl verify -CAfile %s %s %s"):format(certificates.ca.cert, flags or "", certificate.cert))
  return text:match ": (OK)$" or text:match "lookup: ([^\n]*)" or text
end

describe("a certificate of the specs", function()
  for name, expected in pairs {
    good = "OK", renewed = "OK", client = "OK", wrong_name = "OK",
    expired = "certificate has expired", not_yet_valid = "certificate is not yet valid",
    self_signed = "self-signed certificate", unknown_ca = "unable to get local issuer certificate",
  } do
    it(("of the kind %s: %s"):format(name, expected), function()
      assert.equal(expected, verdict(certificates[name]))
    end)
  end

  it("is revoked by its list, and the others are not", function()
    local flags = "-crl_check -CRLfile " .. certificates.revoked.crl
    assert.equal("certificate revoked", verdict(certificates.revoked, flags))
    assert.equal("OK", verdict(certificates.good, flags))
  end)

  it("has the names that it is for", function()
    assert.equal("OK", verdict(certificates.good, "-verify_ip ::1"))
    assert.equal("OK", verdict(certificates.wildcard, "-verify_hostname one.db.example"))
    assert.equal("hostname mismatch", verdict(certificates.wrong_name, "-verify_hostname localhost"))
  end)

  it("comes with the chain that leads to its authority", function()
    assert.equal("OK", verdict(certificates.chain, "-untrusted " .. certificates.chain.cert))
  end)

  it("is made once", function()
    assert.equal(certificates.good.key_pem, require("spec.support.certificates").good.key_pem)
  end)

  it("has a key that takes a password where it is encrypted", function()
    local key = shell.quote(certificates.encrypted.key)
    assert.not_equal(0, (select(2, shell.run("openssl pkey -noout -passin pass:wrong -in " .. key))))
    assert.equal(0, (select(2, shell.run("openssl pkey -noout -passin pass:secret -in " .. key))))
  end)
end)
