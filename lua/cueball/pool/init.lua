--- The Lua pool: tells the core what happened and does what it asks.
--
-- The core is polled: after whatever was told to it, `pump` does its actions,
-- reads its events and sets one alarm for its deadline.
local claim = require "cueball.pool.claim"
local counts = require "cueball.pool.counts"
local cleanup = require "cueball.pool.cleanup"
local door = require "cueball.pool.core"
local events = require "cueball.pool.events"
local factory = require "cueball.pool.factory"
local faults = require "cueball.pool.faults"
local holders = require "cueball.pool.holders"
local hosts = require "cueball.host"
local inspection = require "cueball.pool.inspection"
local leaks = require "cueball.pool.leaks"
local lease = require "cueball.pool.lease"
local listener = require "cueball.pool.listener"
local log = require "cueball.log"
local manage = require "cueball.pool.manage"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local owner = require "cueball.pool.owner"
local perform = require "cueball.pool.perform"
local plan = require "cueball.pool.plan"
local pool_options = require "cueball.pool.options"
local readiness = require "cueball.pool.readiness"
local refusal = require "cueball.pool.refusal"
local registry = require "cueball.pool.registry"
local reset = require "cueball.pool.reset"
local scope = require "cueball.pool.scope"
local secrets = require "cueball.pool.secrets"
local sink = require "cueball.resolver.sink"
local stats = require "cueball.pool.stats"
local text = require "cueball.text"
local getmetatable, xpcall, type, traceback = getmetatable, xpcall, type, text.traceback

local NEVER = 2 ^ 63

local Pool = {}
Pool.__index = Pool

-- ------------------------------------------------------------------ making --

-- What shares max_connections among workers; nil: the pool has them for itself.
local function quota_of(what, own, cdata, host, is_set)
  if own.max_connections_scope == nil and own.max_connections_dict == nil then return nil end
  return host.quota(what, own, cdata, host, is_set)
end

-- Starts a resolver in the place of the one before, if there was one.
local function start_resolver(self, resolver, is_deferred)
  local known = {}
  for key in pairs(self.of_core.said) do known[key] = true end
  local of = self.cleanup and self.reference or { pool = self }
  self.sink = sink.new {
    resolver = resolver, is_deferred = is_deferred, listener = self.listener,
    is_weak = self.cleanup ~= nil, before = self.sink, inherited = known,
    host = self.host, recovery = self.given.recovery,
    log = function(level, message, event, facts)
      if of.pool then of.pool:log(level, message, event, facts) end
    end,
  }
  cleanup.resolver_changed(self)
  sink.start(self.sink)
end

--- Makes a pool and starts it.  See docs/lua.md for the options.
-- @return the pool; mistakes in the options raise an error at the caller's line
function Pool.new(given)
  return Pool.new_for(given, "cueball.pool")
end

-- The state of each file's own. Where one refers to another's, that comes first.
local OWNERS_OF_STATE = { cleanup, secrets, faults, leaks, lease, perform, scope, claim, events, readiness }

-- What wakes the pool at the core's deadline. A set acts by itself, and stays.
local function alarm_of(self)
  local reference = self.of_set and { pool = self } or self.reference
  return self.host.alarm(function()
    local pool = reference.pool
    if not pool then return end
    pool.alarm_at = NEVER
    pool:input "time_advanced"
  end)
end

-- Who hears the resolver: the pool's listener, and behind it the quota, if there is one, and the core.
local function listen(self, shared, cdata)
  self.of_core = listener.of_core(self)
  self.quota = shared and shared:quota_of(self, cdata, self.of_core) or nil
  self.listener = listener.new(self, self.quota or self.of_core)
  if self.quota then self.quota:begin() end
end

local function name_of(own)
  local resolver = own.resolver
  return own.name or type(resolver) == "table" and type(resolver.name) == "string" and text.message(resolver.name) or "pool"
end

