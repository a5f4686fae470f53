--- A pool on fake servers in virtual time, and a record of what happened to it.
--
--   local sim_pool = require "spec.support.sim_pool"
--   local town = sim_pool.new { servers = 3, seed = 1, latency = … }      a world with servers db1, db2, db3; more: of each server
--   town:open { max_connections = 15, … }   a pool on them; resolver, connect, host, name unless given.  town.pool
--   town.world, town.servers                see cueball.host.sim
--   town:claim("bob", { timeout_ms = 50 })  in a task of its own; the answer goes into the trace, the lease into town.leases.bob
--   town:release "bob", town:close "bob", town:fail("bob", "why")
--   town:spread()                           "5/5/5": connections at rest or leased, by server
--   town:trace_slots()                      every change of a slot goes into the trace from now on
--   and all that a town of spec.support.sim_town has, with assert.trace, assert.log and assert.blames
local cueball = require "cueball"
local sim_town = require "spec.support.sim_town"
local with = require "spec.support.with"

local sim_pool = {}

local Town = sim_town.class()

local function address_of(number)
  return "10.0.0." .. number
end

--- @param given servers: how many, 1 by default; seed; the rest is the servers' behaviour
function sim_pool.new(given)
  local behaviour = with(given)
  local count, seed = behaviour.servers or 1, behaviour.seed
  behaviour.servers, behaviour.seed = nil, nil
  local self = sim_town.new({ seed = seed, servers = {}, leases = {} }, Town)
  for number = 1, count do self.servers[number] = self.world.server(address_of(number), 7000, behaviour) end
  return self
end

--- What a resolver says of server number so and so.
function sim_pool.backend(number, more)
  return with({ address = address_of(number), port = 7000, key = "db" .. number }, more)
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
  return with(factory, members)
end

--- Makes a pool on them.
function Town:open(...)
  return sim_town.open(self, {
    name = "db", max_connections = 3, resolver = cueball.resolver.static(sim_pool.backends(1, #self.servers)),
    connect = cueball.connection.tcp {},
  }, ...)
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

return sim_pool
