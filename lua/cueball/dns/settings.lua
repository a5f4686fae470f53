--- What the machine says of DNS, for one driver: nameservers, search list, hosts file; and when any of it changed.
--
-- A host that can tell has dns.stamps(): it is asked every few seconds, and what changed is read anew.  Elsewhere the settings are only
-- read again while questions fail.  What cannot be read, or used, is said in the log.
local RR_A, RR_AAAA = 1, 28
local LOOK_NS, BLIND_LOOK_NS = 5e9, 30e9

local settings = {}

local Settings = {}
Settings.__index = Settings

-- Whether it has anything to say where nothing was given.
local function is_read(options)
  return options.search == nil or options.ndots == nil or options.nameservers == nil
end

-- @return whether it could be read
local function read(self)
  self.read_at = self.now()
  local found, message = self.dns.system()
  self.complain("system", not found and ("the system's nameservers cannot be read: %s"):format(message) or nil)
  for _, one in ipairs(found and found.unusable or {}) do
    self.complain(one.server, ("the nameserver %s of %s cannot be asked: %s"):format(one.server, found.from or "the system", one.why))
  end
  if found then self.system = found end
  return found ~= nil
end

--- @param host     its dns and now are used
-- @param options  of cueball.dns.options.read
-- @param complain function(what, message): says the message once; nil: all is well with that
function settings.new(host, options, complain)
  local self = setmetatable({
    dns = host.dns, now = host.now, options = options, complain = complain,
    system = { servers = {}, search = {} }, -- as it was read last
    system_stamp = nil, hosts_stamp = nil, looked_at = host.now(), read_at = nil,
  }, Settings)
  if self.dns.stamps then self.system_stamp, self.hosts_stamp = self.dns.stamps() end
  if is_read(options) then read(self) end
  return self
end

--- Whether the hosts file has addresses of a name.
function Settings:is_in_hosts_file(domain)
  if self.options.hosts_file == false then return false end
  return (self.dns.hosts(domain, RR_A) or self.dns.hosts(domain, RR_AAAA)) ~= nil
end

--- Where the domain is searched for.  A name that the hosts file has is not: the file is looked at first.
function Settings:search_list()
  local given = self.options.search
  if given == nil then given = self.system.search end
  return not self:is_in_hosts_file(self.options.domain) and given or {}
end

function Settings:ndots()
  return self.options.ndots or self.system.ndots or 1
end

--- The system's nameservers.
function Settings:servers()
  if not self.read_at then read(self) end
  return self.system.servers
end

--- Why there is none of them, or nil.
function Settings:servers_fault()
  local unusable = self.system.unusable or {}
  if #self.system.servers > 0 or #unusable == 0 then return nil end
  return ("%s of %s cannot be asked: %s"):format(unusable[1].server, self.system.from or "the system", unusable[1].why)
end

--- When to look again; nil: when something fails.
function Settings:next_look()
  if self.dns.stamps then return self.looked_at + LOOK_NS end
  return nil
end

--- The same where there are no nameservers: nothing else would wake anybody.
function Settings:next_hope()
  return (self.read_at or self.now()) + BLIND_LOOK_NS
end

--- Looks whether anything changed, if it is time.
-- @param is_troubled whether questions fail
-- @return whether resolv.conf was read anew; whether the hosts file is another
function Settings:look(is_troubled)
  if not self.dns.stamps then
    return is_troubled and self.now() - (self.read_at or 0) >= BLIND_LOOK_NS and read(self), false
  end
  if self.now() - self.looked_at < LOOK_NS then return false, false end
  self.looked_at = self.now()
  local system_stamp, hosts_stamp = self.dns.stamps()
  local is_other_file = hosts_stamp ~= self.hosts_stamp and self.options.hosts_file ~= false
  local is_other_system = system_stamp ~= self.system_stamp and is_read(self.options) and read(self)
  self.system_stamp, self.hosts_stamp = system_stamp, hosts_stamp
  return is_other_system, is_other_file
end

return settings
