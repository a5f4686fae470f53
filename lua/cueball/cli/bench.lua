--- cueball bench: load on a pool, and what came of it.
local output = require "cueball.cli.output"
local read = require "cueball.cli.read"
local said = require("cueball.text").format
local status = require "cueball.cli.status"

local bench = {}

bench.help = [[
Usage: cueball bench [OPTION...] -b BACKENDS
       cueball bench [OPTION...] SCRIPT
       cueball bench [OPTION...] --sim

Claims connections of a pool at a rate, uses and releases them, and shows how
long that took, from when each request was meant to begin.

The pool:
  -b, --backends LIST      IP:PORT[,...], or the name of a service
      --tcp                Connections are TCP [this]
      --redis              Connections are to Redis
      --postgres           Connections are to PostgreSQL
      --connect NAME=VALUE An option of the connection, such as user=app
  -m, --max-connections N  So many connections at most
      --set NAME=VALUE     Another option of the pool, such as spares=4
      SCRIPT               Lua that returns a pool, and a function(connection)
                           that does one request

The load:
  -r, --rate RATE          Requests begin at this rate: 2000/s. Without it: as
                           fast as --concurrency of them go
  -c, --concurrency N      So many at a time at most [no limit; without -r: 10]
      --poisson            Requests come by chance, and not at even distances
      --hold TIME          Keep each connection so long: 5ms, 2ms-8ms [0]
      --request TEXT       What to send: a line for TCP (\r\n is understood),
                           a command for Redis [PING], SQL [SELECT 1]
  -d, --duration TIME      How long it is measured [10s]
  -w, --warm-up TIME       And before that, not measured [1s]

In virtual time:
      --sim                No servers: simulated ones, in no time at all
      --server NAME=VALUE  How these are: reply_delay=5, refuse=0.1
      --seed N             All chance; the same one gives the same figures [1]

What to print:
      --json               JSON, on one line
  -q, --quiet              No line each second on standard error
  -h, --help               Print this

Exit status: 0 measured; 1 not one request went well, or the output could not
be written; 2 wrong usage; 4 something is missing or broken here;
130 interrupted: what was measured so far is printed; with --sim nothing is.
]]

local CONCURRENCY = 10
local GRACE_MS = 5000
local PROGRESS_MS = 1000

function bench.define(parser)
  parser:argument "script":args "?"
  parser:option "-b --backends"
  parser:flag "--tcp"
  parser:flag "--redis"
  parser:flag "--postgres"
  parser:option "--connect":count "*"
  parser:option "-m --max-connections"
  parser:option "--set":count "*"
  parser:option "-r --rate"
  parser:option "-c --concurrency"
  parser:flag "--poisson"
  parser:option "--hold":default "0"
  parser:option "--request"
  parser:option "-d --duration":default "10s"
  parser:option "-w --warm-up":default "1s"
  parser:flag "--sim"
  parser:option "--server":count "*"
  parser:option "--seed"
  parser:flag "--json"
  parser:flag "-q --quiet"
end

local READERS = {
  { "max_connections", "-m/--max-connections", read.whole(1, 1000000) }, { "rate", "-r/--rate", read.rate },
  { "concurrency", "-c/--concurrency", read.whole(1, 100000) }, { "hold", "--hold", read.spread },
  { "duration", "-d/--duration", read.time }, { "warm_up", "-w/--warm-up", read.span }, { "seed", "--seed", read.whole(0, 2 ^ 53 - 1) },
}
local ASSIGNED = { { "set", "--set" }, { "connect", "--connect" }, { "server", "--server" } }

-- What only makes sense for a pool of options, or in virtual time.
local function combination_fault(given)
  if not given.script and not given.backends and not given.sim then return "give backends with -b, a SCRIPT, or --sim" end
  if given.script then
    if given.backends then return "give a SCRIPT or backends, not both" end
    for _, one in ipairs(READERS) do
      if one[1] == "max_connections" and given[one[1]] then return "option '-m' is for a pool of options: the SCRIPT makes its own" end
    end
    if #given.set + #given.connect > 0 or given.request then
      return "options '--set', '--connect' and '--request' are for a pool of options: the SCRIPT makes its own"
    end
  end
  if not given.sim and #given.server > 0 then return "option '--server' is for --sim" end
