--- Why a claim waited: the reasons in order, with spans that add up to the wait.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

local function explain(world, begun, ended, room)
  local began = tonumber(world.began)
  local waits = ffi.new("cueball_wait[?]", math.max(room or 100, 1))
  local function ns(ms)
    return ffi.cast("uint64_t", began + ms * 1e6 + 0.5)
  end
  local count = lib.cueball_pool_explain(world.pool, ns(begun), ns(ended), waits, room or 100)
  assert.is_true(count <= (room or 100))
  local list, sum = {}, 0
  for i = 0, count - 1 do
    local span = tonumber(waits[i].span) / 1e6
    assert.is_true(span > 0, "a span of " .. span)
    list[#list + 1] = ("%s %.10g"):format(ffi.string(lib.cueball_reason_name(waits[i].reason)), span)
    sum = sum + span
  end
  return table.concat(list, ", "), sum
end

local function pool(options, backends)
  options.rebalance_delay_ms = options.rebalance_delay_ms or 0
  local world = World.new(World.recovery({ attempts = 1000, spread = 0, delay_ms = 100, max_delay_ms = 100 }, options))
  world.shows = ""
  if backends then
    world:set(backends)
  end
  return world
end

describe("what held a claim", function()
  it("is that every connection was leased", function()
    local world = pool({ max_connections = 1 }, { "db" })
    world:claim "ann"
    world:advance(5)
    world:claim "bob"
    world:advance(40)
    world:release "ann"
    assert.is_truthy(world.leases.bob)
    assert.equal("busy 40", (explain(world, 5, 45)))
  end)

  it("is that attempts were under way, and paused", function()
    local world = pool({ max_connections = 1 })
    world.host.open = "fail 30"
    world:set { "db" }
    world:advance(10)
    world:claim "ann"
    world:advance(30) -- fails at 30, again at 130
    world.host.open = 50
    world:advance(1000)
    assert.is_truthy(world.leases.ann)
    assert.equal("connecting 20, backoff 100, connecting 50", (explain(world, 10, 180)))
  end)

  it("is that more were opening", function()
    local world = pool({ max_connections = 3, spares = 1 }, { "db" })
    world.host.open = 60
    world:advance(0)
    world:claim "ann" -- the spare; another begins to open
    world:claim "bob"
    world:advance(60)
    assert.is_truthy(world.leases.bob)
    assert.equal("growing 60", (explain(world, 0, 60)))
  end)

  it("is max_churn_rate", function()
    local world = pool({ max_connections = 2, max_churn_rate = 1 }, { "db" })
    world:advance(100)
    world:claim "ann"
    world:claim "bob"
    world:advance(2000)
    assert.is_truthy(world.leases.bob)
    assert.equal("churn 900", (explain(world, 100, 1000)))
  end)

  it("is a check, and a close", function()
    local world = pool({ max_connections = 1, check_interval_ms = 100 })
    world.host.check = 300
    world.host.close = 70
    world:set { "db" }
    world:advance(120)
    assert.equal(1, world:stats().checking)
    world:claim "ann"
    local begun = 120
    world:advance(300)
    assert.is_truthy(world.leases.ann)
    local text, sum = explain(world, begun, 420)
    assert.equal("checking 300", text:gsub("%..*", "") == "checking 300" and "checking 300" or text)
    assert.is_true(math.abs(sum - 300) < 1e-6)
    world:close "ann"
    world:claim "bob"
    world:advance(70)
    assert.is_truthy(world.leases.bob)
    assert.equal("closing 70", (explain(world, 420, 490)))
  end)

  it("is that no backend was known, and then that its connections opened", function()
    local world = pool { max_connections = 1, rebalance_delay_ms = 25 }
    world:claim "ann"
    world:advance(40)
    world.host.open = 10
    world:add "db"
    assert.equal("no_backends 40", (explain(world, 0, 40)))
    world:advance(100)
    assert.is_truthy(world.leases.ann)
    assert.equal("no_backends 40, connecting 10", (explain(world, 0, 50)))
  end)

  it("is that the host stood still, as far as it came later than its deadline", function()
    local world = pool({ max_connections = 1 })
    world.host.open = 100
    world:set { "db" }
    world:claim("ann", { timeout_ms = 5000 })
    world:at(30, function() world:claim("bob", { timeout_ms = 40 }) end)
    world:advance(30)
    world:oversleep(470)
    assert.equal("connecting 70, stalled 430", (explain(world, 0, 500)))
  end)

  it("is told for the stretch of each claim by itself, though others wait", function()
    local world = pool({ max_connections = 1 })
    world.host.open = 100
    world:set { "db" }
    world:claim "ann"
    world:advance(60)
    world:claim "bob"
    world:advance(60)
    assert.equal("connecting 100", (explain(world, 0, 100)))
    world:advance(30)
    world:release "ann"
    assert.equal("connecting 40, busy 50", (explain(world, 60, 150)))
    assert.equal("busy 7", (explain(world, 101, 108)))
    assert.equal("connecting 3", (explain(world, 3, 6)))
    assert.equal("", (explain(world, 50, 50)))
  end)

  it("holds for a claim that waits still, and for one that was refused", function()
    local world = pool({ max_connections = 1 }, { "db" })
    world:claim "ann"
    world:claim("bob", { timeout_ms = 50 })
    world:advance(20)
    assert.equal("busy 20", (explain(world, 0, 20)))
    world:advance(100)
    assert.is_nil(world.claims.bob)
    assert.equal("busy 50", (explain(world, 0, 50)))
  end)

  it("may hold again after a time when nobody waited", function()
    local world = pool({ max_connections = 1 }, { "db" })
    world:claim "ann"
    world:claim "bob"
    world:advance(10)
    world:release "ann"
    world:release "bob"
    world:advance(1000)
    world:claim "ann"
    world:advance(5)
    world:claim "bob"
    world:advance(7)
    assert.equal("busy 7", (explain(world, 1015, 1022)))
  end)
end)

describe("the record of reasons", function()
  --- Attempts of 1 ms that fail, and pauses of 1 ms: two changes every 2 ms.
  local function restless()
    local world = World.new(World.recovery({ attempts = 1000, spread = 0, delay_ms = 1, max_delay_ms = 1 },
      { max_connections = 1, rebalance_delay_ms = 0 }))
    world.shows = ""
    world.host.open = "fail 1"
    world:set { "db" }
    return world
  end

  it("holds 64 changes: what is older is forgotten", function()
    local world = restless()
    world:claim "ann"
    world:advance(1000.5)
    local text, sum = explain(world, 0, 1000.5)
    assert.truthy(text:match "^forgotten 937, ")
    assert.equal(64, select(2, text:gsub(",", "")))
    assert.is_true(math.abs(sum - 1000.5) < 1e-6)
    assert.truthy(text:match ", connecting 0%.5$" or text:match ", backoff 0%.5$")
    assert.is_nil(explain(world, 990, 1000):match "forgotten")
  end)

  it("that does not reach back to a claim says that all is forgotten, for no longer than it waited", function()
    local world = restless()
    world:claim "ann"
    world:claim("bob", { timeout_ms = 20 })
    world:advance(1000)
    assert.equal("forgotten 20", (explain(world, 0, 20)))
    assert.equal("forgotten 20", (explain(world, 0, 20, 1)))
  end)

  it("is cut to the room there is", function()
    local world = restless()
    world:claim "ann"
    world:advance(10)
    assert.equal("connecting 1, backoff 1, connecting 1", (explain(world, 0, 10, 3)))
    assert.equal("", (explain(world, 0, 10, 0)))
    world:advance(1000)
    assert.truthy(explain(world, 0, 1010, 1):match "^forgotten [%d.]+$")
  end)

  it("adds up, whatever happens", function()
    for seed = 1, 40 do
      math.randomseed(seed)
      local world = World.new(World.recovery({ attempts = 3, delay_ms = 5, max_delay_ms = 20 }, {
        max_connections = 3, spares = seed % 4, max_churn_rate = seed % 3 == 0 and 20 or math.huge, seed = seed,
        check_interval_ms = 30, rebalance_delay_ms = 5, claim_timeout_ms = 80,
      }))
      world.shows = ""
      local begun, held, answered = {}, {}, 0
      local inherited = world.answer
      function world.answer(self, kind, action)
        local name = self.names[tonumber(action.user)]
        inherited(self, kind, action)
        local now, waited = self:time(), tonumber(action.waited) / 1e6
        assert.is_true(math.abs(now - begun[name] - waited) < 1e-5)
        if waited > 0 then
          local text, sum = explain(self, now - waited, now)
          assert.is_true(math.abs(sum - waited) < 1e-5, ("seed %d: %s, %g in all, waited %g"):format(seed, text, sum, waited))
          answered = answered + 1
        end
        held[#held + 1] = name
      end
      for i = 1, 300 do
        local dice = math.random(7)
        if dice <= 3 then
          local name = "c" .. i
          begun[name] = world:time()
          if world:claim(name) == "granted" then
            held[#held + 1] = name
          end
        elseif dice <= 5 and #held > 0 then
          local name = table.remove(held, math.random(#held))
          if world.leases[name] then
            world[({ "release", "close", "fail" })[math.random(3)]](world, name)
          end
        elseif dice == 6 then
          world[math.random(3) > 1 and "add" or "remove"](world, ({ "a", "b" })[math.random(2)])
        else
          world.host.open = ({ 0, 10, "fail 5", "never" })[math.random(4)]
          world.host.check = ({ 0, 5, "fail 2" })[math.random(3)]
          world.host.close = ({ 0, 3 })[math.random(2)]
        end
        world:advance(math.floor(math.random() * 20))
      end
      assert.is_true(answered > 20)
    end
  end)
end)
