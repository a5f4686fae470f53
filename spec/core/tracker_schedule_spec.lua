--- One spec for each row of the outcome tables in docs/dns.md, "The tracker".

local World = require "spec.support.tracker_world"

local SRV, ONE = "SRV _pg._tcp.db.example", { attempts = 1 }

local function new(changes)
  local world = World.new({ domain = "db.example", service = "_pg._tcp", default_port = 99, dns = ONE, dns_srv = ONE }, changes)
  world.zone["A db.example"] = { "30 A 10.0.0.9" }
  return world
end

--- When, after now, `question` is asked next; nil: not within `most` ms.
local function next_time(world, question, most)
  local count, began = world.asked[question] and world.asked[question].at, world:time()
  while world:time() - began < most do
    world:advance(math.min(100, most))
    local one = world.asked[question]
    if one and one.at ~= count then
      return one.at
    end
  end
end

describe("an SRV answer", function()
  it("with records gives the targets, and is asked for again at its TTL", function()
    local world = new()
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(10)
    assert.equal("10.0.0.1:80 a.example", world:layout())
    assert.equal(60001, next_time(world, SRV, 100000))
  end)

  it("keeps the addresses and expiries of targets that stay", function()
    local world = new()
    world.zone[SRV] = { "10 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world.zone["A b.example"] = { "500 A 10.0.0.2" }
    world:start():advance(10):forget()
    world.shows = "ask add remove change"
    world.zone[SRV] = { "10 SRV 0 1 80 b.example", "10 SRV 0 1 80 A.EXAMPLE." }
    world:advance(10000)
    assert.trace(world, [[
      [10001] ask SRV _pg._tcp.db.example
      [10002] ask A b.example
      [10002] ask AAAA b.example
      [10003] add 10.0.0.2:80 b.example]])
  end)

  for rcode, from in pairs { NODATA = "nodata", NXDOMAIN = "nxdomain" } do
    it(("of %s makes the domain the target, and is looked at again after 30 s"):format(rcode), function()
      local world = new()
      world.zone[SRV] = rcode
      world:start():advance(10)
      assert.equal("10.0.0.9:99 db.example", world:layout())
      assert.equal(from, world:backends()[1].targets_from)
      assert.equal(30001, next_time(world, SRV, 4e6))
    end)

    it(("of %s makes the domain the target, for as long as the SOA says"):format(rcode), function()
      local world = new()
      world.zone[SRV] = { rcode = rcode, "? example 300 SOA 20" }
      world:start():advance(10)
      assert.equal(20001, next_time(world, SRV, 4e6))
    end)
  end

  it("is not believed about an SOA of another zone", function()
    local world = new()
    world.zone[SRV] = { rcode = "NXDOMAIN", "? ample 300 SOA 20" }
    world:start():advance(10)
    assert.equal(30001, next_time(world, SRV, 4e6))
  end)

  it("of NOTIMP makes the domain the target, and is looked at again after 30 s", function()
    local world = new { dns_srv = { attempts = 3 } }
    world.zone[SRV] = "NOTIMP"
    world:start():advance(10)
    assert.equal("notimp", world:backends()[1].targets_from)
    assert.equal(30001, next_time(world, SRV, 4e6))
  end)

  it("of REFUSED is not asked for again in this round", function()
    local world = new { dns_srv = { attempts = 3 } }
    world.zone[SRV] = "REFUSED"
    world:start():advance(10)
    assert.equal("", world:layout())
    assert.truthy(world:trace():find("fail SRV _pg._tcp.db.example: REFUSED from ns1 (1 attempt)", 1, true))
    assert.equal(1001, next_time(world, SRV, 1e6))
  end)

  it("that does not come is asked for so many times, with more patience and longer pauses", function()
    local world = new { dns_srv = { attempts = 3, timeout_ms = 100, max_timeout_ms = 300, delay_ms = 10 } }
    world.zone[SRV] = "never"
    world.zone["A db.example"] = "NODATA"
    world.shows = "ask fail"
    world:start():advance(1000)
    assert.trace(world, [[
      [   0] ask SRV _pg._tcp.db.example
      [ 110] ask SRV _pg._tcp.db.example
      [ 330] ask SRV _pg._tcp.db.example
      [ 630] fail SRV _pg._tcp.db.example: no answer from ns1 (3 attempts)]])
  end)

  it("that does not come is asked for again after 1 s, then after twice as long each time, up to max_recheck_ms", function()
    local world = new { max_recheck_ms = 5000 }
    world.zone[SRV] = "SERVFAIL"
    world.shows = "ask"
    world:start():advance(18000)
    assert.trace(world, [[
      [   0] ask SRV _pg._tcp.db.example
      [1001] ask SRV _pg._tcp.db.example
      [3002] ask SRV _pg._tcp.db.example
      [7003] ask SRV _pg._tcp.db.example
      [12004] ask SRV _pg._tcp.db.example
      [17005] ask SRV _pg._tcp.db.example]])
  end)

  it("that does not come is no reason to look elsewhere, if there were none before (RFC 2782)", function()
    local world = new()
    world.zone[SRV] = "SERVFAIL"
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(70000)
    assert.equal("", world:layout())
    world.zone[SRV] = { "3600 SRV 0 1 80 a.example" }
    world:advance(30000)
    assert.equal("10.0.0.1:80 a.example", world:layout())
  end)

  it("that does not come after the domain took its place leaves that, and is asked for soon", function()
    local world = new()
    world.zone[SRV] = { rcode = "NXDOMAIN", "? example 300 SOA 20" }
    world:start():advance(10)
    world.zone[SRV] = "SERVFAIL"
    assert.equal(20001, next_time(world, SRV, 4e6))
    assert.equal(21002, next_time(world, SRV, 4e6))
    assert.equal("10.0.0.9:99 db.example", world:layout())
  end)

  it("that does not come, SRV seen before, changes nothing, and addresses are not asked for before it (anti-flap)", function()
    local world = new { families = 1 }
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "62 A 10.0.0.1" }
    world:start():advance(10)
    world.zone[SRV] = "SERVFAIL"
    world:forget()
    world:advance(62500)
    assert.trace(world, [[
      [60001] ask SRV _pg._tcp.db.example
      [60002] fail SRV _pg._tcp.db.example: SERVFAIL from ns1 (1 attempt)
      [60002] settle
      [61002] ask SRV _pg._tcp.db.example
      [61003] settle]])
    world:forget()
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world:advance(1000)
    assert.trace(world, [[
      [63003] ask SRV _pg._tcp.db.example
      [63003] ask A a.example
      [63004] recover
      [63004] settle]])
  end)

  it("of no records is doubted for a while where there were some", function()
    local world = new { families = 1 }
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(10):forget()
    world.zone[SRV] = "NXDOMAIN"
    world.shows = "ask add remove"
    world:advance(68000)
    assert.trace(world, [[
      [60001] ask SRV _pg._tcp.db.example
      [60002] ask A db.example
      [60003] add 10.0.0.9:99 db.example
      [60003] remove 10.0.0.1:80 a.example: target
      [61002] ask SRV _pg._tcp.db.example
      [63003] ask SRV _pg._tcp.db.example
      [67004] ask SRV _pg._tcp.db.example]])
  end)

  it("drops the domain's own addresses once there are SRV records", function()
    local world = new()
    world.zone[SRV] = { rcode = "NXDOMAIN", "? example 300 SOA 20" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(10):forget()
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world.shows = "add remove"
    world:advance(20000)
    assert.trace(world, [[
      [20003] add 10.0.0.1:80 a.example
      [20003] remove 10.0.0.9:99 db.example: target]])
    assert.equal("ns1", world.told.server)
  end)

  it('of "." says that there is no such service', function()
    local world = new()
    world.zone[SRV] = { "10 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(10):forget()
    world.zone[SRV] = { "20 SRV 0 0 0 ." }
    world:advance(10000)
    assert.trace(world, [[
      [10001] ask SRV _pg._tcp.db.example
      [10002] remove 10.0.0.1:80 a.example: no service
      [10002] fail SRV _pg._tcp.db.example: there is no such service ("." from ns1)
      [10002] settle]])
    world.zone[SRV] = { "20 SRV 0 1 80 a.example" }
    assert.equal(30002, next_time(world, SRV, 1e6))
    world:advance(10)
    assert.equal("10.0.0.1:80 a.example", world:layout())
  end)

  it('ignores "." among other targets', function()
    local world = new()
    world.zone[SRV] = { "10 SRV 0 0 0 .", "10 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.1" }
    world:start():advance(10)
    assert.equal("10.0.0.1:80 a.example", world:layout())
  end)

  it("with addresses spares their questions, and lasts as long as they do", function()
    local world = new()
    world.zone[SRV] = { "60 SRV 0 1 80 a.example", "60 SRV 0 1 80 b.example", "+ A.example 20 A 10.0.0.1",
      "+ a.example 50 AAAA 2001:db8::1", "+ c.example 1 A 6.6.6.6" }
    world.zone["A b.example"] = { "500 A 10.0.0.2" }
    world:start():advance(10)
    assert.trace(world, [[
      [   0] ask SRV _pg._tcp.db.example
      [   1] ask A b.example
      [   1] ask AAAA b.example
      [   2] add [2001:db8::1]:80 a.example
      [   2] add 10.0.0.1:80 a.example
      [   2] add 10.0.0.2:80 b.example
      [   2] settle]])
    assert.is_true(world:backends()[2].is_additional)
    assert.equal(60, world:backends()[2].srv_ttl) -- as received
    assert.equal(1, world:stats().records_ignored)
    assert.equal(20001, next_time(world, SRV, 1e6))
  end)

  it("without the addresses it had before keeps them until they are asked for", function()
    local world = new()
    world.zone[SRV] = { "10 SRV 0 1 80 a.example", "+ a.example 20 A 10.0.0.1" }
    world:start():advance(10):forget()
    world.zone[SRV] = { "10 SRV 0 1 80 a.example" }
    world.zone["A a.example"] = { "500 A 10.0.0.2", "500 A 10.0.0.1" }
    world.shows = "ask add remove"
    world:advance(10000)
    assert.trace(world, [[
      [10001] ask SRV _pg._tcp.db.example
      [10002] ask A a.example
      [10002] ask AAAA a.example
      [10003] add 10.0.0.2:80 a.example]])
  end)
end)

describe("an answer for addresses", function()
  local A, AAAA = "A db.example", "AAAA db.example"

  local function domain(changes)
    changes = changes or {}
    local world = World.new { domain = "db.example", default_port = 99, dns = changes.dns or ONE, families = changes.families }
    world.zone[A] = { "30 A 10.0.0.1" }
    world.zone[AAAA] = { "40 AAAA 2001:db8::1" }
    return world
  end

  it("with records is asked for again at its TTL", function()
    local world = domain():start():advance(10)
    assert.equal("[2001:db8::1]:99 db.example, 10.0.0.1:99 db.example", world:layout())
    assert.equal(30001, next_time(world, A, 1e6))
    assert.equal(40001, next_time(world, AAAA, 1e6))
    assert.is_nil(world.asked[SRV])
  end)

  for _, rcode in ipairs { "NODATA", "NXDOMAIN" } do
    it(("of %s removes that family, and is asked for after 60 s, or as the SOA says"):format(rcode), function()
      local world = domain { dns = { attempts = 3 } }
      world:start():advance(10):forget()
      world.zone[AAAA] = rcode
      world.shows = "remove"
      world:advance(40000)
      assert.trace(world, "[40002] remove [2001:db8::1]:99 db.example: name")
      assert.equal("ns1", world.told.server)
      world.zone[AAAA] = { rcode = rcode, "? . 7 SOA 900" }
      assert.equal(100002, next_time(world, AAAA, 1e6))
      world:advance(10)
      assert.equal(107003, next_time(world, AAAA, 1e6))
      world.zone[AAAA] = { rcode = rcode, "? . 86400 SOA 86400" }
      world:advance(7000)
      assert.equal(world.asked[AAAA].at + 3600001, next_time(world, AAAA, 4e6))
    end)
  end

  it("of NOTIMP for AAAA is as no records", function()
    local world = domain { dns = { attempts = 3 } }
    world.zone[AAAA] = "NOTIMP"
    world:start():advance(10)
    assert.equal("10.0.0.1:99 db.example", world:layout())
    assert.equal(60001, next_time(world, AAAA, 1e6))
    assert.equal(0, world:stats().given_up)
  end)

  it("of REFUSED fails at once", function()
    local world = domain { dns = { attempts = 3 } }
    world.zone[A], world.zone[AAAA] = "REFUSED", "REFUSED"
    world:start():advance(10)
    assert.trace(world, [[
      [   0] ask A db.example
      [   0] ask AAAA db.example
      [   1] fail A db.example: REFUSED from ns1 (1 attempt)
      [   1] settle]])
  end)

  it("that does not come keeps the addresses, and is asked for soon, whatever their TTL was", function()
    local world = domain()
    world:start():advance(10)
    world.zone[A] = "SERVFAIL"
    world:forget()
    world.shows = "add remove change fail"
    assert.equal(30000, math.floor(next_time(world, A, 1e6) / 10) * 10)
    world:advance(10)
    assert.equal("[2001:db8::1]:99 db.example, 10.0.0.1:99 db.example", world:layout())
    assert.equal(31002, next_time(world, A, 1e6))
    assert.equal(33003, next_time(world, A, 1e6))
    assert.trace(world, "")
  end)

  it("that never came for AAAA is asked for with pauses of up to an hour where there is IPv4", function()
    local world = domain()
    world.zone[AAAA] = { rcode = "SERVFAIL", delay = 2 }
    world:start():advance(10)
    assert.equal(1002, next_time(world, AAAA, 4e6))
    world:advance(4095e3)
    local last = world.asked[AAAA].at
    assert.equal(last + 3600002, next_time(world, AAAA, 4e6))
  end)

  it("that never came for AAAA is asked for soon where there is nothing else", function()
    local world = domain { families = 2 }
    world.zone[AAAA] = "SERVFAIL"
    world:start():advance(10)
    assert.equal(1001, next_time(world, AAAA, 4e6))
  end)

  it("whose union is empty keeps the previous backends", function()
    local world = domain { families = 1 }
    world:start():advance(10):forget()
    world.zone[A] = { rcode = "NXDOMAIN", "? . 900 SOA 900" }
    world:advance(31500)
    assert.trace(world, [[
      [30001] ask A db.example
      [30002] fail db.example does not exist (NXDOMAIN from ns1)
      [30002] settle
      [31002] ask A db.example
      [31003] settle]])
    assert.equal("10.0.0.1:99 db.example", world:layout())
    assert.equal(1, world:stats().empty_sets)
    world:forget()
    world.zone[A] = { "30 A 10.0.0.3" }
    world:advance(2000)
    assert.trace(world, [[
      [33003] ask A db.example
      [33004] add 10.0.0.3:99 db.example
      [33004] remove 10.0.0.1:99 db.example: address
      [33004] recover
      [33004] settle]])
  end)

  it("that there is nothing, while nothing is known, is not obeyed for longer than max_recheck_ms", function()
    local world = domain { families = 1 }
    world.zone[A] = { rcode = "NXDOMAIN", "? . 900 SOA 900" }
    world.shows = "ask add"
    world:start():advance(62000)
    world.zone[A] = { "30 A 10.0.0.3" }
    world:advance(30000)
    assert.trace(world, [[
      [   0] ask A db.example
      [1001] ask A db.example
      [3002] ask A db.example
      [7003] ask A db.example
      [15004] ask A db.example
      [31005] ask A db.example
      [61006] ask A db.example
      [91007] ask A db.example
      [91008] add 10.0.0.3:99 db.example]])
  end)
end)
