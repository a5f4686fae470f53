--- An HTTP/1.1 server for a few clients that nobody trusts: it answers GET and the like, and reads no bodies.
--
-- The happy path: a connection comes in a task of its own; its requests are read and answered one after the other, until it is closed.
-- What can go wrong: a client sends nothing, or a byte now and then (a head has to be whole in head_timeout_ms); it sends too much
-- (head_max, headers_max: 431); it reads nothing (each MiB of an answer has to go in send_timeout_ms); it sends what is no HTTP (400);
-- there are too many (the host closes what is more than connections_max); the handler throws (500, and a line in the log). Of what a client
-- sends while it is answered, no more than the socket's HIGH_WATER lies in memory.
local log = require "cueball.log"
local reader = require "cueball.http.reader"
local response = require "cueball.http.response"
local text = require "cueball.text"

local server = {}

local PIECE = 4096 -- bytes that are read at once

local PLAIN = { "Content-Type", "text/plain; charset=utf-8" }

-- Reads until a request is whole.
-- @param limit_ms for the first byte; from then on the head has head_timeout_ms
-- @return the request; or nil, message, status: to be answered, if there is one
local function read_request(self, connection, limit_ms)
  local now, has_begun = self.host.now, not connection.reader:is_between()
  local deadline = now() + (has_begun and self.limits.head_timeout_ms or limit_ms) * 1e6
  local request, message, status = connection.reader:feed()
  while not request do
    if message then return nil, message, status end
    local left_ms = (deadline - now()) / 1e6
    if left_ms <= 0 then return nil, "the request took too long", has_begun and 408 or nil end
    connection.socket:settimeouts(self.limits.send_timeout_ms, self.limits.send_timeout_ms, math.max(1, math.ceil(left_ms)))
    local data, err = connection.socket:receiveany(PIECE)
    if data and not has_begun then
      has_begun, deadline = true, now() + self.limits.head_timeout_ms * 1e6
    end
    if data then
      request, message, status = connection.reader:feed(data)
    elseif err ~= "timeout" then
      return nil, err, nil
    end
  end
  return request
end

-- @return whether another request may follow
local function answer(self, connection, request, is_last)
  local keeps_alive = request.keeps_alive and not is_last
  local out = response.new(connection.socket, request, keeps_alive)
  local ok, thrown = xpcall(self.handle, text.traced, request, out, connection)
  if not ok then
    log.say(self.host, "error", "the HTTP server: a request could not be answered: " .. text.clean_lines(tostring(thrown)), "request_threw",
      { cause = "http" })
    if out.is_begun then return false end
    out.keeps_alive = false
    out:answer(500, { PLAIN }, "something went wrong here; the log has more\n")
    return false
  end
  if not out.is_begun then out:answer(404, { PLAIN }, "there is nothing here\n") end
  return out:finish() and out.keeps_alive
end

local function serve_connection(self, connection)
  local limits, served = self.limits, 0
  while not self.is_closed do
    local limit_ms = served == 0 and limits.head_timeout_ms or limits.idle_timeout_ms
    local request, message, status = read_request(self, connection, limit_ms)
    if not request then
      if status then response.new(connection.socket, nil, false):answer(status, { PLAIN }, text.message(message) .. "\n") end
      return
    end
    served = served + 1
    if not answer(self, connection, request, served >= limits.requests_max) then return end
  end
end

-- Another than TLS, or none that the context takes: the connection is closed, and nothing is said in clear text.
local function secure(self, socket)
  if not self.tls then return true end
  socket:settimeouts(self.limits.head_timeout_ms, self.limits.send_timeout_ms, self.limits.head_timeout_ms)
  socket:settls(self.tls)
  return socket:sslhandshake(false, nil, false)
end

local function on_connection(self, socket, peer)
  if not secure(self, socket) then return end
  local connection = { socket = socket, peer = peer, reader = reader.new(self.limits.head_max, self.limits.headers_max) }
  local ok, thrown = xpcall(serve_connection, text.traced, self, connection)
  connection.reader:free()
  socket:abort()
  if not ok then error(thrown, 0) end
end

--- Every limit, and what it is by default.
server.LIMITS = {
  connections_max = 64,     -- at once; more are closed at once
  head_max = 8192,          -- bytes of a request's head
  headers_max = 64,
  head_timeout_ms = 5000,   -- for a head to be whole
  idle_timeout_ms = 30000,  -- between requests
  send_timeout_ms = 10000,  -- for each MiB of an answer
  requests_max = 10000,     -- of one connection
}

local Server = {}
Server.__index = Server

--- Nobody can connect any more; connections are closed.
function Server:close()
  self.is_closed = true
  self.listener:close()
end

--- Serves.
-- @param host its listen is used
-- @param address as host.listen has it
-- @param given { tls = nil or a context of cueball.tls.server, mode = of a UNIX socket's path, limits = nil or some of server.LIMITS }
-- @param handle function(request, response, connection): answers a request, in a task; `connection` is { socket, peer }
-- @return the server: .address, :close(); or nil, message, name
function server.start(host, address, given, handle)
  local limits = {}
  for name, value in pairs(server.LIMITS) do limits[name] = given.limits and given.limits[name] or value end
  local self = setmetatable({
    host = host, handle = handle, tls = given.tls, limits = limits, is_closed = false, listener = nil, address = nil,
  }, Server)
  local listener, message, name = host.listen(address, { mode = given.mode, connections_max = limits.connections_max },
    function(socket, peer) on_connection(self, socket, peer) end)
  if not listener then return nil, message, name end
  self.listener, self.address = listener, listener.address
  return self
end

return server
