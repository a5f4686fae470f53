--- Where the workers of one nginx pin up what their pools look like, so that any of them can show all.
--
-- The happy path: each worker that has a pool takes a place on the board (a key that ends by itself) and renews it every second.  While
-- somebody asks, it pins its snapshot there as often.  Who is asked looks at all places.
-- Counters only grow, or those who read them take the fall for a new beginning.  So what a worker has counted outlives it: it is added to
-- `retired` when the worker exits, or, if it died, by the next who finds its place empty and its snapshot still there.
-- What can go wrong: a worker is held up for longer than its place lasts, and is thought dead: then it counts from there on.
-- Two change `retired` at once: there is a lock, which ends by itself.  The dict is too small: that is pinned instead.
local json = require "cueball.monitor.json"
local snapshot = require "cueball.monitor.snapshot"

local DICT = "cueball"
local PREFIX = "cueball/monitor/"
local TICK_MS = 1000
local PLACE_S, ASKED_S, LOCK_S = 5, 60, 1
local FRESH_S = 1.5        -- a snapshot older than that is waited for
local PATIENCE_MS, LOOK_MS = 1500, 50
local LOCK_TRIES = 1200    -- of a millisecond each: whoever has the lock is done by then, or it has ended by itself

local Board = {}
Board.__index = Board

local board = {}

local function key(kind, number)
  return PREFIX .. kind .. (number and "/" .. number or "")
end

-- ------------------------------------------------------------------------- retired --

local function lock(self)
  return (self.dict:safe_add(key "lock", self.id, LOCK_S))
end

local function unlock(self)
  self.dict:delete(key "lock")
end

local function retired_of(self)
  local text = self.dict:get(key "retired")
  return text and json.decode(text) or {}
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
local function retire(self, number, pinned)
  local retired = retired_of(self)
  for pool, counts in pairs(counted(pinned.pools or {}, nil)) do
    local sum = retired[pool] or {}
    for name, value in pairs(counts) do sum[name] = (sum[name] or 0) + value end
    retired[pool] = sum
  end
  self.dict:set(key "retired", json.encode(retired))
  self.dict:delete(key("snapshot", number))
  self.dict:delete(key("pinned", number))
end

-- Those who died: their place is empty, their snapshot is there.
local function is_dead(self, number)
  return not self.dict:get(key("place", number)) and self.dict:ttl(key("snapshot", number))
end

-- The lock is ours.
local function bury_locked(self)
  for number = 1, self.dict:get(key "places") or 0 do
    local text = is_dead(self, number) and self.dict:get(key("snapshot", number))
    if text then retire(self, number, json.decode(text) or {}) end
  end
end

local function bury(self)
  for number = 1, self.dict:get(key "places") or 0 do
    if is_dead(self, number) and lock(self) then
      bury_locked(self)
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

local function take(self)
  local worker, taken = self.host.worker, rebased(self, self.shown())
  taken.pid, taken.id, taken.time_s, taken.is_exiting = worker.pid(), worker.id(), worker.time_s(), worker.is_exiting()
  return taken
end

local function pin(self, taken)
  local ok, message = self.dict:safe_set(key("snapshot", self.number), json.encode(taken))
  self.dict:set(key("pinned", self.number), taken.time_s)
  if ok then
    self.pinned = counted(taken.pools, nil)
    return
  end
  self.pinned = nil
  local short = { version = taken.version, pid = taken.pid, id = taken.id, time_s = taken.time_s, is_exiting = taken.is_exiting,
    pools = json.list {}, problem = ("the shared dict %q is too small for the snapshot of this worker (%s)"):format(DICT, message) }
  self.dict:set(key("snapshot", self.number), json.encode(short))
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

local function take_place(self)
  local number = 1
  while not self.dict:safe_add(key("place", number), self.id, PLACE_S) do
    if number > (self.dict:get(key "places") or 0) then return end -- no room, or somebody was quicker: in a second
    number = number + 1
  end
  self.number = number
  if number > (self.dict:get(key "places") or 0) then self.dict:set(key "places", number) end
end

local function hold_place(self)
  if self.number and self.dict:get(key("place", self.number)) ~= self.id then start_over(self) end
  if self.number then
    self.dict:set(key("place", self.number), self.id, PLACE_S)
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
    local last = take(self)
    pin(self, last)
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
  if self.number and self.dict:get(key "asked") then pin(self, take(self)) end
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
  for number = 1, self.dict:get(key "places") or 0 do
    if number ~= self.number and self.dict:get(key("place", number)) then fn(number) end
  end
end

-- Has each of the others pinned something new enough?
local function is_whole(self, now_s)
  local is = true
  each_other(self, function(number)
    if now_s - (self.dict:get(key("pinned", number)) or -math.huge) > FRESH_S then is = false end
  end)
  return is
end

-- What the others have pinned.
local function look(self)
  local found = {}
  each_other(self, function(number)
    local text = self.dict:get(key("snapshot", number))
    found[#found + 1] = text and json.decode(text)
  end)
  return found
end

-- The counts of the dead and the snapshots of the living, of one moment.
local function look_locked(self)
  local is_locked = lock(self)
  for _ = 1, LOCK_TRIES do
    if is_locked then break end
    self.host.sleep(1)
    is_locked = lock(self)
  end
  -- One that left while another had the lock could not retire what it had: until it is buried it is nowhere to be seen.
  if is_locked then bury_locked(self) end
  local own = take(self)
  if self.number then pin(self, own) end
  local workers, retired = look(self), retired_of(self)
  if is_locked then unlock(self) end
  table.insert(workers, own)
  return workers, retired
end

local function by_id(a, b)
  if a.is_exiting ~= b.is_exiting then return not a.is_exiting end
  if a.id ~= b.id then return (a.id or math.huge) < (b.id or math.huge) end
  return a.pid < b.pid
end

--- All workers, in a task.  Those that have nothing new are waited for, 1.5 s at most.
-- @return { version, workers, pools, time_s }; each worker has age_s
function Board:view()
  if not self.has_left then hold_place(self) end
  self.dict:set(key "asked", true, ASKED_S)
  local now_s, give_up = self.host.worker.time_s(), self.host.now() + PATIENCE_MS * 1e6
  while not is_whole(self, now_s) and self.host.now() < give_up do self.host.sleep(LOOK_MS) end
  local workers, retired = look_locked(self)
  now_s = self.host.worker.time_s()
  for _, worker in ipairs(workers) do worker.age_s = math.max(0, now_s - worker.time_s) end
  table.sort(workers, by_id)
  return { version = workers[1].version, time_s = now_s, workers = json.list(workers), pools = snapshot.merge(workers, retired) }
end

-- -------------------------------------------------------------------------- making --

--- A worker that takes part, from now on.
-- @param host   has shared and worker
-- @param shown  function() → what the worker has, as snapshot.take
-- @return the board; nil, message: nothing is shared
function board.new(host, shown)
  local dict, message = host.shared(DICT)
  if not dict then return nil, message end
  local self = setmetatable({
    host = host, dict = dict, shown = shown,
    id = ("%d %.0f"):format(host.worker.pid(), host.seed()), -- process ids come again
    number = nil,     -- of its place
    pinned = nil,     -- what it has counted, as of the last snapshot on the board
    base = nil,       -- what of that was retired while it lived
    has_left = false,
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