end

-- All options, read; or nil, message.
local function asked_of(given)
  local target = require "cueball.cli.load.target"
  local asked, fault = {}, combination_fault(given)
  if fault then return nil, fault end
  for _, reader in ipairs(READERS) do
    local typed = given[reader[1]]
    if typed then
      local value, message = reader[3](typed)
      if value == nil then return nil, said("option '%s' %s, not %q", reader[2], message, typed) end
      asked[reader[1]] = value
    end
  end
  for _, one in ipairs(ASSIGNED) do
    asked[one[1]] = {}
    for _, typed in ipairs(given[one[1]]) do
      local made, message = read.assignment(typed, asked[one[1]])
      if not made then return nil, said("option '%s' %s, not %q", one[2], message, typed) end
    end
  end
  local message
  asked.kind, message = target.kind(given)
  if not asked.kind then return nil, message end
  if given.sim and asked.kind ~= "tcp" then return nil, said("simulated servers speak TCP only, not %s", asked.kind) end
  asked.request, message = target.request_of(asked.kind, given.request)
  if message then return nil, "option '--request' " .. message end
  asked.pool = asked.set
  return asked
end

local function plan_of(asked, found, seed)
  local hold = asked.hold[2] > 0 and asked.hold or nil
  return {
    pool = found.pool, request = found.request, hold_ms = hold, rate = asked.rate,
    concurrency = asked.concurrency or asked.rate and math.huge or CONCURRENCY, warm_up_ms = asked.warm_up, duration_ms = asked.duration,
    grace_ms = GRACE_MS, is_even = not asked.is_poisson, seed = seed,
  }
end

-- A line each second, until the run is over.
local function show_progress(host, system, run)
  local report = require "cueball.cli.load.report"
  return host.spawn(function()
    while true do
      host.sleep(PROGRESS_MS)
      system.stderr:write(report.progress(run:progress(), run.plan.pool:stats()), "\n")
    end
  end)
end

-- Measures, in a task of the host.
-- @return the run; or nil, message
local function measure(host, system, given, asked)
  local target = require "cueball.cli.load.target"
  asked.seed = asked.seed or given.sim and 1 or nil
  local found, message
  if given.script then found, message = target.of_script(host, given.script) else found, message = target.of_options(host, given, asked) end
  if not found then return nil, message end
  local run = require("cueball.cli.load.generator").new(host, plan_of(asked, found, asked.seed or host.seed()))
  local progress = not given.quiet and not given.sim and show_progress(host, system, run)
  local forget = host.on_signal("int", function() run:stop() end, { once = true })
  local cpu, began = os.clock(), host.now()
  run:run()
  if not given.sim then run.cpu_share = (os.clock() - cpu) / math.max(1e-9, (host.now() - began) / 1e9) end
  if progress then host.kill(progress) end
  run.stats = found.pool:stats()
  if forget then forget() end
  found.pool:set { drain_timeout_ms = 0 }
  found.pool:stop()
  return run
end

-- In a closed loop of virtual time, what takes no time goes on for ever.
local function endless_fault(given, asked)
  if given.sim and not asked.rate and asked.hold[2] == 0 and not asked.request and not given.script then
    return "with --sim and without --rate a request has to take time: give --hold or --request"
  end
end

local function host_of(given, asked, system)
  if not given.sim then return system.host() end
  return require("cueball.host.sim").new { seed = asked.seed or 1, cpu_ms_max = false }
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function bench.run(given, system)
  local asked, message = asked_of(given)
  if not asked then return nil, message end
  asked.is_poisson = given.poisson
  message = endless_fault(given, asked)
  if message then return nil, message end
  local host = host_of(given, asked, system)
  local hosts = require "cueball.host"
  local before = given.sim and hosts.use(host)   -- a script that names no host means this one
  local run, fault = host.run(measure, host, system, given, asked)
  if given.sim then hosts.use(before) end
  if not run then return nil, fault end
  local report = require "cueball.cli.load.report"
  local out = output.new(system, {})
  local code = out:status_of(out:put(given.json and report.json(run) or report.text(run)))
  if code ~= status.found then return code end
  if run.is_stopped then return status.interrupted end
  return run.outcomes.ok and status.found or status.failed
end

return bench
