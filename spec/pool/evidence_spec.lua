--- Whose fault it was, as the Lua pool finds it out: from how a lease ends, from what its socket remembers, from what a factory says.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local town, pool

local RECOVERY = { default = { attempts = 3, timeout_ms = 500, delay_ms = 100, max_delay_ms = 1600, spread = 0 } }

local function open(behaviour, options)
  town = sim_pool.new(behaviour)
  pool = town:open({ max_connections = 1, recovery = RECOVERY, connect = cueball.connection.tcp { read_timeout_ms = 50 } }, options)
  return pool
end

-- Claims every 10 ms for so long, each in a task of its own; `use` is called with the lease and has to end it.
local function claims(for_ms, use)
  local served, refused = 0, 0
  for at = 0, for_ms - 10, 10 do
    town:at(town.world.time_ms() + at, function()
      town.world.spawn(function()
        local lease = pool:claim { timeout_ms = 200 }
        if not lease then refused = refused + 1 return end
        if use(lease) then served = served + 1 end
      end)
    end)
  end
  town:advance(for_ms + 1000)
  return served, refused
end

local function ask(socket)
  local ok, message = socket:send "x"
  if not ok then return nil, message end
  return socket:receive(1)
end

-- How a claimer may end a lease, whatever came of it.
local WAYS = {
  ["lease:release"] = function(lease)
    local answer = ask(lease.connection)
    lease:release()
    return answer
  end,
  ["lease:close"] = function(lease)
    local answer = ask(lease.connection)
    lease:close()
    return answer
  end,
}

describe("a server that closes before it delivered a byte", function()
  for way, use in pairs(WAYS) do
    it("is a backend that fails, though its claimers end by " .. way, function()
      open { latency = 0, reply = function(_, connection) connection:close() end }
      assert.equal(0, (claims(10000, use)))
      assert.is_true(pool:stats().backend_deaths >= 1)
      -- At 0, 100 and 300 ms, then after pauses of 400, 800, 1600 ms …; each for as long as a claim is there to try it.
      assert.is_true(town.servers[1].accepted <= 14, town.servers[1].accepted .. " connections")
      town:stop()
    end)
  end

  it("is one, though pool:with throws what it got", function()
    open { latency = 0, reply = function(_, connection) connection:close() end }
    for _ = 1, 500 do
      town.world.spawn(function() pcall(pool.with, pool, function(socket) return assert(ask(socket)) end, { timeout_ms = 200 }) end)
      town:advance(20)
    end
    assert.is_true(pool:stats().backend_deaths >= 1)
    assert.is_true(town.servers[1].accepted <= 14, town.servers[1].accepted .. " connections")
    assert.equal("db1: closed", pool:last_error())
    town:stop()
  end)
end)

describe("a server that closes after it has answered", function()
  for way, use in pairs(WAYS) do
    it("works, and its connections are replaced at once: " .. way, function()
      open { latency = 0, reply = function(_, connection)
        connection:send "y"
        connection:close()
      end }
      assert.same({ 500, 0 }, { claims(5000, use) })
      local stats = pool:stats()
      assert.same({ 0, 501 }, { stats.backend_deaths, stats.opened })
      town:stop()
    end)
  end

  it("is not met again by those who wait: the end came with the answer", function()
    open { latency = 1, reply = function(_, connection)
      connection:send "y"
      connection:close()
    end }
    local answers = 0
    for _ = 1, 5 do
      town.world.spawn(function()
        for _ = 1, 20 do
          local lease = pool:claim()
          if ask(lease.connection) then answers = answers + 1 end
          lease:release()
        end
      end)
    end
    town:advance(1000)
    assert.same({ 100, 100 }, { answers, pool:stats().closed_worn })
    town:stop()
  end)

  it("is alive again when it was dead, at its first answer", function()
    open { latency = 0, reply = function(_, connection)
      connection:send "y"
      connection:close()
    end }
    town.servers[1]:kill()
    town:advance(3000)
    assert.equal("failed", pool:state())
    town.servers[1]:start()
    town:advance(500) -- one connection, that has proven nothing
    assert.equal("failed", pool:state())
    town.world.spawn(function() WAYS["lease:close"](assert(pool:claim { timeout_ms = 0 })) end)
    town:advance(1)
    assert.equal("running", pool:state())
    assert.matches("backend db1 is alive again: a connection delivered what was asked for", town:log "info")
    town:stop()
  end)
end)

