--- What a claim and a release cost: no garbage once they are compiled, whether leaks are looked for or not.
--
-- Measured in a LuaJIT of its own: what others had compiled before decides where traces begin, and a lease that
-- outlives the trace it was made in is a table after all.

local PAIRS = 1000000
local KB_MAX = 64

local PROGRAM = [[
local cueball = require "cueball"
local world = require("cueball.host.sim").new { seed = 1 }
local pool = cueball.pool {
  host = world, max_connections = 15, resolver = cueball.resolver.static { "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1" },
  connect = { connect = function() return {} end, close = function() end },
  leak_detection = %s,
}
world.advance(10)
local function pairs_of(count)
  for _ = 1, count do
    %s
  end
end
collectgarbage()
collectgarbage()
pairs_of(2000)
collectgarbage "stop"
local before = collectgarbage "count"
pairs_of(%d)
local grown = collectgarbage "count" - before
assert(pool:stats().idle == 15 and pool:stats().released == pool:stats().claims)
io.write(("%%.0f"):format(grown))
]]

-- The same on libuv, with real sockets to a server in the same process; in a task, so that claims may wait.
local PROGRAM_TCP = [[
local cueball = require "cueball"
local server = require "spec.support.server"
local one = server.listen(function(client) client:read_start(function() end) end)
cueball.host().log_to(function() end)
local grown
cueball.run(function()
  local pool = cueball.pool {
    max_connections = 10, resolver = cueball.resolver.static { "127.0.0.1:" .. one.port }, connect = cueball.connection.tcp {},
  }
  while pool:stats().idle < 10 do cueball.sleep(1) end
  local function nothing() end
  local function pairs_of(count)
    for _ = 1, count do
      %s
    end
  end
  jit.flush()
  collectgarbage()
  collectgarbage()
  pairs_of(2000)
  collectgarbage "stop"
  local before = collectgarbage "count"
  pairs_of(%d)
  grown = collectgarbage "count" - before
  assert(pool:stats().idle == 10 and pool:stats().released == pool:stats().claims)
  pool:stop()
  one:close()
end)
io.write(("%%.0f"):format(grown))
]]

-- KB that a program says to have left behind.
local function kilobytes_of(program)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(program)
  file:close()
  local pipe = assert(io.popen("luajit " .. path .. " 2>&1"))
  local output = pipe:read "*a"
  pipe:close()
  os.remove(path)
  return assert(tonumber(output), output)
end

-- KB that so many repetitions leave behind.
-- @param detects whether leaks are looked for: "false"; "nil", what a pool does by default, is left out
local function garbage(statements, detects)
  return kilobytes_of(PROGRAM:format(detects or "nil", statements, PAIRS))
end

describe("try_claim and release", function()
  local ways = {
    ["in one expression"] = "pool:try_claim():release()",
    ["with the lease in a local, and used"] = "local lease = pool:try_claim() assert(lease.connection) lease:release()",
    ["though a lease is released twice"] = "local lease = pool:try_claim() lease:release() lease:release()",
  }
  for name, statements in pairs(ways) do
    for detects, words in pairs { ["nil"] = "", ["false"] = ", with leak_detection = false" } do
      it("make no garbage " .. name .. words, function()
        local kilobytes = garbage(statements, detects)
        assert.is_true(kilobytes < KB_MAX, ("%d pairs left %d KB"):format(PAIRS, kilobytes))
      end)
    end
  end

  it("are seen to make some where the lease is kept", function()
    local kilobytes = garbage "local lease = pool:try_claim() kept = lease lease:release()"
    assert.is_true(kilobytes > KB_MAX)
  end)
end)

describe("on a bare socket", function()
  local ways = {
    ["try_claim and release"] = "local lease = pool:try_claim() lease:release()",
    ["claim and release"] = "local lease = pool:claim() lease:release()",
    ["with"] = "pool:with(nothing)",
  }
  for name, statements in pairs(ways) do
    it(name .. " make no garbage", function()
      local kilobytes = kilobytes_of(PROGRAM_TCP:format(statements, PAIRS))
      assert.is_true(kilobytes < KB_MAX, ("%d pairs left %d KB"):format(PAIRS, kilobytes))
    end)
  end
end)
