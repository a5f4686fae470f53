--- The verbs that change nothing. Each gives copies: a list of plain rows.
local ask = require "cueball.console.ask"
local changes = require "cueball.console.changes"
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local monitor_plan = require "cueball.monitor.plan"
local options = require "cueball.options"
local snapshot = require "cueball.monitor.snapshot"
local text = require "cueball.text"
local workers = require "cueball.console.workers"

local TEXT, FLAG = ask.TEXT, options.of_type("boolean", "true or false")
local is, is_aged, limited, rules, aged = ask.is, ask.is_aged, ask.limited, ask.rules, ask.aged

local LEVELS = { check = function(value) return value == "debug" or value == "info" or value == "warn" or value == "error" end,
  range = '"debug", "info", "warn" or "error"', is_text = true }

local function copy(row)
  local made = {}
  for name, value in pairs(row) do
    local kind = type(value)
    if kind == "table" then
      made[name] = copy(value)
    elseif kind == "string" or kind == "number" or kind == "boolean" then
      made[name] = value
    elseif name ~= "pool" then
      made[name] = text.message(value) -- a task, an owner
    end
  end
  return made
end

-- The rows of all pools that are meant, as fn(pool, name, add) adds them; it may return how many it did not look at.
local function gather(asked, columns, fn)
  local found, message, kind = ask.pools(asked.pool)
  if not found then return nil, message, kind end
  local rows, unseen = {}, 0
  for _, one in ipairs(found) do
    unseen = unseen + (fn(one.pool, one.name, function(row)
      row.pool = one.name
      rows[#rows + 1] = row
    end) or 0)
  end
  local list = limited(rows, columns, asked.limit)
  if unseen > 0 then list.more = (list.more or 0) + unseen end
  return list
end

-- --------------------------------------------------------------------------- pools --

local POOL_COLUMNS = { "pool", "state", "paused", "backends", "dead", "total", "max", "idle", "busy", "connecting", "waiting", "claims",
  "claim_timeouts", "wait_p99_ms", "error" }

local function pools(asked)
  return gather(asked, POOL_COLUMNS, function(pool, _, add)
    local state, stats = pool:state(), pool:stats()
    if not is(asked.state, state) then return end
    local is_paused = pool.is_paused and not pool.of_set and pool:is_paused() or nil
    add {
      state = state, paused = is_paused or nil, backends = stats.backends, dead = stats.dead_backends,
      total = stats.idle + stats.busy + (stats.connecting or 0), max = pool:max_connections(), idle = stats.idle, busy = stats.busy,
      connecting = stats.connecting, waiting = stats.waiting, claims = stats.claims, claim_timeouts = stats.claim_timeouts,
      wait_p99_ms = stats.wait_ms_p99, error = pool:last_error(),
    }
  end)
end

-- ------------------------------------------------------------------------ backends --

local BACKEND_COLUMNS = { "pool", "backend", "state", "since_ms", "total", "total_max", "takes", "idle", "busy", "connecting", "latency_ms",
  "success_rate", "back_in_ms", "error", "last_error", "last_error_ago_ms" }

local function backends(asked)
  return gather(asked, BACKEND_COLUMNS, function(pool, _, add)
    for _, one in ipairs(pool:backends()) do
      local row = copy(one)
      row.backend, row.state = one.key, snapshot.state_of(one)
      -- Measured with balance = "p2c" alone; without it they would be columns of 0 and 1.
      if row.latency_ms == 0 and row.success_rate == 1 then row.success_rate = nil end
      if row.latency_ms == 0 then row.latency_ms = nil end
      if row.last_error == row.error then row.last_error = nil end
      if is(asked.backend, row.backend) and is(asked.state, row.state) and is_aged(asked, one.since_ms) then add(row) end
    end
  end)
end

-- ------------------------------------------------- connections, leases and waiters --

local ALL = 1000000 -- rows that a pool tells at most

-- What a pool tells by a method that takes { limit = }; sets have none of it. Where each row passes, no more are made than are shown.
-- @param given more of what the method takes
-- @return a list; and how many more there are
local function told(pool, method, asked, given)
  if pool.of_set or type(pool[method]) ~= "function" then return {}, 0 end
  local is_filtered = asked.backend or asked.state or asked.site or asked.older or asked.newer
  given.limit = is_filtered and ALL or asked.limit or ask.LIMIT
  local ok, list = pcall(pool[method], pool, given)
  if not ok then return {}, 0 end
  return list, list.more or 0
end

local CONNECTION_COLUMNS = { "pool", "backend", "slot", "state", "since_ms", "age_ms", "uses", "lease", "attempt", "next_attempt_ms",
  "error" }

local function connections(asked)
  return gather(asked, CONNECTION_COLUMNS, function(pool, _, add)
    local list, more = told(pool, "connections", asked, {})
    for _, one in ipairs(list) do
      local passes = is(asked.backend, one.backend) and is(asked.state, one.state)
      if passes and is_aged(asked, one.since_ms) then add(copy(one)) end
    end
    return more
  end)
end

local LEASE_COLUMNS = { "pool", "lease", "backend", "slot", "held_ms", "is_overdue", "site", "task", "owner", "where" }

local function leases(asked)
  return gather(asked, LEASE_COLUMNS, function(pool, _, add)
    local list, more = told(pool, "leases", asked, { where = asked.where or false })
    for _, one in ipairs(list) do
      local row = copy(one)
      row.lease = row.id
      if is(asked.backend, row.backend) and is(asked.site, row.site) and is_aged(asked, row.held_ms) then
        add(row)
      end
    end
    return more
  end)
end

local WAITER_COLUMNS = { "pool", "number", "waited_ms", "remaining_ms", "site", "task", "holds", "where" }

local function waiters(asked)
  return gather(asked, WAITER_COLUMNS, function(pool, _, add)
    local list, more = told(pool, "waiters", asked, { where = asked.where or false })
    for _, one in ipairs(list) do
      local row = copy(one)
      if is(asked.site, row.site) and is_aged(asked, row.waited_ms) then add(row) end
    end
    return more
  end)
end

-- -------------------------------------------------------- events, changes, options --

local EVENT_COLUMNS = { "time_s", "level", "pool", "backend", "event", "cause", "message" }

-- For how long it has been so, of what happened at a time of day.
local function age_of(time_s, context)
  return (ask.host(context).time_s() - time_s) * 1000
end

local function events(asked, context)
  local rows = {}
  for _, record in ipairs(log.recent { pool = asked.pool, level = asked.level }) do
    local passes = is(asked.backend, record.backend) and is(asked.event, record.event) and is(asked.cause, record.cause)
    if passes and is_aged(asked, age_of(record.time_s, context)) then
      local row = copy(record)
      row.pool = record.pool -- its name
      rows[#rows + 1] = row
    end
  end
  return limited(rows, EVENT_COLUMNS, asked.limit, true)
end

local CHANGE_COLUMNS = { "number", "time_s", "who", "what", "pool", "old", "new", "undo" }

local function changes_made(asked, context)
  local rows = {}
  for _, one in ipairs(changes.list()) do
    local passes = is(asked.pool, one.pool) and is(asked.what, one.what) and is(asked.who, one.who)
    if passes and is_aged(asked, age_of(one.time_s, context)) then rows[#rows + 1] = one end
  end
  return limited(rows, CHANGE_COLUMNS, asked.limit, true)
end

-- The value of an option by its path, "recovery.default.retries".
local function value_at(given, path)
  for part in path:gmatch "[^.]+" do
    if type(given) ~= "table" then return nil end
    given = given[part]
  end
  return given
end

local function settings(asked)
  return gather(asked, { "pool", "option", "value", "default", "given" }, function(pool, _, add)
    for _, option in ipairs(options.all()) do
      local value = value_at(pool.given, option.name)
      if is(asked.option, option.name) then
        local is_given = value ~= nil
        local default = options.default_of(option.name)
        if value == nil then value = default end
        if value == math.huge then value = false end
        add { option = option.name, value = value, default = default, given = is_given or nil }
      end
    end
  end)
end

local function all_workers(asked, context)
  local rows = {}
  for index, one in ipairs(workers.list(ask.host(context))) do
    rows[index] = { worker = one.worker, pid = one.pid, here = one.here }
  end
  return limited(rows, { "worker", "pid", "here" }, asked.limit)
end

local PLAN = { add = true, remove = true }

local function plan(asked, _, others)
  local found, message, kind = ask.pools_to_change(asked.pool)
  if not found then return nil, message, kind end
  local one = found[1].pool
  if type(one.plan) ~= "function" then misuse.raise "plan: this pool cannot tell" end
  local given = {}
  for name, value in pairs(others) do given[name] = value end
  for name in pairs(PLAN) do given[name] = asked[name] end
  local objection = monitor_plan.objection(one, given)
  if objection then return nil, objection, "invalid" end
  local made, why, name = one:plan(given)
  if not made then return nil, why, name end
  return copy(made)
end

local LIST = { check = function(value) return type(value) == "table" end, range = "a list of backends", is_list = true,
  read = function(word) return { word } end }

return {
  { name = "pools", kind = "look", help = "the pools: state, connections, claims that wait", run = pools,
    options = rules { state = TEXT } },
  { name = "backends", kind = "look", help = "the backends: state and since when, connections, errors", run = backends,
    options = aged { backend = TEXT, state = TEXT } },
  { name = "connections", kind = "look", help = "every connection, and what it does", run = connections,
    options = aged { backend = TEXT, state = TEXT } },
  { name = "leases", kind = "look", help = "who holds connections, for how long; where = true: and where he is now", run = leases,
    options = aged { backend = TEXT, site = TEXT, where = FLAG } },
  { name = "waiters", kind = "look", help = "who waits for a connection", run = waiters,
    options = aged { site = TEXT, where = FLAG } },
  { name = "events", kind = "look", help = "what happened last", run = events,
    options = aged { backend = TEXT, level = LEVELS, event = TEXT, cause = TEXT } },
  { name = "changes", kind = "look", help = "what was changed through consoles, by whom, and the line that undoes it", run = changes_made,
    options = aged { what = TEXT, who = TEXT } },
  { name = "settings", kind = "look", help = "the options of a pool as they are now", run = settings, options = rules { option = TEXT } },
  { name = "workers", kind = "look", help = "the workers of this server; `cueball attach --worker N` is in that one", run = all_workers,
    options = { limit = ask.LIMIT_RULE } },
  { name = "plan", kind = "look", help = "what the planner would do: remove=, add= or options", run = plan, takes_others = true,
    options = { pool = TEXT, add = LIST, remove = LIST }, words = function(made) return text.clean_lines(made.text) end },
}
