--- A set that remembers the order of joining.  `pairs` over tables as keys goes
-- by address, and so differently in every process: a world that must repeat
-- itself goes over its things with this.
local members = {}

local Members = {}
Members.__index = Members

function members.new()
  return setmetatable({ orders = {}, joined = 0 }, Members)
end

function Members:add(member)
  if self.orders[member] then return end
  self.joined = self.joined + 1
  self.orders[member] = self.joined
end

function Members:remove(member)
  self.orders[member] = nil
end

--- A list of its own: the set may change while somebody goes over it.
function Members:list()
  local list, orders = {}, self.orders
  for member in pairs(orders) do list[#list + 1] = member end
  table.sort(list, function(a, b) return orders[a] < orders[b] end)
  return list
end

function Members:count()
  local count = 0
  for _ in pairs(self.orders) do count = count + 1 end
  return count
end

return members
