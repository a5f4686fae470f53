--- Sets: a backend is taken out of use for a while, and what would come of a change.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"

local town, set

local function open(options)
  town = sim_pool.new { servers = 2, latency = 1 }
  set = cueball.set {
    host = town.world, resolver = cueball.resolver.static(sim_pool.backends(1, 2)), connect = cueball.connection.tcp {},
    decoherence_interval_ms = false, target = options.target,
    added = function(member) town.world.trace("added %s", member.key) end,
    removed = function(member, cause)
      town.world.trace("removed %s (%s)", member.key, cause)
      member:release()
    end,
  }
  town:advance(100)
end

local function stop()
  set:stop()
  town:advance(10)
end

local function keys()
  local list = {}
  for _, member in ipairs(set:connections()) do list[#list + 1] = member.backend.key end
  return table.concat(list, " ")
end

describe("a set", function()
  it("has the connection of a drained backend removed, and another elsewhere first", function()
    open { target = 1 }
    local key = keys()
    local other = key == "db1" and "db2" or "db1"
    assert.is_true(set:drain { backend = key })
    town:advance(50)
    assert.matches(("added %s.1\n.*added %s.1\n.*removed %s.1 %%(drain%%)$"):format(key, other, key), town.world.trace_text())
    assert.equal(other, keys())
    stop()
  end)

  it("opens to it again when it is restored", function()
    open { target = 2 }
    set:drain { backend = "db1" }
    town:advance(50)
    assert.equal("db2", keys())
    set:restore { backend = "db1" }
    town:advance(50)
    assert.equal("db1 db2", keys())
    assert.is_true(set:ask_anew())
    assert.equal("not_found", select(3, set:drain { backend = "db9" }))
    assert.blames("set:drain: option 'backend' is required: the key of a backend", function() set:drain() end)
    stop()
  end)

  it("says what would come, by the names of its options", function()
    open { target = 1 }
    local made = set:plan { target = 2, maximum = 2 }
    assert.same({ db1 = 1, db2 = 1 }, made.after)
    assert.same({ 1, 0 }, { made.opens, made.closes })
    assert.matches("^maximum = 2, target = 2:", made.text)
    stop()
  end)
end)
