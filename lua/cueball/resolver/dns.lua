--- A service's nodes by DNS: SRV, then A and AAAA of each target; followed as their TTLs run out.
--
--   resolver.dns { domain = "db.example", service = "_postgresql._tcp", default_port = 5432 }
--
-- docs/dns.md has the options.
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local dns_options = require "cueball.dns.options"
local driver = require "cueball.dns.driver"
local nameservers = require "cueball.dns.nameservers"
local options = require "cueball.options"

local WHAT = "cueball.resolver.dns"
local FROM_SRV = 1 -- CUEBALL_TARGETS_SRV
local LOOKUP_MS = 5000

local Dns = {}
Dns.__index = Dns

-- One run of it: a driver, and the nameservers it follows if they have a name:
-- it asks nothing before those are known.
local Run = {}
Run.__index = Run

local function start(host, self, listener, recovery)
  local made, message = driver.new(host, self.options, listener, recovery)
  if not made then return nil, message end
  local run = setmetatable({ driver = made, unfollow = nil }, Run)
  local by_name = self.options.nameservers
  if type(by_name) == "string" then
    run.unfollow, message = nameservers.follow(host, by_name, function(list) made:nameservers(list) end, listener.fail,
      self.options.recovery or recovery)
    if not run.unfollow then
      made:close()
      return nil, message
    end
  else
    made:start()
  end
  return run
end

function Run:close()
  self.driver:close()
  if self.unfollow then self.unfollow() end
  self.unfollow = nil
end

-- For host.guard: the pool took another resolver, or is gone.
Run.abort = Run.close

-- ---------------------------------------------------------------- one for all --

-- Pools of one process that ask for the same share a run: by host, then by what is asked.
local shared = setmetatable({}, { __mode = "k" })

