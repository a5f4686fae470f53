--- PostgreSQL's messages over a cosocket: sent, received whole, each within a deadline. What the server may say at any time (parameters,
-- notices, notifications) is taken on the way; what belongs to a query is returned.
--
-- The happy path: `limit`, `send`, then `receive` until the server is ready for the next query.
--
-- What can go wrong: the time is over (the bytes that came stay, so that receiving can go on); the connection ends; what comes is no
-- message of PostgreSQL's. After the last two nothing can be received any more: `self.failure` says why.
local inbox = require "cueball.connection.postgres.inbox"
local log = require "cueball.log"
local text_of = require("cueball.text").of
local wire = require "cueball.connection.postgres.pgmoon.wire"

local sub = string.sub

local channel = {}

local PIECE = 65536

local STATUSES = { I = "idle", T = "in_transaction", E = "failed_transaction" }

local Channel = {}
Channel.__index = Channel

--- @param host, socket connected, by that host
-- @param state what is known of the connection as long as it is open: {} for a new one
-- @param notifications_max how many are kept
function channel.new(host, socket, state, notifications_max)
  state.parameters = state.parameters or {}
  state.status = state.status or "idle"
  return setmetatable({
    host = host, socket = socket, state = state,
    bytes = "", at = 1,       -- what came, and where the first message begins that was not taken
    length_max = nil,         -- of a message, as long as the server is not trusted
    deadline = nil, limit_ms = nil,
    has_fetched = false,      -- within that limit: what the socket's time limits are does not hold for what comes next
    failure = nil, failure_name = nil,
    inbox = inbox.new(notifications_max),
    on_notice = nil,          -- function(fields)
  }, Channel)
end

local LIMIT_MAX = 2 ^ 31 - 1 -- of a cosocket

local function whole(ms)
  return ms > 1 and math.floor(math.min(ms, LIMIT_MAX)) or 1
end

--- What is sent and received from now on may take so long, all in all.
function Channel:limit(ms)
  self.limit_ms, self.deadline, self.has_fetched = ms, self.host.now() + ms * 1e6, false
  local limit = whole(ms)
  self.socket:settimeouts(limit, limit, limit)
end

-- The connection is of no use any more. The first reason counts.
function Channel:fail(message, name)
  self.failure, self.failure_name = self.failure or message, self.failure_name or name
  return nil, message, name
end

local function broken(self, message)
  if message == "timeout" then return nil, ("no answer within %.6g ms"):format(self.limit_ms), "timeout" end
  return self:fail("the connection broke: " .. text_of(message), "closed")
end

function Channel:send(data)
  local sent, message = self.socket:send(data)
  if sent then return true end
  if message == "timeout" then self:fail("a query was sent in part only", "timeout") end
  return broken(self, message)
end

-- One operation of the socket has timed out, or only part of the time is over: what is left is its limit now.
local function shorten(self)
  local left = (self.deadline - self.host.now()) / 1e6
  if left <= 0 then return false end
  left = whole(left)
  self.socket:settimeouts(left, left, left)
  return true
end

-- Has more bytes come.
-- @param missing how many make the next message whole, if that is known
local function fetch(self, missing)
  if self.has_fetched and not shorten(self) then return broken(self, "timeout") end
  self.has_fetched = true
  local piece, message, partial
  if missing and missing > PIECE then
    piece, message, partial = self.socket:receive(missing)
  else
    piece, message, partial = self.socket:receiveany(PIECE)
  end
  local came = piece or partial
  if came and came ~= "" then
    self.bytes, self.at = self.at > #self.bytes and came or sub(self.bytes, self.at) .. came, 1
  end
  if piece then return true end
  return broken(self, message)
end

-- The next message, whatever it is. Only what is in self.bytes is looked at if `must_be_there`; nothing is returned if that is none.
local function take(self, must_be_there)
  if self.failure then return nil, self.failure, self.failure_name end
  while true do
    local there, missing = #self.bytes - self.at + 1, nil
    if there >= wire.HEADER then
      local letter, length = wire.head(self.bytes, self.at)
      if not letter or length > (self.length_max or math.huge) then
        return self:fail("the server sent what is no message of PostgreSQL's", "protocol")
      end
      missing = wire.HEADER + length - there
      if missing <= 0 then
        local from = self.at + wire.HEADER
        self.at = from + length
        return letter, sub(self.bytes, from, from + length - 1)
      end
    end
    if must_be_there then return nil end
    local ok, message, name = fetch(self, missing)
    if not ok then return nil, message, name end
  end
end

local UNASKED = {}

function UNASKED.S(self, body)
  local name, value = wire.parameter(body)
  if name then self.state.parameters[name] = value end
end

function UNASKED.N(self, body)
  local fields = wire.fields(body)
  if self.on_notice then
    local ok, message = pcall(self.on_notice, fields)
    if not ok then log.say(self.host, "error", "a notice handler threw: " .. text_of(message), "subscriber_threw") end
  end
end

function UNASKED.A(self, body)
  self.inbox:add(wire.notification(body))
end

function UNASKED.K(self, body)
  self.state.pid, self.state.secret = wire.backend_key(body)
end

-- @return whether the message was one that may come at any time
local function heard(self, letter, body)
  local hear = UNASKED[letter]
  if not hear then return false end
  if pcall(hear, self, body) then return true end
  self:fail("the server sent a message that cannot be read", "protocol")
  return true
end

--- The next message that belongs to what was asked.
-- @return its letter, its body; or nil, message, name
function Channel:receive()
  while true do
    local letter, body, name = take(self)
    if not letter then return nil, body, name end
    if not heard(self, letter, body) then
      if letter ~= "Z" then return letter, body end
      self.state.status = STATUSES[body] or self.state.status
      if STATUSES[body] then return letter, body end
      return self:fail("the server sent a message that cannot be read", "protocol")
    end
  end
end

--- Hears what has come although nothing was asked. Something has: this does not wait.
-- @return true: it was what may come at any time; or nil, message, and the fields of an error
function Channel:hear_unasked()
  local ok, message = fetch(self)
  while ok do
    local letter, body = take(self, true)
    if not letter then
      if self.failure then return nil, self.failure end
      if self.at <= #self.bytes then return nil, "unexpected data" end
      return true
    end
    if not heard(self, letter, body) then
      local fields = letter == "E" and wire.fields(body) or nil
      return nil, fields and fields.message or "unexpected data", fields
    end
  end
  return nil, message
end

--- Waits for a notification: until there is one in the inbox.
-- @return true; or nil, message, name: "timeout" without anything half read
function Channel:wait_for_notification()
  while not self.inbox:has_any() do
    local letter, body, name = take(self)
    if not letter then
      if name == "timeout" and self.at <= #self.bytes then self:fail("a message came in part only", "timeout") end
      return nil, body, name
    end
    if not heard(self, letter, body) then
      local fields = letter == "E" and wire.fields(body) or {}
      return self:fail(fields.message or "the server sent what nobody had asked for", fields.sqlstate or "protocol")
    end
  end
  return true
end

--- Are there bytes that belong to nothing?
function Channel:is_empty()
  return self.at > #self.bytes
end

return channel
