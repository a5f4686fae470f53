--- A plain HTTP client for specs, over sockets of cueball's own: it sends what it is told, well-formed or not. In a task of libuv's host.
--
--   local client = http_client.to "127.0.0.1:9190"         or "unix:/path"
--   client:get("/metrics", { Authorization = "Bearer …" })  → status, body, headers by name in small letters
--   client:raw("GET / HTTP/1.1\r\n\r\n")                    sends, and reads until the server closes: what came
--   local one = client:connect()                            a socket
--   http_client.answer(one)                                 → the next answer on it: status, body, headers
local address_of = require "cueball.address"
local host = require "cueball.host.uv"

local http_client = {}

local Client = {}
Client.__index = Client

local LIMIT_MS = 60000

function http_client.to(address)
  return setmetatable({ address = address }, Client)
end

function Client:connect()
  local socket = host.tcp()
  socket:settimeouts(LIMIT_MS, LIMIT_MS, LIMIT_MS)
  local at, port = address_of.split(self.address)
  assert(address_of.connect(socket, { address = at, port = port }))
  return socket
end

-- A body in chunks, until the last.
local function chunks_of(socket)
  local parts = {}
  while true do
    local size = tonumber(assert(socket:receive "*l"), 16)
    parts[#parts + 1] = size > 0 and assert(socket:receive(size)) or nil
    assert(socket:receive "*l")
    if size == 0 then return table.concat(parts) end
  end
end

--- Reads one answer.
-- @param is_head it has no body
-- @return status, body, headers
function http_client.answer(socket, is_head)
  local line = assert(socket:receive "*l")
  local status = tonumber(line:match "^HTTP/1%.1 (%d+) ")
  assert(status, line)
  local headers = {}
  for header in function() return assert(socket:receive "*l") end do
    if header == "" then break end
    local name, value = header:match "^([^:]+): ?(.*)$"
    headers[name:lower()] = value
  end
  if is_head or status == 304 then return status, "", headers end
  if headers["transfer-encoding"] == "chunked" then return status, chunks_of(socket), headers end
  local size = tonumber(headers["content-length"])
  return status, size > 0 and assert(socket:receive(size)) or "", headers
end

--- @param headers by name; Host is the address unless it is given; false: none
function http_client.request(method, path, headers, address)
  local lines, all = { ("%s %s HTTP/1.1"):format(method, path) }, { Host = address:find "^unix:" and "localhost" or address }
  for name, value in pairs(headers or {}) do all[name] = value end
  for name, value in pairs(all) do
    if value then lines[#lines + 1] = ("%s: %s"):format(name, value) end
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

function Client:get(path, headers, method)
  local socket = self:connect()
  assert(socket:send(http_client.request(method or "GET", path, headers, self.address)))
  local status, body, found = http_client.answer(socket, method == "HEAD")
  socket:close()
  return status, body, found
end

function Client:raw(bytes)
  local socket = self:connect()
  socket:send(bytes)
  local data, message, partial = socket:receive "*a"
  socket:close()
  return data or partial, message
end

return http_client
