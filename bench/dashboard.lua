--- What an open dashboard costs: the wait of claims while a page is open, beside that of the same program without.
--   examples/run bench/dashboard.lua [PAIRS] [CONNECTIONS]
--   examples/run bench/dashboard.lua instructions [CONNECTIONS]     what a snapshot executes in user space, by valgrind's callgrind
-- Twice as many claimers as connections in this process. Another process does what a page does: it reads /events, and asks for /snapshot
-- every 2 s. It is told to in each second turn, so that both have the same machine.
local cueball = require "cueball"
local detail = require "cueball.monitor.detail"
local measure = require "bench.support.measure"
local monitor = require "cueball.monitor"
local page = require "cueball.monitor.page"
local slices = require "cueball.monitor.slices"
local uv = require "luv"

local SECONDS = 2

local PEER = [[
  local host, uv = require "cueball.host.uv", require "luv"
  local is_open, control = false, uv.new_pipe()
  local function connect(path)
    local socket = host.tcp()
    socket:settimeouts(5000, 5000, 5000)
    assert(socket:connect("127.0.0.1", tonumber(arg[1])))
    socket:send(("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):format(path))
    return socket
  end
  local function read_events()
    local socket = connect "/events?pool=bench"
    while is_open and socket:receive "*l" do end
    socket:close()
  end
  local function ask()
    while is_open do
      connect "/snapshot?focus=bench":receive "*a"
      host.sleep(2000)
    end
  end
  control:open(0)
  control:read_start(function(_, data)
    if not data then os.exit(0) end
    is_open = data:find "open" ~= nil
    if is_open then host.spawn(read_events) host.spawn(ask) end
  end)
  uv.run()
]]

local function open_pool(host, connections)
  local pool = cueball.pool {
    name = "bench", max_connections = connections, spares = connections, connect = function() return {} end, host = host,
    resolver = cueball.resolver.static { "127.0.0.1:1", "127.0.0.1:2" },
  }
  pool:ready { connections = connections }
  return pool
end

local function turn(pool, host, connections)
  local used = os.clock()
  local found = measure.claims(host, pool, 2 * connections, SECONDS, 5)
  found.cpu = os.clock() - used
  return found
end

local function snapshot_of(host)
  return page.snapshot(detail.snapshot(host, { detail = true, focus = "bench" }), slices.none)
end

local function compare(pairs_count, connections)
  local folder = uv.fs_mkdtemp "/tmp/cueball-bench-XXXXXX"
  local file = assert(io.open(folder .. "/peer.lua", "w"))
  file:write(PEER)
  file:close()
  cueball.run(function()
    local host = cueball.host()
    local pool = open_pool(host, connections)
    local server = assert(monitor.serve { listen = "127.0.0.1:0" })
    local control, peer = uv.new_pipe(), nil
    peer = assert(uv.spawn("luajit", { args = { folder .. "/peer.lua", server.address:match "%d+$" }, stdio = { control, 1, 2 } },
      function() peer:close() end))
    host.sleep(500)
    turn(pool, host, connections)
    local ratios = { p50 = {}, p99 = {}, claims = {}, cpu = {} }
    local shown = { p50 = {}, p99 = {}, claims = {}, cpu = {} }
    for number = 1, pairs_count do
      local found = {}
      for _, is_open in ipairs(number % 2 == 1 and { false, true } or { true, false }) do
        control:write(is_open and "open" or "shut")
        host.sleep(100)
        found[is_open] = turn(pool, host, connections)
      end
      for key in pairs(ratios) do
        ratios[key][number], shown[key][number] = found[true][key] / found[false][key], found[false][key]
      end
    end
    measure.head(("Claims while a page is open, %d pairs of %d s, %d connections"):format(pairs_count, SECONDS, connections))
    for _, key in ipairs { "p50", "p99", "claims", "cpu" } do
      measure.row("%-7s without %.3f, open ÷ without %.4f", key, measure.median(shown[key]), measure.median(ratios[key]))
    end
    local count, began = 200, os.clock()
    for _ = 1, count do snapshot_of(host) end
    measure.row("a snapshot takes %.3f ms of processor time in the program", (os.clock() - began) / count * 1000)
    control:close()
    server:close()
    pool:stop()
  end)
  os.execute("rm -rf " .. folder)
end

-- ------------------------------------------------------------ instructions --

local FIRST, THEN = 100, 200

local function once(connections, count)
  cueball.run(function()
    local pool = open_pool(cueball.host(), connections)
    for _ = 1, count do snapshot_of(cueball.host()) end
    pool:stop()
  end)
end

if arg[1] == "once" then
  once(tonumber(arg[2]), tonumber(arg[3]))
elseif arg[1] == "instructions" then
  local connections = tonumber(arg[2] or "10")
  measure.row("instructions of a snapshot in user space, %d connections: %.0f", connections,
    (measure.executed("once", connections, FIRST + THEN) - measure.executed("once", connections, FIRST)) / THEN)
else
  compare(tonumber(arg[1] or "15"), tonumber(arg[2] or "10"))
end
