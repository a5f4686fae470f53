--- The workers of one server that a console can be had in: each says once a second who it is, in memory that all of them share.
--
--   workers.follow(host)   this worker takes part → it; nil, message: no memory is shared. Calling it again is harmless
--   workers.list(host)     → { { worker =, pid =, here = true, member = its record } … }, by number; without shared memory this one alone
--   workers.tend(self)     this worker lives: it is in the list for some seconds more
local log = require "cueball.log"

local workers = {
  console = nil, -- the modules of consoles by name, which stand on all that this stands below: set by who may use them (cueball)
}

local DICT, PREFIX = "cueball", "cueball/console/"
local SILENT_MS, DEAD_MS = 5000, 10000

local own

local function text_of(host)
  return ("%s,%d"):format(host.workers.number() or "", host.workers.pid())
end

local function read(text)
  local number, pid = text:match "^(%d*),(%d+)$"
  return tonumber(number), tonumber(pid)
end

local function nothing() end

-- What a worker that is gone left: nothing but its record.
local function collect() return true end

function workers.tend(self)
  self.member:renew(text_of(self.host))
  self.member:look(nothing, collect)
end

function workers.follow(host)
  if own and own.host == host then return own end
  local memory, message = host.workers.open(host, DICT, PREFIX, function(level, text)
    log.say(host, level, "cueball.console: " .. text, "shared_memory")
  end)
  if not memory then return nil, message end
  own = { host = host, memory = memory, member = memory:join {
    silent_ms = SILENT_MS, dead_ms = DEAD_MS, is_text = function(text) return read(text) ~= nil or text:find "^,%d+$" ~= nil end,
  } }
  workers.tend(own)
  return own
end

local function by_number(a, b)
  if a.worker ~= b.worker then return (a.worker or math.huge) < (b.worker or math.huge) end
  return a.pid < b.pid
end

function workers.list(host)
  local list = { { worker = host.workers.number(), pid = host.workers.pid(), here = true } }
  local self = workers.follow(host)
  if not self then return list end
  self.member:look(function(record)
    if not record.id or record.has_left or self.memory.is_alive(record.id) == false then return end
    local number, pid = read(record.text)
    list[#list + 1] = { worker = number, pid = pid, member = record }
  end)
  table.sort(list, by_number)
  return list
end

return workers
