--- What happened in a pool: read from the core, put into the log where a person would want to know, and given to those who subscribed.
--
-- pool.events is written here only.
local native = require "cueball.native"
local door = require "cueball.pool.core"
local faults = require "cueball.pool.faults"
local sentence = require "cueball.log.sentence"
local lib, ffi = native.lib, native.ffi

local events = {}

local CAPACITY, CAPACITY_FOR_THE_LOG = 4096, 256 -- events kept until they are read, which is after each input
local ALL = 2 ^ (tonumber(lib.CUEBALL_EVENT_LAST) + 1) - 1

-- The kinds that the log needs; the others cost nothing until somebody subscribes.
local FOR_THE_LOG, IS_FOR_THE_LOG = 0, {}
for name in ([[ POOL_STATE BACKEND_ADDED BACKEND_REMOVED BACKEND_DEAD BACKEND_REVIVED MEMORY_SHORT BACKEND_EJECTED BACKEND_RETURNED
    BACKEND_LIMITED PRIORITY OVERLOADED RELIEVED PAUSED RESUMED BACKEND_DRAINED BACKEND_RESTORED ]]):gmatch "%S+" do
  FOR_THE_LOG, IS_FOR_THE_LOG[name:lower()] = FOR_THE_LOG + 2 ^ tonumber(lib["CUEBALL_EVENT_" .. name]), true
end

--- The same kinds, by name: a set.
events.FOR_THE_LOG = IS_FOR_THE_LOG

-- Has the core note the kinds that are wanted. Events that were not read are lost by it.
local function watch(pool)
  local self = pool.events
  if self.is_reading then return end -- it is done afterwards
  local mask = #self.subscribers == 0 and FOR_THE_LOG or ALL
  if mask == self.watched then return end
  self.watched = mask
  if pool.core:watch(mask, mask == FOR_THE_LOG and CAPACITY_FOR_THE_LOG or CAPACITY) < 0 then
    pool:log("error", "no memory to watch events", "memory_short")
  end
end

function events.open(pool)
  pool.events = {
    subscribers = {}, is_reading = false,
    watched = nil, -- the kinds that the core notes, a mask
    names = {},    -- keys of backends, by handle
    removed = {},  -- handles of those that were removed and may have slots yet
  }
  watch(pool)
end

