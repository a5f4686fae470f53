--- Writes long texts: into 64 KiB of memory that is used again and again, and in pieces of that to whoever takes them. Or all is kept.
--
--   local writer = writers.new(give)      give(piece): sends it, or keeps it
--   writer:put 'name{pool="db"} ' writer:number(7) writer:put "\n"
--   writer:flush()                        gives the rest
--
-- A text of a thousand pools has 14 MB in 190,000 lines: made of strings, each line would be garbage, and the whole as well.
local ffi = require "cueball.luajit"
local C, copy, ffi_string, floor, format = ffi.C, ffi.copy, ffi.string, math.floor, string.format

if not pcall(ffi.typeof, "cueball_writer_room") then
  ffi.cdef [[
    typedef uint8_t cueball_writer_room;
    uint8_t *cueball_writer_malloc(size_t size) __asm__("malloc");
    void cueball_writer_free(void *room) __asm__("free");
  ]]
end

local writers = {}

local ROOM = 65536     -- of one whose pieces are given
local FIRST_ROOM = 4096 -- of one that keeps all

local Writer = {}
Writer.__index = Writer

-- Large memory is not the collector's: it would look through a program's whole heap once for each so many bytes that are made.
local function room_of(size)
  if size <= ROOM then return ffi.new("uint8_t[?]", size) end
  local room = C.cueball_writer_malloc(size)
  if room == nil then error(("no memory for a text of %d bytes"):format(size), 0) end
  return ffi.gc(room, C.cueball_writer_free)
end

local function free(room, size)
  if size > ROOM then C.cueball_writer_free(ffi.gc(room, nil)) end
end

-- Texts of numbers from 0 to 999; the second list has three digits of each, the third those of a fraction.
local SMALL, PADDED, TRIMMED = {}, {}, {}
for number = 0, 999 do
  SMALL[number], PADDED[number] = format("%d", number), format("%03d", number)
  TRIMMED[number] = PADDED[number]:gsub("0+$", "")
end

-- More room for one that keeps all.
local function grow(self, least)
  local size = self.size
  while size < least do size = size * 2 end
  local room = room_of(size)
  copy(room, self.room, self.used)
  free(self.room, self.size)
  self.room, self.size = room, size
end

-- What has no room beside what waits: that goes first, or there is more room from now on.
local function put_far(self, text)
  if not self.give then
    grow(self, self.used + #text)
    return self:put(text)
  end
  self:flush()
  if #text > self.size then return self.give(text) end
  self:put(text)
end

function Writer:put(text)
  local used, length = self.used, #text
  if used + length > self.size then return put_far(self, text) end
  copy(self.room + used, text, length)
  self.used = used + length
end

-- Times have six decimals, or seven halfway between two.
local UNITS = 1e7

-- @param units of one, from 1 to 9999999
local function put_fraction(self, units)
  local low = units % 1e4
  local high, last = (units - low) / 1e4, low % 10
  self:put "."
  if low == 0 then return self:put(TRIMMED[high]) end
  self:put(PADDED[high])
  if last == 0 then return self:put(TRIMMED[low / 10]) end
  self:put(PADDED[(low - last) / 10])
  self:put(SMALL[last])
end

--- Writes a number: a whole one with all its digits, another with 14.
function Writer:number(value)
  if value >= 0 and value < 1e6 and value % 1 == 0 then
    if value < 1000 then return self:put(SMALL[value]) end
    local low = value % 1000
    self:put(SMALL[(value - low) / 1000])
    return self:put(PADDED[low])
  end
  local units = floor(value * UNITS + 0.5)
  if value > 0 and value < 1e6 and units / UNITS == value then
    local part = units % UNITS
    self:number((units - part) / UNITS)
    return put_fraction(self, part)
  end
  if value % 1 == 0 and value <= 2 ^ 53 and value >= -2 ^ 53 then return self:put(format("%.0f", value)) end
  self:put(format("%.14g", value))
end

local LINE_ENDS = {} -- small numbers, and the line's end
for number = 0, 999 do LINE_ENDS[number] = SMALL[number] .. "\n" end

--- Writes a line in one step: three texts, of which the last two may be empty, and a number.
-- @param longer function(value) → text of a number that is not a whole one from 0 to 999
function Writer:line(first, second, third, value, longer)
  local last = LINE_ENDS[value] or longer(value) .. "\n"
  local used, size, more, most, rest = self.used, #first, #second, #third, #last
  local total = size + more + most + rest
  if used + total > self.size then
    self:put(first) self:put(second) self:put(third)
    return self:put(last)
  end
  local at = self.room + used
  copy(at, first, size)
  copy(at + size, second, more)
  copy(at + (size + more), third, most)
  copy(at + (size + more + most), last, rest)
  self.used = used + total
end

--- Writes bytes from elsewhere.
-- @param from a pointer
function Writer:put_bytes(from, size)
  local used = self.used
  if used + size > self.size then return put_far(self, ffi_string(from, size)) end
  copy(self.room + used, from, size)
  self.used = used + size
end

--- Gives what there is, to whoever takes pieces.
function Writer:flush()
  local used = self.used
  if used == 0 then return end
  self.used = 0
  self.give(ffi_string(self.room, used))
end

--- Frees what was written, of one that keeps all: now, and not when it is garbage. It can be written to again.
function Writer:clear()
  free(self.room, self.size)
  self.room, self.size, self.used = room_of(FIRST_ROOM), FIRST_ROOM, 0
end

--- @param give nil: all is kept; or function(piece), which may wait
-- @param expected nil, or how many bytes will be written if all is kept: memory that need not grow
function writers.new(give, expected)
  local size = give and ROOM or math.max(FIRST_ROOM, expected or 0)
  return setmetatable({ room = room_of(size), size = size, used = 0, give = give }, Writer)
end

--- A writer that keeps all, in memory that grows.
-- @return the writer; function() → the whole text
function writers.kept()
  local made = writers.new()
  return made, function() return ffi_string(made.room, made.used) end
end

return writers
