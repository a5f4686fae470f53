--- What the events of a pool must come to: a second, plain account of slots, claims and leases, kept from the events alone
-- and compared with what the core, the servers and the claimers say.
--
--   model.slots      by number: { state, backend, conn, is_removed, is_orphan, lease, seq }; no entry: free
--   model.counts     slots by state
--   model.total      slots; model.orphans: of those, leased when their backend was removed
--   model.queue      claims that wait, oldest first: { claim, claimer }
--   model.leases     by lease: slot number; model.ended: by lease, why it ended
--   model.max        max_connections
--   model.known      backends; model.dead: which of them are dead, by key; model.changed_ms: when they changed last
--   model.coming     the options as the scenario set them last; the event that says so may be yet to come
--   model.coming_check whether the connection factory has a check: likewise
--   model.evidence   whom the pool trusts and whom it blames, spec/sim/evidence.lua
--   model.limited    which backends were said to take fewer connections than planned, by key
--   model.coverage   a table: how often each kind of event came is counted in it
--   model.is_paused, model.drained, model.drained_count  what people in charge wanted; model.excused: see spec/sim/charge.lua
--   model.current    the claimer whose claim is being made
--   model.decided    at decided_ms: by claim, who made it and whether it was granted or refused
local Evidence = require "spec.sim.evidence"

local Model = {}
Model.__index = Model

local STATES = { "connecting", "backoff", "idle", "busy", "checking", "closing" }

local function set(words)
  local made = {}
  for word in words:gmatch "%S+" do made[word] = true end
  return made
end

local MAY_BECOME = {
  free = set "connecting backoff",
  connecting = set "backoff idle busy checking free",
  backoff = set "connecting free",
  idle = set "busy checking closing",
  busy = set "idle busy checking closing",
  checking = set "idle busy closing",
  closing = set "connecting backoff free",
}

local ON = {}

local POOL_MAY_BECOME = {
  starting = set "running failed stopping",
  running = set "failed stopping",
  failed = set "starting running stopping",
  stopping = set "stopped",
  stopped = {},
}

--- @param fail function(format, ...) what to do when something does not hold
-- @param is_enduring there may be spares, ejections, limits to churn, other orders of the queue
-- @param has_priorities backends differ in it
function Model.new(fail, options, is_enduring, has_priorities)
  local self = setmetatable({
    fail = fail, slots = {}, counts = {}, total = 0, orphans = 0, queue = {}, leases = {}, leased = 0, ended = {},
    max = options.max_connections, balance = options.balance, coming = options, state = "starting", current = nil, seq = 0, last_time = 0,
    known = 0, dead = {}, changed_ms = 0, granted = 0, refused = 0, cancelled = 0,
    is_enduring = is_enduring, is_overloaded = false, ejected = {}, ejected_count = 0, churned = {}, limited = {},
    is_paused = false, drained = {}, drained_count = 0, excused = {}, decided = {}, decided_ms = -1,
  }, Model)
  self.evidence = Evidence.new(self, fail)
  self.evidence.has_priorities = has_priorities
  for _, state in ipairs(STATES) do self.counts[state] = 0 end
  ON.options_changed(self, { time_ms = 0 })
  return self
end


local function slot_gone(self, number, slot)
  self.slots[number] = nil
  self.total = self.total - 1
  if slot.is_orphan then self.orphans = self.orphans - 1 end
end

local function slot_come(self, event)
  local slot = { state = "free", backend = event.backend, is_removed = false, is_orphan = false }
  self.slots[event.slot] = slot
  self.total = self.total + 1
  if self.total - self.orphans > self.max then
    self.fail("slot %d was made: %d slots, %d of them orphans, max_connections is %d", event.slot, self.total, self.orphans, self.max)
  end
  if self.state == "stopping" or self.state == "stopped" then self.fail("slot %d was made by a pool that is %s", event.slot, self.state) end
  return slot
end

