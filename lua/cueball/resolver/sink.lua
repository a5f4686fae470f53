--- What a resolver talks to, and what runs it: a resolver is started again after it threw, told when to end, and nothing it says can hurt
-- its pool.
--
-- What it says goes to a listener, as plain tables and texts. A listener has these methods, the last if it likes; the first three return
-- true, or nil, message, name as the sink's own do, and change nothing then:
--   listener:added(backend)            { key, name, address, port, weight, priority, provenance }, the last may be nil
--   listener:removed(key, provenance)
--   listener:replaced(backends)        these are all there are: a list
--   listener:failing(message, is_not_yet)   the backends cannot be found at present; is_not_yet: claims wait for the first list all the
--                                      same. A message of nil: they can be found again
--   listener:at_once(fn, ...)          calls fn(...): what that says is one change
local address = require "cueball.address"
local misuse = require "cueball.misuse"
local text = require "cueball.text"
local options = require "cueball.options"
local random = require "cueball.random"

local BACKOFF_FIRST_MS, BACKOFF_MAX_MS = 100, 30000
local TIMES_TO_DOUBLE = 9 -- 100 ms · 2^9 is past the longest
local FAILURE_FIRST_NS, FAILURE_MAX_NS = 5e9, 30e9 -- how often the resolver is told that its pool has failed
local COMPLAINTS_MAX = 100 -- complaints that are remembered, so as not to be logged again

local Sink = {}

Sink.__index = Sink

local sink = {}

-- A resolver that is ended may not have noticed yet; and the listener of a pool that was dropped is gone, see cueball.pool.cleanup.
local function is_over(self)
  return self.has_ended or self.told.listener == nil
end

local function over()
  return nil, "the resolver was ended", "pool_stopping"
end

-- Logs what is wrong with what the resolver said, once until something else is wrong.
-- @param call "add", "set" …
local function complain(self, call, message)
  local said = self.complaints[call]
  if not said or not said[message] then
    self.log("warn", "resolver: " .. message, "resolver_mistaken", { cause = call })
    self.complaints[call] = { [message] = true }
  end
  return nil, message, "invalid"
end

-- A good answer: the resolver works again.
local function recovered(self)
  self.has_answered, self.has_listed = true, true
  self.pauses = 0
  self.message, self.failed_at = nil, nil
  if self.is_told then
    self.is_told = false
    self.told.listener:failing(nil)
  end
end

--- A backend is there.
-- @param backend "10.0.0.1:80", or { address=, port= [, name=, key=, weight=, priority=, provenance=] }; key is "address:port" by
--   default, provenance is a text for people: where this is known from
-- @return true; or nil, message, name: "invalid" (said in the log, and passed over), "no_memory", "pool_stopping"
function Sink:add(backend)
  if is_over(self) then return over() end
  local fit, message = address.backend(backend)
  if not fit then return complain(self, "add", message) end
  self.complaints.add = nil
  local ok, why, name = self.told.listener:added(fit)
  if not ok then return nil, why, name end
  if self.inherited then self.inherited[fit.key] = nil end
  recovered(self)
  return true
end

--- A backend is gone.
-- @param key        as it was added
-- @param provenance nil; or a text for people: how that is known
-- @return true; or nil, message, name: "not_found" (said in the log), "invalid", "pool_stopping"
function Sink:remove(key, provenance)
  if is_over(self) then return over() end
  if type(key) ~= "string" then return complain(self, "remove", "remove: a key must be a string, not " .. type(key)) end
  if provenance ~= nil and type(provenance) ~= "string" then
    return complain(self, "remove", ("remove %s: a provenance must be a string, not %s"):format(text.show(key), type(provenance)))
  end
  if not self.told.listener:removed(key, provenance) then
    local _, message = complain(self, "remove", ("remove: no backend has the key %s"):format(text.show(key)))
    return nil, message, "not_found"
  end
  self.complaints.remove = nil
  recovered(self)
  return true
end

