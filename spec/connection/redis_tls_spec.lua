--- cueball.connection.redis over TLS on libuv, against real redis-servers. In nginx: spec/nginx/redis_tls_spec.lua.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local redis = require "spec.support.redis"
local run_pool = require "spec.support.run_pool"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }
local HASTY = { default = { attempts = 2, timeout_ms = 500, delay_ms = 20, max_delay_ms = 40 } } -- where nothing will come

local servers

before_each(function() servers = {} end)
after_each(function()
  for _, server in ipairs(servers) do server:stop() end
end)

local function start(arguments)
  local server = redis.start(arguments)
  servers[#servers + 1] = server
  return server
end

local function with_pool(list, options, fn, more)
  run_pool(with({
    host = host, max_connections = 2, spares = 2, claim_timeout_ms = 15000, recovery = RECOVERY,
    resolver = cueball.resolver.static(list), connect = cueball.connection.redis(options),
  }, more), fn)
end

local function who(pool)
  return assert(pool:with(function(red) return assert(red:acl "whoami") end))
end

local function assert_fails_with(more, list, options, ...)
  local texts = { ... }
  with_pool(list, options, function(pool)
    until_true(function() return pool:last_error() end)
    local is_found = false
    for _, expected in ipairs(texts) do is_found = is_found or pool:last_error():find(expected, 1, true) ~= nil end
    assert.is_true(is_found, pool:last_error())
  end, more)
end

local function assert_fails(...) assert_fails_with(nil, ...) end

describe("Redis over TLS on libuv", function()
  local client, ca = certificates.client, certificates.ca.cert

  for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
    it("wants a client certificate, and knows a user of its list: " .. version, function()
      local server = start { "--tls-protocols " .. version, tls = { certificate = certificates.good, client_ca = ca } }
      assert.equal("OK", server:call("ACL", "SETUSER", "ann", "on", ">hers", "~*", "+@all"))
      local as_client = { ca_file = ca, cert_file = client.cert, key_file = client.key }
      with_pool({ server.secure }, { username = "ann", password = "hers", role = "primary", tls = as_client }, function(pool)
        assert(pool:ready { connections = 2 })
        for _ = 1, 10 do assert.equal("ann", who(pool)) end
        assert.equal(2, pool:stats().opened)
        for _ = 1, 4 do pool:with(function(_, lease) lease:close() end) end
        assert.equal("ann", who(pool))
        server:stop() -- dies, and comes back
        until_true(function() return pool:state() == "failed" end)
        server:start_again()
        assert.equal("OK", server:call("ACL", "SETUSER", "ann", "on", ">hers", "~*", "+@all"))
        until_true(function() return pool:state() == "running" end, function() return pool:last_error() end)
        assert.equal("ann", who(pool))
      end)
      assert_fails({ server.secure }, { username = "ann", password = "wrong", tls = as_client }, "auth: WRONGPASS")
      assert_fails({ server.secure }, { tls = { ca_file = ca } }, "TLS: ", "perhaps the server wants another client certificate")
      assert_fails({ server.secure }, {
        tls = { ca_file = ca, cert_file = certificates.unknown_client.cert, key_file = certificates.unknown_client.key },
      }, "TLS: ", "perhaps the server wants another client certificate")
    end)
  end

  it("finds the primary", function()
    local primary = start { tls = { certificate = certificates.good } }
    local replica = start { tls = { certificate = certificates.good } }
    replica:follow(primary)
    with_pool({ replica.secure, primary.secure }, { role = "primary", tls = { ca_file = ca } }, function(pool)
      for _ = 1, 5 do
        assert.equal(tostring(primary.port), pool:with(function(red) return assert(red:config("get", "port"))[2] end))
      end
    end, { max_connections = 4 })
  end)

  it("says that a server without TLS has none", function()
    local server = start()
    -- It waits for more of the command. The pool's limit and the handshake's end at one moment: either may be first.
    assert_fails_with({ recovery = HASTY }, { server.backend }, { tls = { ca_file = ca } }, "TLS: the handshake took too long",
      "the attempt took too long")
  end)

  it("says that a server wants TLS", function()
    local server = start { tls = { certificate = certificates.good } }
    assert_fails({ server.secure }, {}, "ping: closed", "connection reset by peer")
  end)
end)
