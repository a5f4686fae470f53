--- host.poll on libuv: a task waits until a descriptor that somebody else reads and writes (a library in C) is ready. docs/hosts.md has
-- the contract.
--
-- The happy path: wait("r") has the descriptor watched and parks the task; the event loop lets it go on. It stays watched, so that a task
-- that waits for the same again and again costs no system call. If the descriptor becomes ready while nobody waits, it is watched no more
-- until somebody does.
--
-- Whoever owns the descriptor may close it inside any call of its own. The poll is to be closed right after that call, or before.
local misuse = require "cueball.misuse"
local epoll = require "cueball.host.uv.epoll"
local task = require "cueball.host.task"
local transport = require "cueball.host.uv.transport"

local TIMEOUT = task.TIMEOUT

local poll = {}

local Poll = {}
Poll.__index = Poll

local IS_EVENTS = { r = true, w = true, rw = true }

local function stop(self)
  if self.started == "" then return end
  self.started = ""
  self.source:stop(self)
end

-- @return true; or nil, message
local function start(self, events)
  if self.started == events then return true end
  local ok, message = self.source:start(self, events)
  self.started = ok and events or ""
  return ok, message
end

local function is_waiting(self)
  return self.waiting and not self.waiting.is_done
end

-- Does anybody wait or watch? If not the loop need not go on for it.
local function count(self)
  local is_wanted = self.watcher ~= nil or is_waiting(self) or false
  if is_wanted == self.is_wanted then return end
  self.is_wanted = is_wanted
  self.source:wanted(self, is_wanted and 1 or -1)
end

-- Of the event loop: the descriptor is ready.
function Poll:is_ready(events)
  local tasks = self.tasks
  if self.is_closed or tasks.is_over then return end
  if is_waiting(self) then return tasks:resume(self.waiting, events) end
  if not self.watcher then
    count(self) -- the task that waited was killed
    return stop(self)
  end
  tasks:call(self.watcher, events)
end

--- Waits, in a task, until the descriptor is ready.
-- @param events "r", "w" or "rw": which of them
-- @param timeout_ms nil: no limit
-- @return "r", "w" or "rw": what it is ready for, an error for both; or nil, "timeout"; or nil, "closed"
function Poll:wait(events, timeout_ms)
  if not IS_EVENTS[events] then misuse.raise('poll:wait: expected "r", "w" or "rw", got ' .. tostring(events)) end
  local tasks = self.tasks
  local me = tasks:must_be_able_to_wait()
  if self.is_closed then return nil, "closed" end
  if is_waiting(self) then misuse.raise "poll:wait: another task waits in it" end
  local ok, message = start(self, events)
  if not ok then return nil, message end
  self.waiting = me
  count(self)
  tasks:own(me, self)
  local result = tasks:suspend(me, timeout_ms)
  tasks:disown(me, self)
  self.waiting = nil
  count(self)
  if result == TIMEOUT then return nil, "timeout" end
  if result == "closed" then return nil, "closed" end
  return result
end

--- From now on fn(events) is called, outside of any task, whenever the descriptor is readable or broken and no task waits. It has to read
-- what came: otherwise it is called again at once.
-- @return true; or nil, message
function Poll:watch(fn)
  if type(fn) ~= "function" then misuse.raise("poll:watch: expected a function, got " .. type(fn)) end
  if self.is_closed then return nil, "closed" end
  local ok, message = start(self, "r")
  if not ok then return nil, message end
  self.watcher = fn
  count(self)
  return true
end

--- Ends watch.
function Poll:unwatch()
  self.watcher = nil
  count(self)
end

--- The task that waits was killed.
function Poll:abort()
  self.waiting = nil
  count(self)
end

--- Ends it, at once: a task that waits goes on, with nil, "closed". The descriptor is left alone.
function Poll:close()
  if self.is_closed then return end
  local waiting = is_waiting(self) and self.waiting
  self.is_closed, self.watcher, self.waiting, self.started = true, nil, nil, ""
  count(self)
  self.source:close(self)
  if waiting then self.tasks:wake(waiting, "closed") end
end

-- -------------------------------------------------------- without epoll: luv --

local Luv = {}
Luv.__index = Luv

-- With "p", a descriptor with nothing but an error is told of like one that is ready.
local LUV_EVENTS = { r = "rp", w = "wp", rw = "rwp" }

function Luv:start(one, events)
  if not one.handle then
    local ok, handle, message = pcall(self.uv.new_poll, one.fd)
    if not ok or not handle then return nil, transport.message_of(tostring(ok and message or handle)) end
    one.handle = handle
    self:wanted(one, one.is_wanted and 1 or -1)
  end
  local ok, message = one.handle:start(LUV_EVENTS[events], function(failure, found)
    -- An error is for the owner of the descriptor to find, whichever way it looks. libuv has stopped the handle.
    if failure then
      one.started = ""
      return one:is_ready "rw"
    end
    local is_in, is_out = found:find("r", 1, true), found:find("w", 1, true)
    one:is_ready((is_in ~= nil) == (is_out ~= nil) and "rw" or is_in and "r" or "w")
  end)
  if not ok then return nil, transport.message_of(message) end
  return true
end

function Luv:wanted(one, change)
  local handle = one.handle
  if not handle then return end
  if change > 0 then handle:ref() else handle:unref() end
end

function Luv:stop(one)
  one.handle:stop()
end

function Luv:close(one)
  if one.handle then one.handle:close() end
  one.handle = nil
end

--- Fills in host.poll.
-- @param host the host table, with its scheduler as host.tasks
-- @param uv   the luv module
-- @param has_epoll false: luv watches each descriptor, as where there is no epoll
function poll.install(host, uv, has_epoll)
  local source

  --- Watches a descriptor that stays somebody else's.
  -- @param fd its number
  -- @return a poll; or nil, message
  function host.poll(fd)
    if type(fd) ~= "number" or fd < 0 or fd % 1 ~= 0 then misuse.raise("poll: expected a descriptor's number, got " .. tostring(fd)) end
    source = source or has_epoll ~= false and epoll.new(uv) or setmetatable({ uv = uv }, Luv)
    return setmetatable({
      fd = fd, source = source, tasks = host.tasks, started = "", waiting = nil, watcher = nil, is_wanted = false,
      is_closed = false,
    }, Poll)
  end
end

return poll
