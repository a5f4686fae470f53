--- What the benchmarks in Lua share.
--
--   measure.head(title)          the title, and on which machine
--   measure.row(format, ...)     a line
--   measure.median(list)         of an odd number of values
--   measure.interval(list)       within which the median lies, with 95 %: by ranks, whatever the values are like
--   measure.executed(...)        what this benchmark executes in user space when it is run with these arguments: instructions, by valgrind
--   measure.together(host, count, fn)   fn(index) in so many tasks at once; waits for all
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

local function sorted_copy(list)
  local sorted = {}
  for index, value in ipairs(list) do sorted[index] = value end
  table.sort(sorted)
  return sorted
end

function measure.median(list)
  local sorted = sorted_copy(list)
  return sorted[(#sorted + 1) / 2]
end

-- W. J. Conover: Practical Nonparametric Statistics: ranks of the sign test.
function measure.interval(list)
  local sorted = sorted_copy(list)
  local half = 0.98 * math.sqrt(#sorted)
  return sorted[math.max(1, math.floor(#sorted / 2 - half))], sorted[math.min(#sorted, math.ceil(#sorted / 2 + half) + 1)]
end

function measure.executed(...)
  local out = os.tmpname()
  local words = { "valgrind --quiet --tool=callgrind --callgrind-out-file=" .. out, "luajit", arg[0], ... }
  assert(os.execute(table.concat(words, " ") .. " >/dev/null") == 0, "valgrind failed")
  local file = assert(io.open(out, "rb"))
  local count = tonumber(file:read("*a"):match "\ntotals: (%d+)")
  file:close()
  os.remove(out)
  return count
end

function measure.together(host, count, fn)
  local left, waiter = count, host.waiter()
  for index = 1, count do
    host.spawn(function()
      fn(index)
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
  end
  if left > 0 then waiter:wait() end
end

return measure
