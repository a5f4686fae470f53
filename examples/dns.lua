-- Backends by DNS, followed as they change.
--   examples/run examples/dns.lua                                       in virtual time, with a made-up zone
--   examples/run examples/dns.lua NAME[:PORT] [SERVICE] [NAMESERVER…]   what the real DNS says:
--   examples/run examples/dns.lua localhost:80
local cueball = require "cueball"

local function show(list)
  table.sort(list, function(a, b) return a.key < b.key end)
  for _, backend in ipairs(list) do print(("  %s  %s\n    %s"):format(backend.key, backend.name, backend.provenance)) end
end

-- Asks once, and prints what there is and how it is known.
local function look_up(text, service, ...)
  local nameservers = select("#", ...) > 0 and { ... } or nil
  local resolver, message = cueball.resolver.from(text, { service = service ~= "-" and service or nil, default_port = 80,
    nameservers = nameservers })
  if not resolver then return nil, message end
  if not resolver.lookup then return nil, text .. " is an address: there is nothing to ask" end
  local list, problem = resolver:lookup { timeout_ms = 10000 }
  if not list then return nil, problem end
  show(list)
  return true
end

-- A pool over two nodes; then one of them moves, and the nameserver dies.
local function demonstrate()
  local world = require("cueball.host.sim").new { seed = 1 }
  for number = 1, 3 do world.server("10.0.0." .. number, 5432) end
  local function zone(second)
    world.zone(([[
      _postgresql._tcp.shop.example  60 SRV 0 2 5432 db1.shop.example
      _postgresql._tcp.shop.example  60 SRV 0 1 5432 db2.shop.example
      db1.shop.example               30 A   10.0.0.1
      db2.shop.example               30 A   %s
      shop.example                  300 SOA 60 ]]):format(second))
  end
  local nameserver = world.nameserver("127.0.0.1:53", { additionals = false })

  zone "10.0.0.2"
  world.run(function()
    local pool = cueball.pool {
      host = world, max_connections = 6, connect = cueball.connection.tcp {},
      resolver = cueball.resolver.dns { domain = "shop.example", service = "_postgresql._tcp" },
    }
    pool:subscribe(function(event)
      if event.kind:find "^backend_[ar]" then
        print(("%3d s  %s %s\n         %s"):format(event.time_ms / 1000, event.kind, event.backend, event.provenance))
      end
    end)
    world.sleep(10000)
    zone "10.0.0.3"
    world.sleep(60000)
    nameserver:stop()
    world.sleep(3600000)
    print "an hour without DNS:"
    local list = pool:backends()
    table.sort(list, function(a, b) return a.key < b.key end)
    for _, backend in ipairs(list) do print(("  %s of weight %d: %d connections"):format(backend.key, backend.weight, backend.idle)) end
    pool:stop()
  end)
end

local text = ...
if not text then return demonstrate() end
local arguments = { ... }
cueball.run(function()
  local ok, message = look_up(unpack(arguments))
  if ok then return end
  io.stderr:write(message, "\n")
  os.exit(1)
end)
