--- Being attached to a console: the other end of cueball.console.connection. A prompt uses it like a session of its own process.
--
--   local one, message, name = remote.connect { host = host, address = "unix:/run/app.sock", print = function(text, kind) … end }
--   one:submit "backends()"       in a task: waits for the answer → "done" or "incomplete"
--   one:complete(line, position), one:interrupt(), one:prompt(is_more)
--   one:snapshot()                → as cueball.monitor.snapshot { detail = true }; or nil, message
--   one:close()
--   one.hello                     { name, pid, worker, role, age_s, host, cueball }
--
-- One task reads all that comes, so that what comes by itself (:watch) is shown as it comes, and not with the next answer.
local address_of = require "cueball.address"
local protocol = require "cueball.console.protocol"
local text = require "cueball.text"
local upgrade = require "cueball.console.upgrade"

local remote = {}

local Remote = {}
Remote.__index = Remote

local CONNECT_MS, HELLO_MS = 5000, 10000
local FOREVER_MS = 0x7fffffff
local LOST = 3 -- the status of a prompt whose program has gone

-- The connection has ended. Who waits for an answer is told; else who looks is.
local function lose(self, message)
  if self.is_over then return end
  self.is_over, self.status = true, LOST
  self.stream:abort()
  self.loss = "the connection to the program ended: " .. message
  local waiter = self.waiter
  if waiter then waiter:wake() else self.out(self.loss, "error") end
end

-- Shows a line, or has it answer what was asked.
local function take(self, answer)
  if type(answer.text) == "string" then return self.out(answer.text, answer.kind) end
  if answer.bye then return lose(self, text.message(answer.bye)) end
  local waiter = self.waiter
  if not waiter or not answer.done or answer.id ~= nil and answer.id ~= self.count then return end
  if self.is_quitting then self.is_over = true end -- what comes next is the end, and no loss
  waiter:wake(answer)
end

-- Reads all that comes, in a task of its own.
local function read(self)
  while not self.is_over do
    local line, message = self.lines:next(FOREVER_MS)
    local answer = line
    if line then answer, message = protocol.read(line) end
    if not answer then return lose(self, message) end
    take(self, answer)
  end
end

-- Asks, and waits for the end of the answer; what is to be shown meanwhile is shown.
-- @return the last message; or nil, message
local function ask(self, message)
  if self.is_over then return nil, self.loss or "the connection to the program has ended", "closed" end
  self.count = self.count + 1
  message.id = self.count
  local waiter = self.host.waiter()
  self.waiter = waiter
  local sent, why = self.stream:send(protocol.write(message))
  if not sent then lose(self, why) end
  local answer = waiter:wait()
  self.waiter = nil
  if not answer then return nil, self.loss or "the connection to the program has ended", "closed" end
  if answer.error then return nil, text.message(answer.error), "failed" end
  return answer
end

-- ------------------------------------------------------------------------ connecting --

local function say_hello(self, given)
  local hello = { hello = protocol.VERSION, token = given.token, terminal = given.is_terminal or nil, worker = given.worker }
  local sent, message = self.stream:send(protocol.write(hello))
  local line
  if sent then line, message = self.lines:next(HELLO_MS) end
  if not line then return nil, message end
  local answer = protocol.read(line)
  if not answer then return nil, line:find "^HTTP/" and "libcueball_http is needed for a console in nginx" or "it is no console" end
  if answer.error then return nil, text.message(answer.error) end
  self.hello, self.began_at = answer, self.host.now()
  return true
end

local function connect_once(given)
  local host, port = address_of.split(given.address)
  if not host then return nil, port, "failed" end
  local stream = given.host.tcp()
  stream:settimeouts(CONNECT_MS, CONNECT_MS, HELLO_MS)
  local ok, message
  if address_of.is_unix(host) then ok, message = stream:connect(host) else ok, message = stream:connect(host, port or 0) end
  if not ok then return nil, ("%s: %s"):format(text.message(given.address), message), "failed" end
  local self = setmetatable({
    host = given.host, stream = stream, out = given.print or function() end, lines = nil, count = 0, hello = nil, began_at = 0,
    form = given.form, failed = 0, is_over = false, status = 0, is_remote = true, interrupts = 0,
    waiter = nil, -- of what was asked
    loss = nil,   -- how the connection ended
    is_quitting = false, is_completing = false,
  }, Remote)
  self.lines = protocol.lines(stream, protocol.ANSWER_MAX, function(_, ms)
    stream:settimeouts(CONNECT_MS, CONNECT_MS, ms or FOREVER_MS)
  end, given.host.now)
  ok, message = upgrade.ask(stream, self.lines, given.path or "/console")
  if ok then ok, message = say_hello(self, given) end
  if ok then
    self.host.spawn(read, self)
    return self
  end
  stream:abort()
  return nil, ("%s: %s"):format(text.message(given.address), message), "failed"
