--- The host for OpenResty: nginx with ngx_lua. One per worker.
--
-- Tasks run in timers of their own and not in the request that began them, so they begin soon rather than at once, and sockets they
-- make are not the request's. See cueball.nginx.runner.
--
-- A socket belongs to the request, or task, that made it, and to no other: what crosses from one to the next is nginx's keepalive
-- pool. So a host of this kind has `keepalive`, and pools park their connections (cueball.nginx.parking).
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local ffi = require "ffi"
local base = require "resty.core.base"
base.allows_subsystem "http"
local contract = require "cueball.host.contract"
local semaphore = require "ngx.semaphore"
local lib = require("cueball.native").lib
local request = require "cueball.nginx.request"
local runner = require "cueball.nginx.runner"
local keepalive = require "cueball.nginx.keepalive"
local socket = require "cueball.nginx.socket"

if not pcall(function() return ffi.C.cueball_ngx_setenv end) then -- declarations outlive the module
  ffi.cdef [[int cueball_ngx_setenv(const char *name, const char *value, int replaces) __asm__("setenv");]]
end

local host = { name = "ngx" }

local CAN_WAIT = request.CAN_WAIT
local ADDRESS = ffi.typeof "uintptr_t"
local tonumber, cast, known, get_phase = tonumber, ffi.cast, request.known, ngx.get_phase

local LEVELS = { debug = ngx.DEBUG, info = ngx.INFO, warn = ngx.WARN, error = ngx.ERR }

--- Nanoseconds, monotonic.
function host.now()
  return (tonumber(lib.cueball_clock_now())) -- in brackets: LuaJIT gives up on code that ends with a call of such a function
end
local now = host.now

--- Seconds since 1970, as nginx has them: with milliseconds.
host.time_s = ngx.now

--- A whole number from 0 to 2^53-1 from the system's random source.
function host.seed()
  local file = assert(io.open("/dev/urandom", "rb"))
  local seed = 0
  for _, byte in ipairs { file:read(7):byte(1, 7) } do seed = seed * 256 + byte end
  file:close()
  return seed % 2 ^ 53
end

local function log_to_nginx(level, message)
  ngx.log(LEVELS[level], message)
end

--- One line in nginx's error log, as far as error_log's level lets it through.
-- @param level "debug", "info", "warn" or "error"
-- @param message string
host.log = log_to_nginx

--- Sends log lines to fn(level, message), all levels; nil: to nginx's error log again.
function host.log_to(fn)
  host.log = fn or log_to_nginx
end

runner.log = function(level, message, event) log.say(host, level, message, event) end
function request.complain(message) log.say(host, "error", message, "task_threw") end

-- Tasks -----------------------------------------------------------------

-- What host.current() returns in a request's own code, which can wait, and cannot be killed.
local REQUEST = setmetatable({}, { __tostring = function() return "a request" end })

--- The task that runs now; a request's or a user's timer's own code counts as one. nil where nothing may wait (log_by_lua,
-- init_worker_by_lua …).
function host.current()
  if not CAN_WAIT[get_phase()] then return nil end
  return runner.task(request.known()) or REQUEST
end

-- LuaJIT does not compile coroutine.running. What ngx_lua keeps with each coroutine is another for each that lives, as well.
local has_threads, thread_data = pcall(require, "thread.exdata2")

--- Who claims: a request's light thread, or a task's, as a number where LuaJIT has a word for it. host.current() is the same for all
-- requests.
host.claimer = coroutine.running
if has_threads then
  function host.claimer() return (tonumber(cast(ADDRESS, thread_data()))) end
end

--- The task that runs now if host.kill could end it, else nil. What a request's own code holds is seen to when the request ends.
function host.task()
  local record = known()
  if record and record.runner then return runner.task(record) end
  return nil
end

--- Runs fn(...) in a task of its own, soon, in a timer: never in the request that calls this.
-- @return the task
function host.spawn(fn, ...)
  return runner.spawn("task", fn, ...)
end

--- As spawn, for a task that is over soon and may be begun anew from its start: if no timer can be had, requests that wait run it.
-- @return the task
function host.errand(fn, ...)
  return runner.spawn("errand", fn, ...)
end

