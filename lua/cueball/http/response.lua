--- The answer to one request: whole, or as a stream.
local misuse = require "cueball.misuse"

local response = {}

local Response = {}
Response.__index = Response

local REASONS = {
  [200] = "OK", [204] = "No Content", [304] = "Not Modified", [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden",
  [404] = "Not Found", [405] = "Method Not Allowed", [408] = "Request Timeout", [414] = "URI Too Long", [421] = "Misdirected Request",
  [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [501] = "Not Implemented", [503] = "Service Unavailable",
  [505] = "HTTP Version Not Supported",
}

--- @param socket to which it is sent
-- @param request nil: what came was none
-- @param keeps_alive whether another request may follow
function response.new(socket, request, keeps_alive)
  return setmetatable({
    socket = socket, is_head = request ~= nil and request.method == "HEAD", minor = request and request.minor or 1,
    keeps_alive = keeps_alive, is_begun = false, is_over = false, is_chunked = false,
  }, Response)
end

-- A header's value comes from us, or went through text.clean: no line end can be in it.
local function head_of(self, status, headers)
  local lines = { ("HTTP/1.1 %d %s"):format(status, REASONS[status] or "Status") }
  for _, header in ipairs(headers) do lines[#lines + 1] = ("%s: %s"):format(header[1], header[2]) end
  lines[#lines + 1] = "Connection: " .. (self.keeps_alive and "keep-alive" or "close")
  lines[#lines + 1] = "\r\n"
  return table.concat(lines, "\r\n")
end

local function begin(self)
  if self.is_begun then misuse.raise "cueball.http: a request is answered once" end
  self.is_begun = true
end

--- Answers.
-- @param headers a list of { name, value }; Content-Length and Connection are added
-- @param body nil: none; a string; or a list of strings, which are sent one by one
-- @return true; or nil, message
function Response:answer(status, headers, body)
  begin(self)
  local pieces, size = type(body) == "table" and body or { body }, 0
  for _, piece in ipairs(pieces) do size = size + #piece end
  self.is_over = true
  local all = { unpack(headers) }
  all[#all + 1] = { "Content-Length", size }
  local count = self.is_head and 0 or #pieces
  local ok, message = self.socket:send { head_of(self, status, all), count > 0 and pieces[1] or "" }
  for index = 2, count do
    if ok then ok, message = self.socket:send(pieces[index]) end
  end
  return ok, message
end

--- Begins an answer whose length nobody knows.
-- @return true; or nil, message
function Response:stream(status, headers)
  begin(self)
  self.is_chunked = self.minor >= 1
  if not self.is_chunked then self.keeps_alive = false end
  local all = { unpack(headers) }
  if self.is_chunked then all[#all + 1] = { "Transfer-Encoding", "chunked" } end
  return self.socket:send(head_of(self, status, all))
end

--- Sends a piece of a stream.
-- @return true; or nil, message
function Response:write(piece)
  if piece == "" or self.is_head then return true end
  return self.socket:send(self.is_chunked and { ("%x\r\n"):format(#piece), piece, "\r\n" } or piece)
end

--- Ends a stream.
function Response:finish()
  if self.is_over then return true end
  self.is_over = true
  return self.is_chunked and not self.is_head and self.socket:send "0\r\n\r\n" or true
end

return response
