--- SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL has it, with OpenSSL's libcrypto: the login that servers want by default, and for which
-- pgmoon needs another library beside it. Without binding to a TLS channel.
--
-- The happy path: our nonce goes out; the server's nonce, salt and count of iterations come; our proof goes out; the server's own proof
-- comes, and is right.
--
-- What can go wrong: the server knows another password (it says so), or does not know the password at all: then its proof is wrong, and it
-- is not the server that it claims to be.
local ffi = require "ffi"
local bit = require "bit"
local base64 = require "cueball.cosocket.api.base64"
local crypto = require "cueball.cosocket.api.crypto"
local wire = require "cueball.connection.postgres.pgmoon.wire"

local scram = {}

-- Declarations outlive the module; it may be loaded again.
pcall(ffi.cdef, [[
  const void *cueball_scram_sha256(void) __asm__("EVP_sha256");
  unsigned char *cueball_scram_digest(const char *data, size_t length, unsigned char *digest) __asm__("SHA256");
  unsigned char *cueball_scram_hmac(const void *kind, const char *key, int key_length, const char *data, size_t length,
    unsigned char *digest, unsigned int *digest_length) __asm__("HMAC");
  int cueball_scram_derive(const char *password, int length, const char *salt, int salt_length, int iterations, const void *kind,
    int key_length, unsigned char *key) __asm__("PKCS5_PBKDF2_HMAC");
  int cueball_scram_random(unsigned char *bytes, int count) __asm__("RAND_bytes");
]])

local LENGTH = 32
local ITERATIONS_MAX = 1000000 -- some half a second, in which nothing else goes on
local CONTINUES, ENDS = 11, 12

local buffer = ffi.new "unsigned char[64]"

local function has_all(lib)
  return pcall(function()
    return lib.cueball_scram_sha256, lib.cueball_scram_digest, lib.cueball_scram_hmac, lib.cueball_scram_derive, lib.cueball_scram_random
  end)
end

-- nginx has an OpenSSL of its own: a second one is not loaded beside it.
local function find(host)
  local lib = host.name == "ngx" and ffi.C or crypto.load()
  return lib and has_all(lib) and lib or nil
end

--- Can it be had on this host?
function scram.is_there(host)
  return find(host) ~= nil
end

local function hmac(lib, key, data)
  assert(lib.cueball_scram_hmac(lib.cueball_scram_sha256(), key, #key, data, #data, buffer, nil) ~= nil, "HMAC failed")
  return ffi.string(buffer, LENGTH)
end

local function digest(lib, data)
  lib.cueball_scram_digest(data, #data, buffer)
  return ffi.string(buffer, LENGTH)
end

local function xor(one, other)
  for index = 1, LENGTH do buffer[index - 1] = bit.bxor(one:byte(index), other:byte(index)) end
  return ffi.string(buffer, LENGTH)
end

local function new_nonce(lib)
  assert(lib.cueball_scram_random(buffer, 18) == 1, "no random bytes")
  return base64.encode_base64(ffi.string(buffer, 18))
end

-- What is sent in the end, and what has to come then.
local function prove(lib, password, first, challenge, salt, iterations, nonce)
  assert(lib.cueball_scram_derive(password, #password, salt, #salt, iterations, lib.cueball_scram_sha256(), LENGTH, buffer) == 1,
    "PBKDF2 failed")
  local salted = ffi.string(buffer, LENGTH)
  local client_key = hmac(lib, salted, "Client Key")
  local final = "c=biws,r=" .. nonce -- "biws" is "n,,": no channel is bound
  local whole = first .. "," .. challenge .. "," .. final
  local proof = xor(client_key, hmac(lib, digest(lib, client_key), whole))
  local signature = hmac(lib, hmac(lib, salted, "Server Key"), whole)
  return final .. ",p=" .. base64.encode_base64(proof), base64.encode_base64(signature)
end

-- The next message of the exchange. → its text; or nil, message, name, and the letter and body of another message, which says why
local function expect(channel, kind)
  local letter, body, name = channel:receive()
  if not letter then return nil, body, name end
  if letter ~= "R" or wire.authentication(body) ~= kind then
    return nil, "SCRAM: the server answers out of turn", "protocol", letter, body
  end
  return body:sub(5)
end

--- Answers a server that wants SCRAM.
-- @param offer of the server: the mechanisms that it has
-- @return the message that follows, its letter and body; or nil, message, name
function scram.answer(host, channel, password, offer)
  if not offer:find("SCRAM-SHA-256\0", 1, true) then return nil, "the server wants no SCRAM that is known here", "unsupported" end
  if not password then return nil, "the server asks for a password, and there is none: option 'password'", "invalid" end
  local lib = find(host)
  local own = new_nonce(lib)
  local first = "n=,r=" .. own
  local ok, message, name = channel:send(wire.sasl_first("SCRAM-SHA-256", "n,," .. first))
  if not ok then return nil, message, name end
  local challenge, letter, body
  challenge, message, name, letter, body = expect(channel, CONTINUES)
  if letter == "E" then return letter, body end
  if not challenge then return nil, message, name end
  local nonce, salt, iterations = challenge:match "^r=([^,]+),s=([^,]+),i=(%d+)"
  salt, iterations = salt and base64.decode_base64(salt), tonumber(iterations)
  if not salt or nonce:sub(1, #own) ~= own or #nonce == #own or iterations < 1 or iterations > ITERATIONS_MAX then
    return nil, "SCRAM: the server's challenge makes no sense", "protocol"
  end
  local answer, signature = prove(lib, password, first, challenge, salt, iterations, nonce)
  ok, message, name = channel:send(wire.sasl_next(answer))
  if not ok then return nil, message, name end
  local proof
  proof, message, name, letter, body = expect(channel, ENDS)
  if letter == "E" then return letter, body end
  if not proof then return nil, message, name end
  if proof:match "^v=([^,]+)" ~= signature then return nil, "SCRAM: the server does not know the password itself", "protocol" end
  return channel:receive()
end

return scram
