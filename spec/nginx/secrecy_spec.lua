--- No secret of a connection factory is shown in nginx, where claimers connect too: not in its log, nor in what a pool tells, nor in what a
-- request is told. The factories are those of spec/connection/secrecy_spec.lua.
local factories = require "spec.support.factories"
local nginx = require "spec.support.nginx"
local until_true = require "spec.support.until_true"

local POOLS = [[
local cueball = require "cueball"
local make, pools = %s, {}
use = %s
for name, options in pairs { right = %s, wrong = %s } do
  pools[name] = cueball.pool {
    name = name, max_connections = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { %q },
    recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } },
    connect = make(options),
  }
  pools[name]:subscribe(function(event)
    for field, value in pairs(event) do ngx.log(ngx.INFO, "event ", field, "=", tostring(value)) end
  end)
end
return pools
]]

local SERVER = [[
location = /use { content_by_lua_block {
  local ok, answer, message = pcall(pools[ngx.var.arg_n].with, pools[ngx.var.arg_n], function(connection, lease)
    ngx.say(tostring(connection), tostring(lease), lease:explain())
    return assert(use(connection))
  end)
  ngx.say(tostring(answer), " ", tostring(message))
} }
location = /fail { content_by_lua_block {
  local lease = assert(pools.right:claim())
  ngx.say(tostring(lease:fail "it said SESAMERIGHT, then SESAMERI"))
} }
location = /all { content_by_lua_block {
  for _, pool in pairs(pools) do
    ngx.say(tostring(pool), tostring(pool:last_error()))
    for _, backend in ipairs(pool:backends()) do
      for field, value in pairs(backend) do ngx.say(field, "=", tostring(value)) end
    end
  end
} }
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
]]

for name, case in pairs(factories.with_secrets(true)) do
  describe("secrets of a connection factory in nginx: " .. name, function()
    local server, one

    before_each(function() server = case.start() end)
    after_each(function()
      if one then one:stop() one = nil end
      server:stop()
    end)

    it("are shown nowhere", function()
      one = nginx.start {
        files = { ["my_pools.lua"] = POOLS:format(case.factory, case.use, case.right, case.wrong, server.backend) },
        http = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { package.path = package.path .. '" .. factories.PATHS
          .. "' pools = require 'my_pools' }\n",
        server = SERVER, log_level = "debug",
      }
      local told = {}
      local function ask(path)
        local body = one:ask(path)
        told[#told + 1] = body
        return body
      end
      until_true(function() return ask "/all":find(case.refusal, 1, true) end, function() return told[#told] end)
      for _ = 1, 3 do assert.is_nil(ask "/use?n=right":find("has failed", 1, true)) end
      assert.is_truthy(ask "/use?n=wrong":find(case.refusal, 1, true), told[#told])
      ask "/fail"
      ask "/all"
      server:kill()
      until_true(function() return ask "/use?n=right":find("has failed", 1, true) end)
      ask "/all"
      ask "/status"
      ask "/status?format=openmetrics"
      local all = table.concat(told, "\n") .. one:log()
      assert.is_truthy(all:find("is dead after", 1, true))
      assert.is_truthy(all:find("it said ***, then (the rest is not shown", 1, true)) -- of lease:fail
      for line in all:gmatch "[^\n]+" do assert.is_nil(line:find("SESAME", 1, true), line) end
    end)
  end)
end
