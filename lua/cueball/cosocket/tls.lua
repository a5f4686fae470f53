--- TLS as a transport over a transport: what cueball.cosocket.socket stands on once a socket's handshake is over. The contract is that of
-- docs/sockets.md; `connect` is left to the transport below.
--
-- The happy path: handshake(done), then write, read, close. What the transport below brings goes through the engine (cueball.tls.engine),
-- and what the engine wants to send goes below, one write at a time.
-- What can go wrong: the peer's certificate, alerts, bytes that are no TLS: the engine has a text for each. An end of the connection below
-- without the peer's close_notify is use.TRUNCATED, not "closed": somebody may have cut what was sent. A kernel that has bytes may have
-- no more than a session ticket: look() gives them to the engine before it says "data".
--
-- Nothing of it may be freed while a callback runs that uses it: after each callback the engine is compared with the one of before.
local engines = require "cueball.tls.engine"
local ffi = require "ffi"
local use = require "cueball.cosocket.use"

local transport = {}

local Transport = {}
Transport.__index = Transport

local DONE, WANT, MORE, CLOSED = engines.DONE, engines.WANT, engines.MORE, engines.CLOSED
local receive, send, message_of = engines.receive, engines.send, engines.message_of
local output_of, output_taken, take_output, ffi_string = engines.output, engines.output_taken, engines.take_output, ffi.string
local PIECE = 64 * 1024         -- of what is written, that is encrypted at once
local TAKEN_MAX = 1024 * 1024   -- bytes that one look takes from the kernel
local CUT_HANDSHAKE = "TLS: the connection was closed in the middle of the handshake"

local Session = {}
Session.__index = Session
Session.__tostring = function() return "cueball TLS session" end

local function session_new(pointer)
  return setmetatable({ pointer = pointer }, Session)
end

--- Is it a session?
function transport.is_session(value)
  return type(value) == "table" and getmetatable(value) == Session
end

local function nothing() end

--- @param inner the transport below, connected
-- @param tasks the host's scheduler
-- @param context of cueball.tls
-- @return the transport; or nil, message
function transport.new(inner, tasks, context)
  local engine, message = engines.new(context)
  if not engine then return nil, message end
  return setmetatable({
    inner = inner,
    tasks = tasks,
    engine = engine,       -- false: closed
    on_read = false,       -- not false: reading
    is_inner_reading = false,
    has_more = false,      -- the engine has bytes that were not read
    ended = false,         -- how it ended, as far as is known
    is_end_told = false,
    is_pumping = false,    -- a pump is on its way
    is_writing = false,    -- a write below is under way
    data = false, sent = 0, done = false, -- what is being written: a string, how much of it the engine has, and whom to tell
    later = false,         -- what waits for that: list of data, done, data, done …
    greeter = false,       -- done of the handshake
    session = false,       -- is filled in when there is one to be resumed
    on_raw = false, on_written = false,
  }, Transport)
end

-- How a connection ended of which the transport below says that: without a close_notify.
local function end_below(err)
  return err == "closed" and use.TRUNCATED or err
end

-- How it ended, by the engine's result; nil: it has not.
local function end_of(engine, result)
  if result == DONE or result == MORE then return nil end
  return result == CLOSED and "closed" or message_of(engine)
end

-- Sends what the engine wants to send: as much as the kernel takes at once, and the rest by a write below.
-- @return true: all is sent; nil: on_written will be called; nil, message: the connection is broken
local function flush(self)
  if self.is_writing then return nil end
  local engine, inner = self.engine, self.inner
  local size, bytes = output_of(engine)
  if size == 0 then return true end
  local sent, message
  if inner.send_bytes then
    sent, message = inner:send_bytes(bytes, size)
    if sent == size then
      output_taken(engine)
      return true
    end
  end
  local rest = ffi_string(bytes + (sent or 0), size - (sent or 0))
  output_taken(engine)
  if message then return nil, message end
  if inner:write(rest, self.on_written) then return true end
  self.is_writing = true
  return nil
end

