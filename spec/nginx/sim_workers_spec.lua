--- The workers that take part in something, in virtual time: who lives, who left or died, what they left; and the memory they share.
local shared_dict = require "cueball.nginx.shared_dict"
local sim = require "cueball.host.sim"
local support = require "spec.support.shared_dict"
local workers = require "cueball.nginx.workers"

local world, dict, alive, said

-- A worker's part: its memory and its member. `alive` says which processes live; false: nobody can tell.
local function join(pid, given)
  local host = support.worker(world, dict, pid)
  if alive then
    alive[host.workers.name()] = true
    host.workers.is_alive = function(name) return alive[name] == true end
  end
  local memory = workers.memory(host, dict, { name = "cueball", prefix = "x/", log = function(_, text) said[#said + 1] = text end })
  local options = { silent_ms = 2000, dead_ms = 5000 }
  for name, value in pairs(given or {}) do options[name] = value end
  local member = memory:join(options)
  return { pid = pid, host = host, memory = memory, member = member }
end

local function kill(one)
  alive[one.host.workers.name()] = nil
end

-- Whom this one sees: "2 says, 3 says", and whose things it collects: "-4 says".
local function seen_by(one, does_collect)
  local list = {}
  one.member:look(function(record) list[#list + 1] = ("%d %s"):format(record.number, tostring(record.text)) end,
    does_collect ~= nil and function(record)
      list[#list + 1] = ("-%d %s"):format(record.number, tostring(record.text))
      return does_collect
    end or nil)
  return table.concat(list, ", ")
end

local function in_world(name, fn)
  it(name, function()
    world = sim.new { seed = 1 }
    dict, alive, said = support.new(world), {}, {}
    world.run(fn)
  end)
end

-- Calls fn() before step number `moment` of this dict.
-- @return function() → has it been called?; and takes the hook away
local function at_step(moment, fn)
  local before, count, is_done = {}, 0, false
  for _, name in ipairs { "get", "ttl", "delete", "safe_add", "safe_set", "incr" } do
    before[name] = dict[name]
    dict[name] = function(...)
      count = count + 1
      if count == moment and not is_done then
        is_done = true
        fn()
      end
      return before[name](...)
    end
  end
  return function()
    for name, own in pairs(before) do dict[name] = own end
    return is_done
  end
end

describe("workers", function()
  in_world("have the lowest number that is free, and see what the others say", function()
    local one, two = join(1), join(2)
    assert.equal("joined", one.member:renew "a")
    assert.equal("joined", two.member:renew "b|c")
    assert.equal(true, two.member:renew "d|e")
    assert.equal("2 d|e", seen_by(one, true))
    assert.equal("1 a", seen_by(two, true))
    one.member:leave()
    assert.equal("", seen_by(two, true))
    assert.equal("joined", join(3).member:renew "f")
    assert.equal("1 f", seen_by(two, true))
  end)

  in_world("have ids that do not come again, though process numbers do", function()
    local ids = {}
    for _ = 1, 50 do
      local id = join(7).memory.id
      assert.is_nil(ids[id])
      ids[id] = true
    end
  end)

  in_world("are dead when their process is gone, and told once, with what they said last", function()
    local one, two, three = join(1), join(2), join(3)
    for _, each in ipairs { one, two, three } do each.member:renew("of " .. each.pid) end
    kill(two)
    assert.equal("2 of 2, 3 of 3", seen_by(one, true)) -- it was heard of just now
    world.sleep(2000)
    one.member:renew "of 1"
    three.member:renew "of 3"
    assert.is_true(one.member:has_dead())
    assert.equal("-2 of 2, 3 of 3", seen_by(one, true))
    assert.equal("1 of 1", seen_by(three, true))
    assert.is_false(three.member:has_dead())
  end)

  in_world("live as long as the system says so, however silent they are", function()
    local one, two = join(1), join(2)
    one.member:renew ""
    two.member:renew "still"
    world.sleep(1e6)
    assert.equal("2 still", seen_by(one, true))
  end)

  in_world("are dead after so much silence where nobody can tell, and not before", function()
    alive = false
    local one, two = join(1), join(2)
    one.member:renew ""
    two.member:renew "silent"
    world.sleep(4999)
    assert.equal("2 silent", seen_by(one, true))
    world.sleep(1)
    assert.equal("-2 silent", seen_by(one, true))
  end)

  in_world("join anew when they were taken for dead, and know it", function()
    alive = false
    local one, two = join(1), join(2)
    one.member:renew ""
    two.member:renew "held up"
    world.sleep(5000)
    assert.equal("-2 held up", seen_by(one, true))
    assert.equal("joined", join(3).member:renew "another")
    assert.is_false(two.member:is_there())
    assert.equal("joined", two.member:renew "back")
    assert.equal(3, two.member.number)
    assert.equal(true, two.member:renew "back")
  end)

  in_world("that leave something are looked after at once, and again until that is done", function()
    local one, two, three = join(1), join(2), join(3)
    for _, each in ipairs { one, two, three } do each.member:renew("of " .. each.pid) end
    two.member:leave "will"
    assert.equal("-2 will, 2 will, 3 of 3", seen_by(one, false)) -- it was not seen to: it counts still
    assert.equal("1 of 1, 2 will", seen_by(three, true))         -- that is the first one's business
    assert.equal("-2 will, 3 of 3", seen_by(one, true))
    assert.equal("3 of 3", seen_by(one, true))
  end)

  in_world("see to what is left by one who died as it looked after another", function()
    local one, two, three = join(1), join(2), join(3)
    for _, each in ipairs { one, two, three } do each.member:renew("of " .. each.pid) end
    two.member:leave "will"
    pcall(function() one.member:look(function() end, function() error "killed" end) end)
    kill(one)
    assert.equal("1 of 1, -2 will", seen_by(three, true))
  end)

  in_world("get no number under which something lies, and see to what lies there without a record", function()
    local left = { [2] = true }
    local given = { has_left = function(number) return left[number] == true end }
    local one, two = join(1, given), join(2, given)
    one.member:renew "of 1"
    dict:set("x/members", 2)
    two.member:renew "of 2"
    assert.equal(3, two.member.number)
    assert.equal("-2 nil, 2 nil, 3 of 2", seen_by(one, false))
    assert.is_true(one.member:has_dead())
    one.member:look(function() end, function(record)
      left[record.number] = nil
      return true
    end)
    assert.is_false(one.member:has_dead())
    assert.equal("joined", join(3, given).member:renew "of 3")
  end)

  in_world("are told that there is no room", function()
    dict = support.new(world, 10)
    assert.same({ nil, "no memory" }, { join(1).member:renew "much too much" })
  end)

  -- What one may do while another looks, and what the other must have seen once it has looked again.
  local DEEDS = {
    ["leaves something"] = { function(one) one.member:leave "will" end, "will" },
    ["dies"] = { kill, "says" },
    ["leaves nothing"] = { function(one) one.member:leave() end },
    ["says something new"] = { function(one) one.member:renew "new" end },
  }
  for name, deed in pairs(DEEDS) do
    in_world("miss nothing, and see nothing twice, of one that at any moment " .. name, function()
      local moment, was_reached = 0, true
      while was_reached do
        moment = moment + 1
        dict, alive = support.new(world), {}
        local one, two, three = join(1), join(2), join(3)
        for _, each in ipairs { one, two, three } do each.member:renew "says" end
        world.sleep(2500)
        one.member:renew "says"
        three.member:renew "says"
        local collected, visits = {}, 0
        local function look(member)
          member:renew "says"
          member:look(function(record)
            if record.number == 2 then visits = visits + 1 end
          end, function(record)
            collected[#collected + 1] = record.text
            return true
          end)
        end
        local unhook = at_step(moment, function() deed[1](two) end)
        look(one.member)
        was_reached = unhook()
        assert.is_true(visits + #collected <= 1, "seen twice at moment " .. moment)
        if was_reached then
          look(three.member)
          look(one.member)
          assert.same({ deed[2] }, collected, "moment " .. moment)
        end
      end
      assert.is_true(moment > 6, moment)
    end)
  end

  -- Each stopped before any step on the dict while the other goes on.
  in_world("look after one between them, however their looking is interleaved", function()
    for seed = 1, 300 do
      math.randomseed(seed)
      dict, alive = support.new(world), {}
      local one, two, three = join(1), join(2), join(3)
      for _, each in ipairs { one, two, three } do each.member:renew "says" end
      two.member:leave "will"
      local collected, threads = 0, {}
      for _, each in ipairs { one, three } do
        threads[#threads + 1] = coroutine.create(function()
          for _ = 1, 3 do
            each.member:look(function() end, function(record)
              if record.text == "will" then collected = collected + 1 end
              return true
            end)
          end
        end)
      end
      for _, name in ipairs { "get", "delete", "safe_add", "safe_set", "incr" } do
        local own = dict[name]
        dict[name] = function(...)
          if coroutine.running() == threads[1] or coroutine.running() == threads[2] then coroutine.yield() end
          return own(...)
        end
      end
      while #threads > 0 do
        local index = math.random(#threads)
        local ok, message = coroutine.resume(threads[index])
        assert(ok, message)
        if coroutine.status(threads[index]) == "dead" then
          local other = threads[3 - index]
          while other and coroutine.status(other) ~= "dead" do assert(coroutine.resume(other)) end
          threads = {}
        end
      end
      assert.equal(1, collected, "seed " .. seed)
    end
  end)

  local FOREIGN = { 1e300, -1e300, 0 / 0, math.huge, 0.5, -1, "text", "7", "", true, "1.0.5|99999999999999999999|x", "|5|x",
    "1.0.5|left", "a|5|x" }
  for index, value in ipairs(FOREIGN) do
    in_world(("go on, and say so once, where others write (%d: %s)"):format(index, tostring(value)), function()
      local one, two = join(1), join(2)
      for _ = 1, 2 do
        for _, key in ipairs { "members", "member:1", "member:2", "member:3", "member:3" } do
          one.member:renew "a"
          two.member:renew "b"
          dict.entries["x/" .. key] = { value = value }
          for _ = 1, 3 do
            one.member:renew "a"
            two.member:renew "b"
            world.sleep(500)
          end
          local sees = { [one] = seen_by(one, true), [two] = seen_by(two, true) }
          assert.matches("^%d b$", sees[one], key)
          assert.matches("^%d a$", sees[two], key)
        end
      end
      local count = {}
      for _, text in ipairs(said) do
        local key = text:match 'the shared dict "cueball" has a foreign value at (%S-)%d* %('
        count[key] = (count[key] or 0) + 1
      end
      assert.is_truthy(next(count))
      for key, times in pairs(count) do assert.is_true(times <= 2, key .. " " .. times) end -- once for each worker
    end)
  end
end)

describe("a lock of workers", function()
  in_world("is one worker's at a time, and ends by itself", function()
    local one, two = join(1), join(2)
    local mine, yours = one.memory:lock("lock", 3, 1000), two.memory:lock("lock", 3, 1000)
    assert.is_true(mine:take())
    assert.is_false((yours:take()))
    assert.equal(one.memory.id, yours:holder())
    yours:release() -- it is not its own
    assert.is_false((yours:take()))
    world.sleep(2000)
    mine:renew()
    world.sleep(2000)
    assert.is_false((yours:take()))
    world.sleep(1000)
    assert.is_nil(mine:holder())
    assert.is_true(yours:take())
    mine:release() -- too late
    assert.equal(two.memory.id, mine:holder())
    yours:release()
    assert.is_true(mine:take())
  end)

  in_world("is taken from who is no worker: at once, or after a while if it may end by itself", function()
    local one = join(1)
    local lock = one.memory:lock("lock", 3, 1000)
    dict:set("x/lock", 5)
    assert.is_nil(lock:holder())
    assert.is_true(lock:take())
    dict:set("x/lock", "somebody")
    assert.equal("somebody", lock:holder())
    world.sleep(999)
    assert.equal("somebody", lock:holder())
    world.sleep(1)
    assert.is_nil(lock:holder())
    assert.equal(1, #said)
    dict:set("x/lock", one.memory.id)
    lock:break_open()
    assert.is_nil(lock:holder())
  end)
end)

describe("the memory of workers", function()
  -- A dict that is full: only what is forced in has room, by throwing away something else.
  local function full(log)
    return {
      get = function() return nil end,
      safe_add = function() return nil, "no memory" end, safe_set = function() return nil, "no memory" end,
      add = function(_, key) log[#log + 1] = "add " .. key return true end,
      set = function(_, key) log[#log + 1] = "set " .. key return true end,
    }
  end

  it("writes what is small though it is full, and nothing large", function()
    local log = {}
    local memory = shared_dict.open { dict = full(log), prefix = "x/", log = function() end }
    assert.is_true(memory:add("a", 1))
    assert.is_true(memory:set("b", ("s"):rep(4096)))
    assert.same({ nil, "no memory" }, { memory:add("c", ("s"):rep(4097)) })
    assert.same({ nil, "no memory" }, { memory:set("d", ("s"):rep(4097)) })
    assert.same({ "add x/a", "set x/b" }, log)
  end)
end)
