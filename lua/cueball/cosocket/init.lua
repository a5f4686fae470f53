--- Client libraries written for OpenResty, unmodified, on every host: docs/libraries.md.
--
--   local http = cueball.cosocket.load "resty.http"
--   local response = http.new():request_uri("http://127.0.0.1:8080/")
local library = require "cueball.cosocket.library"
local misuse = require "cueball.misuse"
local hosts = require "cueball.host"
local text = require "cueball.text"

local cosocket = {}

--- Loads a library, once for each host; in nginx it is required.
-- @param name "resty.http", "redis" (resty.redis, or nginx.redis as Debian has it), "pgmoon" …
-- @param host whose sockets it is to use; nil: the default one
-- @return the library, what it has for nulls, and the `ngx` it stands on. Raises an error where it cannot be loaded, as require does
function cosocket.load(name, host)
  if type(name) ~= "string" or name == "" then misuse.raise("cueball.cosocket.load: expected a name, got " .. text.show(name)) end
  local found, null, api = library.load(hosts.of("cueball.cosocket.load", host), name)
  if found == nil then misuse.raise(("cueball.cosocket.load: %s: %s"):format(name, null)) end
  return found, null, api
end

return cosocket
