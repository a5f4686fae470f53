--- What the benchmarks in Lua share.
--
--   measure.head(title)          the title, and on which machine
--   measure.row(format, ...)     a line
--   measure.median(list)         of an odd number of values
--   measure.interval(list)       within which the median lies, with 95 %: by ranks, whatever the values are like
--   measure.executed(...)        what this benchmark executes in user space when it is run with these arguments: instructions, by valgrind
--   measure.together(host, count, fn)   fn(index) in so many tasks at once; waits for all
--   measure.claims(host, pool, claimers, seconds, held_ms)   how long claims waited
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

--- Claims for some time: `claimers` tasks, each of which holds a connection for `held_ms`, again and again.
-- @return { p50, p99 = how long claims waited, in ms; claims = how many there were }
function measure.claims(host, pool, claimers, seconds, held_ms)
  local waits, ends_at = {}, host.now() + seconds * 1e9
  measure.together(host, claimers, function()
    while host.now() < ends_at do
      local began = host.now()
      local lease = assert(pool:claim())
      waits[#waits + 1] = (host.now() - began) / 1e6
      host.sleep(held_ms)
      lease:release()
    end
  end)
  table.sort(waits)
  local function percentile(fraction) return waits[math.max(1, math.ceil(#waits * fraction))] end
  return { p50 = percentile(0.5), p99 = percentile(0.99), claims = #waits }
end

return measure
