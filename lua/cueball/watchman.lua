--- Looks after leases that do not come back: those that were collected without
-- release, and those held for too long.
--
-- A lease is known here by a weak reference only.  When one is collected while
-- its slot is still leased, nobody can release it any more: it is closed, and
-- said in the log with the place that claimed it, where that was noted.  It is
-- looked for after a garbage collection, which a small object with a finalizer
-- tells of; a finalizer may run anywhere, so it does no more than that.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local watchman = {}

local WEAK = { __mode = "v" }

local function listen_to_the_collector(told)
  ffi.gc(ffi.new "char[1]", function()
    local self = told.self
    if not self then return end
    self.has_collected = true
    listen_to_the_collector(told)
  end)
end

--- Makes the watchman of a pool.
function watchman.new(pool)
  local self = {
    pool = pool,
    leases = setmetatable({}, WEAK), -- by slot
    handles = {},                    -- by slot: the lease's, while it is out
    since = {}, sites = {}, warned = {},
    has_collected = false,
    alarm = nil,
  }
  listen_to_the_collector(setmetatable({ self = self }, WEAK))
  return self
end

--- Where the claimer stands: "file:line".
-- @param level of debug.getinfo, as seen from the caller
function watchman.site(level)
  for at = level + 1, level + 8 do
    local info = debug.getinfo(at, "Sl")
    if not info then return nil end
    if info.currentline > 0 and not info.short_src:find "lua/cueball/[%w_]+%.lua$" then
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

--- The lease on this slot is out.
-- @param site where it was claimed, or nil
function watchman.lent(self, slot, handle, lease, site)
  self.leases[slot], self.handles[slot] = lease, handle
  self.sites[slot] = site
  if self.pool.leak_warning_ms then
    self.since[slot], self.warned[slot] = self.pool.now(), nil
    watchman.arm(self)
  end
end

--- It is back.
function watchman.back(self, slot, handle)
  if self.handles[slot] == handle then self.handles[slot], self.leases[slot] = nil, nil end
end

--- Closes what was collected without release.  Called after a collection, outside of any finalizer.
function watchman.sweep(self)
  self.has_collected = false
  for slot, handle in pairs(self.handles) do
    if self.leases[slot] == nil then
      self.handles[slot] = nil
      if lib.cueball_pool_lease_closed(self.pool.core, self.pool.now(), handle) >= 0 then
        self.pool:log("error", describe(self, slot) .. " was collected without having been released; its connection is closed")
      end
    end
  end
end

local function warn(self)
  local limit = self.pool.leak_warning_ms
  if not limit then return end
  local now, is_out = self.pool.now(), false
  for slot in pairs(self.handles) do
    local held_ms = self.since[slot] and (now - self.since[slot]) / 1e6 or 0
    is_out = is_out or not self.warned[slot]
    if held_ms >= limit and not self.warned[slot] then
      self.warned[slot] = true
      self.pool:log("warn", ("%s has been held for %.6g ms"):format(describe(self, slot), held_ms))
    end
  end
  self.is_armed = false
  if is_out then watchman.arm(self) end
end

--- Looks again before long, if leases are to be warned about.
function watchman.arm(self)
  if self.is_armed or self.pool.is_over then return end
  self.is_armed = true
  self.alarm = self.alarm or self.pool.host.alarm(function() warn(self) end)
  self.alarm:set(self.pool.now() + self.pool.leak_warning_ms / 4 * 1e6)
end

function watchman.close(self)
  if self.alarm then self.alarm:close() end
  self.alarm, self.is_armed = nil, true
end

return watchman
