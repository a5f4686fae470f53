--- An application with a runtime, which is the process of the spec: through FFI. The script runs in a thread of its own.
--
--     local app = require "spec.support.app"
--     local one = app.start(text, argument…)     raises with what went wrong
--     one:stop(drain_timeout_ms) one:free()
--
-- app.SERVER is the beginning of a script: echo() starts a server that sends back what it gets, and returns its address. app.LINES is a
-- whole one: its pool "lines" has two connections to such a server.
local ffi = require "ffi"
local native = require "cueball.native"
local uv = require "luv"

local app = {}

if not pcall(ffi.typeof, "spec_runtime_options") then
  ffi.cdef [[
    typedef struct spec_runtime_options {
      uint32_t struct_size, argument_count;
      const char *name, *file, *text;
      const char *const *arguments;
      const char *lua_path, *lua_cpath;
      double start_timeout_ms;
      void (*log)(void *, const char *, const char *);
      void *log_user;
    } spec_runtime_options;
    int cueball_runtime_start(const spec_runtime_options *options, void **runtime);
    int cueball_runtime_stop(void *runtime, double drain_timeout_ms);
    void cueball_runtime_free(void *runtime);
  ]]
end

local lib = ffi.load(os.getenv "CUEBALL_BUILD" .. "/libcueball_runtime.so")

app.SERVER = [[
local cueball = require "cueball"
cueball.host().log_to(function() end)
local function echo()
  local uv = require "luv"
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    client:read_start(function(_, data) if data then client:write(data) else client:close() end end)
  end)
  return "127.0.0.1:" .. server:getsockname().port
end
]]

app.LINES = app.SERVER .. [[
  cueball.pool {
    name = "lines", resolver = cueball.resolver.static { echo() }, connect = cueball.connection.tcp {},
    max_connections = 2, spares = 2, claim_timeout_ms = 20000,
  }
]]

--- Waits until so many connections of a pool for threads are idle, and nobody waits.
function app.settled(pool, idle)
  local stats
  for _ = 1, 2000 do
    stats = pool:stats()
    if stats.idle == idle and stats.waiting == 0 then return true end
    uv.sleep(5)
  end
  error(("%d idle, %d busy, %d waiting"):format(stats.idle, stats.busy, stats.waiting))
end

local Runtime = {}
Runtime.__index = Runtime

function app.start(text, ...)
  local arguments = { ... }
  local options = ffi.new("spec_runtime_options", { argument_count = #arguments })
  local list = ffi.new("const char *[?]", #arguments + 1, arguments)
  options.struct_size = ffi.sizeof(options)
  options.text, options.arguments, options.lua_path, options.lua_cpath = text, list, package.path, package.cpath
  local made = ffi.new "void *[1]"
  if lib.cueball_runtime_start(options, made) < 0 then error(ffi.string(native.lib.cueball_last_error()), 2) end
  return setmetatable({ core = made[0] }, Runtime)
end

function Runtime:stop(drain_timeout_ms)
  return lib.cueball_runtime_stop(self.core, drain_timeout_ms or 0)
end

function Runtime:free()
  if self.core then lib.cueball_runtime_free(self.core) end
  self.core = nil
end

return app
