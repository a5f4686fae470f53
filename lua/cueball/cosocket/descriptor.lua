--- What the kernel knows of a connection, asked without reading anything: recv with MSG_PEEK.
--
-- An event loop knows only what was there when it polled last. A program that computes for a second knows nothing of what its
-- connections went through meanwhile; the kernel does.
local ffi = require "ffi"
local C = ffi.C

local PEEK = 0x2
local SYSTEMS = { Linux = { dontwait = 0x40, eagain = 11 }, OSX = { dontwait = 0x80, eagain = 35 }, BSD = { dontwait = 0x80, eagain = 35 } }
local EINTR = 4
local system = SYSTEMS[jit.os]
local errno = ffi.errno
local FLAGS, EAGAIN = system and PEEK + system.dontwait, system and system.eagain

if not pcall(function() return C.cueball_host_recv end) then -- declarations outlive the module
  ffi.cdef [[ssize_t cueball_host_recv(int fd, void *bytes, size_t size, int flags) __asm__("recv");]]
end

local descriptor = {}

local byte = ffi.new "char[1]"

--- @param number of a connected stream socket
-- @return nil: nothing is there to be told, or this system cannot tell; "data"; or how the connection ended: "closed",
--   "connection reset by peer"
function descriptor.look(number)
  if not FLAGS then return nil end
  local got = C.cueball_host_recv(number, byte, 1, FLAGS)
  if got > 0 then return "data" end
  if got == 0 then return "closed" end
  local code = errno()
  if code == EAGAIN or code == EINTR then return nil end
  return "connection reset by peer"
end

return descriptor
