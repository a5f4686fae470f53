--- Whether a connection may be lent again: what its factory says, what the socket under it remembers, and what the kernel knows.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local RECEIVE = "a receive timed out, and its answer may still come"
local FINAL = { default = { attempts = 3, timeout_ms = 1000, delay_ms = 100, spread = 0 } }

local town, pool, unfit

-- A server that answers each line "N text" with "text" after N ms, in the order of the questions.
local function reply(data, connection)
  local world = town.world
  for line in data:gmatch "[^\n]+" do
    local delay, text = line:match "^(%d+) (.*)$"
    connection.free_at = math.max(connection.free_at or 0, world.time_ms()) + tonumber(delay)
    world.at(connection.free_at, function() if connection.is_open then connection:send(text .. "\n") end end)
  end
end

-- A pool; `unfit` notes what it finds wrong with its connections.
local function open(connect, options, server)
  local behaviour = with({ reply = reply }, server)
  town = sim_pool.new(behaviour)
  local all = with({ max_connections = 1, connect = connect, recovery = FINAL }, options)
  pool, unfit = town:open(all), {}
  local tell = pool.unfit
  function pool.unfit(self, slot, message, kind)
    unfit[#unfit + 1] = kind .. ": " .. message
    return tell(self, slot, message, kind)
  end
  town:advance(100)
end

local function plain(backend, context)
  local socket = context.host.tcp()
  socket:settimeout(100)
  local ok, message = socket:connect(backend.address, backend.port, context.socket_options)
  if not ok then return nil, message end
  return socket
end

local function by_context(_, context)
  local socket = context.host.tcp()
  socket:settimeout(100)
  local ok, message = context.connect(socket)
  if not ok then return nil, message end
  return socket
end

local function ask(socket, line)
  socket:send(line .. "\n")
  return socket:receive "*l"
end

-- Two claimers: what the second hears, after an answer to the first that came too late.
local function second_hears(socket_of)
  return town:run(function()
    assert.same({ nil, "timeout", "" }, { pool:with(function(connection) return ask(socket_of(connection), "150 late") end) })
    return (pool:with(function(connection) return ask(socket_of(connection), "1 mine") end))
  end)
end

describe("an answer that is under way is nobody else's,", function()
  local function itself(connection) return connection end
  local tcp = cueball.connection.tcp { read_timeout_ms = 100 }
  local ways = {
    ["with cueball.connection.tcp"] = { tcp, itself },
    ["with a function"] = { plain, itself },
    ["with a table that has a connect only"] = { { connect = plain, close = function(socket) socket:abort() end }, itself },
    ["with a broken that knows nothing of it"] = { { connect = plain, broken = function() return nil end }, itself },
    ["with a client that has its socket in a field"] = {
      function(...) return { _sock = plain(...), close = function(self) self._sock:abort() end } end,
      function(client) return client._sock end,
    },
    ["with a field of any name"] = {
      { connect = function(...) return { name = "it", wire = plain(...) } end, close = function(client) client.wire:abort() end },
      function(client) return client.wire end,
    },
    ["with a client in a field of the connection"] = {
      {
        connect = function(...) return { client = { sock = plain(...) } } end,
        close = function(connection) connection.client.sock:abort() end,
      },
      function(connection) return connection.client.sock end,
    },
    ["with a socket that only context.connect knows"] = (function()
      local sockets = {}
      local function connect(...)
        local connection = #sockets + 1
        sockets[connection] = by_context(...)
        return connection
      end
      return {
        { connect = connect, close = function(connection) sockets[connection]:abort() end },
        function(connection) return sockets[connection] end,
      }
    end)(),
  }
  for name, way in pairs(ways) do
    it(name, function()
      open(way[1])
      assert.equal("mine", second_hears(way[2]))
      assert.same({ "timeout: " .. RECEIVE }, unfit)
      town:stop()
    end)
  end

  it("after a check, too, that says yes nevertheless", function()
    open({ connect = tcp.connect, broken = tcp.broken, watch = tcp.watch, unwatch = tcp.unwatch, check = function(socket)
      ask(socket, "150 late")
      return true
    end }, { check_interval_ms = 1000 })
    town:advance(1300)
    assert.equal("timeout: " .. RECEIVE, unfit[1])
    town:stop()
  end)
end)

it("a socket that somebody still reads from is not lent again", function()
  open(cueball.connection.tcp {})
  local heard = {}
  town:run(function()
    local lease = pool:claim()
    town.world.spawn(function() heard = { lease.connection:receive "*l" } end)
    lease:release()
    pool:with(function(socket) assert.equal("mine", ask(socket, "1 mine")) end)
  end)
  assert.same({ "unfit: socket busy reading" }, unfit)
  assert.same({ nil, "closed", "" }, heard)
  town:stop()
end)

describe("the pool lets alone", function()
  it("a socket in which a task of the factory's waits", function()
    open(function(backend, context)
      local socket = plain(backend, context)
      context.host.spawn(function() while socket:receive "*l" or socket.is_open do end end)
      return { socket = socket, close = function() socket:abort() end }
    end)
    town:advance(1000)
    for _ = 1, 3 do pool:claim():release() end
    assert.same({}, unfit)
    assert.equal(1, town.servers[1].accepted)
    town:stop()
  end)

  it("a socket that the factory has closed before its connection was there", function()
    open(function(_, context)
      by_context(nil, context):close()
      return { "something else" }
    end)
    pool:claim():release()
    assert.same({}, unfit)
    town:stop()
  end)

  it("what a server says first, if the claimer is to read it", function()
    open(plain, nil, { banner = "220 ready\n" })
    assert.equal("220 ready", town:run(function() return pool:with(function(socket) return (socket:receive "*l") end) end))
    assert.same({}, unfit)
    town:stop()
  end)
end)

describe("a factory's broken", function()
  local said
  local function saying(...)
    local words = { ... }
    return { connect = plain, broken = function() said = (said or 0) + 1 return unpack(words) end }
  end
  local function release_after(fn)
    town:run(function() pool:with(function(socket) if fn then fn(socket) end end) end)
  end

  it("says a kind", function()
    for _, kind in ipairs { "worn", "lost", "timeout", "unfit" } do
      open(saying("had enough", kind))
      release_after()
      assert.same({ kind .. ": had enough" }, unfit)
      town:stop()
    end
  end)

  it("without one leaves it to the socket: one that has delivered has worked", function()
    open(saying "left in a transaction")
    release_after()
    release_after(function(socket) ask(socket, "1 answer") end)
    release_after(function(socket) ask(socket, "150 late") end)
    local message = ": left in a transaction"
    assert.same({ "unfit" .. message, "worn" .. message, "timeout" .. message }, unfit)
    town:stop()
  end)

  it("that says a kind that is none is told, and the connection is unfit", function()
    open(saying("had enough", "bad"))
    release_after()
    assert.same({ "unfit: had enough" }, unfit)
    assert.log(town, "warn",
      "[ 100] cueball db: the connection factory's broken says the kind bad; there are lost, timeout, unfit and worn")
    town:stop()
  end)

  it("may say what cannot be shown: its connection is closed all the same", function()
    local shy = setmetatable({}, { __tostring = function() error "not me" end })
    for _, said_kind in ipairs { "unfit", shy } do
      open(saying(shy, said_kind))
      pool.unfit = nil -- the pool's own, without the note
      release_after()
      assert.equal(1, pool:stats().closed_unfit)
      assert.log(town, "debug", "[   0] cueball db: backend db1 added: static list\n"
        .. "[ 100] cueball db: a connection to db1 is not lent again: a table without a text")
      town:stop()
    end
  end)
end)

describe("a claimer that does not give its lease back", function()
  local function left(fn)
    open(cueball.connection.tcp { read_timeout_ms = 100 })
    town:run(function() pcall(pool.with, pool, fn) end)
    local found = table.concat(unfit, ", ")
    town:stop()
    return found
  end

  it("but throws, or closes it, tells what the socket knows", function()
    assert.equal("timeout: " .. RECEIVE, left(function(socket) assert(ask(socket, "150 late")) end))
    assert.equal("timeout: " .. RECEIVE, left(function(socket, lease) ask(socket, "150 late") lease:close() end))
    assert.equal("lost: closed", left(function(socket)
      town.servers[1]:list()[1]:close()
      assert(ask(socket, "150 late"))
    end))
  end)

  it("says nothing where that is his own doing", function()
    assert.equal("", left(function() error "a bug" end))
    assert.equal("", left(function(socket, lease) ask(socket, "1 a") socket:close() lease:close() end))
    assert.equal("", left(function(socket) ask(socket, "1 a") socket:close() error "a bug" end))
  end)
end)

describe("while the program computes", function()
  local function count_dead(connect)
    open(connect, { max_connections = 20 })
    assert.equal(20, pool:stats().idle)
    return town:run(function()
      for _, connection in ipairs(town.servers[1]:list()) do connection:close() end
      town.world.compute(200)
      local dead = 0
      for _ = 1, 20 do
        pool:with(function(socket) if ask(socket, "1 mine") ~= "mine" then dead = dead + 1 end end)
      end
      return dead
    end)
  end

  it("connections that their server closes are found out as they are claimed, one after the other", function()
    for _, connect in ipairs { plain, cueball.connection.tcp {} } do
      assert.equal(0, count_dead(connect))
      assert.equal(20, #unfit)
      assert.equal("lost: closed", unfit[1])
      town:stop()
    end
  end)

  it("so are they by try_claim, which then has none", function()
    open(plain, { max_connections = 3 })
    for _, connection in ipairs(town.servers[1]:list()) do connection:reset() end
    town.world.compute(1)
    assert.same({ nil, "no connection is idle", "claim_timeout" }, { pool:try_claim() })
    assert.equal(3, #unfit)
    assert.equal("lost: connection reset by peer", unfit[1])
    town:stop()
  end)

  it("and those that worked before say nothing new of it", function()
    open(cueball.connection.tcp {})
    town:run(function()
      pool:with(function(socket) ask(socket, "1 mine") end)
      town.servers[1]:list()[1]:close()
      town.world.compute(1)
      pool:with(function(socket) assert.equal("mine", ask(socket, "1 mine")) end)
    end)
    assert.same({ "unfit: closed" }, unfit)
    town:stop()
  end)

  it("bytes that nobody asked for are noticed, too", function()
    open(cueball.connection.tcp {})
    town:run(function()
      town.servers[1]:list()[1]:send "hello\n"
      town.world.compute(1)
      pool:with(function(socket) assert.equal("mine", ask(socket, "1 mine")) end)
    end)
    assert.equal(1, #unfit)
    town:stop()
  end)
end)

describe("the kernel is asked about a connection that is claimed again before the loop turned", function()
  -- How often it is asked in 100 leases, in each of which `use` is called.
  local function asked(use)
    open(cueball.connection.tcp {})
    local times = 0
    town:run(function()
      local transport = pool:with(function(socket) return socket.transport end)
      function transport.look(...)
        times = times + 1
        return getmetatable(transport).__index.look(...)
      end
      town.world.compute(1)
      for _ = 1, 100 do pool:with(use) end
    end)
    assert.same({}, unfit)
    town:stop()
    return times
  end

  it("once in 0.1 ms, if nobody used it", function()
    assert.equal(1, asked(function() end))
    assert.equal(100, asked(function() town.world.compute(0.1) end))
  end)

  it("each time, if it was used", function()
    assert.equal(100, asked(function(socket) assert.equal("a", ask(socket, "1 a")) end))
  end)
end)
