--- Chooses where nginx proxies a request to, in balancer_by_lua: peers from a resolver, by weight or by latency, dead ones left alone.
--
--   upstream api { server 0.0.0.1; balancer_by_lua_block { balancers.api:balance() } keepalive 32; }
--   log_by_lua_block { balancers.api:report() }
--
-- nginx opens the connections, and keeps them. The manual is docs/balancer.md.
local hosts = require "cueball.host"
local log = require "cueball.log"
local native = require "cueball.native"
local options = require "cueball.options"
local misuse = require "cueball.misuse"
local random = require "cueball.random"
local sink = require "cueball.resolver.sink"
local text = require "cueball.text"
local peers = require "cueball.nginx.balancer.peers"

local Balancer = {}
Balancer.__index = Balancer

local ORDERS = { rr = "cueball.nginx.balancer.rr", p2c = "cueball.nginx.balancer.p2c" }

local function one_of(...)
  local names = { ... }
  return {
    range = '"' .. table.concat(names, '" or "') .. '"',
    check = function(value)
      for _, name in ipairs(names) do
        if value == name then return true end
      end
      return false
    end,
  }
end

local RULES = {
  resolver = options.RESOLVER,
  name = options.NAME,
  balance = one_of("p2c", "rr"),
  priorities = one_of("strict", "ignored"),
  tries = options.whole(1, 100),
  attempts = options.whole(1, 1000),
  delay_ms = options.number(0, 86400000, "milliseconds"),
  max_delay_ms = options.number(0, 86400000, "milliseconds"),
  spread = options.number(0, 1),
  recovery = options.of_type("table", "a table"),
  seed = options.whole(0, 2 ^ 53 - 1),
  host = options.of_type("table", "a host"),
}

-- A peer that is dead is a dead backend, and its pauses those of a pool's attempts, but for how long they are: there is no connection to
-- be had, so each try is a client's request.
local DELAY_MS, MAX_DELAY_MS = 1000, 30000

-- The recovery of peers that fail, as the core reads it.
local function recovery_of(given)
  local delay_ms = given.delay_ms or DELAY_MS
  local max_delay_ms = given.max_delay_ms or math.max(MAX_DELAY_MS, delay_ms)
  if max_delay_ms < delay_ms then
    misuse.raise(("cueball.balancer: option 'max_delay_ms' must be at least delay_ms (%.15g), not %.15g"):format(delay_ms, max_delay_ms))
  end
  return native.ffi.new("cueball_recovery", {
    attempts = given.attempts or options.initial "recovery.connect.attempts", delay_ms = delay_ms, max_delay_ms = max_delay_ms,
    spread = given.spread or options.initial "recovery.connect.spread", jitter = native.lib.CUEBALL_JITTER_SPREAD,
  })
end

local HEARD = { "added", "removed", "replaced" }

-- What the sink tells goes to the peers; the resolver hears whether all of them are dead.
local function listener_of(self)
  local heard = {}
  for _, method in ipairs(HEARD) do
    heard[method] = function(_, ...)
      local ok, message, name = self.set[method](self.set, ...)
      self.sink:pool_failed(self.set:is_dead())
      return ok, message, name
    end
  end
  function heard.failing(_, message)
    if message then self.error = "resolver: " .. message end
    self.sink:pool_failed(self.set:is_dead())
    return true
  end
  return heard
end

--- Makes a balancer and starts its resolver. See docs/balancer.md for the options.
-- @return the balancer; mistakes in the options raise an error at the caller's line
function Balancer.new(given)
  options.check("cueball.balancer", given or {}, RULES)
  if not given or given.resolver == nil then
    misuse.raise("cueball.balancer: option 'resolver' is required: " .. RULES.resolver.range)
  end
  local recovery = recovery_of(given)
  local host = hosts.of("cueball.balancer", given.host)
  if not host.proxy then misuse.raise "cueball.balancer: this host proxies no requests; nginx does" end
  local resolver_name = type(given.resolver) == "table" and type(given.resolver.name) == "string" and text.message(given.resolver.name)
  local self = setmetatable({
    name = given.name or resolver_name or "balancer", host = host, proxy = host.proxy,
    tries = given.tries or 3, error = nil,
  }, Balancer)
  self.set = peers.new {
    now = host.now, random = random.from(given.seed or host.seed()), order = require(ORDERS[given.balance or "p2c"]),
    recovery = recovery, priorities = given.priorities, log = function(...) self:log(...) end,
  }
  local function say(...) self:log(...) end
  self.sink = sink.new {
    resolver = given.resolver, listener = listener_of(self), host = host, recovery = given.recovery, log = say,
  }
  sink.start(self.sink)
  return self
end

