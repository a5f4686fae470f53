--- Where the state of a running program comes from: its monitor, over HTTP.
--
--   local at = source.at "127.0.0.1:9190"
--   source.get(host, at, "snapshot", { timeout_ms = 5000, token = "…" }) → status, body; or nil, message
--   source.follow(host, at, "events", options, function(name, data, id) end) → nil, message when it has ended
--
-- With "https://" it is the same over TLS, and the program's certificate must be for the name that was typed.
-- What is read of an answer is bounded: anybody may answer there.
local address = require "cueball.address"
local said = require("cueball.text").format
local text = require "cueball.text"

local source = {}

local PORT = 9190
local LINE_MAX, HEADERS_MAX, BODY_MAX, EVENT_MAX = 16384, 100, 64 * 1024 * 1024, 1024 * 1024
local PIECE = 65536

-- -------------------------------------------------------------------------- addresses --

local function name_and_port(given)
  local name, port = given:match "^([%w.-]+):(%d+)$"
  if not name then name = given:match "^[%w.-]+$" end
  port = tonumber(port or PORT)
  return name and port <= 65535 and name, port
end

--- What was typed: "127.0.0.1:9190", "host", ":9190", "http://host:9190/below", "https://…", "unix:/run/x.sock", "/run/x.sock".
-- @return { address =, port =, path = "/", host = for the header, name = for people, is_tls = }; or nil, message
function source.at(given)
  local scheme = given:match "^(https?)://"
  local rest, below = given:gsub("^https?://", ""), "/"
  if rest:sub(1, 1) == "/" then rest = "unix:" .. rest end
  if address.is_unix(rest) then
    local fault = address.path_fault(rest)
    if fault then return nil, fault end
    return { address = rest, port = 0, path = "/", host = "localhost", name = rest }
  end
  if rest:find "/" then rest, below = rest:match "^([^/]*)(/.*)$" end
  if rest:sub(1, 1) == ":" then rest = "127.0.0.1" .. rest end
  local host, port = address.split(rest)
  if not host then host, port = name_and_port(rest) end
  if not host then return nil, said("%q is no address: expected HOST:PORT, http://HOST:PORT/ or unix:/PATH", given) end
  local joined = address.join(host, port or PORT)
  return { address = host, port = port or PORT, path = below:gsub("/+$", "") .. "/", host = joined, name = joined,
    is_tls = scheme == "https" }
end

-- ---------------------------------------------------------------------------- reading --

local Reader = {}
Reader.__index = Reader

-- @return true; or nil, message
function Reader:more()
  local piece, message = self.socket:receiveany(PIECE)
  if not piece then return nil, message end
  self.buffer = self.buffer .. piece
  return true
end

-- The next line, without its end.
function Reader:line(max)
  while true do
    local at = self.buffer:find("\n", 1, true)
    if at and at <= max then
      local found = self.buffer:sub(1, at - 1):gsub("\r$", "")
      self.buffer = self.buffer:sub(at + 1)
      return found
    end
    if at or #self.buffer > max then return nil, "a line of the answer is too long" end
    local ok, message = self:more()
    if not ok then return nil, message end
  end
end

