--- cueball under the real nginx when things run out, or end.
local uv = require "luv"
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local server = require "spec.support.server"

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = 4, claim_timeout_ms = 15000, check_interval_ms = false,
  resolver = cueball.resolver.static { "%s" },
  connect = cueball.connection.redis { connect_timeout_ms = 15000, read_timeout_ms = 15000 },
} }
]]

local SERVER = [[
location = /stats { content_by_lua_block { ngx.say(pools.cache:stats()[ngx.var.arg_name] or "nil") } }
location = /get { content_by_lua_block { ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) } }
location = /hold { content_by_lua_block {
  ngx.log(ngx.INFO, "holds a lease")
  ngx.say(assert(pools.cache:with(function(red) ngx.sleep(tonumber(ngx.var.arg_s)) return red:get "key" end)))
} }
location = /fail { content_by_lua_block {
  local lease = assert(pools.cache:claim())
  lease:fail "for the spec"
  ngx.say "failed"
} }
location = /exiting { content_by_lua_block { ngx.say(tostring(ngx.worker.exiting())) } }
]]

describe("cueball in nginx, in trouble,", function()
  local one, backend

  setup(function() backend = redis.start() backend:call("SET", "key", "value") end)
  teardown(function() backend:stop() end)
  after_each(function() if one then one:stop() one = nil end end)

  local function start(given)
    one = nginx.start {
      workers = given.workers, main = given.main, events = given.events, log_level = given.log_level,
      files = { ["my_pools.lua"] = POOLS:format(given.backend or backend.backend) },
      http = (given.http or "") .. "\ninit_worker_by_lua_block { " .. (given.first or "") .. " pools = require 'my_pools' }\n",
      server = SERVER .. (given.server or ""),
    }
  end

  local function stat(name) return tonumber(one:ask("/stats?name=" .. name)) end

  -- A backend that speaks enough of Redis, and says more when told to.
  local function chatty()
    local self
    self = server.listen(function(client)
      client:read_start(function(_, data)
        if client:is_closing() then return end
        if not data then return client:close() end
        data = data:lower()
        if data:find "ping" then client:write "+PONG\r\n" end
        if data:find "get" then client:write "$5\r\nvalue\r\n" end
      end)
    end)
    function self.to_all(_, fn)
      for _, client in ipairs(self.clients) do
        if not client:is_closing() then fn(client) end
      end
    end
    return self
  end

  -- Computes until there is a file `done`, in which time the event loop sees nothing, then claims.
  local BUSY = [[location = /busy { content_by_lua_block {
    local prefix = ngx.config.prefix()
    io.open(prefix .. "/computes", "w"):close()
    local host = require("cueball").host()
    local till = host.now() + 15e9
    repeat until io.open(prefix .. "/done") or host.now() > till
    local list = {}
    for i = 1, 4 do list[i] = assert(pools.cache:claim()) end
    for i = 1, 4 do ngx.say(list[i].connection:get "key") end
    for i = 1, 4 do list[i]:release() end
  } }]]

  for what, act in pairs {
    ["stray bytes"] = function(client) client:write "$5\r\nstray\r\n" end,
    ["the server's goodbye"] = function(client) client:close() end,
    ["a reset"] = function(client) client:close_reset() end,
  } do
    for _, way in ipairs { "/get", "/busy" } do
      local when = way == "/get" and "seen by the loop" or "while the loop stands still"
      it(("takes no notice of %s at rest (%s)"):format(what, when), function()
        local other = chatty()
        start { backend = "127.0.0.1:" .. other.port, server = BUSY }
        nginx.until_true(function() return stat "idle" == 4 end)
        if way == "/get" then
          other:to_all(act)
          host.run(host.sleep, 50) -- for nginx to see it
          for _ = 1, 8 do assert.equal("value\n", one:ask "/get") end
        else
          local timer = uv.new_timer()
          timer:start(5, 5, function()
            if not uv.fs_stat(one.prefix .. "/computes") then return end
            timer:close()
            other:to_all(act)
            assert(uv.fs_close(assert(uv.fs_open(one.prefix .. "/done", "w", 420))))
          end)
          assert.equal(("value\n"):rep(4), one:ask "/busy")
        end
        assert.equal(0, stat "leases_failed")
        other:close()
      end)
    end
  end

  it("runs without timers", function()
    start {
      http = "lua_max_running_timers 1;",
      first = "ngx.timer.at(0, function(premature) while not ngx.worker.exiting() do ngx.sleep(0.1) end end)",
    }
    for _ = 1, 20 do assert.equal("value\n", one:ask "/get") end
    for _ = 1, 4 do assert.equal("failed\n", one:ask "/fail") end
    for _ = 1, 20 do assert.equal("value\n", one:ask "/get") end
    assert.is_truthy(one:log():find("lua_max_running_timers are not enough", 1, true))
  end)

  it("a request ends whose light thread was killed while it ran tasks, where there are no timers", function()
    start {
      http = "lua_max_running_timers 1;",
      first = "ngx.timer.at(0, function(premature) while not ngx.worker.exiting() do ngx.sleep(0.1) end end)",
      server = [[location = /killed { content_by_lua_block {
        local host, ran, may_end = require "cueball.nginx.host", {}, tonumber(ngx.var.arg_ran)
        for index = 1, 3 do
          host.errand(function()
            while may_end < index do host.sleep(1) end
            ran[#ran + 1] = index
          end)
        end
        host.service(function() ran.service = true host.sleep(60000) end)
        local thread = ngx.thread.spawn(function() host.waiter():wait() end)
        while #ran < may_end do ngx.sleep(0.001) end
        ngx.thread.kill(thread)
        may_end = 3
        local count, has_begun = #ran, ran.service or false
        repeat host.waiter():wait(10) until ran.service -- what goes on for ever is begun only here, where it can be ended
        ngx.say(count, " errands over, service begun: ", has_begun)
      } }]],
    }
    for ran = 1, 3 do
      assert.equal(ran .. " errands over, service begun: false\n", one:ask("/killed?ran=" .. ran))
    end
  end)

  it("answers, in time, when connections run out, and recovers", function()
    start { events = "worker_connections 24;" }
    nginx.until_true(function() return stat "idle" == 4 end)
    local sockets = {}
    host.run(function()
      for index = 1, 40 do
        local socket = host.tcp()
        socket:settimeouts(1000, 1000, 300)
        if socket:connect("127.0.0.1", one.port) then sockets[#sockets + 1] = socket end
        socket:send(index % 2 == 0 and "GET /fail HTTP/1.0\r\n\r\n" or "GET /get HTTP/1.0\r\n\r\n")
      end
      for _, socket in ipairs(sockets) do socket:receive "*a" end
      for _, socket in ipairs(sockets) do socket:close() end
    end)
    nginx.until_true(function() return one:get "/get" == 200 and select(2, one:get "/stats?name=idle") == "4\n" end,
      function() return one:log():sub(-2000) end)
    for _ = 1, 20 do assert.equal("value\n", one:ask "/get") end
  end)

  it("reloads under load without a failed request, and its old workers leave", function()
    start { workers = 2 }
    nginx.until_true(function() return backend:clients() == 8 end)
    local before, wrong, most = one:workers(), {}, 0
    local reloads = 0
    nginx.many(1500, 16, function(index)
      if index % 400 == 0 then
        one:signal "HUP"
        reloads = reloads + 1
      end
      local status, body = one:get(index % 10 == 0 and "/hold?s=0.1" or "/get")
      if body ~= "value\n" then wrong[#wrong + 1] = tostring(status) .. " " .. tostring(body) end
      if index % 100 == 0 then most = math.max(most, backend:clients()) end
    end)
    assert.equal(3, reloads)
    assert.same({}, wrong)
    nginx.until_true(function()
      local now = one:workers()
      for _, pid in ipairs(now) do
        if pid == before[1] or pid == before[2] then return false end
      end
      return #now == 2
    end, function() return one:log():sub(-2000) end)
    nginx.until_true(function() return backend:clients() == 8 end, function() return backend:call("CLIENT", "LIST") end)
    assert.is_nil(one:log():find "%[alert%]")
  end)

  it("goes on in a worker that is exiting: claims, failures, new connections", function()
    start { server = [[location = /long { content_by_lua_block {
      ngx.log(ngx.INFO, "begun")
      while not ngx.worker.exiting() do ngx.sleep(0.02) end
      ngx.sleep(1.5) -- by now the runner is gone
      for i = 1, 20 do ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) end
      for i = 1, 4 do assert(pools.cache:claim()):fail "for the spec" end
      for i = 1, 20 do ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) end
    } }]] }
    nginx.until_true(function() return stat "idle" == 4 end)
    local answer
    host.spawn(function() answer = one:ask "/long" end)
    nginx.until_true(function() return one:log():find("begun", 1, true) end)
    one:signal "HUP"
    nginx.until_true(function() return answer end)
    assert.equal(("value\n"):rep(40), answer)
    nginx.until_true(function() return #one:workers() == 1 end)
  end)

  for _, signal in ipairs { "TERM", "QUIT" } do
    it(("ends at %s with leases out"):format(signal), function()
      start { workers = 2 }
      local answers, over = {}, 0
      for index = 1, 4 do
        host.spawn(function()
          answers[index] = select(2, one:get "/hold?s=0.6")
          over = over + 1
        end)
      end
      nginx.until_true(function() return select(2, one:log():gsub("holds a lease", "")) == 4 end, function() return one:log() end)
      one:signal(signal)
      nginx.until_true(function() return over == 4 end)
      one:wait_for_exit()
      if signal == "QUIT" then assert.same({ "value\n", "value\n", "value\n", "value\n" }, answers) end
      nginx.until_true(function() return backend:clients() == 0 end)
      assert.is_nil(one:log():find "%[alert%]")
      assert.is_nil(one:log():find "signal 11")
    end)
  end

  it("makes pools for each request with lua_code_cache off, says so, and closes them with it", function()
    start { http = "lua_code_cache off;", server = [[location = /own { content_by_lua_block {
      local pools = require "my_pools"
      ngx.say(assert(pools.cache:with(function(red) return red:get "key" end)))
    } }]] }
    for _ = 1, 30 do assert.equal("value\n", one:ask "/own") end
    assert.is_truthy(one:log():find("lua_code_cache is off", 1, true))
    nginx.until_true(function() return backend:clients() == 4 end, function() return backend:clients() end) -- init_worker_by_lua's
    assert.is_nil(one:log():find "on signal")
  end)

  it("refuses to make a pool before the workers are there", function()
    local ok, message = pcall(nginx.start, { http = "init_by_lua_block { require 'my_pools' }",
      files = { ["my_pools.lua"] = POOLS:format(backend.backend) } })
    assert.is_false(ok)
    assert.is_truthy(message:find("make it in init_worker_by_lua, or later, not in init_by_lua", 1, true), message)
  end)

  it("refuses to claim where no socket can be used", function()
    start { server = [[location = /late {
      content_by_lua_block { ngx.say "said" }
      log_by_lua_block { pools.cache:claim() }
    }]] }
    assert.equal("said\n", one:ask "/late")
    nginx.until_true(function()
      return one:log():find("log_by_lua(nginx.conf:", 1, true) and one:log():find("no socket can be used in this phase", 1, true)
    end, function() return one:log() end)
  end)

  it("goes on logging where a function that hears of the log waits", function()
    start { server = [[location = /say { content_by_lua_block {
      local cueball, heard = require "cueball", {}
      cueball.log.to { level = "debug", sink = function(_, record)
        if record.event == "note" then table.insert(heard, record.message) end
        if record.message == "slow" then ngx.sleep(0.2) table.insert(heard, "waited") end
      end }
      local function say(words) cueball.log.tell(cueball.host(), { level = "info", message = words }) end
      local thread = ngx.thread.spawn(function() say "slow" say "after" end)
      say "quick"
      ngx.thread.wait(thread)
      cueball.log.to()
      ngx.say(table.concat(heard, " "))
    } }]] }
    assert.equal("slow quick waited after\n", one:ask "/say")
    assert.is_truthy(one:log():find("the function that log.to was given threw: it waits, which it may not", 1, true))
  end)

  it("takes back the lease of a light thread that was killed while its request lives on", function()
    start { server = [[location = /lives { content_by_lua_block {
      local cueball = require "cueball"
      for i = 1, 4 do
        local thread = ngx.thread.spawn(function() local lease = pools.cache:claim() ngx.sleep(10) lease:release() end)
        ngx.thread.kill(thread)
      end
      local busy = pools.cache:stats().busy
      for i = 1, 700 do
        collectgarbage()
        cueball.sleep(20)
        if pools.cache:stats().idle == 4 then break end
      end
      ngx.say(busy, " ", pools.cache:stats().idle)
    } }]] }
    nginx.until_true(function() return stat "idle" == 4 end)
    assert.equal("4 4\n", one:ask "/lives")
    assert.is_truthy(one:log():find("was collected without having been released", 1, true))
  end)
end)
