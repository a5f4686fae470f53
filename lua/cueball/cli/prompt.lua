--- A prompt on the terminal: reads what is typed and gives it to a session, of this process or of another; what is printed meanwhile stands
-- above the line that is being typed.
--
--   local prompt, message = require("cueball.cli.prompt").open { history = "history", system = system, editor = "auto" }
--   local session = … print = function(text, kind) prompt:print(text, kind) end …
--   prompt:begin(session, host)        in a task: Ctrl-C is heard from now on
--   prompt:busy(fn, ...)               calls fn, which Ctrl-C ends
--   prompt:run()                       returns when the input ends or the session is over
--   prompt:close()
--
-- A session has submit(text), complete(line, position), interrupt(), prompt(is_more), is_over (cueball.console.session). submit and
-- complete are called in the task of run, and may wait. `session.is_remote`: what it prints is escaped.
--
-- The line that is being typed is an editor's: cueball.cli.editor.
local editors = require "cueball.cli.editor"
local histories = require "cueball.cli.history"
local interruption = require "cueball.cli.interruption"
local output = require "cueball.cli.output"
local terminals = require "cueball.cli.terminal"
local text = require "cueball.text"

local prompt = {}

local COLORS = { error = "31", note = "2", result = nil, output = nil, prompt = "1" }

local Prompt = {}
Prompt.__index = Prompt

--- Takes the terminal.
-- @param given { system = cueball.cli.system, history = name of a file in the user's state folder; nil: none,
--   editor = its name, of cueball.cli.editor }
-- @return it; or nil, message
function prompt.open(given)
  local terminal, message = terminals.open()
  if not terminal then return nil, message end
  local system = given.system
  local self = setmetatable({
    terminal = terminal, system = system, is_colored = output.is_colored(system, system.stdout, "auto"),
    history = histories.open(given.history, system),
    is_running = false,    -- something that was submitted
    is_completing = false, -- the session is asked, which may wait for another program
    has_printed = false,   -- since the input was left
    editor = nil, session = nil, host = nil, waiter = nil,
  }, Prompt)
  self.editor, message = editors.open(given.editor, self)
  terminal:sequences(self.editor.enter or "", self.editor.leave or "")
  if message then self:print(message, "note") end
  return self
end

--- Bytes to the terminal.
function Prompt:write(bytes)
  self.system.stdout:write(bytes)
  self.system.stdout:flush()
end

--- Words in the colour of their kind.
-- @return them, and the sequences around them: "", "" where there are no colours
function Prompt:painted(kind, words)
  local color = self.is_colored and COLORS[kind]
  if not color then return words, "", "" end
  local on, off = ("\27[%sm"):format(color), "\27[0m"
  return on .. words .. off, on, off
end

local function wake(self)
  local waiter = self.waiter
  self.waiter = nil
  if waiter then waiter:wake() end
end

--- Shows a text, above the line that is being typed. Where that says that the session is over, nothing more is waited for.
-- @param kind "result", "error", "output" or "note"
function Prompt:print(words, kind)
  if kind ~= "output" or self.session and self.session.is_remote then words = text.clean_lines(words) end
  self.has_printed = true
  self.editor:above(self:painted(kind, words) .. "\n")
  if self.session and self.session.is_over then wake(self) end
end

--- Calls a function, in the task of run, in which something of the session's runs: Ctrl-C ends that.
-- @return what pcall does
function Prompt:busy(fn, ...)
  self.is_running, self.has_printed = true, false
  local ok, result = pcall(fn, ...)
  self.is_running = false
  self.interruption:heard()
  self.terminal:forget_interrupts()
  return ok, result
end

-- @return "done" or "incomplete"
local function submit(self, input)
  local ok, result = self:busy(self.session.submit, self.session, input)
  if not ok then self:print(text.of(result), "error") end
  return ok and result or "done"
end

--- Of the editor, in the task of run: what the word at the cursor could become.
-- @return list, and where the word begins, as of the session; an empty list after Ctrl-C
function Prompt:complete(words, position)
  self.is_completing = true
  local ok, list, from = pcall(self.session.complete, self.session, words, position)
  self.is_completing = false
  if not ok then error(list, 0) end
  return list, from
end

--- Of the editor, in the task of run: until something was typed, or Ctrl-C was pressed.
function Prompt:wait()
  self.waiter = self.host.waiter()
  self.waiter:wait()
end

local function hear_keys(self)
  local bytes = self.terminal:read()
  if not bytes then self.terminal:listen(false) end
  self.editor:typed(bytes)
  wake(self)
end

local NEWS = {
  -- What was typed ahead is not run either.
  interrupted = function(self)
    self.terminal:forget_keys()
    if self.is_running or self.is_completing then self.session:interrupt() end
    self.editor:interrupt(self.is_running)
    wake(self)
  end,
  resized = function(self) self.editor:redraw(false) end,
  continued = function(self) self.editor:redraw(true) end,
}

--- From now on keys and Ctrl-C are heard.
-- @param session see above
-- @param host    of the current task, which is that of run
function Prompt:begin(session, host)
  self.session, self.host = session, host
  self.interruption = interruption.begin(self.terminal, session.host or host, host.now)
  self.terminal:watch(host, {
    keys = function() hear_keys(self) end,
    news = function(what)
      self.interruption:heard()
      NEWS[what](self)
    end,
  })
  self.terminal:raw(self.editor.is_raw)
end

--- Reads and submits until the input ends or the session is over.
function Prompt:run()
  local session, pending = self.session, nil
  while not session.is_over do
    local input, why, was_empty = self.editor:read(pending)
    if why == "end" then break end
    if why == "interrupted" and was_empty then session:interrupt() end -- what goes on beside
    pending = nil
    if input and submit(self, input) == "incomplete" then
      pending = input
    elseif input then
      local noted = self.history:add(input)
      if noted then self.editor:added(noted) end
    end
  end
  if not session.is_over then self:write "\n" end
end

--- Calls a function that uses the terminal by itself; it is as it was before the prompt, meanwhile.
function Prompt:lend(fn, ...)
  local function taken(ok, ...)
    self.terminal:raw(self.editor.is_raw)
    if not ok then error((...), 0) end
    return ...
  end
  self.terminal:raw(false)
  return taken(pcall(fn, ...))
end

--- Gives the terminal back.
function Prompt:close()
  if self.interruption then self.interruption:finish() end
  self.editor:close()
  self.terminal:close()
end

return prompt
