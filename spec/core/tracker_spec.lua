--- The DNS tracker: what it asks, when, and what it makes of the answers. Rows of the tables in docs/dns.md.

local World = require "spec.support.tracker_world"
local ffi = require "ffi"

--- A service of two nodes, both asked for by name.
local function service(changes)
  local world = World.new({ domain = "db.example", service = "_pg._tcp" }, changes)
  world.zone["SRV _pg._tcp.db.example"] = { "60 SRV 0 1 5432 a.example", "60 SRV 0 1 5433 b.example" }
  world.zone["A a.example"] = { "30 A 10.0.0.1" }
  world.zone["A b.example"] = { "30 A 10.0.0.2" }
  return world
end

describe("a tracker", function()
  it("asks for SRV, then for the addresses of its targets, and adds them", function()
    local world = service():start():advance(10)
    assert.trace(world, [[
      [   0] ask SRV _pg._tcp.db.example
      [   1] ask A a.example
      [   1] ask AAAA a.example
      [   1] ask A b.example
      [   1] ask AAAA b.example
      [   2] add 10.0.0.1:5432 a.example
      [   2] add 10.0.0.2:5433 b.example
      [   2] settle]])
    assert.equal("10.0.0.1:5432 a.example, 10.0.0.2:5433 b.example", world:layout())
  end)

  it("asks again when an answer expires, each for itself", function()
    local world = service():start():advance(10)
    world:forget()
    world:advance(61000)
    assert.trace(world, [[
      [30002] ask A a.example
      [30002] ask A b.example
      [30003] settle
      [60001] ask SRV _pg._tcp.db.example
      [60002] ask AAAA a.example
      [60002] ask AAAA b.example
      [60003] ask A a.example
      [60003] ask A b.example
      [60004] settle]])
  end)
end)

local A, plain = "A db.example", World.plain

