--- Client libraries written for OpenResty's cosockets, on any host.
--
-- Under nginx they are simply required. Elsewhere they are loaded with an environment of their own, in which `ngx` is a table that stands
-- on the host's sockets: such a global would make other libraries believe that they run in nginx.
--
--   local redis = require("cueball.host.library").load(host, "redis")      resty.redis, or nginx.redis as Debian has it
local library = {}

-- A value that is nobody else's, as ngx.null.
local null = setmetatable({}, { __tostring = function() return "null" end })

local function shim(host)
  local ngx = {
    null = null, socket = { tcp = function() return host.tcp() end },
    DEBUG = "debug", INFO = "info", NOTICE = "info", WARN = "warn", ERR = "error", CRIT = "error",
    config = { ngx_lua_version = 10023, debug = false, subsystem = "http" },
    now = function() return host.now() / 1e9 end,
    sleep = function(seconds) return host.sleep(seconds * 1000) end,
  }
  function ngx.log(level, ...)
    local words = { ... }
    for index = 1, select("#", ...) do words[index] = tostring(words[index]) end
    host.log(level, table.concat(words))
  end
  return ngx
end

-- Loads a module from its file, with its own globals on top of ours.
local function load_with(ngx, name)
  local path, looked_at = package.searchpath(name, package.path)
  if not path then return nil, looked_at end
  local chunk, message = loadfile(path)
  if not chunk then return nil, "\n\t" .. message end
  setfenv(chunk, setmetatable({ ngx = ngx }, { __index = _G }))
  return chunk(name)
end

local loaded = setmetatable({}, { __mode = "k" }) -- by host, then by name

--- Finds a library: resty.NAME, else nginx.NAME.
-- @param host whose sockets it is to use
-- @param name "redis", "memcached" …
-- @return the library, and the value that it has for nulls; or nil, message
function library.load(host, name)
  local by_name = loaded[host] or {}
  loaded[host] = by_name
  if by_name[name] then return by_name[name], library.null(host) end
  local messages = ""
  for _, prefix in ipairs { "resty.", "nginx." } do
    local found, message
    if host.name == "ngx" then
      local ok
      ok, found = pcall(require, prefix .. name)
      if not ok then found, message = nil, "\n\t" .. found end
    else
      found, message = load_with(shim(host), prefix .. name)
    end
    if found then
      by_name[name] = found
      return found, library.null(host)
    end
    messages = messages .. message
  end
  return nil, ("the client library was not found as resty.%s or nginx.%s; install lua-resty-%s, or Debian's lua-nginx-%s:%s")
    :format(name, name, name, name, messages)
end

--- What the libraries of this host return for a null.
function library.null(host)
  if host.name == "ngx" then return ngx.null end
  return null
end

return library
