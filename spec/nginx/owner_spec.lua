--- A claim always comes back: every way a request can end, under the real nginx.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local POOLS = [[
local cueball = require "cueball"
local ffi = require "ffi"
local pools = { cache = cueball.pool {
  name = "cache", max_connections = 8, claim_timeout_ms = %s, leak_detection = %s,
  resolver = cueball.resolver.static { "%s" },
  connect = cueball.connection.redis { connect_timeout_ms = 10000, read_timeout_ms = 10000 },
} }
function pools.check()
  local text = ffi.new("char[?]", 512)
  if pools.cache.core:check(text, 512) ~= 0 then return ffi.string(text) end
  return "sound"
end
return pools
]]

-- Each way to die, in a location of its own; each has claimed before.
local WAYS = {
  abort = "claim() ngx.sleep(0.2)",                             -- the client leaves
  abort_in_command = "local l = claim() l.connection:blpop('nothing', 0.2)",
  abort_in_with = "pools.cache:with(function(red) ngx.sleep(0.2) end)",
  exit = "claim() ngx.exit(204)",
  exit_error = "claim() ngx.exit(500)",
  exit_close = "claim() ngx.exit(444)",
  exit_in_with = "pools.cache:with(function(red) red:get 'key' ngx.exit(200) end)",
  redirect = "claim() ngx.redirect '/elsewhere'",
  exec = "claim() ngx.exec '/ready'",
  exec_in_with = "pools.cache:with(function(red) ngx.exec '/ready' end)",
  throw = "claim() error 'for the spec'",
  throw_in_with = "pools.cache:with(function() error 'for the spec' end)",
  forget = "claim() ngx.say 'forgot'",
  thread = "local t = ngx.thread.spawn(function() claim() ngx.sleep(0.2) end) ngx.thread.kill(t) ngx.say 'killed'",
  thread_waits = [[
    local list = {}
    for i = 1, 12 do list[i] = ngx.thread.spawn(function() claim() ngx.sleep(0.2) end) end
    ngx.sleep(0.002)
    for i = 1, 12 do ngx.thread.kill(list[i]) end
    ngx.say 'killed']],
  thread_exits = "ngx.thread.spawn(function() claim() ngx.sleep(0.001) ngx.exit(200) end) claim() ngx.sleep(0.2)",
  coroutine = "local co = coroutine.wrap(function() claim() coroutine.yield() end) co() ngx.say 'left'",
  timer = "ngx.timer.at(0, function() claim() end) ngx.say 'later'",
  timer_throws = "ngx.timer.at(0, function() claim() error 'for the spec' end) ngx.say 'later'",
  eof = "claim() ngx.say 'x' ngx.eof() ngx.sleep(0.001)",
  released = "local l = claim() if l then l.connection:get 'key' l:release() end ngx.say 'well'",
}

local QUICK = { "exit", "exit_error", "exit_close", "exit_in_with", "redirect", "exec", "exec_in_with", "throw", "throw_in_with", "forget",
  "thread", "thread_waits", "thread_exits", "coroutine", "timer", "timer_throws", "eof", "released" }

local function locations()
  local list = {}
  for name, code in pairs(WAYS) do
    list[#list + 1] = ("location = /%s { content_by_lua_block { %s } }"):format(name, code)
  end
  list[#list + 1] = "location = /access { access_by_lua_block { claim() ngx.exit(403) } return 200; }"
  list[#list + 1] = "location = /subrequest { content_by_lua_block { "
    .. "ngx.location.capture '/forget' ngx.location.capture '/exit' claim() } }"
  return table.concat(list, "\n")
end

local SERVER = locations() .. [[
location = /elsewhere { return 200 "elsewhere"; }
location = /state { content_by_lua_block {
  local stats = pools.cache:stats()
  ngx.say(pools.check(), " ", stats.busy, " busy ", stats.waiting, " waiting ", stats.idle, " idle ", stats.total, " total")
} }
location = /stats { content_by_lua_block { ngx.say(pools.cache:stats()[ngx.var.arg_name]) } }
]]

describe("a request that ends with a lease", function()
  local one, backend

  setup(function() backend = redis.start { "--maxclients 5000" } backend:call("SET", "key", "value") end)
  teardown(function() backend:stop() end)
  after_each(function() if one then one:stop() one = nil end end)

  local function start(given)
    given = given or {}
    one = nginx.start {
      workers = given.workers or 1, log_level = "warn", events = "worker_connections 4096;",
      files = { ["my_pools.lua"] = POOLS:format(given.timeout or "2000", tostring(given.leak_detection or false), backend.backend) },
      http = [[
        lua_check_client_abort on;
        init_worker_by_lua_block {
          pools = require 'my_pools'
          function claim() return (pools.cache:claim()) end
        }]],
      server = SERVER,
    }
  end

  local function is_at_rest()
    return one:ask "/state" == "sound 0 busy 0 waiting 8 idle 8 total\n"
  end

  local function comes_to_rest()
    nginx.until_true(is_at_rest, function() return one:ask "/state" .. one:log():sub(-3000) end)
  end

  it("gives it back, whatever ended it", function()
    start()
    comes_to_rest()
    for name in pairs(WAYS) do
      for _ = 1, 3 do
        if name:find "^abort" then one:ask_and_leave("/" .. name, 20) else one:get("/" .. name) end
      end
      comes_to_rest()
    end
    for _ = 1, 3 do one:get "/access" one:get "/subrequest" end
    comes_to_rest()
    nginx.until_true(function() return backend:clients() == 8 end, function() return backend:clients() end)
  end)

  -- As many as Redis has. A connection is replaced as soon as it is closed, and Redis may accept the new one before it reads that the old
  -- one has ended: what it says then is true once it has read that, so that it is asked again.
  local function never_more_than_8()
    nginx.until_true(function() return backend:clients() <= 8 end, function() return backend:call("CLIENT", "LIST") end)
  end

  it("leaves no trace of 10,000 that were killed at random", function()
    local seed = tonumber(os.getenv "CUEBALL_SEED") or os.time()
    print("\nCUEBALL_SEED=" .. seed)
    math.randomseed(seed)
    start { timeout = "50" }
    comes_to_rest()
    nginx.many(10000, 40, function(index)
      local dice = math.random()
      if dice < 0.2 then
        local name = dice < 0.1 and "abort" or dice < 0.15 and "abort_in_with" or "abort_in_command"
        one:ask_and_leave("/" .. name, math.random(0, 8))
      else
        one:get("/" .. QUICK[math.random(#QUICK)])
      end
      if index % 1000 == 0 then never_more_than_8() end
    end)
    comes_to_rest()
    nginx.until_true(function() return backend:clients() == 8 end, function() return backend:call("CLIENT", "LIST") end)
    local counts = {}
    local names = "claims released leases_closed leases_failed leases_revoked claims_refused claims_cancelled claim_timeouts granted"
    for name in names:gmatch "%S+" do
      counts[name] = tonumber(one:ask("/stats?name=" .. name))
    end
    assert.is_true(counts.claims > 9000 and counts.leases_revoked > 500, counts.claims .. " claims")
    assert.equal(counts.claims, counts.granted + counts.claims_refused + counts.claims_cancelled + counts.claim_timeouts)
    assert.equal(counts.granted, counts.released + counts.leases_closed + counts.leases_failed + counts.leases_revoked)
    assert.is_nil(one:log():find("%[alert%]"), one:log():sub(-3000))
    assert.is_nil(one:log():find("the driver threw", 1, true))
    assert.equal(1, #one:workers())
  end)
end)
