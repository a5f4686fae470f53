--- The backends of a pool that shares its connections with other workers: all that the resolver has named, and whether the core is told
-- of them. A listener (cueball.resolver.sink) between the two.
--
-- Two things the core does that one token for each connection does not allow:
-- - the core has one connection at least. With no token there may be none: the core is told of no backends then, and opens nothing;
-- - leases of a backend that was removed do not count: others are opened in their stead. So the ceiling is lowered first.
local native = require "cueball.native"
local ffi = native.ffi

local backends = {}

local Backends = {}
Backends.__index = Backends

--- @param pool      of cueball.pool, without backends yet
-- @param following the listener behind this one, which tells the core
-- @param lower     function(leaving): sees to it that the leases of those backends, a set of keys, are counted
function backends.new(pool, following, lower)
  return setmetatable({ pool = pool, following = following, lower = lower, known = {}, order = {}, are_told = false }, Backends)
end

local function remember(self, backend)
  if not self.known[backend.key] then self.order[#self.order + 1] = backend.key end
  self.known[backend.key] = backend
end

local function forget(self, key)
  self.known[key] = nil
  for index, other in ipairs(self.order) do
    if other == key then return table.remove(self.order, index) end
  end
end

--- How many connections there are beyond the core's ceiling: leased when their backends were removed.
-- @param leaving nil; or a set of keys that are about to be removed
function Backends:orphans(leaving)
  local core, count, index = self.pool.core, 0, 0
  local info = core.info
  while core:backend_at(index) do
    if info.removed then
      count = count + info.total
    elseif leaving and leaving[ffi.string(info.key)] then
      count = count + info.busy
    end
    index = index + 1
  end
  return count
end

--- Whether there are backends, though the core is told of none.
function Backends:holds_back()
  return not self.are_told and #self.order > 0
end

--- Tells the core of the backends there are, or of none.
function Backends:tell(are_told)
  if self.are_told == are_told then return end
  self.are_told = are_told
  local list = {}
  for index = 1, are_told and #self.order or 0 do list[index] = self.known[self.order[index]] end
  self.following:replaced(list)
end

-- ------------------------------------------------------------------- facts --

local function has_moved(self, backend)
  local known = self.known[backend.key]
  return known ~= nil and (known.address ~= backend.address or known.port ~= backend.port)
end

-- Backends are about to go, or to get another address.
local function make_room(self, leaving)
  if self.are_told and next(leaving) then self.lower(leaving) end
end

function Backends:added(backend)
  make_room(self, has_moved(self, backend) and { [backend.key] = true } or {})
  local ok, message, name = true, nil, nil
  if self.are_told then ok, message, name = self.following:added(backend) end
  if ok then remember(self, backend) end
  return ok, message, name
end

function Backends:removed(key)
  if not self.known[key] then return nil, "no backend has the key", "not_found" end
  make_room(self, { [key] = true })
  local ok, message, name = true, nil, nil
  if self.are_told then ok, message, name = self.following:removed(key) end
  if ok then forget(self, key) end
  return ok, message, name
end

function Backends:replaced(list)
  local stays, leaving = {}, {}
  for _, backend in ipairs(list) do stays[backend.key] = not has_moved(self, backend) end
  for key in pairs(self.known) do
    if not stays[key] then leaving[key] = true end
  end
  make_room(self, leaving)
  local ok, message, name = true, nil, nil
  if self.are_told then ok, message, name = self.following:replaced(list) end
  if not ok then return nil, message, name end
  self.known, self.order = {}, {}
  for _, backend in ipairs(list) do remember(self, backend) end
  return true
end

return backends
