--- One scenario: a pool on the simulated host, driven by chance through steps and faults; everything comes from its seed.
--
--   local scenario = require "spec.sim.scenario"
--   local report = scenario.run { seed = 7, steps = 2000 }
--     report.message   nil: all held; else what did not
--     report.hash      of everything that happened, in order
--     report.header    seed, options, faults
--     report.trace     the last lines
--
-- The invariants are looked at after every pump of the pool and after every step (`check`), the accounts of connections,
-- claims and leases whenever time has gone by (`audit`), and what is promised for the end at the end (spec/sim/ending.lua).
local bit = require "bit"
local Pool = require "cueball.pool"
local sim = require "cueball.host.sim"
local charge = require "spec.sim.charge"
local draw = require "spec.sim.draw"
local ending = require "spec.sim.ending"
local steps = require "spec.sim.steps"
local rough = require "spec.sim.rough"
local Model = require "spec.sim.model"
local Service = require "spec.sim.service"
local ffi = require "ffi"
local bxor, rol, tobit = bit.bxor, bit.rol, bit.tobit

local TRACE_LINES = 50

local Scenario = {}
Scenario.__index = Scenario

-- ------------------------------------------------------------------ trace --

local word_numbers = {}

-- FNV-1a of a word, kept.
local function number_of(value)
  if type(value) == "number" then return tobit(value % 4294967296) end
  local known = word_numbers[value]
  if not known then
    known = 5381
    local text = tostring(value)
    for index = 1, #text do known = tobit(bxor(known, text:byte(index)) * 403) end
    word_numbers[value] = known
  end
  return known
end

local function fold(self, value)
  self.hash = tobit(bxor(rol(self.hash, 5), number_of(value)) * 40503)
end

--- A line of the trace, put into words only if somebody asks.
function Scenario:trace(format, a, b, c, d)
  if self.failure then return end
  local at = self.traced % TRACE_LINES + 1
  self.traced = self.traced + 1
  self.lines[at] = { self.world.time_ms(), format, a, b, c, d }
  fold(self, self.world.time_ms() * 1000)
  fold(self, format)
  if a ~= nil then fold(self, a) end
  if b ~= nil then fold(self, b) end
  if c ~= nil then fold(self, c) end
  if d ~= nil then fold(self, d) end
  if self.is_verbose then io.stderr:write(self:line(at), "\n") end
end

function Scenario:line(at)
  local entry = self.lines[at]
  local format = entry[2]
  local shown = {}
  for index = 1, 4 do
    local value = entry[index + 2]
    shown[index] = type(value) == "number" and ("%.9g"):format(value) or tostring(value)
  end
  return ("[%11.3f] "):format(entry[1]) .. format:format(unpack(shown))
end

