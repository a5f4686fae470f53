-- A pool under load, to be looked at in a browser.  examples/run examples/dashboard.lua [seconds]
--
-- Three servers, 24 connections, claimers that come and go. One of the servers is killed now and then, and started again a little later.
-- Ctrl-C ends it; so do the seconds, if there are any.
local cueball = require "cueball"
local monitor = require "cueball.monitor"
local servers = require "examples.support.servers"

local SECONDS = tonumber(arg[1] or "inf")
local PORT = os.getenv "CUEBALL_DASHBOARD_PORT" or "9190"
local CLAIMERS, WAVE_S = 60, 40
local UP_MS, DOWN_MS = 25000, 15000

-- How long a claimer does something else: less is asked for, and more, and less again.
local function rest_ms()
  local phase = cueball.host().now() / 1e9 / WAVE_S * 2 * math.pi
  return math.random(50, 150) * (2 + 1.6 * math.sin(phase))
end

local function claim_for_ever(pool)
  while true do
    cueball.sleep(rest_ms())
    local lease = pool:claim()
    if lease then
      lease.connection:send "hello\n"
      lease.connection:receive "*l"
      cueball.sleep(math.random(20, 90)) -- what somebody does with an answer
      lease:release()
    end
  end
end

local function kill_now_and_then(one)
  while true do
    cueball.sleep(UP_MS)
    one:kill()
    cueball.sleep(DOWN_MS)
    one:restart()
  end
end

cueball.run(function()
  local all = { servers.start(), servers.start(), servers.start() }
  local addresses = {}
  for index, one in ipairs(all) do addresses[index] = one.address end
  local pool = cueball.pool {
    name = "orders", resolver = cueball.resolver.static(addresses), max_connections = 24, claim_timeout_ms = 500, claim_sites = true,
    connect = cueball.connection.tcp { read_timeout_ms = 1000 },
    recovery = { default = { timeout_ms = 500, delay_ms = 100, max_delay_ms = 4000 } },
  }
  local server, message = monitor.serve { listen = "127.0.0.1:" .. PORT }
  if not server then error("cueball.monitor: " .. message, 0) end
  print(("open http://%s/ in a browser; Ctrl-C ends this"):format(server.address))
  io.stdout:flush()
  for _ = 1, CLAIMERS do cueball.spawn(claim_for_ever, pool) end
  cueball.spawn(kill_now_and_then, all[3])
  cueball.sleep(math.min(SECONDS * 1000, 86400000))
  server:close()
  pool:stop()
  servers.kill_all()
end)
