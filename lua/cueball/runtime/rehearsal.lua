--- What a script is given in a dry run in the place of what would be made or changed: a pool that lives answers through it, but takes no
-- orders; one that would be made has nothing to give.
local Pool = require "cueball.pool"
local Set = require "cueball.set"

local rehearsal = {}

-- These methods change a pool, and a dry run changes nothing.
local ORDERS = { set = true, replace = true, renew = true, stop = true }

local function ordered() return true end

local function nothing() end

-- Stands for a pool that lives: its numbers and the like are those of the pool, its orders do nothing.
local function of_living(object)
  return function(_, name)
    local value = object[name]
    if type(value) ~= "function" then return value end
    if ORDERS[name] then return ordered end
    if name == "subscribe" then return function() return nothing end end
    return function(_, ...) return value(object, ...) end
  end
end

local EMPTY = { stats = true, backends = true, connections = true }

-- Stands for a pool that would be made.
local function of_new(name)
  local function refused() return nil, ("there is no %s yet: this is a dry run"):format(name), "dry_run" end
  return function(_, member)
    if member == "name" then return name end
    if Pool[member] == nil and Set[member] == nil then return nil end
    if ORDERS[member] then return ordered end
    if EMPTY[member] then return function() return {} end end
    if member == "state" then return function() return "starting" end end
    if member == "subscribe" then return function() return nothing end end
    return refused
  end
end

--- What a declaration gives in a dry run.
-- @param name       of the pool or set
-- @param object     that lives under this name; nil: it would be made
-- @param stands_for where it is written down for whom it stands
function rehearsal.object(name, object, stands_for)
  local made = setmetatable({}, { __index = object and of_living(object) or of_new(name) })
  stands_for[made] = object
  return made
end

--- What cueball.spawn gives in a dry run: a task that is over.
function rehearsal.task()
  return { is_done = true }
end

--- What cueball.console is in a dry run: nobody is let in.
-- @param console the real one
function rehearsal.console(console)
  return setmetatable({ listen = function(address) return { address = address, close = nothing } end }, { __index = console })
end

return rehearsal
