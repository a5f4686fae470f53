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
local look = require("cueball.host.descriptor").look
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

local fit = {}

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

--- Takes what is parked, if it is fit; what is not is closed.
-- @param client  has connect(host, port, options) and close(), as cosockets and the libraries on them have
-- @param context of the attempt; its socket_options name the keepalive pool
-- @return true, or false
function fit.take(client, context)
  if not client:connect("", 1, context.socket_options) then return false end
  local descriptor = context.descriptor
  if not descriptor or not look(descriptor) then return true end
  client:close()
  return false
end

--- Opens a connection, under the same name.
-- @param backend { address, port }
-- @return "new"; or nil, message
function fit.open(client, backend, context)
  local descriptor = next_descriptor()
  context.descriptor = nil
  local ok, message = address.connect(client, backend, context.socket_options)
  if not ok then return nil, message end
  if descriptor and leads_to(descriptor, backend) then context.descriptor = descriptor end
  return "new"
end

--- Closes what is parked under these options, if anything is.
-- @return true if nothing was, nor is out: nginx then keeps an empty keepalive pool of that name, until a connection was opened under it
function fit.discard(options)
  local socket = ngx.socket.tcp()
  local ok, message = socket:connect("", 1, options)
  if ok then
    socket:close()
    return false
  end
  return message:find("failed to parse host name", 1, true) ~= nil
end

return fit
