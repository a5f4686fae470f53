--- What the methods of a socket are given, read as nginx reads it. Mistakes raise at the line of the method's caller.
local misuse = require "cueball.misuse"

local arguments = {}

--- Time limit of each operation where none was set, as in nginx.
arguments.DEFAULT_TIMEOUT_MS = 60000

--- nginx's words for a bad argument.
function arguments.bad(number, method, what)
  return ("bad argument #%d to '%s' (%s)"):format(number, method, what)
end

--- The port as a number, nil for a path; or false and what is wrong.
function arguments.port(address, port)
  if address:sub(1, 5) == "unix:" then return nil end
  local number = tonumber(port)
  if address == "" or not number then return false, "host or service not provided" end
  if number % 1 ~= 0 or number < 0 or number > 65535 then
    return false, ("bad port number: %s"):format(port)
  end
  return number
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
