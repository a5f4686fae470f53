--- The workers of one nginx that take part in something: who lives, who has left or died, and what they left. What shares max_connections
-- (cueball.nginx.quota.ledger), the board of the monitor (cueball.monitor.board) and the shared resolver (cueball.resolver.shared, for
-- its lock) know each other by this module.
--
--   local memory = workers.memory(host, dict, { name = …, prefix = …, log = … })
--   local member = workers.join(memory, { silent_ms = …, dead_ms = … })
--   member:renew "what it says"         from time to time
--   member:look(visit, collect)         the others: those that live, and those whose things are to be collected
--   member:leave()
--
-- The happy path: a member has a number, and a record at `member:NUMBER`: its id, when it was last heard of, and a text. It alone writes
-- there. `members` is the highest number that there was.
--
-- What can go wrong. A member dies: it is heard of no more. After silent_ms another asks whether its process is still there; where nobody
-- can tell, dead_ms of silence count as death. Only one member collects what a dead one left: the one that adds `collected:ID:1`. If that
-- one dies too, the one that adds `collected:ID:2`, and so on. So what the dead one had is never given away by two, one of whom would take
-- what a third has got meanwhile. A member is held up, and taken for dead: renew finds another record, or none, takes a number anew, and
-- says so. The dict throws records away, or others write there: the same. A member may be interrupted anywhere; a record is written with
-- one step.
local shared_dict = require "cueball.nginx.shared_dict"

local workers = {}

local MEMBERS_MAX = 1024
local COLLECTORS_MAX = 100 -- for one member, each of which died meanwhile
local GUARD_S = 3600     -- longer than whoever collects is held up
local LATER_MS = 86400e3 -- a clock that is ahead by more is none of ours

local Member = {}
Member.__index = Member

-- -------------------------------------------------------------- who one is --

--- host.workers.open where workers share memory.
-- @param host, name, prefix, log see docs/hosts.md
-- @return the memory, with join; or nil, message
function workers.open(host, name, prefix, log)
  local dict, message = host.workers.dict(name)
  if not dict then return nil, message end
  return workers.memory(host, dict, { name = name, prefix = prefix, log = log })
end

--- The memory that workers share, with who this worker is: its process, and a number, since it may take part more than once.
-- @param host its now and seed are used, and its workers: see docs/hosts.md
-- @param dict as ngx.shared.DICT
-- @param given { name =, prefix =, log = } of cueball.nginx.shared_dict
function workers.memory(host, dict, given)
  local all = host.workers
  local memory = shared_dict.open {
    dict = dict, name = given.name, prefix = given.prefix, log = given.log,
    now = function() return host.now() / 1e6 end,
    id = ("%s.%.0f"):format(all.name(), host.seed()),
    is_id = function(text)
      local name, count = text:gsub("%.%d+$", "")
      return count == 1 and all.is_name(name)
    end,
    is_alive = function(id) return all.is_alive((id:gsub("%.%d+$", ""))) end,
  }
  memory.join = workers.join
  return memory
end

--- A worker takes part: memory:join of the above.
-- @param given silent_ms: a member not heard of for so long may be dead; dead_ms: it is, where nobody can tell;
--   is_text(text): could a member say that? (anything, by default); has_left(number): does something lie under that number that a member
--   left, though there may be no record? (never, by default): then nobody gets the number before that is collected
function workers.join(memory, given)
  return setmetatable({
    memory = memory, id = memory.id, silent_ms = given.silent_ms, dead_ms = given.dead_ms,
    is_text = given.is_text or function() return true end, has_left = given.has_left or function() return false end,
    number = nil,       -- under which its record is
    renewed_at = nil,   -- by memory.now()
  }, Member)
end

-- ----------------------------------------------------------------- records --

local function key_of(number)
  return "member:" .. number
end

local function line(self, text)
  return ("%s|%.0f|%s"):format(self.id, self.memory.now(), text)
end

-- What stands in place of the time for a member that left something.
local LEFT = "left"

-- A record as { id, beat, text, has_left }; nil: no member has written that.
local function read(self, value)
  local id, beat, text = tostring(value):match "^([^|]*)|(%w+)|(.*)$"
  if not id or not self.memory.is_id(id) or not self.is_text(text) then return nil end
  if beat == LEFT then return { id = id, text = text, has_left = true } end
  if not beat:find "^%d+$" or tonumber(beat) > self.memory.now() + LATER_MS then return nil end
  return { id = id, beat = tonumber(beat), text = text, has_left = false }
end

-- The record under a number, with the number; nil: there is none. What is foreign goes.
local function record_at(self, number)
  local memory, key = self.memory, key_of(number)
  local value = memory:get(key)
  if value == nil then return nil end
  local record = read(self, value)
  if record then
    record.number = number
    return record
  end
  memory:complain(key, value)
  memory:delete(key)
  return nil
end

