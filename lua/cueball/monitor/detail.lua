--- What one pool looks like in every detail, for people: signals, each backend in words, each connection, who holds them and who waits.
--
-- A pool is asked for what it has: connections(), leases(), waiters(), is_paused(). What would be too much is cut, and said to be more.
local json = require "cueball.monitor.json"
local process = require "cueball.host.process"
local signals = require "cueball.monitor.signals"
local snapshot = require "cueball.monitor.snapshot"

local detail = {}

--- Entries of each list that are shown at most, where nothing else is said.
detail.LIMIT = 1000

local LISTS = { holds = true, holds_elsewhere = true }

-- A list as JSON wants it, cut after `limit`.
-- @return it, how many more there are
local function cut(list, limit, shown)
  local made, more = json.list {}, list.more or 0
  for index, one in ipairs(list) do
    if index > limit then return made, more + #list - limit end
    made[index] = shown and shown(one) or one
  end
  return made, more
end

-- What holds or waits, as JSON wants it.
local function shown_of(one, has_where)
  local made = {}
  for name, value in pairs(one) do
    if name ~= "where" or has_where then made[name] = LISTS[name] and json.list { unpack(value) } or value end
  end
  return made
end

local function with_where(one) return shown_of(one, true) end
local function without_where(one) return shown_of(one, false) end

-- The time until the next attempt at each backend that has one, from what its connections say.
local function attempts_of(connections)
  local soonest = {}
  for _, one in ipairs(connections) do
    local ms = one.next_attempt_ms
    if ms and ms < (soonest[one.backend] or math.huge) then soonest[one.backend] = ms end
  end
  return soonest
end

local function plural(count, noun)
  return ("%d %s%s"):format(count, noun, count == 1 and "" or "s")
end

local function in_time(ms)
  if not ms then return "" end
  return (", tried again in %.1f s"):format(math.max(0, ms) / 1000)
end

-- What went wrong with a backend that is well again: for so long it is worth a word.
local LATELY_MS = 86400000

-- No finer than people need it: a text that changes each second is read aloud each second.
local function ago(ms)
  local minutes = math.floor(ms / 60000)
  if minutes < 1 then return "less than a minute" end
  return minutes < 120 and plural(minutes, "minute") or plural(math.floor(minutes / 60), "hour")
end

local function lately(one)
  local ms = one.last_error_ago_ms
  if not ms or ms > LATELY_MS then return "" end
  return ("; %s ago: %s"):format(ago(ms), one.last_error)
end

-- Why a backend is as it is, in words.
local REASONS = {
  dead = function(one) return ("dead: %s%s"):format(one.error or "no connection to it could be opened", in_time(one.next_attempt_ms)) end,
  ejected = function(one) return ("left out for a while, its leases failed%s"):format(one.error and ": " .. one.error or "") end,
  removed = function(one) return ("the resolver has removed it; %s still open"):format(plural(one.total, "connection")) end,
  drained = function(one)
    return one.busy > 0 and ("drained; %s still held"):format(plural(one.busy, "connection")) or "drained: none of its connections is left"
  end,
  standby = function() return "left alone: backends of a better priority are alive" end,
  up = function(one)
    if one.takes then return ("takes no more than %s"):format(plural(one.takes, "connection")) end
    if one.suspect and one.suspect > 0 then return ("%s not known to work since another died"):format(plural(one.suspect, "connection")) end
    if one.error then return "last error: " .. one.error end
    if one.total == 0 then return "no connection: the plan wants none here" end
    if one.total == one.connecting then return "connecting" end
    return "well" .. lately(one)
  end,
}

-- Adds to the backends of a snapshot what is for people.
local function explain(shown, connections)
  local soonest = attempts_of(connections)
  for _, one in ipairs(shown.backends) do
    one.next_attempt_ms = one.back_in_ms or soonest[one.key]
    one.limit = one.takes or shown.max_connections
    one.reason = REASONS[one.state](one)
  end
end

-- What the pool tells of that name; nil where it cannot tell.
local function ask(pool, name, ...)
  local method = pool[name]
  return type(method) == "function" and method(pool, ...) or nil
end

-- All of a pool.
local function whole(pool, name, given)
  local shown, limit = snapshot.of(pool, name), given.limit or detail.LIMIT
  local connections = ask(pool, "connections") or {}
  shown.is_paused = ask(pool, "is_paused") or false
  shown.max_connections = shown.stats.allowed or pool:max_connections()
  explain(shown, connections)
  local show_holder = given.where and with_where or without_where
  shown.more = {}
  shown.connections, shown.more.connections = cut(connections, limit)
  shown.leases, shown.more.leases = cut(ask(pool, "leases", { limit = limit }) or {}, limit, show_holder)
  shown.waiters, shown.more.waiters = cut(ask(pool, "waiters", { limit = limit }) or {}, limit, show_holder)
  shown.signals = signals.of(pool, shown.stats, shown.max_connections)
  return shown
end

-- Enough of a pool to see that something is wrong with it.
local function brief(pool, name)
  local stats = pool:stats()
  return {
    name = name, state = pool:state(), is_paused = ask(pool, "is_paused") or false, is_brief = true,
    signals = signals.of(pool, stats, stats.allowed or pool:max_connections()),
    resolver = { is_failing = pool:resolver().failing },
    stats = {
      backends = stats.backends, dead_backends = stats.dead_backends, ejected_backends = stats.ejected_backends, waiting = stats.waiting,
    },
  }
end

local started_s -- when this process began: it is the same however often it is asked for, as a restart is known by it

-- Who shows this.
local function process_of(host)
  local workers, time_s = host.workers, host.time_s()
  started_s = started_s or time_s - process.age_s()
  local number = workers.number()
  return {
    pid = workers.pid(), role = number and ("worker %d"):format(number) or "program", host = host.name, started_s = started_s,
    age_s = math.max(0, time_s - started_s),
  }
end

--- The pools of this process.
-- @param given { detail =, pool = name, where =, limit = }, as of cueball.monitor.snapshot; is_wanted = nil or function(name, pool);
--   focus = nil, or the name of the one pool that is shown whole: the others in brief
-- @param pause nil, or of cueball.monitor.slices
-- @return { version, time_s, process, pools }
function detail.snapshot(host, given, pause)
  local only, is_wanted = given.pool, given.is_wanted
  local function show(pool, name)
    if given.focus and given.focus ~= name then return brief(pool, name) end
    return whole(pool, name, given)
  end
  local taken = snapshot.take(pause, {
    is_wanted = function(name, pool) return (not only or name == only) and (not is_wanted or is_wanted(name, pool)) end,
    show = given.detail and show or nil,
  })
  taken.time_s, taken.process = host.time_s(), process_of(host)
  return taken
end

return detail
