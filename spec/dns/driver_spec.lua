--- One tracker on a host: that what it is told while it tells is safe, and that it leaves nothing.
require "spec.support.sim_pool"
local dns_options = require "cueball.dns.options"
local driver = require "cueball.dns.driver"
local sim = require "cueball.host.sim"
local with = require "spec.support.with"

local ZONE = [[
  _pg._tcp.example  60 SRV 0 10 5432 db1.example
  _pg._tcp.example  60 SRV 0 10 5432 db2.example
  db1.example       30 A   10.0.0.1
  db2.example       30 A   10.0.0.2
  example          300 SOA 60
]]

local world, one, told

-- A driver whose listener notes what it hears, and calls on[what] of the test.
local function start(options, on)
  told = {}
  local listener = {}
  for _, what in ipairs { "add", "change", "remove", "fail", "recover", "settle", "changed" } do
    listener[what] = function(subject)
      assert.is_nil(world.current())
      told[#told + 1] = ("%s %s"):format(what, type(subject) == "table" and subject.key or tostring(subject or ""))
      if on and on[what] then on[what](subject) end
    end
  end
  local given = with({ domain = "example", service = "_pg._tcp", families = "ipv4" }, options)
  one = assert(driver.new(world, dns_options.read("it", given, 2), listener))
  one:start()
  return one
end

before_each(function()
  world = sim.new { seed = 1 }
  world.zone(ZONE)
end)

after_each(function()
  one:close()
  one:close()
  assert.is_nil(one.core)
  assert.same({}, world.leaks())
end)

describe("the driver", function()
  it("tells nothing inside start, and everything in order afterwards", function()
    start()
    assert.same({}, told)
    assert.equal(0, #world.dns.asked)
    world.advance(100)
    assert.same({ "add 10.0.0.1:5432", "add 10.0.0.2:5432", "settle not_found", "changed " }, told)
    assert.equal(2, #one:backends())
    assert.equal("db1.example", one:backends()[1].name)
    local stats = one:stats()
    assert.same({ 1, 1, 2 }, { stats.questions, stats.answers, stats.backends })
    assert.is_true(stats.memory_bytes > 0)
  end)

  it("asks again when told to, before any TTL is over", function()
    start()
    world.advance(100)
    world.zone((ZONE:gsub("10%.0%.0%.2", "10.0.0.3")))
    one:refresh()
    assert.equal(1, #world.dns.asked)
    told = {}
    world.advance(100)
    assert.same({ "add 10.0.0.3:5432", "remove 10.0.0.2:5432", "settle not_found", "changed " }, told)
  end)

  it("tells of other weights as a change", function()
    start()
    world.advance(100)
    world.zone((ZONE:gsub("10 5432 db2", "30 5432 db2")))
    one:refresh()
    told = {}
    world.advance(100)
    assert.equal("change 10.0.0.2:5432", told[1])
    assert.equal(30, one:backends()[2].weight)
  end)

  it("may be closed by whom it tells, and says no more then", function()
    for _, what in ipairs { "add", "changed", "settle" } do
      start(nil, { [what] = function() one:close() end })
      world.advance(100)
      assert.truthy(told[#told]:find("^" .. what))
      assert.is_nil(one.core)
      local count = #told
      world.advance(1000000)
      assert.equal(count, #told)
      assert.same({ {}, {} }, { one:backends(), one:stats() })
      one:refresh()
      one:nameservers { "10.0.0.53:53" }
      one:start()
      world.advance(1000)
    end
  end)

  it("may be told other nameservers while it tells", function()
    world.nameserver "10.0.0.53:53"
    start(nil, { add = function() one:nameservers { "10.0.0.53:53" } end, changed = function() one:refresh() end })
    world.advance(100)
    assert.is_true(#one:backends() == 2)
    assert.equal("10.0.0.53:53", world.dns.asked[2].server)
  end)

  it("forgets what it asked a nameserver that is none any more, and asks the other", function()
    world.nameserver("127.0.0.1:53", { silence = "timeout" })
    world.nameserver "10.0.0.53:53"
    start()
    world.advance(100)
    one:nameservers { "10.0.0.53:53" }
    world.advance(100)
    assert.same({ "add 10.0.0.1:5432", "add 10.0.0.2:5432", "settle not_found", "changed " }, told)
    -- Its alarm is all there is.
    assert.equal(1, #world.leaks())
    world.advance(10000)
    assert.equal(0, one:stats().timeouts)
  end)

  it("closes with questions under way, and hears of none of them", function()
    world.nameserver("127.0.0.1:53", { latency = 50 })
    start()
    world.advance(10)
    one:close()
    world.advance(1000)
    assert.same({}, told)
  end)

  it("takes a host that cannot ask for a nameserver that cannot be reached", function()
    local ask = world.dns.ask
    world.dns.ask = function() return nil, "out of sockets" end
    start { recovery = { default = { attempts = 2, delay_ms = 10, spread = 0 } } }
    world.advance(30)
    world.dns.ask = ask
    assert.is_true(one:stats().network_errors >= 2)
    assert.equal("it cannot: cueball: dns example: 127.0.0.1:53 cannot be asked: out of sockets",
      "it cannot: " .. world.logs[1].message)
    world.advance(3700000)
    assert.equal(2, #one:backends())
  end)

  it("says what failed", function()
    world.nameserver("127.0.0.1:53", { silence = "network" })
    start { recovery = { default = { attempts = 1 } } }
    world.advance(100)
    assert.equal("fail SRV _pg._tcp.example: unreachable, asking 127.0.0.1:53", (told[1]:gsub(" %(.*$", "")))
    assert.equal("settle dns_failed", told[#told])
  end)

  it("has nobody to ask where the system has no settings, until it has", function()
    world.dns.system_is(nil)
    start()
    world.advance(1000)
    assert.truthy(told[1]:find "^fail ", told[1])
    assert.truthy(world.logs[1].message:find("the system's nameservers cannot be read: there is no resolv.conf", 1, true))
    world.dns.system_is { servers = { "127.0.0.1:53" } }
    world.advance(31000)
    assert.equal(2, #one:backends())
  end)
end)
