--- What a coroutine can reach: its locals, the upvalues of its functions, and what tables in them refer to; not much further.
-- cueball.pool.deadlock asks so whether a claimer still has a lease in hand, or has handed it on.
local reach = {}

local OBJECTS_MAX, DEPTH_MAX = 5000, 6
local LEVELS_MAX = 200
-- Frames of these files hold what they look for.
local OURS = { "cueball/pool/reach.lua", "cueball/pool/deadlock.lua", "cueball/pool/claim.lua" }
local PASSES_ON = "host/coroutines%.lua$"   -- its frames hold the coroutines within a task

local function is_ours(source)
  for _, name in ipairs(OURS) do
    if source:sub(-#name) == name then return true end
  end
  return false
end

local Search = {}
Search.__index = Search

-- Notes an object to look at, unless it was seen. Tables are looked at first: what functions refer to is mostly the program itself.
local function note(self, value, depth)
  local kind = type(value)
  if kind ~= "table" and kind ~= "function" or self.seen[value] or self.count >= OBJECTS_MAX then return end
  self.seen[value], self.count = true, self.count + 1
  if kind == "table" and self.is_wanted(value) then self.found = true end
  if depth > DEPTH_MAX or kind == "table" and self.is_opaque(value) then return end
  local queue = kind == "table" and self.tables or self.functions
  queue[#queue + 1] = { value, depth }
end

-- The next object that was noted.
local function take(self)
  local table_next, function_next = self.tables[self.table_index], self.functions[self.function_index]
  if table_next then
    self.table_index = self.table_index + 1
    return table_next
  end
  self.function_index = self.function_index + 1
  return function_next
end

local function look_into(self, value, depth)
  if type(value) == "table" then
    for key, member in next, value do
      note(self, key, depth + 1)
      note(self, member, depth + 1)
    end
    return
  end
  for index = 1, 255 do
    local name, upvalue = debug.getupvalue(value, index)
    if not name then return end
    note(self, upvalue, depth + 1)
  end
end

local STEPS = { 1, -1 } -- locals; then arguments without names

-- The locals of one frame. `get` is debug.getlocal for its coroutine.
local function look_at_frame(self, info, get)
  local passes_on = info.source:find(PASSES_ON) ~= nil
  for _, step in ipairs(STEPS) do
    local index = step
    local name, value = get(index)
    while name do
      if type(value) == "thread" then
        if passes_on then reach.stack(self, value) end
      elseif step < 0 or name:sub(1, 1) ~= "(" then
        note(self, value, 1)
      end
      index = index + step
      name, value = get(index)
    end
  end
  note(self, info.func, 1)
end

--- Looks at the frames of a coroutine.
-- @param thread nil: the one that runs
function reach.stack(self, thread)
  if thread == coroutine.running() then thread = nil end
  if self.seen[thread or "running"] then return end
  self.seen[thread or "running"] = true
  for level = thread and 0 or 2, LEVELS_MAX do
    local info = thread and debug.getinfo(thread, level, "Sf") or not thread and debug.getinfo(level, "Sf")
    if not info then return end
    if not is_ours(info.source) then
      look_at_frame(self, info, function(index)
        if thread then return debug.getlocal(thread, level, index) end
        local name, value = debug.getlocal(level + 2, index)   -- from here: this function, and look_at_frame
        return name, value   -- no tail call, which would be one frame less
      end)
    end
  end
end

--- Whether one of these coroutines can reach what is wanted.
-- @param threads a list; true in it: the one that runs
-- @param is_wanted function(table) → boolean
-- @param is_opaque function(table) → boolean: what it refers to is not looked at
function reach.finds(threads, is_wanted, is_opaque)
  local self = setmetatable({
    seen = { [_G] = true, [package.loaded] = true }, count = 0, found = false, is_wanted = is_wanted, is_opaque = is_opaque,
    tables = {}, table_index = 1, functions = {}, function_index = 1,
  }, Search)
  for _, module in pairs(package.loaded) do
    if type(module) == "table" then self.seen[module] = true end
  end
  for _, thread in ipairs(threads) do reach.stack(self, thread ~= true and thread or nil) end
  local one = take(self)
  while one and not self.found do
    look_into(self, one[1], one[2])
    one = take(self)
  end
  return self.found
end

-- Whether a frame has what is wanted as a local, or its function has it as an upvalue: itself, not in a table.
local function frame_has(thread, level, info, is_it)
  for _, step in ipairs(STEPS) do
    local index = step
    local name, value = debug.getlocal(thread, level, index)
    while name do
      if is_it(value) then return true end
      index = index + step
      name, value = debug.getlocal(thread, level, index)
    end
  end
  for index = 1, 255 do
    local name, value = debug.getupvalue(info.func, index)
    if not name then return false end
    if is_it(value) then return true end
  end
  return false
end

--- Whether a frame of this coroutine has what is wanted as a local or an upvalue: itself, not in a table.
function reach.has(thread, is_wanted)
  local function is_it(value) return type(value) == "table" and is_wanted(value) end
  for level = 0, LEVELS_MAX do
    local info = debug.getinfo(thread, level, "Sf")
    if not info then return false end
    if not is_ours(info.source) and frame_has(thread, level, info, is_it) then return true end
  end
  return false
end

return reach
