--- Connections at rest in nginx's keepalive pools: taking one, knowing whether it is fit, and throwing one away.
--
-- nginx finds a parked connection by the name of its pool alone. So a connect with that name to the host "", which does not exist,
-- takes the parked one or fails at once: nothing is opened, and nothing is logged.
--
-- A parked connection that broke, or on which bytes came, is dropped by nginx, but only as its event loop runs. If a handler computes
-- for 50 ms and then claims, the loop knows nothing yet, and stray bytes would be read as the reply to the next command. So the socket
-- itself is asked, with recv(MSG_PEEK): that needs its descriptor, which ngx_lua does not tell. A socket gets the lowest number that
-- is free, so the number is found out before a connection is opened, and believed if its peer is the backend.
local ffi = require "ffi"
local address = require "cueball.address"
local look = require("cueball.cosocket.descriptor").look
local C = ffi.C

if not pcall(ffi.typeof, "cueball_ngx_address") then
  ffi.cdef [[
    typedef struct cueball_ngx_address { unsigned short family; unsigned char bytes[126]; } cueball_ngx_address;
    int cueball_ngx_dup(int fd) __asm__("dup");
    int cueball_ngx_close(int fd) __asm__("close");
    int cueball_ngx_getpeername(int fd, cueball_ngx_address *address, unsigned *size) __asm__("getpeername");
    int cueball_ngx_inet_pton(int family, const char *text, void *address) __asm__("inet_pton");
  ]]
end

local AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
local IS_LINUX = jit.os == "Linux"   -- the numbers above are Linux's

local keepalive = {}

-- The number that the next socket will have.
local function next_descriptor()
  if not IS_LINUX then return nil end
  local number = C.cueball_ngx_dup(0)
  if number < 0 then return nil end
  C.cueball_ngx_close(number)
  return number
end

local peer, peer_size, wanted = ffi.new "cueball_ngx_address", ffi.new "unsigned[1]", ffi.new "unsigned char[16]"

local function same_bytes(at, from, count)
  for index = 0, count - 1 do
    if at[index] ~= from[index] then return false end
  end
  return true
end

-- Is this descriptor connected to the backend?
local function leads_to(descriptor, backend)
  peer_size[0] = ffi.sizeof(peer)
  if C.cueball_ngx_getpeername(descriptor, peer, peer_size) ~= 0 then return false end
  local path = backend.address:match "^unix:(.*)$"
  if path then
    return peer.family == AF_UNIX and ffi.string(peer.bytes) == path
  end
  if peer.bytes[0] * 256 + peer.bytes[1] ~= backend.port then return false end
  if peer.family == AF_INET then
    return C.cueball_ngx_inet_pton(AF_INET, backend.address, wanted) == 1 and same_bytes(peer.bytes + 2, wanted, 4)
  end
  return peer.family == AF_INET6 and C.cueball_ngx_inet_pton(AF_INET6, backend.address, wanted) == 1
    and same_bytes(peer.bytes + 6, wanted, 16)
end

-- A function of its own, as connect is one in C: LuaJIT compiles nothing that follows such a call in the same function.
local function is_quiet(client, context)
  local descriptor = context.descriptor
  if not descriptor or not look(descriptor) then return true end
  client:close()
  return false
end

--- Takes what is parked, if it is fit; what is not is closed.
-- @param client  has connect(host, port, options) and close(), as cosockets and the libraries on them have
-- @param context of the attempt; its take_options name the keepalive pool
-- @return true, or false
function keepalive.take(client, context)
  if not client:connect("", 1, context.take_options) then return false end
  return is_quiet(client, context)
end

--- An address as nginx takes it: one of IPv6 in brackets.
function keepalive.host_of(text)
  if text:find(":", 1, true) and text:sub(1, 5) ~= "unix:" and text:sub(1, 1) ~= "[" then return "[" .. text .. "]" end
  return text
end

--- Opens a connection, under the same name.
-- @param backend { address, port }
-- @return "new"; or nil, message
function keepalive.open(client, backend, context)
  local descriptor = next_descriptor()
  context.descriptor = nil
  local given = context.socket_options
  local options = { pool = given.pool, pool_size = given.pool_size, backlog = given.backlog } -- without what leads sockets of ours here
  local ok, message
  if address.is_unix(backend.address) then
    ok, message = client:connect(backend.address, options)
  else
    ok, message = client:connect(keepalive.host_of(backend.address), backend.port, options)
  end
  if not ok then return nil, message end
  if descriptor and leads_to(descriptor, backend) then context.descriptor = descriptor end
  return "new"
end

-- Where ngx_lua keeps a cosocket's limits. What is not there is the default, 0.
local CONNECT_LIMIT, SEND_LIMIT, READ_LIMIT = 2, 4, 5

local function number_at(socket, index)
  local value = rawget(socket, index)
  return type(value) == "number" and value or 0
end

--- Lowers a client's limit of connecting; those of sending and reading stay.
function keepalive.limit(client, ms)
  local socket = rawget(client, "_sock") or rawget(client, "sock") or client
  if not rawget(socket, 1) or not socket.settimeouts then return end -- no cosocket
  local present = number_at(socket, CONNECT_LIMIT)
  if present > 0 and present <= ms then return end
  socket:settimeouts(math.max(1, math.floor(ms)), number_at(socket, SEND_LIMIT), number_at(socket, READ_LIMIT))
end

-- What is said where nothing lies under a name.
local NOTHING = "failed to parse host name"

--- Is a connection out that was opened under these options?
function keepalive.is_in_use(options)
  local ok, message = ngx.socket.tcp():connect("", 1, { pool = options.pool })
  return not ok and not message:find(NOTHING, 1, true)
end

--- Is one parked under these options, or out?
function keepalive.is_known(options)
  local socket = ngx.socket.tcp()
  local ok, message = socket:connect("", 1, { pool = options.pool })
  if ok then
    socket:setkeepalive(0)
    return true
  end
  return not message:find(NOTHING, 1, true)
end

--- Closes what is parked under these options, if anything is.
-- @return true if nothing was, nor is out: nginx then keeps an empty keepalive pool of that name, until a connection was opened under it
function keepalive.discard(options)
  local socket = ngx.socket.tcp()
  local ok, message = socket:connect("", 1, options)
  if ok then
    socket:close()
    return false
  end
  return message:find(NOTHING, 1, true) ~= nil
end

return keepalive
