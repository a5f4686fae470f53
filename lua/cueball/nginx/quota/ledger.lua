--- The ledger of the connections that all workers share: it lies in a dict they share, and holds against workers that die at any moment.
--
-- There is one token for each connection that there may be: the key `token:7` with its holder's id. Who adds the key has the token, and the
-- dict lets one only add it. So there are never more than `cap`, whoever dies in between, and no count that could go wrong.
--
-- A member is a pool of one worker. It has a place, `place:3`, where it alone writes: its id, when it was last heard of, what it holds,
-- what it needs. That is what the others deal by (cueball.nginx.quota.deal); it may be old, or wrong, and still there are no more tokens.
--
-- What can go wrong: a member dies. Another that has not heard of it for a while asks whether its process is still there; if not, its
-- sockets are closed, and its tokens are freed, by one only: who adds `reap:ID:1`. If that one dies too, who adds `reap:ID:2`, and so on. A
-- key is thus never deleted by two, one of whom would delete what a third has added meanwhile. Where nobody can tell about processes, a
-- member that was silent for a minute counts as dead.
-- The dict throws keys away (it is too small, or others fill it): each member looks whether its tokens are there, and adds them again.
-- Others write to it: what cannot be ours is not believed, is put right, and is told of once.
local room = require "cueball.nginx.room"

local ledger = {}

local SUSPECT_MS = 2000   -- not heard of for so long: is it still there?
local SILENCE_MS = 60000  -- where nobody can tell
local GUARD_S = 3600
local PROBES_MAX = 4096   -- tokens looked at in one go
local CHECKS_MAX = 256    -- own tokens looked for in one go
local PLACES_MAX = 1024
local NUMBER_MAX = 65535  -- of tokens
local HEAL_S = 1          -- only one puts a key right

--- So long a server may take to hear that a connection was closed; and that those of a worker that exits were.
ledger.CLOSE_MS, ledger.EXIT_MS = 30, 100

local Ledger = {}
Ledger.__index = Ledger

--- Opens it.
-- @param given dict: with get, set, add, delete, as ngx.shared.DICT has them; prefix: of the keys; cap: how many tokens there are;
--   id: a text without "|", of this member alone, now and ever; now(): milliseconds, on a clock that all members share;
--   is_alive(id): true, false, or nil if that cannot be told; is_id(text): could a member have it? (all could, by default);
--   log(level, message)
function ledger.open(given)
  local self = setmetatable({
    dict = given.dict, prefix = given.prefix, cap = given.cap, id = given.id,
    now = given.now, is_alive = given.is_alive, is_id = given.is_id or function() return true end, log = given.log,
    told = {},        -- of what foreign values it has
    searched_at = nil, -- for tokens of nobody
    tokens = {},   -- the numbers it has; the last one is given back first
    held = 0,
    cursor = 0,    -- where it looks for one next
    checked = 0,   -- of its tokens, up to which it has looked
    place = nil, written = nil, beat = nil,
    need = 0, wish = 0, is_leaving = false,
  }, Ledger)
  return self
end

local function key(self, kind, number)
  return self.prefix .. kind .. ":" .. number
end

local function write(self, name, value)
  return room.set(self.dict, name, value)
end

local function is_whole(value, max)
  return type(value) == "number" and value >= 0 and value <= max and value % 1 == 0
end

-- Somebody else has written there.
local function complain(self, name, value)
  local kind = name:gsub("%d+$", "")
  if self.told[kind] then return end
  self.told[kind] = true
  self.log("error", ("the shared dict has a foreign value at %s (%s): it is used for something else too; it was put right")
    :format(name, tostring(value):sub(1, 64)))
end

-- What another wants to know of a member.
local function line(self)
  return ("%s|%.0f|%d|%d|%d|%d|%d"):format(self.id, self.now(), self.cap, self.held, self.need, self.wish, self.is_leaving and 1 or 0)
end

local LATER_MS = 86400e3 -- a clock that is ahead by more is none of ours

-- nil: it is no member's.
local function read(self, text)
  local id, beat, cap, held, need, wish, leaving = tostring(text):match "^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d)$"
  if not id or not self.is_id(id) or tonumber(beat) > self.now() + LATER_MS then return nil end
  local member = {
    id = id, beat = tonumber(beat), cap = tonumber(cap), held = tonumber(held), need = tonumber(need), wish = tonumber(wish),
    is_leaving = leaving == "1",
  }
  for _, name in ipairs { "cap", "held", "need", "wish" } do
    if member[name] > NUMBER_MAX then return nil end
  end
  return member