--- As spawn, for a task that goes on and may be begun anew from its start: if no timer can be had, requests that wait run it meanwhile.
-- @return the task
function host.service(fn, ...)
  return runner.spawn("service", fn, ...)
end

function host.kill(task)
  if task == REQUEST then misuse.raise "kill: a request cannot be killed" end
  runner.kill(task)
end

local function must_wait(who)
  if not CAN_WAIT[get_phase()] then
    misuse.raise(("%s: nothing may wait in %s_by_lua"):format(who, get_phase()))
  end
  return host.task()
end

--- Waits, for 1 ms at least: nginx counts in those.
-- @return true
function host.sleep(ms)
  if type(ms) ~= "number" or ms ~= ms or ms < 0 then
    misuse.raise("sleep: expected a number of milliseconds from 0, got " .. tostring(ms))
  end
  local task = must_wait "sleep"
  runner.stay_if_killed(task)
  ngx.sleep(math.max(1, ms) / 1000)
  runner.stay_if_killed(task)
  return true
end

--- resource:abort() is called if the task is killed, or the request ends, before unguard. A request's end is told within a second.
function host.guard(resource)
  local task = host.task()
  if task then return runner.own(task, resource) end
  request.guard(resource)
end

function host.unguard(resource)
  local task = host.task()
  if task then return runner.disown(task, resource) end
  request.unguard(resource)
end

-- Waiters ---------------------------------------------------------------

local Waiter = {}
Waiter.__index = Waiter

-- Fields that are empty at first are false: LuaJIT makes no room for those that are nil.
function host.waiter()
  return (setmetatable({
    is_woken = false, count = 0, first = false, second = false, third = false, all = false, -- what wake was given
    semaphore = false, sleepers = 0,
  }, Waiter))
end

function Waiter:wake(...)
  if self.is_woken then return end
  self.is_woken, self.count = true, select("#", ...)
  self.first, self.second, self.third = ...
  if self.count > 3 then self.all = { ... } end
  if self.semaphore then self.semaphore:post(1) end
end

-- What wake was given.
local function values_of(self)
  local count = self.count
  if count == 1 then return self.first end
  if count == 3 then return self.first, self.second, self.third end
  if count == 0 then return end
  if count == 2 then return self.first, self.second end
  return unpack(self.all, 1, count)
end

-- Semaphores that nobody waits for: each needs memory of nginx's, and a finalizer.
local semaphores, SEMAPHORES_MAX = {}, 1000

local function begin_sleep(self)
  self.semaphore = self.semaphore or table.remove(semaphores) or semaphore.new()
  self.sleepers = self.sleepers + 1
end

-- A semaphore that was posted for nobody is not used again, nor is that of a killed light thread, which does not come here.
local function end_sleep(self)
  local used = self.semaphore
  self.sleepers = self.sleepers - 1
  if self.sleepers > 0 then return end
  self.semaphore = false
  if #semaphores < SEMAPHORES_MAX and used:count() == 0 then semaphores[#semaphores + 1] = used end
end

local HOUR_NS = 3600e9

-- Until woken, or the time has come.
local function wait_in_task(self, task, deadline)
  while not self.is_woken do
    local left = math.min(deadline - now(), HOUR_NS)
    if left <= 0 then return end
    self.semaphore:wait(math.max(0.001, left / 1e9))
    runner.stay_if_killed(task)
  end
end

-- Ends the present sleep of a waiter, and not its wait.
function Waiter:look()
  if self.semaphore and not self.is_woken then self.semaphore:post(1) end
end

-- Waits in a request, until woken or the time has come. A request must not depend on a timer runner: it does what one would do.
local function wait_in_request(self, deadline)
  local helper
  runner.wait_begins(self)
  while not self.is_woken do
    local time = now()
    if time >= deadline then break end
    local left = math.min(deadline, runner.sleep_until(self, time)) - time
    if left > 0 then self.semaphore:wait(math.max(0.001, left / 1e9)) end
    if not self.is_woken then helper = runner.help(self, helper) end
  end
  runner.wait_ends(self)
  if helper then runner.stop_helping(helper) end
end

