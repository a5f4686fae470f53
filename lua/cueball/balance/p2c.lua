--- Power of two choices by peak EWMA: of two peers drawn at random, the one where a request is expected to wait less.
--
-- The two draws: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 1996. The cost is Finagle's
-- (com.twitter.finagle.loadbalancer.PeakEwma): an average of latencies that jumps up to a higher one at once and comes down
-- over 10 s, multiplied by the requests under way and this one; and divided by the weight, so that a peer of weight 2 may have
-- twice as many. With time the average falls to nothing, so a peer that was slow once is tried again.
local p2c = {}

local TAU_NS = 10e9
local UNKNOWN = 1e6 -- ms: requests are under way there, and none has come back yet

function p2c.added(peer)
  peer.latency, peer.latency_at = nil, 0
end

local function latency(peer, now)
  return peer.latency * math.exp(-math.max(0, now - peer.latency_at) / TAU_NS)
end

--- A request took so long there; ms.
function p2c.observed(peer, took_ms, now)
  if not peer.latency or took_ms >= latency(peer, now) then
    peer.latency, peer.latency_at = took_ms, now
    return
  end
  local share = math.exp(-math.max(0, now - peer.latency_at) / TAU_NS)
  peer.latency, peer.latency_at = peer.latency * share + took_ms * (1 - share), now
end

--- What a request there is expected to cost; ms.
function p2c.cost(peer, now)
  if not peer.latency then return peer.pending > 0 and UNKNOWN * peer.pending / peer.weight or 0 end
  return latency(peer, now) * (peer.pending + 1) / peer.weight
end

--- @param fit   list of peers, one at least
-- @param peers for random() and now()
-- @return one of them
function p2c.pick(fit, peers)
  local count = #fit
  if count == 1 then return fit[1] end
  local first = math.floor(peers.random() * count) + 1
  local second = math.floor(peers.random() * (count - 1)) + 1
  if second >= first then second = second + 1 end
  local now = peers.now()
  return p2c.cost(fit[second], now) < p2c.cost(fit[first], now) and fit[second] or fit[first]
end

return p2c
