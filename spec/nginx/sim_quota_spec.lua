--- A cap over all workers: the deal, the ledger with members that die between any two steps, and pools of several workers on one server.
local sim = require "cueball.host.sim"
local cueball = require "cueball"
local deal = require "cueball.nginx.quota.deal"
local ledger = require "cueball.nginx.quota.ledger"
local shared_dict = require "cueball.nginx.shared_dict"
local with = require "spec.support.with"

-- A shared dict as ngx.shared.DICT. Before each step `step()` is called, if there is one, which may throw: the process was killed there.
local function new_dict(now_ms)
  local dict, keys = { step = nil }, {}
  local function fresh(key)
    if dict.step then dict.step() end
    local one = keys[key]
    if one and one.ends and now_ms() >= one.ends then keys[key], one = nil, nil end
    return one
  end
  function dict:get(key)
    local one = fresh(key)
    return one and one.value
  end
  function dict:set(key, value)
    fresh(key)
    keys[key] = { value = value }
    return true
  end
  function dict:safe_add(key, value, seconds)
    if fresh(key) then return nil, "exists" end
    keys[key] = { value = value, ends = seconds and now_ms() + seconds * 1000 }
    return true
  end
  function dict:delete(key)
    fresh(key)
    keys[key] = nil
  end
  function dict:incr(key, by, first)
    local one = fresh(key)
    keys[key] = { value = (one and one.value or first) + by }
    return keys[key].value
  end
  -- How many keys begin so, and whose they are.
  function dict.count(prefix)
    local count, of = 0, {}
    for key, one in pairs(keys) do
      if key:sub(1, #prefix) == prefix then
        count = count + 1
        of[one.value] = (of[one.value] or 0) + 1
      end
    end
    return count, of
  end
  function dict.evict(key) keys[key] = nil end
  return dict
end

local function open_ledger(given)
  local memory = {}
  for name, value in pairs(given) do memory[name] = value end
  memory.is_id = given.is_id or function() return true end
  return ledger.open { memory = shared_dict.open(memory), cap = given.cap }
end

describe("a deal", function()
  it("gives everybody what they need while there is enough", function()
    assert.same({ 2, 0, 5 }, deal.shares(10, { 2, 0, 5 }, 0))
  end)

  it("gives nobody more than another who needs more", function()
    assert.same({ 2, 4, 4 }, deal.shares(10, { 2, 9, 7 }, 0))
    assert.same({ 3, 4 }, deal.shares(7, { 9, 9 }, 0))
  end)

  it("has turns where there is not one for each", function()
    assert.same({ 1, 1, 0 }, deal.shares(2, { 5, 5, 5 }, 0))
    assert.same({ 1, 0, 1 }, deal.shares(2, { 5, 5, 5 }, 1))
    assert.same({ 0, 1, 1 }, deal.shares(2, { 5, 5, 5 }, 2))
  end)

  it("spreads what nobody needs over those who would like it", function()
    local shares, full = deal.both(10, { 6, 1, 1 }, { 6, 4, 4 }, 0)
    assert.same({ 6, 1, 1 }, shares)
    assert.same({ 6, 2, 2 }, full)
  end)

  it("has those give back who have more than their share, as much as others lack", function()
    assert.same({ 3, 0 }, deal.yields({ 10, 0 }, { 5, 3 }, 0))
    assert.same({ 1, 0 }, deal.yields({ 8, 0 }, { 5, 3 }, 2))
    assert.same({ 0, 0 }, deal.yields({ 8, 2 }, { 5, 2 }, 0))
  end)

  it("never deals more than there is, and never leaves what somebody wants", function()
    math.randomseed(5)
    for _ = 1, 3000 do
      local cap, needs, wishes = math.random(1, 40), {}, {}
      for index = 1, math.random(1, 9) do
        needs[index] = math.random(0, 20)
        wishes[index] = needs[index] + math.random(0, 10)
      end
      local shares, full = deal.both(cap, needs, wishes, math.random(0, 100))
      local sum, all, wished, lowest, highest = 0, 0, 0, math.huge, 0
      for index = 1, #needs do
        sum, all, wished = sum + shares[index], all + full[index], wished + wishes[index]
        assert.is_true(shares[index] >= 0 and shares[index] <= needs[index] and full[index] >= shares[index])
        if shares[index] < needs[index] then lowest = math.min(lowest, shares[index]) end
        highest = math.max(highest, shares[index])
      end
      assert.is_true(sum <= cap and all <= cap)
      assert.is_true(highest <= lowest + 1, "one who needs more has less")
      assert.equal(math.min(cap, wished), all)
    end
  end)
end)

-- Members of a ledger that take, give and die at random, between any two steps on the dict.
local function random_ledger(seed, cap, steps)
  math.randomseed(seed)
  local time, alive, members, count = 0, {}, {}, 0
  local dict = new_dict(function() return time end)
  local function join()
    count = count + 1
    local id = "w" .. count
    alive[id] = true
    members[#members + 1] = open_ledger {
      dict = dict, prefix = "q:", cap = cap, id = id, now = function() return time end,
      is_alive = function(of) return alive[of] == true end, log = function() end,
    }
  end
  for _ = 1, 4 do join() end
  for _ = 1, steps do
    time = time + math.random(0, 300)
    local index = math.random(#members)
    local member = members[index]
    local fuse = math.random() < 0.05 and math.random(1, 12) or math.huge
    dict.step = function()
      fuse = fuse - 1
      if fuse <= 0 then error "killed" end
    end
    local survived = pcall(function()
      local kind = math.random(4)
      if kind == 1 then member:take(math.random(1, 3)) elseif kind == 2 then member:give(math.random(1, 3)) end
      member:publish(math.random(0, cap), math.random(0, cap), false)
      member:members()
      member:verify()
    end)
    dict.step = nil
    if not survived then
      alive[member.id] = nil
      table.remove(members, index)
      join()
    end
    local total = 0
    for _, each in ipairs(members) do
      total = total + each.held
      local _, of = dict.count "q:token:"
      assert.equal(each.held, of[each.id] or 0)
    end
    assert.is_true(total <= cap, "more tokens than there may be")
  end
  return members, dict, function(ms) time = time + ms end
end

describe("a ledger", function()
  it("holds while members are killed between any two steps", function()
    for seed = 1, 100 do
      local members, dict, wait = random_ledger(seed, 12, 200)
      -- Everything that dead ones held comes back.
      for _ = 1, 3 do
        wait(1500)
        for _, member in ipairs(members) do
          member:publish(0, 0, false)
          member:members()
        end
      end
      local total = 0
      for _, member in ipairs(members) do total = total + member.held end
      assert.equal(total, (dict.count "q:token:"), "seed " .. seed)
      assert.equal(12 - total, members[1]:take(100), "seed " .. seed)
    end
  end)

  -- Two or three at once, each stopped before any step on the dict while others go on; some never go on.
  it("holds while members run at the same time", function()
    for seed = 1, 80 do
      math.randomseed(seed)
      local time, alive, members, cap = 0, {}, {}, 4
      local dict = new_dict(function() return time end)
      dict.step = function()
        if coroutine.running() then coroutine.yield() end
      end
      local function join(id)
        alive[id] = true
        local member = open_ledger {
          dict = dict, prefix = "q:", cap = cap, id = id, now = function() return time end,
          is_alive = function(of) return alive[of] == true end, log = function() end,
        }
        members[id] = { ledger = member, thread = coroutine.create(function()
          while true do
            member:publish(2, 2, false)
            member:members()
            if math.random(3) == 1 then member:take(2) elseif math.random(4) == 1 then member:give(1) end
          end
        end) }
      end
      for number = 1, 4 do join("w" .. number) end
      for step = 1, 600 do
        time = time + math.random(0, 40)
        local ids = {}
        for id in pairs(members) do ids[#ids + 1] = id end
        table.sort(ids)
        local id = ids[math.random(#ids)]
        if math.random(60) == 1 then
          alive[id], members[id] = nil, nil
          join(id .. "." .. step)
        else
          assert(coroutine.resume(members[id].thread))
        end
        local total = 0
        for _, member in pairs(members) do total = total + member.ledger.held end
        assert.is_true(total <= cap, ("seed %d: %d of %d"):format(seed, total, cap))
      end
    end
  end)

  local function one(dict, id, more)
    local given = {
      dict = dict, prefix = "q:", cap = 5, id = id, now = more.now, is_alive = more.is_alive or function() return true end,
      log = more.log or function() end, is_id = more.is_id,
    }
    return open_ledger(given)
  end

  it("believes in a silent member's death after a minute where nobody can tell, and not before", function()
    local time = 0
    local function now() return time end
    local dict = new_dict(now)
    local function cannot_tell() return nil end
    local a, b = one(dict, "a", { now = now, is_alive = cannot_tell }), one(dict, "b", { now = now, is_alive = cannot_tell })
    assert.equal(5, a:take(9))
    a:publish(5, 5, false)
    time = 59999
    b:members()
    assert.equal(0, b:take(1))
    time = 60000
    b:members()
    assert.equal(5, b:take(9))
  end)

  it("believes that a process lives as long as the system says so, however silent it is", function()
    local time = 0
    local function now() return time end
    local dict = new_dict(now)
    local a, b = one(dict, "a", { now = now }), one(dict, "b", { now = now })
    a:take(5)
    time = 1e9
    b:members()
    assert.equal(0, b:take(1))
  end)

  it("adds again what the dict threw away, and says when another has it", function()
    local said = {}
    local function now() return 0 end
    local dict = new_dict(now)
    local a = one(dict, "a", { now = now, log = function(_, message) said[#said + 1] = message end })
    local b = one(dict, "b", { now = now })
    a:take(5)
    dict.evict "q:token:2"
    dict.evict "q:token:4"
    assert.equal(1, b:take(1))
    assert.equal(1, a:verify())
    assert.equal(4, a.held)
    assert.matches("has lost 1 connections", said[1])
    assert.equal(5, (dict.count "q:token:"))
  end)
end)

-- What somebody else may have written over our keys.
local FOREIGN = { ["1e300"] = 1e300, ["-1e300"] = -1e300, NaN = 0 / 0, infinity = math.huge, half = 0.5, ["-1"] = -1, ["2^40"] = 2 ^ 40,
  text = "text", number = "7", empty = "", ["true"] = true, ["a line"] = "a|1|99999999999999999999|1e9|-5|0|2",
  ["a line with a cap"] = "w9|0|4000000000|9|9|9|0", ["a line of another time"] = "w9|99999999999999999|5|1|1|1|0" }
local KEYS = { "members", "changes", "member:1", "member:2", "member:3", "token:1", "token:3", "collected:w9:1", "heal:token:3", "token:3" }

describe("a ledger whose dict others write to", function()
  for name, value in pairs(FOREIGN) do
    it("heals, and says so once: " .. name, function()
      local time, said, alive = 0, {}, { w1 = true, w2 = true }
      local dict = new_dict(function() return time end)
      local function open(id)
        return open_ledger {
          dict = dict, prefix = "q:", cap = 5, id = id, now = function() return time end,
          is_alive = function(of) return alive[of] == true end, is_id = function(text) return text:find "^w%d$" ~= nil end,
          log = function(_, message) said[#said + 1] = message end,
        }
      end
      local a, b = open "w1", open "w2"
      local function turn(member, count)
        member:verify()
        member:members()
        member:take(count - member.held)
        member:publish(count, count, false)
        member:changes()
      end
      for _ = 1, 3 do
        for _, key in ipairs(KEYS) do
          dict:set("q:" .. key, value)
          for _ = 1, 8 do
            turn(a, 3)
            turn(b, 2)
            time = time + 1000
          end
          assert.same({ 3, 2 }, { a.held, b.held }, key)
          assert.equal(2, #a:members(), key)
        end
      end
      local count = {}
      for _, message in ipairs(said) do
        local of = message:match "foreign value at (%S-)%d* "
        if of then count[of] = (count[of] or 0) + 1 end
      end
      for of, times in pairs(count) do assert.is_true(times <= 2, of) end -- once for each of the two
    end)
  end

  it("frees the tokens of one that died after its place was thrown away", function()
    local time, alive = 0, { a = true, b = true }
    local dict = new_dict(function() return time end)
    local function open(id)
      return open_ledger { dict = dict, prefix = "q:", cap = 5, id = id, now = function() return time end,
        is_alive = function(of) return alive[of] == true end, log = function() end }
    end
    local a, b = open "a", open "b"
    a:take(4)
    dict.evict "q:member:1"
    assert.equal(1, b:take(3)) -- it lives, and may come back
    alive.a = nil
    time = 2500
    b:take(2)
    assert.equal(2, b:take(2))
  end)

  it("tells others of a member whose number of places was thrown away", function()
    local dict = new_dict(function() return 0 end)
    local time = 0
    local a = open_ledger { dict = dict, prefix = "q:", cap = 5, id = "a", now = function() return time end,
      is_alive = function() return true end, log = function() end }
    a:take(1)
    a:publish(1, 1, false)
    dict.evict "q:members"
    time = 1000
    a:publish(1, 1, false)
    assert.equal(1, dict:get "q:members")
  end)
end)

-- ---------------------------------------------------------------- workers --

-- Several workers of one server in one simulated world: each has a pool of its own, and may be killed.
local Town = {}
Town.__index = Town

local function new_town(options, seed)
  local world = sim.new { seed = seed or 1 }
  local self = setmetatable({ world = world, workers = {}, options = options, open = 0, most = 0, born = 0, served = 0 }, Town)
  self.dict = new_dict(function() return world.now() / 1e6 end)
  self.alive = {}
  for number = 1, options.servers or 1 do world.server("10.0.0." .. number, 7000) end
  return self
end

-- Every connection there is, from before it opens to after it closed: what a server could count.
function Town:factory(worker)
  local function count(by)
    self.open = self.open + by
    self.most = math.max(self.most, self.open)
  end
  return {
    connect = function(backend, context)
      count(1)
      local socket = context.host.tcp()
      local connection = { socket = socket, is_counted = true, is_leased = false }
      worker.connections[connection] = true
      function connection.uncount()
        if connection.is_counted then
          connection.is_counted, worker.connections[connection] = false, nil
          count(-1)
        end
      end
      function connection.use() -- one that was closed as below is opened anew by its claimer
        connection.is_leased = true
        if not connection.is_counted then
          connection.is_counted, worker.connections[connection] = true, true
          count(1)
        end
      end
      context.host.guard { abort = connection.uncount }
      local ok, message = socket:connect(backend.address, backend.port)
      if not ok or worker.is_exiting then connection.uncount() end
      if ok then return connection end
      return nil, message
    end,
    broken = function(connection) -- it comes back. A worker that exits parks nothing: what is not leased is closed
      connection.is_leased = false
      if worker.is_exiting then connection.uncount() end
    end,
    close = function(connection)
      self.world.sleep(self.options.close_ms or 0)
      connection.socket:close()
      connection.uncount()
    end,
  }
end

function Town:start()
  self.born = self.born + 1
  local world, id = self.world, "p" .. self.born
  local worker = { id = id, connections = {}, tasks = {}, is_exiting = false, on_exit = {} }
  self.alive[id] = true
  local workers = {
    name = function() return id end,
    is_name = function(name) return name:find "^p%d+$" ~= nil end,
    is_alive = function(of) return self.alive[of] == true end,
    dict = function(name) return name == "cueball" and self.dict or nil end,
    is_exiting = function() return worker.is_exiting end,
    count = function() return self.options.workers or #self.workers end,
    on_exit = function(fn) table.insert(worker.on_exit, fn) end,
  }
  local function spawn(fn, ...)
    if not self.alive[id] then return end
    local task = world.spawn(fn, ...)
    worker.tasks[task] = true
    return task
  end
  local function alarm(fn)
    return world.alarm(function()
      if self.alive[id] then fn() end
    end)
  end
  worker.spawn = spawn
  worker.host = setmetatable({ workers = workers, spawn = spawn, alarm = alarm }, { __index = world })
  local given = {
    host = worker.host, name = "db", seed = self.born, connect = self:factory(worker),
    max_connections_scope = "server", max_connections_dict = "cueball", max_connections = self.options.max_connections,
    spares = self.options.spares, rebalance_delay_ms = self.options.rebalance_delay_ms,
  }
  given.resolver = self.options.resolver or function(sink)
    local list = {}
    for number = 1, self.options.servers or 1 do list[number] = { address = "10.0.0." .. number, port = 7000 } end
    sink:set(list)
  end
  worker.pool = cueball.pool(given)
  self.workers[#self.workers + 1] = worker
  return worker
end

-- As kill -9 does it: nothing of it runs any more, its sockets are closed.
function Town:kill(index)
  local worker = table.remove(self.workers, index)
  self.alive[worker.id] = nil
  for connection in pairs(worker.connections) do connection.uncount() end
  worker.pool.pump = function() end
  for task in pairs(worker.tasks) do self.world.kill(task) end
  for connection in pairs(worker.connections) do connection.socket:abort() end
end

-- As nginx does it: connections at rest are closed, and timers go off for the last time.
function Town:exit(worker)
  worker.is_exiting = true
  for connection in pairs(worker.connections) do
    if not connection.is_leased then connection.uncount() end
  end
  for _, fn in ipairs(worker.on_exit) do fn() end
end

-- Holds connections for a while, again and again.
function Town:load(worker, clients, hold_ms, pause_ms, until_ms)
  for _ = 1, clients do
    worker.spawn(function()
      while self.world.time_ms() < until_ms do
        local lease = worker.pool:claim { timeout_ms = 5000 }
        if lease then
          lease.connection.use()
          self.world.sleep(hold_ms)
          self.served = self.served + 1
          worker.served = (worker.served or 0) + 1
          lease:release()
        end
        self.world.sleep(lease and pause_ms or 10)
      end
    end)
  end
end

function Town:held()
  local list = {}
  for _, worker in ipairs(self.workers) do list[#list + 1] = worker.pool:stats().allowed end
  return table.concat(list, "/")
end

function Town:check()
  local _, of = self.dict.count "cueball:quota:db:token:"
  local total = 0
  for _, worker in ipairs(self.workers) do
    local stats = worker.pool:stats()
    local held = of[worker.pool.quota.ledger.id] or 0
    assert(stats.total <= held, ("%s: %d places, %d tokens"):format(worker.id, stats.total, held))
    total = total + held
  end
  assert(total <= self.options.max_connections)
  assert(self.most <= self.options.max_connections, "more connections than there may be")
end

describe("a cap over all workers", function()
  it("is dealt evenly at first, and what nobody needs stays where it is", function()
    local town = new_town { max_connections = 10, workers = 3 }
    for _ = 1, 3 do town:start() end
    town.world.advance(1000)
    assert.equal("3/3/3", town:held())
    assert.equal(9, town.open)
  end)

  it("lends an idle worker's share to a busy one, and gives it back on demand, soon", function()
    local town = new_town { max_connections = 10, workers = 2 }
    local a, b = town:start(), town:start()
    town.world.advance(500)
    town:load(a, 20, 20, 0, 10000)
    town.world.advance(1500)
    assert.equal("9/1", town:held())
    assert.equal(0, a.pool:stats().idle)
    town:load(b, 20, 20, 0, 3000)
    town.world.advance(150)
    assert.equal("5/5", town:held())
    assert.equal(5, b.pool:stats().busy)
    town.world.advance(4000)
    assert.equal("9/1", town:held())
    assert.equal(10, town.most)
  end)

  it("is given back when it is really closed", function()
    local town = new_town { max_connections = 4, workers = 2, close_ms = 300 }
    local a, b = town:start(), town:start()
    town.world.advance(200)
    town:load(a, 8, 1000, 0, 1500)
    town.world.advance(1900)
    town:load(b, 4, 10, 10, 9000)
    town.world.advance(3000)
    assert.is_true(b.served > 100)
    assert.equal(4, town.most)
  end)

  it("comes back from a worker that was killed", function()
    local town = new_town { max_connections = 6, workers = 2 }
    local a, b = town:start(), town:start()
    town:load(a, 10, 50, 0, 60000)
    town.world.advance(2000)
    assert.equal("5/1", town:held())
    town:kill(1)
    town:load(b, 10, 50, 0, 60000)
    town.world.advance(1000)
    assert.equal(1, b.pool:stats().allowed)
    town.world.advance(1500)
    assert.equal(6, b.pool:stats().allowed)
    assert.matches("a worker died", town.world.logs[#town.world.logs].message)
  end)

  it("goes from old workers to new ones as they drain, the cap kept", function()
    local town = new_town { max_connections = 6, workers = 2 }
    for _ = 1, 2 do
      local worker = town:start()
      town:load(worker, 3, 3000, 0, 2500)
    end
    town.world.advance(1000)
    assert.equal("3/3", town:held())
    for _, worker in ipairs(town.workers) do town:exit(worker) end
    local c, d = town:start(), town:start()
    town:load(c, 3, 10, 0, 20000)
    town:load(d, 3, 10, 0, 20000)
    town.world.advance(1500)
    assert.equal("3/3/0/0", town:held())
    local lease, message
    c.spawn(function() lease, message = c.pool:claim { timeout_ms = 5 } end)
    town.world.advance(10)
    assert.is_nil(lease)
    assert.matches("other workers have all 6 connections", message)
    town.world.advance(2000)
    assert.equal("0/0/3/3", town:held())
    town:check()
    assert.is_true(c.served > 100 and d.served > 100)
  end)

  it("lets an old worker have some while claims wait there", function()
    local town = new_town { max_connections = 3, workers = 2 }
    local a = town:start()
    town:start()
    town.world.advance(500)
    town:exit(a)
    town.world.advance(500)
    assert.equal("0/1", town:held())
    assert.equal(0, a.pool:stats().total)
    town:load(town.workers[2], 6, 20, 0, 6000)
    town.world.advance(500)
    town:load(a, 1, 10, 0, 3000)
    town.world.advance(2000)
    assert.is_true(a.served > 50, "an old worker was served " .. tostring(a.served))
    town.world.advance(1000)
    assert.equal("0/3", town:held())
    town:check()
  end)

  it("gives back all but what is leased in a worker that exits, at once", function()
    local town = new_town { max_connections = 6, workers = 1 }
    local a = town:start()
    town:load(a, 2, 3000, 0, 100)
    town.world.advance(1000)
    assert.equal("6", town:held())
    town:exit(a)
    assert.equal("2", town:held())
  end)

  it("is left in good order by a worker that exits: nobody is said to have died", function()
    local town = new_town { max_connections = 4, workers = 2 }
    local a, b = town:start(), town:start()
    town:load(a, 1, 1000, 0, 800)
    town.world.advance(500)
    town:exit(a)
    town:exit(b)
    town:start()
    town:start()
    town.world.advance(1500) -- the old ones have served their requests by now
    town.alive.p1, town.alive.p2 = nil, nil
    table.remove(town.workers, 1)
    table.remove(town.workers, 1)
    town.world.advance(10000)
    assert.equal("2/2", town:held())
    for _, line in ipairs(town.world.logs) do assert.is_nil(line.message:find("died", 1, true), line.message) end
  end)

  it("says of a worker that was to end, and was ended before it could leave, that it is gone", function()
    local town = new_town { max_connections = 4, workers = 1 }
    local a = town:start()
    town:load(a, 1, 60000, 0, 800)
    town.world.advance(500)
    town:exit(a)
    town:start()
    town:kill(1)
    town.world.advance(10000)
    assert.equal("4", town:held())
    local gone
    for _, line in ipairs(town.world.logs) do
      assert.is_nil(line.message:find("died", 1, true), line.message)
      gone = gone or line.level == "info" and line.message:match "a worker that was to end is gone %(p1%.%d+%): its 1 connections"
    end
    assert.is_truthy(gone)
  end)

  it("is no lack of backends, when another worker has all connections", function()
    local town = new_town { max_connections = 1, workers = 2 }
    local a, b = town:start(), town:start()
    town:load(a, 2, 2000, 0, 4000)
    town.world.advance(500)
    local message, name
    b.spawn(function() message, name = select(2, b.pool:claim { timeout_ms = 20, error_on_empty = true }) end)
    town.world.advance(100)
    assert.equal("claim_timeout", name)
    assert.matches("other workers have all 1 connections that there may be", message)
    assert.matches("20 ms other workers had all connections", message)
    assert.is_nil(message:find("no backend", 1, true))
  end)

  it("does not hide that there is no backend", function()
    local town = new_town { max_connections = 1, workers = 1, resolver = function(sink) sink:set {} end }
    local a = town:start()
    local message, name
    a.spawn(function() message, name = select(2, a.pool:claim { timeout_ms = 20, error_on_empty = true }) end)
    town.world.advance(100)
    assert.same({ "pool db: no backend is known", "no_backends" }, { message, name })
  end)

  it("gives as much to each of many that want all", function()
    local town = new_town { max_connections = 20, workers = 8 }
    for _ = 1, 8 do town:start() end
    town:load(town.workers[3], 40, 15, 0, 6000)
    town.world.advance(1500)
    assert.equal(13, town.workers[3].pool:stats().allowed)
    for _, worker in ipairs(town.workers) do town:load(worker, 40, 15, 0, town.world.time_ms() + 4000) end
    town.world.advance(300)
    for _, worker in ipairs(town.workers) do
      local allowed = worker.pool:stats().allowed
      assert.is_true(allowed == 2 or allowed == 3, town:held())
    end
    assert.equal(20, town.open)
    town:check()
  end)

  it("has those take turns who are more than there are connections", function()
    local town = new_town { max_connections = 2, workers = 4 }
    for _ = 1, 4 do town:load(town:start(), 2, 10, 0, 30000) end
    town.world.advance(30000)
    for _, worker in ipairs(town.workers) do
      assert.is_true((worker.served or 0) > 200, worker.id .. " was served " .. tostring(worker.served))
    end
    assert.equal(2, town.most)
  end)

  it("counts leases of backends that were removed", function()
    local sinks = {}
    local town = new_town { max_connections = 4, workers = 1, servers = 2, rebalance_delay_ms = 0, resolver = function(sink)
      sink:set { { address = "10.0.0.1", port = 7000 } }
      sinks[#sinks + 1] = sink
    end }
    local a = town:start()
    town:load(a, 3, 1000, 0, 900)
    town.world.advance(500)
    sinks[1]:set { { address = "10.0.0.2", port = 7000 } }
    town.world.advance(300)
    town:check()
    assert.equal(1, town.world.server and a.pool:stats().idle)
    town.world.advance(500)
    assert.equal(4, a.pool:stats().idle)
    assert.equal(4, town.most)
    -- With every one leased nothing can be opened at the others.
    town:load(a, 4, 1000, 0, 1500)
    town.world.advance(200)
    sinks[1]:add { address = "10.0.0.1", port = 7000 }
    sinks[1]:remove "10.0.0.2:7000"
    town.world.advance(300)
    assert.equal(4, town.open)
    town.world.advance(1500)
    assert.equal(4, a.pool:stats().idle)
    assert.equal("10.0.0.1:7000", a.pool:backends()[1].key)
  end)

  it("follows demand with spares too, and opens no more than is asked for", function()
    local town = new_town { max_connections = 10, workers = 2, spares = 1 }
    local a = town:start()
    town:start()
    town.world.advance(1000)
    assert.equal(2, town.open)
    town:load(a, 6, 20, 5, 5000)
    town.world.advance(2000)
    assert.is_true(a.pool:stats().busy >= 4)
    town:check()
  end)

  it("holds, and serves everybody, while workers come, go and are killed at random", function()
    for seed = 1, 12 do
      math.randomseed(seed)
      local cap = math.random(3, 12)
      local town = new_town({ max_connections = cap, workers = 3, close_ms = math.random(0, 20), servers = 2,
        rebalance_delay_ms = seed % 3 * 50, spares = seed % 2 == 0 and 1 or nil }, seed)
      for _ = 1, 3 do town:start() end
      for _ = 1, 30 do
        local fate, index = math.random(10), math.random(#town.workers)
        if fate == 1 then
          town:kill(index)
          town:start()
        elseif fate == 2 then
          table.remove(town.workers, index).pool:stop()
          town:start()
        else
          town:load(town.workers[index], math.random(1, 6), math.random(1, 60), math.random(0, 5), town.world.time_ms() + math.random(1500))
        end
        for _ = 1, 10 do
          town.world.advance(math.random(1, 60))
          town:check()
        end
      end
      town.world.advance(3000)
      local before = town.served
      for _, worker in ipairs(town.workers) do
        worker.served = 0
        town:load(worker, cap, 10, 0, town.world.time_ms() + 3000)
      end
      town.world.advance(3000)
      for _, worker in ipairs(town.workers) do assert.is_true(worker.served > 50, "seed " .. seed) end
      assert.is_true(town.served > before)
    end
  end)

  it("is given back when the pool is stopped", function()
    local town = new_town { max_connections = 4, workers = 1 }
    local a = town:start()
    town.world.advance(100)
    a.spawn(function() a.pool:stop() end)
    town.world.advance(100)
    assert.equal("stopped", a.pool:state())
    assert.equal(0, (town.dict.count "cueball:quota:db:token:"))
    assert.equal(0, (town.dict.count "cueball:quota:db:place:"))
  end)

  it("asks for what it needs, in words", function()
    local world = sim.new {}
    local function blamed(text, more)
      local given = with({ host = world, resolver = function() end, connect = function() end, max_connections_scope = "server" }, more)
      local ok, message = pcall(function() cueball.pool(given) end)
      assert.is_false(ok)
      assert.matches(text, message)
      assert.matches("quota_spec.lua:%d+: cueball.pool:", message)
    end
    blamed("needs option 'max_connections_dict'", {})
    blamed('there is no shared dict "nowhere"; in nginx.conf: lua_shared_dict nowhere 1m;', { max_connections_dict = "nowhere" })
    blamed("must be at most 65535", { max_connections_dict = {}, max_connections = 65536 })
    blamed('must be "pool" or "server", not "worker"', { max_connections_scope = "worker" })
    blamed("is for max_connections_scope", { max_connections_scope = "pool", max_connections_dict = "x" })
    local town = new_town { max_connections = 4 }
    local pool = town:start().pool
    local ok, message = pcall(function() pool:set { max_connections = 5 } end)
    assert.is_false(ok)
    assert.matches("quota_spec.lua:%d+: pool:set: option 'max_connections' cannot be changed", message)
    assert.is_true(pool:set { max_connections = 4, check_interval_ms = 1000 })
    assert.equal(4, pool:stats().allowed_to_all)
  end)
end)
