--- Lines to stderr, by who must not be held up: where nobody reads the pipe, or a terminal is stopped, a line is dropped and counted, and
-- the next one that can be written says how many were.
local ffi = require "cueball.luajit"

local stderr = {}

if not pcall(ffi.typeof, "struct cueball_log_poll") then
  ffi.cdef [[
  struct cueball_log_poll { int fd; short events; short revents; };
  int cueball_log_poll(struct cueball_log_poll *fds, unsigned long count, int timeout_ms) __asm__("poll");
  ]]
end

local POLLOUT, FD = 4, 2
local PIECE = 4096 -- so much a pipe takes at once, if it takes anything

local asked = ffi.new("struct cueball_log_poll[1]")
local dropped = 0

-- Whether a write of PIECE bytes would not wait. Where that cannot be asked (Windows), writes wait.
local function is_ready()
  if jit.os == "Windows" then return true end
  asked[0].fd, asked[0].events, asked[0].revents = FD, POLLOUT, 0
  return ffi.C.cueball_log_poll(asked, 1, 0) ~= 0
end

local function write(line)
  for from = 1, #line, PIECE do
    if not is_ready() then return false end
    io.stderr:write(line:sub(from, from + PIECE - 1))
  end
  return true
end

--- Writes a line.
-- @return whether it was written
function stderr.write(line)
  if dropped > 0 then
    if not write(("cueball: %d lines of the log were dropped, as nobody read stderr\n"):format(dropped)) then
      dropped = dropped + 1
      return false
    end
    dropped = 0
  end
  if write(line .. "\n") then return true end
  dropped = dropped + 1
  return false
end

return stderr
