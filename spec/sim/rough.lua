--- Servers and claimers that misbehave, in some of the seeds: servers that accept and close, answer late, serve one request for each
-- connection, take only so many clients, or fail over without a word; claimers that ask and give back what is in an unknown state, throw,
-- and close; factories that say why a connection is not fit; renewals. What they say of each other's answers is checked here.
--
--   connection.is_mute    at a server: it failed over, and will not answer on this connection
--   record.is_unclean     an answer is under way or unread: nobody may get the connection
--   record.renew_by_ms    it is to be replaced by then
local rough = {}

local KINDS = { "unfit", "worn", "timeout", "lost" }

--- Steps beside the usual ones: { kind, usual weight }.
rough.KINDS = { { "ask", 25, always = true }, { "misbehave", 4 }, { "renew", 0.5 } }

-- ------------------------------------------------------------- the servers --

--- What a server does with a request, beside answering it.
function rough.reply(world, server)
  return function(data, connection)
    if connection.is_mute then return nil end
    if server.is_single then -- after the answer, which leaves first
      world.at(world.time_ms() + 0.01, function() connection:close() end)
    end
    return data
  end
end

function rough.on_connect(server)
  return function(connection)
    if server.takes and server.connections > server.takes then connection:close() end
  end
end

local MISBEHAVE = {
  -- The service fails over: what is open stays open, and gets no answer any more.
  fail_over = function(server, _, world)
    for _, connection in ipairs(server:list()) do connection.is_mute = true end
    server.failed_over_ms = world.time_ms()
  end,
  answer_late = function(server, chance) server:set { reply_delay = { 0, chance:small(1, 1500) } } end,
  serve_once = function(server) server.is_single = true end,
  take_few = function(server, chance) server.takes = chance:whole(0, 6) end,
  close_all = function(server, chance) server:set { accept_then_close = 1, close_after = { 0, chance:small(0, 2000) } } end,
}
local NAMES = { "answer_late", "close_all", "fail_over", "fail_over", "serve_once", "take_few", "mend", "mend", "mend" }

--- All of that ends, but for what failed over.
function rough.mend(server)
  server:set { reply_delay = 0 }
  server.is_single, server.takes = false, nil
end

--- Why a factory says that a connection is not fit.
function rough.kind(chance)
  return chance:is(0.7) and chance:one_of(KINDS) or nil
end

local function misbehave(self)
  if not self.has_sockets then return end
  local service, chance = self.service, self.chance
  local name = chance:one_of(service.servers)
  local what = chance:one_of(NAMES)
  self:trace("server: %s %s", what, name)
  if what == "mend" then return service:mend(service.servers[name]) end
  MISBEHAVE[what](service.servers[name], chance, self.world)
end

-- ------------------------------------------------------------ the claimers --

-- Asks, and hears: its own answer, or none.
-- @return true; or nil, "timeout" or what else went wrong
local function ask(self, record, plan)
  self.questions = (self.questions or 0) + 1
  local sock, question = record.sock, "q" .. self.questions
  record.is_unclean = true -- until the answer is here; he may be killed before
  sock:settimeouts(1000, 1000, plan.patience_ms)
  local sent, why = sock:send(question .. "\n" .. (plan.asks_twice and question .. "+\n" or ""))
  if not sent then return nil, why end
  local line, message = sock:receive "*l"
  if not line and message == "timeout" and plan.retries then line, message = sock:receive "*l" end
  if line and line ~= question then self.fail("%s was asked and %s was answered: somebody else's", question, line) end
  record.is_unclean = line == nil or plan.asks_twice
  return line, message
end

