--- Addresses of backends as text.
local ffi = require "ffi"
local text = require "cueball.text"

ffi.cdef [[ int inet_pton(int family, const char *text, void *address); ]]

local AF_INET, AF_INET6 = 2, ffi.os == "OSX" and 30 or ffi.os == "BSD" and 28 or 10
local binary = ffi.new "unsigned char[16]"

local PATH_MAX = ffi.os == "Linux" and 107 or 103   -- sockaddr_un.sun_path, without the final NUL

local address = {}

--- Whether a host is an IPv4 or IPv6 address in numbers: 4, 6 or nil.
function address.family(host)
  if ffi.C.inet_pton(AF_INET, host, binary) == 1 then return 4 end
  if ffi.C.inet_pton(AF_INET6, host, binary) == 1 then return 6 end
end

--- "unix:/path" → true
function address.is_unix(host)
  return host:sub(1, 6) == "unix:/"
end

--- Why the path of a UNIX socket cannot be connected to: libuv cuts one that is too long, and connects to whoever is there.
-- @param host "unix:/path"
-- @return a text; nil: it can, as far as its length goes
function address.path_fault(host)
  local length = #host - #"unix:"
  if length <= PATH_MAX then return nil end
  return ("the path of a UNIX socket has %d bytes, %d at most fit"):format(length, PATH_MAX)
end

--- Why an address cannot be that of a UNIX socket though it begins like one.
-- @return a text; nil: it does not begin so, or it is one
function address.unix_fault(given)
  local rest = given:match "^unix:(.*)$"
  if not rest or rest:sub(1, 1) == "/" then return nil end
  if rest:find "^[@%z]" then
    return ("%s: abstract sockets are not supported, only sockets with a path: unix:/PATH"):format(text.show(given))
  end
  return ("%s: expected unix:/PATH"):format(text.show(given))
end

--- Connects a socket, or a client that is connected like one, to a backend.
-- @param socket_options the last argument of its connect
-- @return what its connect returns
function address.connect(client, backend, socket_options)
  if address.is_unix(backend.address) then return client:connect(backend.address, socket_options) end
  return client:connect(backend.address, backend.port, socket_options)
end

--- Address and port in one: "10.0.0.1:80", "[::1]:80", "unix:/run/db.sock".
function address.join(host, port)
  if address.is_unix(host) then return host end
  if host:find(":", 1, true) then return ("[%s]:%d"):format(host, port) end
  return ("%s:%d"):format(host, port)
end

--- The reverse of join: "10.0.0.1:80", "10.0.0.1", "[::1]:80", "::1", "unix:/path".
-- @return address and port (nil if there is none); or nil, message
function address.split(given)
  if address.is_unix(given) then
    local fault = address.path_fault(given)
    if fault then return nil, fault end
    return given, 0
  end
  local fault = address.unix_fault(given)
  if fault then return nil, fault end
  if address.family(given) then return given, nil end
  local host, port = given:match "^%[(.-)%]:(%d+)$"
  if not host then host, port = given:match "^%[(.-)%]$", "" end
  if not host then host, port = given:match "^([^:]+):(%d+)$" end
  if not host or not address.family(host) then
    return nil, ("%s is not an address: expected IP, IP:PORT, [IPv6]:PORT or unix:/PATH"):format(text.show(given))
  end
  if port == "" then return host, nil end
  port = tonumber(port)
  if port > 65535 then return nil, ("%s: port %d is not from 0 to 65535"):format(text.show(given), port) end
  return host, port
end

local function text_fault(what, given)
  if type(given) ~= "string" then return ("its %s is %s, not a string"):format(what, type(given)) end
  if #given == 0 or #given > 1023 then return ("its %s has %d bytes, not 1 to 1023"):format(what, #given) end
  if given:find "[%z\1-\31\127]" then return ("its %s %s has control characters"):format(what, text.show(given)) end
end

local function range_fault(what, value, low, high)
  if type(value) ~= "number" or value % 1 ~= 0 or value < low or value > high then
    return ("its %s must be a whole number from %d to %d, not %s"):format(what, low, high, text.message(value))
  end
end

-- Control characters are refused; what is no UTF-8 (a path may be in any bytes) is escaped, for people.
local function clean_utf8(given)
  return given:find "[\128-\255]" and not given:find "[%z\1-\31\127]" and text.clean(given) or given
end

--- Reads a backend as a resolver gives it: "10.0.0.1:80", or { address=, port=, name=, key=, weight=, priority=, provenance= }.
-- @return { key, name, address, port, weight, priority, provenance }, all but the last filled in; or nil, message
function address.backend(given)
  if type(given) == "string" then
    local host, port = address.split(given)
    if not host then return nil, "not a backend: " .. port end
    given = { address = host, port = port }
  end
  if type(given) ~= "table" then
    return nil, ("a backend must be a table {address=, port=, …}, not %s"):format(type(given))
  end
  local host, port = given.address, given.port
  local fault = text_fault("address", host)
  if not fault and address.unix_fault(host) then fault = "its address " .. address.unix_fault(host) end
  if not fault and not address.is_unix(host) then
    if not address.family(host) then
      fault = ("its address %s is neither an IP address nor unix:/PATH"):format(text.show(host))
    else
      fault = range_fault("port", port, 0, 65535)
    end
  end
  fault = fault or address.is_unix(host) and address.path_fault(host) or nil
  if fault then return nil, "not a backend: " .. fault end
  port = address.is_unix(host) and 0 or port
  local key = given.key == nil and address.join(host, port) or given.key
  local name = given.name == nil and key or given.name
  if type(key) == "string" then key = clean_utf8(key) end
  if type(name) == "string" then name = clean_utf8(name) end
  local weight = given.weight == nil and 1 or given.weight
  local priority = given.priority == nil and 0 or given.priority
  local provenance = given.provenance
  fault = text_fault("key", key) or text_fault("name", name) or range_fault("weight", weight, 1, 65535)
    or range_fault("priority", priority, 0, 65535)
  if not fault and provenance ~= nil and type(provenance) ~= "string" then
    fault = ("its provenance is %s, not a string"):format(type(provenance))
  end
  if fault then return nil, ("backend %s: %s"):format(clean_utf8(address.join(host, port)), fault) end
  provenance = provenance and text.message(provenance)
  return { key = key, name = name, address = host, port = port, weight = weight, priority = priority, provenance = provenance }
end

return address
