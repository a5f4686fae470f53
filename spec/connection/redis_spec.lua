--- cueball.connection.redis on libuv, against real redis-servers: what a server says of itself, and its role. Under nginx:
-- spec/nginx/redis_spec.lua, spec/nginx/redis_role_spec.lua.
local cueball = require "cueball"
local free_port = require("spec.support.port").free
local redis = require "spec.support.redis"
local run_pool = require "spec.support.run_pool"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"
local host = require "cueball.host.uv"

local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }

local servers

local function started(...)
  for _, server in ipairs { ... } do servers[#servers + 1] = server end
  return ...
end

before_each(function() servers = {} end)
after_each(function()
  for _, server in ipairs(servers) do server:stop() end
end)

local function start(arguments)
  return (started(redis.start(arguments)))
end

-- A primary, and a replica of it.
local function start_two()
  local primary = start()
  return primary, (started(redis.replica_of(primary)))
end

-- Runs fn(pool) with a pool over these servers.
local function with_pool(of, options, fn, more)
  run_pool(with({
    host = host, max_connections = 2, claim_timeout_ms = 15000, recovery = RECOVERY,
    resolver = cueball.resolver.static(redis.backends(of)), connect = cueball.connection.redis(options),
  }, more), fn)
end

-- What a claimer does who calls assert.
local function throwing(fn)
  return function(red)
    local answer, message = fn(red)
    if not answer then error(message, 0) end
    return answer
  end
end

local function backend_of(pool, server)
  for _, backend in ipairs(pool:backends()) do
    if backend.key == server.backend then return backend end
  end
end

-- Waits until its attempts have told that.
local function until_dead(pool, server)
  until_true(function() return backend_of(pool, server).dead end, function() return pool:last_error() end)
end

-- Who serves a claim: the port.
local function port_of(red)
  return tonumber((assert(red:config("get", "port")))[2])
end

describe("an answer of the server about itself", function()
  local function say(text)
    return function(red) return red:eval("return redis.error_reply('" .. text .. "')", 0) end
  end
  local function transaction(red)
    red:multi()
    red:set("key", 1)
    return red:exec()
  end

  -- Two connections are open, one of them hears it; what the pool made of it: lost connections, and checks of the other.
  local function hear(server, fn, options)
    local seen
    with_pool({ server }, options, function(pool)
      assert(pool:ready { connections = 2 })
      pcall(pool.with, pool, fn)
      until_true(function()
        local backend = backend_of(pool, server)
        return backend.idle == 2 or backend.dead
      end)
      local stats = pool:stats()
      seen = { stats.lost, stats.checks, pool:last_error() }
    end)
    return seen
  end

  for _, word in ipairs { "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN" } do
    it("is held against it, and has its other connections checked: " .. word, function()
      local server = start()
      local expected = { 1, 1, server.backend .. ": it answered " .. word }
      assert.same(expected, hear(server, say(word .. " so it is")))
      assert.same(expected, hear(server, throwing(say(word .. " so it is"))), "its claimer threw")
    end)
  end

  it("is one though it left more in the connection, in capitals, in a pipeline or as the end of a transaction", function()
    local server, replica = start_two()
    local expected = { 1, 1, replica.backend .. ": it answered READONLY" }
    assert.same(expected, hear(replica, function(red) return red:SET("key", 1) end))
    assert.same(expected, hear(replica, function(red) red:select(3) return red:set("key", 1) end))
    assert.same(expected, hear(replica, function(red)
      red:init_pipeline()
      red:Get "key"
      red:Set("key", 1)
      red:commit_pipeline()
    end))
    assert.same({ 1, 1, server.backend .. ": it answered READONLY" }, hear(server, function(red)
      red:multi()
      red:set("key", 1)
      server:call("REPLICAOF", "127.0.0.1", replica.port)
      return red:exec()
    end))
  end)

  it("is none where all is well, and none of what its claimer did", function()
    local server = start()
    assert.same({ 0, 0 }, hear(server, transaction))
    assert.same({ 0, 0 }, hear(server, say "ERR so it is"))
    assert.same({ 0, 0 }, hear(server, throwing(say "ERR so it is")))
    assert.same({ 0, 0 }, hear(server, throwing(function(red) red:select(3) return nil, "a bug" end)))
  end)

  it("is none of a replica that is asked to write, where one was asked for", function()
    local server, replica = start_two()
    local function write(red) return red:set("key", 1) end
    assert.same({ 0, 0 }, hear(replica, write, { role = "replica" }))
    assert.same({ 0, 0 }, hear(replica, throwing(write), { role = "replica" }))
    assert.same({ 1, 1, replica.backend .. ": it answered LOADING" }, hear(replica, say "LOADING so it is", { role = "replica" }))
    assert.is_not_nil(server)
  end)

  it("is heard by a real server of a cluster that has no slots, and by one that waits for its primary", function()
    local folder = os.tmpname()
    os.remove(folder)
    -- It listens at another port as well, by default at its own and 10000, which may be a client's.
    local server = start { ("--cluster-enabled yes --cluster-port %d --cluster-config-file %s"):format(free_port(), folder) }
    assert.same({ 1, 1, server.backend .. ": it answered CLUSTERDOWN" }, hear(server, function(red) return red:get "key" end))
    os.remove(folder)
    local primary, replica = start_two()
    replica:call("CONFIG", "SET", "replica-serve-stale-data", "no")
    with_pool({ replica }, nil, function(pool)
      assert(pool:ready { connections = 2 })
      primary:stop()
      until_true(function() return replica:call "PING":find "MASTERDOWN" end)
      local ok, message = pool:with(function(red) return red:get "key" end)
      assert.is_false(ok)
      assert.matches("^MASTERDOWN", message)
      until_dead(pool, replica) -- each new connection hears it in its greeting
      assert.matches(": ping: MASTERDOWN Link with MASTER is down", pool:last_error())
    end)
  end)

  it("ends what waits in a primary that becomes a replica", function()
    local server, other = start_two()
    local seen = hear(server, function(red)
      red:get "key"
      host.spawn(function()
        until_true(function() return server:call("CLIENT", "LIST"):find "cmd=blpop" end)
        server:call("REPLICAOF", "127.0.0.1", other.port)
      end)
      return red:blpop("nothing", 0)
    end)
    assert.same({ 1, 1, server.backend .. ": it answered UNBLOCKED" }, seen)
    other:lead()
    seen = hear(other, function(red)
      local id
      host.spawn(function()
        until_true(function() return other:call("CLIENT", "LIST"):find "cmd=blpop" end)
        for line in other:call("CLIENT", "LIST"):gmatch "[^\n]+" do
          if line:find "cmd=blpop" then id = line:match "^id=(%d+)" end
        end
        other:call("CLIENT", "UNBLOCK", id, "ERROR")
      end)
      return red:blpop("nothing", 0)
    end)
    assert.same({ 0, 0 }, seen) -- somebody asked for that
  end)
end)

describe("a role", function()
  it("has the pool use the servers that are in it, and says of the others why not", function()
    local primary, replica = start_two()
    local of = { primary, replica }
    local function serve_all(pool, server)
      for _ = 1, 6 do assert.equal(server.port, pool:with(port_of)) end
    end
    with_pool(of, { role = "primary" }, function(pool)
      until_dead(pool, replica)
      serve_all(pool, primary)
      assert.equal(("%s: the server is a replica of 127.0.0.1:%d, not a primary"):format(replica.backend, primary.port), pool:last_error())
    end)
    with_pool(of, { role = "replica" }, function(pool)
      until_dead(pool, primary)
      serve_all(pool, replica)
      assert.equal(primary.backend .. ": the server is a primary, not a replica", pool:last_error())
    end)
    with_pool(of, { role = "any" }, function(pool)
      assert(pool:ready { connections = 2 })
      local seen = {}
      for _ = 1, 6 do seen[pool:with(port_of)] = true end
      assert.same({ [primary.port] = true, [replica.port] = true }, seen)
      assert.is_nil(pool:last_error())
    end)
  end)

  it("is asked again by each check: one that another has got is not lent", function()
    local one, other = start_two()
    with_pool({ one }, { role = "primary" }, function(pool)
      assert(pool:ready { connections = 2 })
      one:follow(started(start()))
      until_dead(pool, one)
      assert.is_true(pool:stats().checks_failed > 0)
      assert.matches("the server is a replica of", pool:last_error())
    end, { check_interval_ms = 20 })
    with_pool({ other }, { role = "replica" }, function(pool)
      assert(pool:ready { connections = 2 })
      other:lead()
      until_dead(pool, other)
      assert.is_true(pool:stats().checks_failed > 0)
      assert.equal(other.backend .. ": the server is a primary, not a replica", pool:last_error())
    end, { check_interval_ms = 20 })
  end)

  for how, use in pairs {
    ["gives connections back"] = function(red) return red:set("key", 1) end,
    ["throws"] = throwing(function(red) return red:set("key", 1) end),
  } do
    it("finds the replica that was promoted, at the cost of one error, where the claimer " .. how, function()
      local one, other = start_two()
      with_pool({ one, other }, { role = "primary" }, function(pool)
        assert(pool:ready { connections = 3 })
        until_dead(pool, other)
        other:lead()
        one:follow(other)
        local failed = 0
        until_true(function()
          local ok, answer, message = pcall(pool.with, pool, use)
          if ok and answer == "OK" then return true end
          local why = ok and message or answer
          if why:find "^READONLY" then failed = failed + 1 else assert.matches("has failed: dead: ", why) end -- until it is probed
        end)
        assert.equal(1, failed)
        for _ = 1, 6 do assert.equal(other.port, pool:with(port_of)) end
      end, { max_connections = 4 })
    end)
  end

  it("is told by a server only to those who may ask", function()
    local server = start { password = "secret" }
    server:call("ACL", "SETUSER", "ann", "on", ">hers", "~*", "+@all", "-role")
    with_pool({ server }, { role = "primary", username = "ann", password = "hers" }, function(pool)
      until_dead(pool, server)
      assert.matches(": role: NOPERM", pool:last_error())
      server:call("ACL", "SETUSER", "ann", "+role")
      until_true(function() return pool:with(port_of) == server.port end)
    end)
  end)

  it("is one that there is", function()
    assert.has_error(function() cueball.connection.redis { role = "master" } end,
      [[cueball.connection.redis: option 'role' must be "any", "primary" or "replica", not "master"]])
  end)
end)
