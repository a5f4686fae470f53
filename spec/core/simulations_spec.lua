--- The experiments of bench/simulations.lua, shortened. Virtual time and one seed: the figures are the same on every run.
local function simulation(name) return require("bench.simulations." .. name) end

describe("in simulation,", function()
  it("a spike of 50 claims opens a connection or two, not 50", function()
    for _, warm in ipairs { true, false } do
      local found = simulation("spike").run { warm = warm }
      assert.is_true(found.opened <= 1, found.opened)
      assert.is_true(found.at_end <= (warm and 7 or 6), found.at_end) -- 5 spares, one for the spike; warm: one that was in use before
    end
  end)

  it("a steady load opens a connection for one claim in a hundred at most, whatever its leases take", function()
    local growth = simulation "growth"
    for _, lease_ms in ipairs { 0.1, 1, 10, 100, 1000 } do
      for _, spares in ipairs { 0, 2, 10 } do
        local found = growth.run { lease_ms = lease_ms, spares = spares, rate = 100, claims = 4000 }
        assert.is_true(found.opened <= found.claims / 100, ("%g ms, %d spares: %d opened"):format(lease_ms, spares, found.opened))
      end
    end
  end)

  it("codel keeps the mean wait within 175 ms of the target, which RFC 8289's spacing does not", function()
    local overload = simulation "overload"
    for _, target in ipairs { 300, 1000, 5000 } do
      local found = overload.waits { target_ms = target, seconds = 60 }
      assert.is_true(math.abs(found.mean - target) < 175, target .. ": " .. found.mean)
      assert.is_true(math.abs(found.served - target) < 250, target .. ": " .. found.served)
    end
    assert.is_true(overload.rfc({ target_ms = 300, seconds = 60 }).mean > 2000)
  end)

  it("codel and adaptive_lifo answer in time when fifo hardly does", function()
    local overload = simulation "overload"
    local function goodput(queue)
      return overload.goodput({ queue = queue, load = 3, deadline_ms = 1000, target_ms = 500, seconds = 30 }).goodput
    end
    assert.is_true(goodput "fifo" < 0.25)
    assert.is_true(goodput "codel" > 0.9)
    assert.is_true(goodput "adaptive_lifo" > 0.9)
  end)

  it("p2c answers 99.9 % within a second though one of 11 backends takes two", function()
    local balance = simulation "balance"
    for _, connections in ipairs { 1100, 400 } do
      local found = balance.slow { balance = "p2c", connections = connections }
      assert.is_true(found.success >= 0.999, found.success)
    end
    assert.is_true(balance.slow({ balance = "fifo" }).success < 0.99)
  end)

  it("p2c hardly uses the slowest of uneven endpoints", function()
    local balance = simulation "balance"
    assert.is_true(balance.uneven({ balance = "p2c" }).p999 <= 105)
    assert.is_true(balance.uneven({ balance = "fifo", requests = 10000 }).p999 > 900)
  end)

  it("full and decorrelated jitter disperse a herd in less than half the time", function()
    local jitter = simulation "jitter"
    local narrow = jitter.mean({ jitter = "spread" }, 3).seconds
    assert.is_true(jitter.mean({ jitter = "full" }, 3).seconds < narrow / 2)
    assert.is_true(jitter.mean({ jitter = "decorrelated" }, 3).seconds < narrow / 2)
  end)

  it("an hour of backends that come, go, slow down and die passes with every check", function()
    for _, balance in ipairs { "p2c", "fifo" } do
      local found = simulation("day").run { hours = 1, rate = 5, balance = balance, check_s = 10 }
      assert.equal(361, found.checks)
      assert.is_true(found.deaths > 0 and found.ejections > 0 and found.events > 1000)
      assert.is_true(found.granted > 0.99 * found.claims, found.granted .. " of " .. found.claims)
    end
  end)

  it("clients with few connections are even over the backends again after a failure", function()
    local found = simulation("subsets").run { clients = 100, backends = 50, connections = 10, minutes = { 9, 11 } }
    assert.equal(0, found[1].least)
    assert.is_true(math.abs(found[2].mean - 20) < 1)
    assert.is_true(found[2].deviation < 2 * simulation("subsets").random({ clients = 100, backends = 50 }).deviation)
  end)
end)
