--- PostgreSQL over pgmoon on libuv: TLS, against a real server. With pgmoon itself where CUEBALL_PGMOON names its folder.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local postgres_pgmoon = require "spec.support.postgres_pgmoon"
local server_support = require "spec.support.server"
local with = require "spec.support.with"

describe("PostgreSQL over pgmoon: TLS", function()
  local secure, plain, remove

  setup(function()
    remove = postgres_pgmoon.install()
    plain = postgres.start()
    secure = postgres.start {
      ssl = { cert_file = certificates.good.cert, key_file = certificates.good.key, ca_file = certificates.ca.cert },
      hba = {
        "hostssl all alice 127.0.0.1/32 cert", "host all cat 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust",
      },
      sql = "create role alice login; set password_encryption = 'scram-sha-256'; create role cat login password 'secret'",
    }
  end)

  teardown(function()
    remove()
    postgres.remove_all()
  end)

  -- What a claimer finds, or why there is nothing.
  local function claimed(options, backend, fn)
    return host.run(function()
      local pool = cueball.pool {
        resolver = cueball.resolver.static { backend or secure.backend }, max_connections = 1, claim_timeout_ms = 15000,
        recovery = { default = { attempts = 1, timeout_ms = 10000 } },
        connect = cueball.connection.postgres(with({ driver = "pgmoon", user = "postgres" }, options)),
      }
      local made, message = pool:with(fn or function(conn)
        local sql = "select ssl::text || ' ' || coalesce(client_dn, '-') as v from pg_stat_ssl where pid = pg_backend_pid()"
        return assert(conn:query(sql))[1].v
      end)
      pool:stop()
      return made, message
    end)
  end

  it("is used where the server has it, whether or not somebody verifies", function()
    assert.equal("true -", claimed {})
    assert.equal("true -", claimed { sslmode = "require" })
    assert.equal("false -", claimed { sslmode = "disable" })
    assert.equal("true -", claimed { sslrootcert = certificates.ca.cert })
    local by_name = { sslrootcert = certificates.ca.cert, server_name = "db.example", ssl_min_protocol_version = "TLSv1.3" }
    assert.equal("true -", claimed(by_name))
  end)

  it("is there for SCRAM, which does not bind to it", function()
    assert.equal("true -", claimed { user = "cat", password = "secret", dbname = "postgres", sslrootcert = certificates.ca.cert })
  end)

  it("is verified: the authority, and the name", function()
    local _, message = claimed { sslrootcert = certificates.stranger.cert }
    assert.matches("TLS: ", message)
    _, message = claimed { sslrootcert = certificates.ca.cert, server_name = "other.example" }
    assert.matches("TLS: ", message)
  end)

  it("is missed where it is required, and not where it is preferred", function()
    local _, message = claimed({ sslmode = "require" }, plain.backend)
    assert.matches("the server does not support TLS", message)
    assert.equal("false -", claimed({}, plain.backend))
  end)

  it("says who the client is", function()
    local client = { user = "alice", dbname = "postgres", sslrootcert = certificates.ca.cert }
    assert.equal("true /CN=alice", claimed(with(client, { sslcert = certificates.client.cert, sslkey = certificates.client.key })))
    local _, message = claimed(client)
    assert.matches("connection requires a valid client certificate", message)
  end)

  it("is what cancels go over, too", function()
    local options = { sslrootcert = certificates.ca.cert, query_timeout_ms = 1500, cancel_timeout_ms = 30000 }
    local made, message = claimed(options, nil, function(conn)
      local name = select(3, conn:query "select pg_sleep(3600)")
      return name .. " " .. tostring(conn:is_fit())
    end)
    assert.equal("timeout true", made, message)
  end)

  it("does not begin behind data that came in clear", function()
    local stuffing = server_support.listen(function(client)
      client:read_start(function(_, data)
        if data and not client:is_closing() then client:write "SE\0\0\0\5\0" end
      end)
    end)
    local _, message = claimed({ sslmode = "require" }, "127.0.0.1:" .. stuffing.port)
    stuffing:close()
    assert.matches("the server sent data before TLS began", message)
  end)
end)
