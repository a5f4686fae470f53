--- A service of many nodes found by DNS: SRV, and an A record for each of its targets.
--   examples/run bench/dns.lua [TARGETS]
-- In virtual time, for what can be counted: questions, memory, what the machine's processor does from the first question
-- to the last backend in the pool, and for one round of TTLs when nothing has changed. Then from a real knot on loopback
-- (if it is installed), for the time that it takes.
local cueball = require "cueball"
local driver = require "cueball.dns.driver"
local dns_options = require "cueball.dns.options"
local measure = require "bench.support.measure"
local sim = require "cueball.host.sim"

local TARGETS = tonumber((...)) or 1000
local ROUNDS = 5
local CONCURRENCY = 50
local TTL_S = 60
local SETTLED_MS = 2000 -- of virtual time: long after the first round of questions

local function address_of(number)
  return ("127.%d.%d.%d"):format(1 + math.floor(number / 62500), math.floor(number / 250) % 250, number % 250 + 1)
end

-- A line for each target: with its number, and its address if there is room for one.
local function zone_of(line)
  local lines = {}
  for number = 1, TARGETS do lines[number] = line:format(number, address_of(number)) end
  return table.concat(lines, "\n")
end

local OPTIONS = { domain = "example", service = "_pg._tcp", default_port = 5432, families = "ipv4", max_dns_concurrency = CONCURRENCY,
  hosts_file = false, search = false }

local function options(more)
  local all = {}
  for name, value in pairs(OPTIONS) do all[name] = value end
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local function cpu_ms_of(fn)
  local began = os.clock()
  fn()
  return (os.clock() - began) * 1000
end

