--- Visits: the end of somebody who claimed from several pools, told from C by a bare pointer (cueball_visit.h).
local native = require "cueball.native"
local core_world = require "spec.support.core_world"
local lib, ffi = native.lib, native.ffi

describe("a visit", function()
  local worlds, bell, visit, visitors

  before_each(function()
    worlds, visitors = {}, {}
    bell, visit = ffi.new "cueball_doorbell", ffi.new "cueball_visit"
    visit.bell = bell
    for index = 1, 2 do
      local world = core_world.new { max_connections = 2 }
      world:add "db1"
      world:advance(1000)
      world:owner "o"
      worlds[index] = world
      visitors[index] = ffi.new("cueball_visitor", { owner = world.owners.o, pool = index })
    end
  end)

  local function begin(...)
    visit.first, visit.is_over = nil, 0
    for _, index in ipairs { ... } do
      visitors[index].next = visit.first
      visit.first = visitors[index]
    end
  end

  -- What hangs on the doorbell, taken off.
  local function taken()
    local list, visitor = {}, bell.ended
    bell.ended = nil
    while visitor ~= nil do
      list[#list + 1] = visitor.pool
      visitor.has_ended = 0
      visitor = visitor.next_ended
    end
    return list
  end

  it("that is over ends what it had, and hangs those pools on the doorbell", function()
    begin(1, 2)
    worlds[1]:claim("ann", { owner = "o" })
    lib.cueball_visit_over(visit)
    assert.equal(1, visit.is_over)
    assert.equal(0, tonumber(lib.cueball_pool_deadline(worlds[1].pool)))
    assert.is_true(tonumber(lib.cueball_pool_deadline(worlds[2].pool)) > 0)
    assert.same({ 1 }, taken())
    worlds[1]:advance(0)
    assert.equal(1, worlds[1]:stats().leases_revoked)
  end)

  it("leaves alone the pools of visits before it", function()
    begin(1, 2)
    lib.cueball_visit_over(visit)
    begin(2)
    worlds[1]:claim("ann", { owner = "o" })
    worlds[2]:claim("bob", { owner = "o" })
    lib.cueball_visit_over(visit)
    assert.same({ 2 }, taken())
    assert.equal(1, worlds[1]:stats().busy)
  end)

  it("may be followed by another before anybody has looked: each pool hangs there once", function()
    for round = 1, 3 do
      begin(1, 2)
      worlds[1]:claim("ann" .. round, { owner = "o" })
      worlds[2]:claim("bob" .. round, { owner = "o" })
      lib.cueball_visit_over(visit)
    end
    assert.equal(2, #taken())
    for _, world in ipairs(worlds) do
      world:advance(0)
      assert.equal(0, world:stats().busy)
    end
  end)
end)
