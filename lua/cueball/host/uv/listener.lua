--- host.listen on libuv: who connects to an address of this machine gets a task. docs/hosts.md has the contract.
--
-- The happy path: bind, then for a path its mode, then listen. Nobody can connect before the last of them, so a path has its mode before
-- it can be used. Each connection is accepted, and begins a task with a socket.
-- What can go wrong: the path is somebody's who listens there (refused), or was left by a process that is gone (replaced), or is no socket
-- (refused); more connections come than are allowed (closed at once).
local ffi = require "ffi"
local address_of = require "cueball.address"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local socket = require "cueball.cosocket.socket"
require "cueball.cosocket.descriptor" -- declares fcntl
local text = require "cueball.text"
local transport = require "cueball.host.uv.transport"

local message_of = transport.message_of

if not pcall(function() return ffi.C.cueball_host_getsockopt end) then -- declarations outlive the module
  ffi.cdef [[
    int cueball_host_getsockopt(int fd, int level, int name, void *value, unsigned int *size) __asm__("getsockopt");
    struct cueball_host_path {
      union { uint16_t linux_family; struct { uint8_t length, family; } bsd; };
      char path[108];
    };
    int cueball_host_socket(int domain, int type, int protocol) __asm__("socket");
    int cueball_host_connect(int fd, const void *address, unsigned int size) __asm__("connect");
    int cueball_host_close(int fd) __asm__("close");
  ]]
end

local SOL_SOCKET, SO_PEERCRED = 1, 17
local MODE_DEFAULT, BACKLOG, CONNECTIONS_MAX = tonumber("600", 8), 128, 64
local C = ffi.C
local AF_UNIX, SOCK_STREAM, F_SETFL, ENOENT = 1, 1, 4, 2
local O_NONBLOCK, ECONNREFUSED = jit.os == "Linux" and 0x800 or 0x4, jit.os == "Linux" and 111 or 61

local listener = {}

local RULES = {
  mode = options.whole(0, tonumber("777", 8)),
  backlog = options.whole(1, 65535),
  connections_max = options.whole(1, 65535),
}

local Listener = {}
Listener.__index = Listener

-- Who is at the other end of a UNIX socket, by the kernel's word. nil: this system does not tell so.
local function credentials(fd)
  if jit.os ~= "Linux" or not fd then return nil end
  local found, size = ffi.new "int[3]", ffi.new("unsigned int[1]", 12) -- struct ucred: pid, uid, gid
  if ffi.C.cueball_host_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, found, size) ~= 0 then return nil end
  return { pid = found[0], uid = tonumber(ffi.cast("uint32_t", found[1])), gid = tonumber(ffi.cast("uint32_t", found[2])) }
end

local function peer_of(self, handle)
  if self.path then
    local peer = credentials(handle:fileno()) or {}
    peer.address = "unix:" .. self.path
    return peer
  end
  local name = handle:getpeername()
  return { address = name and address_of.join(name.ip, name.port) or "?" }
end

local function accept(self)
  local handle = self.path and self.uv.new_pipe(false) or self.uv.new_tcp()
  if not handle then return end -- out of descriptors: the connection waits in the kernel
  local ok = self.handle:accept(handle)
  if not ok or self.count >= self.connections_max then return handle:close() end
  if not self.path then handle:nodelay(true) end
  handle:unref()
  self.count = self.count + 1
  local peer = peer_of(self, handle)
  self.host.spawn(function()
    local one = socket.opened(self.host, transport.accepted(self.uv, self.host.tasks, handle))
    self.sockets[one] = true
    one.read_timeout_ms = false -- nobody has to say anything
    local well, thrown = xpcall(self.on_connection, text.traced, one, peer)
    self.count = self.count - 1
    self.sockets[one] = nil
    one:abort()
    if not well then error(thrown, 0) end
  end)
end

-- ------------------------------------------------------------------------ paths --

-- Does somebody listen there? A connect to a path says so at once. A server that is too busy to accept is one that lives.
local function is_live(path)
  local fd = C.cueball_host_socket(AF_UNIX, SOCK_STREAM, 0)
  if fd < 0 then return true end
  local at = ffi.new "struct cueball_host_path"
  if jit.os == "Linux" then at.linux_family = AF_UNIX else at.bsd.family = AF_UNIX end
  ffi.copy(at.path, path)
  C.cueball_host_fcntl(fd, F_SETFL, ffi.new("int", O_NONBLOCK))
  local connected = C.cueball_host_connect(fd, at, ffi.sizeof(at))
  local code = ffi.errno()
  C.cueball_host_close(fd)
  return not (connected ~= 0 and (code == ECONNREFUSED or code == ENOENT))
