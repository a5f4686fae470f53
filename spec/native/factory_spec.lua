--- Connection factories in C, called in threads: what they do well, and what they do badly.
local cueball = require "cueball"
local ffi = require "ffi"
local host = require "cueball.host.uv"
local collect = require "spec.support.collect"
local native_library = require "spec.support.native_library"
local until_true = require "spec.support.until_true"

local library = native_library.load("spec/native/factories.c", require "spec.native.declarations")

local CONNECT, CHECK, RESET, BROKEN, CLOSE = 0, 2, 3, 4, 5
local WELL, FAILS, HANGS, ASKS, NEITHER, NOT_OPEN, NUMBER, ENDLESS, SPEECHLESS, ENDS_THREAD, POINTER_ONLY, STEPS = 0, 1, 2, 3, 4, 5, 6, 7,
  8, 9, 10, 11
local RECOVERY = { default = { timeout_ms = 20000, delay_ms = 10, max_delay_ms = 20, attempts = 2 } }

local lib = require("cueball.native").lib
local messages

local function pool_of(name, given)
  local options = {
    host = host, name = "spec", resolver = cueball.resolver.static { { address = "127.0.0.1", port = 7, key = "one", weight = 3 } },
    connect = cueball.native(name), max_connections = 1, recovery = RECOVERY,
  }
  for option, value in pairs(given or {}) do options[option] = value end
  return cueball.pool(options)
end

