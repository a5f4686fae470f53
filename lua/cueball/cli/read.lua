--- Reading what a person typed: each function gives the value, or nil and what was expected.
local address = require "cueball.address"
local names = require "cueball.dns.name"
local texts = require "cueball.text"
local parts_of = texts.parts

local read = {}

local TIME_MS = { [""] = 1, ms = 1, s = 1000, m = 60000 }
local TIME_MS_MAX = 86400000
local DNS_PORT = 53

--- "500", "500ms", "1.5s", "2m" → milliseconds
function read.time(text)
  local number, unit = text:match "^(%d+%.?%d*)(%l*)$"
  local ms = number and TIME_MS[unit] and tonumber(number) * TIME_MS[unit]
  if not ms or ms < 1 or ms > TIME_MS_MAX then
    return nil, "must be a time from 1ms to 1440m, such as 500ms, 5s or 1m (a bare number is milliseconds)"
  end
  return ms
end

local SPAN_MS = { us = 0.001, ms = 1, s = 1000, m = 60000 }

--- "0", "500us", "5ms", "1.5s" → milliseconds, from 0
function read.span(text)
  local number, unit = text:match "^(%d+%.?%d*)(%l*)$"
  local ms = number and (SPAN_MS[unit] and tonumber(number) * SPAN_MS[unit] or unit == "" and tonumber(number))
  if not ms or ms > TIME_MS_MAX then
    return nil, "must be a time from 0 to 1440m, such as 500us, 5ms or 2s (a bare number is milliseconds)"
  end
  return ms
end

--- "5ms" → { 5, 5 }; "2ms-8ms" → { 2, 8 }
function read.spread(text)
  local low, high = text:match "^([^-]+)%-([^-]+)$"
  low, high = read.span(low or text), read.span(high or text)
  if not low or not high or high < low then return nil, "must be a time such as 5ms, or two with a dash between them such as 2ms-8ms" end
  return { low, high }
end

local RATE_S = { [""] = 1, s = 1, m = 60 }

--- "2000/s", "2000", "120/m" → a second
function read.rate(text)
  local number, unit = text:match "^(%d+%.?%d*)/?(%l?)$"
  local rate = number and RATE_S[unit] and tonumber(number) / RATE_S[unit]
  if not rate or rate <= 0 or rate > 1e6 then return nil, "must be a rate of at most 1000000/s, such as 2000/s or 90/m" end
  return rate
end

--- A reader of whole numbers.
function read.whole(low, high)
  return function(text)
    local number = text:match "^%d+$" and tonumber(text)
    if not number or number < low or number > high then return nil, ("must be a whole number from %d to %d"):format(low, high) end
    return number
  end
end

local WORDS = { ["true"] = true, ["false"] = false }

--- "recovery.default.timeout_ms=500" → { recovery = { default = { timeout_ms = 500 } } }, in `into`
-- @return into; or nil, message
function read.assignment(text, into)
  local path, value = text:match "^([%a_][%w_.]*)=(.*)$"
  if not path then return nil, "must be NAME=VALUE, such as spares=4 or recovery.default.timeout_ms=500" end
  local typed = WORDS[value]
  if typed == nil then typed = tonumber(value) or value end
  local node, last = into, path
  for part, rest in path:gmatch "([^.]+)%.()" do
    node[part] = type(node[part]) == "table" and node[part] or {}
    node, last = node[part], path:sub(rest)
  end
  node[last] = typed
  return into
end

local ESCAPES = { n = "\n", r = "\r", t = "\t", ["\\"] = "\\" }

--- "PING\\r\\n" with its escapes read: \n, \r, \t, \\, \xHH
function read.escaped(text)
  local fault
  local made = text:gsub("\\(.?)(%x?%x?)", function(letter, digits)
    if letter == "x" and #digits == 2 then return string.char(tonumber(digits, 16)) end
    if not ESCAPES[letter] then fault = true return "" end
    return ESCAPES[letter] .. digits
  end)
  if fault then return nil, "has an escape that is none of \\n, \\r, \\t, \\\\ and \\xHH" end
  return made
end

--- "8080" → 8080
function read.port(text)
  local port = text:match "^%d+$" and tonumber(text)
  if not port or port > 65535 then return nil, "must be a whole number from 0 to 65535" end
  return port
end

--- "_http._tcp" → itself; "none" → false
function read.service(text)
  if text == "none" then return false end
  if names.service_fault(text) then return nil, "must be a service such as _http._tcp, or none" end
  return text
end

--- "10.0.0.1,[::1]:5353" → { "10.0.0.1:53", "[::1]:5353" }; "dns.example" → "dns.example"
function read.servers(text)
  local parts, servers = parts_of(text, ","), {}
  for _, part in ipairs(parts) do
    local host, port = address.split(part)
    if host and not address.is_unix(host) and port ~= 0 then servers[#servers + 1] = address.join(host, port or DNS_PORT) end
  end
  if #servers == #parts then return servers end
  if #parts == 1 and not names.fault(text) then return text end
  return nil, "must be nameservers as IP or IP:PORT, with commas between them, or one name"
end

local TOKEN_MAX = 4096

--- What is shown to a program so that it answers. It is in a file or in the environment: a command line is seen by everybody.
-- @param path  the file, or nil
-- @param given what the environment has, or nil: for want of a file
-- @return the token, or nil: none is wanted; nil, message: it cannot be read, or is none
function read.token(path, given)
  local token = given
  if path then
    local file, message = io.open(path, "rb")
    if not file then return nil, "the token cannot be read: " .. texts.message(message) end
    token = file:read(TOKEN_MAX) or ""
    file:close()
  end
  token = token and texts.trimmed(token)
  if not token or token == "" then return nil, path and texts.format("%q has no token in it", path) or nil end
  if token:find "[%s%c]" then return nil, "the token has blanks or control characters in it" end
  return token
end

return read
