--- The editor of the prompt that needs nothing but the terminal: keys are decoded, the line is kept and drawn by cueball.console.editor.
local candidates = require "cueball.cli.editor.candidates"
local keys = require "cueball.console.editor.keys"
local lines = require "cueball.console.editor.line"
local screens = require "cueball.console.editor.screen"

local own = {}

local Own = {}
Own.__index = Own

--- See cueball.cli.prompt.
function own.new(prompt)
  local columns, rows = prompt.terminal:size()
  return setmetatable({
    prompt = prompt, is_raw = true, enter = "\27[?2004h", leave = "\27[?2004l",
    screen = screens.new { columns = columns, rows = rows }, decoder = keys.new(), line = lines.new(prompt.history.entries),
    ahead = {},            -- keys that were not looked at yet
    is_editing = false,    -- the input is on the screen
    input_is_over = false, -- the terminal is gone
    answer = nil,          -- { what read returns }
    left = 0,              -- rows of the input that was left
  }, Own)
end

-- What is on the screen while one types.
local function input_of(self)
  local line, prompt = self.line, self.prompt
  local session = prompt.session
  local first = session:prompt(false)
  if line.search then
    first = ("(%ssearch `%s') "):format(line.search.is_failing and "failing " or "", line.search.needle)
  end
  return { prompt = first, more = session:prompt(true), text = line.text, at = line.at,
    paint = function(words) return (prompt:painted("prompt", words)) end }
end

local function draw(self)
  if self.is_editing then self.prompt:write(self.screen:draw(input_of(self))) end
end

function Own:above(bytes)
  if not self.is_editing then return self.prompt:write(bytes) end
  self.prompt:write(self.screen:erase() .. bytes .. self.screen:draw(input_of(self)))
end

local function complete(self)
  local line = self.line
  if line:is_at_indent() then return line:insert "  " end
  local list, from = self.prompt:complete(line.text, line.at)
  if not list or #list == 0 then return self.prompt:write "\7" end
  local common = candidates.common(list)
  if #list == 1 or #common > line.at - from + 1 then return line:replace(from, common) end
  self.prompt:print(candidates.text(list, self.screen.columns), "note")
end

-- The input stays where it is, and what comes stands below.
local function leave(self)
  local bytes
  bytes, self.left = self.screen:leave(input_of(self))
  self.prompt:write(bytes)
  self.is_editing = false
end

local function submit(self)
  local line = self.line
  local input = line.text
  line:press { name = "last" }
  line:set(input)
  leave(self)
  self.answer = { input }
end

local function interrupt_input(self)
  self.line.at = #self.line.text
  leave(self)
  self.answer = { nil, "interrupted", self.line.text == "" }
end

local DO = {
  submit = submit, complete = complete, interrupt = interrupt_input,
  clear = function(self) self.prompt:write "\27[H\27[2J" self.screen.drawn = nil end,
  end_of_input = function(self) self.answer = { nil, "end" } end,
}

local function take_keys(self)
  while self.ahead[1] and not self.answer and not self.prompt.session.is_over do
    local what = self.line:press(table.remove(self.ahead, 1))
    if what then DO[what](self) end
  end
end

function Own:typed(bytes)
  self.input_is_over = not bytes
  for _, key in ipairs(bytes and self.decoder:feed(bytes) or {}) do self.ahead[#self.ahead + 1] = key end
end

function Own:interrupt(is_running)
  self.decoder:forget()
  self.ahead = { not is_running and { name = "interrupt" } or nil }
end

function Own:redraw(is_written)
  if is_written then self.screen.drawn = nil end
  local bytes = self.screen:resized(self.prompt.terminal:size())
  if self.is_editing then self.prompt:write(bytes .. self.screen:draw(input_of(self))) end
end

function Own:read(pending)
  if pending then
    if not self.prompt.has_printed then self.prompt:write(self.screen:resume(self.left)) end
    self.line:insert "\n"
  else
    self.line:clear()
  end
  self.is_editing, self.answer = true, nil
  take_keys(self)
  while not self.answer do
    if self.prompt.session.is_over or self.input_is_over then self.answer = { nil, "end" } break end
    draw(self)
    self.prompt:wait()
    take_keys(self)
  end
  self.is_editing = false
  return unpack(self.answer, 1, 3)
end

--- Its history is the prompt's.
function Own.added() end

function Own:close()
  self.prompt:write(self.screen:erase())
end

return own
