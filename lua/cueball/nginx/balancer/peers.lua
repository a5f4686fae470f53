--- The peers that requests are proxied to, and how each of them does. Nothing here opens connections: pick() says where the next request
-- is to go, and is told what became of it.
--
-- The happy path: pick() names a peer, began() and ended() count the requests under way there and how long they took.
--
-- What can go wrong: requests fail. After so many failures in a row the peer is dead and left alone for a while, longer each time: the
-- core judges that (cueball_health_*), as it does for a pool. Then one request at a time is tried at the peer, until one goes well. If all
-- peers are dead, the one whose pause ends first is tried: somebody has to find out.
local native = require "cueball.native"
local lib = native.lib

local peers = {}

local new_health = native.ffi.typeof "cueball_health"

local Peers = {}
Peers.__index = Peers

local RECOUNT_NS = 1e9

--- @param given now(): nanoseconds; random(): a fraction from 0 to below 1; order: how to pick among peers that are equally usable, of
--   cueball.nginx.balancer.rr or .p2c; recovery: a cueball_recovery, for peers that fail; priorities; log(level, message)
function peers.new(given)
  return setmetatable({
    now = given.now, random = given.random, order = given.order, log = given.log,
    recovery = given.recovery,
    is_strict = given.priorities ~= "ignored",
    list = {}, by_key = {},
    under_way = setmetatable({}, { __mode = "k" }), -- requests; one that nobody told the end of is collected some day
    recounted_at = given.now(),
  }, Peers)
end

-- ------------------------------------------------------------------- facts --

-- What a resolver says, by way of its sink: see cueball.resolver.sink.

function Peers:removed(key)
  local peer = self.by_key[key]
  if not peer then return nil, "no peer has the key", "not_found" end
  self.by_key[key], peer.is_removed = nil, true
  for index, other in ipairs(self.list) do
    if other == peer then table.remove(self.list, index) break end
  end
  return true
end

function Peers:added(backend)
  local known = self.by_key[backend.key]
  if known and known.address == backend.address and known.port == backend.port then
    known.weight, known.priority, known.name = backend.weight, backend.priority, backend.name
    return true
  end
  if known then self:removed(backend.key) end
  local peer = backend
  peer.health, peer.is_tried = new_health(), false
  peer.pending, peer.requests, peer.failed = 0, 0, 0
  self.order.added(peer)
  self.by_key[peer.key] = peer
  table.insert(self.list, peer)
  return true
end

function Peers:replaced(backends)
  local given = {}
  for _, backend in ipairs(backends) do
    given[backend.key] = true
    self:added(backend)
  end
  for index = #self.list, 1, -1 do
    if not given[self.list[index].key] then self:removed(self.list[index].key) end
  end
  return true
end

-- ----------------------------------------------------------------- picking --

local function is_usable(self, peer)
  local health = peer.health
  return not health.is_dead or not peer.is_tried and self.now() >= tonumber(health.retry_at)
end

--- Whether there are peers, and all of them are dead.
function Peers:is_dead()
  for _, peer in ipairs(self.list) do
    if not peer.health.is_dead then return false end
  end
  return #self.list > 0
end

-- The peers of the best priority that are usable and not tried yet.
local function candidates(self, tried)
  local usable, best = {}, math.huge
  for _, peer in ipairs(self.list) do
    if not (tried and tried[peer]) and is_usable(self, peer) then
      local priority = self.is_strict and peer.priority or 0
      if priority < best then usable, best = {}, priority end
      if priority == best then usable[#usable + 1] = peer end
    end
  end
  return usable
end

-- No peer is usable: the dead peer whose pause ends first.
local function last_resort(self, tried)
  local first
  for _, peer in ipairs(self.list) do
    if not (tried and tried[peer]) and (not first or peer.health.retry_at < first.health.retry_at) then first = peer end
  end
  return first
end

-- Counts the requests under way anew: of some nobody told the end, and their records were collected as garbage.
local function recount(self)
  if self.now() - self.recounted_at < RECOUNT_NS then return end
  self.recounted_at = self.now()
  for _, peer in ipairs(self.list) do
    peer.pending, peer.is_tried = 0, false
    self.order.forget(peer)
  end
  for request in pairs(self.under_way) do
    local peer = request.peer
    if not peer.is_removed then
      peer.pending, peer.is_tried = peer.pending + 1, peer.health.is_dead
      self.order.began(peer, request.at)
    end
  end
end

--- Where the next request is to go.
-- @param tried nil; or a set of peers that it was at already
-- @return a peer; or nil, message, name: "no_backends"
function Peers:pick(tried)
  recount(self)
  local usable = candidates(self, tried)
  -- A dead peer whose pause is over goes first: if it fails, the request will be tried elsewhere.
  for _, peer in ipairs(usable) do
    if peer.health.is_dead then return peer end
  end
  if #usable > 0 then return self.order.pick(usable, self) end
  local peer = last_resort(self, tried)
  if peer then return peer end
  return nil, #self.list == 0 and "no backend is known" or "no backend is left to be tried", "no_backends"
end

-- ---------------------------------------------------------------- requests --

--- A request goes to this peer.
-- @return the request's record, for Peers:ended
function Peers:began(peer)
  local request = { peer = peer, at = self.now() }
  self.under_way[request] = true
  peer.pending, peer.requests = peer.pending + 1, peer.requests + 1
  self.order.began(peer, request.at)
  if peer.health.is_dead then peer.is_tried = true end
  return request
end

local function failed(self, peer)
  local health = peer.health
  peer.failed = peer.failed + 1
  if not lib.cueball_health_failed(health, self.recovery, self.now(), self.random()) then return end
  self.log("warn", ("%s is dead after %d failures in a row; it is left alone for %.0f ms")
    :format(peer.key, health.failures, tonumber(health.pause) / 1e6), "backend_dead",
    { backend = peer.key, count = health.failures, pause_ms = tonumber(health.pause) / 1e6 })
end

local function succeeded(self, peer)
  if not lib.cueball_health_worked(peer.health) then return end
  self.log("info", peer.key .. " is alive again", "backend_revived", { backend = peer.key })
end

--- A request ended.
-- @param request  of began(); one that ended before is ignored
-- @param went     true: well; false: the peer failed; nil: it says nothing about the peer (its client left)
-- @param took_ms  how long it took; nil: as long as it is since it began
-- @param is_error went well as far as the peer lives, but what it answered is an error: no good latency
function Peers:ended(request, went, took_ms, is_error)
  if not self.under_way[request] then return end
  self.under_way[request] = nil
  local peer = request.peer
  if peer.is_removed then return end
  peer.pending = peer.pending - 1
  self.order.ended(peer, request.at)
  if peer.health.is_dead then peer.is_tried = false end
  local now = self.now()
  if went ~= nil then self.order.observed(peer, went and not is_error, took_ms or (now - request.at) / 1e6, now) end
  if went == true then succeeded(self, peer) elseif went == false then failed(self, peer) end
end

return peers
