--- How a scenario ends: by a stop in the middle of everything, or with all well again, an even pool, and a stop after that.
local charge = require "spec.sim.charge"
local draw = require "spec.sim.draw"
local steps = require "spec.sim.steps"
local Evidence = require "spec.sim.evidence"

local ending = {}

local STABLE_MS = 3000

local OTHER_LIMITS = { "check_timeout_ms", "rebalance_delay_ms" }

--- Remembers the longest time limits there ever were: what runs under one keeps it when the options change.
function ending.note_limits(self)
  local longest = self.longest or {}
  for _, one in pairs(self.options.recovery) do
    for name, value in pairs(one) do
      if type(value) == "number" then longest[name] = math.max(longest[name] or 0, value) end
    end
  end
  for _, name in ipairs(OTHER_LIMITS) do
    longest[name] = math.max(longest[name] or 0, self.options[name])
  end
  longest.proof_ms = math.max(longest.proof_ms or 0, Evidence.proof_ms(self.options, longest.max_delay_ms))
  self.longest = longest
end

-- How long it may take at most, once nothing is wrong any more: what was begun is given up or closed, the resolver has
-- spoken, the plan is made, and each dead backend is tried once more.
local function bound_ms(self)
  local longest = self.longest
  local attempt = longest.max_timeout_ms + 1.5 * longest.max_delay_ms
  return 2 * (attempt + longest.timeout_ms + longest.proof_ms) + 12 * longest.rebalance_delay_ms + longest.check_timeout_ms
    + self.service.resolver_pause_ms + self.pool.sink.pause_ms + 5000
end

-- Each backend has its part of the slots, rounded down or up; and there are as many as there may be.
local function is_even(self)
  local pool, most = self.pool, self.options.max_connections
  local backends, weights, total = pool:backends(), 0, 0
  local best = math.huge
  for _, backend in ipairs(backends) do
    if not (backend.dead and backend.total == 0) then best = math.min(best, backend.priority) end -- see below
  end
  if not self.service.has_told_all then return false, "the resolver has not spoken" end
  for _, backend in ipairs(backends) do
    local told = self.service.members[backend.key]
    local is_told = told and backend.port == told.port and backend.weight == told.weight and backend.priority == told.priority
    if not is_told and not backend.removed then return false, backend.key .. " is not what the resolver said" end
    -- Where there is a single slot, none is left to learn by that a dead one is back.
    if backend.dead and (most > 1 or backend.total > 0) then return false, backend.key .. " is dead" end
    if backend.removed then return false, backend.key .. " is leaving" end
    if (backend.priority > best) ~= backend.standby then
      return false, ("%s of priority %d %s by, the best is %d"):format(backend.key, backend.priority,
        backend.standby and "stands" or "does not stand", best)
    end
    weights = weights + (backend.standby and 0 or backend.weight)
    total = total + backend.total
  end
  local told_count = #self.service:member_list()
  if #backends ~= told_count then return false, ("%d backends of %d"):format(#backends, told_count) end
  if total ~= most then return false, ("%d slots of %d"):format(total, most) end
  for _, backend in ipairs(backends) do
    local weight = backend.standby and 0 or backend.weight
    if math.abs(backend.total - most * weight / weights) >= 1 then
      return false, ("%s has %d of %d slots at weight %d of %d"):format(backend.key, backend.total, most, weight, weights)
    end
    if backend.idle ~= backend.total then return false, ("%s has %d slots, %d at rest"):format(backend.key, backend.total, backend.idle) end
  end
  if pool:state() ~= "running" then return false, "the pool is " .. pool:state() end
  return true
end

-- All well: every server up, no faults, nothing leased, no connection to be closed for its age or for another one's sake.
local function recover(self)
  self:trace "all is well from here"
  self.is_ending = true
  self.service:recover()
  self.world.faults(false)
  self:check()
  self:set { idle_timeout_ms = false, max_lifetime_ms = false, check_interval_ms = false, decoherence_interval_ms = false }
  if self.is_enduring then self:set(draw.PLAIN) end
  charge.recover(self)
  steps.release_all(self)
end

local function wait_for_even(self)
  local bound = bound_ms(self)
  for _ = 1, 10 do steps.advance(self, 100) end -- a reset that was slow may be on its way
  local limit, since, why = self.world.time_ms() + bound, nil, nil
  while self.world.time_ms() < limit + STABLE_MS do
    if self.failure then return end
    steps.advance(self, self.chance:between(1, 200))
    steps.release_all(self)
    local ok
    ok, why = is_even(self)
    local now = self.world.time_ms()
    if not ok then
      if since then return self.fail("the pool was even at %.0f ms and is not at %.0f: %s", since, now, why) end
      if now > limit then break end
    else
      since = since or now
      if now - since > STABLE_MS then return end
    end
  end
  self.fail("the pool is not even %.0f ms after the last fault: %s", bound, tostring(why))
