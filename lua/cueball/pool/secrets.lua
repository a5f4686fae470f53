--- The secrets that a pool's connection factory has asked for (context.secret): they are not shown in what the pool tells people.
--
-- Known are the secrets of the latest attempt of each slot, since later messages of its connection may have them too: a failed check, a
-- claimer's lease:fail. They are no field of the pool: who dumps a pool, or a lease, does not dump them.
local misuse = require "cueball.misuse"
local plain = require "cueball.pool.context"
local secret = require "cueball.secret"
local text = require "cueball.text"

local secrets = {}

local known = setmetatable({}, { __mode = "k" }) -- by pool

function secrets.open(pool)
  known[pool] = {
    by_slot = {}, -- { name = a secret, as messages would have it }
    counts = {},  -- in how many places of by_slot one is
    list = nil,   -- those that are in any, the longest first: one may be the beginning of another; nil: it is to be made
  }
end

local function count(self, shown, change)
  local number = (self.counts[shown] or 0) + change
  self.counts[shown] = number > 0 and number or nil
  self.list = nil
end

local function keep(self, slot, name, value)
  local of_slot = self.by_slot[slot] or {}
  self.by_slot[slot] = of_slot
  local shown, before = secret.shown(value), of_slot[name]
  if shown == before then return end
  if before then count(self, before, -1) end
  if shown then count(self, shown, 1) end
  of_slot[name] = shown
end

--- An attempt begins: what that slot's connection before had been given is over.
function secrets.forget(pool, slot)
  local self = known[pool]
  for _, shown in pairs(self.by_slot[slot] or {}) do count(self, shown, -1) end
  self.by_slot[slot] = nil
end

--- Completes what a factory is given:
-- context.secret(name, given) → text; or nil, message. `given` is the secret, or function(backend, context) → secret; or nil, message.
-- context.hide(message) → the message for people: on one line, without the secrets that were asked for.
function secrets.equip(pool, slot, backend, context)
  function context.secret(name, given)
    if type(name) ~= "string" then -- context:secret(…), too: the name would be taken for the secret
      misuse.raise("context.secret: expected a name, got a " .. type(name) .. "; it is called with a dot")
    end
    local value, message = secret.ask(name, given, function() plain.close_client(context) end, backend, context)
    if not value then return nil, message end
    keep(known[pool], slot, text.of(name), value)
    return value
  end
  function context.hide(message) return secrets.hide(pool, text.message(message)) end
end

local function is_longer(one, other)
  if #one ~= #other then return #one > #other end
  return one < other
end

local function list_of(self)
  if self.list then return self.list end
  local list = {}
  for shown in pairs(self.counts) do list[#list + 1] = shown end
  table.sort(list, is_longer)
  self.list = list
  return list
end

--- How many there are.
function secrets.count(pool) return #list_of(known[pool]) end

--- A message for people without any of these secrets.
function secrets.hide(pool, message)
  for _, shown in ipairs(list_of(known[pool])) do message = secret.cut(message, shown) end
  return message
end

return secrets