--- Reads the options of a pool, and makes none.
-- @param what who asks, for messages
-- @return { own = those of the Lua side, core = those of the core as they were given, cdata = a cueball_options, host =, connect = the
--   factory, completed }; mistakes raise an error at the caller's line
function Pool.read(given, what)
  local own, core, cdata = pool_options.read(what, given)
  local host = hosts.of(what, own.host)
  return { own = own, core = core, cdata = cdata, host = host, connect = factory.read(what, own.connect, host) }
end

-- The core: of a set, or shared with the threads of the process, or the pool's alone.
local function core_of(own, cdata, host, of_set, threaded)
  local seed, now = own.seed or host.seed(), host.now()
  if threaded then return door.new_shared(threaded, cdata, seed, now) end
  return door.new(cdata, seed, now, of_set ~= nil)
end

--- The same, for others that make pools.
-- @param what   who asks, for messages
-- @param of_set nil; or, for the pool of a set: leases are asked back with of_set:recall(slot, lease, cause), and when all is done that the
--   core wants of_set:drained(is_well) is called: if it returns true there may be more
-- @param is_deferred whether its resolver begins in the event loop's next turn, and so the pool; at once by default
function Pool.new_for(given, what, of_set, is_deferred)
  local read = Pool.read(given, what)
  local own, core, cdata, host = read.own, read.core, read.cdata, read.host
  host.pool_begins() -- what cannot be loaded (for want of descriptors, say) is an error now, before there is half a pool
  local shared = quota_of(what, own, cdata, host, of_set ~= nil)
  local threaded, fault = nil, nil
  if not of_set then threaded, fault = host.threaded(name_of(own), read.connect) end
  if fault then misuse.raise(what .. ": " .. fault) end
  local made, message = core_of(own, cdata, host, of_set, threaded)
  if not made then
    if threaded then threaded:abandon() end
    misuse.raise(what .. ": " .. message)
  end
  local self = setmetatable({
    name = name_of(own), host = host, now = host.now, claimer = host.claimer, core = made, given = options.merge({}, core),
    of_set = of_set, threaded = threaded, factory = nil, parking = nil, quota = nil, listener = nil, of_core = nil, sink = nil,
    stoppers = {}, alarm = nil, alarm_at = NEVER, is_pumping = false, is_over = false, oldest_lease = nil,
  }, Pool)
  self.parking = not of_set and host.parking(self) or nil
  for _, one in ipairs(OWNERS_OF_STATE) do one.open(self) end
  self.factory = factory.for_pool(self, read.connect)
  pool_options.follow(self, own)
  self.alarm = alarm_of(self)
  listen(self, shared, cdata)
  if threaded then
    threaded:begin(self)
  elseif not of_set and not self.parking then
    cleanup.watch(self)
  end
  start_resolver(self, own.resolver, is_deferred)
  registry.add(self)
  self:pump()
  return self
end

-- ----------------------------------------------------- for our own modules --

Pool.stats, Pool.backends, Pool.connections = stats.numbers, stats.backends, stats.connections
Pool.leases, Pool.waiters, Pool.tree = holders.leases, holders.waiters, holders.tree
for name, method in pairs(manage.methods) do Pool[name] = method end
Pool.plan = plan.plan
Pool.cause, Pool.refusal = refusal.cause, refusal.text
Pool.unfit, Pool.inspect = inspection.unfit, inspection.inspect
Pool.inspect_plain, Pool.inspect_closed = inspection.inspect_plain, inspection.inspect_closed
Pool.clean, Pool.cleaning_ms = reset.begin, reset.limit_ms
Pool.counts, Pool.waits = counts.of, counts.waits

--- Calls what is not cueball's own and may not wait: the pool is in the middle of something, and a task that waits may be killed there.
-- @return what xpcall returns; a message has a traceback
function Pool:call(fn, ...)
  local tasks = self.host.tasks
  if tasks then return tasks:outside(fn, ...) end
  return xpcall(fn, traceback, ...)
