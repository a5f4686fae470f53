--- cueball.connection.redis under nginx, where connections are parked: roles, and secrets that are functions, against real redis-servers.
-- What a server may answer besides: spec/connection/redis_spec.lua, spec/connection/secret_spec.lua.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local POOLS = [[
local cueball = require "cueball"
asked, password = 0, "SESAMEOLD"
next_passwords = { new = "SESAMENEW", wrong = "SESAMEWRONG" }
local function secret()
  ngx.sleep(0.001)
  asked = asked + 1
  return password
end
local function slow()
  ngx.sleep(1000)
end
return { cache = cueball.pool {
  name = "cache", max_connections = 4, claim_timeout_ms = 15000, resolver = cueball.resolver.static { %s },
  recovery = { default = { attempts = 2, timeout_ms = %d, delay_ms = 20, max_delay_ms = 40 } },
  connect = cueball.connection.redis %s,
} }
]]

local SERVER = [[
location = /set { content_by_lua_block {
  local answer, message = pools.cache:with(function(red)
    local set, why = red:set("key", 1)
    if not set then return nil, why end
    return red:config("get", "port")[2]
  end)
  ngx.print(answer or message)
} }
location = /throw { content_by_lua_block {
  local ok, message = pcall(pools.cache.with, pools.cache, function(red) assert(red:set("key", 1)) end)
  ngx.print(ok and "no error" or message)
} }
location = /renew { content_by_lua_block {
  password = next_passwords[ngx.var.arg_to]
  pools.cache:renew { over_ms = 0 }
  ngx.print "renewed"
} }
location = /numbers { content_by_lua_block {
  local stats = pools.cache:stats()
  ngx.print(asked, " asked, ", stats.opened, " opened, ", stats.lost, " lost, ")
  ngx.print(stats.checks_failed > 0 and "checked" or "unchecked", ", ", stats.open_timeouts, " too late")
} }
location = /error { content_by_lua_block { ngx.print(pools.cache:last_error()) } }
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
location = /dead { content_by_lua_block {
  local count = 0
  for _, backend in ipairs(pools.cache:backends()) do count = count + (backend.dead and 1 or 0) end
  ngx.print(count)
} }
location = /whoami { content_by_lua_block { ngx.print(pools.cache:with(function(red) return red:acl "whoami" end)) } }
]]

describe("cueball.connection.redis under nginx", function()
  local one, servers

  before_each(function() servers = {} end)
  after_each(function()
    if one then one:stop() one = nil end
    for _, server in ipairs(servers) do server:stop() end
  end)

  local function start(options, timeout_ms)
    local backends = {}
    for index, server in ipairs(servers) do backends[index] = '"' .. server.backend .. '"' end
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(table.concat(backends, ", "), timeout_ms or 15000, options) }, log_level = "debug",
      http = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { pools = require 'my_pools' }\n", server = SERVER,
    }
  end

  local function until_dead(count)
    nginx.until_true(function() return one:ask "/dead" == tostring(count) end, function() return one:ask "/error" end)
  end

  local function start_two()
    servers[1] = redis.start()
    servers[2] = redis.replica_of(servers[1])
    start "{ role = 'primary' }"
    until_dead(1)
    -- The primary's part, and one that looks for the replica.
    nginx.until_true(function() return one:ask "/numbers":find " 3 opened" end, function() return one:ask "/numbers" end)
    return servers[1], servers[2]
  end

  it("uses the primary only, and asks parked connections nothing", function()
    local primary, replica = start_two()
    for _ = 1, 10 do assert.equal(tostring(primary.port), one:ask "/set") end
    assert.equal(("%s: the server is a replica of 127.0.0.1:%d, not a primary"):format(replica.backend, primary.port), one:ask "/error")
    local asked = primary:call("INFO", "commandstats"):match "cmdstat_role:calls=(%d+)"
    for _ = 1, 10 do one:ask "/set" end
    assert.equal(asked, primary:call("INFO", "commandstats"):match "cmdstat_role:calls=(%d+)")
  end)

  for _, path in ipairs { "/set", "/throw" } do
    it("finds a replica that was promoted, at the cost of one error: " .. path, function()
      local before, after = start_two()
      after:lead()
      before:follow(after)
      assert.matches("READONLY You can't write against a read only replica", one:ask(path))
      nginx.until_true(function()
        local answer = one:ask "/set"
        assert.is_nil(answer:find("READONLY", 1, true), answer)
        return answer == tostring(after.port)
      end)
      -- The checks of the others began when that one was lost; none of them was lent before its check was over.
      nginx.until_true(function() return one:ask "/numbers":find " 1 lost, checked," end, function() return one:ask "/numbers" end)
    end)
  end

  it("closes its connection where a secret takes too long", function()
    servers[1] = redis.start()
    start("{ password = slow }", 20)
    local function given_up() return tonumber(one:ask "/numbers":match "(%d+) too late") end
    nginx.until_true(function() return given_up() >= 12 end, function() return one:ask "/error" end)
    assert.matches("the attempt took too long$", one:ask "/error")
    -- Redis may accept a connection before it reads that the one in whose place it is has ended.
    nginx.until_true(function() return servers[1]:clients() <= 4 end, function() return servers[1]:call("CLIENT", "LIST") end)
  end)

  it("asks for secrets at each connect and no more, and shows them nowhere", function()
    servers[1] = redis.start { password = "SESAMEROOT" }
    servers[1]:call("ACL", "SETUSER", "ann", "on", ">SESAMEOLD", ">SESAMENEW", "~*", "+@all")
    start "{ username = function() return 'ann' end, password = secret }"
    for _ = 1, 10 do assert.equal("ann", one:ask "/whoami") end
    nginx.until_true(function() return one:ask "/numbers":find "4 asked, 4 opened" end, function() return one:ask "/numbers" end)
    servers[1]:call("CLIENT", "KILL", "USER", "ann")
    for _ = 1, 5 do assert.equal("ann", one:ask "/whoami") end -- opened anew, in the request
    assert.is_true(tonumber((one:ask "/numbers":match "^(%d+) asked")) > 4)
    servers[1]:call("ACL", "SETUSER", "ann", "<SESAMEOLD")
    one:ask "/renew?to=new"
    assert.equal("ann", one:ask "/whoami")
    one:ask "/renew?to=wrong"
    until_dead(1)
    assert.equal(servers[1].backend .. ": auth: WRONGPASS invalid username-password pair or user is disabled.", one:ask "/error")
    local shown = one:ask "/status" .. one:ask "/status?format=openmetrics" .. one:log()
    assert.is_truthy(shown:find("WRONGPASS", 1, true))
    assert.is_nil(shown:find("SESAM", 1, true), shown)
  end)
end)
