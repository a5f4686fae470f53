--- What people in charge do, in some of the seeds: pause and resume, drain and restore, revoke, ask anew. What must hold of it is
-- checked here for what the pool shows; from its events it is checked by the model.
--
--   scenario.pause    nil: the pool is not paused; else { granted = claims that were granted before }
--   model.excused     keys of dead backends that are being drained: nobody knows any more whether they are dead
--   record.is_revoked its lease was
local charge = {}

--- Steps beside the usual ones: { kind, usual weight }.
charge.KINDS = {
  { "pause", 1 }, { "resume", 3 }, { "drain", 2 }, { "restore", 2 }, { "revoke", 3 }, { "ask_anew", 2 },
}

local function must(self, what, ok, name, allowed)
  if ok ~= true and not allowed[name] then self.fail("%s returned %s, %s", what, tostring(ok), tostring(name)) end
end

-- Some do it in a task, and wait until it is so.
local function in_task(self, body)
  local wait_ms = self.chance:is(0.3) and self.chance:span(1, 1000) or nil
  if wait_ms then
    self.world.spawn(function() body(wait_ms) end)
  else
    body(nil)
  end
end

-- What ends pauses before attempts: of one backend, or (key nil) of all that are dead. Each of those slots tries at once.
local function ends_pauses(self, key, fn)
  local pool, dead, pausing = self.pool, {}, 0
  for _, backend in ipairs(pool:backends()) do dead[backend.key] = backend.dead end
  for _, one in ipairs(pool:connections()) do
    local is_meant = key == one.backend or key == nil and dead[one.backend]
    if is_meant and one.state == "backing_off" then pausing = pausing + 1 end
  end
  self.model.evidence:asked(key)
  local before = pool:stats().attempts
  local ok, _, name = fn()
  local tried = pool:stats().attempts - before
  if ok and tried < pausing then self.fail("%d slots paused, %d try as they were asked to", pausing, tried) end
  return ok, name
end

-- ------------------------------------------------------------------- pause --

local function pause(self)
  local pool = self.pool
  in_task(self, function(wait_ms)
    self:trace("pause, wait %s ms", wait_ms)
    local pool_stats = pool:stats()
    self.pause = self.pause or { granted = pool_stats.granted }
    local mine = self.pause
    local ok, _, name = pool:pause { wait_ms = wait_ms }
    must(self, "pause", ok, name, { timeout = true })
    if self.pause == mine and ok and wait_ms and pool:stats().busy > 0 then
      self.fail("pause returned, and %d leases are out", pool:stats().busy)
    end
  end)
end

local function resume(self)
  local pool = self.pool
  local is_last_resort = self.pause and pool:state() == "failed"
  self:trace "resume"
  self.pause = nil
  local ok
  if is_last_resort then ok = ends_pauses(self, nil, function() return pool:resume() end) else ok = pool:resume() end
  must(self, "resume", ok, nil, {})
end

-- ---------------------------------------------------------------- backends --

local function draw_key(self)
  return "b" .. self.chance:whole(1, self.service.count)
end

local function row_of(self, key)
  for _, backend in ipairs(self.pool:backends()) do
    if backend.key == key and not backend.removed then return backend end
  end
end

local function must_be_drained(self, key, is_drained)
  local backend = row_of(self, key)
  if not backend or backend.drained ~= is_drained then self.fail("%s is %s", key, is_drained and "not drained" or "drained still") end
end

local function drain(self)
  local key = draw_key(self)
  in_task(self, function(wait_ms)
    local before = row_of(self, key)
    self.model.excused[key] = before and before.dead
    local ok, _, name = self.pool:drain { backend = key }
    self.model.excused[key] = nil
    self:trace("drain %s: %s", key, ok and "done" or name)
    if ok ~= (before ~= nil) and not (name == "not_found" and not before) then
      return self.fail("drain of %s: %s, %s", key, tostring(ok), tostring(name))
    end
    if not ok then return end
    must_be_drained(self, key, true)
    if not wait_ms or self.failure then return end
    ok, _, name = self.pool:drain { backend = key, wait_ms = wait_ms }
    must(self, "drain", ok, name, { timeout = true, not_found = true })
  end)
end

local function restore(self)
  local key = draw_key(self)
  local is_known = row_of(self, key) ~= nil
  local ok, _, name = self.pool:restore { backend = key }
  self:trace("restore %s: %s", key, ok and "done" or name)
  must(self, "restore", ok, name, { not_found = not is_known })
  if ok then must_be_drained(self, key, false) end
end

