--- Memory that the workers of one nginx share: the keys of a lua_shared_dict that begin with a prefix.
--
--   local memory = shared_dict.open { dict = …, prefix = "cueball/x/", … }
--   memory:get(key)   memory:set(key, value [, seconds])   memory:add(…)   memory:delete(key)      all without the prefix
--   local lock = memory:lock("leader", 3)         for one worker at a time; it ends by itself
--
-- What can go wrong. The dict is full, since others fill it. What is small is written all the same: the dict then throws away what nobody
-- has looked at for longest. Workers look at what is theirs every second at least, so that goes last. What is large is written only if
-- there is room: it would push out too much. Others write to the dict: a value that none of ours can have written is foreign. It is not
-- believed, it is put right, and each worker says so once for each kind of key (complain).
local shared_dict = {}

local SMALL = 4096 -- bytes

local Memory = {}
Memory.__index = Memory

local Lock = {}
Lock.__index = Lock

--- @param given dict: get, set, add, delete, incr and so on as ngx.shared.DICT has them; name: of the dict, for messages, or nil;
--   prefix: of all keys; log(level, message); now(): milliseconds, on a clock that all workers share;
--   id: a text without "|" and tabs, of this worker alone, now and ever; is_id(text): could a worker have it?;
--   is_alive(id): does that worker live? nil: that cannot be told
function shared_dict.open(given)
  return setmetatable({
    dict = given.dict, name = given.name, prefix = given.prefix, log = given.log, now = given.now,
    id = given.id, is_id = given.is_id, is_alive = given.is_alive,
    told = {}, -- of what kinds of foreign values
  }, Memory)
end

-- ------------------------------------------------------------------ values --

function Memory:get(key)
  return (self.dict:get(self.prefix .. key))
end

--- Is there a value, whatever it is? That copies nothing.
function Memory:has(key)
  return self.dict:ttl(self.prefix .. key) ~= nil
end

function Memory:delete(key)
  self.dict:delete(self.prefix .. key)
end

local function is_small(value)
  return type(value) ~= "string" or #value <= SMALL
end

--- Writes a value where there is none.
-- @param seconds until the value ends by itself; nil: it does not
-- @return true; or false, "exists"; or nil, "no memory"
function Memory:add(key, value, seconds)
  local dict, name = self.dict, self.prefix .. key
  local ok, message = dict:safe_add(name, value, seconds)
  if ok or message ~= "no memory" or not dict.add or not is_small(value) then return ok, message end
  ok, message = dict:add(name, value, seconds)
  return ok, message
end

--- @return true; or nil, "no memory"
function Memory:set(key, value, seconds)
  local dict, name = self.dict, self.prefix .. key
  if not dict.safe_set then return dict:set(name, value, seconds) end
  local ok, message = dict:safe_set(name, value, seconds)
  if ok or message ~= "no memory" or not is_small(value) then return ok, message end
  ok, message = dict:set(name, value, seconds)
  return ok, message
end

--- Adds one to a number; where there is none it begins at 0.
-- @return the number; nil: there was no memory, or the value is none
function Memory:increment(key)
  if self:get(key) == nil then self:add(key, 0) end
  return tonumber((self.dict:incr(self.prefix .. key, 1, 0)))
end

--- Somebody else has written there.
-- @param value what was found
function Memory:complain(key, value)
  local kind = key:gsub("%d+$", "")
  if self.told[kind] then return end
  self.told[kind] = true
  self.log("error", ("the shared dict%s has a foreign value at %s (%s): it is used for something else too; it was put right")
    :format(self.name and (" %q"):format(self.name) or "", self.prefix .. key, tostring(value):sub(1, 64)), "shared_memory", { key = key })
end

--- Is it a whole number from 0 to max?
function shared_dict.is_whole(value, max)
  return type(value) == "number" and value >= 0 and value <= max and value % 1 == 0
end

-- ------------------------------------------------------------------- locks --

--- A lock that one worker has at a time. It is a key with the id of its holder, which ends by itself.
-- @param seconds until it ends, unless it is renewed
-- @param stranger_ms a text that is no worker's id is believed for so long: it may end by itself
function Memory:lock(key, seconds, stranger_ms)
  return setmetatable({ memory = self, key = key, seconds = seconds, stranger_ms = stranger_ms, stranger_since = nil }, Lock)
end

--- Takes it, if nobody has it.
-- @return true; or false, "exists"; or nil, "no memory"
function Lock:take()
  local ok, message = self.memory:add(self.key, self.memory.id, self.seconds)
  return ok, message
end

--- Has it for longer. It must be this worker's.
function Lock:renew()
  self.memory:set(self.key, self.memory.id, self.seconds)
end

--- Gives it back, if it is this worker's still.
function Lock:release()
  if self.memory:get(self.key) == self.memory.id then self.memory:delete(self.key) end
end

--- Takes it away from whoever has it: none of ours has it for so long.
function Lock:break_open()
  self.memory:complain(self.key, self.memory:get(self.key))
  self.memory:delete(self.key)
end

--- The id of who has it; nil: nobody has.
function Lock:holder()
  local memory = self.memory
  local holder = memory:get(self.key)
  if holder == nil or type(holder) == "string" and memory.is_id(holder) then
    self.stranger_since = nil
    return holder
  end
  self.stranger_since = self.stranger_since or memory.now()
  if type(holder) == "string" and memory.now() - self.stranger_since < self.stranger_ms then return holder end
  self:break_open()
  return nil
end

return shared_dict
