--- Claims: how a lease is got from a pool, at once or after a wait.
--
-- pool.waiting is written here only.
local misuse = require "cueball.misuse"
local condition = require "cueball.pool.condition"
local native = require "cueball.native"
local options = require "cueball.options"
local owner = require "cueball.pool.owner"
local deadlock = require "cueball.pool.deadlock"
local leaks = require "cueball.pool.leaks"
local leases = require "cueball.pool.lease"
local scope = require "cueball.pool.scope"
local lib, ffi = native.lib, native.ffi
-- LuaJIT looks up what is in a module's table at each call, and knows what is in a local.
local tonumber = tonumber
local new_lease = leases.new

local CLAIM_TIMEOUT = tonumber(lib.CUEBALL_ECLAIM_TIMEOUT)

-- Where hosts cannot suspend the claimer.
local CANNOT_WAIT = "pool:claim: no connection is idle, and a claim cannot wait here: inside a function that C code calls "
  .. "(a comparison of table.sort, a replacement of string.gsub), or in a coroutine that its host does not know"

local NO_WAIT = { timeout_ms = 0 }

local WAITING = 1 -- CUEBALL_WAITING

local claim = {}

local Claim = {}
Claim.__index = Claim

function claim.open(pool)
  -- Claims that wait, and the set that does, by the number that the core knows the claim by. Where claimers may end without telling
  -- anybody (requests of nginx), the table is weak: a claim goes with its claimer.
  pool.waiting = setmetatable({}, pool.parking and { __mode = "v" } or nil)
end

-- The claimer goes on when the host comes to it.
local function wake(self)
  self.is_answered = true
  if self.task then
    self.pool.host.tasks:wake(self.task)
  elseif self.waiter then
    self.waiter:wake()
  end
end

-- The core has granted the claim. What the lease is made of is noted, and the claimer makes it: LuaJIT compiles only so much in one piece,
-- and releases come here.
function Claim:grant(slot, handle, waited, ahead)
  self.lent, self.tag = leases.lend(self.pool, slot, handle, self.holder)
  self.lease, self.waited, self.ahead = handle, waited, ahead
  wake(self)
end

-- The lease that was granted; nil: none was.
local function lease_of(self)
  if not self.lease then return nil end
  return (leases.after_wait(self.pool, self.tag, self.lease, self.lent, self.began, self.waited, self.ahead))
end

-- The core has refused the claim.
function Claim:answer(_, message, name)
  self.message, self.name = message, name
  wake(self)
end

-- For host.guard: the claimer's task was killed, and nobody will take the answer.
function Claim:abort()
  local pool = self.pool
  deadlock.wait_ended(self)
  if self.owner then owner.claim_ended(self.owner, self) end
  if self.lease then
    lease_of(self):release()
  elseif not self.is_answered then
    pool.waiting[self.user] = nil
    pool:input("claim_cancelled", self.handle)
  end
end

--- The claim's owner is gone, and the core has forgotten the claim.
function Claim:disowned()
  if self.is_answered then return end
  self.pool.waiting[self.user] = nil
  self:answer(nil, "the claim's owner is gone", "cancelled")
end

local CLAIM_RULES = {
  timeout_ms = options.TIMEOUT,
  deadline_ms = options.number(0.001, 86400000, "milliseconds"),
  error_on_empty = options.of_type("boolean", "true or false"),
  owner = { check = owner.is, range = "of pool:owner()" },
}
options.note("pool:claim", CLAIM_RULES)
options.note("pool:with", CLAIM_RULES)

-- The options of the claim that is made just now: the core reads them within the call.
local cdata = ffi.new "cueball_claim_options"

-- The options of try_claim.
local at_once = ffi.new("cueball_claim_options", { timeout_ms = lib.CUEBALL_NO_WAIT })

local last_user = 0 -- claims have numbers of their own, over all pools

local function next_user()
  last_user = last_user + 1
  return last_user
