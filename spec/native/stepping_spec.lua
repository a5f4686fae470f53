--- Factories in C that never block: called in the thread of the event loop, on every host that has what they need.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local native_library = require "spec.support.native_library"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local library = native_library.load("spec/native/factories.c", require "spec.native.declarations")
local lib = require("cueball.native").lib

local CONNECT, CHECK, RESET, BROKEN = 0, 2, 3, 4
local WELL, FAILS, NUMBER, STEPS = 0, 1, 6, 11
local RECOVERY = { default = { timeout_ms = 5000, delay_ms = 10, max_delay_ms = 20, attempts = 1 } }

describe("a factory in C that never blocks", function()
  local servers = {}

  setup(function()
    host.log_to(function() end)
    assert.equal(0, library.spec_register_at_once("at once", false))
    assert.equal(0, library.spec_register_at_once("at once, whole", true))
    assert.equal(0, library.spec_register_stepping "stepping")
    assert.equal(0, library.spec_register("blocking", 0, false))
  end)

  teardown(function()
    host.log_to(nil)
    for _, name in ipairs { "at once", "at once, whole", "stepping", "blocking" } do lib.cueball_native_factory_unregister(name) end
  end)

  before_each(function() library.spec_reset() end)

  after_each(function()
    assert.equal(library.spec_opened(), library.spec_closed())
    for _, server in ipairs(servers) do server:close() end
    servers = {}
    uv.run "nowait" -- luv before 1.45 does not like an end with handles that are closing
  end)

  -- A server that says this to everybody who comes; "": nothing.
  local function server_that_says(greeting)
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(128, function()
      local client = uv.new_tcp()
      server:accept(client)
      servers[#servers + 1] = client
      if greeting == false then return client:shutdown() end
      client:write(greeting)
    end)
    servers[#servers + 1] = server
    return "127.0.0.1:" .. server:getsockname().port
  end

  local function pool_of(name, address, given)
    local options = { host = host, resolver = cueball.resolver.static { address or "127.0.0.1:7" }, connect = cueball.native(name),
      max_connections = 1, recovery = RECOVERY }
    for option, value in pairs(given or {}) do options[option] = value end
    return cueball.pool(options)
  end

  it("connects step by step, as its descriptor is ready", function()
    host.run(function()
      local pool = pool_of("stepping", server_that_says "HELLO")
      pool:with(function(connection)
        assert.is_true(connection.fd >= 0)
        assert.is_nil(connection.pointer)
      end)
      pool:stop()
      assert.equal(0, cueball.native("stepping").threads().threads)
    end)
  end)

  it("says why a step failed", function()
    host.run(function()
      for greeting, said in pairs { ["GO AWAY"] = "GO AW", [false] = "closed" } do
        local pool = pool_of("stepping", server_that_says(greeting))
        assert.equal("pool_failed", (select(3, pool:claim { timeout_ms = 10000 })))
        assert.matches(": " .. said, pool:last_error(), 1, true)
        pool:stop()
      end
      local pool = pool_of("stepping", "127.0.0.1:1")
      assert.equal("pool_failed", (select(3, pool:claim { timeout_ms = 10000 })))
      assert.matches(": Connection refused", pool:last_error(), 1, true)
      pool:stop()
    end)
  end)

  it("is given up between two steps, and stopped", function()
    host.run(function()
      local silent = server_that_says ""
      local pool = pool_of("stepping", silent, { recovery = { default = { timeout_ms = 30, attempts = 1 } } })
      assert.equal("pool_failed", (select(3, pool:claim { timeout_ms = 10000 })))
      assert.matches("took too long", pool:last_error(), 1, true)
      pool:stop()
      pool = pool_of("stepping", silent)
      host.sleep(5)
      pool:stop()
      assert.equal("stopped", pool:state())
    end)
  end)

  it("is not believed what it may not say", function()
    host.run(function()
      local all = { [FAILS] = "told to fail", [NUMBER] = "has returned 77", [STEPS] = "has returned 1, and it has no step" }
      for behaviour, said in pairs(all) do
        library.spec_behave(CONNECT, behaviour, 0)
        local pool = pool_of "at once"
        assert.equal("pool_failed", (select(3, pool:claim { timeout_ms = 10000 })))
        assert.matches(said, pool:last_error(), 1, true)
        pool:stop()
      end
    end)
  end)

  it("checks and cleans in place", function()
    host.run(function()
      local pool = pool_of("at once, whole", nil, { check_interval_ms = 5 })
      pool:with(function() library.spec_behave(BROKEN, WELL, -5) end)
      until_true(function() return library.spec_called(CHECK) > 0 end)
      assert.equal(1, library.spec_called(RESET))
      assert.equal(1, pool:stats().opened)
      pool:stop()
    end)
  end)

  it("works in virtual time, if it waits for nothing", function()
    local world = require("cueball.host.sim").new { seed = 1 }
    world.run(function()
      local pool = pool_of("at once", nil, { host = world, max_connections = 3, spares = 3 })
      world.sleep(10)
      assert.equal(3, pool:stats().idle)
      pool:with(function(connection) assert.is_true(connection.fd >= 0) end)
      pool:stop()
    end)
    assert.equal(3, library.spec_closed())
    world.close()
  end)

  it("is refused where a pool is made on a host that cannot wait for it", function()
    local world = require("cueball.host.sim").new { seed = 1 }
    for name, said in pairs { stepping = "it waits for descriptors", blocking = "its functions are called in threads, of whose results" } do
      local ok, message = pcall(function() pool_of(name, nil, { host = world }) end)
      assert.is_false(ok)
      assert.matches("stepping_spec.lua:%d+: cueball.pool: the connection factory cannot work on this host: ", message)
      assert.matches(said, message, 1, true)
      assert.matches('the host "sim" cannot wait for one (it has no poll)', message, 1, true)
    end
    world.close()
  end)
end)
