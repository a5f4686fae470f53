--- TLS on nginx's own cosockets (host.tls of docs/hosts.md): nginx has the library, the authorities and the versions; a client's
-- certificate, the server's name and the session are each handshake's.
--
-- The happy path: a handshake, full or with the session of one before; when the connection is parked for the first time its tickets
-- are waited for (`settle`), and its session is taken.
--
-- What can go wrong:
--   nginx checks no address, only names      the certificate is asked here, by libcrypto's own function
--   a TLS 1.3 server sends its tickets after the handshake. nginx parks no connection on which bytes came, and drops a parked one when
--                                            they come: so they are read before
--   lua-resty-core throws                    where a handshake fails at once; the reason lies where it has put it
local ffi = require "ffi"
local address = require "cueball.address"
local text = require "cueball.text"
local base = require "resty.core.base"

local tls = {}

-- libssl's and libcrypto's, as nginx has them in itself or has loaded them.
pcall(ffi.cdef, [[
  int cueball_ngx_session_is_resumable(const void *session) __asm__("SSL_SESSION_is_resumable");
  int cueball_ngx_session_version(const void *session) __asm__("SSL_SESSION_get_protocol_version");
  void *cueball_ngx_session_peer(void *session) __asm__("SSL_SESSION_get0_peer");
  int cueball_ngx_check_ip(void *certificate, const char *address, unsigned flags) __asm__("X509_check_ip_asc");
  const void *cueball_ngx_not_after(const void *certificate) __asm__("X509_get0_notAfter");
  int cueball_ngx_compare_now(const void *time) __asm__("X509_cmp_current_time");
  void *cueball_ngx_subject(void *certificate) __asm__("X509_get_subject_name");
  char *cueball_ngx_oneline(void *name, char *text, int size) __asm__("X509_NAME_oneline");
]])

-- nil where this nginx does not have it.
local function found(name)
  local ok, fn = pcall(function() return ffi.C[name] end)
  return ok and fn or nil
end

local session_is_resumable, session_version = found "cueball_ngx_session_is_resumable", found "cueball_ngx_session_version"
local session_peer, check_ip = found "cueball_ngx_session_peer", found "cueball_ngx_check_ip"
local not_after, compare_now = found "cueball_ngx_not_after", found "cueball_ngx_compare_now"
local subject_of, oneline = found "cueball_ngx_subject", found "cueball_ngx_oneline"

local TLS_1_3 = 0x0304

-- Options that nginx takes from its configuration.
local CONFIGURED = {
  ca_file = "lua_ssl_trusted_certificate", ca_dir = "lua_ssl_trusted_certificate", ca = "lua_ssl_trusted_certificate",
  crl_file = "lua_ssl_crl", min_version = "lua_ssl_protocols",
}

local function configured(option)
  return ("in nginx '%s' is no option of a pool: use the directive %s in nginx.conf"):format(option, CONFIGURED[option])
end

local FOR_ALL_POOLS = { "ca_file", "ca_dir", "ca", "crl_file", "min_version" }

--- What of the options cannot be had here.
-- @return a message; nil: nothing
function tls.fault(options)
  for _, option in ipairs(FOR_ALL_POOLS) do
    if options[option] ~= nil then return configured(option) end
  end
  if options.alpn ~= nil then return "nginx's sockets cannot offer protocols ('alpn')" end
  return nil
end

--- The client that handshakes are made as.
-- @param options checked; cert and key as PEM texts
-- @return identity; or nil, message
function tls.identity(options)
  local fault = tls.fault(options)
  if fault then return nil, fault end
  local identity = { cert = nil, key = nil }
  if options.cert then
    local ssl = require "ngx.ssl"
    local message
    identity.cert, message = ssl.parse_pem_cert(options.cert)
    if not identity.cert then return nil, "the client certificate cannot be read: " .. message end
    identity.key, message = ssl.parse_pem_priv_key(options.key)
    if not identity.key then return nil, "the private key cannot be read: " .. message end
  end
  return identity
end

-- ---------------------------------------------------------------- failures --

-- Reasons of a chain that leads to nobody whom nginx trusts.
local function is_untrusted(reason)
  return reason:find("issuer certificate", 1, true) or reason:find("self.signed certificate") or reason:find("first certificate", 1, true)
end

-- What a handshake failed of, in words.
local function described(message, server_name)
  local reason = message:match "^%d+: (.*)$" or message -- the number may be that of a failure before this one
  if is_untrusted(reason) then return reason .. " (nginx trusts the authorities in its lua_ssl_trusted_certificate)" end
  if reason == "certificate host mismatch" then return ("the certificate is not for %s"):format(server_name) end
  if reason == "timeout" then return "the handshake took too long" end
  if reason == "closed" then return "the server closed the connection in the handshake" end
  if reason == "ssl set client private key failed" then return "the certificate and the private key do not belong together" end
  if reason == "handshake failed" then return "the handshake failed; nginx's error log has the reason" end
  return reason
end

