--- TLS on libuv beside a bare C loop (bench/tls.c: OpenSSL on a blocking socket), against one server; requests with TLS beside clear ones.
--   examples/run bench/tls.lua [SCALE]             SCALE: 1, or a share of it for a quick look
--   examples/run bench/tls.lua memory [COUNT]      COUNT connects, and a tenth of it handshakes that fail: what the process holds meanwhile
-- The goal: 0.8 of what the C loop does. Both take turns, 5 times; a ratio is of two neighbours. On a machine that does other work the
-- processor's time says more than the wall's: so there are both.
local cueball = require "cueball"
local certificates = require "spec.support.certificates"
local measure = require "bench.support.measure"
local servers = require "examples.support.servers"
local shell = require "spec.support.shell"
local tls = require "cueball.tls"
local uv = require "luv"

local host = cueball.host()
local ROUNDS = 5
local LINE = ("x"):rep(63) .. "\n"
local program, server

local function compile()
  program = os.tmpname()
  shell.must(("cc -O2 -o %s %s/bench/tls.c -lssl -lcrypto -pthread"):format(program, shell.root))
end

-- Starts a process and reads the first line that it writes.
local function read_from(arguments)
  local out, waiter, text = uv.new_pipe(false), host.waiter(), ""
  local handle
  handle = assert(uv.spawn(program, { args = arguments, stdio = { nil, out, 2 } }, function() handle:close() end))
  out:read_start(function(_, data)
    text = text .. (data or "")
    if not data or text:find "\n" then waiter:wake(text) end
  end)
  local line = waiter:wait(600000)
  out:close()
  return line, handle
end

local function serve()
  local line
  line, server = read_from { "serve", certificates.good.cert, certificates.good.key }
  server:unref()
  return tonumber(line)
end

-- What C takes: seconds on the wall's clock, seconds of the processor.
local function in_c(...)
  local words = { ... }
  for index, word in ipairs(words) do words[index] = tostring(word) end
  local wall, cpu = read_from(words):match "^(%S+) (%S+)"
  return tonumber(wall), tonumber(cpu)
end

local function timed(fn, ...)
  collectgarbage()
  local began, spent = uv.hrtime(), os.clock()
  fn(...)
  return (uv.hrtime() - began) / 1e9, os.clock() - spent
end

local function connected(context, port)
  local socket = host.tcp()
  socket:settls(context)
  assert(socket:connect("127.0.0.1", port))
  return socket
end

local function secured(context, port, session)
  local socket = connected(context, port)
  assert(socket:sslhandshake(session or false, "localhost"))
  return socket
end

