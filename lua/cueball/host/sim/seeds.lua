--- A test for many seeds: each in a world of its own.
--
--   sim.for_seeds(100, function(world, seed) … end)
--   sim.for_seeds(100, fn, { from = 1, faults = { cut = 0.2 } })   and what else sim.new takes
--
-- What fails says its seed, on stderr too; CUEBALL_SEED=17 in the environment runs that one alone.
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local seeds = {}

local function is_whole(value, min)
  return type(value) == "number" and value % 1 == 0 and value >= min and value <= 2 ^ 53 - 1
end

-- The first seed and the last one, and options for sim.new.
local function range_of(count, options)
  if not is_whole(count, 1) then misuse.raise("for_seeds: expected a number of seeds from 1, got " .. tostring(count)) end
  if options ~= nil and type(options) ~= "table" then
    misuse.raise("for_seeds: expected a table of options, got " .. type(options))
  end
  local rest = {}
  for name, value in pairs(options or {}) do rest[name] = value end
  if rest.seed ~= nil then misuse.raise("for_seeds: option seed: each run has its own; use from") end
  local from = rest.from == nil and 1 or rest.from
  if not is_whole(from, 0) then misuse.raise("for_seeds: from: expected a whole number from 0, got " .. tostring(from)) end
  rest.from = nil
  local alone = os.getenv "CUEBALL_SEED"
  if not alone then return from, from + count - 1, rest end
  local seed = tonumber(alone)
  if not is_whole(seed, 0) then misuse.raise("for_seeds: CUEBALL_SEED is no seed: " .. alone) end
  return seed, seed, rest
end

local function run_one(make, seed, fn, options)
  options.seed = seed
  local world = make(options)
  local ok, message = xpcall(function()
    fn(world, seed)
    world.settle()   -- raises what a task threw last
  end, text.traced)
  pcall(world.close)
  return ok, message
end

--- @param make sim.new
-- @param count how many seeds
-- @param fn function(world, seed)
-- @param options nil, or { from = the first one, 1 by default, … }
function seeds.run(make, count, fn, options)
  local first, last, rest = range_of(count, options)
  if type(fn) ~= "function" then misuse.raise("for_seeds: expected a function, got " .. type(fn)) end
  for seed = first, last do
    local ok, message = run_one(make, seed, fn, rest)
    if not ok then
      io.stderr:write(("seed %.0f failed; CUEBALL_SEED=%.0f runs it alone\n"):format(seed, seed))
      if type(message) == "string" then message = ("seed %.0f: %s"):format(seed, message) end
      error(message, 0)
    end
  end
end

return seeds
