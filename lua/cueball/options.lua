--- Reading options from a Lua table: those of the core by its own list, and small tables of options by a list of rules.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local options = {}

local COUNT, DURATION, FRACTION, CHOICE, RATE = lib.CUEBALL_OPTION_COUNT, lib.CUEBALL_OPTION_DURATION,
  lib.CUEBALL_OPTION_FRACTION, lib.CUEBALL_OPTION_CHOICE, lib.CUEBALL_OPTION_RATE

--- A value as a message shows it.
options.show = text.show

--- A rule for options.check: the name of a pool and the like, shown in logs, JSON and metrics.
options.NAME = {
  check = function(value) return text.is_clean(value) and #value >= 1 and #value <= 255 end,
  range = "a string of 1 to 255 bytes without control characters",
}

--- The same: a resolver.
options.RESOLVER = {
  check = function(value) return type(value) == "function" or type(value) == "table" and type(value.run) == "function" end,
  range = "a function(sink) or a table with run(self, sink)",
}

--- The same: how long to wait.
options.TIMEOUT = {
  check = function(value)
    return value == false or type(value) == "number" and (value >= 0 and value <= 86400000 or value == math.huge)
  end,
  range = "a number of milliseconds from 0 to 86400000, or false for none",
}

-- Raises "what: fault" at the line that called cueball.
local function object(what, fault)
  misuse.raise(what .. ": " .. fault)
end

