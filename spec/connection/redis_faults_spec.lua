--- cueball.connection.redis on libuv under load, while real redis-servers are killed, stopped, started again, full, or get another role:
-- nobody waits longer than agreed, every claimer is told, and what was acknowledged is there.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local redis = require "spec.support.redis"
local run_pool = require "spec.support.run_pool"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local CLAIMERS = 20
local CLAIM_MS, READ_MS = 15000, 5000 -- a redis-server that others keep from running is not to be thought to stand still
local RECOVERY = { default = { attempts = 2, timeout_ms = READ_MS, max_timeout_ms = READ_MS, delay_ms = 20, max_delay_ms = 100 } }

local servers

before_each(function() servers = {} end)
after_each(function()
  for _, server in ipairs(servers) do server:stop() end
end)

local function start(arguments)
  servers[#servers + 1] = redis.start(arguments)
  return servers[#servers]
end

local function start_replica_of(primary)
  servers[#servers + 1] = redis.replica_of(primary)
  return servers[#servers]
end

-- Claimers who each count up a key of their own, all the time.
local Load = {}
Load.__index = Load

local function increment(load, key)
  local began = host.now()
  local ok, answer, message = pcall(load.pool.with, load.pool, function(red) return red:incr(key) end)
  load.longest_ms = math.max(load.longest_ms, (host.now() - began) / 1e6)
  if ok and answer then
    load.acknowledged[key] = load.acknowledged[key] + 1
    load.answered = load.answered + 1
  else
    local why = tostring(ok and message or answer)
    load.told[key] = load.told[key] + 1
    local kind = why:match "^%u+%f[ ]" or why
    load.errors[kind] = (load.errors[kind] or 0) + 1
    load.failed = load.failed + 1
    host.sleep(2) -- a pool that has failed refuses at once
  end
end

local function begin(pool)
  local load = setmetatable({
    pool = pool, answered = 0, failed = 0, longest_ms = 0, running = CLAIMERS, acknowledged = {}, told = {}, errors = {}, is_over = false,
  }, Load)
  for number = 1, CLAIMERS do
    local key = "count" .. number
    load.acknowledged[key], load.told[key] = 0, 0
    host.spawn(function()
      while not load.is_over do increment(load, key) end
      load.running = load.running - 1
    end)
  end
  return load
end

-- Until so many more were answered.
function Load:goes_on(count)
  local before = self.answered
  until_true(function() return self.answered >= before + (count or 200) end, function() return self.pool:last_error() end)
end

function Load:finish()
  self.is_over = true
  until_true(function() return self.running == 0 end)
  local stats = self.pool:stats()
  assert.same({ 0, 0 }, { stats.waiting, stats.busy })
  assert.equal(stats.claims, stats.granted + stats.claim_timeouts + stats.claims_refused + stats.claims_cancelled)
  assert.is_true(self.longest_ms < CLAIM_MS + READ_MS + 5000, self.longest_ms) -- the machine may have other things to do
end

-- Of a key, the servers have what was acknowledged, and at most what was told to have failed besides.
function Load:is_kept_by(of)
  for key, acknowledged in pairs(self.acknowledged) do
    local kept = 0
    for _, server in ipairs(of) do kept = kept + (tonumber(server:call("GET", key)) or 0) end
    assert.is_true(kept >= acknowledged and kept <= acknowledged + self.told[key],
      ("%s: %d, and %d were acknowledged, %d failed"):format(key, kept, acknowledged, self.told[key]))
  end
end

local function under_load(of, options, fn, more)
  run_pool(with({
    host = host, max_connections = 8, claim_timeout_ms = CLAIM_MS, recovery = RECOVERY,
    check_interval_ms = 200, check_timeout_ms = READ_MS, resolver = cueball.resolver.static(redis.backends(of)),
    connect = cueball.connection.redis(with({ read_timeout_ms = READ_MS }, options)),
  }, more), function(pool)
    assert(pool:ready { timeout_ms = 15000 })
    local load = begin(pool)
    local done, why = pcall(fn, pool, load)
    load.is_over = true
    if not done then error(why, 0) end
    load:finish()
  end)
end

local function backend_of(pool, server)
  for _, backend in ipairs(pool:backends()) do
    if backend.key == server.backend then return backend end
  end
end

describe("a redis-server under load", function()
  it("is killed and started again: claims go on with the other one", function()
    local one, other = start(), start()
    under_load({ one, other }, nil, function(pool, load)
      load:goes_on()
      load.longest_ms = 0
      one:stop()
      until_true(function() return backend_of(pool, one).dead end)
      load:goes_on()
      assert.is_true(load.failed <= 8, load.failed) -- what was under way there
      local failed = load.failed
      one:start_again()
      until_true(function() return backend_of(pool, one).idle + backend_of(pool, one).busy == 4 end)
      load:goes_on()
      assert.equal(failed, load.failed)
    end)
  end)

  it("stands still for 5 s: who waits for it is told in time, and it is used again", function()
    local one, other = start(), start()
    under_load({ one, other }, nil, function(pool, load)
      load:goes_on()
      one:pause()
      local stopped_at = host.now()
      until_true(function() return backend_of(pool, one).dead end)
      while host.now() < stopped_at + 5e9 do load:goes_on(50) end
      assert.is_true(load.failed <= 8, load.failed)
      one:go_on()
      until_true(function() return backend_of(pool, one).idle + backend_of(pool, one).busy == 4 end)
      load:goes_on()
      load:finish()
      load:is_kept_by { one, other }
    end)
  end)

  it("alone stands still, is killed and started again: everybody is told why, and it is found", function()
    local one = start()
    under_load({ one }, nil, function(pool, load)
      load:goes_on()
      one:pause()
      until_true(function() return pool:state() == "failed" end)
      local failed = load.failed
      until_true(function() return load.failed > failed + 40 end) -- refused at once
      one:go_on()
      load:goes_on()
      one:stop()
      until_true(function() return pool:state() == "failed" end)
      one:start_again()
      load:goes_on()
    end)
  end)

  it("has no more room: that is evidence, with its text, and what it takes is used", function()
    local one = start { "--maxclients 4" } -- redis-cli finds no room either
    local function call(pool, ...)
      local words = { ... }
      return assert(pool:with(function(red) return red:config(unpack(words)) end))
    end
    under_load({ one }, nil, function(pool, load)
      until_true(function() return (pool:last_error() or ""):find "max number of clients" end)
      assert.equal(one.backend .. ": ping: ERR max number of clients reached", pool:last_error())
      until_true(function() return backend_of(pool, one).takes end)
      load:goes_on()
      assert.equal(0, load.failed)
      assert.is_true(backend_of(pool, one).takes <= 4)
      call(pool, "set", "maxclients", 100)
      until_true(function() return backend_of(pool, one).idle + backend_of(pool, one).busy == 8 end, function()
        return pool:stats().idle .. " idle, takes " .. tostring(backend_of(pool, one).takes)
      end)
      load:goes_on()
      assert.equal(0, load.failed)
    end)
  end)

  it("is full of others: it is dead, and claimers are told its text", function()
    local one = start { "--maxclients 1" }
    host.run(function()
      local other = host.tcp()
      assert(other:connect("127.0.0.1", one.port))
      other:send "PING\r\n"
      until_true(function() return other:receive "*l" == "+PONG" end)
      local pool = cueball.pool {
        host = host, claim_timeout_ms = CLAIM_MS, recovery = RECOVERY, resolver = cueball.resolver.static { one.backend },
        connect = cueball.connection.redis {},
      }
      local lease, message, name = pool:claim()
      assert.same({ nil, "pool_failed" }, { lease, name })
      assert.is_truthy(message:find("ERR max number of clients reached", 1, true), message)
      other:close()
      until_true(function() return pool:state() == "running" end)
      pool:stop()
    end)
  end)

  it("kills its clients, at rest and in a command", function()
    local one = start()
    under_load({ one }, nil, function(pool, load)
      load:goes_on()
      for _ = 1, 10 do
        one:call("CLIENT", "KILL", "TYPE", "normal")
        load:goes_on(100)
      end
      assert.is_true(load.failed <= 10 * 8, load.failed)
      load:finish()
      load:is_kept_by { one }
      until_true(function() return pool:stats().idle == 8 end)
      local opened = pool:stats().opened
      one:call("CLIENT", "KILL", "TYPE", "normal") -- at rest: noticed at once, and nobody meets one of them
      until_true(function() return pool:stats().opened == opened + 8 and pool:stats().idle == 8 end)
      assert.equal(1, (assert(pool:with(function(red) return red:incr "after" end))))
      assert.equal(0, pool:stats().dead_backends)
    end)
  end)

  it("has its role taken by another: writes go on there, at the cost of at most one error for each connection", function()
    local one = start()
    local other = start_replica_of(one)
    under_load({ one, other }, { role = "primary" }, function(pool, load)
      until_true(function() return backend_of(pool, other).dead end)
      load:goes_on()
      assert.equal(0, load.failed)
      for _, roles in ipairs { { one, other }, { other, one } } do
        local before, after = roles[1], roles[2]
        local failed = load.errors.READONLY or 0
        before:call("CLIENT", "PAUSE", "60000", "WRITE") -- as a failover does it: what is written is replicated first
        until_true(function() return before:call("INFO", "replication"):match "master_repl_offset:(%d+)"
          == after:call("INFO", "replication"):match "master_repl_offset:(%d+)" end)
        after:lead()
        before:follow(after)
        before:call("CLIENT", "UNPAUSE")
        load:goes_on()
        until_true(function() return not backend_of(pool, after).dead and backend_of(pool, before).dead end)
        assert.is_true((load.errors.READONLY or 0) <= failed + 8, load.errors.READONLY)
      end
      load:finish()
      load.errors.READONLY, load.errors.timeout = nil, nil
      for why in pairs(load.errors) do assert.is_truthy(why:find "has failed: dead: " or why:find "^claim timed out", why) end
      load:is_kept_by { one }
    end)
  end)
end)
