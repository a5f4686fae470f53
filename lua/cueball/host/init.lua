--- Finds a host: the event loop that a pool lives on.
local host = {}

--- The host for this process: libuv, through luv or Neovim.  Raises an error
-- that says how to install luv where there is neither.
-- @return the host table of docs/hosts.md
function host.default()
  return require "cueball.host.uv"
end

return host