-- What keeps a value from being a list of backends, or nil.
local function list_fault(backends)
  if type(backends) ~= "table" then return "not " .. type(backends) end
  if backends.address ~= nil then return "not one backend: put it into a list" end
  local count = #backends
  for key, value in pairs(backends) do
    local is_place = type(key) == "number" and key >= 1 and key <= count and key % 1 == 0
    local is_count = key == "n" and value == count -- of table.pack
    if not is_place and not is_count then
      return ("without names or gaps, not a table with the key %s"):format(options.show(key))
    end
  end
end

-- The backends of a list that are fit, each once; and what is wrong with the others.
local function read_list(backends)
  local fit, seen, faults = {}, {}, {}
  for index = 1, #backends do
    local backend, message = address.backend(backends[index])
    if backend and seen[backend.key] then message = ("set: the key %s is given twice"):format(text.show(backend.key)) end
    if message then
      faults[#faults + 1] = message
    else
      seen[backend.key] = true
      fit[#fit + 1] = backend
    end
  end
  return fit, faults
end

-- Logs what is wrong with a list, but for what was wrong with the list before already.
local function complain_of_set(self, faults)
  local before, said = self.complaints.set or {}, {}
  for index, message in ipairs(faults) do
    if not before[message] and not said[message] then self.log("warn", "resolver: " .. message, "resolver_mistaken", { cause = "set" }) end
    if index <= COMPLAINTS_MAX then said[message] = true end
  end
  self.complaints.set = said
end

--- These are all the backends there are now; the difference is worked out.
-- @param backends a list, each as for add; one that is not fit is said in the log and passed over
-- @return true, how many were passed over, and a list of why; or nil, message, name: "invalid" (not a list, or nothing in it is
--   fit: nothing has changed then), "no_memory", "pool_stopping"
function Sink:set(backends)
  if is_over(self) then return over() end
  local fault = list_fault(backends)
  if fault then return complain(self, "list", "set: a list of backends is expected, " .. fault) end
  self.complaints.list = nil
  local fit, faults = read_list(backends)
  complain_of_set(self, faults)
  if #fit == 0 and #faults > 0 then
    return nil, ("set: none of %d is a backend: %s"):format(#faults, faults[1]), "invalid"
  end
  local ok, message, name = self.told.listener:replaced(fit)
  if not ok then return nil, message, name end
  self.inherited = nil
  recovered(self)
  return true, #faults, faults
end

--- All backends that there are have been added: what the resolver before knew (pool:replace) and this one has not added is gone. For
-- resolvers that say add; set says as much by itself.
-- @return true; or nil, message, "pool_stopping"
function Sink:complete()
  if is_over(self) then return over() end
  local inherited, keys = self.inherited or {}, {}
  self.inherited = nil
  for key in pairs(inherited) do keys[#keys + 1] = key end
  table.sort(keys)
  self:at_once(function()
    for _, key in ipairs(keys) do self.told.listener:removed(key, "the resolver that was replaced knew it") end
  end)
  recovered(self)
  return true
end

--- For our own resolvers: fn(…) tells several things that are one change. A listener that goes by the time hears them in one instant, so
-- that nothing is planned for a part of them.
-- @param fn does not wait
function Sink:at_once(fn, ...)
  local listener = self.told.listener
  if listener and listener.at_once then return listener:at_once(fn, ...) end
  return fn(...)
end

local function failed(self, message, is_not_yet)
  self.failed_at = self.failed_at or self.now()
  self.message = message
  if not is_not_yet then self.is_told = true end
  self.told.listener:failing(message, is_not_yet)
end

--- The backends cannot be found at present. The last known ones stay; the resolver is to go on trying.
-- @param message what went wrong
-- @param how     nil; or { not_yet = true }: before the first list claims wait all the same, for as long as they are willing
-- @return true; or nil, message, "pool_stopping"
function Sink:fail(message, how)
  if how ~= nil and type(how) ~= "table" then
    misuse.raise("sink:fail: expected nil or { not_yet = true } as its second argument, got " .. options.show(how))
  end
  if is_over(self) then return over() end
  message = text.message(message)
  if self.message ~= message then self.log("warn", "resolver: " .. message, "resolver_failed", { error = message }) end
  failed(self, message, how and how.not_yet and not self.has_listed)
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
    misuse.raise("sink:sleep: expected a number of milliseconds from 0, got " .. text.message(ms))
  end
  if is_over(self) then return false end
  if self.is_awake then ms = 0 end
  self.sleeper = self.host.waiter()
  self.sleeper:wait(ms < math.huge and ms or nil)
  self.sleeper, self.is_awake = nil, false
  return not is_over(self)
end

--- Ends the sleep under way early, or the next one if there is none: for news that come by another way. May be called from anywhere.
function Sink:wake()
  if is_over(self) then return over() end
  self.is_awake = true
  if self.sleeper then self.sleeper:wake() end
  return true
end

--- Waits before the next attempt: delay_ms of the pool's recovery.default, twice as long with each call up to max_delay_ms (30 s at
-- most), give or take its `spread`; add, set, remove and recover begin anew.
-- @return as sink:sleep
function Sink:pause()
  local recovery = self.pacing
  if not recovery then
    recovery = options.recovery("sink:pause", "default", (self.recovery or {}).default)
    self.pacing = recovery
  end
  local most = math.min(recovery.max_delay_ms, BACKOFF_MAX_MS)
  local pause = math.min(recovery.delay_ms * 2 ^ math.min(self.pauses, TIMES_TO_DOUBLE * 2), most)
  self.pauses = self.pauses + 1
  self.draw = self.draw or random.from(self.host.seed())
  return self:sleep(pause * (1 - recovery.spread / 2 + recovery.spread * self.draw()))
end

--- Calls fn() once, when the resolver is to end, or threw and is about to be started again: for handles of its own. If the resolver is to
-- end already, fn is called at once.
-- @param fn called outside of the resolver's task; it may not wait
-- @return function() that takes it back
function Sink:on_end(fn)
  if type(fn) ~= "function" then misuse.raise("sink:on_end: expected a function, got " .. options.show(fn)) end
  local entry = { fn = fn }
  table.insert(self.endings, entry)
  if is_over(self) then self:end_handles() end
  return function() entry.fn = nil end
end

-- Calls what was given to on_end, the latest first.
function Sink:end_handles()
  local endings = self.endings
  self.endings = {}
  for index = #endings, 1, -1 do
    local fn = endings[index].fn
    local ok, message = true, nil
    if fn then ok, message = xpcall(fn, text.traceback) end
    if not ok then self.log("error", "what a resolver gave to sink:on_end threw: " .. tostring(message), "ending_threw") end
  end
end

-- ------------------------------------------------------------ the pool's failure --

--- Whether the resolver is to go on.
function Sink:is_wanted()
  return not is_over(self)
end

--- Whether the pool has failed: backends are known, and none of them works.
function Sink:failed()
  return self.is_pool_failed
end

-- Wakes the resolver now, and again later, less and less often, as long as the pool has failed.
local function tell_failure(self)
  if is_over(self) or not self.is_pool_failed then return end
  local now = self.now()
  self.told_at = now
  self.alarm = self.alarm or self.host.alarm(function() tell_failure(self) end)
  self.alarm:set(now + self.failure_pause)
  self.failure_pause = math.min(self.failure_pause * 2, FAILURE_MAX_NS)
  self:wake()
end

--- For the pool: whether it has failed.
function Sink:pool_failed(is_failed)
  if self.is_done or is_failed == self.is_pool_failed then return end
  self.is_pool_failed = is_failed
  if not is_failed then
    if self.alarm then self.alarm:clear() end
    return
  end
  self.failure_pause = FAILURE_FIRST_NS
  local wait = self.told_at and self.told_at + FAILURE_FIRST_NS - self.now() or 0
  if wait <= 0 then return tell_failure(self) end
  self.alarm:set(self.now() + wait)
end

--- How it does: { failing =, message =, since_ms = }; since_ms: for how long it has failed.
function Sink:state()
  return {
    failing = self.message ~= nil, message = self.message,
    since_ms = self.failed_at and (self.now() - self.failed_at) / 1e6 or nil,
  }
end

-- -------------------------------------------------------------------- running --

local function run_once(self)
  local resolver = self.resolver
  if type(resolver) == "function" then return resolver(self) end
  return resolver:run(self)
end

-- The pause after a throw. It grows, unless the resolver did well for longer than the pause before: so a resolver that throws is at rest
-- half of the time at least, or nearly.
local function pause_after(self, lasted_ms)
  if self.has_answered and lasted_ms > self.pause_ms then self.failures = 0 end
  self.failures = self.failures + 1
  self.pause_ms = math.min(BACKOFF_FIRST_MS * 2 ^ math.min(self.failures - 1, TIMES_TO_DOUBLE), BACKOFF_MAX_MS)
  return self.pause_ms
end

-- The resolver's task. A resolver that returns has said what it had to say, and is not started again.
local function run(self)
  local now = self.now
  if self.is_deferred then self.host.sleep(0) end
  while not is_over(self) do
    local begun = now()
    self.has_answered = false
    local ok, message = xpcall(run_once, text.traceback, self)
    if ok or is_over(self) then break end
    self:end_handles()
    local pause = pause_after(self, (now() - begun) / 1e6)
    self.log("error", ("the resolver threw and is started again in %.6g ms: %s"):format(pause, message), "resolver_threw",
      { pause_ms = pause })
    failed(self, (message:match "^[^\n]*"))
    self:sleep(pause)
  end
  self.is_done = true
end

local function second(_, ...) return ... end

-- While one of these works its listener stays, though nobody else may refer to it.
for _, name in ipairs { "add", "remove", "set", "complete", "fail", "recover" } do
  local method = Sink[name]
  Sink[name] = function(self, a, b) return second(self.told.listener, method(self, a, b)) end
end

misuse.guard(Sink, "sink", {
  "add", "remove", "set", "complete", "fail", "recover", "sleep", "wake", "pause", "on_end", "is_wanted", "failed",
})

local WEAK = { __mode = "v" }

--- Makes a sink for a resolver. sink.start starts it.
-- @param given
--   resolver  function(sink), or a table with run(self, sink)
--   listener  who is told, see above
--   is_weak   whether the sink is not to keep its listener from being collected: then the resolver is ended once it is
--   log       function(level, message)
--   host      for sockets and the like
--   recovery  the pool's own, for a resolver that asks others and has none
--   is_deferred whether it begins in the event loop's next turn, not at once
--   before    the sink of the resolver before, of the same listener; or nil
--   inherited the keys that the listener knows from it, a set; or nil
function sink.new(given)
  local before = given.before
  return setmetatable({
    told = setmetatable({ listener = given.listener }, given.is_weak and WEAK or nil),
    resolver = given.resolver, is_deferred = given.is_deferred or false,
    host = given.host, now = given.host.now, log = given.log, recovery = given.recovery,
    failures = 0,      -- throws in a row
    pause_ms = 0,      -- after the last of them
    has_answered = false, -- since it was started or started again
    has_listed = before ~= nil and before.has_listed, -- some backends were told of, if only that there are none
    message = nil, failed_at = nil, -- of its failure, while it lasts
    is_told = before ~= nil and before.is_told, -- the listener knows of that
    inherited = given.inherited, -- keys that this resolver has not named yet
    complaints = {},   -- by call: what was said in the log last
    pauses = 0, pacing = nil, draw = nil, -- of sink:pause
    endings = {},      -- of sink:on_end
    is_pool_failed = before ~= nil and before.is_pool_failed, told_at = nil, failure_pause = nil, alarm = nil,
    has_ended = false, -- the resolver is to end
    is_done = false,   -- the resolver has ended
    is_awake = false,  -- sink:wake was called, and no sleep has ended since
    sleeper = nil,
    task = nil,
  }, Sink)
end

--- Starts a sink's resolver; the failure of the resolver before is over.
function sink.start(self)
  if self.is_told then
    self.is_told = false
    self.told.listener:failing(nil)
  end
  self.task = self.host.service(run, self)
end

--- Ends the resolver: if it sleeps in sink:sleep it wakes with false.
function Sink:finish()
  self.has_ended = true
  if self.alarm then self.alarm:close() end
  self.alarm = nil
  if self.sleeper then self.sleeper:wake() end
  self:end_handles()
end

--- Ends the resolver, and calls done() when it has ended: if it does not return by itself when sink:sleep tells it false it is killed.
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
  self:finish()
  self.is_done = true
  if self.task and self.task ~= self.host.current() then self.host.kill(self.task) end
end

return sink
