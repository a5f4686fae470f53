--- A pool at work: three servers, 15 connections, 200 claimers; one server is killed in the middle, and comes back.
-- Run by examples/quickstart, which builds first.
--
-- The run has three phases, and goes from one to the next when enough round trips are done and the pool is as it
-- should be then, however long that takes:
--   before      a third of the round trips, and 5/5/5; then SIGKILL to one server
--   while down  another third, and the pool has found the backend dead; then the server is started again
--   after       the rest, and 5/5/5 again
--
-- Each round trip sends a number of its own and must get just that back. One that gets an error has failed, and was
-- told so. One that gets anything else, or nothing at all, is lost: that must not be.
local cueball = require "cueball"
local servers = require "examples.support.servers"
local uv = require "luv"

local TRIPS = tonumber(os.getenv "CUEBALL_QUICKSTART_TRIPS" or 30000)
local CLAIMERS, CONNECTIONS, SERVERS = 200, 15, 3
local SHARE = CONNECTIONS / SERVERS
local PHASES = { "before", "while down", "after" }
local PHASE_TIME_LIMIT_MS, STALL_LIMIT_MS = 600000, 60000 -- of one wait; without a single reply
local LOOK_EVERY_MS, SHOW_EVERY_MS = 5, 100

local host = cueball.host()
local is_terminal = uv.guess_handle(1) == "tty"
local began = host.now()

local function milliseconds()
  return (host.now() - began) / 1e6
end

local function say(format, ...)
  io.stdout:write(is_terminal and "\r\27[K" or "", ("%7.0f ms  "):format(milliseconds()), format:format(...), "\n")
  io.stdout:flush()
end

-- ------------------------------------------------------------- round trips --

-- All there is to know about this run.
local run = {
  pool = nil,
  phase = 1,
  target = TRIPS,
  is_enough = false,   -- the last phase has what it waited for
  claims = 0, answered = 0, failed = 0, wrong = 0,
  claimers = 0,        -- that still run
  mishap = nil,        -- what a claimer threw
  latencies = {},      -- of the answered, ms
  failures = {},       -- by message
  requests = { {}, {}, {} }, -- by phase, then backend: answered
  connections = {},    -- by phase, then backend: open at its end
}

--- One request and its reply.
-- @return the reply, the backend that sent it; or nil, message
local function round_trip(number)
  local lease, message = run.pool:claim()
  if not lease then return nil, message end
  local socket, backend = lease.connection, lease:backend().key
  local ok, reply
  ok, message = socket:send(number .. "\n")
  if ok then reply, message = socket:receive "*l" end
  if not reply then
    lease:fail(message)
    return nil, ("%s: %s"):format(backend, message)
  end
  lease:release()
  return reply, backend
end

local function note(number, took_ms, reply, backend_or_message)
  if reply == tostring(number) then
    local requests = run.requests[run.phase]
    requests[backend_or_message] = (requests[backend_or_message] or 0) + 1
    run.answered = run.answered + 1
    run.latencies[run.answered] = took_ms
  elseif reply then
    run.wrong = run.wrong + 1
    say("round trip %d got %q", number, reply)
  else
    run.failed = run.failed + 1
    run.failures[backend_or_message] = (run.failures[backend_or_message] or 0) + 1
  end
end

-- Those under way count, so that in the end it is the target to the one.
local function is_more_wanted()
  local under_way = run.claims - run.answered - run.failed - run.wrong
  return not run.is_enough or run.answered + under_way < run.target
end

local function work()
  while is_more_wanted() do
    local number = run.claims + 1
    run.claims = number
    local started = host.now()
    local reply, backend_or_message = round_trip(number)
    note(number, (host.now() - started) / 1e6, reply, backend_or_message)
  end
end

local function claimer()
  run.claimers = run.claimers + 1
  local ok, message = xpcall(work, debug.traceback)
  if not ok then run.mishap = message end
  run.claimers = run.claimers - 1
end

-- ------------------------------------------------------------------ phases --

local function is_even()
  local backends = run.pool:backends()
  for _, backend in ipairs(backends) do
    if backend.removed or backend.total ~= SHARE or backend.idle + backend.busy ~= SHARE then return false end
  end
  return #backends == SERVERS
end

local function backend_of(server)
  for _, backend in ipairs(run.pool:backends()) do
    if backend.key == server.address then return backend end
  end
end

