--- What an event of a pool means, as a sentence for people.
--
--   sentence.of(pool, event) → a record as of cueball.log, of any event that pool:subscribe tells
--
-- The log of a pool is made of these for the kinds that a person should hear of unasked; who watches a pool has all of them.
local text = require "cueball.text"

local sentence = {}

local ALL_PRIORITIES = 0xffffffff

local DEATHS = {
  failed = "failed", timeout = "took too long", lost = "opened and broke", fail = "failed its claimer", unfit = "failed its check",
}
local PROOFS = { release = "came back in order", check = "passed its check", worn = "delivered what was asked for", lasted = "lasted" }

-- Why a slot, a lease or a connection is what it is now, behind a comma.
local BECAUSE = {
  plan = "as the plan has it", opened = "it is open", failed = "the attempt failed", timeout = "it took too long",
  delay = "the pause is over", lost = "it broke", claim = "for a claim", release = "it was released", close = "its claimer closed it",
  fail = "its claimer says that it failed", check = "a check is due", unfit = "it is unfit for the next claimer", worn = "it is used up",
  lasted = "it lasted", renew = "connections are renewed", idle = "it was idle for too long", lifetime = "it is old enough",
  max_uses = "it was used often enough", removed = "its backend was removed", stop = "the pool stops",
  drain = "its backend is drained", killed = "somebody in charge ended the lease", owner = "its owner is gone",
  cancel = "its claim was given up", closed = "it is closed",
}

local function because(event)
  if not event.cause or event.cause == "none" then return "" end
  return ", " .. (BECAUSE[event.cause] or event.cause)
end

local function with(words, more)
  return more and words .. ": " .. more or words
end

local function of_backend(level, what)
  return function(event) return level, with(("backend %s %s"):format(event.backend, what), event.provenance) end
end

-- A slot came from one state into another: the words of the new one.
local SLOT = {
  connecting = function(event) return ("connects to %s, attempt %d"):format(event.backend or "?", event.count) end,
  backoff = function(event) return ("pauses after attempt %d at %s"):format(event.count, event.backend or "?") end,
  idle = function(event) return ("a connection to %s is idle"):format(event.backend or "?") end,
  busy = function(event) return ("a connection to %s is leased"):format(event.backend or "?") end,
  checking = function(event) return ("a connection to %s is checked"):format(event.backend or "?") end,
  closing = function(event) return ("a connection to %s is closed"):format(event.backend or "?") end,
  free = function() return "free" end,
}

local function slot_state(event)
  local words = SLOT[event.to]
  local shown = words and words(event) or ("is %s (was %s)"):format(event.to, event.from)
  if event.from == "checking" and event.cause == "check" then
    return "debug", ("slot %d: %s, it passed its check"):format(event.slot or -1, shown)
  end
  return "debug", with(("slot %d: %s%s"):format(event.slot or -1, shown, because(event)), event.error)
end

local REFUSED = {
  claim_timeout = "its time was up", overloaded = "too many wait", no_backends = "no backend is known", pool_failed = "the pool has failed",
  pool_stopping = "the pool stops", no_memory = "there is no memory", paused = "the pool is paused",
}

