--- The simulated host's DNS: that it answers as a nameserver does.
require "spec.support.sim_pool"
local sim = require "cueball.host.sim"
local ffi = require("cueball.native").ffi

local A, AAAA, SRV = 1, 28, 33
local FROM = "127.0.0.1:53"

local world

before_each(function()
  world = sim.new { seed = 1 }
  world.zone [[
    ; a comment
    _pg._tcp.example  60 SRV   3 10 5432 DB.example
    db.example        30 A     10.0.0.1
    db.example        30 AAAA  fe80::1
    alias.example     20 CNAME db.example
    loop.example      20 CNAME loop.example
    broken.example       SERVFAIL
    example          300 SOA   60
  ]]
end)

-- An answer as text, its records separated by "; ".
local function text_of(answer)
  local parts = { "rcode " .. answer.rcode }
  for index = 0, answer.count - 1 do
    local record = answer.records[index]
    local data = record.target ~= nil and ffi.string(record.target) or ""
    if record.type == A then
      data = ("%d.%d.%d.%d"):format(record.address[0], record.address[1], record.address[2], record.address[3])
    elseif record.type == SRV then
      data = ("%d %d %d %s"):format(record.priority, record.weight, record.port, data)
    elseif record.type == 6 then
      data = tostring(record.minimum)
    end
    parts[#parts + 1] = ("%s %d type %d in %d %s"):format(ffi.string(record.name), record.ttl, record.type, record.section, data)
  end
  return table.concat(parts, "; ")
end

local function ask(name, rr, server, timeout_ms)
  local said
  local id, message = world.dns.ask(server or FROM, name, rr, timeout_ms or 1000, function(answer, silence)
    assert.is_nil(world.current())
    assert.is_nil(said)
    said = (answer and text_of(answer) or silence) .. " @" .. world.time_ms()
  end)
  if not id then return message end
  assert.is_nil(said)
  world.advance(2000)
  return said
end

describe("the simulated dns", function()
  it("answers with what the zone has", function()
    assert.equal("rcode 0; db.example 30 type 1 in 0 10.0.0.1 @0.1", ask("db.example", A))
    assert.equal("rcode 0; _pg._tcp.example 60 type 33 in 0 3 10 5432 DB.example; db.example 30 type 1 in 2 10.0.0.1; "
      .. "db.example 30 type 28 in 2  @2000.1", ask("_PG._tcp.Example.", SRV))
    assert.equal("rcode 0; alias.example 20 type 5 in 0 db.example; db.example 30 type 1 in 0 10.0.0.1 @4000.1", ask("alias.example", A))
    assert.equal("rcode 0; example 300 type 6 in 1 60 @6000.1", ask("db.example", SRV))
    assert.equal("rcode 0; example 300 type 6 in 1 60 @8000.1", ask("_tcp.example", A))
    assert.equal("rcode 3; example 300 type 6 in 1 60 @10000.1", ask("x.example", A))
    assert.equal("rcode 3 @12000.1", ask("elsewhere", A))
    assert.equal("rcode 2 @14000.1", ask("broken.example", AAAA))
    assert.equal("rcode 2 @16000.1", ask("loop.example", A))
  end)

  it("has nameservers that behave as told", function()
    assert.equal("network @0.1", ask("db.example", A, "10.0.0.53:53"))
    local server = world.nameserver("10.0.0.53:53", { zone = "db.example 5 A 10.0.0.9", latency = 20 })
    assert.equal("rcode 0; db.example 5 type 1 in 0 10.0.0.9 @2040", ask("db.example", A, "10.0.0.53:53"))
    server:set { rcode = "REFUSED" }
    assert.equal("rcode 5 @4040", ask("db.example", A, "10.0.0.53:53"))
    server:set { silence = "timeout" }
    assert.equal("timeout @7000", ask("db.example", A, "10.0.0.53:53"))
    server:set { silence = "garbage" }
    assert.equal("garbage @8040", ask("db.example", A, "10.0.0.53:53"))
    server:stop()
    assert.equal("network @10040", ask("db.example", A, "10.0.0.53:53"))
    server:start()
    server:set { rcode = false, drop = 1 }
    assert.equal("timeout @12100", ask("db.example", A, "10.0.0.53:53", 100))
    server:set { drop = 0 }
    world.unreachable "10.0.0.53"
    assert.equal("timeout @15000", ask("db.example", A, "10.0.0.53:53"))
    world.unreachable("10.0.0.53", false)
    assert.equal("rcode 0; db.example 5 type 1 in 0 10.0.0.9 @16040", ask("db.example", A, "10.0.0.53:53"))
    world.faults { hang = 1 }
    assert.equal("timeout @19000", ask("db.example", A, "10.0.0.53:53"))
    world.faults { slow = 1, slow_ms = 100 }
    assert.equal("rcode 0; db.example 5 type 1 in 0 10.0.0.9 @20140", ask("db.example", A, "10.0.0.53:53"))
    assert.equal(6, server.questions)
  end)

  it("forgets a question, and lists those under way", function()
    local id = world.dns.ask(FROM, "db.example", A, 1000, function() error "forgotten" end)
    assert.same({ "question for A of db.example to 127.0.0.1:53" }, world.leaks())
    world.dns.forget(id)
    world.dns.forget(id)
    assert.same({}, world.leaks())
    world.dns.ask(FROM, "db.example", A, 1000, function() error "closed" end)
    world.close()
    assert.same({}, world.leaks())
    world.advance(5000)
    assert.same({ "db.example", "db.example" }, { world.dns.asked[1].name, world.dns.asked[2].name })
  end)

  it("refuses what cannot be asked", function()
    assert.equal("x is no server: expected IP:PORT", ask("db.example", A, "x"))
    assert.equal("10.0.0.1 is no server: expected IP:PORT", ask("db.example", A, "10.0.0.1"))
    assert.equal("no such type: 15", ask("db.example", 15))
    assert.equal("no name to ask for", ask("", A))
    assert.equal("no time limit above 0", ask("db.example", A, FROM, 0))
  end)

  it("has a system, families and a hosts file", function()
    assert.same({ servers = { FROM }, search = {}, ndots = 1, rotate = false }, world.dns.system())
    world.dns.system_is { servers = { "10.0.0.53:53" }, search = { "example" }, ndots = 2, rotate = true }
    assert.same({ servers = { "10.0.0.53:53" }, search = { "example" }, ndots = 2, rotate = true }, world.dns.system())
    world.dns.system_is(nil)
    assert.same({ nil, "there is no resolv.conf" }, { world.dns.system() })
    assert.equal(3, world.dns.families())
    world.dns.families_are(1)
    assert.equal(1, world.dns.families())
    world.dns.hosts_are { ["db.local"] = { "10.0.0.9", "fe80::9" } }
    assert.equal("rcode 0; DB.local 60 type 1 in 0 10.0.0.9", text_of(world.dns.hosts("DB.local", A)))
    assert.equal(1, world.dns.hosts("db.local", AAAA).count)
    assert.is_nil(world.dns.hosts("db.example", A))
  end)

  it("is the same again with the same seed, and takes no chance from the others", function()
    local function run(seed, with_dns)
      local one = sim.new { seed = seed }
      one.nameserver(FROM, { latency = { 1, 100 } })
      local times = {}
      for _ = 1, with_dns and 5 or 0 do
        one.dns.ask(FROM, "a", A, 1000, function() times[#times + 1] = one.time_ms() end)
      end
      one.advance(1000)
      return times, one.random(), one.seed()
    end
    assert.same({ run(1, true) }, { run(1, true) })
    assert.not_same(run(1, true), (run(2, true)))
    assert.same({ select(2, run(1, true)) }, { select(2, run(1, false)) })
  end)

  it("tells mistakes at the caller's line", function()
    assert.blames('zone: expected NAME TTL TYPE DATA or NAME RCODE, got "db.example A 10.0.0.1"',
      function() world.zone "db.example A 10.0.0.1" end)
    for _, line in ipairs {
      "a 5 A fe80::1", "a 5 AAAA 1.2.3.4", "a x A 1.2.3.4", "a 5 SRV 1 2 b", "a 5 SRV 1 2 70000 b", "a 5 MX b", "a", "a NOCODE",
    } do
      assert.has_error(function() world.zone(line) end, nil, line)
    end
    assert.blames("zone: expected lines NAME TTL TYPE DATA, got nil", function() world.zone() end)
    assert.blames("nameserver: expected IP:PORT, got x", function() world.nameserver "x" end)
    assert.blames("nameserver: unknown field speed", function() world.nameserver("10.0.0.1:53", { speed = 1 }) end)
    assert.blames("nameserver: drop: expected a probability from 0 to 1, got 2",
      function() world.nameserver("10.0.0.1:53", { drop = 2 }) end)
  end)
end)
