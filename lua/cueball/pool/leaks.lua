--- Leases that do not come back: those that were collected without release, and those held for too long.
--
-- Each open connection has a small table, its tag. The pool holds it while the connection is at rest, the lease alone while it is lent;
-- here it is known by a weak reference only. So when both are gone the lease was collected, and nobody can release it any more: it is
-- closed, and the log says so, with the line that claimed it, where that was noted. The lease itself is referred to by nobody, so that
-- LuaJIT need not make it (see cueball.pool.lease).
--
-- Collected leases are looked for after a garbage collection, of which a small object with a finalizer tells; a finalizer may run anywhere,
-- so it does no more than set a flag. While leases are out an alarm looks at the flag within a second, so that claims that wait for a
-- forgotten connection, and a stop, need not wait for another input.
--
-- Owners that were dropped are found in the same way: a lease refers to its owner, so that an owner which is collected has no lease.
local ffi = require "ffi"

local leaks = {}

local LOOK_NS = 1e9

local WEAK = { __mode = "v" }
local OURS = debug.getinfo(1, "S").source:match "^(.*)pool/leaks%.lua$" -- no line of these files is named as who claimed

local function listen_to_the_collector(told)
  ffi.gc(ffi.new "char[1]", function()
    local self = told.self
    if not self then return end
    self.has_collected = true
    listen_to_the_collector(told)
  end)
end

--- Makes pool.leaks, which does not keep the pool: see cueball.pool.cleanup.
function leaks.open(pool)
  local reference = pool.reference
  local self = setmetatable({
    tags = setmetatable({}, WEAK), -- of each open connection, by slot
    lent_since = {}, sites = {}, warned = {}, -- by slot, of leases that are out, where they are noted
    has_collected = false, -- the garbage collector has run since the last sweep
    is_looking = false,    -- an alarm is set that looks for what was collected
    alarm = nil, is_armed = false,
    looks = nil, -- that alarm
    owners = {}, owner_objects = setmetatable({}, WEAK), owners_made = 0, -- by number: the core's owners, and those of the Lua side
  }, { __index = function(_, name) return name == "pool" and reference.pool or nil end }) -- see cueball.pool.cleanup
  listen_to_the_collector(setmetatable({ self = self }, WEAK))
  pool.leaks = self
end

--- A connection was opened.
-- @param tag its own, of cueball.pool.lease
function leaks.opened(self, slot, tag)
  self.tags[slot] = tag
end

-- Whether leases are out, or owners are not gone.
local function has_to_look(self)
  if next(self.owners) then return true end
  local pool = self.pool
  if not pool.detects_leaks then return false end
  for slot in pairs(pool.lent) do
    if not pool.tags[slot] then return true end
  end
  return false
end

--- Looks within a second for what was collected, and again while there is something to look for.
function leaks.look(self)
  local pool = self.pool
  if pool.is_over then return end
  self.is_looking = true
  self.looks = self.looks or pool.host.alarm(function()
    local of = self.pool
    if not of then return end
    if self.has_collected then of:pump() end
    self.is_looking = false
    if has_to_look(self) then leaks.look(self) end
  end)
  self.looks:set(pool.now() + LOOK_NS)
end

--- An owner was made.
-- @return the owner's number
function leaks.owner_made(self, owner, core)
  local number = self.owners_made + 1
  self.owners_made, self.owners[number], self.owner_objects[number] = number, core, owner
  if not self.is_looking then leaks.look(self) end
  return number
end

--- The owner of this number is gone.
function leaks.owner_gone(self, number)
  self.owners[number] = nil
end

