--- Pools that were dropped without stop are stopped: their connections are closed and their resolvers end.
local collect = require "spec.support.collect"
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local uv = require "cueball.host.uv"
local with = require "spec.support.with"

local world, server

before_each(function()
  world = sim.new { seed = 1 }
  server = world.server("10.0.0.1", 80)
end)

-- A pool that is used and forgotten; → a table that is empty once it is collected
local function forget(options)
  local all = with({
    host = world, name = "db", max_connections = 3, connect = cueball.connection.tcp {},
    resolver = cueball.resolver.static { "10.0.0.1:80" },
  }, options)
  local pool = cueball.pool(all)
  local kept = setmetatable({ pool = pool }, { __mode = "v" })
  world.run(function()
    pool:ready { connections = 3 }
    pool:with(function(socket)
      socket:send "x"
      socket:receive(1)
    end)
    world.sleep(2000)
  end)
  return kept, pool
end

describe("a pool that was dropped", function()
  it("is collected, its connections are closed, and the log says so", function()
    local kept, pool = forget()
    collect()
    world.advance(20000)
    assert.equal(3, server.connections)
    assert.equal("running", pool:state())
    pool = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    world.advance(11000)
    assert.equal(0, server.connections)
    assert.same({}, world.leaks())
    local last = world.logs[#world.logs]
    assert.equal("warn", last.level)
    assert.equal("cueball db: the pool was dropped without pool:stop(); it is stopped, and its 3 connections are closed", last.message)
  end)

  it("takes its resolver along, whatever that says meanwhile", function()
    local ended, told, answers = false, nil, {}
    local kept, pool = forget { resolver = function(sink)
      told = sink
      sink:set { { address = "10.0.0.1", port = 80 } }
      while sink:sleep(1000) do sink:set { { address = "10.0.0.1", port = 80 } } end
      ended = true
    end }
    assert.is_table(pool)
    pool = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    for _, method in ipairs { "add", "remove", "set", "fail", "recover", "wake" } do
      answers[#answers + 1] = select(3, told[method](told, {}))
    end
    assert.same({ "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping", "pool_stopping" }, answers)
    world.advance(11000)
    assert.is_true(ended)
    assert.same({}, world.leaks())
  end)

  it("stays while a lease of it does", function()
    local kept, pool = forget()
    local lease = pool:try_claim()
    pool = nil -- luacheck: ignore
    collect()
    world.advance(60000)
    assert.is_table(kept.pool)
    assert.is_true(lease:release())
    lease = nil -- luacheck: ignore
    collect()
    assert.is_nil(kept.pool)
    world.advance(11000)
    assert.equal(0, server.connections)
  end)

  -- A task that waits without a limit of time is known to the pool alone, and the pool to that task alone. The simulator keeps its
  -- tasks, so this is on libuv.
  local waits = {
    ["a claim waits"] = function(pool) return assert(pool:claim()):release() end,
    ["pool:with waits"] = function(pool) return pool:with(function() return true end) end,
    ["somebody waits in pool:ready"] = function(pool) return pool:ready() end,
  }
  for what, wait in pairs(waits) do
    it("stays while " .. what, function()
      local kept, is_well, answer = setmetatable({}, { __mode = "v" }), false, nil
      local function claimer()
        local pool = cueball.pool {
          host = uv, name = "db", max_connections = 1, resolver = cueball.resolver.static { "10.0.0.1:80" },
          connect = function()
            if is_well then return {} end
            return nil, "not yet"
          end,
          recovery = { default = { attempts = 1000, delay_ms = 5, max_delay_ms = 5 } },
        }
        kept.pool = pool
        local found = wait(pool)
        pool:stop()
        answer = found
      end
      uv.run(function()
        uv.spawn(claimer)
        uv.sleep(1)
        collect()
        local is_kept = kept.pool ~= nil
        is_well = true
        for _ = 1, 6000 do
          if answer or not is_kept then break end
          uv.sleep(5)
        end
      end)
      assert.is_truthy(answer)
      collect()
      assert.is_nil(kept.pool)
    end)
  end

  it("that was stopped is nothing to warn about", function()
    local _, pool = forget()
    world.run(function() pool:stop() end)
    assert.same({}, world.leaks())
    pool = nil -- luacheck: ignore
    collect()
    world.advance(60000)
    for _, line in ipairs(world.logs) do assert.is_nil(line.message:find "dropped") end
  end)
end)
