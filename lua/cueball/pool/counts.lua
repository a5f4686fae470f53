--- What of a pool only grows and can be added to that of other pools: refusals, closes and deaths by their reason, and histograms.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local counts = {}

local MEASURES = { "wait", "lease", "create" }
local MEASURE_OF = {}
for _, name in ipairs(MEASURES) do MEASURE_OF[name] = tonumber(lib["CUEBALL_MEASURE_" .. name:upper()]) end

-- The names of errors and causes, by number.
local ERRORS, CAUSES, ERRORS_MAX = {}, {}, 32
for number = 1, ERRORS_MAX - 1 do
  local name = ffi.string(lib.cueball_error_name(-number))
  if name ~= "" and name ~= "unknown" then ERRORS[#ERRORS + 1] = { code = -number, name = "refused_by_" .. name } end
end
for cause = 0, tonumber(lib.CUEBALL_CAUSE_LAST) do
  local name = ffi.string(lib.cueball_cause_name(cause))
  CAUSES[#CAUSES + 1] = { code = cause, closed = "closed_by_" .. name, died = "died_of_" .. name }
end

--- The upper bounds of histograms, in milliseconds. What took longer than the last is in no bucket but counts.
counts.bounds_ms = { 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000 }
--- What is measured: how long claims waited, leases lasted, attempts took until a connection was open.
counts.measures = MEASURES

local BUCKETS = #counts.bounds_ms
local bounds, room, sum = ffi.new("double[?]", BUCKETS, counts.bounds_ms), ffi.new("uint64_t[?]", BUCKETS), ffi.new "double[1]"

-- The names of a histogram's buckets, not cumulated: "wait_le_1" to "wait_le_18"; what is in none of them is in "wait_above".
local BUCKET_NAMES = {}
for _, measure in ipairs(MEASURES) do
  local names = { above = measure .. "_above", sum = measure .. "_sum_ms" }
  for index = 1, BUCKETS do names[index] = ("%s_le_%d"):format(measure, index) end
  BUCKET_NAMES[measure] = names
end

--- The names of all that there may be.
counts.names = {}
local function note(name)
  counts.names[#counts.names + 1] = name
  return #counts.names - 1
end
for _, one in ipairs(ERRORS) do one.to = note(one.name) end
for _, one in ipairs(CAUSES) do one.closed_to, one.died_to = note(one.closed), note(one.died) end
local HISTOGRAMS = {}
for index, measure in ipairs(MEASURES) do
  local names = BUCKET_NAMES[measure]
  HISTOGRAMS[index] = { measure = MEASURE_OF[measure], first = #counts.names, above = 0, sum = 0 }
  for bucket = 1, BUCKETS do note(names[bucket]) end
  HISTOGRAMS[index].above, HISTOGRAMS[index].sum = note(names.above), note(names.sum)
end

local function fill_histogram(core, to, one)
  local total = tonumber(core:histogram(one.measure, bounds, room, BUCKETS, sum))
  if total == 0 then return end
  local before = 0
  for index = 0, BUCKETS - 1 do
    local count = tonumber(room[index])
    if count > before then to[one.first + index] = count - before end
    before = count
  end
  if total > before then to[one.above] = total - before end
  to[one.sum] = sum[0]
end

--- What only grows and can be added to that of other pools, but for what cueball.pool.stats has, in the order of counts.names.
-- @param to double *, for as many; what is 0 is left as it is
function counts.fill(pool, to)
  local core = pool.core
  for number = 1, #ERRORS do
    local one = ERRORS[number]
    local count = tonumber(core:refused_by(one.code))
    if count > 0 then to[one.to] = count end
  end
  for number = 1, #CAUSES do
    local one = CAUSES[number]
    local closed, died = tonumber(core:closed_by(one.code)), tonumber(core:deaths_by(one.code))
    if closed > 0 then to[one.closed_to] = closed end
    if died > 0 then to[one.died_to] = died end
  end
  for number = 1, #HISTOGRAMS do fill_histogram(core, to, HISTOGRAMS[number]) end
end

local NOTHING = ffi.new("double[?]", #counts.names)
for index = 0, #counts.names - 1 do NOTHING[index] = 0 / 0 end
local found = ffi.new("double[?]", #counts.names)

--- The same as a table; what is 0 is left out.
-- @return "refused_by_overloaded", "closed_by_idle", "died_of_failed"; "wait_le_1" to "wait_le_18", "wait_above" and "wait_sum_ms", the
--   histogram of counts.bounds_ms; the same of leases ("lease_") and of attempts that opened ("create_")
function counts.of(pool)
  ffi.copy(found, NOTHING, ffi.sizeof(NOTHING))
  counts.fill(pool, found)
  local made = {}
  for index, name in ipairs(counts.names) do
    local value = found[index - 1]
    if value == value then made[name] = value end
  end
  return made
end

-- Bounds from 0.01 ms to some 1,000 s, each 1/8 more than the one before.
local FINE = 152
local fine = ffi.new("double[?]", FINE)
for index = 0, FINE - 1 do fine[index] = 0.01 * 1.125 ^ index end

--- How long claims waited so far, to be compared with a later look: what waited_between wants.
function counts.waits(pool)
  local below = ffi.new("uint64_t[?]", FINE)
  return { below = below, total = tonumber(pool.core:histogram(MEASURE_OF.wait, fine, below, FINE, sum)) }
end

--- The q-quantile of the waits between two looks, in milliseconds, to 1/8; 0: nobody waited, or claimed.
function counts.waited_between(earlier, later, q)
  local total = later.total - earlier.total
  if total <= 0 then return 0 end
  local rank = math.max(1, math.ceil(q * total))
  for index = 0, FINE - 1 do
    if tonumber(later.below[index] - earlier.below[index]) >= rank then return index == 0 and 0 or fine[index] end
  end
  return fine[FINE - 1]
end

return counts
