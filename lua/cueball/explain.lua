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
  forgotten = "longer ago than is on record",
}

--- What held a claim that waited so long and is answered now.
-- @param waited_ms milliseconds
-- @return a list of { reason =, ms = } in order; the ms add up to waited_ms
function explain.parts(pool, waited_ms)
  local now = pool.now()
  local count = lib.cueball_pool_explain(pool.core, math.max(0, now - waited_ms * 1e6), now, room, ROOM)
  local parts = {}
  for index = 0, count - 1 do
    parts[index + 1] = { reason = ffi.string(lib.cueball_reason_name(room[index].reason)), ms = tonumber(room[index].span) / 1e6 }
  end
  return parts
end

--- The parts as a sentence: "30 ms every connection was busy, then 20 ms no backend was known".
function explain.text(parts)
  local words = {}
  for index, part in ipairs(parts) do words[index] = ("%.6g ms %s"):format(part.ms, TEXT[part.reason]) end
  return table.concat(words, ", then ")
end

return explain
