--- What a resolver talks to, and what runs it: it is started again after it
-- threw, told when to end, and nothing it says can hurt the pool.
local native = require "cueball.native"
local address = require "cueball.address"
local misuse = require "cueball.misuse"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local BACKOFF_FIRST_MS, BACKOFF_MAX_MS = 100, 30000
local TIMES_TO_DOUBLE = 9 -- 100 ms · 2^9 is past the longest

local Sink = {}
Sink.__index = Sink

local sink = {}

-- A resolver that is ended may not have noticed yet.
local function is_over(self)
  return self.has_ended
end

local function over()
  return nil, "the resolver was ended", "pool_stopping"
end

local function complain(self, message)
  self.pool:log("warn", "resolver: " .. message)
  return nil, message, "invalid"
end

-- A good answer: the resolver works again.
local function recovered(self)
  self.has_answered = true
  if self.message then
    self.message = nil
    self.pool:input(lib.cueball_pool_resolver_recovered)
  end
end

local function spec_of(backend, spec)
  spec.key, spec.name, spec.address = backend.key, backend.name, backend.address
  spec.port, spec.weight, spec.priority = backend.port, backend.weight, backend.priority
end

local function refusal(result)
  return nil, ffi.string(lib.cueball_error_message(result)), ffi.string(lib.cueball_error_name(result))
end

--- A backend is there.
-- @param backend { address=, port= [, name=, key=, weight=, priority=, provenance=] }; key is "address:port" by default,
--   provenance is a text for people: where this is known from
-- @return true; or nil, message, name: "invalid" (said in the log, and passed over), "no_memory", "pool_stopping"
function Sink:add(backend)
  if is_over(self) then return over() end
  local fit, message = address.backend(backend)
  if not fit then return complain(self, message) end
  local spec = ffi.new "cueball_backend_spec"
  spec_of(fit, spec)
  local known = self.pool.provenance
  local before = known[fit.key]
  known[fit.key] = fit.provenance -- before the input: its events are read within
  local result = self.pool:input(lib.cueball_pool_backend_added, spec)
  if result < 0 and result ~= lib.CUEBALL_EEXISTS then
    known[fit.key] = before
    return refusal(result)
  end
  recovered(self)
  return true
end

--- A backend is gone.
-- @param key        as it was added
-- @param provenance nil; or a text for people: how that is known
-- @return true; or nil, message, name: "not_found" (said in the log), "invalid", "pool_stopping"
function Sink:remove(key, provenance)
  if is_over(self) then return over() end
  if type(key) ~= "string" then return complain(self, "remove: a key must be a string, not " .. type(key)) end
  if provenance ~= nil and type(provenance) ~= "string" then
    return complain(self, ("remove %s: a provenance must be a string, not %s"):format(text.show(key), type(provenance)))
  end
  local pool = self.pool
  local before = pool.provenance[key]
  pool.provenance[key], pool.farewells[key] = nil, provenance and text.message(provenance)
  local result = pool:input(lib.cueball_pool_backend_removed, key)
  if result < 0 then
    pool.provenance[key], pool.farewells[key] = before, nil
    local message = ("remove: no backend has the key %s"):format(text.show(key))
    self.pool:log("warn", "resolver: " .. message)
    return nil, message, "not_found"
  end
  recovered(self)
  return true
end

