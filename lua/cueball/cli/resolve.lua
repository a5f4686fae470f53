--- cueball resolve: where the nodes of a service are.
local address = require "cueball.address"
local output = require "cueball.cli.output"
local read = require "cueball.cli.read"
local said = require("cueball.text").format

local resolve = {}

local DEFAULT_PORT, DEFAULT_SERVICE, DEFAULT_TIMEOUT = 80, "_http._tcp", "5000"
local NAME_OCTETS_MAX = 253

resolve.help = [[
Usage: cueball resolve [OPTION...] NAME[:PORT]
       cueball resolve [OPTION...] -S ADDRESS:PORT...

Finds the nodes of a service by DNS as a pool does: SRV records first, then the
addresses of each target; without SRV records, the addresses of NAME itself.
Prints one node a line: address, port, key.

What to ask:
  -s, --service SERVICE   SRV records to ask for [_http._tcp]; none: addresses only
  -p, --port N            Port of nodes that SRV records do not name [80]
  -r, --resolvers LIST    Nameservers to ask: IP[:PORT][,...], or the name of a
                          service of nameservers [those of the system]
  -4, -6                  Only IPv4 addresses, only IPv6 addresses
  -t, --timeout TIME      How long it may take: 500ms, 5s, 1m [5s]
  -S, --static            The arguments are addresses: print them as nodes

What to print:
  -f, --follow            Print each change with its time, until interrupted
      --why               Also say which records and servers each node is from
      --json              JSON: one document, or with -f one a line
      --color WHEN        auto, always or never [auto]
  -h, --help              Print this

Exit status: 0 found; 1 nothing found; 2 wrong usage; 3 timed out;
4 something is missing or broken here; 130 interrupted.
]]

function resolve.define(parser)
  parser:argument "target":args "*"
  parser:option "-s --service":default(DEFAULT_SERVICE)
  parser:option "-p --port"
  parser:option "-r --resolvers"
  parser:flag "-4":target "is_ipv4"
  parser:flag "-6":target "is_ipv6"
  parser:option "-t --timeout":default(DEFAULT_TIMEOUT)
  parser:flag "-S --static"
  parser:flag "-f --follow"
  parser:flag "--why"
  parser:flag "--json"
  parser:option "--color":choices { "auto", "always", "never" }:default "auto"
end

-- The value of an option through its reader; nil if it is not given.
local function option(given, name, label, reader)
  if given[name] == nil then return nil end
  local value, message = reader(given[name])
  if value == nil then return nil, said("option '%s' %s, not %q", label, message, given[name]) end
  return value
end

-- What is asked for, of all options; or nil, message.
local function asked_of(given)
  local asked = {}
  local READERS = {
    { "service", "-s/--service", read.service }, { "port", "-p/--port", read.port },
    { "resolvers", "-r/--resolvers", read.servers }, { "timeout", "-t/--timeout", read.time },
  }
  for _, reader in ipairs(READERS) do
    local value, message = option(given, unpack(reader))
    if message then return nil, message end
    asked[reader[1]] = value
  end
  if given.is_ipv4 and given.is_ipv6 then return nil, "options '-4' and '-6' exclude each other; without both, either will do" end
  asked.families = given.is_ipv4 and "ipv4" or given.is_ipv6 and "ipv6" or "both"
  return asked
end

-- The nodes typed in, each once.
-- @return list; or nil, message
local function static_nodes(targets, default_port)
  local list, seen = {}, {}
  for _, text in ipairs(targets) do
    local host, port = address.split(text)
    if not host then return nil, port end
    port = port or default_port
    if not port then return nil, said("%q: there is no port; write it behind the address, or give one with -p", text) end
    local backend = address.backend { address = host, port = port }
    if seen[backend.key] then return nil, said("%q is there twice", backend.key) end
    seen[backend.key] = true
    list[#list + 1] = backend
  end
  return list
end

-- What is wrong with how many there are, or nil.
local function count_fault(given)
  local count = #given.target
  if given.follow and given.static then return "-f has nothing to follow with -S: addresses typed in do not change" end
  if count == 0 then return given.static and "-S needs at least one ADDRESS:PORT" or "give a NAME, or addresses with -S" end
  if count > 1 and not given.static then return ("one NAME at a time, got %d; several addresses need -S"):format(count) end
end

-- The one backend of a resolver that has it from the start.
local function backends_of(resolver)
  local list
  resolver:run { set = function(_, backends) list = backends end }
  return list
end

-- A name or an address: prints it, looks for it, or follows it.
local function run_named(given, asked, system)
  local text = given.target[1]
  if asked.service and #asked.service + 1 + #text:gsub(":%d+$", "") > NAME_OCTETS_MAX then
    return nil, ("%s.%s is longer than the %d octets that a name may have"):format(asked.service, text, NAME_OCTETS_MAX)
  end
  local search, host = require "cueball.cli.search", system.host()
  local resolver, message = require "cueball.resolver.from"(text, {
    default_port = asked.port or DEFAULT_PORT, service = asked.service, nameservers = asked.resolvers, families = asked.families,
    recovery = search.recovery(host, asked), host = host,
  })
  if not resolver then return nil, message end
  local out = output.new(system, given)
  if not resolver.lookup then
    if given.follow then return nil, ("-f has nothing to follow: %s is an address"):format(text) end
    return out:status_of(out:backends(backends_of(resolver), {}))
  end
  asked.name = resolver.name
  if given.follow then return search.follow(host, out, resolver) end
  return search.once(host, out, resolver, asked)
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function resolve.run(given, system)
  local fault = count_fault(given)
  if fault then return nil, fault end
  local asked, message = asked_of(given)
  if not asked then return nil, message end
  if not given.static then return run_named(given, asked, system) end
  local list
  list, message = static_nodes(given.target, asked.port)
  if not list then return nil, message end
  local out = output.new(system, given)
  return out:status_of(out:backends(list, {}))
end

return resolve
