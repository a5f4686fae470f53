--- What went wrong with backends and the resolver last, and which backends are dead: for people who ask why.
--
-- pool.faults is written here only. Of each backend two messages are kept: the one since a connection to it opened, which is what it does
-- now, and the one at all: why a backend is dead is not forgotten because another connection opened.
local native = require "cueball.native"
local secrets = require "cueball.pool.secrets"
local ffi = native.ffi

local faults = {}

local NAMED_MAX = 3 -- dead backends that a sentence names: it goes into log lines and answers
local ERROR_MAX = 200 -- bytes of each one's error

function faults.open(pool)
  pool.faults = {
    latest = nil,            -- "key: message", or "resolver: message"
    latest_key = nil,        -- of the backend that failed last
    current = {}, last = {}, -- by key, see above
    last_at = {},            -- by key, when that was, in ns
    dead_since = {},         -- by key, in ms
    dead_longest = {},       -- keys of those dead for longest, so that no claim has to look for them
  }
end

--- Something went wrong with a backend; a message of nil: a connection to it opened.
-- @param message bounded and clean: of text.message
function faults.note(pool, key, message)
  local self = pool.faults
  if message then message = secrets.hide(pool, message) end
  self.current[key] = message
  if not message then return end
  self.last[key], self.last_at[key] = message, pool.now()
  self.latest_key = key
  self.latest = ("%s: %s"):format(key, message)
end

--- The resolver has failed.
function faults.note_resolver(pool, message)
  pool.faults.latest = "resolver: " .. message
end

--- The last thing that went wrong; nil: nothing yet.
function faults.latest(pool)
  return pool.faults.latest
end

--- The backend that failed last, if no connection to it has opened since: "db1 (connection refused)"; nil: none does.
function faults.failing(pool)
  local key = pool.faults.latest_key
  local message = key and pool.faults.current[key]
  return message and ("%s (%s)"):format(key, message:sub(1, ERROR_MAX))
end

--- What went wrong with a backend since a connection to it opened, or else at all.
function faults.of(pool, key)
  return pool.faults.current[key] or pool.faults.last[key]
end

--- The same, for one that may be well: nil then.
function faults.of_now(pool, key, is_dead)
  return pool.faults.current[key] or is_dead and pool.faults.last[key] or nil
end

--- What went wrong with a backend last, whatever opened since, and how long ago that was in ms; nil: nothing yet.
function faults.last_of(pool, key)
  local self = pool.faults
  local message = self.last[key]
  if not message then return nil end
  return message, math.max(0, (pool.now() - self.last_at[key]) / 1e6)
end

-- ------------------------------------------------------------------- the dead --

--- A backend died.
function faults.note_death(pool, key, time_ms)
  local self = pool.faults
  if self.dead_since[key] then return end
  self.dead_since[key] = time_ms
  local longest = self.dead_longest
  if #longest < NAMED_MAX then longest[#longest + 1] = key end
end

-- Those dead for longest, of all.
local function longest_of(since)
  local all = {}
  for key in pairs(since) do all[#all + 1] = key end
  table.sort(all, function(a, b)
    if since[a] ~= since[b] then return since[a] < since[b] end
    return a < b
  end)
  return { unpack(all, 1, NAMED_MAX) }
end

--- A backend is alive again.
function faults.note_revival(pool, key)
  local self = pool.faults
  if not self.dead_since[key] then return end
  self.dead_since[key] = nil
  for _, one in ipairs(self.dead_longest) do
    if one == key then
      self.dead_longest = longest_of(self.dead_since)
      return
    end
  end
end

--- A backend was removed.
function faults.forget(pool, key)
  local self = pool.faults
  self.current[key], self.last[key], self.last_at[key] = nil, nil, nil
  faults.note_revival(pool, key)
end

-- Is a backend known by this key?
local function is_known(pool, key)
  local core, index = pool.core, 0
  local info = core.info
  while core:backend_at(index) do
    if not info.removed and ffi.string(info.key) == key then return true end
    index = index + 1
  end
  return false
end

--- The last connection of a backend that was removed is gone: what went wrong since the removal is forgotten, unless there is a backend
-- of this key again.
-- @param key nil: nobody knows
function faults.forget_gone(pool, key)
  if not key or not pool.faults.last[key] or is_known(pool, key) then return end
  faults.forget(pool, key)
end

--- Whether a backend is known to be dead.
function faults.has_dead(pool)
  return pool.faults.dead_longest[1] ~= nil
end

-- For those whose death has not been read from the core's events yet.
local function look_for_dead(pool)
  local core, index = pool.core, 0
  local info = core.info
  while core:backend_at(index) do
    if info.dead then faults.note_death(pool, ffi.string(info.key), tonumber(info.since) / 1e6) end
    index = index + 1
  end
  pool.faults.dead_longest = longest_of(pool.faults.dead_since)
end

--- The backends that are dead now.
-- @return a list of { key =, error =, ms = } of those that are so for longest, with the `count` of all
function faults.dead(pool)
  pool.core:stats()
  local self, now_ms = pool.faults, pool.now() / 1e6
  local dead = { count = pool.core.numbers.dead_backends }
  if #self.dead_longest < math.min(dead.count, NAMED_MAX) then look_for_dead(pool) end
  for index, key in ipairs(self.dead_longest) do
    dead[index] = { key = key, error = faults.of(pool, key), ms = math.max(0, now_ms - self.dead_since[key]) }
  end
  return dead
end

--- Dead backends in words: "db2 (connection refused; for 1200 ms)", and how many more there are.
-- @param dead of faults.dead
function faults.text(dead)
  local words = {}
  for index, one in ipairs(dead) do
    local since = one.ms >= 1 and ("; for %.0f ms"):format(one.ms) or ""
    words[index] = ("%s (%s%s)"):format(one.key, (one.error or "no reason known"):sub(1, ERROR_MAX), since)
  end
  if dead.count > #dead then words[#words + 1] = ("and %d more"):format(dead.count - #dead) end
  return table.concat(words, ", ")
end

return faults
