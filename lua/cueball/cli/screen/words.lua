--- Numbers and times as a screen shows them: short.
local words = {}

local BLOCKS = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

--- What somebody sends is not always what it should be.
function words.number(value)
  if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then return nil end
  return value
end

function words.text(value)
  if type(value) == "string" then return value end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return ""
end

--- A count; "-" where there is none.
function words.count(value)
  value = words.number(value)
  if not value then return "-" end
  return value >= 1e7 and ("%.0fM"):format(value / 1e6) or ("%.0f"):format(value)
end

--- Milliseconds: "0.8 ms", "35 ms", "2.1 s", "12 min", "3 h", "5 d".
function words.span(ms)
  ms = words.number(ms)
  if not ms then return "-" end
  if ms < 10 then return ("%.1f ms"):format(ms) end
  if ms < 1000 then return ("%.0f ms"):format(ms) end
  if ms < 10000 then return ("%.1f s"):format(ms / 1000) end
  if ms < 120000 then return ("%.0f s"):format(ms / 1000) end
  if ms < 7200000 then return ("%.0f min"):format(ms / 60000) end
  if ms < 172800000 then return ("%.0f h"):format(ms / 3600000) end
  return ("%.0f d"):format(ms / 86400000)
end

--- A share: "70 %".
function words.share(value)
  value = words.number(value)
  return value and ("%.0f %%"):format(value * 100) or "-"
end

function words.rate(value)
  value = words.number(value)
  return value and ("%.1f/s"):format(value) or "-"
end

--- "10:31:05", of the local day.
function words.clock(time_s)
  time_s = words.number(time_s)
  return time_s and time_s >= 0 and time_s < 2 ^ 40 and os.date("%H:%M:%S", math.floor(time_s)) or "--:--:--"
end

--- The last values as a small chart.
-- @param values list of numbers
-- @param columns so many at most
-- @param top what fills a column; nil: the greatest value
function words.spark(values, columns, top)
  local first, made = math.max(1, #values - columns + 1), {}
  if not top then
    top = 0
    for index = first, #values do top = math.max(top, values[index]) end
  end
  for index = first, #values do
    local share = top > 0 and values[index] / top or 0
    made[#made + 1] = BLOCKS[math.max(1, math.min(#BLOCKS, math.ceil(share * #BLOCKS)))]
  end
  return (" "):rep(columns - #made) .. table.concat(made)
end

return words
