--- ngx_lua's cosocket API (tcp), the buffer and the waiting, once for all hosts.
--
-- How a host uses it:
--
--   function host.tcp() return socket.new(host, transport) end
--
-- `host.tasks` must be the host's scheduler (cueball.host.task).  The transport
-- is what docs/sockets.md says, and:
--   * None of its callbacks comes inside a call of the transport, nor inside a
--     task: they come from the event loop, and may run a task before they return.
--   * transport:connect is called again after transport:close() (a cosocket may
--     be connected anew); callbacks of the connection before must not come then.
--   * transport:write(data, done) takes a string and may return true: all is written already and done
--     will not be called.  It is called again before `done` only if a task was killed in between.
--   * transport:setoption(name, value) → true or nil, err is optional.
-- Reading starts with the first receive or watch that needs it and goes on until
-- more than HIGH_WATER bytes lie unread and nobody waits for them.
--
-- What follows ngx_lua, to the letter of its strings: README of lua-nginx-module,
-- "tcpsock:…".  What differs, and why:
--   * a time limit may have a fraction; it bounds the wait for the next piece of data, as there, and for
--     sending 1 MiB (nginx: the wait until some more can be sent);
--   * after a timeout in receiveuntil, bytes that may be the beginning of the pattern stay in the
--     buffer (nginx hides them in the iterator, where receive() does not find them);
--   * what a send that timed out had given to the transport may still be sent, 1 MiB at most.
-- Beyond ngx_lua: abort, and what is in cueball.cosocket.idle.
local arguments = require "cueball.cosocket.arguments"
local buffer = require "cueball.cosocket.buffer"
local bytes = require "cueball.cosocket.bytes"
local idle = require "cueball.cosocket.idle"
local misuse = require "cueball.misuse"
local task = require "cueball.host.task"
local use = require "cueball.cosocket.use"
require "cueball.cosocket.settings"
require "cueball.cosocket.handshake"

local TIMEOUT = task.TIMEOUT
local bad_argument = arguments.bad

local socket = {}

--- Bytes that may lie unread before reading pauses.
socket.HIGH_WATER = 256 * 1024
--- A send is written in pieces of this size, so that its time limit is about progress.
socket.SEND_PIECE = 1024 * 1024
--- Time limit of each operation where none was set, as in nginx.
socket.DEFAULT_TIMEOUT_MS = arguments.DEFAULT_TIMEOUT_MS

local Socket, busy, is_waiting, start_reading = idle.Socket, idle.busy, idle.is_waiting, idle.start_reading
local unopened, disown, shut, within = idle.unopened, idle.disown, idle.shut, idle.within

-- Ties the socket to the current task (made in or connected by it).
local function own(self)
  local tasks = self.tasks
  local current = tasks.running
  if self.owner == current then return end
  if self.owner then tasks:disown(self.owner, self) end
  self.owner = current
  if current then tasks:own(current, self) end
end

--- @param host with host.tasks
-- @param transport see above
function socket.new(host, transport)
  local self = setmetatable({
    tasks = host.tasks,
    transport = transport,
    wire = transport,     -- what TLS stands on; the same without TLS
    peer = nil,           -- the address it was connected to last
    tls_context = false, client_cert = false, client_key = false, -- for the next handshake
    owner = nil,          -- the task whose killing closes this socket
    is_open = false,
    is_reading = false,   -- the transport has been told to read
    connector = nil,      -- the task that waits in connect
    reader = false,       -- … in a receive; false, not nil: a key that comes and goes has LuaJIT make the table anew each time
    writer = false,       -- … in send
    received = buffer.new(),
    ended = nil,          -- why nothing more will come: "closed" or an error
    is_read_over = false, -- a receive has said so: none is tried any more
    unsendable = false,   -- why nothing more can be sent: the error of a send
    watcher = false,
    use = use.new(),      -- how it was used, see cueball.cosocket.use
    rested_at = 0,        -- how many polls of the loop had begun as it came to rest
    looked_at = 0,        -- when the kernel was asked last, if nothing was sent or received since; in nanoseconds
    is_retimed = false,   -- its time limits were set since a pool set them back
    connect_timeout_ms = socket.DEFAULT_TIMEOUT_MS,
    send_timeout_ms = socket.DEFAULT_TIMEOUT_MS,
    read_timeout_ms = socket.DEFAULT_TIMEOUT_MS,
    deadline = false,     -- of the lease that it is lent for, in nanoseconds
    on_read = nil,
    on_written = nil,
    written_for = false,  -- the task whose write is under way and will be told by on_written
  }, Socket)
  own(self)
  return self
