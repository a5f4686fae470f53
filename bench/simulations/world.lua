--- Drives the core through FFI in virtual time: many pools, many claimers, one queue of events, one seed.
--
--   local world = require("bench.simulations.world").new(seed)
--   local pool = world:pool({ max_connections = 2 }, function(backend, now) return 10, true end)   -- opens after 10 ms, well
--   pool:backends { "a", "b" }
--   pool:claim(function(lease, backend, error, waited) … end, timeout_ms)     lease nil: refused, error is its number
--   pool:release(lease), pool:fail(lease), pool:close(lease)
--   world:after(ms, fn, argument)
--   world:run(ms)                              until so long after the start
--   world.now                                  ms; in the pools' terms nanoseconds, whole ones
--   world:uniform(), :exponential(mean), :normal(), :lognormal(median, sigma)
--
-- Unlike spec/support/core_world.lua it writes no trace and does not check the pool after each input, but
-- goes through a million claims in seconds. What happens at one instant happens in the order of being said.
local native = require "cueball.native"
local options = require "cueball.options"
local random = require "cueball.host.sim.random"
local ffi, lib = native.ffi, native.lib

local floor, log, sqrt, cos, exp, pi, huge = math.floor, math.log, math.sqrt, math.cos, math.exp, math.pi, math.huge

local OPEN, CLOSE, CHECK = tonumber(lib.CUEBALL_ACTION_OPEN), tonumber(lib.CUEBALL_ACTION_CLOSE), tonumber(lib.CUEBALL_ACTION_CHECK)
local GRANT, REFUSE = tonumber(lib.CUEBALL_ACTION_GRANT), tonumber(lib.CUEBALL_ACTION_REFUSE)
local GIVE_UP = tonumber(lib.CUEBALL_ACTION_GIVE_UP)

local NEVER = 2 ^ 63 -- as good as

local World, Pool = {}, {}
World.__index, Pool.__index = World, Pool

-- ---------------------------------------------------------------------------------------------------- the queue --
-- A binary heap in arrays, by time and then by order.

local function new(seed)
  return setmetatable({ now = 0, now_ns = 0, seed = seed, order = 0, size = 0, times = {}, orders = {}, fns = {}, arguments = {}, pools = 0,
    chance = random.new(seed, 0) }, World)
end

local function push(self, time, fn, argument)
  local times, orders, fns, arguments = self.times, self.orders, self.fns, self.arguments
  local order = self.order + 1
  local at = self.size + 1
  self.order, self.size = order, at
  while at > 1 do
    local above = floor(at / 2)
    if times[above] <= time then break end
    times[at], orders[at], fns[at], arguments[at] = times[above], orders[above], fns[above], arguments[above]
    at = above
  end
  times[at], orders[at], fns[at], arguments[at] = time, order, fn, argument
end

local function pop(self)
  local times, orders, fns, arguments = self.times, self.orders, self.fns, self.arguments
  local size = self.size
  local fn, argument = fns[1], arguments[1]
  local time, order, last_fn, last_argument = times[size], orders[size], fns[size], arguments[size]
  fns[size], arguments[size] = false, false
  size = size - 1
  self.size = size
  local at = 1
  while true do
    local below = at * 2
    if below > size then break end
    if below < size and (times[below + 1] < times[below] or (times[below + 1] == times[below] and orders[below + 1] < orders[below])) then
      below = below + 1
    end
    if time < times[below] or (time == times[below] and order < orders[below]) then break end
    times[at], orders[at], fns[at], arguments[at] = times[below], orders[below], fns[below], arguments[below]
    at = below
  end
  if size > 0 then times[at], orders[at], fns[at], arguments[at] = time, order, last_fn, last_argument end
  return fn, argument
end

--- Nanoseconds since the start inside, so that sums are exact.
function World:after(ms, fn, argument) push(self, self.now_ns + floor(ms * 1e6 + 0.5), fn, argument) end

function World:run(ms)
  local limit = ms * 1e6
  while self.size > 0 and self.times[1] <= limit do
    self.now_ns = self.times[1]
    self.now = self.now_ns / 1e6
    local fn, argument = pop(self)
    fn(argument)
  end
  self.now_ns, self.now = limit, ms
end

-- ------------------------------------------------------------------------------------------------------- chance --

function World:uniform() return self.chance:between(0, 1) end
function World:exponential(mean) return -mean * log(1 - self:uniform()) end
function World:normal() return sqrt(-2 * log(1 - self:uniform())) * cos(2 * pi * self:uniform()) end -- Box and Muller
function World:lognormal(median, sigma) return median * exp(sigma * self:normal()) end

-- ------------------------------------------------------------------------------------------------------- pools --

local function wake(pool)
  if pool.wakes_at ~= pool.world.now_ns then return end -- another came in between
  pool.wakes_at = huge
  if pool.world.now_ns >= tonumber(lib.cueball_pool_deadline(pool.pool)) then
    lib.cueball_pool_time_advanced(pool.pool, pool.world.now_ns)
  end
  pool:settle()
end

--- `open(backend, now)` says after how many ms an attempt ends, and whether well; nil: never. `check`, if given, likewise.
-- For what turns out only later: a table whose is_well is looked at when the attempt ends.
function World:pool(given, open, check)
  local made = ffi.new "cueball_pool *[1]"
  self.pools = self.pools + 1
  local result = lib.cueball_pool_new(options.read("simulation", given, 2), lib.cueball_allocator_libc(), self.seed * 1000003 + self.pools,
    self.now_ns, made)
  assert(result == 0, "cueball_pool_new")
  local pool = setmetatable({ world = self, pool = ffi.gc(made[0], lib.cueball_pool_free), open = open, check = check, claims = {},
    users = 0,
    free = {}, keys = {}, grant = ffi.new "cueball_grant", action = ffi.new "cueball_action", wakes_at = huge,
    claim_options = ffi.new "cueball_claim_options" }, Pool)
  pool.outlook = lib.cueball_pool_outlook(pool.pool)
  pool:settle()
  return pool