-- By kind: function(event) → level, sentence.
local OF = {
  pool_state = function(event)
    return event.to == "failed" and "error" or "info", with(("%s (was %s)"):format(event.to, event.from), event.message)
  end,
  backend_added = of_backend("debug", "added"),
  backend_removed = of_backend("debug", "removed"),
  backend_changed = function(event)
    local name = event.name and event.name ~= "" and ", name " .. event.name or ""
    return "debug", ("backend %s has weight %s and priority %s now%s")
      :format(event.backend, event.weight or "?", event.priority or "?", name)
  end,
  backend_dead = function(event)
    return "warn", ("backend %s is dead after %d attempts, the last one %s: %s"):format(event.backend, event.count,
      DEATHS[event.cause] or event.cause, event.error or "no reason known")
  end,
  backend_revived = function(event)
    if event.cause == "plan" then return "debug", "backend " .. event.backend .. " is left alone now" end
    return "info", ("backend %s is alive again: a connection %s"):format(event.backend, PROOFS[event.cause] or event.cause)
  end,
  backend_limited = function(event)
    return "info", ("%s takes %d, the pool wants %d: the rest goes to others"):format(event.backend, event.count, event.wanted)
  end,
  backend_ejected = function(event)
    return "warn", ("backend %s is left out for a while, its leases failed: %s"):format(event.backend, event.error or "no reason known")
  end,
  backend_returned = function(event) return "info", "backend " .. event.backend .. " is used again" end,
  priority = function(event)
    if event.count == ALL_PRIORITIES then return "info", "backends of all priorities are used" end
    return "info", ("backends of priority %d and better are used"):format(event.count)
  end,
  overloaded = function(event) return "warn", ("overloaded, %d claims wait"):format(event.count) end,
  relieved = function() return "info", "no longer overloaded" end,
  memory_short = function() return "error", "out of memory: connections are opened later" end,
  resolver_failed = function(event) return "warn", with("the resolver failed", event.message) end,
  resolver_recovered = function() return "info", "the resolver works again" end,
  paused = function(event)
    return "info", ("paused%s, %d claims wait"):format(event.by and " by " .. event.by or "", event.count or 0)
  end,
  resumed = function(event) return "info", ("resumed, %d claims waited"):format(event.count or 0) end,
  backend_drained = function(event)
    return "info", ("backend %s is drained, %d of its connections are leased"):format(event.backend, event.count or 0)
  end,
  backend_restored = function(event) return "info", ("backend %s is used again"):format(event.backend) end,
  planned = function(event) return "debug", ("a plan of %d connections was made"):format(event.count) end,
  shuffled = function(event) return "debug", ("%d idle connections were shuffled"):format(event.count) end,
  options_changed = function() return "info", "options were changed" end,
  slot_state = slot_state,
  claim_waiting = function(event) return "debug", ("a claim waits, %d are ahead of it"):format(event.count) end,
  claim_granted = function(event)
    return "debug", ("a claim has a connection to %s%s"):format(event.backend or "?", event.claim and " after a wait" or "")
  end,
  claim_refused = function(event)
    return "debug", ("a claim got nothing: %s"):format(REFUSED[event.error] or event.error or "no reason known")
  end,
  claim_cancelled = function() return "debug", "a claim was given up" end,
  lease_ended = function(event) return "debug", ("a lease on %s is over%s"):format(event.backend or "?", because(event)) end,
}

-- What a record has in places of their own.
local ELSEWHERE = { kind = true, time_ms = true, backend = true, cause = true, message = true }

local function fields_of(event)
  local fields = {}
  for name, value in pairs(event) do
    if not ELSEWHERE[name] and type(value) ~= "table" then fields[name] = value end
  end
  return fields
end

--- Kinds that have a sentence, in order.
function sentence.kinds()
  local kinds = {}
  for kind in pairs(OF) do kinds[#kinds + 1] = kind end
  table.sort(kinds)
  return kinds
end

--- What an event means: level, sentence.
function sentence.words(event)
  local of = OF[event.kind]
  if of then return of(event) end
  local backend = event.backend and " " .. event.backend or ""
  return "debug", (event.kind:gsub("_", " ")) .. backend .. because(event) -- of a kind that is younger than this file
end

--- An event of a pool as a record of the log; it is not told to anybody.
-- @param event as pool:subscribe gives it
-- @return { time_s, level, pool, backend, event, cause, message, fields }; time_s is by the wall clock
function sentence.of(pool, event)
  local level, words = sentence.words(event)
  local ago_s = math.max(0, pool.now() / 1e9 - event.time_ms / 1e3)
  return {
    time_s = pool.host.time_s() - ago_s, level = level, pool = pool.name, backend = event.backend, event = event.kind,
    cause = event.cause, message = text.clean(words), fields = fields_of(event),
  }
end

return sentence
