--- Whether what a script declares is what it declared the time before: resolvers, connection factories, notices of sets.
--
-- Two runs of one script make two sets of functions. A function is like another if its code is the same and what it refers to is alike:
-- its upvalues, and the globals of the script that it names. Tables are compared by what is in them. That is noted as the script declares
-- it (likeness.note), before anything runs that changes it: a counter that has counted since does not make a difference.
--
-- One and the same object is like itself, also when it has changed since: modules of the Lua state, pools, the host. What cueball's own
-- modules have made is compared by what it was made of (cueball.made_of); so is a table of a script's with a field made_of.
--
-- Where this errs, it errs towards "changed", since code that goes on though the script has other code by now would be worse than
-- connections that are opened anew.
local made_of = require "cueball.made_of"
local native = require "cueball.native"
local Pool = require "cueball.pool"
local Set = require "cueball.set"
local debug, getfenv, pcall, rawequal, rawget, tostring, type = debug, getfenv, pcall, rawequal, rawget, tostring, type

local likeness = {}

local VALUES_MAX = 20000 -- in one resolver or factory; one with more is taken to have changed

local function constant_of(fn, index)
  local ok, value = pcall(require("jit.util").funck, fn, index)
  return ok and value or nil
end

-- All strings in a function's code, and in that of functions within it: names of globals are among them.
local function add_names(fn, names)
  local index = -1
  local value = constant_of(fn, index)
  while value ~= nil do
    if type(value) == "string" then
      names[value] = true
    elseif type(value) == "proto" then
      add_names(value, names)
    end
    index = index - 1
    value = constant_of(fn, index)
  end
  return names
end

-- The code without line numbers; "sd": the same each time, where LuaJIT has that. nil: a function of C.
local function code_of(fn)
  local ok, code = pcall(string.dump, fn, "sd")
  return ok and code or nil
end

--- Begins the notes of one run.
-- @param given { globals = its environment; injected = the names in it that are not the script's; cueball = its cueball;
--   stands_for = by what the script was given in the place of a pool: that pool }
function likeness.notes(given)
  local atoms = {}
  for _, module in pairs(package.loaded) do
    if type(module) == "table" then atoms[module] = true end
  end
  return {
    globals = given.globals, injected = given.injected, cueball = given.cueball, atoms = atoms,
    stands_for = given.stands_for, -- by what the script was given in a dry run: the pool that it stands for
    known = {}, -- by object: its note, in one resolver or factory
    values = {}, -- by function and index: notes of upvalues that are no objects
    all = {},   -- the notes of all functions and tables: what they refer to may come later
    count = 0,
  }
end

local note

-- What of a global counts: what the script has set.
local function own_global(notes, name)
  if notes.injected[name] then return nil end
  return rawget(notes.globals, name)
end

-- A number or the like counts as it was when it was first seen in this run: functions that work by now may have changed it.
local function note_upvalue(notes, fn, index, value)
  local of_fn = notes.values[fn] or {}
  notes.values[fn] = of_fn
  local made = of_fn[index]
  if not made then
    made = note(notes, value)
    if made.object == nil and value ~= nil then of_fn[index] = made end
  end
  return made
end

