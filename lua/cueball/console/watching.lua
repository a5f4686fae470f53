--- Commands that follow a pool: :watch, :trace, :unwatch.
--
-- :watch tells what becomes of backends and connections, in sentences; what happens at once to many is folded into one line. :trace tells
-- every event there is, as it comes.
local commands = require "cueball.console.commands"
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
  session:print(("%s %s: %s%s"):format(time_text(session, event, record), record.pool, record.message, times), KINDS[record.level])
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

local function begin(session, name, pool, subscribe)
  local key = name .. " " .. pool.name
  if session.endings[key] then session.endings[key]() end
  local ends = subscribe()
  session.endings[key] = function()
    ends()
    session.endings[key] = nil
  end
end

local function watch(session, argument)
  local pool, message = target.pool(session, argument)
  if not pool then return nil, message end
  begin(session, "watch", pool, function()
    local is_wanted, take, close = filter(pool), folder(session)
    local stop = pool:subscribe(function(event)
      if is_wanted(event) then take(event, sentence.of(pool, event)) end
    end)
    return function()
      stop()
      close()
    end
  end)
  session:print(("watching %s; :unwatch ends it"):format(pool.name), "note")
  return true
end

local function trace(session, argument)
  local pool, message = target.pool(session, argument)
  if not pool then return nil, message end
  begin(session, "trace", pool, function()
    return pool:subscribe(function(event) tell(session, event, sentence.of(pool, event), 1) end)
  end)
  session:print(("tracing %s, every event; :unwatch ends it"):format(pool.name), "note")
  return true
end

add { name = "watch", arguments = "[POOL]", help = "tells what becomes of backends and connections, as it happens", complete = target.names,
  run = watch }
add { name = "trace", arguments = "[POOL]", help = "tells every event, claims too", complete = target.names, run = trace }

add {
  name = "unwatch", arguments = "[POOL]", help = "ends :watch and :trace", complete = target.names,
  run = function(session, argument)
    local names = {}
    for key in pairs(session.endings) do
      local name = key:match "^%l+ (.*)$"
      if name and (argument == "" or name == argument) then names[#names + 1] = key end
    end
    if #names == 0 then return nil, "nothing is watched" end
    for _, key in ipairs(names) do session.endings[key]() end
    return true
  end,
}

return rows