function Scenario:last_lines()
  local lines = {}
  for number = math.max(0, self.traced - TRACE_LINES), self.traced - 1 do
    lines[#lines + 1] = self:line(number % TRACE_LINES + 1)
  end
  return table.concat(lines, "\n")
end

local EVENT_FORMATS = {
  slot_state = "  slot %s: %s -> %s (%s)", claim_granted = "  claim %s is granted slot %s as lease %s",
  lease_ended = "  lease %s of slot %s ended (%s)",
}

local function trace_event(self, event)
  local kind = event.kind
  if kind == "slot_state" then
    self:trace(EVENT_FORMATS.slot_state, event.slot, event.from, event.to, event.cause or "-")
  elseif kind == "claim_granted" then
    self:trace(EVENT_FORMATS.claim_granted, event.claim or "at once", event.slot, event.lease)
  elseif kind == "lease_ended" then
    self:trace(EVENT_FORMATS.lease_ended, event.lease, event.slot, event.cause)
  else
    self:trace("  %s %s %s %s", kind, event.claim or event.backend or event.from or "", event.error or event.to or "", event.count)
  end
end

-- ------------------------------------------------------------------ checks --

local check_text = ffi.new "char[512]"
local CHECK_SIZE = ffi.sizeof(check_text)

--- The core agrees with itself and with the model.  May be called at any time but in a pump.
function Scenario:check()
  if self.failure then return end
  local pool, model = self.pool, self.model
  if pool.core:check(check_text, CHECK_SIZE) ~= 0 then
    return self.fail("cueball_pool_check: %s", ffi.string(check_text))
  end
  if pool.core.outlook.actions ~= 0 then return self.fail("%d actions were left", pool.core.outlook.actions) end
  if not pool.is_over and pool.alarm_at > tonumber(pool.core.outlook.deadline) then
    return self.fail("the alarm stands at %.0f ns, the core's deadline is %.0f", pool.alarm_at, tonumber(pool.core.outlook.deadline))
  end
  if not self.has_model then return end
  if pool.core.outlook.events ~= 0 then return self.fail("%d events were left unread", pool.core.outlook.events) end
  if self.service.records.open < model:connected() then
    self.fail("%d connections are open, the pool counts %d", self.service.records.open, model:connected())
  end
end

-- Slots, by the core's own count; the same as the model's.
local function audit_slots(self)
  local model, counts = self.model, self.pool.core.numbers
  self.pool.core:stats()
  if not self.has_model then
    local may_wait = counts.idle == 0 or self.pause ~= nil
    if counts.busy ~= 0 and counts.waiting ~= 0 and not may_wait then self.fail "claims wait while connections rest" end
    return counts.idle + counts.busy + counts.checking, counts.connecting, counts.closing, counts.total
  end
  local of_model = model.counts
  if counts.total ~= model.total or counts.idle ~= of_model.idle or counts.busy ~= of_model.busy
    or counts.connecting ~= of_model.connecting or counts.backing_off ~= of_model.backoff
    or counts.checking ~= of_model.checking or counts.closing ~= of_model.closing then
    self.fail("the pool counts %d slots, the events come to %d", counts.total, model.total)
  end
  if model.leased ~= counts.busy then self.fail("%d leases, %d busy", model.leased, counts.busy) end
  if #model.queue ~= counts.waiting then self.fail("%d claims wait, the pool counts %d", #model.queue, counts.waiting) end
  local answers = counts.granted + counts.claim_timeouts + counts.claims_refused + counts.claims_cancelled
  if counts.claims ~= answers + counts.waiting then
    self.fail("%d claims, %d answers, %d wait", tonumber(counts.claims), tonumber(answers), counts.waiting)
  end
  if tonumber(counts.granted) ~= model.granted or tonumber(counts.claims_cancelled) ~= model.cancelled
    or tonumber(counts.claim_timeouts + counts.claims_refused) ~= model.refused then
    self.fail("the pool counts %d grants, the events come to %d", tonumber(counts.granted), model.granted)
  end
  local longest = self.longest
  local place_ms = longest.max_timeout_ms + longest.timeout_ms + longest.check_timeout_ms + longest.proof_ms
  model.evidence:audit(self.world.time_ms(), 1.5 * longest.max_delay_ms, place_ms)
  -- Another weight is no event, and puts the plan off; ten times at most.
  model:check_full(self.world.time_ms(), self.longest.rebalance_delay_ms * ((self.has_weights or self.has_priorities) and 10 or 1))
  return model:connected(), of_model.connecting, of_model.closing, model.total
end

--- The accounts: what the pool counts, what its factory has on record, what the servers see.
-- Only where everything that is ready has run.
function Scenario:audit()
  self:check()
  if self.failure then return end
  local connected, connecting, closing, total = audit_slots(self)
  local records = self.service.records
  if records.open ~= connected then self.fail("%d connections are open, the pool counts %d", records.open, connected) end
  if records.opening ~= connecting then self.fail("%d attempts are under way, the pool counts %d", records.opening, connecting) end
  if records.closing < closing then self.fail("%d closes are under way, the pool counts %d", records.closing, closing) end
  local abandoned = records.closing - closing -- closes the pool waits for no longer
  local _, both = self.service:server_connections()
  if both > total + abandoned then
    self.fail("the servers see %d connections; %d slots, %d closes abandoned", both, total, abandoned)
  end
  local deadline = self.pool.is_over and math.huge or tonumber(self.pool.core:deadline())
  if deadline <= self.world.now() then self.fail("what was due at %.0f ns is not done at %.0f", deadline, self.world.now()) end
  charge.audit(self)
end

-- ------------------------------------------------------------------ making --

-- What may be in the log of a pool whose scripts throw what was put into them.
local function log_is_expected(level, message)
  return level ~= "error" or message:find("injected: ", 1, true) or message:find("failed (was ", 1, true)
end

local function draw_all(self, chance)
  self.is_enduring = draw.chance(self.seed, draw.ENDURING_STREAM):is(0.5)
  self.options = draw.options(chance, self.is_enduring)
  self.factory_faults, self.wire_faults = draw.faults(chance)
  self.has_weights = chance:is(0.3)
  self.has_priorities = chance:is(0.2)
  self.has_sockets = chance:is(0.6)
  self.has_model = chance:is(0.65) -- else nobody subscribes, and the pool pumps only when it has to
  self.usual_advance_ms = chance:one_of { 0.3, 2, 2, 10, 40 }
  self.weights = draw.weights(chance, steps.KINDS)
  local luck = draw.chance(self.seed, draw.ROUGH_STREAM)
  self.is_rough = luck:is(0.5)
  if self.is_rough then
    self.options.proven_after_ms = luck:span(0, 3000, 0, 0.5)
    self.weights = draw.weights(luck, rough.KINDS, self.weights)
  end
  local mind = draw.chance(self.seed, draw.CHARGE_STREAM)
  self.is_managed = mind:is(0.4)
  if self.is_managed then self.weights = draw.weights(mind, charge.KINDS, self.weights) end
  self.has_reset = draw.dirt(draw.chance(self.seed, draw.DIRTY_STREAM), self.factory_faults)
  self.stop_at = chance:is(0.25) and chance:whole(1, self.steps_max) or nil
  self.faults_change = chance:is(0.7)
end

local function make_world(self)
  local world = sim.new { seed = self.seed }
  self.world = world
  world.log = function(level, message)
    if self.is_verbose then io.stderr:write("  log ", level, ": ", message, "\n") end
    if not log_is_expected(level, message) then self.fail("an error in the log: %s", message) end
  end
  if self.has_sockets then world.faults(self.wire_faults) end
end

local function make_pool(self)
  local given = { host = self.world, resolver = self.service:resolver(), connect = self.service:factory() }
  for name, value in pairs(self.options) do given[name] = value end
  local pool = Pool.new(given)
  self.pool = pool
  pool.pump = function(of)
    Pool.pump(of)
    if not of.is_pumping and not of.is_reading then self:check() end
  end
  return pool
end

-- A pool tells nothing before somebody subscribes: it starts with no backends.
local function start_pool(self)
  local members = self.service.members
  if self.has_model then self.service.members = {} end
  local pool = make_pool(self)
  self.service.members = members
  self.model.evidence.has_check = self.model.coming_check
  if self.has_model then
    pool:subscribe(function(event)
      trace_event(self, event)
      self.model:on(event)
    end)
    self.service.sink:set(self.service:member_list())
  end
end

local function header(self)
  return table.concat({
    ("seed %d, %d steps: %d backends, %s%s, %s, stop at step %s"):format(self.seed, self.steps_max, self.service.count,
      (self.is_rough and "rough, " or "") .. (self.is_managed and "managed, " or ""),
      self.has_sockets and "sockets" or self.service.is_synchronous and "no sockets, connects at once" or "no sockets",
      self.has_model and "events watched" or "nobody subscribes", tostring(self.stop_at or "none")),
    "options " .. self.drawn_options,
    "faults " .. self.drawn_faults,
    "steps " .. draw.shown(self.weights.weights),
  }, "\n")
end

--- Changes an option of the living pool, if it has not stopped.
function Scenario:set(given)
  for name, value in pairs(given) do self.options[name] = value end
  ending.note_limits(self)
  self.pool:set(given)
end

local function drive(self)
  ending.note_limits(self)
  start_pool(self)
  self:audit()
  for step = 1, self.steps_max do
    steps.take(self, step)
    self:check()
    if self.failure or step == self.stop_at then break end
  end
  if not self.failure then ending.run(self) end
end

--- Runs one scenario.
-- @param given { seed =, steps = 2000, verbose = false, coverage = a table to count events in, or nil }
-- @return a report, see the top
function Scenario.run(given)
  local self = setmetatable({
    seed = given.seed, steps_max = given.steps or 2000, is_verbose = given.verbose or false,
    hash = 0, lines = {}, traced = 0, failure = nil,
    claimers = {}, held = {}, ended = {}, owners = {}, asked = 0, answered = 0,
  }, Scenario)
  function self.fail(format, ...)
    if not self.failure then self.failure = debug.traceback(select("#", ...) > 0 and format:format(...) or format, 2) end
  end
  local chance = draw.chance(self.seed)
  self.chance = chance
  draw_all(self, chance)
  make_world(self)
  self.service = Service.new(self, chance:whole(1, chance:one_of { 2, 4, 7 }), self.has_sockets)
  self.model = Model.new(self.fail, self.options, self.is_enduring, self.has_priorities)
  self.model.coverage = given.coverage
  self.drawn_options = draw.shown(self.options)
  self.drawn_faults = draw.shown(self.factory_faults) .. (self.has_sockets and " wire " .. draw.shown(self.wire_faults) or "")
  local report = { header = header(self) }
  if self.is_verbose then io.stderr:write(report.header, "\n") end
  local ok, message = xpcall(drive, debug.traceback, self)
  if not ok then self.fail("%s", message) end
  pcall(self.world.close)
  report.message, report.hash, report.trace = self.failure, self.hash, self:last_lines()
  report.claims, report.time_ms = self.answered, self.world.time_ms()
  return report
end

return Scenario
