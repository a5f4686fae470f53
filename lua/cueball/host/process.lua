--- What a process knows of itself, and of other processes of the machine; the `host.workers` of hosts with one process, which share
-- nothing. Where several workers serve together, the host brings its own, made of this (cueball.nginx.server). docs/hosts.md has the list.
local ffi = require "ffi"
local text_of_file = require("cueball.file").text

-- Declarations outlive the module; it may be loaded again.
pcall(ffi.cdef, [[
  int cueball_process_kill(int pid, int signal) __asm__("kill");
  int cueball_process_getpid(void) __asm__("getpid");
  unsigned int cueball_process_geteuid(void) __asm__("geteuid");
]])

local ESRCH = 3

local process = {}

-- proc(5): the name in parentheses may have any bytes; the state is field 3, the time at which the process began field 22.
local function status(pid)
  local text = text_of_file("/proc/" .. pid .. "/stat")
  if not text then return nil end
  local number, rest = text:match "^(%d+) .*%) (.*)$"
  if not number then return nil end
  local fields = {}
  for field in rest:gmatch "%S+" do fields[#fields + 1] = field end
  return number, fields[1], fields[20]
end

--- A name of this process that no other ever has.
-- @return "PID.START"; START is 0 where there is no /proc
function process.name()
  local pid, _, start = status "self"
  if pid then return pid .. "." .. start end
  return process.pid() .. ".0"
end

local TICKS_PER_S = 100 -- USER_HZ: what proc(5) counts in, on every Linux that LuaJIT runs on
local loaded_at = os.time()

--- For how long this process has run, in seconds; where there is no /proc, since this module was loaded.
function process.age_s()
  local pid, _, start = status "self"
  local up = pid and (text_of_file "/proc/uptime" or ""):match "^[%d.]+"
  if not up then return os.time() - loaded_at end
  return math.max(0, tonumber(up) - tonumber(start) / TICKS_PER_S)
end

--- Could it be what process.name() returns somewhere?
function process.is_name(text)
  return text:find "^%d+%.%d+$" ~= nil
end

-- Not even a signal could be sent there.
local function is_gone(pid)
  return ffi.C.cueball_process_kill(tonumber(pid), 0) ~= 0 and ffi.errno() == ESRCH
end

--- Does the process of that name still live? What is over but not yet waited for by its parent does not: its sockets are closed.
-- @return true or false; nil if that cannot be told
function process.is_alive(name)
  local pid, start = name:match "^(%d+)%.(%d+)$"
  if not pid then return nil end
  local _, state, began = status(pid)
  if state then return began == start and state ~= "Z" and state ~= "X" end
  if is_gone(pid) then return false end
  -- There is a process of that number. A process may be hidden in /proc (hidepid); then it is taken for the one that had the name.
  return status "self" and true or nil
end

--- The number of this process in the system. Another process may have it later.
function process.pid()
  return ffi.C.cueball_process_getpid()
end

--- The number of the user as whom this process acts.
function process.uid()
  return ffi.C.cueball_process_geteuid()
end

--- The number of this process among the workers, from 0; nil: it is no worker.
function process.number()
  return nil
end

--- How many workers there are to be.
function process.count()
  return 1
end

--- Is this worker about to end? It takes no new requests then, and finishes those it has.
function process.is_exiting()
  return false
end

--- fn() is called when this worker begins to exit: later alarms do not go off. Where nobody says so, it never is.
function process.on_exit() end

--- Seconds since 1970, on one clock for all workers.
function process.time_s()
  return os.time()
end

--- Do workers share memory?
process.is_shared = false

--- The memory of that name which all workers share.
-- @return it: get, set, add, delete and so on as ngx.shared.DICT has them; nil, message: there is none
function process.dict(name)
  return nil, ("this host shares no memory, and has no %q"):format(name)
end

--- Opens that memory for something in which workers take part (docs/hosts.md, workers.open).
-- @return the memory; nil, message: there is none
function process.open(_, name)
  return process.dict(name)
end

return process