end

--- Connects, in a task.
-- @param given
--   host     whose sockets are used
--   address  "unix:/path" or "IP:PORT"
--   token    nil, or what the console wants to hear
--   path     of the location in nginx, "/console" by default
--   worker   the number of the nginx worker that is wanted; nil: any
--   form     how results are shown: "table" (the default), "lua" or "json"
--   is_terminal whether a person looks at it: results have their numbers
--   print    function(text, kind): shows lines
-- @return it; or nil, message, "failed"
function remote.connect(given)
  local one, message, name = connect_once(given)
  if one and given.worker and one.hello.worker ~= given.worker then
    one:close()
    return nil, ("%s: it cannot choose a worker"):format(given.address), "failed"
  end
  return one, message, name
end

-- ------------------------------------------------------------------------- a session --

--- Runs what was typed there, and waits until it is over.
-- @return "done" or "incomplete"
function Remote:submit(input)
  if not input:find "%S" then return "done" end
  self.interrupts, self.is_quitting = 0, input:find "^%s*:%s*quit" ~= nil
  local answer, message = ask(self, { run = input, form = self.form })
  if not answer then
    self.failed = self.failed + 1
    self.out(message, "error")
    return "done"
  end
  if answer.status == "incomplete" then return "incomplete" end
  if not answer.is_well then self.failed = self.failed + 1 end
  return "done"
end

local function candidates(list)
  local found = {}
  for _, one in ipairs(type(list) == "table" and list or {}) do
    if type(one) == "table" and type(one.text) == "string" then
      found[#found + 1] = { text = one.text, note = type(one.note) == "string" and one.note or nil }
    end
  end
  return found
end

--- What the word at the cursor could become.
-- @return list of { text =, note = }, and where the word begins
function Remote:complete(line, position)
  self.is_completing = true
  local answer = ask(self, { complete = line, position = position })
  self.is_completing = false
  if not answer then return {}, position + 1 end
  return candidates(answer.list), type(answer.start) == "number" and answer.start or position + 1
end

--- Has what was submitted ended, from elsewhere; if nothing was, what goes on beside. The third time for one input the program is left.
-- A completion is not waited for any longer: the program may not answer at all.
-- @return whether there was something
function Remote:interrupt()
  if self.is_completing then
    if self.waiter then self.waiter:wake() end
    return true
  end
  if self.waiter then self.interrupts = self.interrupts + 1 end
  if self.interrupts >= 3 then
    self.stream:abort()
  else
    self.host.spawn(function() self.stream:send(protocol.write { interrupt = true }) end)
  end
  return true
end

local function age_text(seconds)
  if seconds < 60 then return ("%ds"):format(seconds) end
  if seconds < 3600 then return ("%dm"):format(seconds / 60) end
  if seconds < 86400 then return ("%dh%02dm"):format(seconds / 3600, seconds % 3600 / 60) end
  return ("%dd%02dh"):format(seconds / 86400, seconds % 86400 / 3600)
end

--- What stands before a line: the process, what one may do there, and how long it has run.
function Remote:prompt(is_more)
  local hello = self.hello
  local who = ("%s[%s]"):format(text.message(hello.name or "cueball"), text.message(hello.pid or "?"))
  if hello.worker then who = ("%s worker %s"):format(who, text.message(hello.worker)) end
  local age = type(hello.age_s) == "number" and " " .. age_text(hello.age_s + (self.host.now() - self.began_at) / 1e9) or ""
  local words = ("%s %s%s"):format(who, text.message(hello.role), age)
  return is_more and (" "):rep(#words - 1) .. ">> " or words .. "> "
end

--- All that is to be seen of the pools there.
-- @return a table; or nil, message, name
function Remote:snapshot()
  local answer, message, name = ask(self, { snapshot = true })
  if not answer then return nil, message, name end
  if type(answer.snapshot) ~= "table" then return nil, "it made no snapshot", "failed" end
  return answer.snapshot
end

function Remote:close()
  self.is_over = true
  self.stream:abort()
  if self.waiter then self.waiter:wake() end
end

return remote
