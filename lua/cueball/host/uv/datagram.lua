--- What a datagram socket stands on in the libuv host: UDP through luv. The contract is at the top of cueball.cosocket.datagram.
local address_of = require "cueball.address"
local transport = require "cueball.host.uv.transport"

local datagram, message_of = {}, transport.message_of

local Transport = {}
Transport.__index = Transport

--- @param uv the luv module
-- @param tasks the host's scheduler; callbacks that luv would not give go through its queue
function datagram.new(uv, tasks)
  return setmetatable({ uv = uv, tasks = tasks, handle = nil, lookup = nil }, Transport)
end

-- done(err) in the loop's time, unless closed by then.
local function soon(self, handle, done, err)
  self.tasks:defer(function()
    if self.handle == handle then done(err and message_of(err)) end
  end)
end

local function connect_to(self, address, port, done)
  local handle, failure = self.uv.new_udp()
  self.handle = handle or nil
  if not handle then return soon(self, nil, done, failure) end
  local ok, result, err = pcall(handle.connect, handle, address, port) -- luv throws for what is no address
  if not ok then return soon(self, handle, done, "invalid address") end
  soon(self, handle, done, not result and err or nil)
end

local function connect_name(self, name, port, done)
  transport.resolve(self, name, "dgram", function(err, addresses)
    if err then return done(err) end
    connect_to(self, addresses[1], port, done)
  end)
end

function Transport:connect(address, port, done)
  address = address:match "^%[(.*)%]$" or address
  if address:find(":", 1, true) or address_of.family(address) then return connect_to(self, address, port, done) end
  connect_name(self, address, port, done)
end

function Transport:send(data)
  local sent, err = self.handle:try_send(data, nil, nil)
  if sent then return true end
  return nil, message_of(err)
end

function Transport:receive(on_datagram)
  local handle = self.handle
  local ok, failure = handle:recv_start(function(err, data)
    if self.handle ~= handle or self.tasks.is_over then return end
    if err then return on_datagram(nil, message_of(err)) end
    if data then on_datagram(data) end -- nil: nothing more for now
  end)
  if not ok then
    self.tasks:defer(function()
      if self.handle == handle then on_datagram(nil, message_of(failure)) end
    end)
  end
end

function Transport:pause()
  if self.handle then self.handle:recv_stop() end
end

Transport.close = transport.close

return datagram
