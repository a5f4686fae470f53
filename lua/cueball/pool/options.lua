--- The options of a pool: the core's, read by its own list, and those of the Lua side.
--
-- What follows from the latter in a living pool is written here only: pool.leak_detection, leak_warning_ms, claim_sites,
-- deadlock_detection, and notes_sites, detects_leaks, detects_deadlocks.
local factory = require "cueball.pool.factory"
local leaks = require "cueball.pool.leaks"
local misuse = require "cueball.misuse"
local options = require "cueball.options"

local pool_options = {}

local function is_warning_time(value)
  return value == false or type(value) == "number" and value >= 1 and value <= 86400000
end

-- What is not the core's.
local OWN = {
  name = options.NAME,
  resolver = options.RESOLVER,
  connect = factory.RULE,
  seed = options.whole(0, 2 ^ 53 - 1),
  host = options.of_type("table", "a host"),
  leak_detection = options.of_type("boolean", "true or false"),
  deadlock_detection = options.of_type("boolean", "true or false"),
  claim_sites = options.of_type("boolean", "true or false"),
  max_connections_scope = {
    check = function(value) return value == "pool" or value == "server" end, range = '"pool" or "server"',
  },
  max_connections_dict = {
    check = function(value) return type(value) == "string" or type(value) == "table" end, range = "the name of a shared dict",
  },
  leak_warning_ms = { check = is_warning_time, range = "a number of milliseconds from 1 to 86400000, or false for none" },
}

options.note("cueball.pool", OWN, {})

-- Of these.
local CHANGEABLE = { name = true, leak_detection = true, deadlock_detection = true, leak_warning_ms = true, claim_sites = true }

local changeable = {}
for name in pairs(CHANGEABLE) do changeable[name] = OWN[name] end
options.note("pool:set", changeable, {})
options.note("pool:replace", {
  resolver = OWN.resolver, connect = OWN.connect, renew = options.of_type("boolean", "true or false, beside option 'connect'"),
})

-- And what they are where nobody has said.
local INITIAL = { leak_detection = true, deadlock_detection = true, leak_warning_ms = false, claim_sites = false }

local REQUIRED = { "resolver", "connect" }

--- Reads the options of a new pool.
-- @param what who asks, for messages
-- @return those of the Lua side, those of the core as they were given, and a cueball_options; mistakes raise
function pool_options.read(what, given)
  local own, core = options.split(what, given, OWN)
  local cdata = options.read(what, core, OWN)
  cdata.has_check = factory.has_check(own.connect)
  for _, name in ipairs(REQUIRED) do
    if own[name] == nil then misuse.raise(("%s: option '%s' is required: %s"):format(what, name, OWN[name].range)) end
  end
  return own, core, cdata
end

--- Reads options that a living pool is to have from now on.
-- @return those of the Lua side, those of the core with what was given before, and a cueball_options; mistakes raise
function pool_options.changed(pool, what, given)
  local own, core = options.split(what, given, OWN)
  for name in pairs(own) do
    if not CHANGEABLE[name] then
      local advice = not pool.of_set and (name == "resolver" or name == "connect") and "; use pool:replace" or ""
      misuse.raise(("%s: option '%s' cannot be changed%s"):format(what, name, advice))
    end
  end
  local merged = options.merge(pool.given, core)
  local cdata = options.read(what, merged, CHANGEABLE)
  cdata.has_check = factory.has_check(pool.factory.given or pool.factory)
  if pool.quota then pool.quota:options_changed(what, core, cdata) end
  return own, merged, cdata
end

--- Reads options that a living pool might have, and changes nothing.
-- @return a cueball_options; mistakes raise
function pool_options.foreseen(pool, what, given)
  local own, core = options.split(what, given, OWN)
  for name in pairs(own) do
    if not CHANGEABLE[name] then misuse.raise(("%s: option '%s' cannot be changed"):format(what, name)) end
  end
  local cdata = options.read(what, options.merge(pool.given, core), CHANGEABLE)
  cdata.has_check = factory.has_check(pool.factory.given or pool.factory)
  return cdata
end

--- Whether pool:set can change an option.
function pool_options.is_changeable(name)
  return CHANGEABLE[name] or not OWN[name]
end

--- Reads options that a living pool is to have exactly as a new declaration says, see Pool:prepare.
-- @return as pool_options.changed
function pool_options.exactly(pool, what, names, read)
  local own, merged, core = {}, options.merge({}, pool.given), {}
  for _, name in ipairs(names) do
    if OWN[name] then
      own[name] = read.own[name]
      if own[name] == nil then own[name] = INITIAL[name] end
    else
      core[name] = options.merge({}, { value = read.core[name] }).value
      merged[name] = core[name]
    end
  end
  local cdata = options.read(what, merged, CHANGEABLE)
  cdata.has_check = factory.has_check(pool.factory.given or pool.factory)
  if pool.quota then pool.quota:options_changed(what, core, cdata) end
  return own, merged, cdata
end

--- Reads what pool:replace is given.
-- @return { resolver =, connect = }, and whether connections are to be renewed; mistakes raise
function pool_options.replaced(what, given)
  local own, core = options.split(what, given, OWN)
  local renews = core.renew
  core.renew = nil
  if renews ~= nil and (type(renews) ~= "boolean" or renews and not own.connect) then
    misuse.raise(("%s: option 'renew' must be true or false, beside option 'connect'"):format(what))
  end
  for _, list in ipairs { own, core } do
    for name in pairs(list) do
      if name ~= "resolver" and name ~= "connect" then
        misuse.raise(("%s: option '%s' is not for replace; use %s"):format(what, tostring(name), (what:gsub("replace$", "set"))))
      end
    end
  end
  return own, renews
end

--- The pool follows options of the Lua side, as far as they are given.
function pool_options.follow(pool, own)
  if own.leak_detection ~= nil then pool.leak_detection = own.leak_detection end
  if own.leak_warning_ms ~= nil then pool.leak_warning_ms = own.leak_warning_ms or nil end
  if own.claim_sites ~= nil then pool.claim_sites = own.claim_sites end
  if own.deadlock_detection ~= nil then pool.deadlock_detection = own.deadlock_detection end
  pool.notes_sites = pool.claim_sites or pool.leak_warning_ms ~= nil
  if pool.notes_sites and own.leak_warning_ms ~= nil then leaks.limit_changed(pool.leaks) end
  if not pool.notes_sites then leaks.forget(pool.leaks) end
  -- A set keeps its leases itself.
  pool.detects_leaks = pool.leak_detection ~= false and not pool.of_set
  pool.detects_deadlocks = pool.deadlock_detection ~= false and not pool.of_set
end

return pool_options
