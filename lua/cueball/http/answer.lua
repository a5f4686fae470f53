--- One answer over HTTP/1.1, read from a socket by libcueball_http.
--
--   local got, message = answer.read(socket, { body_max = 65536 })
--   got.status, got.headers                by name in small letters
--   got:piece()                            the next piece of the body, as it comes; nil: it is over; nil, message
--   got:rest()                             the whole of it; nil, message
--   got:behind()                           after status 101: what was received behind the head
--
-- It is for one answer, after which the socket is closed: the request should have "Connection: close". A request with HEAD is not for it.
local head = require "cueball.http.head"
local library = require "cueball.http.library"
local text = require "cueball.text"
local lib, ffi = library.lib, require "ffi"

local answer = {}

local Answer = {}
Answer.__index = Answer

--- Every limit, and what it is by default.
answer.LIMITS = {
  head_max = 16384, -- bytes of the answer's head
  headers_max = 100,
  body_max = 64 * 1024 * 1024,
}

local PIECE = 65536 -- bytes that are read at once
local SHOWN = 40

local bytes_of = ffi.typeof "const char *"
local made, taken, found = ffi.new "cueball_http *[1]", ffi.new "size_t[1]", ffi.new "cueball_http_answer"

-- Waits until there is a line, or as much of one as is shown. What is no HTTP is shown: it tells who answers.
-- @return true; or nil, message
local function read_beginning(self)
  local data = ""
  while #data < SHOWN and not data:find("\n", 1, true) do
    local piece, message = self.socket:receiveany(PIECE)
    if not piece and (message ~= "closed" or data == "") then
      return nil, message == "closed" and "it closed the connection" or message
    end
    if not piece then break end
    data = data .. piece
  end
  self.data = data
  if data:find "^HTTP/" then return true end
  return nil, text.format("it does not speak HTTP: %q", data:match("^[^\r\n]*"):sub(1, SHOWN))
end

-- Reads on, from the socket too.
-- @return what comes next: a cueball_http_result; or nil, message
local function next_result(self)
  while true do
    local count = #self.data - self.at
    local result = lib.cueball_http_feed(self.pointer, ffi.cast(bytes_of, self.data) + self.at, count, taken)
    self.at = self.at + tonumber(taken[0])
    if result == lib.CUEBALL_HTTP_WANT then
      local data, message = self.socket:receiveany(PIECE)
      if not data and message ~= "closed" then return nil, message end
      self.data, self.at = data or "", 0
      if not data then result = lib.cueball_http_closed(self.pointer) end
    end
    if result == lib.CUEBALL_HTTP_FAILED then return nil, text.message(ffi.string(lib.cueball_http_error(self.pointer))) end
    if result ~= lib.CUEBALL_HTTP_WANT then return result end
  end
end

--- The next piece of the body, of whatever size.
-- @return a string that is not empty; nil: the body is over; nil, message: it was cut, is too long, or did not come in time
function Answer:piece()
  if self.is_over then return nil, self.fault end
  local result, message = next_result(self)
  if result == lib.CUEBALL_HTTP_PIECE then
    return self.data:sub(self.at - tonumber(lib.cueball_http_piece_size(self.pointer)) + 1, self.at)
  end
  self.is_over, self.fault = true, message
  return nil, message
end

--- The rest of the body.
-- @return a string; or nil, message
function Answer:rest()
  local parts = {}
  repeat
    local piece, message = self:piece()
    if message then return nil, message end
    parts[#parts + 1] = piece
  until not piece
  return table.concat(parts)
end

--- What came behind the head of an answer with 101, and is no HTTP.
function Answer:behind()
  return self.data:sub(self.at + 1)
end

--- Reads the head of an answer, in a task. The socket's limits of time hold for each read; it is not closed here.
-- @param limits nil, or some of answer.LIMITS; a body_max of math.huge is none
-- @return { status, headers, minor }, with the methods above; or nil, message
function answer.read(socket, limits)
  local function limit(name) return limits and limits[name] or answer.LIMITS[name] end
  local body_max = math.min(limit "body_max", 2 ^ 53)
  local code = lib.cueball_http_new_answer(limit "head_max", limit "headers_max", body_max, made)
  if code ~= lib.CUEBALL_OK then error("cueball.http: " .. ffi.string(require("cueball.native").lib.cueball_error_message(code)), 0) end
  local self = setmetatable({
    socket = socket, pointer = ffi.gc(made[0], lib.cueball_http_free), data = "", at = 0, is_over = false, fault = nil,
    status = nil, minor = nil, headers = nil,
  }, Answer)
  local ok, message = read_beginning(self)
  if ok then ok, message = next_result(self) end
  if not ok then return nil, message end
  lib.cueball_http_answer_of(self.pointer, found)
  self.status, self.minor, self.headers = found.status, found.minor, head.headers(self.pointer)
  return self
end

return answer
