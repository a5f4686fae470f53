--- The contract between cueball and an event loop (docs/hosts.md): what every host has, and what stands for the rest where a host leaves
-- it out. So whoever asks a host for something just asks.
--
--   local host = contract.complete(given)    the same table, with all members
--
-- A member that stands for something a host cannot do at all (questions to nameservers, requests of its own) is false there.
local misuse = require "cueball.misuse"

local contract = {}

local REQUIRED = { "now", "seed", "spawn", "kill", "current", "sleep", "waiter", "guard", "unguard", "alarm", "log" }

--- What a table has not that every host has.
-- @return its name; nil: it is a host
function contract.lacks(given)
  for _, member in ipairs(REQUIRED) do
    if type(given[member]) ~= "function" then return member end
  end
end

local function nothing() end

local function never() return false end

-- What stands for a member that a host leaves out, by name: function(host).
local DEFAULTS = {
  name = function() return "custom" end,
  can_wait = function(host) return function() return host.current() ~= nil end end,
  claimer = function(host) return host.current end,
  task = function(host) return host.current end,
  living = function() return function() return {} end end,
  errand = function(host) return host.spawn end,
  service = function(host) return host.spawn end,
  run = function() return function() misuse.raise "run: this host does not run its loop by itself" end end,
  is_forking = function() return never end,
  tcp = function() return function() misuse.raise "tcp: this host has no sockets" end end,
  is_socket = function() return never end,
  tls = function() return require "cueball.host.tls" end,
  library = function(host)
    local find
    return function(name)
      find = find or require("cueball.cosocket.library").on(host)
      return find(name)
    end
  end,
  time_s = function() return function() return os.time() end end,
  borrow = function() return function() return nil, "this host makes no sockets of descriptors" end end,
  udp = function() return function() misuse.raise "udp: this host has no datagram sockets" end end,
  dns = never, poll = never, listen = never, http = never, proxy = never, tasks = never, limited_tcp = never,
  callback_setter = function() return nothing end,
  on_signal = function() return function() return nil, "this host hears no signals" end end,
  versions = function() return function() return {} end end,
  workers = function() return require "cueball.host.process" end,
  quota = function() return function(...) return require("cueball.nginx.quota").read(...) end end,
  parking = function() return nothing end,
  threaded = function() return nothing end,
  set_factory = function() return function(factory) return factory end end,
  pool_begins = function() return nothing end,
  board = function() return function() return nil end end,
}

--- The names of all members, required ones first, then in order.
function contract.members()
  local names, rest = {}, {}
  for index, name in ipairs(REQUIRED) do names[index] = name end
  for name in pairs(DEFAULTS) do rest[#rest + 1] = name end
  table.sort(rest)
  for _, name in ipairs(rest) do names[#names + 1] = name end
  return names
end

--- Fills in what a host leaves out.
-- @param host  a table with the required members; it is changed
-- @param lazy nil; or loaders of members that not every program needs, by name: function(host), called when one is first asked for
-- @return host
function contract.complete(host, lazy)
  for name, default in pairs(DEFAULTS) do
    if host[name] == nil and not (lazy and lazy[name]) then host[name] = default(host) end
  end
  if not lazy then return host end
  return setmetatable(host, { __index = function(_, name)
    local load = lazy[name]
    if not load then return nil end
    host[name] = load(host)
    return host[name]
  end })
end

return contract
