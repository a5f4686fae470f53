--- A pool in virtual time: what the towns of specs stand on (spec.support.sim_pool has servers, spec.support.dns_town nameservers).
--
--   local sim_town = require "spec.support.sim_town"
--   local town = sim_town.new { seed = 1 }      the world is town.world
--   town:open { resolver = …, … }               a pool; town.pool is the last one.  Without `connect` its connections are tables
--   town:keys([pool])                           the keys of its backends but those removed, in alphabetical order
--   town:logged(words)                          how many lines of the log have these words
--   town:log(level)                             the log lines of that level ("all": all but debug), first lines only, as a trace
--   town:at(50, fn), town:advance(ms), town:run(fn)
--   town:stop()                                 stops all pools and checks that they are, and that nothing is left
--   sim_town.keys(pool)
--
-- And assert.trace(town, [[ … ]]), assert.log(town, level, [[ … ]]), assert.blames(text, fn): fn, all in one line, raises
-- an error that names that line.
local assert = require "luassert"
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local trace = require "spec.support.trace"
local with = require "spec.support.with"

local sim_town = {}

local Town = {}
Town.__index = Town

--- What others make of it: a class whose methods come first.
function sim_town.class()
  local class = setmetatable({}, { __index = Town })
  class.__index = class
  return class
end

--- @param given seed; the members of the town as well, if it is of that class
function sim_town.new(given, class)
  local town = with({ pools = {} }, given)
  town.world = sim.new { seed = town.seed or 1 }
  return setmetatable(town, class or Town)
end

local function connect() return {} end

--- Makes a pool; of several tables of options, the later ones first.
function sim_town.open(self, ...)
  self.pool = cueball.pool(with({ host = self.world, max_connections = 2, connect = connect }, ...))
  self.pools[#self.pools + 1] = self.pool
  return self.pool
end

Town.open = sim_town.open

--- The keys of the pool's backends, in a line.
sim_town.keys = require "spec.support.backends_of"

function Town:keys(pool) return sim_town.keys(pool or self.pool) end

function Town:trace() return self.world.trace_text() end
function Town:at(ms, fn) return self.world.at(ms, fn) end
function Town:advance(ms) return self.world.advance(ms) end
function Town:run(fn, ...) return self.world.run(fn, ...) end

function Town:logged(words)
  local count = 0
  for _, one in ipairs(self.world.logs) do
    if one.message:find(words, 1, true) then count = count + 1 end
  end
  return count
end

function Town:log(level)
  local lines = {}
  for _, one in ipairs(self.world.logs) do
    if one.level == level or level == "all" and one.level ~= "debug" then
      local text = one.message:match "^[^\n]*"
      lines[#lines + 1] = ("[%4d] %s%s"):format(one.time_ms, level == "all" and one.level .. ": " or "", text)
    end
  end
  return table.concat(lines, "\n")
end

--- Stops the pools outside of any task; nothing may be left of them.
function Town:stop()
  for _, pool in ipairs(self.pools) do pool:stop() end
  self.world.advance(0)
  for _, pool in ipairs(self.pools) do assert.equal("stopped", pool:state()) end
  assert.same({}, self.world.leaks())
end

assert:register("assertion", "log", function(_, arguments)
  return trace.compare(arguments, arguments[1]:log(arguments[2]))
end, trace.message)
assert:register("assertion", "blames", function(_, arguments)
  local info = debug.getinfo(arguments[2], "S")
  local ok, message = pcall(arguments[2])
  arguments[1] = ("%s:%d: %s"):format(info.short_src, info.linedefined, arguments[1])
  arguments[2] = ok and "no error" or tostring(message)
  return arguments[1] == arguments[2]
end, trace.message)

return sim_town
