--- What a claim and a release cost: no garbage once they are compiled.
local sim_pool = require "spec.support.sim_pool"

-- LuaJIT that runs with a debug hook (coverage) or without its compiler cannot show this.
local is_compiled = jit.status() and not debug.gethook()

local PAIRS = 1000000

local function pairs_of(pool, count)
  for _ = 1, count do pool:try_claim():release() end
end

local function pairs_apart(pool, count)
  for _ = 1, count do
    local lease = pool:try_claim()
    assert(lease.connection)
    lease:release()
  end
end

--- KB that so many pairs leave behind.
local function garbage(fn, pool)
  jit.flush() -- of what other specs have taught the compiler
  collectgarbage()
  collectgarbage()
  fn(pool, 2000)
  collectgarbage "stop"
  local before = collectgarbage "count"
  fn(pool, PAIRS)
  local after = collectgarbage "count"
  collectgarbage "restart"
  return after - before
end

describe("a pair of try_claim and release", function()
  local town, pool

  before_each(function()
    town = sim_pool.new { servers = 3 }
    pool = town:open { max_connections = 15, connect = sim_pool.factory() }
    town:advance(10)
  end)

  for name, fn in pairs { ["in one expression"] = pairs_of, ["with the lease in a local"] = pairs_apart } do
    it("makes no garbage, " .. name, function()
      if not is_compiled then return pending "needs the compiler" end
      local kilobytes = garbage(fn, pool)
      assert.is_true(kilobytes < 64, ("%d pairs left %.1f KB"):format(PAIRS, kilobytes))
      assert.equal(15, pool:stats().idle)
      town:stop()
    end)
  end
end)
