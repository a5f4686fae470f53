--- A cap over all workers of the real nginx, in front of a real redis-server that refuses any connection beyond it, and counts them.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local uv = require "luv"
local host = require "cueball.host.uv"

local CAP = 6

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = ]] .. CAP .. [[, max_connections_scope = "server", max_connections_dict = "cueball",
  claim_timeout_ms = 15000, resolver = cueball.resolver.static { %q },
  connect = cueball.connection.redis { connect_timeout_ms = 15000, read_timeout_ms = 15000 },
  -- A close is over once Redis has seen it: where others have the processor that takes longer, and only then comes another in its place.
  recovery = { default = { timeout_ms = 20000, max_timeout_ms = 20000 } },
} }
]]

local SERVER = [[
location = /get { content_by_lua_block { ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) } }
location = /hold { content_by_lua_block {
  local ms = tonumber(ngx.var.arg_ms)
  assert(pools.cache:with(function(red) ngx.sleep(ms / 1000) return red:get "key" end))
  ngx.say(ngx.worker.pid())
} }
location = /hold_until_told { content_by_lua_block {
  assert(pools.cache:with(function(red)
    ngx.shared.told:incr("holding", 1, 0)
    repeat ngx.sleep(0.01) until ngx.shared.told:get "go"
    return red:get "key"
  end))
  ngx.say(ngx.worker.pid())
} }
location = /holding { content_by_lua_block { ngx.print(ngx.shared.told:get "holding" or 0) } }
location = /go { content_by_lua_block { ngx.shared.told:set("go", true) } }
location = /allowed { content_by_lua_block { ngx.say(ngx.worker.pid(), " ", pools.cache:stats().allowed) } }
]]

local function start(backend, workers)
  return nginx.start {
    workers = workers or 2, files = { ["my_pools.lua"] = POOLS:format(backend.backend) }, server = SERVER,
    http = "lua_shared_dict cueball 1m;\nlua_shared_dict told 100k;\ninit_worker_by_lua_block { pools = require 'my_pools' }\n",
  }
end

