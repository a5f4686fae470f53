--- The options of cueball.connection.postgres, and what libpq is given for a connection.
local cueball = require "cueball"
local ffi = require "ffi"
local settings = require "cueball.connection.postgres.settings"
local sim = require "cueball.host.sim"
local text = require "cueball.text"
local with = require "spec.support.with"

pcall(ffi.cdef, "int setenv(const char *name, const char *value, int overwrite); int unsetenv(const char *name);")

local VARIABLES = { "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGGSSENCMODE", "PGHOSTADDR" }

local BACKEND = { key = "10.0.0.1:5432", name = "10.0.0.1:5432", address = "10.0.0.1", port = 5432 }

-- What a connection is opened with.
local function parameters(given, backend, context)
  local world = sim.new { seed = 1 }
  return world.run(function()
    return settings.parameters(settings.read(given), with(BACKEND, backend), with({
      host = world, pool_name = "shop", timeout_ms = 1000,
      secret = function(_, value)
        if type(value) == "function" then return value() end
        return value
      end,
    }, context))
  end)
end

describe("cueball.connection.postgres", function()
  local saved

  setup(function()
    saved = {}
    for _, name in ipairs(VARIABLES) do
      saved[name] = os.getenv(name)
      ffi.C.unsetenv(name)
    end
  end)
  after_each(function()
    for _, name in ipairs(VARIABLES) do ffi.C.unsetenv(name) end
  end)
  teardown(function()
    for name, value in pairs(saved) do ffi.C.setenv(name, value, 1) end
  end)

  it("gives libpq the address, so that it looks up no name, and what is not said only as a fallback", function()
    local made = parameters {}
    assert.matches("^shop %d+$", made.fallback_application_name)
    made.fallback_application_name = nil
    assert.same({
      hostaddr = "10.0.0.1", host = "10.0.0.1", port = "5432", gssencmode = "disable", tcp_user_timeout = "10000",
    }, made)
  end)

  it("passes on what libpq has under the same name", function()
    local given = {
      user = "ann", password = "x", dbname = "d", application_name = "a", options = "-c work_mem=1MB", service = "s", passfile = "/p",
      sslmode = "require", sslrootcert = "/r", sslcert = "/c", sslkey = "/k", sslcrl = "/l", gssencmode = "prefer", sslpassword = "y",
      channel_binding = "require", client_encoding = "UTF8",
    }
    local made = parameters(given)
    for name, value in pairs(given) do assert.equal(value, made[name], name) end
  end)

  it("verifies against the name by which the backend was found, or that it is told", function()
    assert.equal("db1.example", parameters({}, { name = "db1.example" }).host)
    assert.equal("db.example", parameters({ server_name = "db.example" }, { name = "db1.example" }).host)
    for _, name in ipairs { "the first one", "a,b", "/tmp", "@x", "-c", "10.0.0.1:5432" } do
      assert.equal("10.0.0.1", parameters({}, { name = name }).host, name)
    end
    assert.same({ "::1", "::1" }, { parameters({}, { address = "::1" }).host, parameters({}, { address = "::1" }).hostaddr })
  end)

  it("takes UNIX sockets, by their path or their folder", function()
    local made = parameters({}, { address = "unix:/run/pg/.s.PGSQL.5433", port = 0 })
    assert.same({ "/run/pg", "5433" }, { made.host, made.port })
    made = parameters({}, { address = "unix:/run/pg", port = 0 })
    assert.equal("/run/pg", made.host)
    assert.is_nil(made.port)
    assert.is_nil(made.hostaddr)
    ffi.C.setenv("PGHOSTADDR", "10.0.0.9", 1)
    assert.matches("PGHOSTADDR is set", (select(2, parameters({}, { address = "unix:/run/pg", port = 0 }))))
  end)

  it("verifies all where it is given a root certificate, and leaves the rest to libpq", function()
    assert.is_nil(parameters({}).sslmode)
    assert.equal("verify-full", parameters({ sslrootcert = "/r" }).sslmode)
    assert.equal("require", parameters({ sslrootcert = "/r", sslmode = "require" }).sslmode)
    ffi.C.setenv("PGSSLROOTCERT", "/r", 1)
    assert.equal("verify-full", parameters({}).sslmode)
    assert.is_nil(parameters({ service = "s" }).sslmode)
    ffi.C.setenv("PGSSLMODE", "prefer", 1)
    assert.is_nil(parameters({ sslrootcert = "/r" }).sslmode)
  end)

  it("leaves Kerberos alone unless it is asked for", function()
    ffi.C.setenv("PGGSSENCMODE", "prefer", 1)
    assert.is_nil(parameters({}).gssencmode)
    assert.equal("require", parameters({ gssencmode = "require" }).gssencmode)
  end)

  it("has the kernel give up before those who wait do", function()
    assert.equal("500", parameters({ query_timeout_ms = 1000 }).tcp_user_timeout)
    assert.equal("1500", parameters({}, nil, { claim_timeout_ms = 2000 }).tcp_user_timeout)
    assert.equal("7", parameters({ tcp_user_timeout_ms = 7 }, nil, { claim_timeout_ms = 2 }).tcp_user_timeout)
    assert.equal("20", parameters({ keepalive_ms = 19001 }).keepalives_idle)
  end)

  it("keeps the process in a long application name", function()
    local name = parameters({}, nil, { pool_name = ("x"):rep(100) }).fallback_application_name
    assert.equal(63, #name)
    assert.matches("^x+ %d+$", name)
  end)

  it("asks functions for user and password", function()
    local made = parameters { user = function() return "bob" end, password = function() return "secret" end }
    assert.same({ "bob", "secret" }, { made.user, made.password })
    assert.same({ nil, "user: no idea" }, { parameters { user = function() return nil, "no idea" end } })
    assert.same({ nil, "the vault is sealed" }, { parameters { password = function() return nil, "the vault is sealed" end } })
  end)

  it("tells mistakes at the caller's line, without secrets", function()
    local function blamed(message, given)
      local ok, thrown = pcall(function() cueball.connection.postgres(given) end)
      assert.is_false(ok)
      assert.equal(message, (text.of(thrown):gsub("^.-settings_spec.lua:%d+: ", "")))
    end
    blamed("cueball.connection.postgres: unknown option 'dbnam'; did you mean 'dbname'?", { dbnam = "x" })
    blamed("cueball.connection.postgres: there is no option 'host': the resolver says it", { host = "x" })
    blamed("cueball.connection.postgres: there is no option 'connect_timeout': it is connect_timeout_ms here", { connect_timeout = 1 })
    blamed('cueball.connection.postgres: option \'sslmode\' must be "disable", "allow", "prefer", "require", "verify-ca" or "verify-full", '
      .. 'not "verify"', { sslmode = "verify" })
    blamed("cueball.connection.postgres: option 'password' must be a string or a function, not a number", { password = 12345678 })
    blamed('cueball.connection.postgres: option \'role\' must be "any", "primary", "standby" or "prefer-standby", not "replica"',
      { role = "replica" })
    blamed("cueball.connection.postgres: option 'dbname' must be a string without NUL bytes, not \"a\\0\"", { dbname = "a\0" })
    blamed("cueball.connection.postgres: expected a table of options, got 5", 5)
    blamed('cueball.connection.postgres: types: type "bool" must be read as "text", "number" or by a function(text), not 5',
      { types = { bool = 5 } })
  end)

  it("says on which hosts libpq cannot be used", function()
    local world = sim.new { seed = 1 }
    world.server("10.0.0.1", 5432)
    local said
    world.run(function()
      local pool = cueball.pool {
        host = world, resolver = cueball.resolver.static { "10.0.0.1:5432" }, connect = cueball.connection.postgres { driver = "libpq" },
      }
      world.sleep(10)
      said = pool:last_error()
      pool:stop()
    end)
    assert.equal("10.0.0.1:5432: the driver libpq cannot be used on the host sim, which has no way to wait for libpq's sockets: "
      .. 'use driver = "pgmoon"', said)
  end)
end)
