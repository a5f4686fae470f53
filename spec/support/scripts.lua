--- Scripts that declare pools, in virtual time: what the specs of cueball.runtime.script stand on.
--
--   local scripts = require "spec.support.scripts"
--   local town = scripts.town { seed = 1, servers = 3 }   a world with servers 10.0.0.1:7000 and so on; town.world, town.servers
--   town:load(text, { limit_ms = 50 })                    → what script.load returns; town.script is the script. More options: of load
--   town:reload(text, { dry_run = true })                 the script has this text now (nil: the same), and is loaded anew → what
--                                                         script:reload returns
--   town:told(text, { dry_run = true })                   likewise; the report's words, without the line for the script
--   town:stop(options)                                    → what script:stop returns
--   town:folder { ["pools.lua"] = "…" }                   → a folder with these files, which is gone after the spec
--   town:finish()                                         for after_each: stops the script; nothing may be left, and no error may have
--                                                         been logged but those of the pattern town.errors
--
-- load, reload and stop run the world until they are done.
local assert = require "luassert"
local script = require "cueball.runtime.script"
local shell = require "spec.support.shell"
local sim = require "cueball.host.sim"
local with = require "spec.support.with"
require "spec.support.sim_town" -- assert.blames, assert.log
require "spec.support.trace"

local scripts = {}

local Town = {}
Town.__index = Town

--- @param given seed; servers: how many, 3 by default
function scripts.town(given)
  given = given or {}
  local self = setmetatable({ world = sim.new { seed = given.seed or 1, task_errors = "log" }, servers = {}, folders = {} }, Town)
  for number = 1, given.servers or 3 do self.servers[number] = self.world.server("10.0.0." .. number, 7000, given.behaviour) end
  return self
end

function Town:trace() return self.world.trace_text() end

function Town:load(text, given)
  local loaded, message, name = self.world.run(script.load, with({ text = text, host = self.world }, given))
  self.script = loaded or self.script
  return loaded, message, name
end

function Town:reload(text, given)
  return self.world.run(self.script.reload, self.script, with({ text = text }, given))
end

function Town:told(text, given)
  local report, message = self:reload(text, given)
  return (tostring(report or message):gsub("^[^\n]*\n", ""))
end

function Town:stop(given)
  return self.world.run(self.script.stop, self.script, given)
end

function Town:folder(files)
  local folder = shell.must("mktemp -d"):match "%S+"
  self.folders[#self.folders + 1] = folder
  for name, text in pairs(files) do
    local path = folder .. "/" .. name
    shell.must(("mkdir -p '%s'"):format(path:match "^(.*)/"))
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end
  return folder
end

function Town:finish()
  if self.script then self:stop { drain_timeout_ms = 0 } end
  for _, folder in ipairs(self.folders) do shell.must(("rm -r '%s'"):format(folder)) end
  self.world.check { errors = self.errors }
end

return scripts