--- One line in the log.
-- @param event, facts  as for log.say
function Balancer:log(level, message, event, facts)
  facts = facts or {}
  facts.pool = self.name
  log.say(self.host, level, message, event, facts)
end

-- ---------------------------------------------------------------- requests --

-- The try before this one is over.
local function close_try(self, state, went, took_ms, is_error)
  local request = state.request
  if not request then return end
  state.request = nil
  self.set:ended(request, went, took_ms, is_error)
  if went ~= nil then self.sink:pool_failed(self.set:is_dead()) end
end

-- An answer that says "not now" or "not here", usually at once: that peer is not to be preferred for it.
local function is_error(status)
  return status ~= nil and (status >= 500 or status == 429)
end

local function state_of(self)
  local all = self.proxy.context()
  local state = all[self]
  if not state then
    state = { tried = {}, count = 0, request = nil }
    all[self] = state
  end
  return state
end

--- Chooses a peer for the present request, for balancer_by_lua. Called again by nginx if that one fails, and then chooses another.
-- If there is none, the request ends with status 502.
-- @return the peer's { key=, name=, address=, port=, weight= }, not to be changed; nil, message, name: "no_backends"
function Balancer:balance()
  local state, proxy = state_of(self), self.proxy
  local went = proxy.last_try()
  if went == nil and state.count > 0 then -- the same request is proxied anew, by error_page or the like
    state.tried, state.count = {}, 0
    close_try(self, state, nil)
  end
  close_try(self, state, went, nil, true) -- an answer for which nginx tries the next is none that was wanted
  local peer, message, name = self.set:pick(state.count > 0 and state.tried or nil)
  local ok
  if peer then
    ok, message = proxy.go_to(peer.address, peer.port)
    if not ok then peer, name = nil, "invalid" end
  end
  if not peer then
    self:log("error", "a request was refused: " .. text.message(message) .. (self.error and " (" .. self.error .. ")" or ""),
      "request_refused")
    proxy.refuse()
    return nil, message, name
  end
  state.count = state.count + 1
  state.tried[peer] = true
  state.request = self.set:began(peer)
  local more = math.min(self.tries, #self.set.list) - 1
  if state.count == 1 and more > 0 then proxy.more_tries(more) end
  return peer
end

--- Tells what became of the present request, for log_by_lua: that is how latencies are known, and that a peer is alive again.
-- Without balance() before it does nothing.
-- @param went    nil: as nginx says, and statuses of 500 and more, and 429, are errors. Else true: well; false: hold it against the peer
-- @param took_ms nil: as nginx says
-- @return true
function Balancer:report(went, took_ms)
  local state = self.proxy.context()[self]
  if not state or not state.request then return true end
  local found, found_ms, status = self.proxy.outcome()
  local has_erred = went == nil and is_error(status)
  if went == nil then went = found end
  if not took_ms and found_ms then
    -- nginx counts in whole milliseconds; what was measured here may be longer, since the client was sent to as well.
    took_ms = math.min((self.host.now() - state.request.at) / 1e6, found_ms + 1)
  end
  close_try(self, state, went, took_ms, has_erred)
  return true
end

-- ------------------------------------------------------------------- state --

--- The peers there are: a list of { key, name, address, port, weight, priority, dead, retry_in_ms, pending, requests, failed, failures,
-- latency_ms, success_rate }: requests under way, in all and failed ones, failures in a row.
function Balancer:peers()
  local list, now = {}, self.host.now()
  for _, peer in ipairs(self.set.list) do
    local latency_ms, success_rate = self.set.order.describe(peer, now)
    local health = peer.health
    list[#list + 1] = {
      key = peer.key, name = peer.name, address = peer.address, port = peer.port, weight = peer.weight, priority = peer.priority,
      dead = health.is_dead, retry_in_ms = health.is_dead and math.max(0, (tonumber(health.retry_at) - now) / 1e6) or nil,
      pending = peer.pending, requests = peer.requests, failed = peer.failed, failures = health.failures,
      latency_ms = latency_ms, success_rate = success_rate,
    }
  end
  return list
end

--- The last thing that went wrong with the resolver, or nil.
function Balancer:last_error()
  return self.error
end

--- How the resolver does: { failing = boolean, message = text or nil, since_ms = for how long it has failed, or nil }.
function Balancer:resolver()
  return self.sink:state()
end

--- Ends the resolver. The peers known stay.
-- @return true
function Balancer:stop()
  self.sink:end_soon(function() end)
  return true
end

function Balancer:__tostring()
  return ("cueball.balancer (%s, %d peers)"):format(self.name, #self.set.list)
end

misuse.guard(Balancer, "balancer", { "balance", "report", "peers", "last_error", "resolver", "stop" })

return Balancer
