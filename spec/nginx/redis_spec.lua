--- cueball.connection.redis: against real redis-servers, under nginx and on libuv.
local free_port = require("spec.support.port").free
local cueball = require "cueball"
local uv_host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = 1, claim_timeout_ms = %d, resolver = cueball.resolver.static { "%s" },
  connect = cueball.connection.redis %s,
} }
]]

-- What a claimer may leave behind; the connection must not be lent again. `nil`: it may.
local LEFT = {
  ["a transaction"] = "red:multi()",
  ["watched keys"] = "red:watch 'key'",
  ["another database"] = "red:select(3)",
  ["a subscription"] = "red:subscribe 'channel'",
  ["a pipeline that was not sent"] = "red:init_pipeline() red:get 'key'",
  ["a name"] = "red:client('setname', 'x')",
  ["a closed socket"] = "red._sock:close()",
  ["a transaction, in capitals"] = "red:MULTI()",
  ["another database, in capitals"] = "red:SELECT(3)",
  ["watched keys, in a mixture"] = "red:Watch 'key'",
  ["another database, by a pipeline"] = "red:init_pipeline() red:SELECT(3) red:get 'key' red:commit_pipeline()",
  ["a transaction that a pipeline began"] = "red:init_pipeline() red:multi() red:set('other', 1) red:commit_pipeline()",
  ["a transaction whose end was in a pipeline that was given up"] = "red:multi() red:init_pipeline() red:exec() red:cancel_pipeline()",
  ["a transaction that followed another in a pipeline"] = "red:multi() red:init_pipeline() red:exec() red:multi() red:commit_pipeline()",
  ["the answer of a replica"] = "red:eval([[return redis.error_reply('READONLY You can not write')]], 0)",
  ["the answer of a replica, in a pipeline"] =
    "red:init_pipeline() red:get 'key' red:eval([[return redis.error_reply('READONLY You can not write')]], 0) red:commit_pipeline()",
  ["a command that took too long"] = "red:set_timeout(5) red:blpop('nothing', 1)",
}
local FIT = {
  ["a transaction that was done"] = "red:multi() red:get 'key' red:exec()",
  ["a transaction that was given up"] = "red:watch 'key' red:multi() red:discard()",
  ["watched keys that are not any more"] = "red:watch 'key' red:unwatch()",
  ["a pipeline"] = "red:init_pipeline() red:get 'key' red:get 'key' red:commit_pipeline()",
  ["a transaction in a pipeline"] = "red:init_pipeline() red:multi() red:get 'key' red:exec() red:commit_pipeline()",
  ["a transaction that a pipeline was to begin, and did not"] = "red:init_pipeline() red:multi() red:cancel_pipeline()",
  ["a transaction in capitals"] = "red:MULTI() red:GET 'key' red:EXEC()",
  ["an answer that is an error"] = "red:lpush('key', 1)",
}

