--- Finds a host: the event loop that a pool lives on.
local host = {}

-- Neovim, or a program with a table of that name, is not nginx.
local function is_in_nginx()
  local ngx = rawget(_G, "ngx")
  return type(ngx) == "table" and type(ngx.config) == "table" and ngx.config.ngx_lua_version ~= nil
    and type(ngx.timer) == "table" and type(ngx.socket) == "table"
end

local MEMBERS = { "now", "seed", "spawn", "kill", "current", "sleep", "waiter", "guard", "unguard", "alarm", "log" }

--- What a table has not that every host has.
-- @return its name; nil: it is a host
function host.lacks(given)
  for _, member in ipairs(MEMBERS) do
    if type(given[member]) ~= "function" then return member end
  end
end

--- The host for this process: nginx where the program runs in it, else libuv,
-- through luv or Neovim.  Raises an error that says how to install luv where there
-- is neither.
-- @return the host table of docs/hosts.md
function host.default()
  return require(is_in_nginx() and "cueball.nginx.host" or "cueball.host.uv")
end

return host
