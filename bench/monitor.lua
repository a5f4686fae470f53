--- What it costs to ask the monitor: how long an answer takes, and for how long the worker that gives it serves nobody else.
--   examples/run bench/monitor.lua [ROUNDS] [POOLS,…]
-- Pools of two backends and four connections, in nginx with one and four workers and on libuv. curl asks, so that its time has the whole
-- answer in it; a task of the same worker sleeps for 1 ms again and again, and tells by how much it came too late.
local host = require "cueball.host.uv"
local measure = require "bench.support.measure"
local nginx = require "spec.support.nginx"
local uv = require "luv"

local ROUNDS = tonumber(arg[1] or "9")
local COUNTS = {}
for count in (arg[2] or "1,100,1000"):gmatch "%d+" do COUNTS[#COUNTS + 1] = tonumber(count) end

local POOLS = [[
local cueball = require "cueball"
local made = {}
for index = 1, %d do
  made[index] = cueball.pool {
    name = "pool" .. index, max_connections = 4, connect = function() return {} end,
    resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" },
  }
end
return made
]]

-- The longest that the worker held up a task that wanted to run, in ms, since it was asked for last.
local HOLD = [[
local hold = { longest_ms = 0 }
function hold.watch(now, sleep)
  while true do
    local began = now()
    sleep(0.001)
    hold.longest_ms = math.max(hold.longest_ms, (now() - began) / 1e6 - 1)
  end
end
function hold.take()
  local longest_ms = hold.longest_ms
  hold.longest_ms = 0
  return longest_ms
end
return hold
]]

local HTTP = [[
lua_shared_dict cueball 64m;
lua_shared_dict bench 1m;
init_worker_by_lua_block {
  local hold, now = require "hold", require("cueball.nginx.host").now
  pools = require "my_pools"
  ngx.timer.at(0, function()
    for _, pool in ipairs(pools) do
      for _ = 1, 3 do pool:with(function() return true end) end
    end
    ngx.shared.bench:incr("ready", 1, 0)
    ngx.timer.at(0, function() hold.watch(now, ngx.sleep) end)
    while not ngx.worker.exiting() do
      ngx.sleep(0.005)
      local longest = hold.take()
      if longest > (ngx.shared.bench:get "hold" or 0) then ngx.shared.bench:set("hold", longest) end
    end
  end)
}
]]

local SERVER = [[
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
location = /are_ready { content_by_lua_block { ngx.print(ngx.shared.bench:get "ready" or 0) } }
location = /hold { content_by_lua_block { ngx.sleep(0.02) ngx.print(ngx.shared.bench:get "hold" or 0) ngx.shared.bench:set("hold", 0) } }
]]

local PROGRAM = [[
local cueball, monitor, hold = require "cueball", require "cueball.monitor", require "hold"
local host = require "cueball.host.uv"
cueball.run(function()
  local pools = require "my_pools"
  host.sleep(200)
  for _, pool in ipairs(pools) do
    for _ = 1, 3 do pool:with(function() return true end) end
  end
  assert(monitor.serve { listen = "127.0.0.1:" .. arg[1] })
  host.spawn(hold.watch, host.now, function(seconds) host.sleep(seconds * 1000) end)
  local http = require "cueball.http.server"
  assert(http.start(host, "127.0.0.1:" .. arg[2], {}, function(_, response)
    response:answer(200, {}, tostring(hold.take()))
  end))
  host.sleep(1e9)
end)
]]

local function run(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- Milliseconds of processor time that these processes have used.
local function used_ms(pids)
  local sum = 0
  for _, pid in ipairs(pids) do
    local file = assert(io.open(("/proc/%d/schedstat"):format(pid)))
    sum = sum + file:read "*n" / 1e6
    file:close()
  end
  return sum
end

-- One answer: its milliseconds, its bytes, the longest hold of a worker meanwhile, and what processor time all of them used.
local function ask(url, hold_url, pids)
  uv.sleep(300) -- an answer is given again for a quarter of a second
  run("curl -s " .. hold_url)
  local before = used_ms(pids)
  local seconds, bytes = run(("curl -s -o /dev/null -w '%%{time_total} %%{size_download}' '%s'"):format(url)):match "(%S+) (%d+)"
  local used = used_ms(pids) - before
  return tonumber(seconds) * 1000, tonumber(bytes), tonumber(run("curl -s " .. hold_url)), used
end

local function report(what, count, url, hold_url, pids)
  local times, holds, used, bytes = {}, {}, {}, nil
  for _ = 1, 3 do ask(url, hold_url, pids) end -- LuaJIT compiles, workers begin to publish
  for round = 1, ROUNDS do times[round], bytes, holds[round], used[round] = ask(url, hold_url, pids) end
  for _, list in ipairs { times, holds, used } do table.sort(list) end
  measure.row("%-18s %5d pools %8.1f KiB   %6.1f ms (least %6.1f)   held %5.1f ms (least %5.1f)   processor %6.1f ms (least %6.1f)", what,
    count, bytes / 1024, measure.median(times), times[1], measure.median(holds), holds[1], measure.median(used), used[1])
end

local function in_nginx(workers, count)
  local one = nginx.start {
    workers = workers, http = HTTP, server = SERVER,
    files = { ["my_pools.lua"] = POOLS:format(count), ["hold.lua"] = HOLD },
  }
  local ok, message = pcall(function()
    local base = ("http://127.0.0.1:%d"):format(one.port)
    nginx.until_true(function() return one:ask "/are_ready" == tostring(workers) end, function() return one:log() end)
    report(("nginx, %d, JSON"):format(workers), count, base .. "/status", base .. "/hold", one:workers())
    report(("nginx, %d, metrics"):format(workers), count, base .. "/status?format=openmetrics", base .. "/hold", one:workers())
  end)
  one:stop()
  if not ok then error(message, 0) end
end

local function on_libuv(count)
  local folder = assert(uv.fs_mkdtemp "/tmp/cueball-bench-XXXXXX")
  local free_port = require("spec.support.port").free
  local first, second = free_port(), free_port()
  for name, text in pairs { my_pools = POOLS:format(count), hold = HOLD, program = PROGRAM } do
    local file = assert(io.open(("%s/%s.lua"):format(folder, name), "w"))
    file:write(text)
    file:close()
  end
  local handle, pid
  handle, pid = uv.spawn("luajit", {
    args = { folder .. "/program.lua", first, second }, stdio = { nil, 1, 2 },
    env = { "LUA_PATH=" .. folder .. "/?.lua;" .. package.path, "LUA_CPATH=" .. package.cpath, "CUEBALL_LOG=warn" },
  }, function() handle:close() end)
  local url, hold_url = ("http://127.0.0.1:%d"):format(first), ("http://127.0.0.1:%d/"):format(second)
  local ok, message = pcall(function()
    nginx.until_true(function() return tonumber(run("curl -s " .. hold_url)) ~= nil end)
    report("libuv, metrics", count, url .. "/metrics", hold_url, { pid })
    report("libuv, snapshot", count, url .. "/snapshot", hold_url, { pid })
  end)
  uv.kill(pid, "sigterm")
  host.run(function() while not handle:is_closing() do host.sleep(10) end end)
  os.execute("rm -rf '" .. folder .. "'")
  if not ok then error(message, 0) end
end

measure.head("The monitor, asked: median and least of " .. ROUNDS)
for _, count in ipairs(COUNTS) do
  in_nginx(1, count)
  in_nginx(4, count)
  on_libuv(count)
end
