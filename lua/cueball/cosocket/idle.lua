--- Sockets between two uses: what a pool asks of them as they come back, while they are idle, and before they are lent. Nothing of it is
-- in ngx_lua. The class of all sockets begins here; cueball.cosocket.socket has what their users call.
local use = require "cueball.cosocket.use"
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local Socket = {}
Socket.__index = Socket

local idle = { Socket = Socket }

-- What is known of a socket may be so old. A program that computes, or does much in one turn, has older news.
local FRESH_NS = 0.1e6

-- A task that was killed in the middle of an operation is not in the way of others.
local function is_waiting(task)
  return task and not task.is_done
end

local function busy(self)
  if is_waiting(self.connector) then return "socket busy connecting" end
  if is_waiting(self.reader) then return "socket busy reading" end
  if is_waiting(self.writer) then return "socket busy writing" end
  return nil
end

-- Why nothing can be done with a socket that is not open.
local function unopened(self)
  return is_waiting(self.connector) and "socket busy connecting" or "closed"
end

local function start_reading(self)
  if self.is_reading or self.ended then return end
  self.is_reading = true
  self.transport:read(self.on_read)
end

local function disown(self)
  if self.owner then
    self.tasks:disown(self.owner, self)
    self.owner = nil
  end
end

-- A time limit, cut to what a lease's deadline leaves.
local function within(self, limit_ms)
  local deadline = self.deadline
  if not deadline then return limit_ms end
  return math.max(0, math.min(limit_ms, (deadline - self.tasks.now()) / 1e6))
end

-- Closes without asking who waits.
local function shut(self, err)
  self.is_open, self.is_reading, self.watcher = false, false, false
  self.ended = self.ended or err
  self.transport:close()
  disown(self)
end

idle.disown, idle.within, idle.shut = disown, within, shut

-- For cueball.cosocket.socket, settings and handshake: does a task wait there? Who is in it, or why is it not open, as a message. Has the
-- transport read.
idle.is_waiting, idle.busy, idle.unopened, idle.start_reading = is_waiting, busy, unopened, start_reading

-- Is what happened to it known? Either the loop has polled it since it came to rest, or the kernel was asked and nothing was sent or
-- received since; and that was just now. (A server that closes after each answer closes soon after the answer.)
local function is_up_to_date(self, now)
  local polls = self.tasks.polls
  if not polls then return true end
  if now - self.looked_at < FRESH_NS then return true end
  return self.is_reading and polls.done > self.rested_at and now - polls.done_at < FRESH_NS
end

-- What the kernel knows of it and the loop does not.
local function look(self, now)
  self.looked_at = now
  local transport = self.transport
  local found = transport.look and transport:look()
  if not found then return nil end
  if found == "data" then
    -- Before its first lease it may be a greeting that the claimer is to read, unless the factory has its connections watched.
    if not self.watcher and not self.use.was_lent then return nil end
    use.arrived(self.use)
    return use.UNREAD
  end
  use.ended(self.use, "peer", found)
  return found
end

-- Calls the watcher later, unless it is not to be called any more by then. Apart from watch, since LuaJIT compiles no function in
-- which a function is made.
local function tell_later(self, fn, message, kind)
  self.tasks:defer(function()
    if self.watcher == fn then
      self.watcher = false
      fn(message, kind)
    end
  end)
end

-- What is wrong with it at present, as far as is known; nil: nothing.
local function fault(self)
  if not self.is_open then return self.ended or "closed" end
  local why = busy(self)
  if why then return why end
  if self.received.size > 0 then return use.UNREAD end
  return self.ended or self.unsendable or nil
end

-- Does nothing speak against another use? False where it takes a closer look to know.
local function is_quiet(self)
  local known = self.use
  return self.is_open and self.received.size == 0 and not self.ended and not self.unsendable
    and not self.reader and not self.writer and not self.connector and not known.unfinished and not known.is_foreign
end

local function judge(self)
  return use.judge(self.use, fault(self))
end

-- Asks the kernel.
local function judge_look(self, now)
  local found = look(self, now)
  if found then return use.judge(self.use, found) end
  return nil
end

