--- Addresses of backends as text.
local ffi = require "ffi"

ffi.cdef [[ int inet_pton(int family, const char *text, void *address); ]]

local AF_INET, AF_INET6 = 2, ffi.os == "OSX" and 30 or ffi.os == "BSD" and 28 or 10
local binary = ffi.new "unsigned char[16]"

local address = {}

--- Whether text is an IPv4 or IPv6 address in numbers: 4, 6 or nil.
function address.family(text)
  if ffi.C.inet_pton(AF_INET, text, binary) == 1 then return 4 end
  if ffi.C.inet_pton(AF_INET6, text, binary) == 1 then return 6 end
end

--- "unix:/path" → true
function address.is_unix(text)
  return text:sub(1, 6) == "unix:/"
end

--- Address and port in one: "10.0.0.1:80", "[::1]:80", "unix:/run/db.sock".
function address.join(host, port)
  if address.is_unix(host) then return host end
  if host:find(":", 1, true) then return ("[%s]:%d"):format(host, port) end
  return ("%s:%d"):format(host, port)
end

--- The reverse of join: "10.0.0.1:80", "10.0.0.1", "[::1]:80", "::1", "unix:/path".
-- @return address and port (nil if there is none); or nil, message
function address.split(text)
  if address.is_unix(text) then return text, 0 end
  if address.family(text) then return text, nil end
  local host, port = text:match "^%[(.-)%]:(%d+)$"
  if not host then host, port = text:match "^%[(.-)%]$", "" end
  if not host then host, port = text:match "^([^:]+):(%d+)$" end
  if not host or not address.family(host) then
    return nil, ("%q is not an address: expected IP, IP:PORT, [IPv6]:PORT or unix:/PATH"):format(text)
  end
  if port == "" then return host, nil end
  port = tonumber(port)
  if port > 65535 then return nil, ("%q: port %d is not from 0 to 65535"):format(text, port) end
  return host, port
end

local function text_fault(what, text)
  if type(text) ~= "string" then return ("its %s is %s, not a string"):format(what, type(text)) end
  if #text == 0 or #text > 1023 then return ("its %s has %d bytes, not 1 to 1023"):format(what, #text) end
  if text:find "%c" then return ("its %s %q has control characters"):format(what, text) end
end

--- Reads a backend as a resolver gives it: { address=, port=, name=, key=, weight= }.
-- @return { key, name, address, port, weight }, all filled in; or nil, message
function address.backend(given)
  if type(given) ~= "table" then
    return nil, ("a backend must be a table {address=, port=, …}, not %s"):format(type(given))
  end
  local host, port = given.address, given.port
  local fault = text_fault("address", host)
  if not fault and not address.is_unix(host) then
    if not address.family(host) then
      fault = ("its address %q is neither an IP address nor unix:/PATH"):format(host)
    elseif type(port) ~= "number" or port % 1 ~= 0 or port < 0 or port > 65535 then
      fault = ("its port must be a whole number from 0 to 65535, not %s"):format(tostring(port))
    end
  end
  if fault then return nil, "not a backend: " .. fault end
  port = address.is_unix(host) and 0 or port
  local key = given.key == nil and address.join(host, port) or given.key
  local name = given.name == nil and key or given.name
  local weight = given.weight == nil and 1 or given.weight
  fault = text_fault("key", key) or text_fault("name", name)
  if not fault and (type(weight) ~= "number" or weight % 1 ~= 0 or weight < 1 or weight > 65535) then
    fault = ("its weight must be a whole number from 1 to 65535, not %s"):format(tostring(weight))
  end
  if fault then return nil, ("backend %s: %s"):format(address.join(host, port), fault) end
  return { key = key, name = name, address = host, port = port, weight = weight }
end

return address
