--- The numbers of a pool as bytes, for other workers: of each pool a Record, and behind it its name; the index of each number that is
-- not 0, and these numbers; a Row for each backend, and the keys of all.
--
-- What can go wrong: the bytes are somebody else's. Nothing is taken for a number, a size or a place that was not looked at before.
local ffi = require "cueball.luajit"
local bit = require "bit"
local native = require "cueball.native"
local numbers = require "cueball.monitor.numbers"

local records = {}

local INDEX = numbers.index
local STATES = { "up", "standby", "dead", "ejected", "drained", "removed" } -- of backends
local POOL_STATES = { "starting", "running", "failed", "stopping", "stopped" }
local NUMBER_OF = {}
for number, name in ipairs(STATES) do NUMBER_OF[name] = number end
for number, name in ipairs(POOL_STATES) do NUMBER_OF[name] = number end

local Record = ffi.typeof [[struct {
  int32_t line_size, name_size, number_count, backend_count, keys_size, state;
  double max_connections, failing_ms; /* below 0: there is none */
  int32_t has_error, reserved;
}]]
local Row = ffi.typeof [[struct {
  int32_t key_from, key_size, state, total, idle, busy, connecting, takes, suspect, total_max;
  double since_ms;
}]]
local Rows = ffi.typeof("$[?]", Row)
local ROW_BYTES, RECORD_BYTES = ffi.sizeof(Row), ffi.sizeof(Record)
local INDEX_BYTES, NUMBER_BYTES = 2, 8

local found_index, found_number = ffi.new("uint16_t[?]", numbers.count), ffi.new("double[?]", numbers.count)
local row, record = Row(), Record() -- what is being written or read

--- What two versions of cueball have in common if their records can be read by each other.
do
  local sum = 0
  for index = 0, numbers.count - 1 do
    for at = 1, #numbers.names[index] do sum = (sum * 31 + numbers.names[index]:byte(at)) % 2 ^ 40 end
  end
  records.layout = ("2 %s %d %.0f"):format(native.version, numbers.count, sum)
end

-- Numbers of stats are all there, but for these.
local function is_optional(index)
  return index >= numbers.stats_count or index == INDEX.allowed or index == INDEX.allowed_to_all
end

local EMPTY = numbers.new()
for index = 0, numbers.count - 1 do
  if not is_optional(index) then EMPTY[index] = 0 end
end

-- ------------------------------------------------------------------- writing --

local function gather_numbers(room)
  local count = 0
  for index = 0, numbers.count - 1 do
    local value = room[index]
    if value == value and (value ~= 0 or is_optional(index)) then
      found_index[count], found_number[count] = index, value
      count = count + 1
    end
  end
  return count
end

local function put_rows(writer, backends)
  local from = 0
  for index = 1, #backends do
    local one = backends[index]
    row.key_from, row.key_size, row.state, row.total, row.idle = from, #one.key, NUMBER_OF[one.state], one.total, one.idle
    row.busy, row.connecting, row.takes, row.suspect = one.busy, one.connecting, one.takes or -1, one.suspect or 0
    row.total_max, row.since_ms = one.total_max, one.since_ms
    from = from + #one.key
    writer:put_bytes(row, ROW_BYTES)
  end
  for index = 1, #backends do writer:put(backends[index].key) end
end

local function keys_size_of(backends)
  local size = 0
  for _, one in ipairs(backends) do size = size + #one.key end
  return size
end

local function has_error(pool)
  if pool.last_error then return 1 end
  for _, one in ipairs(pool.backends) do
    if one.error then return 1 end
  end
  return 0
end

--- Writes the record of a pool.
-- @param pool of snapshot.each_record
-- @param line_size how long its line of JSON is
function records.put(writer, pool, line_size)
  local count = gather_numbers(pool.numbers)
  record.line_size, record.name_size, record.number_count, record.backend_count = line_size, #pool.name, count, #pool.backends
  record.keys_size, record.state = keys_size_of(pool.backends), NUMBER_OF[pool.state]
  record.max_connections, record.has_error = pool.options.max_connections or -1, has_error(pool)
  record.failing_ms = pool.resolver.is_failing and (pool.resolver.since_ms or 0) or -1
  writer:put_bytes(record, RECORD_BYTES)
  writer:put(pool.name)
  writer:put_bytes(found_index, count * INDEX_BYTES)
  writer:put_bytes(found_number, count * NUMBER_BYTES)
  put_rows(writer, pool.backends)
end

-- ------------------------------------------------------------------- reading --

--- What the record of a pool that was read says of a backend.
-- @param index from 1 to pool.row_count
-- @return its key, its state, and its numbers: total, idle, busy, connecting, takes (below 0: not limited), suspect, total_max, since_ms
function records.backend(pool, index)
  local one = pool.rows[index - 1]
  return ffi.string(pool.keys + one.key_from, one.key_size), STATES[one.state], one
end