end

function Pool:key_of(handle)
  local key = self.keys[handle]
  if not key then
    local info = ffi.new "cueball_backend_info"
    assert(lib.cueball_pool_backend_info(self.pool, handle, info) == 0)
    key = ffi.string(info.key)
    self.keys[handle] = key
  end
  return key
end

local function attempt_ends(attempt)
  local pool = attempt.pool
  local is_well = attempt.is_well
  if type(is_well) == "table" then is_well = is_well.is_well end
  local report = is_well and lib.cueball_pool_conn_opened or lib.cueball_pool_conn_failed
  if report(pool.pool, pool.world.now_ns, attempt.conn) == 0 and is_well and pool.opened then pool.opened(attempt.conn, attempt.key) end
  pool:settle()
end

local function check_ends(checking)
  local pool = checking.pool
  lib.cueball_pool_conn_checked(pool.pool, pool.world.now_ns, checking.conn, checking.is_well)
  pool:settle()
end

local function perform(self, kind, action)
  local world, conn = self.world, tonumber(action.conn)
  if kind == OPEN then
    local key = self:key_of(tonumber(action.backend))
    local after, is_well = self.open(key, world.now, action.attempt)
    if after then
      world:after(after, attempt_ends, { pool = self, conn = conn, key = key, is_well = is_well })
    end
  elseif kind == CLOSE then
    if self.closed then self.closed(conn) end
    lib.cueball_pool_conn_closed(self.pool, world.now_ns, conn)
  elseif kind == CHECK then
    local after, is_well = 0, true
    if self.check then after, is_well = self.check(self:key_of(tonumber(action.backend)), world.now) end
    if after then world:after(after, check_ends, { pool = self, conn = conn, is_well = is_well }) end
  elseif kind == GRANT or kind == REFUSE then
    local user = tonumber(action.user)
    local fn, waited = self.claims[user], tonumber(action.waited) / 1e6
    self.claims[user] = nil
    self.free[#self.free + 1] = user
    if kind == GRANT then
      fn(tonumber(action.lease), self:key_of(tonumber(action.backend)), nil, waited)
    else
      fn(nil, nil, action.error, waited)
    end
  else
    assert(kind == GIVE_UP or kind == 0 or kind == 7)
  end
end

--- Does all that the pool wants done and sees to being woken at its deadline. A callback may use the pool meanwhile.
function Pool:settle()
  if self.is_settling then return end
  self.is_settling = true
  local outlook, action = self.outlook, self.action
  while outlook.actions ~= 0 and lib.cueball_pool_next_action(self.pool, action) do perform(self, action.kind, action) end
  self.is_settling = false
  local deadline = tonumber(outlook.deadline)
  if deadline < self.wakes_at and deadline < NEVER then
    self.wakes_at = math.max(deadline, self.world.now_ns)
    push(self.world, self.wakes_at, wake, self)
  end
end

--- List of keys, or of { key, weight }.
function Pool:backends(list)
  local specs, kept = ffi.new("cueball_backend_spec[?]", math.max(#list, 1)), {}
  for index, one in ipairs(list) do
    local key, weight = type(one) == "table" and one[1] or one, type(one) == "table" and one[2] or 1
    kept[index] = key
    specs[index - 1].key, specs[index - 1].address, specs[index - 1].weight = key, "x", weight
  end
  assert(lib.cueball_pool_backends_replaced(self.pool, self.world.now_ns, specs, #list) == 0)
  self:settle()
  return kept
end

function Pool:claim(fn, timeout_ms)
  local given, grant = self.claim_options, self.grant
  local user = table.remove(self.free)
  if not user then
    self.users = self.users + 1
    user = self.users
  end
  given.timeout_ms, given.user = timeout_ms or 0, user
  local result = lib.cueball_pool_claim(self.pool, self.world.now_ns, given, grant)
  if result == 1 then
    self.claims[user] = fn
  else
    self.free[#self.free + 1] = user
    if result == 0 then
      fn(tonumber(grant.lease), self:key_of(tonumber(grant.backend)), nil, 0)
    else
      fn(nil, nil, result, 0)
    end
  end
  self:settle()
end

function Pool:release(lease)
  assert(lib.cueball_pool_lease_released(self.pool, self.world.now_ns, lease) == 0, "stale lease")
  self:settle()
end

function Pool:fail(lease)
  lib.cueball_pool_lease_failed(self.pool, self.world.now_ns, lease)
  self:settle()
end

function Pool:lose(conn)
  lib.cueball_pool_conn_lost(self.pool, self.world.now_ns, conn)
  self:settle()
end

function Pool:stats()
  local stats = ffi.new "cueball_stats"
  lib.cueball_pool_stats(self.pool, stats)
  return stats
end

function Pool:ensure()
  local text = ffi.new "char[512]"
  if lib.cueball_pool_check(self.pool, text, 512) ~= 0 then error("the pool disagrees with itself: " .. ffi.string(text)) end
end

--- key -> connections open.
function Pool:layout()
  local info, found, index = ffi.new "cueball_backend_info", {}, 0
  while lib.cueball_pool_backend_at(self.pool, index, info) do
    if not info.removed then found[ffi.string(info.key)] = info.idle + info.busy end
    index = index + 1
  end
  return found
end

return { new = new }
