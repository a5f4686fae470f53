--- The lines between a console and who is attached: each is a JSON object, or, for people with socat, Lua as it is typed. docs/console.md
-- has them all.
--
--   local lines = protocol.lines(stream, limit, limit_of, now)
--   lines:next(timeout_ms)      → a line without its end; nil, "closed"; nil, "timeout", and what came is kept; nil, "too long"
--   protocol.read(line)         → the message; nil, message
--   protocol.write(message)     → the line, with its end
local json = require "cueball.monitor.json"
local text = require "cueball.text"

local protocol = {}

--- Of the messages. Another number means that an older program does not understand a newer one.
protocol.VERSION = 1

--- What a line may have.
protocol.LINE_MAX = 64 * 1024

--- What an answer may have, in the eyes of who reads it.
protocol.ANSWER_MAX = 32 * 1024 * 1024

--- The name in the header Upgrade.
protocol.UPGRADE = "cueball-console"

local Lines = {}
Lines.__index = Lines

--- @param stream   with receiveany
-- @param limit     how many bytes a line may have
-- @param limit_of  function(stream, ms): sets how long a receive may take; nil: for ever
-- @param now       a clock, in nanoseconds
function protocol.lines(stream, limit, limit_of, now)
  return setmetatable({ stream = stream, limit = limit, limit_of = limit_of, now = now, pieces = {}, size = 0, rest = "" }, Lines)
end

-- A line that is complete in what has come. What has no line end is kept in pieces, so that a long line costs no more than its length.
local function complete_line(self)
  local at = self.rest:find("\n", 1, true)
  if not at then
    if self.rest ~= "" then
      self.pieces[#self.pieces + 1], self.size, self.rest = self.rest, self.size + #self.rest, ""
    end
    return nil
  end
  self.pieces[#self.pieces + 1] = self.rest:sub(1, at - 1)
  local line = table.concat(self.pieces):gsub("\r$", "")
  self.pieces, self.size, self.rest = {}, 0, self.rest:sub(at + 1)
  return line
end

--- The next line.
-- @param timeout_ms for the whole line, however it comes; nil: it waits for as long as it takes
function Lines:next(timeout_ms)
  local deadline = timeout_ms and self.now() + timeout_ms * 1e6
  while true do
    local line = complete_line(self)
    if line and #line > self.limit or self.size > self.limit then return nil, "too long" end
    if line then return line end
    local left_ms = deadline and (deadline - self.now()) / 1e6
    if left_ms and left_ms <= 0 then return nil, "timeout" end
    self.limit_of(self.stream, left_ms and math.ceil(left_ms))
    local data, message = self.stream:receiveany(16384)
    if not data then return nil, message end
    self.rest = data
  end
end

--- What comes next, line or not: of what stands before the lines.
-- @param timeout_ms a number
-- @return bytes; or nil, message
function Lines:piece(timeout_ms)
  local rest = self.rest
  self.rest = ""
  if rest ~= "" then return rest end
  self.limit_of(self.stream, math.ceil(timeout_ms))
  return self.stream:receiveany(16384)
end

--- Takes back the end of a piece, which belongs to the lines.
function Lines:put_back(bytes)
  self.rest = bytes .. self.rest
end

--- @return a table; or nil, message
function protocol.read(line)
  local message = json.decode(line)
  if type(message) == "table" then return message end
  return nil, "this line is no JSON object"
end

--- @return a line
function protocol.write(message)
  return json.encode(message, text.clean_lines) .. "\n" -- line ends in texts stay: JSON escapes them
end

return protocol
