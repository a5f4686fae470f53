--- What a connection's kernel is asked past the event loop: recv and send, which wait for nothing. With MSG_PEEK recv reads nothing either.
--
-- An event loop knows only what was there when it polled last. A program that computes for a second knows nothing of what its
-- connections went through meanwhile; the kernel does.
local ffi = require "ffi"
local C = ffi.C

local PEEK = 0x2
local NOSIGNAL = jit.os == "Linux" and 0x4000 or 0   -- elsewhere hosts ignore the signal
local SYSTEMS = {
  Linux = { dontwait = 0x40, eagain = 11, dupfd_cloexec = 1030 }, OSX = { dontwait = 0x80, eagain = 35, dupfd_cloexec = 67 },
  BSD = { dontwait = 0x80, eagain = 35, dupfd_cloexec = 17 },
}
local WORDS = jit.os == "Linux" and {
  [32] = "broken pipe", [101] = "network is unreachable", [104] = "connection reset by peer", [110] = "connection timed out",
  [113] = "no route to host",
} or { [32] = "broken pipe", [51] = "network is unreachable", [54] = "connection reset by peer", [60] = "connection timed out",
  [65] = "no route to host" }
local EINTR = 4
local system = SYSTEMS[jit.os]
local errno = ffi.errno
local FLAGS, EAGAIN = system and PEEK + system.dontwait, system and system.eagain

if not pcall(function() return C.cueball_host_recv end) then -- declarations outlive the module
  ffi.cdef [[
    ssize_t cueball_host_recv(int fd, void *bytes, size_t size, int flags) __asm__("recv");
    ssize_t cueball_host_send(int fd, const void *bytes, size_t size, int flags) __asm__("send");
    int cueball_host_fcntl(int fd, int command, ...) __asm__("fcntl");
  ]]
end

local descriptor = {}

local recv = C.cueball_host_recv -- not looked up by its name for each call
local byte = ffi.new "char[1]"

--- @param number of a connected stream socket
-- @return nil: nothing is there to be told, or this system cannot tell; "data"; or how the connection ended: "closed",
--   "connection reset by peer"
function descriptor.look(number)
  if not FLAGS then return nil end
  local got = recv(number, byte, 1, FLAGS)
  if got > 0 then return "data" end
  if got == 0 then return "closed" end
  local code = errno()
  if code == EAGAIN or code == EINTR then return nil end
  return "connection reset by peer"
end

local SIZE = 64 * 1024
local buffer

--- Reads what is there.
-- @return the bytes; or nil: nothing is there, or this system cannot tell; or nil, how the connection ended
function descriptor.take(number)
  if not FLAGS then return nil end
  buffer = buffer or ffi.new("char[?]", SIZE)
  local got = C.cueball_host_recv(number, buffer, SIZE, FLAGS - PEEK)
  if got > 0 then return ffi.string(buffer, got) end
  if got == 0 then return nil, "closed" end
  local code = errno()
  if code == EAGAIN or code == EINTR then return nil end
  return nil, "connection reset by peer"
end

--- Sends what the kernel takes at once.
-- @param bytes where they are
-- @return how many it took, perhaps none; or nil, how the connection ended. nil: this system cannot tell
function descriptor.send(number, bytes, size)
  if not FLAGS then return nil end
  local sent = C.cueball_host_send(number, bytes, size, system.dontwait + NOSIGNAL)
  if sent >= 0 then return tonumber(sent) end
  local code = errno()
  if code == EAGAIN or code == EINTR then return 0 end
  return nil, WORDS[code] or "connection failed (error " .. code .. " of the system)"
end

--- A second number for what a descriptor stands for: closing one leaves the other open. A process that is made by exec does not have it.
-- @return the number; or nil, message
function descriptor.duplicate(number)
  if not system then return nil, "this system cannot duplicate descriptors" end
  local made = C.cueball_host_fcntl(number, system.dupfd_cloexec, ffi.new("int", 0))
  if made >= 0 then return made end
  return nil, ("descriptor %d cannot be duplicated (error %d of the system)"):format(number, errno())
end

return descriptor