--- Every event from now on goes to fn(event), outside of any claim's way.
-- @return a function that ends it
function events.subscribe(pool, fn)
  if pool.core.outlook.events ~= 0 then events.read(pool) end
  local subscriber = { fn = fn }
  table.insert(pool.events.subscribers, subscriber)
  watch(pool)
  return function()
    if pool.core.outlook.events ~= 0 then events.read(pool) end
    local others = {} -- a new list: `tell` may be going through the present one
    for _, one in ipairs(pool.events.subscribers) do
      if one ~= subscriber then others[#others + 1] = one end
    end
    subscriber.fn, pool.events.subscribers = nil, others
    watch(pool)
  end
end

--- Ends the subscriptions of all functions for which is_over(fn) is true.
function events.unsubscribe(pool, is_over)
  local others = {}
  for _, one in ipairs(pool.events.subscribers) do
    if one.fn and is_over(one.fn) then one.fn = nil else others[#others + 1] = one end
  end
  pool.events.subscribers = others
  watch(pool)
end

-- The key of a backend. Removed backends may be gone from the core by the time their event is read; a backend whose adding was among too
-- many events has no key at all.
local function backend_key(pool, handle)
  if handle == 0 then return nil end
  local names, core = pool.events.names, pool.core
  if not names[handle] and core:backend_spec(handle) >= 0 then
    names[handle] = ffi.string(core.spec.key)
  end
  return names[handle] or "?"
end

-- Forgets backends that are gone, after their last event.
local function forget_removed(pool)
  local removed, names = pool.events.removed, pool.events.names
  for handle in pairs(removed) do
    if pool.core:backend_spec(handle) < 0 then
      faults.forget_gone(pool, names[handle])
      removed[handle], names[handle] = nil, nil
    end
  end
end

-- What the resolver said of the backend: the core does not know.
local function provenance_of(pool, kind, key)
  if kind == "backend_added" then return pool.listener:provenance_of(key) end
  return kind == "backend_removed" and pool.listener:take_reason(key) or nil
end

-- Causes that are somebody's fault, by name.
local FAILURES = { failed = true, timeout = true, lost = true, fail = true, unfit = true }

-- What went wrong with a backend, where an event is about that: its text is remembered before the core is told.
local function error_of(pool, made)
  local is_failure = made.kind == "backend_dead" or made.kind == "backend_ejected"
    or made.kind == "slot_state" and FAILURES[made.cause]
  return is_failure and faults.of(pool, made.backend) or nil
end

local function message_of(pool, made)
  if made.kind == "resolver_failed" then return pool.sink and pool.sink.message end
  if made.kind == "pool_state" and made.to == "failed" then return pool:cause() end
  return nil
end

-- Adds what a backend is now.
local function add_change(pool, made, event)
  if pool.core:backend_info(event.backend) < 0 then return end
  local info = pool.core.info
  made.weight, made.priority, made.name = info.weight, info.priority, ffi.string(info.name)
end

local STATE_NAME = {
  [tonumber(lib.CUEBALL_EVENT_POOL_STATE)] = door.state_name,
  [tonumber(lib.CUEBALL_EVENT_SLOT_STATE)] = function(state) return ffi.string(lib.cueball_slot_state_name(state)) end,
}

local function handle_of(value)
  return value ~= 0 and tonumber(value) or nil
end

local COUNTED = {}
for kind in ("backend_dead planned shuffled slot_state claim_waiting backend_ejected backend_limited overloaded priority paused resumed "
  .. "backend_drained"):gmatch "%S+" do
  COUNTED[kind] = true
end

-- The event as a table, without what does not belong to its kind.
local function table_of(pool, event)
  local state_name = STATE_NAME[event.kind]
  local made = {
    time_ms = tonumber(event.time) / 1e6,
    kind = ffi.string(lib.cueball_event_name(event.kind)),
    backend = backend_key(pool, tonumber(event.backend)),
    conn = handle_of(event.conn), claim = handle_of(event.claim), lease = handle_of(event.lease),
    missed = event.missed > 0 and event.missed or nil,
  }
  if made.backend then made.provenance = provenance_of(pool, made.kind, made.backend) end
  if COUNTED[made.kind] then made.count = event.count end
  if made.kind == "backend_limited" then made.wanted = event.from end
  if made.conn then made.slot = event.slot end
  if event.cause ~= 0 then made.cause = ffi.string(lib.cueball_cause_name(event.cause)) end
  if event.error ~= 0 then made.error = ffi.string(lib.cueball_error_name(event.error)) end
  if state_name then
    made.from, made.to = state_name(event.from), state_name(event.to)
  end
  if made.kind == "paused" then made.by = pool.paused_by end
  made.error, made.message = made.error or error_of(pool, made), message_of(pool, made)
  if made.kind == "backend_changed" then add_change(pool, made, event) end
  if made.kind == "paused" then made.by = pool.paused_by end
  return made
end

-- What else follows from an event that is told.
local NOTE = {
  backend_dead = function(pool, event) faults.note_death(pool, event.backend, event.time_ms) end,
  backend_revived = function(pool, event) faults.note_revival(pool, event.backend) end,
}

local function say(pool, event)
  if NOTE[event.kind] then NOTE[event.kind](pool, event) end
  if IS_FOR_THE_LOG[event.kind] then pool:tell(sentence.of(pool, event)) end
end

local function tell(pool, event)
  for _, subscriber in ipairs(pool.events.subscribers) do
    local ok, message = true, nil
    if subscriber.fn then ok, message = pool:call(subscriber.fn, event) end
    if not ok then pool:log("error", "a subscriber threw: " .. message, "subscriber_threw") end
  end
end

-- Tells the resolver whether its pool has failed though backends are known: there may be others by now. The state is asked for, since its
-- event may be among those that were too many.
local function tell_resolver(pool)
  local is_failed = pool.core:state_of() == door.FAILED
  pool.sink:pool_failed(is_failed and pool.core:backend_at(0))
end

--- Reads what the core has noted.
function events.read(pool)
  local self = pool.events
  if self.is_reading then return end
  self.is_reading = true
  local core = pool.core
  while core:next_event() do
    local event = table_of(pool, core.event)
    if event.kind == "backend_removed" then
      self.removed[tonumber(core.event.backend)] = true
      faults.forget(pool, event.backend)
    end
    say(pool, event)
    tell(pool, event)
  end
  if next(self.removed) then forget_removed(pool) end
  self.is_reading = false
  if pool.sink then tell_resolver(pool) end
  watch(pool)
end

return events