-- A slot came or went as planned: not too soon after the last one at this backend.
local function churn(self, event)
  local rate = self.churn_rate
  local last = self.churned[event.backend]
  if rate and last and last.rate == rate and event.time_ms < last.time_ms + 1000 / rate - 0.001 then
    self.fail("%s: a slot came or went at %.3f ms and at %.3f ms, max_churn_rate is %g", event.backend, last.time_ms, event.time_ms, rate)
  end
  self.churned[event.backend] = { time_ms = event.time_ms, rate = rate }
end

local MAY_BE_AT_DRAINED = { closing = true, free = true }

local function not_drained(self, event)
  local slot = self.slots[event.slot]
  if self.drained[event.backend] and not (slot and slot.is_removed) and not MAY_BE_AT_DRAINED[event.to] then
    self.fail("slot %d became %s, and %s is drained", event.slot, event.to, event.backend)
  end
end

function ON.slot_state(self, event)
  local number, to = event.slot, event.to
  local slot = self.slots[number]
  local from = slot and slot.state or "free"
  if from ~= event.from then self.fail("slot %d was %s, not %s as the event says", number, from, event.from) end
  if not MAY_BECOME[from][to] then self.fail("slot %d became %s when %s", number, to, from) end
  not_drained(self, event)
  self.evidence:slot_state(event, slot)
  if not slot then
    slot = slot_come(self, event)
    self.evidence:slot_came(event, slot)
  end
  if slot.backend ~= event.backend then self.fail("slot %d of %s became one of %s", number, slot.backend, tostring(event.backend)) end
  if to == "connecting" then
    if slot.is_removed then self.fail("slot %d opens a connection to %s, which was removed", number, slot.backend) end
    if slot.conn == event.conn then self.fail("slot %d opens connection %d again", number, event.conn) end
    slot.conn = event.conn
  elseif (to == "idle" or to == "busy" or to == "checking" or to == "closing") and slot.conn ~= event.conn then
    self.fail("slot %d has connection %s, not %s", number, tostring(slot.conn), tostring(event.conn))
  end
  if event.cause == "plan" and from ~= "busy" then churn(self, event) end
  if from ~= "free" then self.counts[from] = self.counts[from] - 1 end
  slot.state, slot.seq = to, nil
  if to == "free" then return slot_gone(self, number, slot) end
  self.counts[to] = self.counts[to] + 1
  if to == "idle" then
    self.seq = self.seq + 1
    slot.seq = self.seq
  end
end

-- Is it lent only where no other rests?
local function is_doubtful(self, slot)
  return slot.is_suspect or self.dead[slot.backend] or false
end

--- Its connection, which rests, is lent after the others from now on.
function Model:goes_last(slot)
  self.seq = self.seq + 1
  slot.seq = self.seq
end

--- Backends that may have connections.
function Model:in_use()
  return self.known - self.drained_count
end

local function undrained(self, key)
  if not self.drained[key] then return end
  self.drained[key] = nil
  self.drained_count = self.drained_count - 1
end

function ON.backend_drained(self, event)
  if self.drained[event.backend] then self.fail("%s was drained twice", event.backend) end
  if self.dead[event.backend] or self.ejected[event.backend] then self.fail("%s is drained, and dead or ejected", event.backend) end
  self.drained[event.backend], self.limited[event.backend] = true, nil
  self.drained_count = self.drained_count + 1
  self.changed_ms = event.time_ms
end

function ON.backend_restored(self, event)
  if not self.drained[event.backend] then self.fail("%s was restored and was not drained", event.backend) end
  undrained(self, event.backend)
  self.changed_ms = event.time_ms
end

function ON.paused(self, event)
  if self.is_paused then self.fail "the pool was paused twice" end
  if event.count ~= #self.queue then self.fail("%d claims wait as the pool is paused, not %d", #self.queue, event.count) end
  self.is_paused = true
end