-- lua-resty-core throws where a handshake is over at once and has failed; nginx's reason is in the place for messages by then.
local function thrown_reason(thrown)
  local place = base.get_errmsg_ptr()
  if text.of(thrown):find("assertion failed", 1, true) and place[0] ~= nil then return ffi.string(place[0]) end
  return text.of(thrown)
end

-- --------------------------------------------------------------- handshake --

local function subject(certificate)
  if not subject_of or not oneline then return "" end
  local room = ffi.new("char[?]", 256)
  if oneline(subject_of(certificate), room, 256) == nil then return "" end
  return (" (subject %s)"):format(text.message((ffi.string(room):gsub("^/", ""):gsub("/(%a+=)", ", %1"))))
end

-- Is the certificate for this address? nginx itself compares names alone.
local function check_address(session, server_name)
  if not check_ip or not session_peer then
    return nil, "this nginx cannot check a certificate for an address; give the option 'server_name' a name that is in it"
  end
  local certificate = session ~= nil and session_peer(session) or nil
  if certificate == nil then return nil, ("there is no certificate to check %s by"):format(server_name) end
  if check_ip(certificate, server_name, 0) == 1 then return true end
  return nil, ("the certificate is not for %s%s"):format(server_name, subject(certificate))
end

-- A handshake that goes on with a session sees no certificate: one that has expired since would never be noticed.
local function is_out_of_date(session)
  if not (session_peer and not_after and compare_now) then return false end
  local certificate = session_peer(session)
  return certificate ~= nil and compare_now(not_after(certificate)) < 0
end

--- Makes a connected cosocket speak TLS.
-- @param server_name a name or an address; nil: none is told to the server, nor checked
-- @param session of tls.session, or nil
-- @return true; or nil, message
function tls.handshake(socket, identity, server_name, verify, session)
  if not socket.sslhandshake then return nil, "this nginx was built without TLS for its sockets" end
  if identity.cert then
    if not socket.setclientcert then return nil, "this lua-resty-core knows no client certificates (setclientcert)" end
    local ok, message = socket:setclientcert(identity.cert, identity.key)
    if not ok then return nil, message end
  end
  if session and is_out_of_date(session) then session = nil end
  local is_address = server_name and address.family(server_name)
  local is_over, made, message = pcall(socket.sslhandshake, socket, session, not is_address and server_name or nil, verify)
  if not is_over then return nil, described(thrown_reason(made), server_name) end
  if not made then return nil, described(tostring(message), server_name) end
  socket.cueball_first_session = made
  if not (is_address and verify) then return true end
  return check_address(made, server_name)
end

-- The session as it is now. A second handshake of a connection that had one is none: nginx just tells.
local function present_session(socket)
  local is_over, session = pcall(socket.sslhandshake, socket, nil)
  if not is_over or not session or session == nil then return nil end
  return session
end

local function is_resumable(session)
  return session ~= nil and session_is_resumable ~= nil and session_is_resumable(session) == 1
end

--- What the next connection to this server can go on with.
-- @return a session; nil: there is none yet, as the server has sent no ticket
function tls.session(socket)
  local session = present_session(socket)
  return is_resumable(session) and session or nil
end

-- Does a server of this session's version send tickets after the handshake? Where nginx does not have the function to ask, it may.
local function sends_tickets_later(session)
  return not (session and session_version) or session_version(session) >= TLS_1_3
end

-- Reads for a while, so that nginx sees what has come.
-- @return true; or nil, message
local function read_nothing(socket, ms)
  socket:settimeout(ms)
  local data, message = socket:receive(1)
  if data then return nil, "unexpected data" end
  if message ~= "timeout" then return nil, message end
  return true
end

local LEAST_WAIT_MS = 20 -- for a ticket, on a fast network
local QUIET_MS = 5       -- without another ticket: servers send several, one by one

--- Reads what a TLS 1.3 server sends after a handshake, so that the connection can be parked. Nothing else is to come yet.
-- @param took_ms how long the handshake took: tickets are here by the same time again, or this server sends none
-- @param left_ms of the attempt; nil: no limit
-- @return true; or nil, message: the connection is over, or bytes came that nobody had asked for
function tls.settle(socket, took_ms, left_ms)
  local first, session = socket.cueball_first_session, present_session(socket)
  -- Each ticket makes another session. One that is here was read before what a claimer, or a greeting, has received.
  if not sends_tickets_later(session) or session ~= first then return true end
  local waited_ms, quiet_ms, wait_ms = 0, 0, 1
  local limit_ms = math.max(LEAST_WAIT_MS, 2 * math.ceil(took_ms))
  if left_ms then limit_ms = math.min(limit_ms, left_ms / 2) end
  while waited_ms < limit_ms and not (session ~= first and quiet_ms >= QUIET_MS) do
    local ok, message = read_nothing(socket, wait_ms)
    if not ok then return nil, message end
    waited_ms, quiet_ms, wait_ms = waited_ms + wait_ms, quiet_ms + wait_ms, math.min(wait_ms * 2, QUIET_MS)
    local now = present_session(socket)
    if now ~= session then session, quiet_ms = now, 0 end
  end
  return true
end

return tls
