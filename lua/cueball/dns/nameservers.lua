--- Nameservers that are found by a name, and followed: one tracker for each name
-- and host, shared by all who follow it, from the first to the last of them.
--
-- It asks the system's nameservers first.  Once it has found its own it asks those,
-- which know best where they move to; should they all fail, the system's again.
local dns_options = require "cueball.dns.options"
local driver = require "cueball.dns.driver"
local name = require "cueball.dns.name"

local nameservers = {}

local WHAT = "cueball.resolver.dns"
local CONCURRENCY, PORT, SERVICE = 10, 53, "_dns._udp"

local shared = setmetatable({}, { __mode = "k" }) -- by host, then by name

-- Those of better priority first; within one, in the order of their keys, so that it changes only when they do.
local function addresses_of(backends)
  table.sort(backends, function(a, b)
    if a.priority ~= b.priority then return a.priority < b.priority end
    return a.key < b.key
  end)
  local list = {}
  for index, backend in ipairs(backends) do list[index] = backend.key end
  return list
end

local function open(host, domain, recovery)
  local options = dns_options.read(WHAT, {
    domain = domain, service = SERVICE, default_port = PORT, max_dns_concurrency = CONCURRENCY, recovery = recovery,
  })
  local group = { followers = {}, list = nil, text = "" }
  local function use_own()
    local list = addresses_of(group.driver:backends())
    if #list == 0 then return end
    group.driver:nameservers(list)
    local text = table.concat(list, " ")
    if text == group.text then return end
    group.list, group.text = list, text
    local followers = {}
    for _, follower in ipairs(group.followers) do followers[#followers + 1] = follower end
    for _, follower in ipairs(followers) do
      if follower.changed then follower.changed(list) end
    end
  end
  local function fail(message)
    group.driver:nameservers(nil)
    for _, follower in ipairs(group.followers) do
      if follower.failed and not group.list then follower.failed(("the nameservers %s: %s"):format(domain, message)) end
    end
  end
  local made, message = driver.new(host, options, { changed = use_own, recover = use_own, fail = fail })
  if not made then return nil, message end
  group.driver = made
  return group
end

--- Follows the nameservers of a name.
-- @param changed  function(list): called with them now if they are known, and whenever they change
-- @param failed   function(message): they cannot be found, and never could
-- @param recovery as of the resolver that asks first; or nil
-- @return function that ends it; or nil, message
function nameservers.follow(host, domain, changed, failed, recovery)
  local of_host = shared[host] or {}
  shared[host] = of_host
  local key = name.folded(domain)
  local group = of_host[key]
  if not group then
    local made, message = open(host, domain, recovery)
    if not made then return nil, message end
    group, of_host[key] = made, made
    made.driver:start()
  end
  local follower = { changed = changed, failed = failed }
  table.insert(group.followers, follower)
  if group.list then changed(group.list) end
  return function()
    follower.changed, follower.failed = nil, nil
    for index, one in ipairs(group.followers) do
      if one == follower then
        table.remove(group.followers, index)
        if #group.followers == 0 then
          of_host[key] = nil
          group.driver:close()
        end
        return
      end
    end
  end
end

--- How many follow a name on a host.
function nameservers.followers(host, domain)
  local group = shared[host] and shared[host][name.folded(domain)]
  return group and #group.followers or 0
end

return nameservers
