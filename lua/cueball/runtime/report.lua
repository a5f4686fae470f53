--- What a reload has changed, or would change: as a table, and in words.
local text = require "cueball.text"

local report = {}

local Report = {}
Report.__index = Report

-- Options of a set that its pool has under other names.
local OF_SETS = { max_connections = "maximum", spares = "target" }

--- @param script what messages call it
-- @param is_dry whether nothing was changed
function report.new(script, is_dry)
  return setmetatable({ script = script, dry_run = is_dry, untouched = 0, pools = {} }, Report)
end

-- Options that differ, each by its whole name: "recovery.default.delay_ms".
local function add_options(list, name, before, now)
  if type(before) ~= "table" and type(now) ~= "table" then
    if before ~= now then list[#list + 1] = { name = name, before = before, after = now } end
    return
  end
  local names, sorted = {}, {}
  for _, part in ipairs { type(before) == "table" and before or {}, type(now) == "table" and now or {} } do
    for key in pairs(part) do names[key] = true end
  end
  for key in pairs(names) do sorted[#sorted + 1] = key end
  table.sort(sorted)
  if #sorted == 0 then list[#list + 1] = { name = name, before = before, after = now } end
  for _, key in ipairs(sorted) do
    add_options(list, name .. "." .. key, type(before) == "table" and before[key] or nil, type(now) == "table" and now[key] or nil)
  end
end

local function value_of(read, name)
  local value = read.core[name]
  if value == nil then value = read.own[name] end
  return value
end

--- Adds what becomes of one more pool or set.
-- @param one    its declaration
-- @param change "untouched", "changed", "made" or "removed"
-- @param plan   of cueball.runtime.change, where it is changed
function Report:add(one, change, plan)
  local line = { name = one.name, kind = one.kind, change = change, options = {}, resolver = nil, connections = nil }
  if change == "untouched" then
    self.untouched = self.untouched + 1
  elseif change == "changed" then
    for _, name in ipairs(plan.names) do
      local shown = one.kind == "set" and OF_SETS[name] or name
      add_options(line.options, shown, value_of(plan.before.read, name), value_of(one.read, name))
    end
    line.resolver = plan.resolver and "replaced" or nil
    if plan.connect then line.connections = plan.renews and "renewed" or "kept" end
  end
  self.pools[#self.pools + 1] = line
end

local function shown(value)
  if value == nil then return "the default" end
  return type(value) == "table" and "{}" or text.show(value)
end

local CONNECTIONS = {
  kept = "another connection factory, connections are kept", renewed = "another connection factory, connections are renewed over 10 s",
}

local function words_of(line)
  if line.change ~= "changed" then return line.change .. (line.change == "removed" and ", and drained" or "") end
  local parts = {}
  for index, option in ipairs(line.options) do
    parts[index] = ("%s from %s to %s"):format(option.name, shown(option.before), shown(option.after))
  end
  if line.resolver then parts[#parts + 1] = "another resolver" end
  if line.connections then parts[#parts + 1] = CONNECTIONS[line.connections] end
  return "changed: " .. table.concat(parts, "; ")
end

--- The report in words: a line for the script, and one for each pool and set.
function Report:__tostring()
  local lines = { ("%s: %s"):format(self.script, self.dry_run and "a dry run; loaded anew it would be" or "loaded anew") }
  for _, line in ipairs(self.pools) do lines[#lines + 1] = ("%s %s: %s"):format(line.kind, line.name, words_of(line)) end
  if #self.pools == 0 then lines[2] = "it declares no pools" end
  return text.clean_lines(table.concat(lines, "\n"))
end

return report