end

-- Writes the options of a claim into `cdata`.
-- @return the owner that was given, or nil
local function read_claim_options(pool, given, who)
  if given == nil then
    cdata.timeout_ms, cdata.error_on_empty = 0, false
    cdata.owner = pool.parking and pool.parking.owner(pool, who) or nil
    return nil
  end
  options.check("pool:claim", given, CLAIM_RULES)
  local timeout = given.timeout_ms
  cdata.timeout_ms = timeout == nil and 0 or timeout == false and math.huge or timeout > 0 and timeout or lib.CUEBALL_NO_WAIT
  cdata.error_on_empty = given.error_on_empty and not (pool.quota and pool.quota:knows_backends()) or false
  local claimer = given.owner
  if claimer and (claimer.pool ~= pool or not claimer.core) then
    misuse.raise("pool:claim: option 'owner' is of another pool, or gone")
  end
  local present = pool.parking and pool.parking.owner(pool, who) or nil
  cdata.owner = claimer and claimer.core or present
  return claimer
end

-- Pumps if the core wants something done, or its deadline is before the alarm.
local function pump_if_asked(pool)
  local outlook = pool.core.outlook
  if outlook.actions ~= 0 or outlook.deadline < pool.alarm_at or outlook.events ~= 0 then pool:pump() end
end

-- The granted connection was lost at rest, and the event loop had no time to say so: the lease is closed before anybody has it.
local function take_back(pool, slot, handle, message, kind)
  pool:unfit(slot, message, kind)
  pool.core:lease_closed(pool.now(), handle)
  pool:pump()
end

-- Lends the granted connection, if it is fit still.
-- → nil if it is; or message, kind
local function lend(pool, slot)
  local socket = pool.sockets[slot]
  if socket then
    local message, kind = condition.at_claim(socket)
    if message then return message, kind end
  end
  leases.lend_connection(pool, slot)
  return nil
end

-- → a lease; nil if its connection turned out to be lost: then the claim is to be made again
local function granted(pool, claimer, now)
  local grant = pool.core.grant
  local slot, handle = grant.slot, tonumber(grant.lease)
  local plain = pool.tags[slot].plain
  local message, kind
  if plain then message, kind = plain:lend_fit(now) else message, kind = lend(pool, slot) end
  if message then return take_back(pool, slot, handle, message, condition.kind_at_claim(kind)) end
  local lease = new_lease(pool, slot, handle)
  if claimer then lease.tag.owner = claimer end
  if pool.notes_sites then leaks.lent(pool.leaks, slot, leaks.site()) end
  pump_if_asked(pool)
  return lease
end

-- When the claim is refused for its time limit, as host.now() counts.
local function deadline_of(pool, now, timeout_ms)
  if timeout_ms == 0 then timeout_ms = pool.given.claim_timeout_ms or math.huge end
  return timeout_ms < math.huge and now + timeout_ms * 1e6 or math.huge
end

-- Takes back a claim that can never be served.
local function refuse_deadlock(made, message)
  made:abort()
  return nil, message, "deadlock"
end

-- Has the claimer wait, if the answer is not there yet.
local function sleep(self, host)
  if self.is_answered then return end
  self.waiter = host.waiter()
  self.waiter:wait()
end

-- The same of a task of cueball's own scheduler, which may wait as host.can_wait said.
local function sleep_in_task(self, tasks)
  if self.is_answered then return end
  self.task = tasks.running
  tasks:suspend(self.task)
end

-- The claim is over and has been heard of: it may be used for the next wait of its task, and keeps nothing until then.
local function rest(self, of_task)
  self.pool, self.holder, self.task, self.waiter = false, nil, false, false
  self.lease, self.tag, self.lent = false, false, false
  if self.message then self.message, self.name = nil, nil end
  if self.owner then self.owner = nil end
  if self.site then self.site = nil end
  of_task.claim = self
