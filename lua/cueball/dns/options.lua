--- The options of cueball.resolver.dns: checked, and written as the tracker reads them.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local address = require "cueball.address"
local name = require "cueball.dns.name"
local options = require "cueball.options"
local said = require("cueball.text").format
local lib, ffi = native.lib, native.ffi

local dns_options = {}

local DAY_MS = 86400000
local FAMILIES = { ipv4 = 1, ipv6 = 2, both = 3 } -- CUEBALL_FAMILY_…

local function is_list_of_names(value)
  if value == false then return true end
  if type(value) ~= "table" then return false end
  for _, one in ipairs(value) do
    if name.fault(one) then return false end
  end
  return true
end

local RULES = {
  domain = options.of_type "string",
  service = { check = function(value) return value == false or type(value) == "string" end, range = "a string, or false for none" },
  name = options.of_type "string",
  default_port = options.whole(0, 65535),
  nameservers = {
    check = function(value) return type(value) == "table" or type(value) == "string" end,
    range = 'a list of addresses such as "10.0.0.53", "10.0.0.53:5353" or "[::1]:53", or the name to find them by',
  },
  recovery = options.of_type "table",
  max_dns_concurrency = options.whole(1, 1000),
  min_ttl_ms = options.number(1, DAY_MS, "milliseconds"),
  max_ttl_ms = options.number(1, 30 * DAY_MS, "milliseconds"),
  max_recheck_ms = options.number(1, DAY_MS, "milliseconds"),
  keep_missing_ms = options.number(0, DAY_MS, "milliseconds"),
  search = { check = is_list_of_names, range = "a list of domains, or false for none" },
  ndots = options.whole(0, 15),
  families = { check = function(value) return FAMILIES[value] ~= nil end, range = '"ipv4", "ipv6" or "both"' },
  hosts_file = options.of_type("boolean", "true or false"),
  host = options.of_type("table", "a host"),
}
dns_options.rules = RULES
options.note("cueball.resolver.dns", RULES)

local function raise(what, message, ...)
  misuse.raise(said("%s: " .. message, what, ...))
end

local function check_names(what, given)
  if given.domain == nil then raise(what, 'option \'domain\' is required: a name such as "db.example"') end
  local fault = name.fault(given.domain)
  if fault then raise(what, "option 'domain' must be a name such as \"db.example\", not %q: %s", given.domain, fault) end
  if not given.service then return end
  fault = name.service_fault(given.service)
  if not fault and #given.service + 1 + #given.domain > 253 then fault = "with the domain it has more than 253 octets" end
  if fault then raise(what, "option 'service' must be like \"_http._tcp\", not %q: %s", given.service, fault) end
end

local EXPECTED = 'expected "IP", "IP:PORT" or "[IPv6]:PORT"'

-- "10.0.0.53" → "10.0.0.53:53"; nil: it is no address
local function server_of(text)
  if type(text) ~= "string" or address.is_unix(text) then return nil end
  local bare, link, rest = text:match "^%[?([%x:.]+)%%([%w_.-]+)(.*)$" -- "fe80::1%eth0", "[fe80::1%eth0]:5353"
  if bare then
    local port = rest:match "^%]:(%d+)$" or (rest == "" or rest == "]") and "53"
    if address.family(bare) ~= 6 or not port or tonumber(port) > 65535 then return nil end
    return ("[%s%%%s]:%d"):format(bare, link, port), tonumber(port) == 0
  end
  local host, port = address.split(text)
  if not host then return nil end
  return address.join(host, port or 53), port == 0
end

