--- Chance that can be repeated: splitmix64 (Steele, Lea, Flood: "Fast splittable
-- pseudorandom number generators", OOPSLA 2014), in LuaJIT's 64-bit integers.
-- Each user of chance has a stream of its own, so that a pool that asks for one
-- seed more does not change what the network does.

local bit = require "bit"

local bxor, rshift = bit.bxor, bit.rshift

local GAMMA = 0x9e3779b97f4a7c15ULL
local TWO_53 = 2 ^ 53

local Random = {}
Random.__index = Random

local function mix(z)
  z = bxor(z, rshift(z, 30)) * 0xbf58476d1ce4e5b9ULL
  z = bxor(z, rshift(z, 27)) * 0x94d049bb133111ebULL
  return bxor(z, rshift(z, 31))
end

-- A whole number from 0 to 2^53-1.
function Random:whole()
  self.state = self.state + GAMMA
  return tonumber(rshift(mix(self.state), 11))
end

-- A number from low up to but not including high.
function Random:between(low, high)
  return low + (high - low) * (self:whole() / TWO_53)
end

-- True with this probability. Nothing is drawn where there is nothing to
-- decide (false, nil, 0, true, 1), so that a server without faults costs the
-- others no luck.
function Random:chance(probability)
  if not probability or probability == 0 then return false end
  if probability == true or probability == 1 then return true end
  return self:whole() / TWO_53 < probability
end

local random = {}

-- seed: a whole number from 0 to 2^53-1; stream: a small whole number.
function random.new(seed, stream)
  -- Mixed before use: neighbouring seeds must not give shifted copies of one sequence.
  return setmetatable({ state = mix(mix(seed + 0ULL) + (stream + 1ULL) * GAMMA) }, Random)
end

return random
