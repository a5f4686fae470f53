--- cueball.connection.resty on libuv, with Debian's libraries against real servers, and in virtual time with libraries and functions that
-- misbehave. Under nginx: spec/nginx/resty_spec.lua.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local memcached = require "spec.support.memcached"
local nginx = require "spec.support.nginx"
local sim = require "cueball.host.sim"
local run_pool = require "spec.support.run_pool"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local resty = cueball.connection.resty

describe("memcached through a pool", function()
  local server

  before_each(function() server = memcached.start() end)
  after_each(function() server:stop() end)

  local function with_pool(options, fn, more)
    run_pool(with({
      host = host, max_connections = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { server.backend },
      recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } },
      connect = resty(with({ module = "resty.memcached" }, options)),
    }, more), fn)
  end

  it("is shared by many claimers, and all connections are closed at the end", function()
    with_pool({}, function(pool)
      local done = 0
      for number = 1, 20 do
        host.spawn(function()
          assert.equal(1, (pool:with(function(client) return client:set("key" .. number, number) end)))
          assert.equal(tostring(number), (pool:with(function(client) return client:get("key" .. number) end)))
          done = done + 1
        end)
      end
      until_true(function() return done == 20 end)
      assert.equal(2, server:clients())
      assert.equal(2, pool:stats().opened)
    end)
    until_true(function() return server:clients() == 0 end)
  end)

  it("replaces a connection in which a receive timed out, and keeps the limits of use", function()
    with_pool({ read_timeout_ms = 50 }, function(pool)
      server:pause()
      assert.equal("timeout", select(3, pool:with(function(client) return client:get "key" end)))
      server:go_on()
      assert.equal(1, (pool:with(function(client)
        client:set_timeout(15000)
        return client:set("key", "value")
      end)))
      pool:with(function(client) assert.equal(50, client.sock.read_timeout_ms) end)
      assert.equal(2, pool:stats().opened)
    end, { max_connections = 1 })
  end)

  it("checks and finds the server again once it is back", function()
    with_pool({ check = function(client) return client:version() end }, function(pool)
      assert.equal(1, (pool:with(function(client) return client:set("key", "value") end)))
      server:stop()
      until_true(function() return pool:state() == "failed" end)
      server:start_again()
      until_true(function() return pool:state() == "running" end)
      assert.equal(1, (pool:with(function(client) return client:set("key", "value") end)))
    end, { check_interval_ms = 100 })
  end)
end)

it("a websocket client is set up once, and greets its server under the name that is given", function()
  if not nginx.is_there() then return pending "no nginx" end
  local one = nginx.start { server = [[
    location /chat { content_by_lua_block {
      local server = require("nginx.websocket.server"):new { timeout = 20000 }
      while true do
        local data, kind = server:recv_frame()
        if kind ~= "text" then return end
        server:send_text(ngx.var.host .. " " .. data)
      end
    } }]] }
  finally(function() one:stop() end)
  host.run(function()
    local setups = 0
    local pool = cueball.pool {
      host = host, max_connections = 1, claim_timeout_ms = 15000, resolver = cueball.resolver.static { "127.0.0.1:" .. one.port },
      connect = resty {
        module = "resty.websocket.client", connect = { "ws://chat.example/chat" },
        setup = function(client)
          setups = setups + 1
          client:send_text "login"
          return client:recv_frame() == "chat.example login"
        end,
        close = function(client) client:send_close() end,
      },
    }
    for _ = 1, 3 do
      pool:with(function(client)
        client:send_text "hello"
        assert.equal("chat.example hello", (client:recv_frame()))
      end)
    end
    assert.equal(1, setups)
    pool:stop()
  end)
end)

-- A library of this spec's own: says HELLO as it connects, then asks lines.
local function line_library(world)
  local Line = {}
  Line.__index = Line
  function Line:new(given) return setmetatable({ sock = world.tcp(), given = given }, Line) end
  function Line:connect(address, port)
    self.connected_to = address
    local ok, message = self.sock:connect(type(address) == "table" and address.host or address, port or address.port, { pool = "own" })
    if not ok then return nil, message end
    if self.sock:getreusedtimes() > 0 then return 1 end
    return self:ask "HELLO" == "OK" and 1 or nil, "no OK"
  end
  function Line:ask(word)
    local ok, message = self.sock:send(word .. "\n")
    if not ok then return nil, message end
    return self.sock:receive()
  end
  return Line
end

