--- What happens, told as it happens, to whoever reads /events (server-sent events, as HTML's standard has them).
--
-- The happy path: one subscription to the log and one snapshot a second serve all readers; each reader's task sends what is new.
-- A record has an id, so that a reader whose connection was cut says which was its last, and misses nothing that is still kept.
-- What can go wrong: a reader is slower than what happens: what waits for it is bounded, and beyond that its connection is closed.
local form = require "cueball.log.form"
local log = require "cueball.log"
local text = require "cueball.text"

local stream = {}

local KEPT = 1000            -- records, for who comes back
local FIRST = 100            -- of them for who comes new
local QUEUE_MAX = 1048576    -- bytes that wait for one reader
local BEAT_MS = 1000

local Stream = {}
Stream.__index = Stream

local function nothing() end

-- One event in the wire's form.
local function event_of(kind, data, id)
  return ("%sevent: %s\ndata: %s\n\n"):format(id and ("id: %s\n"):format(id) or "", kind, data)
end

local function push(reader, piece)
  if reader.is_over then return end
  local is_behind = reader.size > 0 -- one snapshot may be large: what counts is what waits
  reader.size = reader.size + #piece
  if is_behind and reader.size > QUEUE_MAX then
    reader.is_over = true
    reader.connection.socket:abort()
  else
    reader.queue[#reader.queue + 1] = piece
  end
  local waiter = reader.waiter
  reader.waiter = nil
  if waiter then waiter:wake() end
end

local function broadcast(self, piece)
  for reader in pairs(self.readers) do push(reader, piece) end
end

local function keep(self, record)
  self.count = self.count + 1
  local made = { event = event_of("record", form.json(record), self.epoch .. "-" .. self.count), pool = record.pool }
  self.kept[self.count % KEPT] = made
  return made
end

local function hear(self, record)
  local made = keep(self, record)
  if self.wants(made.pool) then broadcast(self, made.event) end
end

-- What a reader has missed: after the id of its last one, or the latest few.
local function missed_by(self, last_id)
  local epoch, number = (last_id or ""):match "^(%w+)%-(%d+)$"
  local from = self.count - FIRST + 1
  if epoch == self.epoch then from = math.max(tonumber(number) + 1, self.count - KEPT + 1) end
  local pieces = {}
  for index = math.max(1, from), self.count do
    local made = self.kept[index % KEPT]
    if self.wants(made.pool) then pieces[#pieces + 1] = made.event end
  end
  return table.concat(pieces)
end

-- A snapshot, as an event; a comment: there is none, which the log has told.
local function snapshot_event(self, reader)
  local ok, made = xpcall(self.snapshot, text.traced, reader.focus)
  if ok then return event_of("snapshot", made) end
  log.say(self.host, "error", "the monitor: no snapshot could be made: " .. text.clean_lines(made), "snapshot_threw")
  return ":\n\n"
end

-- A snapshot a second, as long as somebody reads.
local function beat(self)
  while next(self.readers) and not self.is_closed do
    local readers = {} -- some may leave while a snapshot is made
    for reader in pairs(self.readers) do readers[#readers + 1] = reader end
    for _, reader in ipairs(readers) do push(reader, snapshot_event(self, reader)) end
    self.host.sleep(BEAT_MS)
  end
  self.is_beating = false
end

-- Sends what is new until the connection ends, or the server.
local function serve(self, reader, response)
  while not reader.is_over and not self.is_closed do
    if not reader.queue[1] then
      reader.waiter = self.host.waiter()
      reader.waiter:wait()
    end
    local pieces = table.concat(reader.queue)
    reader.queue, reader.size = {}, 0
    if not reader.is_over and not response:write(pieces) then return end
  end
end

--- Answers a request with all that happens from now on.
-- @return false: there are too many readers; nothing was answered
function Stream:answer(request, response, connection, headers)
  if self.reader_count >= self.readers_max then return false end
  response.keeps_alive = false
  local all = { { "Content-Type", "text/event-stream" }, unpack(headers) }
  if not response:stream(200, all) or response.is_head then return true end
  local reader = {
    connection = connection, focus = request.arguments:get "pool", queue = {}, size = 0, waiter = nil, is_over = false,
  }
  response:write("retry: 2000\n\n" .. missed_by(self, request.headers["last-event-id"]))
  self.readers[reader], self.reader_count = true, self.reader_count + 1
  if not self.is_beating then
    self.is_beating = true
    self.host.spawn(beat, self)
  else
    push(reader, snapshot_event(self, reader))
  end
  serve(self, reader, response)
  self.readers[reader], self.reader_count = nil, self.reader_count - 1
  return true
end

--- Ends: readers are told nothing more.
function Stream:close()
  self.is_closed = true
  self.unsubscribe()
  for reader in pairs(self.readers) do push(reader, "") end
end

--- @param host
-- @param given { readers_max =; wants = nil or function(name of a pool or nil) → boolean;
--   snapshot = function(name of the pool that is shown whole, or nil) → JSON, in a task }
function stream.new(host, given)
  local self = setmetatable({
    host = host, snapshot = given.snapshot, readers_max = given.readers_max, wants = given.wants or function() return true end,
    readers = {}, reader_count = 0, kept = {}, count = 0, epoch = ("%x"):format(host.seed()),
    is_beating = false, is_closed = false, unsubscribe = nothing,
  }, Stream)
  for _, record in ipairs(log.recent { limit = FIRST }) do keep(self, record) end
  self.unsubscribe = log.subscribe(function(record) hear(self, record) end)
  return self
end

return stream
