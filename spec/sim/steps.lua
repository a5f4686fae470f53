--- The steps of a scenario: each is one thing that somebody does, drawn by weight.
local charge = require "spec.sim.charge"
local draw = require "spec.sim.draw"
local rough = require "spec.sim.rough"

local steps = {}
local STEP = {}

--- Causes for which a lease ends without its claimer.
steps.TAKES_AWAY = { owner = true, stop = true, killed = true }

--- { kind, usual weight }; `always`: in every seed.
steps.KINDS = {
  { "advance", 30, always = true }, { "claim", 30, always = true }, { "try", 6 }, { "release", 30, always = true }, { "close", 3 },
  { "fail", 3 }, { "stale", 2 }, { "with", 8 }, { "kill", 4 }, { "owner", 6 }, { "owner_gone", 3 }, { "member", 3 }, { "command", 2 },
  { "server", 5 }, { "wire", 1 }, { "set", 3 }, { "replace", 0.5 }, { "lose", 3 }, { "jump", 1 }, { "stats", 1 },
}

-- ------------------------------------------------------------------ leases --

-- Somebody has a lease: of a connection that nobody else has, and that is open unless the pool took it back meanwhile.
local function hold(self, lease, claimer)
  local record, model = lease.connection, self.model
  local was_ended = self.has_model and model.ended[lease.handle]
  if self.has_model and not was_ended and not model.leases[lease.handle] then self.fail("lease %d is not known", lease.handle) end
  if was_ended and not steps.TAKES_AWAY[was_ended] then self.fail("a lease came that ended before: %s", was_ended) end
  if record == nil then return self.fail "a lease came without a connection" end
  if record.holder and self.has_model and model.leases[record.holder.handle] then
    self.fail("connection %d is leased to two", record.id)
  end
  if record.holder and not record.holder.is_ended then self.fail("connection %d is leased again before it came back", record.id) end
  if record.state ~= "open" and self.has_model and not was_ended then
    self.fail("connection %d was leased when %s", record.id, record.state)
  end
  if record.is_unfit and not was_ended then self.fail("connection %d was leased after it was found unfit", record.id) end
  local backend = lease:backend()
  if not was_ended and self.has_model and (not backend or backend.key ~= record.key) then
    self.fail("a lease on %s is said to be one on %s", record.key, backend and backend.key or "none")
  end
  rough.lent(self, record, claimer.id ~= nil and claimer.has_waited)
  local holding = { lease = lease, handle = lease.handle, record = record, claimer = claimer, is_ended = false }
  record.holder = holding
  return holding
end

-- Ends a lease in one of the three ways; the pool may have been faster.
local function finish(self, holding, how)
  local lease, model = holding.lease, self.model
  local was_over = lease.connection == nil
  holding.is_ended = true
  rough.back(self, holding.record)
  if how ~= "release" and not was_over then holding.record.is_unfit = true end
  if holding.handle % 4 == 0 and not was_over then
    local ok, _, name = lease:report(holding.handle % 8 == 0)
    if ok ~= true and name ~= "stale" then self.fail("report returned %s, %s", tostring(ok), tostring(name)) end
  end
  local ok, _, name = lease[how](lease, how == "fail" and "injected: failed by its claimer" or nil)
  if lease.connection ~= nil then self.fail("a lease has its connection after its %s", how) end
  if ok ~= true and name ~= "stale" then self.fail("%s returned %s, %s", how, tostring(ok), tostring(name)) end
  if ok and was_over then self.fail("%s of a lease that was over succeeded", how) end
  charge.ended(self, holding, ok)
  if self.has_model and not self.failure then
    local cause = model.ended[holding.handle]
    if not cause and holding.record.is_cleaning then cause = "release" end -- in a moment
    if not cause then return self.fail("lease %d lives on after its %s", holding.handle, how) end
    if not ok and not was_over and not steps.TAKES_AWAY[cause] then
      self.fail("%s was stale: the lease had ended by %s", how, cause)
    end
  end
  self:trace("%s of lease %s: %s", how, holding.handle, ok and "done" or name)
end

