--- Why a claim waited: what the core has on record, in words.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local explain = {}

local ROOM = 66 -- the core keeps 64
local room = ffi.new("cueball_wait[?]", ROOM)

local TEXT = {
  busy = "every connection was busy",
  growing = "every connection was busy and more were opening",
  churn = "max_churn_rate held back more connections",
  connecting = "connections were opening",
  backoff = "attempts to connect paused after failures",
  checking = "the connections were being checked",
  closing = "connections were being closed",
  planning = "connections were about to be opened",
  no_backends = "no backend was known",
  elsewhere = "other workers had all connections",
  forgotten = "longer ago than is on record",
  stalled = "the event loop stood still",
  paused = "the pool was paused",
  drained = "every backend was drained",
}

-- What held a claim from then until then, in nanoseconds.
local function parts_of(pool, begun, ended)
  local count = pool.core:explain(begun, ended, room, ROOM)
  local parts = {}
  for index = 0, count - 1 do
    local reason = ffi.string(lib.cueball_reason_name(room[index].reason))
    -- A core that may have no connection at all, since other workers have them, is told of no backends.
    if reason == "no_backends" and pool.quota and pool.quota:knows_backends() then reason = "elsewhere" end
    parts[index + 1] = { reason = reason, ms = tonumber(room[index].span) / 1e6 }
  end
  return parts
end

--- What held a claim that waited so long and is answered now.
-- @param waited_ms milliseconds
-- @return a list of { reason =, ms = } in order; the ms add up to waited_ms
function explain.parts(pool, waited_ms)
  local now = pool.now()
  return parts_of(pool, math.max(0, now - waited_ms * 1e6), now)
end

local NO_BACKENDS = tonumber(lib.CUEBALL_REASON_NO_BACKENDS)

--- The same in short: every claim that waits is noted, and few are asked. explain.listed makes a list of it.
-- @param began, waited  nanoseconds
-- @return a list as of explain.parts; or the number of a reason, if there was one all the time
function explain.noted(pool, began, waited)
  local count = pool.core:explain(began, began + waited, room, ROOM)
  local reason = tonumber(room[0].reason)
  if count == 1 and reason ~= NO_BACKENDS then return reason end
  return parts_of(pool, began, began + waited)
end

--- What explain.noted noted, as a list.
function explain.listed(noted, waited_ms)
  if type(noted) ~= "number" then return noted end
  return { { reason = ffi.string(lib.cueball_reason_name(noted)), ms = waited_ms } }
end

local PARTS_MAX = 4 -- that a sentence tells one by one

-- The parts with the same reason as one, in the order of their first.
local function sums_of(parts)
  local sums, by_reason = {}, {}
  for _, part in ipairs(parts) do
    local sum = by_reason[part.reason]
    if not sum then
      sum = { reason = part.reason, ms = 0 }
      by_reason[part.reason], sums[#sums + 1] = sum, sum
    end
    sum.ms = sum.ms + part.ms
  end
  return sums
end

--- The parts as a sentence: "30 ms every connection was busy, then 20 ms no backend was known"; if they are many,
-- what they sum up to: "in 12 turns, 110 ms every connection was busy, 2 ms attempts to connect paused after failures".
function explain.text(parts)
  if #parts > PARTS_MAX then
    local words = {}
    for index, sum in ipairs(sums_of(parts)) do words[index] = ("%.6g ms %s"):format(sum.ms, TEXT[sum.reason]) end
    return ("in %d turns, %s"):format(#parts, table.concat(words, ", "))
  end
  local words = {}
  for index, part in ipairs(parts) do words[index] = ("%.6g ms %s"):format(part.ms, TEXT[part.reason]) end
  return table.concat(words, ", then ")
end

return explain
