--- Writing into a shared dict that may be full, since others fill it.
--
-- What is small is written all the same: the dict then throws away what nobody has looked at for longest. Workers look at what is theirs
-- every second at least, so that goes last. What is large is written only if there is room: it would push out too much.
local room = {}

local SMALL = 4096 -- bytes

local function is_small(value)
  return type(value) ~= "string" or #value <= SMALL
end

--- dict:safe_add, and if there is no memory for something small, dict:add.
-- @return as those
function room.add(dict, key, value, seconds)
  local ok, message = dict:safe_add(key, value, seconds)
  if ok or message ~= "no memory" or not dict.add or not is_small(value) then return ok, message end
  ok, message = dict:add(key, value, seconds)
  return ok, message
end

--- dict:safe_set, and if there is no memory for something small, dict:set.
-- @return as those
function room.set(dict, key, value, seconds)
  if not dict.safe_set then return dict:set(key, value, seconds) end
  local ok, message = dict:safe_set(key, value, seconds)
  if ok or message ~= "no memory" or not is_small(value) then return ok, message end
  ok, message = dict:set(key, value, seconds)
  return ok, message
end

return room