end

--- Closes at once, whoever waits in it: those get nil, "closed".  Unlike close()
-- it is never refused.  Not in ngx_lua.
function Socket:abort()
  local connector, reader, writer = self.connector, self.reader, self.writer
  if not self.is_open and not connector then return disown(self) end
  use.ended(self.use, "claimer", "closed")
  shut(self, "closed")
  self.received:clear()
  if connector then self.tasks:wake(connector, "closed") end
  if reader then self.tasks:wake(reader, "closed") end
  if writer then self.tasks:wake(writer, "closed") end
end

--- Its task has ended. It belongs from now on to a task that waits in it, or to the heir, as a request of nginx has the sockets of its
-- light threads. Where there is neither, or it is of no more use, it is closed, unless it is watched.
function Socket:task_ended(heir)
  self.owner = nil
  if self.ended or self.unsendable then heir = nil end
  if is_waiting(self.connector) then heir = self.connector end
  if is_waiting(self.writer) then heir = self.writer end
  if is_waiting(self.reader) then heir = self.reader end
  if heir then
    self.owner = heir
    return self.tasks:own(heir, self)
  end
  if not self.watcher then self:abort() end
end

-- Tells the watcher, in the event loop's time.
local function tell_watcher(self, message)
  local watcher = self.watcher
  self.watcher = false
  self.tasks:call(watcher, use.judge(self.use, message))
end

local function make_on_read(self)
  return function(data, err)
    if data then
      self.received:push(data)
      self.looked_at = 0
      use.arrived(self.use)
    else
      self.ended, self.is_reading = err or "closed", false
      use.ended(self.use, "peer", self.ended)
    end
    local reader = self.reader
    if is_waiting(reader) then return self.tasks:resume(reader) end
    if self.is_reading and self.received.size > socket.HIGH_WATER then
      self.is_reading = false
      self.transport:pause()
    end
    if self.watcher then
      tell_watcher(self, data and use.UNREAD or self.ended)
    end
  end
end

-- Made once for each connection: LuaJIT compiles nothing that makes a function, such as one for each send.
local function make_on_written(self)
  return function(err)
    local writer = self.written_for
    self.written_for = false
    if writer and self.writer == writer then self.tasks:resume(writer, err or true) end -- else its time was up
  end
end

-- The same of a write that begins while one of a task that was killed is under way.
local function make_on_written_for(self, writer)
  return function(err)
    if self.writer == writer then self.tasks:resume(writer, err or true) end
  end
end

-- A connection begins: nothing is known of it yet.
local function begin(self)
  self.use = use.again(self.use)
  self.received, self.ended, self.on_read = buffer.new(), nil, make_on_read(self)
  self.on_written, self.written_for = make_on_written(self), false
  self.is_read_over, self.unsendable = false, false
end

--- A socket whose connection is open already, and has been lent.
-- @param transport that is connected
function socket.opened(host, transport)
  local self = socket.new(host, transport)
  begin(self)
  self.use = use.new()
  use.pooled(self.use)
  use.lent(self.use)
  self.is_open = true
  return self
end

--- Connects; an open connection is closed before.
-- @param address IP number, name, or "unix:/path"
-- @param port 0 to 65535; left out for "unix:"
-- @param options {pool=, pool_size=, backlog=}: for nginx, of no meaning here
-- @return 1; or nil, message
function Socket:connect(address, port)
  if getmetatable(self) ~= Socket then misuse.colon("sock:connect") end
  address, port = arguments.port(address, port)
  if not address then return nil, port end
  local tasks = self.tasks
  local me = tasks:must_be_able_to_wait()
  local why = busy(self)
  if why then return nil, why end
  if self.is_open then shut(self) end
  address, port = arguments.host(address, port)
  if not address then return nil, port end
  self.transport, self.peer = self.wire, address
  begin(self)
  own(self)
  self.connector = me
  self.transport:connect(address, port, function(err) tasks:resume(me, err or true) end)
  local result = tasks:park(within(self, self.connect_timeout_ms))
  self.connector = nil
  if result == true then
    self.is_open = true
    return 1
  end
  shut(self)
  return nil, result == TIMEOUT and "timeout" or result
end

