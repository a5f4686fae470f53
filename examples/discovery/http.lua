--- Asks a directory over HTTP, for the resolvers of this folder: no more than they need.
--
--   local answer, message = http.ask(sink.host, { address = "127.0.0.1", port = 8500, timeout_ms = 60000 }, "GET", "/v1/status/leader")
--   answer.headers["x-consul-index"]     names in small letters
--   answer:rest()                        the whole body, read as JSON; nil, message
--   answer:line()                        its next line, read as JSON: for answers that go on; nil, message
--   answer:close()
--
-- Answers are read by cueball.http.answer (libcueball_http). For redirects, proxies and the like take lua-resty-http (docs/libraries.md).
local http_answer = require "cueball.http.answer"
local json = require "dkjson" -- Debian: apt install lua-dkjson

local LINE_MAX = 16 * 1024 * 1024

local http = {}

local Answer = {}
Answer.__index = Answer

local function read(text, message)
  if not text then return nil, message end
  local value, _, why = json.decode(text, 1, json.null)
  if value == nil then return nil, "no JSON: " .. why end
  return value
end

function Answer:close() self.read.socket:close() end

function Answer:rest()
  local text, message = self.read:rest()
  self:close()
  return read(text, message)
end

function Answer:line()
  while true do
    local line, rest = self.kept:match "^([^\n]*)\n(.*)$"
    if line then
      self.kept = rest
      return read(line)
    end
    local piece, message = self.read:piece()
    if not piece then return nil, message or "closed" end
    if #self.kept > LINE_MAX then return nil, "a line is too long" end
    self.kept = self.kept .. piece
  end
end

-- Connects, with TLS where `at.tls` is a context of cueball.tls.
local function connect(host, at)
  local socket = host.tcp()
  socket:settimeouts(5000, 5000, at.timeout_ms or 5000)
  local ok, message = socket:connect(at.address, at.port)
  if ok and at.tls then
    socket:settls(at.tls)
    ok, message = socket:sslhandshake(false, at.name)
  end
  if ok then return socket end
  socket:close()
  return nil, message
end

--- Sends a request and reads the head of its answer.
-- @param at { address =, port =, name = for the certificate and the header Host, tls = context, timeout_ms = 5000,
--   headers = { "Name: value" } }
-- @param body nil, or a table to be sent as JSON
-- @return an answer; or nil, message, also where the status is not 200
function http.ask(host, at, method, path, body)
  local socket, message = connect(host, at)
  if not socket then return nil, ("%s:%d: %s"):format(at.address, at.port, message) end
  local text = body and json.encode(body) or ""
  local lines = {
    ("%s %s HTTP/1.1"):format(method, path), "Host: " .. (at.name or at.address), "Connection: close", "Content-Length: " .. #text,
  }
  for _, line in ipairs(at.headers or {}) do lines[#lines + 1] = line end
  local answer, sent
  sent, message = socket:send { table.concat(lines, "\r\n"), "\r\n\r\n", text }
  if sent then answer, message = http_answer.read(socket, { body_max = math.huge }) end
  if answer and answer.status == 200 then return setmetatable({ read = answer, headers = answer.headers, kept = "" }, Answer) end
  socket:close()
  return nil, ("%s:%d: %s"):format(at.address, at.port, answer and "status " .. answer.status or message)
end

return http
