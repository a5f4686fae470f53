--- Claims: how a lease is got from a pool, at once or after a wait.
local misuse = require "cueball.misuse"
local condition = require "cueball.pool.condition"
local native = require "cueball.native"
local options = require "cueball.options"
local owner = require "cueball.pool.owner"
local deadlock = require "cueball.pool.deadlock"
local watchman = require "cueball.pool.leaks"
local work = require "cueball.pool.perform"
local lib = native.lib
-- LuaJIT looks up what is in a module's table at each call, and knows what is in a local.
local tonumber = tonumber
local new_lease = work.lease

local WAITING = 1 -- CUEBALL_WAITING
local CLAIM_TIMEOUT = tonumber(lib.CUEBALL_ECLAIM_TIMEOUT)

-- Where hosts cannot suspend the claimer.
local CANNOT_WAIT = "pool:claim: no connection is idle, and a claim cannot wait here: inside a function that C code calls "
  .. "(a comparison of table.sort, a replacement of string.gsub), or in a coroutine that its host does not know"

local NO_WAIT = { timeout_ms = 0 }

local claim = {}

local Claim = {}
Claim.__index = Claim

-- The answer is here; its claimer hears it in its turn.
function Claim:answer(lease, message, name)
  self.lease, self.is_answered = lease, true
  self.waiter:wake(lease, message, name)
end

-- Its task was killed: nobody will take the answer.
function Claim:abort()
  local pool = self.pool
  deadlock.waited(self)
  if self.owner then self.owner.claims[self] = nil end
  if self.lease then
    self.lease:release()
  elseif not self.is_answered then
    pool.waiting[self.user] = nil
    pool:input("claim_cancelled", self.handle)
  end
end

local function is_timeout(value)
  return value == false or type(value) == "number" and (value >= 0 and value <= 86400000 or value == math.huge)
end

local CLAIM_RULES = {
  timeout_ms = { check = is_timeout, range = "a number of milliseconds from 0 to 86400000, or false for none" },
  deadline_ms = options.number(0.001, 86400000, "milliseconds"),
  error_on_empty = options.of_type("boolean", "true or false"),
  owner = { check = owner.is, range = "of pool:owner()" },
}

-- Writes the options of a claim where the core reads them; the owner comes back.
local function read_claim_options(self, given, who)
  local cdata = self.claim_options
  if given == nil then
    cdata.timeout_ms, cdata.error_on_empty = 0, false
    cdata.owner = self.parking and self.parking.owner(self, who) or nil
    return nil
  end
  options.check("pool:claim", given, CLAIM_RULES)
  local timeout = given.timeout_ms
  cdata.timeout_ms = timeout == nil and 0 or timeout == false and math.huge or timeout > 0 and timeout or lib.CUEBALL_NO_WAIT
  cdata.error_on_empty = given.error_on_empty and not (self.quota and self.quota:knows_backends()) or false
  local claimer = given.owner
  if claimer and (claimer.pool ~= self or not claimer.core) then
    misuse.raise("pool:claim: option 'owner' is of another pool, or gone")
  end
  local present = self.parking and self.parking.owner(self, who) or nil
  cdata.owner = claimer and claimer.core or present
  return claimer
end

-- Does what the core wants done, if it wants anything.
local function pump_if_asked(self)
  local outlook = self.core.outlook
  if outlook.actions ~= 0 or outlook.deadline < self.alarm_at or outlook.events ~= 0 then self:pump() end
end

-- The connection of this lease was lost at rest, and the event loop has not had the time to say so: it goes back before anybody had it.
local function take_back(self, slot, handle, message, kind)
  self:unfit(slot, message, kind)
  self.core:lease_closed(self.now(), handle)
  self:pump()
end

-- The connection that was granted is about to be lent, if it is fit still.
-- → nil if so; or message, kind
local function lend(self, slot)
  local socket = self.sockets[slot]
  if socket then
    local message, kind = condition.at_claim(socket)
    if message then return message, kind end
  end
  work.lend_connection(self, slot)
  return nil
end

-- → a lease; nil if its connection turned out to be lost: then another one is to be asked for
local function granted(self, claimer, now)
  local grant = self.core.grant
  local slot, handle = grant.slot, tonumber(grant.lease)
  local plain = self.places[slot].plain
  local message, kind
  if plain then message, kind = plain:lend_fit(now) else message, kind = lend(self, slot) end
  if message then return take_back(self, slot, handle, message, condition.kind_at_claim(kind)) end
  local lease = new_lease(self, slot, handle)
  if claimer then lease.place.owner = claimer end
  if self.notes_sites then watchman.lent(self.watchman, slot, watchman.site()) end
  pump_if_asked(self)
  return lease
end

-- When the claim is refused for its time limit, as host.now() counts.
local function deadline_of(self, timeout_ms)
  if timeout_ms == 0 then timeout_ms = self.given.claim_timeout_ms or math.huge end
  return self.now() + timeout_ms * 1e6
end

-- Nobody can ever serve it: it is taken back.
local function refuse_deadlock(made, message)
  made:abort()
  return nil, message, "deadlock"
end

