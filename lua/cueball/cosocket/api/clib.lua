--- Libraries in C that are loaded by their soname when they are first needed.
local ffi = require "ffi"

local clib = {}

-- A library that is collected is unloaded, though functions of it are still to be called: finalizers, and what others keep of it. So it
-- stays as long as the Lua state, also where this module is loaded again.
local registry = debug.getregistry()
local loaded = registry["cueball.clib"] or {}
registry["cueball.clib"] = loaded

--- @param is_global its symbols are found in ffi.C from now on
-- @param package of Debian's that has it, for the message
-- @param ... sonames, the best first
-- @return the library; or nil, message
function clib.load(is_global, package, ...)
  local first = ...
  local message
  for index = 1, select("#", ...) do
    local name = select(index, ...)
    if loaded[name] then return loaded[name] end
    local ok, found = pcall(ffi.load, name, is_global)
    if ok then
      loaded[name] = found
      return found
    end
    message = message or found
  end
  return nil, ("%s could not be loaded; install it with `apt install %s`: %s"):format(first, package, message)
end

return clib
