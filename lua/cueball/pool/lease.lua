--- A lease: one connection, for one claimer, until it comes back.
--
-- A lease is a fresh, small table for each claim, so that one which came back can never mean somebody else's; where it does not outlive a
-- compiled trace LuaJIT makes no table at all. It has four fields: a fifth would cost as much as eight.
--
-- pool.lent, pool.tags and pool.holders are written here only.
local explain = require "cueball.pool.explain"
local faults = require "cueball.pool.faults"
local holders = require "cueball.pool.holders"
local leaks = require "cueball.pool.leaks"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local text = require "cueball.text"
local getmetatable, setmetatable, rawset = getmetatable, setmetatable, rawset

local lease = {}

local Lease = {}
Lease.__index = Lease

lease.methods = Lease -- the class of leases

function lease.open(pool)
  pool.lent = {}   -- by slot: the handle of its last lease, while its connection is open
  pool.tags = {} -- by slot: a small table for each open connection, false while it is leased, see cueball.pool.leaks
  pool.holders = setmetatable({}, { __mode = "v" }) -- by slot: who claimed its last lease, see cueball.pool.deadlock
end

--- A connection was opened.
-- @return the connection's tag: { slot =, owner = of the lease that is out, plain and lost = see cueball.pool.perform }
function lease.opened(pool, slot)
  local tag = { slot = slot, owner = nil, plain = nil, lost = nil }
  pool.tags[slot] = tag
  leaks.opened(pool.leaks, slot, tag)
  return tag
end

--- The connection of this slot is to be closed.
function lease.closed(pool, slot)
  pool.lent[slot] = nil
end

--- The lease on this slot is over for its claimer, though the pool does not count it as released yet.
-- @param tag of the connection
function lease.returned(pool, slot, tag)
  tag.owner = nil
  pool.tags[slot] = tag
  rawset(pool.holders, slot, nil)
  if pool.notes_sites then leaks.back(pool.leaks, slot) end
end

--- The connection of this slot is about to be lent, and is watched no longer.
function lease.lend_connection(pool, slot)
  local connection, factory, socket = pool.opened[slot], pool.factories[slot], pool.sockets[slot]
  if socket then socket:lend() end
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end
end

--- The connection of this slot, which is not watched any more, is lent.
-- @param holder who claimed it
-- @return it, and its tag
function lease.lend(pool, slot, handle, holder)
  local connection, tag = pool.opened[slot], pool.tags[slot]
  pool.lent[slot] = handle
  -- Set raw: the table is weak, and LuaJIT would look for what its metatable says of it.
  rawset(pool.holders, slot, holder)
  if pool.detects_leaks then
    pool.tags[slot] = false -- only the lease holds it now; a key that comes and goes has LuaJIT make the table anew
    local looked_for = pool.leaks
    if not looked_for.is_looking then leaks.look(looked_for) end
  end
  return connection, tag
end

--- A lease on the connection of this slot, which is not watched any more.
function lease.new(pool, slot, handle)
  local connection, tag = lease.lend(pool, slot, handle, pool.claimer())
  -- In brackets: LuaJIT gives up on code that ends with a call of such a function.
  return (setmetatable({ pool = pool, tag = tag, handle = handle, connection = connection }, Lease))
end

--- A lease on a connection that was lent to a claim that waited.
-- @param began, waited  since when, and for how long, in nanoseconds
function lease.after_wait(pool, tag, handle, connection, began, waited, ahead)
  return (setmetatable({
    pool = pool, tag = tag, handle = handle, connection = connection,
    waited_ms = waited / 1e6, ahead = ahead, wait_parts = explain.noted(pool, began, waited),
    dead = faults.has_dead(pool) and faults.dead(pool) or nil,
  }, Lease))
end

-- Whether the slot still has the connection of this lease: the pool may have taken that back, and opened another one there.
local function is_current(self)
  return self.pool.lent[self.tag.slot] == self.handle
end

local function stale()
  return nil, "the lease is over: it was released, closed or taken back before", "stale"
end

-- The end of a release. A function of its own, as the connection may have been parked by a function in C: LuaJIT compiles nothing that
-- follows such a call in the same function.
local function released(self, pool, tag, connection)
  local slot = tag.slot
  self.tag = nil
  if tag.owner then tag.owner = nil end
  local result = pool.core:lease_released(pool.now(), self.handle)
  if result >= 0 then
    pool.tags[slot] = tag
    if pool.notes_sites then leaks.back(pool.leaks, slot) end
  end
  local outlook = pool.core.outlook
  if outlook.actions ~= 0 or outlook.deadline < pool.alarm_at or outlook.events ~= 0 then pool:hand_over() end
  if result < 0 then
    if pool.parking then pool.parking.close(pool, slot, connection) end
    return stale()
  end
  return true
end

