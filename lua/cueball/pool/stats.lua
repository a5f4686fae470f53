--- What a pool looks like at one moment, as plain tables. These are methods of the pool.
local faults = require "cueball.pool.faults"
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local stats = {}

local NO_NUMBERS = { [""] = true, struct_size = true, reserved = true }
local MEMBERS = {}
for _, one in ipairs(native.layout) do
  if one.type == "cueball_stats" and not NO_NUMBERS[one.member] then MEMBERS[#MEMBERS + 1] = one.member end
end

-- The causes for which connections are closed.
local CLOSED_BY = {}
for cause in ("TIMEOUT LOST PLAN CLOSE FAIL UNFIT IDLE LIFETIME REMOVED STOP OWNER WORN RENEW MAX_USES"):gmatch "%S+" do
  CLOSED_BY[tonumber(lib["CUEBALL_CAUSE_" .. cause])] = "closed_" .. cause:lower()
end

--- Numbers, in one flat table; docs/lua.md lists them.
function stats.numbers(pool)
  local core, numbers = pool.core, {}
  if pool.parking then pool.parking.end_what_left(pool) end
  core:stats()
  local room = core.numbers
  for _, member in ipairs(MEMBERS) do numbers[member] = tonumber(room[member]) end
  for cause, name in pairs(CLOSED_BY) do numbers[name] = tonumber(core:closed_by(cause)) end
  numbers.memory_bytes = tonumber(core:memory())
  if pool.parking then pool.parking.count(pool, numbers) end
  if pool.quota then numbers.allowed, numbers.allowed_to_all = pool.quota:numbers() end
  return numbers
end

--- The backends, those preferred first:
-- a list of { key, name, address, port, weight, priority, standby, total, idle, busy, connecting, takes, suspect, dead, ejected,
--   removed, latency_ms, success_rate, error, provenance }
function stats.backends(pool)
  local core, list = pool.core, {}
  local info = core.info
  while core:backend_at(#list) do
    local key = ffi.string(info.key)
    list[#list + 1] = {
      key = key, name = ffi.string(info.name), address = ffi.string(info.address), port = info.port,
      weight = info.weight, priority = info.priority, standby = info.standby,
      total = info.total, idle = info.idle, busy = info.busy, connecting = info.connecting,
      takes = info.takes > 0 and info.takes or nil, suspect = info.suspect,
      dead = info.dead, ejected = info.ejected, removed = info.removed, latency_ms = info.latency_ms,
      success_rate = info.success_rate, error = faults.of_now(pool, key, info.dead),
      provenance = not info.removed and pool.listener:provenance_of(key) or nil,
    }
  end
  return list
end

return stats