function ON.resumed(self, event)
  if not self.is_paused then self.fail "the pool was resumed and was not paused" end
  if event.count ~= #self.queue then self.fail("%d claims wait as the pool is resumed, not %d", #self.queue, event.count) end
  self.is_paused = false
end

function ON.shuffled(self)
  for _, slot in pairs(self.slots) do
    if slot.state == "idle" then slot.seq = 0 end -- somewhere before those that come to rest from now on
  end
end

local function members_change(self, event, by)
  self.known = self.known + by
  undrained(self, event.backend)
  self.dead[event.backend] = nil -- in the place of one that was, if it is added under its key
  self.churned[event.backend] = nil
  if self.ejected[event.backend] then
    self.ejected[event.backend] = nil
    self.ejected_count = self.ejected_count - 1
  end
  self.changed_ms = event.time_ms
end

function ON.backend_ejected(self, event)
  if self.ejected[event.backend] then self.fail("%s was ejected twice", event.backend) end
  self.ejected[event.backend] = true
  self.ejected_count = self.ejected_count + 1
  local in_use = self:in_use()
  local most = math.max(1, math.floor(self.max_ejected * in_use))
  if self.ejected_count > most then self.fail("%d of %d backends are ejected, not %d at most", self.ejected_count, in_use, most) end
  local dead = 0
  for _ in pairs(self.dead) do dead = dead + 1 end
  if self.ejected_count + dead >= in_use then self.fail("%s was the last that lived, and was ejected", event.backend) end
end

function ON.backend_returned(self, event)
  if not self.ejected[event.backend] then self.fail("%s returned and was not ejected", event.backend) end
  self.ejected[event.backend] = nil
  self.ejected_count = self.ejected_count - 1
end

function ON.overloaded(self)
  if self.is_paused then self.fail "a pool that is paused is overloaded" end
  self.is_overloaded = true
end
function ON.relieved(self) self.is_overloaded = false end

function ON.backend_added(self, event)
  members_change(self, event, 1)
  self.limited[event.backend] = nil
  self.evidence:backend_added(event)
end

function ON.backend_dead(self, event)
  self.dead[event.backend], self.limited[event.backend] = true, nil
  self.evidence:backend_dead(event)
end

function ON.backend_limited(self, event) self.limited[event.backend] = true end

function ON.backend_revived(self, event)
  self.dead[event.backend] = nil
  self.evidence:backend_revived(event)
  self.seq = self.seq + 1
  for _, slot in pairs(self.slots) do -- those that were in doubt for that come after those that were not, in the pool's own order
    if slot.backend == event.backend and slot.state == "idle" and not slot.is_removed then slot.seq = self.seq end
  end
end

function ON.backend_removed(self, event)
  members_change(self, event, -1)
  for _, slot in pairs(self.slots) do
    if slot.backend == event.backend and not slot.is_removed then
      slot.is_removed = true
      if slot.state == "busy" then
        slot.is_orphan = true
        self.orphans = self.orphans + 1
      end
    end
  end
end

-- A slot that is given at once is the one whose turn it is; `seq` is what it had at rest. Of those in doubt any may be next.
local function check_turn(self, number, seq)
  local slot = self.slots[number]
  local in_doubt = is_doubtful(self, slot)
  if slot.may_be_suspect and not in_doubt then return end -- nobody can say what turn it had
  for place, other in pairs(self.slots) do
    local is_better = other.seq and not other.may_be_suspect and not is_doubtful(self, other)
    if is_better and in_doubt then self.fail("slot %d, which is in doubt, was given before one that is not", number) end
    local is_before = is_better and (self.balance == "fifo" and other.seq < seq or self.balance == "lifo" and other.seq > seq)
    if is_before then self.fail("slot %d was given (%s) before slot %d, whose turn it was", number, self.balance, place) end
  end
end

