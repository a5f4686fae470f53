--- What is set of a socket: its time limits, the options of its connection, and that it is not needed any more. Methods of the class that
-- begins in cueball.cosocket.idle, in ngx_lua's words.
local arguments = require "cueball.cosocket.arguments"
local idle = require "cueball.cosocket.idle"
local misuse = require "cueball.misuse"

local Socket, busy, unopened = idle.Socket, idle.busy, idle.unopened

--- One time limit for connecting, sending and receiving, in ms; 0: the default of 60 s.
function Socket:settimeout(ms)
  if getmetatable(self) ~= Socket then misuse.colon("sock:settimeout") end
  local limit = arguments.timeout_ms(ms)
  self.connect_timeout_ms, self.send_timeout_ms, self.read_timeout_ms, self.is_retimed = limit, limit, limit, true
end

--- Three time limits, in ms; 0: the default of 60 s.
function Socket:settimeouts(connect, send, read)
  if getmetatable(self) ~= Socket then misuse.colon("sock:settimeouts") end
  local connect_ms, send_ms, read_ms = arguments.timeout_ms(connect), arguments.timeout_ms(send), arguments.timeout_ms(read)
  self.connect_timeout_ms, self.send_timeout_ms, self.read_timeout_ms, self.is_retimed = connect_ms, send_ms, read_ms, true
end

--- Sets an option of the connection: "tcp-nodelay", "keepalive" (a number: ms at rest before the first probe), "sndbuf", "rcvbuf".
-- @param value a boolean or a number
-- @return true; or nil, message
function Socket:setoption(name, value)
  local why = arguments.option_fault(name, value)
  if why then return nil, why end
  if not self.is_open then return nil, unopened(self) end
  local setoption = self.transport.setoption
  if not setoption then return nil, "not supported" end
  return setoption(self.transport, name, value)
end

-- Why a connection could not go to a keepalive pool, if there were one.
local function unkept(self)
  if not self.is_open then return unopened(self) end
  if self.ended or self.unsendable then return "closed" end
  return busy(self) or self.received.size > 0 and "unread data in buffer" or nil
end

--- There is no keepalive pool here: the connection is closed, as by a pool that has no room for it.
-- @param timeout_ms, size numbers, of no meaning here
-- @return 1; or nil, message, and the socket stays open unless it is in "dubious state"
function Socket:setkeepalive(timeout_ms, size, more)
  if more ~= nil then misuse.raise "expecting 1 to 3 arguments (including the object), but got 4" end
  local why = unkept(self)
  if why then return nil, why end
  arguments.check_keepalive(timeout_ms, size)
  local transport = self.transport
  local found = transport.look and transport:look()
  if found and found ~= "data" then return nil, "closed" end
  self:close()
  if found then return nil, "connection in dubious state" end
  return 1
end
