--- Resolvers in C, which run in threads.
local cueball = require "cueball"
local ffi = require "ffi"
local host = require "cueball.host.uv"
local backends_of = require "spec.support.backends_of"
local collect = require "spec.support.collect"
local native_library = require "spec.support.native_library"
local until_true = require "spec.support.until_true"

local library = native_library.load("spec/native/resolvers.c", [[
  void spec_resolver_behave(int behaviour);
  void spec_resolver_let_go(void);
  void spec_resolver_say(const char *line);
  int spec_resolver_runs(void), spec_resolver_ended(void), spec_resolver_freed(void), spec_resolver_refused(void);
  int spec_resolver_woken(void), spec_resolver_misuse(void);
  int spec_resolver_register(const char *name, bool sleeps);
]], "-lm")
local lib = require("cueball.native").lib

local FOLLOWS, RETURNS, FAILS, ENDS_THREAD, FLOODS, DEAF, POLLS = 0, 1, 2, 3, 4, 5, 6

local function threads_of(name)
  local load, registration = ffi.new "cueball_native_load", lib.cueball_native_resolver_find(name)
  lib.cueball_native_load_of(registration, load)
  lib.cueball_native_drop(registration)
  return load.threads
end

describe("a resolver in C", function()
  local pool, messages

  setup(function()
    assert.equal(0, library.spec_resolver_register("nodes", false))
    assert.equal(0, library.spec_resolver_register("sleeping nodes", true))
  end)

  teardown(function()
    lib.cueball_native_resolver_unregister "nodes"
    lib.cueball_native_resolver_unregister "sleeping nodes"
    host.log_to(nil)
  end)

  before_each(function()
    messages = {}
    host.log_to(function(level, message) messages[#messages + 1] = level .. " " .. message end)
  end)

  after_each(function()
    if pool and pool:state() ~= "stopped" then host.run(function() pool:stop { timeout_ms = 0 } end) end
    pool = nil
    library.spec_resolver_let_go()
    until_true(function() return threads_of "nodes" == 0 and threads_of "sleeping nodes" == 0 end)
  end)

  local function pool_of(name, given)
    local options = { host = host, resolver = cueball.resolver.native(name), connect = function() return {} end, max_connections = 4 }
    for option, value in pairs(given or {}) do options[option] = value end
    return cueball.pool(options)
  end

  local function keys()
    return backends_of(pool, function(backend) return ("%s*%d/%d"):format(backend.key, backend.weight, backend.priority) end)
  end

  local function becomes(expected)
    until_true(function() return keys() == expected end, keys)
  end

  it("says what is there, what is gone, and all there is", function()
    library.spec_resolver_behave(FOLLOWS)
    pool = pool_of "nodes"
    assert.matches("cueball.pool (nodes, ", tostring(pool), 1, true)
    host.run(function()
      library.spec_resolver_say "add 10.0.0.1 80"
      becomes "10.0.0.1:80*1/0"
      assert.equal("resolver nodes, in C", pool:backends()[1].provenance)
      library.spec_resolver_say "add 10.0.0.2 81 5 2"
      becomes "10.0.0.1:80*1/0 10.0.0.2:81*5/2"
      library.spec_resolver_say "remove 10.0.0.1:80"
      becomes "10.0.0.2:81*5/2"
      library.spec_resolver_say "set 10.0.0.7 10.0.0.8"
      becomes "10.0.0.7:80*1/0 10.0.0.8:80*1/0"
      library.spec_resolver_say "fail the directory is down"
      until_true(function() return pool:resolver().failing end)
      assert.equal("the directory is down", pool:resolver().message)
      library.spec_resolver_say "recover"
      until_true(function() return not pool:resolver().failing end)
      becomes "10.0.0.7:80*1/0 10.0.0.8:80*1/0"
      library.spec_resolver_say "set"
      becomes ""
      pool:stop()
    end)
    until_true(function() return library.spec_resolver_ended() == 1 end)
    assert.equal(0, library.spec_resolver_refused())
  end)

  it("says rubbish: that is in the log, and passed over", function()
    library.spec_resolver_behave(FOLLOWS)
    pool = pool_of "nodes"
    host.run(function()
      library.spec_resolver_say "add db.example 80"
      library.spec_resolver_say "add 10.0.0.1 70000"
      library.spec_resolver_say "remove nobody"
      library.spec_resolver_say "add 10.0.0.3 80"
      becomes "10.0.0.3:80*1/0"
    end)
    local log = table.concat(messages, "\n")
    assert.matches('resolver: .*db%.example', log)
    assert.matches('resolver: .*70000', log)
    assert.matches('remove: no backend has the key "nobody"', log, 1, true)
  end)

  it("may return: it is not run again", function()
    library.spec_resolver_behave(RETURNS)
    pool = pool_of "nodes"
    host.run(function()
      becomes "10.0.0.1:80*1/0"
      until_true(function() return library.spec_resolver_ended() == 1 end)
      host.sleep(20)
      pool:stop()
    end)
    assert.equal(1, library.spec_resolver_runs())
  end)

  it("that fails, or ends its thread, is run again", function()
    local all = { [FAILS] = "the resolver in C has returned 7", [ENDS_THREAD] = "the resolver in C has returned -11" }
    if (os.getenv "CUEBALL_CMAKE_ARGS" or ""):find "SANITIZE" then all[ENDS_THREAD] = nil end -- as in factory_spec
    for behaviour, said in pairs(all) do
      library.spec_resolver_behave(behaviour)
      pool = pool_of("nodes", { recovery = { default = { delay_ms = 5, max_delay_ms = 5 } } })
      host.run(function()
        until_true(function() return library.spec_resolver_runs() >= 3 end)
        assert.matches("warn cueball nodes: resolver: " .. said, table.concat(messages, "\n"), 1, true)
        becomes "10.0.0.1:80*1/0" -- what it said stays
        pool:stop()
        until_true(function() return threads_of "nodes" == 0 end)
      end)
    end
  end)

  it("does not hold up the stop of its pool, and is heard no more", function()
    library.spec_resolver_behave(DEAF)
    pool = pool_of "nodes"
    host.run(function()
      becomes "10.0.0.1:80*1/0"
      pool:stop()
      assert.equal(0, library.spec_resolver_ended())
      library.spec_resolver_let_go()
      until_true(function() return library.spec_resolver_refused() == 1 end)
    end)
  end)

  it("may wait for its end in poll", function()
    library.spec_resolver_behave(POLLS)
    pool = pool_of "nodes"
    host.run(function()
      becomes "10.0.0.1:80*1/0"
      assert.equal(0, library.spec_resolver_ended())
      pool:stop()
      until_true(function() return library.spec_resolver_ended() == 1 end)
    end)
  end)

  it("that says more than the pool can hear waits", function()
    library.spec_resolver_behave(FLOODS)
    pool = pool_of("nodes", { max_connections = 1 })
    host.run(function()
      until_true(function() return #pool:backends() > 0 end)
      pool:stop()
      until_true(function() return library.spec_resolver_ended() == 1 end)
    end)
  end)

  it("is woken when the pool fails", function()
    library.spec_resolver_behave(FOLLOWS)
    pool = pool_of("sleeping nodes", { connect = function() return nil, "down" end,
      recovery = { default = { attempts = 1, delay_ms = 1, max_delay_ms = 1 } } })
    host.run(function()
      until_true(function() return library.spec_resolver_woken() >= 1 end)
      pool:stop()
      until_true(function() return library.spec_resolver_ended() == 1 end)
    end)
  end)

  it("runs once for each pool", function()
    library.spec_resolver_behave(POLLS)
    local resolver = cueball.resolver.native "nodes"
    local function one() return cueball.pool { host = host, resolver = resolver, connect = function() return {} end } end
    local a, b = one(), one()
    host.run(function()
      until_true(function() return library.spec_resolver_runs() == 2 and #a:backends() == 1 and #b:backends() == 1 end)
      a:stop()
      until_true(function() return library.spec_resolver_ended() == 1 end)
      b:stop()
      until_true(function() return library.spec_resolver_ended() == 2 end)
    end)
  end)

  it("ends with a pool that was dropped, and is let go of", function()
    library.spec_resolver_behave(POLLS)
    assert.equal(0, library.spec_resolver_register("short", false))
    assert.equal(lib.CUEBALL_EEXISTS, library.spec_resolver_register("short", false))
    do
      local short = pool_of "short"
      host.run(function()
        until_true(function() return #short:backends() == 1 end)
        short:replace { resolver = cueball.resolver.static { "10.0.0.5:80" } }
        until_true(function() return library.spec_resolver_ended() == 1 end)
        short:stop()
      end)
    end
    assert.equal(0, lib.cueball_native_resolver_unregister "short")
    assert.equal(lib.CUEBALL_ENOT_FOUND, lib.cueball_native_resolver_unregister "short")
    until_true(function()
      collect()
      return library.spec_resolver_freed() == 1
    end)
    assert.is_false(pcall(cueball.resolver.native, "short"))
  end)

  it("cannot be heard on a host without poll, and says so", function()
    local world = require("cueball.host.sim").new { seed = 1 }
    local deaf = cueball.pool { host = world, resolver = cueball.resolver.native "nodes", connect = function() return {} end }
    world.advance(10)
    assert.matches('the resolver "nodes" is in C, and runs in a thread: the host "sim" cannot hear it', deaf:last_error(), 1, true)
    deaf:stop()
    world.close()
  end)

  it("is told by name; a wrong one raises", function()
    local ok, message = pcall(function() cueball.resolver.native "nobody" end)
    assert.is_false(ok)
    assert.matches("resolver_spec%.lua:%d+: cueball%.resolver%.native: no resolver is registered as "
      .. '"nobody"; there are nodes, sleeping nodes', message)
    assert.is_false(pcall(cueball.resolver.native, {}))
  end)

  it("is refused what cannot be", function()
    assert.equal(9, library.spec_resolver_misuse())
  end)
end)