-- A pool whose connections cost nothing: what is left is the resolver, and applying what it says.
local function simulated_round(text, has_additionals)
  local world = sim.new { seed = 1 }
  world.zone(text)
  world.nameserver("127.0.0.1:53", { additionals = has_additionals })
  local pool = cueball.pool { host = world, resolver = cueball.resolver.dns(options()), connect = function() return {} end,
    max_connections = 10, check_interval_ms = false }
  local found_ms = cpu_ms_of(function() world.advance(SETTLED_MS) end)
  assert(pool:stats().backends == TARGETS)
  local first = #world.dns.asked
  local steady_ms = cpu_ms_of(function() world.advance(10 * TTL_S * 1000) end)
  local steady = (#world.dns.asked - first) / 10
  assert(pool:stats().backends == TARGETS)
  pool:stop()
  world.close()
  return found_ms, first, steady_ms / 10, steady
end

-- The same without a pool: the tracker's own memory.
local function memory_of_tracker(text)
  local world = sim.new { seed = 1 }
  world.zone(text)
  world.nameserver("127.0.0.1:53", { additionals = false })
  local one = assert(driver.new(world, dns_options.read("bench", options(), 1), {}))
  one:start()
  world.advance(SETTLED_MS)
  local stats = one:stats()
  assert(stats.backends == TARGETS)
  one:close()
  return stats.memory_bytes
end

local function simulate()
  local text = zone_of "_pg._tcp.example 60 SRV 0 10 5432 db%d.example" .. "\n" .. zone_of "db%d.example 60 A %s"
  for _, has_additionals in ipairs { false, true } do
    local found, steady, first, questions = {}, {}, nil, nil
    for round = 0, ROUNDS do -- 0: warm-up
      found[round], first, steady[round], questions = simulated_round(text, has_additionals)
    end
    local what = has_additionals and ", addresses in the SRV answer" or ""
    measure.row("%-78s %8.1f ms", "found and in the pool, processor time" .. what, measure.median(found))
    measure.row("%-78s %8.0f", "questions for that", first)
    measure.row("%-78s %8.1f ms", "a TTL without changes, processor time" .. what, measure.median(steady))
    measure.row("%-78s %8.2f", "questions in a TTL, for each name and type", questions / (has_additionals and 1 or TARGETS + 1))
  end
  measure.row("%-78s %8.0f KB", "memory of the tracker", memory_of_tracker(text) / 1024)
end

-- How much is asked while nobody answers: of one name with A, for an hour.
local function outage()
  for _, silence in ipairs { "refused", "timeout" } do
    local world = sim.new { seed = 1 }
    world.zone "db.example 60 A 127.0.0.2"
    local server = world.nameserver "127.0.0.1:53"
    local pool = cueball.pool { host = world, connect = function() return {} end, max_connections = 1,
      resolver = cueball.resolver.dns { domain = "db.example", default_port = 80, families = "ipv4", hosts_file = false, search = false } }
    world.advance(600e3)
    local steady = #world.dns.asked
    server:set { silence = silence }
    world.advance(3600e3)
    local asked = #world.dns.asked - steady
    server:set { silence = false }
    local back = world.time_ms()
    while pool:resolver().failing do world.advance(100) end
    measure.row("%-78s %8d", ("questions for one name in an hour of outage (%s); %d at rest"):format(silence, steady * 6), asked)
    measure.row("%-78s %8.1f s", "known again after it", (world.time_ms() - back) / 1000)
    pool:stop()
    world.close()
  end
end

-- So many pools that ask for the same, of one process.
local function many_pools(count)
  local world = sim.new { seed = 1 }
  world.zone "db.example 60 A 127.0.0.2"
  local pools = {}
  for number = 1, count do
    pools[number] = cueball.pool { host = world, connect = function() return {} end, max_connections = 1,
      resolver = cueball.resolver.dns { domain = "db.example", default_port = 80, families = "ipv4", hosts_file = false, search = false } }
  end
  world.advance(1)
  for _, pool in ipairs(pools) do assert(pool:stats().backends == 1) end
  measure.row("%-78s %8d", ("questions of %d pools that ask for the same, all answered"):format(count), #world.dns.asked)
  for _, pool in ipairs(pools) do pool:stop() end
  world.close()
end

-- From cueball.pool{} until it has every backend.
local function pool_round(server)
  local host = cueball.host()
  local began, cpu_began = host.now(), os.clock()
  local pool = cueball.pool { resolver = cueball.resolver.dns(options { nameservers = { server } }), max_connections = 10,
    connect = function() return {} end }
  while pool:stats().backends < TARGETS do cueball.sleep(1) end
  local ms, cpu_ms = (host.now() - began) / 1e6, (os.clock() - cpu_began) * 1000
  pool:stop()
  return ms, cpu_ms
end

local function questions_to(server)
  local host = cueball.host()
  local waiter = host.waiter()
  local one = assert(driver.new(host, dns_options.read("bench", options { nameservers = { server } }, 1),
    { settle = function() waiter:wake() end }))
  one:start()
  waiter:wait()
  local stats = one:stats()
  assert(stats.backends == TARGETS)
  one:close()
  return stats.questions
end

-- Targets in the service's own zone come along with the SRV answer; those in another are asked for one by one.
local function ask_knot()
  if os.execute "command -v knotd >/dev/null" ~= 0 then return print "knotd is not installed: no figures of real servers" end
  local servers = require "spec.support.dns_servers"
  for _, with in ipairs { { ", addresses in the SRV answer", "example." }, { "", "nodes." } } do
    local srv, a = zone_of(("_pg._tcp SRV 0 10 5432 db%%d.%s"):format(with[2])), zone_of "db%d A %s"
    local zones = with[2] == "example." and { ["example."] = srv .. "\n" .. a } or { ["example."] = srv, ["nodes."] = a }
    local knot = servers.knot { zones = zones }
    cueball.run(function()
      local times, cpu = {}, {}
      for round = 0, ROUNDS do times[round], cpu[round] = pool_round(knot.server) end
      measure.row("%-78s %8.1f ms", "a real knot on loopback: found and in the pool" .. with[1], measure.median(times))
      measure.row("%-78s %8.1f ms", "of it processor time of this process", measure.median(cpu))
      measure.row("%-78s %8.0f", "questions for that", questions_to(knot.server))
    end)
    servers.close_all()
  end
end

cueball.host().log_to(function() end)
measure.head(("DNS: %d targets, %d questions at once, medians of %d; examples/run bench/dns.lua %d"):format(TARGETS, CONCURRENCY, ROUNDS,
  TARGETS))
simulate()
outage()
many_pools(300)
ask_knot()
