--- Client libraries written for OpenResty's cosockets, on any host.
--
-- nginx requires them (cueball.nginx.library). Elsewhere they are loaded with an environment of their own, in which `ngx` is a table that
-- stands on the host's sockets: such a global would make other libraries believe that they run in nginx.
--
--   local redis = require("cueball.cosocket.library").load(host, "redis")      resty.redis, or nginx.redis as Debian has it
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local library = {}

-- What these libraries return for a null: a value that is nobody else's, as ngx.null.
local null = setmetatable({}, { __tostring = function() return "null" end })

-- What the libraries call `ngx`.
local function api_on(host)
  local api = {
    null = null, socket = { tcp = function() return host.tcp() end },
    DEBUG = "debug", INFO = "info", NOTICE = "info", WARN = "warn", ERR = "error", CRIT = "error",
    config = { ngx_lua_version = 10023, debug = false, subsystem = "http" },
    now = function() return host.now() / 1e9 end,
    sleep = function(seconds) return host.sleep(seconds * 1000) end,
  }
  function api.log(level, ...)
    local words = { ... }
    for index = 1, select("#", ...) do words[index] = tostring(words[index]) end
    host.log(level, table.concat(words))
  end
  return api
end

-- Loads a module from its file, with its own globals on top of ours.
local function load_with(api, name)
  local path, looked_at = package.searchpath(name, package.path)
  if not path then return nil, looked_at end
  local chunk, message = loadfile(path)
  if not chunk then return nil, "\n\t" .. message end
  setfenv(chunk, setmetatable({ ["ngx"] = api }, { __index = _G }))
  return chunk(name)
end

--- host.library of a host that has none of its own: loads the file of resty.NAME, else that of nginx.NAME.
-- @return the library, and the value that it has for nulls; or nil, message
function library.on(host)
  return function(name)
    if type(name) ~= "string" then misuse.raise("library: expected a name, got " .. text.show(name)) end
    local messages = ""
    for _, prefix in ipairs { "resty.", "nginx." } do
      local found, message = load_with(api_on(host), prefix .. name)
      if found then return found, null end
      messages = messages .. message
    end
    return nil, messages
  end
end

local loaded = setmetatable({}, { __mode = "k" }) -- by host, then by name: { the library, its null }

--- Finds a library, once for each host.
-- @param host whose sockets the library is to use
-- @param name "redis", "memcached" …
-- @return the library, and the value that it has for nulls; or nil, message
function library.load(host, name)
  local by_name = loaded[host] or {}
  loaded[host] = by_name
  if not by_name[name] then
    local found, value = host.library(name)
    if not found then
      return nil, ("the client library was not found as resty.%s or nginx.%s; install lua-resty-%s, or Debian's lua-nginx-%s:%s")
        :format(name, name, name, name, value)
    end
    by_name[name] = { found, value }
  end
  return by_name[name][1], by_name[name][2]
end

return library
