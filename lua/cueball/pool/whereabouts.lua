--- Where somebody is: the stack of a coroutine, for people. Nothing is noted beforehand, so nothing of this costs anything until somebody
-- asks.
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local whereabouts = {}

local LEVELS_MAX = 200
local LINES_MAX = 16 -- of a traceback
local PASSES_ON = "host/coroutines%.lua$" -- its frames have the coroutines within a task
local RUNS_WITH = "pool/scope%.lua$"      -- its frames have the leases of pool:with

local numbers, count = setmetatable({}, { __mode = "k" }), 0 -- of tasks and coroutines, by themselves

-- The coroutine that a frame of this one has resumed, and which waits.
local function inner_of(thread)
  for level = 0, LEVELS_MAX do
    local info = debug.getinfo(thread, level, "S")
    if not info then return nil end
    if info.source:find(PASSES_ON) then
      local index = 1
      local name, value = debug.getlocal(thread, level, index)
      while name do
        if type(value) == "thread" and value ~= thread and coroutine.status(value) ~= "dead" then return value end
        index = index + 1
        name, value = debug.getlocal(thread, level, index)
      end
    end
  end
end

--- The coroutines that somebody runs in, the outermost first: that of a task, and those that it has made and that wait for it.
-- @param holder a task, a coroutine, or nil
function whereabouts.threads(holder)
  local thread = type(holder) == "thread" and holder or type(holder) == "table" and holder.co or nil
  local threads = {}
  while thread and #threads < 10 do
    threads[#threads + 1] = thread
    thread = inner_of(thread)
  end
  return threads
end

local function line_of(info)
  return ("%s:%d"):format(info.short_src, info.currentline)
end

-- Whether a frame is of the program's, and has a line.
local function is_foreign(info)
  return info.currentline > 0 and not misuse.is_own(info)
end

-- The first frame of the program's from a level on: "file:line".
local function foreign_line(thread, level)
  for at = level, LEVELS_MAX do
    local info = debug.getinfo(thread, at, "Sl")
    if not info then return nil end
    if is_foreign(info) then return line_of(info) end
  end
end

--- The line of the program's that these coroutines are at; nil: none is known.
function whereabouts.line(threads)
  for index = #threads, 1, -1 do
    local line = foreign_line(threads[index], 0)
    if line then return text.clean(line) end
  end
end

local function has_local(thread, level, is_it)
  local index = 1
  local name, value = debug.getlocal(thread, level, index)
  while name do
    if type(value) == "table" and is_it(value) then return true end
    index = index + 1
    name, value = debug.getlocal(thread, level, index)
  end
  return false
end

--- The line that called pool:with for a lease, if that is going on in one of these coroutines.
-- @param is_it function(table) → is it the lease?
function whereabouts.of_with(threads, is_it)
  for _, thread in ipairs(threads) do
    for level = 0, LEVELS_MAX do
      local info = debug.getinfo(thread, level, "S")
      if not info then break end
      if info.source:find(RUNS_WITH) and misuse.is_own(info) and has_local(thread, level, is_it) then
        local line = foreign_line(thread, level)
        return line and text.clean(line)
      end
    end
  end
end

--- The stack of these coroutines, the innermost first, as a traceback.
-- @return it; nil: none is known
function whereabouts.traceback(threads)
  local lines, left = {}, 0
  for index = #threads, 1, -1 do
    local number = 0
    for line in debug.traceback(threads[index]):gmatch "[^\n]+" do
      number = number + 1
      if number > 1 or index == #threads then -- the heading once
        if #lines < LINES_MAX then lines[#lines + 1] = text.clean_lines(line) else left = left + 1 end
      end
    end
  end
  if #lines < 2 then return nil end
  if left > 0 then lines[#lines + 1] = ("\t… %d more"):format(left) end
  return table.concat(lines, "\n")
end

-- A task or a coroutine has a number from when it is first asked for.
local function number_of(holder)
  if not numbers[holder] then
    count = count + 1
    numbers[holder] = count
  end
  return numbers[holder]
end

--- The name of a holder: "task 3"; nil: nobody known.
-- @param holder a task, a coroutine, a number that stands for one (cueball.nginx.host), or nil
function whereabouts.name(holder)
  if type(holder) == "table" then return ("task %d%s"):format(number_of(holder), holder.is_done and " (over)" or "") end
  if type(holder) == "thread" then return ("coroutine %d"):format(number_of(holder)) end
  if type(holder) == "number" then return ("light thread %x"):format(holder) end
  return nil
end

return whereabouts
