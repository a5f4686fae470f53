--- Ports of loopback for servers that are started later, or never.
--
--   local port = require "spec.support.port"
--   port.free()      a number; nobody has it, over TCP or UDP, and this process was not given it before: what is remembered of a
--                    server that is gone does not come to another one
--
-- They are below those that the kernel gives to clients: one of those could be a client's by the time the server wants it, or a
-- client that looks for a server that is down could meet itself there. Which one is no matter of math.random, which busted sets to
-- its seed: two runs at once would choose the same.
local ffi = require "ffi"
local uv = require "luv"

ffi.cdef [[
  struct cueball_spec_at { uint16_t family; uint8_t port[2], address[4], zero[8]; };
  int cueball_port_socket(int, int, int) __asm__("socket");
  int cueball_port_bind(int, const void *, unsigned) __asm__("bind");
  int cueball_port_close(int) __asm__("close");
]]

local AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2
local FIRST = 10240

local port = {}

local function clients_from()
  local file = io.open "/proc/sys/net/ipv4/ip_local_port_range"
  local first = file and file:read "*n"
  if file then file:close() end
  return first and first > FIRST + 1000 and first or 32768
end

local function can_bind(kind, number)
  local at = ffi.new("struct cueball_spec_at", AF_INET, { math.floor(number / 256), number % 256 }, { 127, 0, 0, 1 })
  local fd = ffi.C.cueball_port_socket(AF_INET, kind, 0)
  assert(fd >= 0, "no socket to be had")
  local is_free = ffi.C.cueball_port_bind(fd, at, ffi.sizeof(at)) == 0
  ffi.C.cueball_port_close(fd)
  return is_free
end

local count = clients_from() - FIRST
local turn = (uv.hrtime() + uv.os_getpid() * 7919) % 2147483647

-- busted forgets this module after each file.
local registry = debug.getregistry()
registry["cueball.spec.ports"] = registry["cueball.spec.ports"] or {}
local given = registry["cueball.spec.ports"]

function port.free()
  for _ = 1, 1000 do
    turn = turn * 48271 % 2147483647
    local number = FIRST + turn % count
    if not given[number] and can_bind(SOCK_STREAM, number) and can_bind(SOCK_DGRAM, number) then
      given[number] = true
      return number
    end
  end
  error "no port is free"
end

return port
