--- Resolvers of the manual in the real nginx: poll, watch, file; and pools that hear of their failure.
local free_port = require("spec.support.port").free
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local shell = require "spec.support.shell"

local POOLS = [[
local cueball = require "cueball"
local function open(resolver, connect)
  return cueball.pool { max_connections = 1, connect = connect or function() return {} end, resolver = resolver,
    recovery = { default = { attempts = 1, delay_ms = 20, max_delay_ms = 200 } } }
end
local looks, ended = 0, 0
local pools = {}
pools.poll = open(cueball.resolver.poll { interval_ms = 50, step = function(sink)
  looks = looks + 1
  if looks == 1 then sink:on_end(function() ended = ended + 1 end) end
  if looks < 4 then return nil, "not yet" end
  return { "10.0.0.1:80", looks < 6 and "10.0.0.2:80" or "10.0.0.3:80" }
end })
pools.watch = open(cueball.resolver.watch {
  list = function() return { "10.0.0.1:80" }, 1 end,
  follow = function(sink, position)
    sink:sleep(50)
    if position > 3 then return sink:sleep(1e6) and position or false end
    sink:add("10.0.1." .. position .. ":80")
    return position + 1
  end,
})
pools.file = open(cueball.resolver.file { path = ngx.config.prefix() .. "/backends", interval_ms = 50, default_port = 81 })
pools.dead = open(function(sink)
  local runs = 0
  repeat
    runs = runs + 1
    sink:set { runs == 1 and "127.0.0.1:%d" or "127.0.0.1:%d" }
  until not sink:sleep(3600e3)
end, cueball.connection.tcp {})
pools.ended = function() return ended end
return pools
]]

local SERVER = [[
location = /keys { content_by_lua_block {
  local pool, keys = pools[ngx.var.arg_of], {}
  for _, one in ipairs(pool:backends()) do if not one.removed then keys[#keys + 1] = one.key end end
  table.sort(keys)
  ngx.print(table.concat(keys, " "), " ", pool:resolver().message or "well")
} }
location = /stop { content_by_lua_block { pools.poll:stop() ngx.print(pools.ended()) } }
]]

describe("resolvers of the manual in nginx", function()
  it("work unchanged", function()
    local nobody, somebody = free_port(), server.echo()
    local one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(nobody, somebody.port), backends = "10.0.0.7\n10.0.0.8:82 weight=2\n" },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }", server = SERVER,
    }
    local function await(name, pattern)
      nginx.until_true(function() return one:ask("/keys?of=" .. name):find(pattern) ~= nil end,
        function() return one:ask("/keys?of=" .. name) .. "\n" .. one:log() end)
    end
    await("poll", "^10.0.0.1:80 10.0.0.3:80 well$")
    await("watch", "^10.0.0.1:80 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 well$")
    await("file", "^10.0.0.7:81 10.0.0.8:82 well$")
    shell.write(one.prefix .. "/new", "10.0.0.9\nrubbish\n")
    assert(os.rename(one.prefix .. "/new", one.prefix .. "/backends")) -- half of it is never there to be read
    await("file", "^10.0.0.7:81 10.0.0.8:82 .*backends:2: ")
    await("dead", "^127.0.0.1:" .. somebody.port .. " well$")
    assert.equal("1", one:ask "/stop")
    one:stop()
    somebody:close()
  end)
end)
