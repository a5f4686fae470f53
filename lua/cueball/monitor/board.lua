--- Where the workers of one server show each other what their pools look like, so that any of them can show all.
--
-- The happy path: each worker that has a pool is a member (docs/hosts.md, workers) and says every second that it lives. While somebody
-- asks, it publishes its snapshot as often, under its number. Who is asked looks at all members.
-- Counters only grow, or those who read them take the fall for a new beginning. So what a worker has counted outlives it: its snapshot is
-- added to `accumulated` when the worker exits, or, if it died, by whoever finds it dead.
-- What can go wrong: a worker is held up and thought dead: its snapshot was accumulated, so it counts from there on. Two change
-- `accumulated` at once: there is a lock, which ends by itself. The dict is too small: that is published instead. There are many pools:
-- what takes long is done in slices, none of which has the lock.
local log = require "cueball.log"
local json = require "cueball.monitor.json"
local numbers = require "cueball.monitor.numbers"
local page = require "cueball.monitor.page"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"

local DICT = "cueball"
local PREFIX = "cueball/monitor/"
local TICK_MS = 1000
local DEAD_MS, ASKED_S, LOCK_S = 5000, 60, 3
local FRESH_S = 1.5        -- a snapshot older than that is waited for
local FRESH_WAIT_MS, LOOK_MS = 1500, 50
local LOCK_WAIT_MS = 3500  -- whoever has the lock is done by then, or it has ended by itself

local Board = {}
Board.__index = Board

local board = {}

local function snapshot_key(number)
  return "snapshot:" .. number
end

-- When that snapshot was published.
local function published_key(number)
  return "published:" .. number
end

-- -------------------------------------------------------------------- accumulated --

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
local function accumulated_of(self)
  local text = self.memory:get "accumulated"
  if text ~= nil and text == self.accumulated_text then return self.accumulated, false end
  self.accumulated_text = nil
  local found, is_ours = {}, true
  if text ~= nil then found, is_ours = counts_in(text) end
  if not is_ours then self.memory:complain("accumulated", text) end
  local has_less = not is_ours
  for pool, seen in pairs(self.accumulated) do
    local counts = found[pool] or {}
    found[pool] = counts
    for name, value in pairs(seen) do
      if (counts[name] or 0) < value then counts[name] = value has_less = true end
    end
  end
  self.accumulated, self.accumulated_text = found, not has_less and text or nil
  return found, has_less
end

-- What a worker has counted since it began, by pool and name.
-- @param rooms by pool: its numbers
local function counted(rooms)
  local by_pool = {}
  for pool, room in pairs(rooms) do by_pool[pool] = numbers.counted(room) end
  return by_pool
end

local function rooms_of(pools)
  local rooms = {}
  for _, pool in ipairs(pools) do rooms[pool.name] = numbers.ensure(pool) end
  return rooms
end

-- Adds one worker's counts to those that are accumulated, and removes its snapshot. The lock is ours.
-- @return whether there was room for them
local function accumulate(self, number, shown)
  local accumulated = accumulated_of(self)
  self.accumulated_text = nil -- it is changed here
  for pool, counts in pairs(counted(rooms_of(shown.pools or {}))) do
    local sum = accumulated[pool] or {}
    for name, value in pairs(counts) do sum[name] = (sum[name] or 0) + value end
    accumulated[pool] = sum
  end
  if not self.memory:set("accumulated", json.encode(accumulated)) then return false end -- it is tried again
  self.memory:delete(snapshot_key(number))
  self.memory:delete(published_key(number))
  return true
end

-- Collects what a dead worker left: its counts. The lock is ours.
local function collect(self, record)
  local text = self.memory:get(snapshot_key(record.number))
  return text == nil or accumulate(self, record.number, page.read(text, slices.none) or {})
end

