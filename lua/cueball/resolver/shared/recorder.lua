--- Runs a resolver as a pool would, with the same sink, and writes down what it says.
--
-- The resolver of another worker may have found backends before: they are inherited. An inherited backend that this resolver does not name
-- within a while after its first good answer is dropped: a resolver that adds and removes cannot remove what it never knew of.
local sink = require "cueball.resolver.sink"

local GRACE_NS = 10e9
local GONE_MAX = 256   -- so many are kept with how they are known to be gone

local Recorder = {}
Recorder.__index = Recorder

local recorder = {}

-- Backends are listed in the order in which they were first named.
local function put(self, backend)
  local key = backend.key
  if not self.backends[key] then
    self.count = self.count + 1
    self.orders[key] = self.count
  end
  self.backends[key], self.inherited[key], self.gone[key] = backend, nil, nil
end

local function drop(self, key, reason)
  if not self.backends[key] then return false end
  self.backends[key], self.orders[key], self.inherited[key] = nil, nil, nil
  if self.gone_count >= GONE_MAX then self.gone, self.gone_count = {}, 0 end
  self.gone[key] = reason
  if reason then self.gone_count = self.gone_count + 1 end
  return true
end

-- Inherited backends that this resolver has not named, though there was time enough, are gone.
local function drop_inherited(self)
  for key in pairs(self.inherited) do drop(self, key, "not found again by the worker that took the resolver over") end
end

local function answered(self)
  self.answered_at = self.answered_at or self.now()
end

-- What the sink tells: see cueball.resolver.sink.

function Recorder:added(backend)
  put(self, backend)
  answered(self)
  self.changed()
  return true
end

function Recorder:removed(key, reason)
  answered(self)
  local is_known = drop(self, key, reason)
  self.changed()
  if not is_known then return nil, "no backend has the key", "not_found" end
  return true
end

function Recorder:replaced(backends)
  local now = {}
  for _, backend in ipairs(backends) do
    now[backend.key] = true
    put(self, backend)
  end
  for key in pairs(self.backends) do
    if not now[key] then drop(self, key, nil) end
  end
  answered(self)
  self.changed()
  return true
end

function Recorder:failing(message, is_not_yet)
  if is_not_yet then return true end
  self.failure = message
  if not message then answered(self) end
  self.changed()
  return true
end

--- Time has gone by.
function Recorder:tend()
  if not next(self.inherited) or self.failure or not self.answered_at then return end
  if self.sink.is_done or self.now() - self.answered_at >= GRACE_NS then
    drop_inherited(self)
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
    now = asker.host.now, sink = nil,
    changed = changed, failure = nil, answered_at = nil,
    backends = {}, orders = {}, count = 0, inherited = {}, gone = {}, gone_count = 0,
  }, Recorder)
  for _, backend in ipairs(inherited and inherited.backends or {}) do
    put(self, backend)
    self.inherited[backend.key] = true
  end
  self.sink = sink.new { resolver = resolver, listener = self, host = asker.host, recovery = asker.recovery, log = asker.log }
  sink.start(self.sink)
  return self
end

return recorder
