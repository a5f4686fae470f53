--- is_set: at most one connection a backend, each leased for good and asked back; and the monitors of dead backends, which
-- are tried in turn where there are more of them than connections.

local World = require "spec.support.core_world"

local FAST = { attempts = 2, delay_ms = 10, max_delay_ms = 20, spread = 0 }

--- A set whose every connection is leased as soon as it is there, as cueball.set does; leases are "s1", "s2"...
local function set(options, backends)
  local world = World.calm(FAST, { is_set = true, max_connections = 4, spares = 2, proven_after_ms = 1, rebalance_delay_ms = 0 }, options)
  local serial = 0
  local function claim()
    local outcome
    repeat
      serial = serial + 1
      outcome = world:claim("s" .. serial)
    until outcome ~= "granted"
    if outcome == "pool_failed" then
      world:at(world:time() + 1, claim)
    end
  end
  local inherited = world.answer
  function world.answer(self, kind, action)
    inherited(self, kind, action)
    if self:state() ~= "stopping" then
      world:schedule(world.now, claim)
    end
  end
  world.shows = "open grant recall release closed stop"
  claim()
  world:set(backends)
  world:advance(0)
  return world
end

local function open(world)
  local list = {}
  for _, one in ipairs(world:backends()) do
    if one.busy > 0 then
      list[#list + 1] = one.key .. (one.removed and "*" or "")
    end
    assert.is_true(one.total <= 1, one.key .. " has " .. one.total)
  end
  table.sort(list)
  return table.concat(list, " ")
end

local function lease_on(world, key)
  for name, lease in pairs(world.leases) do
    if lease.label:match "^[^/]+" == key then
      return name
    end
  end
  return ""
end

-- In an order that is the same in each run, unlike that of pairs().
local function labels(world)
  local list = {}
  for label in pairs(world.conns) do list[#list + 1] = label end
  table.sort(list)
  return list
end

describe("a set", function()
  it("has one connection for each of `spares` backends, no more, however many wait", function()
    local world = set({ spares = 3 }, { "a", "b", "c", "d", "e" })
    world:advance(10000)
    assert.equal(3, world:stats().busy)
    assert.equal(3, world:stats().total)
    assert.equal(5, #open(world))
    world:change { spares = 4 }
    world:advance(10)
    assert.equal(4, world:stats().busy)
  end)

  it("of fewer backends than that has one for each", function()
    local world = set({ spares = 4 }, { "a", "b" })
    world:advance(1000)
    assert.equal("a b", open(world))
  end)

  it("asks back one that the plan no longer has", function()
    local world = set({ spares = 2 }, { "a", "b" })
    world:forget()
    world:change { spares = 1 }
    local key = world:trace():match "recall (s%d)"
    assert.equal(("[   0] recall %s: plan"):format(key), world:trace())
    world:advance(1000)
    assert.equal(2, world:stats().busy) -- it lasts until it is given back
    world:release(key)
    assert.equal(1, world:stats().total)
  end)

  it("takes a request back if the plan has it again", function()
    local world = set({ spares = 2 }, { "a", "b" })
    world.is_draining = false
    world:change { spares = 1 }
    world:change { spares = 2 }
    world:forget()
    world.is_draining = true
    world:drain()
    assert.trace(world, "")
    assert.equal("a b", open(world))
  end)

  it("asks back those of a removed backend, and opens another first: one more than max_connections meanwhile", function()
    local world = set({ spares = 2, max_connections = 2 }, { "a", "b" })
    world.host.open = 5
    world:add "c"
    world:advance(10)
    local gone = open(world):match "%a"
    local name = lease_on(world, gone)
    world:forget()
    world:remove(gone)
    assert.truthy(world:trace():find(("recall %s: removed"):format(name), 1, true))
    world:advance(5)
    assert.equal(3, world:stats().busy)
    world:release(name)
    assert.equal(2, world:stats().total)
  end)

  it("asks back one that is lost, and opens another in its place when it is given back", function()
    local world = set({ spares = 1 }, { "a" })
    world:advance(100)
    world:forget()
    world:lose "a/1"
    assert.trace(world, "[ 100] recall s1: lost")
    world:advance(100)
    world:release "s1"
    world:advance(1)
    assert.trace(world, [[
      [ 100] recall s1: lost
      [ 200] release s1
      [ 200] closed a/1
      [ 200] open a/1
      [ 200] grant s2: a/1]])
  end)

  it("asks a lease back once: what was asked back comes back, though the plan wants its connection again", function()
    local world = set({ spares = 2 }, { "a", "b" })
    world:advance(100)
    world:forget()
    world:change { spares = 1 }
    local name = world:trace():match "recall (s%d+)"
    assert.is_truthy(name)
    world:change { spares = 2 }
    world:change { spares = 1 }
    world:change { spares = 2 }
    assert.equal(1, select(2, world:trace():gsub("recall", "")))
    world:release(name)
    world:advance(1)
    assert.equal(2, world:stats().busy)
  end)

  it("asks all back when it stops, and takes them when drain_timeout_ms is over", function()
    local world = set({ spares = 2, drain_timeout_ms = 500 }, { "a", "b" })
    world:forget()
    world:stop()
    assert.equal(2, select(2, world:trace():gsub("recall s%d: stop", "")))
    world:release(lease_on(world, "a"))
    world:advance(499)
    assert.equal("stopping", world:state())
    world:advance(1)
    assert.equal("stopped", world:state())
  end)

  it("keeps its last connection that works until another is open, though its backend was removed", function()
    local world = set({ spares = 1 }, { "a" })
    world.host.open = 30
    world:forget()
    world:remove "a"
    world:advance(1000)
    assert.trace(world, "")
    world:add "b"
    world:advance(29)
    assert.is_nil(world:trace():find("recall", 1, true))
    world:advance(1)
    assert.trace(world, [[
      [1000] open b/1
      [1030] grant s2: b/1
      [1030] recall s1: removed]])
    world:release "s1"
    assert.equal("b", open(world))
  end)

  it("keeps its last connection that works until another is open, though the plan has another", function()
    -- Both live; b is preferred by a later plan and fails at first.
    for seed = 1, 20 do
      local world = set({ spares = 1, max_connections = 1, seed = seed, decoherence_interval_ms = 1000 }, { "a", "b" })
      world.host.open = 50
      local last = 1
      for _ = 1, 100 do
        world:advance(37)
        assert.is_true(world:stats().busy >= 1, "seed " .. seed)
        assert.is_true(world:stats().total <= 2)
        last = math.max(last, world:stats().total)
        for name in pairs(world.leases) do
          if world:trace():find("recall " .. name .. ":", 1, true) then
            world:release(name)
          end
        end
      end
      assert.equal(2, last, "seed " .. seed) -- the other was opened beside the first
    end
  end)

  it("that has lost all else keeps what is asked for by the plan", function()
    local world = set({ spares = 2 }, { "a", "b" })
    world.host.open = "never"
    world:lose "b/1"
    world:release(lease_on(world, "b"))
    world:forget()
    world:change { spares = 1 } -- whichever backend it is for, a's is the only one that works
    world:advance(1000)
    assert.is_nil(world:trace():find("recall", 1, true))
    assert.equal("a", open(world))
  end)

  it("replaces a dead backend's connection by another backend's", function()
    local world = set({ spares = 2, max_connections = 4 }, { "a", "b", "c" })
    world.host.a = { open = "fail" }
    world.host.b = world.host.a
    for _, key in ipairs { "a", "b" } do
      local name = lease_on(world, key)
      if name ~= "" then
        world:lose(key .. "/1")
        world:release(name)
      end
    end
    world:advance(1000)
    assert.equal("c", open(world))
    assert.equal("running", world:state())
    world.host.a, world.host.b = nil, nil
    world:advance(1000)
    for name in world:trace():gmatch "recall (s%d+): plan" do -- while both were dead and back one by one
      if world.leases[name] then
        world:release(name)
      end
    end
    world:advance(1000)
    assert.equal(2, world:stats().total)
    assert.equal(2, world:stats().busy)
  end)

  it("never has two connections to a backend, nor more than max_connections and one, whatever happens", function()
    for seed = 1, 60 do
      math.randomseed(seed)
      local world = set({ spares = seed % 4 + 1, max_connections = 4, seed = seed, decoherence_interval_ms = 200,
        max_lifetime_ms = seed % 3 == 0 and 500 or 0 }, { "a", "b", "c" })
      local asked = {}
      function world.recalled(name)
        asked[#asked + 1] = name
        if world:state() == "running" and world.last.cause ~= 6 then -- 6: lost
          -- another one works beside it
          local works = 0
          for _, one in ipairs(world:backends()) do
            works = works + one.busy + one.idle
          end
          assert.is_true(works >= 2, "the last one was asked back")
        end
      end
      local names = { "a", "b", "c", "d", "e" }
      for _ = 1, 200 do
        local dice = math.random(8)
        if dice == 1 then
          world:add(names[math.random(5)])
        elseif dice == 2 then
          world:remove(names[math.random(5)])
        elseif dice == 3 then
          for _, label in ipairs(labels(world)) do
            local conn = world.conns[label]
            local lease = world.leases[lease_on(world, label:match "^[^/]+")]
            if math.random(4) == 1 and lease and lease.conn == conn.handle then
              world:lose(label)
              break
            end
          end
        elseif dice == 4 then
          world:change { spares = math.random(4) }
        elseif dice == 5 then
          world.host.open = ({ 0, 5, "fail", "fail 3" })[math.random(4)]
        elseif #asked > 0 then
          local name = table.remove(asked, math.random(#asked))
          if world.leases[name] then
            world[({ "release", "close", "fail" })[math.random(3)]](world, name)
          end
        end
        local known = {}
        for _, one in ipairs(world:backends()) do
          assert.is_true(one.total <= 1, one.key)
          known[#known + 1] = one
        end
        local removed = 0
        for _, one in ipairs(known) do
          removed = removed + (one.removed and one.total or 0)
        end
        assert.is_true(world:stats().total - removed <= 5)
        world:advance(math.random() * 60)
      end
      world:stop()
      world:advance(1e6)
      assert.equal("stopped", world:state())
    end
  end)
end)

describe("of more dead backends than connections", function()
  for _, is_set in ipairs { false, true } do
    it("each is tried in turn, so that the one that recovers is found" .. (is_set and ", in a set" or ""), function()
      for seed = 1, 20 do
        local options = World.recovery(FAST, { max_connections = 1, spares = 1, seed = seed, rebalance_delay_ms = 0, is_set = is_set,
          proven_after_ms = 1 })
        local world = World.new(options)
        world.host.open = "fail"
        world.shows = ""
        world:set { "a", "b", "c" }
        world:advance(3000)
        assert.equal("failed", world:state())
        assert.is_true(world:stats().total <= 1 + (is_set and 1 or 0))
        world.host.b = { open = 0 }
        -- a pause of at most 20 ms for each of the three, and two attempts where one is tried anew
        world:advance(200)
        assert.equal("running", world:state(), "seed " .. seed)
        assert.truthy(world:layout():find("b 1", 1, true), world:layout())
        world.host.open = 0
        world:advance(2000)
        assert.equal("running", world:state())
      end
    end)
  end
end)

describe("a dead backend", function()
  it("is tried by one connection at the most, whatever else happens", function()
    local seen = 0
    for seed = 1, 40 do
      math.randomseed(seed)
      local world = World.new(World.recovery(FAST, {
        max_connections = 12, spares = seed % 3 == 0 and math.huge or 6, seed = seed, rebalance_delay_ms = 0, decoherence_interval_ms = 50,
      }))
      world.shows = ""
      world:set { "a", "b", "c", "d" }
      local held = {}
      for i = 1, 200 do
        local dice = math.random(6)
        if dice == 1 then
          world.host[({ "a", "b", "c", "d" })[math.random(4)]] = { open = ({ 0, 5, "fail", "fail 3" })[math.random(4)] }
        elseif dice == 2 then
          for _, label in ipairs(labels(world)) do
            if world.conns[label].handle and math.random(6) == 1 then
              world:lose(label)
            end
          end
        elseif dice <= 4 then
          if world:claim("c" .. i) == "granted" then
            held[#held + 1] = "c" .. i
          elseif world.claims["c" .. i] then
            world:cancel("c" .. i)
          end
        elseif #held > 0 then
          world:fail(table.remove(held, math.random(#held)))
        end
        world:advance(math.random() * 30)
        for _, one in ipairs(world:backends()) do
          if one.dead then
            seen = seen + 1
            assert.is_true(one.idle + one.connecting <= 1, ("seed %d: %s"):format(seed, world:layout()))
          end
        end
      end
    end
    assert.is_true(seen > 400)
  end)
end)
