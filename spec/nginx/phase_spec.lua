--- Where in nginx something can be claimed, and that what is refused elsewhere leaves nothing behind.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = 4, claim_timeout_ms = 15000,
  resolver = cueball.resolver.static { "%s" }, connect = cueball.connection.redis { connect_timeout_ms = 15000, read_timeout_ms = 15000 },
} }
]]

-- Tries each way to claim, and notes what was said.
local FIRST = [[
  pools, said = require "my_pools", {}
  function try(phase)
    local list = {}
    for _, name in ipairs { "claim", "try_claim", "with" } do
      local ok, message = pcall(pools.cache[name], pools.cache, name == "with" and function() end or nil)
      list[#list + 1] = tostring(ok) .. " " .. tostring(message)
    end
    said[phase] = table.concat(list, "\n")
  end
]]

local SERVER = [[
location = /set { set_by_lua_block $x { try "set" return 1 } return 200 "x"; }
location = /header_filter { return 200 "x"; header_filter_by_lua_block { try "header_filter" } }
location = /body_filter { return 200 "x"; body_filter_by_lua_block { try "body_filter" } }
location = /log { return 200 "x"; log_by_lua_block { try "log" } }
location = /log_after_claim {
  content_by_lua_block { assert(pools.cache:claim()):release() ngx.print "x" }
  log_by_lua_block { try "log" }
}
location = /balancer { proxy_pass http://nobody; }
location = /rewrite { rewrite_by_lua_block { try "rewrite" } content_by_lua_block { ngx.print "x" } }
location = /access { access_by_lua_block { try "access" } content_by_lua_block { ngx.print "x" } }
location = /content { content_by_lua_block { try "content" ngx.print "x" } }
location = /timer { content_by_lua_block { ngx.timer.at(0, function() try "timer" end) ngx.print "x" } }
location = /said { content_by_lua_block { ngx.print(said[ngx.var.arg_phase] or "nothing") } }
location = /exit { content_by_lua_block { pools.cache:with(function() ngx.exit(204) end) ngx.exit(503) } }
location = /stats { content_by_lua_block { local stats = pools.cache:stats() ngx.print(stats.busy, " ", stats.claims) } }
location = /dies { content_by_lua_block { pools.cache:with(function() ngx.exit(tonumber(ngx.var.arg_status)) end) } }
location = /waits { content_by_lua_block {
  local held = {}
  for index = 1, 4 do held[index] = assert(pools.cache:claim()) end
  ngx.print(tostring(pools.cache:stats().busy))
  ngx.flush(true)
  repeat ngx.sleep(0.02) until pools.cache:stats().waiting >= tonumber(ngx.var.arg_until)
  ngx.exit(200)
} }
]]

local HTTP = [[
upstream nobody {
  server 127.0.0.1:1;
  balancer_by_lua_block { try "balancer" require("ngx.balancer").set_current_peer("127.0.0.1", 1) }
}
]]

local REFUSED = { "set", "header_filter", "body_filter", "log", "balancer" }
local ALLOWED = { "rewrite", "access", "content", "timer" }

local function refusal(phase)
  local list = {}
  for index, name in ipairs { "claim", "try_claim", "with" } do
    list[index] = ("false pool:%s: no socket can be used in this phase (%s); "):format(name, phase)
      .. "claim in one that may wait (rewrite, access, content, a timer)"
  end
  return table.concat(list, "\n")
end

describe("a claim in nginx", function()
  local one, backend

  before_each(function() backend = redis.start() backend:call("SET", "key", "value") end)
  after_each(function()
    if one then one:stop() one = nil end
    backend:stop()
  end)

  local function start(given)
    given = given or {}
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(backend.backend) },
      http = HTTP .. (given.http or "") .. "\ninit_worker_by_lua_block { " .. FIRST .. (given.first or "") .. " }\n",
      server = SERVER .. (given.server or ""),
    }
  end

  local function said(phase)
    nginx.until_true(function() return one:ask("/said?phase=" .. phase) ~= "nothing" end, function() return one:log() end)
    return (one:ask("/said?phase=" .. phase):gsub("in function.*", ""))
  end

  -- What leaves by ngx.exit gives its lease back, for more requests than there are connections.
  local function is_sound()
    for _ = 1, 12 do assert.equal(204, (one:get "/exit")) end
    nginx.until_true(function() return one:ask("/stats"):match "^0 " end, function() return one:ask "/stats" end)
    assert.is_nil(one:log():find("threw", 1, true), one:log())
    assert.is_nil(one:log():find("traceback", 1, true), one:log())
    nginx.until_true(function() return backend:clients() == 4 end, function() return backend:call("CLIENT", "LIST") end)
  end

  for _, phase in ipairs(REFUSED) do
    it("is refused in " .. phase .. "_by_lua, and leaves nothing", function()
      start()
      nginx.until_true(function() return backend:clients() == 4 end)
      one:get("/" .. phase)
      assert.equal(refusal(phase), said(phase))
      assert.equal("0 0", one:ask "/stats")
      is_sound()
    end)
  end

  it("is refused in log_by_lua of a request that has claimed before", function()
    start()
    assert.equal("x", one:ask "/log_after_claim")
    assert.equal(refusal "log", said "log")
    is_sound()
  end)

  it("is refused in init_worker_by_lua and exit_worker_by_lua", function()
    start { first = "try 'init_worker'",
      http = "exit_worker_by_lua_block { try 'exit_worker' ngx.log(ngx.WARN, 'said: ', said.exit_worker) }" }
    assert.equal(refusal "init_worker", said "init_worker")
    is_sound()
    one:signal "QUIT"
    one:wait_for_exit()
    assert.is_truthy(one:log():find("said: " .. refusal "exit_worker", 1, true), one:log())
  end)

  for _, phase in ipairs(ALLOWED) do
    it("is granted in " .. phase .. (phase == "timer" and "s" or "_by_lua"), function()
      start()
      nginx.until_true(function() return backend:clients() == 4 end)
      one:get("/" .. phase)
      assert.matches("^true cueball.lease .-\ntrue cueball.lease", said(phase))
      is_sound()
    end)
  end

  it("is refused in log_by_lua with lua_code_cache off, and no connection outlives its request", function()
    start { http = "lua_code_cache off;", server = [[location = /own {
      content_by_lua_block { ngx.print(assert(require("my_pools").cache:with(function(red) return red:get "key" end))) }
      log_by_lua_block { ngx.log(ngx.WARN, "said: ", select(2, pcall(function() require("my_pools").cache:claim() end))) }
    }
    location = /only_log { return 200 "x"; log_by_lua_block { pcall(function() require("my_pools").cache:claim() end) } }]] }
    for _ = 1, 10 do
      assert.equal("value", one:ask "/own")
      assert.equal("x", one:ask "/only_log")
    end
    nginx.until_true(function() return backend:clients() <= 4 end, function() return backend:clients() end) -- init_worker_by_lua's
    assert.is_truthy(one:log():find("pool:claim: no socket can be used in this phase (log)", 1, true), one:log())
  end)

  it("gives its lease back at once when the request leaves by ngx.exit, as the numbers show", function()
    start()
    nginx.until_true(function() return backend:clients() == 4 end)
    for _, status in ipairs { 200, 204, 302, 444, 503 } do
      one:get("/dies?status=" .. status)
      assert.equal("0", one:ask("/stats"):match "^%d+")
    end
  end)

  it("that waits sleeps until it is answered, and hears of a request that ended", function()
    start { first = [[
      naps = 0
      local semaphore = require "ngx.semaphore"
      local wait = semaphore.wait
      function semaphore:wait(...) if ngx.get_phase() == "content" then naps = naps + 1 end return wait(self, ...) end
    ]], server = [[location = /claim { content_by_lua_block {
      local red, message = pools.cache:with(function(red) return red:get "key" end, { timeout_ms = 20000 })
      ngx.print(tostring(red or message))
    } }
    location = /naps { content_by_lua_block { ngx.print(naps, " ", pools.cache:stats().waiting_max) } }]] }
    nginx.until_true(function() return backend:clients() == 4 end)
    local wrong, all_are_held = {}, false
    nginx.many(102, 102, function(index)
      if index == 1 then
        one:get "/waits?until=60"
      elseif index == 2 then
        nginx.until_true(function() return one:ask("/stats"):match "^4 " end)
        all_are_held = true
      else
        nginx.until_true(function() return all_are_held end)
        local _, body = one:get "/claim"
        if body ~= "value" then wrong[#wrong + 1] = body end
      end
    end)
    assert.same({}, wrong)
    local naps, waited = one:ask("/naps"):match "(%d+) (%d+)"
    assert.is_true(tonumber(waited) > 50, waited .. " waited")
    assert.is_true(tonumber(naps) <= 110, naps .. " naps of 100 claims")
  end)

  it("that can never be served is told so: its own request has all connections", function()
    start { server = [[location = /nested { content_by_lua_block {
      local held = {}
      for index = 1, 4 do held[index] = assert(pools.cache:claim()) end
      ngx.print(select(3, pools.cache:claim { timeout_ms = 20000 }))
      for index = 1, 4 do held[index]:release() end
    } }
    location = /threads { content_by_lua_block {
      local held = {}
      local one = ngx.thread.spawn(function()
        for index = 1, 4 do held[index] = assert(pools.cache:claim()) end
        ngx.sleep(0.05)
        for index = 1, 4 do held[index]:release() end
      end)
      local other = ngx.thread.spawn(function()
        local lease = assert(pools.cache:claim { timeout_ms = 20000 })
        lease:release()
        return held[4].connection == nil and "served" or "early"
      end)
      ngx.thread.wait(one)
      ngx.print(select(2, ngx.thread.wait(other)))
    } }
    location = /patient { content_by_lua_block {
      ngx.print(select(2, pools.cache:with(function(red) ngx.sleep(0.05) return "x", "served" end, { timeout_ms = 20000 })))
    } }]] }
    nginx.until_true(function() return backend:clients() == 4 end)
    assert.equal("deadlock", one:ask "/nested")
    assert.equal("served", one:ask "/threads") -- another light thread goes on
    local wrong = {}
    nginx.many(40, 20, function() -- those of others are none of its own
      local _, body = one:get "/patient"
      if body ~= "served" then wrong[#wrong + 1] = body end
    end)
    assert.same({}, wrong)
    is_sound()
  end)
end)
