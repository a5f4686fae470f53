--- Pools that are published in this process, for Lua states in other threads than the one that performs them: luv's work threads, states of
-- an application that embeds LuaJIT.
--
--     local runtime = require "cueball.runtime"
--     local pool = assert(runtime.pool "db")
--     local lease = assert(pool:claim { timeout_ms = 50 })
--     -- … lease.fd or lease.pointer …
--     lease:release()
--
-- The happy path: the pool is found by its name, claims go to libcueball, which hands over a connection's descriptor or pointer. A claim
-- that has to wait blocks its thread; in a task of a host that polls descriptors it waits in a mailbox (cueball.runtime.mailbox), and the
-- loop goes on.
--
-- What can go wrong: another copy of libcueball knows other pools (cueball.runtime.copies).
local log = require "cueball.log"
local copies = require "cueball.runtime.copies"
local hosts = require "cueball.host"
local leases = require "cueball.runtime.lease"
local mailbox = require "cueball.runtime.mailbox"
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local options = require "cueball.options"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local runtime = {}

local Pool = {}
Pool.__index = Pool

-- A boolean for options.check.
local BOOLEAN = options.of_type("boolean", "true or false")

local CLAIM_RULES = { timeout_ms = options.TIMEOUT, error_on_empty = BOOLEAN, nonblocking = BOOLEAN }

local found = ffi.new "cueball_threaded *[1]"

--- Finds a pool that was published in this process.
-- @param name "db", or "runtime/db"
-- @return the pool; or nil, message, "not_found"
function runtime.pool(name)
  if type(name) ~= "string" then misuse.raise("runtime.pool: expected a pool's name, got " .. text.show(name)) end
  local result = lib.cueball_threaded_find(name, found)
  if result < 0 then
    local message, short = leases.failure(result)
    return nil, message .. copies.told(), short
  end
  local core = found[0]
  found[0] = nil
  local forgotten = { count = 0 } -- leases that were collected since that was told
  return setmetatable({
    core = ffi.gc(core, lib.cueball_threaded_drop), name = ffi.string(lib.cueball_threaded_name(core)),
    forgotten = forgotten, finalizer = leases.finalizer(core, forgotten),
  }, Pool)
end

-- The options of the claim that is made just now: the library reads them within the call.
local cdata = ffi.new "cueball_threaded_claim_options"

-- Where the claimer may wait without holding up its thread: the host of its task; or nil.
local function waiting_host()
  local host = hosts.loaded()
  return host and host.poll and host.can_wait() and host or nil
end

-- @param given the options of pool:claim, or nil
-- @param waits_in the host that the claim may wait in, or nil
local function read_options(given, waits_in)
  given = options.check("pool:claim", given, CLAIM_RULES)
  local timeout = given.timeout_ms
  cdata.struct_size = ffi.sizeof(cdata)
  cdata.timeout_ms = timeout == nil and 0 or timeout == false and math.huge or timeout > 0 and timeout or lib.CUEBALL_NO_WAIT
  cdata.error_on_empty = given.error_on_empty or false
  -- Whoever waits in a loop is to wait for answers in it, too.
  if given.nonblocking == nil then cdata.nonblocking = waits_in ~= nil else cdata.nonblocking = given.nonblocking end
  -- Lua states and their tasks may go from thread to thread: a lease ends with what knows it, not with a thread.
  cdata.detached, cdata.user = true, 0
end

-- Leases that nobody released are told of by the next claim: a finalizer may run anywhere.
local function tell_forgotten(self)
  local count = self.forgotten.count
  if count == 0 then return end
  self.forgotten.count = 0
  local name, line = text.message(self.name), ("%d lease%s collected without having been released; closed"):format(count,
    count == 1 and " was" or "s were")
  local host = hosts.loaded()
  if host then return log.say(host, "error", line, "lease_collected", { pool = name, count = count }) end
  io.stderr:write(("cueball %s: %s\n"):format(name, line))
end

--- Claims a connection; waits for one if none is idle: in a task of a host that polls descriptors (libuv) the loop goes on, elsewhere the
-- thread is blocked.
-- @param given nil, or a table:
--   timeout_ms      total wait, 0 to 86400000; 0: do not wait; false: for ever; the pool's claim_timeout_ms by default
--   error_on_empty  do not wait while no backend is known
--   nonblocking     whether the descriptor is to be one that does not block; by default it is one in such a task, and not elsewhere
-- @return a lease; or nil, message, name: "claim_timeout", "overloaded", "no_backends", "pool_failed", "pool_stopping", "unsupported" (the
--   connection cannot be handed to other threads), "forked", "no_memory"
function Pool:claim(given)
  local host = waiting_host()
  read_options(given, host)
  if self.forgotten.count > 0 then tell_forgotten(self) end
  local lease, is_nonblocking = leases.new(self), cdata.nonblocking
  local result, message, name
  if host then
    result, message, name = mailbox.claim(host, self, cdata, lease)
  else
    result = lib.cueball_threaded_claim_with(self.core, cdata, lease.raw)
  end
  if result == 0 then return leases.begun(lease, is_nonblocking) end
  leases.drop(lease)
  if not message then message, name = leases.failure(result) end
  return nil, message, name