describe("in virtual time", function()
  local world

  before_each(function()
    world = sim.new {}
    world.server("10.0.0.1", 80, { reply = function(line) return line == "SILENCE\n" and "" or "OK\n" end })
  end)

  local function pool_with(options, more)
    return cueball.pool(with({
      host = world, max_connections = 1, resolver = cueball.resolver.static { "10.0.0.1:80" },
      recovery = { default = { attempts = 2, timeout_ms = 500, max_timeout_ms = 500, delay_ms = 100, spread = 0 } },
      connect = resty(with({ module = line_library(world) }, options)),
    }, more))
  end

  -- What the pool says of an attempt that comes to nothing; nothing is left open.
  local function failure(options)
    local said
    world.run(function()
      local pool = pool_with(options)
      pool:claim { timeout_ms = 1200 }
      said = pool:last_error()
      pool:stop()
    end)
    assert.same({}, world.leaks())
    return (tostring(said):gsub("^10.0.0.1:80: ", ""))
  end

  it("leads to the backend, whatever the library connects to", function()
    world.run(function()
      for _, case in ipairs { { nil, "10.0.0.1" }, { { "elsewhere", 81 }, "elsewhere" },
          { { user = "ann" }, { host = "10.0.0.1", port = 80, user = "ann" } },
          { { host = "db", port = 1 }, { host = "db", port = 1 } },
          { function(client) return client:connect("nowhere.example", 99) end, "nowhere.example" } } do
        local pool = pool_with { connect = case[1] }
        pool:with(function(client)
          assert.same(case[2], client.connected_to)
          assert.equal("OK", client:ask "x")
        end)
        pool:stop()
      end
    end)
    assert.same({}, world.leaks())
  end)

  it("makes clients as it is told, and asks for secrets, which it does not show", function()
    world.run(function()
      local pool = pool_with { new = { a = 1 } }
      pool:with(function(client) assert.same({ a = 1 }, client.given) end)
      pool:stop()
      pool = pool_with { new = function(library, backend, context) return library:new { backend.key, context.attempt } end,
        connect = { password = function(backend) return "secret of " .. backend.key end } }
      pool:with(function(client)
        assert.same({ "10.0.0.1:80", 1 }, client.given)
        assert.equal("secret of 10.0.0.1:80", client.connected_to.password)
      end)
      pool:stop()
    end)
    local said = failure {
      connect = { password = "hunter2hunter2" }, setup = function() return nil, "access denied for hunter2hunter2" end,
    }
    assert.matches("^access denied for ", said)
    assert.is_nil(said:find "hunter2")
  end)

  it("has the attempt's limit while it connects, and those of use afterwards", function()
    world.run(function()
      local began, limits
      local pool = pool_with { send_timeout_ms = 20, read_timeout_ms = 30, connect_timeout_ms = 300, setup = function(client)
        limits = client.sock.read_timeout_ms
        return true
      end }
      pool:with(function(client)
        assert.is_true(limits > 30 and limits <= 300, limits)
        assert.same({ 300, 20, 30 }, { client.sock.connect_timeout_ms, client.sock.send_timeout_ms, client.sock.read_timeout_ms })
        began = world.time_ms()
        assert.same({ nil, "timeout", "" }, { client:ask "SILENCE" })
        assert.equal(30, world.time_ms() - began)
      end)
      pool:stop()
    end)
    assert.equal("timeout", (failure { connect_timeout_ms = 100, setup = function(client) return client:ask "SILENCE" end }))
  end)

  it("fails, and says why, where a function misbehaves", function()
    assert.matches("bad luck", failure { connect = function() error "bad luck" end })
    assert.matches("bad luck", failure { setup = function() error "bad luck" end })
    assert.matches("bad luck", failure { new = function() error "bad luck" end })
    assert.equal("not today", (failure { connect = function() return nil, "not today" end }))
    assert.equal("its 'connect' returned false", (failure { connect = function() return false end }))
    assert.equal("its 'setup' returned nil", (failure { setup = function() return nil end }))
    assert.equal("not you", (failure { setup = function() return false, "not you" end }))
    assert.equal("the library's 'new' returned nil", (failure { new = function() end }))
    assert.equal("its 'connect' did not connect the socket that the client of the library had before: give option 'socket'",
      (failure { connect = function() return true end }))
    assert.equal("option 'socket' found no socket of this host, but a table", (failure { socket = function() return {} end }))
    assert.equal("a client of the library has no method connect: give option 'connect'",
      (failure { new = function() return { sock = world.tcp() } end }))
    assert.equal("the library has no function new: give option 'new'", (failure { module = {} }))
    assert.equal("the attempt took too long", (failure { setup = function() world.sleep(1e6) end }))
    assert.equal("password: its function returned nothing", (failure { connect = { password = function() end } }))
  end)

  it("takes a setup that returns nothing for one that went well", function()
    world.run(function()
      local pool = pool_with { setup = function() end }
      assert.equal("OK", (pool:with(function(client) return client:ask "x" end)))
      pool:stop()
    end)
  end)

  it("asks broken and check, and closes the socket though close throws or hangs", function()
    world.run(function()
      local asked, closes = 0, {
        function() error("cannot close", 0) end, function() world.sleep(1e6) end, function(client) return client:ask "QUIT" end,
      }
      for _, close in ipairs(closes) do
        local pool = pool_with({
          broken = function(client) return client.is_bad and "left bad" end, close = close,
          check = function(client)
            asked = asked + 1
            return client:ask "PING" == "OK"
          end,
        }, { check_interval_ms = 1000 })
        pool:with(function(client) client.is_bad = true end)
        world.sleep(2500)
        assert.equal(2, pool:stats().opened)
        pool:stop()
        world.sleep(1000)
      end
      assert.is_true(asked >= 3, asked)
    end)
    assert.same({}, world.leaks())
  end)

  it("speaks TLS before the library says anything, and says why it does not", function()
    local good, wrong = certificates.good, certificates.wrong_name
    local TLS = { ca_file = certificates.ca.cert, server_name = "db.example" }
    world.server("10.0.0.2", 443, { tls = { cert_file = good.cert, key_file = good.key }, reply = function() return "OK\n" end })
    world.server("10.0.0.3", 443, { tls = { cert_file = wrong.cert, key_file = wrong.key }, reply = function() return "OK\n" end })
    world.run(function()
      local pool = pool_with({ tls = TLS }, { resolver = cueball.resolver.static { "10.0.0.2:443" } })
      pool:with(function(client)
        assert.equal("OK", client:ask "x")
        assert.equal("TLSv1.3", client.sock:tlsinfo().version)
      end)
      pool:stop()
      pool = pool_with({ tls = TLS }, { resolver = cueball.resolver.static { "10.0.0.3:443" } })
      pool:claim { timeout_ms = 1200 }
      assert.matches("TLS: .*other.example", pool:last_error())
      pool:stop()
    end)
    assert.same({}, world.leaks())
  end)

  it("works where a library opens its socket as it connects, and none can be found before", function()
    local Late = { new = function() return {} end }
    world.run(function()
      local pool = pool_with { module = Late, new = function() return {} end, connect = function(client, backend)
        client.inner = { sock = world.tcp() }
        return client.inner.sock:connect(backend.address, backend.port)
      end }
      pool:with(function(client) client.inner.sock:send "x\n" assert.equal("OK", client.inner.sock:receive()) end)
      pool:stop()
    end)
    assert.same({}, world.leaks())
    assert.matches("^a client of the library has no socket before it connects, so its connection cannot be secured",
      failure { module = Late, new = function() return {} end, tls = true, connect = function() return true end })
  end)
end)

it("says what is wrong with its options, at the line that has them", function()
  local function says(options) return (select(2, pcall(function() resty(options) end)):gsub("^[^\n]*resty_spec.lua:%d+: ", "")) end
  assert.equal("cueball.connection.resty: option 'module' must be the name of a library, or a library, not nil", says {})
  assert.equal("cueball.connection.resty: option 'module' must be the name of a library, or a library, not 1", says { module = 1 })
  assert.matches("did you mean 'setup'", says { module = "x", set_up = print })
  assert.matches("option 'connect' must be a function, or a table of arguments, not the string that was given",
    says { module = "x", connect = "x" })
  assert.matches("option 'tls'", says { module = "x", tls = { verfy = 1 } })
  assert.matches("option 'read_timeout_ms'", says { module = "x", read_timeout_ms = 0 })
  local world = sim.new {}
  local ok, message = pcall(function()
    cueball.pool { host = world, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = resty { module = "resty.nothere" } }
  end)
  assert.is_false(ok)
  assert.matches("resty_spec.lua:%d+: cueball.pool: the connection factory cannot work on this host: the client library was not found",
    message)
end)
