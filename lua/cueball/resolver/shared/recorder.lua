--- Runs a resolver as a pool would, with the same sink, and writes down what it says.
--
-- The resolver of another may have found backends before: they are inherited. One that this resolver does not name within a while after
-- its first good answer is gone: who adds and removes cannot remove what he never knew of.
local address = require "cueball.address"
local sink = require "cueball.resolver.sink"

local GRACE_NS = 10e9
local GONE_MAX = 256   -- so many are kept with how they are known to be gone
local ENOT_FOUND = -10

local Recorder = {}
Recorder.__index = Recorder

local recorder = {}

-- In the order in which they were first named.
local function put(self, backend)
  local key = backend.key
  if not self.backends[key] then
    self.count = self.count + 1
    self.orders[key] = self.count
  end
  self.backends[key], self.inherited[key], self.gone[key] = backend, nil, nil
end

local function take_away(self, key, farewell)
  if not self.backends[key] then return ENOT_FOUND end
  self.backends[key], self.orders[key], self.inherited[key] = nil, nil, nil
  if self.gone_count >= GONE_MAX then self.gone, self.gone_count = {}, 0 end
  self.gone[key] = farewell
  if farewell then self.gone_count = self.gone_count + 1 end
  return 0
end

local function backend_of(self, spec)
  local backend = address.from_spec(spec)
  backend.provenance = self.provenance[backend.key]
  return backend
end

-- Those whom this resolver was asked about long enough, and has not named, are gone.
local function disinherit(self)
  for key in pairs(self.inherited) do take_away(self, key, "not found again by the worker that took the resolver over") end
end

local function answered(self)
  self.answered_at = self.answered_at or self.now()
end

local DO = {
  backend_added = function(self, spec)
    put(self, backend_of(self, spec))
    answered(self)
    return 0
  end,
  backend_removed = function(self, key)
    local farewell = self.farewells[key]
    self.farewells[key] = nil
    answered(self)
    return take_away(self, key, farewell)
  end,
  backends_replaced = function(self, specs, count)
    local now = {}
    for index = 0, count - 1 do
      local backend = backend_of(self, specs[index])
      now[backend.key] = true
      put(self, backend)
    end
    for key in pairs(self.backends) do
      if not now[key] then take_away(self, key, nil) end
    end
    answered(self)
    return 0
  end,
  resolver_failed = function(self)
    self.failure = self.sink.message
    return 0
  end,
  resolver_recovered = function(self)
    self.failure = nil
    answered(self)
    return 0
  end,
}

--- What the sink tells a pool.
function Recorder:input(fact, ...)
  local result = DO[fact](self, ...)
  self.changed()
  return result
end

function Recorder:log(level, message)
  self.write_log(level, message)
end

--- Time has gone by.
function Recorder:tend()
  if not next(self.inherited) or self.failure or not self.answered_at then return end
  if self.sink.is_done or self.now() - self.answered_at >= GRACE_NS then
    disinherit(self)
    self.changed()
  end
end

--- @return the failure's message or nil, a list of backends, and how those gone are known to be gone, by key
function Recorder:facts()
  local list, orders = {}, self.orders
  for _, backend in pairs(self.backends) do list[#list + 1] = backend end
  table.sort(list, function(a, b) return orders[a.key] < orders[b.key] end)
  return self.failure, list, self.gone
end

--- Tells the resolver whether a pool that has it has failed.
function Recorder:pool_failed(is_failed)
  self.sink:pool_failed(is_failed)
end

--- Has it anything to say?
function Recorder:has_said()
  return self.answered_at ~= nil or self.failure ~= nil
end

--- Ends the resolver where it stands.
function Recorder:close()
  self.changed = function() end
  self.sink:kill()
end

--- Starts a resolver.
-- @param resolver  function(sink), or a table with run
-- @param asker     the sink of the pool that wants to know
-- @param inherited a state of cueball.resolver.shared.state; nil: none
-- @param changed   function(), called from within what the resolver says
function recorder.start(resolver, asker, inherited, changed)
  local self = setmetatable({
    host = asker.host, now = asker.host.now, given = { recovery = asker.recovery }, provenance = {}, farewells = {},
    sink = nil, error = nil, -- what a sink expects of a pool
    write_log = function(level, message) asker.pool:log(level, message) end,
    changed = changed, failure = nil, answered_at = nil,
    backends = {}, orders = {}, count = 0, inherited = {}, gone = {}, gone_count = 0,
  }, Recorder)
  for _, backend in ipairs(inherited and inherited.backends or {}) do
    put(self, backend)
    self.inherited[backend.key] = true
  end
  sink.start(self, resolver)
  return self
end

return recorder
