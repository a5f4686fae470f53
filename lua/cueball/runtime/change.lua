--- What a new run of a script changes in the pools that live: found out first, so that a mistake changes nothing, then done.
local likeness = require "cueball.runtime.likeness"
local pool_options = require "cueball.pool.options"
local report = require "cueball.runtime.report"

local change = {}

local FACTORIES_MAX = 8 -- whose connections may be in one pool; with more, they are renewed

local function same_value(one, other)
  if type(one) ~= "table" or type(other) ~= "table" then return one == other end
  for key, value in pairs(one) do
    if not same_value(value, other[key]) then return false end
  end
  for key in pairs(other) do
    if one[key] == nil then return false end
  end
  return true
end

local PARTS = { "core", "own" }

-- The names of the options that differ, in order.
local function changed_names(before, now)
  local names, list = {}, {}
  for _, part in ipairs(PARTS) do
    for _, read in ipairs { before, now } do
      for name in pairs(read[part]) do
        local can_change = part == "core" or pool_options.is_changeable(name)
        if can_change and not same_value(before[part][name], now[part][name]) then names[name] = true end
      end
    end
  end
  for name in pairs(names) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- What the factory itself says.
local function says_it_fits(factory, before)
  if type(factory) ~= "table" or type(factory.fits) ~= "function" then return false end
  local made = type(before) == "table" and before.made_of or nil
  local ok, fits = pcall(factory.fits, made)
  return ok and fits == true
end

-- Whether connections that any of these factories opened may go on beside those of the new one.
local function all_fit(factories, one)
  if #factories >= FACTORIES_MAX then return false end
  for _, before in ipairs(factories) do
    local fits = likeness.same(before.note, one.connect) or likeness.fits(before.note, one.connect)
      or says_it_fits(one.read.own.connect, before.given)
    if not fits then return false end
  end
  return true
end

-- The factories whose connections may be in a pool, the latest first.
local function factories_of(declaration)
  return declaration.factories or { { note = declaration.connect, given = declaration.read.own.connect } }
end

local function pool_of(one)
  return one.kind == "set" and one.object.pool or one.object
end

-- The options that the pool is to have: what the script says may not fit what pool:set has said meanwhile.
local function prepared(before, one, names)
  local ok, made = pcall(function() return pool_of(before):prepare(names, one.read, "cueball." .. one.kind) end)
  if not ok then error(("%s: %s, declared there: %s"):format(one.site, one.name, made), 0) end
  return made
end

-- What becomes of a pool that lives.
local function plan_one(one)
  local before = one.before
  local names = changed_names(before.read, one.read)
  local plan = { one = one, before = before, object = before.object, names = names, prepared = nil, resolver = nil, connect = nil }
  if #names > 0 then plan.prepared = prepared(before, one, names) end
  if not likeness.same(before.resolver, one.resolver) then plan.resolver = one.read.own.resolver end
  plan.factories = factories_of(before)
  if not likeness.same(before.connect, one.connect) then
    plan.connect = one.read.own.connect
    plan.renews = not all_fit(plan.factories, one)
    local new = { note = one.connect, given = plan.connect }
    plan.factories = plan.renews and { new } or { new, unpack(plan.factories) }
  end
  return plan
end

local function is_untouched(plan)
  return #plan.names == 0 and not plan.resolver and not plan.connect
end

--- Finds out what a run that has succeeded changes.
-- @param before what lived as it began: a list of declarations
-- @param run    of cueball.runtime.run
-- @return a plan; mistakes, such as options that exclude what pool:set has set meanwhile, raise an error
function change.plan(before, run)
  local plan = { plans = {}, removed = {}, report = report.new(run.source.name, run.is_dry) }
  for _, one in ipairs(run.declarations) do
    if one.before then
      local of_one = plan_one(one)
      plan.plans[#plan.plans + 1] = of_one
      plan.report:add(one, is_untouched(of_one) and "untouched" or "changed", of_one)
    else
      plan.report:add(one, "made")
    end
  end
  for _, one in ipairs(before) do
    local now = run.by_name[one.name]
    if not (now and now.before == one) then
      plan.removed[#plan.removed + 1] = one
      plan.report:add(one, "removed")
    end
  end
  return plan
end

local function apply_one(plan)
  local one, before, object = plan.one, plan.before, plan.object
  local notices = one.read.notices
  if notices then object:notice(notices.added, notices.removed) end -- first: what follows asks connections back
  if plan.prepared then pool_of(before):take(plan.prepared) end
  if plan.resolver or plan.connect then object:replace { resolver = plan.resolver, connect = plan.connect, renew = plan.renews or nil } end
  -- What goes on is what was declared before: its functions are those.
  if not plan.resolver then one.resolver, one.read.own.resolver = before.resolver, before.read.own.resolver end
  if not plan.connect then one.connect, one.read.own.connect = before.connect, before.read.own.connect end
  one.factories, one.before = plan.factories, nil
end

--- Makes the changes that were found out.
-- @return the pools and sets that no declaration has any more; they are to be stopped
function change.apply(plan)
  for _, of_one in ipairs(plan.plans) do apply_one(of_one) end
  local objects = {}
  for index, one in ipairs(plan.removed) do objects[index] = one.object end
  return objects
end

return change
