--- The Lua pool: tells the core what happened and does what it asks.
--
-- The core is polled: after whatever was told to it, `pump` does its actions,
-- reads its events and sets one alarm for its deadline.
local native = require "cueball.native"
local options = require "cueball.options"
local sink = require "cueball.resolver.sink"
local listener = require "cueball.pool.listener"
local work = require "cueball.pool.perform"
local door = require "cueball.pool.core"
local condition = require "cueball.pool.condition"
local journal = require "cueball.pool.events"
local owner = require "cueball.pool.owner"
local refusal = require "cueball.pool.refusal"
local watchman = require "cueball.pool.leaks"
local claim = require "cueball.pool.claim"
local dropped = require "cueball.pool.dropped"
local ready = require "cueball.pool.ready"
local hosts = require "cueball.host"
local misuse = require "cueball.misuse"
local registry = require "cueball.pool.registry"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi
local getmetatable, xpcall, type, traceback = getmetatable, xpcall, type, text.traceback

local NEVER = 2 ^ 63

local Pool = {}
Pool.__index = Pool

-- ------------------------------------------------------------------ making --

local function is_factory(value)
  return type(value) == "function" or type(value) == "table" and type(value.connect) == "function"
end

local function is_resolver(value)
  return type(value) == "function" or type(value) == "table" and type(value.run) == "function"
end

local function is_warning_time(value)
  return value == false or type(value) == "number" and value >= 1 and value <= 86400000
end

-- What is not the core's.
local OWN = {
  name = options.NAME,
  resolver = { check = is_resolver, range = "a function(sink) or a table with run(self, sink)" },
  connect = { check = is_factory, range = "a function(backend, context) or a table with connect(backend, context)" },
  seed = options.whole(0, 2 ^ 53 - 1),
  host = options.of_type("table", "a host"),
  leak_detection = options.of_type("boolean", "true or false"),
  deadlock_detection = options.of_type("boolean", "true or false"),
  claim_sites = options.of_type("boolean", "true or false"),
  max_connections_scope = {
    check = function(value) return value == "pool" or value == "server" end, range = '"pool" or "server"',
  },
  max_connections_dict = {
    check = function(value) return type(value) == "string" or type(value) == "table" end, range = "the name of a shared dict",
  },
  leak_warning_ms = { check = is_warning_time, range = "a number of milliseconds from 1 to 86400000, or false for none" },
}

local FACTORY = { connect = true, close = true, check = true, broken = true, watch = true, unwatch = true, park = true }

local function close_by_method(connection)
  if type(connection) == "table" and connection.close then connection:close() end
end

-- A factory with everything filled in.
local function factory_from(what, given)
  if type(given) == "function" then given = { connect = given } end
  local factory = { close = close_by_method }
  for member in pairs(FACTORY) do
    local value = given[member]
    if value ~= nil and type(value) ~= "function" then
      misuse.raise(("%s: the connection factory's '%s' must be a function, not %s"):format(what, member, options.show(value)))
    end
    factory[member] = value or factory[member]
  end
  factory.inspects = factory.broken ~= nil or factory.watch ~= nil
  factory.asks_socket = factory.broken ~= nil and factory.broken == given.asks_socket -- which the pool does itself
  local bare = given.bare
  local parked = given.parked
  factory.parked = type(parked) == "table" and factory.connect == parked.connect and factory.park == parked.park and parked or nil
  factory.bare = type(bare) == "table" and factory.watch == bare.watch and factory.unwatch == bare.unwatch and bare or nil
  return factory
end

-- Whether CHECK actions tell something: then suspect connections are checked before they are lent.
-- @param factory as the application gave it; what parking makes of it always has a check
local function has_check(factory)
  return type(factory) == "table" and factory.check and 1 or 0
end

-- What the pool asks for connections: the factory, or what parks its connections where the host does that.
local function factory_for(self, given)
  if self.parking then return self.parking.factory(self, given) end
  return self.recalled and self.host.set_factory(given) or given
end

-- What shares max_connections among workers; nil: the pool has them for itself.
local function quota_of(what, own, cdata, host, is_set)
  if own.max_connections_scope == nil and own.max_connections_dict == nil then return nil end
  return host.quota(what, own, cdata, host, is_set)
end

