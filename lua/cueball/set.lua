--- A set: one shared connection to each of some backends, for protocols that multiplex. It has a pool, whose connections nobody claims:
-- each is announced when it is open, and asked back when it has to go.
local misuse = require "cueball.misuse"
local claim = require "cueball.pool.claim"
local native = require "cueball.native"
local options = require "cueball.options"
local text = require "cueball.text"
local Pool = require "cueball.pool"
local lib, ffi = native.lib, native.ffi

local POOL_FAILED = tonumber(lib.CUEBALL_EPOOL_FAILED)
local NO_MEMORY = tonumber(lib.CUEBALL_ENOMEM)
local MEMORY_RETRY_MS = 1000

local Set = {}
Set.__index = Set

local Member = {}
Member.__index = Member

local function is_target(value)
  return type(value) == "number" and value % 1 == 0 and value >= 1 and value <= 1000000
end

local WHOLE = { check = is_target, range = "a whole number from 1 to 1000000" }
local OWN = {
  target = WHOLE, maximum = WHOLE,
  added = options.of_type("function", "a function(member)"),
  removed = options.of_type("function", "a function(member, cause)"),
}

-- Options of pools that mean nothing where nobody claims, and what a set has instead.
local NOT_FOR_SETS = {
  max_connections = "maximum", spares = "target", claim_timeout_ms = false, max_waiters = false, queue = false,
  target_claim_delay_ms = false, balance = false,
  check_interval_ms = false, check_timeout_ms = false, idle_timeout_ms = false, max_lifetime_ms = false,
  leak_detection = false, leak_warning_ms = false, claim_sites = false, deadlock_detection = false,
}

-- Splits our options from the pool's, which are checked there.
local function split(what, given)
  local own, core = options.split(what, given, OWN)
  for name in pairs(core) do
    local instead = NOT_FOR_SETS[name]
    if instead ~= nil then
      misuse.raise(("%s: option '%s' is for pools%s"):format(what, name, instead and ("; a set has '%s'"):format(instead) or ""))
    end
  end
  return own, core
end

local function check_sizes(what, target, maximum)
  if target > maximum then
    misuse.raise(("%s: option 'target' must be at most maximum (%d), not %d"):format(what, maximum, target))
  end
end

-- Calls what the user gave, in a task of its own: it may wait, and the pool does not.
local function notify(self, fn, ...)
  self.pool.host.spawn(function(...)
    local ok, message = xpcall(fn, text.traceback, ...)
    if not ok then self.pool:log("error", "a set's notice threw: " .. message) end
  end, ...)
end

-- Announces the connection of a lease.
local function announce(self, lease)
  local backend = lease:backend()
  local serial = (self.serials[backend.key] or 0) + 1
  self.serials[backend.key] = serial
  local member = setmetatable({
    set = self, lease = lease, slot = lease.tag.slot, backend = backend, connection = lease.connection,
    key = ("%s.%d"):format(backend.key, serial), is_recalled = false, is_over = false,
  }, Member)
  self.members[member.slot] = member
  notify(self, self.added, member)
end

-- What the pool of a set knows of it.
local Keeper = {}
Keeper.__index = Keeper

-- Leases every connection that is open, and claims the next without a task: a connection that comes is announced before another one is
-- recalled. A pool that has failed is asked again when it has recovered.
local function collect(self)
  local set = self.set
  local result, lease
  repeat
    result, lease = claim.ask(set.pool, self.claim_options, self)
    if lease then announce(set, lease) end
  until not lease
  if result == POOL_FAILED then
    self.waits_for_recovery = true
  elseif result == NO_MEMORY then
    set.pool.host.spawn(function()
      set.pool.host.sleep(MEMORY_RETRY_MS)
      collect(self)
    end)
  end
end

--- The pool's answer to the claim that waits.
function Keeper:answer(lease, _, name)
  if lease then announce(self.set, lease) end
  if lease or name == "pool_failed" then collect(self) end
end

