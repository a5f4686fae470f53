--- What a worker knows of the server it belongs to: memory shared with the other workers, and which of their processes still live.
-- A host may bring its own, as `host.workers`.
local ffi = require "ffi"

-- Declarations outlive the module; it may be loaded again.
pcall(ffi.cdef, [[
  int cueball_workers_kill(int pid, int signal) __asm__("kill");
  int cueball_workers_getpid(void) __asm__("getpid");
]])

local ESRCH = 3

local workers = {}

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

-- proc(5): the name in parentheses may have any bytes; the state is field 3, the time at which the process began field 22.
local function status(pid)
  local text = read("/proc/" .. pid .. "/stat")
  if not text then return nil end
  local number, rest = text:match "^(%d+) .*%) (.*)$"
  if not number then return nil end
  local fields = {}
  for field in rest:gmatch "%S+" do fields[#fields + 1] = field end
  return number, fields[1], fields[20]
end

--- A name of this process that no other ever has.
-- @return "PID.START"; START is 0 where there is no /proc
function workers.id()
  local pid, _, start = status "self"
  if pid then return pid .. "." .. start end
  return ffi.C.cueball_workers_getpid() .. ".0"
end

--- Could it be what workers.id() returns somewhere?
function workers.is_id(text)
  return text:find "^%d+%.%d+$" ~= nil
end

-- Not even a signal could be sent there.
local function is_gone(pid)
  return ffi.C.cueball_workers_kill(tonumber(pid), 0) ~= 0 and ffi.errno() == ESRCH
end

--- Does the process of that name still live? What is over but not yet waited for by its parent does not: its sockets are closed.
-- @return true or false; nil if that cannot be told
function workers.is_alive(id)
  local pid, start = id:match "^(%d+)%.(%d+)$"
  if not pid then return nil end
  local _, state, began = status(pid)
  if state then return began == start and state ~= "Z" and state ~= "X" end
  if is_gone(pid) then return false end
  -- It is there. Is it the one that had the name? A process may be hidden in /proc (hidepid); then it is taken for that one.
  return status "self" and true or nil
end

--- The memory of that name which all workers share.
-- @return it: get, set, add, delete and so on as ngx.shared.DICT has them; nil if there is none
function workers.dict(name)
  local nginx = rawget(_G, "ngx")
  local shared = type(nginx) == "table" and nginx.shared
  return shared and shared[name] or nil
end

--- Is this worker about to end? It takes no new requests then, and finishes those it has.
function workers.is_exiting()
  local nginx = rawget(_G, "ngx")
  return type(nginx) == "table" and nginx.worker ~= nil and nginx.worker.exiting()
end

--- How many workers there are to be.
function workers.count()
  local nginx = rawget(_G, "ngx")
  return type(nginx) == "table" and nginx.worker and nginx.worker.count and nginx.worker.count() or 1
end

local FAR_S = 86400

--- fn() is called when this worker begins to exit: what waits for a timer is told then, and later timers do not go off.
function workers.on_exit(fn)
  local nginx = rawget(_G, "ngx")
  if type(nginx) ~= "table" or not nginx.timer then return end
  local function tell(premature)
    if premature then return fn() end
    nginx.timer.at(FAR_S, tell)
  end
  nginx.timer.at(FAR_S, tell)
end

return workers