local function ask_anew(self)
  local key = self.chance:is(0.6) and draw_key(self) or nil
  local is_known = key == nil or row_of(self, key) ~= nil
  local ok, name = ends_pauses(self, key, function() return self.pool:ask_anew { backend = key } end)
  self:trace("ask anew %s: %s", key or "all", ok and "done" or name)
  must(self, "ask_anew", ok, name, { not_found = not is_known })
end

-- ------------------------------------------------------------------ leases --

local function draw_holding(self)
  local list = {}
  for _, holding in ipairs(self.held) do list[#list + 1] = holding end
  for _, claimer in ipairs(self.claimers) do
    if claimer.holding and not claimer.is_done then list[#list + 1] = claimer.holding end
  end
  return #list > 0 and self.chance:one_of(list) or nil
end

local function revoke(self)
  local holding = draw_holding(self)
  local handle = holding and holding.handle or 123456789
  local was_out = holding and not holding.is_ended and holding.lease.connection ~= nil
  local was_lent = false
  for _, one in ipairs(was_out and self.pool:leases { where = false } or {}) do was_lent = was_lent or one.id == handle end
  local ok, _, name = self.pool:revoke { lease = handle }
  self:trace("revoke lease %s: %s", handle, ok and "done" or name)
  must(self, "revoke", ok, name, { stale = not was_lent })
  if ok then
    holding.is_revoked = true
    holding.record.is_unfit = true -- nobody may get it any more
    if self.has_model and self.model.ended[handle] ~= "killed" then self.fail("lease %d lives on, it was revoked", handle) end
  end
end

--- A lease has ended in the hands of its claimer: `ok`, in order.
function charge.ended(self, holding, ok)
  if ok and holding.is_revoked then self.fail("lease %d was revoked, and released after that", holding.handle) end
end

-- ------------------------------------------------------------- what must hold --

--- A claim is made: in this pause, or in none.
function charge.claims(self, claimer)
  claimer.pause = self.pause
end

--- And answered.
function charge.answered(self, claimer, lease, name)
  local is_paused = self.pause ~= nil and claimer.pause == self.pause
  if is_paused and lease then self.fail("claimer %d came in a pause, and was granted a connection in it", claimer.id) end
  if is_paused and (name == "overloaded" or name == "pool_failed") then
    self.fail("claimer %d came in a pause, and was refused in it: %s", claimer.id, name)
  end
  if name == "paused" and not is_paused then self.fail("claimer %d was told of a pause that there is not", claimer.id) end
end

local function audit_pause(self, stats)
  if (stats.paused == 1) ~= (self.pause ~= nil) or self.pool:is_paused() ~= (self.pause ~= nil) then
    return self.fail("the pool is %s", self.pause and "not paused" or "paused")
  end
  if not self.pause then return end
  if stats.granted ~= self.pause.granted then
    self.fail("%d claims were granted in a pause", stats.granted - self.pause.granted)
  end
  if stats.overloaded ~= 0 then self.fail "a pool that is paused is overloaded" end
end

local AT_DRAINED = { busy = true, closing = true }

local function audit_drained(self, stats)
  local drained, count = {}, 0
  for _, backend in ipairs(self.pool:backends()) do
    if backend.drained then
      drained[backend.key], count = backend, count + 1
      if backend.dead or backend.ejected or backend.want ~= 0 then
        self.fail("%s is drained and %s", backend.key, backend.want ~= 0 and "planned for" or backend.dead and "dead" or "ejected")
      end
      if self.has_model and not self.model.drained[backend.key] then self.fail("%s is drained, by no event", backend.key) end
    end
  end
  if count ~= stats.drained_backends then self.fail("%d backends are drained, %d counted", count, stats.drained_backends) end
  if count == 0 then return end
  for _, one in ipairs(self.pool:connections()) do
    local backend = drained[one.backend]
    if backend and not AT_DRAINED[one.state] then
      self.fail("slot %d is %s, %s is drained", one.slot, one.state, one.backend)
    end
  end
end

--- Where everything that is ready has run.
function charge.audit(self)
  if not self.is_managed or self.pool.is_over then return end
  local stats = self.pool:stats()
  audit_pause(self, stats)
  if not self.failure then audit_drained(self, stats) end
end

--- All is taken back.
function charge.recover(self)
  if not self.is_managed then return end
  resume(self)
  for _, backend in ipairs(self.pool:backends()) do
    if backend.drained then must(self, "restore", self.pool:restore { backend = backend.key }, nil, {}) end
  end
end

--- The pool stops, which ends a pause.
function charge.stop(self)
  self.pause = nil
end

--- Adds its steps.
function charge.install(step)
  step.pause, step.resume, step.drain, step.restore, step.revoke, step.ask_anew = pause, resume, drain, restore, revoke, ask_anew
end

return charge
