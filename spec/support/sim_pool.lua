--- A pool on fake servers in virtual time, and a record of what happened to it.
--
--   local sim_pool = require "spec.support.sim_pool"
--   local town = sim_pool.new { servers = 3, seed = 1, latency = … }      a world with servers db1, db2, db3; more: of each server
--   town:open { max_connections = 15, … }   a pool on them; resolver, connect, host, name unless given.  town.pool
--   town.world, town.servers                see cueball.host.sim
--   town:claim("bob", { timeout_ms = 50 })  in a task of its own; the answer goes into the trace, the lease into town.leases.bob
--   town:release "bob", town:close "bob", town:fail("bob", "why")
--   town:at(50, fn), town:advance(ms), town:run(fn)
--   town:spread()                           "5/5/5": connections at rest or leased, by server
--   town:trace_slots()                      every change of a slot goes into the trace from now on
--   town:log(level)                         the log lines of that level ("all": all but debug), first lines only, as a trace
--   town:stop()                             stops the pool and checks that nothing is left
--
-- And assert.trace(town, [[ … ]]), assert.log(town, level, [[ … ]]), assert.blames(text, fn): fn, all in one line, raises
-- an error that names that line.
local assert = require "luassert"
local say = require "say"
local cueball = require "cueball"
local sim = require "cueball.host.sim"

local sim_pool = {}

local Town = {}
Town.__index = Town

local function address_of(number)
  return "10.0.0." .. number
end

--- @param given servers: how many, 1 by default; seed; the rest is the servers' behaviour
function sim_pool.new(given)
  local behaviour, count, seed = {}, 1, 1
  for name, value in pairs(given or {}) do
    if name == "servers" then count = value elseif name == "seed" then seed = value else behaviour[name] = value end
  end
  local self = setmetatable({ world = sim.new { seed = seed }, servers = {}, leases = {}, pool = nil }, Town)
  for number = 1, count do self.servers[number] = self.world.server(address_of(number), 7000, behaviour) end
  return self
end

--- What a resolver says of server number so and so.
function sim_pool.backend(number, more)
  local backend = { address = address_of(number), port = 7000, key = "db" .. number }
  for name, value in pairs(more or {}) do backend[name] = value end
  return backend
end

--- A list of them: of servers low to high.
function sim_pool.backends(low, high)
  local list = {}
  for number = low, high do list[#list + 1] = sim_pool.backend(number) end
  return list
end

--- A factory whose connections are tables { id=, backend= }, without a server; `made` lists them, `log` says what was done.
function sim_pool.factory(members)
  local factory = { made = {}, closed = {} }
  function factory.connect(backend)
    local connection = { id = #factory.made + 1, backend = backend }
    factory.made[connection.id] = connection
    return connection
  end
  function factory.close(connection) factory.closed[#factory.closed + 1] = connection.id end
  for name, value in pairs(members or {}) do factory[name] = value end
  return factory
end

--- Makes the pool.
function Town:open(options)
  local all = {
    host = self.world, name = "db", max_connections = 3,
    resolver = cueball.resolver.static(sim_pool.backends(1, #self.servers)), connect = cueball.connection.tcp {},
  }
  for name, value in pairs(options or {}) do all[name] = value end
  self.pool = cueball.pool(all)
  return self.pool
end

--- What answers a claim, in the trace.
function Town:answered(who, lease, message, name)
  if lease then
    self.leases[who] = lease
    self.world.trace("grant %s: %s", who, lease:backend() and lease:backend().key or "?")
  else
    self.world.trace("refuse %s: %s", who, name)
    self.refused = message
  end
end

function Town:claim(who, options)
  return self.world.spawn(function() self:answered(who, self.pool:claim(options)) end)
end

for _, way in ipairs { "release", "close", "fail" } do
  Town[way] = function(self, who, message)
    self.world.trace("%s %s", way, who)
    local ok, _, name = self.leases[who][way](self.leases[who], message)
    if not ok then self.world.trace("%s %s: %s", way, who, name) end
    return ok
  end
end

function Town:at(ms, fn) return self.world.at(ms, fn) end
function Town:advance(ms) return self.world.advance(ms) end
function Town:run(fn, ...) return self.world.run(fn, ...) end

function Town:spread()
  local by_key, counts = {}, {}
  for _, backend in ipairs(self.pool:backends()) do by_key[backend.key] = backend.idle + backend.busy end
  for number = 1, #self.servers do counts[number] = by_key["db" .. number] or 0 end
  return table.concat(counts, "/")
end

function Town:trace_slots()
  return self.pool:subscribe(function(event)
    if event.kind == "slot_state" then
      self.world.trace("slot %d %s: %s -> %s (%s)", event.slot, event.backend, event.from, event.to, event.cause)
    end
  end)
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

--- Stops the pool outside of any task; nothing may be left of it.
function Town:stop()
  self.pool:stop()
  self.world.advance(0)
  assert.equal("stopped", self.pool:state())
  assert.same({}, self.world.leaks())
end

-- Without the indentation it has in a spec; the number of blanks in "[   0]" stays.
local function quoted(text)
  return (text:gsub("^%s*\n", ""):gsub("\n%s+", "\n"):gsub("^%s+", ""):gsub("%s+$", ""))
end

local function compare(arguments, is)
  arguments[1], arguments[2], arguments.n = quoted(arguments[#arguments]), is, 2
  return arguments[1] == arguments[2]
end

say:set("assertion.sim_pool", "Expected:\n%s\nIs:\n%s")
assert:register("assertion", "trace", function(_, arguments)
  return compare(arguments, arguments[1].world.trace_text())
end, "assertion.sim_pool")
assert:register("assertion", "log", function(_, arguments)
  return compare(arguments, arguments[1]:log(arguments[2]))
end, "assertion.sim_pool")
assert:register("assertion", "blames", function(_, arguments)
  local info = debug.getinfo(arguments[2], "S")
  local ok, message = pcall(arguments[2])
  arguments[1] = ("%s:%d: %s"):format(info.short_src, info.linedefined, arguments[1])
  arguments[2] = ok and "no error" or tostring(message)
  return arguments[1] == arguments[2]
end, "assertion.sim_pool")

return sim_pool
