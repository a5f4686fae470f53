--- What stands between a pool's resolver and the core while the pool shares its connections with other workers.
--
-- Two things the core does that one token for each connection does not allow:
-- - it has one connection at least. With no token there may be none: the core is told of no backends then, and opens nothing;
-- - leases of a backend that was removed do not count: others are opened in their stead. So the ceiling is lowered first.
local address = require "cueball.address"
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local gate = {}

local Gate = {}
Gate.__index = Gate

--- @param pool of cueball.pool, without backends yet
function gate.new(pool)
  return setmetatable({ pool = pool, known = {}, order = {}, is_open = false }, Gate)
end

local function remember(self, spec)
  local backend = address.from_spec(spec)
  if not self.known[backend.key] then self.order[#self.order + 1] = backend.key end
  self.known[backend.key] = backend
end

local function forget(self, key)
  self.known[key] = nil
  for index, other in ipairs(self.order) do
    if other == key then return table.remove(self.order, index) end
  end
end

-- The same, once the core is told of it.
local function replace(self, specs, count)
  self.known, self.order = {}, {}
  for index = 0, count - 1 do remember(self, specs[index]) end
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

--- Tells the core of the backends there are, or of none.
function Gate:set(is_open)
  if self.is_open == is_open then return end
  self.is_open = is_open
  local count = is_open and #self.order or 0
  local specs = ffi.new("cueball_backend_spec[?]", count)
  for index = 1, count do
    local backend, spec = self.known[self.order[index]], specs[index - 1]
    spec.key, spec.name, spec.address = backend.key, backend.name, backend.address
    spec.port, spec.weight, spec.priority = backend.port, backend.weight, backend.priority
  end
  self.pool:tell("backends_replaced", specs, count)
end

-- Those known that a fact takes away, or gives another address.
local function taken_by(self, fact, first, count)
  if fact == "backend_removed" then return { [first] = true } end
  local given, taken = {}, {}
  if fact == "backend_added" then
    given[ffi.string(first.key)] = address.from_spec(first)
  else
    for index = 0, count - 1 do given[ffi.string(first[index].key)] = address.from_spec(first[index]) end
  end
  for key, backend in pairs(self.known) do
    local now = given[key]
    if now and (now.address ~= backend.address or now.port ~= backend.port)
      or not now and fact == "backends_replaced" then
      taken[key] = true
    end
  end
  return taken
end

--- A fact about backends on its way to the core.
-- @param lower function(leaving): sees to it that the leases of those backends are counted
-- @return what the core says
function Gate:pass(lower, fact, ...)
  local first, count = ...
  if fact == "backend_removed" and not self.known[first] then return lib.CUEBALL_ENOT_FOUND end
  if self.is_open then
    local taken = taken_by(self, fact, first, count)
    if next(taken) then lower(taken) end
  end
  local result = 0
  if self.is_open then result = self.pool:tell(fact, ...) end
  if result < 0 and result ~= lib.CUEBALL_EEXISTS then return result end
  if fact == "backend_removed" then
    forget(self, first)
  elseif fact == "backend_added" then
    remember(self, first)
  else
    replace(self, first, count)
  end
  return result
end

return gate
