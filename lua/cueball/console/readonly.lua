--- The globals of a console that may only look: functions of Lua that reach nothing, and verbs that give copies. No pool, no module, no
-- metatable and no other function of the program can be had from them.
--
-- "text":rep(n) finds its function through the metatable that all strings of the process share. So that is another one while what was typed
-- runs: nothing else runs then, as what was typed cannot wait. A verb that is called runs with the program's own.
local bounded = require "cueball.console.bounded"
local misuse = require "cueball.misuse"
local verbs = require "cueball.console.verbs"

local readonly = {}

local ENTRIES_MAX, BYTES_MAX = 10000, 1024 * 1024 -- what a session's variables may have

local meta = debug.getmetatable ""
local own_index = meta.__index

local function inside() meta.__index = bounded.string end

local function outside() meta.__index = own_index end

readonly.outside = outside

local function came_back(ok, ...)
  inside()
  if not ok then error((...), 0) end
  return ...
end

-- A function of ours, for what was typed.
local function gated(fn)
  return function(...)
    outside()
    return came_back(pcall(fn, ...))
  end
end

local function copied(from, names)
  local made = {}
  for name in names:gmatch "%S+" do made[name] = from[name] end
  return made
end

--- What a reader is told who wants to change something.
function readonly.refusal(name)
  return ("%s changes something, and this console is for looking only: the program offers no more (allow = \"write\")"):format(name)
end

-- What is found, and neither listed nor completed: the joint of `..`, and verbs that change something, so that somebody is told why they do
-- nothing.
local function unlisted(_, name)
  if name == bounded.JOINT then return bounded.joint end
  local row = verbs.row(name)
  if row and row.kind == "change" then return gated(function() return nil, readonly.refusal(name), "read_only" end) end
end

-- Tables that what was typed may put things into.
local function add_modules(base)
  base.string = copied(bounded.string, "byte char find format gmatch gsub len lower match rep reverse sub upper")
  base.table = copied(bounded.table, "concat insert maxn remove sort")
  base.math = copied(math, "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min modf pi pow rad "
    .. "sin sinh sqrt tan tanh")
  base.bit = copied(require "bit", "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex")
  base.os = copied(os, "time clock difftime")
end

-- What all see; a session's variables stand before it.
local function base_of(context, print_text)
  local base = copied(_G, "assert error ipairs next pairs pcall select tonumber type")
  base.tostring, base.unpack = bounded.tostring, bounded.unpack
  add_modules(base)
  base._VERSION = _VERSION
  for name, fn in pairs(verbs.functions(context, false)) do base[name] = gated(fn) end
  base.print = gated(function(...)
    local parts = {}
    for index = 1, select("#", ...) do parts[index] = bounded.tostring((select(index, ...))) end
    print_text(table.concat(parts, "\t"))
  end)
  return setmetatable(base, { __index = unlisted })
end

-- The functions that a session is given: they keep nothing of what was typed, and are not looked into each time.
local own = setmetatable({}, { __mode = "k" })

local function note_own(tables)
  for _, value in next, tables do
    if type(value) == "function" then own[value] = true end
    if type(value) == "table" and debug.getmetatable(value) == nil then note_own(value) end
  end
end

--- Makes the globals.
-- @param context     of the verbs
-- @param print_text  function(text): shows what `print` was given
-- @return the globals
function readonly.globals(context, print_text)
  local base = base_of(context, print_text)
  local globals = setmetatable({}, { __index = base, __metatable = "the globals of a console", __newindex = function(self, name, value)
    if name == bounded.JOINT then misuse.raise "this name is taken" end
    rawset(self, name, value)
  end })
  base._G = globals
  note_own(base)
  return globals
end

--- The text of what was typed, as it is to be compiled.
-- @return text; or nil, message
function readonly.text(input)
  if input:find(bounded.JOINT, 1, true) then return nil, "the name " .. bounded.JOINT .. " is taken" end
  return bounded.rewritten(input)
end

local function ended(...)
  outside()
  return ...
end

--- What was compiled, so that it runs with bounded functions. If it throws, `readonly.outside()` is for the handler.
-- @param look function(): throws once the time is over
function readonly.adopt(chunk, look)
  return function(...)
    bounded.look = look
    inside()
    return ended(chunk(...))
  end
end

-- Counts entries of tables and bytes of texts, until there are too many. What a function that was typed keeps counts as well.
local function count(state, value)
  local kind = type(value)
  if kind == "string" then
    state.bytes = state.bytes + #value
  elseif (kind == "table" or kind == "function") and not state.seen[value] and not own[value] then
    state.seen[value] = true
    local info = kind == "function" and debug.getinfo(value, "S")
    if info and (info.what == "C" or misuse.is_own(info)) then return end
    local at, key = 0, nil
    while state.entries <= ENTRIES_MAX and state.bytes <= BYTES_MAX do
      local one
      at = at + 1
      if info then
        key, one = debug.getupvalue(value, at)
      else
        key, one = next(value, key)
      end
      if key == nil then return end
      state.entries = state.entries + 1
      count(state, key)
      count(state, one)
    end
  end
end

--- Do values, and what is in them, take more than a console may keep?
-- @param values a table; of globals all that is to be had from them counts
function readonly.is_too_much(values)
  local state = { entries = 0, bytes = 0, seen = {} }
  local metatable = debug.getmetatable(values)
  local ok = pcall(function() -- tables in tables, deeper than Lua's stack
    count(state, values)
    count(state, metatable and metatable.__index)
  end)
  return not ok or state.entries > ENTRIES_MAX or state.bytes > BYTES_MAX
end

--- Globals as they were made.
function readonly.forget(globals)
  for name in next, globals do rawset(globals, name, nil) end
  add_modules(debug.getmetatable(globals).__index)
end

return readonly
