--- The pools that live in this process, for who wants to show them. It keeps none of them alive.
local registry = {}

local pools = setmetatable({}, { __mode = "v" }) -- by number
local count = 0

local board -- where workers share memory, and not before: the board needs the registry

--- A pool is to be made on this host.  What cannot be loaded (for want of descriptors, say) is an error now, before there is half a pool.
function registry.prepare(host)
  if host.shared and host.worker then board = require "cueball.monitor.board" end
end

--- A pool is there.
function registry.add(pool)
  count = count + 1
  pools[count] = pool
  if pool.host.shared and pool.host.worker then board.follow(pool.host) end
end

--- Those that are not stopped, in the order in which they were made.
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
