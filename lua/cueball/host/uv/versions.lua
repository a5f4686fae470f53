--- What the libuv host stands on: host.versions, as docs/hosts.md has it.
local ffi = require "ffi"

local versions = {}

ffi.cdef [[ const char *cueball_uv_ares_version(int *number) __asm__("ares_version"); ]]

-- c-ares came with libcueball, and is found through it; a library without DNS has none.
local function c_ares(lib)
  local function ask() return ffi.string(lib.cueball_uv_ares_version(nil)) end
  local found, text = pcall(ask)
  return found and "c-ares " .. text or nil
end

--- Fills in host.versions.
function versions.install(host, uv, lib)
  --- @return list of lines, each a library and its version
  function host.versions()
    return { "libuv " .. uv.version_string(), c_ares(lib) }
  end
end

return versions
