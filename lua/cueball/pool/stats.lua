--- What a pool looks like at one moment, as plain tables. These are methods of the pool.
local faults = require "cueball.pool.faults"
local manage = require "cueball.pool.manage"
local native = require "cueball.native"
local new_table = require "table.new"
local lib, ffi = native.lib, native.ffi

local stats = {}

local NO_NUMBERS = { [""] = true, struct_size = true, reserved = true }

--- The names of a pool's numbers.
stats.names = { "memory_bytes", "paused_ms", "allowed", "allowed_to_all" }

local function note(name) stats.names[#stats.names + 1] = name end

local members = {}
for _, one in ipairs(native.layout) do
  if one.type == "cueball_stats" and not NO_NUMBERS[one.member] then
    members[#members + 1] = one
    note(one.member)
  end
end

-- The causes for which connections are closed.
local closed_by = {}
for cause in ("TIMEOUT LOST PLAN CLOSE FAIL UNFIT IDLE LIFETIME REMOVED STOP OWNER WORN RENEW MAX_USES DRAIN KILLED"):gmatch "%S+" do
  closed_by[#closed_by + 1] = { cause = tonumber(lib["CUEBALL_CAUSE_" .. cause]), name = "closed_" .. cause:lower() }
  note(closed_by[#closed_by].name)
end

table.sort(stats.names)
local INDEX = {}
for index, name in ipairs(stats.names) do INDEX[name] = index - 1 end

-- Where a number is in the core's struct, by its type, and where it goes: loops over these are compiled, unlike those over names.
local SMALL, LARGE, TIMES = {}, {}, {} -- uint32_t, uint64_t, double
do
  local sample = ffi.new "cueball_stats"
  for _, one in ipairs(members) do
    local list = one.size == 4 and SMALL or type(sample[one.member]) == "cdata" and LARGE or TIMES
    list[#list + 1] = { from = one.offset / one.size, to = INDEX[one.member] }
  end
  for _, one in ipairs(closed_by) do one.to = INDEX[one.name] end
end

local NONE = 0 / 0
local REOPENED = { "attempts", "opened", "lost" }

local function copy_members(room, numbers)
  local small, large = ffi.cast("const uint32_t *", numbers), ffi.cast("const uint64_t *", numbers)
  local times = ffi.cast("const double *", numbers)
  for index = 1, #SMALL do room[SMALL[index].to] = small[SMALL[index].from] end
  for index = 1, #LARGE do room[LARGE[index].to] = tonumber(large[LARGE[index].from]) end
  for index = 1, #TIMES do room[TIMES[index].to] = times[TIMES[index].from] end
end

--- A pool's numbers in the order of stats.names; NaN: there is none.
-- @param room double *, for as many
function stats.fill(pool, room)
  local core = pool.core
  if pool.parking then pool.parking.end_what_left(pool) end
  core:stats()
  copy_members(room, core.numbers)
  for index = 1, #closed_by do room[closed_by[index].to] = tonumber(core:closed_by(closed_by[index].cause)) end
  room[INDEX.memory_bytes] = tonumber(core:memory())
  local _, paused_ms = manage.methods.is_paused(pool)
  room[INDEX.paused_ms] = paused_ms or 0
  if pool.parking then
    local reopened = pool.parking.reopened -- what the core does not hear of: each stands for one that was lost
    for _, name in ipairs(REOPENED) do room[INDEX[name]] = room[INDEX[name]] + reopened end
  end
  local allowed, allowed_to_all
  if pool.quota then allowed, allowed_to_all = pool.quota:numbers() end
  room[INDEX.allowed], room[INDEX.allowed_to_all] = allowed or NONE, allowed_to_all or NONE
end

local shared_room = ffi.new("double[?]", #stats.names)

--- Numbers, in one flat table; docs/lua.md lists them.
function stats.numbers(pool)
  stats.fill(pool, shared_room)
  local numbers = {}
  for index, name in ipairs(stats.names) do
    local value = shared_room[index - 1]
    if value == value then numbers[name] = value end
  end
  return numbers
end

local NEVER = 0xffffffffffffffffULL

-- How long until then; nil: nobody knows.
local function back_in(pool, at)
  if at == NEVER then return nil end
  return math.max(0, (tonumber(at) - pool.now()) / 1e6)
end

-- What the core said of a backend last, in a table.
local function fill_backend(one, pool, info, now)
  local key = ffi.string(info.key)
  one.key, one.name, one.address, one.port = key, ffi.string(info.name), ffi.string(info.address), info.port
  one.weight, one.priority, one.standby, one.want = info.weight, info.priority, info.standby, info.want
  one.total, one.total_max, one.idle, one.busy, one.connecting = info.total, info.total_max, info.idle, info.busy, info.connecting
  one.takes, one.suspect = info.takes > 0 and info.takes or nil, info.suspect
  one.dead, one.ejected, one.removed, one.drained = info.dead, info.ejected, info.removed, info.drained
  one.attempt = info.attempt > 0 and info.attempt or nil
  one.since_ms, one.back_in_ms = math.max(0, (now - tonumber(info.since)) / 1e6), back_in(pool, info.back_at)
  one.latency_ms, one.success_rate, one.error = info.latency_ms, info.success_rate, faults.of_now(pool, key, info.dead)
  one.last_error, one.last_error_ago_ms = faults.last_of(pool, key)
  one.provenance = not info.removed and pool.listener:provenance_of(key) or nil
end

local MEMBERS = 27 -- of such a table, and the state that some give it

--- As stats.backends, for those who look at many pools, one after the other.
-- @param list of an earlier look, which is of no more use: it is filled anew; or {}
-- @return the list
function stats.fill_backends(pool, list)
  local core, count, now = pool.core, 0, pool.now()
  while core:backend_at(count) do
    count = count + 1
    local one = list[count]
    if not one then
      one = new_table(0, MEMBERS)
      list[count] = one
    end
    fill_backend(one, pool, core.info, now)
  end
  for index = #list, count + 1, -1 do list[index] = nil end
  return list
end

--- The backends, those preferred first:
-- a list of { key, name, address, port, weight, priority, standby, total, total_max, idle, busy, connecting, takes, suspect, dead, ejected,
--   removed, drained, want, attempt, since_ms, back_in_ms, latency_ms, success_rate, error, last_error,
--   last_error_ago_ms, provenance }
function stats.backends(pool)
  return stats.fill_backends(pool, {})
end

local STATES = { backoff = "backing_off" } -- that have another name in Lua

-- What the core said of a slot. Other threads may have changed it meanwhile: the backend is asked for by what was copied.
local function connection_of(pool, slot, now, key)
  local since, opened_at, due = tonumber(slot.since), tonumber(slot.opened_at), slot.due
  local state = ffi.string(lib.cueball_slot_state_name(slot.state))
  local is_connected = opened_at > 0
  local one = {
    slot = slot.slot, backend = key, state = STATES[state] or state, since_ms = math.max(0, (now - since) / 1e6),
    attempt = slot.attempt > 0 and slot.attempt or nil, uses = is_connected and slot.uses or nil,
    age_ms = is_connected and math.max(0, (now - opened_at) / 1e6) or nil,
    lease = slot.lease ~= 0 and tonumber(slot.lease) or nil,
    unproven = slot.unproven or nil, suspect = slot.suspect or nil,
  }
  if state == "backoff" then one.next_attempt_ms = back_in(pool, due) end
  if slot.on_return ~= 0 then one.closes_for = ffi.string(lib.cueball_cause_name(slot.on_return)) end
  if state == "backoff" or state == "connecting" then one.error = faults.of_now(pool, key, true) end
  return one
end

--- Every slot that there is, by backend in their order, and by number:
-- a list of { slot, backend, state, since_ms, attempt, uses, age_ms, lease, next_attempt_ms, closes_for, unproven, suspect, error }
function stats.connections(pool)
  local core, now, list, ranks, keys = pool.core, pool.now(), {}, {}, {}
  local info, slot, index = core.info, core.slot, 0
  while core:backend_at(index) do
    local handle = tonumber(info.backend)
    ranks[handle], keys[handle] = index, ffi.string(info.key)
    index = index + 1
  end
  index = 0
  while core:slot_at(index) do
    local handle = slot.state ~= lib.CUEBALL_SLOT_FREE and tonumber(slot.backend)
    if handle and keys[handle] then
      local one = connection_of(pool, slot, now, keys[handle])
      one.rank, list[#list + 1] = ranks[handle], one
    end
    index = index + 1
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    return a.slot < b.slot
  end)
  for _, one in ipairs(list) do one.rank = nil end
  return list
end

return stats
