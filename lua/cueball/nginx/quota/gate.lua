--- What stands between a pool's resolver and the core while the pool shares its connections with other workers.
--
-- Two things the core does that one token for each connection does not allow:
-- - it has one connection at least. With no token there may be none: the core is told of no backends then, and opens nothing;
-- - leases of a backend that was removed do not count: others are opened in their stead. So the ceiling is lowered first.
local native = require "cueball.native"
local ffi = native.ffi

local gate = {}

local Gate = {}
Gate.__index = Gate

--- @param pool      of cueball.pool, without backends yet
-- @param following the listener behind the gate, which tells the core (cueball.resolver.sink says what a listener is)
-- @param lower     function(leaving): sees to it that the leases of those backends, a set of keys, are counted
function gate.new(pool, following, lower)
  return setmetatable({ pool = pool, following = following, lower = lower, known = {}, order = {}, is_open = false }, Gate)
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
function Gate:orphans(leaving)
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
function Gate:holds_back()
  return not self.is_open and #self.order > 0
end

--- Tells the core of the backends there are, or of none.
function Gate:set(is_open)
  if self.is_open == is_open then return end
  self.is_open = is_open
  local backends = {}
  for index = 1, is_open and #self.order or 0 do backends[index] = self.known[self.order[index]] end
  self.following:replaced(backends)
end

-- ------------------------------------------------------------------- facts --

local function has_moved(self, backend)
  local known = self.known[backend.key]
  return known ~= nil and (known.address ~= backend.address or known.port ~= backend.port)
end

-- Backends are about to go, or to get another address.
local function make_room(self, leaving)
  if self.is_open and next(leaving) then self.lower(leaving) end
end

function Gate:added(backend)
  make_room(self, has_moved(self, backend) and { [backend.key] = true } or {})
  local ok, message, name = true, nil, nil
  if self.is_open then ok, message, name = self.following:added(backend) end
  if ok then remember(self, backend) end
  return ok, message, name
end

function Gate:removed(key)
  if not self.known[key] then return nil, "no backend has the key", "not_found" end
  make_room(self, { [key] = true })
  local ok, message, name = true, nil, nil
  if self.is_open then ok, message, name = self.following:removed(key) end
  if ok then forget(self, key) end
  return ok, message, name
end

function Gate:replaced(backends)
  local stays, leaving = {}, {}
  for _, backend in ipairs(backends) do stays[backend.key] = not has_moved(self, backend) end
  for key in pairs(self.known) do
    if not stays[key] then leaving[key] = true end
  end
  make_room(self, leaving)
  local ok, message, name = true, nil, nil
  if self.is_open then ok, message, name = self.following:replaced(backends) end
  if not ok then return nil, message, name end
  self.known, self.order = {}, {}
  for _, backend in ipairs(backends) do remember(self, backend) end
  return true
end

return gate
