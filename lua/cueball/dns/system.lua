--- What the machine's files say of DNS: resolv.conf(5), hosts(5) and the addresses of the machine. Small local files: the libc too reads
-- them where it stands.
local ffi = require "ffi"
local address = require "cueball.address"
local text_of_file = require("cueball.file").text

local RESOLV_CONF, HOSTS = "/etc/resolv.conf", "/etc/hosts"
local ADDRESSES, HOST_NAME = "/proc/net/if_inet6", "/proc/sys/kernel/hostname"
local DNS_PORT, NDOTS_MAX, TIMEOUT_S_MAX, ATTEMPTS_MAX = 53, 15, 30, 5 -- as in the libc
local NO_SCOPE = "it is on a link, and this host's sockets cannot be told which"
local HOSTS_TTL_S = 60
local IPV4, IPV6 = 1, 2
local FAMILY_OF = { [1] = 4, [28] = 6 } -- by type of record
local LOOPBACK = { [4] = "127.0.0.1", [6] = "::1" }
local TYPE_NAMES = { [1] = "A", [28] = "AAAA" }

local system = {}

-- "" if there is no such file.
local function text_of(path)
  return text_of_file(path) or ""
end

local function hosts_path()
  return os.getenv "CARES_HOSTS" or HOSTS
end