-- Of a double, as four numbers of 16 bits: which has the exponent, and the exponent of what is no finite number. LuaJIT takes some of
-- these for values of other types (its own NaN is all that it knows), so none is read before it was looked at.
local HIGH, EXPONENT = ffi.abi "le" and 3 or 0, 0x7ff0
local quarters_of = ffi.typeof "const uint16_t *"
local doubles_of, bytes_of = ffi.typeof "const double *", ffi.typeof "const uint8_t *"

local function is_finite(doubles, index)
  return bit.band(ffi.cast(quarters_of, doubles)[4 * index + HIGH], EXPONENT) ~= EXPONENT
end

-- The doubles in a struct, from there on.
local function doubles_in(struct, offset)
  return ffi.cast(doubles_of, ffi.cast(bytes_of, struct) + offset)
end

local function find_numbers(at, count)
  ffi.copy(found_index, at, count * INDEX_BYTES)
  ffi.copy(found_number, at + count * INDEX_BYTES, count * NUMBER_BYTES)
end

-- Are the numbers at `at` ours?
local function are_numbers(at, count)
  find_numbers(at, count)
  for number = 0, count - 1 do
    if found_index[number] >= numbers.count or not is_finite(found_number, number) or found_number[number] < 0 then return false end
  end
  return true
end

--- The numbers of a pool that was read, as cueball.monitor.numbers has them.
function records.numbers(pool)
  local room, count = numbers.new(), pool.number_count
  ffi.copy(room, EMPTY, ffi.sizeof(room))
  find_numbers(pool.numbers_at, count)
  for number = 0, count - 1 do room[found_index[number]] = found_number[number] end
  return room
end

--- Adds them to a sum.
function records.add(sum, pool)
  local count = pool.number_count
  find_numbers(pool.numbers_at, count)
  for number = 0, count - 1 do numbers.add_one(sum, found_index[number], found_number[number]) end
end

-- What the numbers found have at an index; nil: nothing.
local function found(wanted, count)
  for number = 0, count - 1 do
    if found_index[number] == wanted then return found_number[number] end
  end
end

local SINCE_AT = ffi.offsetof(Row, "since_ms")

-- @return the rows; nil: they are none of ours
local function read_rows(at)
  local count, from = record.backend_count, 0
  local rows = Rows(count)
  ffi.copy(rows, at, count * ROW_BYTES)
  for index = 0, count - 1 do
    local one = rows[index]
    if not STATES[one.state] or one.key_size < 0 or one.key_from ~= from then return nil end
    if not is_finite(doubles_in(one, SINCE_AT), 0) or one.since_ms < 0 then return nil end
    from = from + one.key_size
  end
  return from == record.keys_size and rows or nil
end

-- How many bytes come behind the record; nil: it is none.
local function size_behind()
  if record.line_size < 0 or record.name_size < 0 or record.keys_size < 0 or record.backend_count < 0 then return nil end
  if record.number_count < 0 or record.number_count > numbers.count or not POOL_STATES[record.state] then return nil end
  return record.name_size + record.number_count * (INDEX_BYTES + NUMBER_BYTES) + record.backend_count * ROW_BYTES + record.keys_size
end

local DOUBLES_AT = ffi.offsetof(Record, "max_connections")

--- Reads a pool by its record.
-- @param text that it is in
-- @param at, size a pointer to it, and how many bytes are left
-- @param from, to where in the text its line begins, and where the lines end
-- @return the pool: name, state, from, to (its line, in the text), max_connections, allowed_to_all, failing_ms, has_error, row_count (see
--   records.backend; records.numbers, records.add have the numbers); and how many bytes the record took; nil: it is none
function records.read(text, at, size, from, to)
  if size < RECORD_BYTES then return nil end
  ffi.copy(record, at, RECORD_BYTES)
  local behind = size_behind()
  if not behind or behind > size - RECORD_BYTES or from + record.line_size - 1 > to then return nil end
  at = at + RECORD_BYTES
  local numbers_at, count = at + record.name_size, record.number_count
  local rows_at = numbers_at + count * (INDEX_BYTES + NUMBER_BYTES)
  local rows = read_rows(rows_at)
  if not rows or not are_numbers(numbers_at, count) then return nil end
  local doubles = doubles_in(record, DOUBLES_AT)
  if not (is_finite(doubles, 0) and is_finite(doubles, 1)) then return nil end
  local most, failing = record.max_connections, record.failing_ms
  return {
    name = ffi.string(at, record.name_size), state = POOL_STATES[record.state], numbers_at = numbers_at, number_count = count,
    from = from, to = from + record.line_size - 1, max_connections = most >= 0 and most or nil,
    allowed_to_all = found(INDEX.allowed_to_all, count),
    failing_ms = failing >= 0 and failing or nil, has_error = record.has_error ~= 0, row_count = record.backend_count, rows = rows,
    keys = rows_at + record.backend_count * ROW_BYTES, text = text, -- in which the keys and the line are
  }, RECORD_BYTES + behind
end

return records
