--- The client's end of a connection: the transport of docs/hosts.md.
local clock = require "cueball.host.sim.clock"

local transport = {}

local Transport = {}
Transport.__index = Transport

function transport.new(network)
  return setmetatable({
    network = network,
    is_virtual = true,  -- nothing happens in it beside the program: to wait for a thread would be endless
    peer = nil,         -- "address:port" while it is open or opening
    attempt = nil,      -- a connect that has no answer yet
    connection = nil,   -- the server's end
    on_read = nil,      -- not nil: reading
    inbox = {},         -- what has come and was not read: strings, at last { err = }
    is_over = false,    -- the end has been read
    pump = nil,         -- the event that hands out the inbox
    unread = 0,         -- bytes that were sent and not read yet
    blocked = nil,      -- who waits for room to send
  }, Transport)
end

function Transport:connect(address, port, done)
  assert(not self.peer, "a transport is closed before it connects again")
  local attempt = {}
  self.peer = port and ("%s:%d"):format(address, port) or address
  self.attempt, self.inbox, self.is_over, self.unread = attempt, {}, false, 0
  self.network.transports:add(self)
  self.network:dial(self, attempt, address, port, function(err, connection)
    self.attempt, self.connection = nil, connection
    if connection then connection:welcome() end
    done(err)
  end)
end

-- Hands out what has come, until somebody pauses, closes or reads the end.
local function hand_out(self)
  while self.on_read and self.inbox[1] do
    local piece = table.remove(self.inbox, 1)
    local on_read = self.on_read
    if piece.err then
      self.is_over, self.on_read = true, nil
      return on_read(nil, piece.err)
    end
    on_read(piece.data)
  end
end

-- done(err) in the loop's time, if the connection is still this one.
local function answer_write(self, done, err)
  local connection = self.connection
  self.network.clock:arm_in(0, function()
    if self.connection == connection then done(err) end
  end, "a write")
end

local function fail_write(self, err)
  local done = self.blocked
  self.blocked = nil
  if done then answer_write(self, done, err) end
end

--- Something has come from the server; or the end, with err.
-- @param ending nil, or a function that says of an end that came with it
function Transport:arrive(connection, data, err, ending)
  if self.connection ~= connection then return end   -- closed here meanwhile
  if err and err ~= "closed" then fail_write(self, err) end
  local last = self.inbox[#self.inbox]
  if self.is_over or last and last.err then
    -- A reset after an orderly end shows in the next write only.
    self.is_reset = self.is_reset or err ~= "closed"
    return
  end
  self.is_reset = err ~= nil and err ~= "closed"
  self.inbox[#self.inbox + 1] = { data = data, err = err }
  if ending then return ending() end   -- that hands out both
  if not self.network.is_computing then return hand_out(self) end
  if self.on_read then self:read(self.on_read) end
end

--- What has come and nobody has read: nil, "data", or how it ended.
function Transport:look()
  local first = self.inbox[1]
  return first and (first.err or "data")
end

--- Takes the first of what has come and was not read.
-- @return bytes; nil: there are none; nil, how the connection ended
function Transport:take()
  local first = self.inbox[1]
  if not first then return nil end
  if first.err then return nil, first.err end
  return table.remove(self.inbox, 1).data
end

local function is_held_up(self)
  local window = self.connection.server.behaviour.window
  return window and self.unread > window
end

--- The server has read so many bytes of what was sent: there is room for more.
function Transport:credit(connection, count)
  if self.connection ~= connection then return end
  self.unread = self.unread - count
  local done = self.blocked
  if not done or is_held_up(self) then return end
  self.blocked = nil
  answer_write(self, done)
end

function Transport:write(data, done)
  local connection = assert(self.connection, "connected")
  if type(data) == "table" then data = table.concat(data) end
  if self.is_reset then
    return answer_write(self, done, self.is_over and "broken pipe" or "connection reset by peer")
  end
  self.unread = self.unread + #data
  connection.to_server:send(data)
  if is_held_up(self) then self.blocked = done else answer_write(self, done) end
end

function Transport:read(on_read)
  assert(self.connection, "connected")
  self.on_read = on_read
  if not self.inbox[1] then return end
  self.pump = self.pump or clock.event(function() hand_out(self) end, "a read")
  self.network.clock:set(self.pump, self.network.clock.now)
end

function Transport:pause()
  self.on_read = nil
end

-- An option changes nothing here; it is taken so that libraries that set one run.
function Transport:setoption()
  return true
end

function Transport:close()
  local connection, network = self.connection, self.network
  if self.pump then network.clock:clear(self.pump) end
  self.peer, self.attempt, self.connection, self.on_read, self.is_reset, self.blocked = nil, nil, nil, nil, nil, nil
  network.transports:remove(self)
  if connection then connection:client_closed() end
end

return transport
