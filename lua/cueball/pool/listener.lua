--- What a pool's resolver says: told to the core, and where each backend is known from is remembered, since the core does not keep that.
--
-- A listener is whoever a sink tells (cueball.resolver.sink). These are one behind the other: the pool's, which remembers; its quota, if
-- it has one, which may hold backends back; and the core's, which is the last.
local faults = require "cueball.pool.faults"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local listener = {}

-- Last resorts come after all others: their priority begins here.
local LAST_RESORT, PRIORITY_MAX = 32768, 65535

-- ---------------------------------------------------------------- the core's --

local Core = {}
Core.__index = Core

local function write_spec(self, backend, spec)
  spec.key, spec.name, spec.address = backend.key, backend.name, backend.address
  spec.port, spec.weight, spec.priority = backend.port, backend.weight, backend.priority
  if self.last_resorts[backend.key] then spec.priority = math.min(LAST_RESORT + backend.priority, PRIORITY_MAX) end
end

-- A result of the core's as a listener answers.
local function answer(result)
  if result >= 0 or result == lib.CUEBALL_EEXISTS then return true end
  return nil, ffi.string(lib.cueball_error_message(result)), ffi.string(lib.cueball_error_name(result))
end

--- Tells a pool's core what a resolver says.
function listener.of_core(pool)
  return setmetatable({
    pool = pool,
    said = {},         -- by key: the backends that the core knows, as the resolver said them
    last_resorts = {}, -- by key: true for those that the connection factory calls that
    instant = nil,     -- of all that is said at once
  }, Core)
end

local function tell(self, fact, ...)
  local pool = self.pool
  local result = pool.core[fact](pool.core, self.instant or pool.now(), ...)
  pool:pump()
  return answer(result)
end

-- The core is told within the change, and may open connections at once: what is remembered is written down first.

function Core:added(backend)
  local said, key = self.said, backend.key
  local before, spec = said[key], ffi.new "cueball_backend_spec"
  said[key] = backend
  write_spec(self, backend, spec)
  local ok, message, name = tell(self, "backend_added", spec)
  if not ok then said[key] = before end
  return ok, message, name
end

function Core:removed(key)
  self.said[key], self.last_resorts[key] = nil, nil
  return tell(self, "backend_removed", key)
end

function Core:replaced(backends)
  local specs, said, last_resorts = ffi.new("cueball_backend_spec[?]", #backends), {}, {}
  for index, backend in ipairs(backends) do
    said[backend.key], last_resorts[backend.key] = said[backend.key] or backend, self.last_resorts[backend.key]
    write_spec(self, backend, specs[index - 1])
  end
  local before, resorts_before = self.said, self.last_resorts
  self.said, self.last_resorts = said, last_resorts
  local ok, message, name = tell(self, "backends_replaced", specs, #backends)
  if not ok then self.said, self.last_resorts = before, resorts_before end
  return ok, message, name
end

--- What fn(...) says reaches the core in one instant, so that it plans once for all of it.
function Core:at_once(fn, ...)
  self.instant = self.pool.now()
  local ok, message = pcall(fn, ...)
  self.instant = nil
  if not ok then error(message, 0) end
end

--- The connection factory has learnt whether a backend is a last resort.
function Core:learnt(key, is_last_resort)
  local backend = self.said[key]
  if not backend or (self.last_resorts[key] or false) == is_last_resort then return end
  self.last_resorts[key] = is_last_resort or nil
  self:added(backend)
end

function Core:failing(message)
  return tell(self, message and "resolver_failed" or "resolver_recovered")
end

-- ---------------------------------------------------------------- the pool's --

local Listener = {}
Listener.__index = Listener

--- Makes a pool's listener.
-- @param following the listener that is told next
function listener.new(pool, following)
  return setmetatable({
    pool = pool, following = following,
    provenance = {}, -- by key: where a backend is known from, as far as the resolver says
    reasons = {},  -- by key: how it is known to be gone, until that event is read
  }, Listener)
end

-- What is remembered is written down first: the events of a change are read within it.

function Listener:added(backend)
  local key, known = backend.key, self.provenance
  local before = known[key]
  known[key] = backend.provenance
  local ok, message, name = self.following:added(backend)
  if not ok then known[key] = before end
  return ok, message, name
end

function Listener:removed(key, provenance)
  local known, reasons = self.provenance, self.reasons
  local before = known[key]
  known[key], reasons[key] = nil, provenance and text.message(provenance)
  local ok, message, name = self.following:removed(key)
  if not ok then known[key], reasons[key] = before, nil end
  return ok, message, name
end

function Listener:replaced(backends)
  local before, now = self.provenance, {}
  for _, backend in ipairs(backends) do now[backend.key] = backend.provenance end
  self.provenance = now
  local ok, message, name = self.following:replaced(backends)
  if not ok then self.provenance = before end
  return ok, message, name
end

function Listener:failing(message, is_not_yet)
  if message then faults.note_resolver(self.pool, message) end
  if is_not_yet then return true end
  return self.following:failing(message)
end

function Listener:at_once(fn, ...)
  self.pool.of_core:at_once(fn, ...)
end

--- Where a backend is known from, for people; nil: nobody has said.
function Listener:provenance_of(key)
  return self.provenance[key]
end

--- How a backend is known to be gone, told once; nil: nobody has said.
function Listener:take_reason(key)
  local reason = self.reasons[key]
  self.reasons[key] = nil
  return reason
end

return listener