-- Writes one piece and waits for it.
local function write(self, data)
  local tasks = self.tasks
  local me = tasks.running
  local is_other = self.written_for
  local done = is_other and make_on_written_for(self, me) or self.on_written
  if self.transport:write(data, done) then return true end
  if not is_other then self.written_for = me end
  self.writer = me
  local result = tasks:park(within(self, self.send_timeout_ms))
  self.writer = false
  if result == true then return true end
  return nil, result == TIMEOUT and "timeout" or result
end

-- A send failed: no other is tried. What comes can still be received; once that is over, too, the connection is closed.
local function end_sending(self, err)
  if not self.is_open then return end
  if err == "timeout" then use.send_timed_out(self.use) else use.ended(self.use, "peer", err) end
  self.unsendable = err
  if self.is_read_over then shut(self, err) end
end

-- A receive failed: no other is tried. The peer may have closed its direction only, and still read what is sent.
local function end_receiving(self, err)
  if not self.is_open then return end
  use.ended(self.use, "peer", err)
  self.is_read_over = true
  if self.unsendable then shut(self, err) end
end

--- Sends all of it.
-- @param data string, number, boolean, nil, or (nested) arrays of strings and numbers
-- @return bytes sent; or nil, message, and nothing more can be sent
function Socket:send(data)
  if getmetatable(self) ~= Socket then misuse.colon("sock:send") end
  if not self.is_open then return nil, unopened(self) end
  if self.unsendable then return nil, "closed" end
  self.tasks:must_be_in_task()
  if is_waiting(self.writer) then return nil, "socket busy writing" end
  local wire, bad = bytes.of(data)
  if not wire then misuse.raise(bad_argument(1, "send", bad)) end
  local size, piece_size = #wire, socket.SEND_PIECE
  if size == 0 then return 0 end
  self.looked_at = 0
  use.sends(self.use)
  for from = 1, size, piece_size do
    local piece = size <= piece_size and wire or wire:sub(from, from + piece_size - 1)
    local ok, err = write(self, piece)
    if not ok then
      end_sending(self, err)
      return nil, err
    end
  end
  return size
end

-- Waits until more has come.
-- @return true; or nil, message
local function wait_for_more(self)
  if self.ended then return nil, self.ended end
  local tasks, size = self.tasks, self.received.size
  local me = tasks:must_be_able_to_wait()
  start_reading(self)
  self.reader = me
  local result = tasks:suspend(me, within(self, self.read_timeout_ms))
  self.reader = false
  -- Bytes may come after the time was up and before the task runs: they count.
  if result == nil or result == TIMEOUT and self.received.size > size then return true end
  return nil, result == TIMEOUT and "timeout" or result
end

local function may_receive(self)
  if not self.is_open then return unopened(self) end
  if self.is_read_over then return "closed" end
  if is_waiting(self.reader) then return "socket busy reading" end
  return nil
end

-- The end of a receive that failed: the partial result is taken, and every error but a timeout ends receiving.
local function give_up(self, err, partial)
  if err == "timeout" then use.receive_timed_out(self.use) else end_receiving(self, err) end
  return nil, err, partial
end

-- The end of a receive that got what it wanted.
local function deliver(self, data)
  use.received(self.use)
  return data
end

local function receive_size(self, size)
  local received = self.received
  while received.size < size do
    local ok, err = wait_for_more(self)
    if not ok then return give_up(self, err, received:take_all()) end
  end
  if size == 0 then return "" end
  return deliver(self, received:take(size))
end

local function without_cr(line)
  if line:find("\r", 1, true) then return (line:gsub("\r", "")) end
  return line
end

-- A line that came in pieces, or with more behind it.
local function receive_split_line(self)
  local received = self.received
  received:rewind()
  local length = received:search("\n")
  while not length do
    local ok, err = wait_for_more(self)
    if not ok then return give_up(self, err, without_cr(received:take_all())) end
    length = received:search("\n")
  end
  local line = received:take(length)
  received:take(1)
  return deliver(self, without_cr(line))
end

local function receive_line(self)
  local received = self.received
  if received.size == 0 then
    local ok, err = wait_for_more(self)
    if not ok then return give_up(self, err, without_cr(received:take_all())) end
  end
  local line = received:take_line()
  if line then return deliver(self, without_cr(line)) end
  return receive_split_line(self)
end

local function receive_all(self)
  local received = self.received
  local ok, err
  repeat ok, err = wait_for_more(self) until not ok
  if err == "closed" and self.is_open then return deliver(self, received:take_all()) end
  return give_up(self, err, received:take_all())
end

