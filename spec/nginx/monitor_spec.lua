--- A status location under the real nginx: all workers together, whichever of them is asked.
local uv = require "luv"
local dkjson = require "dkjson"
local nginx = require "spec.support.nginx"

local POOLS = [[
local cueball = require "cueball"
return cueball.pool {
  name = "cache", max_connections = 3, connect = function() return {} end,
  resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" },
}
]]

local SERVER = [[
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
location = /metrics { content_by_lua_block { require("cueball.monitor").serve { format = "openmetrics" } } }
location = /work { content_by_lua_block {
  for _ = 1, 10 do assert(pool:with(function() return true end)) end
  ngx.print(ngx.worker.pid())
} }
]]

local HTTP = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { pool = require 'my_pools' }\n"

describe("cueball.monitor.serve", function()
  local one

  after_each(function()
    if one then one:stop() one = nil end
  end)

  local function start(workers, http, pools, more)
    one = nginx.start {
      workers = workers, http = http or HTTP, server = SERVER .. (more or ""), files = { ["my_pools.lua"] = pools or POOLS },
    }
  end

  local function status()
    return (assert(dkjson.decode(one:ask "/status")))
  end

  local function metric(name)
    return tonumber(("\n" .. one:ask "/metrics"):match("\n" .. name:gsub("[%-{}\"]", "%%%0") .. " (%S+)\n"))
  end

  -- Until this many workers are shown, and their pools run.
  local function until_shown(count)
    local seen
    nginx.until_true(function()
      seen = status()
      return #seen.workers == count and seen.pools[1] and seen.pools[1].states.running == count
    end, function() return dkjson.encode(seen) .. "\n" .. one:log() end)
    return seen
  end

  -- Lets each worker do some; returns how many claims were made, by pid.
  local function work(pids)
    local claims, left = {}, #pids
    nginx.until_true(function()
      local pid = one:ask "/work"
      if not claims[pid] then left = left - 1 end
      claims[pid] = (claims[pid] or 0) + 10
      return left == 0
    end, function() return one:log() end)
    local sum = 0
    for _, count in pairs(claims) do sum = sum + count end
    return sum
  end

  for _, workers in ipairs { 1, 2 } do
    it(("adds up what %d workers have"):format(workers), function()
      start(workers)
      local seen = until_shown(workers)
      local pids, shown = one:workers(), {}
      for index, worker in ipairs(seen.workers) do
        shown[index] = worker.pid
        assert.equal(index - 1, worker.id)
        assert.is_false(worker.is_exiting)
      end
      table.sort(pids)
      table.sort(shown)
      assert.same(pids, shown)
      local claims = work(pids)
      nginx.until_true(function() return status().pools[1].stats.claims == claims end, function() return one:ask "/status" end)
      local pool = status().pools[1]
      assert.equal(3 * workers, pool.max_connections)
      assert.equal(claims, pool.stats.released)
      assert.same({ up = workers }, pool.backends[1].states)
      assert.equal(claims, metric 'cueball_pool_claims_total{pool="cache"}')
      assert.equal(workers, metric "cueball_workers")
      assert.equal(1, metric 'cueball_backend_up{pool="cache",backend="10.0.0.1:80"}')
      assert.is_true(metric 'cueball_backend_state_seconds{pool="cache",backend="10.0.0.1:80"}' > 0)
    end)
  end

  it("says when a worker last saw a backend change, and adds up the most that each had", function()
    start(2)
    local seen = until_shown(2)
    for index, backend in ipairs(seen.pools[1].backends) do
      local since_ms, most = math.huge, 0
      for _, worker in ipairs(seen.workers) do
        local own = worker.pools[1].backends[worker.pools[1].backends[1].key == backend.key and 1 or 2]
        since_ms, most = math.min(since_ms, own.since_ms + worker.age_s * 1000), most + own.total_max
      end
      assert.is_true(most >= 2, index)
      assert.equal(most, backend.total_max)
      assert.near(since_ms, backend.since_ms, 0.01)
    end
  end)

  it("speaks JSON, or OpenMetrics where that is asked for", function()
    start(1)
    until_shown(1)
    assert.matches("^{", one:ask "/status")
    assert.matches("# EOF\n$", one:ask "/status?format=openmetrics")
    assert.truthy((one:ask "/status?format=prometheus&names=opentelemetry"):find("db_client_connection_max{", 1, true))
    local whole = assert(dkjson.decode(one:ask "/status?detail=1&pool=cache"))
    assert.matches("^worker %d+$", whole.process.role)
    assert.equal("ngx", whole.process.host)
    assert.truthy(whole.pools[1].signals and whole.pools[1].backends and whole.pools[1].leases)
    local _, body = one:get("/status", "Accept: application/openmetrics-text; version=1.0.0,text/plain;q=0.5\r\n")
    assert.matches("# EOF\n$", body)
    _, body = one:get("/status", "Accept: text/html\r\n")
    assert.matches("^{", body)
    local code
    code, body = one:get "/status?format=xml"
    assert.same({ 400, 'unknown format "xml"; there are json, openmetrics, prometheus\n' }, { code, body })
  end)

  it("loses no count when workers die or nginx is reloaded, and does not show those that are gone", function()
    start(2, nil, nil, [[location = /seen { content_by_lua_block {
      ngx.print(ngx.worker.pid(), " ", require("cueball.monitor.board").own:view().pools[1].stats.claims)
    } }]])
    until_shown(2)
    local claims = work(one:workers())
    -- Workers that have published what they have, within a second of the last request, are not missed: the others know of all of it.
    local counted = {}
    nginx.until_true(function()
      local pid, seen = one:ask("/seen"):match "(%d+) (%d+)"
      counted[pid] = tonumber(seen) == claims or nil
      return next(counted, next(counted)) ~= nil
    end, function() return one:ask "/status" end)
    local before = one:workers()
    uv.kill(before[1], "sigkill")
    nginx.until_true(function()
      local now = one:workers()
      return #now == 2 and now[1] ~= before[1] and now[2] ~= before[1]
    end)
    local function gone()
      local seen = status()
      if #seen.workers ~= 2 then return false end
      for _, worker in ipairs(seen.workers) do
        if worker.pid == before[1] then return false end
      end
      return seen.pools[1].stats.claims == claims
    end
    nginx.until_true(gone, function() return one:ask "/status" .. one:log() end)

    before = { one:workers()[1], one:workers()[2] }
    one:signal "HUP"
    local least = claims
    nginx.until_true(function()
      local seen = status()
      least = math.min(least, seen.pools[1] and seen.pools[1].stats.claims or 0)
      for _, worker in ipairs(seen.workers) do
        if worker.pid == before[1] or worker.pid == before[2] then return false end
      end
      return #seen.workers == 2
    end, function() return one:ask "/status" .. one:log() end)
    assert.equal(claims, least)
    assert.equal(claims, status().pools[1].stats.claims)
    assert.is_nil(one:log():match "%[error%][^\n]*")
  end)

  it("lets the worker do other things while it shows many pools", function()
    start(1, [[
      lua_shared_dict cueball 8m;
      init_worker_by_lua_block {
        ticks = 0
        for index = 1, 1000 do require("my_pools")("pool" .. index) end
        ngx.timer.at(0, function() while not ngx.worker.exiting() do ngx.sleep(0.001) ticks = ticks + 1 end end)
      }
    ]], POOLS:gsub("return cueball.pool", "return function(name) return cueball.pool"):gsub('"cache"', "name"):gsub("}%s*$", "} end"), [[
      location = /ticks { content_by_lua_block {
        local most = 0
        for _ = 1, 2 do
          local before = ticks
          require("cueball.monitor.board").own:view(nil, true)
          most = math.max(most, ticks - before)
        end
        ngx.say(most)
      } }
      location = /made { content_by_lua_block { ngx.print(#require("cueball.monitor.board").own:view().pools) } }]])
    nginx.until_true(function() return one:ask "/made" == "1000" end)
    assert.is_true(tonumber(one:ask "/ticks") >= 2)
  end)

  it("shows its own worker, and says why, where there is no shared dict", function()
    start(1, "init_worker_by_lua_block { pool = require 'my_pools' }\n")
    local seen = status()
    assert.equal("cache", seen.pools[1].name)
    assert.equal('there is no lua_shared_dict "cueball": put `lua_shared_dict cueball 1m;` into the http block of nginx.conf', seen.problem)
  end)

  it("says which worker's snapshot did not fit", function()
    local many = {}
    for number = 1, 200 do many[number] = ('"10.0.1.%d:80"'):format(number) end
    start(2, HTTP:gsub("1m", "32k"), (POOLS:gsub('"10.0.0.1:80"', table.concat(many, ","))))
    nginx.until_true(function()
      for _, worker in ipairs(status().workers) do
        if worker.problem then
          return worker.problem:find 'the shared dict "cueball" is too small for the snapshot of this worker %(no memory%)'
        end
      end
    end, function() return one:log() end)
    nginx.until_true(function() return #status().workers == 2 end, function() return one:ask "/status" end)
  end)
end)
