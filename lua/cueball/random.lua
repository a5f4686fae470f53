--- Chance for what is decided in Lua: Park and Miller's generator with the multiplier of 1993 (Communications of the ACM 36/7,
-- page 105).  math.random is no good: it is one for all, and workers that nobody seeded all draw the same.
local random = {}

local MODULUS, MULTIPLIER = 2147483647, 48271

--- @param seed a whole number from 0
-- @return function() that draws a fraction from 0 to below 1
function random.from(seed)
  local state = seed % (MODULUS - 1) + 1
  return function()
    state = state * MULTIPLIER % MODULUS
    return (state - 1) / (MODULUS - 1)
  end
end

return random
