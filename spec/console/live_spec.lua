--- Lines that come by themselves over a console (:watch, :trace): they come as it happens, so many at most, and they end.
local connection = require "cueball.console.connection"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local remote = require "cueball.console.remote"
local seat = require "cueball.console.seat"
local sim = require "cueball.host.sim"
local towns = require "spec.support.console_town"

local function static(...) return cueball.resolver.static { ... } end

-- ------------------------------------------------------------------ in virtual time --

local world, pool, heard, servers

local function start()
  world, servers = sim.new {}, {}
  for index = 1, 2 do servers[index] = world.server("10.0.0." .. index, 80) end
  pool = cueball.pool {
    name = "db", host = world, max_connections = 2, spares = 2, resolver = static("10.0.0.1:80", "10.0.0.2:80"),
    connect = cueball.connection.tcp {}, claim_timeout_ms = 1000,
  }
  world.advance(1000)
  heard = {}
end

local function finish()
  world.spawn(function() pool:stop() end)
  world.advance(60000)
  world.close()
end

local function subscribers() return #pool.events.subscribers end

-- Claims and releases so often, at once: two events each, and those of the slot.
local function churn(count)
  world.spawn(function()
    for _ = 1, count do pool:claim():release() end
  end)
  world.settle()
end

local function sit(allow)
  return seat.new {
    host = world, allow = allow, values = { pool = pool }, who = "spec", budget_ms = 5000, output = function() end,
    tell = function(words, kind) heard[#heard + 1] = (kind == "error" and "! " or "") .. words end,
  }
end

local function run(one, line)
  world.spawn(function() one:run(line) end)
  world.settle()
end

describe("what a console tells by itself", function()
  before_each(start)
  after_each(finish)

  it("is for who may only look, too", function()
    local one = sit "read"
    run(one, ":watch db")
    servers[2]:kill()
    world.advance(2000)
    assert.matches("^%d%d:%d%d:%d%d%.%d+ db: a connection to 10%.0%.0%.2:80 is closed, it broke", heard[1])
    assert.equal(1, subscribers())
    run(one, ":watch off")
    assert.equal(0, subscribers())
    one:close()
  end)

  it("ends with Ctrl-C, where nothing runs; else what runs does", function()
    local one = sit "write"
    run(one, ":watch db")
    run(one, ":trace db")
    assert.equal(2, subscribers())
    for index = 1, 3 do world.spawn(function() pool:claim { timeout_ms = index * 1000 } end) end
    local is_over = false
    world.spawn(function()
      one:run "pool:claim { timeout_ms = 60000 }"
      is_over = true
    end)
    assert.is_false(is_over)
    one:interrupt()
    world.settle()
    assert.is_true(is_over)
    assert.equal(2, subscribers())
    one:interrupt()
    assert.equal("ended: :trace db, :watch db", heard[#heard])
    assert.equal(0, subscribers())
    assert.is_false(one:interrupt())
    one:close()
  end)

  it("ends with its seat", function()
    local one = sit "read"
    run(one, ":trace db")
    one:close()
    assert.equal(0, subscribers())
  end)

  it("is so many lines a second for all together who may only look", function()
    local readers = {}
    for index = 1, 20 do
      readers[index] = sit "read"
      run(readers[index], ":trace db")
    end
    churn(200)
    assert.equal(2000, #heard)
    world.advance(1001)
    assert.equal(2020, #heard)
    assert.matches("^… %d+ more within a second$", heard[2020])
    churn(1)
    assert.is_true(#heard > 2020)
    for _, one in ipairs(readers) do one:close() end
  end)

  it("is so many lines a second, and how many more there were", function()
    local one = sit "write"
    run(one, ":trace db")
    churn(2000)
    assert.equal(1000, #heard)
    world.advance(1001)
    assert.matches("^… %d+ more within a second$", heard[1001])
    assert.equal(1001, #heard)
    churn(1)
    assert.is_true(#heard > 1001)
    one:close()
  end)

  it("ends for a reader, where a pool has more events than looking at them may cost", function()
    local one = sit "read"
    run(one, ":watch db")
    churn(15000)
    assert.same({ "! :watch db ended: there were more than 20000 events within a second" }, heard)
    assert.equal(0, subscribers())
    one:close()
    one = sit "write"
    run(one, ":watch db")
    churn(15000)
    assert.equal(1, subscribers())
    one:close()
  end)
end)

-- A stream whose peer has sent these lines, and takes each piece after so many ms.
local function slow_stream(lines, takes_ms)
  local got, at, stream = {}, 0, {}
  function stream:settimeouts() assert(self == stream) end
  function stream:receiveany()
    at = at + 1
    if lines[at] then return lines[at] end
    world.waiter():wait(600000)
    return nil, "closed"
  end
  function stream:send(bytes)
    assert.is_false(self.is_sending or false, "two send at once")
    self.is_sending = true
    if takes_ms then world.sleep(takes_ms()) end
    self.is_sending = false
    got[#got + 1] = bytes
    return #bytes
  end
  return stream, function() return table.concat(got) end
end

local function settings()
  return { host = world, allow = "write", budget_ms = 5000, name = "spec", beside = world.spawn, list = function(list) return list end,
    process = function() return { pid = 1 } end }
end

describe("a console whose peer reads slowly", function()
  before_each(start)
  after_each(finish)

  it("holds so much for him, and says how many lines it left out", function()
    local is_slow = true
    local stream, got = slow_stream({ '{"hello":1}\n', '{"id":1,"run":":trace db"}\n' }, function() return is_slow and 4000 or 0 end)
    world.spawn(function() connection.serve(stream, { address = "spec" }, settings()) end)
    world.advance(20000)
    assert.matches('"status":"done"', got())
    for _ = 1, 10 do
      churn(500)
      world.advance(1001)
    end
    is_slow = false
    world.advance(5000)
    local all, lines, left_out = got(), 0, 0
    for line in all:gmatch "[^\n]+" do
      if line:find '"kind":"note"' and line:find "db: " then lines = lines + 1 end
      left_out = left_out + (tonumber(line:match "… (%d+) more lines, which came faster than they were read") or 0)
      left_out = left_out + (tonumber(line:match "… (%d+) more within a second") or 0)
    end
    assert.is_true(left_out > 1000, left_out)
    assert.is_true(#all < 800000, #all) -- what was sent, and what waits
    assert.is_true(lines > 1000, lines)
    churn(1)
    world.advance(10)
    assert.is_true(#got() > #all) -- it goes on
  end)

  it("ends what goes on beside with the connection, also if its task is killed", function()
    for _, is_killed in ipairs { false, true } do
      local stream = slow_stream { '{"hello":1}\n', '{"id":1,"run":":trace db"}\n', not is_killed and '{"id":2,"run":":quit"}\n' or nil }
      local task = world.spawn(function() connection.serve(stream, { address = "spec" }, settings()) end)
      world.advance(300)
      if is_killed then
        assert.equal(1, subscribers())
        world.kill(task)
      end
      assert.equal(0, subscribers())
    end
  end)

  it("leaves no task behind that waits to send, if the one that sends is killed", function()
    local function tasks()
      local count = 0
      for task in pairs(world.living()) do count = count + (task.is_done and 0 or 1) end
      return count
    end
    local sends, before = 0, tasks()
    local stream = slow_stream({ '{"hello":1}\n', '{"id":1,"run":":trace db"}\n', '{"id":2,"run":"1"}\n' }, function()
      sends = sends + 1
      return sends > 3 and 1e6 or 0
    end)
    local task = world.spawn(function() connection.serve(stream, { address = "spec" }, settings()) end)
    world.advance(300)
    assert.equal(4, sends) -- the result, which nobody takes
    churn(1)
    world.kill(task)
    world.advance(1000)
    assert.equal(before, tasks())
  end)
end)

-- --------------------------------------------------------------------- over a socket --

describe("lines of a console that come by themselves", function()
  local town

  before_each(function()
    town, heard = towns.start { max_connections = 1 }, {}
    pool = town.pool
  end)
  after_each(function() town:finish() end)

  local function attach()
    return assert(remote.connect { host = host, address = town.address,
      print = function(words, kind) heard[#heard + 1] = { words, kind } end })
  end

  -- Waits until one of the lines matches.
  local function until_heard(pattern)
    for _ = 1, 2000 do
      for _, line in ipairs(heard) do
        if line[1]:find(pattern) then return true end
      end
      host.sleep(5)
    end
    error("nothing like " .. pattern)
  end

  it("come while nobody asks for anything", function()
    host.run(function()
      local one = attach()
      one:submit ":watch"
      pool:set { max_connections = 3 }
      until_heard "db: a plan of %d connections was made"
      one:submit "1 + 1"
      until_heard "^2$"
      heard = {}
      one:interrupt()
      until_heard "ended: :watch db"
      assert.equal(0, subscribers())
      assert.is_false(one.is_over)
      for _ = 1, 5 do one:interrupt() end -- nothing runs: nobody leaves
      assert.equal("done", one:submit "1")
      assert.equal(0, one.failed)
      one:submit ":watch"
      assert.equal(1, subscribers())
      one:close()
      for _ = 1, 400 do
        if subscribers() == 0 then break end
        host.sleep(5)
      end
      assert.equal(0, subscribers())
    end)
  end)

  it("come as text to who has socat", function()
    host.run(function()
      local stream = host.tcp()
      assert(stream:connect(town.address))
      stream:settimeout(30000)
      stream:send ":watch db\n"
      assert.equal("watching db; :watch off ends it", stream:receive "*l")
      pool:set { max_connections = 4 }
      assert.matches("^%d%d:%d%d:%d%d%.%d%d%d db: ", stream:receive "*l")
      stream:close()
    end)
  end)

  it("say at once that the program has gone", function()
    host.run(function()
      local one = attach()
      town.console:close()
      until_heard "the connection to the program ended: closed"
      assert.is_true(one.is_over)
      assert.equal(3, one.status)
      one:submit "1"
      assert.matches("the connection to the program ended", heard[#heard][1])
    end)
  end)
end)
