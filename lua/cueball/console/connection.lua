--- One connection to a console, from its first line to its end. Called in a task, or in a request, of the host.
--
-- The happy path: an HTTP upgrade, or none; {"hello":1,…}; then one request after the other, each answered by lines that end with
-- {"id":…,"done":true}. Text that is no JSON is Lua as people type it, and its answer is text.
-- Another worker may be wanted: what is said is passed on to it (cueball.console.relay).
-- What comes by itself (:watch) is sent by a second task, as the first one waits for the next line.
-- What can go wrong: a browser was talked into connecting (refused by its first line); the token is wrong; a line is too long; the peer
-- reads more slowly than lines come (they are counted), or not at all (it is dropped after 5 s); it asks for something that waits, and goes
-- away (that is interrupted).
local log = require "cueball.log"
local native = require "cueball.native"
local protocol = require "cueball.console.protocol"
local response = require "cueball.http.response"
local seat = require "cueball.console.seat"
local text = require "cueball.text"
local upgrade = require "cueball.console.upgrade"

local connection = {}

local Connection = {}
Connection.__index = Connection

local BEGIN_MS, SEND_MS = 10000, 5000 -- who connects has to have said who he is within the first of them
local QUICK_MS, LOOK_MS = 60, 20 -- how long an answer is waited for before the peer is listened to again, and how long then
local SEND_PIECE = 16 * 1024       -- bytes that a peer has to take within SEND_MS
local QUEUE_MAX = 256 * 1024       -- bytes that are to be sent, of what runs beside
local WAITING_MAX, WAITING_MS = 100, 20 -- lines that were sent before they were wanted; and how long no more are read then
local COMPLETED_MAX = 8192         -- bytes of a text whose last word is completed

--- What is said to one too many.
connection.FULL = "this worker has as many consoles as it may have (connections_max)"

local PLAIN, ADVICE = "text/plain; charset=utf-8", "This is a console of cueball: use `cueball attach`.\n"

-- --------------------------------------------------------------------------- sending --

-- One task sends at a time: that of the connection, or the one for what comes by itself.
-- @return true; or nil: the peer is gone, or does not read
local function send(self, words)
  while self.is_sending and not self.is_gone do
    self.turn = self.host.waiter()
    self.turn:wait()
  end
  self.is_sending = true
  for from = 1, #words, SEND_PIECE do
    if not self.is_gone and not self.stream:send(words:sub(from, from + SEND_PIECE - 1)) then self.is_gone = true end
  end
  self.is_sending = false
  local turn = self.turn
  self.turn = nil
  if turn then turn:wake() end
  return not self.is_gone or nil
end

