--- Which pool a command means: named, or a variable of the session, or the one that was meant last, or the only one.
local registry = require "cueball.pool.registry"
local text = require "cueball.text"

local target = {}

local function is_pool(value)
  return type(value) == "table" and text.of(value):find "^cueball%.pool " ~= nil
end

-- The variables of the session that have this value, the shortest first; nil: none.
local function variable_of(session, value)
  local names = {}
  for name, one in pairs(session.environment) do
    if one == value and type(name) == "string" and not name:find "^_%d" then names[#names + 1] = name end
  end
  table.sort(names, function(a, b)
    if #a ~= #b then return #a < #b end
    return a < b
  end)
  return names[1]
end

--- What stands for the pool in a script: a variable of the session; nil: none has it.
function target.expression(session, pool)
  return variable_of(session, pool)
end

--- The names of all pools, for completion.
function target.names()
  local names = {}
  for index, pool in ipairs(registry.pools()) do names[index] = pool.name end
  return names
end

local function named(session, word)
  local value = rawget(session.environment, word)
  if is_pool(value) then return value end
  for _, pool in ipairs(registry.pools()) do
    if pool.name == word then return pool end
  end
end

--- @param word its name or variable; "" or nil: the one that was meant last, or the only one
-- @return the pool; or nil, message
function target.pool(session, word)
  local pools = registry.pools()
  if word and word ~= "" then
    local pool = named(session, word)
    if not pool then
      local names = target.names()
      return nil, ("there is no pool %s%s"):format(text.show(word), #names > 0 and "; there are " .. table.concat(names, ", ") or "")
    end
    session.pool = pool
    return pool
  end
  local last = session.pool
  if last and last:state() ~= "stopped" then return last end
  if #pools == 1 then
    session.pool = pools[1]
    return pools[1]
  end
  if #pools == 0 then return nil, 'there is no pool; make one: pool = cueball.pool { … }, or :pool "127.0.0.1:6379"' end
  return nil, "which pool? There are " .. table.concat(target.names(), ", ")
end

--- Splits a pool's name off, if the first word is one.
-- @return the pool or nil, message; and the rest of the words
function target.split(session, argument)
  local word, rest = argument:match "^(%S*)%s*(.*)$"
  if word ~= "" and named(session, word) then
    local pool, message = target.pool(session, word)
    return pool, pool and rest or message, rest
  end
  local pool, message = target.pool(session, "")
  return pool, pool and argument or message, argument
end

return target
