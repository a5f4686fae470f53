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
}

-- What changes the core too, and has no time.
local ORDERS = {
  owner_new = "self.owner", watch = "mask, capacity", next_action = "self.action", next_event = "self.event", deadline = "",
}

-- What changes nothing.
local QUESTIONS = {
  state_of = "", stats = "self.numbers", closed_by = "cause", explain = "begun, ended, waits, count", memory = "",
  backend_at = "index, self.info", backend_info = "backend, self.info", backend_spec = "backend, self.spec", check = "text, size",
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

-- → the function of the door; what fills in its arguments; and what calls the C function with them
local function make(c_name, pool, arguments)
  local parameters = {}
  for name in arguments:gmatch "[%w_.]+" do
    if not name:find "^self%." then parameters[#parameters + 1] = ", " .. name end
  end
  local taken = table.concat(parameters)
  local source = FUNCTION:format(taken, joined(pool, arguments), taken, arguments, pool == "" and "" or pool .. ", ")
  return assert(loadstring(source, debug.getinfo(1, "S").source))(lib[c_name])
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

--- Makes a core.
-- @param options a cueball_options
-- @param seed    a number
-- @param now     nanoseconds, by the clock of the pool's host
-- @param is_set  whether its leases can be asked back: the core of a set
-- @return it; nil, message. Its fields are functions by the names above, and what the C functions write: grant, action, event, numbers,
--   info, spec, owner[0], each until the next such call; and outlook, which is always up to date
function core.new(options, seed, now, is_set)
  local made = ffi.new "cueball_pool *[1]"
  local new = is_set and lib.cueball_set_new or lib.cueball_pool_new
  local result = new(options, lib.cueball_allocator_libc(), seed, now, made)
  if result < 0 then return nil, ffi.string(lib.cueball_error_message(result)) end
  local self = {
    pointer = ffi.gc(made[0], lib.cueball_pool_free), outlook = lib.cueball_pool_outlook(made[0]),
    grant = ffi.new "cueball_grant", action = ffi.new "cueball_action", event = ffi.new "cueball_event",
    numbers = ffi.new "cueball_stats", info = ffi.new "cueball_backend_info", spec = ffi.new "cueball_backend_spec",
    owner = ffi.new "cueball_owner *[1]",
    calls = nil, -- by name, of who stands between, see core.between
  }
  for name, fn in pairs(direct) do self[name] = fn end
  return self
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
    local inner = calls_before and calls_before[name] or function(...) return called[name](self, ...) end
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
