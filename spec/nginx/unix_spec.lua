--- UNIX sockets as backends of every connection factory in nginx, where connections to them are parked, against real servers. On libuv:
-- spec/connection/unix_spec.lua.
local uv = require "luv"
local factories = require "spec.support.factories"
local nginx = require "spec.support.nginx"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local POOLS = [[
local ffi = require "ffi"
local cueball = require "cueball"
ffi.cdef "int cueball_spec_seteuid(unsigned) __asm__(\"seteuid\");"
local make = %s
use = %s
function become(user) return ffi.C.cueball_spec_seteuid(user) end
function open(...)
  return cueball.pool {
    name = "local", max_connections = 4, claim_timeout_ms = 15000, resolver = cueball.resolver.static { ... },
    recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } },
    connect = make(%s),
  }
end
return { both = open(%s), alone = open(%s) }
]]

local SERVER = [[
location = /use { content_by_lua_block {
  local answer, message = pools[ngx.var.arg_n]:with(function(connection, lease)
    local answer, message = use(connection)
    if not answer then return nil, message end
    return answer .. " by " .. lease:backend().key
  end)
  ngx.print(answer or message)
} }
location = /stat { content_by_lua_block { ngx.print(pools[ngx.var.arg_n]:stats()[ngx.var.arg_s]) } }
location = /error { content_by_lua_block { ngx.print(tostring(pools[ngx.var.arg_n]:last_error())) } }
location = /renew { content_by_lua_block { pools[ngx.var.arg_n]:renew { over_ms = 0 } } }
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
location = /try { content_by_lua_block { -- a pool over that path
  local user = tonumber(ngx.var.arg_user)
  if user then become(user) end
  local pool = open("unix:" .. ngx.unescape_uri(ngx.var.arg_path))
  local _, message = pool:claim()
  if user then become(0) end
  pool:stop()
  ngx.print(message)
} }
]]

describe("a UNIX socket as a backend in nginx", function()
  local one, server

  after_each(function()
    if one then one:stop() one = nil end
    if server then server:stop() server = nil end
  end)

  local function start(case)
    server = case.start()
    local socket, both = ("%q"):format(server.socket), ("%q, %q"):format(server.backend, server.socket)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(case.factory, case.use, case.right, both, socket) }, server = SERVER,
      http = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { package.path = package.path .. '" .. factories.PATHS
          .. "' pools = require 'my_pools' }\n",
    }
  end

  local function stat(pool, name) return tonumber(one:ask(("/stat?n=%s&s=%s"):format(pool, name))) end

  for name, case in pairs(factories.all(true)) do
    it("is balanced with one of TCP, parked, shown by its path, and found when it comes back: " .. name, function()
      start(case)
      local path = server.socket:sub(#"unix:" + 1)
      until_true(function() return stat("both", "idle") == 4 end, function() return one:ask "/error?n=both" end)
      local seen = {}
      for _ = 1, 8 do
        local answer, key = one:ask("/use?n=both"):match "^(.*) by (.*)$"
        assert.equal(case.answer, answer)
        seen[key] = (seen[key] or 0) + 1
      end
      assert.same({ [server.backend] = 4, [server.socket] = 4 }, seen)
      assert.equal(4, stat("both", "opened"))
      assert.is_truthy(one:ask("/status?format=openmetrics"):find(('backend="%s"} 1'):format(server.socket), 1, true))
      assert.equal(case.answer .. " by " .. server.socket, one:ask "/use?n=alone")
      server:kill()
      until_true(function() return one:ask "/use?n=alone":find "has failed" end)
      assert.equal(server.socket .. ": connection refused", one:ask "/error?n=alone")
      os.remove(path)
      until_true(function() return one:ask "/error?n=alone" == server.socket .. ": no such file or directory" end)
      server:start_again()
      until_true(function() return one:ask "/use?n=alone" == case.answer .. " by " .. server.socket end)
      until_true(function() return stat("alone", "idle") == 4 end, function() return one:ask "/error?n=alone" end)
      os.remove(path) -- those that are open go on
      assert.equal(case.answer .. " by " .. server.socket, one:ask "/use?n=alone")
      one:ask "/renew?n=alone"
      until_true(function() return one:ask "/use?n=alone":find "has failed" end)
    end)
  end

  it("says why it cannot be connected to", function()
    start(factories.all().tcp)
    local folder = assert(uv.fs_mkdtemp "/tmp/cueball-unix-XXXXXX")
    shell.write(folder .. "/file", "")
    for path, message in pairs {
      [folder .. "/none"] = "no such file or directory", [folder .. "/file"] = "connection refused", [folder] = "connection refused",
      [folder .. "/file/below"] = "not a directory",
    } do
      local answer = one:ask("/try?path=" .. path):gsub("; for %d+ ms", "")
      assert.equal(("pool local has failed: dead: unix:%s (%s)"):format(path, message), answer)
    end
    local path = server.socket:sub(#"unix:" + 1)
    os.execute(("chmod 000 '%s'"):format(path))
    local answer = one:ask(("/try?path=%s%s"):format(path:gsub(" ", "%%20"), uv.getuid() == 0 and "&user=65534" or ""))
    assert.equal(("pool local has failed: dead: unix:%s (permission denied)"):format(path), (answer:gsub("; for %d+ ms", "")))
    os.execute("rm -rf " .. folder)
  end)
end)