-- A stale connection, met by somebody after another was found dead: whoever had it then may have proven it since.
local function check_stale(self, record, now_ms)
  local evidence = self.model.evidence
  local connection = record.sock.transport and record.sock.transport.connection
  local backend = evidence.backends[record.key]
  if not connection or not connection.is_mute or not backend or not backend.found_ms then return end
  local failed_over_ms, found_ms = connection.server.failed_over_ms, backend.found_ms
  local was_lent = record.back_ms and record.back_ms >= found_ms
  if failed_over_ms < found_ms and record.opened_ms < failed_over_ms and found_ms < now_ms and record.has_check
    and evidence.has_check and not was_lent and backend.doubts < 5 then
    self.fail("%s failed over at %.3f ms, one was found dead at %.3f, and another is lent at %.3f", record.key, failed_over_ms, found_ms,
      now_ms)
  end
end

--- Somebody gets a connection.
-- @param waited he did: it may have been opened, or come back, just for him
function rough.lent(self, record, waited)
  local now_ms = self.world.time_ms()
  if record.is_unclean then self.fail("connection %d is lent, and an answer is under way", record.id) end
  if not waited and record.renew_by_ms and now_ms > record.renew_by_ms + 0.001 then
    self.fail("connection %d is lent at %.3f ms, it was to be renewed by %.3f", record.id, now_ms, record.renew_by_ms)
  end
  if self.has_model and record.sock and not waited then check_stale(self, record, now_ms) end
end

--- And gives it back.
function rough.back(self, record)
  record.back_ms = self.world.time_ms()
end

local ENDS = { "release", "release", "release", "release", "close", "throw" }

local function plan_for(chance)
  return {
    patience_ms = chance:one_of { 5, 50, 300 }, retries = chance:is(0.3), asks_twice = chance:is(0.05),
    ends = chance:one_of(ENDS), fails = chance:is(0.6), -- what he does about what went wrong; otherwise he gives it back as it is
  }
end

-- What he does with the connection. @return what pool:with returns
local function work(self, claimer, plan, tools)
  return function(_, lease)
    tools.answered(self, claimer, lease)
    if self.failure then return true end
    local holding = tools.hold(self, lease, claimer)
    claimer.holding = holding
    local record, line = holding.record, true
    if record.sock and record.state == "open" then line = ask(self, record, plan) end
    rough.back(self, record)
    holding.is_ended = true
    if plan.ends == "throw" then error("injected: the work throws", 0) end
    if not line and plan.fails then
      holding.ended_by = "fail"
      lease:fail "injected: failed by its claimer"
    elseif plan.ends == "close" then
      holding.ended_by = "close"
      lease:close()
    end
    return true
  end
end

-- `tools` are those of spec/sim/steps.lua.
local function claim_and_ask(self, tools)
  local plan = plan_for(self.chance)
  local claimer = tools.new_claimer(self, {})
  self:trace("claimer %s asks, patience %s ms", claimer.id, plan.patience_ms)
  tools.start_claimer(self, claimer, function()
    self.model.current = claimer
    local ok, result, _, name = pcall(self.pool.with, self.pool, work(self, claimer, plan, tools))
    if not ok and result ~= "injected: the work throws" then self.fail("with threw: %s", tostring(result)) end
    if ok and result == nil then tools.answered(self, claimer, nil, name) end
    if not claimer.holding then return end
    tools.must_have_ended(self, claimer, claimer.holding.ended_by or plan.ends == "throw" and "close" or "release")
  end)
end

local function renew(self)
  local chance, service = self.chance, self.service
  local key = chance:is(0.5) and "b" .. chance:whole(1, service.count) or nil
  local over_ms = chance:one_of { 0, 10, 1000 }
  local meant = {} -- those that open meanwhile are new
  for record in pairs(service.opened) do
    if not key or record.key == key then meant[#meant + 1] = record end
  end
  local ok, _, name = self.pool:renew { backend = key, over_ms = over_ms }
  self:trace("renew %s over %s ms: %s", key or "all", over_ms, ok and "done" or name)
  if not ok then return end
  for _, record in ipairs(meant) do
    record.renew_by_ms = math.min(record.renew_by_ms or math.huge, self.world.time_ms() + over_ms)
  end
end

--- Adds its steps.
function rough.install(step, tools)
  step.misbehave, step.renew = misbehave, renew
  step.ask = function(self) claim_and_ask(self, tools) end
end

return rough
