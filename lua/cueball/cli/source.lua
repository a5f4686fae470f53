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
local EVENT_MAX = 1024 * 1024
local WHOLE = 12

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

-- @return the answer, as of cueball.http.answer; or nil, message
local function open(host, socket, at, path, options, limits)
  local is_loaded, http = pcall(require, "cueball.http.answer")
  if not is_loaded then return nil, "libcueball_http is needed: " .. text.message(http) end
  socket:settimeouts(options.timeout_ms, options.timeout_ms, options.quiet_ms or options.timeout_ms)
  local ok, message = address.connect(socket, at)
  if ok and at.is_tls then ok, message = secure(host, socket, at, options) end
  if ok then ok, message = socket:send(request_of(at, path, options)) end
  if ok then ok, message = http.read(socket, limits) end
  if ok then return ok end
  socket:close()
  return nil, text.message(message)
end

-- @return status, body; or nil, message
local function get(host, socket, at, path, options)
  local answer, fault = open(host, socket, at, path, options)
  if not answer then return nil, fault end
  local body, message = answer:rest()
  socket:close()
  if not body then return nil, text.message(message) end
  return answer.status, body
end

--- @param path without a slash before it
-- @param options { timeout_ms = for each step, and WHOLE times that for all of them; token = or nil, ca_file = or nil }
-- @return status, body; or nil, message
function source.get(host, at, path, options)
  local socket, whole_ms, is_late = host.tcp(), WHOLE * options.timeout_ms, false
  local alarm = host.alarm(function()
    is_late = true
    socket:abort()
  end)
  alarm:set(host.now() + whole_ms * 1e6)
  local status, body = get(host, socket, at, path, options)
  alarm:close()
  if is_late then return nil, ("its answer took more than %g s"):format(whole_ms / 1000) end
  return status, body
end

-- Server-sent events (the HTML standard, 9.2): fields of an event on a line each, an empty line after it. All lines of one event together
-- have EVENT_MAX bytes at most.
local function read_events(answer, on_event)
  local size, name, data, id = 0, nil, {}, nil
  local begun, begun_size = {}, 0 -- pieces of the line that is not over, however small they come
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
    local piece, message = answer:piece()
    if not piece then return nil, message or "it ended the stream" end
    local from = 1
    for at in piece:gmatch "()\n" do
      begun[#begun + 1] = piece:sub(from, at - 1)
      field((table.concat(begun):gsub("\r$", "")))
      if size > EVENT_MAX then return nil, "an event is too long" end
      begun, begun_size, from = {}, 0, at + 1
    end
    begun[#begun + 1], begun_size = piece:sub(from), begun_size + #piece - from + 1
    if size + begun_size > EVENT_MAX then return nil, "an event is too long" end
  end
end

--- Calls on_event(name, data, id) for each event, until the stream ends.
-- @param options { timeout_ms =, quiet_ms = how long nothing may come, token =, last_id = }
-- @return nil, message, status of the answer if it was no stream
function source.follow(host, at, path, options, on_event)
  local asked = setmetatable({ accept = "text/event-stream" }, { __index = options })
  local answer, fault = open(host, host.tcp(), at, path, asked, { body_max = math.huge })
  if not answer then return nil, fault end
  local message = ("it answers %d"):format(answer.status)
  if answer.status == 200 then message = select(2, read_events(answer, on_event)) end
  answer.socket:close()
  return nil, text.message(message), answer.status
end

return source
