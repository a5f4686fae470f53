--- Reading what a person typed: each function gives the value, or nil and what was expected.
local address = require "cueball.address"
local names = require "cueball.dns.name"

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

-- "a,b" → { "a", "b" }
local function parts_of(text)
  local parts = {}
  for part in (text .. ","):gmatch "%s*(.-)%s*," do parts[#parts + 1] = part end
  return parts
end

--- "10.0.0.1,[::1]:5353" → { "10.0.0.1:53", "[::1]:5353" }; "dns.example" → "dns.example"
function read.servers(text)
  local parts, servers = parts_of(text), {}
  for _, part in ipairs(parts) do
    local host, port = address.split(part)
    if host and not address.is_unix(host) and port ~= 0 then servers[#servers + 1] = address.join(host, port or DNS_PORT) end
  end
  if #servers == #parts then return servers end
  if #parts == 1 and not names.fault(text) then return text end
  return nil, "must be nameservers as IP or IP:PORT, with commas between them, or one name"
end

return read
