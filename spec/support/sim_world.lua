--- What the specs of the simulated host share: a fresh world for each, and how it went in words.
--
--     local town = require "spec.support.sim_world"
--     before_each(town.open)   -- the world is town.world then

local assert = require "luassert"
local sim = require "cueball.host.sim"
require "spec.support.trace"

local town = { world = nil }

function town.trace() return town.world.trace_text() end
function town.assert_trace(expected) assert.trace(town, expected) end

function town.open(options)
  town.world = sim.new(options or { seed = 1 })
  return town.world
end

--- Connects and says in the trace how that went.
function town.connect(port, timeout_ms, address)
  local sock = town.world.tcp()
  if timeout_ms then sock:settimeout(timeout_ms) end
  local ok, err = sock:connect(address or "10.0.0.1", port or 5432)
  town.world.trace("connect: " .. tostring(ok or err))
  return sock
end

--- What a call on a socket returned, in the trace.
function town.said(...)
  local ok, err, partial = ...
  town.world.trace(tostring(ok or err) .. (partial and partial ~= "" and " after " .. partial or ""))
end

return town