end

-- A claim that waits: the one that this task waited with before, where there is one.
local function claim_for_wait(pool, of_task)
  local made = of_task and of_task.claim
  if made then
    of_task.claim = false
  else
    made = setmetatable({ -- false where nil would do: LuaJIT makes no room for that
      pool = false, user = 0, handle = 0, task = false, waiter = false, owner = nil, began = 0, deadline = 0,
      is_answered = false, lease = false, tag = false, lent = false, waited = 0, ahead = 0, message = nil, name = nil,
      site = nil, holder = nil, thread = false, is_asking = false,
    }, Claim)
  end
  made.pool, made.holder, made.handle, made.is_answered = pool, pool.claimer(), tonumber(pool.core.grant.claim), false
  if pool.notes_sites then made.site = leaks.site() end
  return made
end

-- Waits where the claimer is no task but a request: the host tells of its end by its owner, so that nothing is to be guarded.
local function wait_unguarded(pool, made)
  if pool.leaks.has_collected then pool:pump() else pump_if_asked(pool) end
  sleep(made, pool.host)
  return true
end

-- Waits for the answer, in a task or, if of_task is nil, elsewhere.
-- @return false if its claimer cannot wait
local function wait(pool, made, of_task)
  local host = pool.host
  if of_task then
    of_task.waits = made
  elseif not pcall(host.guard, made) then
    return false
  end
  if pool.leaks.has_collected then pool:pump() else pump_if_asked(pool) end
  local can_wait = true
  if of_task and host.tasks then
    sleep_in_task(made, host.tasks)
  else
    can_wait = pcall(sleep, made, host)
  end
  if of_task then of_task.waits = false else host.unguard(made) end
  return can_wait
end

-- Parks the claimer until the core has an answer.
local function await(pool, user, claimer, now)
  local of_task = scope.of_task(pool)
  local made = claim_for_wait(pool, of_task)
  made.user, made.began, made.deadline = user, now, deadline_of(pool, now, cdata.timeout_ms)
  if claimer then made.owner = claimer end
  if not pool.host.can_wait() then
    made:abort()
    misuse.raise(CANNOT_WAIT)
  end
  pool.waiting[user] = made
  if claimer then owner.claim_began(claimer, made) end
  local never = deadlock.wait_began(made)
  if never then return refuse_deadlock(made, never) end
  local is_request = pool.parking and pool.host.task() == nil
  local can_wait
  if is_request then can_wait = wait_unguarded(pool, made) else can_wait = wait(pool, made, of_task) end
  deadlock.wait_ended(made)
  if claimer then owner.claim_ended(claimer, made) end
  if not can_wait then
    made:abort()
    misuse.raise(CANNOT_WAIT)
  end
  local lease, message, name = lease_of(made), made.message, made.name
  if of_task then rest(made, of_task) end
  return lease, message, name
end

-- `who` is what the claimer called, for the refusal of phases without sockets.
local claim_for
function claim_for(pool, given, who)
  local claimer = read_claim_options(pool, given, who)
  local may_wait = pool.parking or pool.host.current() ~= nil -- where connections are parked, parking.owner has asked for the phase
  local wanted_ms = cdata.timeout_ms
  if not may_wait then cdata.timeout_ms = lib.CUEBALL_NO_WAIT end
  local user = next_user()
  cdata.user = user
  local now = pool.now()
  local result = pool.core:claim(now, cdata)
  if result == 0 then
    local lease = granted(pool, claimer, now)
    if lease then return lease end
    return claim_for(pool, given, who)
  end
  if result == WAITING then return await(pool, user, claimer, now) end
  pool:pump()
  if result == CLAIM_TIMEOUT and not may_wait and wanted_ms >= 0 and (wanted_ms > 0 or pool.given.claim_timeout_ms ~= 0) then
    misuse.raise("pool:claim: no connection is idle, and only a task can wait for one: call it inside cueball.run or cueball.spawn")
  end
  return nil, pool:refusal(result, 0, 0)
