--- Writes what Prometheus and others read: families, and samples of them. As OpenMetrics, or as the text that was before it.
-- The formats: https://github.com/OpenObservability/OpenMetrics/blob/main/specification/OpenMetrics.md
--   https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
local clean = require("cueball.text").clean
local format, gsub = string.format, string.gsub

local exposition = {
  content_types = {
    openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8",
    prometheus = "text/plain; version=0.0.4; charset=utf-8",
  },
}

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }
local SUFFIXES = { counter = "_total", info = "_info" }

--- One label, fit to stand between braces: pool="db".
function exposition.label(name, value)
  return format('%s="%s"', name, (gsub(clean(tostring(value)), '[\\"\n]', ESCAPES)))
end

--- A number as short as it can be written without becoming another.
function exposition.number(value)
  if value % 1 == 0 and value < 1e15 and value > -1e15 then return format("%d", value) end
  local short = format("%.15g", value)
  return tonumber(short) == value and short or format("%.17g", value)
end
local number = exposition.number

local Text = {}
Text.__index = Text

local LINES = 64 -- after so many it may be time to give way

--- Begins a family; what follows is samples of it.
-- @param name  its whole name, without the suffix of its kind
-- @param kind  "counter", "gauge", "histogram" or "info"
-- @param help  nil: none
-- @param unit  nil, or the unit at the end of its name
function Text:family(name, kind, help, unit)
  local sample_name = name .. (SUFFIXES[kind] or "")
  self.bare, self.open = sample_name .. " ", sample_name .. "{"
  self.bucket, self.count_name, self.sum_name = name .. "_bucket{", name .. "_count{", name .. "_sum{"
  if self.is_old then -- it knows a sample's name only, and no units
    name, kind, unit = sample_name, kind == "info" and "gauge" or kind, nil
  end
  local writer = self.writer
  writer:put(format("# TYPE %s %s\n", name, kind))
  if unit then writer:put(format("# UNIT %s %s\n", name, unit)) end
  if help then writer:put(format("# HELP %s %s\n", name, help)) end
end

local function count_lines(self, lines)
  self.lines = self.lines + lines
  if self.lines < LINES then return end
  self.lines = 0
  if self.pause then self.pause() end
end

--- What stands behind the labels that all samples of a pool have: another label. Text:sample wants it.
function exposition.more(label)
  return format(",%s} ", label)
end

--- @param labels of exposition.label, joined by commas; "": none
-- @param more nil, or of exposition.more
function Text:sample(labels, value, more)
  if labels == "" then
    self.writer:line(self.bare, "", "", value, number)
  else
    self.writer:line(self.open, labels, more or "} ", value, number)
  end
  count_lines(self, 1)
end

--- What stands behind the labels of a bucket, for each upper bound and for +Inf: histogram wants it.
-- @param bounds texts of the upper bounds, without the last, which is +Inf
function exposition.bounds(bounds)
  local made = {}
  for index, bound in ipairs(bounds) do made[index] = format(',le="%s"} ', bound) end
  made[#made + 1] = ',le="+Inf"} '
  return made
end

--- One histogram.
-- @param labels at least one
-- @param bounds of exposition.bounds
-- @param room, indexes room[indexes[i]]: how many are in that bucket and in none before it, the last of them above all bounds; NaN: none
-- @param sum  of all values
function Text:histogram(labels, bounds, room, indexes, sum)
  local writer, bucket, seen = self.writer, self.bucket, 0
  for index = 1, #bounds do
    local count = room[indexes[index]]
    if count == count then seen = seen + count end
    writer:line(bucket, labels, bounds[index], seen, number)
  end
  writer:line(self.count_name, labels, "} ", seen, number)
  writer:line(self.sum_name, labels, "} ", sum, number)
  count_lines(self, #bounds + 2)
end

--- Ends it.
function Text:finish()
  if not self.is_old then self.writer:put "# EOF\n" end
end

--- @param writer of cueball.monitor.writer
-- @param pause nil, or of cueball.monitor.slices
-- @param format_name "openmetrics" or "prometheus"
function exposition.new(writer, pause, format_name)
  return setmetatable({
    writer = writer, pause = pause, is_old = format_name == "prometheus", lines = 0, open = nil, bare = nil, bucket = nil,
    count_name = nil, sum_name = nil,
  }, Text)
end

return exposition
