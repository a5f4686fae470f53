--- TLS of cueball.connection.postgres on libpq, against real servers with certificates of every kind.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"
local with = require "spec.support.with"

describe("TLS to PostgreSQL", function()
  local servers = {}

  setup(function() host.log_to(function() end) end)
  teardown(function()
    host.log_to(nil)
    postgres.remove_all()
  end)

  -- The server with this certificate.
  local function server_with(name, hba)
    local key = name .. (hba and hba[1] or "")
    servers[key] = servers[key] or postgres.start {
      ssl = { cert_file = certificates[name].cert, key_file = certificates[name].key, ca_file = certificates.ca.cert }, hba = hba,
    }
    return servers[key]
  end

  -- What a pool finds at that server: "encrypted" or "clear"; or nil, why it gets no connection.
  local function connected(server, given, backend)
    local how, message
    host.run(function()
      local pool = cueball.pool {
        max_connections = 1, claim_timeout_ms = 20000,
        resolver = cueball.resolver.static { with({ address = "127.0.0.1", port = server.port }, backend) },
        connect = cueball.connection.postgres(with({ user = "postgres", dbname = "postgres" }, given)),
        recovery = { default = { attempts = 1 } },
      }
      how, message = pool:with(function(conn)
        local rows, why = conn:query "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        if not rows then return nil, why end
        return rows[1].ssl and "encrypted" or "clear"
      end)
      pool:stop()
    end)
    return how, message
  end

  local function refused(why, ...)
    local how, message = connected(...)
    assert.is_nil(how)
    assert.matches(why, message)
  end

  local function root(more)
    return with({ sslrootcert = certificates.ca.cert }, more)
  end

  it("verifies chain and name where a root certificate is given", function()
    local server = server_with "good"
    assert.equal("encrypted", (connected(server, root(), { name = "localhost" })))
    assert.equal("encrypted", (connected(server, root(), { name = "DB.Example" })))
    assert.equal("encrypted", (connected(server, root()))) -- by its address
    assert.equal("encrypted", (connected(server, root { server_name = "db.example" }, { name = "the first one" })))
    refused('server certificate for "localhost" %(and 3 other names%) does not match host name "db2.example"', server, root(),
      { name = "db2.example" })
  end)

  it("refuses what is not to be trusted, and says why", function()
    refused("certificate verify failed", server_with "expired", root()) -- libpq 15 says no more
    refused('does not match host name "127.0.0.1"', server_with "wrong_name", root())
    refused("certificate verify failed", server_with "unknown_ca", root())
    refused("certificate verify failed", server_with "self_signed", root())
    assert.equal("encrypted", (connected(server_with "revoked", root())))
    refused("certificate verify failed", server_with "revoked", root { sslcrl = certificates.revoked.crl })
    refused("root certificate file .* does not exist", server_with "good", { sslmode = "verify-full", sslrootcert = "/nowhere.pem" })
  end)

  it("does in each mode what the manual says, and no more", function()
    local wrong_name, unknown_ca = server_with "wrong_name", server_with "unknown_ca"
    assert.equal("clear", (connected(wrong_name, { sslmode = "disable" })))
    assert.equal("clear", (connected(wrong_name, { sslmode = "allow" })))
    assert.equal("encrypted", (connected(wrong_name, { sslmode = "prefer" })))
    assert.equal("encrypted", (connected(unknown_ca, { sslmode = "require" })))
    -- "require" with a root certificate verifies the chain, not the name.
    assert.equal("encrypted", (connected(wrong_name, root { sslmode = "require" })))
    refused("certificate verify failed", unknown_ca, root { sslmode = "require" })
    assert.equal("encrypted", (connected(wrong_name, root { sslmode = "verify-ca" })))
    -- "prefer" falls back to clear text without a word.
    assert.equal("clear", (connected(unknown_ca, root { sslmode = "prefer" })))
  end)

  it("is no use to a server that has none", function()
    local server = postgres.start()
    assert.equal("clear", (connected(server, {})))
    refused("server does not support SSL, but SSL was required", server, root())
  end)

  it("logs in by a certificate of the client's", function()
    local server = server_with("good", { "hostssl all all 127.0.0.1/32 cert" })
    server:sql "do $$ begin create role alice login; exception when duplicate_object then null; end $$"
    -- libpq takes no key that others may read.
    local client = { cert = certificates.client.cert, key = certificates.path "alice_only.key" }
    shell.write(client.key, certificates.client.key_pem)
    shell.must("chmod 600 " .. client.key)
    assert.equal("encrypted", (connected(server, root { user = "alice", sslcert = client.cert, sslkey = client.key })))
    refused("connection requires a valid client certificate", server, root { user = "alice" })
    refused('certificate authentication failed for user "postgres"', server, root { sslcert = client.cert, sslkey = client.key })
  end)
end)
