--- The core, through FFI: finds libcueball, declares it, and makes sure that the two agree.
--
--     local native = require "cueball.native"
--     native.lib       the library: native.lib.cueball_version()
--     native.ffi       LuaJIT's ffi
--     native.layout    list of { type =, member =, offset =, size = }, as the library was compiled
--     native.path      the file it came from; "cueball" if the system's linker found it
--     native.version   "1.2.3"
--
-- Requiring it again, even after package.loaded was emptied, is harmless.

local ffi = require "cueball.luajit"

local ADVICE = "Build it with `cmake -S . -B build && cmake --build build` and put build/?.so into LUA_CPATH, "
  .. "or install it with `cmake --install build` or `luarocks make rockspec/cueball-scm-1.rockspec`."

-- Debian's name for the machine, which is also that of the folder with its libraries.
local TRIPLETS = { x64 = "x86_64-linux-gnu", arm64 = "aarch64-linux-gnu", x86 = "i386-linux-gnu", arm = "arm-linux-gnueabihf" }

--- The places beside this very file, where `cmake --install` puts the library.
local function installed_paths()
  local source = debug.getinfo(1, "S").source
  local prefix = source:match "^@(.*)/share/lua/5%.1/cueball/native%.lua$"
  if not prefix then
    return {}
  end
  local extension = ffi.os == "OSX" and ".dylib" or ".so"
  local paths = {}
  for _, folder in ipairs { "lib/lua/5.1", "lib", "lib64", "lib/" .. (TRIPLETS[jit.arch] or jit.arch) } do
    paths[#paths + 1] = prefix .. "/" .. folder .. "/libcueball" .. extension
  end
  return paths
end

local function file_exists(path)
  local file = io.open(path, "rb")
  return file and file:close() or false
end

--- Loads the library: from package.cpath, from beside this file, from where the system looks.
-- A file that is there but cannot be loaded is an error, not a reason to look further: the next one would be another build.
local function load_library()
  local path, looked_at = package.searchpath("libcueball", package.cpath)
  if path then
    return ffi.load(path), path
  end
  for _, candidate in ipairs(installed_paths()) do
    if file_exists(candidate) then
      return ffi.load(candidate), candidate
    end
    looked_at = looked_at .. "\n\tno file '" .. candidate .. "'"
  end
  local is_loaded, library = pcall(ffi.load, "cueball")
  if is_loaded then
    return library, "cueball"
  end
  error("cueball: libcueball not found:" .. looked_at .. "\n\t" .. tostring(library) .. "\n" .. ADVICE, 0)
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

local function check_version(library, path, expected)
  local version = ffi.string(library.cueball_version())
  if version ~= expected then
    error(("cueball: libcueball at %s is of another build: it is version %s, the Lua modules are %s. Install both anew.")
      :format(path, version, expected), 0)
  end
  return version
end

--- The layouts in the library, each compared with what the declarations come to.
local function check_layout(library, path)
  local found = ffi.new "cueball_layout"
  local layout = {}
  while library.cueball_layout_at(#layout, found) do
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
      error(("cueball: libcueball at %s is of another build: %s %d there, %s in the Lua modules. Install both anew.")
        :format(path, what, actual, tostring(expected or "none")), 0)
    end
  end
  if #layout == 0 then
    error(("cueball: libcueball at %s is of another build: it tells no layout. Install both anew."):format(path), 0)
  end
  return layout
end

local text = require "cueball.cdef"
declare(text)
local library, path = load_library()
local version = check_version(library, path, text:match "/%* cueball (%S+) %*/")
local layout = check_layout(library, path)

-- The library stays loaded as long as the Lua state, since others keep addresses of its functions (hosts give
-- cueball_owner_gone to nginx) and package.loaded may be emptied.
debug.getregistry()["cueball.native " .. path] = library

return { lib = library, ffi = ffi, layout = layout, path = path, version = version }
