--- What was typed in earlier sessions: a file in the user's state folder, which nobody else may read. An entry of several lines is one.
--
--   local history = require("cueball.cli.history").open("history", system)
--   history.entries        texts, the latest last; a list that stays the same table
--   history:add(text)      what begins with a space is kept in the list, and not in the file
local ffi = require "ffi"
local trimmed_end = require("cueball.text").trimmed_end

pcall(ffi.cdef, [[
  unsigned cueball_history_umask(unsigned mask) __asm__("umask");
  int cueball_history_mkdir(const char *path, unsigned mode) __asm__("mkdir");
  int cueball_history_chmod(const char *path, unsigned mode) __asm__("chmod");
]])

local history = {}

local ENTRIES_MAX, BYTES_MAX = 2000, 100000 -- entries; bytes of one
local READ_MAX = 16 * 1024 * 1024           -- bytes of the file
local OWNER_ONLY, OWNER_ONLY_FOLDER = 384, 448 -- 0600, 0700

local History = {}
History.__index = History

-- $XDG_STATE_HOME/cueball, by default ~/.local/state/cueball; nil: there is no home.
local function folder_of(system)
  local state = system.environment "XDG_STATE_HOME"
  if state and state:sub(1, 1) == "/" then return state .. "/cueball" end
  local home = system.environment "HOME"
  return home and home ~= "" and home .. "/.local/state/cueball" or nil
end

local function make_folders(path)
  for at in path:gmatch "()/" do
    if at > 1 then ffi.C.cueball_history_mkdir(path:sub(1, at - 1), OWNER_ONLY_FOLDER) end
  end
  ffi.C.cueball_history_mkdir(path, OWNER_ONLY_FOLDER)
end

local function escaped(text)
  return (text:gsub("\\", "\\\\"):gsub("\n", "\\n"))
end

local function unescaped(text)
  return (text:gsub("\\(.)", function(letter) return letter == "n" and "\n" or letter end))
end

-- Opens a file that nobody else can read, once there is something in it. What is no file, a device that takes all, keeps its mode.
local function open_private(path, mode)
  local before = ffi.C.cueball_history_umask(63) -- 077
  local file, message = io.open(path, mode)
  ffi.C.cueball_history_umask(before)
  return file, message
end

local function close_private(file, path)
  local is_file = file:flush() and (file:seek "end" or 0) > 0
  if is_file then ffi.C.cueball_history_chmod(path, OWNER_ONLY) end
  return file:close()
end

-- The file has grown: the latest entries, in a file of their own that takes its place at once.
local function shorten(self)
  local path = self.path .. ".new"
  local file = open_private(path, "wb")
  if not file then return end
  for _, text in ipairs(self.entries) do file:write(escaped(text), "\n") end
  if close_private(file, path) then os.rename(path, self.path) end
end

-- The end of the file. Opened for writing, too: a pipe without a writer is not waited for then.
-- @return a text, and whether that is not all; nil: there is none; false: it is no file
local function read_end(path)
  local file = io.open(path, "r+b") or io.open(path, "rb")
  if not file then return nil end
  local size = file:seek "end"
  if size then file:seek("set", math.max(0, size - READ_MAX)) end
  local text = size and size > 0 and file:read(READ_MAX)
  file:close()
  if not size then return false end
  if size <= READ_MAX then return text or nil, false end
  return text and text:match "^[^\n]*\n(.*)$" or "", true
end

local function load(self)
  local text, has_more = read_end(self.path)
  if text == false then self.path = nil end
  local count, entries = 0, {}
  for line in (text or ""):gmatch "[^\n]+" do
    count = count + 1
    entries[count] = line
  end
  local from = math.max(1, count - ENTRIES_MAX + 1)
  for index = from, count do self.entries[index - from + 1] = unescaped(entries[index]) end
  if text and (from > 1 or has_more) then shorten(self) end
end

--- @param name   of the file, or nil: nothing is kept
-- @param system as cueball.cli.system
function history.open(name, system)
  local self = setmetatable({ entries = {}, path = nil }, History)
  local folder = name and folder_of(system)
  if not folder then return self end
  make_folders(folder)
  self.path = folder .. "/" .. name
  load(self)
  return self
end

--- An input was submitted. The same as the last one is not noted again.
-- @return what was noted; nil: nothing
function History:add(text)
  text = trimmed_end(text)
  if text == "" or text == self.entries[#self.entries] then return nil end
  self.entries[#self.entries + 1] = text
  if not self.path or text:find "^%s" or #text > BYTES_MAX then return text end
  local file = open_private(self.path, "ab")
  if not file then return text end
  file:write(escaped(text), "\n")
  close_private(file, self.path)
  return text
end

return history
