--- The four numbers that tell at a glance how a pool does, a line for each pool, with small charts of the last minutes.
local columns_of = require "cueball.cli.screen.columns"
local words = require "cueball.cli.screen.words"

local signals = {}

local NARROW, WIDE = 90, 140   -- columns of the screen
local STATES = { running = "green", failed = "red", starting = "yellow", stopping = "yellow", stopped = "dim" }

local function chart_columns(columns)
  return columns < NARROW and 0 or columns < WIDE and 8 or columns < 1000 and 16 or 0
end

-- A number and, where there is room, how it has been.
local function with_chart(state, pool, name, text, chart, top)
  if chart == 0 then return text end
  local values = state.history[pool.name] and state.history[pool.name][name] or {}
  return ("%s %s"):format(text, words.spark(values, chart, top))
end

local function is_high(pool)
  local utilisation, waiting = words.number(pool.signals.utilisation) or 0, words.number(pool.signals.waiting) or 0
  return waiting > 0 and "red" or utilisation >= 0.8 and "yellow" or nil
end

local function columns_for(state, chart)
  local function signal(title, name, show, top, weight)
    return {
      title = title, weight = weight, is_number = true, style = name == "waiting" and is_high or name == "utilisation" and is_high or nil,
      text = function(pool) return with_chart(state, pool, name, ("%7s"):format(show(pool.signals[name])), chart, top) end,
    }
  end
  return {
    { title = "POOL", weight = 10, limit = 30, text = function(pool) return pool.name end, style = function() return "bold" end },
    {
      title = "STATE", weight = 6, text = function(pool) return pool.is_paused == true and "paused" or words.text(pool.state) end,
      style = function(pool) return pool.is_paused == true and "yellow" or STATES[pool.state] end,
    },
    signal("UTILISATION", "utilisation", words.share, 1, 9), signal("WAITING", "waiting", words.count, nil, 8),
    signal("CLAIM P99", "claim_p99_ms", words.span, nil, 7), signal("CHURN", "churn_per_s", words.rate, nil, 5),
    { title = "LAST ERROR", weight = 1, is_rest = true, is_optional = true, text = function(pool) return words.text(pool.last_error) end,
      style = function() return "dim" end },
  }
end

--- @param pools of a snapshot
-- @param rows_max lines at most, the title among them
function signals.lines(state, pools, columns, rows_max)
  local shown = pools
  local room = math.max(1, rows_max - 1)
  if #pools > room then
    shown = { unpack(pools, 1, math.max(1, room - 1)) }
  end
  if #shown == 0 then return {} end
  local title, list = columns_of.lines(columns_for(state, chart_columns(columns)), shown, columns)
  local lines = { title }
  for _, one in ipairs(list) do lines[#lines + 1] = one end
  if #shown < #pools then lines[#lines + 1] = { { ("… %d more pools; p shows one of them"):format(#pools - #shown), "dim" } } end
  lines[#lines + 1] = {}
  return lines
end

return signals
