--- Where the workers of one nginx pin up what their pools look like, so that any of them can show all.
--
-- The happy path: each worker that has a pool takes a place on the board (a key that ends by itself) and renews it every second.  While
-- somebody asks, it pins its snapshot there as often.  Who is asked looks at all places.
-- Counters only grow, or those who read them take the fall for a new beginning.  So what a worker has counted outlives it: it is added to
-- `retired` when the worker exits, or, if it died, by the next who finds its place empty and its snapshot still there.
-- What can go wrong: a worker is held up for longer than its place lasts, and is thought dead: then it counts from there on.
-- Two change `retired` at once: there is a lock, which ends by itself.  The dict is too small: that is pinned instead.  Others write to
-- the dict: what cannot be ours is put right, and told of once.  There are many pools: what takes long is done in slices, none of
-- which has the lock.
local json = require "cueball.monitor.json"
local page = require "cueball.monitor.page"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"
local room = require "cueball.nginx.room"

local DICT = "cueball"
local PREFIX = "cueball/monitor/"
local TICK_MS = 1000
local PLACE_S, ASKED_S, LOCK_S = 5, 60, 3
local FRESH_S = 1.5        -- a snapshot older than that is waited for
local PATIENCE_MS, LOOK_MS = 1500, 50
local PLACES_MAX = 1024
local LOCK_WAIT_NS = 3.5e9 -- whoever has the lock is done by then, or it has ended by itself

local Board = {}
Board.__index = Board

local board = {}

local function key(kind, number)
  return PREFIX .. kind .. (number and "/" .. number or "")
end

-- Somebody else has written there.
local function complain(self, name)
  if self.told[name] then return end
  self.told[name] = true
  self.host.log("error", ("cueball.monitor: the shared dict %q has a foreign value at %s: it is used for something else too")
    :format(DICT, name))
end

-- How many places there were at most.
local function places_of(self)
  local count = self.dict:get(key "places")
  if count == nil then return 0 end
  if type(count) == "number" and count >= 0 and count <= PLACES_MAX and count % 1 == 0 then return count end
  complain(self, key "places")
  local last = 0
  for number = 1, PLACES_MAX do
    if self.dict:get(key("place", number)) ~= nil or self.dict:get(key("snapshot", number)) ~= nil then last = number end
  end
  room.set(self.dict, key "places", last)
  return last
end

-- Has somebody this place?
local function is_taken(self, number)
  local holder = self.dict:get(key("place", number))
  if holder == nil then return false end
  if type(holder) == "string" and holder:find "^%d+ %d+$" then return true end
  complain(self, key "place")
  self.dict:delete(key("place", number))
  return false
end

-- ------------------------------------------------------------------------- retired --

local function lock(self)
  return (room.add(self.dict, key "lock", self.id, LOCK_S))
end

local function unlock(self)
  if self.dict:get(key "lock") == self.id then self.dict:delete(key "lock") end -- it may have ended, and be another's
end

