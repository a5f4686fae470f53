--- What specs of TLS on libuv have in common: contexts, and sockets that are connected.
--
--   client.trusting { … }                     a context that trusts certificates.ca, with more options
--   client.connected(context, port)           a socket; context nil: without settls
--   client.secured(context, port, name)       and its handshake is over
--   client.refusal(context, port, name) → message      the handshake must fail, and leaves the socket closed
local host = require "cueball.host.uv"
local tls = require "cueball.tls"
local certificates = require "spec.support.certificates"

local client = {}

function client.trusting(more)
  local given = { ca_file = certificates.ca.cert }
  for name, value in pairs(more or {}) do given[name] = value end
  return assert(tls.context(given))
end

function client.connected(context, port)
  local sock = host.tcp()
  sock:settimeout(60000)
  if context then sock:settls(context) end
  assert(sock:connect("127.0.0.1", port))
  return sock
end

function client.secured(context, port, name, session)
  local sock = client.connected(context, port)
  assert(sock:sslhandshake(session, name or "localhost"))
  return sock
end

function client.refusal(context, port, name, verify)
  local sock = client.connected(context, port)
  local ok, message = sock:sslhandshake(nil, name or "localhost", verify)
  assert(ok == nil, "the handshake went well")
  local sent, why = sock:send "in clear text"
  assert(sent == nil and why == "closed")
  return message
end

return client
