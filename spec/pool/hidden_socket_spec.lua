--- Sockets that a factory opened outlive the task of the attempt, also where the pool does not find them. In virtual time.
local sim = require "cueball.host.sim"
local cueball = require "cueball"

it("a connection that hides its socket is the pool's, and so is a socket that a task of the factory's connected", function()
  local world = sim.new { seed = 1 }
  world.server("10.0.0.1", 80, { reply = function(data) return data end })
  local function connect(backend)
    local done = world.waiter()
    world.spawn(function()
      local sock = world.tcp()
      assert(sock:connect(backend.address, backend.port))
      done:wake(sock)
    end)
    local sock = done:wait()
    return { ask = function(line) sock:send(line) return (sock:receive()) end, close = function() sock:close() end }
  end
  world.run(function()
    local pool = cueball.pool {
      host = world, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = connect, max_connections = 1,
    }
    for _ = 1, 2 do
      assert.equal("hello", pool:with(function(client) return client.ask "hello\n" end))
      world.sleep(10)
    end
    pool:stop()
  end)
  world.check()
end)