local function is_count(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

-- The counts in a text; and whether all of it was ours.
local function counts_in(text)
  local counts, is_ours = type(text) == "string" and json.decode(text) or nil, true
  if type(counts) ~= "table" then return {}, false end
  for pool, by_name in pairs(counts) do
    if type(by_name) ~= "table" then by_name = {} is_ours = false end
    for name, value in pairs(by_name) do
      if not is_count(value) then by_name[name] = nil is_ours = false end
    end
    counts[pool] = by_name
  end
  return counts, is_ours
end

-- Counts never fall. What this worker has seen counts, even if the dict has lost it, or others have written there.
-- @return by pool, by name; and whether the dict has less
local function retired_of(self)
  local text = self.dict:get(key "retired")
  local found, is_ours = {}, true
  if text ~= nil then found, is_ours = counts_in(text) end
  if not is_ours then complain(self, key "retired") end
  local has_less = not is_ours
  for pool, seen in pairs(self.retired) do
    local counts = found[pool] or {}
    found[pool] = counts
    for name, value in pairs(seen) do
      if (counts[name] or 0) < value then counts[name] = value has_less = true end
    end
  end
  self.retired = found
  return found, has_less
end

-- What a worker has counted since it began, or since it was taken for dead.
local function counted(pools, base)
  local by_pool = {}
  for _, pool in ipairs(pools) do
    local counts, from = {}, base and base[pool.name] or {}
    for _, name in ipairs(snapshot.counters) do counts[name] = (pool.stats[name] or 0) - (from[name] or 0) end
    by_pool[pool.name] = counts
  end
  return by_pool
end

-- Its counts go to `retired`, and it from the board.  The lock is ours.
-- @return whether there was room for them
local function retire(self, number, pinned)
  local retired = retired_of(self)
  for pool, counts in pairs(counted(pinned.pools or {}, nil)) do
    local sum = retired[pool] or {}
    for name, value in pairs(counts) do sum[name] = (sum[name] or 0) + value end
    retired[pool] = sum
  end
  if not room.set(self.dict, key "retired", json.encode(retired)) then return false end -- it is tried again
  self.dict:delete(key("snapshot", number))
  self.dict:delete(key("pinned", number))
  return true
end

-- Those who died: their place is empty, their snapshot is there.
local function is_dead(self, number)
  return not is_taken(self, number) and self.dict:ttl(key("snapshot", number))
end

-- The snapshots of the other workers, as texts.  Those of the dead are retired instead, if the lock is ours.
-- Each worker is looked at once: one that leaves meanwhile cannot retire what it has counted, and would else be seen neither as living nor
-- as dead.  Whether it lives is asked first, so that what is retired is its last snapshot.
local function gather(self, is_locked)
  local living = {}
  for number = 1, places_of(self) do
    local lives = is_taken(self, number)
    local text = number ~= self.number and self.dict:get(key("snapshot", number))
    if text then
      local is_retired = not lives and is_locked and retire(self, number, page.read(text, slices.none) or {})
      if not is_retired then living[#living + 1] = text end
    end
  end
  return living
end

local function bury(self)
  for number = 1, places_of(self) do
    if is_dead(self, number) and lock(self) then
      gather(self, true)
      unlock(self)
    end
  end
end

-- --------------------------------------------------------------------- this worker --

-- Its counters, without what was already retired.
local function rebased(self, taken)
  if not self.base then return taken end
  local counts = counted(taken.pools, self.base)
  for _, pool in ipairs(taken.pools) do
    for name, value in pairs(counts[pool.name]) do pool.stats[name] = value end
  end
  return taken
end

-- What it has, and the same as a text.
local function take(self, pause)
  local workers, began = self.host.workers, self.host.now()
  local taken = rebased(self, self.shown(pause))
  taken.pid, taken.id = workers.pid(), workers.number()
  taken.time_s, taken.is_exiting = workers.time_s(), workers.is_exiting()
  taken.base, taken.began = self.base, began
  return taken, page.write(taken, pause)
end

-- One that was begun before another was pinned is older than that: counts would go back.
local function pin(self, taken, text)
  if self.pinned_at and taken.began < self.pinned_at or taken.base ~= self.base then return end
  self.pinned_at = taken.began
  local ok, message = room.set(self.dict, key("snapshot", self.number), text)
  room.set(self.dict, key("pinned", self.number), taken.time_s)
  if ok then
    self.pinned = counted(taken.pools, nil)
    return
  end
  self.pinned = nil
  local short = { version = taken.version, pid = taken.pid, id = taken.id, time_s = taken.time_s, is_exiting = taken.is_exiting,
    pools = json.list {}, problem = ("the shared dict %q is too small for the snapshot of this worker (%s)"):format(DICT, message) }
  room.set(self.dict, key("snapshot", self.number), page.write(short, slices.none))
end

-- Somebody thought this worker dead, and has retired what it had pinned.
local function start_over(self)
  local base = self.base or {}
  for pool, counts in pairs(self.pinned or {}) do
    local sum = base[pool] or {}
    for name, value in pairs(counts) do sum[name] = (sum[name] or 0) + value end
    base[pool] = sum
  end
  self.base, self.pinned, self.number = base, nil, nil
end

-- There are so many places at least.
local function note_places(self, number)
  while places_of(self) < number do
    if self.dict.incr and self.dict:get(key "places") then -- two may do this at once
      self.dict:incr(key "places", 1)
    elseif not room.set(self.dict, key "places", number) then
      return
    end
  end
end

-- Takes a place. Where a snapshot lies that nobody has buried yet there is none: its counts would be lost.
local function claim_place(self, number)
  if not room.add(self.dict, key("place", number), self.id, PLACE_S) then return false end
  if self.dict:get(key("snapshot", number)) == nil then return true end
  self.dict:delete(key("place", number))
  return false
end

local function take_place(self)
  local number = 1
  while not claim_place(self, number) do
    if number > places_of(self) or number >= PLACES_MAX then return end -- no room, or somebody was quicker: in a second
    number = number + 1
  end
  self.number = number
  note_places(self, number)
end

local function hold_place(self)
  if self.number and self.dict:get(key("place", self.number)) ~= self.id then start_over(self) end
  if self.number then
    room.set(self.dict, key("place", self.number), self.id, PLACE_S)
    note_places(self, self.number) -- the number may have been thrown away
  else
    bury(self) -- or the place might be that of one who died, with its snapshot
    take_place(self)
  end
end

-- The worker exits: what it has counted stays.  What it counts from here on, until its last request is over, does not.
local function leave(self)
  self.has_left = true
  if not self.number then return end
  if self.pinned then
    local last, text = take(self, slices.none)
    pin(self, last, text)
    if lock(self) then
      retire(self, self.number, last)
      unlock(self)
    end -- else whoever looks next buries it
  end
  self.dict:delete(key("place", self.number))
  start_over(self)
end

-- For host.guard: tasks are ended when the worker exits.
Board.abort = leave

--- What is to be done every second.
function Board:tend()
  hold_place(self)
  bury(self)
  self.dict:get(key "retired") -- a full dict throws away what nobody has looked at for longest
  if not self.number or not self.dict:get(key "asked") then return end
  local taken, text = take(self, slices.of(self.host))
  if self.number then pin(self, taken, text) end
end

local function run(self)
  self.host.guard(self)
  while not self.has_left do
    self:tend()
    self.host.sleep(TICK_MS)
  end
end

-- ------------------------------------------------------------------------- showing --

-- Calls fn(number) for the places of others.
local function each_other(self, fn)
  for number = 1, places_of(self) do
    if number ~= self.number and is_taken(self, number) then fn(number) end
  end
end

-- Has each of the others pinned something new enough?
local function is_whole(self, now_s)
  local is = true
  each_other(self, function(number)
    local pinned = self.dict:get(key("pinned", number))
    local is_fresh = type(pinned) == "number" and now_s - pinned <= FRESH_S
    if not is_fresh then is = false end
  end)
  return is
end

local function lock_patiently(self)
  local give_up = self.host.now() + LOCK_WAIT_NS
  repeat
    if lock(self) then return true end
    self.host.sleep(1)
  until self.host.now() >= give_up
  -- Nobody of ours has it for so long.
  complain(self, key "lock")
  self.dict:delete(key "lock")
  return lock(self)
end

-- The counts of the dead and the snapshots of the living, of one moment.
local function look_locked(self, pause)
  local own, text = take(self, pause)
  local is_locked = lock_patiently(self)
  if own.base ~= self.base then own, text = take(self, slices.none) end -- what this worker had was retired meanwhile
  if self.number then pin(self, own, text) end
  local texts = gather(self, is_locked)
  local retired, has_less = retired_of(self)
  if has_less and is_locked then room.set(self.dict, key "retired", json.encode(retired)) end
  if is_locked then unlock(self) end
  local workers = { own }
  for _, other in ipairs(texts) do
    local read = page.read(other, pause)
    if read then workers[#workers + 1] = read else complain(self, key "snapshot") end
  end
  return workers, retired
end

local function by_id(a, b)
  if a.is_exiting ~= b.is_exiting then return not a.is_exiting end
  if a.id ~= b.id then return (a.id or math.huge) < (b.id or math.huge) end
  return a.pid < b.pid
end

--- All workers, in a task.  Those that have nothing new are waited for, 1.5 s at most.
-- @param pause nil, or of cueball.monitor.slices
-- @return { version, workers, pools, time_s }; each worker has age_s, and lines (see cueball.monitor.page)
function Board:view(pause)
  pause = pause or slices.of(self.host)
  if not self.has_left then hold_place(self) end
  room.set(self.dict, key "asked", true, ASKED_S)
  local now_s, give_up = self.host.workers.time_s(), self.host.now() + PATIENCE_MS * 1e6
  while not is_whole(self, now_s) and self.host.now() < give_up do self.host.sleep(LOOK_MS) end
  local workers, retired = look_locked(self, pause)
  now_s = self.host.workers.time_s()
  for _, worker in ipairs(workers) do
    worker.age_s, worker.base, worker.began = math.max(0, now_s - worker.time_s), nil, nil
  end
  table.sort(workers, by_id)
  return { version = workers[1].version, time_s = now_s, workers = json.list(workers), pools = snapshot.merge(workers, retired, pause) }
end

-- -------------------------------------------------------------------------- making --

--- A worker that takes part, from now on.
-- @param host   its workers share memory
-- @param shown  function(pause) → what the worker has, as snapshot.take
-- @return the board; nil, message: nothing is shared
function board.new(host, shown)
  local dict, message = host.workers.dict(DICT)
  if not dict then return nil, message end
  local self = setmetatable({
    host = host, dict = dict, shown = shown,
    id = ("%d %.0f"):format(host.workers.pid(), host.seed()), -- process ids come again
    number = nil,     -- of its place
    pinned = nil,     -- what it has counted, as of the last snapshot on the board
    base = nil,       -- what of that was retired while it lived
    has_left = false,
    retired = {},     -- counts of workers that are gone, as far as this one has seen them
    pinned_at = nil,  -- when that snapshot was begun, by host.now()
    told = {},        -- of what foreign values
  }, Board)
  host.spawn(run, self)
  return self
end

--- This worker takes part, from now on.  Calling it again is harmless.
-- @return as board.new
function board.follow(host)
  if board.own then return board.own end
  local message
  board.own, message = board.new(host, snapshot.take)
  return board.own, message
end

return board
