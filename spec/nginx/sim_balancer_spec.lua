--- Balancers in virtual time: where requests go, as peers come, go, die and are slow.
local collect = require "spec.support.collect"
local sim = require "cueball.host.sim"
local balancer = require "cueball.nginx.balancer"

-- A balancer in a simulated world, and requests through a pretended nginx.
local Town = {}
Town.__index = Town

local function backends(...)
  local list = {}
  for number = 1, select("#", ...) do
    local one = select(number, ...)
    list[number] = type(one) == "table" and one or { weight = one }
    list[number].key, list[number].address, list[number].port = "b" .. number, "10.0.0." .. number, 80
  end
  return list
end

local function new_town(options, list)
  local self = setmetatable({ world = sim.new { seed = options.seed or 1 }, counts = {}, errors = 0, behaviour = {} }, Town)
  -- What stands for nginx's request that runs now.
  self.proxy = {
    context = function() return self.request.ctx end,
    go_to = function(address, port)
      self.request.peer = "b" .. address:match "(%d+)$"
      assert(port == 80)
      return true
    end,
    more_tries = function(count) self.request.more = count end,
    last_try = function() return self.request.last end,
    outcome = function() return self.request.outcome, self.request.took_ms, self.request.status end,
    refuse = function() self.request.status = 502 end,
  }
  local given = { seed = 1, name = "api", host = setmetatable({ proxy = self.proxy }, { __index = self.world }) }
  given.resolver = function(sink)
    self.sink = sink
    sink:set(list)
    sink:sleep(math.huge)
  end
  for name, value in pairs(options) do given[name] = value end
  self.balancer = balancer.new(given)
  self.world.settle()
  return self
end

