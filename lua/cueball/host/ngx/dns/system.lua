--- What the machine's files say of DNS: resolv.conf(5), hosts(5) and the addresses of the machine. Small local files: the libc too reads
-- them where it stands.
local address = require "cueball.address"

local RESOLV_CONF, HOSTS = "/etc/resolv.conf", "/etc/hosts"
local ADDRESSES, HOST_NAME = "/proc/net/if_inet6", "/proc/sys/kernel/hostname"
local DNS_PORT, NDOTS_MAX = 53, 15
local HOSTS_TTL_S = 60
local IPV4, IPV6 = 1, 2
local FAMILY_OF = { [1] = 4, [28] = 6 } -- by type of record
local LOOPBACK = { [4] = "127.0.0.1", [6] = "::1" }
local TYPE_NAMES = { [1] = "A", [28] = "AAAA" }

local system = {}

-- "" if there is no such file.
local function text_of(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text or ""
end

local function words_of(text)
  local words = {}
  for word in text:gmatch "%S+" do words[#words + 1] = word end
  return words
end

-- --------------------------------------------------------------------- resolv.conf --

local function take_options(found, words, from)
  for index = from, #words do
    local dots = words[index]:match "^ndots:(%d+)$"
    if dots then found.ndots = math.min(tonumber(dots), NDOTS_MAX) end
    if words[index] == "rotate" then found.rotate = true end
  end
end

local TAKE = {
  -- A server on the machine's own cable, "fe80::1%eth0", cannot be reached through a cosocket.
  nameserver = function(found, words)
    local server = words[2]
    if server and address.family(server) then found.servers[#found.servers + 1] = address.join(server, DNS_PORT) end
  end,
  domain = function(found, words) found.search = { words[2] } end,
  search = function(found, words) found.search = { unpack(words, 2) } end,
  options = function(found, words) take_options(found, words, 2) end,
}

--- Reads the text of a resolv.conf.
-- @param text
-- @param environment { LOCALDOMAIN =, RES_OPTIONS = }, which come before the file; both may be missing
-- @param host_name  the machine's, whose domain is searched if nothing says otherwise
-- @return { servers, search, ndots, rotate }
function system.parse(text, environment, host_name)
  local found = { servers = {}, search = nil, ndots = 1, rotate = false }
  for line in text:gmatch "[^\r\n]+" do
    local words = words_of((line:gsub("%s*[#;].*$", "")))
    local take = TAKE[words[1]]
    if take then take(found, words) end
  end
  if environment.LOCALDOMAIN then found.search = words_of(environment.LOCALDOMAIN) end
  take_options(found, words_of(environment.RES_OPTIONS or ""), 1)
  if #found.servers == 0 then found.servers = { address.join("127.0.0.1", DNS_PORT) } end
  if not found.search then found.search = { host_name:match "^[^.%s]+%.(%S+)" } end
  for index, domain in ipairs(found.search) do found.search[index] = domain:gsub("(.)%.$", "%1") end
  return found
end

--- The system's settings, read anew; a file that is not there is no error.
-- nginx hides the environment from its workers but for what its `env` names.
function system.read()
  local environment = { LOCALDOMAIN = os.getenv "LOCALDOMAIN", RES_OPTIONS = os.getenv "RES_OPTIONS" }
  return system.parse(text_of(RESOLV_CONF), environment, text_of(HOST_NAME))
end

-- ----------------------------------------------------------------------- addresses --

--- Which families the machine has addresses of, by the text of Linux's if_inet6.
-- One that reaches no further than this machine (::1) or its cable (fe80::/10) is no reason to ask for AAAA.
-- @return mask, 1: IPv4, always; 2: IPv6
function system.families(text)
  for line in (text or text_of(ADDRESSES)):gmatch "[^\n]+" do
    local digits = line:match "^%x*"
    local is_near = digits == ("0"):rep(31) .. "1" or digits:lower():find "^fe[89ab]"
    if #digits == 32 and not is_near then return IPV4 + IPV6 end
  end
  return IPV4
end

-- ---------------------------------------------------------------------- hosts file --

local function folded(name)
  return (name:lower():gsub("%.$", ""))
end

--- Reads the hosts file, or the text of one.  The environment variable CARES_HOSTS may name another, as on the libuv host.
-- @return lists of addresses by name and family, for records_of
function system.hosts(text)
  local found = { [4] = {}, [6] = {} }
  for line in (text or text_of(os.getenv "CARES_HOSTS" or HOSTS)):gmatch "[^\r\n]+" do
    local words = words_of((line:gsub("#.*$", "")))
    local by_name = words[1] and found[address.family(words[1])]
    for index = 2, by_name and #words or 0 do
      local name = folded(words[index])
      by_name[name] = by_name[name] or {}
      table.insert(by_name[name], words[1])
    end
  end
  return found
end

local function is_localhost(name)
  return name == "localhost" or name:find("%.localhost$") ~= nil
end

--- What the hosts file has for a name; localhost and what ends with it are this machine, whatever is in the file (RFC 6761).
-- @param file of system.hosts
-- @param rr   1 or 28
-- @return records for cueball.dns.answer; nil: none
function system.records_of(file, name, rr)
  local family = FAMILY_OF[rr]
  if not family then return nil end
  local list = is_localhost(folded(name)) and { LOOPBACK[family] } or file[family][folded(name)]
  if not list then return nil end
  local records = {}
  for index, one in ipairs(list) do
    records[index] = { name = name, type = TYPE_NAMES[rr], ttl = HOSTS_TTL_S, address = one }
  end
  return records
end

return system