local function distribution()
  local parts = {}
  for _, backend in ipairs(run.pool:backends()) do parts[#parts + 1] = backend.idle + backend.busy end
  return table.concat(parts, "/")
end

local function show_progress()
  if not is_terminal then return end
  local share = math.min(1, run.answered / run.target)
  local bar = ("#"):rep(math.floor(share * 30)) .. ("."):rep(30 - math.floor(share * 30))
  io.stdout:write(("\r\27[K%7.0f ms  [%s] %d round trips, %s, connections %s")
    :format(milliseconds(), bar, run.answered, PHASES[run.phase], distribution()))
  io.stdout:flush()
end

--- Waits until something is so.
-- @return true; or false when that takes too long
local function wait_until(what, is_so)
  local deadline, show_at = milliseconds() + PHASE_TIME_LIMIT_MS, 0
  local answered, stalled_at = run.answered, milliseconds() + STALL_LIMIT_MS
  while not is_so() do
    if run.answered > answered then
      answered, stalled_at = run.answered, milliseconds() + STALL_LIMIT_MS
    end
    if run.mishap then
      say("a claimer threw: %s", run.mishap)
      return false
    elseif milliseconds() > math.min(deadline, stalled_at) then
      say("gave up waiting for: %s; %d round trips, connections %s", what, run.answered, distribution())
      return false
    end
    if milliseconds() > show_at then
      show_progress()
      show_at = milliseconds() + SHOW_EVERY_MS
    end
    cueball.sleep(LOOK_EVERY_MS)
  end
  return true
end

-- The phase is over: what the pool looks like now goes into the table.
local function end_phase()
  local connections = {}
  for _, backend in ipairs(run.pool:backends()) do connections[backend.key] = backend.idle + backend.busy end
  run.connections[run.phase] = connections
end

-- How many round trips there should be at the end of this phase.
local function goal(phase)
  return math.floor(TRIPS * phase / #PHASES)
end

--- Takes the claimers through the phases.
-- @return true if all came as it should
local function direct(victim)
  local function is_ripe(is_ready)
    return function() return run.answered >= goal(run.phase) and is_ready() end
  end
  if not wait_until("5/5/5", is_ripe(is_even)) then return false end
  end_phase()
  say("%d round trips, connections %s: killing %s (process %d)", run.answered, distribution(), victim.address, victim.pid)
  victim:kill()
  run.phase = 2
  if not wait_until("the dead backend to be found", is_ripe(function() return backend_of(victim).dead end)) then return false end
  end_phase()
  say("%d round trips, connections %s: starting %s again", run.answered, distribution(), victim.address)
  victim:restart()
  run.phase = 3
  -- Where the pool took long to find out, the last phase is still worth looking at.
  run.target = math.max(TRIPS, run.answered + math.floor(TRIPS / 10))
  if not wait_until("5/5/5 again", is_even) then return false end
  say("%d round trips, connections %s: even again", run.answered, distribution())
  run.is_enough = true
  if not wait_until("the rest of the round trips", function() return run.claimers == 0 end) then return false end
  local was_even = wait_until("5/5/5 at the end", is_even)
  end_phase()
  return was_even
end

-- ------------------------------------------------------------------ report --

local function print_table(list, victim)
  local function row(...) print((("%-24s" .. ("  %12s %9s"):rep(#PHASES)):format(...):gsub("%s+$", ""))) end
  print ""
  row("", "", PHASES[1], "", PHASES[2], "", PHASES[3])
  row("backend", "connections", "requests", "connections", "requests", "connections", "requests")
  for _, server in ipairs(list) do
    local cells = {}
    for phase in ipairs(PHASES) do
      cells[#cells + 1] = run.connections[phase] and run.connections[phase][server.address] or "?"
      cells[#cells + 1] = run.requests[phase][server.address] or 0
    end
    row(server.address .. (server == victim and " (killed)" or ""), unpack(cells))
  end
  print "(connections: open at the end of the phase; requests: replies that came in it)"
  print ""
end

local function print_failures()
  local messages = {}
  for message in pairs(run.failures) do messages[#messages + 1] = message end
  table.sort(messages)
  for _, message in ipairs(messages) do print(("%d claims failed, and were told: %s"):format(run.failures[message], message)) end
end

local function quantile(sorted, q)
  return sorted[math.max(1, math.ceil(q * #sorted))] or 0
end

local function report(list, victim)
  local lost = run.claims - run.answered - run.failed
  table.sort(run.latencies)
  print_table(list, victim)
  print_failures()
  print(("quickstart: %d claims, %d failed, %d lost, p50 %.2f ms, p99 %.2f ms"):format(
    run.claims, run.failed, lost, quantile(run.latencies, 0.5), quantile(run.latencies, 0.99)))
  return lost
end

-- -------------------------------------------------------------------- main --

local function main()
  host.log_to(function(level, message)
    if level ~= "debug" then say("%s: %s", level, message) end
  end)
  local list, addresses = {}, {}
  for index = 1, SERVERS do
    list[index] = servers.start()
    addresses[index] = list[index].address
  end
  say("servers: %s", table.concat(addresses, ", "))
  run.pool = cueball.pool {
    name = "quickstart",
    resolver = cueball.resolver.static(addresses),
    connect = cueball.connection.tcp { read_timeout_ms = 30000 },
    max_connections = CONNECTIONS,
    recovery = { default = { attempts = 3, timeout_ms = 2000, delay_ms = 20, max_delay_ms = 100, spread = 0.2 } },
  }
  say("%d claimers, %d connections, %d round trips", CLAIMERS, CONNECTIONS, TRIPS)
  for _ = 1, CLAIMERS do cueball.spawn(claimer) end
  local is_well = direct(list[2])
  run.is_enough, run.target = true, 0
  if is_well then run.pool:stop() end
  return report(list, list[2]) == 0 and is_well
end

local ok, is_well = xpcall(cueball.run, debug.traceback, main)
servers.kill_all()
if not ok then io.stderr:write(is_well, "\n") end
os.exit(ok and is_well and 0 or 1)
