--- Makes load on a pool: requests at a rate, whoever is late (an open loop), or so many at a time (a closed one).
--
-- In an open loop each request has a time at which it is meant to begin, and how long it took counts from there. So requests that had to
-- wait, because those before them took long, count their wait: a stall is not left out of the measurement, as it is where nobody asks
-- while an answer is waited for. G. Tene calls that coordinated omission; wrk2 measures as this does.
--
-- The happy path: the pacer begins what is due, each request in a task; a task that is through takes the next one that waits, if there may
-- be no more of them at once. What can go wrong: the pacer is late, as the processor is busy. That is measured, too (`late`).
local histogram = require "cueball.cli.load.histogram"
local random = require "cueball.random"
local text = require "cueball.text"

local generator = {}

local WAITING_MAX = 1000000   -- requests that wait to be begun; more are given up, and counted
local KINDS_MAX = 20          -- of outcomes that are told apart
local SLICE_NS = 1e6          -- so long may a task of a closed loop go on without a pause

local Generator = {}
Generator.__index = Generator

-- ------------------------------------------------------------------- one request --

local function count(self, kind)
  local outcomes = self.outcomes
  if not outcomes[kind] then
    self.kinds = self.kinds + 1
    if self.kinds > KINDS_MAX then kind = "other" end
  end
  outcomes[kind] = (outcomes[kind] or 0) + 1
end

-- Holds the connection as long as was asked for, and has the request done.
-- @return whether it went well; what went wrong
local function use(self, lease)
  local is_well, result, message = true, true, nil
  if self.plan.request then is_well, result, message = pcall(self.plan.request, lease.connection, lease) end
  if self.hold_ms then self.host.sleep(self.hold_ms()) end
  if not is_well then
    lease:close()
    return false, text.first_line(result)
  end
  lease:release()
  if result == nil or result == false then return false, text.first_line(message or "the request failed") end
  return true
end

-- @param meant when it was meant to begin
local function perform(self, meant)
  local now = self.host.now
  local began = now()
  self.number = self.number + 1
  local number = self.number
  self.open[number] = meant
  local is_measured = meant >= self.measured_from and meant < self.ends
  local lease, _, name = self.plan.pool:claim()
  local granted = now()
  local is_well, message = false, name
  if lease then is_well, message = use(self, lease) end
  local ended = now()
  self.open[number] = nil
  self.done = self.done + 1
  self.recent:add(ended - meant)
  if not is_measured or self.is_over then return end
  count(self, is_well and "ok" or message)
  self.late:add(began - meant)
  self.latency:add(ended - meant)
  if lease then
    self.wait:add(granted - began)
    self.lease:add(ended - granted)
  end
end

local function throw(self, message)
  self.failure = self.failure or message
  self.finished:wake()
end

-- One after the other, until none waits.
local function work(self, meant)
  local ok, message = xpcall(function()
    while meant do
      perform(self, meant)
      meant = self:take()
    end
  end, text.traced)
  self.in_flight = self.in_flight - 1
  if not ok then return throw(self, message) end
  if self.in_flight == 0 and self.is_paced then self.finished:wake() end
end

-- ---------------------------------------------------------------------- open loop --

--- The next request that waits; nil: none does.
function Generator:take()
  local meant = self.queue[self.head]
  if not meant then return nil end
  self.queue[self.head], self.head = nil, self.head + 1
  return meant
end

local function begin(self, meant)
  self.sent = self.sent + 1
  if self.in_flight < self.plan.concurrency then
    self.in_flight = self.in_flight + 1
    self.in_flight_max = math.max(self.in_flight_max, self.in_flight)
    self.host.spawn(work, self, meant)
  elseif self.tail - self.head >= WAITING_MAX then
    if meant >= self.measured_from then count(self, "not begun") end
  else
    self.queue[self.tail], self.tail = meant, self.tail + 1
  end
end

-- Begins each request when it is due.
local function pace(self)
  local now, sleep, interval = self.host.now, self.host.sleep, 1e9 / self.plan.rate
  local meant = self.began
  while meant < self.ends and not self.is_over do
    while meant <= now() and meant < self.ends and not self.is_over do
      begin(self, meant)
      -- By chance, requests come as those of many who know nothing of each other: gaps are exponential (a Poisson process).
      meant = meant + (self.plan.is_even and interval or -math.log(1 - self.chance()) * interval)
    end
    if meant < self.ends then sleep(math.max(0, (meant - now()) / 1e6)) end
  end
  self.is_paced = true
  if self.in_flight == 0 then self.finished:wake() end