end

local AT_ONCE = { timeout_ms = 0 }

--- Claims a connection if one is idle.
-- @return a lease; or nil, message, name as pool:claim
function Pool:try_claim()
  local lease, message, name = self:claim(AT_ONCE)
  return lease, message, name
end

local function finish(lease, ok, ...)
  if not ok then
    lease:close()
    error((...), 0)
  end
  if lease.pool then lease:release() end
  return ...
end

--- Claims a connection, calls fn(lease), and releases it. If fn throws, or its task is killed, the connection is closed, as nobody knows
-- its state; an error goes on to the caller.
-- @param fn
-- @param given options as for pool:claim
-- @return what fn returned; or nil, message, name as pool:claim
function Pool:with(fn, given)
  if type(fn) ~= "function" then misuse.raise("pool:with: expected a function, got " .. text.show(fn)) end
  local lease, message, name = self:claim(given)
  if not lease then return nil, message, name end
  local host = waiting_host()
  if not host then return finish(lease, pcall(fn, lease)) end
  return leases.guarded(host, lease, function() return finish(lease, pcall(fn, lease)) end)
end

local state_name = lib.cueball_pool_state_name

--- "starting", "running", "failed", "stopping" or "stopped".
function Pool:state()
  return ffi.string(state_name(lib.cueball_threaded_state(self.core)))
end

local numbers = ffi.new "cueball_stats"
local NO_NUMBERS = { [""] = true, struct_size = true, reserved = true }
local MEMBERS = {}
for _, one in ipairs(native.layout) do
  if one.type == "cueball_stats" and not NO_NUMBERS[one.member] then MEMBERS[#MEMBERS + 1] = one.member end
end

--- Numbers, in one flat table, as docs/lua.md lists them for pools: those of the core.
function Pool:stats()
  numbers.struct_size = ffi.sizeof(numbers)
  lib.cueball_threaded_stats(self.core, numbers)
  local list = {}
  for _, member in ipairs(MEMBERS) do list[member] = tonumber(numbers[member]) end
  return list
end

local WAIT = options.number(0, 86400000, "milliseconds")
local PAUSE_RULES = { wait_ms = WAIT }
local BACKEND_RULES = { backend = options.of_type("string", "the key of a backend") }
local LOOK_MS = 2 -- how often a task that waits looks whether leases are out

-- @return true; or nil, message, name
local function told(result)
  if result >= 0 then return true end
  return nil, leases.failure(result)
end

-- Waits in a task, whose loop goes on.
local function await_leases(self, host, wait_ms)
  local deadline = host.now() + wait_ms * 1e6
  while self:stats().busy > 0 do
    if host.now() >= deadline then return lib.CUEBALL_WAITING end
    host.sleep(LOOK_MS)
  end
  return 0
end

--- Grants no claim until pool:resume(), as of a pool: docs/lua.md.
-- @param given nil, or { wait_ms = } : wait until no lease is out, so long at most
-- @return true; or nil, message, name: "timeout" (leases are out yet; the pool is paused all the same), "pool_stopping"
function Pool:pause(given)
  local wait_ms = options.check("pool:pause", given, PAUSE_RULES).wait_ms or 0
  local host = waiting_host()
  local result = lib.cueball_threaded_pause(self.core, host and 0 or wait_ms)
  if host and result == 0 and wait_ms > 0 then result = await_leases(self, host, wait_ms) end
  if result ~= lib.CUEBALL_WAITING then return told(result) end
  return nil, ("paused, but leases are out after %.6g ms"):format(wait_ms), "timeout"
end

--- Claims are granted again.
-- @return true; or nil, message, "pool_stopping"
function Pool:resume()
  return told(lib.cueball_threaded_resume(self.core))
end

local function of_backend(self, what, call, given)
  local key = options.check(what, given, BACKEND_RULES).backend
  if not key then misuse.raise(what .. ": option 'backend' is required: the key of a backend") end
  return told(call(self.core, key))
end

--- A backend has no connection until pool:restore, as of a pool: docs/lua.md.
-- @return true; or nil, message, name: "not_found", "pool_stopping"
function Pool:drain(given)
  return of_backend(self, "pool:drain", lib.cueball_threaded_drain, given)
end

--- The backend is used again.
-- @return true; or nil, message, name: "not_found", "pool_stopping"
function Pool:restore(given)
  return of_backend(self, "pool:restore", lib.cueball_threaded_restore, given)
end

local TEXT_SIZE = 4096
local words = ffi.new("char[?]", TEXT_SIZE)

--- State, numbers and backends with their faults, in words.
-- @return a string; or nil, message, "forked"
function Pool:explain()
  local result = lib.cueball_threaded_explain(self.core, words, TEXT_SIZE)
  if result < 0 then return nil, ffi.string(lib.cueball_last_error()), ffi.string(lib.cueball_error_name(result)) end
  return ffi.string(words)
end

function Pool:__tostring()
  return ("cueball.runtime.pool (%s, %s)"):format(self.name, self:state())
end

misuse.guard(Pool, "pool", { "claim", "try_claim", "with", "state", "stats", "explain", "pause", "resume", "drain", "restore" })

return runtime
