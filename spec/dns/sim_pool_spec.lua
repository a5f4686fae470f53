--- A pool that finds its backends by DNS, in virtual time.
local cueball = require "cueball"
local dns_town = require "spec.support.dns_town"
local sim = require "cueball.host.sim"

local ZONE = [[
  _pg._tcp.example  60 SRV 0 10 5432 db1.example
  _pg._tcp.example  60 SRV 0 10 5432 db2.example
  db1.example       30 A   10.0.0.1
  db2.example       30 A   10.0.0.2
  example          300 SOA 60
]]
local PG = { domain = "example", service = "_pg._tcp", default_port = 5432 }
local FROM = "127.0.0.1:53"

local town

local function open(given, dns, pool)
  town = dns_town.new { zone = given.zone or ZONE, seed = given.seed }
  town.world.nameserver(FROM, { additionals = given.additionals or false })
  if given.before then given.before(town.world) end
  return town:open(dns or PG, pool)
end

local function of_events(pattern)
  local list = {}
  for _, line in ipairs(town.events) do
    if line:find(pattern) then list[#list + 1] = line end
  end
  return list
end

describe("a pool on resolver.dns", function()
  it("has what SRV, A and AAAA say, with where it is from", function()
    local pool = open {}
    town:advance(200)
    assert.equal("10.0.0.1:5432 10.0.0.2:5432", town:keys())
    assert.equal("SRV _pg._tcp.example, A db1.example, AAAA db1.example, A db2.example, AAAA db2.example", town:questions())
    assert.same({
      "[   0] backend_added 10.0.0.1:5432: A 10.0.0.1 of db1.example from 127.0.0.1:53, TTL 30 s"
        .. "; SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s",
      "[   0] backend_added 10.0.0.2:5432: A 10.0.0.2 of db2.example from 127.0.0.1:53, TTL 30 s"
        .. "; SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s",
    }, town.events)
    local names = {}
    for _, backend in ipairs(pool:backends()) do names[#names + 1] = backend.name end
    table.sort(names)
    assert.same({ "db1.example", "db2.example" }, names)
    assert.equal(6, pool:stats().idle)
    town:stop()
  end)

  it("plans once for all that an answer says, however long it takes to say it", function()
    local pool = open({
      zone = [[
        db.example  60 A 10.0.0.1
        db.example  60 A 10.0.0.2
        db.example  60 A 10.0.0.3
        db.example  60 A 10.0.0.4
        example    300 SOA 60
      ]],
      before = function(world) -- a clock that goes on while the pool is told
        local now, gone_ns = world.now, 0
        function world.now()
          gone_ns = gone_ns + 2e6
          return now() + gone_ns
        end
      end,
    }, { domain = "db.example", default_port = 5432 }, { max_connections = 4 })
    town:advance(200)
    assert.same({ 4, 4 }, { pool:stats().idle, pool:stats().attempts })
    for _, backend in ipairs(pool:backends()) do assert.equal(1, backend.total_max, backend.key) end
    town:stop()
  end)

  it("has the backends of another domain go, once all of its own are known", function()
    local ZONES = ZONE .. [[
      other.example  60 A 10.0.0.2
      other.example  60 A 10.0.0.3
      gone.example   NXDOMAIN
    ]]
    local pool = open { zone = ZONES }
    town:advance(1000)
    pool:replace { resolver = cueball.resolver.dns { domain = "other.example", default_port = 5432 } }
    assert.equal("10.0.0.1:5432 10.0.0.2:5432", town:keys())
    town:advance(1000)
    assert.equal("10.0.0.2:5432 10.0.0.3:5432", town:keys())
    -- One whose followers know all of it already tells it at once.
    local same = cueball.pool { host = town.world, recovery = pool.given.recovery, connect = function() return {} end,
      resolver = cueball.resolver.static { "10.0.0.9:1" } }
    same:replace { resolver = cueball.resolver.dns { domain = "other.example", default_port = 5432 } }
    town:advance(0)
    assert.equal("10.0.0.2:5432 10.0.0.3:5432", town:keys(same))
    same:stop()
    -- One that finds nothing keeps what is known.
    pool:replace { resolver = cueball.resolver.dns { domain = "gone.example", default_port = 5432 } }
    town:advance(10000)
    assert.equal("10.0.0.2:5432 10.0.0.3:5432", town:keys())
    town:stop()
  end)

  it("follows changes, and keeps the connections of what did not change", function()
    open {}
    town:advance(1000)
    local of_first = town:ids():match "^%S+"
    assert.is_truthy(of_first:find "^10%.0%.0%.1:5432=%d,%d,%d$", of_first)
    town.world.zone(ZONE:gsub("10 5432 db2", "10 5432 db3") .. "db3.example 30 A 10.0.0.3\n")
    town:advance(62000)
    assert.equal("10.0.0.1:5432 10.0.0.3:5432", town:keys())
    assert.equal(of_first .. " 10.0.0.3:5432=7,8,9", town:ids())
    local changes = of_events "0%.0%.0%.[23]:"
    assert.equal(3, #changes)
    for index = 2, 3 do assert.is_true(tonumber(changes[index]:match "%d+") <= 61000, changes[index]) end -- within TTL + 1 s
    assert.equal("backend_added 10.0.0.3:5432: A 10.0.0.3 of db3.example from 127.0.0.1:53, TTL 30 s; "
      .. "SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s", (changes[2]:gsub("^.- ?%] ", "")))
    assert.equal("backend_removed 10.0.0.2:5432: db2.example is not in the SRV answer of 127.0.0.1:53 any more",
      (changes[3]:gsub("^.- ?%] ", "")))
    assert.equal(0, town.pool:stats().lost)
    town:stop()
  end)

  it("follows an address that changes; the node is another one then", function()
    open {}
    town:advance(1000)
    local of_first = town:ids():match "^%S+"
    town.world.zone((ZONE:gsub("10%.0%.0%.2", "10.0.0.4")))
    town:advance(32000)
    assert.equal("10.0.0.1:5432 10.0.0.4:5432", town:keys())
    assert.equal(of_first .. " 10.0.0.4:5432=7,8,9", town:ids())
    local removed = of_events "removed"
    assert.equal(1, #removed)
    assert.is_truthy(removed[1]:find("10.0.0.2 is not in the A answer for db2.example of 127.0.0.1:53 any more", 1, true), removed[1])
    town:stop()
  end)

  it("is not moved by another order, another case, or the same again", function()
    open {}
    town:advance(1000)
    local ids, plans = town:ids(), town.pool:stats().plans
    town.world.zone [[
      _PG._tcp.EXAMPLE  60 SRV 0 10 5432 DB2.example
      _pg._tcp.example  60 SRV 0 10 5432 db1.Example
      db2.example       30 A   10.0.0.2
      db1.example       30 A   10.0.0.1
    ]]
    town:advance(200000)
    assert.equal(ids, town:ids())
    assert.equal(plans, town.pool:stats().plans)
    assert.equal(2, #town.events)
    town:stop()
  end)

  it("shares connections by the weights of SRV, and follows them", function()
    local zone = ZONE:gsub("0 10 5432 db1", "0 20 5432 db1")
    open { zone = zone }
    town:advance(1000)
    local shares = {}
    for _, backend in ipairs(town.pool:backends()) do shares[backend.key] = backend.weight .. "/" .. backend.idle end
    assert.same({ ["10.0.0.1:5432"] = "20/4", ["10.0.0.2:5432"] = "10/2" }, shares)
    town.world.zone((zone:gsub("0 10 5432 db2", "0 100 5432 db2")))
    town:advance(62000)
    local weights = {}
    for _, backend in ipairs(town.pool:backends()) do weights[backend.key] = backend.weight .. "/" .. backend.idle end
    assert.same({ ["10.0.0.1:5432"] = "20/1", ["10.0.0.2:5432"] = "100/5" }, weights)
    assert.equal(2, #town.events)
    town:stop()
  end)

  it("uses those of a better priority while they live", function()
    open { zone = ZONE:gsub("0 10 5432 db2", "1 10 5432 db2") }
    town:advance(1000)
    assert.equal("10.0.0.1:5432=1,2,3,4,5,6", town:ids())
    local priorities = {}
    for _, backend in ipairs(town.pool:backends()) do priorities[backend.key] = backend.priority end
    assert.same({ ["10.0.0.1:5432"] = 0, ["10.0.0.2:5432"] = 1 }, priorities)
    town:stop()
  end)

  it("goes on while DNS is down altogether, and follows when it is back", function()
    local server
    local pool = open { before = function(world) server = world.nameserver(FROM, { additionals = false }) end }
    town:advance(1000)
    local ids = town:ids()
    server:stop()
    town.world.zone((ZONE:gsub("10%.0%.0%.2", "10.0.0.5")))
    local granted = 0
    town.world.spawn(function()
      for _ = 1, 600 do
        local lease = assert(pool:claim { timeout_ms = 10 })
        lease:release()
        granted = granted + 1
        town.world.sleep(1000)
      end
    end)
    town:advance(600000)
    assert.equal(600, granted)
    assert.equal(ids, town:ids())
    assert.equal(0, #of_events "removed")
    assert.equal("running", pool:state())
    server:start()
    town:advance(3700000)
    assert.equal("10.0.0.1:5432 10.0.0.5:5432", town:keys())
    town:stop()
  end)

  it("is told when DNS fails, and when it does no more though nothing has changed", function()
    local server
    open { before = function(world) server = world.nameserver(FROM, { additionals = false }) end }
    town:advance(1000)
    server:stop()
    town:advance(300000)
    server:start()
    town:advance(3700000)
    local kinds = {}
    for index = 3, #town.events do kinds[#kinds + 1] = town.events[index]:match "[%a_]+$" end
    assert.same({ "resolver_failed", "resolver_recovered" }, kinds)
    town:stop()
  end)

  it("fails only where no backends can be found, and says why", function()
    local server
    local pool = open { before = function(world) server = world.nameserver(FROM, { rcode = "REFUSED" }) end }
    town:advance(20000)
    assert.equal("failed", pool:state())
    assert.is_truthy(pool:last_error():find("REFUSED from 127.0.0.1:53", 1, true), pool:last_error())
    assert.is_true(#of_events "resolver_failed" >= 1)
    server:set { rcode = false }
    town:advance(3700000)
    assert.equal("running", pool:state())
    assert.equal(1, #of_events "resolver_recovered")
    town:stop()
  end)

  it("falls back to the domain's own addresses, and tells that", function()
    open { zone = "example 30 A 10.0.0.7\nexample 300 SOA 60" }
    town:advance(1000)
    assert.same({ "[   0] backend_added 10.0.0.7:5432: A 10.0.0.7 of example from 127.0.0.1:53, TTL 30 s, "
      .. "since _pg._tcp.example does not exist (NXDOMAIN from 127.0.0.1:53)" }, town.events)
    town:stop()
    open { zone = "example 30 A 10.0.0.7\n_pg._tcp.example 30 CNAME other.example\nother.example 30 A 10.0.0.1" }
    town:advance(1000)
    assert.same({ "[   0] backend_added 10.0.0.7:5432: A 10.0.0.7 of example from 127.0.0.1:53, TTL 30 s, "
      .. "since _pg._tcp.example has no SRV records (NODATA from 127.0.0.1:53)" }, town.events)
    town:stop()
    open { zone = "example 30 A 10.0.0.7\n_pg._tcp.example NOTIMP" }
    town:advance(1000)
    assert.same({ "[   0] backend_added 10.0.0.7:5432: A 10.0.0.7 of example from 127.0.0.1:53, TTL 30 s, "
      .. "since SRV is not known there (NOTIMP for _pg._tcp.example from 127.0.0.1:53)" }, town.events)
    town:stop()
  end)

  it("has no backends without SRV records if it was given no port", function()
    local pool = open({ zone = "example 30 A 10.0.0.7\nexample 300 SOA 60" }, { domain = "example", service = "_pg._tcp" })
    town:advance(1000)
    assert.equal("", town:keys())
    assert.equal("resolver: no SRV records for _pg._tcp.example, and no default_port", pool:last_error())
    town.world.nameserver(FROM, { silence = "network" })
    town:advance(100000)
    town.world.nameserver(FROM)
    town:advance(100000)
    assert.equal("failed", pool:state())
    assert.equal(0, #of_events "resolver_recovered")
    town.world.zone "_pg._tcp.example 60 SRV 0 0 5432 db1.example\ndb1.example 30 A 10.0.0.1\nexample 30 A 10.0.0.7"
    town:advance(3700000)
    assert.equal("10.0.0.1:5432", town:keys())
    assert.equal("running", pool:state())
    town:stop()
  end)

  it("follows an alias, and says so", function()
    open({ zone = "db.example 30 CNAME real.example\nreal.example 20 A 10.0.0.6" }, { domain = "db.example", default_port = 5432 })
    town:advance(10)
    assert.same({ "[   0] backend_added 10.0.0.6:5432: A 10.0.0.6 of real.example (for which db.example is an alias) "
      .. "from 127.0.0.1:53, TTL 20 s" }, town.events)
    town:stop()
  end)

  it("uses addresses that come along, and asks no more then", function()
    open { additionals = true }
    town:advance(1000)
    assert.equal("SRV _pg._tcp.example", town:questions())
    assert.is_truthy(town.events[1]:find("A 10.0.0.1 of db1.example, which came along from 127.0.0.1:53, TTL 30 s; SRV", 1, true),
      town.events[1])
    town:stop()
  end)

  it("asks once for each name and TTL, for 10,000 seconds", function()
    open {}
    town:advance(10000000)
    local counts = {}
    for _, one in ipairs(town.world.dns.asked) do
      local what = one.type .. " " .. one.name
      counts[what] = (counts[what] or 0) + 1
    end
    for what, ttl in pairs {
      ["SRV _pg._tcp.example"] = 60, ["A db1.example"] = 30, ["A db2.example"] = 30, ["AAAA db1.example"] = 60, ["AAAA db2.example"] = 60,
    } do
      assert.is_true(counts[what] <= 10000 / ttl + 1, what .. " was asked for " .. counts[what] .. " times")
      assert.is_true(counts[what] >= 10000 / ttl / 1.5, what .. " was asked for only " .. counts[what] .. " times")
      counts[what] = nil
    end
    assert.same({}, counts)
    assert.equal(2, #town.events)
    assert.equal(6, town.opened)
    town:stop()
  end)

  it("does not run hot with a TTL of 0", function()
    open { zone = ZONE:gsub("%f[%d]30 A", "0 A"):gsub("60 SRV", "0 SRV") }
    town:advance(1000)
    local before = #town.world.dns.asked
    town:advance(100000)
    assert.is_true(#town.world.dns.asked - before <= 3 * 100 + 2 * 2 + 3)
    town:stop()
  end)

  it("asks for the families that the host has, and follows them", function()
    open({ zone = "db.example 30 A 10.0.0.1\ndb.example 30 AAAA fe80::1", before = function(world) world.dns.families_are(1) end },
      { domain = "db.example", default_port = 5432 })
    town:advance(50000)
    assert.equal("10.0.0.1:5432", town:keys())
    town.world.dns.families_are(3)
    town:advance(120000)
    assert.equal("10.0.0.1:5432 [fe80::1]:5432", town:keys())
    town.world.dns.families_are(1)
    town:advance(120000)
    assert.equal("10.0.0.1:5432", town:keys())
    local removed = of_events "removed"
    assert.is_truthy(removed[1]:find("this host has no IPv6 address any more", 1, true), removed[1])
    town:stop()
  end)

  it("asks for one family alone if told so, whatever the host has", function()
    open({ zone = "db.example 30 A 10.0.0.1\ndb.example 30 AAAA fe80::1", before = function(world) world.dns.families_are(1) end },
      { domain = "db.example", default_port = 5432, families = "ipv6" })
    town:advance(200) -- before nobody is reached there
    assert.equal("[fe80::1]:5432", town:keys())
    assert.equal("AAAA db.example", town:questions())
    town:stop()
  end)

  it("believes the hosts file first, unless told not to", function()
    local function before(world) world.dns.hosts_are { ["db.example"] = { "10.0.0.8" } } end
    local zone, dns = "db.example 30 A 10.0.0.1\ndb.example 30 AAAA fe80::1", { domain = "db.example", default_port = 5432 }
    open({ zone = zone, before = before }, dns)
    town:advance(1000)
    assert.equal("", town:questions())
    assert.same({ "[   0] backend_added 10.0.0.8:5432: A 10.0.0.8 of db.example from hosts file, TTL 60 s" }, town.events)
    town.world.dns.hosts_are {}
    town:advance(62000)
    assert.equal("10.0.0.1:5432 [fe80::1]:5432", town:keys())
    town:stop()
    open({ zone = zone, before = before }, { domain = "db.example", default_port = 5432, hosts_file = false })
    town:advance(1000)
    assert.equal("10.0.0.1:5432 [fe80::1]:5432", town:keys())
    town:stop()
  end)

  it("looks in the system's search list, or in its own", function()
    local function before(world)
      world.dns.system_is { servers = { FROM }, search = { "a.example", "b.example" }, ndots = 1 }
      world.dns.hosts_are { short = { "10.0.0.9" } }
    end
    local zone = "db.b.example 30 A 10.0.0.1\ndb.c.example 30 A 10.0.0.2\nshort.a.example 30 A 10.0.0.3"
    open({ zone = zone, before = before }, { domain = "db", default_port = 5432 })
    town:advance(1000)
    assert.equal("10.0.0.1:5432", town:keys())
    assert.equal("db.b.example", town.pool:backends()[1].name)
    town:stop()
    open({ zone = zone, before = before }, { domain = "db", default_port = 5432, search = { "c.example" } })
    town:advance(1000)
    assert.equal("10.0.0.2:5432", town:keys())
    town:stop()
    open({ zone = zone, before = before }, { domain = "db", default_port = 5432, search = false })
    town:advance(1000)
    assert.equal("", town:keys())
    town:stop()
    open({ zone = zone, before = before }, { domain = "short", default_port = 5432 })
    town:advance(1000)
    assert.equal("10.0.0.9:5432", town:keys())
    town:stop()
  end)

  it("follows the system's nameservers when they change", function()
    open { before = function(world)
      world.nameserver(FROM, { silence = "timeout" })
      world.nameserver("10.0.0.53:53", { additionals = false })
    end }
    town:advance(40000)
    assert.equal("", town:keys())
    town.world.dns.system_is { servers = { "10.0.0.53:53" } }
    town:advance(3700000)
    assert.equal("10.0.0.1:5432 10.0.0.2:5432", town:keys())
    assert.is_truthy(town.events[#town.events]:find("from 10.0.0.53:53", 1, true) or of_events("10%.0%.0%.53:53")[1])
    town:stop()
  end)

  it("serves several pools with one resolver, each with a state of its own", function()
    local world = sim.new { seed = 1 }
    world.zone(ZONE)
    for number = 1, 2 do world.server("10.0.0." .. number, 5432) end
    local resolver = cueball.resolver.dns(PG)
    local pools = {}
    for number = 1, 2 do
      pools[number] = cueball.pool { host = world, resolver = resolver, connect = cueball.connection.tcp {}, max_connections = 2 }
    end
    world.advance(1000)
    pools[1]:stop()
    world.advance(100000)
    assert.equal("stopped", pools[1]:state())
    assert.equal(2, #pools[2]:backends())
    assert.equal("example", pools[2].name)
    pools[2]:stop()
    world.advance(0)
    assert.same({}, world.leaks())
  end)

  it("may be given another resolver, and leaves nothing of the first", function()
    local pool = open {}
    town:advance(1000)
    local of_first = town:ids():match "^%S+"
    pool:replace { resolver = cueball.resolver.static { "10.0.0.1:5432" } }
    town:advance(1000)
    assert.equal("10.0.0.1:5432", town:keys())
    local before = #town.world.dns.asked
    town:advance(1000000)
    assert.equal(before, #town.world.dns.asked)
    assert.equal(of_first .. ",7,8,9", town:ids())
    town:stop()
  end)

  it("may be stopped while a question is under way", function()
    open { before = function(world) world.nameserver(FROM, { latency = 500 }) end }
    town:advance(100)
    assert.equal(1, #town.world.dns.asked)
    town:stop()
    town:advance(10000)
    assert.equal(1, #town.world.dns.asked)
  end)

  it("recovers as the pool does unless it was told otherwise", function()
    local function attempts(dns, pool)
      open({ before = function(world) world.nameserver(FROM, { silence = "timeout" }) end }, dns, pool)
      town:advance(20000)
      local count = 0
      for _, one in ipairs(town.world.dns.asked) do
        if one.type == "SRV" and one.time_ms < 1000 then count = count + 1 end
      end
      town:stop()
      return count
    end
    local function slow(count) return { attempts = count, timeout_ms = 100, max_timeout_ms = 100, delay_ms = 0, spread = 0 } end
    local own = { domain = "example", service = "_pg._tcp", default_port = 5432, recovery = { dns = slow(7) } }
    assert.equal(5, attempts(PG, { recovery = { default = slow(5) } }))
    assert.equal(4, attempts(PG, { recovery = { default = slow(5), dns = slow(4) } }))
    assert.equal(7, attempts(own, { recovery = { default = slow(5) } }))
  end)

  it("fails with a word on a host that has no dns", function()
    local world = sim.new { seed = 1 }
    world.dns = nil
    local pool = cueball.pool { host = world, resolver = cueball.resolver.dns(PG), connect = function() return {} end }
    world.advance(1000)
    assert.equal("failed", pool:state())
    assert.equal('resolver: the host "sim" has no dns: cueball.resolver.dns works on cueball.host.uv, '
      .. "cueball.host.sim and cueball.nginx.host",
      pool:last_error())
    pool:stop()
  end)
end)