end

-- -------------------------------------------------------------------- closed loop --

local function circle(self)
  local now, paused = self.host.now, self.host.now()
  while now() < self.ends and not self.is_over do
    self.sent = self.sent + 1
    perform(self, now())
    if now() - paused > SLICE_NS then
      self.host.sleep(0)
      paused = now()
    end
  end
end

local function circulate(self)
  local ok, message = xpcall(circle, text.traced, self)
  self.in_flight = self.in_flight - 1
  if not ok then return throw(self, message) end
  if self.in_flight == 0 then self.finished:wake() end
end

-- ------------------------------------------------------------------------- the run --

--- What has come so far, and since the last call.
-- @return { time_s, done, rate, p50, p99, in_flight, waiting }
function Generator:progress()
  local now = self.host.now()
  local seconds = math.max(1e-9, (now - self.looked_at) / 1e9)
  local recent = self.recent
  local seen = {
    time_s = (now - self.began) / 1e9, done = self.done, rate = recent.total / seconds, p50 = recent:quantile(0.5),
    p99 = recent:quantile(0.99), in_flight = self.in_flight, waiting = self.tail - self.head, is_warm = now >= self.measured_from,
  }
  self.looked_at, self.recent = now, histogram.new()
  return seen
end

--- Ends it before its time.
function Generator:stop()
  self.is_stopped, self.is_over = true, true
  self.ends = math.min(self.ends, self.host.now())
  self.finished:wake()
end

-- What is not through yet took so long at least: left out, the worst would be missing.
local function count_unfinished(self)
  local now = self.host.now()
  local function note(meant)
    if meant < self.measured_from or meant >= self.ends then return end
    count(self, "unfinished")
    self.latency:add(now - meant)
  end
  for _, meant in pairs(self.open) do note(meant) end
  for index = self.head, self.tail - 1 do note(self.queue[index]) end
end

--- Does it all, in a task. Requests that are still under way when the time is over are waited for, as long as `grace_ms`.
function Generator:run()
  local host = self.host
  self.began = host.now()
  self.looked_at = self.began
  self.measured_from = self.began + self.plan.warm_up_ms * 1e6
  self.ends = self.measured_from + self.plan.duration_ms * 1e6
  if self.plan.rate then
    host.spawn(function()
      local ok, message = xpcall(pace, text.traced, self)
      if not ok then throw(self, message) end
    end)
  else
    self.in_flight, self.in_flight_max, self.is_paced = self.plan.concurrency, self.plan.concurrency, true
    for _ = 1, self.plan.concurrency do host.spawn(circulate, self) end
  end
  self.finished:wait(self.plan.warm_up_ms + self.plan.duration_ms + self.plan.grace_ms)
  self.is_over = true
  if self.failure then error(self.failure, 0) end
  self.seconds = math.max(0, (self.ends - self.measured_from) / 1e9)
  count_unfinished(self)
end

--- @param host the event loop
-- @param plan { pool =, request = function(connection, lease) or nil, hold_ms = { low, high } or nil, rate = a second, or nil: a closed
--   loop, concurrency =, warm_up_ms =, duration_ms =, grace_ms =, is_even = whether requests come at even distances, seed = }
function generator.new(host, plan)
  local chance = random.from(plan.seed)
  local hold = plan.hold_ms
  return setmetatable({
    host = host, plan = plan, chance = chance,
    finished = host.waiter(),   -- of run(), woken when all requests are through, or at once when it is to end
    hold_ms = hold and function() return hold[1] + (hold[2] - hold[1]) * chance() end,
    queue = {}, head = 1, tail = 1, open = {}, number = 0, in_flight = 0, in_flight_max = 0, sent = 0, done = 0,
    is_paced = false, is_over = false, is_stopped = false, outcomes = {}, kinds = 0,
    latency = histogram.new(), wait = histogram.new(), lease = histogram.new(), late = histogram.new(),
    recent = histogram.new(), began = 0, looked_at = 0, measured_from = 0, ends = 0, seconds = 0, failure = nil,
  }, Generator)
end

return generator
