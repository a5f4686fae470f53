--- A fake server, and its end of each connection (`connection`: what the functions
-- of a behaviour are given).
--
--   server.connections, server.accepted      open now; ever
--   server:set{...}                          changes its behaviour (cueball.host.sim.behaviour)
--   server:stop{ reset = false }, start()    refuses connects from now on, or reset existing ones too; listens again
--   server:reset_all()                       existing connections are reset
--   server:kill()                            both; nothing of it hangs any longer either
--   server:freeze(), thaw()                  nothing it does gets done: connects, replies and closes wait
--   server.list()                            its open connections, in the order of accepting
--
--   connection.id                            1, 2, … over the whole world
--   connection.server, connection.is_open
--   connection:send(data), close(), reset()
-- and any field of the test's own.
local behaviour = require "cueball.host.sim.behaviour"
local clock = require "cueball.host.sim.clock"
local gate = require "cueball.host.sim.gate"
local members = require "cueball.host.sim.members"

local server = {}

local Server = {}

-- connections is counted when asked for: no counter to drift.
function Server.__index(self, name)
  if name == "connections" then return self.open:count() end
  return Server[name]
end

local Connection = {}
Connection.__index = Connection

--- @param network whose clock, chance and wires it uses
-- @param port nil for a "unix:" address
-- @param given its behaviour
-- @param level of the caller to blame
function server.new(network, address, port, given, level)
  return setmetatable({
    network = network,
    address = address,
    port = port,
    behaviour = behaviour.of_server(nil, given or {}, level + 1),
    is_listening = true,
    accepted = 0,
    open = members.new(),
    gate = gate.new(),    -- all it does goes through here
  }, Server)
end

function Server:set(given)
  self.behaviour = behaviour.of_server(self.behaviour, given, 2)
end

function Server:list()
  return self.open:list()
end

function Server:start()
  self.is_listening = true
end

function Server:stop(options)
  self.is_listening = false
  if options and options.reset then self:reset_all() end
end

function Server:reset_all()
  for _, connection in ipairs(self:list()) do connection:reset() end
end

function Server:kill()
  self:stop { reset = true }
  -- The kernel answers for the dead: what waited is refused or reset.
  self.gate:open()
end

function Server:freeze()
  self.gate:shut()
end

function Server:thaw()
  self.gate:open()
end

--- A connect has arrived.
-- @return "connection refused"; or nil and the connection; or nil: it hangs
function Server:answer(transport)
  local how, network = self.behaviour, self.network
  if not self.is_listening then return "connection refused" end
  if network:strikes(how.refuse, "refuse") then return "connection refused" end
  if network:strikes(how.hang, "hang") then return nil end
  self.accepted = self.accepted + 1
  network.connection_id = network.connection_id + 1
  local connection = setmetatable({
    id = network.connection_id,
    server = self,
    transport = transport,
    is_open = true,
    arrives_at = { client = 0, server = 0 },   -- the last thing sent to each end
    answers_at = 0,                            -- the last reply that is being thought about
  }, Connection)
  self.open:add(connection)
  return nil, connection
end

--- After the connection stands, on both sides.
function Connection:welcome()
  local how, network = self.server.behaviour, self.server.network
  if how.on_connect then how.on_connect(self) end
  if how.banner then self:send(how.banner) end
  if network:strikes(how.accept_then_close) then
    network.clock:arm_in(network.random:draw(how.close_after), function()
      self.server.gate:pass(function() self:close() end)
    end, "accept_then_close")
  end
end

-- It is over, as far as the server knows.
local function forget(self)
  self.is_open = false
  self.server.open:remove(self)
end

function Connection:send(data)
  if type(data) ~= "string" then error("send: expected a string, got " .. type(data), 2) end
  if not self.is_open or data == "" then return end
  self.server.network:travel(self, "client", function() self.transport:arrive(self, data) end)
end

local function finish(self, err)
  if not self.is_open then return end
  forget(self)
  self.server.network:travel(self, "client", function() self.transport:arrive(self, nil, err) end)
end

--- An orderly end: the client reads "closed".
function Connection:close()
  finish(self, "closed")
end

--- The client gets "connection reset by peer".
function Connection:reset()
  finish(self, "connection reset by peer")
end

-- Replies leave in the order of the requests, however the delays fall.
local function answer_later(self, text)
  local network = self.server.network
  local time = network.clock
  local delay = network.random:draw(self.server.behaviour.reply_delay) + network:draw_slowness()
  self.answers_at = math.max(time.now + math.floor(delay * 1e6 + 0.5), self.answers_at)
  time:set(clock.event(function()
    self.server.gate:pass(function() self:send(text) end)
  end, "a reply"), self.answers_at)
end

--- Data of the client has arrived.
function Connection:take(data)
  local how, network = self.server.behaviour, self.server.network
  if not self.is_open then
    -- Nobody is there to take it: the kernel says so.
    network:travel(self, "client", function()
      self.transport:arrive(self, nil, "connection reset by peer")
    end)
    return
  end
  if network:strikes(how.reset, "reset") then return self:reset() end
  local text = how.reply and how.reply(data, self)
  if text == nil or text == false then return end
  if type(text) ~= "string" then error("reply: expected a string or nil, got " .. type(text), 0) end
  answer_later(self, text)
end

--- The client has closed.
function Connection:client_closed()
  if not self.is_open then return end
  forget(self)
  local on_close = self.server.behaviour.on_close
  if on_close then on_close(self) end
end

return server
