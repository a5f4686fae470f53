--- Who may have how many of the connections that all workers share.  Pure: the same members give the same shares, so every worker
-- works them out for itself and no two have to agree on anything but the numbers each has published.
--
-- Shares are max-min fair: nobody gets more than it needs, and nobody gets less than another does unless it needs less.
-- (D. Bertsekas, R. Gallager, Data Networks, 2nd edition, section 6.5.2.)
local deal = {}

-- The indices of needs, the least need first; of equal needs, in the order of the list.
local function in_order(needs)
  local order = {}
  for index = 1, #needs do order[index] = index end
  table.sort(order, function(a, b)
    if needs[a] ~= needs[b] then return needs[a] < needs[b] end
    return a < b
  end)
  return order
end

-- Fewer than those who need one: they take turns.
local function by_turns(cap, needs, needy, turn)
  local shares = {}
  for index = 1, #needs do shares[index] = 0 end
  for count = 0, cap - 1 do shares[needy[(turn * cap + count) % #needy + 1]] = 1 end
  return shares
end

--- Deals what there is to those who need it.
-- @param cap   how many there are
-- @param needs list of numbers
-- @param turn  a whole number that grows with time; it matters only while there are more who need one than there are
-- @return list of shares, whole numbers; their sum is at most cap
function deal.shares(cap, needs, turn)
  local needy = {}
  for index = 1, #needs do
    if needs[index] > 0 then needy[#needy + 1] = index end
  end
  if #needy > cap then return by_turns(cap, needs, needy, turn) end
  local shares, left, count = {}, cap, #needs
  for _, index in ipairs(in_order(needs)) do
    shares[index] = math.min(needs[index], math.floor(left / count))
    left, count = left - shares[index], count - 1
  end
  return shares
end

--- Deals in two rounds: what is needed comes first; what is left goes to those who would like more, so that all come as close to
-- each other as may be.
-- @param needs, wishes lists; a wish below its need counts as that need
-- @return shares for what is needed; shares with what is left
function deal.both(cap, needs, wishes, turn)
  local shares = deal.shares(cap, needs, turn)
  local function at(level)
    local full, sum = {}, 0
    for index = 1, #needs do
      full[index] = math.max(shares[index], math.min(wishes[index], level))
      sum = sum + full[index]
    end
    return full, sum
  end
  -- The highest level to which all can be raised.
  local low, high = 0, cap
  while low < high do
    local middle = math.ceil((low + high) / 2)
    local _, sum = at(middle)
    if sum <= cap then low = middle else high = middle - 1 end
  end
  local full, sum = at(low)
  for index = 1, #needs do
    if sum < cap and full[index] == low and wishes[index] > low then full[index], sum = low + 1, sum + 1 end
  end
  return shares, full
end

--- How many of its own each is to give back, so that the others get their shares.
-- @param held   what each has
-- @param shares what each should have, as above
-- @param free   how many nobody has
-- @return list of whole numbers
function deal.yields(held, shares, free)
  local lacking, surplus = 0, 0
  for index = 1, #held do
    lacking = lacking + math.max(0, shares[index] - held[index])
    surplus = surplus + math.max(0, held[index] - shares[index])
  end
  local short, yields = math.max(0, lacking - free), {}
  for index = 1, #held do
    local own = math.max(0, held[index] - shares[index])
    yields[index] = surplus > 0 and math.min(own, math.ceil(short * own / surplus)) or 0
  end
  return yields
end

return deal
