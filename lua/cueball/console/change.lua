--- The verbs that change something. Each change is noted, with who made it and the line that undoes it; so it is for :undo of who made it.
local ask = require "cueball.console.ask"
local changes = require "cueball.console.changes"
local log = require "cueball.log"
local options = require "cueball.options"
local show = require "cueball.console.show"
local target = require "cueball.console.target"
local text = require "cueball.text"

local TEXT, SPAN = ask.TEXT, ask.SPAN

local RUN = {} -- by name: what verbs do

-- A line of Lua that calls a verb: `set { pool = "db", spares = 2 }`.
local function line_of(verb, given)
  return verb .. " " .. show.value(given, { width = math.huge, entries = 1000 })
end

-- For :undo: a verb once more, and what it is in a script.
local function note_undo(context, one, undo, line)
  local given = undo.given or {}
  changes.note_undo(context.undoing, {
    what = line,
    undo = function()
      return RUN[undo.verb]({ pool = undo.name or one.name, backend = given.backend }, { who = context.who }, given)
    end,
    as_lua = function(session)
      local arguments = next(given) and show.value(given, { width = math.huge, entries = 1000 }) or ""
      return ("%s:%s(%s)"):format(target.expression(session, one.pool) or "pool", undo.verb, arguments)
    end,
  })
end

-- Notes a change and tells the log.
-- @param undo nil: nothing undoes it; or { verb =, given = options but for the pool, name = of the pool, where that is another now }
local function note(context, one, what, old, new, undo)
  local host = one.pool.host
  local line = undo and line_of(undo.verb, options.merge({ pool = undo.name or one.name }, undo.given or {}))
  changes.note { time_s = host.time_s(), who = context.who, what = what, pool = one.name, old = old, new = new, undo = line }
  if undo and context.undoing then note_undo(context, one, undo, line) end
  local words = text.message(("%s: %s, by %s"):format(what, new == nil and "done" or show.value(new, { width = math.huge }), context.who))
  log.say(host, "info", words, "console_change", { pool = one.pool.name, who = context.who, verb = what })
end

-- Calls fn(one) for each pool that is meant; the first that fails is told.
-- @return true; or nil, message, name
local function each(asked, fn)
  local found, message, name = ask.pools_to_change(asked.pool)
  if not found then return nil, message, name end
  for _, one in ipairs(found) do
    local ok, why, kind = fn(one)
    if not ok then return nil, #found > 1 and ("%s: %s"):format(one.name, why) or why, kind end
  end
  return true
end

function RUN.pause(asked, context)
  return each(asked, function(one)
    local was = one.pool:is_paused()
    -- It is paused from the call on, whatever the wait for its leases comes to.
    if not was then note(context, one, "pause", false, true, { verb = "resume" }) end
    return one.pool:pause { wait_ms = asked.wait_ms, by = context.who }
  end)
end

function RUN.resume(asked, context)
  return each(asked, function(one)
    local was = one.pool:is_paused()
    one.pool:resume()
    if was then note(context, one, "resume", true, false, { verb = "pause" }) end
    return true
  end)
end

local function renew(asked, context)
  return each(asked, function(one)
    local ok, message, name = one.pool:renew { backend = asked.backend, over_ms = asked.over_ms }
    if ok then note(context, one, "renew", nil, asked.backend or "all", nil) end
    return ok, message, name
  end)
end

local function is_drained(pool, key)
  for _, backend in ipairs(pool:backends()) do
    if backend.key == key then return backend.drained or false end
  end
end

function RUN.drain(asked, context)
  if not asked.backend then return nil, "which backend? Write backend = \"KEY\"; backends() lists them", "not_found" end
  return each(asked, function(one)
    local was = is_drained(one.pool, asked.backend)
    local undo = { verb = "restore", given = { backend = asked.backend } }
    if was == false then note(context, one, "drain", nil, asked.backend, undo) end
    return one.pool:drain { backend = asked.backend, wait_ms = asked.wait_ms }
  end)
end

