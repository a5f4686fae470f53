--- One direction of a connection: what is sent arrives in order, when the wire has carried it, in the pieces that the wire
-- makes of it.
--
-- The happy path: each piece is under way for one latency and arrives as it was sent.
-- What can go wrong: a piece is cut (its parts travel apart), or held back until the next one and joined with it; nothing
-- arrives while the host cannot be reached, and never again once the connection is silent.
local clock = require "cueball.host.sim.clock"

local stream = {}

local Stream = {}
Stream.__index = Stream

local PIECES_MAX = 64   -- that one is cut into

--- @param network whose clock, chance and wires it uses
-- @param connection the server's end of it
-- @param deliver function(data, after): a piece has arrived, and with it an end: after() is to be called once the piece is noted
function stream.new(network, connection, deliver)
  return setmetatable({
    network = network, connection = connection, deliver = deliver,
    arrives_at = 0,   -- the last thing sent
    last = nil,       -- it: { at =, after = an end that arrives with it }, while it is under way
    held = nil,       -- bytes that wait for more
    flush = nil,      -- the event that sends them on
  }, Stream)
end

-- arrive() is called when the wire has brought something to the other end. An end that arrives at the instant of the last bytes
-- is there when these are read, as where one segment brings both.
local function travel(self, arrive, is_end)
  local network, connection = self.network, self.connection
  local time, from = network.clock, connection.server
  local at = time.now + math.floor(network:draw(from.behaviour.latency) * 1e6 + 0.5)
  self.arrives_at = math.max(at, self.arrives_at)
  local last = self.last
  if is_end and last and last.at == self.arrives_at then
    last.after = arrive
    return
  end
  last = { at = self.arrives_at, after = nil }
  self.last = last
  local function pass()
    if self.last == last then self.last = nil end
    if connection.is_silent then return end
    arrive(last.after)
  end
  time:set(clock.event(function() network:wire(from.address):pass(pass) end, "the network", true), self.arrives_at)
end

-- In parts of random length: few long ones or many short ones.
local function cut(self, data)
  local random, parts, from = self.network.random, {}, 1
  local least = math.ceil(#data / PIECES_MAX)
  local most = least + random:whole() % (#data - 1)
  while from <= #data do
    local length = least + random:whole() % (most - least + 1)
    if from == 1 then length = math.min(length, #data - 1) end
    parts[#parts + 1] = data:sub(from, from + length - 1)
    from = from + length
  end
  return parts
end

local function carry(self, data)
  local network = self.network
  local is_cut = network:strikes(self.connection.server.behaviour.cut, "cut") and #data > 1
  if not is_cut then return travel(self, function(after) self.deliver(data, after) end) end
  for _, part in ipairs(cut(self, data)) do travel(self, function(after) self.deliver(part, after) end) end
end

local function release(self)
  local held = self.held
  if not held then return end
  self.held = nil
  self.network.clock:clear(self.flush)
  carry(self, held)
end

-- The first of those held sets the time: what is held and held again does not stay for ever.
local function hold(self, data)
  local network, was_held = self.network, self.held
  self.held = (was_held or "") .. data
  if was_held then return end
  self.flush = self.flush or clock.event(function() release(self) end, "data that is held back", true)
  local ms = network:draw(self.connection.server.behaviour.join_ms)
  network.clock:set(self.flush, network.clock.now + math.floor(ms * 1e6 + 0.5))
end

--- Sends bytes.
function Stream:send(data)
  if self.network:strikes(self.connection.server.behaviour.join, "join") then return hold(self, data) end
  if self.held then
    self.held = self.held .. data
    return release(self)
  end
  carry(self, data)
end

--- arrive() is called after all that was sent has arrived: an end of the connection.
function Stream:finish(arrive)
  release(self)
  travel(self, arrive, true)
end

return stream
