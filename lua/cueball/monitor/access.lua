--- Who may ask the monitor's server, and how: looked at before anything is answered.
--
-- The browsers of people who can reach the server are used by pages that they visit: such a page could read what is here by a name of its
-- own that resolves to this address (DNS rebinding: the Host header tells), or by a request to it (Origin and Sec-Fetch-Site tell).
-- GET changes nothing, so no page can change anything by one.
local address = require "cueball.address"
local bit = require "bit"

local access = {}

local READS = { GET = true, HEAD = true }

--- Whether an address is reached from this machine only.
-- @param given "127.0.0.1:9190", "[::1]:9190", "unix:/path"
function access.is_local(given)
  if address.is_unix(given) then return true end
  local host = address.split(given)
  return host ~= nil and (host == "::1" or address.family(host) == 4 and host:find "^127%." ~= nil)
end

-- Whether two strings are equal, in a time that tells nothing of where they differ.
local function is_same(given, secret)
  local differ = #given == #secret and 0 or 1
  for index = 1, #given do
    differ = bit.bor(differ, bit.bxor(given:byte(index), secret:byte((index - 1) % #secret + 1)))
  end
  return differ == 0
end

-- "Host: app.example:9190" → "app.example", "[::1]" → "::1"; nil: it is none.
local function name_of(host)
  return host:match "^%[([%x:.]+)%]$" or host:match "^%[([%x:.]+)%]:%d+$" or host:match "^([%w._-]+)$" or host:match "^([%w._-]+):%d+$"
end

-- A number cannot be made to mean another machine by who runs a nameserver; a name can.
local function is_our_name(self, request)
  local host = request.headers.host
  if not host then return request.minor == 0 or self.is_path end
  if request.counts.host ~= 1 then return false end
  if self.is_path and not next(self.hosts) then return true end
  local name = name_of(host:lower())
  return name ~= nil and (name == "localhost" or self.hosts[name] or address.family(name) ~= nil) and true or false
end

-- Asked by a page of ours, or by no page at all?
local function is_of_our_page(request)
  local origin, site = request.headers.origin, request.headers["sec-fetch-site"]
  if origin and origin:match "^https?://(.*)$" ~= request.headers.host then return false end
  return site == nil or site == "same-origin" or site == "none"
end

-- A link on another page that leads here shows that page nothing.
local function is_link(request)
  local headers = request.headers
  return headers.origin == nil and headers["sec-fetch-mode"] == "navigate" and headers["sec-fetch-dest"] == "document"
end

local function has_token(self, request)
  local given = (request.headers.authorization or ""):match "^[Bb]earer +(%S+)%s*$"
  return given ~= nil and is_same(given, self.token)
end

--- Why a request is not answered.
-- @param self  of access.new
-- @param is_public what is asked for tells nothing of pools: the page
-- @return status, message, name, headers; or nil: it is answered
function access.objection(self, request, is_public)
  if not READS[request.method] then
    return 405, "GET and HEAD are answered, nothing else: nothing here changes anything", "method_not_allowed", { { "Allow", "GET, HEAD" } }
  end
  if request.has_body then return 400, "a body is not read", "bad_request" end
  if not is_our_name(self, request) then
    return 421, "this server is not known by the name in the Host header; see the option `hosts`", "unknown_host"
  end
  if not is_of_our_page(request) and not (is_public and is_link(request)) then
    return 403, "a page of another origin may not ask here", "cross_origin"
  end
  if self.token and not is_public and not has_token(self, request) then
    return 401, "a token is wanted: Authorization: Bearer TOKEN", "unauthorized", { { "WWW-Authenticate", 'Bearer realm="cueball"' } }
  end
  return nil
end

--- @param listening the address
-- @param given { token = nil or a string, hosts = nil or a list of names }
function access.new(listening, given)
  local hosts = {}
  for _, name in ipairs(given.hosts or {}) do hosts[name:lower()] = true end
  return { token = given.token, hosts = hosts, is_path = address.is_unix(listening) }
end

return access
