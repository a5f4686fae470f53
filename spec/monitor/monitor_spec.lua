--- cueball.monitor: the pools of a process as tables, JSON and OpenMetrics text; and those of several workers, added up.
local cueball = require "cueball"
local dkjson = require "dkjson"
local json = require "cueball.monitor.json"
local monitor = require "cueball.monitor"
local openmetrics = require "cueball.monitor.openmetrics"
local sim_pool = require "spec.support.sim_pool"
local snapshot = require "cueball.monitor.snapshot"
local with = require "spec.support.with"

-- Reads OpenMetrics text with the parser of Prometheus's Python client: { ["name{label=\"…\"}"] = value }.
local function parse(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  local pipe = assert(io.popen(("/usr/bin/python3 - '%s' <<'END' 2>&1\n%s\nEND\n"):format(path, [[
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(open(sys.argv[1], encoding="utf-8", newline="").read()):
    print("family %s %s %s" % (family.name, family.type, family.unit or "-"))
    for sample in family.samples:
        labels = ",".join("%s=%s" % (k, v.replace("\n", "<newline>")) for k, v in sorted(sample.labels.items()))
        print("sample %s{%s} %s" % (sample.name, labels, repr(float(sample.value))))
]])))
  local found, families = {}, 0
  for line in pipe:lines() do
    local name, value = line:match "^sample (.+) (%S+)$"
    if name then found[name] = tonumber(value) elseif line:find "^family" then families = families + 1 else error(line) end
  end
  pipe:close()
  os.remove(path)
  found.families = families
  return found
end

-- Is it installed?  .ci/deps has it.
local has_parser = os.execute "/usr/bin/python3 -c 'import prometheus_client.openmetrics.parser' 2>/dev/null"
has_parser = has_parser == 0 or has_parser == true

local town

local function open(name)
  town = sim_pool.new { servers = 2 }
  town:open { name = name or "db", max_connections = 3, max_waiters = 5,
    resolver = cueball.resolver.static { "10.0.0.1:7000", "10.0.0.2:7000" } }
  town:advance(200)
end

local function pool_named(list, name)
  for _, pool in ipairs(list) do
    if pool.name == name then return pool end
  end
end

describe("the monitor", function()
  after_each(function() if town then town:stop() town = nil end end)

  it("has the pools of the process", function()
    open()
    town:claim "alice"
    local pool = pool_named(monitor.snapshot().pools, "db")
    assert.equal("running", pool.state)
    assert.equal(1, pool.stats.busy)
    assert.equal(2, pool.stats.idle)
    assert.same({ max_connections = 3, max_waiters = 5 }, pool.options)
    assert.same({ "10.0.0.1:7000 up static list", "10.0.0.2:7000 up static list" }, (function()
      local lines = {}
      for index, one in ipairs(pool.backends) do lines[index] = one.key .. " " .. one.state .. " " .. one.provenance end
      table.sort(lines)
      return lines
    end)())
    assert.is_false(pool.resolver.is_failing)
    town:release "alice"
  end)

  it("has them in detail where that is asked for, in virtual time as elsewhere", function()
    open()
    town:claim "alice"
    local taken
    town:run(function() taken = monitor.snapshot { detail = true, pool = "db", host = town.world } end)
    local pool = taken.pools[1]
    local states = {}
    for _, one in ipairs(pool.connections) do states[one.state] = (states[one.state] or 0) + 1 end
    assert.same({ 1, "sim", { idle = 2, busy = 1 }, 1, 0 }, { #taken.pools, taken.process.host, states, #pool.leases, #pool.waiters })
    assert.same({ "well", "well" }, { pool.backends[1].reason, pool.backends[2].reason })
    assert.is_number(pool.signals.utilisation)
    assert.is_nil(pool_named(monitor.snapshot().pools, "db").connections)
    town:release "alice"
  end)

  it("says in detail what went wrong last with a backend that is well again, for a day", function()
    town = sim_pool.new { servers = 1 }
    town.servers[1]:stop()
    town:open { name = "db", recovery = { default = { attempts = 2, timeout_ms = 100, delay_ms = 100, max_delay_ms = 100 } } }
    town:advance(10)
    town.servers[1]:start()
    town:advance(1000)
    local function reason()
      local taken
      town:run(function() taken = monitor.snapshot { detail = true, pool = "db", host = town.world } end)
      return taken.pools[1].backends[1].reason
    end
    assert.equal("well; less than a minute ago: connection refused", reason())
    town:advance(120000)
    assert.equal("well; 2 minutes ago: connection refused", reason())
    town:advance(7200000)
    assert.equal("well; 2 hours ago: connection refused", reason())
    town:advance(86400000)
    assert.equal("well", reason())
  end)

  it("says for how long a resolver has failed", function()
    town = sim_pool.new { servers = 1 }
    town:open { name = "lost", resolver = function(sink) sink:fail "no answer" sink:sleep(1000) end }
    town:advance(250)
    local pool = pool_named(monitor.snapshot().pools, "lost")
    assert.same({ is_failing = true, message = "no answer", since_ms = 250 }, pool.resolver)
  end)

  it("forgets pools that are stopped, or nobody has any more", function()
    open()
    town:stop()
    town = nil
    assert.is_nil(pool_named(monitor.snapshot().pools, "db"))
  end)

  it("tells pools of one name apart", function()
    open()
    local other = cueball.pool { name = "db", host = town.world, resolver = function() end, connect = function() end }
    local pools = monitor.snapshot().pools
    assert.is_table(pool_named(pools, "db"))
    assert.is_table(pool_named(pools, "db#2"))
    town:run(function() other:stop() end)
  end)

  it("writes JSON in which empty lists are lists, and what is no number is left out", function()
    for _, library in ipairs { "cjson", "dkjson" } do
      json.library = require(library)
      assert.equal('{"list":[]}', json.encode { list = json.list {} })
      assert.equal('{"list":[1,{"b":[]}]}', json.encode { list = json.list { 1, { b = json.list {} } } })
      assert.same({ a = 1 }, json.decode(json.encode { a = 1, b = 0 / 0, c = math.huge }))
      assert.is_nil(json.decode "{")
    end
    json.library = nil
    open 'a "name"'
    local view = dkjson.decode(monitor.json())
    local pool = pool_named(view.pools, 'a "name"')
    assert.equal(3, pool.max_connections)
    assert.same({ running = 1 }, pool.states)
    assert.is_nil(pool.stats.wait_ms_p99)
    assert.is_number(pool_named(view.workers[1].pools, 'a "name"').stats.wait_ms_p99)
  end)

  it("writes what OpenMetrics says, whatever the names are", function()
    if not has_parser then return pending "python3-prometheus-client is not installed" end
    open 'odd "name" \\ it is'
    town:claim "alice"
    town:claim "bob"
    town:release "bob"
    local found = parse(monitor.openmetrics())
    local label = 'pool=odd "name" \\ it is'
    assert.equal(1, found["cueball_pool_connections{" .. label .. ",state=busy}"])
    assert.equal(2, found["cueball_pool_connections{" .. label .. ",state=idle}"])
    assert.equal(2, found["cueball_pool_claims_total{" .. label .. "}"])
    assert.equal(1, found["cueball_pool_leases_released_total{" .. label .. "}"])
    assert.equal(3, found["cueball_pool_connections_max{" .. label .. "}"])
    assert.equal(1, found["cueball_pool_resolver_up{" .. label .. "}"])
    assert.equal(1, found["cueball_backend_up{backend=10.0.0.1:7000," .. label .. "}"])
    assert.equal(1, found["cueball_backend_workers{backend=10.0.0.1:7000," .. label .. ",state=up}"])
    assert.equal(0, found["cueball_worker_claim_wait_seconds{" .. label .. ",quantile=0.99,worker=0}"])
    assert.equal(1, found["cueball_build_info{version=" .. cueball.version .. "}"])
    assert.equal(57, found.families)
    assert.matches("# EOF\n$", monitor.openmetrics())
    town:release "alice"
  end)

  it("has every metric in its manual", function()
    open()
    local file = assert(io.open((os.getenv "CUEBALL_ROOT" or ".") .. "/docs/monitor.md", "rb"))
    local manual = file:read "*a"
    file:close()
    local missing, count = {}, 0
    for name, kind in monitor.openmetrics():gmatch "# TYPE (%S+) (%S+)" do
      local sample = name .. (kind == "counter" and "_total" or kind == "info" and "_info" or "")
      if not manual:find("`" .. sample .. "`", 1, true) then missing[#missing + 1] = sample end
      count = count + 1
    end
    assert.same({}, missing)
    assert.is_true(count > 30)
  end)

  it("refuses to serve where there are no requests", function()
    open()
    local ok, message = pcall(function() monitor.serve { host = town.world } end)
    assert.is_false(ok)
    assert.matches("monitor_spec.lua:%d+: cueball.monitor.serve: this host %(sim%) cannot listen", message)
  end)
end)

describe("the pools of several workers", function()
  local function worker(pid, pool)
    return { version = "1", pid = pid, id = pid, is_exiting = false, pools = { pool } }
  end

  -- Their sums. accumulated: the counters of workers that are gone, by pool
  local function merged(workers, accumulated)
    local sums = snapshot.sums()
    for _, one in ipairs(workers) do
      for _, shown in ipairs(one.pools) do sums:add(shown, (one.age_s or 0) * 1000) end
    end
    return sums:finish(accumulated)
  end

  local function pool(more)
    local made = with({
      name = "db", state = "running", stats = { claims = 5, idle = 2, backends = 3, waiting_max = 4, wait_ms_p99 = 7, wait_ms_max = 9 },
      options = { max_connections = 4 }, resolver = { is_failing = false },
      backends = { { key = "a", name = "a", address = "10.0.0.1", port = 1, weight = 1, priority = 0, state = "up", total = 2, idle = 1,
        busy = 1, connecting = 0 } },
    }, more)
    return made
  end

  it("are added up, what can be", function()
    local sum = merged({
      worker(1, pool {}),
      worker(2, pool { state = "failed", stats = { claims = 2, idle = 1, backends = 2, waiting_max = 6, wait_ms_p99 = 1, wait_ms_max = 1 },
        resolver = { is_failing = true, message = "no" } }),
    }, { db = { claims = 100 }, gone = { claims = 1 } })
    assert.equal(1, #sum)
    assert.same({ claims = 107, idle = 3, backends = 3, waiting_max = 6, wait_ms_max = 9 }, sum[1].stats)
    assert.same({ running = 1, failed = 1 }, sum[1].states)
    assert.same({ is_failing = true, message = "no" }, sum[1].resolver)
    assert.equal(8, sum[1].max_connections)
    assert.same({ 4, 2, { up = 2 } }, { sum[1].backends[1].total, sum[1].backends[1].idle, sum[1].backends[1].states })
  end)

  it("have the longest of each time, not their sum", function()
    local names = { "wait_ms_max", "lease_ms_max", "create_ms_max" }
    local function taking(ms)
      local stats = {}
      for _, name in ipairs(names) do stats[name] = ms end
      return pool { stats = stats }
    end
    local sum = merged({ worker(1, taking(5)), worker(2, taking(70)), worker(3, taking(6)) })[1]
    assert.same({ wait_ms_max = 70, lease_ms_max = 70, create_ms_max = 70 }, sum.stats)
  end)

  it("have the resolver that has failed for longest", function()
    local function failing(since_ms) return { is_failing = true, message = "for " .. since_ms, since_ms = since_ms } end
    local sum = merged({ worker(1, pool { resolver = failing(100) }), worker(2, pool { resolver = failing(3000) }),
      worker(3, pool {}), worker(4, pool { resolver = failing(200) }) }, {})
    assert.same(failing(3000), sum[1].resolver)
    assert.equal(3, parse(openmetrics.text({ version = "1", workers = {}, pools = sum }))["cueball_pool_resolver_failing_seconds{pool=db}"])
  end)

  it("have of a backend the time since a worker last saw it change, and a bound on its connections", function()
    local function seen(age_s, more)
      local made = worker(1, pool {})
      made.age_s, made.pools[1].backends[1] = age_s, with(made.pools[1].backends[1], more)
      return made
    end
    local sum = merged { seen(1.5, { since_ms = 4000, total_max = 3 }), seen(nil, { since_ms = 7000, total_max = 5 }),
      seen(2, { since_ms = 3750, total_max = 2, state = "dead" }) }
    assert.same({ 5500, 10 }, { sum[1].backends[1].since_ms, sum[1].backends[1].total_max })
    local found = parse(openmetrics.text { version = "1", workers = {}, pools = sum })
    assert.equal(5.5, found["cueball_backend_state_seconds{backend=a,pool=db}"])
    assert.equal(10, found["cueball_backend_connections_max{backend=a,pool=db}"])
    sum = merged { seen(1, { since_ms = 9000, total_max = 4 }), seen(0, {}) } -- that is of an older version
    assert.same({ 0, 6 }, { sum[1].backends[1].since_ms, sum[1].backends[1].total_max })
  end)

  it("have one ceiling if that is for the whole nginx", function()
    local shares = {}
    for pid, allowed in ipairs { 3, 1 } do
      shares[pid] = worker(pid, pool { stats = { allowed = allowed, allowed_to_all = 4 } })
    end
    local sum = merged(shares)[1]
    assert.equal(4, sum.max_connections)
    assert.same({ allowed = 4, allowed_to_all = 4 }, sum.stats)
  end)

  it("have each its own quantiles, and an old worker's label is the new one's", function()
    local one, two, old = worker(0, pool {}), worker(1, pool {}), worker(0, pool {})
    one.pools[1].stats = setmetatable({}, { __index = function() return 1000 end })
    two.pools[1].stats, old.pools[1].stats = one.pools[1].stats, one.pools[1].stats
    old.is_exiting = true
    local text = openmetrics.text { version = "1", workers = { one, two, old }, pools = {} }
    assert.equal(1, select(2, text:gsub('cueball_worker_lease_seconds{pool="db",worker="0",quantile="0.5"} 1\n', "")))
    assert.equal(1, select(2, text:gsub('cueball_worker_lease_seconds{pool="db",worker="1",quantile="0.999"} 1\n', "")))
  end)
end)
