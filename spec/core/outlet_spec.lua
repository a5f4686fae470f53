--- Two outlets: answers to claims and chores of slots are drained apart, or together.

local native = require "cueball.native"
local World = require "spec.support.core_world"

local ffi, lib = native.ffi, native.lib

local NAMES = { "open", "give_up", "close", "check", "grant", "refuse", "recall" }

--- What comes out of one outlet, until it is empty.
local function drained(world, outlet)
  local action, found = ffi.new "cueball_action", {}
  while lib["cueball_pool_next_" .. outlet](world.pool, action) do
    found[#found + 1] = NAMES[action.kind]
  end
  assert.equal(lib.CUEBALL_ACTION_NONE, action.kind)
  return table.concat(found, " ")
end

local function actions_of(world)
  local outlook = lib.cueball_pool_outlook(world.pool)
  return ("%d, %d of them answers"):format(outlook.actions, outlook.answers)
end

local function claim(world, timeout_ms)
  return lib.cueball_pool_claim(world.pool, world.now, ffi.new("cueball_claim_options", { timeout_ms = timeout_ms or 0 }),
    ffi.new "cueball_grant")
end

--- A world whose actions nobody takes, with so many claims that wait and the attempts for them.
local function world_of(claims, options)
  local world = World.new(options)
  world.is_draining = false
  world:set { "db1" }
  for _ = 1, claims do assert.equal(lib.CUEBALL_WAITING, claim(world)) end
  return world
end

--- Takes the attempts, and says that they went well.
local function open_all(world)
  local action, conns = ffi.new "cueball_action", {}
  while lib.cueball_pool_next_chore(world.pool, action) do
    if action.kind == lib.CUEBALL_ACTION_OPEN then conns[#conns + 1] = action.conn end
  end
  for _, conn in ipairs(conns) do assert.equal("ok", world:input("conn_opened", conn)) end
end

describe("answers and chores", function()
  it("are drained apart, each in its order", function()
    local world = world_of(3, { max_connections = 2, rebalance_delay_ms = 0 })
    assert.equal("2, 0 of them answers", actions_of(world))
    open_all(world)
    assert.equal("2, 2 of them answers", actions_of(world))
    assert.equal("", drained(world, "chore"))
    world:input("stop")
    assert.equal("3, 3 of them answers", actions_of(world))
    assert.equal("grant grant refuse", drained(world, "answer"))
    assert.equal("0, 0 of them answers", actions_of(world))
  end)

  it("are drained together with the answers first", function()
    local world = world_of(1, { max_connections = 2, rebalance_delay_ms = 0, claim_timeout_ms = 10 })
    world.now = world.now + 10000000ULL
    world:input("time_advanced")
    assert.equal("3, 1 of them answers", actions_of(world))
    assert.equal("refuse open open", drained(world, "action"))
  end)

  it("of each other do not change what comes", function()
    local world = world_of(1, { max_connections = 2, rebalance_delay_ms = 0, claim_timeout_ms = 10 })
    world.now = world.now + 10000000ULL
    world:input("time_advanced")
    assert.equal("open open", drained(world, "chore"))
    assert.equal("refuse", drained(world, "answer"))
  end)

  it("ask a lease of a set back after it was granted", function()
    local world = world_of(1, { is_set = true, max_connections = 2, spares = 1, rebalance_delay_ms = 0 })
    open_all(world)
    assert.equal("1, 1 of them answers", actions_of(world))
    world:input("stop")
    assert.equal("2, 1 of them answers", actions_of(world))
    assert.equal("", drained(world, "chore"))
    assert.equal("grant", drained(world, "answer"))
    assert.equal("recall", drained(world, "chore"))
  end)
end)
