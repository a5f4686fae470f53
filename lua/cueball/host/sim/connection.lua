--- The server's end of a connection: what the functions of a behaviour are given.
--
--   connection.id                            1, 2, … over the whole world
--   connection.server, connection.is_open
--   connection:send(data), close(), reset()
--   connection:half_close()                  nothing more is sent: the client reads "closed", and may go on sending
--   connection:truncate()                    closes; under TLS without saying so: the client cannot know whether it has all
--   connection.tls_error                     why TLS ended the connection
--   connection:pause(), resume()             what arrives lies unread: a client that sends on is held up; it is read
-- and any field of the test's own.
local clock = require "cueball.host.sim.clock"
local passage = require "cueball.host.sim.passage"
local stream = require "cueball.host.sim.stream"

local connection = {}

local Connection = {}
Connection.__index = Connection

--- @param id of the world's own counting
-- @param server whose it is
-- @param transport the client's end
-- @param is_surplus the server has as many as it wants: it says so and closes
function connection.new(id, server, transport, is_surplus)
  local self = setmetatable({
    id = id,
    server = server,
    transport = transport,
    is_open = true,
    is_surplus = is_surplus,
    is_half_closed = false,
    is_silent = false,      -- nothing arrives any more, either way
    door = passage.new(),      -- shut while the server does not read
    unframed = "",          -- the beginning of a request
    idle = nil,             -- the event of idle_timeout
    answers_at = 0,         -- the last reply that is being thought about
    tls = nil, tls_error = nil,
  }, Connection)
  local network = server.network
  self.to_client = stream.new(network, self, function(data, ending) self.transport:arrive(self, data, nil, ending) end)
  self.to_server = stream.new(network, self, function(data, ending)
    server.passage:pass(function() self.door:pass(function() self:take(data) end) end)
    if ending then ending() end
  end)
  local secure = server.behaviour.tls
  self.tls = secure and secure.begin(self)
  return self
end

-- The server closes a connection that says nothing for too long.
local function watch_idleness(self)
  local network, limit = self.server.network, self.server.behaviour.idle_timeout
  if not limit then return end
  self.idle = self.idle or clock.event(function()
    self.server.passage:pass(function() self:close() end)
  end, "idle_timeout", true)
  network.clock:set(self.idle, network.clock.now + math.floor(network:draw(limit) * 1e6 + 0.5))
end

--- After the connection stands, on both sides.
function Connection:welcome()
  local how, network = self.server.behaviour, self.server.network
  if self.is_surplus then
    if how.full_text then self:send(how.full_text) end
    return self:close()
  end
  if how.on_connect then how.on_connect(self) end
  if how.banner then self:send(how.banner) end
  watch_idleness(self)
  if network:strikes(how.accept_then_close) then
    network.clock:arm_in(network:draw(how.close_after), function()
      self.server.passage:pass(function() self:close() end)
    end, "accept_then_close", true)
  end
end

-- The connection is over, as far as the server knows.
local function forget(self)
  self.is_open = false
  self.server.open:remove(self)
  if self.tls then self.tls:close() end
  if self.idle then self.server.network.clock:clear(self.idle) end
  -- What lies unread is answered as what comes to a closed connection is.
  self.door:open()
end

function Connection:send(data)
  if type(data) ~= "string" then error("send: expected a string, got " .. type(data), 2) end
  if not self.is_open or self.is_half_closed or data == "" then return end
  if self.tls then return self.tls:send(data) end
  self.to_client:send(data)
end

-- The client's end hears of it after all that was sent.
function Connection:end_at_client(err)
  self.to_client:finish(function() self.transport:arrive(self, nil, err) end)
end

local function finish(self, err, is_silent)
  if not self.is_open then return end
  if self.tls and err == "closed" and not is_silent then self.tls:shutdown() end
  forget(self)
  if self.is_half_closed and err == "closed" then return end
  self:end_at_client(err)
end

--- An orderly end: the client reads "closed".
function Connection:close()
  finish(self, "closed")
end

--- An end that TLS is not told of.
function Connection:truncate()
  finish(self, "closed", true)
end

--- The client gets "connection reset by peer".
function Connection:reset()
  finish(self, "connection reset by peer")
end

--- The server sends nothing more, and takes what the client sends on.
function Connection:half_close()
  if not self.is_open or self.is_half_closed then return end
  self.is_half_closed = true
  if self.tls then self.tls:shutdown() end
  self:end_at_client "closed"
end

--- The server does not read for a while.
function Connection:pause()
  self.door:shut()
end

function Connection:resume()
  self.door:open()
end

--- The server knows it no longer, and its client is not told.
-- @param is_silent nothing arrives from now on; false: what the client sends is answered with a reset
function Connection:forsake(is_silent)
  self.is_silent = is_silent
  forget(self)
end

-- Replies leave in the order of the requests, however the delays fall.
local function answer_later(self, text)
  local network, how = self.server.network, self.server.behaviour
  local time = network.clock
  local delay = network:draw(how.reply_delay) + network:draw_slowness(how)
  self.answers_at = math.max(time.now + math.floor(delay * 1e6 + 0.5), self.answers_at)
  time:set(clock.event(function()
    self.server.passage:pass(function() self:send(text) end)
  end, "a reply", true), self.answers_at)
end

local function answer(self, request)
  local reply = self.server.behaviour.reply
  local text = reply and reply(request, self)
  if text == nil or text == false then return end
  if type(text) ~= "string" then error("reply: expected a string or nil, got " .. type(text), 0) end
  answer_later(self, text)
end

-- How long the first whole request is; nil: more has to come.
local function length_of(frame, data)
  if frame == "line" then return (data:find("\n", 1, true)) end
  if type(frame) == "number" then return #data >= frame and frame or nil end
  local length = frame(data)
  if not length then return nil end
  if type(length) ~= "number" or length % 1 ~= 0 or length < 1 or length > #data then
    error(("request: expected a length from 1 to %d or nil, got %s"):format(#data, tostring(length)), 0)
  end
  return length
end

-- Whole requests, one at a time; what is left is the beginning of the next.
local function answer_framed(self, frame, data)
  self.unframed = self.unframed .. data
  while self.is_open and self.unframed ~= "" do
    local length = length_of(frame, self.unframed)
    if not length then return end
    local request = self.unframed:sub(1, length)
    self.unframed = self.unframed:sub(length + 1)
    answer(self, request)
  end
end

--- Data of the client has arrived.
function Connection:take(data)
  local how, network = self.server.behaviour, self.server.network
  if not self.is_open then
    -- Nobody is there to take it: the kernel says so.
    self:end_at_client "connection reset by peer"
    return
  end
  self.transport:credit(self, #data)
  watch_idleness(self)
  if network:strikes(how.reset, "reset") then return self:reset() end
  if self.tls then
    data = self.tls:arrive(data)
    if not data or not self.is_open then return end
  end
  if how.request then return answer_framed(self, how.request, data) end
  answer(self, data)
end

--- The client has closed.
function Connection:client_closed()
  self.to_server:finish(function()
    self.server.passage:pass(function()
      self.door:pass(function()
        if not self.is_open then return end
        forget(self)
        local on_close = self.server.behaviour.on_close
        if on_close then on_close(self) end
      end)
    end)
  end)
end

return connection
