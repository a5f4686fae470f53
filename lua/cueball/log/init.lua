--- The log: one stream of records, for people and for programs (docs/logs.md).
--
--   { time_s = 1796050075.725, level = "warn", pool = "db", backend = "10.0.0.1:80", event = "backend_dead", cause = "failed",
--     message = "backend 10.0.0.1:80 is dead after 3 attempts …", fields = { attempts = 3 } }
--
-- Where nobody says otherwise a record goes to host.log as text: stderr on libuv, nginx's error log under nginx. log.to sends it elsewhere.
-- What a person may have chosen is not trusted: a function that throws, or waits, is told of and called again for the next record, one that
-- logs itself is not called within its own call.
local form = require "cueball.log.form"
local limit = require "cueball.log.limit"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local stderr = require "cueball.log.stderr"
local text = require "cueball.text"

local log = {}

local LEVELS = { debug = 1, info = 2, warn = 3, error = 4, none = 5 }
local RING = 1000
local MESSAGE_MAX = 8000  -- bytes of a message, with its traceback
local WITHIN_MAX = 100    -- records that come up while one is being told
local COMPLAINT_NS = 60e9 -- a function that throws is told of once in this time

local OF_TO, OF_SUBSCRIBE = "the function that log.to was given", "a function that log.subscribe was given"

local OF_RECORD = { pool = true, backend = true, cause = true } -- facts that have places of their own

local ring, ring_count = {}, 0 -- the last RING records, the one of number n at n % RING
local subscribers = {}
local target = nil             -- of log.to: { form =, sink =, level =, complained = }; nil: text to host.log
local telling = nil            -- the record that is being told: { co = the coroutine that tells it, within =, about =, what = }

-- The plain one: a host with coroutines of its own may have put another in its place.
local status_of = rawget(coroutine, "_status") or coroutine.status

-- Calls what is not cueball's own; it may not wait. A host that has no tasks of its own cannot prevent that: see `deliver`.
-- @param told        of what is being told
-- @param about, what whose function it is; nil: the host's
local function call(told, host, about, what, fn, ...)
  told.about, told.what = about, what
  local tasks = host.tasks
  if tasks then return tasks:apart(fn, ...) end
  return xpcall(fn, text.traceback, ...)
end

-- What others are given: what they change in it is theirs.
local function copy_of(record)
  local made, fields = {}, {}
  for name, value in pairs(record) do made[name] = value end
  for name, value in pairs(record.fields) do fields[name] = value end
  made.fields, made.about = fields, nil
  return made
end

local function to_host(told, host, record)
  call(told, host, nil, nil, host.log, record.level, form.words(record))
end

local function complain(host, about, what, message)
  local now = host.now()
  if about.complained_at and now - about.complained_at < COMPLAINT_NS and now >= about.complained_at then return end
  about.complained_at = now
  log.tell(host, { level = "error", event = "log_threw", message = ("%s threw: %s"):format(what, message), about = about })
end

local function line_of(target_form, record)
  return form[target_form](record)
end

local function to_target(told, host, record)
  local to = target
  if not to then return to_host(told, host, record) end
  if LEVELS[record.level] < to.level then return end
  if record.about == to then return to_host(told, host, record) end -- the function that threw does not hear of that
  if to.sink == "stderr" then return stderr.write(line_of(to.form, record)) end
  if to.sink == "host" then
    return call(told, host, nil, nil, host.log, record.level, to.form == "text" and form.words(record) or line_of(to.form, record))
  end
  local ok, message = call(told, host, to, OF_TO, to.sink, line_of(to.form, record), copy_of(record))
  if not ok then complain(host, to, OF_TO, message) end
end

local function to_subscribers(told, host, record)
  for _, one in ipairs(subscribers) do
    if one.fn and record.about ~= one then
      local ok, message = call(told, host, one, OF_SUBSCRIBE, one.fn, copy_of(record))
      if not ok then complain(host, one, OF_SUBSCRIBE, message) end
    end
  end
end

local function deliver_one(told, host, record)
  ring_count = ring_count + 1
  ring[ring_count % RING] = record
  to_subscribers(told, host, record)
  to_target(told, host, record)
end

-- Whether a function that hears of a record waits: others run meanwhile.
local function is_waiting(told)
  local co = told.co
  return co ~= nil and (status_of(co) == "suspended" or status_of(co) == "dead")
end

-- Tells what passed the limit. What comes up meanwhile, in the functions that hear of it, follows.
local function deliver(host, record)
  record.time_s = record.time_s or (host.time_s or os.time)()
  if #record.message > MESSAGE_MAX then record.message = record.message:sub(1, MESSAGE_MAX) .. " …" end
  if telling and is_waiting(telling) then
    local late = telling
    telling = nil
    if late.about then complain(host, late.about, late.what, "it waits, which it may not") end
  end
  if telling then
    if #telling.within < WITHIN_MAX then telling.within[#telling.within + 1] = { host, record } end
    return
  end
  local own = { co = coroutine.running(), within = {}, about = nil, what = nil }
  telling = own
  deliver_one(own, host, record)
  local index = 1
  while own.within[index] do
    telling = own -- another may have begun, if a function waited
    deliver_one(own, own.within[index][1], own.within[index][2])
    index = index + 1
  end
  if telling == own then telling = nil end
