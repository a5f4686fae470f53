--- The right resolver for what somebody typed: an address or a name, with or without a port.
--
--   resolver.from "10.0.0.1:80"     resolver.from("db.example", { default_port = 5432, service = "_postgresql._tcp" })
local address = require "cueball.address"
local dns_options = require "cueball.dns.options"
local name = require "cueball.dns.name"
local options = require "cueball.options"
local said = require("cueball.text").format

local WHAT = "cueball.resolver.from"

local OPTIONS = options.merge(dns_options.rules, {})
OPTIONS.domain = nil
options.note("cueball.resolver.from", OPTIONS)

local function port_of(text, digits)
  local port = digits:find "^%d%d?%d?%d?%d?$" and tonumber(digits)
  if digits == "" then return nil, said("%q: the port after ':' is missing", text) end
  if not port or port > 65535 then return nil, said("%q: %q is no port: expected a number from 0 to 65535", text, digits) end
  return port
end

-- "[::1]", "[::1]:80"
local function split_bracketed(text)
  local host, rest = text:match "^%[(.-)%](.*)$"
  if not host then return nil, said("%q: the bracket is not closed; expected [IPv6]:PORT", text) end
  if address.family(host) ~= 6 then return nil, said("%q: %q is no IPv6 address, and only those stand in brackets", text, host) end
  if rest == "" then return host end
  if rest:sub(1, 1) ~= ":" then return nil, said("%q: after the bracket a port such as :80 is expected, not %q", text, rest) end
  local port, message = port_of(text, rest:sub(2))
  if not port then return nil, message end
  return host, port
end

-- @return the host and its port (nil if there is none); or nil, message
local function split(text)
  if type(text) ~= "string" then return nil, "expected an address or a name as a string, got " .. options.show(text) end
  if text == "" then return nil, "the address or name is empty" end
  if text:find "[%s%c]" then return nil, said("%q: there are blanks in it", text) end
  if text:find "^unix:" then
    local fault = address.unix_fault(text) or address.path_fault(text)
    if fault then return nil, fault end
    return text
  end
  if text:sub(1, 1) == "[" then return split_bracketed(text) end
  if address.family(text) then return text end
  local host, digits = text:match "^([^:]*):([^:]*)$"
  if not host then
    if not text:find ":" then return text end
    return nil, said("%q has several colons, but is no IPv6 address; expected HOST:PORT or [IPv6]:PORT", text)
  end
  if host == "" then return nil, said("%q: there is nothing before the port", text) end
  local port, message = port_of(text, digits)
  if not port then return nil, message end
  return host, port
end

local function needs_port(text)
  return nil, said("%q has no port, and no default_port is given", text), "invalid"
end

--- Makes a resolver from a text.
-- @param text  "10.0.0.1", "10.0.0.1:80", "::1", "[::1]", "[::1]:80", "unix:/path", "db.example", "db.example:5432"
-- @param given nil, or the options of cueball.resolver.dns but `domain`; those that are not for addresses are passed over
--   there. A port in the text comes before default_port.
-- @return a resolver; or nil, message, "invalid" if the text is no good.  Mistakes in the options raise an error
local function from(text, given)
  given = options.check(WHAT, given, OPTIONS)
  local host, port = split(text)
  if not host then return nil, port, "invalid" end
  port = port or given.default_port
  if address.is_unix(host) or address.family(host) then
    if not port and not address.is_unix(host) then return needs_port(text) end
    return require "cueball.resolver.static" { { address = host, port = port }, name = given.name or text }
  end
  local fault = name.fault(host)
  if fault then return nil, said("%q is neither an address nor a name: %s", text, fault), "invalid" end
  if type(given.service) == "string" and #given.service + 1 + #host > name.LENGTH_MAX then
    return nil, said("%q is too long a name: with %q before it it has over %d octets", text, given.service, name.LENGTH_MAX), "invalid"
  end
  if not port and not given.service then return needs_port(text) end
  local all = options.merge({}, { domain = host, default_port = port })
  for option, value in pairs(given) do
    if all[option] == nil then all[option] = value end
  end
  return require "cueball.resolver.dns"(all, WHAT)
end

return from
