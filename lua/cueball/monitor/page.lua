--- What one worker shows, as a text that others read: a line of JSON about the worker, a line of JSON for each pool, and behind them the
-- records, which have the numbers of each pool as numbers.
--
-- The happy path: who reads a page adds up the records, and hands the lines on as they are. A line is decoded only where it has what no
-- record has and nobody else has told yet: the address of a backend that is new, an error.
-- What can go wrong: the page is of another version of cueball, whose numbers are others, or it has no records: then every line is decoded.
-- It is something else: then it is nothing.
local ffi = require "cueball.luajit"
local json = require "cueball.monitor.json"
local numbers = require "cueball.monitor.numbers"
local records = require "cueball.monitor.records"
local writers = require "cueball.monitor.writer"

local page = {}

local HEAD = json.members { "version", "pid", "id", "time_s", "is_exiting", "problem", "age_s", "layout", "lines_size", "pool_count" }

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
local function end_of_zeros(room, index, to, is_sum)
  while index <= to and room[index] == 0 and not (is_sum and numbers.is_of_one(index)) do index = index + 1 end
  return index
end

local function put_numbers(writer, room, from, to, is_sum)
  local lead, index = FIRST, from
  while index <= to do
    local behind = lead == NEXT and end_of_zeros(room, index, to, is_sum) or index
    if behind > index then
      writer:put_bytes(ZEROS + ZERO_AT[index], ZERO_AT[behind] - ZERO_AT[index])
      index = behind
    else
      local value = room[index]
      if value == value and not (is_sum and numbers.is_of_one(index)) then
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
  local is_sum = pool.workers ~= nil
  put_numbers(writer, pool.numbers, 0, numbers.stats_count - 1, is_sum)
  writer:put '},"counts":{'
  put_numbers(writer, pool.numbers, numbers.stats_count, numbers.count - 1, is_sum)
  writer:put '},"backends":['
  for index, backend in ipairs(pool.backends) do
    if index > 1 then writer:put "," end
    json.put_members(writer, backend, BACKENDS)
    writer:put "}"
    if index % 16 == 0 then pause() end
  end
  writer:put "]}"
end

-- ------------------------------------------------------------------- writing --

local HEAD_SIZE = 512 -- of the head, with blanks behind it; a longer one has no pools
local BLANK_HEAD = (" "):rep(HEAD_SIZE) .. "\n"

local lines_expected, records_expected = 0, 0 -- a page is as long as the one before, about

local function head_of(taken, lines_size, pool_count)
  local writer, whole = writers.kept()
  local own = { layout = records.layout, lines_size = lines_size, pool_count = pool_count }
  json.put_members(writer, setmetatable(own, { __index = taken }), HEAD)
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
  records.put(self.records, record, before and writer.used - before or 0)
  self:note(record)
end

--- The whole page, for others to read.
function Page:text()
  if not self.writer then return page.short(self) end
  local writer, behind = self.writer, self.records
  local to = writer.used
  local head = head_of(self, to - #BLANK_HEAD, #self.pools)
  if #head > HEAD_SIZE then error("the head of a page is too long: " .. head, 0) end
  if self.has_lines then lines_expected = math.ceil((to + behind.used) * 1.1) end
  records_expected = math.ceil(behind.used * 1.1)
  ffi.copy(writer.room, head, #head)
  writer:put "\n"
  writer:put_bytes(behind.room, behind.used)
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
  takes = "number?", suspect = "number?", since_ms = "number?", total_max = "number?", error = "string?", name = "string?",
  address = "string?", port = "number?", weight = "number?", priority = "number?" }

local function has(object, members)
  if type(object) ~= "table" then return false end
  for name, kind in pairs(members) do
    local value = object[name]
    local found = type(value)
    if found ~= kind and found .. "?" ~= kind and not (found == "nil" and kind:sub(-1) == "?") then return false end
    if found == "number" and value - value ~= 0 then return false end -- NaN, or without an end
  end
  return true
end

-- What is counted or measured: whatever numbers there are can be added up.
local function are_numbers(by_name)
  for _, value in pairs(by_name) do
    if type(value) == "number" and not (value >= 0 and value < math.huge) then return false end
  end
  return true
end

local function is_pool(value)
  if not (has(value, POOL) and has(value.options, OPTIONS) and has(value.resolver, RESOLVER)) then return false end
  if not (are_numbers(value.stats) and are_numbers(value.counts or {})) then return false end
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
local Pool = { __index = function(self, name)
  if name ~= "numbers" then return IN_LINE[name] and decoded(self)[name] or nil end
  self.numbers = records.numbers(self) -- most need them only to be added up, which is done without this
  return rawget(self, name)
end }

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
    local pool, size = records.read(text, at, left, line_from, to)
    if not pool then return nil end
    pools[#pools + 1] = setmetatable(pool, Pool)
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
  local read = of_layout == records.layout and size and read_records or read_lines
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
