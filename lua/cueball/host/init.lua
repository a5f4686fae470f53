--- Finds a host: the event loop that a pool lives on.
local misuse = require "cueball.misuse"
local contract = require "cueball.host.contract"
local text = require "cueball.text"

local host = {}

-- Neovim, or a program with a table of that name, is not nginx.
local function is_in_nginx()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and type(ngx.config) == "table" and ngx.config.ngx_lua_version ~= nil
    and type(ngx.timer) == "table" and type(ngx.socket) == "table"
end

local chosen -- by host.use

--- From now on it is the host that is used where none is named: for a program, or a prompt, that lives in virtual time.
-- @param given a host; nil: the process's own again
-- @return the one of before, or nil
function host.use(given)
  local before = chosen
  chosen = given and host.of("host.use", given)
  return before
end

--- The host for this process: what host.use was given; else nginx where the program runs in it, else libuv,
-- through luv or Neovim.  Raises an error that says how to install luv where there
-- is neither.
-- @return the host table of docs/hosts.md
function host.default()
  return chosen or require(is_in_nginx() and "cueball.nginx.host" or "cueball.host.uv")
end

--- The host that this Lua state has already; nil: none was loaded. Nothing is loaded for it.
function host.loaded()
  return package.loaded["cueball.nginx.host"] or package.loaded["cueball.host.uv"] or nil
end

--- The host that an option names, with all members of the contract.
-- @param what  whose option, for messages
-- @param given a host; nil: the default one
function host.of(what, given)
  if given == nil then return host.default() end
  if type(given) ~= "table" then
    misuse.raise(("%s: option 'host' must be a host (docs/hosts.md), not %s"):format(what, text.show(given)))
  end
  local lacking = contract.lacks(given)
  if lacking then misuse.raise(("%s: option 'host' is no host (docs/hosts.md): it has no %s"):format(what, lacking)) end
  return contract.complete(given)
end

return host
