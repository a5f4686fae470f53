--- Sessions that are kept to be resumed: the latest under each key, so many at most. The key that was added first goes first.
local sessions = {}

local Sessions = {}
Sessions.__index = Sessions

--- @param count_max so many keys at most
function sessions.new(count_max)
  return setmetatable({ count_max = count_max, by_key = {}, keys = {}, first = 1, last = 0 }, Sessions)
end

--- @param key any value but nil
-- @param session nil: what is kept is forgotten
function Sessions:keep(key, session)
  local by_key = self.by_key
  if by_key[key] == nil and session ~= nil then
    self.last = self.last + 1
    self.keys[self.last] = key
  end
  -- A key that was forgotten stays in its turn, as an empty one.
  if session ~= nil or by_key[key] ~= nil then by_key[key] = session or false end
  if self.last - self.first + 1 > self.count_max then
    by_key[self.keys[self.first]] = nil
    self.keys[self.first] = nil
    self.first = self.first + 1
  end
end

--- @return the session kept under the key, or nil
function Sessions:get(key)
  return self.by_key[key] or nil
end

return sessions
