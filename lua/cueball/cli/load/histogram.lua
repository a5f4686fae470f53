--- How long things took, in bounded memory: a log-linear histogram as in G. Tene's HdrHistogram. Each power of two is cut into 64 equal
-- parts, so a value is known to 1/128 of itself; the least and the greatest are known exactly. Values are in nanoseconds.
local histogram = {}

local Histogram = {}
Histogram.__index = Histogram

local PARTS = 64
local frexp, floor, max, min = math.frexp, math.floor, math.max, math.min

-- The bucket of a value: m · 2^e with m from 1/2 to below 1.
local function bucket_of(ns)
  local m, e = frexp(ns)
  return e * PARTS + floor((m - 0.5) * 2 * PARTS)
end

-- Where a bucket begins; the next one begins where it ends.
local function begin_of(bucket)
  local e = floor(bucket / PARTS)
  return (0.5 + (bucket - e * PARTS) / (2 * PARTS)) * 2 ^ e
end

function histogram.new()
  return setmetatable({ total = 0, sum = 0, least = math.huge, greatest = 0, counts = {}, first = math.huge, last = 0 }, Histogram)
end

--- @param ns 0 or more; less than one counts as one
function Histogram:add(ns)
  local bucket = bucket_of(max(1, ns))
  self.counts[bucket] = (self.counts[bucket] or 0) + 1
  self.total, self.sum = self.total + 1, self.sum + ns
  self.least, self.greatest = min(self.least, ns), max(self.greatest, ns)
  self.first, self.last = min(self.first, bucket), max(self.last, bucket)
end

--- The value that a share q of all is not above; nil: nothing was added.
-- @param q 0 to 1
function Histogram:quantile(q)
  if self.total == 0 then return nil end
  local rank, seen = max(1, math.ceil(q * self.total)), 0
  if rank == self.total then return self.greatest end
  for bucket = self.first, self.last do
    seen = seen + (self.counts[bucket] or 0)
    if seen >= rank then
      local middle = (begin_of(bucket) + begin_of(bucket + 1)) / 2
      return middle < 2 and self.least or max(self.least, min(self.greatest, middle))
    end
  end
end

function Histogram:mean()
  return self.total > 0 and self.sum / self.total or nil
end

--- The same values in fewer steps, each longer than the one before by a fiftieth at least.
-- @param steps_max so many at most
-- @return list of { from =, to =, count = }, without gaps, in order
function Histogram:bars(steps_max)
  if self.total == 0 then return {} end
  local low, high = begin_of(self.first), begin_of(self.last + 1)
  local factor = max(1.02, (high / low) ^ (1 / steps_max))
  local list, edge, bucket = {}, low, self.first
  while bucket <= self.last do
    local bar = { from = edge, to = 0, count = 0 }
    local limit = edge * factor
    while bucket <= self.last and (begin_of(bucket + 1) <= limit or bar.to == 0) do
      bar.count, bar.to = bar.count + (self.counts[bucket] or 0), begin_of(bucket + 1)
      bucket = bucket + 1
    end
    list[#list + 1], edge = bar, bar.to
  end
  return list
end

return histogram
