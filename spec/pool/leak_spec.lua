--- Leases that do not come back: collected without release, or held too long.
local collect = require "spec.support.collect"
local sim_pool = require "spec.support.sim_pool"

local town, pool, factory

local function open(options)
  town, factory = sim_pool.new(), sim_pool.factory()
  pool = town:open({ max_connections = 1, connect = factory }, options)
  town:advance(1)
end

-- The line of what calls this.
local function line()
  return debug.getinfo(2, "l").currentline
end

-- The collector has been everywhere, and the pool is awake.
local function collect_all()
  collect()
  pool:set {}
end

local UNNOTED = "cueball db: a lease on db1, claimed at a place that was not noted (option claim_sites notes it), "
  .. "was collected without having been released; its connection is closed"

local function noted(at)
  return ("[ %3d] cueball db: a lease on db1, claimed at spec/pool/leak_spec.lua:%d, was collected without having been "
    .. "released; its connection is closed"):format(town.world.time_ms(), at)
end

describe("a lease that is collected without release", function()
  it("has its connection closed, and is told in the log", function()
    open()
    local function leak() pool:try_claim() end
    leak()
    collect_all()
    assert.equal("[   1] " .. UNNOTED, town:log "error")
    town:advance(1)
    assert.same({ 1 }, factory.closed)
    assert.equal(1, pool:stats().leases_closed)
    local lease = pool:try_claim()
    assert.equal(2, lease.connection.id)
    lease:release()
    town:stop()
  end)

  it("is noticed by itself, within a second of its collection: waiters are served and stop ends", function()
    open { max_connections = 1 }
    town:run(function()
      town.world.sleep(10)
      ;(function() assert(pool:claim()) end)()
      town:claim "ann"
      town.world.sleep(5000)
      assert.is_nil(town.leases.ann)
      local at = town.world.time_ms()
      collect()
      while not town.leases.ann do town.world.sleep(10) end
      assert.is_true(town.world.time_ms() - at <= 1100)
      town.leases.ann = nil
      town.world.spawn(function()
        town.world.sleep(100)
        collect()
      end)
      at = town.world.time_ms()
      pool:stop()
      assert.is_true(town.world.time_ms() - at <= 1200)
    end)
    assert.same({}, town.world.leaks())
  end)

  it("costs no alarm once all leases are back", function()
    open {}
    town:advance(10)
    pool:claim():release()
    town:advance(1500)
    assert.is_false(pool.leaks.is_looking)
    town:stop()
  end)

  it("is told with the line that claimed it where claim_sites notes that", function()
    open { claim_sites = true }
    local at
    local ways = {
      function() at = line() pool:try_claim() end,
      function() at = line() pool:claim() end,
      function()
        local function dropped() at = line() pool:with(function() coroutine.yield() end) end
        coroutine.wrap(dropped)()
      end,
    }
    for _, way in ipairs(ways) do
      local lines = {}
      town.world.log = function(level, message) lines[#lines + 1] = level .. " " .. message end
      way()
      collect_all()
      assert.same({ ("error cueball db: a lease on db1, claimed at spec/pool/leak_spec.lua:%d, was collected without having been "
        .. "released; its connection is closed"):format(at) }, lines)
      town:advance(1)
    end
    town:stop()
  end)

  it("is told with its line also if it had to wait", function()
    open { leak_warning_ms = 1000 }
    local held = pool:claim()
    local at
    town.world.spawn(function() at = line() pool:claim() end)
    assert.equal(1, pool:stats().waiting)
    held:release()
    held = nil -- luacheck: ignore
    town:advance(1)
    assert.equal(1, pool:stats().busy)
    collect_all()
    assert.equal(noted(at), town:log "error")
    town:advance(1)
    town:stop()
  end)

  it("is noticed though an older lease on the same connection is held", function()
    open()
    local old = pool:try_claim()
    old:release()
    local function leak() pool:try_claim() end
    leak()
    collect_all()
    assert.equal("[   1] " .. UNNOTED, town:log "error")
    assert.is_nil(old:backend())
    town:advance(1)
    town:stop()
  end)

  it("does not disturb those who wait: they get the next connection", function()
    open()
    local function leak() pool:try_claim() end
    leak()
    town:claim "bob"
    collect_all()
    town:advance(1)
    assert.trace(town, "[   1] grant bob: db1")
    town:release "bob"
    town:stop()
  end)

  it("is not told after its connection was taken back", function()
    open()
    local owner = pool:owner()
    local function leak() pool:claim { owner = owner } end
    leak()
    owner:gone()
    town:advance(1)
    collect_all()
    assert.equal("", town:log "error")
    town:stop()
  end)

  it("is none where leak_detection is off, on the living pool too", function()
    open { leak_detection = false, max_connections = 2 }
    local function leak() pool:try_claim() end
    leak()
    leak()
    collect_all()
    collect_all()
    assert.equal("", town:log "error")
    assert.equal(2, pool:stats().busy)
    pool:set { max_connections = 3, leak_detection = true, claim_sites = true }
    town:advance(1)
    leak()
    collect_all()
    assert.matches("claimed at spec/pool/leak_spec.lua:%d+, was collected", town:log "error")
    pool:stop()
    town:advance(60000)
    assert.same({}, town.world.leaks())
  end)
end)

describe("a lease that is not leaked", function()
  it("is never told: released, closed, failed, lent by pool:with, or held", function()
    open { max_connections = 2, claim_sites = true, recovery = { connect = { delay_ms = 0 } } }
    local held = pool:try_claim()
    for _ = 1, 3 do
      pool:try_claim():release()
      collect_all()
      pool:try_claim():close()
      town:advance(1)
      collectgarbage()
      pool:try_claim():fail "bad"
      town:advance(1)
      collectgarbage()
      town:run(function()
        pool:with(function()
          collectgarbage()
          collectgarbage()
          assert.is_nil(pool:try_claim())
          town.world.sleep(10)
          collectgarbage()
          assert.is_nil(pool:try_claim())
        end)
      end)
    end
    assert.equal("", town:log "error")
    assert.equal(1, held.connection.id)
    held:release()
    town:stop()
  end)

  it("is what is held by a task that was killed in pool:with: it is closed by that", function()
    open()
    local task = town.world.spawn(function() pool:with(function() town.world.sleep(1000) end) end)
    town.world.kill(task)
    town:advance(1)
    assert.same({ 1 }, factory.closed)
    collect_all()
    assert.equal("", town:log "error")
    town:advance(1)
    assert.equal(1, pool:stats().leases_closed)
    town:stop()
  end)
end)

describe("pool:with in a task that is killed", function()
  it("closes what it had borrowed then, and nothing else", function()
    open { max_connections = 4 }
    local other = pool:claim()
    local task = town.world.spawn(function()
      for _ = 1, 3 do pool:with(function() end) end
      pool:with(function(_, lease) lease:release() end)
      pool:with(function()
        pool:with(function() town.world.sleep(1000) end)
      end)
    end)
    assert.equal(3, pool:stats().busy)
    town.world.kill(task)
    town:advance(1)
    assert.equal(2, #factory.closed)
    assert.equal(1, pool:stats().busy)
    assert.is_true(other:release())
    town:stop()
  end)

  it("leaves a connection alone that is somebody else's by then", function()
    open()
    local world = town.world
    local task = world.spawn(function()
      pool:with(function(_, lease)
        lease:release()
        world.sleep(1000)
      end)
    end)
    town:claim "bob"
    world.kill(task)
    town:advance(1)
    assert.same({}, factory.closed)
    assert.is_true(town:release "bob")
    town:stop()
  end)
end)

describe("leak_warning_ms", function()
  it("warns of a lease once, soon after its time, with the line that claimed it", function()
    open { leak_warning_ms = 100, max_connections = 2 }
    town:at(30, function() town:claim "early" end)
    local at
    town:at(50, function() at = line() town.leases.bob = pool:claim() end)
    town:at(129, function() town:release "early" end)
    town:advance(1000)
    local warned = town:log "warn"
    local ms, held = warned:match("^%[ *(%d+)%] cueball db: a lease on db1, claimed at spec/pool/leak_spec.lua:" .. at
      .. ", has been held for (%d+) ms$")
    assert.truthy(ms, warned)
    assert.is_true(tonumber(held) >= 100 and tonumber(held) <= 125)
    assert.equal(50 + held, tonumber(ms))
    town:release "bob"
    town:stop()
  end)

  it("warns of each lease that a connection has", function()
    open { leak_warning_ms = 10 }
    for _ = 1, 2 do
      local lease = pool:claim()
      town:advance(100)
      lease:release()
    end
    local _, count = town:log("warn"):gsub("has been held", "")
    assert.equal(2, count)
    town:stop()
  end)

  it("does not warn of what was taken back", function()
    open { leak_warning_ms = 10 }
    local owner = pool:owner()
    local lease = pool:claim { owner = owner }
    owner:gone()
    town:advance(100)
    assert.equal("", town:log "warn")
    assert.is_nil(lease:backend())
    town:stop()
  end)

  it("can be changed, turned on and off on the living pool", function()
    open { leak_warning_ms = 10000 }
    local lease = pool:claim()
    town:advance(10)
    pool:set { leak_warning_ms = 20 }
    town:advance(20)
    assert.matches("has been held for %d+ ms", town:log "warn")
    lease:release()
    pool:set { leak_warning_ms = false }
    town.world.logs = {}
    local before = #town:log "warn"
    lease = pool:claim()
    town:advance(100000)
    lease:release()
    assert.equal(before, #town:log "warn")
    pool:set { leak_warning_ms = 20 }
    lease = pool:claim()
    local _, lines = town:log("warn"):gsub("held for", "")
    town:advance(100)
    local _, more = town:log("warn"):gsub("held for", "")
    assert.equal(lines + 1, more)
    lease:release()
    town:stop()
  end)

  it("leaves no alarm behind when the pool stops", function()
    open { leak_warning_ms = 10000 }
    local lease = pool:claim()
    pool:stop()
    lease:release()
    town:advance(0)
    assert.equal("stopped", pool:state())
    assert.same({}, town.world.leaks())
  end)
end)

describe("the end of the program", function()
  it("is in order though leases are leaked in plenty", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write [[
      local cueball = require "cueball"
      local world = require("cueball.host.sim").new { seed = 1 }
      for number = 1, 20 do
        local pool = cueball.pool {
          host = world, max_connections = 50, resolver = cueball.resolver.static { "10.0.0.1:1" }, name = "p" .. number,
          claim_sites = true, leak_warning_ms = 5, connect = { connect = function() return {} end },
        }
        world.advance(10)
        local kept = {}
        for turn = 1, 40 do
          local lease = pool:try_claim()
          if turn % 3 == 0 then kept[#kept + 1] = lease end
          if turn % 10 == 0 then collectgarbage() end
        end
        if number % 2 == 0 then _G["pool" .. number], _G["kept" .. number] = pool, kept end
      end
      world.spawn(function() pool2:with(function() world.sleep(1000) end) end)
      io.write "end"]]
    file:close()
    local pipe = assert(io.popen("luajit " .. path .. " 2>&1; echo status $?"))
    local output = pipe:read "*a"
    pipe:close()
    os.remove(path)
    assert.equal("endstatus 0\n", output)
  end)
end)
