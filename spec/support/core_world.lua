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
-- After every input the pool's own check must hold, and what the pool wants done is done (unless world.is_draining is
-- false). Time is in milliseconds since the start; the pool is advanced to each of its deadlines exactly.
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
-- `world.shows` is the set of words that are traced, as a string; nil: all.

local native = require "cueball.native"
local luassert = require "luassert"
local say = require "say"

local ffi, lib = native.ffi, native.lib

local World = {}
World.__index = World

local NEVER = 0xffffffffffffffffULL
local INPUTS_MAX = 100000 -- in one advance(): more is a loop without end

World.NEVER = NEVER

local function ns(ms)
  return ffi.cast("uint64_t", ms * 1e6 + 0.5)
end

-- ------------------------------------------------------------------------------------------------------- options --

--- name -> { kind =, offset =, min =, max =, initial =, may_be_none =, choices = }, and a list of the names.
local function describe_options()
  local found, option = {}, ffi.new "cueball_option"
  local index = 0
  while lib.cueball_option_describe(index, option) do
    local name = ffi.string(option.name)
    found[name] = {
      kind = option.kind, offset = option.offset, min = option.min, max = option.max, initial = option.initial,
      may_be_none = option.may_be_none, choices = option.choices ~= nil and ffi.string(option.choices) or nil,
    }
    found[#found + 1] = name
    index = index + 1
  end
  return found
end

World.descriptors = describe_options()

local CTYPES = { [0] = "uint32_t *", "double *", "double *", "int32_t *", "double *" }

--- Writes one option, past any check; math.huge is "none".
function World.write_option(options, name, value)
  local option = assert(World.descriptors[name], "no option " .. name)
  if option.choices and type(value) == "string" then
    local position = 0
    for choice in option.choices:gmatch "%S+" do
      if choice == value then
        value = position
      end
      position = position + 1
    end
  end
  if option.kind == 0 and value == math.huge then
    value = 0xffffffff
  end
  ffi.cast(CTYPES[option.kind], ffi.cast("char *", options) + option.offset)[0] = value
end

--- The defaults with some changes, a copy of `base` if there is one. Underscores in names of recovery are dots:
-- { max_connections = 2, ["recovery.connect.delay_ms"] = 5 }.
function World.options(changes, base)
  local options = ffi.new "cueball_options"
  if base then
    ffi.copy(options, base, ffi.sizeof "cueball_options")
  else
    lib.cueball_options_init_sized(options, ffi.sizeof(options))
  end
  for name, value in pairs(changes or {}) do
    World.write_option(options, name, value)
  end
  return options
end

--- Every operation's recovery at once: World.recovery { attempts = 2, delay_ms = 10 }, to be mixed into options.
function World.recovery(values, options)
  options = options or {}
  for name, value in pairs(values) do
    for _, operation in ipairs { "default", "initial", "connect" } do
      options["recovery." .. operation .. "." .. name] = value
    end
  end
  return options
end

-- ---------------------------------------------------------------------------------------------------------- life --

--- Options as for World.options, and: seed (1), start (ms, 0), is_set (false), has_check (false).
function World.new(options)
  local changes = {}
  for name, value in pairs(options or {}) do
    changes[name] = value
  end
  local seed, start, is_set, has_check = changes.seed or 1, changes.start or 0, changes.is_set, changes.has_check
  changes.seed, changes.start, changes.is_set, changes.has_check = nil, nil, nil, nil
  local self = setmetatable({
    start = ffi.cast("uint64_t", start) * 1000000ULL, host = { open = 0, close = 0, check = 0 }, is_draining = true,
    lines = {}, events = {}, sequence = 0, names = {}, users = 0, claims = {}, leases = {}, conns = {}, labels = {},
    numbers = {}, keys = {}, owners = {}, lag = 0ULL,
  }, World)
  self.now = self.start
  self.options = World.options(changes)
  self.options.has_check = has_check and 1 or 0
  local made = ffi.new "cueball_pool *[1]"
  local new = is_set and lib.cueball_set_new or lib.cueball_pool_new
  local result = new(self.options, lib.cueball_allocator_libc(), seed, self.now, made)
  assert(result == 0, "cueball_pool_new: " .. ffi.string(lib.cueball_error_name(result)))
  self.pool = ffi.gc(made[0], lib.cueball_pool_free)
  self:check()
  return self
end

--- Milliseconds since the start.
function World:time()
  return tonumber(self.now - self.start) / 1e6
end

function World:check()
  local text = ffi.new "char[512]"
  if lib.cueball_pool_check(self.pool, text, 512) ~= 0 then
    error("the pool disagrees with itself: " .. ffi.string(text) .. "\n" .. self:trace():sub(-3000), 0)
  end
end

function World.error_name(result)
  return result == 0 and "ok" or ffi.string(lib.cueball_error_name(result))
end

--- Any input: world:input("resolver_failed"). Returns "ok" or the error's name; numbers above 0 as they are.
function World:input(name, ...)
  local result = lib["cueball_pool_" .. name](self.pool, self.now - self.lag, ...)
  self:check()
  if self.is_draining then
    self:drain()
  end
  return result > 0 and result or World.error_name(result)
end

-- --------------------------------------------------------------------------------------------------------- trace --

function World:tell(word, text)
  if self.shows and not (" " .. self.shows .. " "):find(" " .. word .. " ", 1, true) then
    return
  end
  local line = ("[%4s] %s %s"):format(("%.10g"):format(self:time()), word, text)
  self.lines[#self.lines + 1] = line
end

function World:trace()
  return table.concat(self.lines, "\n")
end

--- Forgets the trace so far.
function World:forget()
  self.lines = {}
end

local function trimmed(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    line = line:match "^%s*(.-)%s*$"
    if line ~= "" then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n")
end

say:set("assertion.trace.positive", "The trace should be:\n%s\nIt is:\n%s")
luassert:register("assertion", "trace", function(_, arguments)
  local world, expected = arguments[1], trimmed(arguments[2])
  local actual = world:trace()
  arguments[1], arguments[2] = expected, actual
  arguments.n, arguments.nofmt = 2, { true, true }
  return expected == actual
end, "assertion.trace.positive")

-- ---------------------------------------------------------------------------------------------------------- time --

--- Has fn called at so many ms after the start; of one instant, in the order of these calls, and before the pool's
-- own deadline of that instant.
function World:at(ms, fn)
  self:schedule(self.start + ns(ms), fn)
end

function World:schedule(time, fn)
  self.sequence = self.sequence + 1
  local events = self.events
  local place = #events + 1
  while place > 1 and events[place - 1].time > time do
    place = place - 1
  end
  table.insert(events, place, { time = time, fn = fn })
end

function World:deadline()
  return lib.cueball_pool_deadline(self.pool)
end

--- In ms since the start; nil: none.
function World:deadline_ms()
  local deadline = self:deadline()
  return deadline ~= NEVER and tonumber(ffi.cast("int64_t", deadline - self.start)) / 1e6 or nil
end

--- Lets so much time go by, meeting every deadline on the way.
function World:advance(ms)
  local target = self.now + ns(ms)
  for _ = 1, INPUTS_MAX do
    local event, deadline = self.events[1], self:deadline()
    if deadline < self.now then
      deadline = self.now
    end
    if event and event.time <= target and event.time <= deadline then
      table.remove(self.events, 1)
      if event.time > self.now then
        self.now = event.time
      end
      event.fn()
    elseif deadline <= target then
      self.now = deadline
      self:input "time_advanced"
    else
      self.now = target
      return self
    end
  end
  error("no end of deadlines at " .. tostring(self.now) .. "\n" .. self:trace():sub(-3000), 0)
end

--- As a host that slept too long: no deadline on the way is met.
function World:oversleep(ms)
  self.now = self.now + ns(ms)
  return self:input "time_advanced"
end

-- ------------------------------------------------------------------------------------------------------ the host --

function World:label(action)
  local key = tonumber(action.slot) .. ":" .. tonumber(action.backend)
  if not self.labels[key] then
    local backend = self:key_of(action.backend)
    self.numbers[backend] = (self.numbers[backend] or 0) + 1
    self.labels[key] = backend .. "/" .. self.numbers[backend]
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

--- Does all that there is to do. What is reported meanwhile leads to more, which is done in the same loop.
function World:drain()
  if self.drains then
    return
  end
  self.drains = true
  local steps = 0
  while self:step() do
    steps = steps + 1
    if steps > INPUTS_MAX then
      error("no end of actions\n" .. self:trace():sub(-3000), 0)
    end
  end
  self.drains = false
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
  while lib.cueball_pool_backend_at(self.pool, #list, info) do
    list[#list + 1] = {
      handle = info.backend, key = ffi.string(info.key), name = ffi.string(info.name), address = ffi.string(info.address),
      port = info.port, weight = info.weight, total = info.total, idle = info.idle, busy = info.busy,
      connecting = info.connecting, dead = info.dead, removed = info.removed, ejected = info.ejected,
      priority = info.priority, standby = info.standby, takes = info.takes, suspect = info.suspect,
      latency_ms = info.latency_ms, success_rate = info.success_rate,
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
    list[i] = ("%s %d%s%s"):format(one.key, one.total, one.dead and " dead" or "", one.removed and " removed" or "")
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
  local stats, found = ffi.new "cueball_stats", {}
  lib.cueball_pool_stats(self.pool, stats)
  for _, one in ipairs(native.layout) do
    if one.type == "cueball_stats" and one.member ~= "" and one.member ~= "struct_size" and one.member ~= "reserved" then
      found[one.member] = tonumber(stats[one.member])
    end
  end
  return found
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
      kind = ffi.string(lib.cueball_event_name(event.kind)), time = tonumber(event.time - self.start) / 1e6,
      from = event.from, to = event.to, cause = ffi.string(lib.cueball_cause_name(event.cause)), slot = event.slot,
      count = event.count, missed = event.missed, conn = event.conn, backend = event.backend, claim = event.claim,
      lease = event.lease, user = tonumber(event.user), error = World.error_name(event.error),
    }
  end
  return list
end

return World