-- Proxies one request as nginx does: tries peers until one answers, or there are no more tries. What a peer does: ms = how long it takes;
-- fails = true (it breaks the connection) or "next" (it answers so that nginx tries the next); status = what it answers.
function Town:proxied()
  local request = { ctx = {}, more = 0 }
  local tried = {}
  while true do
    self.request = request
    local peer = self.balancer:balance()
    if not peer then break end
    local to = request.peer
    tried[#tried + 1] = to
    self.counts[to] = (self.counts[to] or 0) + 1
    local behaviour = self.behaviour[to] or {}
    local ms = behaviour.ms or 1
    if type(ms) == "function" then ms = ms() end
    self.world.sleep(ms)
    request.took_ms = ms
    if not behaviour.fails then
      request.outcome, request.status = true, behaviour.status or 200
      break
    end
    request.last = behaviour.fails == "next"
    request.outcome = request.last
    if request.more == 0 then request.status = request.last and 404 or 502 break end
    request.more = request.more - 1
  end
  self.request = request
  self.balancer:report()
  if request.status ~= 200 then self.errors = self.errors + 1 end
  return request.status, table.concat(tried, " ")
end

-- So many clients, one request after the other each, for so long.
function Town:load(clients, lasts_ms)
  local ends = self.world.time_ms() + lasts_ms
  for _ = 1, clients do
    self.world.spawn(function()
      while self.world.time_ms() < ends do
        self:proxied()
        self.world.sleep(1)
      end
    end)
  end
  self.world.advance(lasts_ms + 1000)
end

function Town:run(fn) return self.world.run(fn) end

function Town:one() return self:run(function() return self:proxied() end) end

function Town:spread(total)
  self.counts = {}
  for _ = 1, total do self:one() end
  return self.counts
end

local function state(town, key)
  for _, peer in ipairs(town.balancer:peers()) do
    if peer.key == key then return peer end
  end
end

describe("the face", function()
  it("has the balancer and the monitor, and nothing that is not there", function()
    local cueball = require "cueball"
    assert.equal(balancer.new, cueball.balancer)
    assert.equal(require "cueball.monitor", cueball.monitor)
    assert.is_nil(cueball.balance)
  end)
end)

describe("a balancer", function()
  it("goes by weights, smoothly", function()
    local town = new_town({ balance = "rr" }, backends(5, 1, 1))
    local order = {}
    for index = 1, 14 do
      local _, tried = town:one()
      order[index] = tried
    end
    assert.equal("b1 b1 b2 b1 b3 b1 b1 b1 b1 b2 b1 b3 b1 b1", table.concat(order, " "))
  end)

  it("follows the resolver: weights, peers that come and go", function()
    local town = new_town({ balance = "rr" }, backends(1, 1))
    town:one()
    town.sink:set(backends(3, 1))
    assert.same({ b1 = 30, b2 = 10 }, town:spread(40))
    town.sink:remove "b1"
    assert.same({ b2 = 10 }, town:spread(10))
    town.sink:add { key = "b3", address = "10.0.0.3", port = 80 }
    assert.same({ b2 = 5, b3 = 5 }, town:spread(10))
    town.sink:add { key = "b3", address = "10.0.0.4", port = 80 }
    assert.same({ b2 = 5, b4 = 5 }, town:spread(10))
  end)

  it("tries another peer when one fails, and no error reaches the client", function()
    local town = new_town({ balance = "rr", attempts = 2 }, backends(1, 1, 1))
    town.behaviour.b1 = { fails = true }
    local status, tried = town:one()
    assert.equal(200, status)
    assert.equal("b1 b2", tried)
    assert.is_false(state(town, "b1").dead)
    for _ = 1, 20 do assert.equal(200, (town:one())) end
    assert.is_true(state(town, "b1").dead)
    assert.equal(2, town.counts.b1)
    assert.matches("b1 is dead after 2 failures in a row", town.world.logs[#town.world.logs].message)
  end)

  it("tries a dead peer after a pause that grows, one request at a time, until it lives", function()
    local town = new_town({ balance = "rr", attempts = 1, delay_ms = 1000, max_delay_ms = 4000, spread = 0 }, backends(1, 1))
    town.behaviour.b1 = { fails = true }
    local tries, before = {}, 0
    for _ = 1, 2000 do
      town:one()
      town.world.advance(9)
      if (town.counts.b1 or 0) > before then
        before = town.counts.b1
        tries[#tries + 1] = math.floor(town.world.time_ms() / 100 + 0.5) / 10
      end
    end
    assert.same({ 0, 1, 3, 7, 11, 15, 19 }, { unpack(tries, 1, 7) })
    assert.equal(0, town.errors)
    town.behaviour.b1 = { ms = 50 }
    town.world.advance(5000)
    town.counts = {}
    for _ = 1, 10 do town.world.spawn(function() town:proxied() end) end
    town.world.advance(20)
    assert.equal(1, town.counts.b1)
    town.world.advance(100)
    assert.is_false(state(town, "b1").dead)
    assert.same({ b1 = 5, b2 = 5 }, town:spread(10))
  end)

  it("tries the dead ones if there are no others, that first whose pause ends first", function()
    local town = new_town({ balance = "rr", attempts = 1, spread = 0, tries = 2 }, backends(1, 1))
    town.behaviour.b1, town.behaviour.b2 = { fails = true }, { fails = true }
    assert.equal(502, (town:one()))
    assert.is_true(state(town, "b1").dead and state(town, "b2").dead)
    town.behaviour.b1 = nil
    local status, tried = town:one()
    assert.equal(200, status)
    assert.equal("b1", tried)
    assert.equal(200, (town:one()))
  end)

  it("does not hold an answer against a peer, though nginx tries the next", function()
    local town = new_town({ balance = "rr", attempts = 1 }, backends(1, 1))
    town.behaviour.b1 = { fails = "next" }
    for _ = 1, 10 do town:one() end
    assert.is_false(state(town, "b1").dead)
    assert.equal(0, state(town, "b1").failed)
  end)

  it("refuses where there is nobody, and says why", function()
    local town = new_town({}, {})
    local status = town:one()
    assert.equal(502, status)
    assert.matches("a request was refused: no backend is known", town.world.logs[#town.world.logs].message)
  end)

  it("never sends a request to the peer that just failed it, though it is its turn", function()
    local town = new_town({ balance = "rr", attempts = 100 }, backends(9, 1))
    town.behaviour.b1 = { fails = true }
    for _ = 1, 30 do
      local status, tried = town:one()
      assert.equal(200, status)
      assert.is_true(tried == "b1 b2" or tried == "b2", tried)
    end
  end)

  it("tries of dead ones that first whose pause ends first", function()
    local town = new_town({ balance = "rr", attempts = 1, spread = 0, delay_ms = 1000 }, backends(1, 1, 1))
    town.behaviour = { b1 = { fails = true }, b2 = { fails = true }, b3 = { fails = true } }
    town.request = { ctx = {} }
    for _, key in ipairs { "b2", "b3", "b1" } do
      local set = town.balancer.set
      set:ended(set:began(set.by_key[key]), false)
      town.world.advance(10)
    end
    local _, tried = town:one()
    assert.equal("b2 b3 b1", tried)
  end)

  it("asks for as many more tries as there are others, and no more than it may", function()
    local town = new_town({ balance = "rr", tries = 10 }, backends(1, 1, 1))
    town:one()
    assert.equal(2, town.request.more)
    town = new_town({ balance = "rr", tries = 2 }, backends(1, 1, 1))
    town:one()
    assert.equal(1, town.request.more)
    town = new_town({ balance = "rr" }, backends(1))
    town:one()
    assert.equal(0, town.request.more)
  end)

  it("never tries the same peer twice", function()
    local town = new_town({ balance = "rr", tries = 10 }, backends(1, 1, 1))
    for number = 1, 3 do town.behaviour["b" .. number] = { fails = true } end
    local status, tried = town:one()
    assert.equal(502, status)
    assert.equal("b1 b2 b3", tried)
  end)

  it("prefers better priorities, and comes back to them", function()
    local list = backends({ priority = 1 }, { priority = 1 }, { priority = 2 })
    local town = new_town({ balance = "rr", attempts = 1, spread = 0 }, list)
    assert.same({ b1 = 5, b2 = 5 }, town:spread(10))
    town.behaviour.b1, town.behaviour.b2 = { fails = true }, { fails = true }
    assert.equal(200, (town:one()))
    assert.same({ b3 = 10 }, town:spread(10))
    town.behaviour = {}
    town.world.advance(2000)
    town:spread(2)
    assert.same({ b1 = 5, b2 = 5 }, town:spread(10))
    local ignored = new_town({ balance = "rr", priorities = "ignored" }, list)
    assert.same({ b1 = 3, b2 = 3, b3 = 3 }, ignored:spread(9))
  end)

  it("gives a slow peer less by p2c, and finds out that it is fast again", function()
    local town = new_town({ balance = "p2c" }, backends(1, 1, 1))
    town.behaviour = { b1 = { ms = 10 }, b2 = { ms = 10 }, b3 = { ms = 100 } }
    town:load(20, 20000)
    local counts = town.counts
    assert.is_true(counts.b3 < counts.b1 / 5 and counts.b3 < counts.b2 / 5, ("%d %d %d"):format(counts.b1, counts.b2, counts.b3))
    assert.is_true(math.abs(counts.b1 - counts.b2) < counts.b1 / 5)
    town.behaviour.b3 = { ms = 10 }
    town:load(20, 40000)
    town.counts = {}
    town:load(20, 20000)
    assert.is_true(town.counts.b3 > town.counts.b1 / 2, "it is still left out")
  end)

  it("shows how slow each is and how often it works: a peak at once, and it comes down from that with time", function()
    local town = new_town({ balance = "p2c" }, backends(1))
    local function after(ms, status, wait_ms)
      town.behaviour.b1 = { ms = ms, status = status }
      town.world.advance(wait_ms or 0)
      town:one()
      return state(town, "b1").latency_ms, state(town, "b1").success_rate
    end
    assert.same({ nil, 1 }, { state(town, "b1").latency_ms, state(town, "b1").success_rate })
    assert.same({ 10, 1 }, { after(10) })
    assert.same({ 100, 1 }, { after(100) })
    assert.near(0.75 * 100 + 0.25 * 10, after(10), 1e-9) -- a quarter at least
    assert.near(77.5 / math.exp(1) + 10 * (1 - 1 / math.exp(1)), after(10, 200, 9990), 1e-3)
    local latency, rate = after(1, 503)
    assert.near(34.8319, latency, 1e-3) -- quick, but no answer
    assert.near(0.75, rate, 1e-3)
    assert.same({ 500, true }, { after(500, 503), select(2, after(500, 503)) < 0.5 })
    assert.equal(0, state(town, "b1").failed)
    local plain = new_town({ balance = "rr" }, backends(1))
    plain:one()
    assert.is_nil(state(plain, "b1").latency_ms)
    assert.is_nil(state(plain, "b1").success_rate)
  end)

  for name, behaviour in pairs {
    ["answers 503"] = { status = 503 }, ["answers 429"] = { status = 429 }, ["breaks the connection"] = { fails = true },
    ["answers so that the next is tried"] = { fails = "next" },
  } do
    it("is not drawn by p2c to a peer that at once " .. name, function()
      for _, clients in ipairs { 1, 30 } do
        for _, weights in ipairs { { 1, 3 }, { 1, 1, 1 } } do
          local town = new_town({ balance = "p2c", attempts = 1000 }, backends(unpack(weights)))
          for number in ipairs(weights) do town.behaviour["b" .. number] = { ms = 30 } end
          town.behaviour.b2.ms = 1
          for key, value in pairs(behaviour) do town.behaviour.b2[key] = value end
          town:load(clients, 20000)
          local told = ("%d of %d clients'"):format(town.counts.b2, clients)
          assert.is_true(town.counts.b2 >= 2 and town.counts.b2 <= 22 + clients, told) -- some at first, then one a second at most
          assert.is_true(town.counts.b1 > 200 * clients, told)
          town.behaviour.b2 = { ms = 30 }
          town:load(clients, 20000)
          town.counts = {}
          town:load(clients, 10000)
          assert.is_true(town.counts.b2 > 0.6 * town.counts.b1, ("%d, %d once it works"):format(town.counts.b1, town.counts.b2))
        end
      end
    end)
  end

  it("takes all evenly by p2c if all answer an error, and does not weigh what the client did wrong or the user calls well", function()
    local town = new_town({ balance = "p2c" }, backends(1, 1, 1))
    for number = 1, 3 do town.behaviour["b" .. number] = { status = 500, ms = 1 } end
    town:load(10, 5000)
    for number = 1, 3 do assert.is_true(math.abs(town.counts["b" .. number] - 8333) < 900, town.counts["b" .. number]) end
    town = new_town({ balance = "p2c" }, backends(1))
    town.behaviour.b1 = { status = 404 }
    town:one()
    assert.equal(1, state(town, "b1").success_rate)
    town.request = { ctx = {}, outcome = true, status = 503, took_ms = 3 }
    town.balancer:balance()
    town.balancer:report(true)
    assert.equal(1, state(town, "b1").success_rate)
    town.request = { ctx = {}, outcome = nil, status = 499 }
    town.balancer:balance()
    town.balancer:report()
    assert.equal(1, state(town, "b1").success_rate)
  end)

  it("goes by weights under load by p2c too", function()
    local town = new_town({ balance = "p2c" }, backends(3, 1))
    town.behaviour = { b1 = { ms = 10 }, b2 = { ms = 10 } }
    town:load(40, 20000)
    local ratio = town.counts.b1 / town.counts.b2
    assert.is_true(ratio > 2 and ratio < 4.5, "3 : 1 came out as " .. ratio)
  end)

  it("counts requests under way, and forgets those nobody told the end of", function()
    local town = new_town({ balance = "rr" }, backends(1))
    town.behaviour.b1 = { ms = 100 }
    town.world.spawn(function() town:proxied() end)
    assert.equal(1, state(town, "b1").pending)
    town.world.advance(200)
    assert.equal(0, state(town, "b1").pending)
    for _ = 1, 10 do
      town.request = { ctx = {} }
      town.balancer:balance()
    end
    town.request = nil
    assert.equal(10, state(town, "b1").pending)
    collect()
    town.world.advance(1000)
    town:one()
    assert.equal(0, state(town, "b1").pending)
  end)

  it("takes a try whose dead peer nobody heard of again as over", function()
    local town = new_town({ balance = "rr", attempts = 1, spread = 0 }, backends(1, 1))
    town.behaviour.b1 = { fails = true }
    town:one()
    town.world.advance(1001)
    town.request = { ctx = {} }
    assert.equal("b1", town.balancer:balance().key)
    town.request = nil
    collect()
    town.behaviour.b1 = nil
    town.world.advance(1001)
    town:one()
    assert.is_false(state(town, "b1").dead)
  end)

  it("believes a report that says how it went", function()
    local town = new_town({ balance = "rr", attempts = 1 }, backends(1, 1))
    town.request = { ctx = {}, outcome = true, took_ms = 3 }
    local peer = town.balancer:balance()
    town.balancer:report(false, 12)
    assert.is_true(state(town, peer.key).dead)
    assert.is_true(town.balancer:report(false, 12)) -- once
    assert.equal(1, state(town, peer.key).failed)
  end)

  it("does not blame a peer for a client that left", function()
    local town = new_town({ balance = "rr", attempts = 1 }, backends(1))
    town.request = { ctx = {}, outcome = nil }
    town.balancer:balance()
    town.balancer:report()
    assert.same({ false, 0, 0 }, { state(town, "b1").dead, state(town, "b1").failed, state(town, "b1").pending })
  end)

  it("goes on while the resolver fails, and ends it", function()
    local town = new_town({ balance = "rr" }, backends(1, 1))
    town.sink:fail "no answer"
    assert.equal("resolver: no answer", town.balancer:last_error())
    assert.same({ b1 = 5, b2 = 5 }, town:spread(10))
    town.balancer:stop()
    town.world.advance(10)
    assert.is_nil((town.sink:add { address = "10.0.0.9", port = 80 }))
    assert.equal("cueball.balancer (api, 2 peers)", tostring(town.balancer))
  end)

  it("is told what is wrong with its options", function()
    local function blamed(text, given)
      local ok, message = pcall(function() balancer.new(given) end)
      assert.is_false(ok)
      assert.matches("balancer_spec.lua:%d+: cueball.balancer: ", message)
      assert.matches(text, message)
    end
    local function resolver() end
    blamed("'resolver' is required", {})
    blamed("'resolver' is required", nil)
    blamed('did you mean \'balance\'', { resolver = resolver, balanc = "rr" })
    blamed('must be "p2c" or "rr", not "random"', { resolver = resolver, balance = "random" })
    blamed("'tries' must be a whole number from 1 to 100", { resolver = resolver, tries = 0 })
    blamed("'max_delay_ms' must be at least delay_ms", { resolver = resolver, delay_ms = 10, max_delay_ms = 5 })
    blamed("this host proxies no requests", { resolver = resolver, host = sim.new {} })
  end)
end)