--- Parks the task until wake.
-- @param timeout_ms nil: no limit
-- @return what wake was given; nil, "timeout"
function Waiter:wait(timeout_ms)
  local task = must_wait "wait"
  runner.stay_if_killed(task)
  if not self.is_woken then
    begin_sleep(self)
    local deadline = timeout_ms and now() + timeout_ms * 1e6 or math.huge
    if task then wait_in_task(self, task, deadline) else wait_in_request(self, deadline) end
    end_sleep(self)
  end
  if not self.is_woken then return nil, "timeout" end
  return values_of(self)
end

host.alarm = runner.alarm

-- Sockets ---------------------------------------------------------------

-- nginx wants IPv6 addresses in brackets; and a factory that hands context.socket_options to connect means context.connect.
local function connect(self, ...)
  self.connect = nil -- nginx's own
  local to, _, options = ...
  local context = type(options) == "table" and options.context
  local ok, message
  if context and to ~= "" then
    ok, message = context.connect(self)
    ok = ok and 1
  elseif type(to) == "string" then
    ok, message = self:connect(keepalive.host_of(to), select(2, ...))
  else
    ok, message = self:connect(...)
  end
  self.connect = connect -- the socket may be connected anew
  return ok, message
end

--- A cosocket. It belongs to the request or task that calls this.
function host.tcp()
  local made = ngx.socket.tcp()
  made.connect = connect
  return made
end

--- A cosocket with its time limits, for those who give connect what it wants: faster than tcp() and settimeouts.
-- @param connect_ms, send_ms, read_ms whole numbers
host.limited_tcp = socket.limited

--- Is it a socket of this host, parked or not?
host.is_socket = socket.is

--- What nginx's keepalive pools do with connections, for cueball.nginx.parking.
host.keepalive = {
  --- party(core, ended): those who claim from one pool; what ends theirs when their requests end
  party = request.party,
  --- take(client, context) → true if something fit was parked; open(client, backend, context) → "new"; or nil, message
  take = keepalive.take, open = keepalive.open,
  --- limit(client, ms): of connecting; is_in_use(socket_options), is_known(socket_options) → is something out, or parked, under that name?
  limit = keepalive.limit, is_in_use = keepalive.is_in_use, is_known = keepalive.is_known,
  --- discard(socket_options): closes what is parked under that name → true if nothing was, and the name is to be used again
  discard = keepalive.discard,
  --- track(socket, known, number) → known: from now on the socket remembers; untrack(socket); not_parked(known, message) → message, kind
  track = socket.track, untrack = socket.untrack, not_parked = socket.not_parked,
  --- park(socket): untrack and setkeepalive(0), in the request that took it: request() → a number, which no other that lives has
  park = socket.park, request = request.number,
  --- is_fit(socket): of a tracked one, in short
  is_fit = socket.is_fit,
}

-- Running ---------------------------------------------------------------

--- Calls fn: nginx runs the loop.
function host.run(fn, ...)
  if not CAN_WAIT[get_phase()] then
    misuse.raise(("run: nothing may wait in %s_by_lua; use cueball.spawn"):format(ngx.get_phase()))
  end
  return fn(...)
end

-- lua_code_cache off -----------------------------------------------------

-- With it, nginx makes a Lua state for each request, and pools with it. The worker's environment tells whether there was one before.
local STATE = "CUEBALL_NGX_STATE"

local function is_first_state()
  local worker, state = tostring(ngx.worker.pid()), tostring(debug.getregistry())
  local found_worker, found_state = (os.getenv(STATE) or ""):match "^(%d+) (.*)$"
  if found_worker == worker then return found_state == state end
  ffi.C.cueball_ngx_setenv(STATE, worker .. " " .. state, 1)
  return true
end

-- What is made in the state of a request ends with the request.
local function live_as_long_as_the_request()
  local record = request.record()
  runner.has_to_end = function() return not record or request.is_over(record) end
  log.say(host, "warn", "lua_code_cache is off, so this request makes pools of its own, and their connections are closed with it. "
    .. "This is for development: it is slow, and the limits of a pool hold for one request only.", "code_cache_off")
end

--- Where workers are still to be forked nothing can be begun.
function host.is_forking()
  return ngx.get_phase() == "init"
end

if not host.is_forking() then
  if not is_first_state() then live_as_long_as_the_request() end
  runner.ensure()
end

return contract.complete(host, require "cueball.nginx.lazy")