-- Of a claimer that is no task: that of a request, whose end is told otherwise, so that nothing is to be guarded.
local function wait_unguarded(self, made)
  if self.watchman.has_collected then self:pump() else pump_if_asked(self) end
  local lease, message, name = made.waiter:wait()
  deadlock.waited(made)
  if made.owner then made.owner.claims[made] = nil end
  return lease, message, name
end

-- Parks the claimer until the core has an answer.
local function await(self, user, claimer)
  local made = setmetatable({
    pool = self, user = user, handle = tonumber(self.core.grant.claim), waiter = self.host.waiter(),
    owner = claimer, lease = false, is_answered = false, -- false where nil would do: LuaJIT makes no room for that
    site = self.notes_sites and watchman.site() or nil,
    holder = self.claimer(), thread = false, deadline = deadline_of(self, self.claim_options.timeout_ms), is_asking = false,
  }, Claim)
  if not self.host.can_wait() then
    made:abort()
    misuse.raise(CANNOT_WAIT)
  end
  self.waiting[user] = made
  if claimer then claimer.claims[made] = true end
  local never = deadlock.waits(made)
  if never then return refuse_deadlock(made, never) end
  if self.parking and self.host.task() == nil then return wait_unguarded(self, made) end
  local can_wait, lease, message, name = pcall(self.host.guard, made)
  if can_wait then
    if self.watchman.has_collected then self:pump() else pump_if_asked(self) end
    can_wait, lease, message, name = pcall(made.waiter.wait, made.waiter)
    self.host.unguard(made)
  end
  deadlock.waited(made)
  if claimer then claimer.claims[made] = nil end
  if can_wait then return lease, message, name end
  made:abort()
  misuse.raise(CANNOT_WAIT)
end

-- `who` is what the claimer called, for the refusal of phases without sockets.
local claim_for
function claim_for(self, given, who)
  local claimer = read_claim_options(self, given, who)
  local cdata = self.claim_options
  local may_wait = self.parking or self.host.current() ~= nil -- of the first the phase was asked above
  local wanted_ms = cdata.timeout_ms
  if not may_wait then cdata.timeout_ms = lib.CUEBALL_NO_WAIT end
  local user = self.next_claim
  self.next_claim = user + 1
  cdata.user = user
  local now = self.now()
  local result = self.core:claim(now, cdata)
  if result == 0 then
    local lease = granted(self, claimer, now)
    if lease then return lease end
    return claim_for(self, given, who)
  end
  if result == WAITING then return await(self, user, claimer) end
  self:pump()
  if result == CLAIM_TIMEOUT and not may_wait and wanted_ms >= 0 and (wanted_ms > 0 or self.given.claim_timeout_ms ~= 0) then
    misuse.raise("pool:claim: no connection is idle, and only a task can wait for one: call it inside cueball.run or cueball.spawn")
  end
  return nil, self:refusal(result, 0, 0)
end

-- The same options with a wait of at most `span_ms`.
local function wait_within(self, given, span_ms)
  local wait_ms = given.timeout_ms
  if wait_ms == nil then wait_ms = self.given.claim_timeout_ms end
  return options.merge(given, { timeout_ms = math.min(wait_ms or math.huge, span_ms) })
end

--- What pool:claim does with a deadline: the wait and all that is done with the lease have so long together.
-- @param span_ms    milliseconds from now
-- @param who     what was called, for messages
function claim.make_within(self, given, span_ms, who)
  local deadline = self.now() + span_ms * 1e6
  options.check("pool:claim", given, CLAIM_RULES)
  local lease, message, name = claim.make(self, wait_within(self, given, span_ms), who)
  if not lease then return nil, message, name end
  lease.deadline = deadline
  local slot = lease.place.slot
  local socket = self.sockets[slot] or self.parking and self.parking.socket(self, slot)
  if socket and socket.limit then socket:limit(deadline, self.now) end
  return lease
end

--- How long claim and lease have together by these options; nil: no limit.
-- @param timeout_counts whether timeout_ms is one for both
function claim.span(given, timeout_counts)
  if type(given) ~= "table" then return nil end
  local span_ms = given.deadline_ms
  local timeout_ms = timeout_counts and given.timeout_ms or nil
  if type(timeout_ms) == "number" and timeout_ms > 0 and timeout_ms < math.huge then
    span_ms = type(span_ms) == "number" and math.min(span_ms, timeout_ms) or span_ms or timeout_ms
  end
  return type(span_ms) == "number" and span_ms > 0 and span_ms or nil
end

--- What pool:claim does; `who` is what was called, for messages.
function claim.make(self, given, who)
  if self.parking then return self.parking.claim(self, given, claim_for, who) end
  return claim_for(self, given, who)
end

--- What pool:try_claim does.
function claim.try(self)
  if self.parking then return self.parking.claim(self, NO_WAIT, claim_for, "pool:try_claim") end
  local now = self.now()
  local result = self.core:claim(now, self.no_wait)
  if result == 0 then
    local lease = granted(self, nil, now)
    if lease then return lease end
    return claim.try(self)
  end
  if self.watchman.has_collected then self:pump() end
  pump_if_asked(self)
  if result == CLAIM_TIMEOUT then return nil, "no connection is idle", "claim_timeout" end
  return nil, self:refusal(result, 0, 0)
end

return claim
