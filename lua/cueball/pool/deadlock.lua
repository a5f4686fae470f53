--- Claims that can never be served: every lease that they wait for is held by a task that itself waits for a claim, over any
-- number of pools of this process. A deadlock is looked for when a claim begins to wait, since it is complete when the last of them does.
--
-- The happy path: the claim's pool has a lease whose task does not wait, and that is all there is to look at.
-- A claim is refused only if nothing can free a connection before its own time limit:
--   * its pool has all the connections that it may have, and all of them are leased;
--   * each of these leases was claimed by a task that waits for a claim now, that can still reach the lease (cueball.pool.reach), and
--     no task that goes on has the lease in hand: a lease that was handed on, be it in a table, is another's to release;
--   * the same is so for the claims that these tasks wait for, and none of them has a time limit that ends before;
--   * no task that goes on has the owner of one of these claims or leases in hand, and might end it.
local reach = require "cueball.pool.reach"

local deadlock = {}

local WORDS_MAX = 3   -- links of a chain that a message tells

-- The claims that wait, by who claims (a task of the host, a coroutine, or a number that stands for one).  Claimers hold them, and
-- not this table: a request of nginx ends without telling anybody. A number may be another coroutine's by then, which has not the lease in
-- hand.
local waiting = setmetatable({}, { __mode = "kv" })

-- The claim that a holder of a lease waits for; nil: the holder does not wait.
local function wait_of(holder)
  local claim = holder ~= nil and waiting[holder] or nil
  return claim and not claim.is_answered and claim or nil
end

--- The same, for others.
-- @return the claim: { pool =, thread =, began =, … }, or nil
deadlock.wait_of = wait_of

-- How many leases are of backends that were removed: the pool may have other connections besides them.
local function removed_of(pool)
  local count = 0
  for _, backend in ipairs(pool:backends()) do
    if backend.removed then count = count + backend.total end
  end
  return count
end

-- Whether the pool has all connections that it may have, and all of them are leased.
local function is_exhausted(pool)
  pool.core:stats()
  local stats = pool.core.numbers
  local total = stats.total
  if stats.busy == 0 or stats.busy ~= total then return false end
  return total - removed_of(pool) >= pool:max_connections()
end

-- Where the leases of a claim's task are looked for: its coroutine, and the one that runs if the task is asking just now.
local function threads_of(claim)
  local holder = claim.holder
  local own = claim.thread or type(holder) == "thread" and holder or type(holder) == "table" and holder.co or nil
  if not claim.is_asking then return { own } end
  return { true, own }
end

-- Whether a task that goes on has this in hand: a lease to release, an owner to end.
local function is_elsewhere(host, is_it)
  for task in pairs(host.living()) do
    if task.co and not wait_of(task) and task ~= host.current() and reach.has(task.co, is_it) then return true end
  end
  return false
end

local function is_owner_elsewhere(host, owner)
  return is_elsewhere(host, function(value) return value == owner end)
end

-- is_owner_elsewhere is a function of its own, since LuaJIT compiles no function in which a function is made.
local function may_be_ended(host, owner)
  if owner == nil then return false end
  return is_owner_elsewhere(host, owner)
end

-- Whether one of the pool's leases is held by somebody who does not wait.
local function goes_on(pool)
  local holders = pool.holders
  for slot in next, pool.lent do
    if not wait_of(holders[slot]) then return true end
  end
  return false
end

-- Whether the task that waits for `claim` has this in hand itself, and not in a table only.
local function has_in_hand(claim, is_it)
  for _, thread in ipairs(threads_of(claim)) do
    if reach.has(thread == true and coroutine.running() or thread, is_it) then return true end
  end
  return false
end

