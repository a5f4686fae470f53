--- The terminal that a person types into, on the libuv host: host.terminal, as docs/hosts.md has it.
--
-- The happy path: raw(), read(fn), write(text), close(). What can go wrong: the Lua state ends while the terminal is raw. It is made what
-- it was before then, too.
local ffi = require "ffi"

local terminal = {}

local Terminal = {}
Terminal.__index = Terminal

local STDIN, STDOUT = 0, 1
local NEEDED = { { STDIN, "standard input" }, { STDOUT, "standard output" } }
local COOKED, RAW = 0, 1

--- The terminal takes every key by itself, and shows none: no lines, no signals by Ctrl-C.
function Terminal:raw()
  self.input:set_mode(RAW)
  self.is_raw = true
end

--- It is as it was before raw().
function Terminal:cooked()
  self.input:set_mode(COOKED)
  self.is_raw = false
end

--- How many columns and rows it has.
-- @return two numbers; nil, message: it does not tell
function Terminal:size()
  local columns, rows = self.output:get_winsize()
  if not columns then return nil, rows end
  return columns, rows
end

--- Text to the screen, with the sequences of a terminal in it.
-- @return true; or nil, message: it is gone
function Terminal:write(text)
  local request, message = self.output:write(text)
  if not request then return nil, message end
  return true
end

--- Whether what was written before is still on its way: a terminal far away is slow.
function Terminal:is_behind()
  return self.output:get_write_queue_size() > 0
end

--- From now on fn(bytes) is called, outside of any task, for what is typed; fn(nil) when nobody types any more.
function Terminal:read(fn)
  local input, tasks = self.input, self.tasks
  input:read_start(function(failure, bytes)
    tasks:call(function() fn(not failure and bytes or nil) end)
  end)
end

--- What is typed waits until read() is called again.
function Terminal:pause()
  self.input:read_stop()
end

--- From now on fn() is called, outside of any task, when the size is another.
-- @return a function that ends it; or nil, message
function Terminal:on_resize(fn)
  return self.hear("sigwinch", fn)
end

--- As Ctrl-Z does: the process stops until it is told to go on. What was raw is raw again then.
function Terminal:suspend()
  local was_raw = self.is_raw
  if was_raw then self:cooked() end
  self.uv.kill(self.uv.os_getpid(), "sigtstp")
  if was_raw then self:raw() end
end

--- What it was before. Harmless to call again.
function Terminal:close()
  if self.input:is_closing() then return end
  if self.is_raw then self:cooked() end
  ffi.gc(self.last_word, nil)
  self.input:close()
  self.output:close()
end

--- Fills in host.terminal.
-- @param host the host table, with its scheduler as host.tasks
-- @param uv   the luv module
-- @param hear function(signal, fn) → a function that ends it; or nil, message
function terminal.install(host, uv, hear)
  --- The terminal of this process: its standard input and output.
  -- @return a terminal; or nil, message: one of both is none
  function host.terminal()
    for _, one in ipairs(NEEDED) do
      if uv.guess_handle(one[1]) ~= "tty" then return nil, one[2] .. " is no terminal" end
    end
    local input, message = uv.new_tty(STDIN, true)
    if not input then return nil, message end
    local output
    output, message = uv.new_tty(STDOUT, false)
    if not output then
      input:close()
      return nil, message
    end
    local self = setmetatable({ uv = uv, tasks = host.tasks, hear = hear, input = input, output = output, is_raw = false }, Terminal)
    self.last_word = ffi.gc(ffi.new "char[1]", function() uv.tty_reset_mode() end)
    return self
  end
end

return terminal
