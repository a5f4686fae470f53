--- What `cueball top` knows and shows: a table that snapshots, events and keys change. Nothing here draws, waits or reads a clock.
--
--   local state = model.new { address = "127.0.0.1:9190" }
--   model.snapshot(state, snapshot, time_s)   model.event(state, record)   model.lost(state, message, time_s, retry_s)
--   model.key(state, "s", page_rows) → "quit", "interrupt", "redraw" or nil
--   model.rows(state) → the rows of the present screen, filtered and sorted
local received = require "cueball.cli.screen.received"
local words = require "cueball.cli.screen.words"

local model = {}

local EVENTS_MAX, HISTORY_MAX = 500, 120
local GONE_S = 10       -- a backend that is gone stays on the screen so long
local FILTER_MAX = 80   -- bytes
local SIGNALS = { "utilisation", "waiting", "claim_p99_ms", "churn_per_s" }

model.SCREENS = { "backends", "leases", "waiters", "events" }

-- How bad a state is: for sorting.
local BADNESS = { dead = 1, ejected = 2, gone = 3, removed = 4, drained = 5, standby = 6, up = 7 }

local function by_number(name)
  return function(row) return -(words.number(row[name]) or -1) end
end

local function by_text(name)
  return function(row) return words.text(row[name]) end
end

-- By screen: what rows can be sorted by, in the order in which "s" goes through them. The first is the order in which they come.
model.SORTS = {
  backends = {
    { key = "order", name = "as they come" },
    { key = "state", name = "state", of = function(row) return BADNESS[row.state] or 0 end },
    { key = "total", name = "current", of = by_number "total" }, { key = "busy", name = "busy", of = by_number "busy" },
    { key = "latency_ms", name = "latency", of = by_number "latency_ms" },
    { key = "success_rate", name = "errors", of = function(row) return words.number(row.success_rate) or 2 end },
    { key = "since_ms", name = "since", of = function(row) return words.number(row.since_ms) or math.huge end },
    { key = "key", name = "backend", of = by_text "key" },
  },
  leases = {
    { key = "order", name = "oldest first" }, { key = "pool", name = "pool", of = by_text "pool" },
    { key = "backend", name = "backend", of = by_text "backend" }, { key = "site", name = "place", of = by_text "site" },
  },
  waiters = { { key = "order", name = "first come first" }, { key = "site", name = "place", of = by_text "site" } },
  events = { { key = "order", name = "newest first" } },
}

function model.new(given)
  return {
    address = given.address, screen = "backends", before_help = "backends", sorts = {}, is_reverse = {}, filter = "", is_filtering = false,
    paused = nil, paused_s = nil, offset = 0, pool = nil, latest = nil, latest_s = nil, events = {}, events_problem = nil,
    held_events = nil, history = {}, seen = {}, gone = {}, lost = nil,
  }
end

-- ------------------------------------------------------------------------- what comes --

