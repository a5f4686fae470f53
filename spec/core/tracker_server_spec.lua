--- Slow, lame and lossy servers, and answers that have only a part.

local World = require "spec.support.tracker_world"

local A, AAAA, SRV = "A db.example", "AAAA db.example", "SRV _pg._tcp.db.example"

local function new(changes)
  return World.plain({ dns = { attempts = 2, timeout_ms = 100, delay_ms = 10 } }, changes)
end

describe("a slow server", function()
  it("is heard while the next one is asked", function()
    local world = new()
    world.at_server.ns1 = { [A] = { "60 A 10.0.0.1", delay = 130 } }
    world.at_server.ns2 = { [A] = "never" }
    world.shows_forget = true
    world:nameservers { "ns1", "ns2" }
    world:advance(1000)
    assert.trace(world, [[
      [   0] ask A db.example @ns1
      [ 100] ask A db.example @ns2
      [ 130] forget db.example
      [ 130] add 10.0.0.1:80 db.example
      [ 130] settle]])
    assert.equal("ns1", world:backends()[1].server)
  end)

  it("is heard during the pause, and during the next attempt", function()
    for _, delay in ipairs { 105, 130 } do
      local world = new()
      world.zone[A] = { "60 A 10.0.0.1", delay = delay }
      world:start():advance(delay + 1)
      assert.equal("10.0.0.1:80 db.example", world:layout())
      assert.equal(1, world:stats().answers)
    end
  end)

  it("is not heard once the round is over", function()
    local world = new { dns = { attempts = 1, timeout_ms = 100 } }
    world.zone[A] = "held"
    world:start():advance(150)
    assert.equal("stale", world:reply(A, { "60 A 10.0.0.1" }))
  end)

  it("that says that it cannot, late, changes nothing", function()
    local world = new()
    world.zone[A] = "held"
    world:start():advance(105)
    assert.equal("ok", world:reply(A, "SERVFAIL"))
    world.zone[A] = { "60 A 10.0.0.1" }
    world:advance(10)
    assert.equal("10.0.0.1:80 db.example", world:layout())
  end)
end)

describe("a lame server", function()
  it("is passed over", function()
    local world = new()
    world.at_server.ns1 = { [A] = { is_referral = true } }
    world.at_server.ns2 = { [A] = { "60 A 10.0.0.1" } }
    world:nameservers { "ns1", "ns2" }
    world:advance(10)
    assert.equal("10.0.0.1:80 db.example", world:layout())
  end)

  it("is told of where there is none but it", function()
    local world = new { dns = { attempts = 1 } }
    world.zone[A] = { is_referral = true }
    world:start():advance(10)
    assert.truthy(world:trace():find("fail A db.example: a mere referral from ns1 (1 attempt)", 1, true))
  end)
end)