-- Starts a resolver in the place of the one before, if there was one.
local function start_resolver(self, resolver)
  local of = self.will and self.reference or { pool = self }
  self.sink = sink.new {
    resolver = resolver, listener = self.listener, is_weak = self.will ~= nil, before = self.sink,
    host = self.host, recovery = self.given.recovery,
    log = function(level, message)
      if of.pool then of.pool:log(level, message) end
    end,
  }
  dropped.resolver_changed(self)
  sink.start(self.sink)
end

--- Makes a pool and starts it.  See docs/lua.md for the options.
-- @return the pool; mistakes in the options raise an error at the caller's line
function Pool.new(given)
  local pool = Pool.new_for(given, "cueball.pool")
  return pool
end

--- The same, for others that make pools.
-- @param what     who asks, for messages
-- @param recalled nil; or function(slot, lease, cause): it is the pool of a set, whose leases are asked back so
function Pool.new_for(given, what, recalled)
  local own, core = options.split(what, given, OWN)
  local cdata = options.read(what, core, OWN)
  cdata.has_check = has_check(own.connect)
  for _, name in ipairs { "resolver", "connect" } do
    if own[name] == nil then misuse.raise(("%s: option '%s' is required: %s"):format(what, name, OWN[name].range)) end
  end
  local host = hosts.of(what, own.host)
  host.pool_begins() -- what cannot be loaded (for want of descriptors, say) is an error now, before there is half a pool
  local shared = quota_of(what, own, cdata, host, recalled ~= nil)
  local made, message = door.new(cdata, own.seed or host.seed(), host.now(), recalled ~= nil)
  if not made then misuse.raise(what .. ": " .. message) end
  local self = setmetatable({
    name = own.name or type(own.resolver) == "table" and type(own.resolver.name) == "string" and text.message(own.resolver.name)
      or "pool",
    host = host,
    now = host.now,
    core = made,
    given = options.merge({}, core),
    factory = nil, parking = nil, -- see below
    recalled = recalled,
    -- by slot:
    connections = {}, sockets = {}, conns = {}, slot_backends = {}, factories = {}, losses = {},
    lent = {},    -- the handle of its last lease, while its connection is open
    places = {},  -- see watchman: missing while it is leased
    tasks = {},   -- attempts, checks and closes under way
    waiting = {}, -- claims that wait, by the number the core knows them by
    next_claim = 1,
    errors = {},  -- the last one of each backend, by key, since a connection opened
    failures = {}, -- the last one at all: why a backend is dead is not forgotten because another connection opened
    dead_since = {}, dead_longest = {}, -- see explain.note_death
    debts = setmetatable({}, { __mode = "k" }), -- by task, see work
    stoppers = {},
    alarm_at = NEVER,
    is_pumping = false, is_reading = false, is_over = false,
    readies = nil, -- see ready
    is_looking = false, -- see watchman
    holders = setmetatable({}, { __mode = "v" }), claimer = host.claimer, -- see deadlock
    claim_options = ffi.new "cueball_claim_options",
    no_wait = ffi.new("cueball_claim_options", { timeout_ms = lib.CUEBALL_NO_WAIT }),
  }, Pool)
  self.reference = dropped.reference(self)
  self.parking = not recalled and host.parking(self) or nil
  self.factory = factory_for(self, factory_from(what, own.connect))
  -- Where claimers may end without a word, so must their claims: they are held by nobody else.
  if self.parking then setmetatable(self.waiting, { __mode = "v" }) end
  self.watchman = watchman.new(self)
  self:follow(own)
  journal.open(self)
  local reference = recalled and { pool = self } or self.reference -- a set acts by itself, and stays
  self.alarm = host.alarm(function()
    local pool = reference.pool
    if not pool then return end
    pool.alarm_at = NEVER
    pool:input("time_advanced")
  end)
  local of_core = listener.of_core(self)
  self.quota = shared and shared:quota_of(self, cdata, of_core) or nil
  self.listener = listener.new(self, self.quota or of_core)
  if self.quota then self.quota:begin() end
  if not recalled and not self.parking then dropped.watch(self) end
  start_resolver(self, own.resolver)
  registry.add(self)
  self:pump()
  return self
end

-- ----------------------------------------------------- for our own modules --

--- One line in the log.
function Pool:log(level, message)
  pcall(self.host.log, level, text.clean_lines(("cueball %s: %s"):format(self.name, message)))
end

