--- Smooth weighted round robin, as nginx does it (M. Dounin, 2012, "Upstream: smooth weighted round-robin balancing", commit 52327e0627f4,
-- src/http/ngx_http_upstream_round_robin.c): at each pick every peer gains its weight, and the one that has most pays the sum of all. With
-- weights 5, 1, 1 that gives a a b a c a a: the share of each is exact, and none comes in bursts.
local rr = {}

function rr.added(peer)
  peer.credit = 0
end

-- How requests go is nothing to it.
function rr.began() end
function rr.ended() end
function rr.forget() end
function rr.observed() end
function rr.describe() end

--- @param usable list of peers, one at least
-- @return one of them
function rr.pick(usable)
  local total, best = 0, nil
  for _, peer in ipairs(usable) do
    peer.credit = peer.credit + peer.weight
    total = total + peer.weight
    if not best or peer.credit > best.credit then best = peer end
  end
  best.credit = best.credit - total
  return best
end

return rr
