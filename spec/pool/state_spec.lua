--- Each field of a pool is written by one file. The checker is first fed what it must find.
local source = require "spec.support.source"

-- The pool's own file, where it is `self`.
local POOL = "lua/cueball/pool/init.lua"

-- Who writes into an object that the pool's own file puts into a field.
local MADE_BY = { parking = "lua/cueball/nginx/parking.lua" }

-- What writes into the table that it is given first.
local WRITERS = { "table%.insert", "table%.remove", "table%.sort", "rawset", "setmetatable" }

-- What stands before an expression that nothing is assigned to.
local NO_ASSIGNMENT = { ["local"] = true, ["or"] = true, ["and"] = true, ["not"] = true }

-- Where the expression begins that ends at this position: names with dots and brackets.
local function start_of(code, position)
  while position > 0 do
    local char = code:sub(position, position)
    if char == "]" then
      local depth = 0
      repeat
        char = code:sub(position, position)
        depth = depth + (char == "]" and 1 or char == "[" and -1 or 0)
        position = position - 1
      until depth == 0 or position == 0
    elseif char:find "[%w_.]" then
      position = position - 1
    else
      break
    end
  end
  return position + 1
end

-- What is assigned to at this `=`: a list of expressions, as they stand there; none if it makes locals, or a table's fields.
local function assigned_at(code, equals)
  local list, position = {}, equals - 1
  while true do
    while code:sub(position, position):find "%s" do position = position - 1 end
    local first = start_of(code, position)
    if first > position then return list end
    list[#list + 1] = code:sub(first, position)
    position = first - 1
    while code:sub(position, position):find "%s" do position = position - 1 end
    local char, word = code:sub(position, position), code:sub(math.max(1, position - 8), position):match "%f[%w_]([%a]+)$"
    if char:find "[={(+*/%%^<>~.-]" or word and NO_ASSIGNMENT[word] then return {} end
    if char ~= "," then return list end
    position = position - 1
  end
end

-- All that is written to in a text without comments and strings.
local function written_in(code)
  local list = {}
  for position in code:gmatch "()=" do
    local before, after = code:sub(position - 1, position - 1), code:sub(position + 1, position + 1)
    if not before:find "[=~<>]" and after ~= "=" then
      for _, one in ipairs(assigned_at(code, position)) do list[#list + 1] = one end
    end
  end
  for _, writer in ipairs(WRITERS) do
    for one in code:gmatch("%f[%w_]" .. writer .. "%s*%(%s*([%w_.]+)%s*,") do list[#list + 1] = one .. "[]" end
  end
  return list
end

-- What stands for a field of a pool in an expression: "waiting", ".user" of pool.waiting.user; nil: it is of no pool.
local function field_of(expression, path, aliases)
  local rest = expression:match "^pool%.(.+)$" or expression:match "%.pool%.(.+)$" or path == POOL and expression:match "^self%.(.+)$"
  if not rest then
    local alias, more = expression:match "^([%w_]+)([.%[].*)$"
    if not alias or not aliases[alias] then return nil end
    rest = aliases[alias] .. more
  end
  return rest:match "^([%w_]+)(.*)$"
end

-- Locals that stand for a field of the pool: { name = field }.
local function aliases_in(code, path)
  local aliases = {}
  for names, values in code:gmatch "local ([%w_, ]+) = ([^\n]+)" do
    local list = {}
    for value in (values .. ","):gmatch "%s*(.-)%s*," do list[#list + 1] = value end
    local index = 0
    for name in names:gmatch "[%w_]+" do
      index = index + 1
      local field, more = field_of(list[index] or "", path, {})
      if field and more == "" and (list[index]):find "^[%w_.]+$" then aliases[name] = field end
    end
  end
  return aliases
end

--- Which fields of pools are written to, by whom.
-- @param texts by path
-- @return a list of what is against the rule: "waiting: claim.lua, owner.lua"
local function violations(texts)
  local writers, inner = {}, {}
  for path, text in pairs(texts) do
    local code = source.strip_lua(text)
    local aliases = aliases_in(code, path)
    for _, expression in ipairs(written_in(code)) do
      local field, more = field_of(expression, path, aliases)
      if field then
        writers[field] = writers[field] or {}
        if more:find "^%." then inner[#inner + 1] = { field = field, path = path } else writers[field][path] = true end
      end
    end
  end
  local found = {}
  for path, text in pairs(texts) do
    local code = source.strip_lua(text)
    local is_named_self = code:find "%f[%w_]self:pump%(" or code:find "%f[%w_]self:input%("
    if path ~= POOL and is_named_self then found[#found + 1] = path .. ": a pool is named self" end
  end
  for _, one in ipairs(inner) do
    if MADE_BY[one.field] ~= one.path then writers[one.field][one.path] = true end
  end
  for field, paths in pairs(writers) do
    local list = {}
    for path in pairs(paths) do list[#list + 1] = path end
    table.sort(list)
    if #list > 1 then found[#found + 1] = field .. ": " .. table.concat(list, ", ") end
  end
  table.sort(found)
  return found
end

describe("the check of who writes a pool's fields", function()
  local function refused(expected, other)
    local found = violations { ["a.lua"] = "pool.x, pool.y = 1, {}\npool.z = pool.z or {}", ["b.lua"] = other }
    assert.same(expected and { expected } or {}, found)
  end

  it("finds a field that two files write, however it is written", function()
    refused("x: a.lua, b.lua", "function f(pool) pool.x = 2 end")
    refused("x: a.lua, b.lua", "local n = 1 self.pool.x = n")
    refused("y: a.lua, b.lua", "one.pool.y[slot] = nil")
    refused("y: a.lua, b.lua", "a.b, pool.y[pool.z[1]], c = 1, 2, 3")
    refused("y: a.lua, b.lua", "pool.y.is_over = true")
    refused("z: a.lua, b.lua", "local y, list = 1, pool.z\nlist[1] = 2")
    refused("z: a.lua, b.lua", "local self = pool.z\nself.count = self.count + 1")
    refused("z: a.lua, b.lua", "table.insert(pool.z, 1)")
    refused("z: a.lua, b.lua", "rawset(pool.z, slot, 1)")
    assert.same({ "x: a.lua, lua/cueball/pool/init.lua" }, violations { ["a.lua"] = "pool.x = 1", [POOL] = "self.x = 2" })
  end)

  it("finds a pool that is named otherwise", function()
    assert.same({ "a.lua: a pool is named self" }, violations { ["a.lua"] = "local function f(self) self.x = 1 self:pump() end" })
    assert.same({}, violations { [POOL] = "function Pool:f() self.x = 1 self:pump() end" })
  end)

  it("lets pass what reads, what compares, and what is another's", function()
    refused(nil, "return { x = x or pool.x, y = 1 + pool.y, z = 1 }")
    refused(nil, "return { x = pool.x, y = pool.y, 1, z = pool.z }")
    refused(nil, "if pool.x == 1 or pool.y ~= 2 or pool.z <= 3 then f { x = pool.x, pool.y } end")
    refused(nil, "local x, y = pool.x, pool.y local z = pool.z[1] self.x = 1 other.x, z = 2, 3")
    refused(nil, "pool.w = 1 pool.w.v = 2 -- pool.x = 1\nlocal t = 'pool.x = 1'")
    refused(nil, "pool:x(function(pool) return pool.x end)")
  end)
end)

describe("a pool's fields", function()
  it("are each written by one file", function()
    local texts, count = {}, 0
    for _, path in ipairs(source.files("lua/cueball", "*.lua")) do
      texts[path], count = source.read(source.root .. "/" .. path), count + 1
    end
    assert.is_true(count > 0, "no files in lua/cueball")
    assert.same({}, violations(texts))
  end)
end)