end

-- Claims all there is. @return the leases; or nil: one was not to be had, as another had ended as it was leased, which is noticed only
-- now: it is replaced, and may make the others suspect
local function claim_each(self)
  local leases, seen = {}, {}
  local closed = self.pool:stats().closed
  for number = 1, self.options.max_connections do
    self.model.current = { deadline_ms = math.huge }
    local lease, message = self.pool:try_claim()
    if not lease then
      if self.pool:stats().closed == closed then
        self.fail("claim %d of %d got nothing: %s", number, self.options.max_connections, message)
      end
      for _, one in ipairs(leases) do one:release() end
      return nil
    end
    if seen[lease.connection] then return self.fail("connection %d is leased to two", lease.connection.id) end
    seen[lease.connection] = true
    local record = lease.connection
    if record.state ~= "open" then return self.fail("connection %d was leased when %s", record.id, record.state) end
    leases[number] = lease
  end
  return leases
end

-- Everything that is there can be claimed, and no more.
local function claim_all(self)
  local leases = claim_each(self)
  for _ = 1, 3 do
    if leases or self.failure then break end
    wait_for_even(self)
    leases = claim_each(self)
  end
  if not leases then return self.fail "connections are lost though all is well" end
  self.model.current = { deadline_ms = math.huge }
  if self.pool:try_claim() then self.fail "there is one connection too many" end
  self.model.current = nil
  for _, lease in ipairs(leases) do
    if not lease:release() then self.fail "a lease could not be released" end
  end
  self:audit()
end

local function nothing_waits(self)
  steps.forget_done(self)
  for _, claimer in ipairs(self.claimers) do
    if claimer.answers ~= 1 then return self.fail("claimer %d was answered %d times", claimer.id, claimer.answers) end
  end
end

-- Stopped within what the pool gives its leases and its connections, and nothing is left.
local function stop(self)
  local pool, world = self.pool, self.world
  self:trace("stop: %s held, %s claims wait", #self.held, #self.model.queue)
  local limit = self.options.drain_timeout_ms + self.longest.timeout_ms + 1
  local waits = self.chance:is(0.5)
  charge.stop(self)
  if waits then
    self.stopper = world.spawn(function()
      pool:stop()
      if pool:state() ~= "stopped" then self.fail("stop returned when %s", pool:state()) end
      self.has_stopped = true
    end)
  else
    pool:stop()
  end
  self:check()
  self.model.current = { deadline_ms = math.huge }
  local message = select(2, pool:try_claim())
  self.model.current = nil
  if message == "no connection is idle" then self.fail "a claim after stop was not refused for it" end
  world.settle()
  self:check()
  nothing_waits(self)
  local until_ms = world.time_ms() + limit
  while pool:state() ~= "stopped" and world.time_ms() < until_ms and not self.failure do
    steps.advance(self, math.min(self.chance:small(0, 300), until_ms - world.time_ms()))
    if self.chance:is(0.3) and #self.held > 0 then steps.release_one(self) end
  end
  if pool:state() ~= "stopped" then return self.fail("the pool is %s %.0f ms after stop", pool:state(), limit) end
  steps.advance(self, 1)
  if waits and not self.has_stopped then self.fail "stop did not return" end
end

local function nothing_is_left(self)
  steps.release_all(self) -- all stale by now
  self.service:recover()  -- what is frozen hears that its connections were closed
  self.world.faults(false)
  self.world.advance(20000) -- claimers that sleep on, packets on their way, closes of what came too late
  self:audit()
  local leaks = self.world.leaks()
  if #leaks > 0 then self.fail("left over: %s", table.concat(leaks, ", ")) end
  local all = self.service:server_connections()
  if all > 0 then self.fail("the servers see %d connections", all) end
  local records = self.service.records
  if records.opening + records.open + records.closing > 0 then
    self.fail("on record: %d opening, %d open, %d closing", records.opening, records.open, records.closing)
  end
  nothing_waits(self)
end

--- Ends the scenario.
function ending.run(self)
  if not self.stop_at then
    recover(self)
    wait_for_even(self)
    if not self.failure then claim_all(self) end
    if not self.failure then nothing_waits(self) end
  end
  if not self.failure then stop(self) end
  if not self.failure then nothing_is_left(self) end
end

return ending
