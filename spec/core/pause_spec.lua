--- A pause: no claim is granted, and nothing is taken for what it is not.

local World = require "spec.support.core_world"
local native = require "cueball.native"

local ffi, lib = native.ffi, native.lib

local function explain(world, from, to)
  local waits = ffi.new "cueball_wait[70]"
  local words = {}
  for index = 0, lib.cueball_pool_explain(world.pool, World.ns(from), World.ns(to), waits, 70) - 1 do
    words[#words + 1] = ("%s %g"):format(ffi.string(lib.cueball_reason_name(waits[index].reason)), tonumber(waits[index].span) / 1e6)
  end
  return table.concat(words, ", ")
end

describe("a pause", function()
  it("has claims wait, in their order and within their limits, and leases go on", function()
    local world = World.full(2)
    world:claim "alice"
    world:at(10, function() world:input "paused" end)
    world:at(20, function() world:claim "bob" end)
    world:at(21, function() world:claim("carol", { timeout_ms = 50 }) end)
    world:at(22, function() world:claim "dave" end)
    world:at(30, function() world:release "alice" end)
    world:at(100, function() world:input "resumed" end)
    world:advance(120)
    assert.trace(world, [[
      [   0] grant alice: db1/1
      [  20] wait bob: 0 ahead
      [  21] wait carol: 1 ahead
      [  22] wait dave: 2 ahead
      [  30] release alice
      [  71] refuse carol: claim_timeout
      [ 100] grant bob: db1/2
      [ 100] grant dave: db1/1]])
  end)

  it("refuses who may not wait, and who finds the queue full, as paused", function()
    local world = World.full(1, { max_waiters = 1 })
    world:input "paused"
    assert.equal("paused", world:claim("alice", { timeout_ms = 0 }))
    assert.equal("waiting", world:claim "bob")
    assert.equal("paused", world:claim "carol")
    assert.equal(2, world:stats().claims_refused)
    world:input "resumed"
    assert.same({ claims = 3, granted = 1, paused = 0 }, { claims = world:stats().claims, granted = world:stats().granted,
      paused = world:stats().paused })
    assert.equal("claim_timeout", world:claim("dave", { timeout_ms = 0 }))
  end)

  it("may be told twice, and says since when it lasts", function()
    local world = World.full(1)
    assert.equal(World.NEVER, lib.cueball_pool_paused_since(world.pool))
    world:advance(5)
    assert.equal("ok", world:input "paused")
    world:advance(5)
    assert.equal("ok", world:input "paused")
    assert.equal(5e6, tonumber(lib.cueball_pool_paused_since(world.pool)))
    assert.equal(1, world:stats().paused)
    assert.equal("ok", world:input "resumed")
    assert.equal("ok", world:input "resumed")
    assert.equal(World.NEVER, lib.cueball_pool_paused_since(world.pool))
  end)

  it("is told as events, with those who wait", function()
    local world = World.full(1)
    world:watch(100, "paused resumed")
    world:claim "alice"
    world:claim "bob"
    world:input "paused"
    world:input "resumed"
    local events = world:take_events()
    assert.same({ "paused 1", "resumed 1" }, { events[1].kind .. " " .. events[1].count, events[2].kind .. " " .. events[2].count })
  end)

  it("is a reason of its own for a wait", function()
    local world = World.full(1)
    world:claim "alice"
    world:at(10, function() world:claim "bob" end)
    world:at(20, function() world:input "paused" end)
    world:at(25, function() world:release "alice" end)
    world:at(50, function() world:input "resumed" end)
    world:advance(60)
    assert.equal("busy 10, paused 30", explain(world, 10, 50))
  end)

  it("is over when the pool stops, and cannot begin then", function()
    local world = World.full(1)
    world:input "paused"
    world:claim "alice"
    world:stop()
    assert.equal(0, world:stats().paused)
    assert.equal("pool_stopping", world:input "paused")
    assert.equal("pool_stopping", world:input "resumed")
    assert.trace(world, [[
      [   0] wait alice: 0 ahead
      [   0] stop pool
      [   0] refuse alice: pool_stopping
      [   0] close db1/1
      [   0] closed db1/1]])
  end)

  it("is not for sets", function()
    local world = World.new({ max_connections = 1, is_set = true })
    assert.equal("invalid", world:input "paused")
  end)

  it("lets checks go on, and what has to be replaced", function()
    local world = World.new { max_connections = 1, check_interval_ms = 20, has_check = true }
    world:set { "db1" }
    world:forget "check close open"
    world:input "paused"
    world:advance(50)
    world:lose "db1/1"
    world:advance(50)
    assert.matches("check db1/1.*close db1/1.*open db1/1", world:trace())
  end)
end)

describe("a pause is not taken for overload", function()
  local function pool(queue)
    return World.full(1, { queue = queue, target_claim_delay_ms = 10 })
  end

  it("while it lasts, by the bound on waits", function()
    local world = pool "codel"
    world:claim("alice", { timeout_ms = 100000 })
    world:claim("bob", { timeout_ms = 100000 }) -- 100 ms at most, by overload control
    world:input "paused"
    world:claim("carol", { timeout_ms = 3000 })
    world:release "alice"
    world:advance(5000)
    world:input "resumed"
    assert.trace(world, [[
      [   0] grant alice: db1/1
      [   0] wait bob: 0 ahead
      [   0] wait carol: 1 ahead
      [   0] release alice
      [3000] refuse carol: claim_timeout
      [5000] grant bob: db1/1]])
  end)

  it("and afterwards waits count from its end", function()
    local world = pool "codel"
    world:claim "holder"
    world:input "paused"
    for number = 1, 3 do world:claim("c" .. number, { timeout_ms = 100000 }) end
    world:at(5000, function() world:input "resumed" end)
    for round = 1, 3 do
      world:at(5000 + round * 4, function() world:release(round == 1 and "holder" or "c" .. round - 1) end)
    end
    world:advance(5050)
    assert.matches("%[5004%] grant c1.*%[5008%] grant c2.*%[5012%] grant c3", world:trace())
    assert.not_matches("overloaded", world:trace())
  end)

  it("though it began in the middle of one, which is over", function()
    local world = pool "adaptive_lifo"
    world:watch(100, "overloaded relieved")
    world:claim "holder"
    for number = 1, 30 do world:at(number * 10, function() world:claim("c" .. number, { timeout_ms = 100000 }) end) end
    for number = 1, 14 do
      world:at(number * 20, function() world:release(number == 1 and "holder" or next(world.leases)) end)
    end
    world:advance(290)
    assert.equal(1, world:stats().overloaded)
    world:input "paused"
    assert.equal(0, world:stats().overloaded)
    local kinds = {}
    for _, event in ipairs(world:take_events()) do kinds[#kinds + 1] = event.kind end
    assert.equal("overloaded relieved", table.concat(kinds, " "))
  end)
end)

describe("a pause is not taken for load", function()
  local function pool()
    local world = World.new { max_connections = 40, spares = 2 }
    world.host.open = 5
    world.shows = ""
    world:set { "db1", "db2" }
    world:advance(100)
    for number = 1, 8 do world:claim("c" .. number) world:advance(20) end
    world:advance(1000)
    return world
  end

  it("many that wait do not make the pool grow", function()
    local world = pool()
    local target = world:stats().target
    world:input "paused"
    for number = 1, 30 do world:claim("w" .. number) end
    world:advance(3000)
    assert.equal(target, world:stats().target)
    world:input "resumed"
    world:advance(100)
    assert.is_true(world:stats().target > target)
  end)

  it("nor none that claims, to shrink; after it the load counts as it was", function()
    local world = pool()
    world:input "paused"
    local target = world:stats().target
    for number = 1, 8 do world:release("c" .. number) end
    world:advance(60000)
    assert.equal(target, world:stats().target)
    world:input "resumed"
    assert.equal(target, world:stats().target)
    world:advance(30000) -- at rest, it shrinks as ever
    assert.equal(2, world:stats().target)
  end)
end)

describe("a pause while all backends die", function()
  local RECOVERY = { attempts = 1, delay_ms = 1000, max_delay_ms = 1000 }

  local function pool()
    local world = World.calm(RECOVERY, { max_connections = 2 })
    world:set { "db1", "db2" }
    world:advance(1)
    world:input "paused"
    world:claim "alice"
    world.host.open = "fail"
    world:lose "db1/1"
    world:lose "db2/1"
    world:advance(2500)
    return world
  end

  it("refuses nobody, and tries all at once when it is over", function()
    local world = pool()
    assert.equal("failed", world:state())
    assert.equal("waiting", world:claim "bob")
    world:forget "open grant refuse"
    world.host.open = 10
    world:input "resumed"
    world:advance(20)
    assert.matches("%[2501%] open db%d/1, attempt %d+\n%[2501%] open db%d/1", world:trace())
    assert.matches("%[2511%] grant alice.*%[2511%] grant bob", world:trace())
    assert.not_matches("refuse", world:trace())
  end)

  it("refuses those who wait when that came to nothing", function()
    local world = pool()
    world:forget "grant refuse"
    world.host.db1, world.host.db2 = { open = "fail 5" }, { open = "fail 30" }
    world:at(world:time() + 10, function() world:claim "bob" end)
    world:input "resumed"
    world:advance(100)
    assert.trace(world, [[
      [2531] refuse alice: pool_failed
      [2531] refuse bob: pool_failed]])
    assert.equal("pool_failed", world:claim "carol")
  end)

  it("and to ask anew does the same without a pause", function()
    local world = pool()
    world:input "resumed"
    world:forget "open grant refuse"
    assert.equal("pool_failed", world:claim "bob")
    world.host.open = 10
    world:input("backend_retried", nil)
    assert.equal("waiting", world:claim "carol")
    world:advance(20)
    assert.matches("grant carol", world:trace())
    assert.equal("not_found", world:input("backend_retried", "db9"))
    assert.equal("ok", world:input("backend_retried", "db1"))
  end)
end)
