--- What a pool's resolver says: told to the core, and where each backend is known from is remembered, since the core does not keep that.
--
-- A listener is whoever a sink tells (cueball.resolver.sink). These are one behind the other: the pool's, which remembers; its quota, if
-- it has one, which may hold backends back; and the core's, which is the last.
local faults = require "cueball.pool.faults"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local listener = {}

-- ---------------------------------------------------------------- the core's --

local Core = {}
Core.__index = Core

local function write_spec(backend, spec)
  spec.key, spec.name, spec.address = backend.key, backend.name, backend.address
  spec.port, spec.weight, spec.priority = backend.port, backend.weight, backend.priority
end

-- A result of the core's as a listener answers.
local function answer(result)
  if result >= 0 or result == lib.CUEBALL_EEXISTS then return true end
  return nil, ffi.string(lib.cueball_error_message(result)), ffi.string(lib.cueball_error_name(result))
end

--- Tells a pool's core what a resolver says.
function listener.of_core(pool)
  return setmetatable({ pool = pool }, Core)
end

function Core:added(backend)
  local spec = ffi.new "cueball_backend_spec"
  write_spec(backend, spec)
  return answer(self.pool:input("backend_added", spec))
end

function Core:removed(key)
  return answer(self.pool:input("backend_removed", key))
end

function Core:replaced(backends)
  local specs = ffi.new("cueball_backend_spec[?]", #backends)
  for index, backend in ipairs(backends) do write_spec(backend, specs[index - 1]) end
  return answer(self.pool:input("backends_replaced", specs, #backends))
end

function Core:failing(message)
  self.pool:input(message and "resolver_failed" or "resolver_recovered")
  return true
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
