--- What pools look like at one moment, as plain tables; and those of several workers as one.
local json = require "cueball.monitor.json"
local native = require "cueball.native"
local numbers = require "cueball.monitor.numbers"
local options = require "cueball.options"
local page = require "cueball.monitor.page"
local records = require "cueball.monitor.records"
local registry = require "cueball.pool.registry"
local slices = require "cueball.monitor.slices"
local stats = require "cueball.pool.stats"

local snapshot = {}

local MAX_CONNECTIONS = options.initial "max_connections"

local OPTIONS = { "max_connections", "spares", "claim_timeout_ms", "max_waiters", "queue", "balance", "target_claim_delay_ms" }

-- ------------------------------------------------------------------- this process --

--- The state of a backend, as pool:backends() has it, in a word.
function snapshot.state_of(backend)
  if backend.removed then return "removed" end
  if backend.drained then return "drained" end
  if backend.dead then return "dead" end
  if backend.ejected then return "ejected" end
  return backend.standby and "standby" or "up"
end

local function backends_of(pool)
  local list = json.list {}
  for _, one in ipairs(pool:backends()) do
    list[#list + 1] = {
      key = one.key, name = one.name, address = one.address, port = one.port, weight = one.weight, priority = one.priority,
      state = snapshot.state_of(one), total = one.total, idle = one.idle, busy = one.busy, connecting = one.connecting,
      takes = one.takes, suspect = one.suspect, want = one.want, attempt = one.attempt, back_in_ms = one.back_in_ms,
      since_ms = one.since_ms, total_max = one.total_max,
      latency_ms = one.latency_ms, success_rate = one.success_rate, error = one.error, provenance = one.provenance,
      last_error = one.last_error, last_error_ago_ms = one.last_error_ago_ms, -- in no worker's page: with detail alone
    }
  end
  return list
end

local function options_of(pool)
  local found = {}
  for _, name in ipairs(OPTIONS) do
    local value = pool.given[name]
    if type(value) ~= "table" and type(value) ~= "function" then found[name] = value end
  end
  return found
end

local FINE = { is_failing = false } -- nobody changes it

local function resolver_of(pool)
  local state = pool:resolver()
  if not state.failing and not state.message and not state.since_ms then return FINE end
  return { is_failing = state.failing, message = state.message, since_ms = state.since_ms }
end

--- One pool: { name, state, stats, counts, options, backends, resolver, last_error }.
function snapshot.of(pool, name)
  return {
    name = name or pool.name, state = pool:state(), stats = pool:stats(), counts = pool:counts(), options = options_of(pool),
    backends = backends_of(pool),
    resolver = resolver_of(pool),
    last_error = pool:last_error(),
  }
end

