--- The ledger of the connections that all workers share: it lies in a dict they share, and holds against workers that die at any moment.
--
-- There is one token for each connection that there may be: the key `token:7` with its holder's id. Who adds the key has the token, and the
-- dict lets one only add it. So there are never more than `cap`, whoever dies in between, and no count that could go wrong.
--
-- A member (cueball.nginx.workers) is a pool of one worker. It says what it holds, needs and would like. The others deal by that
-- (cueball.nginx.quota.deal). What a member says may be old, or wrong, and still there are no more tokens.
--
-- What can go wrong: a member dies. Whoever collects what it left frees its tokens, since its sockets are closed.
-- The dict throws keys away (it is too small, or others fill it): each member looks whether its tokens are there, and adds them again.
-- Others write to the dict: a holder that no member could be is not believed, and the token is freed.
local shared_dict = require "cueball.nginx.shared_dict"
local workers = require "cueball.nginx.workers"

local ledger = {}

local SUSPECT_MS = 2000   -- not heard of for so long: is it still there?
local SILENCE_MS = 60000  -- where nobody can tell
local RENEW_MS = 500
local PROBES_MAX = 4096   -- tokens looked at in one go
local CHECKS_MAX = 256    -- own tokens looked for in one go
local NUMBER_MAX = 65535  -- of tokens
local CHANGES_MAX = 2 ^ 52
local HEAL_S = 1          -- only one puts a token right

--- So long a server may take to hear that a connection was closed; and that those of a worker that exits were.
ledger.CLOSE_MS, ledger.EXIT_MS = 30, 100

local Ledger = {}
Ledger.__index = Ledger

-- What a member says: { cap, held, need, wish, is_leaving }; nil: no member says that.
local function read(text)
  local cap, held, need, wish, leaving = text:match "^(%d+)|(%d+)|(%d+)|(%d+)|(%d)$"
  if not cap then return nil end
  local said = {
    cap = tonumber(cap), held = tonumber(held), need = tonumber(need), wish = tonumber(wish), is_leaving = leaving == "1",
  }
  if math.max(said.cap, said.held, said.need, said.wish) > NUMBER_MAX then return nil end
  return said
end

local function is_said(text)
  return read(text) ~= nil
end

--- Opens it.
-- @param given memory: of cueball.nginx.shared_dict; cap: how many tokens there are
function ledger.open(given)
  local memory = given.memory
  return setmetatable({
    memory = memory, cap = given.cap, id = memory.id,
    member = workers.join(memory, { silent_ms = SUSPECT_MS, dead_ms = SILENCE_MS, is_text = is_said }),
    searched_at = nil, -- for tokens of nobody
    tokens = {},   -- the numbers it has; the last one is given back first
    held = 0,
    cursor = 0,    -- where it looks for one next
    checked = 0,   -- of its tokens, up to which it has looked
    written = nil, has_told_of_room = false,
    need = 0, wish = 0, is_leaving = false,
  }, Ledger)
end

local function token_key(number)
  return "token:" .. number
end

-- For those who look whether anything has changed since.
local function tell_change(self)
  local value = self.memory:get "changes"
  if value ~= nil and not shared_dict.is_whole(value, CHANGES_MAX) then
    self.memory:complain("changes", value)
    self.memory:set("changes", 0)
  end
  self.memory:increment "changes"
end

--- A number that changes when a member comes or goes, or says something new.
function Ledger:changes()
  return self.memory:get "changes" or 0
end

-- This member says what it has to say. Without a number nobody reckons with it.
-- @return true: as before; "joined"; nil: there is no room
local function renew(self)
  local text = ("%d|%d|%d|%d|%d"):format(self.cap, self.held, self.need, self.wish, self.is_leaving and 1 or 0)
  local how, message = self.member:renew(text)
  if how == "joined" then tell_change(self) end
  if not how and not self.has_told_of_room then
    self.memory.log("error", ("the shared dict has no room (%s): give it more"):format(tostring(message)), "shared_memory")
    self.has_told_of_room = true
  end
  return how
end

--- Says what this member holds, needs and would like.
-- @param need, wish whole numbers
-- @param is_leaving its process is about to end
-- @return nothing
function Ledger:publish(need, wish, is_leaving)
  self.need, self.wish, self.is_leaving = need, wish, is_leaving
  local mark = ("%d|%d|%d"):format(self.held, need, wish)
  local is_fresh = self.member.number and self.memory.now() - self.member.renewed_at < RENEW_MS
  if mark == self.written and is_fresh then return end
  if renew(self) == true and mark ~= self.written then tell_change(self) end
  self.written = mark