-- The highest number that there was.
local function last_of(self)
  local memory = self.memory
  local last = memory:get "members"
  if last == nil then return 0 end
  if shared_dict.is_whole(last, MEMBERS_MAX) then return last end
  memory:complain("members", last)
  last = 0
  for number = 1, MEMBERS_MAX do
    if memory:get(key_of(number)) ~= nil or self.has_left(number) then last = number end
  end
  memory:set("members", last)
  return last
end

-- There is this number at least. What said so may have been thrown away.
local function note(self, number)
  local known = last_of(self)
  while known < number do known = self.memory:increment "members" or number end
end

-- ------------------------------------------------------------------ oneself --

-- Takes the lowest number that is free. Nobody has one under which something lies that is to be collected.
-- @return true; or nil, message: there is no room for it
local function take_number(self, text)
  local memory = self.memory
  for number = 1, MEMBERS_MAX do
    local ok, message = memory:add(key_of(number), line(self, text))
    if ok and self.has_left(number) then
      memory:delete(key_of(number))
    elseif ok then
      self.number, self.renewed_at = number, memory.now()
      note(self, number)
      return true
    elseif message ~= "exists" then
      return nil, message
    end
  end
  return nil, ("%d members"):format(MEMBERS_MAX)
end

--- This member lives. It takes a number if it has none, or no longer has it.
-- @param text what it says, for the others
-- @return true: as before; "joined": it has another number than before, or its first one; or nil, message: there is no room
function Member:renew(text)
  local memory = self.memory
  local known = self.number and record_at(self, self.number)
  if not known or known.id ~= self.id then
    self.number = nil
    local ok, message = take_number(self, text)
    return ok and "joined" or nil, message
  end
  memory:set(key_of(self.number), line(self, text))
  self.renewed_at = memory.now()
  note(self, self.number)
  return true
end

--- Has this member its number still?
function Member:is_there()
  local record = self.number and record_at(self, self.number)
  return record ~= nil and record.id == self.id
end

--- This member leaves. It may come again.
-- @param text nil: it leaves nothing; or what it says to whoever collects what it leaves
function Member:leave(text)
  if self:is_there() then
    if text then
      self.memory:set(key_of(self.number), ("%s|%s|%s"):format(self.id, LEFT, text))
    else
      self.memory:delete(key_of(self.number))
    end
  end
  self.number = nil
end

-- --------------------------------------------------------------- the others --

-- Has it left, or died for sure?
local function is_gone(self, record)
  if record.has_left then return true end
  local silent = self.memory.now() - record.beat
  if silent < self.silent_ms then return false end
  local is_alive = self.memory.is_alive(record.id)
  if is_alive == nil then return silent >= self.dead_ms end
  return not is_alive
end

--- May this member give away what that one had? One member may, and another only after that one's death.
function Member:may_collect(id)
  local memory = self.memory
  local seconds = memory.is_alive(self.id) == nil and self.dead_ms / 1000 or GUARD_S -- where nobody can tell, it has to end
  for try = 1, COLLECTORS_MAX do
    local key = "collected:" .. id .. ":" .. try
    if memory:add(key, self.id, seconds) then return true end
    local by = memory:get(key)
    if by == self.id then return true end
    if by == nil or type(by) == "string" and memory.is_id(by) and memory.is_alive(by) ~= false then return false end
  end
  return false
end

-- Has this member collect what another left, if it may.
local function collected(self, record, number, collect)
  if record and not self:may_collect(record.id) then return false end
  if not collect(record or { number = number }) then return false end
  if record then self.memory:delete(key_of(number)) end
  return true
end

--- Looks at all other members, one after the other.
-- @param visit function({ number, id, beat, text }): called for each that lives, and for each that is dead while what it left is not
--   collected
-- @param collect nil: nothing is collected; or function({ number, id, text }) → has it seen to all that this one left? It is called for
--   those that left or died, by one member only. id and text are nil where something lies under a number without a record: then another
--   may have been called too
function Member:look(visit, collect)
  for number = 1, last_of(self) do
    local record = number ~= self.number and record_at(self, number) or nil
    if record and record.id == self.id then record = nil end -- a number it had before
    local has_left = not record and number ~= self.number and self.has_left(number)
    if record or has_left then
      local is_to_go = collect and (has_left or is_gone(self, record))
      if not is_to_go or not collected(self, record, number, collect) then visit(record or { number = number }) end
    end
  end
end

--- Is there no other member, nor what one has left?
function Member:is_alone()
  for number = 1, last_of(self) do
    if number ~= self.number and (record_at(self, number) or self.has_left(number)) then return false end
  end
  return true
end

--- Has a dead member left something that is not collected?
function Member:has_dead()
  for number = 1, last_of(self) do
    if number ~= self.number then
      local record = record_at(self, number)
      if record and is_gone(self, record) or not record and self.has_left(number) then return true end
    end
  end
  return false
end

return workers
