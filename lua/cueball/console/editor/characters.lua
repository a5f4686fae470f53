--- Characters of UTF-8 text and how many columns of a terminal each takes: letters of Chinese two, accents none. The C library knows
-- (wcwidth, on Linux); where it does not say, a short table does.
local ffi = require "ffi"

ffi.cdef [[
  void *cueball_console_newlocale(int mask, const char *name, void *base) __asm__("newlocale");
  void *cueball_console_uselocale(void *locale) __asm__("uselocale");
  int cueball_console_wcwidth(int32_t character) __asm__("wcwidth");
]]

local characters = {}

local LC_CTYPE_MASK = 1 -- of glibc and musl
local LOCALES = { "C.UTF-8", "en_US.UTF-8" }

local byte, sub = string.byte, string.sub

--- How many bytes the character that begins at this place has; a byte that begins none is one by itself.
function characters.length(text, at)
  local first = byte(text, at)
  local length = first < 0xc2 and 1 or first < 0xe0 and 2 or first < 0xf0 and 3 or first < 0xf5 and 4 or 1
  for index = at + 1, at + length - 1 do
    local following = byte(text, index)
    if not following or following < 0x80 or following > 0xbf then return 1 end
  end
  return length
end

local function codepoint(text, at, length)
  local first = byte(text, at)
  if length == 1 then return first end
  local value = first % 2 ^ (7 - length)
  for index = at + 1, at + length - 1 do value = value * 64 + byte(text, index) % 64 end
  return value
end

-- Where the C library does not say. From … to: marks on the character before; and characters of two columns (East Asian Width W and F,
-- emoji).
local NONE = { { 0x300, 0x36f }, { 0x483, 0x489 }, { 0x591, 0x5bd }, { 0x610, 0x61a }, { 0x64b, 0x65f }, { 0x1ab0, 0x1aff },
  { 0x1dc0, 0x1dff }, { 0x200b, 0x200f }, { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f } }
local DOUBLE = { { 0x1100, 0x115f }, { 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xa960, 0xa97c }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff },
  { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 }, { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff }, { 0x1f900, 0x1faff },
  { 0x20000, 0x3fffd } }

local function is_among(ranges, value)
  for _, range in ipairs(ranges) do
    if value >= range[1] and value <= range[2] then return true end
  end
  return false
end

local locale -- false: there is none

local function unicode_locale()
  if locale ~= nil then return locale end
  locale = false
  for _, name in ipairs(ffi.os == "Linux" and LOCALES or {}) do
    local made = ffi.C.cueball_console_newlocale(LC_CTYPE_MASK, name, nil)
    if made ~= nil then
      locale = made
      break
    end
  end
  return locale
end

-- The locale is this thread's only while it is asked: a program may have chosen another.
-- @return columns; nil: the C library does not know the character, or is not asked
local function asked(value)
  local of = unicode_locale()
  if not of then return nil end
  local before = ffi.C.cueball_console_uselocale(of)
  local columns = ffi.C.cueball_console_wcwidth(value)
  ffi.C.cueball_console_uselocale(before)
  return columns >= 0 and columns or nil
end

--- How many columns it takes.
function characters.width(text, at, length)
  if length == 1 then return 1 end
  local value = codepoint(text, at, length)
  if value < 0x300 then return 1 end
  return asked(value) or is_among(NONE, value) and 0 or is_among(DOUBLE, value) and 2 or 1
end

--- How many columns a text takes.
function characters.columns(text)
  local at, columns = 1, 0
  while at <= #text do
    local length = characters.length(text, at)
    columns = columns + characters.width(text, at, length)
    at = at + length
  end
  return columns
end

--- Where the character before this place begins; a place is how many bytes are left of it. Marks go with what they stand on.
function characters.before(text, position)
  while position > 0 do
    local at = position
    while at > 1 and at > position - 3 and byte(text, at) >= 0x80 and byte(text, at) < 0xc0 do at = at - 1 end
    if characters.length(text, at) ~= position - at + 1 then at = position end
    position = at - 1
    if characters.width(text, at, characters.length(text, at)) > 0 then return position end
  end
  return 0
end

--- The place behind the next character.
function characters.behind(text, position)
  if position >= #text then return #text end
  position = position + characters.length(text, position + 1)
  while position < #text do
    local length = characters.length(text, position + 1)
    if characters.width(text, position + 1, length) > 0 then break end
    position = position + length
  end
  return position
end

--- The first so many bytes, and no half of a character.
function characters.cut(text, bytes)
  if #text <= bytes then return text end
  return sub(text, 1, characters.before(text, bytes + 1))
end

return characters
