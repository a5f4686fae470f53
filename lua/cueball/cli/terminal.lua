--- The terminal of the process (src/include/cueball_terminal.h), for prompts and screens, on any host that can wait for a descriptor.
--
--   local terminal, message = require("cueball.cli.terminal").open()
--   terminal:sequences("\27[?2004h", "\27[?2004l")
--   terminal:watch(host, { keys = function() … terminal:read() … end, news = function(what) … end })
--   terminal:raw(true)
--   local columns, rows = terminal:size()
--   terminal:close()
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local terminal = {}

local STDIN, STDOUT = 0, 1
local ROOM = 65536
local EAGAIN = ffi.os == "Linux" and 11 or 35
local COLUMNS, ROWS = 80, 24 -- where the terminal does not say

local Terminal = {}
Terminal.__index = Terminal

local NEWS = {
  [tonumber(lib.CUEBALL_TERMINAL_INTERRUPTED)] = "interrupted", [tonumber(lib.CUEBALL_TERMINAL_RESIZED)] = "resized",
  [tonumber(lib.CUEBALL_TERMINAL_CONTINUED)] = "continued",
}

--- Takes the terminal on standard input.
-- @return it; or nil, message
function terminal.open()
  local bell = lib.cueball_terminal_open(STDIN)
  if bell < 0 then return nil, ("standard input is no terminal that can be used (error %d)"):format(-bell) end
  return setmetatable({ bell = bell, polls = {}, room = ffi.new("char[?]", ROOM) }, Terminal)
end

-- A poll on the descriptor; an error where the host has none.
local function poll_of(self, host, fd)
  local poll = host.poll and host.poll(fd)
  if not poll then error("the event loop cannot wait for the terminal", 0) end
  self.polls[#self.polls + 1] = poll
  return poll
end

-- All news there are, but for some.
local function tell(self, but)
  local news = NEWS[lib.cueball_terminal_next()]
  while news do
    if news ~= but then self.on_news(news) end
    news = NEWS[lib.cueball_terminal_next()]
  end
end

--- From now on what happens is told, outside of any task.
-- @param on { keys = function(): there is something to be read; news = function("interrupted", "resized" or "continued") }
function Terminal:watch(host, on)
  self.keys, self.on_keys, self.on_news = poll_of(self, host, STDIN), on.keys, on.news
  self:listen(true)
  assert(poll_of(self, host, self.bell):watch(function() tell(self) end))
end

--- Whether on.keys is told: what is typed waits meanwhile.
function Terminal:listen(is_on)
  if is_on then assert(self.keys:watch(self.on_keys)) else self.keys:unwatch() end
end

--- What was typed, as far as it is there.
-- @return bytes; "": nothing; nil: the terminal is gone
function Terminal:read()
  local count = lib.cueball_terminal_read(STDIN, self.room, ROOM)
  if count > 0 then return ffi.string(self.room, count) end
  return count == -EAGAIN and "" or nil
end

--- What was typed so far is lost.
function Terminal:forget_keys()
  local bytes
  repeat bytes = self:read() until not bytes or bytes == ""
end

--- A Ctrl-C that came so far, and was not told, will not be: it was for what is over.
function Terminal:forget_interrupts()
  tell(self, "interrupted")
end

--- What the terminal is sent when it becomes raw, and when it is given back, however that happens.
-- @param enter, leave texts of up to 64 bytes
function Terminal:sequences(enter, leave)
  assert(lib.cueball_terminal_sequences(enter, leave) == 0)
end

--- Keys as they are pressed, or lines.
function Terminal:raw(is_raw)
  lib.cueball_terminal_raw(is_raw)
end

local columns, rows = ffi.new "int[1]", ffi.new "int[1]"

--- @return its columns and rows
function Terminal:size()
  if lib.cueball_terminal_size(STDOUT, columns, rows) ~= 0 then return COLUMNS, ROWS end
  return columns[0], rows[0]
end

--- How often Ctrl-C was pressed: may be asked in the middle of anything.
function Terminal:interrupts()
  return lib.cueball_terminal_interrupts()
end

--- Somebody has heard of the Ctrl-C's so far.
function Terminal:heard()
  lib.cueball_terminal_heard()
end

function Terminal:close()
  for _, poll in ipairs(self.polls) do poll:close() end
  self.polls = {}
  lib.cueball_terminal_close()
end

return terminal
