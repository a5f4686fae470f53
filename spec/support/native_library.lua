--- A library in C for specs: compiled, linked to the libcueball that is tested, and loaded.
--
--   local library = native_library.load("spec/native/factories.c", [[ int spec_register(const char *name); ]])
--
-- It stays loaded until the process ends, as its threads may run in it.
local ffi = require "ffi"
local shell = require "spec.support.shell"

local native_library = {}

-- What lasts as long as the process: busted loads this file anew for each file of specs.
local registry = debug.getregistry()
local loaded = registry["cueball.spec.native_library"] or {}
registry["cueball.spec.native_library"] = loaded

--- Compiles a library.
-- @param source a file in C, from the root
-- @param flags  more of them, for the compiler; nil: none
-- @return its path, in a folder of its own; whoever asked removes that
function native_library.build(source, flags)
  local path = shell.must("mktemp -d"):match "%S+" .. "/library.so"
  shell.must(("unset LD_PRELOAD; cd %s && ${CC:-cc} -std=c11 -O1 -g -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -Isrc/include "
    .. "-o %s %s %s -L%s -Wl,--allow-shlib-undefined -lcueball -pthread"):format(shell.quote(shell.root), path, source, flags or "",
    shell.quote(shell.build)))
  return path
end

--- Removes what build has made.
function native_library.remove(path)
  shell.must("rm -rf " .. path:match "^(.*)/")
end

--- @param source, flags as of build
-- @param declarations for ffi.cdef
-- @return the library
function native_library.load(source, declarations, flags)
  if loaded[source] then return loaded[source] end
  local path = native_library.build(source, flags)
  require "cueball.native" -- the very library that the new one is to find
  ffi.cdef(declarations)
  loaded[source] = ffi.load(path)
  native_library.remove(path)
  return loaded[source]
end

return native_library