local function take_held(self)
  local held = self.held
  if #held == 0 then return nil end
  local index = self.chance:whole(1, #held)
  local holding = held[index]
  held[index] = held[#held]
  held[#held] = nil
  return holding
end

local function end_one(how)
  return function(self)
    local holding = take_held(self)
    if not holding then return end
    if not holding.is_ended then finish(self, holding, how) end
    self.ended[#self.ended % 8 + 1] = holding
  end
end

STEP.release, STEP.close, STEP.fail = end_one "release", end_one "close", end_one "fail"

-- A lease that is over, once more.
function STEP.stale(self)
  local holding = self.ended[self.chance:whole(1, 8)]
  if not holding then return end
  finish(self, holding, self.chance:one_of { "release", "close", "fail" })
end

--- Somebody gives back what they hold; everybody does.
steps.release_one = STEP.release

function steps.release_all(self)
  while #self.held > 0 do STEP.release(self) end
end

-- ------------------------------------------------------------------ claims --

-- A claim is answered: once, as the core said, and in its turn.
local function answered(self, claimer, lease, name)
  claimer.answers = claimer.answers + 1
  self.answered = self.answered + 1
  self:trace("claimer %s: %s", claimer.id, lease and "lease" or name)
  if claimer.answers > 1 then self.fail("claimer %d was answered %d times", claimer.id, claimer.answers) end
  if claimer.is_killed then self.fail("claimer %d was killed, and answered", claimer.id) end
  local now = self.world.time_ms()
  if now > claimer.deadline_ms + 0.00001 then self.fail("claimer %d was answered at %.6f ms, too late", claimer.id, now) end
  if lease and claimer.has_waited and not self.is_enduring then -- there the model knows whose turn it is
    if claimer.id < (self.last_granted or 0) then self.fail("claimer %d overtook claimer %d", self.last_granted, claimer.id) end
    self.last_granted = claimer.id
  end
  charge.answered(self, claimer, lease, name)
  if lease == nil and type(name) ~= "string" then self.fail("claimer %d got neither a lease nor a reason", claimer.id) end
  if not self.has_model or self.failure then return end
  local expected = claimer.expected
  local owner_is_gone = name == "cancelled" and claimer.owner and not claimer.owner.core
  local is_right = expected == name or owner_is_gone
  if lease then is_right = expected == "granted" and claimer.expected_lease == lease.handle end
  if not is_right then
    self.fail("claimer %d was told %s; the core said %s", claimer.id, lease and "lease " .. lease.handle or name, tostring(expected))
  end
end

local function draw_claim(self)
  local chance, given = self.chance, {}
  if chance:is(0.6) then
    given.timeout_ms = chance:span(0, 500, chance:is(0.3) and 0, 0.3)
  end
  if chance:is(0.2) then given.error_on_empty = true end
  if #self.owners > 0 and chance:is(0.4) then given.owner = chance:one_of(self.owners) end
  return given
end

local function new_claimer(self, given)
  self.asked = self.asked + 1
  local timeout = given.timeout_ms
  if timeout == nil then timeout = self.options.claim_timeout_ms end
  local claimer = {
    id = self.asked, owner = given.owner, answers = 0, is_killed = false, has_waited = false,
    deadline_ms = timeout and self.world.time_ms() + timeout or math.huge,
  }
  charge.claims(self, claimer)
  return claimer
end

-- A claimer that may wait goes on the list until it is done; `claim` asks, in its task.
local function start_claimer(self, claimer, body)
  self.claimers[#self.claimers + 1] = claimer
  claimer.task = self.world.spawn(function()
    body()
    claimer.is_done = true
  end)
  claimer.has_waited = not claimer.is_done
  self.model.current = nil
  -- Those that are done leave the list now and then.
  if #self.claimers > 2 * (self.claimers.kept or 0) + 32 then steps.forget_done(self) end
end

--- Only claimers that wait or work stay on the list; the others must have had their answer.
function steps.forget_done(self)
  local kept = {}
  for _, claimer in ipairs(self.claimers) do
    if not claimer.is_done and not claimer.is_killed then
      kept[#kept + 1] = claimer
    elseif claimer.answers ~= 1 and not claimer.is_killed then
      self.fail("claimer %d is done and was answered %d times", claimer.id, claimer.answers)
    end
  end
  kept.kept = #kept
  self.claimers = kept
end

-- Claims in a task, which goes on holding the lease, or leaves it to others to give it back.
function STEP.claim(self)
  local given, pool, chance = draw_claim(self), self.pool, self.chance
  local claimer = new_claimer(self, given)
  local hold_ms = chance:is(0.3) and chance:span(0, 300)
  self:trace("claimer %s claims: timeout %s", claimer.id, given.timeout_ms, given.owner and "owned" or "")
  start_claimer(self, claimer, function()
    self.model.current = claimer
    local lease, _, name = pool:claim(given)
    answered(self, claimer, lease, name)
    if not lease then return end
    local holding = hold(self, lease, claimer)
    if self.failure then return end
    if self.is_ending then return finish(self, holding, "release") end
    self.held[#self.held + 1] = holding
    if not hold_ms then return end
    self.world.sleep(hold_ms)
    if not holding.is_ended then finish(self, holding, "release") end
  end)
end

-- Outside of any task.
STEP["try"] = function(self)
  local claimer = new_claimer(self, { timeout_ms = 0 })
  self.model.current = claimer
  local lease, name, _
  if self.chance:is(0.5) then
    lease, _, name = self.pool:try_claim()
  else
    lease, _, name = self.pool:claim { timeout_ms = 0 }
  end
  self.model.current = nil
  answered(self, claimer, lease, name)
  if lease and not self.failure then self.held[#self.held + 1] = hold(self, lease, claimer) end
end

-- What pool:with lent is back, in this way; or the pool took it before.
local function must_have_ended(self, claimer, how)
  if not self.has_model or self.failure then return end
  local cause = self.model.ended[claimer.holding.handle]
  if not cause and claimer.holding.record.is_cleaning then cause = "release" end -- in a moment
  if not cause then return self.fail("the lease of claimer %d lives on after its with", claimer.id) end
  if cause ~= how and not steps.TAKES_AWAY[cause] then
    self.fail("the lease of claimer %d ended by %s in with, not by %s", claimer.id, cause, how)
  end
end

-- pool:with(), whose function waits, uses the connection, throws, or ends the lease itself.
local function work_with(self, claimer, plan)
  return function(connection, lease)
    claimer.runs = (claimer.runs or 0) + 1
    if claimer.runs > 1 then self.fail("the function of claimer %d ran twice", claimer.id) end
    answered(self, claimer, lease)
    if self.failure then return "answered" end
    claimer.holding = hold(self, lease, claimer)
    if plan.ms then self.world.sleep(plan.ms) end
    local sock = plan.sends and connection.state == "open" and connection.sock
    if sock and sock:send "hello\n" then sock:receive "*l" end
    claimer.holding.is_ended = true
    rough.back(self, claimer.holding.record)
    if plan.ends then
      lease[plan.ends](lease)
      claimer.holding.ended_by = plan.ends
    end
    if plan.throws then error("injected: the work throws", 0) end
    return "answered"
  end
end

STEP["with"] = function(self)
  local given, chance = draw_claim(self), self.chance
  local claimer = new_claimer(self, given)
  local plan = {
    ms = chance:is(0.6) and chance:span(0, 200), throws = chance:is(0.2), sends = chance:is(0.4),
    ends = chance:is(0.1) and chance:one_of { "release", "close", "fail" },
  }
  self:trace("claimer %s works: timeout %s", claimer.id, given.timeout_ms)
  start_claimer(self, claimer, function()
    self.model.current = claimer
    local ok, result, _, name = pcall(self.pool.with, self.pool, work_with(self, claimer, plan), given)
    if not ok and result ~= "injected: the work throws" then self.fail("with threw: %s", tostring(result)) end
    if ok and plan.throws and result == "answered" then self.fail("with did not throw what its function threw") end
    if ok and result == nil then answered(self, claimer, nil, name) end
    if claimer.holding then must_have_ended(self, claimer, plan.ends or plan.throws and "close" or "release") end
  end)
end

-- The task of a claimer is killed: while it waits, works, or holds.
function STEP.kill(self)
  local claimers = self.claimers
  if #claimers == 0 then return end
  local claimer = self.chance:one_of(claimers)
  if claimer.is_done or claimer.is_killed then return end
  self:trace("claimer %s is killed", claimer.id)
  claimer.is_killed = true
  if claimer.holding then claimer.holding.is_ended = true end
  self.world.kill(claimer.task)
  if claimer.holding then must_have_ended(self, claimer, claimer.holding.ended_by or "close") end
end

charge.install(STEP)
rough.install(STEP, { new_claimer = new_claimer, start_claimer = start_claimer, answered = answered, hold = hold,
  must_have_ended = must_have_ended })

function STEP.owner(self)
  if #self.owners < 5 then self.owners[#self.owners + 1] = self.pool:owner() end
end

function STEP.owner_gone(self)
  if #self.owners == 0 then return end
  local owner = table.remove(self.owners, self.chance:whole(1, #self.owners))
  self:trace "an owner is gone"
  owner:gone()
  self:check()
  for _, holding in ipairs(self.held) do
    if holding.claimer.owner == owner and not holding.is_ended and self.has_model and not self.model.ended[holding.handle] then
      self.fail("lease %d lives on, its owner is gone", holding.handle)
    end
  end
end

-- ------------------------------------------------------- service and options --

function STEP.member(self)
  local service, chance = self.service, self.chance
  local index = chance:whole(1, service.count)
  local key = "b" .. index
  if service.members[key] and chance:is(0.5) then
    service.members[key] = nil
    self:trace("member %s leaves", key)
    if chance:is(0.5) then return service.sink:remove(key) end
  else
    local backend = service:join(index)
    self:trace("member %s joins at %s, weight %s", key, backend.port, backend.weight)
    if chance:is(0.5) then return service.sink:add(backend) end
  end
  if chance:is(0.5) then service.sink:set(service:member_list()) end
end

function STEP.command(self)
  local service, chance = self.service, self.chance
  local command = chance:one_of { "throw", "fail", "set", "set", "rubbish" }
  self:trace("the resolver is to %s", command)
  service.commands[#service.commands + 1] = command
  service.throws_at_first = command == "throw" and chance:is(0.5)
end

function STEP.server(self)
  self:trace("server: %s %s", self.service:disturb())
end

function STEP.wire(self)
  if not self.has_sockets then return end
  local chance, service = self.chance, self.service
  if chance:is(0.5) then
    local address, flag = service:address(chance:whole(1, service.count)), chance:is(0.3)
    self:trace("unreachable %s: %s", address, flag)
    self.world.unreachable(address, flag)
  else
    local _, wire = draw.faults(chance)
    self.world.faults(chance:is(0.5) and wire)
  end
end

function STEP.set(self)
  local names, drawers = draw.options_of(self.is_enduring)
  local name = self.chance:one_of(names)
  local value = drawers[name](self.chance)
  self:trace("set %s %s", name, type(value) == "table" and "anew" or value)
  self:set { [name] = value }
end

function STEP.replace(self)
  local service, given = self.service, {}
  if self.chance:is(0.5) then given.connect = service:factory() else given.resolver = service:resolver() end
  self:trace("replace %s", given.connect and "connect" or "resolver")
  self.pool:replace(given)
end

function STEP.lose(self)
  self.service:lose_one()
end

-- What people look at must not disturb.
function STEP.stats(self)
  local stats = self.pool:stats()
  local sum = 0
  for _, backend in ipairs(self.pool:backends()) do sum = sum + backend.total end
  if sum ~= stats.total then self.fail("the backends have %d slots, the pool %d", sum, stats.total) end
  local _ = tostring(self.pool) .. tostring(self.pool:last_error())
end

-- -------------------------------------------------------------------- time --

function steps.advance(self, ms)
  self.world.advance(ms)
  self:audit()
end

function STEP.advance(self)
  local chance = self.chance
  steps.advance(self, chance:is(0.1) and 0 or chance:small(0, self.usual_advance_ms * 4))
end

function STEP.jump(self)
  steps.advance(self, self.chance:small(0, 3000))
end

--- Takes one step.
function steps.take(self)
  local weights = self.weights
  STEP[self.chance:weighted(weights.names, weights.weights, weights.total)](self)
end

return steps
