--- Factories in C in nginx: those that never block work, others are refused where the pool is made.
local native_library = require "spec.support.native_library"
local nginx = require "spec.support.nginx"

local POOL = [[
local cueball = require "cueball"
local ffi = require "ffi"
ffi.cdef "int spec_register_at_once(const char *name, bool has_all), spec_register(const char *name, int threads_max, bool has_all);"
local library = ffi.load "LIBRARY"
assert(library.spec_register_at_once("at once", true) == 0)
assert(library.spec_register("blocking", 0, true) == 0)
local function pool_of(name)
  return cueball.pool { name = "spec", max_connections = 2, claim_timeout_ms = 15000, connect = cueball.native(name),
    resolver = cueball.resolver.static { "127.0.0.1:7" } }
end
local ok, message = pcall(pool_of, "blocking")
return { pool = pool_of "at once", ok = ok, message = message }
]]

describe("a factory in C in nginx", function()
  local path, one

  setup(function() path = native_library.build "spec/native/factories.c" end)
  teardown(function()
    if one then one:stop() end
    native_library.remove(path)
  end)

  it("works if it never blocks, and is refused if it does", function()
    one = nginx.start {
      files = { ["my_pool.lua"] = (POOL:gsub("LIBRARY", path)) },
      http = "init_worker_by_lua_block { mine = require 'my_pool' }\n",
      server = [[
location = /use { content_by_lua_block {
  ngx.print(tostring(mine.pool:with(function(connection) return connection.fd >= 0 and connection.pointer ~= nil end)))
} }
location = /refused { content_by_lua_block { ngx.print(tostring(mine.ok) .. " " .. tostring(mine.message)) } }
location = /opened { content_by_lua_block { ngx.print(mine.pool:stats().opened, " ", mine.pool:stats().busy) } }
]],
    }
    for _ = 1, 5 do assert.equal("true", (one:ask "/use")) end
    assert.matches('^[12] 0$', (one:ask "/opened"))
    assert.matches('false .*the connection factory cannot work on this host: "blocking" is a factory in C, and its functions are called in '
      .. 'threads, of whose results it hears by a descriptor: the host "ngx" cannot wait for one', (one:ask "/refused"))
  end)
end)
