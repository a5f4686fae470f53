--- What a pool would do if its backends or options were others: worked out on a copy of its core, and nothing is changed. A method of the
-- pool.
local address = require "cueball.address"
local native = require "cueball.native"
local options = require "cueball.options"
local pool_options = require "cueball.pool.options"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local plan = {}

local function is_list(value)
  if type(value) ~= "table" then return false end
  for key in pairs(value) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 or key > #value then return false end
  end
  return true
end

local function is_list_of_keys(value)
  if not is_list(value) then return false end
  for _, key in ipairs(value) do
    if type(key) ~= "string" then return false end
  end
  return true
end

local OWN = {
  add = { check = is_list, range = "a list of backends, as a resolver says them" },
  remove = { check = is_list_of_keys, range = "a list of keys of backends" },
}

-- The backends as the core takes them.
-- @return an array of cueball_backend_spec; or nil, message
local function specs_of(list)
  local specs = ffi.new("cueball_backend_spec[?]", math.max(1, #list))
  local kept = {} -- the strings that the specs point to
  for index, given in ipairs(list) do
    local backend, message = address.backend(given)
    if not backend then return nil, ("add: number %d: %s"):format(index, message) end
    local spec = specs[index - 1]
    spec.struct_size = ffi.sizeof "cueball_backend_spec"
    spec.key, spec.name, spec.address = backend.key, backend.name, backend.address
    spec.port, spec.weight, spec.priority = backend.port, backend.weight, backend.priority
    kept[index] = backend
  end
  return specs, kept
end

-- How each name that was given reads in a sentence: "add 10.0.0.3:80, remove 10.0.0.1:80, spares = 4".
local function change_text(kept, remove, given)
  local parts = {}
  for _, backend in ipairs(kept) do parts[#parts + 1] = "add " .. backend.key end
  for _, key in ipairs(remove) do parts[#parts + 1] = "remove " .. text.message(key) end
  local names = {}
  for name in pairs(given) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = ("%s = %s"):format(name, options.show(given[name])) end
  return #parts > 0 and table.concat(parts, ", ") or "no change"
end

local ROWS_MAX = 20 -- of the text

local function row_text(row)
  local words = {}
  if row.removed then words[#words + 1] = "removed" end
  if row.added then words[#words + 1] = "added" end
  if row.dead and not row.removed then words[#words + 1] = "dead" end
  if row.drained then words[#words + 1] = "drained" end
  return ("  %s  %d -> %d%s"):format(row.key, row.before, row.after, #words > 0 and " (" .. table.concat(words, ", ") .. ")" or "")
end

-- What the answer rests on.
local function assumptions(made)
  local opens = made.open_ms and ("an attempt takes %.6g ms"):format(made.open_ms) or "opening takes no time (none was measured)"
  local back = made.lease_ms and ("leases whose connections go come back after %.6g ms"):format(made.lease_ms)
    or "leases whose connections go come back at once (none was measured)"
  return ("if %s, %s, and the load stays"):format(opens, back)
end

local function text_of(made, what)
  local lines = { what .. ":" }
  for index, row in ipairs(made.rows) do
    if index <= ROWS_MAX then lines[#lines + 1] = row_text(row) end
  end
  if #made.rows > ROWS_MAX then lines[#lines + 1] = ("  … %d more"):format(#made.rows - ROWS_MAX) end
  local when = made.settles and ("settled after %.6g ms"):format(made.settle_ms) or ("not settled after %.6g ms"):format(made.settle_ms)
  lines[#lines + 1] = ("%d opened, %d closed, %s, %s"):format(made.opens, made.closes, when, assumptions(made))
  return table.concat(lines, "\n")
end

local function row_of(told)
  return {
    key = ffi.string(told.key), before = told.before, after = told.after, added = told.added or nil, removed = told.removed or nil,
    dead = told.dead or nil, drained = told.drained or nil,
  }
end

-- The answer of the core as a table. The keys live: backends are removed in this thread only.
local function answer_of(pool, rows, count)
  local told = pool.core.foretold
  local made = {
    before = {}, after = {}, adds = {}, removes = {}, rows = {}, opens = told.opens, closes = told.closes,
    settles = told.settles, settle_ms = tonumber(told.settle_time) / 1e6,
    open_ms = told.knows_open and tonumber(told.open_time) / 1e6 or nil,
    lease_ms = told.knows_lease and tonumber(told.lease_time) / 1e6 or nil,
  }
  for index = 1, count do
    local row = row_of(rows[index - 1])
    made.rows[index] = row
    if not row.added then made.before[row.key] = row.before end
    if not row.removed then made.after[row.key] = row.after end
    if row.after > row.before then made.adds[row.key] = row.after - row.before end
    if row.after < row.before then made.removes[row.key] = row.before - row.after end
  end
  return made
end

local function known_in(pool)
  pool.core:stats()
  return pool.core.numbers.backends
end

-- What pool:plan does; `what` is what was called, for messages, and `given` are the options by the names that were given.
local function foresee(pool, own, core, what, given)
  local change = ffi.new "cueball_change"
  change.struct_size = ffi.sizeof(change)
  local settings = next(core) and pool_options.foreseen(pool, what, core) or nil
  if settings and pool.quota then
    return nil, what .. ": options cannot be foreseen where connections are shared with other workers", "unsupported"
  end
  local specs, kept = specs_of(own.add or {})
  if not specs then return nil, kept, "invalid" end
  local remove = own.remove or {}
  local keys = ffi.new("const char *[?]", math.max(1, #remove), remove)
  change.added, change.added_count, change.removed, change.removed_count = specs, #kept, keys, #remove
  change.options = settings
  local room = known_in(pool) + #kept
  local rows = ffi.new("cueball_preview_backend[?]", math.max(1, room))
  local result = pool.core:preview(pool.now(), change, rows, room)
  if result == lib.CUEBALL_ENOT_FOUND then return nil, "remove: no backend has one of these keys", "not_found" end
  if result < 0 then return nil, ffi.string(lib.cueball_error_message(result)), ffi.string(lib.cueball_error_name(result)) end
  local made = answer_of(pool, rows, math.min(room, pool.core.foretold.backends))
  made.text = text_of(made, change_text(kept, remove, given))
  return made
end

--- What the pool would do: how many connections each backend would have in the end, what is opened and closed on the way, and how long that
-- takes. Nothing is changed.
-- @param given a table:
--   add     a list of backends, as a resolver says them: "10.0.0.3:80", or { address =, port =, weight =, … }
--   remove  a list of keys
--   and options as for pool:set
-- @return { before = { [key] = connections }, after = the same, adds =, removes = { [key] = so many more, fewer }, opens =, closes =,
--   settles =, settle_ms =, open_ms =, lease_ms = what was assumed, rows =, text = all that in words };
--   or nil, message, name: "invalid", "not_found", "no_memory", "pool_stopping", "unsupported"
function plan.plan(pool, given)
  local own, core = options.split("pool:plan", given or {}, OWN)
  return foresee(pool, own, core, "pool:plan", core)
end

local SET_NAMES = { target = "spares", maximum = "max_connections" }

--- The same of the pool of a set, whose options have names of their own.
function plan.of_set(pool, given)
  local own, others = options.split("set:plan", given or {}, OWN)
  local core = {}
  for name, value in pairs(others) do core[SET_NAMES[name] or name] = value end
  return foresee(pool, own, core, "set:plan", others)
end

return plan