end

-- How many places there were at most.
local function places_of(self)
  local name = self.prefix .. "places"
  local count = self.dict:get(name)
  if count == nil then return 0 end
  if is_whole(count, PLACES_MAX) then return count end
  complain(self, name, count)
  local last = 0
  for number = 1, PLACES_MAX do
    if self.dict:get(key(self, "place", number)) ~= nil then last = number end
  end
  write(self, name, last)
  return last
end

-- There are so many places at least. The number may have been thrown away.
local function note_places(self, number)
  local name = self.prefix .. "places"
  local known = places_of(self)
  if known >= number then return end
  if self.dict:get(name) == nil then room.add(self.dict, name, 0) end
  while known < number do known = tonumber((self.dict:incr(name, 1, 0))) or number end
end

-- For those who look whether anything has changed since.
local function tell_change(self)
  local name = self.prefix .. "changes"
  local value = self.dict:get(name)
  if value == nil then
    room.add(self.dict, name, 0)
  elseif not is_whole(value, 2 ^ 52) then
    complain(self, name, value)
    write(self, name, 0)
  end
  self.dict:incr(name, 1, 0)
end

--- A number that is another one once a member has come or gone, or has said something new.
function Ledger:changes()
  return self.dict:get(self.prefix .. "changes") or 0
end

-- Without a place nobody reckons with this member.
local function take_place(self)
  local number = 0
  repeat
    number = number + 1
    local ok, message = room.add(self.dict, key(self, "place", number), line(self))
    if not ok and message ~= "exists" or number > PLACES_MAX then
      if not self.told.room then self.log("error", ("the shared dict has no room (%s): give it more"):format(tostring(message))) end
      self.told.room = true
      return
    end
  until ok
  self.place, self.beat = number, self.now()
  tell_change(self)
  note_places(self, number)
end

--- Says what this member holds, needs and would like.
-- @param need, wish whole numbers
-- @param is_leaving its process is about to end
-- @return nothing
function Ledger:publish(need, wish, is_leaving)
  self.need, self.wish, self.is_leaving = need, wish, is_leaving
  if not self.place then return take_place(self) end
  local mark = ("%d|%d|%d"):format(self.held, need, wish)
  if mark == self.written and self.now() - self.beat < SUSPECT_MS / 4 then return end
  local present = read(self, self.dict:get(key(self, "place", self.place)))
  if present and present.id ~= self.id then -- it was thrown away, and another has the place
    self.place = nil
    return take_place(self)
  end
  write(self, key(self, "place", self.place), line(self))
  note_places(self, self.place)
  if mark ~= self.written then tell_change(self) end
  self.written, self.beat = mark, self.now()
end

-- Is this one dead for sure?
local function is_dead(self, member)
  local silent = self.now() - member.beat
  if silent < SUSPECT_MS then return false end
  local alive = self.is_alive(member.id)
  if alive == nil then return silent >= SILENCE_MS end
  return not alive
end

-- May this member free what that one held? One may, and another only after that one's death.
local function may_reap(self, id)
  for try = 1, 100 do
    local guard = self.prefix .. "reap:" .. id .. ":" .. try
    if room.add(self.dict, guard, self.id, GUARD_S) then return true end
    local reaper = self.dict:get(guard)
    if reaper == self.id then return true end
    if reaper == nil or type(reaper) == "string" and self.is_id(reaper) and self.is_alive(reaper) ~= false then return false end
  end
  return false
end

-- @return how many were freed
local function free_tokens(self, id, cap)
  local freed = 0
  for token = 1, cap do
    local name = key(self, "token", token)
    if self.dict:get(name) == id then
      self.dict:delete(name)
      freed = freed + 1
    end
  end
  return freed
end

-- One that was told to leave may not have come to it: nginx ended its last requests.
local function reap(self, member, number)
  if not may_reap(self, member.id) then return end
  local freed = free_tokens(self, member.id, math.max(member.cap, self.cap))
  self.dict:delete(key(self, "place", number))
  tell_change(self)
  if member.is_leaving then
    self.log("info", ("a worker that was to end is gone (%s): its %d connections may be opened by others"):format(member.id, freed))
  else
    self.log("warn", ("a worker died (%s): its %d connections may be opened by others"):format(member.id, freed))
  end
end

