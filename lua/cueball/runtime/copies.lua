--- Which copies of libcueball this process has: each knows the pools that were published through it, and no others.
--
-- Two Lua states that load one file have one library. A state whose package.cpath leads to another file, or a program with libcueball.a
-- linked in, has a copy. Linux tells what is loaded; elsewhere only what this state uses is told.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local copies = {}

local function lines()
  local file = io.open("/proc/self/maps", "r")
  if not file then return function() end end
  local text = file:read "*a"
  file:close()
  return text:gmatch "[^\n]+"
end

--- What a list of mappings says of libcueball.
-- @param each    an iterator over lines of /proc/self/maps
-- @param address within the library that this state uses, a number
-- @return the file of that library, or nil; and a list of the files of other copies
function copies.read(each, address)
  local own, files, list = nil, {}, {}
  for line in each do
    local first, last, device, inode, path = line:match "^(%x+)%-(%x+) %S+ %x+ (%x+:%x+) (%d+) +(/.*)$"
    local id = path and device .. ":" .. inode
    if id and tonumber(first, 16) <= address and address < tonumber(last, 16) then own = id end
    if id and path:find "/libcueball[^/_]*$" then files[id] = path end
  end
  for id, path in pairs(files) do
    if id ~= own then list[#list + 1] = path end
  end
  table.sort(list)
  return files[own], list
end

--- What to say after "not found": which library was asked, and which others there are.
function copies.told()
  local address = tonumber(ffi.cast("uintptr_t", ffi.cast("void *", lib.cueball_threaded_find)))
  local own, others = copies.read(lines(), address)
  if #others == 0 then return (" (asked: %s)"):format(own or native.path) end
  return (" (asked: %s; the process has another copy of the library, with pools of its own: %s. Let package.cpath lead to that file)")
    :format(own or native.path, table.concat(others, ", "))
end

return copies
