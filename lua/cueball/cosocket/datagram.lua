--- ngx_lua's cosocket API for datagrams (ngx.socket.udp), once for all hosts: setpeername, send, receive, settimeout, close.
--
-- How a host uses it:
--
--   function host.udp() return datagram.new(host, transport) end
--
-- `host.tasks` must be the host's scheduler. The transport is what the host supplies:
--   transport:connect(address, port, done)   `done(err)` once, never inside the call, err nil or a message
--   transport:send(data) → true; or nil, message
--   transport:receive(on_datagram)   from now on `on_datagram(data)`, or `on_datagram(nil, message)`, for each that comes
--   transport:pause()                none comes until receive is called again; what comes meanwhile waits in the kernel
--   transport:close()                no callback comes after it; connect may be called again
local arguments = require "cueball.cosocket.arguments"
local bytes = require "cueball.cosocket.bytes"
local misuse = require "cueball.misuse"
local task = require "cueball.host.task"

local TIMEOUT = task.TIMEOUT
local SIZE_MAX = 8192 -- of what is received, as in nginx

local datagram = {}

local Datagram = {}
Datagram.__index = Datagram

--- @param host with host.tasks
-- @param transport see above
function datagram.new(host, transport)
  local self = setmetatable({
    tasks = host.tasks, transport = transport, owner = nil, is_open = false,
    waiting = false, -- the task that waits, in setpeername or in a receive
    timeout_ms = arguments.DEFAULT_TIMEOUT_MS,
  }, Datagram)
  self.owner = self.tasks.running
  if self.owner then self.tasks:own(self.owner, self) end
  return self
end

--- Is it such a socket?
function datagram.is(value)
  return getmetatable(value) == Datagram
end

local function check(self, method)
  if getmetatable(self) ~= Datagram then misuse.colon("sock:" .. method) end
end

local function shut(self)
  self.is_open = false
  self.transport:close()
  if self.owner then self.tasks:disown(self.owner, self) end
  self.owner = nil
end

--- Closes at once, whoever waits in it: those get nil, "closed".
function Datagram:abort()
  local waiting = self.waiting
  shut(self)
  if waiting then self.tasks:wake(waiting, { message = "closed" }) end
end

--- The task that made the socket has ended: the socket goes to the task that spawned that one, or is closed.
function Datagram:task_ended(heir)
  self.owner = nil
  local waiting = self.waiting
  if waiting and waiting.is_parked then heir = waiting end
  if not heir or not self.is_open then return self:abort() end
  self.owner = heir
  self.tasks:own(heir, self)
end

-- Waits for what the transport says.
-- @return the data, or true; or nil, message
local function wait(self, me)
  self.waiting = me
  local answer = self.tasks:park(self.timeout_ms)
  self.waiting = false
  if answer == TIMEOUT then return nil, "timeout" end
  if answer.message then return nil, answer.message end
  return answer.data or true
end

local function busy(self)
  return self.waiting and self.waiting.is_parked and "socket busy" or nil
end

--- From now on datagrams go to this address, and come from it only.
-- @param address IP number or name
-- @return 1; or nil, message
function Datagram:setpeername(address, port)
  check(self, "setpeername")
  if type(address) == "string" and address:sub(1, 5):lower() == "unix:" then return nil, "datagrams to UNIX sockets are not supported" end
  address, port = arguments.port(address, port)
  if not address then return nil, port end
  address, port = arguments.host(address, port)
  if not address then return nil, port end
  local me, tasks = self.tasks:must_be_able_to_wait(), self.tasks
  local why = busy(self)
  if why then return nil, why end
  if self.is_open then self.transport:close() end
  self.is_open = false
  if self.owner ~= me then
    if self.owner then tasks:disown(self.owner, self) end
    self.owner = me
    tasks:own(me, self)
  end
  self.transport:connect(address, port, function(err) tasks:resume(me, { message = err }) end)
  local ok, message = wait(self, me)
  if not ok then
    shut(self)
    return nil, message
  end
  self.is_open = true
  return 1
end

--- @param data string, number, or (nested) arrays of them: one datagram
-- @return 1; or nil, message
function Datagram:send(data)
  check(self, "send")
  if not self.is_open then return nil, "closed" end
  local wire, bad = bytes.of(data)
  if not wire then misuse.raise(arguments.bad(1, "send", bad)) end
  local ok, message = self.transport:send(wire)
  if not ok then return nil, message end
  return 1
end

--- Waits for one datagram.
-- @param size what is beyond it is lost; 8192 at most
-- @return the data; or nil, message
function Datagram:receive(size)
  check(self, "receive")
  if not self.is_open then return nil, "closed" end
  size = size == nil and SIZE_MAX or tonumber(size)
  if not size then misuse.raise(arguments.bad(1, "receive", "number expected")) end
  size = math.max(0, math.min(size, SIZE_MAX))
  local me, tasks, transport = self.tasks:must_be_able_to_wait(), self.tasks, self.transport
  local why = busy(self)
  if why then return nil, why end
  transport:receive(function(data, err)
    transport:pause()
    tasks:resume(me, { data = data, message = err })
  end)
  local data, message = wait(self, me)
  if self.is_open then transport:pause() end
  if data == nil then return nil, message end
  return data:sub(1, size)
end

--- The time limit of a receive in ms; 0: the default of 60 s.
function Datagram:settimeout(ms)
  check(self, "settimeout")
  self.timeout_ms = arguments.timeout_ms(ms)
end

--- @return 1; or nil, message
function Datagram:close()
  check(self, "close")
  if not self.is_open then return nil, "closed" end
  local why = busy(self)
  if why then return nil, why end
  shut(self)
  return 1
end

function Datagram:__tostring()
  return ("udp socket (%s)"):format(self.is_open and "open" or "closed")
end

return datagram
