--- Why a claim waited, or got nothing, in words and in parts.
local sim_pool = require "spec.support.sim_pool"

local town, pool

local function open(options, servers)
  town = sim_pool.new(servers)
  pool = town:open(options)
end

-- What bob's claim has to say; its parts must add up to its wait.
local function explained(expected_ms)
  local text, parts = town.leases.bob:explain()
  local sum = 0
  for _, part in ipairs(parts) do sum = sum + part.ms end
  assert.is_true(math.abs(sum - expected_ms) < 1e-6, ("the parts of %q add up to %.9g"):format(text, sum))
  local reasons = {}
  for index, part in ipairs(parts) do reasons[index] = part.reason end
  return text, table.concat(reasons, " ")
end

-- Stops at once, whoever holds what.
local function finish()
  for _, lease in pairs(town.leases) do if lease.connection then lease:close() end end
  pool:stop()
  town:advance(60000)
  assert.same({}, town.world.leaks())
end

describe("lease:explain", function()
  it("says that a lease was granted at once", function()
    open { max_connections = 1, connect = sim_pool.factory() }
    town:advance(1)
    local lease = pool:claim()
    assert.same({ "granted at once", {} }, { lease:explain() })
    lease:release()
    finish()
  end)

  it("names connections that were busy, and the place in the queue", function()
    open { max_connections = 1, connect = sim_pool.factory() }
    town:advance(1)
    town:claim "alice"
    town:claim "carol"
    town:claim "bob"
    town:advance(20)
    town:release "alice"
    town:advance(0)
    town:at(51, function() town:release "carol" end)
    town:advance(100)
    assert.same({ "waited 50 ms (1 ahead): 50 ms every connection was busy", "busy" }, { explained(50) })
    finish()
  end)

  it("names who has had another connection since before it was granted, as long as that lasts", function()
    open { max_connections = 2, connect = sim_pool.factory() }
    town:advance(1)
    local told = {}
    local function worker(work_ms)
      town.world.spawn(function()
        pool:with(function(_, lease)
          town.world.sleep(work_ms)
          told[#told + 1] = (lease:explain():gsub("task %d+", "task #"):gsub("at [%w_/.]+:%d+", "at #"))
        end)
      end)
    end
    worker(500)
    town:advance(10)
    worker(20)
    worker(30) -- waits for the second
    worker(900) -- waits for the third
    town:advance(2000)
    assert.same({
      "granted at once",
      "waited 20 ms (0 ahead): 20 ms every connection was busy; the oldest lease, on db1, is held 60 ms by task #, claimed at #, now at #",
      "granted at once",
      "waited 50 ms (1 ahead): 50 ms every connection was busy", -- all others are over
    }, told)
    finish()
  end)

  it("names nobody whose lease began later, nor itself", function()
    open { max_connections = 2, connect = sim_pool.factory() }
    town:advance(1)
    town:claim "alice"
    town:claim "carol"
    town:claim "bob"
    town:at(21, function() town:release "alice" end)
    town:at(31, function() town:release "carol" end)
    town:at(41, function() town:claim "dave" end)
    town:advance(100)
    assert.same({ "waited 20 ms (0 ahead): 20 ms every connection was busy", "busy" }, { explained(20) })
    local lease = town.leases.bob
    town:release "bob"
    town:advance(1)
    assert.equal("waited 20 ms (0 ahead): 20 ms every connection was busy", (lease:explain())) -- it is over
    finish()
  end)

  it("names connections that were opening at the start", function()
    open({ max_connections = 1 }, { latency = 15 })
    town:claim "bob"
    town:advance(100)
    local waited = town.leases.bob.waited_ms
    assert.same({ ("waited %.6g ms (0 ahead): %.6g ms connections were opening"):format(waited, waited), "connecting" },
      { explained(waited) })
    finish()
  end)

  -- Bob claims where so many attempts fail, each after 10 ms, with pauses of 40 ms.
  local function claim_after_failures(count)
    local tries = 0
    open {
      max_connections = 1, recovery = { default = { attempts = 5, delay_ms = 40, spread = 0, max_delay_ms = 40 } },
      connect = function()
        town.world.sleep(10)
        tries = tries + 1
        if tries <= count then return nil, "not yet" end
        return {}
      end,
    }
    town:claim "bob"
    town:advance(1000)
  end

  it("names pauses after failures, in order with the attempts", function()
    claim_after_failures(1)
    assert.same({ "waited 60 ms (0 ahead): 10 ms connections were opening, then 40 ms attempts to connect paused after failures, "
      .. "then 10 ms connections were opening", "connecting backoff connecting" }, { explained(60) })
    finish()
  end)

  it("sums up what changed to and fro", function()
    claim_after_failures(3)
    assert.same({ "waited 160 ms (0 ahead): in 7 turns, 40 ms connections were opening, 120 ms attempts to connect paused after "
      .. "failures", "connecting backoff connecting backoff connecting backoff connecting" }, { explained(160) })
    finish()
  end)

  it("names that no backend was known", function()
    local sink
    open { max_connections = 1, rebalance_delay_ms = 0, connect = sim_pool.factory(), resolver = function(given)
      sink = given
      town.world.waiter():wait()
    end }
    town:claim "bob"
    town:at(30, function() sink:add(sim_pool.backend(1)) end)
    town:advance(100)
    assert.same({ "waited 30 ms (0 ahead): 30 ms no backend was known", "no_backends" }, { explained(30) })
    finish()
  end)

  it("names connections that were busy while more were opening", function()
    open {
      max_connections = 3, spares = 1,
      connect = function()
        town.world.sleep(25)
        return {}
      end,
    }
    town:advance(100)
    town:claim "alice"
    town:advance(200)
    town:claim "carol"
    town:claim "bob"
    town:advance(1000)
    local waited = town.leases.bob.waited_ms
    local text, reasons = explained(waited)
    assert.matches("every connection was busy and more were opening", text)
    assert.matches("growing", reasons)
    finish()
  end)

  it("names max_churn_rate where that held back connections", function()
    open { max_connections = 2, max_churn_rate = 10, connect = sim_pool.factory() }
    town:advance(1)
    town:claim "alice"
    town:claim "bob"
    town:advance(200)
    local text, reasons = explained(99)
    assert.matches("^waited 99 ms %(0 ahead%): 99 ms max_churn_rate held back more connections; the oldest lease, on db1, "
      .. "is held 200 ms by task %d+ %(over%)$", text)
    assert.equal("churn", reasons)
    finish()
  end)

  it("names backends that are dead, why, and for how long", function()
    open({ max_connections = 2, claim_timeout_ms = false, recovery = { default = { attempts = 1, delay_ms = 100, spread = 0 } } },
      { servers = 2 })
    town.servers[2]:kill()
    town:advance(500)
    assert.equal(1, pool:stats().dead_backends)
    local holds = {}
    for _ = 1, 5 do holds[#holds + 1] = pool:try_claim() end
    town:claim "bob"
    town:advance(20)
    for _, lease in ipairs(holds) do lease:release() end
    town:advance(1)
    assert.matches("^waited 20 ms %(0 ahead%): .*; dead: db2 %(connection refused; for %d+ ms%)$", (explained(20)))
    finish()
  end)

  it("says nothing of those that are alive again", function()
    open({ max_connections = 2, recovery = { default = { attempts = 1, delay_ms = 100, spread = 0 } } }, { servers = 2 })
    town.servers[2]:kill()
    town:advance(500)
    town.servers[2]:start()
    town:advance(5000)
    assert.equal(0, pool:stats().dead_backends)
    local holds = {}
    for _ = 1, 5 do holds[#holds + 1] = pool:try_claim() end
    town:claim "bob"
    town:advance(20)
    for _, lease in ipairs(holds) do lease:release() end
    town:advance(1)
    assert.equal("waited 20 ms (0 ahead): 20 ms every connection was busy", (explained(20)))
    finish()
  end)

  it("knows only what is on record: the rest is called so", function()
    open { max_connections = 1, claim_timeout_ms = false, recovery = { default = { attempts = 200, delay_ms = 5, spread = 0,
      max_delay_ms = 5 } }, connect = function()
        town.world.sleep(5)
        return town.is_up and {} or nil, "not yet"
      end }
    town:claim "bob"
    town:advance(600)
    town.is_up = true
    town:advance(1000)
    local waited = town.leases.bob.waited_ms
    local text, reasons = explained(waited)
    assert.matches("^forgotten ", reasons)
    assert.matches("ms longer ago than is on record", text)
    finish()
  end)
end)

describe("a refusal", function()
  it("ends with what held the claim", function()
    open { max_connections = 1, connect = sim_pool.factory() }
    town:advance(1)
    town:claim "alice"
    town:claim("carol", { timeout_ms = 50 })
    town:claim("bob", { timeout_ms = 40 })
    town:advance(45)
    assert.matches("^claim timed out after 40 ms %(1 ahead, 1 busy%): 40 ms every connection was busy; the oldest lease", town.refused)
    finish()
  end)

  it("of an overloaded queue does so too", function()
    open { max_connections = 1, queue = "codel", target_claim_delay_ms = 5, connect = sim_pool.factory() }
    town:advance(1)
    local texts = {}
    for number = 1, 300 do
      town:at(number * 2, function()
        town.world.spawn(function()
          local lease, message, name = pool:claim()
          if not lease then
            texts[#texts + 1] = name .. ": " .. message
            return
          end
          town.world.sleep(20)
          lease:release()
        end)
      end)
    end
    town:advance(2000)
    assert.is_true(#texts > 0)
    local waited, held = texts[1]:match("^overloaded: overloaded: refused after ([%d.]+) ms in the queue %(%d+ ahead, "
      .. "1 busy%): ([%d.]+) ms every connection was busy; the oldest lease, on db1, is held [%d.]+ ms by task %d+")
    assert.equal(waited, held, texts[1])
    finish()
  end)

  it("that waited for attempts says what the last one failed with, though no backend is dead yet", function()
    open {
      max_connections = 1, recovery = { default = { attempts = 5, timeout_ms = 40, delay_ms = 1, max_delay_ms = 1, spread = 0 } },
      connect = function() town.world.sleep(1000) end,
    }
    local message
    town.world.spawn(function() message = select(2, pool:claim { timeout_ms = 100 }) end)
    town:advance(150)
    assert.matches("1 connecting, failing: db1 %(the attempt took too long%)%): ", message)
    finish()
  end)
end)