describe("a cap over all workers of nginx", function()
  local one, backend

  before_each(function()
    backend = redis.start { "--maxclients " .. CAP + 1 } -- one more for redis-cli
    backend:call("SET", "key", "value")
  end)
  after_each(function()
    if one then one:stop() one = nil end
    backend:stop()
  end)

  local function refused() return tonumber(backend:call("INFO", "stats"):match "rejected_connections:(%d+)") end

  -- Requests that hold a connection for some ms, so many at once, while fn(answered) runs in a task: answered.count of them have been
  -- answered, and answered.by[pid] by each worker.
  local function load(width, hold_ms, fn, may_fail)
    local answered = { count = 0, by = {} }
    nginx.under_load(width, function()
      local status, body = one:get("/hold?ms=" .. hold_ms)
      if status == 200 then
        answered.count = answered.count + 1
        answered.by[tonumber(body)] = (answered.by[tonumber(body)] or 0) + 1
      else
        assert(may_fail, ("%s: %s\n%s"):format(tostring(status), tostring(body), one:log():sub(-3000)))
        host.sleep(10)
      end
    end, function() fn(answered) end)
  end

  -- So many more have been answered.
  local function more(answered, count)
    local wanted = answered.count + count
    nginx.until_true(function() return answered.count >= wanted end, function() return answered.count end)
  end

  -- The new workers may have so many together.
  local function wait_for_allowed(wanted)
    nginx.until_true(function()
      local by, sum = {}, 0
      for _ = 1, 20 do
        local pid, allowed = one:ask("/allowed"):match "(%d+) (%d+)"
        by[pid] = tonumber(allowed)
      end
      for _, allowed in pairs(by) do sum = sum + allowed end
      return sum == wanted
    end, function() return one:ask "/allowed" .. one:log():sub(-2000) end)
  end

  it("holds under load, and is used up", function()
    one = start(backend)
    nginx.until_true(function() return backend:clients() == CAP end, function() return backend:call("CLIENT", "LIST") end)
    load(30, 20, function(answered) more(answered, 600) end)
    assert.equal(0, refused())
    assert.equal(CAP, backend:clients())
  end)

  -- A client's connection stays with one worker: → function(path) → body; that worker's pid
  local function connect()
    local socket = host.tcp()
    socket:settimeouts(20000, 20000, 20000)
    assert(socket:connect("127.0.0.1", one.port))
    local function ask(path)
      socket:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path))
      repeat until assert(socket:receive "*l") == ""
      local body = ""
      repeat
        local size = tonumber(assert(socket:receive "*l"), 16)
        body = body .. assert(socket:receive(size))
        socket:receive "*l"
      until size == 0
      return body
    end
    return ask, tonumber(ask "/allowed":match "%d+")
  end

  -- In one task: the clients' connections end with it.
  local function lend_and_give_back()
    local pids, by = one:workers(), {}
    for _, pid in ipairs(pids) do by[pid] = {} end
    local function connect_to(pid)
      while #by[pid] < CAP + 1 do
        local ask, of = connect()
        table.insert(by[of], ask)
      end
    end
    local function allowed(pid) return tonumber(by[pid][CAP + 1]("/allowed"):match " (%d+)") end
    local served, is_over = 0, false
    local function keep_busy(pid, path, again)
      for index = 1, CAP do
        host.spawn(function()
          repeat by[pid][index](path) until is_over or not again
          served = served + 1
        end)
      end
    end
    local busy, idle = pids[1], pids[2]
    connect_to(busy)
    connect_to(idle)
    keep_busy(busy, "/hold?ms=100", true)
    nginx.until_true(function() return allowed(busy) == CAP - 1 end)
    assert.equal(1, allowed(idle))
    keep_busy(idle, "/hold_until_told")
    nginx.until_true(function() return allowed(idle) >= CAP / 2 end)
    nginx.until_true(function() return backend:clients() == CAP end)
    is_over = true
    one:ask "/go"
    nginx.until_true(function() return served == 2 * CAP end)
    assert.equal(0, refused())
  end

  it("lends an idle worker's share to a busy one, and gives it back", function()
    one = start(backend)
    nginx.until_true(function() return backend:clients() == CAP end)
    host.run(lend_and_give_back)
  end)

  it("holds while workers are killed, and what they had comes back", function()
    one = start(backend)
    nginx.until_true(function() return backend:clients() == CAP end)
    load(30, 20, function(answered)
      for _ = 1, 2 do
        more(answered, 100)
        uv.kill(one:workers()[1], "sigkill")
      end
      -- Until what the dead had is dealt again.
      nginx.until_true(function() return one:log():find("a worker died", 1, true) end, function() return one:log():sub(-2000) end)
      more(answered, 300)
    end, true)
    assert.equal(0, refused())
    nginx.until_true(function() return backend:clients() == CAP end, function() return backend:call("CLIENT", "LIST") end)
  end)

  it("holds while nginx is reloaded under load, and old workers hand theirs over", function()
    one = start(backend)
    nginx.until_true(function() return backend:clients() == CAP end)
    local before = one:workers()
    load(30, 20, function(answered)
      for _ = 1, 2 do
        more(answered, 100)
        one:signal "HUP"
        host.sleep(500)
      end
      nginx.until_true(function()
        local by_new = 0
        for pid, count in pairs(answered.by) do
          if pid ~= before[1] and pid ~= before[2] then by_new = by_new + count end
        end
        return by_new > 200
      end)
    end)
    assert.equal(0, refused())
    nginx.until_true(function() return backend:clients() == CAP end, function() return backend:call("CLIENT", "LIST") end)
  end)

  -- A worker that is to end says so in its title, and closes what it listens on before it looks for requests again.
  local function takes_none(pid)
    local file = io.open(("/proc/%d/cmdline"):format(pid))
    local title = file and file:read "*a"
    if file then file:close() end
    return not title or title == "" or title:find("shutting down", 1, true) ~= nil
  end

  it("serves new workers while an old one still holds a connection", function()
    one = start(backend)
    nginx.until_true(function() return backend:clients() == CAP end)
    local before, old = one:workers(), nil
    host.spawn(function() old = tonumber(one:ask "/hold_until_told") end)
    nginx.until_true(function() return one:ask "/holding" == "1" end)
    one:signal "HUP"
    nginx.until_true(function() return takes_none(before[1]) and takes_none(before[2]) end) -- new requests are for the new ones
    local by
    load(20, 10, function(answered)
      by = answered.by
      more(answered, 300)
      wait_for_allowed(CAP - 1) -- all but the one that is held
    end)
    one:ask "/go"
    nginx.until_true(function() return old end)
    assert.is_nil(by[old])
    assert.equal(0, refused())
  end)

  it("is said to be wrong where there is no such dict", function()
    local ok, message = pcall(function()
      one = nginx.start {
        files = { ["my_pools.lua"] = POOLS:format(backend.backend) }, server = SERVER,
        http = "init_worker_by_lua_block { pools = require 'my_pools' }\n",
      }
      error(one:log(), 0)
    end)
    assert.is_false(ok)
    assert.matches("there is no shared dict \"cueball\"; in nginx.conf: lua_shared_dict cueball 1m;", message)
  end)
end)