end

-- What a library writes is the program's own; what somebody did at a console has to be found afterwards.
local NEVER_HELD_BACK = { library_says = true, console_command = true, console_change = true }

--- Tells something, for our own modules.
-- @param host   whose it is
-- @param record { level, event, message, pool, backend, cause, fields }, without time_s; it is the log's from now on. The message is clean
--   (cueball.text), the fields are strings, numbers and booleans
function log.tell(host, record)
  record.event, record.fields = record.event or "note", record.fields or {}
  if NEVER_HELD_BACK[record.event] or limit.passes(host, record, deliver) then deliver(host, record) end
end

--- Tells one line, for our own modules.
-- @param event what happened, a name of docs/logs.md
-- @param facts nil, or what is known of it: { pool =, backend =, cause =, … = strings, numbers, booleans }
function log.say(host, level, message, event, facts)
  local record = { level = level, event = event, message = text.clean_lines(message), fields = {} }
  for name, value in pairs(facts or {}) do
    if type(value) == "string" then value = text.message(value) end
    if OF_RECORD[name] then record[name] = value else record.fields[name] = value end
  end
  log.tell(host, record)
end

--- Tells at once how many lines of a pool were held back: the pool stops.
function log.flush(host, pool)
  limit.flush(host, pool, deliver)
end

-- ------------------------------------------------------------------- the user's --

local function is_one_of(names)
  return function(value)
    for name in names:gmatch "%S+" do
      if value == name then return true end
    end
    return false
  end
end

local TO_RULES = {
  form = { check = is_one_of "text logfmt json", range = '"text", "logfmt" or "json"' },
  sink = {
    check = function(value) return value == "stderr" or value == "host" or type(value) == "function" end,
    range = '"stderr", "host" or a function(line, record)',
  },
  level = { check = is_one_of "debug info warn error none", range = '"debug", "info", "warn", "error" or "none"' },
}

-- What CUEBALL_LOG says.
local function level_of_environment()
  local name = os.getenv "CUEBALL_LOG"
  return LEVELS[name] and name or "info"
end

--- Sends the log elsewhere.
-- @param given nil: to host.log as text, as in the beginning; or a table:
--   form   "text" (the default), "logfmt" or "json"
--   sink   "stderr" (the default); "host": host.log, which has levels of its own; or function(line, record), which may not wait
--   level  from which on: "debug", "info", "warn", "error" or "none"; what CUEBALL_LOG says by default, or "info"; "debug" for "host"
function log.to(given)
  if given == nil then
    target = nil
    return
  end
  options.check("log.to", given, TO_RULES)
  local sink = given.sink or "stderr"
  local level = given.level or (sink == "host" and "debug" or level_of_environment())
  target = { form = given.form or "text", sink = sink, level = LEVELS[level], complained_at = nil }
end

--- A copy of every record from now on goes to fn(record), debug ones too. It may not wait.
-- @return a function that ends it
function log.subscribe(fn)
  if type(fn) ~= "function" then misuse.raise("log.subscribe: expected a function, got " .. options.show(fn)) end
  local one = { fn = fn, complained_at = nil }
  local list = { unpack(subscribers) } -- a new list: `to_subscribers` may be going through the present one
  list[#list + 1] = one
  subscribers = list
  return function()
    local others = {}
    for _, other in ipairs(subscribers) do
      if other ~= one then others[#others + 1] = other end
    end
    one.fn, subscribers = nil, others
  end
end

local RECENT_RULES = {
  pool = options.of_type "string",
  level = { check = is_one_of "debug info warn error", range = '"debug", "info", "warn" or "error"' },
  limit = options.whole(1, RING),
}

--- The last records, oldest first: of the last 1,000.
-- @param given nil, or { pool = of this name, level = from which on, limit = how many at most }
function log.recent(given)
  given = options.check("log.recent", given, RECENT_RULES)
  local level, limit_of, list = LEVELS[given.level or "debug"], given.limit or RING, {}
  for number = ring_count, math.max(1, ring_count - RING + 1), -1 do
    local record = ring[number % RING]
    if (given.pool == nil or record.pool == given.pool) and LEVELS[record.level] >= level then
      list[#list + 1] = copy_of(record)
      if #list == limit_of then break end
    end
  end
  for index = 1, math.floor(#list / 2) do
    list[index], list[#list + 1 - index] = list[#list + 1 - index], list[index]
  end
  return list
end

local LIMIT_RULES = { lines = options.whole(1, 1000000), per_ms = options.number(1, 86400000, "milliseconds") }

--- How many lines of one kind (level, pool, event and cause) are told in a time; the rest is counted, and the count told.
-- @param given { lines = 20, per_ms = 60000 }, which is the default; nil: that; false: no limit
function log.limit(given)
  if given == false then return limit.set(false) end
  if given == nil then return limit.set() end
  options.check("log.limit", given, LIMIT_RULES)
  limit.set(given.lines or 20, given.per_ms)
end

return log
