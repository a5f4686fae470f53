--- A pool and a console that looks at it, over a socket in a folder of its own, in this process.
--
--   local town = require("spec.support.console_town").start { max_connections = 1 }
--   town.pool, town.console, town.address, town.folder
--   town:finish()
local cueball = require "cueball"
local host = require "cueball.host.uv"
local shell = require "spec.support.shell"
local uv = require "luv"

local town = {}

local BUDGET_MS = 5000 -- it counts the time of other processes, too

local Town = {}
Town.__index = Town

--- @param given options of the pool besides its name, resolver and factory
function town.start(given)
  local self = setmetatable({ folder = shell.must("mktemp -d"):match "[^\n]+" }, Town)
  self.address = "unix:" .. self.folder .. "/sock"
  host.run(function()
    local options = { name = "db", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = function() return {} end }
    for name, value in pairs(given or {}) do options[name] = value end
    self.pool = cueball.pool(options)
    self.pool:ready()
  end)
  self.console = assert(cueball.console.listen(self.address, { budget_ms = BUDGET_MS }))
  return self
end

function Town:finish()
  host.run(function()
    self.console:close()
    self.pool:stop()
    host.sleep(1)
  end)
  uv.run "nowait" -- luv before 1.45 does not like an end with handles that are closing
  shell.must("rm -rf " .. shell.quote(self.folder))
end

return town
