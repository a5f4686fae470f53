--- The pools that live in this process, for who shows them. The list keeps none of them alive.
local registry = {}

local pools = setmetatable({}, { __mode = "v" }) -- by number
local count = 0

--- A pool was made.
function registry.add(pool)
  count = count + 1
  pools[count] = pool
end

--- The pools that are not stopped, in the order in which they were made.
function registry.pools()
  local numbers, list = {}, {}
  for number in pairs(pools) do numbers[#numbers + 1] = number end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    local pool = pools[number]
    if pool and not pool.is_over then list[#list + 1] = pool end
  end
  return list
end

return registry
