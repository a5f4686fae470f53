--- The numbers of a pool in a fixed order, so that those of many pools and workers are added up, sent and written without a table of names
-- for each: pool:stats() first, pool:counts() after it.  What is not there is NaN.
--
--   local room = numbers.of_pool(pool)     room[numbers.index.claims]
local counts = require "cueball.pool.counts"
local ffi = require "cueball.luajit"
local stats = require "cueball.pool.stats"

local numbers = {}

--- Names by index, from 0, and indexes by name.
local names, index_of = {}, {}
local count = 0
local function note(list)
  for _, name in ipairs(list) do
    if not index_of[name] then
      names[count], index_of[name], count = name, count, count + 1
    end
  end
end
note(stats.names)
local stats_count = count
note(counts.names)
numbers.names, numbers.index = names, index_of
--- How many there are; those below `stats_count` are of pool:stats().
numbers.count, numbers.stats_count = count, stats_count

--- The numbers of pool:stats that only grow.
numbers.counters = {
  "claims", "granted", "granted_at_once", "claim_timeouts", "claims_refused", "claims_cancelled", "released", "leases_closed",
  "leases_failed", "leases_revoked", "attempts", "opened", "open_failures", "open_timeouts", "lost", "closed", "checks", "checks_failed",
  "plans", "shuffles", "backend_deaths", "ejections",
}

-- Those that are the same in all workers, or the worst of all, and so do not add up.
local GREATEST = {
  backends = true, dead_backends = true, ejected_backends = true, waiting_max = true, wait_ms_max = true, lease_ms_max = true,
  create_ms_max = true, allowed_to_all = true,
}

-- How each is added up; and the indexes of what only grows.
local SUM, MOST, NOT = 0, 1, 2
local KINDS, GROWING = ffi.new("uint8_t[?]", count), {}
for index = 0, count - 1 do
  local name = names[index]
  KINDS[index] = GREATEST[name] and MOST or name:find "_p%d+$" and NOT or SUM
  if index >= stats_count then GROWING[#GROWING + 1] = index end
end
for _, name in ipairs(numbers.counters) do GROWING[#GROWING + 1] = index_of[name] end

local Room = ffi.typeof("double[" .. count .. "]")
local NOTHING = Room()
for index = 0, count - 1 do NOTHING[index] = 0 / 0 end
local BYTES = ffi.sizeof(Room)

--- Room in which nothing is.
function numbers.new()
  local room = Room()
  ffi.copy(room, NOTHING, BYTES)
  return room
end

--- Room with the same numbers.
function numbers.copy(room)
  local made = Room()
  ffi.copy(made, room, BYTES)
  return made
end

--- Does this number mean nothing in a sum?
function numbers.is_of_one(index)
  return KINDS[index] == NOT
end

--- Those of a pool.
function numbers.of_pool(pool)
  local room = numbers.new()
  stats.fill(pool, room)
  counts.fill(pool, room + stats_count)
  return room
end

--- Those that a pool had.
-- @param of_stats, of_counts as pool:stats() and pool:counts() return them
function numbers.of(of_stats, of_counts)
  local room = numbers.new()
  for index = 0, count - 1 do
    local from = index < stats_count and of_stats or of_counts
    local value = from[names[index]]
    if type(value) == "number" then room[index] = value end
  end
  return room
end

--- Adds one number to the same of a sum, by its kind.  Quantiles cannot be added up and are left out.
function numbers.add_one(sum, index, value)
  local kind, known = KINDS[index], sum[index]
  if kind == NOT then return end
  if known ~= known then
    sum[index] = value
  elseif kind == SUM then
    sum[index] = known + value
  elseif value > known then
    sum[index] = value
  end
end
local add_one = numbers.add_one

--- Adds `from` to `sum`: what there is.
function numbers.add(sum, from)
  for index = 0, count - 1 do
    local value = from[index]
    if value == value then add_one(sum, index, value) end
  end
end

--- What only grows, as a table by name.
-- @param base nil, or the same of an earlier look, which is subtracted
function numbers.counted(room, base)
  local made = {}
  for _, index in ipairs(GROWING) do
    local name, value = names[index], room[index]
    if value == value then made[name] = value - (base and base[name] or 0) end
  end
  return made
end

--- Sets numbers by their names; others are left out.
function numbers.set(room, by_name)
  for name, value in pairs(by_name) do
    local index = index_of[name]
    if index then room[index] = value end
  end
end

--- Adds numbers by their names; others are left out.
function numbers.count_in(room, by_name)
  for name, value in pairs(by_name) do
    local index = index_of[name]
    if index then room[index] = room[index] == room[index] and room[index] + value or value end
  end
end

--- The numbers of a pool that may have tables instead, as a worker of another version has; from then on it has both.
function numbers.ensure(pool)
  local room = pool.numbers or numbers.of(pool.stats, pool.counts or {})
  pool.numbers = room
  return room
end

--- The same as tables.
-- @param is_sum without what cannot be added up
-- @return as pool:stats() and pool:counts() return them
function numbers.tables(room, is_sum)
  local of_stats, of_counts = {}, {}
  for index = 0, count - 1 do
    local value = room[index]
    if value == value and not (is_sum and KINDS[index] == NOT) then
      local made = index < stats_count and of_stats or of_counts
      made[names[index]] = value
    end
  end
  return of_stats, of_counts
end

return numbers
