--- What a socket stands on in the libuv host: TCP and UNIX stream connections
-- through luv.  The contract is in docs/hosts.md and at the top of
-- cueball.cosocket.socket.
--
-- The happy path: connect (a number at once, a name through libuv's resolver
-- threads, its addresses one after the other), try_write, read.  What can go
-- wrong comes to the callbacks as nginx would word it.  close() makes every
-- callback that is still to come from libuv a call that finds its handle gone.
local descriptor = require "cueball.cosocket.descriptor"
local address_of = require "cueball.address"

local transport = {}

local Transport = {}
Transport.__index = Transport

local MESSAGES = {
  EACCES = "permission denied",
  EADDRINUSE = "address already in use",
  EADDRNOTAVAIL = "cannot assign requested address",
  EAGAIN = "resource temporarily unavailable",
  ECANCELED = "closed",
  ECONNABORTED = "software caused connection abort",
  ECONNREFUSED = "connection refused",
  ECONNRESET = "connection reset by peer",
  EHOSTUNREACH = "no route to host",
  EINVAL = "invalid argument",
  ELOOP = "too many levels of symbolic links",
  EMFILE = "too many open files",
  ENFILE = "too many open files",
  ENETUNREACH = "network is unreachable",
  ENOENT = "no such file or directory",
  ENOTDIR = "not a directory",
  ENOTCONN = "transport endpoint is not connected",
  EPIPE = "broken pipe",
  EPROTOTYPE = "protocol wrong type for socket",
  ETIMEDOUT = "connection timed out",
  EAI_AGAIN = "2: Server failure",   -- as nginx's own resolver words them
  EAI_FAIL = "2: Server failure",
  EAI_NODATA = "3: Host not found",
  EAI_NONAME = "3: Host not found",
  ENOTFOUND = "3: Host not found",
}

--- The words for an error of luv, "ECONNREFUSED" or "ECONNREFUSED: connection refused".
function transport.message_of(err)
  return MESSAGES[err:match("^[%u%d_]+") or err] or err
end
local message_of = transport.message_of

--- @param uv the luv module
-- @param tasks the host's scheduler; callbacks that luv would not give go through its queue
function transport.new(uv, tasks)
  return setmetatable({ uv = uv, tasks = tasks, handle = nil, number = nil, lookup = nil }, Transport)
end

-- fn(err) in the loop's time, unless closed by then.
local function soon(self, handle, fn, err)
  self.tasks:defer(function()
    if self.handle == handle then fn(err) end
  end)
end

local function close_handle(self)
  local handle = self.handle
  self.handle, self.number = nil, nil
  if handle and not handle:is_closing() then handle:close() end
end

--- Looks a name up in libuv's resolver threads, for a transport of this host.
-- @param kind "stream" or "dgram"
-- @param done done(err), or done(nil, addresses); not called if another lookup, or close(), took its place
function transport.resolve(self, name, kind, done)
  local lookup = {}
  self.lookup = lookup
  local function answer(err, found)
    if self.lookup ~= lookup or self.tasks.is_over then return end
    self.lookup = nil
    if err or not found[1] then
      return done(("%s could not be resolved (%s)"):format(name, message_of(err or "EAI_NONAME")))
    end
    local addresses = {}
    for index, one in ipairs(found) do addresses[index] = one.addr end
    done(nil, addresses)
  end
  local request, err = self.uv.getaddrinfo(name, nil, { socktype = kind }, answer)
  lookup.request = request
  if not request then self.tasks:defer(answer, err) end
end

--- Closes a transport of this host, whatever it is in the middle of.
function transport.close(self)
  local lookup = self.lookup
  self.lookup = nil
  if lookup and lookup.request then lookup.request:cancel() end
  close_handle(self)
end

local function is_number(address)
  return address:find(":", 1, true) ~= nil or address_of.family(address) == 4
end

-- The descriptor is asked for once: LuaJIT compiles no call of luv's.
local function connected(self, err, done)
  self.number = not err and self.handle:fileno() or nil
  done(err and message_of(err))
end

-- Tries addresses[index], then the next ones; done(err) has the last one's error.
local function connect_tcp(self, addresses, index, port, done)
  local handle, message = self.uv.new_tcp()
  if not handle then
    self.handle = nil
    return soon(self, nil, done, message_of(message))
  end
  self.handle = handle
  local function answer(err)
    if self.handle ~= handle or self.tasks.is_over then return end
    if err and addresses[index + 1] then
      close_handle(self)
      return connect_tcp(self, addresses, index + 1, port, done)
    end
    if not err then handle:nodelay(true) end
    connected(self, err, done)
  end
  -- luv throws for what is no address, and returns what the kernel refuses at once.
  local ok, request, err = pcall(handle.connect, handle, addresses[index], port, answer)
  if not ok then
    soon(self, handle, done, "invalid address")
  elseif not request then
    soon(self, handle, answer, err)
  end
end

local function connect_name(self, name, port, done)
  transport.resolve(self, name, "stream", function(err, addresses)
    if err then return done(err) end
    connect_tcp(self, addresses, 1, port, done)
  end)