local function remember(state, snapshot)
  local history = {}
  for _, pool in ipairs(snapshot.pools) do
    local own = state.history[pool.name] or {}
    for _, name in ipairs(SIGNALS) do
      local values = own[name] or {}
      values[#values + 1] = words.number(pool.signals[name]) or 0
      if #values > HISTORY_MAX then table.remove(values, 1) end
      own[name] = values
    end
    history[pool.name] = own
  end
  state.history = history
end

-- Backends that were there the last time and are no more: they stay for a while, or nobody would see them go.
local function note_gone(state, snapshot, time_s)
  local seen = {}
  for _, pool in ipairs(snapshot.pools) do
    for _, one in ipairs(pool.backends) do
      one.pool = pool.name
      seen[pool.name .. "\0" .. words.text(one.key)] = one
    end
  end
  for id, one in pairs(state.seen) do
    if not seen[id] then
      state.gone[id] = { pool = one.pool, key = one.key, name = one.name, state = "gone", since_s = time_s, reason = "not there any more" }
    end
  end
  for id, one in pairs(state.gone) do
    if seen[id] or time_s - one.since_s > GONE_S then state.gone[id] = nil else one.since_ms = (time_s - one.since_s) * 1000 end
  end
  state.seen = seen
end

--- What the program has answered.
-- @return true; or nil: it is no snapshot
function model.snapshot(state, value, time_s)
  local snapshot = received.snapshot(value)
  if not snapshot then return nil end
  local was = state.latest and state.latest.process
  if was and (was.pid ~= snapshot.process.pid or was.started_s ~= snapshot.process.started_s) then
    state.history, state.seen, state.gone = {}, {}, {}   -- another process answers
  end
  remember(state, snapshot)
  note_gone(state, snapshot, time_s)
  state.latest, state.latest_s, state.lost = snapshot, time_s, nil
  return true
end

--- A record of its log.
function model.event(state, value)
  local record = received.record(value)
  if not record then return end
  local events = state.events
  events[#events + 1] = record
  if #events > EVENTS_MAX then table.remove(events, 1) end
  state.events_problem = nil
end

--- It cannot be reached.
-- @param retry_s when it is tried again, from now
function model.lost(state, message, time_s, retry_s)
  state.lost = { message = message, since_s = state.lost and state.lost.since_s or time_s, retry_at_s = time_s + retry_s }
end

-- ------------------------------------------------------------------------------- rows --

--- The snapshot that is shown; nil: there is none yet.
function model.shown(state)
  return state.paused or state.latest
end

--- Its pools, or the one that was chosen.
function model.pools(state)
  local snapshot, list = model.shown(state), {}
  for _, pool in ipairs(snapshot and snapshot.pools or {}) do
    if not state.pool or pool.name == state.pool then list[#list + 1] = pool end
  end
  return list
end

local function gone_of(state, pool)
  local list = {}
  for _, one in pairs(state.gone) do
    if one.pool == pool.name then list[#list + 1] = one end
  end
  table.sort(list, function(a, b) return words.text(a.key) < words.text(b.key) end)
  return list
end

local function add_all(rows, list, pool)
  for _, one in ipairs(list) do
    one.pool = pool.name
    rows[#rows + 1] = one
  end
end

local COLLECT = {}

function COLLECT.backends(state, rows)
  for _, pool in ipairs(model.pools(state)) do
    add_all(rows, pool.backends, pool)
    if not state.paused then add_all(rows, gone_of(state, pool), pool) end
  end
end

function COLLECT.leases(state, rows)
  for _, pool in ipairs(model.pools(state)) do add_all(rows, pool.leases, pool) end
  local ages, order = {}, {}
  for index, row in ipairs(rows) do ages[row], order[row] = words.number(row.held_ms) or 0, index end
  table.sort(rows, function(a, b)
    if ages[a] ~= ages[b] then return ages[a] > ages[b] end
    return order[a] < order[b]
  end)
end

function COLLECT.waiters(state, rows)
  for _, pool in ipairs(model.pools(state)) do add_all(rows, pool.waiters, pool) end
end

function COLLECT.events(state, rows)
  local events = state.held_events or state.events
  for index = #events, 1, -1 do
    if not state.pool or events[index].pool == state.pool then rows[#rows + 1] = events[index] end
  end
end

local FILTERED = {
  "pool", "key", "name", "state", "reason", "error", "backend", "site", "task", "owner", "event", "cause", "message", "level",
}

local function passes(row, filter)
  for _, name in ipairs(FILTERED) do
    if words.text(row[name]):lower():find(filter, 1, true) then return true end
  end
  return false
end

--- What the rows of a screen are sorted by: a row of model.SORTS.
function model.sort(state)
  local sorts = model.SORTS[state.screen] or model.SORTS.events
  return sorts[state.sorts[state.screen] or 1]
end

local function sort(state, rows)
  local of, is_reverse, values, order = model.sort(state).of, state.is_reverse[state.screen], {}, {}
  if not of and not is_reverse then return rows end
  for index, row in ipairs(rows) do values[row], order[row] = of and of(row) or index, index end
  table.sort(rows, function(a, b)
    if values[a] ~= values[b] then
      if is_reverse then return values[a] > values[b] end
      return values[a] < values[b]
    end
    return order[a] < order[b]
  end)
  return rows
end

--- The rows of the present screen.
function model.rows(state)
  local rows = {}
  local collect = COLLECT[state.screen]
  if not collect then return rows end
  collect(state, rows)
  if state.filter ~= "" then
    local filter, passed = state.filter:lower(), {}
    for _, row in ipairs(rows) do
      if passes(row, filter) then passed[#passed + 1] = row end
    end
    rows = passed
  end
  return sort(state, rows)
end

-- ------------------------------------------------------------------------------- keys --

local function show(state, screen)
  if state.screen ~= "help" then state.before_help = state.screen end
  state.screen, state.offset = screen, 0
end

local function turn_pause(state)
  if state.paused then
    state.paused, state.paused_s, state.held_events = nil, nil, nil
  elseif state.latest then
    state.paused, state.paused_s = state.latest, state.latest_s
    state.held_events = { unpack(state.events) }
  end
end

-- The next way of sorting, or the one before.
local function turn_sort(state, step)
  local sorts = model.SORTS[state.screen]
  if not sorts then return end
  state.sorts[state.screen] = ((state.sorts[state.screen] or 1) - 1 + step) % #sorts + 1
  state.is_reverse[state.screen], state.offset = nil, 0
end

-- All pools, the first one, the second …
local function turn_pool(state)
  local snapshot = model.shown(state)
  local pools, index = snapshot and snapshot.pools or {}, 0
  for number, pool in ipairs(pools) do
    if pool.name == state.pool then index = number end
  end
  state.pool, state.offset = pools[index + 1] and pools[index + 1].name, 0
end

local function scroll(state, rows, page_rows)
  local last = math.max(0, #model.rows(state) - page_rows)
  state.offset = math.max(0, math.min(last, state.offset + rows))
end

local function type_filter(state, key)
  if key == "enter" then
    state.is_filtering = false
  elseif key == "escape" or key == "ctrl-c" then
    state.is_filtering, state.filter = false, ""
  elseif key == "backspace" then
    state.filter = state.filter:gsub("[%z\1-\127\194-\244][\128-\191]*$", "")
  elseif key == "ctrl-u" then
    state.filter = ""
  elseif (#key == 1 or key:find "^[\194-\244]") and #state.filter + #key <= FILTER_MAX then
    state.filter = state.filter .. key
  end
  state.offset = 0
end

local KEYS = {
  q = function() return "quit" end,
  ["ctrl-c"] = function() return "interrupt" end,
  ["ctrl-l"] = function() return "redraw" end,
  ["?"] = function(state) show(state, state.screen == "help" and state.before_help or "help") end,
  h = function(state) show(state, state.screen == "help" and state.before_help or "help") end,
  escape = function(state)
    if state.screen == "help" then show(state, state.before_help) else state.filter, state.offset = "", 0 end
  end,
  [" "] = turn_pause,
  s = function(state) turn_sort(state, 1) end,
  S = function(state) turn_sort(state, -1) end,
  r = function(state) state.is_reverse[state.screen] = not state.is_reverse[state.screen] end,
  p = turn_pool,
  ["/"] = function(state) state.is_filtering = state.screen ~= "help" end,
  up = function(state, page_rows) scroll(state, -1, page_rows) end,
  k = function(state, page_rows) scroll(state, -1, page_rows) end,
  down = function(state, page_rows) scroll(state, 1, page_rows) end,
  j = function(state, page_rows) scroll(state, 1, page_rows) end,
  page_up = function(state, page_rows) scroll(state, -page_rows, page_rows) end,
  page_down = function(state, page_rows) scroll(state, page_rows, page_rows) end,
  home = function(state, page_rows) scroll(state, -math.huge, page_rows) end,
  ["end"] = function(state, page_rows) scroll(state, math.huge, page_rows) end,
  tab = function(state)
    local index = 1
    for number, name in ipairs(model.SCREENS) do
      if name == state.screen then index = number % #model.SCREENS + 1 end
    end
    show(state, model.SCREENS[index])
  end,
}
for number, name in ipairs(model.SCREENS) do KEYS[tostring(number)] = function(state) show(state, name) end end

--- What a key does.
-- @param page_rows how many rows of the list are on the screen
-- @return "quit", "interrupt" or "redraw", if whoever has the terminal has to do something
function model.key(state, key, page_rows)
  if state.is_filtering then return type_filter(state, key) end
  local act = KEYS[key]
  if act then return act(state, math.max(1, page_rows)) end
end

return model
