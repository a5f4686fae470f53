--- An owner: somebody all of whose claims and leases end together, such as a
-- request that is served.
local misuse = require "cueball.misuse"
local watchman = require "cueball.pool.leaks"

local Owner = {}
Owner.__index = Owner

local owner = {}

--- @return an owner; nil without memory
function owner.new(pool)
  if pool.core:owner_new() < 0 then return nil end
  local self = setmetatable({ pool = pool, core = pool.core.owner[0], claims = {}, number = nil }, Owner)
  self.number = watchman.owner_made(pool.watchman, self, self.core)
  return self
end

--- Is it one?
function owner.is(value)
  return getmetatable(value) == Owner
end

--- The end: waiting claims return nil, message, "cancelled", leases are closed
-- under their claimers.  Calling it again is harmless.
function Owner:gone()
  if not self.core then return end
  local pool, claims = self.pool, self.claims
  pool.core:owner_gone(self.core)
  watchman.owner_gone(pool.watchman, self.number)
  self.core, self.claims = nil, {}
  local order = {}
  for claim in pairs(claims) do order[#order + 1] = claim end
  table.sort(order, function(a, b) return a.user < b.user end)
  for _, claim in ipairs(order) do
    if not claim.is_answered then
      pool.waiting[claim.user] = nil
      claim:answer(nil, "the claim's owner is gone", "cancelled")
    end
  end
  pool:input("time_advanced")
end

misuse.guard(Owner, "owner", { "gone" })

return owner
