--- Power of two choices: of two peers drawn at random, the one where a request is expected to wait less. What is known of a peer, and
-- which of two is better, is the core's, as for `balance = "p2c"` of a pool: src/core/pool/latency.c says how, and from where.
local native = require "cueball.native"
local lib = native.lib

local p2c = {}

local new_latency = native.ffi.typeof "cueball_latency"

function p2c.added(peer)
  peer.latency = new_latency()
end

--- A request to the peer is under way since `at`.
function p2c.began(peer, at)
  lib.cueball_latency_began(peer.latency, at)
end

--- A request that began at `at` is no longer under way.
function p2c.ended(peer, at)
  lib.cueball_latency_ended(peer.latency, at)
end

--- No request is under way. p2c.began will be called anew for those that are.
function p2c.forget(peer)
  peer.latency.leased, peer.latency.leased_sum = 0, 0
end

--- How a request to the peer went.
function p2c.observed(peer, is_well, took_ms, now)
  local tell = is_well and lib.cueball_latency_observed or lib.cueball_latency_failed
  tell(peer.latency, now, math.max(0, took_ms) * 1e6)
end

--- For balancer:peers(): the average latency in ms, nil: not known; and the share that goes well.
function p2c.describe(peer, now)
  local average = peer.latency.average
  return average > 0 and average / 1e6 or nil, lib.cueball_latency_success_rate(peer.latency, now)
end

--- @param usable list of peers, one at least
-- @param peers for random() and now()
-- @return one of them
function p2c.pick(usable, peers)
  local count = #usable
  if count == 1 then return usable[1] end
  local first = math.floor(peers.random() * count) + 1
  local second = math.floor(peers.random() * (count - 1)) + 1
  if second >= first then second = second + 1 end
  first, second = usable[first], usable[second]
  return lib.cueball_latency_is_better(second.latency, second.weight, first.latency, first.weight, peers.now()) and second or first
end

return p2c