--- Calls what a factory brought; a throw is logged and goes no further.
function Pool:guarded(what, fn, ...)
  local ok, message, kind = xpcall(fn, traceback, ...)
  if not ok then self:log("error", ("the connection factory's %s threw: %s"):format(what, message)) end
  return ok, message, kind
end

--- Remembers why a backend gives trouble; nil: it does not.
function Pool:remember(backend, message)
  self.errors[backend.key] = message
  if not message then return end
  self.failures[backend.key] = message
  self.error = ("%s: %s"):format(backend.key, message)
end

function Pool:failed_with(slot, message)
  self:remember(self.slot_backends[slot], text.message(message))
end

local UNFIT = {
  unfit = tonumber(lib.CUEBALL_CAUSE_UNFIT), worn = tonumber(lib.CUEBALL_CAUSE_WORN), timeout = tonumber(lib.CUEBALL_CAUSE_TIMEOUT),
}

--- A connection is not to be lent again.
-- @param kind whose doing it is, see cueball.condition
function Pool:unfit(slot, message, kind)
  local conn, cause = self.conns[slot], UNFIT[kind]
  if kind == "lost" or kind == "timeout" then self:failed_with(slot, message) end
  if not cause then return self.core:conn_lost(self.now(), conn) end
  self:log("debug", ("a connection to %s is not lent again: %s"):format(self.slot_backends[slot].key, message))
  self.core:conn_unfit(self.now(), conn, cause)
end

-- The connection comes back: is it fit?  If so it is watched while it rests.
function Pool:inspect(slot, connection)
  local factory = self.factories[slot]
  if not factory.inspects then return end
  local socket, conn = self.sockets[slot], self.conns[slot]
  local message, kind = condition.judge(self, factory, connection, socket)
  if not message and socket and next(self.waiting) ~= nil then message, kind = condition.at_handover(socket) end
  if message then return self:unfit(slot, message, kind) end
  if self.conns[slot] == conn then work.rest(self, slot) end
end

--- The same of one that is nothing but a socket.
function Pool:inspect_plain(slot, place)
  local socket = place.plain
  if socket.is_retimed then
    self.factories[slot].bare.set_back(socket)
    socket.is_retimed = false
  end
  local message, kind = socket:rest_fit(place.lost, next(self.waiting) ~= nil and self.now() or nil)
  if message then return self:unfit(slot, message, kind) end
end

--- A claimer closes the connection. That blames nobody, but its socket may know that the backend closed it first, kept an answer back, or
-- delivered.
function Pool:inspect_closed(slot, socket)
  local message, kind = condition.at_close(socket)
  if kind == "worn" then
    self.core:conn_unfit(self.now(), self.conns[slot], UNFIT.worn)
  elseif kind == "lost" or kind == "timeout" then
    self:unfit(slot, message, kind)
  end
end

local function set_alarm(self, deadline)
  if deadline < NEVER then
    self.alarm_at = deadline
    self.alarm:set(deadline)
  end
end

-- Options of ours that can be changed on a living pool.
function Pool:follow(own)
  if own.leak_detection ~= nil then self.leak_detection = own.leak_detection end
  if self.leak_detection == nil then self.leak_detection = true end
  if own.leak_warning_ms ~= nil then self.leak_warning_ms = own.leak_warning_ms or nil end
  if own.claim_sites ~= nil then self.claim_sites = own.claim_sites end
  self.notes_sites = self.claim_sites or self.leak_warning_ms ~= nil
  if self.notes_sites and own.leak_warning_ms ~= nil then watchman.limit_changed(self.watchman) end
  if not self.notes_sites then watchman.forget(self.watchman) end
  if own.deadlock_detection ~= nil then self.deadlock_detection = own.deadlock_detection end
  self.detects_deadlocks = self.deadlock_detection ~= false and not self.recalled
  self.detects_leaks = self.leak_detection and not self.recalled -- a set keeps its leases itself
end

-- The core has let go of its last connection.
local function close_down(self)
  self.is_over = true
  watchman.close(self.watchman)
  self.alarm:close()
  dropped.over(self)
  if self.parking then self.parking.close_down(self) end
  if self.quota then self.quota:close() end
  work.abandon(self)
  self.sink:end_soon(function()
    for _, waiter in ipairs(self.stoppers) do waiter:wake(true) end
    self.stoppers = nil
  end)
end

