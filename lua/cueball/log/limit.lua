--- So many lines of one kind in a minute, and no more: what a pool has to say of one event with one cause. What is held back is counted,
-- and the count is told: when it ends, and within a minute.
--
-- The happy path: the first lines of a kind pass. After them come the held back, and one line that has their number and the last of them,
-- 10 s after the last of them or a minute after the first; then the kind begins anew.
local limit = {}

local LINES, PER_MS = 20, 60000
local QUIET_NS = 10e9
local KINDS_MAX = 1000 -- kinds that are counted; one more, and `prune` makes room

local lines_max, per_ns = LINES, PER_MS * 1e6 -- false: no limit

local states = setmetatable({}, { __mode = "k" }) -- by host, whose clock counts

--- Another limit, for all hosts; nil: that of the beginning.
-- @param lines  false: none
-- @param per_ms  milliseconds
function limit.set(lines, per_ms)
  if lines == nil then lines, per_ms = LINES, PER_MS end
  lines_max, per_ns = lines, (per_ms or PER_MS) * 1e6
end

local function state_of(host)
  local state = states[host]
  if not state then
    state = { kinds = {}, count = 0, alarm = nil }
    states[host] = state
  end
  return state
end

local function key_of(record)
  return table.concat({ record.level, record.pool or "", record.event, record.cause or "" }, "\0")
end

-- Makes room for other kinds. Those of which lines are held back stay, since their number is to be told. Of the rest, those whose time is
-- over are forgotten; of those whose time is not over as many stay, whichever, as make KINDS_MAX / 2 kinds in all. A kind that is forgotten
-- early may say its `lines_max` lines once more.
local function prune(state, now)
  local kinds, count = {}, 0
  for key, kind in pairs(state.kinds) do
    if kind.held > 0 or now - kind.began < per_ns and count < KINDS_MAX / 2 then kinds[key], count = kind, count + 1 end
  end
  state.kinds, state.count = kinds, count
end

local function kind_of(state, record, now)
  local key = key_of(record)
  local kind = state.kinds[key]
  if kind then return kind end
  if state.count >= KINDS_MAX then prune(state, now) end
  kind = { began = now, passed = 0, held = 0, held_since = 0, held_last = 0, last = nil }
  state.kinds[key], state.count = kind, state.count + 1
  return kind
end

-- The line that tells how many were held back.
local function summary_of(kind, now)
  local last, seconds = kind.last, math.max(1, (now - kind.held_since) / 1e9)
  local made = {
    level = last.level, pool = last.pool, backend = last.backend, event = "held_back", cause = last.event,
    message = ("%d more lines of this kind (%s%s) were held back in %.0f s, the last one: %s"):format(kind.held, last.event,
      last.cause and ", " .. last.cause or "", seconds, last.message),
    fields = { count = kind.held, span_ms = math.floor((now - kind.held_since) / 1e6), of_cause = last.cause },
  }
  kind.began, kind.passed, kind.held, kind.last = now, 0, 0, nil
  return made
end

local function is_due(kind, now)
  return kind.held > 0 and (now - kind.held_last >= QUIET_NS or now - kind.held_since >= per_ns)
end

-- Tells of what is held back and due, in the order in which it began.
local function tell_due(host, state, now, is_wanted, tell)
  local due = {}
  for _, kind in pairs(state.kinds) do
    if kind.held > 0 and is_wanted(kind, now) then due[#due + 1] = kind end
  end
  table.sort(due, function(a, b)
    if a.held_since ~= b.held_since then return a.held_since < b.held_since end
    return a.last.message < b.last.message
  end)
  for _, kind in ipairs(due) do tell(host, summary_of(kind, now)) end
end

local function holds_some(state)
  for _, kind in pairs(state.kinds) do
    if kind.held > 0 then return true end
  end
  return false
end

local function close(state)
  if state.alarm then state.alarm:close() end
  state.alarm = nil
end

-- Looks again while something is held back. A host that can set no alarm just now tells with the next line of the kind.
local function look_later(host, state, tell)
  if state.alarm then return end
  local known = setmetatable({ host = host }, { __mode = "v" }) -- the alarm is the host's, and does not keep it
  local ok, alarm = pcall(host.alarm, function()
    local of = known.host
    if not of then return end
    close(state)
    tell_due(of, state, of.now(), is_due, tell)
    if holds_some(state) then look_later(of, state, tell) end
  end)
  if not ok then return end
  state.alarm = alarm
  alarm:set(host.now() + QUIET_NS)
end

--- Whether a record may be told now. One that may not is counted.
-- @param tell function(host, record): tells how many were held back
function limit.passes(host, record, tell)
  if not lines_max then return true end
  local state, now = state_of(host), host.now()
  local kind = kind_of(state, record, now)
  if is_due(kind, now) then
    tell(host, summary_of(kind, now))
  elseif kind.held == 0 and now - kind.began >= per_ns then
    kind.began, kind.passed = now, 0
  end
  if kind.passed < lines_max then
    kind.passed = kind.passed + 1
    return true
  end
  if kind.held == 0 then kind.held_since = now end
  kind.held, kind.held_last, kind.last = kind.held + 1, now, record
  look_later(host, state, tell)
  return false
end

--- Tells at once of what is held back of a pool, which stops; nil: of all.
function limit.flush(host, pool, tell)
  local state = states[host]
  if not state then return end
  tell_due(host, state, host.now(), function(kind) return pool == nil or kind.last.pool == pool end, tell)
  if not holds_some(state) then close(state) end
end

return limit
