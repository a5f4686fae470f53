--- Whom a pool trusts and whom it blames, kept a second time from its events and held against what is promised: a part of the
-- model (spec/sim/model.lua), whose slots it shares and adds to.
--
--   slot.opened_ms   when its connection opened
--   slot.is_proven   it came back in order, or a check found it fit
--   slot.is_suspect  another of its backend was found dead since it last worked; slot.may_be_suspect: or nobody can say whether
--   slot.failures    attempts in a row that came to nothing, through the backend
--   slot.after       closing: "replace" or "pause", what has to come next if the slot is wanted
--
-- Of each backend, by key: is_dead; opening_ms and attempt, of its last attempt; tried_ms; how often its connections were made
-- suspect (doubts, unsure, doubted_ms, last_doubt_ms; found_ms: for sure, the last time, and to be checked); how its replacements are
-- paced (replace_ms); is_asked: its pause was ended by somebody.
local Evidence = {}
Evidence.__index = Evidence

local EPSILON_MS = 0.001
local PROOF_MIN_MS, PROOF_PAUSES = 1000, 2
local DOUBTS_MAX, DOUBTS_SPAN_MS = 5, 1000
local REPLACE_GAP_MS, REPLACE_BURST_MIN = 0.5, 100
local PROBES_SHARE = 5
local CONNECTED = { idle = true, busy = true, checking = true }
local DEATHS = { failed = true, timeout = true, lost = true, fail = true, unfit = true }

--- @param model whose events these are
function Evidence.new(model, fail)
  return setmetatable({
    model = model, fail = fail, backends = {}, changed_ms = -1, recoveries = {}, least_delay_ms = math.huge, least_proof_ms = math.huge,
    has_check = nil, -- the connection factory's
  }, Evidence)
end

local function of(self, key)
  local backend = self.backends[key]
  if not backend then
    backend = { is_dead = false, attempt = 0, dead_openings = 0, doubts = 0, unsure = 0, tried_ms = 0, replace_ms = 0 }
    self.backends[key] = backend
  end
  return backend
end

