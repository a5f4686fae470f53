--- The board: workers of one server show each other what their pools look like, in virtual time; and the slices in which that is done.
local board = require "cueball.monitor.board"
local json = require "cueball.monitor.json"
local shared_dict = require "spec.support.shared_dict"
local sim = require "cueball.host.sim"

describe("the board", function()
  local world, dict

  -- A worker whose only pool has made worker.claims claims.
  local function new_worker(pid)
    local one = { host = shared_dict.worker(world, dict, pid), claims = 0 }
    one.board = board.new(one.host, function(pause, fn)
      fn {
        name = "db", state = "running", stats = { claims = one.claims }, options = {}, resolver = { is_failing = false },
        backends = json.list {},
      }
      pause()
      return "1"
    end)
    return one
  end

  local function in_world(name, fn)
    it(name, function()
      world = sim.new { seed = 1 }
      dict = shared_dict.new(world)
      world.run(fn)
    end)
  end

  local function seen_by(one)
    local view, pids = one.board:view(), {}
    for index, worker in ipairs(view.workers) do pids[index] = worker.pid end
    return ("%s: %d"):format(table.concat(pids, " "), view.pools[1].stats.claims)
  end

  local function die(one)
    local hold = one.board
    hold.has_left = true -- its task ends at its next turn, and says nothing
  end

  in_world("has all workers, whoever is asked, and what they do within a second", function()
    local one, two = new_worker(1), new_worker(2)
    one.claims, two.claims = 10, 5
    assert.equal("1 2: 15", seen_by(one))
    assert.equal("1 2: 15", seen_by(two))
    two.claims = 7
    world.sleep(1000)
    assert.equal("1 2: 17", seen_by(one))
  end)

  in_world("keeps what the dead have counted, once", function()
    local one, two, three = new_worker(1), new_worker(2), new_worker(3)
    one.claims, two.claims, three.claims = 1, 20, 300
    assert.equal("1 2 3: 321", seen_by(one))
    world.sleep(1000)
    die(two)
    world.sleep(7000)
    assert.equal("1 3: 321", seen_by(one))
    local four = new_worker(4) -- in the place of the dead one
    four.claims = 4000
    assert.equal("1 3 4: 4321", seen_by(four))
    assert.equal("1 3 4: 4321", seen_by(one))
  end)

  in_world("has one that died behind the one in its place, whose quantiles count", function()
    local one = new_worker(1)
    one.claims = 10
    assert.equal("1: 10", seen_by(one))
    die(one)
    world.sleep(100)
    local two = new_worker(2)
    two.host.workers.number = one.host.workers.number
    assert.equal("2 1: 10", seen_by(two))
  end)

  in_world("keeps what the last of them has counted", function()
    local one = new_worker(1)
    one.claims = 10
    assert.equal("1: 10", seen_by(one))
    die(one)
    world.sleep(7000)
    local two = new_worker(2)
    two.claims = 5
    assert.equal("2: 15", seen_by(two))
  end)

  in_world("keeps what one has counted that exits, and does not count it twice", function()
    local one, two = new_worker(1), new_worker(2)
    one.claims, two.claims = 1, 20
    assert.equal("1 2: 21", seen_by(one))
    two.claims = 25
    two.host.is_exiting = true
    two.board:abort()
    assert.equal("1: 26", seen_by(one))
    assert.equal("1 2: 26", seen_by(two)) -- a request to the one that exits
    world.sleep(10000)
    assert.equal("1: 26", seen_by(one))
  end)

  in_world("misses nothing of one that exits while another changes the board", function()
    local one, two = new_worker(1), new_worker(2)
    one.claims, two.claims = 1, 20
    assert.equal("1 2: 21", seen_by(one))
    two.claims = 25
    dict:safe_add("cueball/monitor/lock", "of another", 0.01)
    two.host.is_exiting = true
    two.board:abort()
    assert.equal("1: 26", seen_by(one))
    assert.equal("1: 26", seen_by(one))
  end)

  in_world("misses nothing of one that exits at any moment while another looks", function()
    local moment, is_over = 0, false
    while not is_over do
      moment = moment + 1
      dict = shared_dict.new(world)
      local one, two = new_worker(1), new_worker(2)
      one.claims, two.claims = 1, 20
      assert.equal("1 2: 21", seen_by(one))
      local get, left = dict.get, moment
      function dict:get(key)
        left = left - 1
        if left == 0 then
          two.claims, two.host.is_exiting = 25, true
          two.board:abort()
        end
        return get(self, key)
      end
      local claims = tonumber(seen_by(one):match "%d+$")
      is_over, dict.get = left > 0, get
      assert.is_true(claims == 26 or claims == 21, ("moment %d: %d claims"):format(moment, claims))
      assert.equal("1: 26", is_over and "1: 26" or seen_by(one))
      die(one)
    end
    assert.is_true(moment > 10, moment)
  end)

  in_world("goes on with one that was thought dead", function()
    local one, two = new_worker(1), new_worker(2)
    one.claims, two.claims = 1, 20
    assert.equal("1 2: 21", seen_by(one))
    dict:delete("cueball/monitor/member:" .. two.board.member.number) -- as if it had been held up for long
    world.sleep(50)
    one.board:tend()
    two.claims = 22
    world.sleep(2000)
    assert.equal("1 2: 23", seen_by(one))
    assert.equal("1 2: 23", seen_by(two))
  end)

  in_world("loses nothing of one that exits, if another begins before it is buried", function()
    local one, two = new_worker(1), new_worker(2)
    one.claims, two.claims = 100, 20
    assert.equal("1 2: 120", seen_by(one))
    dict:safe_add("cueball/monitor/lock", "99 1", 0.5) -- nobody can bury meanwhile
    two.host.is_exiting = true
    two.board:abort()
    local three = new_worker(3)
    three.claims = 3000
    world.sleep(300)
    three.board:tend()
    world.sleep(5000)
    assert.equal("1 3: 3120", seen_by(one))
    assert.equal("1 3: 3120", seen_by(three))
  end)

  local FOREIGN = { 1e300, -1e300, 0 / 0, math.huge, 0.5, -1, "text", "7", "", true, "[]", '{"db":{"claims":-5}}', '{"db":7}',
    '{"version":"1","time_s":1}\n{"name":"x"}', '{"version":"1","time_s":1}\n7' }

  for index, value in ipairs(FOREIGN) do
    in_world(("goes on, and says so, where others write to its dict (%d: %s)"):format(index, tostring(value)), function()
      local one, two = new_worker(1), new_worker(2)
      one.claims, two.claims = 1, 20
      assert.equal("1 2: 21", seen_by(one))
      for _, key in ipairs { "members", "member:1", "member:2", "member:3", "snapshot:1", "snapshot:2", "snapshot:3", "published:2", "lock",
        "accumulated", "asked" } do
        dict.entries["cueball/monitor/" .. key] = { value = value }
        world.sleep(8000)
        seen_by(one)
        world.sleep(3000)
        assert.equal("1 2: 21", seen_by(one), key)
        assert.equal("1 2: 21", seen_by(two), key)
      end
      local count = {}
      for _, line in ipairs(world.logs) do
        local key = line.message:match "foreign value at (%S+) %("
        if key then count[key] = (count[key] or 0) + 1 end
      end
      assert.is_truthy(next(count))
      for key, times in pairs(count) do assert.is_true(times <= 2, key .. " " .. times) end -- once for each worker
    end)
  end

  in_world("puts workers in order though what others wrote does not say whether they exit", function()
    local list = {}
    for pid = 1, 8 do list[pid] = new_worker(pid) end
    assert.equal("1 2 3 4 5 6 7 8: 0", seen_by(list[1]))
    for number = 2, 8, 2 do
      local text = ('{"version":"1","time_s":%d,"pid":%d,"id":%d}'):format(world.now() / 1e9, number, 10 - number)
      dict.entries["cueball/monitor/snapshot:" .. number] = { value = text .. "\n\n" }
    end
    assert.equal("1 8 3 6 5 4 7 2: 0", seen_by(list[1]))
  end)

  in_world("gives way to others after each pool", function()
    local one, pauses = new_worker(1), 0
    new_worker(2)
    one.board:view(function() pauses = pauses + 1 end)
    assert.equal(3, pauses) -- after its own, after the other's was read, and added
  end)
end)

describe("slices of work", function()
  it("end after some milliseconds", function()
    local time, naps = 0, {}
    local pause = require("cueball.monitor.slices").of { now = function() return time end, sleep = function(ms)
      naps[#naps + 1] = { time / 1e6, ms }
      time = time + 10e6
    end }
    for _ = 1, 14 do
      time = time + 1e6
      pause()
    end
    assert.same({ { 5, 1 }, { 20, 1 } }, naps)
  end)
end)
