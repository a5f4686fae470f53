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

-- Opens a file that nobody else can read.
local function open_private(path, mode)
  local before = ffi.C.cueball_history_umask(63) -- 077
  local file, message = io.open(path, mode)
  ffi.C.cueball_history_umask(before)
  if file then ffi.C.cueball_history_chmod(path, OWNER_ONLY) end
  return file, message
end

-- The file has grown: the latest entries, in a file of their own that takes its place at once.
local function shorten(self)
  local path = self.path .. ".new"
  local file = open_private(path, "wb")
  if not file then return end
  for _, text in ipairs(self.entries) do file:write(escaped(text), "\n") end
  if file:close() then os.rename(path, self.path) end
end

local function load(self)
  local file = io.open(self.path, "rb")
  if not file then return end
  local count = 0
  for text in file:lines() do
    count = count + 1
    self.entries[count] = unescaped(text)
  end
  file:close()
  if count <= ENTRIES_MAX then return end
  for index = 1, count do self.entries[index] = self.entries[index + count - ENTRIES_MAX] end
  shorten(self)
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
  file:close()
  return text
end

return history
