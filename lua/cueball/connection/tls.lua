--- TLS for connection factories: reads and checks their option `tls`, makes the handshake on whatever host it is, and keeps sessions.
--
--   local settings = tls.read("cueball.connection.redis", given.tls)      nil: no TLS
--   local ok, message = tls.secure(socket, settings, backend, context)    after connect, in the attempt's task
--   tls.keep(socket)                                                      once something was received: its session is kept
--
-- An identity is who the client says it is: its certificate and key. Each has a context of its own (host.tls), and the sessions that were
-- made as it, one for each backend and name. So no connection goes on with what was proven to, or by, somebody else.
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local options = require "cueball.options"
local sessions = require "cueball.tls.sessions"
local text = require "cueball.text"
local text_of_file = require("cueball.file").text

local tls = {}

-- ----------------------------------------------------------------- options --

local function is_path(value)
  return type(value) == "string" and value ~= "" and text.is_clean(value)
end

-- A file's name that has several lines is a PEM text.
local PATH = { check = is_path, range = "the path of a file" }

local function is_host_name(value)
  return #value <= 253 and value:find "^[%w_][%w_.-]*$" ~= nil and not value:find("..", 1, true)
end

local function is_server_name(value)
  return type(value) == "string" and (address.family(value) ~= nil or is_host_name(value))
end

local function is_alpn(value)
  if type(value) ~= "table" or #value == 0 then return false end
  local count, size = 0, 0
  for _, protocol in pairs(value) do
    if type(protocol) ~= "string" or #protocol < 1 or #protocol > 255 then return false end
    count, size = count + 1, size + 1 + #protocol
  end
  return count == #value and size <= 65535
end

-- A certificate, or a list of revoked ones.
local function has_pem(value)
  return type(value) == "string" and value:find("-----BEGIN ", 1, true) ~= nil and not value:find "%z"
end

local function is_pem_or_function(value)
  return type(value) == "function" or has_pem(value)
end

local PEM_OR_FUNCTION = { check = is_pem_or_function, range = "a text in PEM, or a function" }

local OPTIONS = {
  server_name = { check = is_server_name, range = "a host name or an IP address" },
  verify = options.of_type("boolean", "true or false"),
  ca_file = PATH, ca_dir = PATH, crl_file = PATH, cert_file = PATH, key_file = PATH,
  ca = { check = has_pem, range = "a text in PEM" },
  cert = PEM_OR_FUNCTION,
  key = PEM_OR_FUNCTION,
  min_version = { check = function(value) return value == "1.2" or value == "1.3" end, range = '"1.2" or "1.3"' },
  alpn = { check = is_alpn, range = "a list of names of protocols, of 1 to 255 bytes each" },
}

-- A private key may stand at the wrong option.
for _, rule in pairs(OPTIONS) do rule.is_secret = true end

--- A rule for options.check, of an option that tls.read reads.
tls.RULE = {
  check = function(value) return type(value) == "boolean" or type(value) == "table" end,
  range = "true, false or a table", is_secret = true,
}

-- Why a private key cannot be used here: nobody can be asked for its password.
local function is_encrypted(key)
  return key:find("ENCRYPTED", 1, true) ~= nil
end

local ENCRYPTED = "is encrypted, and there is nobody to ask for its password: give it decrypted, perhaps from a function as option 'key'"

local PAIRS = { "cert", "key" }

local function check_together(what, given)
  local function refuse(fault) misuse.raise(("%s: %s"):format(what, fault)) end
  for _, name in ipairs(PAIRS) do
    if given[name] ~= nil and given[name .. "_file"] ~= nil then
      refuse(("options '%s' and '%s_file' exclude each other"):format(name, name))
    end
  end
  local cert, key = given.cert or given.cert_file, given.key or given.key_file
  if cert and not key then refuse "a client certificate needs its private key: option 'key_file' or 'key'" end
  if key and not cert then refuse "a private key needs its certificate: option 'cert_file' or 'cert'" end
  if given.crl_file and given.verify == false then refuse "option 'crl_file' means nothing where 'verify' is false" end
  if type(given.key) == "string" and is_encrypted(given.key) then refuse("option 'key' " .. ENCRYPTED) end
end

--- Reads the option `tls` of a factory.
-- @param what  who asks, for messages: "cueball.connection.redis"
-- @param given true, or the table; false or nil: no TLS
-- @return settings, for tls.secure; nil: no TLS. Mistakes raise an error at the caller's line
function tls.read(what, given)
  if not given then return nil end
  what = what .. ": option 'tls'"
  if given == true then given = {} end
  options.check(what, given, OPTIONS)
  check_together(what, given)
  local settings = { given = {}, identities = {} }
  for name, value in pairs(given) do settings.given[name] = value end
  if given.alpn then settings.given.alpn = { unpack(given.alpn) } end
  settings.verify = given.verify ~= false
  return settings
end

--- What of the options cannot be had on a host.
-- @return a message; nil: nothing
function tls.fault(settings, host)
  local fault = host.tls and host.tls.fault and host.tls.fault(settings.given)
  return fault and "option 'tls': " .. fault or nil
end

-- ---------------------------------------------------------------- sessions --

local SESSIONS_MAX = 256    -- of one identity
local IDENTITIES_MAX = 16   -- of one factory, on one host

-- -------------------------------------------------------------- identities --

-- A file's text. It is read at each connect: certificates are renewed in their files while programs run.
local function read_file(option, path)
  local content, message = text_of_file(path)
  if not content then return nil, ("%s: %s"):format(option, message) end
  if not has_pem(content) then return nil, ("%s: %s is not in PEM"):format(option, path) end
  return content