--- Does what the core wants done, and sees to it that it is asked again in time.
function Pool:pump()
  if self.is_pumping then return end
  self.is_pumping = true
  if self.watchman.has_collected then watchman.sweep(self.watchman) end
  work.drain(self)
  self.is_pumping = false
  if self.core.outlook.events ~= 0 then journal.read(self) end
  if self.quota then self.quota:pumped() end
  if self.readies then ready.look(self) end
  if self.core:state_of() == door.STOPPED then
    if not self.is_over then close_down(self) end
  elseif self.alarm_at == NEVER then
    set_alarm(self, tonumber(self.core:deadline()))
  elseif self.core.outlook.deadline < self.alarm_at then
    set_alarm(self, tonumber(self.core.outlook.deadline))
  end
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
  local lease, message, name
  if span_ms then
    lease, message, name = claim.make_within(self, given, span_ms, "pool:claim")
  else
    lease, message, name = claim.make(self, given, "pool:claim")
  end
  return lease, message, name
end

--- Claims a connection if one is idle.
-- @return a lease; or nil, message, name as pool:claim
function Pool:try_claim()
  if getmetatable(self) ~= Pool then misuse.colon("pool:try_claim") end
  local lease, message, name = claim.try(self)
  return lease, message, name
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
  local lease, message, name
  if span_ms then
    lease, message, name = claim.make_within(self, given, span_ms, "pool:with")
  else
    lease, message, name = claim.make(self, given, "pool:with")
  end
  if not lease then return nil, message, name end
  return work.lend(self, lease, fn)
end

--- Waits until so many connections are open: for start-up probes.
-- @param given nil, or a table:
--   connections  how many, 1 by default, max_connections at most
--   timeout_ms   how long to wait, 0 to 86400000; 0: not at all; false, the default: for ever
-- @return true; or nil, message, name: "timeout", "pool_stopping"
function Pool:ready(given)
  local is_ready, message, name = ready.wait(self, given)
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

-- ------------------------------------------------------------------- words --

Pool.troubles, Pool.refusal = refusal.troubles, refusal.words

-- ------------------------------------------------------------------- state --

--- "starting", "running", "failed", "stopping" or "stopped".
function Pool:state()
  return door.state_name(self.core:state_of())
end

--- The last thing that went wrong with a backend or the resolver: "key: message", or nil.
function Pool:last_error()
  return self.error
end

--- How the resolver does: { failing = boolean, message = text or nil, since_ms = for how long it has failed, or nil }.
function Pool:resolver()
  return self.sink:state()
end

