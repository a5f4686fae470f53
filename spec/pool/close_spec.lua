--- What a factory's evidence says of a connection that its claimer closes, and closes that the host comes to late.
local sim_pool = require "spec.support.sim_pool"

local RECOVERY = { default = { attempts = 3, timeout_ms = 500, delay_ms = 100, max_delay_ms = 1600, spread = 0 } }

local town, pool

local function open(factory, may_wait)
  town = sim_pool.new { latency = 0 }
  -- A host without `tasks` cannot tell what may not wait.
  local host = may_wait and setmetatable({ tasks = false }, { __index = town.world }) or nil
  pool = town:open { host = host, max_connections = 1, recovery = RECOVERY, connect = factory }
end

describe("what evidence says of a connection that its claimer closes", function()
  -- → how many were lost, and what is known of it
  local function said(evidence, use)
    local factory = sim_pool.factory { evidence = evidence, broken = function() return "left half closed" end }
    open(factory)
    town:advance(10)
    use(pool)
    local stats = pool:stats()
    local seen = { stats.lost, pool:last_error() or "nothing" }
    town:stop()
    return seen
  end
  local function close_lease() pool:claim():close() end

  it("counts: lost and timeout, the other kinds and nothing blame nobody", function()
    local function says(...)
      local kind = { ... }
      return function(connection) return connection.id == 1 and "READONLY" or nil, unpack(kind) end
    end
    assert.same({ 1, "db1: READONLY" }, said(says "lost", close_lease))
    assert.same({ 0, "db1: READONLY" }, said(says "timeout", close_lease))
    assert.same({ 0, "nothing" }, said(says "unfit", close_lease))
    assert.same({ 0, "nothing" }, said(function() end, close_lease))
    assert.same({ 1, "db1: READONLY" }, said(says "lost", function() pcall(pool.with, pool, function() error "a bug" end) end))
  end)

  it("is not asked at a release or a failure; one that throws, and a kind that there is none of, are logged", function()
    local function throw() error "asked" end
    assert.same({ 0, "nothing" }, said(throw, function() pool:claim():release() end))
    assert.same({ 0, "db1: why" }, said(throw, function() pool:claim():fail "why" end))
    assert.same({ 0, "nothing" }, said(throw, close_lease))
    assert.matches("the connection factory's evidence threw: .*asked", town:log "error")
    assert.same({ 0, "nothing" }, said(function() return "READONLY", "odd" end, close_lease))
    assert.matches("the connection factory's evidence says the kind odd; there are lost, timeout, unfit and worn", town:log "warn")
  end)

  it("may not wait", function()
    assert.same({ 0, "nothing" }, said(function()
      town.world.sleep(50)
      return "READONLY", "lost"
    end, function() town.world.spawn(close_lease) end))
    assert.matches("the connection factory's evidence threw", town:log "error")
  end)

  it("says nothing where it waits, and the lease is ended meanwhile", function()
    for _, ends in ipairs { "by its owner", "by another task" } do
      local ways = {}
      open(sim_pool.factory { evidence = function(connection)
        if connection.id > 1 then return nil end
        town.world.sleep(50)
        return "READONLY", "lost"
      end }, true)
      town:advance(1)
      local owner = pool:owner()
      town:claim("alice", { owner = owner })
      local function close() ways[#ways + 1] = { town.leases.alice:close() } end
      town.world.spawn(close)
      if ends == "by its owner" then owner:gone() else town.world.spawn(close) end
      town:advance(200)
      assert.same({ ends == "by its owner" and 0 or 1, 1 }, { pool:stats().lost, pool:stats().idle }, ends)
      assert.equal("stale", ways[#ways][3], ends)
      town:stop()
    end
  end)
end)

describe("a close that the host has no time for", function()
  -- A host that begins no task from some moment on, until it is told to.
  local later, closed

  local function make()
    later, closed = nil, {}
    town = sim_pool.new { latency = 0 }
    local host = setmetatable({ errand = function(fn, ...)
      if not later then return town.world.errand(fn, ...) end
      local task = { fn, ... }
      later[#later + 1] = task
      return task
    end }, { __index = town.world })
    local factory = sim_pool.factory { close = function(connection) closed[#closed + 1] = connection.id end }
    pool = town:open { host = host, max_connections = 1, recovery = RECOVERY, connect = factory }
    town:advance(10)
  end

  local function catch_up()
    local tasks = later
    later = nil
    for _, task in ipairs(tasks) do town.world.errand(unpack(task)) end
  end

  it("blames no backend: it is done when there is time, and the slot goes on meanwhile", function()
    make()
    later = {}
    pool:claim():close()
    town:advance(600)
    assert.same({ 1, {} }, { pool:stats().connecting, closed })
    assert.equal("", town:log "warn")
    catch_up()
    town:advance(10)
    assert.same({ 1, { 1 } }, { pool:stats().idle, closed })
    assert.equal("", town:log "warn")
    town:stop()
  end)

  it("is done also where the pool has stopped", function()
    make()
    later = {}
    town:run(function() pool:stop() end)
    assert.same({}, closed)
    catch_up()
    town:advance(10)
    assert.same({ 1 }, closed)
    assert.equal("", town:log "warn")
    town:stop()
  end)
end)
