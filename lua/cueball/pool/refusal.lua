--- Why a claim got nothing, in words: what a person needs to know who reads them
-- at night.  Methods of the pool.
local native = require "cueball.native"
local explain = require "cueball.pool.explain"
local lib, ffi = native.lib, native.ffi

local refusal = {}

--- What is wrong with the backends, for people.
function refusal.troubles(self)
  local held_back = self.quota and self.quota:cause()
  if held_back then return held_back end
  local dead = explain.note_dead(self)
  if #dead > 0 then return "dead: " .. explain.dead(dead) end
  return self.sink and self.sink.message and "the resolver failed: " .. self.sink.message or "no backend is known"
end

-- Where the connections are, for a claim that got none.
local function situation(self, stats)
  local parts = { ("%d busy"):format(stats.busy) }
  if stats.connecting + stats.backing_off > 0 then
    parts[#parts + 1] = ("%d connecting"):format(stats.connecting + stats.backing_off)
  end
  if stats.total == 0 or stats.dead_backends > 0 then parts[#parts + 1] = self:troubles() end
  return table.concat(parts, ", ")
end

--- Why a claim got nothing: message, name.
function refusal.words(self, result, waited_ms, ahead)
  self.core:stats()
  local stats = self.core.numbers
  local name = ffi.string(lib.cueball_error_name(result))
  if name == "claim_timeout" then
    local why = waited_ms > 0 and ": " .. explain.text(explain.parts(self, waited_ms)) or ""
    return ("claim timed out after %.6g ms (%d ahead, %s)%s"):format(waited_ms, ahead, situation(self, stats), why), name
  elseif name == "overloaded" and waited_ms > 0 then
    return ("overloaded: refused after %.6g ms in the queue (%d ahead, %s): %s")
      :format(waited_ms, ahead, situation(self, stats), explain.text(explain.parts(self, waited_ms))), name
  elseif name == "overloaded" then
    return ("overloaded: %d claims wait already (%s)"):format(stats.waiting, situation(self, stats)), name
  elseif name == "pool_failed" then
    return ("pool %s has failed: %s"):format(self.name, self:troubles()), name
  elseif name == "no_backends" then
    return ("pool %s: %s"):format(self.name, self:troubles()), name
  elseif name == "pool_stopping" then
    return ("pool %s is %s"):format(self.name, self:state()), name
  end
  return ffi.string(lib.cueball_error_message(result)), name
end

return refusal