-- The snapshots of the other workers, as texts. Those of the dead are collected instead, if the lock is ours.
-- Each worker is looked at once: one that leaves meanwhile cannot accumulate what it has counted, and would else be seen neither as
-- living nor as dead. Whether it lives is asked first, so that what is collected is its last snapshot.
local function gather(self, is_locked)
  local living = {}
  self.member:look(function(record)
    living[#living + 1] = self.memory:get(snapshot_key(record.number))
  end, is_locked and function(record) return collect(self, record) end or nil)
  return living
end

local function nothing() end

local function collect_dead(self)
  if not self.member:has_dead() or not self.lock:take() then return end
  self.member:look(nothing, function(record) return collect(self, record) end)
  self.lock:release()
end

-- --------------------------------------------------------------------- this worker --

-- The page of this worker; its counters without what of them was accumulated already.
-- @param has_lines it is for people
-- @param sums nil, or of snapshot.sums: its pools are added to them
local function take(self, pause, has_lines, sums)
  local workers, taken, base = self.host.workers, page.new(has_lines), self.base
  taken.base, taken.began = base, self.host.now()
  taken.version = self.shown(pause, function(record)
    local room, gone = numbers.ensure(record), base and base[record.name]
    if gone then numbers.set(room, numbers.counted(room, gone)) end
    taken:add(record, pause)
    if sums then sums:add(record) end
  end)
  taken.pid, taken.id = workers.pid(), workers.number()
  taken.time_s, taken.is_exiting = workers.time_s(), workers.is_exiting()
  return taken
end

-- A snapshot that was begun before another was published is older than that: counts would go back.
local function publish(self, taken)
  local number = self.member.number
  if self.published_at and taken.began < self.published_at or taken.base ~= self.base then return end
  self.published_at = taken.began
  local ok, message = self.memory:set(snapshot_key(number), taken:text())
  -- One without lines is for those who collect the counts.
  if taken.has_lines then self.memory:set(published_key(number), taken.time_s) else self.memory:delete(published_key(number)) end
  if ok then
    self.published = rooms_of(taken.pools)
    return
  end
  self.published = nil
  local short = setmetatable({
    problem = ("the shared dict %q is too small for the snapshot of this worker (%s)"):format(DICT, message),
  }, { __index = taken })
  self.memory:set(snapshot_key(number), page.short(short))
end

-- What this worker had published is, or will be, accumulated: it counts from there on.
local function start_over(self)
  if not self.published then return end
  local base = {} -- another table: what was begun before is known by it
  for _, counted_then in ipairs { self.base or {}, counted(self.published) } do
    for pool, counts in pairs(counted_then) do
      local sum = base[pool] or {}
      for name, value in pairs(counts) do sum[name] = (sum[name] or 0) + value end
      base[pool] = sum
    end
  end
  self.base, self.published = base, nil
end

-- Says that this worker lives. What the dead left is collected first, since there may be room for few members.
local function renew(self)
  if not self.member.number then collect_dead(self) end
  if self.member:renew "" ~= true then start_over(self) end
end

-- The worker exits: what it has counted stays. What it counts from here on, until its last request is over, does not.
local function leave(self)
  self.has_left = true
  if not self.member.number then return end
  local is_accumulated = true
  if self.published then
    local last = take(self, slices.none, false)
    publish(self, last)
    last:clear()
    local is_locked = self.lock:take()
    is_accumulated = is_locked and accumulate(self, self.member.number, last)
    if is_locked then self.lock:release() end
  end
  self.member:leave(not is_accumulated and "" or nil) -- whoever looks next collects that
  start_over(self)
end

-- For host.guard: tasks are ended when the worker exits.
Board.abort = leave

--- What is to be done every second.
function Board:tend()
  renew(self)
  collect_dead(self)
  self.memory:get "accumulated" -- a full dict throws away what nobody has looked at for longest
  if not self.member.number or not self.memory:get "asked" then return end
  local taken = take(self, slices.of(self.host), not self.member:is_alone())
  if self.member.number then publish(self, taken) end
  taken:clear()
end

local function run(self)
  self.host.guard(self)
  while not self.has_left do
    self:tend()
    self.host.sleep(TICK_MS)
  end
end

-- ------------------------------------------------------------------------- showing --

-- Has each of the others published something new enough?
local function is_whole(self, now_s)
  local is = true
  self.member:look(function(record)
    local published = self.memory:get(published_key(record.number))
    local is_fresh = type(published) == "number" and now_s - published <= FRESH_S
    if record.id and not record.has_left and not is_fresh then is = false end
  end)
  return is
end

-- Takes the lock, however long that is another's.
local function take_lock(self)
  local give_up = self.host.now() + LOCK_WAIT_MS * 1e6
  repeat
    if self.lock:take() then return true end
    self.host.sleep(1)
  until self.host.now() >= give_up
  self.lock:break_open()
  return self.lock:take()
end

-- The counts of the dead and the snapshots of the living, of one moment.
-- @return this worker's page, the texts of the others', the counts, the sums with this worker's pools
local function look_locked(self, pause, has_lines)
  local sums = snapshot.sums()
  has_lines = has_lines or not self.member:is_alone()
  local own = take(self, pause, has_lines, sums)
  local is_locked = take_lock(self)
  if own.base ~= self.base then -- what this worker had was accumulated meanwhile
    sums = snapshot.sums()
    own = take(self, slices.none, has_lines, sums)
  end
  if self.member.number then publish(self, own) end
  local texts = gather(self, is_locked)
  local accumulated, has_less = accumulated_of(self)
  if has_less and is_locked then self.memory:set("accumulated", json.encode(accumulated)) end
  if is_locked then self.lock:release() end
  return own, texts, accumulated, sums
end

local function by_id(a, b)
  local a_exits, b_exits = a.is_exiting == true, b.is_exiting == true -- a page of others may not say
  if a_exits ~= b_exits then return b_exits end
  if a.id ~= b.id then return (a.id or math.huge) < (b.id or math.huge) end
  if a.time_s ~= b.time_s then return a.time_s > b.time_s end -- one that died is behind the one in its place
  return a.pid < b.pid
end

--- All workers, in a task.  Those that have nothing new are waited for, 1.5 s at most.
-- @param pause nil, or of cueball.monitor.slices
-- @param has_lines each worker's pools are to be written
-- @return { version, workers, pools, time_s }; each worker has age_s, pools and put_lines (see cueball.monitor.page)
function Board:view(pause, has_lines)
  pause = pause or slices.of(self.host)
  if not self.has_left then renew(self) end
  self.memory:set("asked", true, ASKED_S)
  local now_s, give_up = self.host.workers.time_s(), self.host.now() + FRESH_WAIT_MS * 1e6
  while not is_whole(self, now_s) and self.host.now() < give_up do self.host.sleep(LOOK_MS) end
  local own, texts, accumulated, sums = look_locked(self, pause, has_lines)
  if not has_lines then own:clear() end
  local workers = { own }
  for _, text in ipairs(texts) do
    local other = page.read(text, pause)
    if not other then self.memory:complain("snapshot", text) end
    workers[#workers + 1] = other
    local age_ms = other and math.max(0, self.host.workers.time_s() - other.time_s) * 1000
    for _, pool in ipairs(other and other.pools or {}) do
      sums:add(pool, age_ms)
      pause()
    end
  end
  now_s = self.host.workers.time_s()
  for _, worker in ipairs(workers) do
    worker.age_s, worker.base, worker.began = math.max(0, now_s - worker.time_s), nil, nil
  end
  table.sort(workers, by_id)
  return { version = own.version, time_s = now_s, workers = json.list(workers), pools = sums:finish(accumulated) }
end

-- -------------------------------------------------------------------------- making --

--- A worker that takes part, from now on.
-- @param host   its workers share memory
-- @param shown  function(pause, fn) → version: calls fn for each pool of the worker, as snapshot.each_record
-- @return the board; nil, message: nothing is shared
function board.new(host, shown)
  local memory, message = host.workers.open(host, DICT, PREFIX, function(level, text)
    log.say(host, level, "the monitor: " .. text, "shared_memory")
  end)
  if not memory then return nil, message end
  local self = setmetatable({
    host = host, memory = memory, shown = shown,
    lock = memory:lock("lock", LOCK_S, LOCK_WAIT_MS),
    member = memory:join {
      silent_ms = DEAD_MS, dead_ms = DEAD_MS, has_left = function(number) return memory:has(snapshot_key(number)) end,
    },
    published = nil,    -- what it has counted, as of the last snapshot that it published
    published_at = nil, -- when that snapshot was begun, by host.now()
    base = nil,         -- what of that was accumulated while it lived
    has_left = false,
    accumulated = {},   -- counts of workers that are gone, as far as this one has seen them
    accumulated_text = nil, -- what of the dict that is, if it is all that is there
  }, Board)
  host.spawn(run, self)
  return self
end

--- This worker takes part, from now on. Calling it again is harmless.
-- @return as board.new
function board.follow(host)
  if board.own then return board.own end
  local message
  board.own, message = board.new(host, snapshot.each_record)
  return board.own, message
end

return board
