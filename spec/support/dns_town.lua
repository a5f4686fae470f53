--- A pool whose backends are found by DNS, in virtual time.
--
--   local dns_town = require "spec.support.dns_town"
--   local town = dns_town.new { zone = [[…]], seed = 1 }     a world with servers 10.0.0.1 to 10.0.0.9, port 5432
--   town:open({ domain = "example", … }, { max_connections = 6, … })   a pool; options of the resolver, and of the pool
--   town:ids()                their connections: "10.0.0.1:5432=1,2 …", by number in the order of opening
--   town:questions(from_ms)   the questions since then: "SRV _pg._tcp.example, A db1.example"
--   town.events               "[ 100] backend_added 10.0.0.1:5432: A 10.0.0.1 of …" of backends and the resolver
--   and all that a town of spec.support.sim_town has
local cueball = require "cueball"
local sim_town = require "spec.support.sim_town"

local dns_town = {}

local Town = sim_town.class()

local PORT = 5432

function dns_town.new(given)
  local self = sim_town.new({ seed = given.seed, events = {}, opened = 0, open_by_key = {} }, Town)
  self.world.zone(given.zone)
  for number = 1, 9 do self.world.server("10.0.0." .. number, PORT) end
  return self
end

-- A factory on the fake servers that numbers its connections.
local function factory_of(self)
  local tcp = cueball.connection.tcp {}
  return {
    connect = function(backend, context)
      local socket, message = tcp.connect(backend, context)
      if not socket then return nil, message end
      self.opened = self.opened + 1
      local connection = { socket = socket, id = self.opened, key = backend.key }
      self.open_by_key[backend.key] = self.open_by_key[backend.key] or {}
      self.open_by_key[backend.key][connection.id] = true
      return connection
    end,
    close = function(connection)
      self.open_by_key[connection.key][connection.id] = nil
      tcp.close(connection.socket)
    end,
  }
end

local function note(self, event)
  if not (event.kind:find "^backend_[ar]" or event.kind:find "^resolver") then return end
  local what = event.backend and (" %s: %s"):format(event.backend, tostring(event.provenance)) or ""
  self.events[#self.events + 1] = ("[%4d] %s%s"):format(math.floor(event.time_ms), event.kind, what)
end

function Town:open(dns, pool)
  local made = sim_town.open(self, { name = "db", max_connections = 6, connect = factory_of(self), resolver = cueball.resolver.dns(dns),
    seed = 1, recovery = { default = { spread = 0 } } }, pool)
  made:subscribe(function(event) note(self, event) end)
  return made
end

function Town:ids()
  local parts = {}
  for key, open in pairs(self.open_by_key) do
    local ids = {}
    for id in pairs(open) do ids[#ids + 1] = id end
    table.sort(ids)
    if #ids > 0 then parts[#parts + 1] = key .. "=" .. table.concat(ids, ",") end
  end
  table.sort(parts)
  return table.concat(parts, " ")
end

function Town:questions(from_ms)
  local list = {}
  for _, one in ipairs(self.world.dns.asked) do
    if one.time_ms >= (from_ms or 0) then list[#list + 1] = one.type .. " " .. one.name end
  end
  return table.concat(list, ", ")
end

return dns_town
