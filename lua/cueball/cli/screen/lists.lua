--- The columns of each list of `cueball top`: lists.backends(has_pools) and so on → columns for cueball.cli.screen.columns.
local words = require "cueball.cli.screen.words"

local lists = {}

local STATES = {
  up = "green", dead = "red", ejected = "magenta", standby = "cyan", drained = "blue", removed = "dim", gone = "dim", connecting = "yellow",
}
local LEVELS = { error = "red", warn = "yellow", info = nil, debug = "dim" }

local POOL = { title = "POOL", weight = 9, limit = 20, key = "pool", text = function(row) return words.text(row.pool) end }

local function count(title, name, weight, key)
  return { title = title, weight = weight, is_number = true, key = key, text = function(row) return words.count(row[name]) end }
end

local function span(title, name, weight, key)
  return { title = title, weight = weight, is_number = true, key = key, text = function(row) return words.span(row[name]) end }
end

local function with_pool(has_pools, list)
  if has_pools then table.insert(list, 1, POOL) end
  return list
end

-- What it is doing: one that lives and has no open connection yet is on its way up.
local function state_of(row)
  local total, connecting = words.number(row.total) or 0, words.number(row.connecting) or 0
  if row.state == "up" and total > 0 and connecting == total then return "connecting" end
  return words.text(row.state)
end

local function backend_of(row)
  local key, name = words.text(row.key), words.text(row.name)
  return name ~= "" and name ~= key and ("%s (%s)"):format(name, key) or key
end

local function errors_of(row)
  local share = words.number(row.success_rate)
  return share and (words.number(row.latency_ms) ~= 0 or share < 1) and words.share(1 - share) or "-"
end

-- It is measured only where the pool chooses by it.
local function latency_of(row)
  local ms = words.number(row.latency_ms)
  return ms and ms > 0 and words.span(ms) or "-"
end

-- The reason, and what is known of the next attempt where the reason does not tell it.
local function reason_of(row)
  local reason, ms = words.text(row.reason), words.number(row.next_attempt_ms)
  if reason == "" then reason = words.text(row.error) end
  if ms and not reason:find("again in", 1, true) then return ("%s; tried again in %s"):format(reason, words.span(ms)) end
  return reason
end

function lists.backends(has_pools)
  return with_pool(has_pools, {
    { title = "BACKEND", weight = 10, limit = 40, key = "key", text = backend_of },
    { title = "STATE", weight = 9, key = "state", text = state_of, style = function(row) return STATES[state_of(row)] end },
    span("FOR", "since_ms", 5, "since_ms"),
    count("CUR", "total", 8, "total"), count("MAX", "total_max", 7),
    { title = "LIMIT", weight = 6, is_number = true, text = function(row) return words.count(row.limit or row.takes) end },
    count("BUSY", "busy", 8, "busy"), count("IDLE", "idle", 5), count("CONN", "connecting", 4),
    { title = "LATENCY", weight = 3, is_number = true, key = "latency_ms", text = latency_of },
    { title = "ERRORS", weight = 3, is_number = true, key = "success_rate", text = errors_of,
      style = function(row) return (words.number(row.success_rate) or 1) < 0.99 and "red" or nil end },
    { title = "REASON", weight = 7, is_rest = true, text = reason_of,
      style = function(row) return row.state ~= "up" and STATES[row.state] or nil end },
  })
end

local function place_of(row)
  local site = words.text(row.site)
  return site ~= "" and site or "-"
end

local function task_of(row)
  local owner, task = words.text(row.owner), words.text(row.task)
  return owner ~= "" and owner or task ~= "" and task or "-"
end

function lists.leases(has_pools)
  return with_pool(has_pools, {
    { title = "LEASE", weight = 4, is_number = true, text = function(row) return words.text(row.id) end },
    { title = "HELD", weight = 10, is_number = true, text = function(row) return words.span(row.held_ms) end,
      style = function(row) return row.is_overdue == true and "red" or nil end },
    { title = "BACKEND", weight = 8, limit = 40, key = "backend", text = function(row) return words.text(row.backend) end },
    { title = "CLAIMED AT", weight = 9, limit = 60, key = "site", text = place_of },
    { title = "BY", weight = 5, limit = 30, text = task_of },
    { title = "NOTE", weight = 2, is_optional = true, text = function(row) return row.is_overdue == true and "overdue" or "" end },
  })
end

-- The leases that a waiting claimer holds itself: that is how deadlocks look.
local function holds_of(row)
  local list = {}
  for _, one in ipairs(type(row.holds) == "table" and row.holds or {}) do list[#list + 1] = words.text(one) end
  return #list > 0 and "leases " .. table.concat(list, ", ") or "-"
end

function lists.waiters(has_pools)
  return with_pool(has_pools, {
    { title = "NO", weight = 4, is_number = true, text = function(row) return words.text(row.number) end },
    span("WAITED", "waited_ms", 10), span("LEFT", "remaining_ms", 6),
    { title = "CLAIMS AT", weight = 9, limit = 60, key = "site", text = place_of },
    { title = "BY", weight = 5, limit = 30, text = task_of },
    { title = "HOLDS", weight = 7, is_rest = true, text = holds_of },
  })
end

function lists.events(has_pools)
  return with_pool(has_pools, {
    { title = "TIME", weight = 9, text = function(row) return words.clock(row.time_s) end, style = function() return "dim" end },
    { title = "LEVEL", weight = 5, text = function(row) return words.text(row.level) end,
      style = function(row) return LEVELS[row.level] end },
    { title = "BACKEND", weight = 4, limit = 30, is_optional = true, text = function(row) return words.text(row.backend) end },
    { title = "MESSAGE", weight = 10, is_rest = true, text = function(row) return words.text(row.message) end,
      style = function(row) return LEVELS[row.level] end },
  })
end

return lists