local function note_function(notes, fn, made)
  made.code = code_of(fn)
  if not made.code then return end
  made.parts = {}
  notes.all[#notes.all + 1] = made
  local index = 1
  local name, value = debug.getupvalue(fn, index)
  while name do
    made.parts[index] = note_upvalue(notes, fn, index, value)
    index = index + 1
    name, value = debug.getupvalue(fn, index)
  end
  if getfenv(fn) ~= notes.globals then return end
  made.names = add_names(fn, {})
  for global in pairs(made.names) do
    local found = own_global(notes, global)
    if found ~= nil then made.parts[global] = note(notes, found) end
  end
end

-- How a key stands in a note: a plain one by its value, others as they are.
local function part_of(key)
  local kind = type(key)
  if kind == "string" or kind == "number" or kind == "boolean" then return kind .. " " .. tostring(key) end
  return key
end

local function note_members(notes, value, made)
  made.parts = {}
  notes.all[#notes.all + 1] = made
  for key, member in next, value do made.parts[part_of(key)] = note(notes, member) end
  local meta = debug.getmetatable(value)
  if meta ~= nil then made.parts.meta = note(notes, meta) end
end

-- Of a table that says what it was made of: that, and functions that were put into it afterwards.
local function note_made(notes, value, made, known)
  local own = rawget(value, "made_of")
  made.what, made.free = known and known.what or "made_of", known and known.free
  made.options = note(notes, known and known.options or own)
  made.parts = {}
  for name, member in next, value do
    if type(name) == "string" and type(member) == "function" then
      local was_there = known and known.members[name] == member
      local is_own = getfenv(member) == notes.globals
      local info = debug.getinfo(member, "S")
      if is_own then
        made.parts[name] = note(notes, member)
      elseif not was_there then
        made.parts[name] = { kind = "place", value = info.source .. ":" .. info.linedefined }
      end
    end
  end
end

local function is_atom(notes, value)
  local meta = debug.getmetatable(value)
  return notes.atoms[value] or meta == Pool or meta == Set or rawget(value, "spawn") ~= nil and rawget(value, "waiter") ~= nil
end

local function note_object(notes, value, kind)
  local made = { kind = kind, object = value, parts = nil }
  notes.known[value] = made
  notes.count = notes.count + 1
  if notes.count > VALUES_MAX then
    made.kind = "unknown"
  elseif kind == "function" then
    note_function(notes, value, made)
  elseif kind == "table" and not is_atom(notes, value) then
    local known = made_of.of(value)
    if known or rawget(value, "made_of") ~= nil then note_made(notes, value, made, known) else note_members(notes, value, made) end
  elseif kind == "cdata" then
    made.code = tostring(native.ffi.typeof(value)) .. (tonumber(value) and tostring(value) or "")
  elseif kind == "userdata" or kind == "thread" then
    made.code = kind
  end
  return made
end

function note(notes, value)
  local kind = type(value)
  if kind == "table" then value = notes.stands_for[value] or value end
  if value == notes.globals then return { kind = "globals" } end
  if value == notes.cueball then return { kind = "cueball" } end
  if kind == "function" or kind == "table" or kind == "cdata" or kind == "userdata" or kind == "thread" then
    return notes.known[value] or note_object(notes, value, kind)
  end
  return { kind = kind, value = value }
end

--- Notes what a value is now.
function likeness.note(notes, value)
  notes.known, notes.count = {}, 0
  return note(notes, value)
end

-- What a function refers to and was nil as it was noted.
local function complete_function(notes, made)
  for index, before in ipairs(made.parts) do
    local _, value = debug.getupvalue(made.object, index)
    if type(value) == "function" and before.kind == "nil" then made.parts[index] = note(notes, value) end
  end
  for global in pairs(made.names or {}) do
    local found = own_global(notes, global)
    if type(found) == "function" and not made.parts[global] then made.parts[global] = note(notes, found) end
  end
end

-- Functions that a table was given after it was noted.
local function complete_table(notes, made)
  for key, member in next, made.object do
    local part = part_of(key)
    if type(member) == "function" and not made.parts[part] then made.parts[part] = note(notes, member) end
  end
end

--- The run is over: functions are noted that the script has defined after it declared what uses them.
function likeness.complete(notes)
  local index, all = 1, notes.all
  notes.known, notes.count = {}, 0
  while all[index] do -- more come in on the way
    local made = all[index]
    if made.kind == "function" then complete_function(notes, made) else complete_table(notes, made) end
    index = index + 1
  end
  notes.all, notes.known, notes.atoms, notes.values = nil, nil, nil, nil
end

-- ---------------------------------------------------------------- comparing --

local same

local function same_parts(one, other, seen, free)
  for key, part in pairs(one) do
    local of_other = other[key]
    if not (free and free[key]) and not (of_other and same(part, of_other, seen)) then return false end
  end
  for key in pairs(other) do
    if one[key] == nil and not (free and free[key]) then return false end
  end
  return true
end

local function same_object(one, other, seen)
  if rawequal(one.object, other.object) then return true end
  if one.kind == "unknown" or one.code ~= other.code or one.what ~= other.what then return false end
  if not one.parts or not other.parts then return one.code ~= nil and one.kind ~= "function" end
  local of_one = seen[one] or {}
  seen[one] = of_one
  if of_one[other] then return true end -- in a circle: it depends on the rest
  of_one[other] = true
  if one.options and not same(one.options, other.options, seen) then return false end
  return same_parts(one.parts, other.parts, seen)
end

function same(one, other, seen)
  if one.kind ~= other.kind then return false end
  if one.object ~= nil then return same_object(one, other, seen) end
  return one.value == other.value or one.value ~= one.value and other.value ~= other.value
end

--- Whether two values were alike as they were noted.
function likeness.same(one, other)
  return same(one, other, {})
end

--- Whether two connection factories of cueball's own differ in nothing that a connection which is open knows.
function likeness.fits(before, now)
  if not before.options or not before.free or before.what ~= now.what then return false end
  local free, parts, of_before = {}, now.options.parts, before.options.parts
  if not parts or not of_before then return false end
  for name in pairs(now.free) do free["string " .. name] = true end
  local seen = {}
  return same_parts(of_before, parts, seen, free) and same_parts(before.parts, now.parts, seen)
end

return likeness