describe("an answer that is lost", function()
  it("holds back what is known for 50 ms at most", function()
    local world = new { families = 3 }
    world.zone[A] = { "60 A 10.0.0.1" }
    world.zone[AAAA] = { "60 AAAA 2001:db8::1", delay = 80 }
    world.shows = "add settle"
    world:start():advance(1000)
    assert.trace(world, [[
      [  51] add 10.0.0.1:80 db.example
      [  80] add [2001:db8::1]:80 db.example
      [  80] settle]])
  end)

  it("that comes within the 50 ms is told of with the rest", function()
    local world = new { families = 3 }
    world.zone[A] = { "60 A 10.0.0.1" }
    world.zone[AAAA] = { "60 AAAA 2001:db8::1", delay = 40 }
    world.shows = "add settle"
    world:start():advance(1000)
    assert.trace(world, [[
      [  40] add [2001:db8::1]:80 db.example
      [  40] add 10.0.0.1:80 db.example
      [  40] settle]])
  end)

  it("among many that trickle in holds up none of them, and they are told of every 50 ms", function()
    local world = new { service = "_pg._tcp", max_dns_concurrency = 1 }
    local records = {}
    for n = 1, 20 do
      records[n] = ("60 SRV 0 1 80 n%d.example"):format(n)
      world.zone[("A n%d.example"):format(n)] = { ("60 A 10.0.0.%d"):format(n), delay = 10 }
    end
    world.zone[SRV] = records
    world:start():advance(125)
    assert.equal(12, #world:backends())
    world:advance(200)
    assert.equal(20, #world:backends())
  end)
end)

describe("answers with a part of the nodes", function()
  local function round(world, ...)
    local list = {}
    for index, number in ipairs { ... } do
      list[index] = "1 A 10.0.0." .. number
    end
    world.zone[A] = list
  end

  it("lose those that are missing at once", function()
    local world = new()
    round(world, 1, 2)
    world:start():advance(10)
    round(world, 2, 3)
    world:advance(1000)
    assert.equal("10.0.0.2:80 db.example, 10.0.0.3:80 db.example", world:layout())
  end)

  it("lose them only once they were missing for keep_missing_ms", function()
    local world = new { keep_missing_ms = 2500 }
    world.shows = "add remove"
    round(world, 1, 2)
    world:start():advance(10)
    round(world, 2, 3)
    world:advance(6000)
    assert.trace(world, [[
      [   1] add 10.0.0.1:80 db.example
      [   1] add 10.0.0.2:80 db.example
      [1002] add 10.0.0.3:80 db.example
      [3502] remove 10.0.0.1:80 db.example: address]])
  end)

  it("keep one that comes back in between", function()
    local world = new { keep_missing_ms = 2500 }
    world.shows = "remove"
    round(world, 1, 2)
    world:start():advance(10)
    for _ = 1, 10 do
      round(world, 2)
      world:advance(2000)
      round(world, 1)
      world:advance(2000)
    end
    assert.trace(world, "")
  end)

  it("do not keep what a service that is gone had", function()
    local world = World.new { domain = "db.example", service = "_pg._tcp", keep_missing_ms = 60000, families = 1 }
    world.zone[SRV], world.zone["A a.example"] = { "5 SRV 0 1 80 a.example" }, { "60 A 10.0.0.1" }
    world:start():advance(10)
    world.zone[SRV] = { "5 SRV 0 0 0 ." }
    world:advance(5000)
    assert.equal("", world:layout())
  end)
end)

describe("an SRV target", function()
  local function targets(...)
    local world = World.new { domain = "db.example", service = "_pg._tcp", default_port = 99, families = 1, dns_srv = { attempts = 1 } }
    world.zone["A a.example"] = { "60 A 10.0.0.1" }
    world.zone["A 10.3.0.1"], world.zone["A 1"] = { "60 A 10.3.0.1" }, { "60 A 10.3.0.1" }
    world.zone[SRV] = { ... }
    world:start():advance(10)
    return world
  end

  it("that is an address is passed over (RFC 2782), and counted", function()
    local world = targets("60 SRV 0 1 80 10.3.0.1", "60 SRV 0 1 80 a.example", "60 SRV 0 1 80 2001:db8::1", "60 SRV 0 1 80 1.")
    assert.equal("10.0.0.1:80 a.example", world:layout())
    assert.equal(3, world:stats().targets_refused)
  end)

  it("that is an address is not taken for the end of the service where there is no other", function()
    local world = targets("60 SRV 0 1 80 10.3.0.1")
    assert.truthy(world:trace():find(
      "fail SRV _pg._tcp.db.example: its targets are addresses, and names are expected (RFC 2782), says ns1", 1, true))
    world.zone[SRV] = { "60 SRV 0 1 80 a.example" }
    world:advance(1100)
    assert.equal("10.0.0.1:80 a.example", world:layout())
  end)

  it("without a port has the default one", function()
    assert.equal("10.0.0.1:99 a.example", targets("60 SRV 0 1 0 a.example"):layout())
  end)
end)