-- A list of servers, or the one name that they are to be found by.
local function read_nameservers(what, given)
  if given == nil then return nil end
  local list = type(given) == "string" and { given } or given
  local servers, names = {}, {}
  for index = 1, #list do
    local server, is_port_0 = server_of(list[index])
    if server and not is_port_0 then
      servers[#servers + 1] = server
    elseif not server and not name.fault(list[index]) then
      names[#names + 1] = list[index]
    else
      raise(what, "option 'nameservers': %s is no nameserver: %s, or the name of them all", options.show(list[index]), EXPECTED)
    end
  end
  if #names > 1 then
    raise(what, "option 'nameservers': there may be one name to find them by, not two: %q and %q", names[1], names[2])
  elseif #names == 1 and #servers > 0 then
    raise(what, "option 'nameservers': either addresses or one name to find them by, not both: %q and %q", servers[1], names[1])
  elseif #names == 0 and #servers == 0 then
    raise(what, "option 'nameservers' is empty; left out, those of the system are asked")
  end
  return names[1] or servers
end

local OPERATIONS = { default = true, initial = true, connect = true, dns = true, dns_srv = true }

local function over(upper, lower)
  if type(upper) ~= "table" then return upper == nil and lower or upper end
  return options.merge(lower or {}, upper)
end

--- What the two kinds of question have of a `recovery`: dns_srv falls back to dns, and that to default.
-- @return two cueball_recovery
function dns_options.recovery(what, given)
  given = given or {}
  for operation in pairs(given) do
    if not OPERATIONS[operation] then
      raise(what, "unknown option 'recovery.%s'; there are connect, default, dns, dns_srv, initial", tostring(operation))
    end
  end
  options.recovery(what, "default", given.default)
  options.recovery(what, "dns", given.dns)
  local dns = over(given.dns, given.default)
  return options.recovery(what, "dns", dns), options.recovery(what, "dns_srv", over(given.dns_srv, dns))
end

local COPIED = { "default_port", "max_dns_concurrency", "min_ttl_ms", "max_ttl_ms", "max_recheck_ms", "keep_missing_ms" }

-- `timeout` and `attempts` of resolv.conf, for what nobody gave.
local function with_system(recovery, system)
  if not system.timeout_ms and not system.attempts then return recovery end
  local merged = options.merge({}, recovery or {})
  local given = over(merged.dns, merged.default) or {}
  local dns = { attempts = given.attempts or system.attempts, timeout_ms = given.timeout_ms or system.timeout_ms }
  local is_over = not given.timeout_ms and given.max_timeout_ms and dns.timeout_ms and given.max_timeout_ms < dns.timeout_ms
  if is_over then dns.timeout_ms = nil end
  merged.dns = options.merge(merged.dns or {}, dns)
  return merged
end

--- A cueball_tracker_options.  The texts in it belong to the second value that is returned.
-- @param read      of dns_options.read
-- @param search    list of domains to look in
-- @param system    { ndots =, rotate =, no_tld_query =, timeout_ms =, attempts = } of the system, for what was not given
-- @param recovery  used where none was given; or nil
function dns_options.cdata(read, search, system, recovery)
  local cdata = ffi.new "cueball_tracker_options"
  lib.cueball_tracker_options_init_sized(cdata, ffi.sizeof(cdata))
  for _, option in ipairs(COPIED) do
    if read[option] ~= nil then cdata[option] = read[option] end
  end
  local texts = ffi.new("const char *[?]", math.max(1, #search))
  for index, domain in ipairs(search) do texts[index - 1] = domain end
  cdata.domain, cdata.service = read.domain, read.service or nil
  cdata.search, cdata.search_count = texts, #search
  cdata.ndots = read.ndots or system.ndots or 1
  cdata.rotate, cdata.no_tld_query = system.rotate and 1 or 0, system.no_tld_query and 1 or 0
  cdata.families = read.families
  recovery = with_system(read.recovery or recovery, system)
  if recovery then cdata.recovery_dns, cdata.recovery_dns_srv = dns_options.recovery(read.what, recovery) end
  return cdata, { texts, search }
end

--- Checks what a user gave.
-- @param what  who asks, for messages
-- @param given the table
-- @return a table of its own, for driver.new; mistakes raise an error
function dns_options.read(what, given)
  if given == nil then raise(what, "expected a table of options, got nil") end
  options.check(what, given, RULES)
  check_names(what, given)
  local read = { what = what }
  for option, value in pairs(given) do read[option] = value end
  read.nameservers = read_nameservers(what, given.nameservers)
  if given.default_port == nil and not given.service then
    raise(what, "option 'default_port' is required where no 'service' is given: addresses alone tell no port")
  end
  read.families = FAMILIES[given.families or "both"]
  read.is_family_given = read.families ~= FAMILIES.both
  if given.recovery then dns_options.recovery(what, given.recovery) end
  local cdata, texts = dns_options.cdata(read, read.search or {}, {})
  local text = ffi.new("char[?]", 256)
  local result = lib.cueball_tracker_options_check(cdata, text, 256)
  if result ~= 0 or not texts then raise(what, "%s", ffi.string(text)) end
  return read
end

return dns_options