local function slots_of(self, key)
  local list = {}
  for _, slot in pairs(self.model.slots) do
    if slot.backend == key and not slot.is_removed then list[#list + 1] = slot end
  end
  return list
end

-- ------------------------------------------------------------- the options --

local function least_pause(recovery, attempt)
  if recovery.jitter and recovery.jitter ~= "spread" then return 0 end
  return math.min(recovery.delay_ms * 2 ^ (math.min(attempt, recovery.attempts) - 1), recovery.max_delay_ms) * (1 - recovery.spread / 2)
end

--- @param options that count from now on
function Evidence:options_changed(options, time_ms)
  self.changed_ms = time_ms
  if not self.has_check then -- another factory's check tells nothing of those that are suspect by now
    for _, slot in pairs(self.model.slots) do slot.is_checked_first = false end
  end
  for name, recovery in pairs(options.recovery) do -- those not named stay
    self.recoveries[name] = recovery
    self.least_delay_ms = math.min(self.least_delay_ms, least_pause(recovery, 1))
  end
  local proof_ms = options.proven_after_ms
  self.least_proof_ms = math.min(self.least_proof_ms, proof_ms and proof_ms > 0 and proof_ms or PROOF_MIN_MS)
end

-- The least pause there may be after this attempt.
local function pause_after(self, attempt, since_ms)
  if self.changed_ms >= since_ms then return self.least_delay_ms end
  local least = math.huge
  for _, recovery in pairs(self.recoveries) do least = math.min(least, least_pause(recovery, attempt)) end
  return least
end

--- How long a connection has to stay open at most, for that to be a proof.
function Evidence.proof_ms(options, longest_delay_ms)
  local proof_ms = options.proven_after_ms
  return proof_ms and proof_ms > 0 and proof_ms or math.max(PROOF_MIN_MS, PROOF_PAUSES * longest_delay_ms)
end

-- ---------------------------------------------------------- the connections --

-- An attempt at a dead backend: the only one, after its pause, and the pauses have grown.
local function tries_dead(self, event, backend)
  local others = 0
  for _, slot in ipairs(slots_of(self, event.backend)) do
    local is_other = slot ~= self.model.slots[event.slot]
    if is_other and (slot.state == "connecting" or slot.state == "backoff" or slot.state == "idle") then others = others + 1 end
  end
  local is_planned = event.time_ms > backend.dead_ms -- what is due at the moment of its death may come before the plan
  if others > 0 and is_planned and not self.model.is_enduring then
    self.fail("%s is dead, and tried by %d others", event.backend, others)
  end
  -- max_churn_rate leaves others there for a while.
  local is_same = not self.model.is_enduring or backend.opening_slot == event.slot
  if backend.dead_openings > 0 and backend.opening_ms > backend.dead_ms and is_same then
    if event.count < backend.attempt then
      self.fail("%s is dead; after attempt %d comes %d", event.backend, backend.attempt, event.count)
    end
    local last = event.count > backend.attempt and backend.attempt or math.max(1, backend.attempt - 1)
    local gap, least = event.time_ms - backend.opening_ms, pause_after(self, last, backend.opening_ms)
    if gap < least - EPSILON_MS and not backend.is_asked then
      self.fail("%s is dead and is tried after %.3f ms; the pause after attempt %d is %.3f at least", event.backend, gap, last, least)
    end
  end
  backend.dead_openings, backend.opening_slot, backend.is_asked = backend.dead_openings + 1, event.slot, false
end

local function attempt_begins(self, event, slot)
  local backend = of(self, event.backend)
  if slot and slot.is_removed then return end
  if backend.is_dead then tries_dead(self, event, backend) end
  backend.opening_ms, backend.attempt, backend.tried_ms = event.time_ms, event.count, event.time_ms
end

-- How often the backend's connections were made suspect within a second: `doubts` for sure, and as often as that and `unsure` at most.
local function count_doubts(backend, time_ms)
  local is_first = not backend.doubted_ms or backend.doubts + backend.unsure == 0
  if is_first or time_ms - backend.doubted_ms >= DOUBTS_SPAN_MS - EPSILON_MS then
    local is_over = backend.unsure == 0 or time_ms - backend.last_doubt_ms >= DOUBTS_SPAN_MS -- else the pool's second may end later
    backend.unsure = is_over and 0 or backend.doubts + backend.unsure
    backend.doubts, backend.doubted_ms = 0, time_ms
  end
  backend.last_doubt_ms = time_ms
end

-- One was found dead: those that were open then are suspect. A check that began in the same moment tells that its connection was made
-- suspect, or was due by itself: nobody can say which.
local function make_suspect(self, event, slot)
  local backend, connected = of(self, event.backend), {}
  for _, other in ipairs(slots_of(self, event.backend)) do
    if CONNECTED[other.state] then connected[#connected + 1] = other end
  end
  local state = self.model.state
  if slot.is_suspect or slot.is_removed or #connected < 2 or state == "stopping" or state == "stopped" then return end
  count_doubts(backend, event.time_ms)
  if backend.doubts >= DOUBTS_MAX and backend.unsure == 0 then return end
  local is_sure = not slot.may_be_suspect and backend.doubts + backend.unsure < DOUBTS_MAX
  local counter = is_sure and "doubts" or "unsure"
  backend[counter] = backend[counter] + 1
  if is_sure and self.has_check then backend.found_ms = event.time_ms end
  for _, other in ipairs(connected) do
    local is_asked = self.has_check and other.state == "checking" -- else its check says nothing
    local is_guess = is_asked and other.checking_ms == event.time_ms
    if other ~= slot and not other.is_suspect and (is_guess or not is_asked) then
      other.is_suspect, other.may_be_suspect, other.is_checked_first = is_sure and not is_guess, true, self.has_check
      if other.state == "idle" then self.model:goes_last(other) end
    end
  end
end

-- Did its backend do it?
local function is_blamed(slot, cause)
  if cause == "lost" or cause == "fail" then return true end
  return slot.state == "checking" and (cause == "unfit" or cause == "timeout")
end

local function closes(self, event, slot)
  local cause = event.cause
  local blamed = is_blamed(slot, cause)
  if blamed then make_suspect(self, event, slot) end
  if blamed and not slot.is_proven then
    slot.failures = (slot.failures or 0) + 1
    slot.after = "pause"
  else
    if slot.is_proven then slot.failures = cause == "fail" and 1 or 0 end
    slot.after = cause == "fail" and "pause" or "replace"
  end
  slot.is_lasting = not slot.is_proven and event.time_ms - (slot.opened_ms or 0) >= self.least_proof_ms - EPSILON_MS
  slot.is_suspect, slot.may_be_suspect, slot.is_proven = false, false, false
end

-- A connection that was nobody's fault is replaced at once, unless there are too many: 2,000/s at each backend.
local function closed(self, event, slot)
  local backend = of(self, event.backend)
  if slot.is_removed or event.to == "free" then return end
  if slot.after == "pause" then
    if event.to ~= "backoff" and not slot.is_lasting then -- who lasted has proven itself, which is no event
      self.fail("slot %d: a connection that %s broke is replaced without a pause", event.slot, event.backend)
    end
    return
  end
  if backend.is_dead then
    if event.to ~= "backoff" then self.fail("slot %d of %s, which is dead, opens without a pause", event.slot, event.backend) end
    return
  end
  local burst_ms = math.max(REPLACE_BURST_MIN, #slots_of(self, event.backend)) * REPLACE_GAP_MS
  backend.replace_ms = math.max(backend.replace_ms, event.time_ms)
  local waits = backend.replace_ms > event.time_ms + burst_ms + EPSILON_MS
  backend.replace_ms = backend.replace_ms + REPLACE_GAP_MS
  if event.to == "backoff" and not waits and not slot.is_lasting then
    self.fail("slot %d: a connection that nobody is to blame for is replaced after a pause", event.slot)
  elseif event.to ~= "backoff" and waits then
    self.fail("slot %d is replaced at once, %s had more than its share", event.slot, event.backend)
  end
end

local function worked(slot)
  slot.is_proven, slot.is_suspect, slot.may_be_suspect, slot.failures = true, false, false, 0
end

-- What a lease left: in order, it has proven the connection.
local function comes_back(slot, event)
  local is_unknown = event.to == "closing" and (event.cause == "unfit" or event.cause == "timeout" or event.cause == "lost")
  if slot.was_released and not is_unknown or event.to == "closing" and event.cause == "worn" then
    worked(slot)
  end
  local revived = slot.revives
  slot.was_released, slot.revives = false, false
  return not (revived and is_unknown)
end

--- Before the model's slot changes.
function Evidence:slot_state(event, slot)
  local from, to = slot and slot.state or "free", event.to
  if to == "connecting" then attempt_begins(self, event, slot) end
  if not slot then return end
  if from == "connecting" then
    if CONNECTED[to] then
      slot.opened_ms, slot.is_proven, slot.is_suspect, slot.may_be_suspect = event.time_ms, false, false, false
    elseif to == "backoff" then
      slot.failures = (slot.failures or 0) + 1
    end
  elseif from == "busy" and not comes_back(slot, event) then
    self.fail("%s was revived by a connection that is %s", event.backend, event.cause)
  elseif from == "checking" and (to == "idle" or to == "busy") and self.has_check then
    worked(slot)
  end
  if to == "checking" then slot.checking_ms = event.time_ms end
  if to == "closing" then closes(self, event, slot) end
  if from == "closing" then closed(self, event, slot) end
  if to == "free" then of(self, event.backend).failures = slot.failures end
end

--- After the model has made the slot.
function Evidence:slot_came(event, slot)
  local backend = of(self, event.backend)
  slot.failures = backend.is_dead and backend.failures or 0
end

--- Somebody gets it at once.
function Evidence:lent(slot, number)
  if slot.is_suspect and slot.is_checked_first and self.has_check then
    self.fail("slot %d of %s is suspect, and lent before it was checked", number, slot.backend)
  end
end

function Evidence:lease_ended(event, slot)
  slot.was_released = event.cause == "release"
  self.last_end = event
end

-- ------------------------------------------------------------- the backends --

function Evidence:backend_added(event)
  self.backends[event.backend] = nil
  of(self, event.backend).tried_ms = event.time_ms
end

function Evidence:backend_dead(event)
  local backend = of(self, event.backend)
  if not DEATHS[event.cause] then self.fail("%s died of %s", event.backend, tostring(event.cause)) end
  local failures = 0
  for _, slot in ipairs(slots_of(self, event.backend)) do failures = math.max(failures, slot.failures or 0) end
  if failures < event.count or failures == 0 then
    self.fail("%s died after %d attempts; %d came to nothing through it", event.backend, event.count, failures)
  end
  backend.is_dead, backend.dead_openings, backend.tried_ms, backend.dead_ms = true, 0, event.time_ms, event.time_ms
end

local PROOFS = {
  release = function(self, event)
    local last = self.last_end
    local slot = last and self.model.slots[last.slot]
    if not slot or last.backend ~= event.backend or last.time_ms ~= event.time_ms or last.cause ~= "release" then return false end
    slot.revives = true
    return true
  end,
  worn = function(self, event)
    local last = self.last_end
    if last and last.backend == event.backend and last.time_ms == event.time_ms then return last.cause ~= "fail" end
    for _, slot in ipairs(slots_of(self, event.backend)) do
      if slot.state == "idle" or slot.state == "checking" then return true end
    end
    return false
  end,
  check = function(self, event)
    for _, slot in ipairs(slots_of(self, event.backend)) do
      if slot.state == "checking" and self.has_check then return true end
    end
    return false
  end,
  lasted = function(self, event)
    for _, slot in ipairs(slots_of(self, event.backend)) do
      local is_open = slot.state == "idle" or slot.state == "busy"
      if is_open and event.time_ms - slot.opened_ms >= self.least_proof_ms - EPSILON_MS then return true end
    end
    return false
  end,
  plan = function(self, event) return self.has_priorities or self.model.excused[event.backend] end,
}

function Evidence:backend_revived(event)
  local proof = PROOFS[event.cause]
  if not proof or not proof(self, event) then
    self.fail("%s was revived by %s, and nothing of the kind happened", event.backend, event.cause)
  end
  local backend = of(self, event.backend)
  backend.is_dead, backend.dead_openings, backend.tried_ms = false, 0, event.time_ms
end

--- Somebody ends the pause before the next attempt at a dead backend, or at all of them: key nil.
function Evidence:asked(key)
  for of_key in pairs(self.model.dead) do
    local slots = slots_of(self, of_key)
    local pauses = #slots == 0 -- else there is nothing to be ended
    for _, slot in ipairs(slots) do pauses = pauses or slot.state == "backoff" end -- others may be closing yet
    if key == nil or key == of_key then of(self, of_key).is_asked = pauses end
  end
end

-- ------------------------------------------------------------ now and then --

--- How many dead backends may be tried at once.
function Evidence:probes_max()
  local most = self.model.max
  return most == 1 and 0 or math.max(1, math.floor(most / PROBES_SHARE))
end

local function check_probes(self)
  local model, probes, dead, is_living = self.model, 0, 0, false
  for key in pairs(model.dead) do
    dead = dead + 1
    for _, slot in ipairs(slots_of(self, key)) do
      if slot.state ~= "busy" and slot.state ~= "closing" then
        probes = probes + 1
        break
      end
    end
  end
  for _, slot in pairs(model.slots) do is_living = is_living or not slot.is_removed and not model.dead[slot.backend] end
  if is_living and model:in_use() > dead + model.ejected_count and probes > self:probes_max() then
    self.fail("%d of %d dead backends are tried, max_connections is %d", probes, dead, model.max)
  end
end

-- Are leases in the places that are to be left to the dead?
local function is_full(model)
  local counts = model.counts
  return model.total - model.orphans >= model.max and counts.busy + counts.closing + counts.checking > 0
end

-- Somebody holds a connection to a dead backend, and nobody knows how long.
local function has_leased_probe(self)
  for _, slot in pairs(self.model.slots) do
    if slot.state == "busy" and not slot.is_removed and self.model.dead[slot.backend] then return true end
  end
  return false
end

--- Where everything that is due is done.
-- @param pause_ms the longest between two attempts
-- @param place_ms how long an attempt has its place at most
function Evidence:audit(now_ms, pause_ms, place_ms)
  local model = self.model
  if model.state == "stopping" or model.state == "stopped" or model.is_enduring or self.has_priorities then return end
  if now_ms > model.changed_ms then check_probes(self) end
  if next(model.dead) == nil then return end
  if model.max == 1 then -- there may be no place for them for as long as it is
    for key in pairs(model.dead) do of(self, key).tried_ms = now_ms end
    return
  end
  local dead = 0
  for _ in pairs(model.dead) do dead = dead + 1 end
  local bound_ms = pause_ms + math.ceil(dead / self:probes_max() + 1) * place_ms
  local is_held_up = is_full(model) or has_leased_probe(self)
  for key in pairs(model.dead) do
    local backend, slots = of(self, key), slots_of(self, key)
    for _, slot in ipairs(slots) do
      if slot.state ~= "backoff" then backend.tried_ms = now_ms end
    end
    if #slots == 0 and is_held_up then backend.tried_ms = now_ms end
    if now_ms - backend.tried_ms > bound_ms then
      self.fail("%s is dead and was not tried for %.0f ms, the bound is %.0f", key, now_ms - backend.tried_ms, bound_ms)
    end
  end
end

return Evidence
