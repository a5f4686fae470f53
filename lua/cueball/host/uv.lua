--- The host on libuv, through luv: for plain LuaJIT programs and Neovim.
--
-- One host per process, on luv's loop.  It runs inside host.run(fn), or while
-- the program that embeds it runs the loop itself (uv.run(), Neovim).
--
-- What keeps the loop alive: tasks that are ready or wait with a time limit,
-- and open sockets.  Alarms do not: a pool with nothing but a check in 30
-- seconds lets a plain uv.run() return.  Inside host.run they count, because
-- what an alarm does may be what fn waits for.
--
-- Log lines go to stderr, from the level in CUEBALL_LOG on (debug, info, warn,
-- error or none; info if it is not set).  host.log_to(fn) sends them elsewhere.
local form = require "cueball.log.form"
local log = require "cueball.log"
local ffi = require "cueball.luajit"
local contract = require "cueball.host.contract"
local datagram = require "cueball.cosocket.datagram"
local datagrams = require "cueball.host.uv.datagram"
local dns = require "cueball.host.uv.dns"
local listener = require "cueball.host.uv.listener"
local poll = require "cueball.host.uv.poll"
local polled_of = require "cueball.host.uv.polled"
local signal = require "cueball.host.uv.signal"
local alarms_of = require "cueball.host.alarms"
local socket = require "cueball.cosocket.socket"
local stderr = require "cueball.log.stderr"
local task = require "cueball.host.task"
local text = require "cueball.text"
local transport = require "cueball.host.uv.transport"
local versions = require "cueball.host.uv.versions"

local INSTALL = "cueball.host.uv needs luv (libuv for Lua), which could not be loaded. "
  .. "Install it with `apt install lua-luv` or `luarocks install luv`."
local LEVELS = { debug = 1, info = 2, warn = 3, error = 4, none = 5 }
local TIMER_MS_MAX = 0x7fffffff   -- a later deadline is armed for again when this one comes

local vim = rawget(_G, "vim")

local function load_luv()
  if vim and (vim.uv or vim.loop) then return vim.uv or vim.loop end
  local ok, luv = pcall(require, "luv")
  if ok then return luv end
  -- A luv that is there and does not load says why; one that is not, only where it was sought.
  local why = luv:find("module 'luv' not found", 1, true) and "" or "\n" .. luv
  error(INSTALL .. why, 0)
end

-- libuv writes to a connection that the peer has reset with write(2), and the
-- signal for that ends a process by default.  A handler that the program set stays.
local function ignore_sigpipe()
  if jit.os == "Windows" then return end
  ffi.cdef [[void *cueball_uv_signal(int number, void *handler) __asm__("signal");]]
  local SIGPIPE, SIG_IGN = 13, ffi.cast("void *", 1)
  local before = ffi.C.cueball_uv_signal(SIGPIPE, SIG_IGN)
  if before ~= nil and before ~= SIG_IGN then ffi.C.cueball_uv_signal(SIGPIPE, before) end
end

local uv = load_luv()
-- luv keeps its loop in its module's table alone: once package.loaded was emptied and the table collected, the loop is
-- freed memory that the next require of luv goes on using.  So the table stays as long as the Lua state.
debug.getregistry()["cueball.luv"] = uv
ignore_sigpipe()
local lib = require("cueball.native").lib
local host = { name = "uv" }

--- Nanoseconds, monotonic.
function host.now()
  return tonumber(lib.cueball_clock_now())
end
local now = host.now

--- Seconds since 1970, with microseconds.
function host.time_s()
  local seconds, microseconds = uv.gettimeofday()
  return seconds + microseconds / 1e6
end

--- A whole number from 0 to 2^53-1 from the system's random source.
function host.seed()
  local seed = 0
  for _, byte in ipairs { uv.random(7):byte(1, 7) } do seed = seed * 256 + byte end
  return seed % 2 ^ 53
end

local function log_level()
  local name = os.getenv("CUEBALL_LOG") or "info"
  local level = LEVELS[name]
  if not level then
    error(("CUEBALL_LOG must be debug, info, warn, error or none, got %q"):format(name), 0)
  end
  return level
end

local level_min = log_level()

local function log_to_stderr(level, message)
  if LEVELS[level] < level_min then return end
  stderr.write(("%s %s %s"):format(form.time(host.time_s()), level, message))
end

--- One line to wherever the program wants it.
-- @param level "debug", "info", "warn" or "error"
-- @param message string
host.log = log_to_stderr

--- Sends log lines to fn(level, message), all levels; nil: to stderr again.
function host.log_to(fn)
  host.log = fn or log_to_stderr
end

local function start_timer(timer, at, fn)
  if not at then return timer:stop() end
  uv.update_time()   -- libuv counts from the time it has cached
  local ms = math.ceil((at - now()) / 1e6)
  timer:start(math.max(0, math.min(ms, TIMER_MS_MAX)), 0, fn)