-- Of a claim that waited it was decided what it gets; its claimer may give it up in that very moment, before it hears of that.
local function decided(self, event, claimer, counter)
  if self.decided_ms ~= event.time_ms then self.decided, self.decided_ms = {}, event.time_ms end
  self.decided[event.claim] = { claimer = claimer, counter = counter }
end

local function lend(self, event)
  local number, slot = event.slot, self.slots[event.slot]
  if not slot or slot.state ~= "busy" then return self.fail("slot %d was granted when %s", number, slot and slot.state or "free") end
  if slot.lease then self.fail("slot %d is on lease %d and was granted as %d", number, slot.lease, event.lease) end
  if self.is_paused then self.fail("slot %d was granted in a pause", number) end
  if self.drained[slot.backend] and not slot.is_removed then self.fail("slot %d was granted, and %s is drained", number, slot.backend) end
  if slot.conn ~= event.conn then self.fail("slot %d: connection %d was granted, it has %d", number, event.conn, slot.conn) end
  if self.leases[event.lease] or self.ended[event.lease] then self.fail("lease %d was given twice", event.lease) end
  self.evidence:lent(slot, number)
  slot.lease = event.lease
  self.leases[event.lease] = number
  self.leased = self.leased + 1
  self.granted = self.granted + 1
end

function ON.claim_granted(self, event)
  local claimer = self.current
  if event.claim then
    local turn = self.is_overloaded and self.queue_order == "adaptive_lifo" and #self.queue or 1
    local first = self.queue[turn]
    if not first or first.claim ~= event.claim then
      return self.fail("claim %d was granted; the turn is that of %s", event.claim, first and tostring(first.claim) or "none")
    end
    table.remove(self.queue, turn)
    claimer = first.claimer
    if event.time_ms >= claimer.deadline_ms then
      self.fail("claim %d was granted at %.6f ms, its deadline was %.6f", event.claim, event.time_ms, claimer.deadline_ms)
    end
    decided(self, event, claimer, "granted")
  else
    if #self.queue > 0 then self.fail("a claim was granted at once while %d wait", #self.queue) end
    if not claimer then return self.fail("a claim was granted at once that nobody made") end
    if self.turn then check_turn(self, event.slot, self.turn) end
  end
  claimer.expected, claimer.expected_lease = "granted", event.lease
  lend(self, event)
end

