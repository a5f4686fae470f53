--- One record of the log as one line: as text, as logfmt, or as JSON.
--
--   form.text(record)     2026-11-29T14:47:55.725Z info cueball local: stopping (was running)
--   form.logfmt(record)   time=2026-11-29T14:47:55.725Z level=info pool=local event=pool_state from=running to=stopping msg="stopping …"
--   form.json(record)     {"time":"2026-11-29T14:47:55.725Z","time_s":…,"level":"info","pool":"local", …,"fields":{"from":"running"}}
--
-- The message of a record may have several lines, where it ends with a traceback. As text it keeps them; the other two have one line.
local text = require "cueball.text"
local floor, format, gsub = math.floor, string.format, string.gsub

local form = {}

--- The time of a record, for people and programs: "2026-11-29T14:47:55.725Z".
-- @param time_s seconds since 1970
function form.time(time_s)
  local ms = floor(time_s * 1000 + 0.5)
  return format("%s.%03dZ", os.date("!%Y-%m-%dT%H:%M:%S", floor(ms / 1000)), ms % 1000)
end

--- What a person reads, without time and level: "cueball local: stopping"; of no pool: "cueball: a console refused user 7".
function form.words(record)
  return record.pool and format("cueball %s: %s", record.pool, record.message) or "cueball: " .. record.message
end

function form.text(record)
  return format("%s %s %s", form.time(record.time_s), record.level, form.words(record))
end

-- Numbers of leases and the like are whole, and long.
local function number(value)
  if value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then return format("%.0f", value) end
  return format("%.14g", value)
end

-- The names of a record's further facts, in order.
local function names_of(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function quoted(value)
  local escaped = gsub(text.clean(value), "[\\\"]", "\\%0") -- clean has written a line end as "\\n", which has two of them now
  return '"' .. gsub(escaped, "\\\\([nrtx])", "\\%1") .. '"'
end

-- A value of logfmt: bare where that is clear, else in quotes.
local function logfmt_value(value)
  if type(value) == "number" then return number(value) end
  local shown = text.of(value)
  if shown ~= "" and not shown:find "[^%w%._:/@%+%%,%-]" then return shown end
  return quoted(shown)
end

local HEAD = { "level", "pool", "backend", "event", "cause" } -- in this order, before the other fields

function form.logfmt(record)
  local parts = { "time=" .. form.time(record.time_s) }
  for _, name in ipairs(HEAD) do
    if record[name] then parts[#parts + 1] = name .. "=" .. logfmt_value(record[name]) end
  end
  for _, name in ipairs(names_of(record.fields)) do
    parts[#parts + 1] = gsub(name, "[^%w_]", "_") .. "=" .. logfmt_value(record.fields[name])
  end
  parts[#parts + 1] = "msg=" .. quoted(record.message)
  return table.concat(parts, " ")
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function json_escape(character)
  return ESCAPES[character] or format("\\u%04x", character:byte())
end

-- A value of a record as JSON: they are strings, numbers and booleans. "<" is escaped for those who put a line into a page.
local function json_value(value)
  local kind = type(value)
  if kind == "boolean" then return tostring(value) end
  if kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return "null" end
    return number(value)
  end
  return '"' .. gsub(text.clean_lines(text.of(value)), '[%z\1-\31"\\<\127]', json_escape) .. '"'
end

function form.json(record)
  local parts = { format('"time":"%s","time_s":%.3f', form.time(record.time_s), record.time_s) }
  for _, name in ipairs(HEAD) do
    if record[name] then parts[#parts + 1] = format('"%s":%s', name, json_value(record[name])) end
  end
  parts[#parts + 1] = '"message":' .. json_value(record.message)
  local fields = {}
  for _, name in ipairs(names_of(record.fields)) do
    fields[#fields + 1] = json_value(name) .. ":" .. json_value(record.fields[name])
  end
  return format('{%s,"fields":{%s}}', table.concat(parts, ","), table.concat(fields, ","))
end

return form
