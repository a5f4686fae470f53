--- What the word at the cursor could become: variables, members, methods, options of cueball's functions with what they may be, names of
-- pools, commands, and names of the manual. Nothing of the program's is called for it: tables are read raw, functions of `__index` are not.
local chunk = require "cueball.console.chunk"
local manual = require "cueball.console.manual"
local options = require "cueball.options"
local show = require "cueball.console.show"
local text = require "cueball.text"

local complete = {}

local CANDIDATES_MAX = 1000
local DEPTH = 5 -- of tables that stand for others by __index

--- What `cueball` has that is loaded when it is first asked for, by the path of the table.
complete.ON_DEMAND = {
  cueball = { "balancer", "cosocket", "monitor", "native" },
  ["cueball.resolver"] = { "dns", "file", "from", "native", "poll", "shared", "static", "watch" },
  ["cueball.connection"] = { "native", "postgres", "redis", "resty", "tcp" },
}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch "%S+" do
  KEYWORDS[#KEYWORDS + 1] = word
end

local List = {}
List.__index = List

local function new_list(word)
  return setmetatable({ word = word, seen = {} }, List)
end

function List:add(candidate, note)
  if type(candidate) ~= "string" or self.seen[candidate] or #self >= CANDIDATES_MAX then return end
  if candidate:sub(1, #self.word) ~= self.word then return end
  self.seen[candidate] = true
  self[#self + 1] = { text = candidate, note = note }
end

function List:sorted()
  table.sort(self, function(a, b) return a.text < b.text end)
  local plain = {}
  for index, one in ipairs(self) do plain[index] = one end
  return plain
end

-- ------------------------------------------------------------------ values --

-- The table that stands for what this one lacks; nil: there is none, or a function.
local function fallback(value)
  local meta = debug.getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index") or nil
  return type(index) == "table" and index or nil
end

-- A member, without a call of anything.
local function member(value, name)
  for _ = 1, DEPTH do
    if type(value) ~= "table" then
      value = fallback(value)
    else
      local found = rawget(value, name)
      if found ~= nil then return found end
      value = fallback(value)
    end
    if value == nil then return nil end
  end
end

-- What a table of cueball's loads on demand is loaded for it: cueball's own modules only.
local function on_demand(path, name)
  for _, one in ipairs(complete.ON_DEMAND[path] or {}) do
    if one == name then
      local ok, module = pcall(require, path .. "." .. name)
      return ok and module or nil
    end
  end
end

-- The value of a chain of names, "cueball.connection.tcp"; nil: it is not known.
local function value_of(session, chain)
  local value, path = session.environment, ""
  for name in chain:gmatch "[^.:]+" do
    local found = member(value, name)
    if found == nil then found = on_demand(path, name) end
    if found == nil then return nil end
    value, path = found, path == "" and name or path .. "." .. name
  end
  return value
end

-- "pool" of a pool, "lease" of a lease: what the manual calls it.
local function kind_of(value)
  if type(value) ~= "table" or not getmetatable(value) or not fallback(value) then return nil end
  return text.of(value):match "^cueball%.(%l+) "
end

-- ----------------------------------------------------------------- members --

-- Of cueball's objects only what the manual has.
local function add_documented(list, kind, value, only_functions)
  for _, name in ipairs(manual.names()) do
    local own, last = name:match "^(%l+)[:.]([%w_]+)$"
    local found = own == kind and member(value, last)
    if found ~= nil and found ~= false and (not only_functions or type(found) == "function") then list:add(last, manual.heading(name)) end
  end
end

local function add_members(list, value, path, only_functions)
  local kind = kind_of(value)
  if kind then return add_documented(list, kind, value, only_functions) end
  for _, name in ipairs(complete.ON_DEMAND[path] or {}) do list:add(name, manual.heading(path .. "." .. name)) end
  for _ = 1, DEPTH do
    if type(value) ~= "table" then value = fallback(value) end
    if value == nil then return end
    for name, found in next, value do
      if type(name) == "string" and name:find "^[%a_][%w_]*$" and (not only_functions or type(found) == "function") then
        list:add(name, manual.heading(path .. "." .. name))
      end
    end
    value = fallback(value)
  end
end

local function add_names(list, session)
  for _, word in ipairs(KEYWORDS) do list:add(word) end
  add_members(list, session.environment, "", false)
end

-- ------------------------------------------------------------- where it is --

-- The chain of names that ends before this token: of "x = cueball.pool {" it is "cueball.pool".
local function chain_before(tokens, index)
  local parts = {}
  while tokens[index] and tokens[index].kind == "name" do
    table.insert(parts, 1, tokens[index].text)
    local sign = tokens[index - 1]
    if not sign or sign.text ~= "." and sign.text ~= ":" then break end
    table.insert(parts, 1, sign.text)
    index = index - 2
  end
  return table.concat(parts)
end

-- A table that begins at tokens[index]: of which function's options it is, and where in them.
local function frame_at(tokens, index, outer)
  local before = tokens[index - 1]
  if not before then return {} end
  if before.text == "=" and outer and outer.callee and tokens[index - 2] and tokens[index - 2].kind == "name" then
    local name = tokens[index - 2].text
    return { callee = outer.callee, path = outer.path == "" and name or outer.path .. "." .. name }
  end
  local at = before.text == "(" and index - 2 or index - 1
  local callee = chain_before(tokens, at)
  return callee ~= "" and { callee = callee, path = "" } or {}
end

-- The tokens left of the cursor, and the innermost table that is open there.
local function read(line)
  local tokens, open = {}, {}
  local kind, at, stop = chunk.token(line, 1)
  while kind do
    if kind ~= "comment" then tokens[#tokens + 1] = { kind = kind, text = line:sub(at, stop - 1), at = at } end
    local one = tokens[#tokens]
    if kind == "sign" and one.text == "{" then
      open[#open + 1] = frame_at(tokens, #tokens, open[#open])
    elseif kind == "sign" and one.text == "(" then
      open[#open + 1] = {}
    elseif kind == "sign" and (one.text == "}" or one.text == ")") then
      open[#open] = nil
    end
    kind, at, stop = chunk.token(line, stop)
  end
  return tokens, open[#open]
end

-- The function of options.note that a chain calls: "cueball.pool"; of "db:claim" it is "pool:claim".
local function noted_name(session, chain)
  if options.is_noted(chain) then return chain end
  local object, method = chain:match "^(.*):([%w_]+)$"
  local kind = object and kind_of(value_of(session, object))
  local name = kind and kind .. ":" .. method
  if name and options.is_noted(name) then return name end
  if value_of(session, chain) ~= nil and options.is_noted(chain) then return chain end -- it was loaded just now
end

-- --------------------------------------------------------------- in a table --

-- The options that may stand at the cursor.
local function add_options(list, session, frame)
  local what = noted_name(session, frame.callee)
  local taken = what and options.taken(what, frame.path)
  if not taken then return false end
  for _, option in ipairs(taken) do list:add(option.name, option.range) end
  return true
end

-- What the option before the "=" may be, where that is one of a few.
local function add_choices(list, session, frame, name, is_in_string)
  local what = noted_name(session, frame.callee)
  for _, option in ipairs(what and options.taken(what, frame.path) or {}) do
    if option.name == name then
      for _, choice in ipairs(option.choices or {}) do list:add(is_in_string and choice or show.value(choice)) end
      if not is_in_string and option.range:find "true or false" then
        list:add "true"
        list:add "false"
      end
    end
  end
end

-- -------------------------------------------------------------- all of it --

local function of_command(session, line)
  local name, from = line:match "^%s*:%s*([%w_]+)%s+()"
  if not name then
    local word = line:match "([%w_]*)$"
    local list = new_list(word)
    for _, one in ipairs(session.commands.names) do list:add(one, session.commands.by_name[one].help) end
    return list:sorted(), #line - #word + 1
  end
  local row = session.commands.by_name[name]
  if not row then return {}, #line + 1 end
  if row.takes_lua then return nil, from end
  local word = line:match "([^%s,]*)$"
  local list = new_list(word)
  for _, candidate in ipairs(row.complete and row.complete(session, line:sub(from)) or {}) do list:add(candidate) end
  return list:sorted(), #line - #word + 1
end

local function of_manual(line)
  local word = line:match "%?%s*([%w_.:]*)$" or ""
  local list = new_list(word)
  for _, name in ipairs(manual.names()) do list:add(name, manual.heading(name)) end
  return list:sorted(), #line - #word + 1
end

-- Within a string: a choice of an option, or a module.
local function of_string(session, tokens, frame)
  local string = tokens[#tokens]
  local word = string.text:sub(2)
  local list, before = new_list(word), tokens[#tokens - 1]
  if before and before.text == "=" and frame and frame.callee then
    add_choices(list, session, frame, tokens[#tokens - 2].text, true)
  elseif before and (before.text == "require" or before.text == "(" and tokens[#tokens - 2] and tokens[#tokens - 2].text == "require") then
    for name in pairs(package.loaded) do list:add(name) end
  end
  return list:sorted(), string.at + 1
end

-- Whether the last token is a string that is still open.
local function is_open_string(token, line)
  if not token or token.kind ~= "string" or token.at + #token.text - 1 ~= #line then return false end
  local quote = token.text:sub(1, 1)
  return quote ~= "[" and (#token.text == 1 or token.text:sub(-1) ~= quote)
end

local function of_lua(session, line)
  local tokens, frame = read(line)
  if is_open_string(tokens[#tokens], line) then return of_string(session, tokens, frame) end
  local chain = line:match "[%a_][%w_.:]*$" or ""
  local object, sign, word = chain:match "^(.-)([.:])([%w_]*)$"
  if not object then
    object, word = nil, chain
  end
  local list, from = new_list(word), #line - #word + 1
  local before = tokens[#tokens - (word ~= "" and 1 or 0)]
  if object then
    local value = value_of(session, object)
    if value ~= nil then add_members(list, value, object, sign == ":") end
  elseif frame and frame.callee and before and before.text == "=" then
    add_choices(list, session, frame, (tokens[#tokens - (word ~= "" and 2 or 1)] or {}).text, false)
    if word ~= "" then add_names(list, session) end
  elseif not (frame and frame.callee and before and before.text:find "^[{,;]$" and add_options(list, session, frame)) then
    add_names(list, session)
  end
  return list:sorted(), from
end

--- What the word at the cursor could become.
-- @param session  its environment and commands count
-- @param line     the input
-- @param position of the cursor: how many bytes are left of it
-- @return a list of { text =, note = or nil }, in order; and the byte at which the word begins
function complete.complete(session, line, position)
  line = line:sub(1, position)
  if line:find "^%s*%?" then return of_manual(line) end
  if line:find "^%s*:" then
    local list, from = of_command(session, line)
    if list then return list, from end
    local made, at = of_lua(session, line:sub(from))
    return made, at + from - 1
  end
  return of_lua(session, line)
end

return complete
