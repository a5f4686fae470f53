--- Why a backend is there, or is gone, in words.
local native = require "cueball.native"
local lib = native.lib

local provenance = {}

local SRV, NXDOMAIN, NODATA, NOTIMP = tonumber(lib.CUEBALL_TARGETS_SRV), tonumber(lib.CUEBALL_TARGETS_NXDOMAIN),
  tonumber(lib.CUEBALL_TARGETS_NODATA), tonumber(lib.CUEBALL_TARGETS_NOTIMP)

local function by(before, server)
  return server ~= "" and before .. server or ""
end

-- The fallbacks of the tracker: the domain itself, since …
local SINCE = {
  [NXDOMAIN] = function(why) return ("%s does not exist (NXDOMAIN%s)"):format(why.srv_name, by(" from ", why.srv_server)) end,
  [NODATA] = function(why) return ("%s has no SRV records (NODATA%s)"):format(why.srv_name, by(" from ", why.srv_server)) end,
  [NOTIMP] = function(why) return ("SRV is not known there (NOTIMP for %s%s)"):format(why.srv_name, by(" from ", why.srv_server)) end,
}

local function targets_words(why)
  if why.targets_from == SRV then
    return ("; SRV %s%s, TTL %d s"):format(why.srv_name, by(" from ", why.srv_server), why.srv_ttl)
  end
  local since = SINCE[why.targets_from]
  return since and ", since " .. since(why) or ""
end

--- "A 10.0.0.1 of db1.example from 127.0.0.1:53, TTL 30 s; SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s"
-- @param backend as the driver tells of it
function provenance.of(backend)
  local why = backend.why
  local alias = why.owner:lower() ~= backend.name:lower() and (" (for which %s is an alias)"):format(backend.name) or ""
  local from = by(why.is_additional and ", which came along from " or " from ", why.server)
  return ("%s %s of %s%s%s, TTL %d s%s"):format(why.record, backend.address, why.owner, alias, from, why.ttl, targets_words(why))
end

local GONE = {
  [tonumber(lib.CUEBALL_REMOVAL_TARGET)] = function(backend, why)
    local since = SINCE[why.targets_from]
    if since then return ("%s is asked for no more, since %s"):format(backend.name, since(why)) end
    return ("%s is not in the SRV answer%s any more"):format(backend.name, by(" of ", why.server))
  end,
  [tonumber(lib.CUEBALL_REMOVAL_ADDRESS)] = function(backend, why)
    return ("%s is not in the %s answer for %s%s any more"):format(backend.address, why.record, backend.name, by(" of ", why.server))
  end,
  [tonumber(lib.CUEBALL_REMOVAL_NAME)] = function(backend, why)
    return ("%s has no %s records any more%s"):format(backend.name, why.record, by(", says ", why.server))
  end,
  [tonumber(lib.CUEBALL_REMOVAL_FAMILY)] = function(_, why)
    return ("this host has no %s address any more"):format(why.record == "A" and "IPv4" or "IPv6")
  end,
  [tonumber(lib.CUEBALL_REMOVAL_NO_SERVICE)] = function(_, why)
    return ("there is no such service: the SRV answer for %s%s is \".\""):format(why.srv_name, by(" of ", why.server))
  end,
}

--- "db1.example is not in the SRV answer of 127.0.0.1:53 any more"; nil if nothing is known.
function provenance.of_removal(backend)
  local gone = GONE[backend.why.removal]
  return gone and gone(backend, backend.why)
end

return provenance