--- Where pool:claim was called: "file:line"; nil if that is too far up the stack.
function leaks.site()
  for level = 2, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.currentline > 0 and not (OURS and info.source:sub(1, #OURS) == OURS) then
      return ("%s:%d"):format(info.short_src, info.currentline)
    end
  end
end

local function describe(self, slot)
  local backend = self.pool.slot_backends[slot]
  local site = self.sites[slot] and "claimed at " .. self.sites[slot]
    or "claimed at a place that was not noted (option claim_sites notes it)"
  return ("a lease on %s, %s,"):format(backend and backend.key or "a backend", site)
end

-- The same for programs.
local function facts_of(self, slot)
  local backend = self.pool.slot_backends[slot]
  return { backend = backend and backend.key, slot = slot, site = self.sites[slot] }
end

--- Notes a lease on this slot that is out.
-- @param site where it was claimed, or nil
function leaks.lent(self, slot, site)
  self.sites[slot], self.lent_since[slot], self.warned[slot] = site, self.pool.now(), nil
  if self.pool.leak_warning_ms then leaks.arm(self) end
end

--- The lease on this slot is over.
function leaks.back(self, slot)
  self.sites[slot], self.lent_since[slot] = nil, nil
end

-- Ends the owners that were collected: nobody can call owner:gone() any more.
local function sweep_owners(self)
  local dropped = {}
  for number in pairs(self.owners) do
    if not self.owner_objects[number] then dropped[#dropped + 1] = number end
  end
  if #dropped == 0 then return end
  table.sort(dropped)
  for _, number in ipairs(dropped) do
    self.pool.core:owner_gone(self.owners[number])
    self.owners[number] = nil
  end
  self.pool.core:time_advanced(self.pool.now())
end

--- Closes leases that were collected without release, and ends owners that were dropped. Called after a garbage collection, outside of any
-- finalizer.
function leaks.sweep(self)
  self.has_collected = false
  sweep_owners(self)
  local pool = self.pool
  if not pool.detects_leaks then return end
  local lost = {}
  for slot in pairs(pool.lent) do
    if not pool.tags[slot] and not self.tags[slot] then lost[#lost + 1] = slot end
  end
  table.sort(lost)
  for _, slot in ipairs(lost) do
    if pool.core:lease_closed(pool.now(), pool.lent[slot]) >= 0 then
      pool:log("error", describe(self, slot) .. " was collected without having been released; its connection is closed",
        "lease_collected", facts_of(self, slot))
      leaks.back(self, slot)
    end
  end
end

-- Whether the noted lease on this slot is out still: the pool may have taken it back.
local function is_out(self, slot)
  return self.pool.lent[slot] ~= nil and self.lent_since[slot] ~= nil
end

local function warn(self)
  self.is_armed = false
  local pool = self.pool
  if not pool then return end
  local limit = pool.leak_warning_ms
  if not limit then return end
  local now, are_out = pool.now(), false
  for slot, since in pairs(self.lent_since) do
    if is_out(self, slot) and not self.warned[slot] then
      local held_ms = (now - since) / 1e6
      if held_ms >= limit then
        self.warned[slot] = true
        local facts = facts_of(self, slot)
        facts.held_ms = held_ms
        pool:log("warn", ("%s has been held for %.6g ms"):format(describe(self, slot), held_ms), "lease_overdue", facts)
      else
        are_out = true
      end
    end
  end
  if are_out then leaks.arm(self) end
end

--- Sets the alarm that warns of leases held for too long.
function leaks.arm(self)
  if self.is_armed or self.pool.is_over then return end
  self.is_armed = true
  self.alarm = self.alarm or self.pool.host.alarm(function() warn(self) end)
  self.alarm:set(self.pool.now() + self.pool.leak_warning_ms / 4 * 1e6)
end

--- The option leak_warning_ms has changed: an alarm set for the time before may come too late.
function leaks.limit_changed(self)
  if self.alarm and self.is_armed then self.alarm:clear() end
  self.is_armed = false
  if self.pool.leak_warning_ms and next(self.lent_since) then leaks.arm(self) end
end

--- Leases are not noted any more.
function leaks.forget(self)
  self.lent_since, self.sites, self.warned = {}, {}, {}
end

function leaks.close(self)
  if self.alarm then self.alarm:close() end
  if self.looks then self.looks:close() end
  self.alarm, self.is_armed, self.looks = nil, true, nil
end

return leaks
