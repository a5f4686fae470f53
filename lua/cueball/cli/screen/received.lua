--- What another program sends, made fit for a screen: it is whoever answers at that address, and it may send anything.
local text = require "cueball.text"

local received = {}

local DEPTH_MAX = 8
local ENTRIES_MAX = 1000000 -- of one answer, in all
local LENGTH_MAX = 2000     -- of a text

local function clean(value, depth, budget)
  if type(value) == "string" then return text.clean(value:sub(1, LENGTH_MAX)) end
  if type(value) ~= "table" then return value end
  if depth > DEPTH_MAX then return nil end
  local made = {}
  for key, member in pairs(value) do
    budget.left = budget.left - 1
    if budget.left < 0 then return nil end
    if type(key) == "string" then key = text.clean(key:sub(1, LENGTH_MAX)) end
    made[key] = clean(member, depth + 1, budget)
  end
  return made
end

-- A copy with texts that a terminal may be sent; nil: it is too large.
local function cleaned(value)
  local budget = { left = ENTRIES_MAX }
  local made = clean(value, 1, budget)
  if budget.left < 0 then return nil end
  return made
end

-- Lists of tables, as they should be.
local function tables_of(value)
  local list = {}
  for _, one in ipairs(type(value) == "table" and value or {}) do
    if type(one) == "table" then list[#list + 1] = one end
  end
  return list
end

local LISTS = { "backends", "leases", "waiters" }
local TABLES = { "signals", "stats", "options", "more" }

--- What a JSON text says; nil: it is none, or tables in tables without an end.
function received.decode(json)
  local ok, value = pcall(require "dkjson".decode, json)
  return ok and value or nil
end

--- A snapshot in which every list and table is there.
-- @return it; or nil: it is none
function received.snapshot(value)
  for _, pool in ipairs(tables_of(type(value) == "table" and value.pools)) do pool.connections = nil end   -- many, and not shown
  value = cleaned(value)
  if type(value) ~= "table" or type(value.pools) ~= "table" then return nil end
  value.process = type(value.process) == "table" and value.process or {}
  value.pools = tables_of(value.pools)
  for _, told in ipairs(value.pools) do
    for _, name in ipairs(LISTS) do told[name] = tables_of(told[name]) end
    for _, name in ipairs(TABLES) do told[name] = type(told[name]) == "table" and told[name] or {} end
    told.name = type(told.name) == "string" and told.name or "?"
  end
  return value
end

--- A record of the log; nil: it is none.
function received.record(value)
  value = cleaned(value)
  return type(value) == "table" and value or nil
end

return received