-- Whether a task that goes on can reach this through tables that it refers to.
local function is_within_reach(host, is_it, is_opaque)
  local others = {}
  for task in pairs(host.living()) do
    if task.co and not wait_of(task) and task ~= host.current() then others[#others + 1] = task.co end
  end
  return #others > 0 and reach.finds(others, is_it, is_opaque)
end

-- Whether the task that waits for `claim` holds this lease still, and nobody else does. A lease that is in a table, and not in hand as
-- well, may be meant for whoever refers to that table.
local function holds(claim, pool, slot)
  local handle, host, Pool = pool.lent[slot], pool.host, getmetatable(pool)
  local owner
  local function is_lease(value)
    local is_it = rawget(value, "handle") == handle and rawget(value, "pool") == pool and rawget(value, "connection") ~= nil
    if is_it then owner = value.tag.owner end
    return is_it
  end
  local function is_opaque(value)
    return getmetatable(value) == Pool or value == host or value == host.tasks or rawget(value, "handle") ~= nil
  end
  if not reach.finds(threads_of(claim), is_lease, is_opaque) then return false end
  if is_elsewhere(host, is_lease) or may_be_ended(host, owner) then return false end
  return has_in_hand(claim, is_lease) or not is_within_reach(host, is_lease, is_opaque)
end

-- The claims that this one waits for: a list of { slot =, claim = }; nil: a connection may come free by itself.
local function blockers_of(claim)
  local pool = claim.pool
  if not pool.detects_deadlocks or goes_on(pool) or may_be_ended(pool.host, claim.owner) then return nil end
  local list = {}
  for slot in pairs(pool.lent) do list[#list + 1] = { slot = slot, claim = wait_of(pool.holders[slot]) } end
  if #list == 0 or not is_exhausted(pool) then return nil end
  if #list < pool.core.numbers.busy then return nil end -- others than tasks have the rest: threads
  for _, one in ipairs(list) do
    if not holds(one.claim, pool, one.slot) then return nil end
  end
  table.sort(list, function(a, b) return a.slot < b.slot end)
  return list
end

-- Whether the pool lets claims wait as long as they want: a queue that refuses claims by itself frees what its claimers hold.
local function keeps_its_claims(pool)
  return (pool.given.queue or "fifo") == "fifo"
end

-- All that the claim waits for, directly or not; nil: the claim may be served.
local function closure_of(claim)
  local own = blockers_of(claim)
  if not own then return nil end
  local blockers, order, index = { [claim] = own }, { claim }, 1
  while index <= #order do
    for _, one in ipairs(blockers[order[index]]) do
      local blocker = one.claim
      if not blockers[blocker] then
        -- The blocker's time limit ends before that of the claim: its task goes on then, and may release.
        if blocker.deadline < claim.deadline or not keeps_its_claims(blocker.pool) then return nil end
        blockers[blocker] = blockers_of(blocker)
        if not blockers[blocker] then return nil end
        order[#order + 1] = blocker
      end
    end
    index = index + 1
  end
  return blockers
end

local function site_words(site)
  return site and " at " .. site or ""
end

-- The message: from the claim, from lease to claim, until a claim comes again.
local function words_of(claim, blockers)
  local words, seen, at = {}, {}, claim
  while not seen[at] and #words < WORDS_MAX do
    seen[at] = true
    local pool, one = at.pool, blockers[at][1]
    local backend, site = pool.slot_backends[one.slot], pool.leaks.sites[one.slot]
    local again = one.claim == claim and "this claim" or ("a claim on %s%s"):format(one.claim.pool.name, site_words(one.claim.site))
    words[#words + 1] = ("%s is leased (%s%s) by a task that waits for %s"):format(backend and backend.key or "a connection",
      pool.name, site and ", claimed at " .. site or "", again)
    at = one.claim
  end
  return ("deadlock: the claim on %s%s can never be served: %s%s"):format(claim.pool.name, site_words(claim.site),
    table.concat(words, "; "), seen[at] and "" or "; and so on")
end

--- A claim begins to wait.
-- @param claim { pool =, holder = who claims (a number where the host tells coroutines by one; nil: nobody known),
--   deadline = ns or math.huge, site = }
-- @return a message if it can never be served; else nil, and the claim counts as waiting until deadlock.wait_ended(claim)
function deadlock.wait_began(claim)
  local holder = claim.holder
  if holder == nil then return nil end
  if type(holder) == "number" then claim.thread = coroutine.running() end
  rawset(waiting, holder, claim) -- raw, since LuaJIT would look for what the metatable says of it
  local pool = claim.pool
  if not pool.detects_deadlocks or not keeps_its_claims(pool) then return nil end
  local slot = next(pool.lent)
  if slot and not wait_of(pool.holders[slot]) then return nil end -- the happy path
  claim.is_asking = true
  local blockers = closure_of(claim)
  claim.is_asking = false
  if not blockers then return nil end
  waiting[holder] = nil
  return words_of(claim, blockers)
end

--- The claim waits no longer.
function deadlock.wait_ended(claim)
  local holder = claim.holder
  if holder == nil or waiting[holder] ~= claim then return end
  -- A task that waits again and again keeps its key in the table. A number would stay for ever.
  if type(holder) == "number" then waiting[holder] = nil else rawset(waiting, holder, false) end
end

return deadlock