describe("a bug of a claimer's", function()
  it("costs a connect, and blames nobody: closed in any way, thrown in pool:with", function()
    open { latency = 0 }
    local sane = 0
    for _ = 1, 300 do
      town.world.spawn(function()
        pcall(pool.with, pool, function() error "attempt to index a nil value" end)
        pool:claim():close()
        pcall(pool.with, pool, function(socket)
          ask(socket)
          error "too late"
        end)
        if pool:with(ask) then sane = sane + 1 end
      end)
      town:advance(10)
    end
    local stats = pool:stats()
    assert.same({ 300, 0, 0, 0 }, { sane, stats.backend_deaths, stats.lost, stats.leases_failed })
    assert.is_nil(pool:last_error())
    town:stop()
  end)

  it("leaves others at least half of what they get without it", function()
    local function served_beside(bad)
      open({ latency = 0.1 }, { max_connections = 10 })
      town:advance(2000)
      local served, is_on = 0, true
      local function loop(fn)
        town.world.spawn(function()
          while is_on do
            fn()
            town.world.sleep(1)
          end
        end)
      end
      for _ = 1, bad do loop(function() pcall(pool.with, pool, function() error "a bug" end) end) end
      for _ = 1, 2 do loop(function() if pool:with(ask) then served = served + 1 end end) end
      town:advance(2000)
      is_on = false
      town:advance(100)
      town:stop()
      return served
    end
    local alone = served_beside(0)
    local beside = served_beside(4)
    assert.is_true(alone > 1000)
    assert.is_true(beside >= alone / 2, ("%d beside it, %d alone"):format(beside, alone))
  end)
end)