--- Is the socket fit for another use: open, nobody in it, no bytes that nobody asked for, no answer under way?
-- Bytes that only the kernel has are known of while the socket is read or watched.
-- @return true; or nil, message, kind: "timeout", "lost", "worn" or "unfit", see cueball.cosocket.use
function Socket:is_fit()
  if getmetatable(self) ~= Socket then misuse.colon("sock:is_fit") end
  local message, kind = judge(self)
  if message then return nil, message, kind end
  return true
end

--- is_fit of an idle socket that is about to be lent: unless the loop has polled it since it came to rest, and just now, the kernel is
-- asked, which costs a system call.
-- @return true; or nil, message, kind
function Socket:is_fit_still()
  local now = self.tasks.now()
  local message = fault(self)
  if not message and not is_up_to_date(self, now) then message = look(self, now) end
  local kind
  message, kind = use.judge(self.use, message)
  if message then return nil, message, kind end
  return true
end

--- is_fit_still and unwatch in one, for the pool: a watched socket is lent, if it is fit.
-- @param now host.now()
-- @return nil: it was lent; or message, kind
function Socket:lend_fit(now)
  local message, kind
  if not is_quiet(self) then message, kind = judge(self) end
  if not message and not is_up_to_date(self, now) then message, kind = judge_look(self, now) end
  if message then return message, kind end
  self.watcher = false
  self.use.was_lent = true
  return nil
end

--- is_fit, rest and watch in one, for the pool: a socket that comes back is watched, if it is fit.
-- @param fn  as of watch
-- @param now nil; or host.now(): the kernel is asked, too, since somebody waits for the socket
-- @return nil: it is watched; or message, kind
function Socket:rest_fit(fn, now)
  local message, kind
  if not is_quiet(self) then message, kind = judge(self) end
  if not message and now then message, kind = judge_look(self, now) end
  if message then return message, kind end
  self.deadline = false
  self.watcher = fn
  local polls = self.tasks.polls
  if polls then self.rested_at = polls.begun end
  if not self.is_reading then start_reading(self) end
  return nil
end

--- Has a byte come since the socket was lent first?
function Socket:has_delivered()
  return self.use.has_delivered
end

--- The receive that timed out just now waited for what nobody had asked for, such as news: no answer is under way.
function Socket:expected_nothing()
  use.expected_nothing(self.use)
end

--- The socket comes to rest. The first time ends the greeting: what was sent and received until then was its factory's doing.
function Socket:rest()
  self.deadline = false
  use.pooled(self.use)
  local polls = self.tasks.polls
  if polls then self.rested_at = polls.begun end
end

--- The socket is lent.
function Socket:lend()
  self.deadline = false
  use.lent(self.use)
end

--- The descriptor, for others that read and write it past the socket while that rests: from now on the socket reads no more, until somebody
-- receives.
-- @return its number; or nil, why it cannot be had
function Socket:lend_descriptor()
  if self.transport ~= self.wire then
    return nil, "TLS in this process cannot be handed to another thread: connect without TLS, or with a factory in C"
  end
  local transport = self.transport
  local number = transport.descriptor and transport:descriptor()
  if not number or not self.is_open then return nil, "its socket has no descriptor" end
  if self.received.size > 0 then return nil, "its socket has received bytes that nobody has read" end
  if self.is_reading then
    self.is_reading = false
    transport:pause()
  end
  return number
end

--- Whoever waits in the socket waits until then at most, however long its own limits are, until the socket rests or is lent again.
-- @param at nanoseconds as host.now() counts
function Socket:limit(at)
  self.deadline = at
end

--- Watches a socket at rest: fn(message, kind) is called once, outside of any task and
-- never inside this call, when the peer closes ("closed"), the connection breaks
-- ("connection reset by peer" …) or bytes come that nobody waits for ("unexpected
-- data"; they stay in the buffer).  What is wrong already is told too.
function Socket:watch(fn)
  if getmetatable(self) ~= Socket then misuse.colon("sock:watch") end
  if type(fn) ~= "function" then misuse.raise("sock:watch: expected a function, got " .. text.show(fn)) end
  self.watcher = fn
  self:rest()
  local message, kind = judge(self)
  if not message then return start_reading(self) end
  tell_later(self, fn, message, kind)
end

--- Ends watch(): its fn will not be called, and somebody is about to use it.
function Socket:unwatch()
  if getmetatable(self) ~= Socket then misuse.colon("sock:unwatch") end
  self.watcher, self.deadline, self.use.was_lent = false, false, true
end

return idle
