--- What pools look like at one moment, as plain tables; and those of several workers as one.
local json = require "cueball.monitor.json"
local native = require "cueball.native"
local numbers = require "cueball.monitor.numbers"
local options = require "cueball.options"
local page = require "cueball.monitor.page"
local registry = require "cueball.pool.registry"

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

local function resolver_of(pool)
  local state = pool:resolver()
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

-- The same without a second table for each.
local function states_of(pool)
  local list = json.list(pool:backends())
  for _, one in ipairs(list) do one.state = snapshot.state_of(one) end
  return list
end

--- The same with its numbers in their fixed order, for those who add up and write many: `numbers` in place of stats and counts.
function snapshot.record(pool, name)
  return {
    name = name or pool.name, state = pool:state(), numbers = numbers.of_pool(pool), options = options_of(pool),
    backends = states_of(pool), resolver = resolver_of(pool), last_error = pool:last_error(),
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

--- Every pool of this process, or those that are wanted.
-- @param pause nil, or of cueball.monitor.slices
-- @param given nil; or { is_wanted = nil or function(name, pool) → boolean, show = nil, for snapshot.of, or another in its place }
-- @return { version, pools }
function snapshot.take(pause, given)
  local pools, is_wanted, show = json.list {}, given and given.is_wanted, given and given.show or snapshot.of
  for _, one in ipairs(snapshot.named()) do
    if not is_wanted or is_wanted(one.name, one.pool) then
      pools[#pools + 1] = show(one.pool, one.name)
      if pause then pause() end
    end
  end
  return { version = native.version, pools = pools }
end

--- The same as records.
function snapshot.take_records(pause)
  return snapshot.take(pause, { show = snapshot.record })
end

-- ------------------------------------------------------------------------ merging --

local function count_in(counts, name)
  counts[name] = (counts[name] or 0) + 1
end

local ADDED_UP = { "total", "idle", "busy", "connecting" }

local function new_backend(merged, by_key, one)
  local sum = {
    key = one.key, name = one.name, address = one.address, port = one.port, weight = one.weight, priority = one.priority,
    provenance = one.provenance, total = 0, idle = 0, busy = 0, connecting = 0, takes = nil, suspect = 0, states = {}, error = nil,
  }
  by_key[one.key] = sum
  merged[#merged + 1] = sum
  return sum
end

local function add_backends(merged, by_key, backends)
  for _, one in ipairs(backends) do
    local sum = by_key[one.key] or new_backend(merged, by_key, one)
    for _, name in ipairs(ADDED_UP) do sum[name] = sum[name] + one[name] end
    if one.takes then sum.takes = (sum.takes or 0) + one.takes end
    sum.suspect = sum.suspect + (one.suspect or 0) -- a worker of an older version has none
    count_in(sum.states, one.state)
    sum.error = sum.error or one.error
  end
end

-- The same of a pool that was read from a page: its line is decoded for a backend that is new, or has an error.
local function add_rows(merged, by_key, pool)
  for index = 1, pool.row_count do
    local key, state, row = page.backend(pool, index)
    local sum = by_key[key]
    if not sum then
      local one = pool.backends[index]
      sum = new_backend(merged, by_key, type(one) == "table" and one.key == key and one or { key = key })
    end
    sum.total, sum.idle, sum.busy = sum.total + row.total, sum.idle + row.idle, sum.busy + row.busy
    sum.connecting, sum.suspect = sum.connecting + row.connecting, sum.suspect + row.suspect
    if row.takes >= 0 then sum.takes = (sum.takes or 0) + row.takes end
    count_in(sum.states, state)
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
    self.stats, self.counts = numbers.tables(self.numbers)
    return rawget(self, name)
  end,
}

local function new_sum(pool, accumulated)
  local sum = setmetatable({
    name = pool.name, states = {}, numbers = numbers.new(), options = pool.options, backends = json.list {}, by_key = {}, workers = 0,
    max_connections = 0, resolver = { is_failing = false, message = nil, since_ms = nil }, last_error = nil,
  }, Sum)
  if accumulated then numbers.set(sum.numbers, accumulated) end
  return sum
end

-- For how long a pool's resolver has failed; nil: it does not fail.
local function failing_of(pool)
  if pool.rows then return pool.failing_ms end -- of a page: its line is not decoded for that
  return pool.resolver.is_failing and (pool.resolver.since_ms or 0) or nil
end

local ALLOWED_TO_ALL = numbers.index.allowed_to_all

local function add_pool(sum, pool)
  sum.workers = sum.workers + 1
  count_in(sum.states, pool.state)
  local room = numbers.ensure(pool)
  numbers.add(sum.numbers, room)
  if pool.rows then add_rows(sum.backends, sum.by_key, pool) else add_backends(sum.backends, sum.by_key, pool.backends) end
  -- A ceiling for the whole nginx is the same in all workers.
  local cap = room[ALLOWED_TO_ALL]
  local most = pool.max_connections or not pool.rows and pool.options.max_connections or MAX_CONNECTIONS
  sum.max_connections = cap == cap and cap or sum.max_connections + most
  local failing_ms = failing_of(pool)
  if failing_ms and (not sum.resolver.is_failing or failing_ms > (sum.resolver.since_ms or 0)) then sum.resolver = pool.resolver end
  if not sum.last_error and pool.has_error ~= false then sum.last_error = pool.last_error end
end

--- The pools of several workers, added up by name.
-- Counters and gauges add up; backends, dead_backends, ejected_backends, waiting_max and the longest times are the greatest of all;
-- quantiles cannot be added up and are left out: they are with each worker.
-- @param workers list of { pools, … } as snapshot.take returns it
-- @param accumulated nil; or by pool the counters of workers that are gone
-- @param pause nil, or of cueball.monitor.slices
-- @return a list of { name, workers, states = { running = 2 }, stats, counts, options, max_connections (of all), resolver, last_error,
--   backends = { key, …, states = { up = 2 } } }
function snapshot.merge(workers, accumulated, pause)
  local merged, by_name = json.list {}, {}
  for _, worker in ipairs(workers) do
    for _, pool in ipairs(worker.pools) do
      local sum = by_name[pool.name]
      if not sum then
        sum = new_sum(pool, accumulated and accumulated[pool.name])
        by_name[pool.name] = sum
        merged[#merged + 1] = sum
      end
      add_pool(sum, pool)
      if pause then pause() end
    end
  end
  for _, sum in ipairs(merged) do sum.by_key = nil end
  return merged
end

return snapshot
