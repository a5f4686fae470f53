--- cueball keeps a pool of connections to a service that has many nodes.
--
--   local cueball = require "cueball"
--   cueball.run(function()
--     local pool = cueball.pool {
--       resolver = cueball.resolver.static { "127.0.0.1:7001", "127.0.0.1:7002" },
--       connect = cueball.connection.tcp {},
--     }
--     print(pool:with(function(socket)
--       socket:send "hello\n"
--       return socket:receive "*l"
--     end))
--     pool:stop()
--   end)
--
-- The manual is docs/lua.md.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local Pool = require "cueball.pool"
local Set = require "cueball.set"
local text = require "cueball.text"

local cueball = { version = native.version, pool = Pool.new, set = Set.new }

-- Modules on demand: cueball.resolver.static is cueball/resolver/static.lua.
local function package_of(prefix)
  return setmetatable({}, {
    __index = function(self, name)
      local found, module = pcall(require, prefix .. "." .. name)
      if not found then
        if module:find("module '" .. prefix .. "." .. name .. "' not found", 1, true) then
          misuse.raise(("there is no %s.%s"):format(prefix, name))
        end
        misuse.raise(module)
      end
      rawset(self, name, module)
      return module
    end,
  })
end

-- Likewise what most programs do without: cueball.balancer{…}, cueball.monitor.serve().
local LATER = {
  balancer = function() return require("cueball.nginx.balancer").new end,
  cosocket = function() return require "cueball.cosocket" end,
  log = function() return require "cueball.log" end,
  monitor = function() return require "cueball.monitor" end,
  native = function(face) return face.connection.native end,
}

setmetatable(cueball, {
  __index = function(self, name)
    local load = LATER[name]
    if not load then return nil end
    rawset(self, name, load(self))
    return self[name]
  end,
})

cueball.resolver = package_of "cueball.resolver"
cueball.connection = package_of "cueball.connection"
cueball.console = package_of "cueball.console"
require("cueball.console.workers").console = cueball.console

--- The host that is used where none is named.
function cueball.host()
  return require("cueball.host").default()
end

--- Runs the event loop until fn(...) is done; inside a task it just calls it.
-- @return what fn returned; an error in it is raised here with its traceback
function cueball.run(fn, ...)
  if type(fn) ~= "function" then misuse.raise("cueball.run: expected a function, got " .. text.show(fn)) end
  return cueball.host().run(fn, ...)
end

--- Runs fn(...) in a task of its own, at once until it first waits.
-- @return the task
function cueball.spawn(fn, ...)
  if type(fn) ~= "function" then misuse.raise("cueball.spawn: expected a function, got " .. text.show(fn)) end
  return cueball.host().spawn(fn, ...)
end

--- Waits, in a task.
-- @param ms milliseconds
-- @return true
function cueball.sleep(ms)
  return cueball.host().sleep(ms)
end

return cueball
