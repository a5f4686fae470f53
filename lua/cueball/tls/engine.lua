--- One TLS connection of libcueball_tls, as Lua has it: bytes are strings, results are those of cueball_tls.h.
local library = require "cueball.tls.library"
local text = require "cueball.text"
local lib, ffi = library.lib, require "ffi"

local engine = {
  DONE = lib.CUEBALL_TLS_DONE, WANT = lib.CUEBALL_TLS_WANT, MORE = lib.CUEBALL_TLS_MORE, CLOSED = lib.CUEBALL_TLS_CLOSED,
}

local cast, bytes_of = ffi.cast, ffi.typeof "const char *"
local PLAIN_ROOM = 64 * 1024

-- One buffer for all connections: what is in it is made a string before anything else runs.
local plain, plain_size = ffi.new("char[?]", PLAIN_ROOM), ffi.new "size_t[1]"
local output = ffi.new "const char *[1]"
local made, session, info = ffi.new "cueball_tls *[1]", ffi.new "cueball_tls_session *[1]", ffi.new "cueball_tls_info[1]"

--- @param context of cueball.tls
-- @return a connection, which is freed with engine.free or as garbage; or nil, message
function engine.new(context)
  if lib.cueball_tls_new(context.pointer, made) ~= lib.CUEBALL_OK then
    return nil, "TLS: out of memory, or the system's certificates cannot be loaded"
  end
  return ffi.gc(made[0], lib.cueball_tls_free)
end

function engine.free(self)
  lib.cueball_tls_free(ffi.gc(self, nil))
end

--- Why the connection failed.
function engine.message_of(self)
  return text.message(ffi.string(lib.cueball_tls_error(self)))
end

--- Begins the handshake.
-- @param given { name =, verify =, status =, session = of engine.session, cert =, key = }
-- @return true; or nil, message
function engine.begin(self, given)
  local code = lib.CUEBALL_OK
  if given.cert then code = lib.cueball_tls_identity(self, given.cert, #given.cert, given.key, #given.key) end
  if code == lib.CUEBALL_OK then
    local flags = (given.verify and lib.CUEBALL_TLS_VERIFY or 0) + (given.status and lib.CUEBALL_TLS_STATUS or 0)
    code = lib.cueball_tls_begin(self, given.name, flags, given.session)
  end
  if code == lib.CUEBALL_OK then return true end
  return nil, code == lib.CUEBALL_ENOMEM and "TLS: out of memory" or engine.message_of(self)
end

--- One step of the handshake, with what came.
function engine.handshake(self, data)
  return lib.cueball_tls_handshake(self, data, data and #data or 0)
end

--- Gives what came, and takes out what there is to be received, if anything.
-- @param is_kept nothing is taken out
-- @return result, string or nil
function engine.receive(self, data, is_kept)
  local result = lib.cueball_tls_receive(self, data, data and #data or 0, plain, is_kept and 0 or PLAIN_ROOM, plain_size)
  local count = tonumber(plain_size[0])
  if count == 0 then return result, nil end
  return result, ffi.string(plain, count)
end

--- Is there anything to be received?
function engine.peek(self)
  return lib.cueball_tls_peek(self, nil, 0)
end

--- @param from, size the piece of the string that is sent: so many bytes after its first `from`
function engine.send(self, data, from, size)
  return lib.cueball_tls_send(self, cast(bytes_of, data) + from, size)
end

function engine.shutdown(self)
  return lib.cueball_tls_shutdown(self)
end

--- What it wants to send.
-- @return its size; where it is, until the next call for this connection
function engine.output(self)
  return tonumber(lib.cueball_tls_output(self, output)), output[0]
end

--- The whole output was sent: it is forgotten.
function engine.output_taken(self)
  lib.cueball_tls_output_taken(self)
end

--- What it wants to send, as a string; nil: nothing.
function engine.take_output(self)
  local size = lib.cueball_tls_output(self, output)
  if size == 0 then return nil end
  local data = ffi.string(output[0], size)
  lib.cueball_tls_output_taken(self)
  return data
end

--- What a later connection may resume; nil: nothing (yet).
function engine.session(self)
  if lib.cueball_tls_session_of(self, session) ~= lib.CUEBALL_OK then return nil end
  return ffi.gc(session[0], lib.cueball_tls_session_free)
end

local function shown(field)
  local value = ffi.string(field)
  return value ~= "" and text.clean(value) or nil
end

--- What was agreed on, and whose certificate the peer showed; nil: the handshake is not over.
function engine.info(self)
  local found = info[0]
  if lib.cueball_tls_info_of(self, found) ~= lib.CUEBALL_OK then return nil end
  return {
    version = shown(found.version), cipher = shown(found.cipher), alpn = shown(found.alpn), subject = shown(found.subject),
    issuer = shown(found.issuer), resumed = found.is_resumed, verified = found.is_verified,
    expires_s = found.expires_s ~= 0 and tonumber(found.expires_s) or nil,
  }
end

return engine
