--- Random weather for the tracker: once DNS is right for so long as the options say, the tracker has what DNS says.
--
--   CUEBALL_TRACKER_SEEDS=2000 spec/run spec/core/tracker_storm_spec.lua          so many seeds
--   CUEBALL_TRACKER_FIRST=17 CUEBALL_TRACKER_SEEDS=1 spec/run spec/core/tracker_storm_spec.lua    one of them again
local storm = require "spec.support.tracker_storm"

local first, count = tonumber(os.getenv "CUEBALL_TRACKER_FIRST" or 1), tonumber(os.getenv "CUEBALL_TRACKER_SEEDS" or 150)

describe("a tracker in random weather", function()
  local seeds = (" (seeds %d to %d)"):format(first, first + count - 1)

  it("has what DNS says soon after it is right, and asks no more than it may" .. seeds, function()
    for seed = first, first + count - 1 do storm.run(seed) end
  end)
end)
