--- What happened in a pool: read from the core, put into the log where a person
-- would want to know, and given to those who subscribed.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local journal = {}

local CAPACITY, CAPACITY_FOR_THE_LOG = 4096, 256 -- events kept until they are read, which is after each input
local ALL = 2 ^ (tonumber(lib.CUEBALL_EVENT_LEASE_ENDED) + 1) - 1

local function bit_of(kind) return 2 ^ tonumber(kind) end

-- The few that the log needs; the rest costs nothing until somebody subscribes.
local FOR_THE_LOG = bit_of(lib.CUEBALL_EVENT_POOL_STATE) + bit_of(lib.CUEBALL_EVENT_BACKEND_ADDED)
  + bit_of(lib.CUEBALL_EVENT_BACKEND_REMOVED) + bit_of(lib.CUEBALL_EVENT_BACKEND_DEAD)
  + bit_of(lib.CUEBALL_EVENT_BACKEND_REVIVED) + bit_of(lib.CUEBALL_EVENT_MEMORY_SHORT)

local function watch(pool, mask)
  if lib.cueball_pool_watch(pool.core, mask, mask == FOR_THE_LOG and CAPACITY_FOR_THE_LOG or CAPACITY) < 0 then
    pool:log("error", "no memory to watch events")
  end
end

function journal.open(pool)
  pool.event = ffi.new "cueball_event"
  pool.subscribers = {}
  pool.backend_names = {} -- by handle
  watch(pool, FOR_THE_LOG)
end

--- Every event from now on goes to fn(event), outside of any claim's way.
-- @return a function that ends it
function journal.subscribe(pool, fn)
  if #pool.subscribers == 0 then watch(pool, ALL) end
  table.insert(pool.subscribers, fn)
  local is_ended = false
  return function()
    if is_ended then return end
    is_ended = true
    for index, one in ipairs(pool.subscribers) do
      if one == fn then
        table.remove(pool.subscribers, index)
        break
      end
    end
    if #pool.subscribers == 0 then watch(pool, FOR_THE_LOG) end
  end
end

-- Removed backends may be gone from the core by the time their event is read.
local function backend_key(pool, handle)
  if handle == 0 then return nil end
  local info = pool.backend_info
  if lib.cueball_pool_backend_info(pool.core, handle, info) >= 0 then
    pool.backend_names[handle] = ffi.string(info.key)
  end
  return pool.backend_names[handle]
end

local STATE_NAME = {
  [tonumber(lib.CUEBALL_EVENT_POOL_STATE)] = lib.cueball_pool_state_name,
  [tonumber(lib.CUEBALL_EVENT_SLOT_STATE)] = lib.cueball_slot_state_name,
}

local function handle_of(value)
  return value ~= 0 and tonumber(value) or nil
end

-- The event as a table, without what does not belong to its kind.
local function table_of(pool, event)
  local state_name = STATE_NAME[event.kind]
  local made = {
    time_ms = tonumber(event.time) / 1e6,
    kind = ffi.string(lib.cueball_event_name(event.kind)),
    backend = backend_key(pool, tonumber(event.backend)),
    conn = handle_of(event.conn), claim = handle_of(event.claim), lease = handle_of(event.lease),
    count = event.count,
    missed = event.missed > 0 and event.missed or nil,
  }
  if made.conn then made.slot = event.slot end
  if event.cause ~= 0 then made.cause = ffi.string(lib.cueball_cause_name(event.cause)) end
  if event.error ~= 0 then made.error = ffi.string(lib.cueball_error_name(event.error)) end
  if state_name then
    made.from, made.to = ffi.string(state_name(event.from)), ffi.string(state_name(event.to))
  end
  return made
end

local SAY = {
  pool_state = function(pool, event)
    local level = event.to == "failed" and "error" or "info"
    pool:log(level, ("%s (was %s)"):format(event.to, event.from) .. (event.to == "failed" and ": " .. pool:troubles() or ""))
  end,
  backend_added = function(pool, event) pool:log("debug", "backend " .. event.backend .. " added") end,
  backend_removed = function(pool, event) pool:log("debug", "backend " .. event.backend .. " removed") end,
  backend_dead = function(pool, event)
    local message = pool.errors[event.backend] or "no reason known"
    pool:log("warn", ("backend %s is dead after %d attempts: %s"):format(event.backend, event.count, message))
  end,
  backend_revived = function(pool, event) pool:log("info", "backend " .. event.backend .. " is alive again") end,
  memory_short = function(pool) pool:log("error", "out of memory: connections are opened later") end,
}

local function tell(pool, event)
  for _, fn in ipairs(pool.subscribers) do
    local ok, message = xpcall(fn, debug.traceback, event)
    if not ok then pool:log("error", "a subscriber threw: " .. tostring(message)) end
  end
end

--- Reads what the core has noted.
function journal.read(pool)
  if pool.is_reading then return end
  pool.is_reading = true
  while lib.cueball_pool_next_event(pool.core, pool.event) do
    local event = table_of(pool, pool.event)
    if event.kind == "backend_removed" then pool.backend_names[tonumber(pool.event.backend)] = nil end
    if SAY[event.kind] then SAY[event.kind](pool, event) end
    tell(pool, event)
  end
  pool.is_reading = false
end

return journal
