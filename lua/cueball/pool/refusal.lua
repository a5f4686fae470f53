--- Why a claim got nothing, as a message for people. These are methods of the pool.
local native = require "cueball.native"
local explain = require "cueball.pool.explain"
local faults = require "cueball.pool.faults"
local holders = require "cueball.pool.holders"
local manage = require "cueball.pool.manage"
local lib, ffi = native.lib, native.ffi

local refusal = {}

--- Why a pool has no connection to a backend, for people.
function refusal.cause(pool)
  local held_back = pool.quota and pool.quota:cause()
  if held_back then return held_back end
  local drained = manage.all_drained(pool)
  if drained then return drained end
  local dead = faults.dead(pool)
  if #dead > 0 then return "dead: " .. faults.text(dead) end
  return pool.sink and pool.sink.message and "the resolver failed: " .. pool.sink.message or "no backend is known"
end

-- Where the connections are, for a claim that got none.
local function situation(pool, stats)
  local parts = { ("%d busy"):format(stats.busy) }
  if stats.connecting + stats.backing_off > 0 then
    parts[#parts + 1] = ("%d connecting"):format(stats.connecting + stats.backing_off)
  end
  local paused = manage.paused_text(pool)
  if paused then parts[#parts + 1] = paused end
  local failing = stats.dead_backends == 0 and faults.failing(pool)
  if stats.total == 0 or stats.dead_backends > 0 then
    parts[#parts + 1] = pool:cause()
  elseif failing then
    parts[#parts + 1] = "failing: " .. failing
  end
  return table.concat(parts, ", ")
end

-- What a claim waited for that waited and got nothing.
local function waited_for(pool, stats, waited_ms)
  if waited_ms <= 0 then return "" end
  local oldest = stats.busy > 0 and not pool.of_set and holders.oldest(pool)
  return (": %s%s"):format(explain.text(explain.parts(pool, waited_ms)), oldest and "; " .. oldest or "")
end

--- Why a claim got nothing: message, name.
function refusal.text(pool, result, waited_ms, ahead)
  pool.core:stats()
  local stats = pool.core.numbers
  local name = ffi.string(lib.cueball_error_name(result))
  if name == "claim_timeout" then
    return ("claim timed out after %.6g ms (%d ahead, %s)%s"):format(waited_ms, ahead, situation(pool, stats),
      waited_for(pool, stats, waited_ms)), name
  elseif name == "overloaded" and waited_ms > 0 then
    return ("overloaded: refused after %.6g ms in the queue (%d ahead, %s)%s")
      :format(waited_ms, ahead, situation(pool, stats), waited_for(pool, stats, waited_ms)), name
  elseif name == "overloaded" then
    return ("overloaded: %d claims wait already (%s)"):format(stats.waiting, situation(pool, stats)), name
  elseif name == "pool_failed" then
    return ("pool %s has failed: %s"):format(pool.name, pool:cause()), name
  elseif name == "no_backends" then
    return ("pool %s: %s"):format(pool.name, pool:cause()), name
  elseif name == "paused" then
    return ("pool %s is %s, and the claim may not wait (%d claims wait)"):format(pool.name, manage.paused_text(pool) or "paused",
      stats.waiting), name
  elseif name == "pool_stopping" then
    return ("pool %s is %s"):format(pool.name, pool:state()), name
  end
  return ffi.string(lib.cueball_error_message(result)), name
end

return refusal
