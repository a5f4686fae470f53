--- A set: one shared connection to each of some backends, for protocols that multiplex. It has a pool, whose connections nobody claims:
-- each is announced when it is open, and asked back when it has to go.
local manage = require "cueball.pool.manage"
local misuse = require "cueball.misuse"
local claim = require "cueball.pool.claim"
local native = require "cueball.native"
local options = require "cueball.options"
local plan = require "cueball.pool.plan"
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

options.note("cueball.set", options.merge(OWN, { resolver = options.RESOLVER }), NOT_FOR_SETS)

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

local REQUIRED = { "added", "removed" }

-- The options of a set, checked, as its pool has them.
local function read(given)
  local own, core = split("cueball.set", given)
  for _, name in ipairs(REQUIRED) do
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
  return own, core
end

--- Reads the options of a set, and makes none.
-- @return as Pool.read; with notices = { added =, removed = }
function Set.read(given)
  local own, core = read(given)
  local made = Pool.read(core, "cueball.set")
  made.notices = own
  return made
end

-- Calls what the user gave, in a task of its own: it may wait, and the pool does not.
local function notify(self, fn, ...)
  self.pool.host.spawn(function(...)
    local ok, message = xpcall(fn, text.traceback, ...)
    if not ok then self.pool:log("error", "a set's notice threw: " .. message, "subscriber_threw") end
  end, ...)
end

-- Announces the connection of a lease.
local function announce(self, lease)
  local backend = lease:backend()
  local serial = (self.serials[backend.key] or 0) + 1
  self.serials[backend.key] = serial
  local member = setmetatable({
    set = self, lease = lease, slot = lease.tag.slot, backend = backend, connection = lease.connection,
    key = ("%s.%d"):format(backend.key, serial), is_recalled = false, is_over = false, cause = nil,
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
  member.is_recalled, member.cause = true, cause
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
--   removed(member, cause)  it has to go ("plan", "removed", "drain", "stop"): finish, then member:release()
--   and the pool's options that do not concern claims: name, host, seed, recovery, rebalance_delay_ms,
--   decoherence_interval_ms, drain_timeout_ms, max_churn_rate …
--   A member is { key = "10.0.0.1:80.1", backend =, connection = }.  Each notice runs in a task of its own,
--   in order; one that throws is logged.
-- @return the set; mistakes in the options raise an error at the caller's line
function Set.new(given)
  return Set.new_for(given, false)
end

--- The same, for others that make sets.
-- @param is_deferred as of Pool.new_for
function Set.new_for(given, is_deferred)
  local own, core = read(given)
  local self = setmetatable({
    added = own.added, removed = own.removed, members = {}, serials = {}, pool = nil,
    renewal = nil, -- the task that asks connections back
  }, Set)
  local keeper = setmetatable({
    set = self, recalls = {}, waits_for_recovery = false,
    claim_options = ffi.new("cueball_claim_options", { timeout_ms = math.huge }),
  }, Keeper)
  self.pool = Pool.new_for(core, "cueball.set", keeper, is_deferred)
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

local function end_renewal(self)
  local host = self.pool.host
  if self.renewal and self.renewal ~= host.current() then host.kill(self.renewal) end
  self.renewal = nil
end

-- Asks a set's own connections back, one after the other: those that were opened by another factory than the present one. What comes
-- meanwhile is not asked back.
local function renew(self)
  local pool, old = self.pool, {}
  for _, member in pairs(self.members) do
    if not member.is_recalled and pool.factories[member.slot] ~= pool.factory then old[#old + 1] = member end
  end
  if #old == 0 then return end
  table.sort(old, function(a, b) return a.key < b.key end)
  end_renewal(self)
  self.renewal = pool.host.service(function()
    for index, member in ipairs(old) do
      if index > 1 then pool.host.sleep(Pool.RENEW_OVER_MS / #old) end
      if not member.is_over then remove(self, member.slot, member.lease.handle, "renew") end
    end
  end)
end

--- Another resolver or connection factory; connections are kept.
-- @param given { resolver = …, connect = …, renew = … }: either or both; renew = true: connections that another factory has opened are
--   removed, with the cause "renew", one after the other, over 10 s
-- @return true; mistakes raise an error at the caller's line and change nothing
function Set:replace(given)
  if self.pool:replace_for(given, "set:replace") then renew(self) end
  return true
end

--- Takes the notices of a new declaration: from now on they are called. Of the connections that are there each is announced to `added`,
-- those that are asked back to `removed`.
function Set:notice(added, removed)
  self.added, self.removed = added, removed
  local all = {}
  for _, member in pairs(self.members) do all[#all + 1] = member end
  table.sort(all, function(a, b) return a.key < b.key end)
  for _, member in ipairs(all) do
    if member.is_recalled then notify(self, removed, member, member.cause) else notify(self, added, member) end
  end
end

--- As of a pool: "starting", "running", "failed", "stopping", "stopped".
function Set:state() return self.pool:state() end
function Set:last_error() return self.pool:last_error() end
function Set:resolver() return self.pool:resolver() end
function Set:backends() return self.pool:backends() end
function Set:stats() return self.pool:stats() end
function Set:subscribe(fn) return self.pool:subscribe(fn) end

--- As of a pool. A backend that is drained has its connection removed, with the cause "drain"; the last one stays until another is open.
function Set:drain(given) return manage.drain(self.pool, given, "set:drain") end
function Set:restore(given) return manage.restore(self.pool, given, "set:restore") end
function Set:ask_anew(given) return manage.ask_anew(self.pool, given, "set:ask_anew") end
function Set:plan(given) return plan.of_set(self.pool, given) end

--- Stops: every connection is removed, and closed when released or after drain_timeout_ms.
-- @return true, in a task when all is closed
function Set:stop()
  end_renewal(self)
  return self.pool:stop()
end

function Set:__tostring()
  return ("cueball.set (%s, %s)"):format(self.pool.name, self:state())
end

misuse.guard(Set, "set", { "connections", "set", "replace", "state", "last_error", "resolver", "backends", "stats", "subscribe", "stop",
  "drain", "restore", "ask_anew", "plan" })
misuse.guard(Member, "member", { "release", "close", "fail" })

return Set
