--- Connections at rest on libuv while the loop does not turn: the kernel knows what became of them, and is asked as they are claimed.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local log

before_each(function() host.log_to(function(level, message) log = level .. ": " .. message end) end)
after_each(function() host.log_to(nil) end)

local function plain(_, context)
  local socket = context.host.tcp()
  local ok, message = context.connect(socket)
  if not ok then return nil, message end
  return socket
end

-- Runs fn(pool, server's handles) on as many connections as are wanted.
local function with_pool(given, fn)
  local one = given.path and server.listen_unix(given.path, given.on_client) or server.listen(given.on_client)
  local backend = given.path and { address = "unix:" .. given.path } or { address = "127.0.0.1", port = one.port }
  host.run(function()
    local pool = cueball.pool {
      host = host, connect = given.connect, max_connections = given.count, resolver = function(sink) sink:add(backend) end,
    }
    until_true(function() return pool:stats().idle == given.count and #one.clients >= given.count end)
    fn(pool, one.clients)
    pool:stop()
    one:close()
  end)
end

local function count_dead(pool, count)
  local dead = 0
  for _ = 1, count do
    assert(pool:with(function(socket)
      socket:send "hi"
      if socket:receive(2) ~= "hi" then dead = dead + 1 end
      return true
    end, { timeout_ms = 60000 }))
  end
  return dead
end

describe("connections that their server closed while the loop did not turn", function()
  local path = os.tmpname() .. ".sock"
  local ways = {
    ["of cueball.connection.tcp"] = { connect = cueball.connection.tcp {} },
    ["that are not watched"] = { connect = plain },
    ["over UNIX sockets"] = { connect = cueball.connection.tcp {}, path = path },
  }
  for name, way in pairs(ways) do
    it("are not lent: " .. name, function()
      with_pool({ connect = way.connect, path = way.path, count = 20, on_client = server.echo_client }, function(pool, clients)
        for index = 1, 20 do clients[index]:close() end
        assert.equal(0, count_dead(pool, 20))
      end)
      os.remove(path)
    end)
  end

  it("are noticed without being asked for once it turned", function()
    with_pool({ connect = cueball.connection.tcp {}, count = 5, on_client = server.echo_client }, function(pool, clients)
      for index = 1, 5 do clients[index]:close() end
      until_true(function() return (pool:last_error() or ""):match ": (.*)" == "closed" end)
      assert.equal(0, count_dead(pool, 5))
    end)
    assert.matches("^info", log)
  end)
end)

it("a server that closes after each answer breaks no lease of those who wait", function()
  local function answer(client)
    client:read_start(function(_, data)
      if data then client:write(data) end
      if not client:is_closing() then client:close() end
    end)
  end
  for _, connect in ipairs { cueball.connection.tcp {}, plain } do
    with_pool({ connect = connect, count = 2, on_client = answer }, function(pool)
      local dead, left, all = 0, 4, host.waiter()
      for _ = 1, 4 do
        host.spawn(function()
          dead, left = dead + count_dead(pool, 5), left - 1
          if left == 0 then all:wake(true) end
        end)
      end
      assert.is_true(all:wait(60000))
      assert.equal(0, dead)
    end)
  end
end)

it("who waits for a connection gets it in the turn of the loop in which it is released", function()
  with_pool({ connect = cueball.connection.tcp {}, count = 1, on_client = server.echo_client }, function(pool)
    local polls, released_in, granted_in, all = host.tasks.polls, nil, nil, host.waiter()
    host.spawn(function()
      local lease = pool:claim()
      host.spawn(function()
        local other = pool:claim()
        granted_in = polls.done
        other:release()
        all:wake(true)
      end)
      lease.connection:send "hi"
      assert.equal("hi", lease.connection:receive(2))
      released_in = polls.done
      lease:release()
      assert.is_nil(granted_in)
    end)
    assert.is_true(all:wait(60000))
    assert.equal(released_in, granted_in)
  end)
end)

it("the handles by which the loop's turns are counted do not keep it alive", function()
  local seen = 0
  uv.walk(function(handle)
    local kind = uv.handle_get_type(handle)
    if kind == "prepare" or kind == "check" then
      seen = seen + 1
      assert.is_false(handle:has_ref())
    end
  end)
  assert.is_true(seen >= 2)
end)
