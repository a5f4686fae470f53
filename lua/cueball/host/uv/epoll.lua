--- Who watches descriptors for host.poll: one epoll descriptor for all of them, which luv watches.
--
-- luv could watch each of them itself, and does where there is no epoll. But it writes a line to stderr whenever a connection is refused
-- or reset, and libuv ends the process if a descriptor was closed and its number given to another meanwhile. epoll forgets what is closed.
local ffi = require "ffi"

local epoll = {}

local Epoll = {}
Epoll.__index = Epoll

local CLOEXEC, ADD, DEL, MOD = 0x80000, 1, 2, 3
local IN, OUT = 1, 4
local EVENTS = { r = IN, w = OUT, rw = IN + OUT }
local EEXIST = 17
local BATCH = 64

local DECLARATIONS = [[
typedef struct cueball_epoll_event { uint32_t events; uint64_t key; } %s cueball_epoll_event;
int cueball_epoll_create1(int flags) __asm__("epoll_create1");
int cueball_epoll_ctl(int epfd, int op, int fd, cueball_epoll_event *event) __asm__("epoll_ctl");
int cueball_epoll_close(int fd) __asm__("close");
int cueball_epoll_wait(int epfd, cueball_epoll_event *events, int count, int timeout) __asm__("epoll_wait");
]]

local function declare()
  if pcall(ffi.typeof, "cueball_epoll_event") then return end
  ffi.cdef(DECLARATIONS:format(jit.arch == "x64" and "__attribute__((packed))" or ""))
end

local function control(self, op, fd, events, key)
  local event = self.event
  event.events, event.key = events, key
  return ffi.C.cueball_epoll_ctl(self.fd, op, fd, event) == 0
end

local function tell(self, key, events)
  local poll = self.polls[key] -- nil: stopped meanwhile
  if not poll then return end
  local is_in, is_out = events % 2 == 1, events % 8 >= 4
  poll:is_ready((is_in == is_out or events >= 8) and "rw" or is_in and "r" or "w")
end

-- Tells those whose descriptors are ready. Whoever is told may run the loop, and so come here again, in Neovim.
local function dispatch(self)
  local found = self.found
  local count = ffi.C.cueball_epoll_wait(self.fd, found, BATCH, 0)
  if count == 1 then return tell(self, tonumber(found[0].key), found[0].events) end
  local ready = {}
  for index = 1, count do ready[index] = { tonumber(found[index - 1].key), found[index - 1].events } end
  for _, one in ipairs(ready) do tell(self, one[1], one[2]) end
end

--- @param uv the luv module
-- @return it; or nil: there is no epoll here
function epoll.new(uv)
  if jit.os ~= "Linux" then return nil end
  declare()
  local fd = ffi.C.cueball_epoll_create1(CLOEXEC)
  if fd < 0 then return nil end
  local self = setmetatable({
    fd = fd, handle = uv.new_poll(fd), last_key = 0, count = 0,
    polls = setmetatable({}, { __mode = "v" }), -- by key; one that was forgotten is in nobody's way
    last_word = ffi.gc(ffi.new "char[1]", function() ffi.C.cueball_epoll_close(fd) end), -- with the Lua state: a process may have many
    event = ffi.new "cueball_epoll_event", found = ffi.new("cueball_epoll_event[?]", BATCH),
  }, Epoll)
  self.handle:start("r", function() dispatch(self) end)
  self.handle:unref()
  return self
end

--- The loop goes on as long as somebody waits for one of them.
-- @param change 1 or -1
function Epoll:wanted(_, change)
  local before = self.count
  self.count = before + change
  if before == 0 then self.handle:ref() elseif self.count == 0 then self.handle:unref() end
end

--- Watches a poll's descriptor from now on.
-- @param events "r", "w" or "rw"
-- @return true; or nil, message
function Epoll:start(poll, events)
  if poll.key then
    if control(self, MOD, poll.fd, EVENTS[events], poll.key) then return true end
    self:stop(poll)
  end
  self.last_key = self.last_key + 1
  local key = self.last_key
  local ok = control(self, ADD, poll.fd, EVENTS[events], key)
  if not ok and ffi.errno() == EEXIST then ok = control(self, MOD, poll.fd, EVENTS[events], key) end
  if not ok then return nil, ("the system cannot watch descriptor %d (error %d)"):format(poll.fd, ffi.errno()) end
  poll.key, self.polls[key] = key, poll
  return true
end

--- Watches it no more.
function Epoll:stop(poll)
  if not poll.key then return end
  self.polls[poll.key], poll.key = nil, nil
  control(self, DEL, poll.fd, 0, 0)
end

Epoll.close = Epoll.stop

return epoll