end

--- Tells a record of the log, without secrets.
-- @param record as of cueball.log; time_s may be left out
function Pool:tell(record)
  record.pool, record.message = self.name, secrets.hide(self, record.message)
  for name, value in pairs(record.fields) do
    if type(value) == "string" then record.fields[name] = secrets.hide(self, value) end
  end
  log.tell(self.host, record)
end

--- One line in the log.
-- @param event what happened, a name of docs/logs.md
-- @param facts nil, or what is known of it: { backend =, cause =, … = strings, numbers, booleans }
function Pool:log(level, message, event, facts)
  local fields = {}
  for name, value in pairs(facts or {}) do
    if type(value) == "string" then value = text.message(value) end
    if name ~= "backend" and name ~= "cause" then fields[name] = value end
  end
  self:tell {
    level = level, event = event, backend = facts and facts.backend, cause = facts and facts.cause,
    message = text.clean_lines(message), fields = fields,
  }
end

--- Calls what a factory brought; a throw is logged and goes no further.
function Pool:guarded(what, fn, ...)
  local ok, message, kind = self:call(fn, ...)
  if not ok then self:log("error", ("the connection factory's %s threw: %s"):format(what, message), "factory_threw", { cause = what }) end
  return ok, message, kind
end

local function set_alarm(self, deadline)
  if deadline < NEVER then
    self.alarm_at = deadline
    self.alarm:set(deadline)
  end
end

-- The core has let go of its last connection.
local function close_down(self)
  self.is_over = true
  log.flush(self.host, self.name)
  leaks.close(self.leaks)
  self.alarm:close()
  cleanup.over(self)
  if self.parking then self.parking.close_down(self) end
  if self.threaded then self.threaded:close_down() end
  if self.quota then self.quota:close() end
  perform.abandon(self)
  self.sink:end_soon(function()
    for _, waiter in ipairs(self.stoppers) do waiter:wake(true) end
    self.stoppers = nil
  end)
end

--- Does what the core wants done, and sees to it that it is asked again in time.
function Pool:pump()
  if self.is_pumping then return end
  self.is_pumping = true
  if self.leaks.has_collected then leaks.sweep(self.leaks) end
  perform.drain(self)
  self.is_pumping = false
  if self.core.outlook.events ~= 0 then events.read(self) end
  if self.quota then self.quota:pumped() end
  if self.threaded then self.threaded:pumped() end
  if self.readiness then readiness.look(self) end
  if self.core:state_of() == door.STOPPED then
    if not self.is_over then close_down(self) end
  elseif self.alarm_at == NEVER or self.threaded then -- which hears at once of deadlines before the one that it was told last
    set_alarm(self, tonumber(self.core:deadline()))
  elseif self.core.outlook.deadline < self.alarm_at then
    set_alarm(self, tonumber(self.core.outlook.deadline))
  end
end

--- The same after a lease was released. What the core wants then is mostly one thing, that the connection goes to the claim that waits
-- longest.
function Pool:hand_over()
  local outlook = self.core.outlook
  if outlook.answers == 0 or self.is_pumping or self.quota then return self:pump() end
  perform.answer(self)
  if outlook.actions ~= 0 or outlook.deadline < self.alarm_at or outlook.events ~= 0 then self:pump() end
end

--- Tells the core a fact, and does what follows.
-- @param fact the name of one, see cueball.pool.core
-- @return its result
function Pool:input(fact, ...)
  local core = self.core
  local result = core[fact](core, self.now(), ...)
  self:pump()
  return result
end

-- ------------------------------------------------------------------ claims --

