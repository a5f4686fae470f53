--- A pool of the core in virtual time, with a host that does what the pool asks by rules that a spec sets.
--
--     local World = require "spec.support.core_world"
--     local world = World.new { max_connections = 2 }
--     world.host.open = 10                  -- connections open after 10 ms
--     world:add "db1"
--     world:at(50, function() world:release "alice" end)
--     world:claim("alice")
--     world:advance(100)
--     assert.trace(world, [[
--       [   0] open db1/1
--       [  10] grant alice: db1/1]])
--
-- Time, inputs and the trace are spec.support.virtual_world's; options are spec.support.core_options'.
--
-- Rules of the host, `world.host.open / close / check`, or for one backend `world.host.db1 = { open = ... }`:
--     10           done, well, after 10 ms; 0: within the call
--     "fail"       fails (open), or finds it unfit (check); "fail 10": after 10 ms
--     "never"      says nothing at all
--     "late 10"    as 10, but also reported when the pool gave up on it meanwhile
--     a function(world, backend) that returns one of these
-- and `world.host.lasts = 50`: a connection is lost 50 ms after it opened; nil: it lasts.
--
-- The trace names a connection by its backend and its slot's number there: db1/2 stays db1/2 when it is opened anew.

local core_options = require "spec.support.core_options"
local native = require "cueball.native"
local with = require "spec.support.with"

local ffi, lib = native.ffi, native.lib

local World = require("spec.support.virtual_world").of "pool"
local ns = World.ns

World.options, World.write_option, World.recovery = core_options.options, core_options.write, core_options.recovery
World.descriptors = core_options.descriptors

-- ---------------------------------------------------------------------------------------------------------- life --

--- Options as for World.options, and: seed (1), start (ms, 0), is_set (false), has_check (false). Of several tables, the later ones first.
function World.new(...)
  local changes = with(...)
  local seed, start, is_set, has_check = changes.seed or 1, changes.start or 0, changes.is_set, changes.has_check
  changes.seed, changes.start, changes.is_set, changes.has_check = nil, nil, nil, nil
  local self = World:begin {
    began = ffi.cast("uint64_t", start) * 1000000ULL, host = { open = 0, close = 0, check = 0 }, names = {}, users = 0, claims = {},
    leases = {}, conns = {}, labels = {}, numbers_of = {}, keys = {}, owners = {},
  }
  self.options = World.options(changes)
  self.options.has_check = has_check and 1 or 0
  local made = ffi.new "cueball_pool *[1]"
  local new = is_set and lib.cueball_set_new or lib.cueball_pool_new
  local result = new(self.options, lib.cueball_allocator_libc(), seed, self.now, made)
  assert(result == 0, "cueball_pool_new: " .. World.error_name(result))
  self.pool = ffi.gc(made[0], lib.cueball_pool_free)
  self:check()
  return self
end

--- A pool with every operation's recovery as given, in which nothing happens by chance or by itself: no spread, no shuffling, no checks.
function World.calm(recovery, ...)
  return World.new({ decoherence_interval_ms = 0, check_interval_ms = 0 }, World.recovery(with({ spread = 0 }, recovery)), ...)
end

--- A pool with so many connections to db1 at rest. The trace begins there.
function World.full(count, options)
  local world = World.new({ max_connections = count }, options)
  world:set { "db1" }
  return world:forget()
end

-- ------------------------------------------------------------------------------------------------------ the host --

function World:label(action)
  local key = tonumber(action.slot) .. ":" .. tonumber(action.backend)
  if not self.labels[key] then
    local backend = self:key_of(action.backend)
    self.numbers_of[backend] = (self.numbers_of[backend] or 0) + 1
    self.labels[key] = backend .. "/" .. self.numbers_of[backend]
  end
  return self.labels[key]
end

function World:key_of(handle)
  local number = tonumber(handle)
  if not self.keys[number] then
    local info = ffi.new "cueball_backend_info"
    assert(lib.cueball_pool_backend_info(self.pool, handle, info) == 0, "an action names a backend that is none")
    self.keys[number] = ffi.string(info.key)
  end
  return self.keys[number]
end

