--- Digests of ngx_lua's API: md5, md5_bin, sha1_bin and hmac_sha1, which OpenSSL's libcrypto makes; crc32_short and crc32_long.
local ffi = require "ffi"
local bit = require "bit"
local misuse = require "cueball.misuse"
local crypto = require "cueball.cosocket.api.crypto"

local digest = {}

-- Declarations outlive the module; it may be loaded again.
pcall(ffi.cdef, [[
  unsigned char *cueball_crypto_md5(const char *data, size_t length, unsigned char *digest) __asm__("MD5");
  unsigned char *cueball_crypto_sha1(const char *data, size_t length, unsigned char *digest) __asm__("SHA1");
  const void *cueball_crypto_of_sha1(void) __asm__("EVP_sha1");
  unsigned char *cueball_crypto_hmac(const void *kind, const char *key, int key_length, const char *data, size_t length,
    unsigned char *digest, unsigned int *digest_length) __asm__("HMAC");
]])

local MD5_LENGTH, SHA1_LENGTH = 16, 20
local buffer = ffi.new "unsigned char[64]"

local function text_of(value)
  if type(value) == "string" then return value end
  return value and tostring(value) or ""
end

-- FIPS and the like forbid MD5.
local function made(name, result, length)
  if result == nil then misuse.raise(("%s: OpenSSL's libcrypto refuses to make it"):format(name)) end
  return ffi.string(buffer, length)
end

function digest.md5_bin(text)
  text = text_of(text)
  return made("md5", crypto.library("md5").cueball_crypto_md5(text, #text, buffer), MD5_LENGTH)
end

function digest.md5(text)
  return (digest.md5_bin(text):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

function digest.sha1_bin(text)
  text = text_of(text)
  return made("sha1", crypto.library("sha1").cueball_crypto_sha1(text, #text, buffer), SHA1_LENGTH)
end

function digest.hmac_sha1(key, text)
  local lib = crypto.library "hmac_sha1"
  key, text = text_of(key), text_of(text)
  return made("hmac_sha1", lib.cueball_crypto_hmac(lib.cueball_crypto_of_sha1(), key, #key, text, #text, buffer, nil), SHA1_LENGTH)
end

local POLYNOMIAL = 0xedb88320
local remainders

local function make_remainders()
  remainders = ffi.new "uint32_t[256]"
  for byte = 0, 255 do
    local value = byte
    for _ = 1, 8 do
      local shifted = bit.rshift(value, 1)
      value = bit.band(value, 1) == 1 and bit.bxor(shifted, POLYNOMIAL) or shifted
    end
    remainders[byte] = value
  end
end

function digest.crc32_long(text)
  text = text_of(text)
  if not remainders then make_remainders() end
  local bytes, value = ffi.cast("const uint8_t *", text), -1
  for index = 0, #text - 1 do
    value = bit.bxor(remainders[bit.band(bit.bxor(value, bytes[index]), 255)], bit.rshift(value, 8))
  end
  return bit.bnot(value) % 2 ^ 32
end

--- The same; nginx has another way for short texts.
digest.crc32_short = digest.crc32_long

return digest
