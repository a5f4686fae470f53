--- Claims that can never be served are refused when the last of them begins to wait; nobody else is.
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local with = require "spec.support.with"

local GRAPHS = tonumber(os.getenv "CUEBALL_GRAPHS") or 500

local world

local function pool_of(size, options)
  return cueball.pool(with({
    host = world, max_connections = size, connect = function() return {} end, drain_timeout_ms = 0,
    resolver = cueball.resolver.static { "10.0.0.1:80" },
  }, options))
end

before_each(function() world = sim.new { seed = 1 } end)

after_each(function() world.close() end)

-- What the second claims of some tasks came to, each of which holds a lease of the first pool it names: "a: deadlock" …
local function nested(tasks)
  local told = {}
  for index, task in ipairs(tasks) do
    world.spawn(function()
      world.sleep(index)
      local first = task[1]:claim()
      world.sleep(10)
      local second, message, name = task[2]:claim(task[3])
      told[#told + 1] = ("%d: %s"):format(index, second and "served" or name)
      told.message = name == "deadlock" and message or told.message
      if second then second:release() end
      first:release()
    end)
  end
  world.advance(1000)
  return told
end

describe("a deadlock", function()
  it("of tasks that nest claims on one pool is told to the last", function()
    local pool = pool_of(3, { name = "db" })
    assert.same({ "3: deadlock", "1: served", "2: served" }, { unpack(nested { { pool, pool }, { pool, pool }, { pool, pool } }) })
    assert.equal(1, pool:stats().claims_cancelled)
    pool:stop()
  end)

  it("over several pools is told, with the chain and the places known", function()
    local a, b, c = pool_of(1, { name = "a", claim_sites = true }), pool_of(1, { name = "b" }), pool_of(1, { name = "c" })
    local told = nested { { a, b }, { b, c }, { c, a } }
    assert.same({ "3: deadlock", "2: served", "1: served" }, { unpack(told) })
    assert.matches("^deadlock: the claim on a at spec/pool/deadlock_spec.lua:%d+ can never be served: "
      .. "10.0.0.1:80 is leased %(a, claimed at spec/pool/deadlock_spec.lua:%d+%) by a task that waits for a claim on b; "
      .. "10.0.0.1:80 is leased %(b%) by a task that waits for a claim on c; "
      .. "10.0.0.1:80 is leased %(c%) by a task that waits for this claim$", told.message)
    for _, pool in ipairs { a, b, c } do pool:stop() end
  end)

  it("of one task with itself is told, in with, in tables and in coroutines too", function()
    local pool = pool_of(1)
    world.run(function()
      world.sleep(10)
      local function assert_told(_, name, third) assert.equal("deadlock", third or name) end
      pool:with(function() assert_told(select(2, pool:claim())) end)
      pool:with(function() assert_told(select(2, pool:with(function() end))) end)
      local held = { deep = { down = { pool:claim() } } }
      assert_told(select(2, pool:claim()))
      held.deep.down[1]:release()
      coroutine.wrap(function()
        local lease = pool:claim()
        coroutine.wrap(function()
          world.sleep(5)
          assert_told(select(2, pool:claim()))
        end)()
        lease:release()
      end)()
      pool:claim({ timeout_ms = 1 }):release()
    end)
    pool:stop()
  end)

  it("is none if a task holds a lease and does not wait, or a limit ends before", function()
    local a, b, c = pool_of(2), pool_of(1), pool_of(1)
    assert.same({ "1: served", "2: served" }, nested { { a, a }, { b, a } })
    assert.same({ "1: claim_timeout", "2: served" }, nested { { b, c, { timeout_ms = 20 } }, { c, b } })
    for _, pool in ipairs { a, b, c } do pool:stop() end
  end)

  it("is told at once to a claim whose own limit ends first", function()
    local a, b = pool_of(1), pool_of(1)
    local told = nested { { a, b, { timeout_ms = 500 } }, { b, a, { timeout_ms = 100 } } }
    assert.same({ "2: deadlock", "1: served" }, { unpack(told) })
    a:stop()
    b:stop()
  end)

  it("is none while a connection is yet to come, or the queue refuses claims by itself", function()
    world.server("10.0.0.1", 80, { connect_delay = 100 })
    local pool = pool_of(2, { connect = cueball.connection.tcp {} })
    world.at(50, function() world.server("10.0.0.2", 80) end)
    world.run(function()
      world.sleep(101)
      local first, second = pool:claim(), pool:claim()
      second:close()
      local third = pool:claim()
      assert.is_table(third)
      first:release()
      third:release()
    end)
    pool:stop()
    local codel = pool_of(1, { queue = "codel", target_claim_delay_ms = 5 })
    world.run(function()
      local lease = codel:claim()
      assert.equal("claim_timeout", (select(3, codel:claim { timeout_ms = 10 })))
      lease:release()
    end)
    codel:stop()
  end)

  it("is none where the lease's backend was removed: another connection may come", function()
    local sink
    local pool = pool_of(1, { resolver = function(given)
      sink = given
      given:add "10.0.0.1:80"
      given:sleep(math.huge)
    end })
    world.run(function()
      local lease = pool:claim()
      sink:set { "10.0.0.2:80" }
      local other = assert(pool:claim())
      assert.equal("10.0.0.2:80", other:backend().key)
      assert.equal("deadlock", (select(3, pool:claim())))
      other:release()
      lease:release()
      lease = pool:claim()
      sink:remove "10.0.0.2:80"
      assert.equal("claim_timeout", (select(3, pool:claim { timeout_ms = 5000 })))
      lease:release()
    end)
    pool:stop()
  end)

  it("is none where another task may end the owner of a lease or a claim", function()
    local a, b = pool_of(1), pool_of(1)
    local told = {}
    local function nest(first, first_owner, second, second_owner)
      world.spawn(function()
        local lease = first:claim { owner = first_owner }
        world.sleep(10)
        local other, _, name = second:claim { owner = second_owner }
        told[#told + 1] = other and "served" or name
        if other then other:release() end
        lease:release()
      end)
    end
    for _, is_for in ipairs { "lease", "claim", "nothing" } do
      local owner = a:owner()
      world.spawn(function()
        world.sleep(100)
        if is_for ~= "nothing" then owner:gone() end
      end)
      nest(a, is_for == "lease" and owner or nil, b)
      nest(b, nil, a, is_for == "claim" and owner or nil)
      world.advance(200)
    end
    assert.same({ "served", "served", "cancelled", "served", "deadlock", "served" }, told)
    a:stop()
    b:stop()
  end)

  it("is none where a lease was put into a table that another task may take it from", function()
    local pool = pool_of(1)
    local box, queue, told = {}, {}, {}
    world.spawn(function()
      world.sleep(50)
      box.lease:release()
      while #queue == 0 do world.sleep(10) end
      world.sleep(20)
      table.remove(queue):release()
    end)
    world.spawn(function()
      box.lease = pool:claim()
      do
        local second, _, name = pool:claim()
        told[1] = second and "served" or name
        queue[1] = second
      end
      local third, _, why = pool:claim()
      told[2] = third and "served" or why
      if third then third:release() end
    end)
    world.advance(1000)
    assert.same({ "served", "served" }, told)
    pool:stop()
  end)

  it("is none where leases were handed on to other tasks", function()
    local pool, done = pool_of(2), 0
    world.run(function()
      for _ = 1, 10 do
        local lease = pool:claim()
        world.spawn(function(mine)
          world.sleep(20)
          mine:release()
          done = done + 1
        end, lease)
        lease = nil -- luacheck: ignore
      end
      world.sleep(100)
    end)
    -- The same where the first task can reach them too.
    world.run(function()
      local kept = {} -- luacheck: ignore
      for index = 1, 10 do
        local lease = pool:claim()
        kept[index] = lease
        world.spawn(function()
          world.sleep(20)
          lease:release()
          done = done + 1
        end)
      end
      world.sleep(100)
    end)
    assert.equal(20, done)
    pool:stop()
  end)

  it("is not looked for where that is turned off", function()
    local pool = pool_of(1, { deadlock_detection = false })
    assert.same({ "1: claim_timeout" }, nested { { pool, pool, { timeout_ms = 100 } } })
    pool:set { deadlock_detection = true }
    assert.same({ "1: deadlock" }, { unpack(nested { { pool, pool, { timeout_ms = 100 } } }) })
    assert.has_error(function() pool:set { deadlock_detection = 1 } end)
    pool:stop()
  end)

  it("leaves no claim behind that was killed or whose owner is gone", function()
    local a, b = pool_of(1), pool_of(1)
    local owner = b:owner()
    local killed = world.spawn(function()
      local lease = a:claim()
      b:with(function() a:claim { timeout_ms = 5 } end)
      b:claim { owner = owner }
      lease:release()
    end)
    world.advance(50)
    owner:gone()
    world.advance(1)
    world.kill(killed)
    world.advance(1)
    assert.same({ 0, 0, 0, 0 }, { a:stats().busy, a:stats().waiting, b:stats().busy, b:stats().waiting })
    a:stop()
    b:stop()
  end)
end)

-- ------------------------------------------------------------ random graphs --

-- What there is to know, kept by the tasks themselves: who holds how much of which pool, who waits for which, until when.
local Graph = {}
Graph.__index = Graph

-- When each task can go on at the earliest: a fixed point over its limit and the tasks that hold what it waits for.
function Graph:times()
  local times = {}
  for task, wait in pairs(self.waits) do times[task] = wait.deadline end
  local has_changed = true
  while has_changed do
    has_changed = false
    for task, wait in pairs(self.waits) do
      for holder in pairs(self.holders[wait.pool]) do
        local time = self.waits[holder] and times[holder] or -1
        if time < times[task] then times[task], has_changed = time, true end
      end
    end
  end
  return times
end

function Graph:is_doomed(task, pool, deadline)
  self.waits[task] = { pool = pool, deadline = deadline }
  local times, least = self:times(), math.huge
  for holder in pairs(self.holders[pool]) do
    if holder ~= task then least = math.min(least, self.waits[holder] and times[holder] or -1) end
  end
  self.waits[task] = nil
  return least >= deadline
end

function Graph:take(task, pool)
  local holders = self.holders[pool]
  holders[task] = (holders[task] or 0) + 1
  self.used[pool] = self.used[pool] + 1
end

-- A lease goes back: to the one that has waited longest, whose task may not have run when others ask.
function Graph:give(task, pool)
  local holders, queue = self.holders[pool], self.queues[pool]
  holders[task] = holders[task] > 1 and holders[task] - 1 or nil
  self.used[pool] = self.used[pool] - 1
  local now = world.time_ms()
  while queue[1] do
    local first = table.remove(queue, 1)
    if self.waits[first.task] == first and first.deadline > now then
      self.waits[first.task] = nil
      return self:take(first.task, pool)
    end
  end
end

-- One task: claims, gives back, and sleeps, as chance has it.
function Graph:live(task, pools)
  local held = {}
  for _ = 1, 12 do
    local luck = world.random()
    if luck < 0.3 and #held > 0 then
      local one = table.remove(held, math.floor(world.random(1, #held + 1)))
      self:give(task, one.pool)
      one.lease:release()
    elseif luck < 0.5 then
      world.sleep(world.random(0, 10))
    else
      self:claim(task, pools[math.floor(world.random(1, #pools + 1))], held)
    end
  end
  for _, one in ipairs(held) do
    self:give(task, one.pool)
    one.lease:release()
  end
end

function Graph:claim(task, pool, held)
  local limit = world.random() < 0.4 and world.random(1, 50) or nil
  local deadline = limit and world.time_ms() + limit or math.huge
  local must_wait, is_doomed = self.used[pool] >= self.sizes[pool], false
  if must_wait then
    is_doomed = self:is_doomed(task, pool, deadline)
    if not is_doomed then
      local wait = { task = task, pool = pool, deadline = deadline }
      self.waits[task] = wait
      table.insert(self.queues[pool], wait)
    end
  else
    self:take(task, pool)
  end
  local lease, message, name = pool:claim { timeout_ms = limit }
  self.waits[task] = nil
  if name == "deadlock" ~= is_doomed then
    error(("task %d at %.3f ms: %s, told %s"):format(task, world.time_ms(), is_doomed and "can never be served" or "can be served",
      tostring(message)), 0)
  end
  self.told = self.told + (is_doomed and 1 or 0)
  if lease then held[#held + 1] = { pool = pool, lease = lease } end
end

describe("random lock graphs", function()
  it("have no deadlock that is missed, and none that is told wrongly", function()
    local told = 0
    sim.for_seeds(GRAPHS, function(one)
      world = one
      local graph = setmetatable({ holders = {}, waits = {}, queues = {}, used = {}, sizes = {}, told = 0 }, Graph)
      local pools = {}
      for index = 1, math.floor(world.random(1, 5)) do
        local size = math.floor(world.random(1, 4))
        local pool = pool_of(size)
        pools[index], graph.sizes[pool], graph.used[pool] = pool, size, 0
        graph.holders[pool], graph.queues[pool] = {}, {}
      end
      world.run(function()
        world.sleep(10)
        local left, done = math.floor(world.random(2, 8)), world.waiter()
        for task = 1, left do
          world.spawn(function()
            graph:live(task, pools)
            left = left - 1
            if left == 0 then done:wake() end
          end)
        end
        if left > 0 then done:wait() end
        for _, pool in ipairs(pools) do
          assert(pool:stats().busy == 0 and pool:stats().waiting == 0)
          pool:stop()
        end
      end)
      told = told + graph.told
    end, { stall_ms = 1e6 })
    assert.is_true(told > GRAPHS / 5, told)
  end)
end)