--- Gives the connection back for the next claimer.  If its factory finds it
-- broken, it is replaced instead.
-- @return true; or nil, message, "stale"
function Lease:release()
  if getmetatable(self) ~= Lease then misuse.colon("lease:release") end
  local pool, connection, tag = self.pool, self.connection, self.tag
  if connection == nil then return stale() end
  self.connection = nil
  local slot = tag.slot
  if pool.lent[slot] == self.handle then -- is_current
    if tag.plain then
      pool:inspect_plain(slot, tag)
    elseif not (pool.parking and pool.parking.put(pool, slot, connection)) and pool:inspect(slot, connection) then
      self.tag = nil
      return pool:clean(slot, tag, connection, self.handle)
    end
  end
  return released(self, pool, tag, connection)
end

-- @param how "lease_closed" or "lease_failed"
local function discard(self, how, counted)
  local pool, tag = self.pool, self.tag
  if pool.parking then pool.parking.close(pool, tag.slot, self.connection) end
  self.connection, self.tag = nil, nil
  local core = pool.core
  local result = core[how](core, pool.now(), self.handle)
  if result >= 0 then
    if pool.notes_sites then leaks.back(pool.leaks, tag.slot) end
    if counted then counted(pool, tag.slot) end
  end
  pool:pump()
  if result < 0 then return stale() end
  return true
end

--- Closes the connection: it is of no more use, and that is nobody's fault. If its factory or its socket knows better, the core is told: a
-- backend that closed it before it delivered a byte has lost it, one that did not answer in time has failed a lease, one that delivered has
-- worked.
-- @return true; or nil, message, "stale"
function Lease:close()
  if getmetatable(self) ~= Lease then misuse.colon("lease:close") end
  if self.connection == nil then return stale() end
  local pool, slot = self.pool, self.tag.slot
  local socket = pool.sockets[slot] or pool.parking and pool.parking.socket(pool, slot)
  -- Where connections are parked, one without a socket was not taken.
  if (socket or not pool.parking) and is_current(self) then pool:inspect_closed(slot, self.connection, socket) end
  return discard(self, "lease_closed")
end

--- Closes the connection, and holds it against its backend.
-- @param message what went wrong; becomes pool:last_error()
-- @return true; or nil, message, "stale"
function Lease:fail(message)
  if getmetatable(self) ~= Lease then misuse.colon("lease:fail") end
  if self.connection == nil then return stale() end
  return discard(self, "lease_failed", function(pool, slot)
    faults.note(pool, pool.slot_backends[slot].key, text.message(message or "a claimer failed the lease"))
  end)
end

--- Says how the lease went, before it ends; the last report counts. Without a report a lease went well if it is released.
-- @param went_well false: what was answered is a failure of the backend, though the connection may be fit: for `outlier` and p2c.
--   true: it went well, though the connection will be closed
-- @return true; or nil, message, "stale"
function Lease:report(went_well)
  if type(went_well) ~= "boolean" then
    misuse.raise("lease:report: expected true (it went well) or false, got " .. options.show(went_well))
  end
  if self.connection == nil then return stale() end
  if self.pool:input("lease_reported", self.handle, went_well) < 0 then return stale() end
  return true
end

--- How long the lease may still take, by the deadline_ms of its claim or the timeout_ms of pool:with.
-- @return milliseconds, 0 at least; math.huge: there is no deadline
function Lease:remaining_ms()
  if not self.deadline then return math.huge end
  return math.max(0, (self.deadline - self.pool.now()) / 1e6)
end

--- The backend of the connection: { key, name, address, port, weight }; nil once the lease is over.
function Lease:backend()
  return self.connection ~= nil and is_current(self) and self.pool.slot_backends[self.tag.slot] or nil
end

local ALL_BUSY = { busy = true, growing = true, churn = true } -- reasons

-- Who else has a connection since before this lease was granted, as it had to wait for that: "; the oldest lease, on …".
local function other_holder(self, waits)
  local pool, is_asked = self.pool, false
  for _, part in ipairs(waits) do is_asked = is_asked or ALL_BUSY[part.reason] == true end
  if not is_asked or self.connection == nil or pool.of_set or not is_current(self) then return "" end
  local slot = self.tag.slot
  local oldest = pool.core:slot_at(slot) and holders.oldest(pool, slot, tonumber(pool.core.slot.since))
  return oldest and "; " .. oldest or ""
end

--- Why the lease took so long to get, and who has another connection since before it was granted.
-- @return a sentence; and a list of { reason =, ms = }, in order, whose ms add up to the wait
function Lease:explain()
  local waits = explain.listed(self.wait_parts, self.waited_ms)
  if not waits or #waits == 0 then return "granted at once", {} end
  return ("waited %.6g ms (%d ahead): %s%s%s"):format(self.waited_ms, self.ahead, explain.text(waits), other_holder(self, waits),
    self.dead and "; dead: " .. faults.text(self.dead) or ""), waits
end

function Lease:__tostring()
  local backend = self:backend()
  return ("cueball.lease (%s, %s)"):format(self.pool.name, backend and backend.key or "over")
end

misuse.guard(Lease, "lease", { "remaining_ms", "report", "backend", "explain" })

return lease
