--- A port of 127.0.0.1 that nobody uses, for a server of an example.
local uv = require "luv"

return function()
  local handle = uv.new_tcp()
  handle:bind("127.0.0.1", 0)
  local port = handle:getsockname().port
  handle:close()
  return port
end