function ON.claim_waiting(self, event)
  if event.count ~= #self.queue then self.fail("claim %d: %d are ahead, not %d", event.claim, #self.queue, event.count) end
  if not self.current then return self.fail("claim %d waits, and nobody made it", event.claim) end
  if #self.queue >= (self.coming.max_waiters or math.huge) then
    self.fail("claim %d waits behind %d others, max_waiters is %d", event.claim, #self.queue, self.coming.max_waiters)
  end
  self.queue[#self.queue + 1] = { claim = event.claim, claimer = self.current }
end

local function unqueue(self, claim)
  for index, entry in ipairs(self.queue) do
    if entry.claim == claim then return table.remove(self.queue, index).claimer end
  end
end

local REFUSED_IN_PAUSE = { claim_timeout = true, paused = true, no_backends = true, pool_stopping = true }

function ON.claim_refused(self, event)
  local claimer = self.current
  self.refused = self.refused + 1
  if event.claim then
    claimer = unqueue(self, event.claim)
    if not claimer then return self.fail("claim %d was refused and did not wait", event.claim) end
    if event.error == "claim_timeout" and math.abs(event.time_ms - claimer.deadline_ms) > 0.00001 then
      self.fail("claim %d timed out at %.6f ms, its deadline was %.6f", event.claim, event.time_ms, claimer.deadline_ms)
    end
    decided(self, event, claimer, "refused")
  elseif not claimer then
    return self.fail("a claim was refused at once that nobody made")
  end
  if self.is_paused and not REFUSED_IN_PAUSE[event.error] then self.fail("a claim was refused in a pause: %s", event.error) end
  if event.error == "paused" and not self.is_paused then self.fail "a claim was told of a pause that there is not" end
  local by_policy = self.is_enduring and event.claim ~= nil
  if event.error == "overloaded" and not by_policy and #self.queue < (self.coming.max_waiters or math.huge) then
    self.fail("a claim was refused as one too many when %d waited", #self.queue)
  end
  claimer.expected = event.error
end

function ON.claim_cancelled(self, event)
  local claimer, before = unqueue(self, event.claim), self.decided_ms == event.time_ms and self.decided[event.claim]
  self.cancelled = self.cancelled + 1
  if not claimer and before then -- the pool counts what it told
    claimer, self.decided[event.claim] = before.claimer, nil
    self[before.counter] = self[before.counter] - 1
  end
  if not claimer then return self.fail("claim %d was cancelled and did not wait", event.claim) end
  claimer.expected = "cancelled"
end

function ON.lease_ended(self, event)
  local number = self.leases[event.lease]
  local slot = number and self.slots[number]
  if not slot or number ~= event.slot or slot.lease ~= event.lease then
    return self.fail("lease %d of slot %d ended and did not live", event.lease, event.slot)
  end
  self.evidence:lease_ended(event, slot)
  slot.lease = nil
  self.leases[event.lease] = nil
  self.leased = self.leased - 1
  self.ended[event.lease] = event.cause
end

function ON.options_changed(self, event)
  local coming = self.coming
  self.max, self.balance, self.queue_order = coming.max_connections, coming.balance, coming.queue
  self.churn_rate, self.max_ejected = coming.max_churn_rate, coming.outlier and coming.outlier.max_ejected or self.max_ejected
  self.evidence.has_check = self.coming_check
  self.evidence:options_changed(coming, event.time_ms)
end

function ON.pool_state(self, event)
  if self.state ~= event.from or not POOL_MAY_BECOME[event.from][event.to] then
    self.fail("the pool became %s (was %s) when %s", event.to, event.from, self.state)
  end
  self.state = event.to
  if event.to == "stopping" then self.is_paused = false end
end

--- What pool:subscribe calls.
function Model:on(event)
  if self.coverage then
    local what = event.kind .. (event.from and " " .. event.from .. " > " .. event.to or "")
      .. (event.cause and ": " .. event.cause or "") .. (event.error and ": " .. event.error or "")
    self.coverage[what] = (self.coverage[what] or 0) + 1
  end
  if event.missed then self.fail("%d events were missed", event.missed) end
  if event.time_ms < self.last_time then self.fail("an event of %.6f ms came after one of %.6f", event.time_ms, self.last_time) end
  self.last_time = event.time_ms
  -- Becoming busy comes before the grant and forgets the place at rest.
  if event.kind == "slot_state" and event.to == "busy" and event.from == "idle" then
    local slot = self.slots[event.slot]
    self.turn = slot and slot.seq
    ON.slot_state(self, event)
    return
  end
  if ON[event.kind] then ON[event.kind](self, event) end
  self.turn = nil
end

--- There are as many slots as there may be, wherever there is a backend that lives: a plan gives them all away, but for the places
-- left for dead backends that are tried in turn, and for what a backend does not take.
-- @param delay_ms how long a plan may wait after the backends changed
function Model:check_full(now_ms, delay_ms)
  if self.state == "stopping" or self.state == "stopped" or now_ms <= self.changed_ms + delay_ms or self.is_enduring then return end
  local dead = 0
  for _ in pairs(self.dead) do dead = dead + 1 end
  local least = self.max - math.min(dead, self.evidence:probes_max())
  if dead < self:in_use() and self.total - self.orphans < least and next(self.limited) == nil then
    self.fail("only %d slots, %d of them orphans, with %d backends alive; max_connections is %d", self.total, self.orphans,
      self:in_use() - dead, self.max)
  end
end

--- Connections that are open as far as the pool knows.
function Model:connected()
  return self.counts.idle + self.counts.busy + self.counts.checking
end

return Model
