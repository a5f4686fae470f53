--- The runtime for C programs with threads, as C programs use it, against real servers.
local postgres = require "spec.support.postgres"
local redis = require "spec.support.redis"
local runtime = require "spec.support.runtime"
local server = require "spec.support.server"
local tls_server = require "spec.support.tls_server"
local uv = require "luv"

local POOL = [[
cueball.pool {
  name = "echo", max_connections = 4, resolver = cueball.resolver.static { ... },
  connect = cueball.connection.tcp { read_timeout_ms = 20000 },
}
]]

local TASKS = [[
local pool = cueball.pool {
  name = "echo", max_connections = 4, resolver = cueball.resolver.static { ... },
  connect = cueball.connection.tcp { read_timeout_ms = 20000 },
}
for _ = 1, 4 do
  cueball.spawn(function()
    for number = 1, 50 do
      assert(pool:with(function(socket)
        local line = "task " .. number .. "\n"
        assert(socket:send(line))
        assert(socket:receive "*l" .. "\n" == line)
        return true
      end))
    end
    cueball.host().log("info", "task done")
  end)
end
cueball.spawn(function()
  cueball.sleep(10)
  error "thrown later"
end)
local uv = require "luv"
for delay_ms, thrown in ipairs { "a text", {}, setmetatable({}, { __tostring = error }) } do
  local timer = uv.new_timer()
  timer:start(delay_ms, 0, function()
    timer:close()
    error(thrown)
  end)
end
]]

describe("a runtime", function()
  local servers = {}

  setup(function()
    runtime.setup()
    servers[1], servers[2] = server.process(), server.process()
  end)

  teardown(function()
    for _, one in ipairs(servers) do
      one.kill "sigkill"
      while not one.is_over do uv.run "once" end
    end
    uv.run "nowait" -- what is closing is closed
    runtime.teardown()
  end)

  local function addresses()
    return ("127.0.0.1:%d 127.0.0.1:%d"):format(servers[1].port, servers[2].port)
  end

  -- The last line of a program that found all well.
  local function is_well(name, arguments)
    local output = runtime.run(name, arguments)
    assert.truthy(output:find "well$", output)
  end

  it("tells what is wrong with options and scripts, and leaves nothing behind", function()
    local script = runtime.script "local function inner() local x = 1\nerror 'on purpose' end\nlocal function outer() inner() end outer()"
    is_well("start_test", script)
  end)

  it("lends threads the connections that its script opens", function()
    is_well("claims_test", runtime.script(POOL) .. " " .. addresses())
  end)

  it("loads its script anew while leases go on", function()
    is_well("reload_test", runtime.script "" .. " " .. addresses())
  end)

  it("shares its pools with tasks of its script, and answers what it is asked", function()
    is_well("use_test", runtime.script(TASKS) .. " " .. addresses())
  end)

  it("stops with leases, claims and other stops under way", function()
    is_well("stop_test", runtime.script(POOL) .. " " .. addresses())
    is_well("stop_test", "hang")
  end)
end)

describe("a runtime's connections", function()
  local stop = {} -- functions that end what was started

  setup(runtime.setup)
  teardown(runtime.teardown)
  after_each(function()
    for _, fn in ipairs(stop) do fn() end
    stop = {}
  end)

  local function is_well(kind, factory, arguments)
    local script = runtime.script(("cueball.pool { name = '%s', max_connections = 1, resolver = cueball.resolver.static { (...) },\n%s }")
      :format(kind, factory))
    local output = runtime.run("kinds_test", kind .. " " .. script .. " " .. arguments)
    assert.truthy(output:find "well$", output)
    return output
  end

  it("to Redis are bytes, and are looked at as they come back", function()
    local one = redis.start {}
    stop[1] = function() one:stop() end
    is_well("redis", "connect = cueball.connection.redis {}", one.backend)
  end)

  it("to PostgreSQL are the PGconn, and are cleaned as they come back", function()
    local one = postgres.start {}
    stop[1] = postgres.remove_all
    is_well("postgres", "connect = cueball.connection.postgres { user = 'postgres' }", one.backend)
  end)

  it("under TLS in Lua are refused, and the log says what to do", function()
    local one = tls_server.start { "-rev" }
    stop[1] = function() one:stop() end
    local output = is_well("tls", "connect = cueball.connection.tcp { tls = { verify = false } }", "127.0.0.1:" .. one.port)
    assert.truthy(output:find("threads cannot have connections to 127.0.0.1:%d+: TLS in this process"), output)
  end)

  it("of a factory of the script's own are what it says", function()
    is_well("pair", [[
      connect = {
        connect = function()
          local ffi = require "ffi"
          pcall(ffi.cdef, "int socketpair(int domain, int type, int protocol, int *ends); int close(int fd);")
          local ends = ffi.new "int[2]"
          return ffi.C.socketpair(1, 1, 0, ends) == 0 and { ends[0], ends[1] }
        end,
        close = function(ends) require("ffi").C.close(ends[1]) require("ffi").C.close(ends[2]) end,
        descriptor = function(ends) return ends[1] end, pointer = function() return 4711 end,
      }]], "127.0.0.1:1")
  end)

  it("of factories that say nonsense are refused, and the log says why", function()
    for said, member in pairs {
      ["its factory has neither"] = "", ["descriptor threw"] = "descriptor = function() error 'no' end",
      ["its factory gave no descriptor"] = "descriptor = function() end",
      ["no descriptor but %-3"] = "descriptor = function() return -3 end",
      ["it is away"] = "descriptor = function() return nil, 'it is away' end",
      ["no pointer but table"] = "pointer = function() return {} end", ["gave no pointer"] = "pointer = function() end",
    } do
      local output = is_well("odd", ("connect = { connect = function() return {} end, %s }"):format(member), "127.0.0.1:1")
      assert.truthy(output:find(said), said .. " is not in " .. output)
    end
  end)

  it("that break at rest are noticed, and claims are told what attempts fail with", function()
    local one = server.process()
    stop[1] = function()
      while not one.is_over do uv.run "once" end
      uv.run "nowait"
    end
    is_well("lost", "connect = cueball.connection.tcp {}", ("127.0.0.1:%d %d"):format(one.port, one.pid))
  end)
end)
