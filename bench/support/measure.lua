--- What the benchmarks in Lua share.
--
--   measure.head(title)          the title, and on which machine
--   measure.row(format, ...)     a line
--   measure.median(list)         of an odd number of values
local measure = {}

local function processor()
  local file = io.open "/proc/cpuinfo"
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text:match "model name%s*:%s*([^\n]*)" or jit.arch
end

function measure.head(title)
  print(("%s; %s on %s"):format(title, jit.version, processor()))
end

function measure.row(format, ...)
  print((format:format(...)))
  io.stdout:flush()
end

function measure.median(list)
  local sorted = {}
  for index, value in ipairs(list) do sorted[index] = value end
  table.sort(sorted)
  return sorted[(#sorted + 1) / 2]
end

return measure