describe("a factory in C", function()
  local pool

  setup(function()
    assert.equal(0, library.spec_register("spec", 0, true))
    assert.equal(0, library.spec_register("spec bare", 3, false))
  end)

  teardown(function()
    lib.cueball_native_factory_unregister "spec"
    lib.cueball_native_factory_unregister "spec bare"
    host.log_to(nil)
  end)

  before_each(function()
    library.spec_reset()
    messages = {}
    host.log_to(function(level, message) messages[#messages + 1] = level .. " " .. message end)
    pool = nil
  end)

  -- Whatever a spec left hanging returns, and nothing of it stays.
  after_each(function()
    if pool and pool:state() ~= "stopped" then host.run(function() pool:stop { timeout_ms = 0 } end) end
    library.spec_let_go(true)
    until_true(function() return library.spec_in_connect() == 0 and library.spec_opened() == library.spec_closed() end,
      function() return library.spec_opened() .. " opened, " .. library.spec_closed() .. " closed" end)
  end)

  it("opens connections, which leases have with their descriptor and pointer", function()
    pool = pool_of "spec"
    host.run(function()
      pool:with(function(connection, lease)
        assert.equal("one", lease:backend().key)
        assert.is_true(connection.fd >= 0)
        library.spec_native_write(library.spec_peer(connection.pointer), "hello", 5)
        local factory = cueball.native "spec"
        assert.equal(connection.fd, factory.descriptor(connection))
        assert.equal(connection.pointer, factory.pointer(connection))
      end)
      assert.equal("spec one one 127.0.0.1 7 3 attempt 1, in time", ffi.string(library.spec_text()))
      assert.equal(1, library.spec_opened())
      pool:stop()
      assert.equal(1, library.spec_closed())
    end)
  end)

  it("may have a pointer and no descriptor", function()
    library.spec_behave(CONNECT, POINTER_ONLY, 0)
    pool = pool_of "spec"
    host.run(function()
      pool:with(function(connection)
        assert.equal(-1, connection.fd)
        assert.is_nil(cueball.native("spec").descriptor(connection))
        assert.is_truthy(connection.pointer)
      end)
      pool:stop()
    end)
    assert.equal(1, library.spec_closed())
  end)

  it("is told by name; a wrong one raises", function()
    local ok, message = pcall(function() cueball.native "nobody" end)
    assert.is_false(ok)
    assert.matches('factory_spec%.lua:%d+: cueball%.native: no connection factory is registered as "nobody"; there are .*spec, spec bare',
      message)
    ok, message = pcall(cueball.native, 5)
    assert.is_false(ok)
    assert.matches("expected the name of a connection factory, got 5", message, 1, true)
    assert.is_false(pcall(cueball.native, "spec\0x"))
  end)

  local FAULTS = {
    { "it fails", FAILS, "one: told to fail" },
    { "it returns nothing", NEITHER, "one: the factory's connect has returned neither a descriptor nor a pointer" },
    { "its descriptor is not open", NOT_OPEN, "one: the factory's connect has returned descriptor 9999, which is not open" },
    { "it returns a number that means nothing", NUMBER, "one: the factory's connect has returned 77" },
    { "it does not say why it fails", SPEECHLESS, "one: the factory's connect gave no reason" },
    { "its message does not end", ENDLESS, "one: " .. ("x"):rep(511) },
    { "it ends its thread", ENDS_THREAD, "one: the factory has ended the thread that it was called in" },
    { "it asks for a step, and has none", STEPS, "one: the factory's connect has returned 1, and it has no step" },
  }
  -- AddressSanitizer takes the stack of a thread that ended in a function that is not instrumented for one that was written over.
  if (os.getenv "CUEBALL_CMAKE_ARGS" or ""):find "SANITIZE" then table.remove(FAULTS, 7) end
  for _, fault in ipairs(FAULTS) do
    it("fails an attempt when " .. fault[1], function()
      library.spec_behave(CONNECT, fault[2], 0)
      pool = pool_of "spec"
      host.run(function()
        local lease, _, name = pool:claim { timeout_ms = 10000 }
        assert.is_nil(lease)
        assert.equal("pool_failed", name)
        assert.equal(fault[3], pool:last_error())
        library.spec_behave(CONNECT, WELL, 0)
        until_true(function() return pool:state() == "running" end)
        pool:with(function(connection) assert.is_true(connection.fd >= 0) end)
      end)
    end)
  end

  it("that hangs is given up in time; what it opens all the same is closed, and nobody has it", function()
    library.spec_behave(CONNECT, HANGS, 0)
    pool = pool_of("spec", { recovery = { default = { timeout_ms = 100, max_timeout_ms = 100, delay_ms = 5, attempts = 2 } } })
    host.run(function()
      assert.same({ nil, "pool_failed" }, { nil, (select(3, pool:claim { timeout_ms = 10000 })) })
      assert.equal("one: the attempt took too long", pool:last_error())
      until_true(function() return cueball.native("spec").threads().given_up >= 2 end)
      library.spec_behave(CONNECT, WELL, 0)
      until_true(function() return pool:state() == "running" end)
      library.spec_let_go(true)
      until_true(function() return library.spec_closed() >= 2 and library.spec_closed() == library.spec_opened() - 1 end)
      until_true(function() return cueball.native("spec").threads().given_up == 0 end)
      pool:with(function(connection) assert.is_true(connection.fd >= 0) end)
    end)
  end)

  it("hears that nobody waits any more", function()
    library.spec_behave(CONNECT, ASKS, 0)
    pool = pool_of("spec", { recovery = { default = { timeout_ms = 10000 } } })
    host.run(function()
      until_true(function() return library.spec_in_connect() == 1 end)
      local began = host.now()
      pool:stop()
      until_true(function() return library.spec_in_connect() == 0 end)
      assert.is_true(host.now() - began < 9e9)
    end)
    assert.equal(0, library.spec_opened())
  end)

  it("does not hold up the stop of its pool, nor the loop", function()
    library.spec_behave(CONNECT, HANGS, 0)
    pool = pool_of("spec", { max_connections = 4, spares = 4 })
    host.run(function()
      until_true(function() return library.spec_in_connect() == 4 end)
      pool:stop()
      assert.equal(4, library.spec_in_connect())
      assert.equal(4, cueball.native("spec").threads().given_up)
    end)
    library.spec_let_go(true)
    until_true(function() return library.spec_closed() == 4 end)
    until_true(function() return cueball.native("spec").threads().given_up == 0 end)
  end)

  it("is called by so many threads at once, and no more", function()
    library.spec_behave(CONNECT, HANGS, 0)
    pool = pool_of("spec bare", { max_connections = 20, spares = 20 })
    host.run(function()
      until_true(function() return library.spec_in_connect() == 3 and cueball.native("spec bare").threads().waiting == 17 end)
      library.spec_let_go(true)
      until_true(function() return pool:stats().idle == 20 end)
      assert.equal(3, library.spec_in_connect_most())
      assert.equal(20, library.spec_called(CONNECT))
      pool:stop()
      assert.equal(20, library.spec_closed())
    end)
  end)

  it("leaves threads to others while calls that were given up hang; and says when there is none", function()
    library.spec_behave(CONNECT, HANGS, 0)
    pool = pool_of("spec bare", { max_connections = 3, spares = 3, name = "stuck",
      recovery = { default = { timeout_ms = 10, max_timeout_ms = 10, delay_ms = 1, max_delay_ms = 1, attempts = 1000 } } })
    host.run(function()
      -- 3 threads, and four times as many that do not count.
      until_true(function() return library.spec_in_connect() == 15 end)
      until_true(function() return table.concat(messages, "\n"):find "no thread was free" end)
      assert.matches("warn cueball stuck: no thread was free to connect to one in time: all of the connection factory "
        .. '"spec bare" are in calls that last', table.concat(messages, "\n"), 1, true)
      pool:stop()
      assert.equal(15, library.spec_in_connect())
      assert.same({ threads = 15, running = 0, given_up = 15, waiting = 0 }, cueball.native("spec bare").threads())
    end)
    library.spec_let_go(true)
    until_true(function() return library.spec_closed() == 15 end)
  end)

  it("closes connections that nobody refers to any more", function()
    host.run(function()
      local factory = cueball.native "spec"
      local connection = factory.connect({ key = "a", name = "a", address = "10.0.0.1", port = 1, weight = 1 },
        { host = host, timeout_ms = 10000, attempt = 1, pool_name = "none" })
      assert.is_true(connection.fd >= 0)
      assert.equal(0, library.spec_closed())
    end)
    collect()
    until_true(function() return library.spec_closed() == 1 end)
  end)

  it("closes what a task was about to be given as it was killed", function()
    local task
    local deadly = setmetatable({ waiter = function()
      local waiter = host.waiter()
      return {
        wait = function() return waiter:wait() end,
        wake = function() -- the task goes on in a later turn
          waiter:wake()
          host.kill(task)
        end,
      }
    end }, { __index = host })
    local was_given = false
    host.run(function()
      task = host.spawn(function()
        cueball.native("spec").connect({ key = "a", name = "a", address = "10.0.0.1", port = 1, weight = 1 },
          { host = deadly, timeout_ms = 10000, attempt = 1 })
        was_given = true
      end)
      until_true(function() return library.spec_closed() == 1 end)
    end)
    assert.is_false(was_given)
  end)

  -- ------------------------------------------------- check, reset and broken --

  it("checks connections in a thread", function()
    pool = pool_of("spec", { check_interval_ms = 5 })
    host.run(function()
      until_true(function() return library.spec_called(CHECK) >= 3 end)
      library.spec_behave(CHECK, FAILS, 0)
      until_true(function() return library.spec_closed() >= 1 end)
      assert.matches("one: check failed: told to fail", pool:last_error(), 1, true)
    end)
  end)

  it("whose check hangs gets no close until that has returned", function()
    library.spec_behave(CHECK, HANGS, 0)
    pool = pool_of("spec", { check_interval_ms = 5, check_timeout_ms = 10,
      recovery = { default = { timeout_ms = 50, max_timeout_ms = 50 } } })
    host.run(function()
      -- The pool waits no longer for the close of the first. An attempt that takes as long as that is too late: what it opens is closed.
      until_true(function() return library.spec_called(CHECK) >= 1 and library.spec_opened() > library.spec_closed() + 1 end)
      assert.equal(0, library.spec_closed_checked())
      pool:stop()
    end)
    until_true(function() return library.spec_closed() == library.spec_opened() - library.spec_called(CHECK) end)
    assert.equal(0, library.spec_closed_checked())
    library.spec_let_go(true)
    until_true(function() return library.spec_closed() == library.spec_opened() end)
  end)

  it("cleans dirty connections in a thread", function()
    pool = pool_of "spec"
    host.run(function()
      pool:with(function() library.spec_behave(BROKEN, WELL, -5) end)
      until_true(function() return pool:stats().idle == 1 end)
      assert.equal(1, library.spec_called(RESET))
      assert.equal(1, library.spec_opened())
      library.spec_behave(RESET, WELL, -2)
      pool:with(function() library.spec_behave(BROKEN, WELL, -5) end)
      until_true(function() return library.spec_opened() == 2 end)
      assert.equal(2, library.spec_called(RESET))
    end)
  end)

  it("says what is wrong with a connection that comes back, and is not believed what it may not say", function()
    pool = pool_of "spec"
    host.run(function()
      for number, status in ipairs { -1, -2, -3, -4, 55, -99 } do
        pool:with(function() library.spec_behave(BROKEN, FAILS, status) end)
        library.spec_behave(BROKEN, WELL, 0)
        until_true(function() return pool:stats().idle == 1 and library.spec_opened() == number + 1 end)
      end
      assert.equal(0, library.spec_overlaps())
    end)
  end)

  it("is asked when something comes for a connection at rest, which it may be used to", function()
    pool = pool_of "spec"
    host.run(function()
      local peer
      pool:with(function(connection) peer = library.spec_peer(connection.pointer) end)
      local asked = library.spec_called(BROKEN)
      library.spec_native_write(peer, "news", 4)
      until_true(function() return library.spec_called(BROKEN) > asked end)
      assert.equal(1, pool:stats().idle)
      library.spec_native_shutdown(peer, 1)
      until_true(function() return library.spec_opened() == 2 end)
      assert.matches("closed", table.concat(messages, "\n") .. tostring(pool:last_error()), 1, true)
    end)
  end)

  it("need not say anything: the descriptor is looked at", function()
    pool = pool_of "spec bare"
    host.run(function()
      local peer
      pool:with(function(connection) peer = library.spec_peer(connection.pointer) end)
      library.spec_native_write(peer, "x", 1)
      until_true(function() return library.spec_opened() == 2 end)
      pool:with(function(connection) library.spec_native_write(library.spec_peer(connection.pointer), "x", 1) end)
      until_true(function() return library.spec_opened() == 3 end)
      pool:with(function(connection) library.spec_native_shutdown(library.spec_peer(connection.pointer), 1) end)
      until_true(function() return library.spec_opened() == 4 end)
      assert.equal(0, pool:stats().lost)
    end)
  end)

  it("whose close hangs does not hold up the pool for ever, and is not asked twice", function()
    pool = pool_of("spec", { recovery = { default = { timeout_ms = 50, max_timeout_ms = 50 },
      connect = { timeout_ms = 20000, max_timeout_ms = 20000 } } })
    host.run(function()
      assert.is_true(pool:with(function() return true end))
      library.spec_behave(CLOSE, HANGS, 0)
      pool:stop()
      assert.equal("stopped", pool:state())
      until_true(function() return library.spec_called(CLOSE) > 0 end) -- its thread may come later than the pool waits for
      library.spec_let_go(true)
      until_true(function() return library.spec_closed() == 1 end)
      assert.equal(1, library.spec_called(CLOSE))
    end)
  end)

  -- ----------------------------------------------------------- registrations --

  it("may be unregistered while pools have it, and is let go of when the last of them is", function()
    assert.equal(0, library.spec_register("spec short", 0, true))
    assert.equal(lib.CUEBALL_EEXISTS, library.spec_register("spec short", 0, true))
    local before = library.spec_freed()
    pool = pool_of "spec short"
    assert.equal(0, lib.cueball_native_factory_unregister "spec short")
    assert.equal(lib.CUEBALL_ENOT_FOUND, lib.cueball_native_factory_unregister "spec short")
    assert.is_false(pcall(cueball.native, "spec short"))
    host.run(function()
      pool:with(function(connection) assert.is_true(connection.fd >= 0) end)
      assert.equal(0, library.spec_register("spec short", 0, true)) -- another, of the same name
      pool:with(function(connection) assert.is_true(connection.fd >= 0) end)
      pool:stop()
    end)
    assert.equal(before, library.spec_freed())
    pool = nil
    until_true(function()
      collect()
      return library.spec_freed() == before + 1 -- its threads go when they had nothing to do for five seconds
    end)
    assert.equal(0, lib.cueball_native_factory_unregister "spec short")
    assert.equal(before + 2, library.spec_freed())
  end)

  it("is refused when it cannot be called", function()
    local vtable = ffi.new "cueball_native_factory"
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register("x", vtable))
    vtable.connect = ffi.cast("void *", 1)
    vtable.threads_max = 1025
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register("x", vtable))
    vtable.threads_max, vtable.struct_size = 0, 8
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register("x", vtable))
    vtable.struct_size, vtable.step = 0, ffi.cast("void *", 1)
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register("x", vtable))
    vtable.step = nil
    for _, name in ipairs { "", "a\nb", ("x"):rep(256) } do
      assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register(name, vtable))
    end
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register(nil, vtable))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_native_factory_register("x", nil))
  end)
end)
