--- Dictionaries of ngx_lua's `shared`, within one process: resty.lock, resty.limit.* and resty.mlcache keep their state in them.
--
-- A dictionary is made when it is first asked for. It holds CAPACITY bytes, counted as keys, values and 100 bytes for each; where that is
-- not enough, what was not used for longest goes, as in nginx.
local misuse = require "cueball.misuse"

local shared = {}

local CAPACITY, OVERHEAD = 16 * 1048576, 100
local KEY_MAX = 65535

local Dict = {}
Dict.__index = Dict

function shared.new(host)
  local dict = setmetatable({ host = host, members = {}, used = 0, first = nil, last = nil }, Dict)
  return dict
end

-- ------------------------------------------- the list, latest use first --

local function unlink(self, member)
  local before, after = member.before, member.after
  if before then before.after = after else self.first = after end
  if after then after.before = before else self.last = before end
  member.before, member.after = nil, nil
end

local function link(self, member)
  local first = self.first
  member.after = first
  if first then first.before = member else self.last = member end
  self.first = member
end

local function touch(self, member)
  if self.first == member then return end
  unlink(self, member)
  link(self, member)
end

local function drop(self, member)
  unlink(self, member)
  self.members[member.key] = nil
  self.used = self.used - member.size
end

local function is_over(self, member)
  return member.ends ~= nil and member.ends <= self.host.now()
end

local function size_of(key, value)
  return OVERHEAD + #key + (type(value) == "string" and #value or 8)
end

-- Makes room by dropping what is over, and what was not used for longest.
-- @return whether there is room, and whether something was dropped that was not over
local function make_room(self, size, keep, may_drop)
  local has_forced = false
  if size > CAPACITY then return false, has_forced end
  while self.used + size > CAPACITY do
    local member = self.last
    if keep and member == keep then member = member.before end
    if not member then return false, has_forced end
    if not is_over(self, member) then
      if not may_drop then return false, has_forced end
      has_forced = true
    end
    drop(self, member)
  end
  return true, has_forced
end

-- A key as text; nil, message.
local function key_of(key)
  if key == nil then return nil, "nil key" end
  if type(key) ~= "string" then key = tostring(key) end
  if key == "" then return nil, "empty key" end
  if #key > KEY_MAX then return nil, "key too long" end
  return key
end

local function living(self, key)
  local member = self.members[key]
  if member and not is_over(self, member) then return member end
  return nil
end

local function ends_of(self, seconds, name)
  if seconds == nil or seconds == 0 then return nil end
  local number = tonumber(seconds)
  if not number or number < 0 then misuse.raise(('bad "%s" argument'):format(name)) end
  return number > 0 and self.host.now() + number * 1e9 or nil
end

-- Writes a value in place of what is there.
-- @return true, nil, whether others had to go; or false, message, the same: what was there stays if it may not drop others
local function write(self, key, value, ends, flags, may_drop)
  local size, before = size_of(key, value), self.members[key]
  if before and (may_drop or self.used - before.size + size <= CAPACITY) then drop(self, before) end
  local has_room, has_forced = make_room(self, size, nil, may_drop)
  if not has_room then return false, "no memory", has_forced end
  if self.members[key] then drop(self, self.members[key]) end
  local member = { key = key, value = value, ends = ends, flags = flags, size = size }
  self.members[key], self.used = member, self.used + size
  link(self, member)
  return true, nil, has_forced
end

local STORABLE = { string = true, number = true, boolean = true, ["nil"] = true }

-- @param wanted nil, "absent" or "present"
local function store(self, key, value, seconds, flags, wanted, may_drop)
  local ends, name, message = ends_of(self, seconds, "exptime"), key_of(key)
  if not name then return nil, message end
  if not STORABLE[type(value)] then return nil, "bad value type" end
  local member = living(self, name)
  if wanted == "absent" and member then return false, "exists", false end
  if wanted == "present" and not member then return false, "not found", false end
  if value == nil then
    if self.members[name] then drop(self, self.members[name]) end
    return true, nil, false
  end
  return write(self, name, value, ends, flags ~= 0 and flags or nil, may_drop)
end

function Dict:set(key, value, seconds, flags) return store(self, key, value, seconds, flags, nil, true) end
function Dict:safe_set(key, value, seconds, flags) return store(self, key, value, seconds, flags, nil, false) end
function Dict:add(key, value, seconds, flags) return store(self, key, value, seconds, flags, "absent", true) end
function Dict:safe_add(key, value, seconds, flags) return store(self, key, value, seconds, flags, "absent", false) end
function Dict:replace(key, value, seconds, flags) return store(self, key, value, seconds, flags, "present", true) end
function Dict:delete(key) return store(self, key, nil) end

--- @return the value, its flags
function Dict:get(key)
  local name, message = key_of(key)
  if not name then return nil, message end
  local member = living(self, name)
  if not member then return nil end
  if type(member.value) == "table" then return nil, "value is a list" end
  touch(self, member)
  return member.value, member.flags
