--- What passes the door is all that a pool's core is told: played back to another core, it brings about the same.
local ffi = require "ffi"
local cueball = require "cueball"
local door = require "cueball.pool.core"
local sim_pool = require "spec.support.sim_pool"

-- Those of the door's functions that change nothing.
local QUESTIONS = {}
for name in ("state_of stats closed_by explain memory backend_at backend_info backend_spec check"):gmatch "%S+" do
  QUESTIONS[name] = true
end

-- A copy that stays as it is, of an argument that is overwritten later. What it points at is kept in `texts`.
local function copy(value, texts)
  if type(value) ~= "cdata" then return value end
  local ok, made = pcall(function() return ffi.typeof(value)(value) end)
  if not ok then return value end -- a number or a handle in a cdata
  if ffi.istype("cueball_backend_spec", made) then
    for _, member in ipairs { "key", "name", "address" } do
      local text = ffi.string(value[member])
      texts[#texts + 1], made[member] = text, text
    end
  end
  return made
end

local function copy_list(specs, count, texts)
  local made = ffi.new("cueball_backend_spec[?]", count)
  for index = 0, count - 1 do made[index] = copy(ffi.new("cueball_backend_spec", specs[index]), texts) end
  return made
end

-- An action in words.
local function words_of(action)
  return ("%d slot %d conn %.0f lease %.0f user %.0f until %.0f"):format(tonumber(action.kind), action.slot, tonumber(action.conn),
    tonumber(action.lease), tonumber(action.user), tonumber(action.deadline))
end

-- Writes down what passes the doors that are made from now on: for each core { options, seed, now, calls, texts }.
local function record(cores)
  local new = door.new
  door.new = function(options, seed, now, is_set)
    local core = assert(new(options, seed, now, is_set))
    local one = { options = copy(options, {}), seed = seed, now = now, is_set = is_set, calls = {}, texts = {} }
    cores[#cores + 1] = one
    door.between(core, function(name, call, ...)
      if QUESTIONS[name] then return call(...) end
      local given = { ... }
      local kept = {}
      for index = 1, select("#", ...) do kept[index] = copy(given[index], one.texts) end
      if name == "backends_replaced" then kept[2] = copy_list(given[2], given[3], one.texts) end
      local entry = { name = name, given = kept, count = select("#", ...) }
      one.calls[#one.calls + 1] = entry
      local result = call(...)
      entry.result = type(result) == "cdata" and tonumber(result) or result
      if name == "next_action" and result then entry.action = words_of(core.action) end
      return result
    end)
    return core
  end
  return function() door.new = new end
end

-- The functions of a door that fill in their last argument themselves.
local FILLED = { claim = true, next_action = true, next_event = true, owner_new = true }

-- Tells another core the same.
-- @return the first difference, or nil
local function replay(one)
  local core = assert(door.new(one.options, one.seed, one.now, one.is_set))
  for index, entry in ipairs(one.calls) do
    local count = FILLED[entry.name] and entry.count - 1 or entry.count
    local result = core[entry.name](core, unpack(entry.given, 1, count))
    result = type(result) == "cdata" and tonumber(result) or result
    local action = entry.action and words_of(core.action) or nil
    if result ~= entry.result or action ~= entry.action then
      return ("call %d, %s: %s, %s; was %s, %s"):format(index, entry.name, tostring(result), tostring(action), tostring(entry.result),
        tostring(entry.action))
    end
  end
end

describe("what passed the door", function()
  local cores, finish, town

  before_each(function()
    cores = {}
    finish = record(cores)
    town = sim_pool.new { servers = 3, seed = 7, refuse = 0.1, hang = 0.05, latency = 1 }
  end)

  after_each(function()
    finish()
    town.world.close()
  end)

  local function assert_same()
    finish()
    assert.equal(1, #cores)
    assert.is_true(#cores[1].calls > 300, #cores[1].calls .. " calls")
    assert.is_nil(replay(cores[1]))
  end

  it("is all that a pool's core is told", function()
    local pool = town:open { max_connections = 6, claim_timeout_ms = 40, connect = cueball.connection.tcp { read_timeout_ms = 20 } }
    local random = require("cueball.random").from(3)
    for claimer = 1, 12 do
      town.world.spawn(function()
        for _ = 1, 15 do
          local lease = pool:claim(random() < 0.3 and { timeout_ms = 5 } or nil)
          town.world.sleep(random() * 8)
          local ways = { "release", "release", "release", "close", "fail" }
          if lease then lease[ways[math.floor(random() * #ways) + 1]](lease) end
          if claimer == 1 then pool:try_claim() end -- and forgets it
        end
      end)
    end
    town:at(60, function() pool:set { max_connections = 4, spares = 1 } end)
    town:at(70, function() pool:replace { resolver = cueball.resolver.static(sim_pool.backends(2, 3)) } end)
    town:at(90, function() pool:renew { over_ms = 20 } end)
    town:advance(400)
    collectgarbage()
    collectgarbage()
    town:advance(2000)
    pool:stop()
    town:advance(30000)
    assert_same()
  end)

  it("is all that the core of a set is told", function()
    local set = cueball.set {
      host = town.world, resolver = cueball.resolver.static(sim_pool.backends(1, 3)), connect = cueball.connection.tcp {},
      target = 2, maximum = 3,
      added = function(member)
        town.world.sleep(30)
        member:fail "it was slow"
      end,
      removed = function(member) member:release() end,
    }
    town:advance(20000)
    set:stop()
    town:advance(30000)
    assert_same()
  end)
end)
