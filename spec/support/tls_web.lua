--- Real web servers over TLS for specs: Debian's nginx, which answers each request with what it knows of the connection.
--
--   local tls_web = require "spec.support.tls_web"
--   local one = tls_web.start { certificate = certificates.good, versions = "TLSv1.3", client_ca = path or nil }
--   one.port, one.backend
--   one:present(certificates.expired)     from now on new connections get this certificate
--   one:stop()
--   tls_web.ask(socket) → { reused =, version =, client =, name =, connection = }, or nil, message
--     reused: "r" for a resumed session, else "."; version: "TLSv1.3"; client: the subject of its certificate; name: what SNI told
--   tls_web.ASK      the text of a function that does the same, for code in another nginx
local nginx = require "spec.support.nginx"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local tls_web = {}

local CONF = [[
ssl_session_cache %s; ssl_session_timeout 1h;
server {
  listen 127.0.0.1:%d ssl backlog=1024; listen [::1]:%d ssl;
  ssl_certificate %%(prefix)/cert.pem; ssl_certificate_key %%(prefix)/key.pem; ssl_protocols %s;
  %s
  keepalive_requests %d; keepalive_timeout %s;
  location / {
    default_type text/plain;
    return 200 "$ssl_session_reused,$ssl_protocol,$ssl_client_s_dn,$ssl_server_name,$connection";
  }
}
]]

tls_web.ASK = [[
local function ask(socket)
  local sent, message = socket:send "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
  if not sent then return nil, message end
  local head
  head, message = socket:receiveuntil "\r\n\r\n" ()
  if not head then return nil, message end
  local body
  body, message = socket:receive(tonumber(head:match "[Cc]ontent%-[Ll]ength: (%d+)"))
  if not body then return nil, message end
  local reused, version, client, name, connection = body:match "^(.-),(.-),(.-),(.-),(.-)$"
  return { reused = reused, version = version, client = client, name = name, connection = connection }
end
]]

tls_web.ask = loadstring(tls_web.ASK .. "return ask")()

local Server = {}
Server.__index = Server

local function write_certificate(self, certificate)
  shell.write(self.certificate_folder .. "/cert.pem", certificate.cert_pem)
  shell.write(self.certificate_folder .. "/key.pem", certificate.key_pem)
end

--- Waits until the worker with the old one, which closes idle connections, has ended.
function Server:present(certificate)
  write_certificate(self, certificate)
  local before = self.nginx:workers()[1]
  self.nginx:signal "HUP"
  until_true(function()
    local now = self.nginx:workers()
    return #now == 1 and now[1] ~= before
  end, function() return self.nginx:log() end)
end

function Server:stop()
  self.nginx:stop()
  shell.must("rm -rf " .. shell.quote(self.certificate_folder))
end

--- @param given { certificate =, versions = "TLSv1.2 TLSv1.3", client_ca =, session_cache = "shared:tls:1m", more = "…",
--   requests = how many a connection may make, rest = "1h", how long it may be idle }
function tls_web.start(given)
  local port = free_port()
  local folder = shell.must "mktemp -d /tmp/cueball-tls-XXXXXX"
  local self = setmetatable({ port = port, backend = "127.0.0.1:" .. port, certificate_folder = folder }, Server)
  write_certificate(self, given.certificate)
  local client = given.client_ca
    and ("ssl_verify_client on; ssl_client_certificate %s;"):format(given.client_ca) or ""
  local http = CONF:format(given.session_cache or "shared:tls:1m", port, port, given.versions or "TLSv1.2 TLSv1.3",
    client .. (given.more or ""), given.requests or 1000000, given.rest or "1h"):gsub("%%%(prefix%)", folder)
  self.nginx = nginx.start { http = http, log_level = "info" }
  return self
end

return tls_web
