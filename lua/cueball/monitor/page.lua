--- What one worker shows, as a text that others read: a line of JSON about the worker, a line of JSON for each pool, and behind them the
-- records, which have the numbers of each pool as numbers.
--
-- The happy path: who reads a page adds up the records, and hands the lines on as they are. A line is decoded only where it has what no
-- record has and nobody else has told yet: the address of a backend that is new, an error.
-- What can go wrong: the page is of another version of cueball, whose numbers are others, or it has no records: then every line is decoded.
-- It is something else: then it is nothing.
local ffi = require "cueball.luajit"
local bit = require "bit"
local json = require "cueball.monitor.json"
local native = require "cueball.native"
local numbers = require "cueball.monitor.numbers"
local writers = require "cueball.monitor.writer"

local page = {}

local HEAD = json.members { "version", "pid", "id", "time_s", "is_exiting", "problem", "age_s", "layout", "lines_size", "pool_count" }
local INDEX = numbers.index

-- --------------------------------------------------------------------- lines --

local BEFORE = json.members { "name", "state", "states", "workers", "max_connections", "options", "resolver", "last_error" }
local BACKENDS = json.members {
  "key", "name", "address", "port", "weight", "priority", "state", "states", "total", "idle", "busy", "connecting", "takes", "suspect",
  "want", "attempt", "back_in_ms", "since_ms", "total_max", "latency_ms", "success_rate", "error", "provenance",
}