end

-- Tasks -----------------------------------------------------------------

local turn_handle, wait_timer, alarm_timer = uv.new_idle(), uv.new_timer(), uv.new_timer()
alarm_timer:unref()

local tasks
local polled = polled_of.new(uv)

local function run_turn()
  turn_handle:stop()
  tasks:run_ready()
end

local function expire()
  tasks:run_expired()
end

local function run_expired()
  polled:call(expire, true)
end

tasks = task.new {
  now = now,
  -- An active idle handle keeps libuv from sleeping, and runs before it polls.
  turn = function() turn_handle:start(run_turn) end,
  timer = function(at) start_timer(wait_timer, at, run_expired) end,
  log = function(level, message) log.say(host, level, message, "task_threw") end,
  is_prompt = not vim,   -- a task there may run the loop itself (vim.wait)
}
host.tasks = tasks
-- As the Lua state is closed, what is under way comes back cancelled when luv has freed timers and other handles already. LuaJIT finalizes
-- cdata before that.
host.last_word = ffi.gc(ffi.new "char[1]", function() tasks:close() end)
tasks:install(host)

-- How often the loop has begun to look what came, and how often, and when, it was through with that: whether what it knows of a
-- connection is news (cueball.cosocket.idle).
local polls, prepare_handle, check_handle = { begun = 0, done = 0, done_at = 0 }, uv.new_prepare(), uv.new_check()
tasks.polls = polls
prepare_handle:start(function()
  polls.begun = polls.begun + 1
  tasks.timers:settle()
end)
check_handle:start(function() polls.done, polls.done_at = polls.begun, now() end)
prepare_handle:unref()
check_handle:unref()
signal.install(host, uv)
poll.install(host, uv)
listener.install(host, uv)
versions.install(host, uv, lib)

function host.tcp()
  return socket.new(host, transport.new(uv, tasks))
end

--- A socket over a connected descriptor that stays somebody else's: docs/hosts.md.
-- @return socket; or nil, message
function host.borrow(fd)
  local over, message = transport.over(uv, tasks, fd)
  if not over then return nil, message end
  return socket.opened(host, over)
end

--- A socket for datagrams: docs/hosts.md.
function host.udp()
  return datagram.new(host, datagrams.new(uv, tasks))
end

--- Is it a socket of this host?
host.is_socket = socket.is

--- Questions to nameservers: docs/hosts.md.
host.dns = dns.new(uv, host, polled)

-- Alarms ----------------------------------------------------------------

local alarms
local is_running = false

local function go_off()
  alarms:run()
end

local function run_alarms()
  polled:call(go_off, is_running)
end

alarms = alarms_of.new {
  now = now,
  arm = function(at) start_timer(alarm_timer, at, run_alarms) end,
  call = function(fn) tasks:call(fn) end,
}

--- One re-armable deadline.
-- @param fn called when it comes, outside of any task; an error in it is logged
function host.alarm(fn)
  return alarms:make(fn)
end

-- Running ---------------------------------------------------------------

local function pack(...)
  return { count = select("#", ...), ... }
end

-- One round of the loop. → false if nothing is left that could happen
local function run_once(result)
  if vim and vim.wait then   -- Neovim runs the loop itself
    vim.wait(1000, function() return result.values ~= nil end, 1)
    return true
  end
  return uv.run("once")
end

local function run_until(main, result)
  while not result.values do
    local is_alive = run_once(result)
    if not result.values then
      if main.is_done then return "run: its task was killed" end
      if not is_alive then return "run: every task waits and nothing can wake them" end
    end
  end
end

--- Runs the loop until fn is done.  Other tasks that are left stay where they are.
-- @return what fn returned; an error in it is raised here, with its traceback
function host.run(fn, ...)
  if tasks.running then return fn(...) end
  if is_running then error("run: the loop runs already; use host.spawn", 2) end
  local result = {}
  local main = tasks:spawn(function(...)
    result.values = pack(xpcall(fn, text.traced, ...))
  end, ...)
  is_running = true
  alarm_timer:ref()
  local ok, message = pcall(run_until, main, result)
  if message then tasks:kill(main) end
  -- What was closed last is closing still, and luv before 1.45 crashes if the
  -- Lua state is closed then (luvit/luv#599): give the loop one more round.
  if not (vim and vim.wait) then uv.run "nowait" end
  alarm_timer:unref()
  is_running = false
  if message then error(message, ok and 2 or 0) end
  local values = result.values
  if not values[1] then error(values[2], 0) end
  return unpack(values, 2, values.count)
end

--- What changes how luv calls callbacks, which ends the program when one throws (src/runtime/callback.c). Not every luv has it.
-- @return a lua_CFunction, which is not for Lua to call; or nil
function host.callback_setter()
  local path = package.searchpath("luv", package.cpath)
  return path and package.loadlib(path, "luv_set_callback") or nil
end

return contract.complete(host)