--- These are all the backends there are now; the difference is worked out.
-- @param backends a list, each as for add; one that is not fit is said in the log and passed over
-- @return true; or nil, message, name: "invalid" (not a list), "no_memory", "pool_stopping"
function Sink:set(backends)
  if is_over(self) then return over() end
  if type(backends) ~= "table" then return complain(self, "set: a list of backends is expected, not " .. type(backends)) end
  local fit, seen = {}, {}
  for index = 1, #backends do
    local backend, message = address.backend(backends[index])
    if not backend then
      complain(self, message)
    elseif seen[backend.key] then
      complain(self, ("set: the key %s is given twice"):format(text.show(backend.key)))
    else
      seen[backend.key] = true
      fit[#fit + 1] = backend
    end
  end
  local specs, before, now = ffi.new("cueball_backend_spec[?]", #fit), self.pool.provenance, {}
  for index, backend in ipairs(fit) do
    spec_of(backend, specs[index - 1])
    now[backend.key] = backend.provenance
  end
  self.pool.provenance = now
  local result = self.pool:input(lib.cueball_pool_backends_replaced, specs, #fit)
  if result < 0 then
    self.pool.provenance = before
    return refusal(result)
  end
  recovered(self)
  return true
end

local function failed(self, message)
  self.message = message
  self.pool.error = "resolver: " .. message
  self.pool:input(lib.cueball_pool_resolver_failed)
end

--- The backends cannot be found at present.  The last known ones stay; go on trying.
-- @param message what went wrong
function Sink:fail(message)
  if is_over(self) then return over() end
  message = text.message(message)
  if self.message ~= message then self.pool:log("warn", "resolver: " .. message) end
  failed(self, message)
  return true
end

--- The backends can be found again, and are as they were: ends what fail said.
-- add, remove and set do so too.
function Sink:recover()
  if is_over(self) then return over() end
  recovered(self)
  return true
end

--- Waits.
-- @param ms milliseconds; math.huge: until sink:wake
-- @return true; false once the resolver is to end, at once then
function Sink:sleep(ms)
  if type(ms) ~= "number" or ms ~= ms or ms < 0 then
    error("sink:sleep: expected a number of milliseconds from 0, got " .. text.message(ms), 2)
  end
  if is_over(self) then return false end
  if self.is_awake then ms = 0 end
  self.sleeper = self.pool.host.waiter()
  self.sleeper:wait(ms < math.huge and ms or nil)
  self.sleeper, self.is_awake = nil, false
  return not is_over(self)
end

--- Ends the sleep under way early, or the next one if there is none: so that what
-- was heard of elsewhere is looked at soon.  From anywhere.
function Sink:wake()
  if is_over(self) then return over() end
  self.is_awake = true
  if self.sleeper then self.sleeper:wake() end
  return true
end

local function run_once(self)
  local resolver = self.resolver
  if type(resolver) == "function" then return resolver(self) end
  return resolver:run(self)
end

-- The pause after a throw.  It grows, unless the resolver did well for longer
-- than the pause before: so it is at rest half of the time at least, or nearly.
local function pause_after(self, lasted_ms)
  if self.has_answered and lasted_ms > self.pause_ms then self.failures = 0 end
  self.failures = self.failures + 1
  self.pause_ms = math.min(BACKOFF_FIRST_MS * 2 ^ math.min(self.failures - 1, TIMES_TO_DOUBLE), BACKOFF_MAX_MS)
  return self.pause_ms
end

-- The resolver's task.  One that returns has said what it had to say.
local function run(self)
  local now = self.pool.now
  while not is_over(self) do
    local begun = now()
    self.has_answered = false
    local ok, message = xpcall(run_once, text.traceback, self)
    if ok or is_over(self) then break end
    local pause = pause_after(self, (now() - begun) / 1e6)
    self.pool:log("error", ("the resolver threw and is started again in %.6g ms: %s"):format(pause, message))
    failed(self, (message:match "^[^\n]*"))
    self:sleep(pause)
  end
  self.is_done = true
end

misuse.guard(Sink, "sink", { "add", "remove", "set", "fail", "recover", "sleep", "wake" })

--- Starts a resolver.
-- @param pool     whom it tells; pool.sink becomes the new one
-- @param resolver function(sink), or a table with run(self, sink)
function sink.start(pool, resolver)
  local before = pool.sink
  local self = setmetatable({
    pool = pool,
    resolver = resolver,
    host = pool.host,  -- for sockets and the like
    recovery = pool.given.recovery, -- the pool's own, for a resolver that asks others and has none
    failures = 0,      -- throws in a row
    pause_ms = 0,      -- after the last of them
    has_answered = false, -- since it was started or started again
    message = nil,     -- of its failure, while it lasts
    has_ended = false, -- it is to end
    is_done = false,   -- it has
    is_awake = false,  -- sink:wake was called, and no sleep has ended since
    sleeper = nil,
    task = nil,
  }, Sink)
  pool.sink = self
  if before and before.message then pool:input(lib.cueball_pool_resolver_recovered) end
  self.task = (self.host.service or self.host.spawn)(run, self)
end

--- Ends it: what sleeps in sink:sleep wakes with false.
function Sink:finish()
  self.has_ended = true
  if self.sleeper then self.sleeper:wake() end
end

--- Ends it, and calls done() when it has ended: what does not return by itself
-- when sink:sleep tells it false is killed.
function Sink:end_soon(done)
  self:finish()
  if self.is_done then return done() end
  self.host.spawn(function()
    self.host.sleep(0)
    self:kill()
    done()
  end)
end

function Sink:kill()
  self.has_ended, self.is_done = true, true
  if self.task and self.task ~= self.host.current() then self.host.kill(self.task) end
end

return sink