local FIRST, NEXT = {}, {} -- by index of a number
-- Most numbers are 0, and so are those beside them: ,"attempts":0,"backends":0 … of all, and where each begins.
local ZEROS, ZERO_AT
do
  local all = ""
  ZERO_AT = ffi.new("int32_t[?]", numbers.count + 1)
  for index = 0, numbers.count - 1 do
    FIRST[index], NEXT[index] = ('"%s":'):format(numbers.names[index]), (',"%s":'):format(numbers.names[index])
    all = all .. NEXT[index] .. "0"
    ZERO_AT[index + 1] = #all
  end
  ZEROS = ffi.new("uint8_t[?]", #all)
  ffi.copy(ZEROS, all, #all)
end

-- @return behind the numbers from there on that are 0
local function end_of_zeros(room, index, to)
  while index <= to and room[index] == 0 do index = index + 1 end
  return index
end

local function put_numbers(writer, room, from, to)
  local lead, index = FIRST, from
  while index <= to do
    local value = room[index]
    if value == 0 and lead == NEXT then
      local behind = end_of_zeros(room, index, to)
      writer:put_bytes(ZEROS + ZERO_AT[index], ZERO_AT[behind] - ZERO_AT[index])
      index = behind
    else
      if value == value then
        writer:put(lead[index])
        writer:number(value)
        lead = NEXT
      end
      index = index + 1
    end
  end
end

-- A pool: of a record, or of several added up.
local function put_pool(writer, pool, pause)
  json.put_members(writer, pool, BEFORE)
  writer:put ',"stats":{'
  put_numbers(writer, pool.numbers, 0, numbers.stats_count - 1)
  writer:put '},"counts":{'
  put_numbers(writer, pool.numbers, numbers.stats_count, numbers.count - 1)
  writer:put '},"backends":['
  for index, backend in ipairs(pool.backends) do
    if index > 1 then writer:put "," end
    json.put_members(writer, backend, BACKENDS)
    writer:put "}"
    if index % 16 == 0 then pause() end
  end
  writer:put "]}"
end

-- ------------------------------------------------------------------- records --

local STATES = { "up", "standby", "dead", "ejected", "drained", "removed" } -- of backends
local POOL_STATES = { "starting", "running", "failed", "stopping", "stopped" }
local NUMBER_OF = {}
for number, name in ipairs(STATES) do NUMBER_OF[name] = number end
for number, name in ipairs(POOL_STATES) do NUMBER_OF[name] = number end

-- Of each pool a Record, and behind it: the name; the index of each number that is not 0, and these numbers; a Row for each backend, and
-- the keys of all.
local Record = ffi.typeof [[struct {
  int32_t line_size, name_size, number_count, backend_count, keys_size, state;
  double max_connections, failing_ms; /* below 0: there is none */
  int32_t has_error, reserved;
}]]
local Row = ffi.typeof "struct { int32_t key_from, key_size, state, total, idle, busy, connecting, takes, suspect; }"
local Rows = ffi.typeof("$[?]", Row)
local ROW_BYTES, RECORD_BYTES = ffi.sizeof(Row), ffi.sizeof(Record)
local INDEX_BYTES, NUMBER_BYTES = 2, 8

local found_index, found_number = ffi.new("uint16_t[?]", numbers.count), ffi.new("double[?]", numbers.count)

-- What two versions of cueball have in common if their records can be read by each other.
local layout
do
  local sum = 0
  for index = 0, numbers.count - 1 do
    for at = 1, #numbers.names[index] do sum = (sum * 31 + numbers.names[index]:byte(at)) % 2 ^ 40 end
  end
  layout = ("1 %s %d %.0f"):format(native.version, numbers.count, sum)
end

-- Numbers of stats are all there, but for these.
local function is_optional(index)
  return index >= numbers.stats_count or index == INDEX.allowed or index == INDEX.allowed_to_all
end

local EMPTY = numbers.new()
for index = 0, numbers.count - 1 do
  if not is_optional(index) then EMPTY[index] = 0 end
end

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

local one_row, one_record = Row(), Record() -- what is being written or read

local function put_rows(writer, backends)
  local count = #backends
  if count == 0 then return end
  local from = 0
  for index = 1, count do
    local one = backends[index]
    one_row.key_from, one_row.key_size, one_row.state = from, #one.key, NUMBER_OF[one.state]
    one_row.total, one_row.idle = one.total, one.idle
    one_row.busy, one_row.connecting, one_row.takes, one_row.suspect = one.busy, one.connecting, one.takes or -1, one.suspect or 0
    from = from + #one.key
    writer:put_bytes(one_row, ROW_BYTES)
  end
  for index = 1, count do writer:put(backends[index].key) end
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

local function put_record(writer, pool, line_size)
  local count = gather_numbers(pool.numbers)
  one_record.line_size, one_record.name_size = line_size, #pool.name
  one_record.number_count, one_record.backend_count = count, #pool.backends
  one_record.keys_size, one_record.state = keys_size_of(pool.backends), NUMBER_OF[pool.state]
  one_record.max_connections, one_record.has_error = pool.options.max_connections or -1, has_error(pool)
  one_record.failing_ms = pool.resolver.is_failing and (pool.resolver.since_ms or 0) or -1
  writer:put_bytes(one_record, RECORD_BYTES)
  writer:put(pool.name)
  writer:put_bytes(found_index, count * INDEX_BYTES)
  writer:put_bytes(found_number, count * NUMBER_BYTES)
  put_rows(writer, pool.backends)
end

-- ------------------------------------------------------------------- writing --

local HEAD_SIZE = 512 -- of the head, with blanks behind it; a longer one has no pools
local BLANK_HEAD = (" "):rep(HEAD_SIZE) .. "\n"

local lines_expected, records_expected = 0, 0 -- a page is as long as the one before, about

local function head_of(taken, lines_size, pool_count)
  local writer, whole = writers.kept()
  json.put_members(writer, setmetatable({ layout = layout, lines_size = lines_size, pool_count = pool_count }, { __index = taken }), HEAD)
  writer:put "}"
  return whole()
end

-- What is written of a worker: version, pid, id, time_s, is_exiting and problem are to be set.
local Page = {}
Page.__index = Page

--- The page of this worker, without pools as yet.
-- @param has_lines with the lines, which are for people; without them it is for those who count
function page.new(has_lines)
  return setmetatable({ pools = json.list {}, has_lines = has_lines, writer = nil, records = nil }, Page)
end

--- Notes a pool, of which nothing is to be read.
-- @param record of snapshot.each_record, which may change afterwards
function Page:note(record)
  self.pools[#self.pools + 1] = { name = record.name, numbers = record.numbers }
end

local function begin(self)
  self.writer = writers.new(nil, self.has_lines and lines_expected) -- the head and the lines; then the records come behind them
  self.records = writers.new(nil, records_expected)
  self.writer:put(BLANK_HEAD)
end

--- Writes a pool.
-- @param pause of cueball.monitor.slices
function Page:add(record, pause)
  if not self.writer then begin(self) end
  local writer, before = self.writer, nil
  if self.has_lines then
    if #self.pools > 0 then writer:put ",\n" end
    before = writer.used
    put_pool(writer, record, pause)
  end
  put_record(self.records, record, before and writer.used - before or 0)
  self:note(record)
end

--- The whole page, for others to read.
function Page:text()
  if not self.writer then return page.short(self) end
  local writer, records = self.writer, self.records
  local to = writer.used
  local head = head_of(self, to - #BLANK_HEAD, #self.pools)
  if #head > HEAD_SIZE then error("the head of a page is too long: " .. head, 0) end
  if self.has_lines then lines_expected = math.ceil((to + records.used) * 1.1) end
  records_expected = math.ceil(records.used * 1.1)
  ffi.copy(writer.room, head, #head)
  writer:put "\n"
  writer:put_bytes(records.room, records.used)
  local text = ffi.string(writer.room, writer.used)
  writer.used = to
  return text
end

--- Writes the JSON of each pool, with commas between.
function Page:put_lines(writer)
  local own = self.writer
  if own then writer:put_bytes(own.room + #BLANK_HEAD, own.used - #BLANK_HEAD) end
end

--- Frees what was written; the pools stay.
function Page:clear()
  if self.writer then
    self.writer:clear()
    self.records:clear()
  end
  self.writer, self.records = nil, nil
end

--- The page of a worker without pools.
function page.short(taken)
  return head_of(taken, 0, 0) .. "\n\n"
end

-- ------------------------------------------------------------------- reading --

-- What is read of an object, by the names of its members; "?" after a type: it may be missing.
local WORKER = { version = "string", time_s = "number", pid = "number", id = "number?", is_exiting = "boolean?", problem = "string?" }
local POOL = { name = "string", state = "string", stats = "table", counts = "table?", backends = "table", options = "table",
  resolver = "table", last_error = "string?" }
local OPTIONS, RESOLVER = { max_connections = "number?" }, { is_failing = "boolean?", since_ms = "number?", message = "string?" }
local BACKEND = { key = "string", state = "string", total = "number", idle = "number", busy = "number", connecting = "number",
  takes = "number?", suspect = "number?", error = "string?", name = "string?", address = "string?", port = "number?", weight = "number?",
  priority = "number?" }

local function has(object, members)
  if type(object) ~= "table" then return false end
  for name, kind in pairs(members) do
    local found = type(object[name])
    if found ~= kind and found .. "?" ~= kind and not (found == "nil" and kind:sub(-1) == "?") then return false end
  end
  return true
end

local function is_pool(value)
  if not (has(value, POOL) and has(value.options, OPTIONS) and has(value.resolver, RESOLVER)) then return false end
  for _, backend in ipairs(value.backends) do
    if not has(backend, BACKEND) then return false end
  end
  return true
end

local BLANK = { state = "stopped", options = {}, backends = {}, resolver = { is_failing = false } }

-- The line of a pool, decoded when it is wanted first.
local function decoded(pool)
  local whole = rawget(pool, "whole")
  if not whole then
    whole = json.decode(pool.text:sub(pool.from, pool.to))
    whole = is_pool(whole) and whole or BLANK
    pool.whole = whole
  end
  return whole
end

local IN_LINE = { options = true, resolver = true, last_error = true, backends = true }
local Pool = { __index = function(self, name) return IN_LINE[name] and decoded(self)[name] or nil end }

--- What the record of a pool that was read says of a backend.
-- @param index from 1 to pool.row_count
-- @return its key, its state, and its numbers: total, idle, busy, connecting, takes (below 0: not limited), suspect
function page.backend(pool, index)
  local row = pool.rows[index - 1]
  return ffi.string(pool.keys + row.key_from, row.key_size), STATES[row.state], row
end

-- Of a double, as four numbers of 16 bits: which has the exponent, and the exponent of what is no finite number. LuaJIT takes some of
-- these for values of other types (its own NaN is all that it knows), so none is read before it was looked at.
local HIGH, EXPONENT = ffi.abi "le" and 3 or 0, 0x7ff0
local quarters_of = ffi.typeof "const uint16_t *"

local function is_finite(doubles, index)
  return bit.band(ffi.cast(quarters_of, doubles)[4 * index + HIGH], EXPONENT) ~= EXPONENT
end

-- @return the numbers at `at`; nil: they are none of ours
local function read_numbers(at, count)
  ffi.copy(found_index, at, count * INDEX_BYTES)
  ffi.copy(found_number, at + count * INDEX_BYTES, count * NUMBER_BYTES)
  local room = numbers.new()
  ffi.copy(room, EMPTY, ffi.sizeof(room))
  for number = 0, count - 1 do
    local index = found_index[number]
    if index >= numbers.count or not is_finite(found_number, number) or found_number[number] < 0 then return nil end
    room[index] = found_number[number]
  end
  return room
end

-- @return the rows; nil: they are none of ours
local function read_rows(at, record)
  local count, from = record.backend_count, 0
  local rows = Rows(count)
  ffi.copy(rows, at, count * ROW_BYTES)
  for index = 0, count - 1 do
    local row = rows[index]
    if not STATES[row.state] or row.key_size < 0 or row.key_from ~= from then return nil end
    from = from + row.key_size
  end
  return from == record.keys_size and rows or nil
end

-- How many bytes come behind a record; nil: it is none.
local function size_behind(record)
  if record.line_size < 0 or record.name_size < 0 or record.keys_size < 0 or record.backend_count < 0 then return nil end
  if record.number_count < 0 or record.number_count > numbers.count or not POOL_STATES[record.state] then return nil end
  return record.name_size + record.number_count * (INDEX_BYTES + NUMBER_BYTES) + record.backend_count * ROW_BYTES + record.keys_size
end

local doubles_of, bytes_of, DOUBLES_AT = ffi.typeof "const double *", ffi.typeof "const uint8_t *", ffi.offsetof(Record, "max_connections")

-- A pool by its record, of which `size` bytes are left.
-- @param from, to where its line begins, and where the lines end
-- @return it, and how many bytes it took; nil: it is none
local function read_record(text, at, size, from, to)
  if size < RECORD_BYTES then return nil end
  ffi.copy(one_record, at, RECORD_BYTES)
  local behind = size_behind(one_record)
  if not behind or behind > size - RECORD_BYTES or from + one_record.line_size - 1 > to then return nil end
  at = at + RECORD_BYTES
  local rows_at = at + one_record.name_size + one_record.number_count * (INDEX_BYTES + NUMBER_BYTES)
  local room, rows = read_numbers(at + one_record.name_size, one_record.number_count), read_rows(rows_at, one_record)
  if not room or not rows then return nil end
  local doubles = ffi.cast(doubles_of, ffi.cast(bytes_of, one_record) + DOUBLES_AT)
  if not (is_finite(doubles, 0) and is_finite(doubles, 1)) then return nil end
  local most, failing = one_record.max_connections, one_record.failing_ms
  local pool = setmetatable({
    name = ffi.string(at, one_record.name_size), state = POOL_STATES[one_record.state], numbers = room, from = from,
    to = from + one_record.line_size - 1, max_connections = most >= 0 and most or nil,
    failing_ms = failing >= 0 and failing or nil, has_error = one_record.has_error ~= 0, row_count = one_record.backend_count, rows = rows,
    keys = rows_at + one_record.backend_count * ROW_BYTES, text = text, -- in which the keys and the line are
  }, Pool)
  return pool, RECORD_BYTES + behind
end

-- What was read of another worker.
local Read = {}
Read.__index = Read

local function new_read(taken, pools, lines, from, size)
  local read = setmetatable({ pools = pools, lines = lines, from = from, size = size }, Read)
  for name in pairs(WORKER) do read[name] = taken[name] end
  return read
end

function Read:put_lines(writer)
  writer:put_bytes(ffi.cast("const uint8_t *", self.lines) + self.from, self.size)
end

function Read:clear()
  self.lines, self.from, self.size = "", 0, 0
end

local function read_records(taken, text, from, pause)
  local pools, line_from, to = json.list {}, from, from + taken.lines_size - 1
  local at, left = ffi.cast("const uint8_t *", text) + from + taken.lines_size, #text - from - taken.lines_size
  while left > 0 do
    local pool, size = read_record(text, at, left, line_from, to)
    if not pool then return nil end
    pools[#pools + 1] = pool
    at, left = at + size, left - size
    if pool.to >= pool.from then line_from = pool.to + 3 end -- a page may have no lines
    pause()
  end
  if #pools ~= taken.pool_count or #pools > 0 and pools[#pools].to ~= to then return nil end
  return new_read(taken, pools, text, from - 1, taken.lines_size)
end

-- A page of another version: every line is decoded.
local function read_lines(taken, text, from, pause)
  local lines, size = {}, taken.lines_size
  local pools = json.list {}
  for line in text:sub(from, size and from + size - 1 or -1):gmatch "[^\n]+" do
    line = line:gsub(",$", "")
    local pool = json.decode(line)
    if not is_pool(pool) then return nil end
    pools[#pools + 1], lines[#lines + 1] = pool, line
    pause()
  end
  local whole = table.concat(lines, ",\n")
  return new_read(taken, pools, whole, 0, #whole)
end

--- Reads a page.
-- @return what was written, with pools and put_lines; nil: it is something else
function page.read(text, pause)
  local head = type(text) == "string" and text:match "^[^\n]*"
  local taken = head and json.decode(head)
  if not has(taken, WORKER) then return nil end
  local size, from, of_layout = taken.lines_size, #head + 2, taken.layout
  if size ~= nil and not (type(size) == "number" and size >= 0 and size % 1 == 0 and from + size <= #text) then return nil end
  local read = of_layout == layout and size and read_records or read_lines
  return read(taken, text, from, pause)
end

-- ------------------------------------------------------------------ answering --

-- An object without the brace that ends it.
local function put_head(writer, object)
  if not json.put_members(writer, object, HEAD) then writer:put "{" end
end

--- A view of all workers as JSON.
-- @param view of Board:view or snapshot.view; the lines of its workers are gone then
-- @param writer of cueball.monitor.writer; it is not flushed
function page.json(writer, view, pause)
  put_head(writer, view)
  writer:put ',"workers":['
  for index, worker in ipairs(view.workers) do
    if index > 1 then writer:put "," end
    put_head(writer, worker)
    writer:put ',"pools":['
    worker:put_lines(writer)
    worker:clear()
    writer:put "]}"
  end
  writer:put '],"pools":['
  for index, pool in ipairs(view.pools) do
    if index > 1 then writer:put "," end
    put_pool(writer, pool, pause)
    pause()
  end
  writer:put "]}"
end

--- A snapshot as JSON, made in slices.
-- @param taken { version, time_s, process, pools }
function page.snapshot(taken, pause)
  local writer, whole = writers.kept()
  writer:put(json.encode { version = taken.version, time_s = taken.time_s, process = taken.process }:sub(1, -2))
  writer:put ',"pools":['
  for index, pool in ipairs(taken.pools) do
    if index > 1 then writer:put "," end
    json.put(writer, pool)
    pause()
  end
  writer:put "]}"
  return whole()
end

return page
