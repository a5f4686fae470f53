--- A fake server, and its end of each connection (`connection`: what the functions
-- of a behaviour are given, see cueball.host.sim.connection).
--
--   server.connections, server.accepted      open now; ever
--   server:set{...}                          changes its behaviour (cueball.host.sim.behaviour)
--   server:stop{ reset = false }, start()    refuses connects from now on, or reset existing ones too; listens again
--   server:reset_all()                       existing connections are reset
--   server:kill()                            both; nothing of it hangs any longer either
--   server:freeze(), thaw()                  nothing it does gets done: connects, replies and closes wait
--   server:fail_over{ reset = false }        another one takes over its address, and knows nothing of the connections of before
--   server.list()                            its open connections, in the order of accepting
local behaviour = require "cueball.host.sim.behaviour"
local connection = require "cueball.host.sim.connection"
local passage = require "cueball.host.sim.passage"
local members = require "cueball.host.sim.members"

local server = {}

local Server = {}

-- connections is counted when asked for: no counter to drift.
function Server.__index(self, name)
  if name == "connections" then return self.open:count() end
  return Server[name]
end

--- @param network whose clock, chance and wires it uses
-- @param port nil for a "unix:" address
-- @param given its behaviour
function server.new(network, address, port, given)
  return setmetatable({
    network = network,
    address = address,
    port = port,
    behaviour = behaviour.of_server(nil, given or {}),
    is_listening = true,
    accepted = 0,
    open = members.new(),
    passage = passage.new(),    -- all it does goes through here
  }, Server)
end

function Server:set(given)
  self.behaviour = behaviour.of_server(self.behaviour, given)
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
  for _, one in ipairs(self:list()) do one:reset() end
end

function Server:kill()
  self:stop { reset = true }
  -- The kernel answers for the dead: what waited is refused or reset.
  self.passage:open()
end

function Server:freeze()
  self.passage:shut()
end

function Server:thaw()
  self.passage:open()
end

--- Another server takes over at this address without a word, as a standby does.  The clients of
-- before wait: what they send gets no answer.
-- @param options { reset = true }: what they send is answered with a reset
function Server:fail_over(options)
  for _, one in ipairs(self:list()) do one:forsake(not (options and options.reset)) end
end

-- The server's limit of connections is reached.
-- @return "connection refused"; or false: the connect hangs
local function refusal_of_full(self)
  local how = self.behaviour
  if not how.max_connections or self.connections < how.max_connections then return nil end
  if how.when_full == "refuse" then return "connection refused" end
  return how.when_full == "close" and "close" or false
end

--- A connect has arrived.
-- @return "connection refused"; or nil and the connection; or nil: it hangs
function Server:answer(transport)
  local how, network = self.behaviour, self.network
  if not self.is_listening then return "connection refused" end
  if network:strikes(how.refuse, "refuse") then return "connection refused" end
  if network:strikes(how.hang, "hang") then return nil end
  local full = refusal_of_full(self)
  if full == "connection refused" then return full end
  if full == false then return nil end
  self.accepted = self.accepted + 1
  network.connection_id = network.connection_id + 1
  local made = connection.new(network.connection_id, self, transport, full == "close")
  self.open:add(made)
  return nil, made
end

return server