local function request(socket)
  assert(socket:send(LINE))
  assert(socket:receive(#LINE))
end

local function handshakes(context, port, count, is_resuming)
  local session
  for _ = 1, count do
    local socket = secured(context, port, session)
    request(socket)
    if is_resuming then session = socket:getsslsession() end
    socket:close()
  end
end

local PIECE = ("\0"):rep(1024 * 1024)

local function transfer(context, port, kind, count)
  local socket = secured(context, port)
  local wall, cpu = timed(function()
    if kind == "requests" then
      for _ = 1, count do request(socket) end
    elseif kind == "receive" then
      assert(socket:send(("R%d\n"):format(count)))
      local left = count
      while left > 0 do left = left - #assert(socket:receiveany(math.min(left, 256 * 1024))) end
    else
      assert(socket:send(("S%d\n"):format(count)))
      for _ = 1, count / #PIECE do assert(socket:send(PIECE)) end
      assert(socket:receive(1) == "k")
    end
  end)
  socket:close()
  return wall, cpu
end

-- One line: what a thing does a second, in C and here.
local function compare(what, unit, amount, bare, ours)
  local rates, ours_rates, ratios, cpu_ratios = {}, {}, {}, {}
  ours()
  for round = 1, ROUNDS do
    local bare_wall, bare_cpu, wall, cpu
    if round % 2 == 1 then bare_wall, bare_cpu = bare() end
    wall, cpu = ours()
    if round % 2 == 0 then bare_wall, bare_cpu = bare() end
    rates[round], ours_rates[round] = amount / bare_wall, amount / wall
    ratios[round], cpu_ratios[round] = bare_wall / wall, bare_cpu / cpu
  end
  local median = measure.median
  measure.row("%-34s %-6s %10.0f %10.0f   %5.2f  %5.2f", what, unit, median(rates), median(ours_rates), median(ratios), median(cpu_ratios))
end

-- Requests through a pool, a second.
local function through_pool(address, factory, claimers, count)
  local pool = cueball.pool { resolver = cueball.resolver.static { address }, connect = factory, max_connections = claimers }
  assert(pool:ready { connections = claimers, timeout_ms = 60000 })
  local function run(each)
    measure.together(host, claimers, function()
      for _ = 1, each do
        local lease = assert(pool:claim())
        request(lease.connection)
        lease:release()
      end
    end)
  end
  run(100)
  local wall, cpu = timed(run, count / claimers)
  pool:stop()
  return wall, cpu
end

local function factory_of(context)
  return {
    connect = function(_, attempt)
      local socket = attempt.host.tcp()
      socket:settimeout(attempt.timeout_ms)
      socket:settls(context)
      assert(attempt.connect(socket))
      assert(socket:sslhandshake(false, "localhost"))
      return socket
    end,
  }
end

local function speed(scale)
  compile()
  local port = serve()
  local context = assert(tls.context { ca_file = certificates.ca.cert })
  measure.head(("%s, P-256, TLS 1.3, loopback; medians of %d"):format(tls.openssl, ROUNDS))
  measure.row("%-34s %-6s %10s %10s   %5s  %5s", "", "", "C", "cueball", "ratio", "of processor time")
  local count = math.ceil(300 * scale)
  for is_resuming, what in pairs { [0] = "connect, request, close: full", "connect, request, close: resumed" } do
    compare(what, "/s", count, function() return in_c("handshakes", port, count, is_resuming) end,
      function() return timed(handshakes, context, port, count, is_resuming == 1) end)
  end
  local size = math.ceil(256 * scale) * 1024 * 1024
  for _, kind in ipairs { "receive", "send" } do
    compare(("%s over one connection"):format(kind), "MiB/s", size / 1024 / 1024, function() return in_c(kind, port, size) end,
      function() return transfer(context, port, kind, size) end)
  end
  count = math.ceil(20000 * scale)
  compare("64 bytes there and back", "/s", count, function() return in_c("requests", port, count) end,
    function() return transfer(context, port, "requests", count) end)

  local plain = servers.start()
  measure.row("\n%-34s %-6s %10s %10s   %5s  %5s", "requests through a pool", "", "clear", "TLS", "ratio", "of processor time")
  for _, claimers in ipairs { 1, 15 } do
    compare(("%d claimers"):format(claimers), "/s", count,
      function() return through_pool(plain.address, cueball.connection.tcp {}, claimers, count) end,
      function() return through_pool("127.0.0.1:" .. port, factory_of(context), claimers, count) end)
  end
end

-- What the kernel says the process holds, in KiB.
local function resident()
  collectgarbage()
  collectgarbage()
  return tonumber(shell.read "/proc/self/status":match "VmRSS:%s*(%d+)")
end

local function memory(count)
  compile()
  local port = serve()
  local context = assert(tls.context { ca_file = certificates.ca.cert })
  local stranger = assert(tls.context { ca_file = certificates.stranger.cert })
  local function fail(times)
    for _ = 1, times do
      local socket = connected(stranger, port)
      assert(not socket:sslhandshake(false, "localhost"))
    end
  end
  measure.head(("%d connects, half of them resumed, and %d handshakes that fail"):format(count, count / 10))
  handshakes(context, port, 500, true)
  fail(100)
  local before = resident()
  measure.row("%10s %12s %12s", "connects", "failures", "KiB resident")
  measure.row("%10d %12d %12d", 0, 0, before)
  for part = 1, 10 do
    handshakes(context, port, count / 20, true)
    handshakes(context, port, count / 20, false)
    fail(count / 100)
    measure.row("%10d %12d %12d", part * count / 10, part * count / 100, resident())
  end
  local sockets = {}
  before = resident()
  for index = 1, 1000 do
    sockets[index] = secured(context, port)
    request(sockets[index])
  end
  measure.row("a connection at rest: %.1f KiB", (resident() - before) / 1000)
  for _, socket in ipairs(sockets) do socket:close() end
end

host.log_to(function() end)
local ok, message = xpcall(cueball.run, debug.traceback, function()
  if arg[1] == "memory" then return memory(tonumber(arg[2]) or 100000) end
  speed(tonumber(arg[1]) or 1)
end)
servers.kill_all()
if server then server:kill "sigkill" end
if program then os.remove(program) end
uv.run "nowait"
if not ok then error(message, 0) end