describe("cueball.connection.redis", function()
  local one, backend

  before_each(function() backend = redis.start() backend:call("SET", "key", "value") end)
  after_each(function()
    if one then one:stop() one = nil end
    backend:stop()
  end)

  local function start(options, to, code, claim_timeout_ms)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(claim_timeout_ms or 15000, to or backend.backend, options or "{}") },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }\n",
      server = [[
        location = /get { content_by_lua_block { ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) } }
        location = /opened { content_by_lua_block { ngx.print(pools.cache:stats().opened) } }
        location = /leave { content_by_lua_block {
          pools.cache:with(function(red) ]] .. (code or "") .. [[ end)
          ngx.say "left"
        } }]],
    }
  end

  for what, code in pairs(LEFT) do
    it("does not lend a connection again that was left with " .. what, function()
      start(nil, nil, code)
      assert.equal("value\n", one:ask "/get")
      assert.equal("left\n", one:ask "/leave")
      assert.equal("value\n", one:ask "/get")
      assert.equal("2", one:ask "/opened")
    end)
  end

  it("does not give a claimer the answer that another did not read", function()
    start(nil, nil, "red._sock:send 'PING\\r\\n'") -- nginx drops it where it is parked, or its next claimer does
    for _ = 1, 5 do
      assert.equal("left\n", one:ask "/leave")
      backend:call "PING" -- Redis answers in turn: the other answer is there by now, and can be noticed
      assert.equal("value\n", one:ask "/get")
    end
  end)

  for what, code in pairs(FIT) do
    it("lends a connection again after " .. what, function()
      start(nil, nil, code)
      for _ = 1, 3 do
        assert.equal("left\n", one:ask "/leave")
        assert.equal("value\n", one:ask "/get")
      end
      assert.equal("1", one:ask "/opened")
    end)
  end

  it("logs in and chooses the database, also when a connection is opened anew", function()
    backend:stop()
    backend = redis.start { password = "secret" }
    backend:call("ACL", "SETUSER", "ann", "on", ">hers", "~*", "+@all")
    backend:call("-n", "5", "SET", "key", "of five")
    for _, options in ipairs { "{ password = 'secret', database = 5 }", "{ username = 'ann', password = 'hers', database = 5 }" } do
      start(options)
      assert.equal("of five\n", one:ask "/get")
      backend:call("CLIENT", "KILL", "TYPE", "normal")
      assert.equal("of five\n", one:ask "/get")
      one:stop()
    end
    start("{ password = 'wrong' }", nil, nil, 1000)
    assert.equal(500, (one:get "/get"))
    nginx.until_true(function() return one:log():find("auth: WRONGPASS", 1, true) end, function() return one:log() end)
  end)

  it("speaks TLS", function()
    local folder = os.tmpname()
    os.remove(folder)
    local make = "mkdir %s && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=db.test -keyout %s/key -out %s/cert 2>/dev/null"
    assert.equal(0, os.execute(make:format(folder, folder, folder)))
    backend:stop()
    local port = free_port()
    backend = redis.start {
      ("--tls-port %d --tls-cert-file %s/cert --tls-key-file %s/key --tls-auth-clients no"):format(port, folder, folder),
    }
    backend:call("SET", "key", "value")
    start("{ tls = { verify = false, server_name = 'db.test' } }", "127.0.0.1:" .. port)
    for _ = 1, 5 do assert.equal("value\n", one:ask "/get") end
    assert.equal("1", one:ask "/opened")
    assert.equal(1, backend:clients())
    one:stop()
    start("{ tls = true }", "127.0.0.1:" .. port, nil, 1000) -- nobody vouches for it
    assert.equal(500, (one:get "/get"))
    nginx.until_true(function() return one:log():find("TLS: ", 1, true) end, function() return one:log() end)
    os.execute("rm -r " .. folder)
  end)

  it("works on libuv too, with the same library", function()
    uv_host.run(function()
      local pool = cueball.pool {
        host = uv_host, max_connections = 1, resolver = cueball.resolver.static { backend.backend }, connect = cueball.connection.redis {},
      }
      assert.equal("value", pool:with(function(red) return red:get "key" end))
      local opened = pool:stats().opened
      pool:with(function(red) red:multi() end)
      for _ = 1, 2 do assert.equal("value", pool:with(function(red) return red:get "key" end)) end
      nginx.until_true(function() return pool:stats().opened == opened + 1 end)
      assert.is_nil(rawget(_G, "ngx"))
      pool:stop()
    end)
  end)

  it("has its own time limits again for each claimer, whatever the one before has set", function()
    uv_host.run(function()
      local pool = cueball.pool {
        host = uv_host, max_connections = 1, resolver = cueball.resolver.static { backend.backend },
        connect = cueball.connection.redis { read_timeout_ms = 3000, send_timeout_ms = 4000 },
      }
      pool:with(function(red) red:set_timeout(1) end)
      pool:with(function(red) assert.same({ 3000, 4000 }, { red._sock.read_timeout_ms, red._sock.send_timeout_ms }) end)
      pool:stop()
      pool = cueball.pool {
        host = uv_host, max_connections = 1, resolver = cueball.resolver.static { backend.backend },
        connect = cueball.connection.tcp { read_timeout_ms = 3000 },
      }
      pool:with(function(socket) socket:settimeouts(1, 2, 3) end)
      pool:with(function(socket) assert.same({ 3000, 60000 }, { socket.read_timeout_ms, socket.send_timeout_ms }) end)
      pool:stop()
    end)
    start("{ read_timeout_ms = 15000 }", nil, "red:set_timeout(20)")
    one:ask "/leave"
    for _ = 1, 3 do assert.equal("value\n", one:ask "/get") end
    backend:pause()
    local status
    uv_host.run(function()
      uv_host.spawn(function() uv_host.sleep(500) backend:go_on() end)
      status = one:get "/get"
    end)
    assert.equal(200, status)
  end)

  it("returns what the library does", function()
    start(nil, nil, [[
      ngx.print(select("#", red:get "key"), select("#", red:lpush("key", 1)), " ")
      red:init_pipeline()
      ngx.print(select("#", red:get "key"), select("#", red:MULTI()), " ")
      red:cancel_pipeline()
      ngx.print(select("#", red:commit_pipeline()), " ")
    ]])
    assert.equal("12 00 2 left\n", one:ask "/leave")
  end)

  local LIBRARY = [[
    local found, library = pcall(require, "resty.redis")
    if not found then library = require "nginx.redis" end ]]

  it("makes clients and cosockets as the library and ngx_lua do", function()
    start("{ connect_timeout_ms = 11, send_timeout_ms = 22, read_timeout_ms = 3333 }", nil, LIBRARY .. [[
      local other = library:new()
      other._sock:settimeouts(11, 22, 3333)
      local function fields(list, own)
        local names = {}
        for name, value in next, list do
          if name ~= own then names[#names + 1] = tostring(name) .. "=" .. tostring(value) end
        end
        table.sort(names)
        return table.concat(names, " ")
      end
      ngx.say(fields(red, "_sock") == fields(other, "_sock"))
      local sock = red._sock
      ngx.say(sock[2], " ", sock[4], " ", sock[5])
      ngx.say(other._sock[2], " ", other._sock[4], " ", other._sock[5])
      red:get "key" -- so that it is parked
    ]])
    assert.equal("true\n11 22 3333\n11 22 3333\nleft\n", one:ask "/leave")
    assert.equal("true\n11 22 3333\n11 22 3333\nleft\n", one:ask "/leave")
  end)

  local OTHERS = {
    ["the library's clients"] = { "function nil", [[
      local new = library.new
      function library:new()
        local client = new(self)
        client.extra = function() end
        return client
      end ]] },
    ["cosockets"] = { "nil true", [[
      local tcp = ngx.socket.tcp
      ngx.socket.tcp = function()
        local made = tcp()
        made.more = true
        return made
      end ]] },
  }
  for what, other in pairs(OTHERS) do
    it("leaves it to those where they are something else than they were: " .. what, function()
      one = nginx.start {
        files = { ["my_pools.lua"] = LIBRARY .. other[2] .. POOLS:format(15000, backend.backend, "{}") },
        http = "init_worker_by_lua_block { pools = require 'my_pools' }\n",
        server = [[location = /get { content_by_lua_block {
          ngx.print(pools.cache:with(function(red)
            return red:get "key" .. " " .. type(rawget(red, "extra")) .. " " .. tostring(rawget(red._sock, "more"))
          end), " ", pools.cache:stats().opened) } }]],
      }
      for _ = 1, 3 do assert.equal("value " .. other[1] .. " 1", one:ask "/get") end
    end)
  end

  it("is closed, and blames nobody, if another request than its own releases it", function()
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(15000, backend.backend, "{}") },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }\n",
      server = [[
        location = /take { content_by_lua_block {
          local lease = pools.cache:claim()
          lease.connection:get "key"
          held = lease
          while held do ngx.sleep(0.01) end
        } }
        location = /give { content_by_lua_block {
          while not held do ngx.sleep(0.01) end
          local given = held:release()
          held = nil
          ngx.print(given, " ", pools.cache:with(function(red) return red:get "key" end), " ", pools.cache:stats().opened)
        } }]],
    }
    local given
    uv_host.run(function()
      uv_host.spawn(function() one:get "/take" end)
      given = select(2, one:get "/give")
    end)
    assert.equal("true value 2", given)
  end)

  it("says what is wrong with its options", function()
    assert.has_error(function() cueball.connection.redis { pasword = "x" } end)
    assert.has_error(function() cueball.connection.redis { username = "ann" } end,
      "cueball.connection.redis: option 'username' needs option 'password' beside it")
    assert.has_error(function() cueball.connection.redis { tls = { verfy = true } } end)
  end)
end)