local NO_STATS = { [""] = true, struct_size = true, reserved = true }
local STATS = {}
for _, one in ipairs(native.layout) do
  if one.type == "cueball_stats" and not NO_STATS[one.member] then STATS[#STATS + 1] = one.member end
end

-- Of the causes for which connections are closed.
local CLOSED_BY = {}
for cause in ("TIMEOUT LOST PLAN CLOSE FAIL UNFIT IDLE LIFETIME REMOVED STOP OWNER WORN RENEW MAX_USES"):gmatch "%S+" do
  CLOSED_BY[tonumber(lib["CUEBALL_CAUSE_" .. cause])] = "closed_" .. cause:lower()
end

--- Numbers, in one flat table; docs/lua.md lists them.
function Pool:stats()
  local room, stats = self.core.numbers, {}
  if self.parking then self.parking.end_what_left(self) end
  self.core:stats()
  for _, member in ipairs(STATS) do stats[member] = tonumber(room[member]) end
  for cause, name in pairs(CLOSED_BY) do stats[name] = tonumber(self.core:closed_by(cause)) end
  stats.memory_bytes = tonumber(self.core:memory())
  if self.parking then self.parking.count(self, stats) end
  if self.quota then stats.allowed, stats.allowed_to_all = self.quota:numbers() end
  return stats
end

--- The backends, those preferred first:
-- a list of { key, name, address, port, weight, priority, standby, total, idle, busy, connecting, takes, suspect, dead, ejected,
--   removed, latency_ms, success_rate, error, provenance }
function Pool:backends()
  local core, list = self.core, {}
  local info = core.info
  while core:backend_at(#list) do
    local key = ffi.string(info.key)
    list[#list + 1] = {
      key = key, name = ffi.string(info.name), address = ffi.string(info.address), port = info.port,
      weight = info.weight, priority = info.priority, standby = info.standby,
      total = info.total, idle = info.idle, busy = info.busy, connecting = info.connecting,
      takes = info.takes > 0 and info.takes or nil, suspect = info.suspect,
      dead = info.dead, ejected = info.ejected, removed = info.removed, latency_ms = info.latency_ms,
      success_rate = info.success_rate, error = self.errors[key] or info.dead and self.failures[key] or nil,
      provenance = not info.removed and self.listener:provenance_of(key) or nil,
    }
  end
  return list
end

--- Every state change from now on goes to fn(event); docs/lua.md lists the kinds.
-- @return a function that ends it
function Pool:subscribe(fn)
  if type(fn) ~= "function" then misuse.raise("pool:subscribe: expected a function, got " .. options.show(fn)) end
  return journal.subscribe(self, fn)
end

-- Of our own options.
local CHANGEABLE = { name = true, leak_detection = true, deadlock_detection = true, leak_warning_ms = true, claim_sites = true }

--- Changes options of the living pool; what is not named stays.
-- @param given as for cueball.pool, without resolver, connect, seed and host
-- @return true; mistakes raise an error at the caller's line and change nothing
function Pool:set(given)
  self:set_for(given, "pool:set")
  return true
end

--- The same, for others: `what` as of Pool.new_for.
function Pool:set_for(given, what)
  local own, core = options.split(what, given, OWN)
  for name in pairs(own) do
    if not CHANGEABLE[name] then
      local advice = not self.recalled and (name == "resolver" or name == "connect") and "; use pool:replace" or ""
      misuse.raise(("%s: option '%s' cannot be changed%s"):format(what, name, advice))
    end
  end
  local merged = options.merge(self.given, core)
  local cdata = options.read(what, merged, CHANGEABLE)
  cdata.has_check = has_check(self.factory.given or self.factory)
  if self.quota then self.quota:options_changed(what, core, cdata) end
  self.given, self.name = merged, own.name or self.name
  self:follow(own)
  self:input("options_changed", cdata)
end

-- What pool:renew can be told.
local RENEW_RULES = {
  backend = options.of_type "string",
  over_ms = {
    check = function(value) return type(value) == "number" and value >= 0 and value <= 86400000 end,
    range = "a number of milliseconds from 0 to 86400000",
  },
}
local RENEW_OVER_MS = 10000

--- Connections opened before now are replaced, one after the other: at rest when
-- their time comes, leased ones when they come back after it, attempts under way
-- once they are open.
-- @param given nil, or a table:
--   backend  the key of one backend; all by default
--   over_ms  how long it takes for all, 0 to 86400000, 10000 by default
-- @return true; or nil, message, "not_found" (no such backend)
function Pool:renew(given)
  if given ~= nil then options.check("pool:renew", given, RENEW_RULES) end
  if self.recalled then misuse.raise("pool:renew: a set's connections are recalled, not renewed") end
  local key = given and given.backend
  if self:input("renew", key, given and given.over_ms or RENEW_OVER_MS) >= 0 then return true end
  return nil, "no backend has the key " .. text.show(key), "not_found"
end

--- Another resolver or connection factory; connections and leases are kept, and
-- each is closed by the factory that made it.
-- @param given { resolver = …, connect = …, renew = … }: either or both; renew = true: connections of the factory before are
--   replaced as by pool:renew()
-- @return true; mistakes raise an error at the caller's line
function Pool:replace(given)
  if type(given) == "table" and given.renew ~= nil then
    if type(given.renew) ~= "boolean" or given.renew and not given.connect then
      misuse.raise("pool:replace: option 'renew' must be true or false, beside option 'connect'")
    end
    local renew = given.renew
    given = options.merge({}, given)
    given.renew = nil
    self:replace_for(given)
    return not renew or self:renew()
  end
  self:replace_for(given)
  return true
end

function Pool:replace_for(given)
  local own, core = options.split("pool:replace", given, OWN)
  for _, list in ipairs { own, core } do
    for name in pairs(list) do
      if name ~= "resolver" and name ~= "connect" then
        misuse.raise(("pool:replace: option '%s' is not for replace; use pool:set"):format(tostring(name)))
      end
    end
  end
  if own.connect then
    self.factory = factory_for(self, factory_from("pool:replace", own.connect))
    self:set_for({}, "pool:replace")
  end
  if own.resolver and not self.sink.has_ended then
    self.sink:kill()
    start_resolver(self, own.resolver)
  end
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
  "owner", "state", "last_error", "resolver", "stats", "backends", "subscribe", "set", "renew", "replace", "stop", "ready",
})

return Pool