describe("an answer that does not come in time", function()
  for way, use in pairs(WAYS) do
    it("counts for outlier, and not for death: " .. way, function()
      open({ servers = 2, latency = 0 }, { max_connections = 2, outlier = { consecutive = 3 } })
      town.servers[2]:set { reply = false }
      town:advance(1500)
      local ejected = {}
      pool:subscribe(function(event) if event.kind == "backend_ejected" then ejected[#ejected + 1] = event.backend end end)
      claims(1000, use)
      assert.same({ "db2" }, ejected)
      assert.equal(0, pool:stats().backend_deaths)
      town:stop()
    end)
  end
end)

describe("what broken says", function()
  local is_broken

  local function open_with(kind)
    is_broken = false
    open({}, { connect = sim_pool.factory { broken = function()
      if is_broken then return "no good", kind end
    end } })
    town:trace_slots()
    local lease = pool:claim()
    is_broken = true
    lease:release()
    is_broken = false
    town:advance(0)
  end

  for _, kind in ipairs { "unfit", "worn", "timeout" } do
    it(kind .. ": it is replaced at once", function()
      open_with(kind)
      assert.trace(town, ([[
        [   0] slot 0 db1: idle -> busy (claim)
        [   0] slot 0 db1: busy -> closing (%s)
        [   0] slot 0 db1: closing -> connecting (closed)
        [   0] slot 0 db1: connecting -> idle (opened)]]):format(kind))
      assert.same({ 0, 1 }, { pool:stats().lost, pool:stats().closed })
      assert.equal(kind == "timeout" and "db1: no good" or nil, pool:last_error())
      town:stop()
    end)
  end

  it("lost: its backend's fault, after a pause if it had proven nothing", function()
    open_with "lost"
    town:advance(100)
    assert.trace(town, [[
      [   0] slot 0 db1: idle -> busy (claim)
      [   0] slot 0 db1: busy -> closing (lost)
      [   0] slot 0 db1: closing -> backoff (closed)
      [ 100] slot 0 db1: backoff -> connecting (delay)
      [ 100] slot 0 db1: connecting -> idle (opened)]])
    assert.same({ 1, "db1: no good" }, { pool:stats().lost, pool:last_error() })
    town:stop()
  end)

  it("a kind that there is none of: a warning, and nobody is blamed", function()
    open_with "rotten"
    assert.matches("broken says the kind rotten; there are lost, timeout, unfit and worn", town:log "warn")
    assert.equal(0, pool:stats().lost)
    town:stop()
  end)
end)

describe("one found dead", function()
  -- Ten connections of which nothing more is heard; those opened from now on are good.
  local function fail_over(factory, options)
    local generation = 1
    local all = with({ max_connections = 10, connect = factory(function() return generation end) }, options)
    open({}, all)
    town:advance(2000)
    generation = 2
  end

  -- Users 20 ms apart, who wait half a second for an answer and then fail the lease.
  local function users(count)
    local met, good = 0, 0
    for _ = 1, count do
      town.world.spawn(function()
        local lease = pool:claim { timeout_ms = 5000 }
        if not lease then return end
        if lease.connection.generation == 2 then
          good = good + 1
          town.world.sleep(5)
          return lease:release()
        end
        met = met + 1
        town.world.sleep(5)
        lease:fail "no answer"
      end)
      town:advance(20)
    end
    town:advance(10000)
    return met, good
  end

  it("has the others checked before they are lent", function()
    local most, checking = 0, 0
    fail_over(function(now)
      return {
        connect = function() return { generation = now() } end,
        check = function(connection)
          checking = checking + 1
          most = math.max(most, checking)
          town.world.sleep(100)
          checking = checking - 1
          return connection.generation == now()
        end,
      }
    end)
    local met, good = users(200)
    assert.same({ 1, 199 }, { met, good })
    assert.equal(9, most) -- in parallel
    town:stop()
  end)

  it("has the others lent last where there is no check", function()
    fail_over(function(now) return function() return { generation = now() } end end)
    -- One each 20 ms while the place of the first pauses for 100 ms; then there is a connection that is not suspect.
    assert.same({ 6, 44 }, { users(50) })
    town:stop()
  end)

  it("tells how many are suspect in pool:backends()", function()
    fail_over(function(now) return function() return { generation = now() } end end)
    pool:claim():fail "no answer"
    assert.equal(9, pool:backends()[1].suspect)
    pool:claim():release()
    assert.equal(8, pool:backends()[1].suspect)
    town:stop()
  end)
end)

describe("why a backend is dead", function()
  it("is known though others of its connections opened since", function()
    local deaths = {}
    open({}, { max_connections = 10, check_interval_ms = 1000, check_timeout_ms = 100, connect = {
      connect = function() return {} end,
      check = function() town.world.sleep(1e6) end,
    } })
    pool:subscribe(function(event)
      if event.kind == "backend_dead" then deaths[#deaths + 1] = event.error end
    end)
    town:advance(20000)
    assert.same({ "the check took too long" }, deaths)
    assert.equal("the check took too long", pool:backends()[1].error)
    assert.matches("dead: db1 %(the check took too long%)", town:log "error")
    town:stop()
  end)
end)

describe("a server with a limit", function()
  it("is said to take so many, once, and asked ever less often", function()
    open({ servers = 2, latency = 0 }, { max_connections = 12 })
    town.servers[1]:set { max_connections = 4, when_full = "refuse" }
    for _, connection in ipairs(town.servers[1]:list()) do connection:reset() end
    town:advance(60000)
    local by_key = {}
    for _, backend in ipairs(pool:backends()) do by_key[backend.key] = { backend.idle, backend.takes } end
    assert.same({ db1 = { 4, 4 }, db2 = { 7 } }, by_key)
    assert.matches("db1 takes 4, the pool wants %d+: the rest goes to others$", town:log "info")
    assert.equal(1, select(2, town:log("info"):gsub("db1 takes", "")))
    town:stop()
  end)
end)

describe("renewing", function()
  local factory

  local function open_two(options)
    factory = sim_pool.factory()
    local all = with({ max_connections = 4, connect = factory }, options)
    open({ servers = 2 }, all)
    town:advance(2000)
  end

  it("replaces all connections over ten seconds, and leases as they come back", function()
    open_two()
    local lease = pool:claim()
    assert.is_true(pool:renew())
    town:advance(10000)
    assert.equal(3, #factory.closed)
    assert.is_true(lease:release())
    town:advance(1)
    assert.equal(4, #factory.closed)
    assert.same({ 8, 0, 0 }, { #factory.made, pool:stats().lost, pool:stats().backing_off })
    town:advance(60000)
    assert.equal(8, #factory.made)
    town:stop()
  end)

  it("replaces those of one backend, in the time given", function()
    open_two()
    assert.is_true(pool:renew { backend = "db2", over_ms = 0 })
    town:advance(1)
    for index = 5, 6 do assert.equal("db2", factory.made[index].backend.key) end
    assert.equal(6, #factory.made)
    local renewed, message, name = pool:renew { backend = "db3" }
    assert.same({ 'no backend has the key "db3"', "not_found" }, { message, name })
    assert.is_nil(renewed)
    town:stop()
  end)

  it("goes with another factory, if that is wanted", function()
    open_two()
    local second = sim_pool.factory()
    assert.is_true(pool:replace { connect = second })
    town:advance(20000)
    assert.equal(0, #second.made)
    assert.is_true(pool:replace { connect = second, renew = true })
    town:advance(10000)
    assert.same({ 4, 4 }, { #factory.closed, #second.made })
    local resolver = setmetatable({}, { __index = { run = function(_, sink) sink:set {} end } })
    assert.is_true(pool:replace { connect = second, resolver = resolver, renew = true })
    assert.equal(resolver, pool.sink.resolver)
    town:stop()
  end)

  it("checks what it is told", function()
    open_two()
    assert.blames("pool:renew: option 'over_ms' must be a number of milliseconds from 0 to 86400000, not -1",
      function() pool:renew { over_ms = -1 } end)
    assert.blames("pool:replace: option 'renew' must be true or false, beside option 'connect'",
      function() pool:replace { renew = true } end)
    town:stop()
  end)
end)

describe("a set", function()
  local function open_set(options)
    local all = with({ target = 1, maximum = 2, recovery = RECOVERY, connect = cueball.connection.tcp {} }, options)
    town = sim_pool.new { servers = 2, latency = 0 }
    all.host, all.resolver = town.world, cueball.resolver.static(sim_pool.backends(1, 2))
    return cueball.set(all)
  end

  for _, how in ipairs { "fail", "close" } do
    it("goes to another backend when the preferred one accepts and closes, though members end by member:" .. how, function()
      local set = open_set {
        added = function(member)
          member.connection:receive(1) -- until the connection is over: these servers say nothing
          member[how](member, "closed")
        end,
        removed = function(member) member:release() end,
      }
      town:advance(1)
      local first = set:backends()[1].key
      town:advance(100)
      for number, server in ipairs(town.servers) do
        server:set { accept_then_close = "db" .. number == first }
        server:reset_all()
      end
      town:advance(60000)
      local bad = town.servers[tonumber(first:match "%d")]
      assert.is_true(bad.accepted <= 45, bad.accepted .. " connections")
      assert.equal(1, #set:connections())
      assert.not_equal(first, set:connections()[1].backend.key)
      set:stop()
      town:advance(30000)
    end)
  end

  it("has nothing to renew", function()
    local set = open_set { added = function() end, removed = function(member) member:release() end }
    assert.blames("pool:renew: a set's connections are recalled, not renewed", function() set.pool:renew() end)
    set:stop()
    town:advance(30000)
  end)
end)