--- Every pool of this process.
-- @return a list of { pool =, name = }: pools of one name are told apart: "db", "db#2"
function snapshot.named()
  local list, seen = {}, {}
  for _, pool in ipairs(registry.pools()) do
    local count = (seen[pool.name] or 0) + 1
    seen[pool.name] = count
    list[#list + 1] = { pool = pool, name = count > 1 and ("%s#%d"):format(pool.name, count) or pool.name }
  end
  return list
end

-- Calls fn(pool, name) for every pool of this process, or those that are wanted.
local function each_pool(pause, fn, is_wanted)
  for _, one in ipairs(snapshot.named()) do
    if not is_wanted or is_wanted(one.name, one.pool) then
      fn(one.pool, one.name)
      pause()
    end
  end
end

--- Every pool of this process, or those that are wanted.
-- @param pause nil, or of cueball.monitor.slices
-- @param given nil; or { is_wanted = nil or function(name, pool) → boolean, show = nil, for snapshot.of, or another in its place }
-- @return { version, pools }
function snapshot.take(pause, given)
  local pools, show = json.list {}, given and given.show or snapshot.of
  each_pool(pause or slices.none, function(pool, name) pools[#pools + 1] = show(pool, name) end, given and given.is_wanted)
  return { version = native.version, pools = pools }
end

-- A pool with its numbers in their fixed order, for those who add up and write many: `numbers` in place of stats and counts, which are
-- the caller's. The rest is filled again for the next pool.
local function fill_record(record, pool, name)
  record.name, record.state, record.numbers = name, pool:state(), numbers.of_pool(pool)
  record.options, record.resolver, record.last_error = options_of(pool), resolver_of(pool), pool:last_error()
  for _, one in ipairs(stats.fill_backends(pool, record.backends)) do one.state = snapshot.state_of(one) end
end

--- Calls fn(record) for every pool of this process, or those that are wanted.
-- @param pause of cueball.monitor.slices
-- @param fn function({ name, state, numbers, options, backends, resolver, last_error }); the record and its list of backends are another
--   pool's once it has returned, but not numbers, options and resolver
-- @param is_wanted nil, or function(name, pool) → boolean
-- @return the version of cueball
function snapshot.each_record(pause, fn, is_wanted)
  local record = { backends = json.list {} }
  each_pool(pause, function(pool, name)
    fill_record(record, pool, name)
    fn(record)
  end, is_wanted)
  return native.version
end

-- ------------------------------------------------------------------------ merging --

-- What is of one worker only has a table in common with all others that are: it is changed for none.
local ALONE = setmetatable({}, {
  __index = function(self, state)
    self[state] = { [state] = 1 }
    return self[state]
  end,
})

-- Counts a worker in which it, or a backend, has that state.
local function count_state(sum, state)
  local states = sum.states
  if not states then
    sum.states = ALONE[state]
    return
  end
  if ALONE[next(states)] == states then
    states = { [next(states)] = 1 }
    sum.states = states
  end
  states[state] = (states[state] or 0) + 1
end

local ADDED_UP = { "total", "idle", "busy", "connecting" }

-- The backend of that key, among those of a sum; nil: it is new there. Keys are wanted from the second worker on.
local function backend_of(sum, key)
  if sum.workers == 1 then return nil end
  local by_key = sum.by_key
  if not by_key then
    by_key = {}
    for _, one in ipairs(sum.backends) do by_key[one.key] = one end
    sum.by_key = by_key
  end
  return by_key[key]
end

local function new_backend(sum, one)
  local made = {
    key = one.key, name = one.name, address = one.address, port = one.port, weight = one.weight, priority = one.priority,
    provenance = one.provenance, total = 0, idle = 0, busy = 0, connecting = 0, suspect = 0, states = nil, since_ms = nil, total_max = 0,
  } -- takes and error, too, but for most there is no such thing, and room for 16
  if sum.by_key then sum.by_key[one.key] = made end
  sum.backends[#sum.backends + 1] = made
  return made
end

-- Since when, and how many at most. The last change that a worker has seen counts, and a snapshot has aged since it was taken. Each worker
-- had its most at a time of its own, so their sum is a bound: there were never more.
local function add_history(sum, since_ms, total_max, age_ms)
  sum.since_ms = math.min(sum.since_ms or math.huge, since_ms + age_ms)
  sum.total_max = sum.total_max + total_max
end

local function add_backends(all, backends, age_ms)
  for _, one in ipairs(backends) do
    local sum = backend_of(all, one.key) or new_backend(all, one)
    for _, name in ipairs(ADDED_UP) do sum[name] = sum[name] + one[name] end
    if one.takes then sum.takes = (sum.takes or 0) + one.takes end
    sum.suspect = sum.suspect + (one.suspect or 0) -- a worker of an older version has none of these three
    add_history(sum, one.since_ms or 0, one.total_max or one.total, age_ms)
    count_state(sum, one.state)
    sum.error = sum.error or one.error
  end
end

-- The same of a pool that was read from a page: its line is decoded for a backend that is new, or has an error.
local function add_rows(all, pool, age_ms)
  for index = 1, pool.row_count do
    local key, state, row = records.backend(pool, index)
    local sum = backend_of(all, key)
    if not sum then
      local one = pool.backends[index]
      sum = new_backend(all, type(one) == "table" and one.key == key and one or { key = key })
    end
    sum.total, sum.idle, sum.busy = sum.total + row.total, sum.idle + row.idle, sum.busy + row.busy
    sum.connecting, sum.suspect = sum.connecting + row.connecting, sum.suspect + row.suspect
    if row.takes >= 0 then sum.takes = (sum.takes or 0) + row.takes end
    add_history(sum, row.since_ms, row.total_max, age_ms)
    count_state(sum, state)
    if pool.has_error and not sum.error then
      local one = pool.backends[index]
      sum.error = type(one) == "table" and one.error or nil
    end
  end
end

-- What is added up has stats and counts as tables, too, for whoever asks for them.
local Sum = {
  __index = function(self, name)
    if name ~= "stats" and name ~= "counts" then return nil end
    self.stats, self.counts = numbers.tables(self.numbers, true)
    return rawget(self, name)
  end,
}

local function new_sum(pool)
  return setmetatable({
    name = pool.name, states = nil, numbers = nil, options = pool.options, backends = json.list {}, by_key = nil, workers = 0,
    max_connections = 0, resolver = FINE, last_error = nil, is_shared = false,
  }, Sum)
end

-- The numbers of a sum that are its own, to be changed: those of its first worker are that worker's, until there is another.
local function own_numbers(sum)
  if sum.is_shared then sum.numbers, sum.is_shared = numbers.copy(sum.numbers), false end
  return sum.numbers
end

-- For how long a pool's resolver has failed; nil: it does not fail.
local function failing_of(pool)
  if pool.rows then return pool.failing_ms end -- of a page: its line is not decoded for that
  return pool.resolver.is_failing and (pool.resolver.since_ms or 0) or nil
end

local ALLOWED_TO_ALL = numbers.index.allowed_to_all

-- The ceiling on the connections of all workers; nil: there is none.
local function cap_of(pool)
  if pool.rows then return pool.allowed_to_all end
  local cap = numbers.ensure(pool)[ALLOWED_TO_ALL]
  return cap == cap and cap or nil
end

local function add_numbers(sum, pool)
  if not sum.numbers then
    sum.numbers, sum.is_shared = numbers.ensure(pool), true
  elseif pool.rows then
    records.add(own_numbers(sum), pool)
  else
    numbers.add(own_numbers(sum), numbers.ensure(pool))
  end
end

local function add_pool(sum, pool, age_ms)
  sum.workers = sum.workers + 1
  count_state(sum, pool.state)
  add_numbers(sum, pool)
  if pool.rows then add_rows(sum, pool, age_ms) else add_backends(sum, pool.backends, age_ms) end
  -- A ceiling for the whole nginx is the same in all workers.
  local cap = cap_of(pool)
  local most = pool.max_connections or not pool.rows and pool.options.max_connections or MAX_CONNECTIONS
  sum.max_connections = cap or sum.max_connections + most
  local failing_ms = failing_of(pool)
  if failing_ms and (not sum.resolver.is_failing or failing_ms > (sum.resolver.since_ms or 0)) then sum.resolver = pool.resolver end
  if not sum.last_error and pool.has_error ~= false then sum.last_error = pool.last_error end
end

local Sums = {}
Sums.__index = Sums

--- Adds a pool of one worker: of snapshot.each_record or of a page.
-- @param age_ms nil: it is of this moment; or how old it is
function Sums:add(pool, age_ms)
  local sum = self.by_name[pool.name]
  if not sum then
    sum = new_sum(pool)
    self.by_name[pool.name] = sum
    self.list[#self.list + 1] = sum
  end
  add_pool(sum, pool, age_ms or 0)
end

--- The sums, of which this was the last.
-- @param accumulated nil; or by pool the counters of workers that are gone
-- @return a list of { name, workers, states = { running = 2 }, stats, counts, options, max_connections (of all), resolver, last_error,
--   backends = { key, …, states = { up = 2 }, since_ms, total_max } }
function Sums:finish(accumulated)
  for _, sum in ipairs(self.list) do
    local gone = accumulated and accumulated[sum.name]
    if gone then numbers.count_in(own_numbers(sum), gone) end
    sum.by_key, sum.is_shared = nil, nil
  end
  return self.list
end

--- The pools of several workers, to be added up by name.
-- Counters and gauges add up; backends, dead_backends, ejected_backends, waiting_max and the longest times are the greatest of all;
-- quantiles cannot be added up and are left out: they are with each worker.
-- Of a backend since_ms is the time since the last change that a worker has seen, total_max the sum of what each worker had at most.
function snapshot.sums()
  return setmetatable({ list = json.list {}, by_name = {} }, Sums)
end

--- This process alone, as if it were the only worker.
-- @param pause of cueball.monitor.slices
-- @param given nil; or { is_wanted = nil or function(name, pool) → boolean, has_lines = with its page }
-- @return { version, workers, pools }, see Board:view of cueball.monitor.board
function snapshot.view(pause, given)
  local has_lines = given and given.has_lines
  local sums, worker = snapshot.sums(), page.new(has_lines)
  worker.version = snapshot.each_record(pause, function(record)
    if has_lines then worker:add(record, pause) else worker:note(record) end
    sums:add(record)
  end, given and given.is_wanted)
  return { version = worker.version, workers = json.list { worker }, pools = sums:finish() }
end

return snapshot
