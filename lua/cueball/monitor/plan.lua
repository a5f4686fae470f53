--- What would the planner do: the arguments of /plan?pool=db&remove=10.0.0.1:80&spares=4 as what pool:plan is given.
local options = require "cueball.options"
local text = require "cueball.text"

local plan = {}

local LISTS = { add = true, remove = true }
local OWN = { pool = true }

local kinds = nil -- of the core's options by name: what may stand for a value

local function kind_of(name)
  if not kinds then
    kinds = {}
    for _, option in ipairs(options.all()) do kinds[option.name] = option end
  end
  return kinds[name]
end

-- A value as the option of that name wants it.
local function value_of(option, given)
  if given == "false" then return false end
  if option and option.choices then return given end
  return tonumber(given) or given
end

-- What is foreseen is worked out at one go: 10,000 connections take some 25 ms, a million takes seconds.
local CONNECTIONS_MAX, BACKENDS_MAX = 10000, 1000
local COUNTS = { "max_connections", "spares", "maximum", "target" }

--- Why a pool is not asked: who looks from outside does not hold the program.
-- @param given what pool:plan would be given
-- @return a message; nil: it may be asked
function plan.objection(pool, given)
  if type(given.add) == "table" and #given.add > BACKENDS_MAX then return ("add: %d backends at most"):format(BACKENDS_MAX) end
  local present = type(pool.max_connections) == "function" and tonumber(pool:max_connections()) or 0
  local most = math.max(CONNECTIONS_MAX, present)
  for _, name in ipairs(COUNTS) do
    local count = tonumber(given[name])
    if count and count > most then return ("%s: %d at most can be foreseen here"):format(name, most) end
  end
end

--- @param arguments of cueball.http.target
-- @return what pool:plan returns; or nil, message, name
function plan.of(pool, arguments)
  if type(pool.plan) ~= "function" then return nil, "this pool has no planner to ask", "unsupported" end
  local given = {}
  for _, name in ipairs(arguments:names()) do
    if LISTS[name] then
      given[name] = arguments:all(name)
    elseif not OWN[name] then
      if not kind_of(name) then return nil, "there is no option " .. text.show(name), "invalid" end
      given[name] = value_of(kind_of(name), arguments:get(name))
    end
  end
  local objection = plan.objection(pool, given)
  if objection then return nil, objection, "invalid" end
  -- What is wrong with a value raises an error, as it would in a program.
  local ok, made, message, kind = pcall(pool.plan, pool, given)
  if not ok then return nil, text.message(made), "invalid" end
  return made, message, kind
end

return plan