end

-- Makes room for a socket's file.
-- @return true; or nil, message, name
local function clear_path(self, path)
  local found, err = self.uv.fs_lstat(path)
  if not found then
    if err:find "^ENOENT" then return true end
    return nil, ("unix:%s: %s"):format(text.message(path), message_of(err)), "failed"
  end
  if found.type ~= "socket" then
    return nil, ("unix:%s is there already, and is no socket but a %s"):format(text.message(path), found.type), "address_in_use"
  end
  if is_live(path) then return nil, ("unix:%s: somebody listens there already"):format(text.message(path)), "address_in_use" end
  local ok
  ok, err = self.uv.fs_unlink(path)
  if ok or err:find "^ENOENT" then return true end
  return nil, ("unix:%s was left by a process that is gone, and stays: %s"):format(text.message(path), message_of(err)), "failed"
end

local function bind_path(self, path, mode)
  local ok, err, name = clear_path(self, path)
  if not ok then return nil, err, name end
  self.handle = self.uv.new_pipe(false)
  ok, err = self.handle:bind(path)
  if ok then ok, err = self.uv.fs_chmod(path, mode) end
  if ok then return true end
  return nil, ("unix:%s: %s"):format(text.message(path), message_of(err)), err:find "EADDRINUSE" and "address_in_use" or "failed"
end

local function bind_number(self, address)
  local host, port = address_of.split(address)
  if not host then return nil, port, "failed" end
  if not port then return nil, text.show(address) .. ": there is no port", "failed" end
  self.handle = self.uv.new_tcp()
  local ok, err = self.handle:bind(host, port)
  if not ok then return nil, ("%s: %s"):format(address, message_of(err)), "failed" end
  return true
end

-- ----------------------------------------------------------------------- listener --

--- Nobody can connect any more. Connections that are open are closed, and their tasks find that out.
function Listener:close()
  if self.is_closed then return end
  self.is_closed = true
  if not self.handle:is_closing() then self.handle:close() end
  local open = {}
  for one in pairs(self.sockets) do open[#open + 1] = one end
  for _, one in ipairs(open) do one:abort() end
end

local function start(self)
  local ok, err = self.handle:listen(self.backlog, function(failure)
    if not failure and not self.is_closed and not self.host.tasks.is_over then accept(self) end
  end)
  if not ok then
    return nil, ("%s: %s"):format(text.message(self.address), message_of(err)), err:find "EADDRINUSE" and "address_in_use" or "failed"
  end
  self.handle:unref()
  if not self.path then
    local name = self.handle:getsockname()
    self.address = address_of.join(name.ip, name.port)
  end
  return self
end

--- Fills in host.listen.
-- @param host the host table, with its scheduler as host.tasks
-- @param uv   the luv module
function listener.install(host, uv)
  --- Lets others connect.
  -- @param address "127.0.0.1:9190", "[::1]:0" (0: any port that is free) or "unix:/path"
  -- @param given nil, or { mode = of a path, 0600 by default; backlog =; connections_max = 64: more are closed at once }
  -- @param on_connection function(socket, peer): runs in a task of its own for each connection, which is closed when it is done. `peer` is
  --   { address = }, and for a path { uid =, gid =, pid = } of who connected
  -- @return a listener: .address, :close(); or nil, message, "address_in_use" or "failed"
  function host.listen(address, given, on_connection)
    if type(address) ~= "string" then misuse.raise("listen: expected an address, got " .. text.show(address)) end
    if type(on_connection) ~= "function" then misuse.raise("listen: expected a function, got " .. text.show(on_connection)) end
    given = options.check("listen", given, RULES)
    local path = address_of.is_unix(address) and address:sub(#"unix:" + 1) or nil
    local fault = address_of.unix_fault(address) or path and address_of.path_fault(address)
    if fault then return nil, fault, "failed" end
    local self = setmetatable({
      host = host, uv = uv, address = address, path = path, on_connection = on_connection, handle = nil, sockets = {}, count = 0,
      backlog = given.backlog or BACKLOG, connections_max = given.connections_max or CONNECTIONS_MAX, is_closed = false,
    }, Listener)
    local ok, message, name
    if path then
      ok, message, name = bind_path(self, path, given.mode or MODE_DEFAULT)
    else
      ok, message, name = bind_number(self, address)
    end
    if ok then ok, message, name = start(self) end
    if not ok then
      if self.handle then self.handle:close() end
      return nil, message, name
    end
    return self
  end
end

return listener
