--- The one door to a pool's core: no other Lua file calls cueball_pool_* or cueball_owner_gone.
--
--   core:conn_opened(now, conn)   cueball_pool_conn_opened(pool, now, conn)
--   core:backend_at(index)        cueball_pool_backend_at(pool, index, info); what the C function writes is in core.info
--   door.between(core, fn)        puts fn between this pool and its core: that is where a recorder, a console or a lock stands
--
-- Each function has the name, the result and the arguments of its C function, but for the pool and for room to write to. All are made
-- from the lists below.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local core = {}

-- The facts that the core is told; the time, `now`, comes before all that is listed. What begins with "self." is filled in here.
local FACTS = {
  claim = "options, self.grant", claim_cancelled = "claim",
  lease_released = "lease", lease_closed = "lease", lease_failed = "lease", lease_reported = "lease, went_well",
  conn_opened = "conn", conn_failed = "conn", conn_checked = "conn, is_fit", conn_lost = "conn", conn_unfit = "conn, cause",
  conn_closed = "conn",
  backend_added = "spec", backend_removed = "key", backends_replaced = "specs, count", resolver_failed = "", resolver_recovered = "",
  options_changed = "options", renew = "key, over_ms", stop = "", time_advanced = "",
  paused = "", resumed = "", backend_drained = "key", backend_restored = "key", backend_retried = "key", lease_killed = "lease",
}

-- What changes the core too, and has no time.
local ORDERS = {
  owner_new = "self.owner", watch = "mask, capacity", next_action = "self.action", next_event = "self.event", deadline = "",
}

-- What changes nothing.
local QUESTIONS = {
  state_of = "", stats = "self.numbers", closed_by = "cause", explain = "begun, ended, waits, count", memory = "",
  refused_by = "error", deaths_by = "cause", histogram = "measure, bounds, counts, count, sum",
  backend_at = "index, self.info", backend_info = "backend, self.info", backend_spec = "backend, self.spec", check = "text, size",
  slot_at = "index, self.slot", paused_since = "", preview = "now, change, self.foretold, rows, room",
}

local FUNCTION = [[
local call = ...
return function(self%s) return call(%s) end, function(self%s) return %s end, function(self, ...) return call(%s...) end
]]