--- The pool wants a lease back. The set is told in Keeper:drained.
function Keeper:recall(slot, handle, cause)
  self.recalls[#self.recalls + 1] = { slot = slot, handle = handle, cause = cause }
end

-- Asks a member to go.
local function remove(self, slot, handle, cause)
  local member = self.members[slot]
  if not member or member.is_recalled or member.lease.handle ~= handle then return end
  member.is_recalled = true
  notify(self, self.removed, member, cause)
end

--- The pool has done all that its core wanted.
-- @param is_well whether it has not failed
-- @return true if that brought something about
function Keeper:drained(is_well)
  if self.waits_for_recovery and is_well then
    self.waits_for_recovery = false
    collect(self)
    return true
  end
  local recalls = self.recalls
  if #recalls == 0 then return false end
  self.recalls = {}
  for _, one in ipairs(recalls) do remove(self.set, one.slot, one.handle, one.cause) end
  return true
end

--- Makes a set and starts it.
-- @param given resolver and connect as for cueball.pool, and
--   target   connections there should be, 1 to 1000000; 1 by default.  No backend has more than one.
--   maximum  how many there may be, dead backends being tried included; target by default
--   added(member)           a connection is open: use it until it is removed
--   removed(member, cause)  it has to go ("plan", "removed", "stop"): finish, then member:release()
--   and the pool's options that do not concern claims: name, host, seed, recovery, rebalance_delay_ms,
--   decoherence_interval_ms, drain_timeout_ms, max_churn_rate …
--   A member is { key = "10.0.0.1:80.1", backend =, connection = }.  Each notice runs in a task of its own,
--   in order; one that throws is logged.
-- @return the set; mistakes in the options raise an error at the caller's line
function Set.new(given)
  local own, core = split("cueball.set", given)
  for _, name in ipairs { "added", "removed" } do
    if not own[name] then misuse.raise(("cueball.set: option '%s' is required: %s"):format(name, OWN[name].range)) end
  end
  local target = own.target or 1
  local maximum = own.maximum or target
  check_sizes("cueball.set", target, maximum)
  core.max_connections, core.spares = maximum, target
  core.check_interval_ms = false
  local resolver = core.resolver
  if core.name == nil then
    core.name = type(resolver) == "table" and type(resolver.name) == "string" and text.message(resolver.name) or "set"
  end
  local self = setmetatable({
    added = own.added, removed = own.removed, members = {}, serials = {}, pool = nil,
  }, Set)
  local keeper = setmetatable({
    set = self, recalls = {}, waits_for_recovery = false,
    claim_options = ffi.new("cueball_claim_options", { timeout_ms = math.huge }),
  }, Keeper)
  self.pool = Pool.new_for(core, "cueball.set", keeper)
  collect(keeper)
  self.pool:pump()
  return self
end

-- Notes that the lease of a member is over.
local function ended(self)
  self.is_over = true
  if self.set.members[self.slot] == self then self.set.members[self.slot] = nil end
end

--- The removed connection is used no longer.  Before `removed` it is a mistake.
-- @return true; or nil, message, "stale"
function Member:release()
  if not self.is_recalled and not self.is_over then misuse.raise("member:release: the connection was not removed; use member:close") end
  ended(self)
  return self.lease:close()
end

--- Gives the connection up at any time; `removed` is not called for it.  Another is opened.
-- @return true; or nil, message, "stale"
function Member:close()
  ended(self)
  return self.lease:close()
end

--- Gives the connection up as broken: another is opened after the pause that recovery.connect asks for.
-- @return true; or nil, message, "stale"
function Member:fail(message)
  ended(self)
  local pool, lease = self.set.pool, self.lease
  if lease.connection ~= nil then pool.core:conn_lost(pool.now(), pool.conns[self.slot]) end
  return self.lease:fail(message)
end

--- The connections that are open and not removed: a list of members.
function Set:connections()
  local list = {}
  for _, member in pairs(self.members) do
    if not member.is_recalled then list[#list + 1] = member end
  end
  table.sort(list, function(a, b) return a.key < b.key end)
  return list
end

--- Changes target, maximum, or what pool:set can change for a set.
-- @return true; mistakes raise an error at the caller's line and change nothing
function Set:set(given)
  local own, core = split("set:set", given)
  if own.added or own.removed then misuse.raise("set:set: the notices cannot be changed") end
  local now = self.pool.given
  local target, maximum = own.target or now.spares, own.maximum or now.max_connections
  check_sizes("set:set", target, maximum)
  core.spares, core.max_connections = target, maximum
  self.pool:set_for(core, "set:set")
  return true
end

--- As of a pool: "starting", "running", "failed", "stopping", "stopped".
function Set:state() return self.pool:state() end
function Set:last_error() return self.pool:last_error() end
function Set:resolver() return self.pool:resolver() end
function Set:backends() return self.pool:backends() end
function Set:stats() return self.pool:stats() end
function Set:subscribe(fn) return self.pool:subscribe(fn) end

--- Stops: every connection is removed, and closed when released or after drain_timeout_ms.
-- @return true, in a task when all is closed
function Set:stop() return self.pool:stop() end

function Set:__tostring()
  return ("cueball.set (%s, %s)"):format(self.pool.name, self:state())
end

misuse.guard(Set, "set", { "connections", "set", "state", "last_error", "resolver", "backends", "stats", "subscribe", "stop" })
misuse.guard(Member, "member", { "release", "close", "fail" })

return Set
