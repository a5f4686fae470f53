--- What one seed comes to: its chance, the pool's options, the faults, how often each kind of step is taken.
local random = require "cueball.host.sim.random"

local draw = {}

local STREAM = 11 -- apart from those of cueball.host.sim

local Chance = {}
Chance.__index = Chance

--- @param seed a whole number
-- @return all the luck of a scenario
function draw.chance(seed)
  return setmetatable({ stream = random.new(seed, STREAM) }, Chance)
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

draw.OPTION_NAMES = {}
for name in pairs(draw.OPTIONS) do table.insert(draw.OPTION_NAMES, name) end
table.sort(draw.OPTION_NAMES)

function draw.options(chance)
  local options = {}
  for _, name in ipairs(draw.OPTION_NAMES) do options[name] = draw.OPTIONS[name](chance) end
  return options
end

-- A fault is off in most seeds, so that those there are can be seen to work.
local function fault(chance, highest)
  if chance:is(0.6) then return 0 end
  return math.floor(chance:small(0, highest) * 1000) / 1000
end

local FAULTS = {
  { "connect_throws", 0.5 }, { "connect_returns_nothing", 0.5 }, { "connect_fails", 0.6 }, { "connect_hangs", 0.4 },
  { "connect_is_late", 0.4 }, { "close_throws", 0.5 }, { "close_is_slow", 0.5 }, { "close_hangs", 0.2 }, { "check_throws", 0.3 },
  { "check_fails", 0.4 }, { "check_hangs", 0.3 }, { "broken_throws", 0.1 }, { "broken_says_so", 0.3 },
  { "lost", 0.3 }, -- connections without a socket: at rest, now and then
}

--- Probabilities of what goes wrong in the connection factory, and on the wire.
function draw.faults(chance)
  local factory = {}
  for _, one in ipairs(FAULTS) do factory[one[1]] = fault(chance, one[2]) end
  local wire = {
    refuse = fault(chance, 0.5), hang = fault(chance, 0.3), reset = fault(chance, 0.2), slow = fault(chance, 0.5),
    slow_ms = { 1, 400 },
  }
  return factory, wire
end

--- How often each kind of step is taken, some never.
function draw.weights(chance, kinds)
  local names, weights, total = {}, {}, 0
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
