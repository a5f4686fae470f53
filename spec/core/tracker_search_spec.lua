--- One name, one place: which candidate of a search is asked, and when another takes its place.

local World = require "spec.support.tracker_world"

local LIST = { "one.test", "two.test" }
local A1, A2, AAAA1, AAAA2 = "A web.one.test", "A web.two.test", "AAAA web.one.test", "AAAA web.two.test"

local function new(changes)
  local world = World.new({ domain = "web", default_port = 80, search = LIST, dns = { attempts = 1 }, no_tld_query = 1 }, changes)
  world.default = "NXDOMAIN"
  return world
end

describe("A and AAAA of a searched name", function()
  it("are of the first candidate that has either", function()
    local world = new()
    world.zone[A1], world.zone[AAAA1] = { "60 A 10.0.0.1" }, "NODATA"
    world.zone[A2], world.zone[AAAA2] = { "60 A 192.0.2.66" }, { "60 AAAA 2001:db8:bad::1" }
    world:start():advance(100)
    assert.trace(world, [[
      [   0] ask A web.one.test
      [   0] ask AAAA web.one.test
      [   1] add 10.0.0.1:80 web.one.test
      [   1] settle]])
  end)

  it("wait for each other before they go on together", function()
    local world = new()
    world.zone[A1], world.zone[AAAA1] = "NODATA", { delay = 30, rcode = "NODATA" }
    world.zone[A2] = { "60 A 10.0.0.2" }
    world.shows = "ask add"
    world:start():advance(100)
    assert.trace(world, [[
      [   0] ask A web.one.test
      [   0] ask AAAA web.one.test
      [  30] ask AAAA web.two.test
      [  30] ask A web.two.test
      [  31] add 10.0.0.2:80 web.two.test]])
  end)

  it("do not wait where one says that there is no such name and the other says nothing", function()
    local world = new { dns = { attempts = 3, timeout_ms = 100 } }
    world.zone[AAAA1], world.zone[AAAA2] = "never", "never"
    world.zone[A2] = { "60 A 10.0.0.2" }
    world.shows = "ask add"
    world:start():advance(190)
    assert.trace(world, [[
      [   0] ask A web.one.test
      [   0] ask AAAA web.one.test
      [ 100] ask AAAA web.two.test
      [ 100] ask A web.two.test
      [ 101] add 10.0.0.2:80 web.two.test]])
  end)

  it("do not look further where one cannot be had, and the name is there", function()
    local world = new()
    world.zone[A1], world.zone[AAAA1] = "NODATA", "SERVFAIL"
    world.zone[A2] = { "60 A 192.0.2.66" }
    world:start():advance(900)
    assert.equal("", world:layout())
    assert.truthy(world:trace():find("fail AAAA web.one.test: SERVFAIL from ns1", 1, true))
    world.zone[AAAA1] = { "60 AAAA 2001:db8::1" }
    world:advance(5000)
    assert.equal("[2001:db8::1]:80 web.one.test", world:layout())
  end)
end)

