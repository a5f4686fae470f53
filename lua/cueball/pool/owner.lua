--- An owner: somebody all of whose claims and leases end together, such as a request that is served.
local misuse = require "cueball.misuse"
local leaks = require "cueball.pool.leaks"

local Owner = {}
Owner.__index = Owner

local owner = {}

--- Makes an owner.
-- @return it; nil without memory
function owner.new(pool)
  if pool.core:owner_new() < 0 then return nil end
  local self = setmetatable({ pool = pool, core = pool.core.owner[0], claims = {}, number = nil }, Owner)
  self.number = leaks.owner_made(pool.leaks, self, self.core)
  return self
end

--- Whether a value is an owner.
function owner.is(value)
  return getmetatable(value) == Owner
end

--- One of the owner's claims begins to wait.
function owner.claim_began(self, claim)
  self.claims[claim] = true
end

--- One of the owner's claims waits no longer.
function owner.claim_ended(self, claim)
  self.claims[claim] = nil
end

--- Ends all that the owner has: its waiting claims return nil, message, "cancelled", its leases are closed under their claimers. To call it
-- again is harmless.
function Owner:gone()
  if not self.core then return end
  local pool, claims = self.pool, self.claims
  pool.core:owner_gone(self.core)
  leaks.owner_gone(pool.leaks, self.number)
  self.core, self.claims = nil, {}
  local order = {}
  for claim in pairs(claims) do order[#order + 1] = claim end
  table.sort(order, function(a, b) return a.user < b.user end)
  for _, claim in ipairs(order) do claim:disowned() end
  pool:input("time_advanced")
end

misuse.guard(Owner, "owner", { "gone" })

return owner
