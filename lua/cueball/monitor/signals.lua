--- The four numbers that tell at a glance how a pool does.
--
-- Utilisation and the queue are of now. How long claims waited, and how many connections came and went, are of the last ten seconds or so,
-- whoever asks and however often: a sample of the pool is kept, and the one before it.
local waited_between = require("cueball.pool.counts").waited_between

local signals = {}

local WINDOW_NS = 10e9 -- a sample is compared with one that is at least half of that old, and at most all of it while somebody asks

local kept = setmetatable({}, { __mode = "k" }) -- by pool: { older, newer }

local function kept_of(pool)
  local found = kept[pool]
  if not found then
    found = { older = nil, newer = nil }
    kept[pool] = found
  end
  return found
end

local function sample_of(pool, stats)
  return { at = pool.now(), changed = stats.opened + stats.closed, waits = pool:waits() }
end

-- The sample that the present one is compared with.
local function before(pool, now)
  local self = kept_of(pool)
  if not self.newer then
    self.older, self.newer = now, now
  elseif now.at - self.newer.at >= WINDOW_NS / 2 then
    self.older, self.newer = self.newer, now
  end
  return self.older
end

--- @param stats of pool:stats()
-- @param ceiling how many connections there may be
-- @return { utilisation = 0 to 1, waiting, claim_p99_ms, churn_per_s }
function signals.of(pool, stats, ceiling)
  local now = sample_of(pool, stats)
  local then_ = before(pool, now)
  local span_s = (now.at - then_.at) / 1e9
  return {
    utilisation = ceiling > 0 and math.min(1, stats.busy / ceiling) or 0,
    waiting = stats.waiting,
    claim_p99_ms = span_s > 0 and waited_between(then_.waits, now.waits, 0.99) or stats.wait_ms_p99,
    churn_per_s = span_s > 0 and (now.changed - then_.changed) / span_s or 0,
  }
end

return signals