describe("a name that was found by search", function()
  it("is left where it is while it is gone", function()
    local world = new { families = 1 }
    world.zone[A1], world.zone[A2] = { "10 A 10.0.0.1" }, { "10 A 192.0.2.66" }
    world:start():advance(10):forget()
    world.zone[A1] = nil
    world:advance(12000)
    assert.trace(world, [[
      [10001] ask A web.one.test
      [10002] fail web does not exist (NXDOMAIN from ns1)
      [10002] settle
      [11002] ask A web.one.test
      [11003] settle]])
    assert.equal("10.0.0.1:80 web.one.test", world:layout())
  end)

  it("is looked for elsewhere once its backends have failed too", function()
    local world = new { families = 1 }
    world.zone[A1], world.zone[A2] = { "10 A 10.0.0.1" }, { "10 A 10.0.0.2" }
    world:start():advance(10)
    world.zone[A1] = nil
    world:advance(10990):forget()
    world:input "backends_failed"
    world:advance(10)
    assert.trace(world, [[
      [11000] ask A web.one.test
      [11001] ask A web.two.test
      [11002] add 10.0.0.2:80 web.two.test
      [11002] remove 10.0.0.1:80 web.one.test: address
      [11002] recover
      [11002] settle]])
  end)

  it("is back at a better candidate within twice max_recheck_ms and a TTL", function()
    local world = new { families = 1, max_recheck_ms = 5000 }
    world.zone[A2] = { "2 A 192.0.2.66" }
    world:start():advance(3000)
    world.zone[A1] = { "10 A 10.0.0.1" }
    world:advance(10000)
    assert.equal("10.0.0.1:80 web.one.test", world:layout())
  end)

  it("is back at a better candidate soon, however long the TTL of the other is", function()
    local world = new { max_recheck_ms = 5000 }
    world.zone[A2], world.zone[AAAA2] = { "86400 A 192.0.2.66" }, { "86400 AAAA 2001:db8:bad::1" }
    world:start():advance(3000)
    world.zone[A1], world.zone[AAAA1] = { "60 A 10.0.0.1" }, "NODATA"
    world:advance(10000)
    assert.equal("10.0.0.1:80 web.one.test", world:layout())
    world:forget()
    world:advance(40000)
    assert.trace(world, "") -- there is nothing better than the first
  end)

  it("stays where it is if a better candidate cannot be had", function()
    local world = new { families = 1, max_recheck_ms = 5000, dns = { attempts = 3 } }
    world.zone[A2] = { "20 A 192.0.2.66" }
    world:start():advance(3000):forget()
    world.zone[A1] = "SERVFAIL"
    world.shows = "ask fail"
    world:advance(20000)
    assert.trace(world, [[
      [10000] ask A web.one.test
      [10001] ask A web.two.test
      [20000] ask A web.one.test
      [20001] ask A web.two.test]])
  end)

  it("keeps nothing of the other family from the candidate that it left", function()
    local world = new { max_recheck_ms = 5000 }
    world.zone[A2], world.zone[AAAA2] = { "20 A 192.0.2.66" }, { "3600 AAAA 2001:db8:bad::1" }
    world:start():advance(3000)
    world.zone[A1], world.zone[AAAA1] = { "60 A 10.0.0.1" }, "NODATA"
    world:advance(30000)
    assert.equal("10.0.0.1:80 web.one.test", world:layout())
  end)
end)

describe("a search list that is replaced", function()
  it("has the name searched for anew; what is known stays meanwhile", function()
    local world = new { families = 1 }
    world.zone[A1] = { "3600 A 10.0.0.1" }
    world:start():advance(10):forget()
    world.zone["A web.three.test"] = { "3600 A 10.0.0.3" }
    assert.equal("ok", world:search({ "three.test" }, 1, 1))
    world:advance(10)
    assert.trace(world, [[
      [  10] ask A web.three.test
      [  11] add 10.0.0.3:80 web.three.test
      [  11] remove 10.0.0.1:80 web.one.test: address
      [  11] settle]])
  end)

  it("by the same one changes nothing, and by one that is none is refused", function()
    local world = new { families = 1 }
    world.zone[A1] = { "3600 A 10.0.0.1" }
    world:start():advance(10):forget()
    assert.equal("ok", world:search(LIST, 1, 1))
    assert.equal("invalid", world:search({ "a..b" }, 1, 1))
    world:advance(10)
    assert.trace(world, "")
  end)
end)

describe("a name without a dot", function()
  it("is asked for as it is at last, unless no_tld_query is set", function()
    for flag, count in pairs { [0] = 3, [1] = 2 } do
      local world = new { families = 1, no_tld_query = flag }
      world:start():advance(10)
      assert.equal(count, world:stats().questions)
      assert.equal(flag == 0, world.asked["A web"] ~= nil)
    end
    local world = new { families = 1, search = {} }
    world:start():advance(10)
    assert.truthy(world.asked["A web"]) -- there is nothing else to ask for
  end)
end)