-- A text that is the same for the same options.
local function fingerprint(value)
  if type(value) ~= "table" then return type(value) .. " " .. tostring(value) end
  local parts = {}
  for key, one in pairs(value) do
    if key ~= "host" and key ~= "name" and key ~= "what" then parts[#parts + 1] = ("%s=%s"):format(tostring(key), fingerprint(one)) end
  end
  table.sort(parts)
  return "{" .. table.concat(parts, "\0") .. "}"
end

-- A run that many follow, and what they would have to be told if they came now.
local Group = {}
Group.__index = Group

function Group:tell(what, ...)
  local followers = { unpack(self.followers) } -- one may leave meanwhile
  for _, follower in ipairs(followers) do
    if not follower.is_gone then follower.listener[what](...) end
  end
end

local function group_listener(group)
  return {
    add = function(backend) group:tell("add", backend) end,
    change = function(backend) group:tell("change", backend) end,
    remove = function(backend) group:tell("remove", backend) end,
    changed = function() group:tell "changed" end,
    settle = function()
      group.is_settled = true
      group:tell "settle"
    end,
    fail = function(message)
      group.failure = message
      group:tell("fail", message)
    end,
    recover = function()
      group.failure = nil
      group:tell "recover"
    end,
  }
end

local Follower = {}
Follower.__index = Follower

-- What the others know already.
local function catch_up(group, listener)
  local backends = group.run.driver:backends()
  for _, backend in ipairs(backends) do listener.add(backend) end
  if #backends > 0 then listener.changed() end
  if group.failure then listener.fail(group.failure) end
  if group.is_settled then listener.settle() end
end

-- @param listener  all of add, change, remove, changed, settle, fail, recover
-- @return what is to be closed; or nil, message
local function join(host, self, listener, recovery)
  local of_host = shared[host] or {}
  shared[host] = of_host
  local key = fingerprint { self.options, self.options.recovery and "" or recovery or "" }
  local group = of_host[key]
  if not group then
    group = setmetatable({ followers = {}, failure = nil, is_settled = false, run = nil, of_host = of_host, key = key }, Group)
    local run, message = start(host, self, group_listener(group), recovery)
    if not run then return nil, message end
    group.run, of_host[key] = run, group
  end
  local follower = setmetatable({ group = group, listener = listener, is_gone = false }, Follower)
  table.insert(group.followers, follower)
  catch_up(group, listener)
  return follower
end

function Follower:backends_failed()
  self.group.run.driver:backends_failed()
end

function Follower:close()
  if self.is_gone then return end
  self.is_gone = true
  local group = self.group
  for index, one in ipairs(group.followers) do
    if one == self then
      table.remove(group.followers, index)
      break
    end
  end
  if #group.followers > 0 then return end
  group.of_host[group.key] = nil
  group.run:close()
end

Follower.abort = Follower.close

-- ------------------------------------------------------------------ a pool --

-- Nobody knows its port: it is one of the domain's own addresses, and the SRV
-- records that would tell it are not there.
local function is_portless(self, backend)
  return backend.port == 0 and self.options.default_port == nil and backend.why.targets_from ~= FROM_SRV
end

local function portless_words(self)
  return ("no SRV records for %s.%s, and no default_port"):format(self.options.service, self.options.domain)
end

-- Tells a sink of one round of changes, in their order.
local function tell_round(sink, round)
  for _, change in ipairs(round) do
    local backend = change.backend
    if change.is_gone then
      sink:remove(backend.key, backend.provenance)
    else
      sink:add {
        address = backend.address, port = backend.port, name = backend.name, weight = backend.weight,
        priority = backend.priority, provenance = backend.provenance,
      }
    end
  end
end

-- Passes backends on, but for those. What one answer says is one change for the sink.
local function sink_listener(self, sink)
  local portless, has_added, is_failing, round = {}, false, false, {}
  local function flush()
    local told = round
    round = {}
    if #told > 0 then sink:at_once(tell_round, sink, told) end
  end
  local function add(backend)
    if is_portless(self, backend) then
      portless[backend.key] = true
      return
    end
    has_added = true
    round[#round + 1] = { backend = backend, is_gone = false }
  end
  local listener = { add = add, change = add }
  function listener.remove(backend)
    if portless[backend.key] then
      portless[backend.key] = nil
    else
      round[#round + 1] = { backend = backend, is_gone = true }
    end
  end
  function listener.fail(message)
    flush()
    is_failing = true
    sink:fail(message)
  end
  function listener.recover()
    flush()
    is_failing = false
    if not next(portless) then sink:recover() end
  end
  function listener.changed()
    flush()
    if next(portless) then sink:fail(portless_words(self)) end
  end
  -- What a resolver before this one knew is gone by now, if anything was found.
  function listener.settle()
    flush()
    if has_added and not is_failing and not next(portless) then sink:complete() end
    has_added = false
  end
  return listener
end

--- For a pool: see docs/contracts.md.
function Dns:run(sink)
  local host = sink.host
  local follower, message = join(host, self, sink_listener(self, sink), sink.recovery)
  if not follower then
    sink:fail(message)
    return
  end
  host.guard(follower)
  while sink:sleep(math.huge) do
    if sink:failed() then follower:backends_failed() end
  end
  host.unguard(follower)
  follower:close()
end

-- -------------------------------------------------------------- a listener --

--- For those who want every event as it is, with `why`, and have no pool: the command line.
-- @param listener as for cueball.dns.driver
-- @return a run, to be ended with run:close(); or nil, message
function Dns:follow(host, listener)
  return start(host, self, listener)
end

-- ---------------------------------------------------------------- one shot --

local function is_timeout(value)
  return type(value) == "number" and value > 0 and value <= 86400000
end

local LOOKUP = {
  timeout_ms = { check = is_timeout, range = "a number of milliseconds above 0, up to 86400000" },
  host = options.of_type("table", "a host"),
}

-- The backends whose port is known, and what is to be said if there are none.
local function found_by(self, run)
  local list, message = {}, nil
  for _, backend in ipairs(run.driver:backends()) do
    if is_portless(self, backend) then message = portless_words(self) else list[#list + 1] = backend end
  end
  return list, message
end

local function lookup_in_task(self, host, timeout_ms)
  local waiter, problem = host.waiter(), nil
  local run, message = start(host, self, {
    fail = function(text) problem = problem or text end,
    recover = function() problem = nil end,
    settle = function(name) waiter:wake(name) end,
  })
  if not run then return nil, message, "not_supported" end
  host.guard(run)
  local can_wait, name = pcall(waiter.wait, waiter, timeout_ms)
  host.unguard(run)
  if not can_wait then -- inside of a function that C code calls
    run:close()
    misuse.raise("resolver:lookup: " .. name:gsub("^[^\n]-:%d+: ", ""))
  end
  local backends
  backends, message = found_by(self, run)
  local last = run.driver:last_question()
  run:close()
  if #backends > 0 then return backends end
  if name then return nil, message or problem or self.options.domain .. " has no addresses", name end
  return nil, ("%s: no answer within %.6g ms%s"):format(self.options.domain, timeout_ms,
    problem and ": " .. problem or last and ", asking for " .. last or ""), "timeout"
end

--- Asks once.
-- @param given nil, or a table:
--   timeout_ms  limit of all of it, 5000 by default; what was found by then is returned
--   host        where it runs, cueball.host() by default
-- @return a list of backends, { address, port, name, key, weight, priority, provenance, why }; or nil, message, name:
--   "not_found" (there are none), "timeout", "dns_failed" (no server would say), "not_supported" (by that host)
function Dns:lookup(given)
  given = options.check("resolver:lookup", given, LOOKUP)
  local host = require("cueball.host").of("resolver:lookup", given.host or self.options.host)
  local timeout_ms = given.timeout_ms or LOOKUP_MS
  if host.current() then return lookup_in_task(self, host, timeout_ms) end
  return host.run(lookup_in_task, self, host, timeout_ms)
end

misuse.guard(Dns, "resolver", { "lookup" })

-- ------------------------------------------------------------------ making --

--- Makes a resolver; several pools may use it.
-- @param given the options, see docs/dns.md
-- @param what   who asks, for others that make one
-- @return a resolver; mistakes in the options raise an error at the caller's line
local function dns(given, what)
  local read = dns_options.read(what or WHAT, given)
  local self = setmetatable({ name = read.name or read.domain:gsub("%.$", ""), options = read }, Dns)
  return made_of.note(self, WHAT, given)
end

return dns
