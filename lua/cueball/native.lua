--- The core, through FFI: finds libcueball, declares it, and makes sure that the two agree.
--
--     local native = require "cueball.native"
--     native.lib       the library: native.lib.cueball_version()
--     native.ffi       LuaJIT's ffi
--     native.layout    list of { type =, member =, offset =, size = }, as the library was compiled
--     native.path      the file it came from; "cueball" if the system's linker found it
--     native.version   "1.2.3"
--     native.other(name, advice)   another library of the same build, see below
--
-- Requiring it again, even after package.loaded was emptied, is harmless.

local ffi = require "cueball.luajit"

local ADVICE = "Build it with `cmake -S . -B build && cmake --build build` and put build/?.so into LUA_CPATH, "
  .. "or install it with `cmake --install build` or `luarocks make rockspec/cueball-scm-1.rockspec`."

-- Debian's name for the machine, which is also that of the folder with its libraries.
local TRIPLETS = { x64 = "x86_64-linux-gnu", arm64 = "aarch64-linux-gnu", x86 = "i386-linux-gnu", arm = "arm-linux-gnueabihf" }

--- The places beside this very file, where `cmake --install` puts a library.
local function installed_paths(name)
  local source = debug.getinfo(1, "S").source
  local prefix = source:match "^@(.*)/share/lua/5%.1/cueball/native%.lua$"
  if not prefix then
    return {}
  end
  local extension = ffi.os == "OSX" and ".dylib" or ".so"
  local paths = {}
  for _, folder in ipairs { "lib/lua/5.1", "lib", "lib64", "lib/" .. (TRIPLETS[jit.arch] or jit.arch) } do
    paths[#paths + 1] = prefix .. "/" .. folder .. "/lib" .. name .. extension
  end
  return paths
end

local function file_exists(path)
  local file = io.open(path, "rb")
  return file and file:close() or false
end

-- A library that is collected is unloaded. Others keep addresses of its functions (hosts give cueball_owner_gone to nginx), and
-- finalizers of what it made are still to call it where this module was loaded anew (by busted). So it stays as long as the Lua state.
local function load_for_good(path)
  local library = ffi.load(path)
  debug.getregistry()["cueball.native." .. path] = library
  return library
end

-- Where a program in C runs this (cueball_runtime.h), it says which libcueball it is linked with; other libraries are beside that one.
local function given_path(name)
  local given = debug.getregistry()["cueball.native.given"]
  if not given or given[name] then return given and given[name] end
  local path = given.cueball:match "^(.*/)[^/]*$" .. "lib" .. name .. (ffi.os == "OSX" and ".dylib" or ".so")
  return file_exists(path) and path or nil
end

--- Loads a library: from package.cpath, from beside this file, from where the system looks.
-- A file that is there but cannot be loaded is an error, not a reason to look further: the next one would be another build.
local function load_library(name, advice)
  local given = given_path(name)
  if given then return load_for_good(given), given end
  local path, looked_at = package.searchpath("lib" .. name, package.cpath)
  if path then
    return load_for_good(path), path
  end
  for _, candidate in ipairs(installed_paths(name)) do
    if file_exists(candidate) then
      return load_for_good(candidate), candidate
    end
    looked_at = looked_at .. "\n\tno file '" .. candidate .. "'"
  end
  local is_loaded, library = pcall(load_for_good, name)
  if is_loaded then
    return library, name
  end
  error(("cueball: lib%s not found:%s\n\t%s\n%s"):format(name, looked_at, tostring(library), advice), 0)
end

--- Declares the header's types and functions, once for each Lua state: FFI declarations outlive the module.
local function declare(text)
  local mark = text:match "cueball_cdef_%x+"
  if pcall(ffi.typeof, mark) then
    return
  end
  if pcall(ffi.typeof, "cueball_layout") then
    error("cueball: another build of cueball was loaded in this Lua state before; load one of them only", 0)
  end
  ffi.cdef(text)
end

local function check_version(name, path, version, expected)
  if version ~= expected then
    error(("cueball: lib%s at %s is of another build: it is version %s, the Lua modules are %s. Install both anew.")
      :format(name, path, version, expected), 0)
  end
  return version
end

--- The layouts in the library, each compared with what the declarations come to.
local function check_layout(name, path, layout_at)
  local found = ffi.new "cueball_layout"
  local layout = {}
  while layout_at(#layout, found) do
    local one = { type = ffi.string(found.type), member = ffi.string(found.member), offset = found.offset, size = found.size }
    layout[#layout + 1] = one
    local is_known, ctype = pcall(ffi.typeof, one.type)
    local what, expected, actual
    if one.member == "" then
      what, expected, actual = "struct " .. one.type .. " has size", is_known and ffi.sizeof(ctype), one.size
    else
      what, expected, actual = ("struct %s member %s has offset"):format(one.type, one.member),
        is_known and ffi.offsetof(ctype, one.member), one.offset
    end
    if expected ~= actual then
      error(("cueball: lib%s at %s is of another build: %s %d there, %s in the Lua modules. Install both anew.")
        :format(name, path, what, actual, tostring(expected or "none")), 0)
    end
  end
  if #layout == 0 then
    error(("cueball: lib%s at %s is of another build: it tells no layout. Install both anew."):format(name, path), 0)
  end
  return layout
end

local text = require "cueball.cdef"
declare(text)
local expected = text:match "/%* cueball (%S+) %*/"

--- Loads a library of this build, and makes sure that it is one.
-- @param given { name = "cueball", version = function(library) → "1.2.3", layout_at = function(library) → its cueball_layout_at,
--   advice = what to do if it is not found }
-- @return library, path, version, layout; raises an error
local function open(given)
  local library, path = load_library(given.name, given.advice)
  local version = check_version(given.name, path, ffi.string(given.version(library)), expected)
  local layout = check_layout(given.name, path, given.layout_at(library))
  return library, path, version, layout
end

local library, path, version, layout = open {
  name = "cueball",
  version = function(lib) return lib.cueball_version() end,
  layout_at = function(lib) return lib.cueball_layout_at end,
  advice = ADVICE,
}

--- Another library of this build, such as "cueball_tls", which has NAME_version_text() and NAME_layout_at().
-- @param advice what to do if it cannot be loaded. It is told in any case: of a library that is there, and lacks one that it needs, the
--   linker speaks in its own words only
-- @return { lib =, path =, version = }; raises an error
local function other(name, advice)
  local is_loaded, lib, at, its_version = pcall(open, {
    name = name,
    version = function(made) return made[name .. "_version_text"]() end,
    layout_at = function(made) return made[name .. "_layout_at"] end,
    advice = advice,
  })
  if not is_loaded then error(lib:find(advice, 1, true) and lib or lib .. "\n" .. advice, 0) end
  return { lib = lib, path = at, version = its_version }
end

return { lib = library, ffi = ffi, layout = layout, path = path, version = version, other = other }
