--- What a command has of the machine it runs on, as one table, so that specs can give it another.
--
--   system.stdout, system.stderr    files
--   system.is_terminal(file)        whether a person looks at it
--   system.is_terminal_input()      whether standard input is one
--   system.input(host)              an iterator over the pieces of standard input, for a task: it waits on that event loop
--   system.environment(name)        a variable of the environment, or nil
--   system.time()                   seconds since 1970, UTC, with a fraction
--   system.is_reader_gone()         whether stdout is a pipe whose other end was closed
--   system.host()                   the event loop (docs/hosts.md); raises an error that says what is missing
--   system.exit(status)             ends the process, from anywhere
--   system.keep_standard()          the descriptors 0 to 2 belong to nobody else, though the caller has closed them
local ffi = require "ffi"

ffi.cdef [[
  struct cueball_cli_poll { int fd; short events; short revents; };
  struct cueball_cli_time { long seconds; long microseconds; };
  int cueball_cli_isatty(int fd) __asm__("isatty");
  int cueball_cli_poll(struct cueball_cli_poll *fds, unsigned long count, int timeout) __asm__("poll");
  int cueball_cli_open(const char *path, int flags, ...) __asm__("open");
  int cueball_cli_fcntl(int fd, int command, ...) __asm__("fcntl");
  int cueball_cli_gettimeofday(struct cueball_cli_time *time, void *zone) __asm__("gettimeofday");
]]

local STDIN, STDOUT, STDERR = 0, 1, 2
local POLLERR = 8

local system = { stdout = io.stdout, stderr = io.stderr, environment = os.getenv, exit = os.exit }

function system.is_terminal(file)
  return ffi.C.cueball_cli_isatty(file == io.stdout and STDOUT or STDERR) == 1
end

function system.is_terminal_input()
  return ffi.C.cueball_cli_isatty(STDIN) == 1
end

local PIECE = 65536

function system.input(host)
  local native = require "cueball.native"
  local room = native.ffi.new("char[?]", PIECE)
  local poll = host.poll and host.poll(STDIN) or nil
  return function()
    if poll and not poll:wait "r" then poll = nil end -- a file: it need not be waited for
    local count = native.lib.cueball_terminal_read(STDIN, room, PIECE)
    if count > 0 then return native.ffi.string(room, count) end
    if poll then poll:close() end
    return nil
  end
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

local O_RDONLY, O_WRONLY, F_GETFD = 0, 1, 1

-- What is opened gets the lowest number that is free. These are opened the wrong way round: who reads or writes there fails as before.
function system.keep_standard()
  for fd = STDIN, STDERR do
    if ffi.C.cueball_cli_fcntl(fd, F_GETFD) < 0 then ffi.C.cueball_cli_open("/dev/null", fd == STDIN and O_WRONLY or O_RDONLY) end
  end
end

function system.host()
  return require("cueball.host").default()
end

return system
