--- What a command has of the machine it runs on, as one table, so that specs can give it another.
--
--   system.stdout, system.stderr    files
--   system.is_terminal(file)        whether a person looks at it
--   system.environment(name)        a variable of the environment, or nil
--   system.time()                   seconds since 1970, UTC, with a fraction
--   system.is_reader_gone()         whether stdout is a pipe whose other end was closed
--   system.host()                   the event loop (docs/hosts.md); raises an error that says what is missing
local ffi = require "ffi"

ffi.cdef [[
  struct cueball_cli_poll { int fd; short events; short revents; };
  struct cueball_cli_time { long seconds; long microseconds; };
  int cueball_cli_isatty(int fd) __asm__("isatty");
  int cueball_cli_poll(struct cueball_cli_poll *fds, unsigned long count, int timeout) __asm__("poll");
  int cueball_cli_gettimeofday(struct cueball_cli_time *time, void *zone) __asm__("gettimeofday");
]]

local STDOUT, STDERR = 1, 2
local POLLERR = 8

local system = { stdout = io.stdout, stderr = io.stderr, environment = os.getenv }

function system.is_terminal(file)
  return ffi.C.cueball_cli_isatty(file == io.stdout and STDOUT or STDERR) == 1
end

local time = ffi.new "struct cueball_cli_time"

function system.time()
  ffi.C.cueball_cli_gettimeofday(time, nil)
  return tonumber(time.seconds) + tonumber(time.microseconds) / 1e6
end

function system.is_reader_gone()
  local one = ffi.new("struct cueball_cli_poll", STDOUT)   -- no events asked for: only what is always told
  return ffi.C.cueball_cli_poll(one, 1, 0) == 1 and math.floor(one.revents / POLLERR) % 2 == 1
end

function system.host()
  return require("cueball.host").default()
end

return system
