--- A prompt on the terminal: reads what is typed and gives it to a session, of this process or of another; what is printed meanwhile stands
-- above the line that is being typed.
--
--   local prompt, message = require("cueball.cli.prompt").open { history = "history", system = system }
--   local session = … print = function(text, kind) prompt:print(text, kind) end …
--   prompt:run(session, host)          in a task: returns when the input ends or the session is over
--   prompt:close()
--
-- A session has submit(text), complete(line, position), interrupt(), prompt(is_more), is_over (cueball.console.session). submit and
-- complete are called in the task of run, and may wait. `session.is_remote`: what it prints is escaped.
local characters = require "cueball.console.editor.characters"
local histories = require "cueball.cli.history"
local interruption = require "cueball.cli.interruption"
local keys = require "cueball.console.editor.keys"
local lines = require "cueball.console.editor.line"
local output = require "cueball.cli.output"
local screens = require "cueball.console.editor.screen"
local terminals = require "cueball.cli.terminal"
local text = require "cueball.text"

local prompt = {}

local SHOWN_MAX = 30 -- candidates of a completion
local PASTES_ON, PASTES_OFF = "\27[?2004h", "\27[?2004l"
local COLORS = { error = "31", note = "2", result = nil, output = nil, prompt = "1" }

local Prompt = {}
Prompt.__index = Prompt