-- Goes on with what is being written, until it is all sent, or the kernel takes no more.
-- @return as flush; true: all is sent
local function write_on(self)
  local engine, data = self.engine, self.data
  local size = #data
  repeat
    local from = self.sent
    local count = math.min(PIECE, size - from)
    if count > 0 and send(engine, data, from, count) ~= DONE then return nil, self.ended or message_of(engine) end
    self.sent = from + count
    local ok, message = flush(self)
    if not ok then return nil, message end
  until self.sent == size
  self.data = false
  return true
end

-- What is written next of that which waits.
-- @return true: there is something
local function take_later(self)
  local later = self.later
  if not later then return false end
  self.data, self.sent, self.done = table.remove(later, 1), 0, table.remove(later, 1)
  if not later[1] then self.later = false end
  return true
end

-- Tells all who write that nothing more is sent.
local function fail_writers(self, engine, message)
  repeat
    local done = self.data and self.done
    self.data, self.done = false, false
    if done then done(message) end
  until self.engine ~= engine or not take_later(self)
end

local function make_on_written(self, engine)
  return function(err)
    if self.engine ~= engine then return end
    self.is_writing = false
    if err then return fail_writers(self, engine, err) end
    if not self.data then
      flush(self)   -- what the engine wanted to say meanwhile
      if self.is_writing or not take_later(self) then return end
    end
    repeat
      local ok, message = write_on(self)
      if message then return fail_writers(self, engine, message) end
      if not ok then return end
      local done = self.done
      self.done = false
      done()
    until self.engine ~= engine or self.is_writing or self.data or not take_later(self)
  end
end

-- A session that was promised is filled in as soon as there is one: with TLS 1.3 that is when the first bytes have come.
local function fill_session(self)
  local pointer = engines.session(self.engine)
  if not pointer then return end
  self.session.pointer, self.session = pointer, false
end

-- Tells the reader that nothing more will come.
local function finish(self)
  local on_read = self.on_read
  if not on_read or self.is_end_told then return end
  self.on_read, self.is_end_told = false, true
  on_read(nil, self.ended)
end

local function stop_inner(self)
  if not self.is_inner_reading then return end
  self.is_inner_reading = false
  self.inner:pause()
end

-- Hands out what the engine has, with what came from below.
local function decrypt(self, data)
  local engine = self.engine
  repeat
    local result, plain = receive(engine, data, not self.on_read)
    data = nil
    flush(self)
    if self.session then fill_session(self) end
    self.has_more = result == MORE
    local message = end_of(engine, result)
    if message then
      self.ended = self.ended or message
      stop_inner(self)
    end
    if plain then
      self.on_read(plain)
      if self.engine ~= engine then return end
    end
    if message then return finish(self) end
  until not self.has_more or not self.on_read
end

local function read_inner(self)
  if self.is_inner_reading or self.ended then return end
  self.is_inner_reading = true
  self.inner:read(self.on_raw)
end

local function greeted(self, err)
  local done = self.greeter
  self.greeter = false
  stop_inner(self)
  done(err)
end

-- One step of the handshake, with what came from below.
local function greet(self, data)
  local engine = self.engine
  local result = engines.handshake(engine, data)
  flush(self)
  if result == WANT then return read_inner(self) end
  if result ~= DONE then
    self.ended = message_of(engine)
    return greeted(self, self.ended)
  end
  self.has_more = true   -- perhaps: what came behind the handshake
  if self.session then fill_session(self) end
  greeted(self)
end

local function make_on_raw(self, engine)
  return function(data, err)
    if self.engine ~= engine then return end
    if self.greeter then
      if data then return greet(self, data) end
      self.ended, self.is_inner_reading = err == "closed" and CUT_HANDSHAKE or err, false
      return greeted(self, self.ended)
    end
    if data then
      if not self.ended then decrypt(self, data) end
      return
    end
    self.is_inner_reading = false
    self.ended = self.ended or end_below(err)
    if not self.has_more then finish(self) end   -- else in the turn of what is to be read before
  end
end

