--- Finds a host: the event loop that a pool lives on.
local misuse = require "cueball.misuse"
local contract = require "cueball.host.contract"

local host = {}

-- Neovim, or a program with a table of that name, is not nginx.
local function is_in_nginx()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and type(ngx.config) == "table" and ngx.config.ngx_lua_version ~= nil
    and type(ngx.timer) == "table" and type(ngx.socket) == "table"
end

--- The host for this process: nginx where the program runs in it, else libuv,
-- through luv or Neovim.  Raises an error that says how to install luv where there
-- is neither.
-- @return the host table of docs/hosts.md
function host.default()
  return require(is_in_nginx() and "cueball.nginx.host" or "cueball.host.uv")
end

--- The host that an option names, with all members of the contract.
-- @param what  whose option, for messages
-- @param given a host; nil: the default one
function host.of(what, given)
  if given == nil then return host.default() end
  local lacking = contract.lacks(given)
  if lacking then misuse.raise(("%s: option 'host' is no host (docs/hosts.md): it has no %s"):format(what, lacking)) end
  return contract.complete(given)
end

return host