local function sorted_names(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- How many letters to change, add or drop to get from one name to the other (Levenshtein 1966).
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], best
    end
  end
  return row[#b]
end

-- @param also more names that are known there, or nil
local function unknown(name, known, also)
  if type(name) ~= "string" then return ("unknown option %s"):format(options.show(name)) end
  local names = sorted_names(also and options.merge(known, also) or known)
  local nearest, least
  for _, candidate in ipairs(names) do
    local far = distance(name, candidate)
    -- A third of the letters wrong is a slip, and so is a unit left out; more is another word.
    local is_near = far <= math.max(1, math.floor(#name / 3)) or candidate:sub(1, #name + 1) == name .. "_"
    if is_near and far <= 3 and (not least or far < least) then nearest, least = candidate, far end
  end
  if nearest then
    return ("unknown option '%s'; did you mean '%s'?"):format(text.message(name), nearest)
  end
  return ("unknown option '%s'; there are %s"):format(text.message(name), table.concat(names, ", "))
end

-- What a value is that may not be shown.
local function kind_of(value)
  return type(value) == "string" and "the string that was given" or "a " .. type(value)
end

--- Checks a small table of options.
-- @param what   who asks, for messages: "pool:claim"
-- @param given  the table, or nil
-- @param rules  by name: { check = function(value) → boolean, range = "a number from 1 to 2", is_secret = its value is not shown }
-- @return given, or an empty table
function options.check(what, given, rules)
  if given == nil then return {} end
  if type(given) ~= "table" then
    object(what, "expected a table of options, got " .. options.show(given))
  end
  for name, value in pairs(given) do
    local rule = rules[name]
    if not rule then object(what, unknown(name, rules)) end
    if not rule.check(value) then
      local shown = rule.is_secret and kind_of(value) or options.show(value)
      object(what, ("option '%s' must be %s, not %s"):format(name, rule.range, shown))
    end
  end
  return given
end

--- Splits a table of options in two: those that have a rule, checked, and the others.
-- @param what, given, rules  as for options.check; `given` may not be nil
-- @return both tables
function options.split(what, given, rules)
  if type(given) ~= "table" then
    object(what, "expected a table of options, got " .. options.show(given))
  end
  local own, others = {}, {}
  for name, value in pairs(given) do
    if rules[name] then own[name] = value else others[name] = value end
  end
  return options.check(what, own, rules), others
end

--- Rules for options.check.
function options.number(low, high, unit)
  return {
    range = ("a number%s from %.15g to %.15g"):format(unit and " of " .. unit or "", low, high),
    check = function(value) return type(value) == "number" and value >= low and value <= high end,
  }
end

function options.whole(low, high)
  return {
    range = ("a whole number from %.17g to %.17g"):format(low, high),
    check = function(value) return type(value) == "number" and value % 1 == 0 and value >= low and value <= high end,
  }
end

function options.of_type(name, range)
  return { range = range or "a " .. name, check = function(value) return type(value) == name end }
end

-- The core's list: each option by its path, and the names on the way.
local described, tree = {}, {}

local function describe_all()
  local found = ffi.new "cueball_option"
  while lib.cueball_option_describe(#described, found) do
    local option = {
      name = ffi.string(found.name), kind = found.kind, offset = found.offset, min = found.min, max = found.max,
      initial = found.initial, may_be_none = found.may_be_none, choices = nil,
    }
    if found.choices ~= nil then
      option.choices = {}
      for choice in ffi.string(found.choices):gmatch "%S+" do option.choices[#option.choices + 1] = choice end
    end
    described[#described + 1] = option
    local node = tree
    local path, last = option.name:match "^(.-)([^.]+)$"
    for part in path:gmatch "[^.]+" do
      node[part] = node[part] or {}
      node = node[part]
    end
    node[last] = option
  end
end

describe_all()

-- Of functions, by name: { rules = of options.check, or nil; has_core = whether the core's options are among them, but for some }
local noted = {}

--- A function takes these options: for who helps people to type them.
-- @param what  "pool:claim"
-- @param rules as for options.check
-- @param core  nil; or: a table whose keys are options of the core that it does not take, and all others it does
-- @return rules
function options.note(what, rules, core)
  noted[what] = { rules = rules, core = core }
  return rules
end

--- Whether a function is known for its options.
function options.is_noted(what)
  return noted[what] ~= nil
end

-- What there is at a path in the core's list: "recovery.default"; nil: nothing.
local function node_at(path)
  local node = tree
  for part in path:gmatch "[^.]+" do
    if node.kind then return nil end
    node = node[part]
    if not node then return nil end
  end
  return node
end

local range_of

-- The default of an option as a program would write it.
local function initial_value(option)
  if option.kind == CHOICE then return option.choices[tonumber(option.initial) + 1] end
  if option.initial == math.huge then return false end
  return tonumber(option.initial)
end

--- The default of an option of the core as a program would write it; nil: there is no such option.
-- @param path "max_connections", "recovery.default.attempts"
function options.default_of(path)
  local option = node_at(path)
  return option and option.kind and initial_value(option)
end

local function described_option(name, option)
  if not option.kind then return { name = name, range = "a table" } end
  return { name = name, range = ("%s; default %s"):format(range_of(option), tostring(initial_value(option))), choices = option.choices }
end

--- What options a function takes.
-- @param what of options.note
-- @param path "" for those of the table itself; "recovery.default" for those of a table in it
-- @return a list of { name =, range = in words, choices = a list or nil }, by name; nil: it is not known
function options.taken(what, path)
  local known, list = noted[what], {}
  if not known then return nil end
  for name, rule in pairs(path == "" and known.rules or {}) do list[#list + 1] = { name = name, range = rule.range } end
  local node = known.core and node_at(path)
  for name, option in pairs(node and not node.kind and node or {}) do
    if path ~= "" or known.core[name] == nil then list[#list + 1] = described_option(name, option) end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- Every option of the core, in its order: { name, kind, min, max, initial, may_be_none, choices }.
function options.all()
  return described
end

--- The default of an option of the core.
function options.initial(name)
  for _, option in ipairs(described) do
    if option.name == name then return option.initial end
  end
end

-- Which of an option's choices a value is, from 0.
local function choice_index(option, value)
  for index, choice in ipairs(option.choices) do
    if choice == value then return index - 1 end
  end
end

function range_of(option)
  if option.kind == CHOICE then return '"' .. table.concat(option.choices, '" or "') .. '"' end
  local kind = option.kind == COUNT and "a whole number" or "a number"
  local unit = option.kind == DURATION and " (milliseconds)" or option.kind == RATE and " (per second)" or ""
  local none = option.may_be_none and ", or false for none" or option.kind == DURATION and option.min == 0 and ", or false for 0" or ""
  return ("%s from %.15g to %.15g%s%s"):format(kind, option.min, option.max, unit, none)
end

-- The number that stands for a value in the core; nil: it is none that the option can have.
local function number_of(option, value)
  if option.kind == CHOICE then return choice_index(option, value) end
  if value == false and option.may_be_none then return math.huge end
  if value == false and option.kind == DURATION and option.min == 0 then return 0 end
  if type(value) ~= "number" then return nil end
  if value == math.huge and option.may_be_none then return value end
  if not (value >= option.min and value <= option.max) then return nil end
  if option.kind == COUNT and value % 1 ~= 0 then return nil end
  return value
end

local POINTER = { [COUNT] = ffi.typeof "uint32_t *", [CHOICE] = ffi.typeof "int32_t *",
  [DURATION] = ffi.typeof "double *", [FRACTION] = ffi.typeof "double *",
  [RATE] = ffi.typeof "double *" }

local function write(cdata, option, number)
  local member = ffi.cast(POINTER[option.kind], ffi.cast("char *", cdata) + option.offset)
  if option.kind == COUNT and number == math.huge then number = 0xffffffff end
  member[0] = number
end

-- Writes what is given at this node of the tree, and below it.
local function fill(cdata, what, given, node, path, also)
  for name, value in pairs(given) do
    local option = node[name]
    if not option then object(what, unknown(name, node, also):gsub("option '", "option '" .. path, 1)) end
    if not option.kind then
      if type(value) ~= "table" then
        object(what, ("option '%s%s' must be a table, not %s"):format(path, name, options.show(value)))
      end
      fill(cdata, what, value, option, path .. name .. ".")
    else
      local number = number_of(option, value)
      if not number then
        object(what, ("option '%s%s' must be %s, not %s"):format(path, name, range_of(option), options.show(value)))
      end
      write(cdata, option, number)
    end
  end
end

-- What an operation leaves out of its recovery it has from `connect` (for
-- `initial`) and from `default`.
local function inherit(recovery)
  if type(recovery) ~= "table" then return recovery end
  local function over(upper, lower)
    if type(upper) ~= "table" or type(lower) ~= "table" then return upper == nil and lower or upper end
    local merged = {}
    for name, value in pairs(lower) do merged[name] = value end
    for name, value in pairs(upper) do merged[name] = value end
    return merged
  end
  local full = over(recovery, {})
  full.connect = over(recovery.connect, recovery.default)
  full.initial = over(recovery.initial, full.connect)
  return full
end

--- Reads the recovery of one operation.
-- @param what       who asks, for messages
-- @param operation  "dns"
-- @param given      { attempts =, timeout_ms =, … }, or nil
-- @return a cueball_recovery
function options.recovery(what, operation, given)
  local cdata = ffi.new "cueball_options"
  lib.cueball_options_init_sized(cdata, ffi.sizeof(cdata))
  local path = "recovery." .. operation
  if given ~= nil and type(given) ~= "table" then
    object(what, ("option '%s' must be a table, not %s"):format(path, options.show(given)))
  end
  fill(cdata, what, given or {}, tree.recovery.default, path .. ".")
  local fault = ffi.new("char[?]", 256)
  if lib.cueball_options_check(cdata, fault, 256) ~= 0 then
    object(what, (ffi.string(fault):gsub("recovery%.default", path)))
  end
  return ffi.new("cueball_recovery", cdata.recovery_default)
end

-- What a pool's `recovery` says of its resolver's questions.  The core knows nothing of them.
local RESOLVER_OPERATIONS = { "dns", "dns_srv" }

-- @return `recovery` without them
local function without_questions(what, recovery)
  if type(recovery) ~= "table" then return recovery end
  local own = options.merge({}, recovery)
  for _, operation in ipairs(RESOLVER_OPERATIONS) do
    options.recovery(what, operation, own[operation])
    own[operation] = nil
  end
  return own
end

-- outlier = {} turns it on, with what Envoy has by default.
local function with_consecutive(outlier)
  if type(outlier) ~= "table" or outlier.consecutive ~= nil then return outlier end
  return { consecutive = 5 }
end

--- Reads a pool's options into a new cueball_options.
-- @param what   who asks, for messages: "cueball.pool"
-- @param given  the user's table, without what is not the core's
-- @param also   a table whose keys are options that are read elsewhere, to suggest them too; or nil
function options.read(what, given, also)
  local cdata = ffi.new "cueball_options"
  lib.cueball_options_init_sized(cdata, ffi.sizeof(cdata))
  local recovery = without_questions(what, given.recovery)
  local core = options.merge(given, {})
  core.recovery = recovery
  fill(cdata, what, core, tree, "", also)
  fill(cdata, what, { recovery = inherit(recovery), outlier = with_consecutive(given.outlier) }, tree, "")
  local fault = ffi.new("char[?]", 256)
  if lib.cueball_options_check(cdata, fault, 256) ~= 0 then object(what, ffi.string(fault)) end
  return cdata
end

--- What is given, over what was given before; tables within are merged too.
-- The result shares no table with `given`.
function options.merge(before, given)
  local merged = {}
  for name, value in pairs(before) do merged[name] = value end
  for name, value in pairs(given) do
    local was = merged[name]
    if type(value) == "table" then value = options.merge(type(was) == "table" and was or {}, value) end
    merged[name] = value
  end
  return merged
end

return options