end

--- The same, though it may be over.
function Dict:get_stale(key)
  local name, message = key_of(key)
  if not name then return nil, message end
  local member = self.members[name]
  if not member then return nil end
  return member.value, member.flags, is_over(self, member)
end

--- @return the new value, nil, whether others had to go; or nil, message
function Dict:incr(key, by, first, seconds)
  local name, message = key_of(key)
  if not name then return nil, message end
  by = tonumber(by)
  if not by then misuse.raise "bad value arg: number expected" end
  if first ~= nil then
    local given = first
    first = tonumber(given)
    if not first then misuse.raise("bad init arg: number expected, got " .. type(given)) end
  end
  if seconds ~= nil and not first then misuse.raise 'must provide "init" when providing "init_ttl"' end
  local ends = ends_of(self, seconds, "init_ttl")
  local member = living(self, name)
  if member then
    if type(member.value) ~= "number" then return nil, "not a number" end
    member.value = member.value + by
    touch(self, member)
    if first then return member.value, nil, false end
    return member.value
  end
  if not first then return nil, "not found" end
  local ok, why, has_forced = write(self, name, first + by, ends, nil, true)
  if not ok then return nil, why end
  return first + by, nil, has_forced
end

--- @return seconds that are left, 0 for a value that does not end; or nil, "not found"
function Dict:ttl(key)
  local name, message = key_of(key)
  if not name then return nil, message end
  local member = living(self, name)
  if not member then return nil, "not found" end
  return member.ends and (member.ends - self.host.now()) / 1e9 or 0
end

function Dict:expire(key, seconds)
  if not seconds then misuse.raise 'bad "exptime" argument' end
  local ends, name, message = ends_of(self, seconds, "exptime"), key_of(key)
  if not name then return nil, message end
  local member = living(self, name)
  if not member then return nil, "not found" end
  member.ends = ends
  return true
end

--- All values are over.
function Dict:flush_all()
  local now = self.host.now()
  for _, member in pairs(self.members) do member.ends = now end
end

--- Drops values that are over. @return how many
function Dict:flush_expired(most)
  local count, member = 0, self.last
  while member and (not most or most <= 0 or count < most) do
    local before = member.before
    if is_over(self, member) then
      drop(self, member)
      count = count + 1
    end
    member = before
  end
  return count
end

--- @param most 1024 by default; 0: all
function Dict:get_keys(most)
  most = most or 1024
  local keys, member = {}, self.first
  while member and (most <= 0 or #keys < most) do
    if not is_over(self, member) then keys[#keys + 1] = member.key end
    member = member.after
  end
  return keys
end

function Dict:capacity() return CAPACITY end -- luacheck: ignore 212
function Dict:free_space() return math.max(0, CAPACITY - self.used) end

-- ---------------------------------------------------------------- lists --

-- The list under a key, which is made if it may be; nil, message.
local function list_of(self, key, is_made)
  local name, message = key_of(key)
  if not name then return nil, message end
  local member = living(self, name)
  if not member and is_made then
    local ok, why = write(self, name, {}, nil, nil, true)
    if not ok then return nil, why end
    member = self.members[name]
    member.low, member.high = 1, 0
  end
  if not member then return nil end
  if type(member.value) ~= "table" then return nil, "value not a list" end
  touch(self, member)
  return member
end

local function resize(self, member, by)
  member.size, self.used = member.size + by, self.used + by
end

local function push(self, key, value, at_front)
  if type(value) ~= "string" and type(value) ~= "number" then return nil, "bad value type" end
  local member, message = list_of(self, key, true)
  if not member then return nil, message end
  local size = size_of("", value)
  if not make_room(self, size, member, true) then return nil, "no memory" end
  local index = at_front and member.low - 1 or member.high + 1
  member.value[index] = value
  if at_front then member.low = index else member.high = index end
  resize(self, member, size)
  return member.high - member.low + 1
end

local function pop(self, key, at_front)
  local member, message = list_of(self, key, false)
  if not member then return nil, message end
  local index = at_front and member.low or member.high
  local value = member.value[index]
  member.value[index] = nil
  if at_front then member.low = index + 1 else member.high = index - 1 end
  resize(self, member, -size_of("", value))
  if member.low > member.high then drop(self, member) end
  return value
end

function Dict:lpush(key, value) return push(self, key, value, true) end
function Dict:rpush(key, value) return push(self, key, value, false) end
function Dict:lpop(key) return pop(self, key, true) end
function Dict:rpop(key) return pop(self, key, false) end

function Dict:llen(key)
  local member, message = list_of(self, key, false)
  if message then return nil, message end
  return member and member.high - member.low + 1 or 0
end

--- `shared` of a host: dictionaries by name.
function shared.of(host)
  return setmetatable({}, { __index = function(all, name)
    if type(name) ~= "string" then return nil end
    local dict = shared.new(host)
    rawset(all, name, dict)
    return dict
  end })
end

return shared
