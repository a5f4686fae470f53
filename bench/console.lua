--- What being looked at costs: the wait of claims while a console is polled, beside that of the same program without.
--   examples/run bench/console.lua [PAIRS [MS]]     pairs of windows of so many ms, 61 and 1000 if left out
--   examples/run bench/console.lua instructions     of a poll, and of a claim, without sockets: counted by valgrind
-- 20 claimers over 10 connections in this process; another one polls when it is told to. A pair is two windows next to each other, one
-- with polls and one without, in turns the other way round. So both have the same machine, and a ratio is of two neighbours. Pairs of two
-- windows without a poll are measured in between: what they differ by is noise.
local cueball = require "cueball"
local measure = require "bench.support.measure"
local uv = require "luv"

local CLAIMERS, CONNECTIONS, HOLD_MS, MANY = 20, 10, 2, 20

local PEER = [[
  local host, remote = require "cueball.host.uv", require "cueball.console.remote"
  local uv = require "luv"
  local stdin, waiting, due = uv.new_pipe(false), nil, 0
  stdin:open(0)
  stdin:read_start(function(_, data)
    if not data then os.exit(0) end
    due = due + #data
    if waiting then waiting:wake() waiting = nil end
  end)
  host.run(function()
    local one = assert(remote.connect { host = host, address = arg[1] })
    while true do
      if due == 0 then
        waiting = host.waiter()
        waiting:wait()
      end
      due = due - 1
      one:submit "leases { older = '1s' }"
      one:submit "backends()"
    end
  end)
]]

local host = cueball.host()
local folder = uv.fs_mkdtemp "/tmp/cueball-bench-XXXXXX"
local address = "unix:" .. folder .. "/sock"

-- @return a pipe: a byte for each poll; and the process
local function start_peer()
  local path, stdin = folder .. "/peer.lua", uv.new_pipe(false)
  local file = assert(io.open(path, "w"))
  file:write(PEER)
  file:close()
  local handle
  handle = assert(uv.spawn("luajit", { args = { path, address }, stdio = { stdin, 1, 2 } }, function() handle:close() end))
  return stdin, handle
end

local function open_pool()
  local pool = cueball.pool {
    name = "bench", max_connections = CONNECTIONS, resolver = cueball.resolver.static { "127.0.0.1:1", "127.0.0.1:2" },
    connect = function() return {} end,
  }
  pool:ready()
  return pool
end

local function percentile(waits, fraction)
  return waits[math.max(1, math.ceil(#waits * fraction))]
end

-- One window: the waits of all claims in it, in ms.
-- @param polls how many are made in it, each at a time of its own
local function window(pool, peer, ms, polls)
  local waits, ends_at = {}, host.now() + ms * 1e6
  if polls > 0 then
    host.spawn(function()
      for _ = 1, polls do
        local part = ms / polls * 0.9
        local before = math.random() * part
        host.sleep(before)
        peer:write "."
        host.sleep(part - before)
      end
    end)
  end
  local spent = os.clock()
  measure.together(host, CLAIMERS, function()
    while host.now() < ends_at do
      local began = host.now()
      local lease = assert(pool:claim())
      waits[#waits + 1] = (host.now() - began) / 1e6
      host.sleep(HOLD_MS)
      lease:release()
    end
  end)
  spent = os.clock() - spent
  table.sort(waits)
  return { p50 = percentile(waits, 0.5), p99 = percentile(waits, 0.99), claims = #waits, CPU = spent / #waits * 1e6 }
end

local KEYS = { "p50", "p99", "claims", "CPU" }

-- Measures pairs, and tells what they differ by.
local function compare(what, pool, peer, pairs_count, ms, polls)
  local ratios, plain = { p50 = {}, p99 = {}, claims = {}, CPU = {} }, { p50 = {}, p99 = {}, claims = {}, CPU = {} }
  for number = 1, pairs_count do
    local first = window(pool, peer, ms, number % 2 == 0 and polls or 0)
    local second = window(pool, peer, ms, number % 2 == 1 and polls or 0)
    local with, without = first, second
    if number % 2 == 1 then with, without = second, first end
    for _, key in ipairs(KEYS) do
      table.insert(ratios[key], with[key] / without[key])
      table.insert(plain[key], without[key])
    end
  end
  for _, key in ipairs(KEYS) do
    local low, high = measure.interval(ratios[key])
    measure.row("%-24s %-7s without %10.4f   ratio %.4f   (95 %%: %.4f to %.4f)", what, key, measure.median(plain[key]),
      measure.median(ratios[key]), low, high)
  end
end

local function poll_alone(count)
  local one = require("cueball.console.seat").new { host = host, allow = "read", who = "bench", budget_ms = 50, output = function() end }
  local began = os.clock()
  for _ = 1, count do
    one:run "leases { older = '1s' }"
    one:run "backends()"
  end
  measure.row("a poll takes %.3f ms of processor time in the program, without the socket", (os.clock() - began) / count * 1000)
end

local function claim_alone(pool, count)
  for _ = 1, count do
    local lease = assert(pool:claim())
    host.sleep(0)
    lease:release()
  end
end

local function count_instructions()
  for _, what in ipairs { "poll", "claim" } do
    local few, many = 100, 400
    local count = (measure.executed(what .. "s", many) - measure.executed(what .. "s", few)) / (many - few)
    measure.row("a %s executes %.0f instructions in user space", what, count)
  end
end

local function run_all(pairs_count, ms)
  local pool = open_pool()
  assert(cueball.console.listen(address))
  local peer, handle = start_peer()
  host.sleep(1500)
  window(pool, peer, 500, 10)
  measure.head(("Claims while a console is polled, and not: %d pairs of windows of %g ms each"):format(pairs_count, ms))
  compare("no poll in either", pool, peer, pairs_count, ms, 0)
  compare("a poll a second", pool, peer, pairs_count, ms, math.max(1, math.floor(ms / 1000 + 0.5)))
  compare(MANY .. " polls a second", pool, peer, pairs_count, ms, math.max(1, math.floor(ms / 1000 * MANY + 0.5)))
  poll_alone(500)
  handle:kill "sigkill"
  pool:stop()
end

cueball.run(function()
  if arg[1] == "instructions" then return count_instructions() end
  if arg[1] == "polls" or arg[1] == "claims" then -- what is counted
    local pool = open_pool()
    if arg[1] == "polls" then poll_alone(tonumber(arg[2])) else claim_alone(pool, tonumber(arg[2])) end
    return pool:stop()
  end
  local count = tonumber(arg[1] or "61")
  run_all(count + (count + 1) % 2, tonumber(arg[2] or "1000"))
end)
os.execute("rm -rf " .. folder)
