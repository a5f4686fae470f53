--- When a pool fails it tells its resolver: pools, sets, balancers, and those who share a resolver.
local cueball = require "cueball"
local sim = require "cueball.host.sim"

local OLD, NEW = "10.0.0.1:80", "10.0.0.2:80"

describe("a pool whose backends all died", function()
  local world, old, looks, answer

  before_each(function()
    world = sim.new { seed = 1 }
    old = world.server("10.0.0.1", 80)
    world.server("10.0.0.2", 80)
    looks, answer = {}, OLD
  end)

  after_each(function() world.close() end)

  -- Looks once an hour.
  local function hourly(sink)
    repeat
      looks[#looks + 1] = { at = world.time_ms(), failed = sink:failed() }
      sink:set { answer }
    until not sink:sleep(3600e3)
  end

  local function is_at(member, key)
    for _, backend in ipairs(member:backends()) do
      if backend.key == key and not backend.removed then return true end
    end
    return false
  end

  local function times_from(ms)
    local list = {}
    for _, look in ipairs(looks) do
      if look.at >= ms then list[#list + 1] = ("%.0f"):format((look.at - ms) / 1000) end
    end
    return table.concat(list, " ")
  end

  -- Opens it, kills the server, and returns when.
  local function kill()
    world.advance(20000)
    assert.equal(1, #looks)
    old:kill()
    return world.time_ms()
  end

  it("ends its resolver's sleep, which can ask why", function()
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, max_connections = 2, resolver = hourly }
    kill()
    answer = NEW
    world.advance(10000)
    assert.is_true(is_at(pool, NEW))
    assert.equal("running", pool:state())
    assert.equal(2, #looks)
    assert.same({ false, true }, { looks[1].failed, looks[2].failed })
    pool:stop()
  end)

  it("does so again with longer pauses, as long as it lasts, and no more afterwards", function()
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, max_connections = 2, resolver = hourly }
    kill()
    world.advance(10000)
    local first = looks[2].at
    world.advance(110000)
    assert.equal("0 5 15 35 65 95", times_from(first))
    answer = NEW
    world.advance(30000)
    local count = #looks
    world.advance(600000)
    assert.equal(count, #looks)
    assert.equal("running", pool:state())
    pool:stop()
  end)

  it("tells it at most every five seconds, however often it fails", function()
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, max_connections = 2, resolver = hourly,
      recovery = { default = { delay_ms = 10, max_delay_ms = 10, attempts = 1 } } }
    kill()
    for _ = 1, 100 do
      old:start()
      world.advance(300)
      old:kill()
      world.advance(300)
    end
    assert.is_true(#looks > 2 and #looks <= 2 + 60 / 5, #looks .. " looks")
    pool:stop()
  end)

  it("does not tell it of a failure that is its own", function()
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, resolver = function(sink)
      repeat
        looks[#looks + 1] = true
        sink:fail "nobody knows"
      until not sink:sleep(3600e3)
    end }
    world.advance(60000)
    assert.equal("failed", pool:state())
    assert.equal(1, #looks)
    pool:stop()
  end)

  it("may be a set", function()
    local member
    local set = cueball.set { host = world, connect = cueball.connection.tcp {}, target = 1, resolver = hourly,
      added = function(one) member = one end, removed = function(one) one:release() end }
    kill()
    member:fail "reset"
    answer = NEW
    world.advance(10000)
    assert.is_true(is_at(set, NEW))
    set:stop()
  end)

  it("may be a balancer", function()
    local context, went = {}, nil
    local balancer = require("cueball.nginx.balancer").new {
      resolver = hourly, attempts = 1, seed = 1, name = "api",
      host = setmetatable({ proxy = {
        context = function() return context end, go_to = function() return true end, more_tries = function() end,
        last_try = function() return nil end, outcome = function() return went, 1 end, refuse = function() end,
      } }, { __index = world }),
    }
    world.settle()
    balancer:balance()
    went = false
    answer = NEW
    balancer:report()
    world.advance(1000)
    assert.equal(NEW, balancer:peers()[1].key)
    assert.same({ failing = false }, balancer:resolver())
    balancer:stop()
    world.settle()
  end)

  it("may share its resolver with others that are well", function()
    local shared = cueball.resolver.shared { resolver = hourly, name = "web" }
    local well = cueball.pool { host = world, connect = function() return {} end, max_connections = 1, resolver = shared }
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, max_connections = 1, resolver = shared }
    kill()
    answer = NEW
    world.advance(10000)
    assert.is_true(is_at(pool, NEW) and is_at(well, NEW))
    assert.equal(2, #looks)
    pool:stop()
    well:stop()
  end)

  it("has DNS asked at once, whatever the TTL, and again while it lasts", function()
    world.zone "db.example 3600 A 10.0.0.1"
    local pool = cueball.pool { host = world, connect = cueball.connection.tcp {}, max_connections = 2,
      resolver = cueball.resolver.dns { domain = "db.example", default_port = 80, search = false, families = "ipv4" } }
    world.advance(20000)
    old:kill()
    world.advance(30000)
    assert.is_true(#world.dns.asked >= 3 and #world.dns.asked <= 6, #world.dns.asked .. " questions")
    world.zone "db.example 3600 A 10.0.0.2"
    world.advance(31000)
    assert.is_true(is_at(pool, NEW))
    local count = #world.dns.asked
    world.advance(600000)
    assert.equal(count, #world.dns.asked)
    pool:stop()
  end)
end)

describe("pool:resolver", function()
  it("says whether the resolver fails, since when, and why", function()
    local world, sink = sim.new { seed = 1 }, nil
    local pool = cueball.pool { host = world, connect = function() return {} end, resolver = function(one)
      sink = one
      one:sleep(math.huge)
    end }
    world.settle()
    assert.same({ failing = false }, pool:resolver())
    sink:fail "the directory is away"
    world.advance(1500)
    sink:fail "the directory is still away"
    world.advance(500)
    assert.same({ failing = true, message = "the directory is still away", since_ms = 2000 }, pool:resolver())
    sink:set { OLD }
    assert.same({ failing = false }, pool:resolver())
    pool:stop()
    world.close()
  end)
end)