end

-- The same options with a wait of at most `span_ms`.
local function wait_within(pool, given, span_ms)
  local wait_ms = given.timeout_ms
  if wait_ms == nil then wait_ms = pool.given.claim_timeout_ms end
  return options.merge(given, { timeout_ms = math.min(wait_ms or math.huge, span_ms) })
end

--- What pool:claim does with a deadline: the wait and all that is done with the lease have so long together.
-- @param span_ms    milliseconds from now
-- @param who     what was called, for messages
function claim.make_within(pool, given, span_ms, who)
  local deadline = pool.now() + span_ms * 1e6
  options.check("pool:claim", given, CLAIM_RULES)
  local lease, message, name = claim.make(pool, wait_within(pool, given, span_ms), who)
  if not lease then return nil, message, name end
  lease.deadline = deadline
  local slot = lease.tag.slot
  local socket = pool.sockets[slot] or pool.parking and pool.parking.socket(pool, slot)
  if socket and socket.limit then
    socket:limit(deadline, pool.now)
  else
    local factory = pool.factories[slot]
    local limit = (factory.given or factory).limit
    if limit then pool:guarded("limit", limit, lease.connection, deadline) end
  end
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
function claim.make(pool, given, who)
  if pool.parking then return pool.parking.claim(pool, given, claim_for, who) end
  return claim_for(pool, given, who)
end

--- What pool:try_claim does.
function claim.try(pool)
  if pool.parking then return pool.parking.claim(pool, NO_WAIT, claim_for, "pool:try_claim") end
  local now = pool.now()
  local result = pool.core:claim(now, at_once)
  if result == 0 then
    local lease = granted(pool, nil, now)
    if lease then return lease end
    return claim.try(pool)
  end
  if pool.leaks.has_collected then pool:pump() end
  pump_if_asked(pool)
  if result == CLAIM_TIMEOUT then return nil, "no connection is idle", "claim_timeout" end
  return nil, pool:refusal(result, 0, 0)
end

-- ------------------------------------------------------------------ answers --

-- Takes a claim off the list of those that wait.
local function take(pool, user)
  local one = pool.waiting[user]
  pool.waiting[user] = nil
  return one
end

--- The core has granted a claim that waited.
-- @param action of the core
function claim.granted(pool, action)
  local one, slot, handle = take(pool, tonumber(action.user)), action.slot, tonumber(action.lease)
  if not one then -- its claimer ended without telling anybody
    pool.core:lease_released(pool.now(), handle)
    return
  end
  local tag = pool.tags[slot]
  if tag.plain then tag.plain:unwatch() else leases.lend_connection(pool, slot) end
  if one.owner then tag.owner = one.owner end
  if pool.notes_sites then leaks.lent(pool.leaks, slot, one.site) end
  if one.grant then one:grant(slot, handle, tonumber(action.waited), action.ahead) else one:answer(leases.new(pool, slot, handle)) end
end

--- The core has refused a claim that waited.
function claim.refused(pool, action)
  local one = take(pool, tonumber(action.user))
  if one then one:answer(nil, pool:refusal(action.error, tonumber(action.waited) / 1e6, action.ahead)) end
end

-- -------------------------------------------------------------------- a set's --

--- Claims for the set whose pool it is, without a task.
-- @param given a cueball_claim_options
-- @param asker has answer(lease, message, name), which is called when a claim that waits is answered
-- @return what the core says; and a lease, if that is 0
function claim.ask(pool, given, asker)
  local user, grant = next_user(), pool.core.grant
  given.user = user
  local result = pool.core:claim(pool.now(), given)
  if result == 0 then return result, leases.new(pool, grant.slot, tonumber(grant.lease)) end
  if result == WAITING then pool.waiting[user] = asker end
  return result
end

return claim
