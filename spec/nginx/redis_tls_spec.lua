--- cueball.connection.redis over TLS in nginx, against real redis-servers. On libuv: spec/connection/redis_tls_spec.lua.
local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local until_true = require "spec.support.until_true"

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = 2, spares = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { "%s" },
  recovery = { default = { attempts = 2, timeout_ms = %d, delay_ms = 20, max_delay_ms = 40 } },
  connect = cueball.connection.redis %s,
} }
]]

local one, server

after_each(function()
  if one then one:stop() one = nil end
  if server then server:stop() server = nil end
end)

-- @param attempt_ms less where nothing will come
local function start(options, attempt_ms)
  one = nginx.start {
    files = { ["my_pools.lua"] = POOLS:format(server.secure, attempt_ms or 15000, options) },
    http = ("lua_ssl_protocols TLSv1.2 TLSv1.3; lua_ssl_trusted_certificate %s; "):format(certificates.ca.cert)
      .. "init_worker_by_lua_block { pools = require 'my_pools' }\n",
    server = [[
      location = /who { content_by_lua_block { ngx.print(pools.cache:with(function(red) return red:acl "whoami" end)) } }
      location = /close { content_by_lua_block { pools.cache:with(function(_, lease) lease:close() end) ngx.print "closed" } }
      location = /opened { content_by_lua_block { ngx.print(pools.cache:stats().opened) } }
      location = /error { content_by_lua_block { ngx.print(tostring(pools.cache:last_error())) } } ]],
  }
end

local function assert_fails(...)
  local message
  until_true(function()
    message = one:ask "/error"
    return message ~= "nil"
  end, function() return one:log() end)
  local is_found = false
  for _, expected in ipairs { ... } do is_found = is_found or message:find(expected, 1, true) ~= nil end
  assert.is_true(is_found, message)
  one:stop()
  one = nil
end

describe("Redis over TLS in nginx", function()
  local client = certificates.client
  local AS_CLIENT = ("cert_file = %q, key_file = %q"):format(client.cert, client.key)

  for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
    it("wants a client certificate, and knows a user of its list: " .. version, function()
      server = redis.start {
        "--tls-protocols " .. version, tls = { certificate = certificates.good, client_ca = certificates.ca.cert },
      }
      assert.equal("OK", server:call("ACL", "SETUSER", "ann", "on", ">hers", "~*", "+@all"))
      start(("{ username = 'ann', password = 'hers', role = 'primary', tls = { %s } }"):format(AS_CLIENT))
      until_true(function() return one:ask "/opened" == "2" end, function() return one:log() end)
      for _ = 1, 10 do assert.equal("ann", one:ask "/who") end
      assert.equal("2", one:ask "/opened")
      for _ = 1, 4 do one:ask "/close" end
      assert.equal("ann", one:ask "/who")
      one:stop()
      start(("{ username = 'ann', password = 'wrong', tls = { %s } }"):format(AS_CLIENT))
      assert_fails "auth: WRONGPASS"
      start "{ tls = true }"
      assert_fails("TLS: ", "perhaps the server wants another client certificate")
    end)
  end

  it("fails with its server, and comes back with it", function()
    server = redis.start { tls = { certificate = certificates.good } }
    start "{ tls = true }"
    assert.equal("default", one:ask "/who")
    server:stop()
    until_true(function() return one:ask "/who" ~= "default" and one:log():find("cueball cache: failed", 1, true) end,
      function() return one:log() end)
    server:start_again()
    until_true(function() return select(2, one:get "/who") == "default" end, function() return one:ask "/error" end)
  end)

  it("asks for the role", function()
    server = redis.start { tls = { certificate = certificates.good } }
    start "{ role = 'replica', tls = true }"
    assert_fails "the server is a primary, not a replica"
  end)

  it("says that a server without TLS has none", function()
    server = redis.start()
    server.secure = server.backend
    start("{ tls = true }", 500)
    -- It waits for more of the command. The pool's limit and the handshake's end at one moment: either may be first.
    assert_fails("TLS: the handshake took too long", "the attempt took too long")
  end)

  it("says that a server wants TLS", function()
    server = redis.start { tls = { certificate = certificates.good } }
    start "{}"
    assert_fails("ping: closed", "connection reset by peer")
  end)
end)