--- What the host does about it: outcome, delay in ms, whether it reports in spite of GIVE_UP.
function World:rule(operation, backend)
  local own = self.host[backend]
  local rule = own and own[operation] or self.host[operation]
  if type(rule) == "function" then
    rule = rule(self, backend)
  end
  if rule == "never" then
    return nil
  elseif type(rule) == "number" then
    return "well", rule
  end
  local word, delay = rule:match "^(%a+) ?(%S*)$"
  assert(word == "fail" or word == "late", "no rule: " .. tostring(rule))
  return word == "fail" and "fail" or "well", tonumber(delay) or 0, word == "late"
end

local WELL = { open = "opened", close = "closed", check = "fit" }
local BADLY = { open = "failed", close = "closed", check = "unfit" }

--- Reports on a connection, as the host.
function World:report(word, conn)
  self:tell(word, conn.label)
  local result
  if word == "fit" or word == "unfit" then
    result = self:input("conn_checked", conn.handle, word == "fit")
  else
    result = self:input("conn_" .. word, conn.handle)
  end
  if result ~= "ok" then
    self:tell("stale", ("%s: %s"):format(conn.label, word))
  elseif word == "opened" and conn.lasts then
    self:schedule(self.now + ns(conn.lasts), function()
      local present = self.conns[conn.label]
      if present.handle == conn.handle and not present.is_closing then
        self:report("lost", conn)
      end
    end)
  end
  return result
end

function World:perform(operation, conn, backend)
  local outcome, delay, is_late = self:rule(operation, backend)
  if not outcome then
    return
  end
  local word = outcome == "well" and WELL[operation] or BADLY[operation]
  local handle = conn.handle
  local own = self.host[backend]
  local lasts = own and own.lasts or self.host.lasts
  local function report()
    if conn.handle == handle and not (conn.is_given_up and not is_late) then
      self:report(word, { handle = handle, label = conn.label, lasts = lasts })
    elseif is_late then
      self:report(word, { handle = handle, label = conn.label, lasts = lasts })
    end
  end
  if delay == 0 then
    report()
  else
    self:schedule(self.now + ns(delay), report)
  end
end

local KINDS = { "open", "give_up", "close", "check", "grant", "refuse", "recall" }

--- A set wants a lease back: traced, and told to world.recalled(name) if there is one.
function World:recall(action)
  for name, lease in pairs(self.leases) do
    if lease.handle == action.lease then
      self:tell("recall", ("%s: %s"):format(name, ffi.string(lib.cueball_cause_name(action.cause))))
      if self.recalled then
        self.recalled(name)
      end
      return
    end
  end
  error "a lease is asked back that nobody has"
end

function World:answer(kind, action)
  local name = self.names[tonumber(action.user)]
  self.claims[name] = nil
  if kind == "grant" then
    self.leases[name] = { handle = action.lease, conn = action.conn, label = self:label(action), slot = action.slot }
    self:tell("grant", name .. ": " .. self.leases[name].label)
  else
    self:tell("refuse", name .. ": " .. World.error_name(action.error))
  end
end

--- Takes one action and does it; false if there was none.
function World:step()
  local action = ffi.new "cueball_action"
  if not lib.cueball_pool_next_action(self.pool, action) then
    return false
  end
  self:check()
  local kind = KINDS[action.kind]
  self.last = action
  if kind == "grant" or kind == "refuse" then
    self:answer(kind, action)
    return true
  elseif kind == "recall" then
    self:recall(action)
    return true
  end
  if kind == "give_up" then
    for label, conn in pairs(self.conns) do
      if conn.handle == action.conn then
        self:tell("give_up", label)
        conn.is_given_up = true
      end
    end
    return true
  end
  local label = self:label(action)
  if kind == "open" then
    self.conns[label] = { handle = action.conn, label = label, slot = action.slot }
  elseif kind == "close" then
    self.conns[label].is_closing = true
  end
  self:tell(kind, kind == "open" and action.attempt > 1 and ("%s, attempt %d"):format(label, action.attempt) or label)
  self:perform(kind, self.conns[label], self:key_of(action.backend))
  return true
end

-- ------------------------------------------------------------------------------------------------------ backends --

