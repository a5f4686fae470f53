--- Commands that follow a pool: :watch, :trace, :unwatch.
--
-- :watch tells what becomes of backends and connections, in sentences; what happens at once to many is folded into one line. :trace tells
-- every event there is, as it comes. Both go on beside the prompt, until :watch off, :unwatch, Ctrl-C, or the end of the session.
local commands = require "cueball.console.commands"
local flow = require "cueball.console.flow"
local sentence = require "cueball.log.sentence"
local target = require "cueball.console.target"

local rows = {}

local function add(row) rows[#rows + 1] = row end

local FOLD_MS = 50

-- What claims do is for :trace.
local TOO_MANY = { claim_waiting = true, claim_granted = true, claim_refused = true, claim_cancelled = true, lease_ended = true }
-- And of connections, what claims make of them.
local FOR_CLAIMS = { claim = true, release = true, owner = true }

-- When it happened: "16:44:01.123"; in virtual time the time of the world.
local function time_text(session, event, record)
  if session.world then return ("[%s]"):format(commands.duration_text(event.time_ms)) end
  return os.date("%H:%M:%S", math.floor(record.time_s)) .. (".%03d"):format(math.floor(record.time_s % 1 * 1000))
end

local KINDS = { debug = "note", info = "note", warn = "error", error = "error" }

local function tell(session, event, record, count)
  local times = count > 1 and (" (%d times)"):format(count) or ""
  session:tell(("%s %s: %s%s"):format(time_text(session, event, record), record.pool, record.message, times), KINDS[record.level])
end

-- Lines that are the same but for the slot, within a moment, as one: with the time of the first.
local function folder(session)
  local pending, by_words = {}, {}
  local alarm = session.host.alarm(function()
    local lines = pending
    pending, by_words = {}, {}
    for _, line in ipairs(lines) do tell(session, line.event, line.record, line.count) end
  end)
  local function take(event, record)
    record.message = record.message:gsub("^slot %-?%d+: ", "")
    local line = by_words[record.message]
    if line then
      line.count = line.count + 1
      return
    end
    line = { event = event, record = record, count = 1 }
    pending[#pending + 1], by_words[record.message] = line, line
    if #pending == 1 then alarm:set(session.host.now() + FOLD_MS * 1e6) end
  end
  return take, function() alarm:close() end
end

-- Which events are for a person to see: function(event) → boolean. Attempts at a dead backend go on and on: their end is told.
local function filter(pool)
  local dead = {}
  for _, backend in ipairs(pool:backends()) do dead[backend.key] = backend.dead end
  return function(event)
    if event.kind == "backend_dead" then dead[event.backend] = true end
    if event.kind == "backend_revived" or event.kind == "backend_removed" then dead[event.backend] = nil end
    if TOO_MANY[event.kind] then return false end
    if event.kind ~= "slot_state" then return true end
    return not (FOR_CLAIMS[event.cause] or event.to == "free" or event.backend and dead[event.backend] and event.to ~= "idle")
  end
end

-- The names under which a session follows a pool, of :watch, :trace, or both; "": all pools.
local function followed(session, kind, pool_name)
  local keys = {}
  for key in pairs(session.endings) do
    local of, name = key:match "^(%l+) (.*)$"
    local is_meant = of and (kind == nil or of == kind) and (pool_name == "" or name == pool_name)
    if is_meant then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

local function end_all(session, kind, pool_name)
  local keys = followed(session, kind, pool_name)
  if #keys == 0 then return nil, "nothing is watched" end
  for _, key in ipairs(keys) do session.endings[key]() end
  return true
end

-- Begins to follow a pool.
-- @param hear  function(event): only of what there is room for
-- @param close nil; or function(): it is over
local function begin(session, kind, pool, is_wanted, hear, close)
  local key = kind .. " " .. pool.name
  if session.endings[key] then session.endings[key]() end
  local room = flow.new(session.host, session.follows, function(...) session:tell(...) end, function(events_max)
    session.endings[key]()
    session:tell((":%s %s ended: there were more than %d events within a second"):format(kind, pool.name, events_max), "error")
  end)
  local stop = pool:subscribe(function(event)
    if room:sees() and is_wanted(event) and room:takes() then hear(event) end
  end)
  session.endings[key] = function()
    session.endings[key] = nil
    stop()
    room:close()
    if close then close() end
  end
end

local OFF = "off"

local function watch(session, argument)
  if argument == OFF then return end_all(session, "watch", "") end
  local pool, message = target.pool(session, argument)
  if not pool then return nil, message end
  local take, close = folder(session)
  begin(session, "watch", pool, filter(pool), function(event) take(event, sentence.of(pool, event)) end, close)
  session:print(("watching %s; :watch off ends it"):format(pool.name), "note")
  return true
end

local function every() return true end

local function trace(session, argument)
  if argument == OFF then return end_all(session, "trace", "") end
  local pool, message = target.pool(session, argument)
  if not pool then return nil, message end
  begin(session, "trace", pool, every, function(event) tell(session, event, sentence.of(pool, event), 1) end)
  session:print(("tracing %s, every event; :trace off ends it"):format(pool.name), "note")
  return true
end

local function names()
  local list = target.names()
  list[#list + 1] = OFF
  return list
end

add { name = "watch", arguments = "[POOL]", complete = names, run = watch,
  help = "tells what becomes of backends and connections, as it happens; :watch off ends it" }
add { name = "trace", arguments = "[POOL]", complete = names, run = trace, help = "tells every event, claims too; :trace off ends it" }

add {
  name = "unwatch", arguments = "[POOL]", help = "ends :watch and :trace", complete = target.names,
  run = function(session, argument) return end_all(session, nil, argument) end,
}

return rows
