--- TLS contexts: whom to trust, who to be, and the sessions that may be resumed.
--
--   local tls = require "cueball.tls"
--   local context, message = tls.context { ca_file = "/etc/ssl/my-ca.pem" }
--   socket:settls(context)
--   socket:sslhandshake(nil, "db1.example")
--
-- One context per pool and identity, made when the pool is made: it reads files, and connections share it.
local library = require "cueball.tls.library"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local sessions = require "cueball.tls.sessions"
local text = require "cueball.text"
local text_of_file = require("cueball.file").text
local lib, ffi = library.lib, require "ffi"

local tls = { path = library.path, version = library.version, openssl = ffi.string(lib.cueball_tls_openssl_version()) }

local SESSIONS_MAX = 256   -- keys in a context
local VERSIONS = { ["1.2"] = lib.CUEBALL_TLS_1_2, ["1.3"] = lib.CUEBALL_TLS_1_3 }

local function is_text(value)
  return type(value) == "string" and value ~= "" and not value:find("%z")
end

local function is_protocol_list(value)
  if type(value) ~= "table" or #value == 0 then return false end
  local count = 0
  for key, one in pairs(value) do
    count = count + 1
    if type(key) ~= "number" or type(one) ~= "string" or #one < 1 or #one > 255 then return false end
  end
  return count == #value
end

local TEXT = { check = is_text, range = "a string that is not empty" }
local SECRET = { check = is_text, range = "a string that is not empty", is_secret = true }
local VERSION = { check = function(value) return VERSIONS[value] ~= nil end, range = '"1.2" or "1.3"' }
local BOOLEAN = options.of_type("boolean", "true or false")
local PROTOCOLS = { check = is_protocol_list, range = "a list of strings of 1 to 255 bytes, one at least" }

local COMMON = {
  ca_file = TEXT, ca_dir = TEXT, ca = TEXT, crl_file = TEXT, cert_file = TEXT, key_file = TEXT, cert = TEXT, key = SECRET,
  min_version = VERSION, alpn = PROTOCOLS,
}
local CLIENT = options.merge(COMMON, { verify = BOOLEAN })
local SERVER = options.merge(COMMON, { max_version = VERSION })

local Context = {}
Context.__index = Context

--- Is it a context?
function tls.is_context(value)
  return type(value) == "table" and getmetatable(value) == Context
end

-- The PEM of an option or of its file; nil: neither is there. nil, message: it cannot be read.
local function pem_of(given, name)
  local path = given[name .. "_file"]
  if not path then return given[name] end
  local content, message = text_of_file(path)
  if not content then return nil, "TLS: " .. message end
  return content
end

local PAIRS = { "cert", "key" }

local function check_pairs(what, given)
  for _, name in ipairs(PAIRS) do
    if given[name] and given[name .. "_file"] then misuse.raise(("%s: give '%s' or '%s_file', not both"):format(what, name, name)) end
  end
  if (given.key or given.key_file) and not (given.cert or given.cert_file) then misuse.raise(what .. ": a key wants a certificate") end
end

-- A call that may fail: true; or nil, message.
local function try(self, code, path)
  if code == lib.CUEBALL_OK then return true end
  if code == lib.CUEBALL_ENOMEM then return nil, "TLS: out of memory" end
  local message = text.message(ffi.string(lib.cueball_tls_context_error(self.pointer)))
  return nil, path and ("%s (%s)"):format(message, path) or message
end