local function words_of(text)
  local words = {}
  for word in text:gmatch "%S+" do words[#words + 1] = word end
  return words
end

-- --------------------------------------------------------------------- resolv.conf --

local NUMBERS = {
  ndots = function(found, number) found.ndots = math.min(number, NDOTS_MAX) end,
  timeout = function(found, number) found.timeout_ms = 1000 * math.max(1, math.min(number, TIMEOUT_S_MAX)) end,
  attempts = function(found, number) found.attempts = math.max(1, math.min(number, ATTEMPTS_MAX)) end,
}
local FLAGS = { rotate = "rotate", ["use-vc"] = "use_vc", ["no-tld-query"] = "no_tld_query" }

local function take_options(found, words, from)
  for index = from, #words do
    local name, digits = words[index]:match "^(%a+):(%d+)$"
    if NUMBERS[name] then NUMBERS[name](found, tonumber(digits)) end
    if FLAGS[words[index]] then found[FLAGS[words[index]]] = true end
  end
end

-- "fe80::1%eth0" → "[fe80::1%eth0]:53"; nil: it has no scope
local function scoped(server)
  local host, scope = server:match "^([%x:.]+)%%([%w_.-]+)$"
  return host and address.family(host) == 6 and ("[%s%%%s]:%d"):format(host, scope, DNS_PORT) or nil
end

local TAKE = {
  nameserver = function(found, words)
    local server = words[2] or ""
    if address.family(server) then
      found.servers[#found.servers + 1] = address.join(server, DNS_PORT)
    elseif scoped(server) and found.has_scopes then
      found.servers[#found.servers + 1] = scoped(server)
    elseif scoped(server) then
      found.unusable[#found.unusable + 1] = { server = server, why = NO_SCOPE }
    end
  end,
  domain = function(found, words) found.search = { words[2] } end,
  search = function(found, words) found.search = { unpack(words, 2) } end,
  options = function(found, words) take_options(found, words, 2) end,
}

--- Reads the text of a resolv.conf.
-- @param text
-- @param environment { LOCALDOMAIN =, RES_OPTIONS = }, which come before the file; both may be missing
-- @param host_name  the machine's, whose domain is searched if nothing says otherwise
-- @param has_scopes whether nameservers such as "fe80::1%eth0" can be asked
-- @return { servers, search, ndots, rotate, use_vc, no_tld_query, timeout_ms, attempts, unusable = { { server, why } }, from }: the last
--   but one is of nameservers that cannot be asked here
function system.parse(text, environment, host_name, has_scopes)
  local found = { servers = {}, search = nil, ndots = 1, rotate = false, unusable = {}, has_scopes = has_scopes, from = RESOLV_CONF }
  for line in text:gmatch "[^\r\n]+" do
    local words = words_of(line:match "^[^#;]*")
    local take = TAKE[words[1]]
    if take then take(found, words) end
  end
  if environment.LOCALDOMAIN then found.search = words_of(environment.LOCALDOMAIN) end
  take_options(found, words_of(environment.RES_OPTIONS or ""), 1)
  found.has_scopes = nil
  -- None given is the libc's default; where one is given that cannot be asked, nobody meant this one.
  if #found.servers + #found.unusable == 0 then found.servers = { address.join("127.0.0.1", DNS_PORT) } end
  if not found.search then found.search = { host_name:match "^[^.%s]+%.(%S+)" } end
  for index, domain in ipairs(found.search) do found.search[index] = domain:gsub("(.)%.$", "%1") end
  return found
end

--- The system's settings, read anew; a file that is not there is no error.
-- nginx hides the environment from its workers but for what its `env` names.
-- @param has_scopes as of parse
function system.read(has_scopes)
  local environment = { LOCALDOMAIN = os.getenv "LOCALDOMAIN", RES_OPTIONS = os.getenv "RES_OPTIONS" }
  return system.parse(text_of(RESOLV_CONF), environment, text_of(HOST_NAME), has_scopes)
end

-- Linux's statx(2) has one layout on all machines, unlike stat(2).
pcall(ffi.cdef, [[
  typedef struct cueball_statx {
    uint32_t mask, block_size; uint64_t attributes; uint32_t links, uid, gid; uint16_t mode, spare; uint64_t inode, size, blocks,
    attributes_mask; struct { int64_t s; uint32_t ns; int32_t spare; } accessed, born, changed, modified; uint64_t rest[32];
  } cueball_statx;
  int statx(int folder, const char *path, int flags, unsigned mask, void *buffer);
]]) -- the second time, where a program has its modules loaded anew, it is known
local AT_FDCWD, STATX_BASIC_STATS = -100, 0x7ff

-- A text that is another once the file is; without statx its whole content.
local function stamp_of(path)
  local found = ffi.new "cueball_statx"
  local ok, result = pcall(function() return ffi.C.statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, found) end)
  if not ok then return text_of(path) end
  if result ~= 0 then return "none" end
  local times = ("%.0f.%d %.0f.%d"):format(tonumber(found.modified.s), found.modified.ns, tonumber(found.changed.s), found.changed.ns)
  return ("%s %.0f %.0f"):format(times, tonumber(found.inode), tonumber(found.size))
end

--- Two texts, each another once resolv.conf, or the hosts file, is.
function system.stamps()
  return stamp_of(RESOLV_CONF), stamp_of(hosts_path())
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
  for line in (text or text_of(hosts_path())):gmatch "[^\r\n]+" do
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

-- ------------------------------------------------------------------- a host's view --

local View = {}
View.__index = View

local HOSTS_LAST_NS = 1e9 -- it is asked about with every question

--- The files as a host needs them: the hosts file is read once, and again when it has changed.
-- @param host       its now is used
-- @param has_scopes as of parse
function system.view(host, has_scopes)
  return setmetatable({ host = host, has_scopes = has_scopes, file = nil, stamp = nil, looked_at = nil, answer = nil }, View)
end

--- For host.dns.system.
function View:system()
  return system.read(self.has_scopes)
end

--- For host.dns.hosts.
function View:hosts(name, rr)
  local now = self.host.now()
  if not self.file or now - self.looked_at >= HOSTS_LAST_NS then
    local _, stamp = system.stamps()
    if stamp ~= self.stamp then self.file = system.hosts() end
    self.stamp, self.looked_at = stamp, now
  end
  local records = system.records_of(self.file, (name:gsub("(.)%.$", "%1")), rr)
  if not records then return nil end
  self.answer = require("cueball.dns.answer").make(0, records)
  return self.answer
end

return system