-- So many bytes.
function Reader:take(count)
  local parts, have = { self.buffer }, #self.buffer
  while have < count do
    local piece, message = self.socket:receiveany(math.min(PIECE, count - have))
    if not piece then return nil, message end
    parts[#parts + 1], have = piece, have + #piece
  end
  local all = table.concat(parts)
  self.buffer = all:sub(count + 1)
  return all:sub(1, count)
end

-- The head of the answer (RFC 9112).
-- @return status, headers by name; or nil, message
local function read_head(reader)
  local first, message = reader:line(LINE_MAX)
  if not first then return nil, message == "closed" and "it closed the connection" or message end
  local status = first:match "^HTTP/1%.%d (%d%d%d)"
  if not status then return nil, said("it does not speak HTTP: %q", first:sub(1, 40)) end
  local headers = {}
  for _ = 1, HEADERS_MAX do
    local one, why = reader:line(LINE_MAX)
    if not one then return nil, why end
    if one == "" then return tonumber(status), headers end
    local name, value = one:match "^([^:]+):(.*)$"
    if name then headers[name:lower()] = text.trimmed(value) end
  end
  return nil, "its answer has too many headers"
end

-- The pieces of the body, one after the other: function → piece; nil: it is over; nil, message: it was cut.
local function pieces_of(reader, headers)
  if (headers["transfer-encoding"] or ""):lower():find "chunked" then
    return function()
      local head, message = reader:line(LINE_MAX)
      local size = head and tonumber(head:match "^%x+" or "", 16)
      if not size then return nil, message or "a piece of its answer has no length" end
      if size == 0 then return nil end
      if size > BODY_MAX then return nil, "its answer is too long" end
      local piece, why = reader:take(size)
      if not piece then return nil, why end
      reader:line(LINE_MAX)
      return piece
    end
  end
  local left = tonumber(headers["content-length"]) or math.huge
  if left ~= math.huge and left > BODY_MAX then return function() return nil, "its answer is too long" end end
  return function()
    if left <= 0 then return nil end
    if reader.buffer == "" then
      local ok, message = reader:more()
      if not ok and (message ~= "closed" or left ~= math.huge) then return nil, message end
      if not ok then return nil end
    end
    local piece = reader.buffer:sub(1, math.min(left, PIECE))
    reader.buffer, left = reader.buffer:sub(#piece + 1), left - #piece
    return piece
  end
end

-- ------------------------------------------------------------------------------ asking --

local function request_of(at, path, options)
  local lines = {
    ("GET %s%s HTTP/1.1"):format(at.path, path), "Host: " .. at.host, "Connection: close", "User-Agent: cueball-top",
    "Accept: " .. (options.accept or "application/json"),
  }
  if options.token then lines[#lines + 1] = "Authorization: Bearer " .. options.token end
  if options.last_id then lines[#lines + 1] = "Last-Event-ID: " .. options.last_id end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- @return true; or nil, message
local function secure(host, socket, at, options)
  local identity, message = host.tls.identity { ca_file = options.ca_file }
  if not identity then return nil, message end
  return host.tls.handshake(socket, identity, at.address, true)
end

-- @return reader, status, headers; or nil, message
local function open(host, at, path, options)
  local socket = host.tcp()
  socket:settimeouts(options.timeout_ms, options.timeout_ms, options.quiet_ms or options.timeout_ms)
  local ok, message = address.connect(socket, at)
  if ok and at.is_tls then ok, message = secure(host, socket, at, options) end
  if ok then ok, message = socket:send(request_of(at, path, options)) end
  local reader, status, headers = setmetatable({ socket = socket, buffer = "" }, Reader), nil, nil
  if ok then
    status, headers = read_head(reader)
    ok, message = status, headers
  end
  if ok then return reader, status, headers end
  socket:close()
  return nil, text.message(message)
end

--- @param path without a slash before it
-- @param options { timeout_ms =, token = or nil, ca_file = or nil }
-- @return status, body; or nil, message
function source.get(host, at, path, options)
  local reader, status, headers = open(host, at, path, options)
  if not reader then return nil, status end
  local parts, size, fault = {}, 0
  local next_piece = pieces_of(reader, headers)
  repeat
    local piece
    piece, fault = next_piece()
    parts[#parts + 1], size = piece, size + (piece and #piece or 0)
  until not piece or size > BODY_MAX
  if size > BODY_MAX then fault = "its answer is too long" end
  reader.socket:close()
  if fault then return nil, text.message(fault) end
  return status, table.concat(parts)
end

-- Server-sent events (the HTML standard, 9.2): fields of an event on a line each, an empty line after it. All lines of one event together
-- have EVENT_MAX bytes at most.
local function read_events(next_piece, on_event)
  local rest, size, name, data, id = "", 0, nil, {}, nil
  local function field(one)
    size = size + #one + 1
    if one == "" then
      if #data > 0 then on_event(name or "message", table.concat(data, "\n"), id) end
      size, name, data = 0, nil, {}
      return
    end
    local key, value = one:match "^([^:]*):? ?(.*)$"
    if key == "event" then name = value elseif key == "data" then data[#data + 1] = value elseif key == "id" then id = value end
  end
  while true do
    local piece, message = next_piece()
    if not piece then return nil, message or "it ended the stream" end
    rest = rest .. piece
    local from, at = 1, rest:find("\n", math.max(1, #rest - #piece), true)
    while at do
      field((rest:sub(from, at - 1):gsub("\r$", "")))
      if size > EVENT_MAX then return nil, "an event is too long" end
      from = at + 1
      at = rest:find("\n", from, true)
    end
    rest = rest:sub(from)
    if size + #rest > EVENT_MAX then return nil, "an event is too long" end
  end
end

--- Calls on_event(name, data, id) for each event, until the stream ends.
-- @param options { timeout_ms =, quiet_ms = how long nothing may come, token =, last_id = }
-- @return nil, message, status of the answer if it was no stream
function source.follow(host, at, path, options, on_event)
  local asked = setmetatable({ accept = "text/event-stream" }, { __index = options })
  local reader, status, headers = open(host, at, path, asked)
  if not reader then return nil, status end
  local message
  if status == 200 then
    message = select(2, read_events(pieces_of(reader, headers), on_event))
  else
    message = ("it answers %d"):format(status)
  end
  reader.socket:close()
  return nil, text.message(message), status
end

return source