describe("backends", function()
  local function of(records, addresses)
    local world = World.new { domain = "db.example", service = "_x._tcp", families = 1, dns = { attempts = 1 } }
    world.zone["SRV _x._tcp.db.example"] = records
    for name, address in pairs(addresses) do
      world.zone["A " .. name] = { "5 A " .. address }
    end
    return world:start():advance(10)
  end

  it("have the priority and weight of their SRV record, weight 0 being 1", function()
    local world = of({ "60 SRV 10 0 80 a.example", "60 SRV 20 7 80 b.example" }, { ["a.example"] = "10.0.0.1", ["b.example"] = "10.0.0.2" })
    assert.equal("10.0.0.1:80 a.example 10/1, 10.0.0.2:80 b.example 20/7", world:layout())
  end)

  it("told of by several records have the best priority, and its weights together", function()
    local both = { ["a.example"] = "10.0.0.1", ["b.example"] = "10.0.0.1", ["c.example"] = "10.0.0.1" }
    local world = of({ "60 SRV 2 100 80 c.example", "60 SRV 1 3 80 a.example", "60 SRV 1 4 80 b.example" }, both)
    assert.equal("10.0.0.1:80 a.example 1/7", world:layout())
    world = of({ "60 SRV 1 65535 80 a.example", "60 SRV 1 4 80 b.example" }, both)
    assert.equal("10.0.0.1:80 a.example 1/65535", world:layout())
    world = of({ "60 SRV 1 3 80 a.example", "60 SRV 1 3 80 A.example" }, both)
    assert.equal("10.0.0.1:80 a.example 1/3", world:layout())
  end)

  it("change when their weight does, and stay otherwise: another order or case is no change", function()
    local world = of({ "5 SRV 1 3 80 a.example", "5 SRV 1 3 80 b.example" }, { ["a.example"] = "10.0.0.1", ["b.example"] = "10.0.0.2" })
    world:forget()
    world.shows = "add change remove fail recover"
    world.zone["SRV _x._tcp.db.example"] = { "9 SRV 1 3 80 B.EXAMPLE", "9 SRV 1 3 80 A.Example." }
    world:advance(6000)
    assert.trace(world, "")
    world.zone["SRV _x._tcp.db.example"] = { "9 SRV 1 3 80 a.example", "9 SRV 2 5 80 b.example" }
    world:advance(10000)
    assert.equal(1, #world.lines, world:trace())
    assert.truthy(world.lines[1]:find("change 10.0.0.2:80 b.example 2/5", 1, true))
  end)

  it("carry what produced them", function()
    local world = of({ "60 SRV 0 1 80 a.example" }, { ["a.example"] = "10.0.0.1" })
    local backend = world:backends()[1]
    assert.same({ "srv", "_x._tcp.db.example", "ns1", 60, "a.example", "ns1", 5, 1, false }, { backend.targets_from, backend.srv_name,
      backend.srv_server, backend.srv_ttl, backend.owner, backend.server, backend.ttl, backend.type, backend.is_additional })
  end)

  it("of a target that left the SRV answer go, after those that came", function()
    local world = of({ "5 SRV 0 1 80 a.example" }, { ["a.example"] = "10.0.0.1", ["b.example"] = "10.0.0.2" })
    world:forget()
    world.shows = "add remove"
    world.zone["SRV _x._tcp.db.example"] = { "5 SRV 0 1 80 b.example" }
    world:advance(6000)
    assert.trace(world, [[
      [5003] add 10.0.0.2:80 b.example
      [5003] remove 10.0.0.1:80 a.example: target]])
  end)

  it("are not removed before every name has an outcome", function()
    local world = World.new { domain = "db.example", service = "_x._tcp", families = 1, dns = { attempts = 2, delay_ms = 10 } }
    world.zone["SRV _x._tcp.db.example"] = { "5 SRV 0 1 80 a.example" }
    world.zone["A a.example"], world.zone["A b.example"] = { "50 A 10.0.0.1" }, { "50 A 10.0.0.2" }
    world:start():advance(10):forget()
    world.shows = "add remove"
    world.zone["SRV _x._tcp.db.example"] = { "60 SRV 0 1 80 b.example", "60 SRV 0 1 80 c.example" }
    world.zone["A c.example"] = "never"
    world:advance(15000)
    assert.trace(world, [[
      [5053] add 10.0.0.2:80 b.example
      [11012] remove 10.0.0.1:80 a.example: target]])
  end)

  it("are added though another name has no answer yet, 50 ms after they are known", function()
    local world = World.new { domain = "db.example", service = "_x._tcp", families = 1 }
    world.zone["SRV _x._tcp.db.example"] = { "60 SRV 0 1 80 a.example", "60 SRV 0 1 80 b.example" }
    world.zone["A a.example"], world.zone["A b.example"] = { "60 A 10.0.0.1" }, "never"
    world.shows = "add settle"
    world:start():advance(20000)
    assert.trace(world, [[
      [  52] add 10.0.0.1:80 a.example
      [14301] settle]])
  end)
end)

describe("questions", function()
  it("are no more at once than max_dns_concurrency, first come, first asked", function()
    local world = service { max_dns_concurrency = 1 }
    world.shows = "ask add"
    world:start():advance(10)
    assert.trace(world, [[
      [   0] ask SRV _pg._tcp.db.example
      [   1] ask A a.example
      [   2] ask AAAA a.example
      [   3] ask A b.example
      [   4] ask AAAA b.example
      [   5] add 10.0.0.1:5432 a.example
      [   5] add 10.0.0.2:5433 b.example]])
  end)

  it("go to one server after another within one attempt", function()
    local world = plain()
    world.at_server.ns1, world.at_server.ns2 = { [A] = "network" }, { [A] = "garbage" }
    world.zone[A] = { "60 A 10.0.0.1" }
    world:nameservers { "ns1", "ns2", "ns3" }
    world:advance(10)
    assert.trace(world, [[
      [   0] ask A db.example @ns1
      [   1] ask A db.example @ns2
      [   2] ask A db.example @ns3
      [   3] add 10.0.0.1:80 db.example
      [   3] settle]])
    assert.equal("ns3", world:backends()[1].server)
    local stats = world:stats()
    assert.same({ 3, 1, 1, 1, 0 }, { stats.questions, stats.answers, stats.network_errors, stats.garbage, stats.retries })
  end)

  it("go last to a server that failed in the last 30 s", function()
    local world = plain()
    world.at_server.ns1 = { [A] = "SERVFAIL" }
    world.zone[A] = { "20 A 10.0.0.1" }
    world.shows = "ask"
    world:nameservers { "ns1", "ns2" }
    world:advance(41000)
    assert.trace(world, [[
      [   0] ask A db.example @ns1
      [   1] ask A db.example @ns2
      [20002] ask A db.example @ns2
      [40003] ask A db.example @ns1
      [40004] ask A db.example @ns2]])
  end)

  it("begin with the next server each time, if servers rotate", function()
    local world = plain { rotate = 1 }
    world.zone[A] = { "10 A 10.0.0.1" }
    world.shows = "ask"
    world:nameservers { "ns1", "ns2" }
    world:advance(21000)
    assert.trace(world, [[
      [   0] ask A db.example @ns1
      [10001] ask A db.example @ns2
      [20002] ask A db.example @ns1]])
  end)

  it("have the outcome most servers vote for; silence does not vote, and the first of equals wins", function()
    local function verdict(...)
      local world = plain()
      local list = {}
      for i, reply in ipairs { ... } do
        list[i] = "ns" .. i
        world.at_server[list[i]] = { [A] = reply }
      end
      world:nameservers(list)
      world:advance(5000)
      return world:trace():match "fail ([^\n]*)"
    end
    assert.equal("A db.example: FORMERR from ns2 (1 attempt)", verdict("SERVFAIL", "FORMERR", "FORMERR"))
    assert.equal("A db.example: SERVFAIL from ns1 (1 attempt)", verdict("SERVFAIL", "FORMERR"))
    assert.equal("A db.example: rcode 6 from ns3 (1 attempt)", verdict("timeout", "network", "YXDOMAIN"))
    assert.equal("A db.example: no answer from ns1 and ns2 (1 attempt)", verdict("timeout", "timeout"))
    assert.equal("A db.example: nothing that can be read from ns1, ns2, ns3 and 1 more (1 attempt)",
      verdict("garbage", "garbage", "garbage", "garbage"))
  end)

  it("that get no answer say why: only silence is no answer", function()
    for reply, words in pairs {
      refused = "connection refused, asking", network = "unreachable, asking", cut = "a cut answer from",
      ["local"] = "no descriptors or memory left here, asking",
    } do
      local world = plain()
      world.zone[A] = reply
      world:start():advance(10)
      assert.equal(("A db.example: %s ns1 (1 attempt)"):format(words), world:trace():match "fail ([^\n]*)")
    end
    local world = plain()
    world.at_server.ns1, world.at_server.ns2 = { [A] = "timeout" }, { [A] = "refused" }
    world:nameservers { "ns1", "ns2" }
    world:advance(10)
    assert.equal("A db.example: no answer, connection refused, asking ns1 and ns2 (1 attempt)", world:trace():match "fail ([^\n]*)")
  end)

  it("that nobody answers are forgotten at their limit, and answers to them are stale", function()
    local world = plain { dns = { attempts = 1, timeout_ms = 50 } }
    world.zone[A] = "held"
    world.shows_forget = true
    world:start():advance(60)
    assert.trace(world, [[
      [   0] ask A db.example
      [  50] forget db.example
      [  50] fail A db.example: no answer from ns1 (1 attempt)
      [  50] settle]])
    assert.equal("stale", world:reply(A, { "60 A 10.0.0.1" }))
    assert.equal("", world:layout())
  end)

  it("have an answer once, and one that can be", function()
    local world = plain()
    world.zone[A] = "held"
    world:start()
    local one = world.asked[A]
    local answer = World.answer({ "60 CNAME x" }, "db.example")
    ffi.cast("cueball_record *", answer.records)[0].target = nil
    assert.equal("invalid", world:input("answered", one.handle, answer))
    assert.equal("invalid", world:input("unanswered", one.handle, 6))
    assert.equal("ok", world:reply(A, { "60 A 10.0.0.1" }))
    assert.equal("stale", world:reply(A, { "60 A 10.0.0.2" }))
    assert.equal("10.0.0.1:80 db.example", world:layout())
  end)

  it("are one for each name and type within a TTL, and none of them tells anything new", function()
    local world = World.new { domain = "db.example", service = "_x._tcp", max_dns_concurrency = 50 }
    local records = {}
    for i = 1, 200 do
      records[i] = ("100 SRV 0 1 80 n%d.example"):format(i)
      world.zone[("A n%d.example"):format(i)] = { ("100 A 10.0.%d.%d"):format(i % 2, i) }
      world.zone[("AAAA n%d.example"):format(i)] = { rcode = "NODATA", "? example 100 SOA 100" }
    end
    world.zone["SRV _x._tcp.db.example"] = records
    world:start():advance(5000)
    local before = world:stats()
    assert.equal(200, before.backends)
    assert.equal(401, before.questions)
    world:forget()
    world.shows = "add remove change fail recover"
    world:advance(500000)
    assert.equal(before.questions + 5 * 401, world:stats().questions)
    assert.trace(world, "")
  end)
end)

describe("search", function()
  local function asked(changes, answers)
    local world = plain(changes)
    world.default = "NXDOMAIN"
    for question, reply in pairs(answers or {}) do
      world.zone[question] = reply
    end
    world.shows = "ask fail"
    world:start():advance(20)
    return world, (world:trace():gsub("%[ *%d+%] ", ""):gsub("\n", ", "))
  end

  it("looks for a name with fewer dots than ndots in the domains first", function()
    local _, trace = asked { domain = "db", search = { "a.org", "b.org." } }
    assert.equal("ask A db.a.org, ask A db.b.org, ask A db, fail db does not exist (NXDOMAIN from ns1)", trace)
  end)

  it("asks for one with as many as it is first", function()
    local _, trace = asked { domain = "db.x", search = { "a.org", "b.org" } }
    assert.equal("ask A db.x, ask A db.x.a.org, ask A db.x.b.org, fail db.x does not exist (NXDOMAIN from ns1)", trace)
    _, trace = asked { domain = "db.x", ndots = 2, search = { "a.org" } }
    assert.equal("ask A db.x.a.org, ask A db.x, fail db.x does not exist (NXDOMAIN from ns1)", trace)
  end)

  it("does not look for a name with a final dot", function()
    local _, trace = asked { domain = "db.", search = { "a.org" } }
    assert.equal("ask A db, fail db does not exist (NXDOMAIN from ns1)", trace)
  end)

  it("tells no records from no name if any candidate has the name", function()
    local _, trace = asked({ domain = "db", search = { "a.org", "b.org" } }, { ["A db.a.org"] = "NODATA" })
    assert.equal("ask A db.a.org, ask A db.b.org, ask A db, fail db has no addresses (NODATA from ns1)", trace)
  end)

  it("begins the next time with what was found, and names the backend so", function()
    local world = asked({ domain = "db", search = { "a.org", "b.org" } }, { ["A db.b.org"] = { "5 A 10.0.0.1" } })
    assert.equal("10.0.0.1:80 db.b.org", world:layout())
    world:forget()
    world:advance(5000)
    assert.trace(world, "[5002] ask A db.b.org")
  end)

  it("is for the SRV name too, not for its targets", function()
    local world, trace = asked({ domain = "db", service = "_x._tcp", ndots = 3, search = { "a.org" } },
      { ["SRV _x._tcp.db.a.org"] = { "5 SRV 0 1 80 t" } })
    assert.equal("ask SRV _x._tcp.db.a.org, ask A t, fail t does not exist (NXDOMAIN from ns1)", trace)
    assert.equal("_x._tcp.db.a.org", world.asked["SRV _x._tcp.db.a.org"].name)
  end)

  it("passes over names that would be too long", function()
    local long = ("x"):rep(60)
    local name = table.concat({ long, long, long, long }, ".")
    local _, trace = asked { domain = name, ndots = 9, search = { "a.example.org", "b.c" } }
    assert.equal(("ask A %s.b.c, ask A %s, fail %s does not exist (NXDOMAIN from ns1)"):format(name, name, name), trace)
  end)
end)

describe("families", function()
  local function both()
    local world = plain { families = 3 }
    world.zone[A], world.zone["AAAA db.example"] = { "30 A 10.0.0.1" }, { "40 AAAA 2001:db8::1" }
    return world:start():advance(10)
  end

  it("that the host lost are out and not asked for, until they are back", function()
    local world = both()
    world:forget()
    world:families(1)
    world:advance(60000)
    assert.trace(world, [[
      [  10] remove [2001:db8::1]:80 db.example: family
      [30001] ask A db.example
      [30002] settle
      [60002] ask A db.example
      [60003] settle]])
    world:forget()
    world.zone["AAAA db.example"] = { "40 AAAA 2001:db8::2" }
    world:families(3)
    world:advance(10)
    assert.trace(world, [[
      [60010] ask AAAA db.example
      [60011] add [2001:db8::2]:80 db.example
      [60011] settle]])
  end)

  it("that came back soon are as they were", function()
    local world = both()
    world:families(1)
    world:forget()
    world:families(3)
    assert.trace(world, "[  10] add [2001:db8::1]:80 db.example")
  end)
end)

describe("nameservers", function()
  it("that there are none of fail what is due, until there are some", function()
    local world = service()
    world:nameservers {}
    world:advance(100000)
    assert.trace(world, [[
      [   0] fail no nameservers
      [   0] settle]])
    world:forget()
    world.shows = "ask add recover"
    world:start():advance(10)
    assert.trace(world, [[
      [100000] ask SRV _pg._tcp.db.example
      [100001] ask A a.example
      [100001] ask AAAA a.example
      [100001] ask A b.example
      [100001] ask AAAA b.example
      [100002] add 10.0.0.1:5432 a.example
      [100002] add 10.0.0.2:5433 b.example
      [100002] recover]])
  end)

  it("that are gone give up their questions, which are asked anew", function()
    local world = plain()
    world.zone[A] = "held"
    world.shows_forget = true
    world:nameservers { "ns1", "ns2" }
    world:advance(5)
    world:nameservers { "ns2", "ns3" }
    world:reply(A, { "60 A 10.0.0.1" })
    assert.trace(world, [[
      [   0] ask A db.example @ns1
      [   5] forget db.example
      [   5] ask A db.example @ns2
      [   5] add 10.0.0.1:80 db.example
      [   5] settle]])
  end)

  it("that stay keep theirs", function()
    local world = plain()
    world.zone[A] = "held"
    world:nameservers { "ns1", "ns2" }
    world:nameservers { "ns3", "ns1" }
    world:reply(A, { "60 A 10.0.0.1" })
    assert.equal("ns1", world:backends()[1].server)
    assert.equal(1, world:stats().questions)
  end)

  it("are 64 at most, each a text of 1 to 255 bytes", function()
    local world, list = plain(), {}
    for i = 1, 64 do
      list[i] = "ns" .. i
    end
    world.zone[A] = "held"
    assert.equal("ok", world:nameservers(list))
    list[65] = "one more"
    assert.equal("invalid", world:nameservers(list))
    assert.equal("invalid", world:nameservers { "" })
    assert.equal("invalid", world:nameservers { ("x"):rep(256) })
  end)
end)

describe("a tracker", function()
  it("asks for everything again when told that it has expired", function()
    local world = service():start():advance(10)
    world:forget()
    world:input "expired"
    world:advance(10)
    assert.trace(world, [[
      [  10] ask SRV _pg._tcp.db.example
      [  10] ask A a.example
      [  10] ask AAAA a.example
      [  10] ask A b.example
      [  10] ask AAAA b.example
      [  11] settle]])
  end)

  it("tells a failure once, another one when it is another, and its end", function()
    local world = plain()
    world.zone[A] = "SERVFAIL"
    world.shows = "fail recover"
    world:start():advance(200000)
    assert.trace(world, "[   1] fail A db.example: SERVFAIL from ns1 (1 attempt)")
    world.zone[A] = "NXDOMAIN"
    world:forget()
    world:advance(60000)
    assert.trace(world, "[211012] fail db.example does not exist (NXDOMAIN from ns1)")
    assert.equal(1, world:stats().failing)
    world.zone[A] = { "60 A 10.0.0.1" }
    world:forget()
    world:advance(60000)
    assert.trace(world, "[271014] recover")
  end)

  it("holds nothing of what is no longer there", function()
    local native = require "cueball.native"
    local world = service()
    world:start():advance(10)
    local before = tonumber(native.lib.cueball_tracker_memory(world.tracker))
    local records = world.zone["SRV _pg._tcp.db.example"]
    for round = 1, 20 do
      world.zone["SRV _pg._tcp.db.example"] = round % 2 == 0 and records or { "60 SRV 0 1 1 c.example", "+ c.example 60 A 10.1.1.1" }
      world:advance(60100)
    end
    assert.equal("10.0.0.1:5432 a.example, 10.0.0.2:5433 b.example", world:layout())
    assert.is_true(tonumber(native.lib.cueball_tracker_memory(world.tracker)) <= before + 200)
  end)
end)
