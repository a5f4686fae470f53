--- Which records of an answer the DNS tracker believes, and for how long.

local World = require "spec.support.tracker_world"

local A, plain = "A db.example", World.plain

describe("of an answer", function()
  local function layout_of(reply, changes)
    local world = plain(changes)
    world.zone[A] = reply
    world:start():advance(10)
    return world:layout(), world
  end

  it("the records of the name asked count, in whatever case", function()
    assert.equal("10.0.0.1:80 db.example", layout_of { "DB.Example. 60 A 10.0.0.1" })
  end)

  it("records of other names do not, nor of other types, nor elsewhere than in the answer", function()
    local layout, world = layout_of { "60 A 10.0.0.1", "evil.example 60 A 6.6.6.6", "60 AAAA ::1", "60 TXT", "+ 60 A 6.6.6.7",
      "? x.db.example 60 A 6.6.6.8", "60 RRSIG" }
    assert.equal("10.0.0.1:80 db.example", layout)
    assert.equal(2, world:stats().records_ignored)
  end)

  it("a chain of CNAMEs is followed in any order, and its least TTL counts", function()
    local layout, world = layout_of { "c.example 60 A 10.0.0.1", "b.example 7 CNAME c.example", "60 CNAME B.example" }
    assert.equal("10.0.0.1:80 db.example", layout)
    local backend = world:backends()[1]
    assert.equal("c.example", backend.owner)
    assert.equal(7, backend.ttl)
    world:advance(7000)
    assert.equal(7001, world.asked[A].at)
  end)

  it("a chain that leads nowhere, or in a circle, is no records", function()
    assert.equal("", (layout_of { "60 CNAME b.example" }))
    local _, world = layout_of { "60 CNAME b.example", "b.example 60 CNAME db.example" }
    assert.truthy(world:trace():find("fail db.example is an alias of b.example, which has no addresses (NODATA from ns1)", 1, true))
  end)

  it("a chain of 16 CNAMEs is followed, one of 17 is not", function()
    local reply = { "60 CNAME c1.example" }
    for i = 1, 15 do
      reply[#reply + 1] = ("c%d.example 60 CNAME c%d.example"):format(i, i + 1)
    end
    reply[#reply + 1] = "c16.example 60 A 10.0.0.1"
    assert.equal("10.0.0.1:80 db.example", (layout_of(reply)))
    reply[#reply] = "c16.example 60 CNAME c17.example"
    reply[#reply + 1] = "c17.example 60 A 10.0.0.1"
    assert.equal("", (layout_of(reply)))
  end)

  it("a DNAME is passed over: the CNAME made of it counts", function()
    assert.equal("10.0.0.1:80 db.example",
      (layout_of { "example 60 DNAME example.org", "60 CNAME db.example.org", "db.example.org 60 A 10.0.0.1" }))
  end)

  it("an address told twice is one", function()
    assert.equal("10.0.0.1:80 db.example", (layout_of { "60 A 10.0.0.1", "60 A 10.0.0.1" }))
  end)

  it("addresses are written as RFC 5952 says", function()
    local world = plain { families = 2 }
    world.zone["AAAA db.example"] = { "60 AAAA 2001:db8:0:1:1:1:1:1", "60 AAAA ::1", "60 AAAA ::", "60 AAAA 2001:0:0:1:0:0:0:1",
      "60 AAAA ::ffff:0102:0304", "60 AAAA 1:0:0:2:3:0:0:4", "60 AAAA 1::" }
    world:start():advance(10)
    local found = {}
    for i, one in ipairs(world:backends()) do
      found[i] = one.address
    end
    assert.equal("::, ::1, ::ffff:1.2.3.4, 1::, 1::2:3:0:0:4, 2001:0:0:1::1, 2001:db8:0:1:1:1:1:1", table.concat(found, ", "))
  end)
end)

describe("TTLs:", function()
  local function asked_after(ttl, changes)
    local world = plain(changes)
    world.zone[A] = { ttl .. " A 10.0.0.1" }
    world:start():advance(10)
    local deadline = world:deadline_ms()
    return deadline - 1
  end

  it("0 is a second, and so is what is over 2^31-1", function()
    assert.equal(1000, asked_after(0))
    assert.equal(1000, asked_after(2147483648))
    assert.equal(1000, asked_after(4294967295))
  end)

  it("min_ttl_ms and max_ttl_ms bound them", function()
    assert.equal(5000, asked_after(1, { min_ttl_ms = 5000 }))
    assert.equal(86400000, asked_after(7776000))
    assert.equal(86400000, asked_after(2147483647))
    assert.equal(30000, asked_after(7776000, { max_ttl_ms = 30000 }))
  end)

  it("chance makes it later by the spread, half a second at most, and never earlier", function()
    local least, most = 1e9, 0
    for seed = 1, 200 do
      local after = asked_after(60, { spread = 0.2, seed = seed })
      least, most = math.min(least, after), math.max(most, after)
    end
    assert.is_true(least >= 60000 and least < 60050, tostring(least))
    assert.is_true(most > 60450 and most <= 60500, tostring(most))
    assert.is_true(asked_after(1, { spread = 0.1 }) <= 1100)
  end)
end)
