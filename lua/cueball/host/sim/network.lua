--- The fake network: servers by address, wires that take time, faults by chance.
--
-- The happy path: connect travels for connect_delay, the server accepts, requests
-- and replies travel for `latency` each way and arrive in the order of sending, the
-- client closes, and the server learns of it one latency later.
-- What can go wrong: nobody listens there (refused), the host cannot be reached
-- (nothing arrives until it can), the server is frozen (what arrives waits at its
-- door), and what the behaviour or the faults say by chance.
local misuse = require "cueball.misuse"
local address_of = require "cueball.address"
local behaviour = require "cueball.host.sim.behaviour"
local duration = require "cueball.host.sim.duration"
local passage = require "cueball.host.sim.passage"
local members = require "cueball.host.sim.members"
local server = require "cueball.host.sim.server"
local transport = require "cueball.host.sim.transport"

local network = {}

local Network = {}
Network.__index = Network

-- How long a host without a listener takes to say so.
local REFUSAL_MS = 0.1

--- @param time a cueball.host.sim.clock
-- @param random cueball.host.sim.random: all the luck there is
function network.new(time, random)
  return setmetatable({
    clock = time,
    random = random,
    servers = {},          -- by "address:port"
    wires = {},            -- gates by address
    faults = behaviour.of_faults(false),
    transports = members.new(),
    is_computing = false,  -- the clients' program does not look what has come
    connection_id = 0,
  }, Network)
end

local function name_of(address, port)
  return port and ("%s:%d"):format(address, port) or address
end

local function check_address(who, address, port)
  if type(address) ~= "string" or address == "" then
    misuse.raise(("%s: expected an address, got %s"):format(who, tostring(address)))
  end
  if address:sub(1, 5) == "unix:" then
    if port ~= nil then misuse.raise(who .. ": a unix: address has no port") end
  elseif type(port) ~= "number" or port % 1 ~= 0 or port < 1 or port > 65535 then
    misuse.raise(("%s: expected a port from 1 to 65535, got %s"):format(who, tostring(port)))
  end
end

--- Adds a server.
-- @return the server, listening
function Network:add_server(address, port, given)
  check_address("server", address, port)
  local name = name_of(address, port)
  if self.servers[name] then misuse.raise("server: there is one at " .. name .. " already") end
  local added = server.new(self, address, port, given)
  self.servers[name] = added
  return added
end

function Network:transport()
  return transport.new(self)
end

function Network:wire(address)
  local wire = self.wires[address]
  if not wire then
    wire = passage.new()
    self.wires[address] = wire
  end
  return wire
end

--- Does it happen: by the server's own probability, or by the fault of that name?
function Network:strikes(probability, fault)
  return self.random:chance(probability) or (fault ~= nil and self.random:chance(self.faults[fault]))
end

--- ms, drawn as cueball.host.sim.duration has it.
function Network:draw(time)
  return duration.draw(self.random, time)
end

--- ms that a reply is later than the server's own reply_delay.
-- @param of the server's behaviour, or nil
function Network:draw_slowness(of)
  local ms = of and self.random:chance(of.slow) and self:draw(of.slow_ms) or 0
  return ms + (self.random:chance(self.faults.slow) and self:draw(self.faults.slow_ms) or 0)
end

--- Connects, unless transport.attempt has become another one meanwhile.
-- @param done called with nil and the connection, or an error; or never
function Network:dial(from, attempt, address, port, done)
  local fault = not port and address_of.path_fault(address)
  if fault then return self.clock:arm_in(0, function() if from.attempt == attempt then done(fault) end end, "a connect") end
  local wanted = self.servers[name_of(address, port)]
  local delay = wanted and self:draw(wanted.behaviour.connect_delay) or REFUSAL_MS
  local function answer()
    if from.attempt ~= attempt then return end
    local err, connection = wanted:answer(from)
    if err or connection then done(err, connection) end
  end
  local function arrive()
    if wanted then return wanted.passage:pass(answer) end
    if from.attempt == attempt then done("connection refused") end
  end
  self.clock:arm_in(delay, function() self:wire(address):pass(arrive) end, "a connect")
end

return network