end

local function connect_unix(self, path, done)
  local fault = address_of.path_fault("unix:" .. path)
  if fault then return soon(self, self.handle, done, fault) end   -- libuv would cut it
  local handle = self.uv.new_pipe(false)
  self.handle = handle
  local function answer(err)
    if self.handle == handle then connected(self, err, done) end
  end
  local request, err = handle:connect(path, answer)
  if not request then soon(self, handle, answer, err) end
end

--- A transport over a connected descriptor that stays somebody else's: it has a number of its own for it, and closes that only.
-- The descriptor does not block from now on, whoever uses it.
-- @param fd its number: of a stream socket, TCP or UNIX
-- @return it; or nil, message
function transport.over(uv, tasks, fd)
  local makers = { tcp = uv.new_tcp, pipe = function() return uv.new_pipe(false) end }
  local make = makers[uv.guess_handle(fd)]
  if not make then return nil, ("descriptor %d is no connected stream socket"):format(fd) end
  local number, message = descriptor.duplicate(fd)
  if not number then return nil, message end
  local self = transport.new(uv, tasks)
  self.handle = make()
  local ok, err = self.handle:open(number)
  if not ok then
    uv.fs_close(number)
    close_handle(self)
    return nil, message_of(err)
  end
  self.number = number
  return self
end

--- A transport over a connection that a listener has accepted.
-- @param handle of luv's
function transport.accepted(uv, tasks, handle)
  local self = transport.new(uv, tasks)
  self.handle, self.number = handle, handle:fileno()
  return self
end

function Transport:connect(address, port, done)
  local path = address:match("^unix:(.*)$")
  if path then return connect_unix(self, path, done) end
  address = address:match("^%[(.*)%]$") or address
  if is_number(address) then return connect_tcp(self, { address }, 1, port, done) end
  return connect_name(self, address, port, done)
end

-- What the kernel did not take at once, or refused: it tells the reason of a lost connection once, so it is not asked again.
local function write_rest(self, handle, data, written, failure, done)
  if written and written > 0 then data = data:sub(written + 1) end
  local function answer(err)
    if self.handle == handle then done(err and message_of(err)) end
  end
  if not written and not failure:find "^EAGAIN" then return soon(self, handle, answer, failure) end
  local request, err = handle:write(data, answer)
  if not request then soon(self, handle, answer, err) end
end

function Transport:write(data, done)
  local handle = self.handle
  -- Mostly the kernel takes it all at once, and nobody has to wait. LuaJIT compiles no end of a function that has others in it, so the
  -- rest is apart.
  local written, failure = handle:try_write(data)
  if written == #data then return true end
  return write_rest(self, handle, data, written, failure, done)
end

function Transport:read(on_read)
  local handle = self.handle
  local ok, err = handle:read_start(function(failure, data)
    if self.handle ~= handle then return end
    if data then return on_read(data) end
    on_read(nil, failure and message_of(failure) or "closed")
  end)
  if not ok then
    soon(self, handle, function() on_read(nil, message_of(err)) end)
  end
end

function Transport:pause()
  self.handle:read_stop()
end

--- The descriptor's number, which stays the transport's; nil: it has none.
function Transport:descriptor()
  return self.number
end

--- What the kernel knows of the connection and nobody has read: nil, "data", or how it ended.
function Transport:look()
  local number = self.number
  return number and descriptor.look(number)
end

--- Takes what the kernel has, past the loop.
-- @return bytes; nil: there are none; nil, how the connection ended
function Transport:take()
  local number = self.number
  if not number then return nil end
  return descriptor.take(number)
end

--- Sends what the kernel takes at once, past the loop. Not while a write is under way.
-- @param bytes where they are
-- @return how many; or nil, how the connection ended
function Transport:send_bytes(bytes, size)
  local number = self.number
  if not number then return 0 end
  return descriptor.send(number, bytes, size)
end

-- Turns keepalive on or off; a number is ms at rest before the first probe, rounded up to whole seconds.
local function set_keepalive(handle, value)
  if type(value) ~= "number" then return handle:keepalive(value, 60) end
  return handle:keepalive(value ~= 0, math.max(1, math.ceil(value / 1000)))
end

-- libuv takes a size of 0 for a question.
local function size_of(value)
  return math.max(1, type(value) == "number" and value or 1)
end

local SETTERS = {
  ["tcp-nodelay"] = function(handle, value) return handle:nodelay(value ~= false and value ~= 0) end,
  keepalive = set_keepalive,
  sndbuf = function(handle, value) return handle:send_buffer_size(size_of(value)) end,
  rcvbuf = function(handle, value) return handle:recv_buffer_size(size_of(value)) end,
}

--- Options are those of the cosocket, but "reuseaddr", which means nothing for a connection.
function Transport:setoption(name, value)
  local handle, set = self.handle, SETTERS[name]
  if not handle.nodelay then return nil, "not supported" end
  if not set then return nil, "unsupported option " .. name end
  local ok, err = set(handle, value)
  if not ok then return nil, message_of(err) end
  return true
end

Transport.close = transport.close

return transport