local function backend_spec(key, fields)
  fields = fields or {}
  return ffi.new("cueball_backend_spec", {
    key = key, name = fields.name, address = fields.address or "10.0.0.1", port = fields.port or 5432, weight = fields.weight or 1,
    priority = fields.priority or 0,
  })
end

--- world:add("db1", { address =, port =, weight =, priority =, name = })
function World:add(key, fields)
  return self:input("backend_added", backend_spec(key, fields))
end

function World:remove(key)
  return self:input("backend_removed", key)
end

--- The whole list: world:set { "db1", "db2", { "db3", weight = 2 } }
function World:set(list)
  local specs = ffi.new("cueball_backend_spec[?]", math.max(#list, 1))
  local kept = {} -- the strings, while C looks at them
  for i, one in ipairs(list) do
    local fields = type(one) == "table" and one or { one }
    kept[i] = backend_spec(fields[1], fields)
    specs[i - 1] = kept[i]
  end
  return self:input("backends_replaced", specs, #list)
end

--- All backends in order of preference: list of tables.
function World:backends()
  local list, info = {}, ffi.new "cueball_backend_info"
  info.struct_size = ffi.sizeof(info)
  while lib.cueball_pool_backend_at(self.pool, #list, info) do
    list[#list + 1] = {
      handle = info.backend, key = ffi.string(info.key), name = ffi.string(info.name), address = ffi.string(info.address),
      port = info.port, weight = info.weight, total = info.total, idle = info.idle, busy = info.busy,
      connecting = info.connecting, dead = info.dead, removed = info.removed, ejected = info.ejected,
      priority = info.priority, standby = info.standby, takes = info.takes, suspect = info.suspect,
      latency_ms = info.latency_ms, success_rate = info.success_rate, drained = info.drained, want = info.want,
      total_max = info.total_max, since_ms = tonumber(info.since - self.began) / 1e6,
    }
  end
  return list
end

--- "db1 5, db2 5, db3 5": slots, by key; dead and removed ones say so.
function World:layout()
  local list = self:backends()
  table.sort(list, function(a, b)
    return a.key < b.key or (a.key == b.key and not a.removed and b.removed)
  end)
  for i, one in ipairs(list) do
    list[i] = ("%s %d%s%s%s"):format(one.key, one.total, one.dead and " dead" or "", one.removed and " removed" or "",
      one.drained and " drained" or "")
  end
  return table.concat(list, ", ")
end

-- -------------------------------------------------------------------------------------------------------- claims --

--- A claim by a name: "granted", "waiting" or the error's name; see world.grant too. Options: timeout_ms, owner (a name),
-- error_on_empty.
function World:claim(name, options)
  options = options or {}
  assert(not self.leases[name] and not self.claims[name], name .. " claims twice")
  self.users = self.users + 1
  self.names[self.users] = name
  local native_options = ffi.new("cueball_claim_options", {
    timeout_ms = options.timeout_ms == 0 and lib.CUEBALL_NO_WAIT or options.timeout_ms or 0, user = self.users,
    owner = options.owner and self.owners[options.owner] or nil,
    error_on_empty = options.error_on_empty or false,
  })
  local grant = ffi.new "cueball_grant"
  local result = lib.cueball_pool_claim(self.pool, self.now - self.lag, native_options, grant)
  self:check()
  local outcome
  if result == 0 then
    self.leases[name] = { handle = grant.lease, conn = grant.conn, label = self:label(grant), slot = grant.slot }
    self:tell("grant", name .. ": " .. self.leases[name].label)
    outcome = "granted"
  elseif result == 1 then
    self.claims[name] = grant.claim
    self:tell("wait", ("%s: %d ahead"):format(name, grant.ahead))
    outcome = "waiting"
  else
    outcome = World.error_name(result)
    self:tell("refuse", name .. ": " .. outcome)
  end
  if self.is_draining then
    self:drain()
  end
  self.grant = grant
  return outcome
end

function World:cancel(name)
  self:tell("cancel", name)
  local handle = self.claims[name]
  self.claims[name] = nil
  return self:input("claim_cancelled", handle)
end

function World:lease_end(word, input, name)
  self:tell(word, name)
  local lease = assert(self.leases[name], name .. " has no lease")
  self.leases[name] = nil
  return self:input(input, lease.handle)
end

function World:release(name)
  return self:lease_end("release", "lease_released", name)
end

function World:close(name)
  return self:lease_end("discard", "lease_closed", name)
end

function World:fail(name)
  return self:lease_end("blame", "lease_failed", name)
end

--- Says of a lease that goes on how it went.
function World:went(name, is_well)
  self:tell(is_well and "praise" or "complain", name)
  return self:input("lease_reported", self.leases[name].handle, is_well)
end

--- The connection of that label breaks.
function World:lose(label)
  return self:report("lost", self.conns[label])
end

local UNFIT = { unfit = lib.CUEBALL_CAUSE_UNFIT, worn = lib.CUEBALL_CAUSE_WORN, timeout = lib.CUEBALL_CAUSE_TIMEOUT }

--- The connection of that label is of no more use: cause "unfit", "worn" or "timeout".
function World:unfit(label, cause)
  self:tell(cause, label)
  return self:input("conn_unfit", self.conns[label].handle, UNFIT[cause])
end

--- As a host does it where the socket tells: the lease's connection is unfit, and comes back.
function World:release_as(name, cause)
  self:unfit(self.leases[name].label, cause)
  return self:release(name)
end

--- The lease's connection broke, and its claimer gives it back.
function World:release_lost(name)
  self:lose(self.leases[name].label)
  return self:release(name)
end

--- Replaces connections: of one backend, or of all with nil.
function World:renew(key, over_ms)
  self:tell("renew", key or "all")
  return self:input("renew", key, over_ms)
end

function World:owner(name)
  local made = ffi.new "cueball_owner *[1]"
  assert(lib.cueball_pool_owner_new(self.pool, made) == 0)
  self.owners[name] = made[0]
  self:check()
end

--- Takes effect at the next input.
function World:owner_gone(name)
  self:tell("gone", name)
  lib.cueball_owner_gone(self.owners[name])
  self.owners[name] = nil
  self:check()
end

--- The same, but the owner may claim again. -> whether it had anything
function World:owner_left(name)
  self:tell("left", name)
  local had = lib.cueball_owner_left(self.owners[name])
  self:check()
  return had
end

-- --------------------------------------------------------------------------------------------------------- other --

function World:state()
  return ffi.string(lib.cueball_pool_state_name(lib.cueball_pool_state_of(self.pool)))
end

function World:stop()
  self:tell("stop", "pool")
  return self:input "stop"
end

--- Changes some options of the living pool.
function World:change(changes)
  self.options = World.options(changes, self.options)
  return self:input("options_changed", self.options)
end

--- All statistics, as numbers.
function World:stats()
  local stats = ffi.new "cueball_stats"
  stats.struct_size = ffi.sizeof(stats)
  lib.cueball_pool_stats(self.pool, stats)
  return World.numbers(stats, "cueball_stats")
end

--- Keeps events: a mask of all kinds unless kinds are given by name.
function World:watch(capacity, kinds)
  local mask = kinds and 0 or 0xffffffff
  if kinds then
    for kind = 0, 31 do
      local name = ffi.string(lib.cueball_event_name(kind))
      if (" " .. kinds .. " "):find(" " .. name .. " ", 1, true) then
        mask = mask + 2 ^ kind
      end
    end
  end
  return World.error_name(lib.cueball_pool_watch(self.pool, mask, capacity or 1000))
end

--- The unread events: list of tables with the names instead of numbers.
function World:take_events()
  local list, event = {}, ffi.new "cueball_event"
  while lib.cueball_pool_next_event(self.pool, event) do
    list[#list + 1] = {
      kind = ffi.string(lib.cueball_event_name(event.kind)), time = tonumber(event.time - self.began) / 1e6,
      from = event.from, to = event.to, cause = ffi.string(lib.cueball_cause_name(event.cause)), slot = event.slot,
      count = event.count, missed = event.missed, conn = event.conn, backend = event.backend, claim = event.claim,
      lease = event.lease, user = tonumber(event.user), error = World.error_name(event.error),
    }
  end
  return list
end

return World
