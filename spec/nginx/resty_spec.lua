--- cueball.connection.resty under nginx: Debian's libraries, required as they are, whose connections are parked. On libuv:
-- spec/connection/resty_spec.lua.
local certificates = require "spec.support.certificates"
local memcached = require "spec.support.memcached"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local define = nginx.is_there() and describe or pending

-- A module with one pool over the backend, made with this factory.
local function pools(backend, factory)
  return ([[
    local cueball = require "cueball"
    local all = { setups = 0 }
    function all.count_setup() all.setups = all.setups + 1 return true end
    all.pool = cueball.pool {
      name = "spec", max_connections = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { %q },
      recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } },
      connect = cueball.connection.resty { %s },
    }
    return all]]):format(backend, (factory:gsub("ALL", "all")))
end

local function start(backend, factory, server, http)
  return nginx.start {
    files = { ["my_pools.lua"] = pools(backend, factory) },
    http = (http or "") .. " init_worker_by_lua_block { pools = require 'my_pools' }\n", server = server,
  }
end

local STATS = [[location = /stats { content_by_lua_block {
  local stats = pools.pool:stats()
  ngx.print(stats.opened, " ", stats.lost, " ", pools.setups, " ", tostring(pools.pool:last_error()))
} }]]

local function until_stats(one, pattern)
  nginx.until_true(function() return one:ask "/stats":find(pattern) end, function() return one:ask "/stats" .. one:log() end)
end

define("a library's clients under nginx", function()
  local one, server

  before_each(function() one, server = nil, memcached.start() end)
  after_each(function()
    if one then one:stop() end
    server:stop()
  end)

  it("are parked, set up once, and shared by many requests", function()
    one = start(server.backend, "module = 'resty.memcached', setup = ALL.count_setup, check = function(c) return c:version() end", [[
      location = /count { content_by_lua_block {
        pools.pool:with(function(client) client:add("n", "0") end)
        ngx.print((pools.pool:with(function(client) return client:incr("n", 1) end)))
      } }]] .. STATS)
    until_stats(one, "^2 0 ")
    nginx.many(60, 10, function() one:ask "/count" end)
    assert.equal("61", one:ask "/count")
    assert.equal("2 0 2 nil", one:ask "/stats")
    nginx.until_true(function() return server:clients() == 2 end, function() return server:clients() end)
  end)

  it("are opened anew where the server closed them as they rested", function()
    one = start(server.backend, "module = 'resty.memcached', setup = ALL.count_setup", [[
      location = /get { content_by_lua_block {
        ngx.print((pools.pool:with(function(client) return client:set("k", "v") end)))
      } }]] .. STATS)
    until_stats(one, "^2 0 ")
    assert.equal("1", one:ask "/get")
    server:stop()
    server:start_again()
    for _ = 1, 4 do assert.equal("1", one:ask "/get") end
    assert.is_true(tonumber(one:ask "/stats":match "^%d+ %d+ (%d+) ") >= 3)
  end)

  it("in which a receive timed out are replaced", function()
    one = start(server.backend, "module = 'resty.memcached', read_timeout_ms = 5000", [[
      location = /get { content_by_lua_block {
        local value, _, message = pools.pool:with(function(client) return client:get "k" end)
        ngx.print(tostring(value), " ", tostring(message))
      } }]] .. STATS)
    assert.equal("nil nil", one:ask "/get")
    server:pause()
    assert.equal("nil timeout", one:ask "/get")
    server:go_on()
    for _ = 1, 4 do assert.equal("nil nil", one:ask "/get") end
  end)

  it("that have no socket before they connect, and so cannot be parked, are refused with the reason", function()
    one = start(server.backend, [[module = { new = function() return {} end }, connect = function(client)
      client.sock = ngx.socket.tcp()
      return client.sock:connect("127.0.0.1", ]] .. server.port .. [[)
    end]], STATS)
    nginx.until_true(function()
      return one:ask "/stats":find("a client of the library has no socket before it connects, so its connection cannot be parked: "
        .. "give option 'socket', or make the socket in 'new'", 1, true)
    end, function() return one:ask "/stats" end)
    nginx.until_true(function() return server:clients() == 0 end)
  end)
end)

define("a library's clients over TLS under nginx", function()
  local function started(more)
    local server = redis.start { tls = { certificate = certificates.good } }
    local one = start(server.secure, "module = 'resty.redis', setup = ALL.count_setup, tls = true" .. more, [[
      location = /set { content_by_lua_block { ngx.print((pools.pool:with(function(client) return client:incr "key" end))) } }]] .. STATS,
      "lua_ssl_protocols TLSv1.2 TLSv1.3; lua_ssl_trusted_certificate " .. certificates.ca.cert .. ";")
    finally(function()
      one:stop()
      server:stop()
    end)
    return one
  end

  it("are secured once, and parked", function()
    local one = started ", check = function(client) return client:ping() end"
    until_stats(one, "^2 0 2 ")
    for number = 1, 10 do assert.equal(tostring(number), one:ask "/set") end
    assert.equal("2 0 2 nil", one:ask "/stats")
  end)

  it("are refused where the server's certificate is for somebody else", function()
    local one = started ", tls = { server_name = 'other.example' }"
    nginx.until_true(function() return one:ask "/stats":find("TLS: ", 1, true) end, function() return one:ask "/stats" end)
  end)
end)

define("a websocket client under nginx", function()
  it("stays in its conversation over many requests", function()
    local chat = nginx.start { server = [[location /chat { content_by_lua_block {
      local server = require("nginx.websocket.server"):new { timeout = 20000 }
      local count = 0
      while true do
        local data, kind = server:recv_frame()
        if kind ~= "text" then return end
        count = count + 1
        server:send_text(data .. " " .. count)
      end
    } }]] }
    finally(function() chat:stop() end)
    local one = start("127.0.0.1:" .. chat.port, [[module = "resty.websocket.client", connect = { "ws://localhost/chat" },
      setup = function(client)
        client:send_text "login"
        local answer, _, message = client:recv_frame()
        return answer == "login 1", message or answer
      end]], [[location = /say { content_by_lua_block {
        ngx.print((pools.pool:with(function(client)
          client:send_text "hello"
          return (client:recv_frame())
        end)))
      } }]])
    finally(function()
      one:stop()
      chat:stop()
    end)
    local said = {}
    for index = 1, 6 do said[index] = one:ask "/say" end
    table.sort(said)
    -- Two connections, each in its turn or one alone: the counts go on, none begins again.
    for _, line in ipairs(said) do assert.matches("^hello [2-7]$", line) end
    assert.is_true(#said == 6 and (said[6] == "hello 7" or said[1] ~= said[3]), table.concat(said, ", "))
  end)
end)

define("cueball.cosocket.load under nginx", function()
  it("requires the library, whatever its name is there", function()
    local one = nginx.start { server = [[location = /load { content_by_lua_block {
      local cueball = require "cueball"
      local library, null, api = cueball.cosocket.load "resty.memcached"
      local missing = select(2, pcall(cueball.cosocket.load, "resty.nothere"))
      ngx.print(library == require "nginx.memcached", " ", null == ngx.null, " ", api == ngx, " ",
        library == cueball.cosocket.load "memcached", " ", (missing:match "resty.nothere: [^;]*"))
    } }]] }
    finally(function() one:stop() end)
    assert.equal("true true true true resty.nothere: the client library was not found as resty.nothere or nginx.nothere", one:ask "/load")
  end)
end)