--- Takes the terminal.
-- @param given { system = cueball.cli.system, history = name of a file in the user's state folder; nil: none }
-- @return it; or nil, message
function prompt.open(given)
  local terminal, message = terminals.open()
  if not terminal then return nil, message end
  local system = given.system
  local columns, rows = terminal:size()
  local history = histories.open(given.history, system)
  return setmetatable({
    terminal = terminal, system = system, is_colored = output.is_colored(system, system.stdout, "auto"),
    screen = screens.new { columns = columns, rows = rows }, decoder = keys.new(),
    history = history, line = lines.new(history.entries),
    keys = {},             -- that were not looked at yet
    is_editing = false,    -- the input is on the screen
    is_running = false,    -- something that was submitted
    has_printed = false,   -- since the input was left
    has_ended = false, waiter = nil, session = nil,
  }, Prompt)
end

local function write(self, bytes)
  self.system.stdout:write(bytes)
  self.system.stdout:flush()
end

local function painted(self, kind, words)
  local color = self.is_colored and COLORS[kind]
  return color and ("\27[%sm%s\27[0m"):format(color, words) or words
end

-- What is on the screen while one types.
local function input_of(self)
  local line, session = self.line, self.session
  local first = session:prompt(false)
  if line.search then
    first = ("(%ssearch `%s') "):format(line.search.is_failing and "failing " or "", line.search.needle)
  end
  return { prompt = first, more = session:prompt(true), text = line.text, at = line.at,
    paint = function(words) return painted(self, "prompt", words) end }
end

local function draw(self)
  if self.is_editing then write(self, self.screen:draw(input_of(self))) end
end

--- Shows a text, above the line that is being typed.
-- @param kind "result", "error", "output" or "note"
function Prompt:print(words, kind)
  if kind ~= "output" or self.session and self.session.is_remote then words = text.clean_lines(words) end
  words = painted(self, kind, words) .. "\n"
  self.has_printed = true
  if not self.is_editing then return write(self, words) end
  write(self, self.screen:erase() .. words .. self.screen:draw(input_of(self)))
end

-- -------------------------------------------------------------- completion --

local function common_beginning(list)
  local common = list[1].text
  for _, one in ipairs(list) do
    local length = 0
    while length < #common and common:byte(length + 1) == one.text:byte(length + 1) do length = length + 1 end
    common = common:sub(1, length)
  end
  return characters.cut(common, #common)
end

-- Each with its note on a line of its own; or, without notes, beside each other.
local function candidates_text(list, columns)
  local width, has_notes, rows = 0, false, {}
  for _, one in ipairs(list) do
    width = math.max(width, characters.columns(one.text))
    has_notes = has_notes or one.note ~= nil
  end
  local in_row = has_notes and 1 or math.max(1, math.floor(columns / (width + 2)))
  local shown = math.min(#list, has_notes and SHOWN_MAX or SHOWN_MAX * in_row)
  for first = 1, shown, in_row do
    local cells = {}
    for index = first, math.min(first + in_row - 1, shown) do
      local one = list[index]
      cells[#cells + 1] = one.text .. (" "):rep(width - characters.columns(one.text)) .. (one.note and "  " .. one.note or "")
    end
    rows[#rows + 1] = text.trimmed_end(table.concat(cells, "  "))
  end
  if shown < #list then rows[#rows + 1] = ("… %d more"):format(#list - shown) end
  return table.concat(rows, "\n")
end

local function complete(self)
  local line = self.line
  if line:is_at_indent() then return line:insert "  " end
  local list, from = self.session:complete(line.text, line.at)
  if not list or #list == 0 then return write(self, "\7") end
  local common = common_beginning(list)
  if #list == 1 or #common > line.at - from + 1 then return line:replace(from, common) end
  self:print(candidates_text(list, self.screen.columns), "note")
end

-- ------------------------------------------------------------------- input --

-- The input stays where it is, and what comes stands below.
local function leave(self)
  local bytes, count = self.screen:leave(input_of(self))
  write(self, bytes)
  self.is_editing, self.has_printed = false, false
  return count
end

local function run_submission(self, input)
  self.is_running = true
  local ok, result = pcall(self.session.submit, self.session, input)
  self.is_running = false
  self.interruption:heard()
  self.terminal:forget_interrupts()
  if not ok then
    self:print(text.of(result), "error")
  end
  return ok and result or "done"
end

local function submit(self)
  local line = self.line
  local input = line.text
  line:press { name = "last" }
  line:set(input)
  local count = leave(self)
  if run_submission(self, input) == "incomplete" then
    if not self.has_printed then write(self, self.screen:resume(count)) end
    line:insert "\n"
  else
    self.history:add(input)
    line:clear()
  end
  self.is_editing = true
end

local function interrupt_input(self)
  local line = self.line
  if line.text == "" then self.session:interrupt() end -- what goes on beside
  line.at = #line.text
  leave(self)
  line:clear()
  self.is_editing = true
end

local DO = {
  submit = submit, complete = complete, interrupt = interrupt_input,
  clear = function(self) write(self, "\27[H\27[2J") self.screen.drawn = nil end,
  end_of_input = function(self) self.has_ended = true end,
}

local function take_keys(self)
  while self.keys[1] and not self.has_ended and not self.session.is_over do
    local key = table.remove(self.keys, 1)
    local what = self.line:press(key)
    if what then DO[what](self) end
  end
end

local function wake(self)
  local waiter = self.waiter
  self.waiter = nil
  if waiter then waiter:wake() end
end

local function hear_keys(self, bytes)
  if not bytes then
    self.keys[#self.keys + 1] = { name = "end_of_input" }
    self.input_is_over = true
  else
    for _, key in ipairs(self.decoder:feed(bytes)) do self.keys[#self.keys + 1] = key end
  end
  wake(self)
end

local function resize(self)
  local bytes = self.screen:resized(self.terminal:size())
  if self.is_editing then write(self, bytes .. self.screen:draw(input_of(self))) end
end

local NEWS = {
  -- What was typed ahead is not run either.
  interrupted = function(self)
    self.keys = {}
    if self.is_running then return self.session:interrupt() end
    self.keys[1] = { name = "interrupt" }
    wake(self)
  end,
  resized = resize,
  continued = function(self)
    self.screen.drawn = nil
    resize(self)
  end,
}

local function hear_news(self, what)
  self.interruption:heard()
  NEWS[what](self)
end

--- Reads and submits, in a task, until the input ends or the session is over.
-- @param session see above
-- @param host    of the current task
function Prompt:run(session, host)
  self.session = session
  self.interruption = interruption.begin(self.terminal, session.host or host)
  self.terminal:watch(host, {
    key = function(bytes) hear_keys(self, bytes) end, news = function(what) hear_news(self, what) end,
  })
  self.terminal:raw(true)
  write(self, PASTES_ON)
  self.is_editing = true
  draw(self)
  while not self.has_ended and not session.is_over do
    take_keys(self)
    if self.has_ended or session.is_over then break end
    if self.input_is_over then break end
    draw(self)
    self.waiter = host.waiter()
    if not self.keys[1] then self.waiter:wait() end
  end
  if not session.is_over then write(self, "\n") end
  self.is_editing = false
end

--- Calls a function that uses the terminal by itself; it is as it was before the prompt, meanwhile.
function Prompt:lend(fn, ...)
  local function taken(ok, ...)
    self.terminal:raw(true)
    if not ok then error((...), 0) end
    return ...
  end
  self.terminal:raw(false)
  return taken(pcall(fn, ...))
end

--- Gives the terminal back.
function Prompt:close()
  if self.interruption then self.interruption:finish() end
  write(self, self.screen:erase() .. PASTES_OFF)
  self.terminal:close()
end

return prompt
