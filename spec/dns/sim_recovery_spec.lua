--- Discovery that recovers, with a pool in virtual time: outages, settings that change, and what pools share.
local cueball = require "cueball"
local sim_town = require "spec.support.sim_town"
local with = require "spec.support.with"

local FROM = "127.0.0.1:53"

local town, world
local keys = sim_town.keys

before_each(function()
  town = sim_town.new()
  world = town.world
end)

after_each(function() town:stop() end)

local function open(dns, options)
  return town:open({ resolver = dns.run and dns or cueball.resolver.dns(dns) }, options)
end

-- How many ms it takes until the pool has just these; at most `limit`.
local function until_it_has(pool, wanted, limit)
  local began = world.time_ms()
  while keys(pool) ~= wanted do
    if world.time_ms() - began > limit then error(("not %s but %s after %d ms"):format(wanted, keys(pool), limit), 2) end
    world.advance(100)
  end
  return world.time_ms() - began
end

local PLAIN = { domain = "db.example", default_port = 80, families = "ipv4", search = false }
local PG = { domain = "example", service = "_pg._tcp", default_port = 5432, search = false }

local function logged(words) return town:logged(words) end

describe("after an outage", function()
  it("of the nameserver at the start, the backends are known in seconds", function()
    local ways = { { rcode = "SERVFAIL" }, { silence = "timeout" }, { silence = "refused" }, { lame = true }, { rcode = "REFUSED" } }
    for _, how in ipairs(ways) do
      world.zone "db.example 3600 A 10.0.0.1"
      local server = world.nameserver(FROM, how)
      local pool = open(PLAIN)
      world.advance(3000)
      assert.equal("", keys(pool))
      server:set { rcode = false, silence = false, lame = false }
      until_it_has(pool, "10.0.0.1:80", 20000)
      pool:stop()
      world.advance(100)
    end
  end)

  it("of A for a second, SRV's TTL being an hour", function()
    world.zone "_pg._tcp.example 3600 SRV 0 1 5432 db1.example\ndb1.example SERVFAIL"
    local pool = open(PG)
    world.advance(1000)
    world.zone "_pg._tcp.example 3600 SRV 0 1 5432 db1.example\ndb1.example 3600 A 10.0.0.1"
    until_it_has(pool, "10.0.0.1:5432", 5000)
  end)

  it("of SRV for 70 s, with an address of the domain's own: that is not used", function()
    local own = "example 60 A 192.0.2.66\n"
    world.zone(own .. "_pg._tcp.example SERVFAIL")
    local pool = open(PG)
    world.advance(70000)
    assert.equal("", keys(pool))
    world.zone(own .. "_pg._tcp.example 60 SRV 0 1 5432 db1.example\ndb1.example 60 A 10.0.0.1")
    until_it_has(pool, "10.0.0.1:5432", 31000)
  end)

  it("without records for 2.5 s, the SOA saying 900 s", function()
    world.zone "db.example 5 A 10.0.0.1\nexample 900 SOA 900"
    local pool = open(PLAIN)
    world.advance(4000)
    world.zone "other.example 5 A 10.0.0.1\nexample 900 SOA 900"
    world.advance(2500)
    assert.equal("10.0.0.1:80", keys(pool))
    world.zone "db.example 5 A 10.0.0.2\nexample 900 SOA 900"
    until_it_has(pool, "10.0.0.2:80", 5000)
  end)

  it("asks no more than the pace allows, and in steady state once a TTL", function()
    world.zone "db.example 60 A 10.0.0.1"
    local server = world.nameserver(FROM)
    open(PLAIN)
    world.advance(600000)
    assert.is_true(#world.dns.asked <= 10, #world.dns.asked .. " questions in 10 min")
    server:set { silence = "timeout" }
    local before = #world.dns.asked
    world.advance(600000)
    assert.is_true(#world.dns.asked - before <= 3 * (5 + 600 / 24), #world.dns.asked - before .. " in an outage of 10 min")
  end)
end)

describe("the system's settings", function()
  it("are followed though the old nameserver says NXDOMAIN", function()
    world.nameserver("10.0.0.53:53", { zone = "example 30 SOA 30" })
    world.nameserver("10.8.0.53:53", { zone = "db.example 30 A 10.0.0.1" })
    world.dns.system_is { servers = { "10.0.0.53:53" } }
    local pool = open { domain = "db.example", default_port = 80, families = "ipv4" }
    world.advance(5000)
    world.dns.system_is { servers = { "10.8.0.53:53" } }
    until_it_has(pool, "10.0.0.1:80", 10000)
  end)

  it("are followed in where to search", function()
    world.zone "db.one.test 3600 A 10.0.0.1\ndb.two.test 3600 A 10.0.0.2"
    world.dns.system_is { servers = { FROM }, search = { "one.test" } }
    local pool = open { domain = "db", default_port = 80, families = "ipv4" }
    world.advance(5000)
    world.dns.system_is { servers = { FROM }, search = { "two.test" } }
    until_it_has(pool, "10.0.0.2:80", 10000)
  end)

  it("cost nothing while they stay", function()
    world.zone "db.example 3600 A 10.0.0.1"
    local reads = 0
    local system = world.dns.system
    world.dns.system = function()
      reads = reads + 1
      return system()
    end
    open { domain = "db.example", default_port = 80, families = "ipv4" }
    world.advance(600000)
    assert.same({ 1, 1 }, { reads, #world.dns.asked })
  end)

  it("that cannot be read for a moment leave what there was", function()
    world.zone "db.example 10 A 10.0.0.1"
    world.dns.system_is { servers = { FROM } }
    local pool = open { domain = "db.example", default_port = 80, families = "ipv4" }
    world.advance(1000)
    world.dns.system_is(nil)
    world.advance(60000)
    assert.equal("10.0.0.1:80", keys(pool))
    assert.is_false(pool:resolver().failing)
    assert.equal(1, logged "cannot be read")
  end)

  it("give timeout, attempts and use-vc, where the options do not", function()
    world.nameserver(FROM, { silence = "timeout" })
    local over_tcp
    local ask = world.dns.ask
    world.dns.ask = function(server, name, rr, timeout_ms, done, use_tcp)
      over_tcp = use_tcp
      return ask(server, name, rr, timeout_ms, done)
    end
    local function asked_at(options)
      world.dns.system_is { servers = { FROM }, timeout_ms = 300, attempts = 2, use_vc = true }
      local from, list = #world.dns.asked, {}
      local began = world.time_ms()
      local pool = open(options)
      world.advance(900)
      for index = from + 1, #world.dns.asked do list[#list + 1] = math.floor(world.dns.asked[index].time_ms - began) end
      pool:stop()
      world.advance(100)
      return list
    end
    local list = asked_at { domain = "db.example", default_port = 80, families = "ipv4", recovery = { default = { delay_ms = 0 } } }
    assert.same({ 2, 0, 301 }, { #list, list[1], list[2] }) -- a pause is 1 ms at least
    assert.is_true(over_tcp)
    list = asked_at { domain = "db.example", default_port = 80, families = "ipv4",
      recovery = { dns = { timeout_ms = 100, max_timeout_ms = 100, attempts = 3, delay_ms = 0 } } }
    assert.equal(3, #list)
  end)

  it("with a nameserver that this host cannot ask: which one is said, and no other is asked", function()
    world.dns.system_is { servers = {}, from = "/etc/resolv.conf", unusable = { { server = "fe80::1%eth0", why = "it is on a link" } } }
    local pool = open { domain = "db.example", default_port = 80, families = "ipv4" }
    world.advance(1000)
    assert.equal("no nameservers: fe80::1%eth0 of /etc/resolv.conf cannot be asked: it is on a link", pool:resolver().message)
    assert.equal(0, #world.dns.asked)
    assert.equal(1, logged "the nameserver fe80::1%eth0 of /etc/resolv.conf cannot be asked: it is on a link")
  end)
end)

describe("the hosts file", function()
  local SHORT = { domain = "db", default_port = 80, search = { "corp.test" }, ndots = 1, families = "ipv4" }

  before_each(function() world.zone "db.corp.test 3600 A 10.0.0.1\ncorp.test 3600 SOA 3600" end)

  it("is followed within seconds: an entry goes, comes, and is another", function()
    world.dns.hosts_are { db = { "10.9.9.9" } }
    local pool = open(SHORT)
    world.advance(1000)
    assert.equal("10.9.9.9:80", keys(pool))
    world.dns.hosts_are {}
    until_it_has(pool, "10.0.0.1:80", 6000)
    world.dns.hosts_are { db = { "10.9.9.8" } }
    until_it_has(pool, "10.9.9.8:80", 6000)
    world.dns.hosts_are { db = { "10.9.9.7" } }
    until_it_has(pool, "10.9.9.7:80", 6000)
  end)

  it("is of no matter where it is not wanted", function()
    local pool = open { domain = "db", default_port = 80, search = { "corp.test" }, families = "ipv4", hosts_file = false }
    world.advance(1000)
    local count = #world.dns.asked
    world.dns.hosts_are { db = { "10.9.9.8" } }
    world.advance(60000)
    assert.same({ "10.0.0.1:80", count }, { keys(pool), #world.dns.asked })
  end)
end)

describe("more nameservers than there is room for", function()
  it("are used as far as there is, and that is said once", function()
    world.zone "db.example 1 A 10.0.0.1"
    local list = {}
    for number = 1, 70 do
      list[number] = "10.1.0." .. number
      world.nameserver(list[number] .. ":53")
    end
    local pool = open { domain = "db.example", default_port = 80, families = "ipv4", search = false, nameservers = list }
    world.advance(10000)
    assert.equal("10.0.0.1:80", keys(pool))
    assert.equal(1, logged "of 70 nameservers the first 64 are used")
  end)
end)

describe("SRV targets that are addresses", function()
  it("are passed over, which is said", function()
    world.zone "_pg._tcp.example 60 SRV 0 1 80 10.3.0.1\n_pg._tcp.example 60 SRV 0 1 80 db1.example\ndb1.example 60 A 10.0.0.1"
    local pool = open(PG)
    world.advance(200000)
    assert.equal("10.0.0.1:80", keys(pool))
    assert.equal(1, logged "SRV targets of example are written as addresses")
  end)
end)

describe("pools that ask for the same", function()
  before_each(function() world.zone "db.example 60 A 10.0.0.1" end)

  it("share one tracker: 300 of them ask one question, and all know at once", function()
    for _ = 1, 150 do open(PLAIN) end
    local same = cueball.resolver.dns(PLAIN)
    for _ = 1, 150 do open(same) end
    world.advance(1)
    for _, pool in ipairs(town.pools) do assert.equal("10.0.0.1:80", keys(pool)) end
    assert.equal(1, #world.dns.asked)
    world.zone "db.example 60 A 10.0.0.2"
    world.advance(62000)
    for _, pool in ipairs(town.pools) do assert.equal("10.0.0.2:80", keys(pool)) end
    assert.equal(2, #world.dns.asked)
  end)

  it("tell one that comes later what is known, also that it fails", function()
    open(PLAIN)
    world.advance(1000)
    local server = world.nameserver(FROM, { rcode = "SERVFAIL" })
    world.advance(62000)
    local late = open(PLAIN)
    world.settle()
    assert.equal("10.0.0.1:80", keys(late))
    assert.is_truthy(late:resolver().message:find("SERVFAIL", 1, true))
    server:set { rcode = false }
    world.advance(31000)
    assert.is_false(late:resolver().failing)
  end)

  it("end it with the last of them", function()
    local one, two = open(PLAIN), open(PLAIN)
    world.advance(1000)
    one:stop()
    world.advance(62000)
    assert.equal(2, #world.dns.asked)
    two:stop()
    world.advance(200000)
    assert.equal(2, #world.dns.asked)
  end)

  it("are others with other options, and other policies of their pool", function()
    open(PLAIN)
    open { domain = "db.example", default_port = 81, families = "ipv4", search = false }
    open(PLAIN, { recovery = { default = { attempts = 5 } } })
    world.advance(1000)
    assert.equal(3, #world.dns.asked)
  end)
end)

describe("answers with three of twenty nodes each", function()
  -- How many connections a pool of 16 opens in ten minutes.
  local function opened(options)
    local random = 1
    local server = world.nameserver(FROM)
    local function turn()
      local lines = {}
      for _ = 1, 3 do
        random = random * 16807 % 2147483647
        lines[#lines + 1] = "db.example 0 A 10.0.0." .. random % 20 + 1
      end
      server:set { zone = table.concat(lines, "\n") }
    end
    turn()
    local count = 0
    local pool = open(with(PLAIN, options), { max_connections = 16, spares = 16, rebalance_delay_ms = 100,
      connect = function()
        count = count + 1
        return {}
      end })
    for _ = 1, 600 do
      world.advance(1000)
      turn()
    end
    pool:stop()
    return count
  end

  it("have connections opened again and again, but for keep_missing_ms", function()
    local before, after = opened {}, opened { keep_missing_ms = 60000 }
    assert.is_true(before > 2000, before .. " connections")
    assert.is_true(after < 100, after .. " connections")
  end)
end)
