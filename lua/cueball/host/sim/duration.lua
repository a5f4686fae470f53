--- Times of the fake network, and how one is drawn:
--
--   5                                 always so many ms
--   { 1, 20 }                         evenly from 1 to 20 ms
--   { p50 = 2, p99 = 40, p100 = 900 } by quantiles: half of the draws are below 2 ms, one in a hundred above 40.  Between
--                                     two quantiles the draw is even; p0 is 0, and p100 the highest one given, by default
--   function(random) … end            ms; random([low, high]) is chance of the world's seed
local duration = {}

--- What a time must be, for messages.
duration.EXPECTED = "a time in ms from 0, {min, max}, quantiles as { p50 = 2, p99 = 40 }, or a function"

local function is_amount(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

-- The share of draws below, from "p99.9"; nil: it is no quantile's name.
local function share_of(name)
  local percent = type(name) == "string" and tonumber(name:match "^p(%d+%.?%d*)$")
  return percent and percent <= 100 and percent / 100 or nil
end

-- Points { share, ms } in order from share 0 to 1; nil: these are no quantiles.
local function points_of(quantiles)
  local points = {}
  for name, value in pairs(quantiles) do
    local share = share_of(name)
    if not share or not is_amount(value) then return nil end
    points[#points + 1] = { share, value }
  end
  if #points == 0 then return nil end
  table.sort(points, function(a, b) return a[1] < b[1] end)
  if points[1][1] > 0 then table.insert(points, 1, { 0, 0 }) end
  if points[#points][1] < 1 then points[#points + 1] = { 1, points[#points][2] } end
  for index = 2, #points do
    if points[index][2] < points[index - 1][2] then return nil end
  end
  return points
end

--- @return what duration.draw takes; nil: it is no time
function duration.read(given)
  if type(given) == "function" or is_amount(given) then return given end
  if type(given) ~= "table" then return nil end
  if given.points then return given end   -- read before
  if #given == 0 then
    local points = points_of(given)
    return points and { points = points } or nil
  end
  local is_range = #given == 2 and is_amount(given[1]) and is_amount(given[2]) and given[1] <= given[2]
  return is_range and { given[1], given[2] } or nil
end

local function between_points(points, share)
  for index = 2, #points do
    local low, high = points[index - 1], points[index]
    if share < high[1] then return low[2] + (high[2] - low[2]) * (share - low[1]) / (high[1] - low[1]) end
  end
  return points[#points][2]
end

local function call(random, fn)
  local ms = fn(function(low, high) return random:between(low or 0, high or 1) end)
  if not is_amount(ms) then error("a time's function returned " .. tostring(ms) .. ", expected ms from 0", 0) end
  return ms
end

--- @param random a cueball.host.sim.random
-- @param time   as duration.read returned it
-- @return ms
function duration.draw(random, time)
  if type(time) == "number" then return time end
  if type(time) == "function" then return call(random, time) end
  if time.points then return between_points(time.points, random:between(0, 1)) end
  return random:between(time[1], time[2])
end

return duration
