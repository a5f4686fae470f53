--- What one seed comes to: its chance, the pool's options, the faults, how often each kind of step is taken.
local random = require "cueball.host.sim.random"

local draw = {}

local STREAM = 11 -- apart from those of cueball.host.sim
draw.ENDURING_STREAM = 12
draw.ROUGH_STREAM = 13
draw.DIRTY_STREAM = 24
draw.CHARGE_STREAM = 38 -- one that leaves the seeds of sim_spec.lua that once failed as they were

local Chance = {}
Chance.__index = Chance

--- @param seed a whole number
-- @param stream nil, or another than usual
-- @return all the luck of a scenario
function draw.chance(seed, stream)
  return setmetatable({ stream = random.new(seed, stream or STREAM) }, Chance)
end

function Chance:is(probability)
  return self.stream:chance(probability)
end

--- A number from low to high.
function Chance:between(low, high)
  return self.stream:between(low, high)
end

--- A whole number from low to high.
function Chance:whole(low, high)
  return low + self.stream:whole() % (high - low + 1)
end

--- Mostly small: the square of an even draw.
function Chance:small(low, high)
  local unit = self.stream:between(0, 1)
  return low + (high - low) * unit * unit
end

function Chance:one_of(list)
  return list[self:whole(1, #list)]
end

--- A span of milliseconds; or `none`, with this probability.
function Chance:span(low, high, none, probability)
  if probability and self:is(probability) then return none end
  return math.floor(self:small(low, high) * 1000) / 1000
end

--- One of { name = weight }: `names` gives the order.
function Chance:weighted(names, weights, total)
  local left = self.stream:between(0, total)
  for _, name in ipairs(names) do
    left = left - weights[name]
    if left < 0 then return name end
  end
  return names[1]
end

local function recovery(chance)
  local timeout, delay = chance:span(10, 800), chance:span(5, 400)
  return {
    attempts = chance:whole(1, 4),
    timeout_ms = timeout, max_timeout_ms = timeout * chance:one_of { 1, 2, 8 },
    delay_ms = delay, max_delay_ms = delay * chance:one_of { 1, 2, 8 },
    spread = chance:one_of { 0, 0.2, 1 },
  }
end

-- One drawing for each option that a living pool may change.
draw.OPTIONS = {
  max_connections = function(chance) return chance:whole(1, chance:one_of { 3, 8, 8, 24 }) end,
  max_waiters = function(chance) return chance:is(0.5) and chance:whole(0, 20) end,
  claim_timeout_ms = function(chance) return chance:span(0.5, 2000, false, 0.3) end,
  rebalance_delay_ms = function(chance) return chance:span(0, 400, 0, 0.2) end,
  decoherence_interval_ms = function(chance) return chance:span(20, 3000, false, 0.4) end,
  check_interval_ms = function(chance) return chance:span(20, 2000, false, 0.3) end,
  check_timeout_ms = function(chance) return chance:span(1, 400) end,
  idle_timeout_ms = function(chance) return chance:span(20, 3000, false, 0.6) end,
  max_lifetime_ms = function(chance) return chance:span(20, 5000, false, 0.6) end,
  drain_timeout_ms = function(chance) return chance:span(0, 2000, 0, 0.1) end,
  balance = function(chance) return chance:one_of { "fifo", "lifo" } end,
  recovery = function(chance)
    local drawn = { default = recovery(chance) }
    if chance:is(0.5) then drawn.connect = recovery(chance) end
    if chance:is(0.5) then drawn.initial = recovery(chance) end
    return drawn
  end,
}

-- The names in all lists, in order: each process has another order of its own.
local function names_of(...)
  local names, seen = {}, {}
  for _, list in ipairs { ... } do
    for name in pairs(list) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  table.sort(names)
  return names
end

-- Those that change how many connections there are, which of them is next, and who gets it.  In half of the seeds only, so
-- that the other half is held to the plainer rules.
draw.ENDURING = {
  balance = function(chance) return chance:one_of { "fifo", "lifo", "p2c", "p2c" } end,
  spares = function(chance) return chance:is(0.7) and chance:whole(0, 5) end,
  queue = function(chance) return chance:one_of { "fifo", "codel", "adaptive_lifo" } end,
  target_claim_delay_ms = function(chance) return chance:span(1, 500) end,
  max_churn_rate = function(chance) return chance:is(0.5) and chance:between(0.5, 200) end,
  slow_start_ms = function(chance) return chance:span(10, 5000, false, 0.4) end,
  outlier = function(chance)
    return {
      consecutive = chance:whole(0, 4), interval_ms = chance:span(10, 3000), ejection_ms = chance:span(5, 2000),
      max_ejected = chance:one_of { 0, 0.1, 0.5, 1 },
    }
  end,
  recovery = function(chance)
    local drawn = draw.OPTIONS.recovery(chance)
    for _, name in ipairs(names_of(drawn)) do drawn[name].jitter = chance:one_of { "spread", "full", "decorrelated" } end
    return drawn
  end,
}

--- What turns them off.
draw.PLAIN = {
  balance = "fifo", spares = false, queue = "fifo", max_churn_rate = false, slow_start_ms = false, outlier = { consecutive = 0 },
}

local PLAIN_NAMES, ALL_NAMES = names_of(draw.OPTIONS), names_of(draw.OPTIONS, draw.ENDURING)

--- The options there are: their names in order, and what draws each.
function draw.options_of(is_enduring)
  local drawers = setmetatable({}, { __index = draw.OPTIONS })
  if is_enduring then
    for name, drawer in pairs(draw.ENDURING) do drawers[name] = drawer end
  end
  return is_enduring and ALL_NAMES or PLAIN_NAMES, drawers
end

function draw.options(chance, is_enduring)
  local options = {}
  local names, drawers = draw.options_of(is_enduring)
  for _, name in ipairs(names) do options[name] = drawers[name](chance) end
  return options
end

-- Most faults are off in a seed, in some seeds nearly all: so that those there are can be seen to work, and that there is
-- a pool that works for them to happen to.
local function fault(chance, calm, highest)
  if chance:is(calm) then return 0 end
  return math.floor(chance:small(0, highest) * 1000) / 1000
end

local FAULTS = {
  { "connect_throws", 0.5 }, { "connect_returns_nothing", 0.5 }, { "connect_fails", 0.6 }, { "connect_hangs", 0.4 },
  { "connect_is_late", 0.4 }, { "close_throws", 0.5 }, { "close_is_slow", 0.5 }, { "close_hangs", 0.2 }, { "check_throws", 0.3 },
  { "check_fails", 0.4 }, { "check_hangs", 0.3 }, { "check_is_slow", 0.9 }, { "broken_throws", 0.1 }, { "broken_says_so", 0.3 },
  { "lost", 0.3 }, -- connections without a socket: at rest, now and then
}

--- Probabilities of what goes wrong in the connection factory, and on the wire.
function draw.faults(chance)
  local factory, calm = {}, chance:one_of { 0.97, 0.9, 0.8, 0.5 }
  for _, one in ipairs(FAULTS) do factory[one[1]] = fault(chance, calm, one[2]) end
  local wire = {
    refuse = fault(chance, calm, 0.5), hang = fault(chance, calm, 0.3), reset = fault(chance, calm, 0.2), slow = fault(chance, 0.6, 0.5),
    slow_ms = { 1, 400 },
  }
  return factory, wire
end

local RESET_FAULTS = { { "reset_throws", 0.3 }, { "reset_fails", 0.4 }, { "reset_hangs", 0.3 }, { "reset_leaves_it", 0.3 } }

--- How often connections come back dirty, and what goes wrong as they are cleaned: in some seeds.
-- @param factory the probabilities so far
-- @return whether the factory has a reset
function draw.dirt(chance, factory)
  if not chance:is(0.4) then return false end
  factory.dirty = chance:one_of { 0.05, 0.3, 1 }
  local calm = chance:one_of { 0.9, 0.5 }
  for _, one in ipairs(RESET_FAULTS) do
    factory[one[1]] = fault(chance, calm, one[2])
  end
  factory.reset_is_slow = chance:one_of { 0, 0.5, 1 }
  return chance:is(0.9) -- else they say dirty, and have none
end

--- How often each kind of step is taken, some never.
-- @param before what was drawn so far, or nil
function draw.weights(chance, kinds, before)
  local names, weights, total = {}, {}, 0
  if before then names, weights, total = before.names, before.weights, before.total end
  for _, kind in ipairs(kinds) do
    local name, usual = kind[1], kind[2]
    names[#names + 1] = name
    weights[name] = usual * (kind.always and chance:one_of { 0.3, 1, 3 } or chance:one_of { 0, 0.3, 1, 1, 3 })
    total = total + weights[name]
  end
  return { names = names, weights = weights, total = total }
end

local function shown(value)
  if type(value) ~= "table" then return type(value) == "number" and ("%.6g"):format(value) or tostring(value) end
  local names, parts = {}, {}
  for name in pairs(value) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    if value[name] ~= 0 then parts[#parts + 1] = ("%s=%s"):format(name, shown(value[name])) end
  end
  return "{" .. table.concat(parts, " ") .. "}"
end

draw.shown = shown

return draw
