--- cueball.resolver.shared in virtual time: several workers, which are hosts of one world, and what they share.
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local shared_dict = require "spec.support.shared_dict"
local sim_town = require "spec.support.sim_town"
local state = require "cueball.resolver.shared.state"
local with = require "spec.support.with"

local world, dict
local keys = sim_town.keys

local function worker(pid)
  return shared_dict.worker(world, dict, pid)
end

local function backend(number, more)
  return with({ address = "10.0.0." .. number, port = 80, key = "db" .. number, provenance = "from " .. number }, more)
end

-- A resolver that does what it is told: resolver.sinks lists those that run it.
local function told()
  local resolver = { name = "db", sinks = {} }
  function resolver.run(_, sink)
    resolver.sinks[#resolver.sinks + 1] = sink
    if resolver.first then resolver.first(sink) end
    repeat until not sink:sleep(math.huge)
  end
  return resolver
end

local function open(host, resolver, more)
  local given = with({ resolver = resolver, poll_ms = 100, lease_ms = 2000 }, more)
  return cueball.pool {
    host = host, connect = function() return {} end, resolver = cueball.resolver.shared(given), max_connections = 1, rebalance_delay_ms = 0,
  }
end

local function in_world(name, fn)
  it(name, function()
    world = sim.new { seed = 1 }
    dict = shared_dict.new(world)
    world.run(fn)
  end)
end

-- A worker that dies: its task is gone without a word, and its lease stays.
local function die(pool)
  local delete = dict.delete
  dict.delete = function() end
  pool.sink:kill()
  dict.delete = delete
end

describe("a shared resolver", function()
  in_world("is run by one, and all follow it", function()
    local resolver = told()
    local pools = {}
    for pid = 1, 3 do pools[pid] = open(worker(pid), resolver) end
    world.sleep(50)
    assert.equal(1, #resolver.sinks)
    resolver.sinks[1]:add(backend(1, { weight = 3, priority = 2, name = "one" }))
    resolver.sinks[1]:add(backend(2))
    world.sleep(110)
    for pid = 1, 3 do
      assert.equal("db1 db2", keys(pools[pid]))
      for _, one in ipairs(pools[pid]:backends()) do
        if one.key == "db1" then
          assert.same({ "10.0.0.1", 80, 3, 2, "one" }, { one.address, one.port, one.weight, one.priority, one.name })
        end
      end
    end
    resolver.sinks[1]:remove "db1"
    resolver.sinks[1]:add(backend(2, { weight = 7 }))
    world.sleep(110)
    for pid = 1, 3 do
      assert.equal("db2", keys(pools[pid]))
      assert.equal(7, pools[pid]:backends()[1].weight)
    end
    for pid = 1, 3 do pools[pid]:stop() end
  end)

  in_world("passes on how a backend is known, and how it is known to be gone, with whatever octets", function()
    local resolver, events = told(), {}
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    second:subscribe(function(event)
      local text = ("%s %s: %s"):format(event.kind, tostring(event.backend), tostring(event.provenance))
      if event.kind:find "^backend_" then events[#events + 1] = text end
    end)
    resolver.sinks[1]:add(backend(1, { provenance = "A\tof\n\\tone" }))
    resolver.sinks[1]:add(backend(2))
    world.sleep(150)
    resolver.sinks[1]:remove("db1", "gone\tfrom the answer")
    world.sleep(150)
    assert.same({
      "backend_added db1: A\\tof\\n\\tone", "backend_added db2: from 2", "backend_removed db1: gone\\tfrom the answer",
    }, events)
    first:stop()
    second:stop()
  end)

  in_world("has it told when the pool of any worker has failed, and no more once that is over", function()
    local looks, answer, is_down = {}, backend(1), false
    local resolver = { name = "db", run = function(_, sink)
      repeat
        looks[#looks + 1] = { at = world.time_ms(), failed = sink:failed() }
        sink:set { answer }
      until not sink:sleep(3600e3)
    end }
    local first = open(worker(1), resolver)
    world.sleep(10)
    local second = cueball.pool {
      host = worker(2), max_connections = 1, rebalance_delay_ms = 0,
      recovery = { default = { attempts = 1, delay_ms = 10, max_delay_ms = 10 } },
      resolver = cueball.resolver.shared { resolver = resolver, poll_ms = 100, lease_ms = 2000 },
      connect = function(one)
        if is_down and one.key == "db1" then return nil, "down" end
        return {}
      end,
    }
    world.sleep(10000)
    assert.equal(1, #looks)
    is_down = true
    second:claim():close()
    world.sleep(2000)
    assert.equal(2, #looks)
    assert.is_true(looks[2].failed)
    world.sleep(60000)
    assert.is_true(#looks >= 4 and #looks <= 6, #looks .. " looks")
    answer = backend(2)
    world.sleep(31000)
    assert.same({ "db2", "db2", "running" }, { keys(first), keys(second), second:state() })
    world.sleep(60000)
    local count = #looks
    world.sleep(600000)
    assert.equal(count, #looks)
    first:stop()
    second:stop()
  end)

  in_world("passes on failures and recoveries", function()
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    resolver.sinks[1]:fail "no server answers"
    world.sleep(150)
    for _, pool in ipairs { first, second } do
      assert.equal("failed", pool:state())
      assert.equal("resolver: no server answers", pool:last_error())
    end
    resolver.sinks[1]:set { backend(1) }
    world.sleep(150)
    resolver.sinks[1]:fail "again"
    world.sleep(150)
    assert.equal("db1", keys(second))
    assert.equal("resolver: again", second:last_error())
    assert.equal("again", second.sink.message)
    resolver.sinks[1]:recover()
    world.sleep(150)
    assert.is_nil(second.sink.message)
    first:stop()
    second:stop()
  end)

  in_world("begins with what is known, before anybody is asked", function()
    local resolver = told()
    local first = open(worker(1), resolver)
    resolver.sinks[1]:set { backend(1), backend(2) }
    world.sleep(150)
    local second = open(worker(2), resolver)
    assert.equal("db1 db2", keys(second))
    assert.equal(1, #resolver.sinks)
    first:stop()
    second:stop()
  end)

  in_world("is taken over at once when the one that runs it ends, and backends stay", function()
    local resolver, removed = told(), 0
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    second:subscribe(function(event) if event.kind == "backend_removed" then removed = removed + 1 end end)
    resolver.sinks[1]:set { backend(1), backend(2) }
    world.sleep(150)
    first:stop()
    world.sleep(110)
    assert.equal(2, #resolver.sinks)
    assert.equal("db1 db2", keys(second))
    resolver.sinks[2]:set { backend(2), backend(3) }
    world.sleep(10)
    assert.equal("db2 db3", keys(second))
    assert.equal(1, removed)
    second:stop()
  end)

  in_world("is taken over after its lease when the one that runs it dies", function()
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    resolver.sinks[1]:set { backend(1) }
    world.sleep(1000)
    die(first)
    world.sleep(1000)
    assert.equal(1, #resolver.sinks)
    world.sleep(1200)
    assert.equal(2, #resolver.sinks)
    assert.equal("db1", keys(second))
    first:stop()
    second:stop()
  end)

  in_world("that adds and removes gets rid of what it does not find again", function()
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    for number = 1, 3 do resolver.sinks[1]:add(backend(number)) end
    world.sleep(150)
    first:stop()
    world.sleep(150)
    resolver.sinks[2]:add(backend(1))
    resolver.sinks[2]:fail "not all answer"
    world.sleep(15000)
    assert.equal("db1 db2 db3", keys(second))
    resolver.sinks[2]:add(backend(3))
    world.sleep(200)
    assert.equal("db1 db3", keys(second))
    assert.is_nil(second.sink.message)
    second:stop()
  end)

  in_world("gets rid of it at once if it has said all it had to say", function()
    local resolver = told()
    local first = open(worker(1), resolver)
    resolver.sinks[1]:set { backend(1), backend(2) }
    world.sleep(150)
    local second = open(worker(2), { name = "db", run = function(_, sink) sink:add(backend(2)) end })
    first:stop()
    world.sleep(250)
    assert.equal("db2", keys(second))
    second:stop()
  end)

  in_world("is let go by one that was held up while another took it", function()
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    resolver.sinks[1]:set { backend(1) }
    world.sleep(150)
    dict:safe_set("cueball/resolver/db/lease", "somebody else", 60)
    world.sleep(150)
    assert.is_true(resolver.sinks[1].is_done)
    assert.is_nil(resolver.sinks[1]:set {})
    dict:delete "cueball/resolver/db/lease"
    world.sleep(150)
    assert.equal(2, #resolver.sinks)
    assert.equal("db1", keys(first))
    assert.equal("db1", keys(second))
    first:stop()
    second:stop()
  end)

  in_world("writes anew what was thrown away, or written by one who leads no more", function()
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    resolver.sinks[1]:set { backend(1) }
    world.sleep(150)
    dict:safe_set("cueball/resolver/db/state", state.write("old", nil, {}, {}))
    dict:safe_set("cueball/resolver/db/version", 77)
    world.sleep(250)
    assert.equal("db1", keys(second))
    assert.equal("db1", keys(first))
    dict:delete "cueball/resolver/db/state"
    world.sleep(1000)
    local third = open(worker(3), resolver)
    assert.equal("db1", keys(third))
    first:stop()
    second:stop()
    third:stop()
  end)

  in_world("that throws is run again, and that is told", function()
    local runs = 0
    local resolver = { name = "db", run = function(_, sink)
      runs = runs + 1
      if runs < 3 then error "no idea" end
      sink:set { backend(1) }
      repeat until not sink:sleep(math.huge)
    end }
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    world.sleep(150)
    assert.matches("no idea", second:last_error())
    world.sleep(500)
    assert.equal(3, runs)
    assert.equal("db1", keys(second))
    first:stop()
    second:stop()
  end)

  in_world("says so if the dict is too small, and serves its own pool", function()
    dict = shared_dict.new(world, 300)
    local resolver = told()
    local first, second = open(worker(1), resolver), open(worker(2), resolver)
    local list = {}
    for number = 1, 10 do list[number] = backend(number) end
    resolver.sinks[1]:set(list)
    world.sleep(150)
    assert.equal(10, #first:backends())
    assert.matches('resolver: the shared dict "cueball" is too small: %d+ bytes of db do not fit$', second:last_error())
    local complaints = 0
    for _, one in ipairs(world.logs) do
      if one.message:find "do not fit %(no memory%)" then complaints = complaints + 1 end
    end
    assert.equal(1, complaints)
    resolver.sinks[1]:set { backend(1) }
    world.sleep(150)
    assert.equal("db1", keys(second))
    assert.is_nil(second.sink.message)
    first:stop()
    second:stop()
    local other = open(worker(3), resolver, { dict = "none" })
    assert.matches("there is no lua_shared_dict none", other:last_error())
    other:stop()
  end)

  for index, value in ipairs { 1e300, -1e300, 0 / 0, math.huge, 0.5, "text", "7", "", true, "cueball 1\tme\twell\t\n+\tkey",
    "cueball 1\tme\twell\t\n+\tk\tn\ta\tport\t1\t1\t" } do
    in_world(("goes on, and says so once, where others write to its dict (%d: %s)"):format(index, tostring(value)), function()
      local resolver = told()
      local pools = { open(worker(1), resolver), open(worker(2), resolver) }
      world.sleep(50)
      resolver.first = function(sink) sink:set { backend(1), backend(2) } end
      resolver.first(resolver.sinks[1])
      world.sleep(200)
      for _ = 1, 2 do
        for _, key in ipairs { "state", "version", "lease" } do
          dict.entries["cueball/resolver/db/" .. key] = { value = value }
          world.sleep(65000)
          pools[3] = open(worker(3), resolver) -- begins with what is there
          world.sleep(200)
          for number, pool in ipairs(pools) do assert.equal("db1 db2", keys(pool), number .. " " .. key) end
          pools[3]:stop()
          pools[3] = nil
        end
      end
      resolver.sinks[#resolver.sinks]:set { backend(3) }
      world.sleep(200)
      for _, pool in ipairs(pools) do assert.equal("db3", keys(pool)) end
      local count = {}
      for _, line in ipairs(world.logs) do
        local key = line.message:match "foreign value at (%S+) %("
        if key then count[key] = (count[key] or 0) + 1 end
      end
      assert.is_truthy(next(count))
      for key, times in pairs(count) do assert.is_true(times <= 4, key .. " " .. times) end -- once for each run of the resolver
      for _, pool in ipairs(pools) do pool:stop() end
    end)
  end

  in_world("just runs where nothing is shared", function()
    local pool = open(world, function(sink) sink:add(backend(1)) end, { name = "plain" })
    assert.equal("db1", keys(pool))
    pool:stop()
  end)

  it("blames who gives it wrong options", function()
    local shared = cueball.resolver.shared
    local function blames(text, fn)
      local ok, message = pcall(fn)
      assert.is_false(ok)
      assert.matches("shared_spec.lua:%d+: cueball.resolver.shared: " .. text, message)
    end
    blames("option 'resolver' is required", function() shared {} end)
    blames("option 'name' is required for a resolver that has none", function() shared { resolver = function() end } end)
    blames("unknown option 'poll'", function() shared { resolver = told(), poll = 1 } end)
    blames("option 'poll_ms' must be a number", function() shared { resolver = told(), poll_ms = 1001 } end)
    blames("option 'lease_ms' must be at least four times poll_ms, 2000, not 1000", function()
      shared { resolver = told(), poll_ms = 500, lease_ms = 1000 }
    end)
    assert.equal("db", shared { resolver = told() }.name)
  end)
end)

describe("a state as text", function()
  it("is read as it was written, and nothing else is", function()
    local list = { { key = "a\\t", name = "n", address = "::1", port = 1, weight = 2, priority = 3, provenance = "x\\\n\ty" } }
    local found = state.read(state.write("me 1", "why\tnot", list, { b = "gone\n" }))
    assert.same(list, found.backends)
    assert.same({ b = "gone\n" }, found.gone)
    assert.same({ "me 1", "why\tnot" }, { found.writer, found.failure })
    assert.is_nil(state.read(state.write("me", nil, {}, {})).failure)
    assert.is_nil(state.read "cueball 2\tme\twell\t")
    assert.is_nil(state.read "")
  end)
end)
