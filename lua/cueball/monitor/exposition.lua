--- Writes what Prometheus and others read: families, and samples of them. As OpenMetrics, or as the text that was before it.
-- The formats: https://github.com/OpenObservability/OpenMetrics/blob/main/specification/OpenMetrics.md
--   https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
local clean = require("cueball.text").clean
local concat, format, gsub = table.concat, string.format, string.gsub

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

--- Begins a family; what follows is samples of it.
-- @param name  its whole name, without the suffix of its kind
-- @param kind  "counter", "gauge", "histogram" or "info"
-- @param help  nil: none
-- @param unit  nil, or the unit at the end of its name
function Text:family(name, kind, help, unit)
  self.name, self.sample_name = name, name .. (SUFFIXES[kind] or "")
  if self.is_old then -- it knows a sample's name only, and no units
    name, kind, unit = self.sample_name, kind == "info" and "gauge" or kind, nil
  end
  self:line(format("# TYPE %s %s", name, kind))
  if unit then self:line(format("# UNIT %s %s", name, unit)) end
  if help then self:line(format("# HELP %s %s", name, help)) end
end

function Text:line(line)
  local count = self.count + 1
  self.count = count
  self.lines[count] = line
end

--- @param labels of exposition.label, joined by commas; "": none
function Text:sample(labels, value)
  self:line(concat { self.sample_name, labels == "" and "" or "{", labels, labels == "" and " " or "} ", number(value) })
  if self.pause then self.pause() end
end

--- One histogram.
-- @param bounds texts of the upper bounds, without the last, which is +Inf
-- @param count_in function(index) → how many are in that bucket and in none before it
-- @param above  how many are in none of them
function Text:histogram(labels, bounds, count_in, above, sum)
  local name, comma, seen = self.name, labels == "" and "" or ",", 0
  for index = 1, #bounds do
    seen = seen + count_in(index)
    self:line(concat { name, "_bucket{", labels, comma, 'le="', bounds[index], '"} ', number(seen) })
  end
  seen = seen + above
  local braces = labels == "" and " " or concat { "{", labels, "} " }
  self:line(concat { name, "_bucket{", labels, comma, 'le="+Inf"} ', number(seen) })
  self:line(concat { name, "_count", braces, number(seen) })
  self:line(concat { name, "_sum", braces, number(sum) })
  if self.pause then self.pause() end
end

--- The whole.
function Text:finish()
  self:line(self.is_old and "" or "# EOF\n")
  return concat(self.lines, "\n")
end

--- @param pause nil, or of cueball.monitor.slices
-- @param format "openmetrics" or "prometheus"
function exposition.new(pause, format_name)
  return setmetatable({ lines = {}, count = 0, pause = pause, is_old = format_name == "prometheus", name = nil, sample_name = nil }, Text)
end

return exposition