end

-- @return how many were freed
local function free_tokens(self, id, cap)
  local freed = 0
  for token = 1, cap do
    if self.memory:get(token_key(token)) == id then
      self.memory:delete(token_key(token))
      freed = freed + 1
    end
  end
  return freed
end

-- Frees what a dead member held. A worker that was told to leave may not have come to give its tokens back: nginx ended its last requests.
local function collect(self, record)
  local said = read(record.text)
  local freed = free_tokens(self, record.id, math.max(said.cap, self.cap))
  tell_change(self)
  if said.is_leaving then
    self.memory.log("info", ("a worker that was to end is gone (%s): its %d connections may be opened by others"):format(record.id, freed),
      "worker_gone", { worker = record.id, connections = freed })
  else
    self.memory.log("warn", ("a worker died (%s): its %d connections may be opened by others"):format(record.id, freed), "worker_died",
      { worker = record.id, connections = freed })
  end
  return true
end

--- All members there are, this one first: { id, number, held, need, wish, is_leaving }, as they last said. Frees what dead ones held.
function Ledger:members()
  local list = {
    { id = self.id, number = self.member.number, held = self.held, need = self.need, wish = self.wish, is_leaving = self.is_leaving },
  }
  self.member:look(function(record)
    local said = read(record.text)
    said.id, said.number = record.id, record.number
    list[#list + 1] = said
  end, function(record) return collect(self, record) end)
  return list
end

--- Has this member a number, so that others reckon with it?
function Ledger:is_known()
  return self.member.number ~= nil
end

local function is_holder(self, value)
  return type(value) == "string" and self.memory.is_id(value)
end

-- A token that no member could have: only one deletes it, and looks again before, since another may have it by now.
local function heal(self, key)
  local memory, guard = self.memory, "heal:" .. key
  if not memory:add(guard, self.id, HEAL_S) then
    local healer = memory:get(guard)
    if healer ~= nil and not is_holder(self, healer) then memory:delete(guard) end
    return
  end
  local holder = memory:get(key)
  if holder == nil or is_holder(self, holder) then return end
  memory:complain(key, holder)
  memory:delete(key)
end

-- Frees the tokens of nobody: those of members that died after the dict had thrown their records away, and what others have written.
local function search(self)
  local memory = self.memory
  local now = memory.now()
  if self.searched_at and now - self.searched_at < SUSPECT_MS then return end
  self.searched_at = now
  local known = {}
  for _, member in ipairs(self:members()) do known[member.id] = true end
  for token = 1, math.min(self.cap, PROBES_MAX) do
    local holder = memory:get(token_key(token))
    if holder ~= nil and not is_holder(self, holder) then
      heal(self, token_key(token))
    elseif holder ~= nil and not known[holder] then
      known[holder] = true
      if memory.is_alive(holder) == false and self.member:may_collect(holder) then free_tokens(self, holder, self.cap) end
    end
  end
end

local function take(self, count)
  local got = 0
  for _ = 1, math.min(self.cap, PROBES_MAX) do
    if got >= count then break end
    self.cursor = self.cursor % self.cap + 1
    if self.memory:add(token_key(self.cursor), self.id) then
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
  if not self:is_known() and not renew(self) then return 0 end -- nobody would know whose they are
  local got = take(self, count)
  if got < count then search(self) end -- what that frees is there the next time
  return got
end

-- Gives one of them back, which is at that index of the list.
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
  local memory = self.memory
  for _ = 1, math.min(count, self.held) do
    local key = token_key(drop(self, self.held))
    if memory:get(key) == self.id then
      local ends = is_just_closed and memory.dict.safe_set and memory:set(key, self.id, ledger.EXIT_MS / 1000)
      if not ends then memory:delete(key) end
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
    local key = token_key(self.tokens[self.checked])
    if self.memory:get(key) ~= self.id and not self.memory:add(key, self.id) then
      drop(self, self.checked)
      lost = lost + 1
    end
  end
  if lost > 0 then
    self.memory.log("error", ("the shared dict has lost %d connections of this worker to others: it is too small, or used for something "
      .. "else too"):format(lost), "shared_memory", { connections = lost })
  end
  return lost
end

--- Leaves: gives everything back. It may come again.
function Ledger:close()
  self:give(self.held, true)
  if self:is_known() then
    self.member:leave()
    tell_change(self)
  end
  self.written = nil
end

return ledger
