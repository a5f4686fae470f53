--- cueball under the real nginx: the host, and pools on it.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"

local POOLS = [[
local cueball = require "cueball"
return { cache = cueball.pool {
  name = "cache", max_connections = 4, claim_timeout_ms = 15000,
  resolver = cueball.resolver.static { %s },
  connect = cueball.connection.redis { connect_timeout_ms = 15000, read_timeout_ms = 15000 },
} }
]]

local SHOW = [[
location = /stats { content_by_lua_block {
  local stats = pools.cache:stats()
  ngx.say(stats[ngx.var.arg_name] or "nil")
} }
location = /get { content_by_lua_block { ngx.say(assert(pools.cache:with(function(red) return red:get "key" end))) } }
]]

local function start(given)
  local backends = {}
  for index, one in ipairs(given.redis) do backends[index] = ("%q"):format(one.backend) end
  local files = given.files or {}
  files["my_pools.lua"] = (given.pools or POOLS):format(table.concat(backends, ", "))
  return nginx.start {
    workers = given.workers, main = given.main, events = given.events, files = files, log_level = given.log_level,
    http = (given.http or "") .. "\ninit_worker_by_lua_block { pools = require 'my_pools' }\n",
    server = SHOW .. (given.server or ""),
  }
end

describe("cueball in nginx", function()
  local one, backend

  setup(function() backend = redis.start() backend:call("SET", "key", "value") end)
  teardown(function() backend:stop() end)
  after_each(function() if one then one:stop() one = nil end end)

  local function stat(name) return tonumber(one:ask("/stats?name=" .. name)) end

  for _, workers in ipairs { 1, 2 } do
    it(("answers from a parked connection, with %d workers"):format(workers), function()
      one = start { redis = { backend }, workers = workers }
      nginx.until_true(function() return backend:clients() == 4 * workers end, function() return backend:call("CLIENT", "LIST") end)
      for _ = 1, 50 do assert.equal("value\n", one:ask "/get") end
      assert.equal(4 * workers, backend:clients())
      assert.equal(0, stat "lost")
      assert.equal(0, stat "open_failures")
    end)
  end

  it("spreads requests evenly over three backends", function()
    local three = { backend, redis.start(), redis.start() }
    for _, each in ipairs(three) do each:call("SET", "key", each.port) end
    one = start { redis = three, pools = (POOLS:gsub("max_connections = 4", "max_connections = 6")) }
    nginx.until_true(function() return stat "idle" == 6 end)
    local answers = {}
    for _ = 1, 300 do
      local answer = one:ask "/get"
      answers[answer] = (answers[answer] or 0) + 1
    end
    for _, each in ipairs(three) do
      assert.equal(2, each:clients())
      assert.equal(100, answers[each.port .. "\n"])
    end
    backend:call("SET", "key", "value")
    three[2]:stop()
    three[3]:stop()
  end)

  it("serves a stampede with no more connections than allowed", function()
    local before = tonumber(backend:call("INFO", "stats"):match "total_connections_received:(%d+)")
    one = start { redis = { backend }, pools = (POOLS:gsub("claim_timeout_ms = 15000, ", "")) }
    local most, asked, wrong = 0, 1, {}
    nginx.many(3000, 300, function(index)
      local status, body = one:get "/get"
      if body ~= "value\n" then wrong[#wrong + 1] = tostring(status) .. " " .. tostring(body) end
      if index % 300 == 0 then most, asked = math.max(most, backend:clients()), asked + 1 end
    end)
    assert.same({}, wrong)
    assert.is_true(most <= 4, most .. " connections")
    local opened = tonumber(backend:call("INFO", "stats"):match "total_connections_received:(%d+)") - before - asked
    assert.is_true(opened <= 4, opened .. " opened")
    assert.equal(0, stat "lost")
  end)

  it("does without a backend that dies, and uses it again when it is back; no request fails", function()
    local other = redis.start()
    other:call("SET", "key", "value")
    one = start { redis = { backend, other } }
    nginx.until_true(function() return other:clients() == 2 end)
    local function ask_often(count)
      local wrong = {}
      nginx.many(count, 8, function()
        local status, body = one:get "/get"
        if body ~= "value\n" then wrong[#wrong + 1] = tostring(status) .. " " .. tostring(body) end
      end)
      return wrong
    end
    other:stop()
    assert.same({}, ask_often(300))
    nginx.until_true(function() return stat "dead_backends" == 1 end)
    assert.same({}, ask_often(300))
    other:start_again()
    other:call("SET", "key", "value")
    nginx.until_true(function() return other:clients() == 2 end, function() return one:ask "/stats?name=total" end)
    assert.same({}, ask_often(300))
    other:stop()
  end)

  it("reopens a parked connection that the server closed; the claimer does not notice", function()
    one = start { redis = { backend } }
    nginx.until_true(function() return backend:clients() == 4 end)
    for _ = 1, 5 do
      backend:call("CLIENT", "KILL", "TYPE", "normal")
      for _ = 1, 8 do assert.equal("value\n", one:ask "/get") end
      assert.equal(4, backend:clients())
    end
    assert.equal(0, stat "open_failures")
    assert.equal(0, stat "leases_failed")
  end)
end)