-- Hands out what is there already, in the loop's time.
local function pump(self)
  if self.is_pumping then return end
  self.is_pumping = true
  local engine = self.engine
  self.tasks:defer(function()
    self.is_pumping = false
    if self.engine ~= engine or not self.on_read then return end
    if self.has_more then decrypt(self, nil) end
    if self.engine ~= engine or not self.on_read then return end
    if self.ended then return finish(self) end
    read_inner(self)
  end)
end

--- The handshake. `done(err)` is called once: err nil, or why it failed; never inside this call.
-- @param given { name = the server's or nil, verify = boolean, status = boolean, session = of an earlier connection or nil,
--   wants_session = boolean, cert =, key = PEM or nil }
-- @return true, and the session that is promised, or nil; or nil, message: it has not begun
function Transport:handshake(given, done)
  local engine = self.engine
  local ok, message = engines.begin(engine, {
    name = given.name, verify = given.verify, status = given.status, session = given.session and given.session.pointer,
    cert = given.cert, key = given.key,
  })
  if not ok then return nil, message end
  self.on_raw, self.on_written = make_on_raw(self, engine), make_on_written(self, engine)
  local promised = given.wants_session and session_new(nil) or nil
  self.session = promised or false
  self.greeter = done
  self.tasks:defer(function()
    if self.engine == engine and self.greeter then greet(self, nil) end
  end)
  return true, promised
end

-- Tells the writer later why nothing can be sent.
local function refuse_write(self, message)
  local engine, done = self.engine, self.done
  self.data, self.done = false, false
  self.tasks:defer(function() if self.engine == engine then done(message) end end)
end

local function write_later(self, data, done)
  local later = self.later or {}
  later[#later + 1], later[#later + 2] = data, done
  self.later = later
end

function Transport:write(data, done)
  if self.is_writing or self.data then return write_later(self, data, done) end
  self.data, self.sent, self.done = data, 0, done
  local ok, message = write_on(self)
  if ok then return true end
  if message then refuse_write(self, message) end
  return nil
end

function Transport:read(on_read)
  self.on_read = on_read
  if self.has_more or self.ended then return pump(self) end
  read_inner(self)
end

function Transport:pause()
  self.on_read = false
  stop_inner(self)
end

-- Gives the engine what the kernel has.
-- @return how the connection below ended; nil: it has not
local function take_below(self)
  local inner, taken = self.inner, 0
  while inner.take and taken < TAKEN_MAX do
    local data, err = inner:take()
    if not data then return err end
    taken = taken + #data
    receive(self.engine, data, true)
  end
  return nil
end

--- What has come and was not read: nil, "data", or how the connection ended. What the kernel has is read: it may be a session ticket.
function Transport:look()
  local engine = self.engine
  local err = take_below(self)
  local result = engines.peek(engine)
  flush(self)
  if self.session then fill_session(self) end
  self.has_more = result == MORE
  self.ended = self.ended or end_of(engine, result) or end_below(err) or false
  if (self.ended or self.has_more) and self.on_read then pump(self) end
  return self.has_more and "data" or self.ended or nil
end

function Transport:setoption(name, value)
  local inner = self.inner
  if not inner.setoption then return nil, "not supported" end
  return inner:setoption(name, value)
end

--- The session that a later connection may resume; nil: there is none (yet).
function Transport:resumable()
  local pointer = engines.session(self.engine)
  return pointer and session_new(pointer)
end

--- What was agreed on, and whose certificate the peer showed.
function Transport:info()
  return engines.info(self.engine)
end

--- Closes, with a close_notify if nothing of the program's own is half sent. What lies unread in the kernel is taken before: a kernel
-- answers unread bytes, such as a ticket, with a reset, which may cost the peer what was sent to it.
function Transport:close()
  local engine, inner = self.engine, self.inner
  if not engine then return end
  if not self.is_writing and not self.data and engines.shutdown(engine) == DONE then
    local data = take_output(engine)
    if data then inner:write(data, nothing) end
    if inner.take then inner:take() end
  end
  self.engine, self.on_read, self.greeter = false, false, false
  engines.free(engine)
  inner:close()
end

return transport
