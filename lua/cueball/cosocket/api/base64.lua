--- Base64 as ngx_lua's API has it: encode_base64 and decode_base64, and what its module ngx.base64 has for URLs.
local ffi = require "ffi"
local bit = require "bit"
local misuse = require "cueball.misuse"

local base64 = {}

local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift

local PAD, BAD = ("="):byte(), 255
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

-- An alphabet: the letters by their numbers, and back.
local function alphabet_of(letters)
  local to, from = ffi.new("uint8_t[64]"), ffi.new("uint8_t[256]")
  ffi.fill(from, 256, BAD)
  for index = 0, 63 do
    local letter = letters:byte(index + 1)
    to[index], from[letter] = letter, index
  end
  return { to = to, from = from }
end

local STANDARD, FOR_URLS = alphabet_of(LETTERS .. "+/"), alphabet_of(LETTERS .. "-_")

local buffer, room = nil, 0

local function buffer_of(size)
  if size > room then
    room = math.max(4096, 2 * size)
    buffer = ffi.new("uint8_t[?]", room)
  end
  return buffer
end

-- Lets go of a buffer that was needed once.
local function trim()
  if room > 1048576 then buffer, room = nil, 0 end
end

local function encode(text, alphabet, is_padded)
  local size, to = #text, alphabet.to
  local out, from, at = buffer_of(math.floor((size + 2) / 3) * 4), ffi.cast("const uint8_t *", text), 0
  for index = 0, size - 3, 3 do
    local number = bor(lshift(from[index], 16), lshift(from[index + 1], 8), from[index + 2])
    out[at], out[at + 1] = to[rshift(number, 18)], to[band(rshift(number, 12), 63)]
    out[at + 2], out[at + 3] = to[band(rshift(number, 6), 63)], to[band(number, 63)]
    at = at + 4
  end
  local rest = size % 3
  if rest > 0 then
    local first, second = from[size - rest], rest == 2 and from[size - 1] or 0
    out[at], out[at + 1] = to[rshift(first, 2)], to[bor(lshift(band(first, 3), 4), rshift(second, 4))]
    at = at + 2
    if rest == 2 then out[at], at = to[lshift(band(second, 15), 2)], at + 1 end
    if is_padded then
      out[at], at = PAD, at + 1
      if rest == 1 then out[at], at = PAD, at + 1 end
    end
  end
  local made = ffi.string(out, at)
  trim()
  return made
end

-- How many letters there are before the first "="; nil: there is something else, or a letter that is half of nothing.
local function length_of(text, alphabet)
  local bytes, from, length = ffi.cast("const uint8_t *", text), alphabet.from, #text
  for index = 0, #text - 1 do
    if bytes[index] == PAD then
      length = index
      break
    end
    if from[bytes[index]] == BAD then return nil end
  end
  if length % 4 == 1 then return nil end
  return length
end

local function decode(text, alphabet)
  local length = length_of(text, alphabet)
  if not length then return nil end
  local bytes, from, at = ffi.cast("const uint8_t *", text), alphabet.from, 0
  local out, rest = buffer_of(math.floor((length + 3) / 4) * 3), length % 4
  for index = 0, length - 4, 4 do
    local number = bor(lshift(from[bytes[index]], 18), lshift(from[bytes[index + 1]], 12), lshift(from[bytes[index + 2]], 6),
      from[bytes[index + 3]])
    out[at], out[at + 1], out[at + 2] = rshift(number, 16), band(rshift(number, 8), 255), band(number, 255)
    at = at + 3
  end
  if rest > 1 then
    local second = from[bytes[length - rest + 1]]
    out[at], at = band(bor(lshift(from[bytes[length - rest]], 2), rshift(second, 4)), 255), at + 1
    if rest == 3 then out[at], at = band(bor(lshift(second, 4), rshift(from[bytes[length - 1]], 2)), 255), at + 1 end
  end
  local made = ffi.string(out, at)
  trim()
  return made
end

local function text_of(value)
  if type(value) == "string" then return value end
  return value and tostring(value) or ""
end

--- @param is_unpadded true: without "=" at the end
function base64.encode_base64(text, is_unpadded)
  if is_unpadded and is_unpadded ~= true then
    misuse.raise("bad no_padding: boolean expected, got " .. type(is_unpadded))
  end
  return encode(text_of(text), STANDARD, not is_unpadded)
end

--- @return the bytes; nil: it is no base64
function base64.decode_base64(text)
  if type(text) ~= "string" then misuse.raise "string argument only" end
  return decode(text, STANDARD)
end

--- ngx.base64: the alphabet for URLs, without padding.
base64.for_urls = {}

function base64.for_urls.encode_base64url(text)
  return encode(text_of(text), FOR_URLS, false)
end

--- @return the bytes; or nil, message
function base64.for_urls.decode_base64url(text)
  if type(text) ~= "string" then return nil, "must provide a string" end
  local found = decode(text, FOR_URLS)
  if not found then return nil, "invalid input" end
  return found
end

return base64