--- Claims a connection; waits for one in a task if none is idle.
-- @param given nil, or a table:
--   timeout_ms      total wait, 0 to 86400000; 0: do not wait; false: for ever; the pool's claim_timeout_ms by default
--   deadline_ms     so long for the wait and the lease together: lease:remaining_ms() tells what is left, and sockets keep to it
--   error_on_empty  do not wait while no backend is known
--   owner           of pool:owner(): the claim and its lease end when it is gone
-- @return a lease; or nil, message, name: "claim_timeout", "overloaded", "no_backends", "pool_failed",
--   "pool_stopping", "cancelled" (its owner is gone), "deadlock" (nobody could ever serve it), "no_memory"
function Pool:claim(given)
  if getmetatable(self) ~= Pool then misuse.colon("pool:claim") end
  local span_ms = given and claim.span(given, false)
  local made, message, name
  if span_ms then
    made, message, name = claim.make_within(self, given, span_ms, "pool:claim")
  else
    made, message, name = claim.make(self, given, "pool:claim")
  end
  return made, message, name
end

--- Claims a connection if one is idle.
-- @return a lease; or nil, message, name as pool:claim
function Pool:try_claim()
  if getmetatable(self) ~= Pool then misuse.colon("pool:try_claim") end
  local made, message, name = claim.try(self)
  return made, message, name
end

--- Claims a connection, calls fn(connection, lease), and releases it.  If fn
-- throws, the connection is closed, as nobody knows its state, and the error goes on
-- to the caller: a bug of the caller's is not held against the backend.
-- @param fn
-- @param given options as for pool:claim; timeout_ms is for all of it, like deadline_ms: for the wait and for what fn does on its socket
-- @return what fn returned; or nil, message, name as pool:claim
function Pool:with(fn, given)
  if getmetatable(self) ~= Pool then misuse.colon("pool:with") end
  if type(fn) ~= "function" then misuse.raise("pool:with: expected a function, got " .. options.show(fn)) end
  local span_ms = given and claim.span(given, true)
  local made, message, name
  if span_ms then
    made, message, name = claim.make_within(self, given, span_ms, "pool:with")
  else
    made, message, name = claim.make(self, given, "pool:with")
  end
  if not made then return nil, message, name end
  return scope.run(self, made, fn)
end

--- Waits until so many connections are open: for start-up probes.
-- @param given nil, or a table:
--   connections  how many, 1 by default, max_connections at most
--   timeout_ms   how long to wait, 0 to 86400000; 0: not at all; false, the default: for ever
-- @return true; or nil, message, name: "timeout", "pool_stopping"
function Pool:ready(given)
  local is_ready, message, name = readiness.wait(self, given)
  return is_ready, message, name
end

-- By its options.
function Pool:max_connections()
  return self.given.max_connections or options.initial "max_connections"
end

--- Somebody all of whose claims and leases end together: give it to claims as `owner`.
-- @return an owner; owner:gone() ends what it has: waiting claims return nil, message, "cancelled", leases are closed
function Pool:owner()
  local made = owner.new(self)
  if not made then misuse.raise("pool:owner: out of memory") end
  return made
end

-- ------------------------------------------------------------------- state --

--- "starting", "running", "failed", "stopping" or "stopped".
function Pool:state()
  return door.state_name(self.core:state_of())
end

--- The last thing that went wrong with a backend or the resolver: "key: message", or nil.
function Pool:last_error()
  return faults.latest(self)
end

--- How the resolver does: { failing = boolean, message = text or nil, since_ms = for how long it has failed, or nil }.
function Pool:resolver()
  return self.sink:state()
end

--- Every state change from now on goes to fn(event); docs/lua.md lists the kinds.
-- @return a function that ends it
function Pool:subscribe(fn)
  if type(fn) ~= "function" then misuse.raise("pool:subscribe: expected a function, got " .. options.show(fn)) end
  return events.subscribe(self, fn)
end

--- Changes options of the living pool; what is not named stays.
-- @param given as for cueball.pool, without resolver, connect, seed and host
-- @return true; mistakes raise an error at the caller's line and change nothing
function Pool:set(given)
  self:set_for(given, "pool:set")
  return true
