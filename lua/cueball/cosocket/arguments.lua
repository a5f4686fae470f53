--- What the methods of a socket are given, read as nginx reads it. Mistakes raise at the line of the method's caller.
local misuse = require "cueball.misuse"
local address_of = require "cueball.address"

local arguments = {}

--- Time limit of each operation where none was set, as in nginx.
arguments.DEFAULT_TIMEOUT_MS = 60000

--- nginx's words for a bad argument.
function arguments.bad(number, method, what)
  return ("bad argument #%d to '%s' (%s)"):format(number, method, what)
end

local function is_unix(address)
  return address:sub(1, 5):lower() == "unix:"
end

--- What connect is given, its numbers read.
-- @return the address as a string, the port (0: none, as a path has); or nil and what is wrong
function arguments.port(address, port)
  if type(address) == "number" then address = tostring(address) end
  if type(address) ~= "string" then
    misuse.raise(arguments.bad(1, "connect", "string expected, got " .. type(address)))
  end
  local number = tonumber(port)
  if not number then
    if is_unix(address) then return address, 0 end
    return nil, "missing the port number"
  end
  number = number < 0 and math.ceil(number) or math.floor(number)
  if not (number >= 0 and number <= 65535) then return nil, ("bad port number: %s"):format(number) end
  return address, number
end

-- The port in "ADDRESS:PORT", or nil.
local function port_in(text)
  local number = text:find "^%d+$" and tonumber(text)
  return number and number >= 1 and number <= 65535 and number or nil
end

-- "[IPv6]" or "[IPv6]:PORT".
local function bracketed(address, port)
  local inner, rest = address:match "^%[([^%]]*)%](.*)$"
  if not inner then return nil, "invalid host" end
  if rest ~= "" then
    if rest:sub(1, 1) ~= ":" then return nil, "invalid host" end
    port = port_in(rest:sub(2))
    if not port then return nil, "invalid port" end
  end
  if inner == "" then return nil, "no host" end
  if address_of.family((inner:gsub("%%.*$", ""))) ~= 6 then return nil, "invalid IPv6 address" end
  return ("[%s]"):format(inner), port
end

-- A name or an IPv4 number, perhaps with a port.
local function plain(address, port)
  if address:find "[/?]" then return nil, "invalid host" end
  local name, own = address:match "^([^:]*):(.*)$"
  if own and not port_in(own) then return nil, "invalid port" end
  if (name or address) == "" then return nil, "no host" end
  if name and address_of.family(name) == 4 then return name, port_in(own) end
  return address, port
end

--- Where connect goes to, read as nginx reads an address: it may have a port in it, which counts then. An IPv6 number may stand without
-- its brackets, unlike there.
-- @param address, port of arguments.port
-- @return address, port (nil for a path); or nil and what is wrong
function arguments.host(address, port)
  local found, of
  if is_unix(address) then
    if #address > 5 then return "unix:" .. address:sub(6), nil end
    of = "no path in the unix domain socket"
  elseif address:sub(1, 1) == "[" then
    found, of = bracketed(address, port)
  elseif address:find(":", 1, true) and address_of.family((address:gsub("%%.*$", ""))) == 6 then
    return address, port
  else
    found, of = plain(address, port)
  end
  if found then return found, of end
  return nil, ('failed to parse host name "%s": %s'):format(address, of)
end

local OPTIONS = { keepalive = true, ["tcp-nodelay"] = true, reuseaddr = true, sndbuf = true, rcvbuf = true }

--- What setoption is given.
-- @return nil, or what is wrong
function arguments.option_fault(name, value)
  if name == nil then return 'missing the "option" argument' end
  if value == nil then return 'missing the "value" argument' end
  if not OPTIONS[name] then return "unsupported option " .. tostring(name) end
  if type(value) ~= "boolean" and type(value) ~= "number" then
    misuse.raise(arguments.bad(2, "setoption", "number or boolean expected, got " .. type(value)))
  end
  return nil
end

--- Raises an error unless setkeepalive was given numbers.
function arguments.check_keepalive(timeout_ms, size)
  for index, value in pairs { timeout_ms, size } do
    if not tonumber(value) then
      misuse.raise(arguments.bad(index, "setkeepalive", "number expected, got " .. type(value)))
    end
  end
  if size ~= nil and tonumber(size) < 1 then
    misuse.raise(arguments.bad(2, "setkeepalive", ('bad "pool_size" option value: %s'):format(size)))
  end
end

--- What receiveuntil is given.
-- @return the pattern, whether it belongs to the data
function arguments.pattern(pattern, options)
  if type(pattern) == "number" then pattern = tostring(pattern) end
  if type(pattern) ~= "string" then
    misuse.raise(arguments.bad(1, "receiveuntil", "string expected, got " .. type(pattern)))
  end
  if options == nil then return pattern, false end
  if type(options) ~= "table" then
    misuse.raise(arguments.bad(2, "receiveuntil", "table expected, got " .. type(options)))
  end
  local inclusive = options.inclusive
  if inclusive ~= nil and type(inclusive) ~= "boolean" then
    misuse.raise(('bad "inclusive" option value type: %s'):format(type(inclusive)))
  end
  return pattern, inclusive or false
end

--- A time limit in ms: 0 means the default, a negative one is a mistake.
function arguments.timeout_ms(ms)
  if ms == nil then ms = 0 end
  local number = tonumber(ms)
  if not number or number ~= number or number < 0 or number > 0x7fffffff then
    misuse.raise "bad timeout value"
  end
  return number > 0 and number or arguments.DEFAULT_TIMEOUT_MS
end

return arguments
