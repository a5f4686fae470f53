--- A DNS tracker in random weather: nameservers that fail, lie, are lame or slow, nodes that move, names that come and go; then
-- DNS is right, and so must be the tracker, soon.  One seed is one run; the seed is in every message.
--
--   local storm = require "spec.support.tracker_storm"
--   storm.run(17)      raises if the tracker does not have what DNS says in time, or asks more than it may
--
-- What stands for the pool: nodes live while the zone has them; every 5 s, if none of the backends lives, the tracker is told so.
local World = require "spec.support.tracker_world"

local storm = {}

local CANDIDATES = { "web.one.test", "web.two.test", "web" } -- of "web", with that search list
local TARGETS = { "a.example", "b.example", "c.example" }
local TTL_MAX_S, PATROL_MS = 10, 5000
local DISEASES = { "never", "SERVFAIL", "REFUSED", "network", "refused", "garbage", "NOTIMP", "FORMERR", "lame", "lies", "empty", "slow" }

-- Chance: Park and Miller.
local Storm = {}
Storm.__index = Storm

function Storm:draw(low, high)
  self.state = self.state * 48271 % 2147483647
  return low + self.state % (high - low + 1)
end

function Storm:chance(percent) return self:draw(1, 100) <= percent end
function Storm:one_of(list) return list[self:draw(1, #list)] end

-- ------------------------------------------------------------------------------------------------- the truth --

-- A node has a new address each time it moves, so that an old one is never right again.
function Storm:move(name)
  self.moves = self.moves + 1
  local node = { v4 = ("10.%d.%d.%d"):format(math.floor(self.moves / 65536), math.floor(self.moves / 256) % 256, self.moves % 256) }
  if self.families == 3 and self:chance(50) then node.v6 = ("2001:db8::%x"):format(self.moves) end
  if node.v6 and self:chance(20) then node.v4 = nil end
  node.ttl = self:draw(1, TTL_MAX_S)
  self.truth[name] = node
end

-- What the zone has for a question, as tracker_world has it.
function Storm:answer(question)
  local kind, name = question:match "^(%u+) (.+)$"
  if kind == "SRV" then
    if not self.srv or name ~= self.srv_name then return { rcode = "NXDOMAIN", "? . 10 SOA " .. TTL_MAX_S } end
    local list = {}
    for _, target in ipairs(TARGETS) do
      if self.srv[target] then list[#list + 1] = ("%d SRV 0 1 80 %s"):format(self.srv_ttl, target) end
    end
    return list
  end
  local node = self.truth[name]
  if not node then return { rcode = "NXDOMAIN", "? . 10 SOA " .. TTL_MAX_S } end
  local address = kind == "A" and node.v4 or kind == "AAAA" and node.v6
  if not address then return { rcode = "NODATA", "? . 10 SOA " .. TTL_MAX_S } end
  return { ("%d %s %s"):format(node.ttl, kind, address) }
end

-- The addresses that there must be in the end, as a set; and how many lookups they take.
function Storm:expected()
  local names, wanted, count = {}, {}, 0
  if self.srv then
    for _, target in ipairs(TARGETS) do
      if self.srv[target] then names[#names + 1] = target end
    end
  else
    for _, name in ipairs(self.has_search and CANDIDATES or { "web" }) do
      if self.truth[name] then
        names[1] = name
        break
      end
    end
  end
  for _, name in ipairs(names) do
    local node = self.truth[name] or {}
    for _, address in pairs { node.v4 or false, node.v6 or false } do
      if address then wanted[address], count = true, count + 1 end
    end
  end
  return wanted, count
end

-- --------------------------------------------------------------------------------------------- nameservers --

local function sick(self, disease, question)
  if disease == "lame" then return { is_referral = true } end
  -- One name in one family: that there is nothing is never believed. Else a part may be gone, and that is, for as long as it says.
  local ttl = self.families == 1 and not self.has_service and 900 or TTL_MAX_S
  if disease == "lies" then return { rcode = "NXDOMAIN", ("? . %d SOA %d"):format(ttl, ttl) } end
  if disease == "empty" then return { rcode = "NODATA", ("? . %d SOA %d"):format(ttl, ttl) } end
  if disease ~= "slow" then return disease end
  local answer = self:answer(question)
  answer.delay = self.timeout_ms * self:draw(1, 40) / 10
  return answer
end

function Storm:serve(question, server)
  local disease = self.disease[server]
  if disease and (disease == "lame" or self:chance(80)) then return sick(self, disease, question) end
  local answer = self:answer(question)
  answer.delay = self:draw(1, 30) / 10
  return answer
end

-- ------------------------------------------------------------------------------------------------- the world --

local function new(seed)
  local self = setmetatable({ seed = seed, state = seed * 7919 % 2147483646 + 1, truth = {}, disease = {}, moves = 0 }, Storm)
  self.families = self:chance(50) and 3 or 1
  self.has_search, self.has_service = self:chance(40), self:chance(50)
  self.timeout_ms, self.attempts = self:one_of { 50, 200, 1000 }, self:draw(1, 3)
  self.max_recheck_ms = self:one_of { 1000, 5000, 30000 }
  self.keep_missing_ms = self:chance(25) and 3000 or 0
  self.servers = {}
  for number = 1, self:draw(1, 3) do self.servers[number] = "ns" .. number end
  self.srv_name = self.has_search and "_pg._tcp.web.one.test" or "_pg._tcp.web"
  local recovery = { attempts = self.attempts, timeout_ms = self.timeout_ms, max_timeout_ms = 4 * self.timeout_ms, delay_ms = 20 }
  self.world = World.new {
    domain = "web", service = self.has_service and "_pg._tcp" or nil, default_port = 80, families = self.families, seed = seed,
    spread = 0.2,
    search = self.has_search and { "one.test", "two.test" } or {}, dns = recovery, dns_srv = recovery,
    max_recheck_ms = self.max_recheck_ms, keep_missing_ms = self.keep_missing_ms, max_dns_concurrency = self:one_of { 1, 5, 50 },
  }
  self.world.zone = setmetatable({}, { __index = function(_, question)
    return function(asked, server) return self:serve(asked, server) end, question
  end })
  return self
end

function Storm:live()
  local wanted = {}
  for _, node in pairs(self.truth) do
    if node.v4 then wanted[node.v4] = true end
    if node.v6 then wanted[node.v6] = true end
  end
  return wanted
end

-- The pool: are all of its backends dead?
function Storm:patrol()
  local live, backends = self:live(), self.world:backends()
  for _, backend in ipairs(backends) do
    if live[backend.address] then return end
  end
  if #backends > 0 then self.world:input "backends_failed" end
end

function Storm:advance(ms)
  while ms > 0 do
    self.world:advance(math.min(ms, PATROL_MS))
    self:patrol()
    ms = ms - PATROL_MS
  end
end

local EVENTS = {
  function(self) self.disease[self:one_of(self.servers)] = self:one_of(DISEASES) end,
  function(self) self.disease[self:one_of(self.servers)] = nil end,
  function(self) self.disease = {} end,
  function(self)
    local what = self:one_of(DISEASES)
    for _, server in ipairs(self.servers) do self.disease[server] = what end
  end,
  function(self) self:move(self:one_of(TARGETS)) end,
  function(self) self:move(self:one_of(CANDIDATES)) end,
  function(self) self.truth[self:one_of(CANDIDATES)] = nil end,
  function(self) self.truth[self:one_of(TARGETS)] = nil end,
  function(self)
    if not self.has_service then return end
    self.srv, self.srv_ttl = {}, self:draw(1, TTL_MAX_S)
    for _, target in ipairs(TARGETS) do self.srv[target] = self:chance(60) or nil end
    if not next(self.srv) then self.srv = nil end
  end,
  function(self) self.srv = nil end,
  function(self) self.world:input "expired" end,
  function(self) self.world:nameservers(self:chance(20) and {} or self.servers) end,
}

-- How long one round of questions may take at one name: every server silent, in every attempt.
function Storm:round_ms()
  local whole = 0
  for attempt = 1, self.attempts do
    whole = whole + #self.servers * math.min(self.timeout_ms * 2 ^ (attempt - 1), 4 * self.timeout_ms) + 20 * 2 ^ attempt
  end
  return whole
end

-- DNS is right from here on: everything is at rest, and there is something to find.
function Storm:clear_up()
  self.disease = {}
  if not self.srv then self:move(self:one_of(self.has_search and CANDIDATES or { "web" })) end
  for _, target in ipairs(TARGETS) do
    if self.srv and self.srv[target] and not self.truth[target] then self:move(target) end
  end
  self.world:nameservers(self.servers)
end

local function fail(self, text, ...)
  error(("seed %d: "):format(self.seed) .. text:format(...) .. "\n" .. self.world:trace():sub(-2500), 0)
end

local function check_layout(self, after_ms)
  local wanted, count = self:expected()
  local backends = self.world:backends()
  local is_right = #backends == count
  for _, backend in ipairs(backends) do is_right = is_right and wanted[backend.address] end
  if is_right then return end
  local names = {}
  for address in pairs(wanted) do names[#names + 1] = address end
  fail(self, "%.0f ms after DNS is right there is %s, and DNS has %s", after_ms, self.world:layout(), table.concat(names, ", "))
end

-- Each name and type once in a TTL of 1 s at least, and the looks at better candidates.
local function check_thrift(self)
  local before, span = self.world.asked_n, 60000
  self.world:advance(span)
  local lookups = (self.has_service and 1 + 2 * #TARGETS or 2) * 1
  local looks = self.has_search and 2 * #CANDIDATES * span / self.max_recheck_ms or 0
  local most = lookups * span / 1000 + looks + (self.has_service and span / math.min(self.max_recheck_ms, 1000) or 0) + 10
  local asked = self.world.asked_n - before
  if asked > most then fail(self, "%d questions in a minute at rest, %d are the most", asked, most) end
end

-- Nobody answers: so many questions for each name and type in each round, and a round every max_recheck_ms at most.
local function check_outage(self)
  for _, server in ipairs(self.servers) do self.disease[server] = "refused" end
  self.world:advance(TTL_MAX_S * 1000 + 2000)
  local before, span = self.world.asked_n, 600000
  self.chance = function() return true end
  self.world:advance(span)
  self.chance = nil
  local lookups = self.has_service and 3 + 2 * #TARGETS or 2
  local rounds = 7 + span / (0.8 * self.max_recheck_ms) -- 1, 2, 4 … up to there, each by up to a fifth shorter
  local most = lookups * rounds * #self.servers * self.attempts * (self.has_search and 2 or 1)
  if self.world.asked_n - before > most then
    fail(self, "%d questions in an outage of ten minutes, %d are the most", self.world.asked_n - before, most)
  end
end

function storm.run(seed)
  local self = new(seed)
  for _, name in ipairs(CANDIDATES) do if self:chance(60) then self:move(name) end end
  for _, name in ipairs(TARGETS) do self:move(name) end
  EVENTS[9](self)
  if self:chance(50) then EVENTS[4](self) end
  self.world:nameservers(self.servers)
  local began = self.world:time()
  for _ = 1, self:draw(5, 40) do
    self:advance(self:one_of { 10, 300, 2000, 8000 })
    self:one_of(EVENTS)(self)
  end
  self:clear_up()
  -- A family whose answers were lost all the while is asked for with pauses as long as the storm was.
  local storm_ms = self.world:time() - began
  local candidates = self.has_search and #CANDIDATES or 1
  local soon = 2 * self.max_recheck_ms + TTL_MAX_S * 1000 + self.keep_missing_ms + PATROL_MS
    + 3 * (1 + candidates) * (self:round_ms() + 3 * self.timeout_ms) + storm_ms
  self:advance(soon)
  check_layout(self, soon)
  check_thrift(self)
  check_layout(self, soon + 60000)
  check_outage(self)
end

return storm