end

--- The same, for others: `what` as of Pool.new_for.
function Pool:set_for(given, what)
  local own, merged, cdata = pool_options.changed(self, what, given)
  self.given, self.name = merged, own.name or self.name
  pool_options.follow(self, own)
  self:input("options_changed", cdata)
end

--- Reads options that are to become exactly what a new declaration of the pool says: what is not in that has its default then.
-- @param names a list of options that pool:set can change; others stay
-- @param read  of Pool.read
-- @return what pool:take wants; mistakes raise an error at the caller's line and change nothing
function Pool:prepare(names, read, what)
  local own, merged, cdata = pool_options.exactly(self, what, names, read)
  return { own = own, merged = merged, cdata = cdata }
end

--- Takes options that were prepared.
function Pool:take(prepared)
  self.given = prepared.merged
  pool_options.follow(self, prepared.own)
  self:input("options_changed", prepared.cdata)
end

-- What pool:renew can be told.
local RENEW_RULES = {
  backend = options.of_type "string",
  over_ms = {
    check = function(value) return type(value) == "number" and value >= 0 and value <= 86400000 end,
    range = "a number of milliseconds from 0 to 86400000",
  },
}
options.note("pool:renew", RENEW_RULES)
Pool.RENEW_OVER_MS = 10000 -- where nothing else is said

--- Connections opened before now are replaced, one after the other: at rest when
-- their time comes, leased ones when they come back after it, attempts under way
-- once they are open.
-- @param given nil, or a table:
--   backend  the key of one backend; all by default
--   over_ms  how long it takes for all, 0 to 86400000, 10000 by default
-- @return true; or nil, message, "not_found" (no such backend)
function Pool:renew(given)
  if given ~= nil then options.check("pool:renew", given, RENEW_RULES) end
  if self.of_set then misuse.raise("pool:renew: a set's connections are recalled, not renewed") end
  local key = given and given.backend
  if self:input("renew", key, given and given.over_ms or Pool.RENEW_OVER_MS) >= 0 then return true end
  return nil, "no backend has the key " .. text.show(key), "not_found"
end

--- The same but for renewing, for others: `what` as of Pool.new_for.
-- @return whether connections are to be renewed
function Pool:replace_for(given, what)
  local own, renews = pool_options.replaced(what, given)
  if own.connect then
    self.factory = factory.for_pool(self, factory.read(what, own.connect, self.host))
    self:set_for({}, what)
  end
  if own.resolver and not self.sink.has_ended then
    self.sink:kill()
    start_resolver(self, own.resolver)
  end
  return renews
end

--- Another resolver or connection factory; connections and leases are kept, and
-- each is closed by the factory that made it.
-- @param given { resolver = …, connect = …, renew = … }: either or both; renew = true: connections of the factory before are
--   replaced as by pool:renew()
-- @return true; mistakes raise an error at the caller's line
function Pool:replace(given)
  local renews = self:replace_for(given, "pool:replace")
  return not renews or self:renew()
end

--- Stops the pool: claims are refused, idle connections close, leases are waited
-- for until drain_timeout_ms.  In a task, waits until all that is done; elsewhere
-- it goes on by itself.  Calling it again is harmless.
-- @return true
function Pool:stop()
  self.sink:finish()
  self:input("stop")
  if not self.stoppers or not self.host.current() then return true end
  local waiter = self.host.waiter()
  table.insert(self.stoppers, waiter)
  waiter:wait()
  return true
end

function Pool:__tostring()
  return ("cueball.pool (%s, %s)"):format(self.name, self:state())
end

misuse.guard(Pool, "pool", {
  "owner", "state", "last_error", "resolver", "stats", "backends", "subscribe", "set", "renew", "replace", "stop", "ready", "connections",
  "leases", "waiters", "tree", "plan",
})
misuse.guard(Pool, "pool", manage.names)

return Pool