end

-- The text of "cert" or "key".
local function pem_of(name, given, context)
  local path = given[name .. "_file"]
  if path then return read_file(name .. "_file", path) end
  local pem, message = context.secret(name, given[name])
  if pem and not has_pem(pem) then return nil, name .. ": its function returned no text in PEM" end
  return pem, message
end

-- @return cert, key, both nil where there are none; or nil, nil, message
local function client_of(given, context)
  if not (given.cert or given.cert_file) then return nil, nil, nil end
  local cert, key, message
  cert, message = pem_of("cert", given, context)
  if not cert then return nil, nil, message end
  key, message = pem_of("key", given, context)
  if not key then return nil, nil, message end
  if is_encrypted(key) then return nil, nil, (given.key_file and "key_file: " .. given.key_file or "key: it") .. " " .. ENCRYPTED end
  return cert, key, nil
end

-- Who this connection is to be opened as: the same as another time, if its certificate and key are the same.
-- @return identity; or nil, message
local function identity_of(settings, context)
  local given = settings.given
  local cert, key, message = client_of(given, context)
  if message then return nil, message end
  local host = context.host
  local identities = settings.identities[host] or sessions.new(IDENTITIES_MAX)
  settings.identities[host] = identities
  local of = cert and cert .. "\0" .. key or ""
  local identity = identities:get(of)
  if identity then return identity end
  local full = options.merge(given, {})
  full.server_name, full.cert_file, full.key_file, full.cert, full.key = nil, nil, nil, cert, key
  local made
  made, message = host.tls.identity(full)
  if not made then return nil, message end
  identity = { made = made, sessions = sessions.new(SESSIONS_MAX) }
  identities:keep(of, identity)
  return identity
end

-- --------------------------------------------------------------- handshake --

-- Whom the server's certificate has to be for: nil if nobody has said.
local function server_name_of(settings, backend)
  local name = settings.given.server_name or backend.name ~= backend.key and backend.name
  if name and is_server_name(name) then return (name:gsub("%.$", "")) end
  if address.is_unix(backend.address) then return nil end
  return (backend.address:gsub("%%.*$", "")) -- without the link of an address that is one's own
end

local function failed(message)
  message = text.message(message)
  return nil, message:find "^TLS: " and message or "TLS: " .. message
end

-- The handshake ends a little before the attempt would be ended: so it is told what took so long.
local MARGIN, MARGIN_MS_MAX = 0.1, 50

local function limit(socket, host, deadline)
  if not deadline then return end
  local left_ms = (deadline - host.now()) / 1e6
  local own_ms = left_ms - math.min(left_ms * MARGIN, MARGIN_MS_MAX)
  socket:settimeout(math.max(1, own_ms - own_ms % 1))
end

--- Makes a connected socket speak TLS, in the attempt's task.
-- @param settings of tls.read
-- @param backend, context of the attempt
-- @param deadline until when, as host.now() counts; the socket's time limits are others then. nil: its limit of connecting is for the
--   handshake alone
-- @return true; or nil, message
function tls.secure(socket, settings, backend, context, deadline)
  local identity, message = identity_of(settings, context)
  if not identity then return failed(message) end
  local name = server_name_of(settings, backend)
  if not name and settings.verify then
    return failed "the server of a UNIX socket has no name to check: give option 'server_name', or verify = false"
  end
  local host, kept = context.host, identity.sessions
  local key = backend.key .. "\0" .. (name or "")
  limit(socket, host, deadline)
  local began = host.now()
  local ok
  ok, message = host.tls.handshake(socket, identity.made, name, settings.verify, kept:get(key))
  if not ok then
    kept:keep(key, nil) -- it may be what the server did not like
    return failed(message)
  end
  socket.cueball_tls = {
    host = host, tls = host.tls, sessions = kept, key = key, asked = 0, deadline = deadline, took_ms = (host.now() - began) / 1e6,
  }
  return true
end

local CLOSED = { -- "error" is nginx's word for what TLS tells it
  ["closed"] = true, ["connection reset by peer"] = true, ["broken pipe"] = true, ["error"] = true,
}

--- The message of a greeting that failed after a handshake. A TLS 1.3 server judges the client's certificate only then, and its alert is
-- lost if bytes were on their way to it.
function tls.explained(message)
  if not CLOSED[text.trimmed(message:match "^.*:(.*)$" or message)] then return message end
  return message .. " (right after the TLS handshake: perhaps the server wants another client certificate)"
end

local ASKED_MAX = 8 -- times: a server that has sent no ticket by then sends none

--- Keeps the session of a connection that was secured, for the next one to the same backend. A TLS 1.3 server sends it after the handshake,
-- so it is there once something was received. A socket without TLS, or whose session is kept, is left alone.
function tls.keep(socket)
  local known = socket.cueball_tls
  if not known then return end
  local session = known.tls.session(socket)
  known.asked = known.asked + 1
  if session then known.sessions:keep(known.key, session) end
  if session or known.asked >= ASKED_MAX then socket.cueball_tls = nil end
end

--- Before a connection is parked, where the host parks connections: what the server sends after a handshake is read, unless it was already.
-- @return true; or nil, message: the connection is over
function tls.settle(socket)
  local known = socket.cueball_tls
  if not known then return true end
  local settle = known.tls.settle
  if settle then
    local left_ms = known.deadline and (known.deadline - known.host.now()) / 1e6
    local ok, message = settle(socket, known.took_ms, left_ms and left_ms > 0 and left_ms or nil)
    if not ok then return nil, message end
  end
  tls.keep(socket)
  return true
end

return tls
