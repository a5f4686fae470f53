--- Who holds the connections of a pool, who waits for one, and where they are now.
--
-- A lease is known by its slot in the core, and who claimed it by pool.holders; where that one is now is read from its stack
-- (cueball.pool.whereabouts) when somebody asks.
local native = require "cueball.native"
local deadlock = require "cueball.pool.deadlock"
local options = require "cueball.options"
local whereabouts = require "cueball.pool.whereabouts"
local lib = native.lib

local holders = {}

local BUSY = tonumber(lib.CUEBALL_SLOT_BUSY)
local LIMIT = 1000      -- of a list, where nobody says otherwise
local TREE_LIMIT = 20   -- of each list of a tree
local TREE_DEPTH = 4    -- pools that wait for one another
local RESCAN_NS = 10e6  -- the oldest lease is looked for anew so often at most

-- ------------------------------------------------------------------ leases --

-- Of each slot with a lease that is out: { slot, handle, since }, oldest first; slots that began at once in order.
local function busy_slots(pool)
  local list, index, room = {}, 0, pool.core.slot
  while pool.core:slot_at(index) do
    if room.state == BUSY and room.lease ~= 0 then
      list[#list + 1] = { slot = tonumber(room.slot), handle = tonumber(room.lease), since = tonumber(room.since) }
    end
    index = index + 1
  end
  table.sort(list, function(a, b)
    if a.since ~= b.since then return a.since < b.since end
    return a.slot < b.slot
  end)
  return list
end

-- The coroutines of who holds this slot's lease. Where a host knows its claimers by numbers, those that wait for a claim are known.
local function threads_of(holder)
  if type(holder) == "number" then
    local claim = deadlock.wait_of(holder)
    return claim and claim.thread and { claim.thread } or {}
  end
  return whereabouts.threads(holder)
end

-- The line that claimed the lease: as it was noted, or as the stack of pool:with has it.
local function site_of(pool, one, threads)
  local noted = pool.leaks.sites[one.slot]
  if noted then return noted end
  return whereabouts.of_with(threads, function(value)
    return rawget(value, "handle") == one.handle and rawget(value, "pool") == pool
  end)
end

local function owner_of(pool, slot)
  local tag = pool.leaks.tags[slot]
  local owner = tag and tag.owner
  return owner and owner.number and ("owner %d"):format(owner.number) or nil
end

-- Who claimed a lease, in words; nil: code outside of tasks.
local function task_of(pool, one, is_ours, holder)
  if is_ours then return whereabouts.name(holder) end
  return pool.threaded and pool.threaded:holder(one.slot, one.handle) or nil
end

-- What is told of one lease. The thread that has a lease of a pool for threads is asked for by its slot.
local function lease_of(pool, one, with_where)
  local is_ours = pool.lent[one.slot] == one.handle
  local holder = nil
  if is_ours then holder = pool.holders[one.slot] end
  local threads, backend = threads_of(holder), pool.slot_backends[one.slot]
  local held_ms = math.max(0, (pool.now() - one.since) / 1e6)
  return {
    id = one.handle, slot = one.slot, backend = backend and backend.key or "?", held_ms = held_ms,
    site = is_ours and site_of(pool, one, threads) or nil, at = whereabouts.line(threads),
    task = task_of(pool, one, is_ours, holder),
    owner = is_ours and owner_of(pool, one.slot) or nil,
    where = with_where and whereabouts.traceback(threads) or nil,
    is_overdue = pool.leak_warning_ms ~= nil and held_ms >= pool.leak_warning_ms,
    waits_for = deadlock.wait_of(holder) and deadlock.wait_of(holder).pool.name or nil,
  }
end

local RULES = { limit = options.whole(1, 1000000), where = options.of_type("boolean", "true or false") }

local function read(what, given)
  given = options.check(what, given, RULES)
  return given.limit or LIMIT, given.where ~= false
end

-- `list.more` is no member of the list: pairs does not see it, and so JSON has an array.
local function with_more(list, more)
  return setmetatable(list, { __index = { more = more } })
end

--- The leases that are out, the oldest first.
-- @param given nil, or a table:
--   limit  how many at most, 1000 by default
--   where  false: without the tracebacks
-- @return a list of { id, slot, backend, held_ms, site, at, task, owner, where, is_overdue, waits_for }; its field `more` says how many
--   are left out, 0 mostly
function holders.leases(pool, given)
  local limit, with_where = read("pool:leases", given)
  local busy, list = busy_slots(pool), {}
  for index = 1, math.min(limit, #busy) do list[index] = lease_of(pool, busy[index], with_where) end
  return with_more(list, #busy - #list)
end

-- ------------------------------------------------------------------ waiters --

-- The claims that wait, in the order in which they came; of a set's pool the set's own are left out.
local function waiting_claims(pool)
  local list = {}
  for user, one in pairs(pool.waiting) do
    if one.began and not one.is_answered and one.pool == pool then list[#list + 1] = { user = user, claim = one } end
  end
  table.sort(list, function(a, b) return a.user < b.user end)
  return list
end

-- What each claimer holds, in any pool of the process: { [holder] = list of { pool, id, backend } }.
local function held_by(pools)
  local held = {}
  for _, pool in ipairs(pools) do
    for _, one in ipairs(busy_slots(pool)) do
      local holder = pool.lent[one.slot] == one.handle and pool.holders[one.slot] or nil
      if holder ~= nil then
        local backend = pool.slot_backends[one.slot]
        held[holder] = held[holder] or {}
        table.insert(held[holder], { pool = pool.name, id = one.handle, backend = backend and backend.key or "?" })
      end
    end
  end
  return held
end

local function waiter_of(pool, number, claim, held, with_where)
  local holder = claim.holder
  local threads = claim.thread and { claim.thread } or whereabouts.threads(holder)
  local holds, elsewhere, now = {}, {}, pool.now()
  for _, one in ipairs(holder ~= nil and held[holder] or {}) do
    if one.pool == pool.name then holds[#holds + 1] = one.id else elsewhere[#elsewhere + 1] = one end
  end
  return {
    number = number, id = claim.handle, waited_ms = math.max(0, (now - claim.began) / 1e6),
    remaining_ms = claim.deadline < math.huge and math.max(0, (claim.deadline - now) / 1e6) or nil,
    site = claim.site or whereabouts.line(threads), task = whereabouts.name(holder),
    where = with_where and whereabouts.traceback(threads) or nil, holds = holds, holds_elsewhere = elsewhere,
  }
end

--- The claims that wait, in the order of the queue.
-- @param given as for pool:leases
-- @return a list of { number, id, waited_ms, remaining_ms, site, task, where, holds = ids of leases of this pool that the same task holds,
--   holds_elsewhere = list of { pool, id, backend } }; its field `more` says how many are left out, those of threads among them
function holders.waiters(pool, given)
  local limit, with_where = read("pool:waiters", given)
  local claims, list = waiting_claims(pool), {}
  local held = #claims > 0 and held_by(require("cueball.pool.registry").pools()) or {}
  for index = 1, math.min(limit, #claims) do
    list[index] = waiter_of(pool, index, claims[index].claim, held, with_where)
  end
  pool.core:stats()
  return with_more(list, math.max(pool.core.numbers.waiting, #claims) - #list)
end

-- --------------------------------------------------------------------- tree --

local function span(ms)
  if ms < 10000 then return ("%.4g ms"):format(ms) end
  return ("%.1f s"):format(ms / 1000)
end

local function who(name, site, at)
  local words = name and " by " .. name or ""
  if site then words = words .. ", claimed at " .. site end
  if at and at ~= site then words = words .. ", now at " .. at end
  return words
end

-- What is known of a lease, in words: "held 5.2 s by task 3, claimed at app.lua:12, now at app.lua:19".
local function lease_words(one)
  local owner = one.owner and (" (%s)"):format(one.owner) or ""
  return ("held %s%s%s"):format(span(one.held_ms), who(one.task, one.site, one.at), owner)
end

local function waiter_words(one)
  local limit = one.remaining_ms and (" of %s"):format(span(one.waited_ms + one.remaining_ms)) or ""
  local words = ("claim %d has waited %s%s%s"):format(one.number, span(one.waited_ms), limit, who(one.task, one.site))
  local held = #one.holds + #one.holds_elsewhere
  return held > 0 and ("%s, and holds %d lease%s meanwhile"):format(words, held, held == 1 and "" or "s") or words
end

local function more_line(lines, indent, more)
  if more > 0 then lines[#lines + 1] = ("%s… %d more"):format(indent, more) end
end

local function counted(number, noun)
  return ("%d %s%s"):format(number, noun, number == 1 and "" or "s")
end

-- Adds the lines of one pool, and below a lease whose holder waits for a claim those of that claim's pool.
local function grow(lines, pool, limit, indent, seen)
  local waiters, leases = holders.waiters(pool, { limit = limit, where = false }), {}
  local busy = busy_slots(pool)
  lines[#lines + 1] = ("%s%s: %s, %s"):format(indent, pool.name,
    counted(#waiters + waiters.more, "claim") .. (#waiters + waiters.more == 1 and " waits" or " wait"), counted(#busy, "lease"))
  for _, one in ipairs(waiters) do lines[#lines + 1] = indent .. "  " .. waiter_words(one) end
  more_line(lines, indent .. "  ", waiters.more)
  seen[pool] = true
  for index = 1, math.min(limit, #busy) do
    local one = lease_of(pool, busy[index], false)
    leases[index] = one
    lines[#lines + 1] = ("%s  lease %.0f on %s: %s"):format(indent, one.id, one.backend, lease_words(one))
    local claim = deadlock.wait_of(pool.holders[one.slot])
    if claim and seen[claim.pool] then
      lines[#lines + 1] = ("%s    which waits for a claim on %s, see there"):format(indent, claim.pool.name)
    elseif claim and #indent / 4 < TREE_DEPTH then
      lines[#lines + 1] = ("%s    which waits for a claim on"):format(indent)
      grow(lines, claim.pool, limit, indent .. "    ", seen)
    end
  end
  more_line(lines, indent .. "  ", #busy - #leases)
end

--- Who waits, and who holds what they wait for, as a text: under a lease whose holder itself waits for another pool, that one.
-- @param given nil, or { limit = waiters and leases of each pool, 20 by default }
function holders.tree(pool, given)
  given = options.check("pool:tree", given, { limit = RULES.limit })
  local lines = {}
  grow(lines, pool, given.limit or TREE_LIMIT, "", {})
  return table.concat(lines, "\n")
end

-- ------------------------------------------------------------------- oldest --

-- The lease that has been out for longest. As long as it is out no other one can be that, so it is looked for only once it has come back.
local function oldest_of(pool)
  local known, now, room = pool.oldest_lease, pool.now(), pool.core.slot
  if known then
    local is_out = known.slot and pool.core:slot_at(known.slot) and room.state == BUSY and tonumber(room.lease) == known.handle
    if is_out then return known end
    if now - known.looked_at < RESCAN_NS and now >= known.looked_at then return nil end
  end
  local found = busy_slots(pool)[1] or {}
  found.looked_at = now
  pool.oldest_lease = found
  return found.slot and found or nil
end

--- The lease that has been out for longest, in words; nil: none is.
-- @param slot, at  nil; or of a lease since when it is out, in nanoseconds: another one, which was out already then
function holders.oldest(pool, slot, at)
  local one = oldest_of(pool)
  if not one or slot and (one.slot == slot or one.since > at) then return nil end
  local told = lease_of(pool, one, false)
  return ("the oldest lease, on %s, is %s"):format(told.backend, lease_words(told))
end

return holders