local function use_identity(self, given)
  local cert, message = pem_of(given, "cert")
  if not cert then return message == nil, message end
  local key
  key, message = pem_of(given, "key")
  if message then return nil, message end
  key = key or cert   -- one PEM may have both
  return try(self, lib.cueball_tls_context_identity(self.pointer, cert, #cert, key, #key), given.cert_file)
end

-- What a file cannot be read for, in the system's words: OpenSSL has several of its own.
local function readable(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, "TLS: " .. message end
  local ok, why = file:read(0)
  file:close()
  if not ok and why then return nil, ("TLS: %s: %s"):format(path, why) end
  return true
end

local function is_folder(path)
  local file = io.open(path .. "/.", "rb")
  if not file then return nil, ("TLS: ca_dir: there is no folder %s"):format(path) end
  file:close()
  return true
end

local function use_trust(self, given, is_client)
  local pointer = self.pointer
  local ok, message = true, nil
  if given.crl_file then
    ok, message = readable(given.crl_file)
    if ok then ok, message = try(self, lib.cueball_tls_context_crl_file(pointer, given.crl_file)) end
  end
  if ok and given.ca_file then
    ok, message = readable(given.ca_file)
    if ok then ok, message = try(self, lib.cueball_tls_context_trust_file(pointer, given.ca_file)) end
  end
  if ok and given.ca_dir then
    ok, message = is_folder(given.ca_dir)
    if ok then ok, message = try(self, lib.cueball_tls_context_trust_folder(pointer, given.ca_dir)) end
  end
  if ok and given.ca then ok, message = try(self, lib.cueball_tls_context_trust_pem(pointer, given.ca, #given.ca)) end
  local has_trust = given.ca_file or given.ca_dir or given.ca
  if ok and is_client and not has_trust and given.verify ~= false then
    ok, message = try(self, lib.cueball_tls_context_trust_system(pointer))
  elseif ok and not is_client and has_trust then
    ok, message = try(self, lib.cueball_tls_context_demand_certificate(pointer))
  end
  return ok, message
end

local function use_protocol(self, given)
  local min, max = VERSIONS[given.min_version] or 0, VERSIONS[given.max_version] or 0
  local ok, message = try(self, lib.cueball_tls_context_versions(self.pointer, min, max))
  if not ok or not given.alpn then return ok, message end
  local list = {}
  for index, name in ipairs(given.alpn) do list[index] = string.char(#name) .. name end
  local wire = table.concat(list)
  return try(self, lib.cueball_tls_context_alpn(self.pointer, wire, #wire))
end

local function make(what, role, given, rules)
  given = options.check(what, given, rules)
  check_pairs(what, given)
  local out = ffi.new "cueball_tls_context *[1]"
  if lib.cueball_tls_context_new(role, out) ~= lib.CUEBALL_OK then return nil, "TLS: out of memory" end
  local self = setmetatable({
    pointer = ffi.gc(out[0], lib.cueball_tls_context_free),
    verify = given.verify ~= false,
    sessions = sessions.new(SESSIONS_MAX),
  }, Context)
  local ok, message = use_protocol(self, given)
  if ok then ok, message = use_trust(self, given, role == lib.CUEBALL_TLS_CLIENT) end
  if ok then ok, message = use_identity(self, given) end
  if not ok then return nil, message end
  return self
end

--- Makes a context for clients.
-- @param given nil, or a table:
--   ca_file, ca_dir, ca   whom to trust: a file of certificates, a folder of such files named by hash, a PEM; none: the system's
--   cert_file, key_file, cert, key   who to be: a certificate (and its chain) and its key, as files or PEM; one PEM may have both
--   crl_file     a file of lists of revoked certificates, of each CA
--   verify       true by default: what sslhandshake does if it is not told
--   min_version  "1.2", the default, or "1.3"
--   alpn         a list of protocols to offer, the favourite first
-- @return the context; or nil, message
function tls.context(given)
  return make("cueball.tls.context", lib.CUEBALL_TLS_CLIENT, given, CLIENT)
end

--- Makes a context for servers (of the simulated world): those options, but verify; max_version. With ca_file, ca_dir or ca it wants
-- a certificate of each client.
function tls.server(given)
  return make("cueball.tls.server", lib.CUEBALL_TLS_SERVER, given, SERVER)
end

local default

--- The context that is used where none is given: it trusts what the system trusts. The process has one.
-- @return the context; or nil, message
function tls.default()
  if default then return default end
  local made, message = tls.context {}
  default = made
  return made, message
end

--- Are the certificates loaded that the context trusts? false: a connection begun now would wait for them.
function Context:is_ready()
  return lib.cueball_tls_context_is_ready(self.pointer)
end

--- Keeps a session to be resumed, instead of the one under that key; of all keys the latest 256.
-- @param key any value: what connections that may share a session have in common. A session is bound besides, to the context, the
--   server's name, the client's certificate, and whether it was verified: for another it is not resumed
-- @param session of sock:getsslsession(); nil: none
function Context:keep_session(key, session)
  self.sessions:keep(key, session)
end

--- @return the session kept under that key, or nil
function Context:session(key)
  return self.sessions:get(key)
end

function Context:__tostring()
  return ("cueball.tls.context (%s)"):format(tls.openssl)
end

return tls