function RUN.restore(asked, context)
  if not asked.backend then return nil, "which backend? backends { state = \"drained\" } lists them", "not_found" end
  return each(asked, function(one)
    local was = is_drained(one.pool, asked.backend)
    local ok, message, name = one.pool:restore { backend = asked.backend }
    if ok and was then
      note(context, one, "restore", asked.backend, nil, { verb = "drain", given = { backend = asked.backend } })
    end
    return ok, message, name
  end)
end

-- The leases that are to end: one by its number, or those that pass the filters.
local function to_kill(asked, one)
  local found = {}
  for _, lease in ipairs(one.pool:leases()) do
    local passes = ask.is(asked.lease, lease.id) and ask.is(asked.backend, lease.backend)
    if passes and (not asked.older or lease.held_ms and lease.held_ms >= asked.older) then found[#found + 1] = lease end
  end
  return found
end

local function kill(asked, context)
  if not asked.lease and not asked.backend and not asked.older then
    return nil, "which leases? Write lease = ID, backend = \"KEY\" or older = \"5m\"; leases() lists them", "not_found"
  end
  local count = 0
  local ok, message, name = each(asked, function(one)
    for _, lease in ipairs(to_kill(asked, one)) do
      local ended, why, kind = one.pool:revoke { lease = lease.id }
      if not ended and asked.lease then return nil, why, kind end
      if ended then
        count = count + 1
        note(context, one, "kill", { lease = lease.id, backend = lease.backend, site = lease.site, held_ms = lease.held_ms }, nil, nil)
      end
    end
    return true
  end)
  if not ok then return nil, message, name end
  if count == 0 then return nil, "no lease is like that", "not_found" end
  return true
end

-- ----------------------------------------------------------------------------- set --

local INITIAL = { leak_detection = true, deadlock_detection = true, leak_warning_ms = false, claim_sites = false }

-- What an option was, by its path; the default if it was not given.
local function old_value(pool, path)
  local value = pool.given
  for part in path:gmatch "[^.]+" do
    if type(value) ~= "table" then value = nil break end
    value = value[part]
  end
  if value ~= nil and type(value) ~= "table" then return value end
  if pool[path] ~= nil and INITIAL[path] ~= nil then return pool[path] end
  if INITIAL[path] ~= nil then return INITIAL[path] end
  return options.default_of(path)
end

-- The old values of all that is given: a table of the same form.
local function old_of(pool, given, prefix)
  local old = {}
  for name, value in pairs(given) do
    local path = prefix .. name
    if type(value) == "table" then
      old[name] = old_of(pool, value, path .. ".")
    elseif path == "name" then
      old[name] = pool.name
    else
      old[name] = old_value(pool, path)
    end
  end
  return old
end

function RUN.set(asked, context, others)
  if next(others) == nil then return nil, "set: which option? settings() lists them", "not_found" end
  return each(asked, function(one)
    local old = old_of(one.pool, others, "")
    one.pool:set(others)
    note(context, one, "set", old, others, { verb = "set", given = old, name = others.name })
    return true
  end)
end

return {
  { name = "pause", kind = "change", help = "no claim is granted from now on; wait_ms=: waits until no lease is out", run = RUN.pause,
    options = { pool = TEXT, wait_ms = SPAN } },
  { name = "resume", kind = "change", help = "claims are granted again", run = RUN.resume, options = { pool = TEXT } },
  { name = "renew", kind = "change", help = "connections are replaced, one after the other", run = renew,
    options = { pool = TEXT, backend = TEXT, over_ms = SPAN } },
  { name = "drain", kind = "change", help = "a backend gets no claims any more, its connections close", run = RUN.drain, first = "backend",
    options = { pool = TEXT, backend = TEXT, wait_ms = SPAN } },
  { name = "restore", kind = "change", help = "a drained backend is used again", run = RUN.restore, first = "backend",
    options = { pool = TEXT, backend = TEXT } },
  { name = "kill", kind = "change", help = "ends leases, and closes their connections: lease=, backend=, older=", run = kill,
    first = "lease", options = { pool = TEXT, lease = ask.whole(0, 2 ^ 53), backend = TEXT, older = SPAN } },
  { name = "set", kind = "change", help = "changes options of a pool: set { spares = 4 }", run = RUN.set, takes_others = true,
    options = { pool = TEXT } },
}