-- Something is to be shown: it is sent by the tasks of the connection, which have the stream.
-- @param id nil: it is no answer
local function queue(self, words, kind, id)
  local line
  if self.is_text then line = words .. "\n" else line = protocol.write { id = id, text = words, kind = kind } end
  if self.queued + #line > QUEUE_MAX then
    self.dropped = self.dropped + 1
    return
  end
  self.queue[#self.queue + 1], self.queued = line, self.queued + #line
end

local function wake_teller(self)
  local waiter = self.teller
  self.teller = nil
  if waiter then waiter:wake() end
end

-- Something comes by itself. It may be told in any task, or outside of tasks.
local function queue_live(self, words, kind)
  if self.is_gone then return end
  queue(self, words, kind)
  wake_teller(self)
end

local function flush(self)
  local lines = self.queue
  if #lines == 0 and self.dropped == 0 then return end
  local dropped = self.dropped
  self.queue, self.queued, self.dropped = {}, 0, 0
  if dropped > 0 then
    local words = ("… %d more lines, which came faster than they were read"):format(dropped)
    lines[#lines + 1] = self.is_text and words .. "\n" or protocol.write { text = words, kind = "note" }
  end
  send(self, table.concat(lines))
end

local leave

-- The program ends the connection, from the second task: what the first one waits for, the next line, may never come.
local function finish(self, why)
  if self.is_gone then return end
  send(self, self.is_text and why .. "\n" or protocol.write { bye = why })
  leave(self)
  if self.settings.cut then self.settings.cut() end
end

-- Sends what comes by itself, in a task of its own, until the connection is over.
local function tell(self)
  while not self.is_gone do
    if #self.queue == 0 and not self.is_ending then
      self.teller = self.host.waiter()
      self.teller:wait()
    end
    flush(self)
    if self.is_ending then return finish(self, "the worker exits") end
  end
end

local function answer(self, message)
  flush(self)
  message.id = self.id
  return send(self, protocol.write(message))
end

-- ------------------------------------------------------------------------- beginning --

local function is_equal(a, b)
  if type(a) ~= "string" then return false end
  local differs = #a == #b and 0 or 1
  for index = 1, #b do -- as long whatever is wrong
    if a:byte(index) ~= b:byte(index) then differs = 1 end
  end
  return differs == 0
end

-- Who it is, for changes() and the log.
local function who_of(peer)
  local parts = {}
  if peer.uid then parts[#parts + 1] = "uid " .. peer.uid end
  if peer.pid and peer.pid > 0 then parts[#parts + 1] = "pid " .. peer.pid end
  parts[#parts + 1] = text.message(peer.address)
  return table.concat(parts, ", ")
end

local function left_ms(self)
  return math.max(1, (self.begin_by - self.host.now()) / 1e6)
end

local function first_line(self)
  return self.lines:next(left_ms(self))
end

-- Answers an HTTP request, and no more after it.
local function respond(self, status, kind, body)
  local stream = { send = function(_, pieces) return send(self, table.concat(pieces)) end }
  local headers = { { "Content-Type", kind }, { "Cache-Control", "no-store" }, { "X-Content-Type-Options", "nosniff" } }
  response.new(stream, nil, false):answer(status, headers, body)
end

-- `cueball top` asks for a snapshot as it asks a monitor.
local function answer_snapshot(self, headers)
  local token = self.settings.token
  if token and not is_equal((headers.authorization or ""):match "^Bearer (.*)$", token) then return respond(self, 400, PLAIN, ADVICE) end
  respond(self, 200, "application/json", protocol.write(self.settings.snapshot()))
end

-- Answers the HTTP request that begins with this line.
-- @return true: lines follow
local function answer_http(self, first)
  local request, message, status = upgrade.read(self.lines, first, function() return left_ms(self) end)
  if message then return respond(self, status, PLAIN, message .. "\n") end
  if not request then return nil end
  local wanted = upgrade.wanted(request)
  if wanted == "console" then return send(self, upgrade.ACCEPTED) end
  if wanted == "snapshot" then return answer_snapshot(self, request.headers) end
  respond(self, 400, PLAIN, ADVICE)
end

local function refuse(self, message)
  if self.is_text then send(self, message .. "\n") else answer(self, { error = message, done = true }) end
end

local function hello_of(self)
  local process = self.settings.process()
  return {
    hello = protocol.VERSION, cueball = native.version, pid = process.pid, worker = process.worker, host = self.host.name,
    age_s = process.age_s, name = self.settings.name, role = self.allow,
  }
end

-- @return true: he may sit down
local function let_in(self, message)
  local settings = self.settings
  if settings.token and not is_equal(message and message.token, settings.token) then
    log.say(self.host, "warn", ("a console was not given its token, by %s"):format(who_of(self.peer)), "access_refused",
      { cause = "token" })
    refuse(self, message and message.token ~= nil and "this token is wrong" or "this console wants a token")
    return false
  end
  if settings.is_full then
    refuse(self, connection.FULL)
    return false
  end
  if message and message.hello ~= protocol.VERSION then
    refuse(self, ("this program speaks version %d of the protocol"):format(protocol.VERSION))
    return false
  end
  return true
end

local function sit_down(self, message)
  local settings = self.settings
  self.seat = seat.new {
    host = self.host, allow = self.allow, who = who_of(self.peer), budget_ms = settings.budget_ms, values = settings.values,
    output = function(words, kind) queue(self, words, kind, self.id) end, tell = function(words, kind) queue_live(self, words, kind) end,
    is_terminal = message and message.terminal == true,
  }
end

-- -------------------------------------------------------------------------- requests --

local handle

-- While something runs, the peer may say that it is to end. Lines for later are kept, a few; the rest wait in the kernel.
local function listen_meanwhile(self)
  if #self.waiting_lines >= WAITING_MAX then return self.host.sleep(WAITING_MS) end
  local line, message = self.lines:next(LOOK_MS)
  if line then
    local asked = protocol.read(line)
    if asked and asked.interrupt then
      self.seat:interrupt()
    else
      self.waiting_lines[#self.waiting_lines + 1] = line
    end
  elseif message ~= "timeout" then
    self.is_gone = true
  end
end

-- Runs fn in a task, and waits for it.
-- @return what fn returned; nil: it threw, or the peer is gone
local function beside(self, fn)
  local host = self.host
  local result, waiter = nil, host.waiter()
  host.spawn(function()
    local ok, first, second = xpcall(fn, text.traced)
    result = { ok, first, second }
    waiter:wake()
    if not ok then error(first, 0) end
  end)
  if not result then waiter:wait(QUICK_MS) end
  while not result and not self.is_gone do
    flush(self)
    listen_meanwhile(self)
  end
  if not result then self.seat:interrupt() end
  if not result or not result[1] then return nil end
  return result[2], result[3]
end

local run

local function refuse_long(self)
  refuse(self, ("a line may have %d bytes at most"):format(protocol.LINE_MAX))
end

local function run_text(self, line)
  self.pending = self.pending and self.pending .. "\n" .. line or line
  if #self.pending > protocol.LINE_MAX then
    self.pending = nil
    return refuse(self, ("what goes on over several lines may have %d bytes at most"):format(protocol.LINE_MAX))
  end
  local status, is_well = beside(self, function() return run(self, self.pending, "table") end)
  flush(self)
  if status ~= "incomplete" then self.pending = nil end
  self.is_well = is_well
end

local REQUESTS = {}

-- What readers may take of the program's time together: a command that ran for 50 ms has the next one wait for 200.
local PAUSE_FROM_MS, PAUSE_FACTOR, PAUSE_MAX_MS = 5, 4, 1000
local free_at = setmetatable({}, { __mode = "k" }) -- by host: each has a clock of its own

function run(self, input, form)
  local host = self.host
  if not self.seat.is_reader then return self.seat:run(input, form) end
  local wait_ms = ((free_at[host] or 0) - host.now()) / 1e6
  if wait_ms > 0 then host.sleep(wait_ms) end
  local status, is_well = self.seat:run(input, form)
  local used_ms = self.seat.used_ms
  if used_ms >= PAUSE_FROM_MS then
    free_at[host] = math.max(free_at[host] or 0, host.now()) + math.min(used_ms * PAUSE_FACTOR, PAUSE_MAX_MS) * 1e6
  end
  return status, is_well
end

function REQUESTS.run(self, asked)
  local status, is_well = beside(self, function() return run(self, asked.run, asked.form) end)
  answer(self, { done = true, status = status or "done", is_well = is_well or false })
end

function REQUESTS.complete(self, asked)
  local found, start
  if #asked.complete <= COMPLETED_MAX then
    found, start = beside(self, function() return self.seat:complete(asked.complete, asked.position) end)
  end
  answer(self, { done = true, list = self.settings.list(found or {}), start = start or 1, more = found and found.more })
end

function REQUESTS.snapshot(self)
  local taken = beside(self, function() return self.settings.snapshot() end)
  answer(self, { done = true, snapshot = taken })
end

-- What was submitted is over: it is for what goes on beside.
function REQUESTS.interrupt(self) self.seat:interrupt() end

local FORMS = { table = true, lua = true, json = true }

local function is_request(asked)
  if asked.run ~= nil then return type(asked.run) == "string" and (asked.form == nil or FORMS[asked.form]) end
  if asked.complete ~= nil then
    local position = asked.position
    return type(asked.complete) == "string" and type(position) == "number" and position >= 0 and position % 1 == 0
  end
  return asked.snapshot ~= nil or asked.interrupt ~= nil
end

function handle(self, line)
  if self.is_text then return run_text(self, line) end
  local asked, message = protocol.read(line)
  self.id = asked and (type(asked.id) == "number" and asked.id or nil)
  if not asked then return answer(self, { error = message, done = true }) end
  if not is_request(asked) then
    return answer(self, { error = "expected run, complete, snapshot or interrupt", done = true })
  end
  for name, fn in pairs(REQUESTS) do
    if asked[name] ~= nil then return fn(self, asked) end
  end
end

local function next_line(self)
  if #self.waiting_lines > 0 then return table.remove(self.waiting_lines, 1) end
  local line, message = self.lines:next()
  if message == "too long" then refuse_long(self) end
  return line
end

-- ------------------------------------------------------------------- another worker --

-- Sends what that one says, in a task of its own.
local function bring_back(self, other)
  while not self.is_gone do
    local piece = other:receiveany()
    if not piece then break end
    if not send(self, piece) then other:close() end
  end
  other:close() -- the first task, which would, is cut
  finish(self, "the worker has ended the session, or is gone")
end

-- Another worker answers: what the peer says goes there, and what that one says comes back.
local function pass_on(self, message)
  local settings = self.settings
  local other, why = settings.reach(message.worker, {
    who = who_of(self.peer), allow = self.allow, budget_ms = settings.budget_ms, name = settings.name,
    connections_max = settings.connections_max,
    first = protocol.write { hello = protocol.VERSION, terminal = message.terminal == true },
  })
  if not other then return refuse(self, why) end
  other:settimeouts(SEND_MS, SEND_MS, 0)
  settings.beside(bring_back, self, other)
  local line = next_line(self)
  while line and not self.is_gone and other:send(line .. "\n") do line = next_line(self) end
  other:close()
end

local function is_elsewhere(self, message)
  local wanted = message and message.worker
  return type(wanted) == "number" and wanted ~= self.settings.process().worker
end

local function serve_all(self)
  local line = first_line(self)
  if not line then return end
  if upgrade.is_http(line) then
    if not answer_http(self, line) then return end
    line = first_line(self)
    if not line then return end
  end
  local first = line:find "^%s*{" and protocol.read(line)
  self.is_text = not (first and first.hello)
  first = not self.is_text and first or nil
  if not let_in(self, first) then return end
  if is_elsewhere(self, first) then return pass_on(self, first) end
  sit_down(self, first)
  self.settings.beside(tell, self)
  if not self.is_text then
    if not send(self, protocol.write(hello_of(self))) then return end
    line = next_line(self)
  end
  while line and not self.is_gone do
    handle(self, line)
    if self.is_gone or self.seat.session.is_over then break end
    line = next_line(self)
  end
end

-- The connection is over, or its task is killed.
function leave(self)
  self.is_gone = true
  if self.settings.living then self.settings.living[self] = nil end
  wake_teller(self)
  if self.turn then self.turn:wake() end
  if self.seat then self.seat:close() end
end

--- Ends connections, soon.
-- @param living those of `living` in their settings
function connection.finish_all(living)
  for one in pairs(living) do
    one.is_ending = true
    wake_teller(one)
  end
end

--- Serves a connection until its end.
-- @param stream   a socket: receiveany, send, settimeouts
-- @param peer     { address =, uid =, pid = }
-- @param settings { host =, token =, allow = "read" or "write", budget_ms =, values =, name =, process = fn() → { pid, worker, age_s },
--   snapshot = fn() → a table, list = fn(table) → a list for JSON, beside = fn(fn, …): in a second task that may use the stream,
--   living = nil, or a table that has each connection while it lasts, for connection.finish_all; cut = nil, or fn(): ends the request;
--   is_full = nil, or true: there are as many as there may be;
--   reach = fn(number of a worker, given) → a stream to it; or nil, message }
function connection.serve(stream, peer, settings)
  local host = settings.host
  local self = setmetatable({
    host = host, stream = stream, peer = peer, settings = settings, allow = settings.allow, seat = nil, id = nil, lines = nil,
    is_text = false, is_gone = false, is_ending = false, queue = {}, queued = 0, dropped = 0, waiting_lines = {}, pending = nil,
    is_sending = false, turn = nil, -- who waits until the other has sent
    teller = nil,                   -- what wakes the task for what comes by itself
    begin_by = host.now() + BEGIN_MS * 1e6,
  }, Connection)
  self.lines = protocol.lines(stream, protocol.LINE_MAX, function(_, ms)
    stream:settimeouts(SEND_MS, SEND_MS, ms or 0)
    if not ms and settings.forever then settings.forever(stream) end
  end, host.now)
  self.abort = leave -- as host.guard has it
  if settings.living then settings.living[self] = true end
  host.guard(self)
  local ok, message = xpcall(serve_all, text.traced, self)
  host.unguard(self)
  leave(self)
  if not ok then error(message, 0) end
end

return connection