--- Receives.
-- @param what a number of bytes; "*l" (the default): a line, without its LF and any CR;
--   "*a": all until the peer closes, which is no error then
-- @return the data; or nil, message, what had come (it is consumed)
function Socket:receive(what)
  if getmetatable(self) ~= Socket then misuse.colon("sock:receive") end
  local err = may_receive(self)
  if err then return nil, err end
  -- Before the numbers: LuaJIT compiles no tonumber of what is none.
  if what == nil or what == "*l" then return receive_line(self) end
  local size = tonumber(what)
  if size then
    if size < 0 or size ~= size or size == math.huge then misuse.raise(bad_argument(1, "receive", "bad pattern argument")) end
    return receive_size(self, size - size % 1)
  end
  if what == "*a" then return receive_all(self) end
  local is_unlike = type(what) == "string" and not what:find("^%*.$")
  local text = "bad pattern argument" .. (is_unlike and ": " .. what or "")
  misuse.raise(bad_argument(1, "receive", text))
end

--- Receives whatever is there, at least one byte.
-- @param max at most so many bytes
-- @return the data; or nil, message, ""
function Socket:receiveany(max)
  if getmetatable(self) ~= Socket then misuse.colon("sock:receiveany") end
  local why = may_receive(self)
  if why then return nil, why end
  max = tonumber(max)
  if not max or max ~= max or max < 1 then misuse.raise(bad_argument(1, "receiveany", "bad max argument")) end
  local received = self.received
  while received.size == 0 do
    local ok, err = wait_for_more(self)
    if not ok then return give_up(self, err, "") end
  end
  return deliver(self, received:take(math.min(max - max % 1, received.size)))
end

-- One step of receiveuntil.
-- @param size deliver that many bytes as soon as they are sure; nil: all before the pattern
-- @return data, whether the pattern was reached; or nil, message, partial
local function receive_until(self, pattern, size, is_inclusive)
  local received = self.received
  local limit = size and size - 1 + #pattern
  received:rewind()
  while true do
    local before = received:search(pattern, limit)
    if before then
      local data = received:take(is_inclusive and before + #pattern or before)
      if not is_inclusive then received:take(#pattern) end
      return deliver(self, data), true
    end
    if limit and received.size >= limit then return deliver(self, received:take(size)), false end
    local safe = received.size - received:held(pattern)
    if size and safe >= size then return deliver(self, received:take(size)), false end
    local ok, err = wait_for_more(self)
    if not ok then
      return give_up(self, err, received:take(err == "timeout" and safe or received.size))
    end
  end
end

--- Makes an iterator that receives until a string.
-- @param pattern the string; no pattern characters
-- @param options {inclusive=true}: the string belongs to the data
-- @return iterator([size]) → data; or nil, message, partial.  With a size it gives pieces of at most
--   that many bytes and, after the last, nil, nil, nil once.  Or nil, message.
function Socket:receiveuntil(pattern, options)
  local is_inclusive
  pattern, is_inclusive = arguments.pattern(pattern, options)
  if pattern == "" then return nil, "pattern is empty" end
  local is_over = false
  return function(size)
    if size ~= nil then
      local number = tonumber(size)
      if not number then
        misuse.raise(bad_argument(1, "iterator", "number expected, got " .. type(size)))
      end
      size = number >= 1 and number - number % 1 or nil
    end
    local why = may_receive(self)
    if why then return nil, why end
    if is_over then
      is_over = false
      return nil, nil, nil
    end
    local data, found, partial = receive_until(self, pattern, size, is_inclusive)
    if not data then return nil, found, partial end
    is_over = size ~= nil and found
    return data
  end
end

--- @return 1; or nil, "closed" or what keeps it busy
function Socket:close()
  local why = busy(self)
  if why then return nil, why end
  if not self.is_open then return nil, "closed" end
  use.ended(self.use, "claimer", "closed")
  shut(self, "closed")
  self.received:clear()
  return 1
end

--- @return 0: never from a keepalive pool; or nil, "closed"
function Socket:getreusedtimes()
  if not self.is_open and not is_waiting(self.connector) then return nil, "closed" end
  return 0
end

--- Is this value a socket of this module's?
function socket.is(value)
  return type(value) == "table" and getmetatable(value) == Socket
end

-- Methods that are called for each lease check by themselves what they are called on; others are the pool's own.
misuse.guard(Socket, "sock", { "receiveuntil", "setoption", "close", "getreusedtimes", "setkeepalive", "abort" })

return socket