--- All members there are, this one first: { id, held, need, wish, is_leaving }, as they last said. Frees what dead ones held.
function Ledger:members()
  local list = { { id = self.id, held = self.held, need = self.need, wish = self.wish, is_leaving = self.is_leaving, place = self.place } }
  for number = 1, places_of(self) do
    local member = read(self, self.dict:get(key(self, "place", number)))
    if member and member.id ~= self.id then
      member.place = number
      if is_dead(self, member) then reap(self, member, number) else list[#list + 1] = member end
    end
  end
  return list
end

-- A token that no member could have: only one deletes it, and looks again before, since another may have it by now.
local function heal(self, name)
  local guard = self.prefix .. "heal:" .. name
  if not room.add(self.dict, guard, self.id, HEAL_S) then
    local healer = self.dict:get(guard)
    if healer ~= nil and (type(healer) ~= "string" or not self.is_id(healer)) then self.dict:delete(guard) end
    return
  end
  local holder = self.dict:get(name)
  if holder == nil or type(holder) == "string" and self.is_id(holder) then return end
  complain(self, name, holder)
  self.dict:delete(name)
end

-- Frees the tokens of nobody: those of members that died after the dict had thrown their places away, and what others have written.
local function search(self)
  local now = self.now()
  if self.searched_at and now - self.searched_at < SUSPECT_MS then return end
  self.searched_at = now
  local known = {}
  for _, member in ipairs(self:members()) do known[member.id] = true end
  for token = 1, math.min(self.cap, PROBES_MAX) do
    local name = key(self, "token", token)
    local holder = self.dict:get(name)
    if holder ~= nil and (type(holder) ~= "string" or not self.is_id(holder)) then
      heal(self, name)
    elseif holder ~= nil and not known[holder] then
      known[holder] = true
      if self.is_alive(holder) == false and may_reap(self, holder) then free_tokens(self, holder, self.cap) end
    end
  end
end

local function take(self, count)
  local got = 0
  for _ = 1, math.min(self.cap, PROBES_MAX) do
    if got >= count then break end
    self.cursor = self.cursor % self.cap + 1
    if room.add(self.dict, key(self, "token", self.cursor), self.id) then
      got = got + 1
      self.held = self.held + 1
      self.tokens[self.held] = self.cursor
    end
  end
  return got
end

--- Takes tokens, as far as there are some.
-- @param count how many at most
-- @return how many it got
function Ledger:take(count)
  if not self.place then take_place(self) end
  if not self.place then return 0 end -- nobody would know whose they are
  local got = take(self, count)
  if got < count then search(self) end -- what that frees is there the next time
  return got
end

-- Gives one of them back, which is at that place in the list.
local function drop(self, index)
  local number = self.tokens[index]
  self.tokens[index] = self.tokens[self.held]
  self.tokens[self.held] = nil
  self.held = self.held - 1
  return number
end

--- Gives tokens back. What they stood for has to be closed.
-- @param is_just_closed just now: the server may hear of that a little later than of the next one's connect, so nobody gets them before
function Ledger:give(count, is_just_closed)
  for _ = 1, math.min(count, self.held) do
    local name = key(self, "token", drop(self, self.held))
    if self.dict:get(name) == self.id then
      local ends = is_just_closed and self.dict.safe_set and room.set(self.dict, name, self.id, ledger.EXIT_MS / 1000)
      if not ends then self.dict:delete(name) end
    end
  end
end

--- Looks whether the dict still has what this member holds; some at a time.
-- @return how many were lost to others: it holds fewer now
function Ledger:verify()
  local lost = 0
  for _ = 1, math.min(self.held, CHECKS_MAX) do
    if self.held == 0 then break end
    self.checked = self.checked % self.held + 1
    local name = key(self, "token", self.tokens[self.checked])
    if self.dict:get(name) ~= self.id and not room.add(self.dict, name, self.id) then
      drop(self, self.checked)
      lost = lost + 1
    end
  end
  if lost > 0 then
    self.log("error", ("the shared dict has lost %d connections of this worker to others: it is too small, or used for something else too")
      :format(lost))
  end
  return lost
end

--- Leaves: gives everything back. It may come again.
function Ledger:close()
  self:give(self.held, true)
  if self.place and self.dict:get(key(self, "place", self.place)) then
    local present = read(self, self.dict:get(key(self, "place", self.place)))
    if present and present.id == self.id then self.dict:delete(key(self, "place", self.place)) end
    tell_change(self)
  end
  self.place, self.written = nil, nil
end

return ledger