local function joined(...)
  local parts = {}
  for _, part in ipairs { ... } do
    if part ~= "" then parts[#parts + 1] = part end
  end
  return table.concat(parts, ", ")
end

-- The parameters of a function of the door: all arguments but those that are filled in.
local function parameters_of(arguments)
  local parameters = {}
  for name in arguments:gmatch "[%w_.]+" do
    if not name:find "^self%." then parameters[#parameters + 1] = ", " .. name end
  end
  return table.concat(parameters)
end

local SOURCE = debug.getinfo(1, "S").source

-- → the function of the door; what fills in its arguments; and what calls the C function with them
local function make(c_name, pool, arguments)
  local taken = parameters_of(arguments)
  local source = FUNCTION:format(taken, joined(pool, arguments), taken, arguments, pool == "" and "" or pool .. ", ")
  return assert(loadstring(source, SOURCE))(lib[c_name])
end

local direct, filled, called = {}, {}, {} -- by name

local function make_all(names, now)
  for name, arguments in pairs(names) do
    direct[name], filled[name], called[name] = make("cueball_pool_" .. name, "self.pointer", joined(now, arguments))
  end
end

make_all(FACTS, "now")
make_all(ORDERS, "")
make_all(QUESTIONS, "")
direct.owner_gone, filled.owner_gone, called.owner_gone = make("cueball_owner_gone", "", "owner")

core.STOPPING, core.STOPPED = tonumber(lib.CUEBALL_POOL_STOPPING), tonumber(lib.CUEBALL_POOL_STOPPED)
core.FAILED = tonumber(lib.CUEBALL_POOL_FAILED)

-- A struct that says how much of it is known here: all.
local function whole(type_name)
  local made = ffi.new(type_name)
  made.struct_size = ffi.sizeof(made)
  return made
end

local function rooms()
  return {
    grant = ffi.new "cueball_grant", action = ffi.new "cueball_action", event = ffi.new "cueball_event",
    numbers = whole "cueball_stats", info = whole "cueball_backend_info", spec = ffi.new "cueball_backend_spec",
    slot = whole "cueball_slot_info", foretold = whole "cueball_preview",
    owner = ffi.new "cueball_owner *[1]",
    calls = nil, -- by name, of who stands between, see core.between
    called = called,
  }
end

--- Makes a core.
-- @param options a cueball_options
-- @param seed    a number
-- @param now     nanoseconds, by the clock of the pool's host
-- @param is_set  whether its leases can be asked back: the core of a set
-- @return it; nil, message. Its fields are functions by the names above, and what the C functions write: grant, action, event, numbers,
--   info, slot, foretold, spec, owner[0], each until the next such call; and outlook, which is always up to date
function core.new(options, seed, now, is_set)
  local made = ffi.new "cueball_pool *[1]"
  local new = is_set and lib.cueball_set_new or lib.cueball_pool_new
  local result = new(options, lib.cueball_allocator_libc(), seed, now, made)
  if result < 0 then return nil, ffi.string(lib.cueball_error_message(result)) end
  local self = rooms()
  self.pointer, self.outlook = ffi.gc(made[0], lib.cueball_pool_free), lib.cueball_pool_outlook(made[0])
  for name, fn in pairs(direct) do self[name] = fn end
  return self
end

-- ------------------------------------------------------------ shared by threads --

-- The core of a pool that other threads claim from: each call stands between lock and unlock, which tells threads their answers.

local LOCKED = [[
local call, lock, unlock, leave = ...
return function(self%s)
  local shared = self.shared
  local pool = lock(shared)
  local result = call(%s)
  leave(self, pool, result)
  unlock(shared)
  return result
end, function(self, ...)
  local shared = self.shared
  local pool = lock(shared)
  local result = call(%s...)
  leave(self, pool, result)
  unlock(shared)
  return result
end
]]

local function copy_outlook(self, pool)
  ffi.copy(self.outlook, lib.cueball_pool_outlook(pool), ffi.sizeof "cueball_outlook")
end

-- There may be answers that the core knows nothing of any more.
local function copy_outlook_after(self, pool, was_there)
  copy_outlook(self, pool)
  if was_there then self.outlook.actions = self.outlook.actions + 1 end
end

-- Strings are the core's, and another thread's call may free them after the unlock.
local function copy_texts(self, told)
  if told.key == nil then return end
  local key, name, address = ffi.string(told.key), ffi.string(told.name), ffi.string(told.address)
  self.texts = { key, name, address } -- as long as `told` points to them
  told.key, told.name, told.address = key, name, address
end

local function copy_info(self) copy_texts(self, self.info) end
local function copy_spec(self) copy_texts(self, self.spec) end

-- What a call copies before the unlock, where it is not the outlook.
local LEAVES = { next_action = copy_outlook_after, backend_at = copy_info, backend_info = copy_info, backend_spec = copy_spec }

local shared_direct, shared_called = {}, {} -- by name

local function make_locked(name, c_name, pool, arguments)
  local source = LOCKED:format(parameters_of(arguments), joined(pool, arguments), pool == "" and "" or pool .. ", ")
  shared_direct[name], shared_called[name] = assert(loadstring(source, SOURCE))(lib[c_name], lib.cueball_threaded_lock,
    lib.cueball_threaded_unlock, LEAVES[name] or copy_outlook)
end

for list, now in pairs { [FACTS] = "now", [ORDERS] = "", [QUESTIONS] = "" } do
  for name, arguments in pairs(list) do make_locked(name, "cueball_pool_" .. name, "pool", joined(now, arguments)) end
end
make_locked("owner_gone", "cueball_owner_gone", "", "owner")
-- What threads have a part in.
make_locked("claim", "cueball_threaded_host_claim", "shared", "now, options, self.grant")
make_locked("time_advanced", "cueball_threaded_time_advanced", "shared", "now")
make_locked("next_action", "cueball_threaded_next_action", "shared", "self.action")
make_locked("deadline", "cueball_threaded_deadline", "shared", "")

-- What only such a core has, by name; docs/core.md has the C functions.
local shared_only = {
  opened_for_threads = function(self, now, conn, fd, pointer)
    return lib.cueball_threaded_conn_opened(self.shared, now, conn, fd, pointer)
  end,
  next_return = function(self) return lib.cueball_threaded_next_return(self.shared, self.returned) end,
  is_held = function(self, conn) return lib.cueball_threaded_is_held(self.shared, conn) end,
  watch_fd = function(self) return lib.cueball_threaded_watch_fd(self.shared) end,
  look = function(self, now) lib.cueball_threaded_look(self.shared, now) end,
  note = function(self, fault) lib.cueball_threaded_note(self.shared, fault) end,
  -- 0: self.holder has who has a lease; ESTALE: no thread has.
  holder_of = function(self, slot, lease) return lib.cueball_threaded_holder_of(self.shared, slot, lease, self.holder) end,
}

local function stopping() return tonumber(lib.CUEBALL_EPOOL_STOPPING) end
local function stale() return tonumber(lib.CUEBALL_ESTALE) end
local function nothing() return 0 end
local function no() return false end

-- What a core is asked when threads have it no more: it has stopped.
local AFTER = {
  claim = stopping, owner_new = stopping, owner_gone = nothing, watch = nothing, next_action = no, next_event = no,
  deadline = function() return ffi.new("uint64_t", -1) end,
  state_of = function() return core.STOPPED end,
  stats = function() end, -- the last numbers stay
  closed_by = function(self, cause) return self.closed[tonumber(cause)] end,
  refused_by = nothing, deaths_by = nothing,
  histogram = function(_, _, _, counts, count, sum)
    for index = 0, count - 1 do counts[index] = 0 end
    sum[0] = 0
    return 0
  end,
  explain = nothing, memory = nothing, backend_at = no, backend_info = stale, backend_spec = stale, check = function() return true end,
  slot_at = no, preview = stopping, paused_since = function() return 0xffffffffffffffffULL end,
}

-- How many connections were closed for which cause.
local function closed_by_all(self)
  local closed = setmetatable({}, { __index = nothing })
  for cause = 0, tonumber(lib.CUEBALL_CAUSE_LAST) do closed[cause] = self:closed_by(cause) end
  return closed
end

--- Makes a core that threads claim from.
-- @param given { name =, wake_fd =, inspects = } as of cueball_threaded_options
-- @return as core.new, and `shared`, a cueball_threaded; or nil, message. What is put between is not asked for what threads do
function core.new_shared(given, options, seed, now)
  local made = ffi.new "cueball_threaded *[1]"
  local how = ffi.new("cueball_threaded_options", { name = given.name, wake_fd = given.wake_fd, clocks = true, inspects = given.inspects })
  how.struct_size = ffi.sizeof(how)
  local result = lib.cueball_threaded_new(how, options, lib.cueball_allocator_libc(), seed, now, made)
  if result == lib.CUEBALL_EEXISTS then return nil, ("a pool of this process has the name '%s' already"):format(given.name) end
  if result < 0 then return nil, ffi.string(lib.cueball_error_message(result)) end
  local self = rooms()
  self.shared, self.called, self.texts = ffi.gc(made[0], lib.cueball_threaded_close), shared_called, nil
  self.outlook, self.returned, self.holder = ffi.new "cueball_outlook", ffi.new "cueball_return", whole "cueball_threaded_holder"
  for _, list in ipairs { shared_direct, shared_only } do
    for name, fn in pairs(list) do self[name] = fn end
  end
  self:state_of() -- fills in the outlook
  return self
end

--- Threads have no more of a core that has stopped; its last numbers stay.
function core.close_shared(self)
  self:stats()
  self.closed = closed_by_all(self)
  lib.cueball_threaded_close(ffi.gc(self.shared, nil))
  self.shared = nil
  for name in pairs(FACTS) do self[name] = stale end
  for name, fn in pairs(AFTER) do self[name] = fn end
  ffi.fill(self.outlook, ffi.sizeof "cueball_outlook")
end

--- Puts a function between one pool and its core; before those that were put there earlier.
-- @param fn function(name, call, ...), called in place of each function of the door, with its name and the arguments of the C function
--   but for the pool: the time comes first, where there is one. call(...) goes on to the core; what fn returns goes to who asked
-- @return function() that takes it out again, to be called in the reverse order
function core.between(self, fn)
  local calls_before, doors_before = self.calls, {}
  self.calls = {}
  for name, fill in pairs(filled) do
    doors_before[name] = self[name]
    local inner = calls_before and calls_before[name] or function(...) return self.called[name](self, ...) end
    local function call(...) return fn(name, inner, ...) end
    self.calls[name] = call
    self[name] = function(_, ...) return call(fill(self, ...)) end
  end
  return function()
    self.calls = calls_before
    for name, door in pairs(doors_before) do self[name] = door end
  end
end

--- Whether the function of this name tells the core a fact, with the time; "claim", "conn_opened" …
function core.is_fact(name)
  return FACTS[name] ~= nil
end

--- "starting", "running", "failed", "stopping" or "stopped".
function core.state_name(state)
  return ffi.string(lib.cueball_pool_state_name(state))
end

return core
