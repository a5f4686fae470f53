--- The editor of the prompt on GNU readline, where lua-readline is installed: ~/.inputrc, vi's keys, search, the ring of what was cut.
--
-- The happy path: what was typed is put before readline, byte by byte, and lua-readline says so when a line is whole. What is printed
-- meanwhile stands above it by readline's own means (cueball.cli.editor.libreadline). A completion may have to be asked for in another
-- program, but readline wants it at once: it is given nothing, and the task asks, inserts or lists; or the same keys are put before
-- readline once more, and it is given the list. Of a paste, readline has the last line only: it would wait for its end, and the event
-- loop with it, and it draws nothing that is taller than the screen. The lines before are as those that were not finished.
--
-- What can go wrong: lua-readline calls the Lua state that called it last, whatever that does now. So everything that may call Lua runs in
-- the task of read(), and the completion is taken back when that returns. lua-readline opens the terminal for each line, and closes it
-- before readline is through with it; so readline has nothing to do with the terminal's modes (libreadline.open).
local candidates = require "cueball.cli.editor.candidates"
local characters = require "cueball.console.editor.characters"
local keys = require "cueball.console.editor.keys"
local inputrc = require "cueball.cli.editor.inputrc"
local libreadline = require "cueball.cli.editor.libreadline"
local clean_lines = require("cueball.text").clean_lines

local readline = {}

local TAB = "    "

local Readline = {}
Readline.__index = Readline

--- See cueball.cli.editor.
function readline.new(prompt)
  local fault = inputrc.fault(prompt.system.environment)
  if fault then return nil, "readline is not used: " .. fault, true end
  local lib, message = libreadline.open()
  if not lib then return nil, message end
  for _, text in ipairs(prompt.history.entries) do lib.add_history(text) end
  local has_pastes = lib.variable "enable-bracketed-paste" == "on"
  return setmetatable({
    prompt = prompt, lib = lib, is_raw = true, enter = has_pastes and "\27[?2004h" or "", leave = has_pastes and "\27[?2004l" or "",
    is_editing = false,    -- readline has the line
    mark = nil,            -- the prompt that readline has
    lines = {},            -- that readline has read
    decoder = keys.new { has_bytes = true },
    ahead = {},            -- keys that readline does not have yet
    is_over = false,       -- the terminal is gone
    is_interrupted = false,
    wanted = nil,          -- the kind of completion that was asked for
    given = nil,           -- the list for readline, when it asks again
    pending = nil,
  }, Readline)
end

-- ---------------------------------------------------------------- the line --

-- The prompt, with what takes no room in it marked.
local function mark_of(self)
  local prompt = self.prompt
  local words = prompt.session:prompt(self.pending ~= nil)
  local _, on, off = prompt:painted("prompt", words)
  if on == "" then return words end
  return "\1" .. on .. "\2" .. words .. "\1" .. off .. "\2"
end

function Readline:above(bytes)
  local lib, prompt = self.lib, self.prompt
  if not self.is_editing then return prompt:write(bytes) end
  lib.clear_line()
  prompt:write(bytes)
  local mark = mark_of(self)
  if mark ~= self.mark and not lib.is_searching() then
    self.mark = mark
    lib.set_prompt(mark)
  end
  lib.draw_line()
end

-- How many rows the cursor is below the beginning of the input, on so many columns.
local function rows_above(self, columns)
  local text, at = self.lib.line()
  local head = self.prompt.session:prompt(self.pending ~= nil) .. text:sub(1, at)
  local rows = 0
  for one in (head .. "\n"):gmatch "(.-)\n" do rows = rows + 1 + math.floor(characters.columns(one) / columns) end
  return rows - 1
end

--- The terminal has broken the rows anew; where others have written, the input begins where the cursor is.
function Readline:redraw(is_written)
  if not self.is_editing then return end
  local columns, rows = self.prompt.terminal:size()
  local above = is_written and 0 or math.min(rows_above(self, columns), rows - 1)
  self.prompt:write((above > 0 and ("\27[%dA"):format(above) or "") .. "\r\27[J")
  self.lib.resized()
end

-- -------------------------------------------------------------- completion --

-- What readline is to put in the place of the word that begins at `from`.
local function words_of(list, list_from, text, from)
  local words = {}
  for index, one in ipairs(list) do words[index] = (text:sub(1, list_from - 1) .. one.text):sub(from) end
  return words
end

-- Of readline, in the middle of a key.
local function asked(self, text, from)
  local given = self.given
  self.given = nil
  if given then return words_of(given.list, given.from, text, from) end
  self.wanted = self.lib.completion_kind()
  self.lib.mute(true)
  return {}
end

-- The list that readline shows or steps through by itself; for the others, ours has notes.
local IS_OWN_LIST = { ["%"] = true, ["*"] = true }

local function complete(self)
  local lib, prompt, kind = self.lib, self.prompt, self.wanted
  self.wanted = nil
  local text, at = lib.line()
  local before = self.pending and self.pending .. "\n" or ""
  if text:sub(1, at):find "^[^%S\n]*$" or text:sub(1, at):find "\n[^%S\n]*$" then return lib.replace(at, "  ") end
  local list, from = prompt:complete(before .. text, #before + at)
  from = list and list[1] and from - #before or 0
  if from < 1 then return lib.ring() end
  if IS_OWN_LIST[kind] then
    self.given = { list = list, from = from }
    return lib.again()
  end
  local common = candidates.common(list)
  if #list == 1 or #common > at - from + 1 then return lib.replace(from - 1, common) end
  prompt:print(candidates.text(list, (prompt.terminal:size())), "note")
end

-- ------------------------------------------------------------------- input --

function Readline:typed(bytes)
  self.is_over = not bytes
  for _, key in ipairs(bytes and self.decoder:feed(bytes) or {}) do self.ahead[#self.ahead + 1] = key end
end

function Readline:interrupt(is_running)
  self.decoder:forget()
  self.ahead, self.is_interrupted = {}, not is_running
end

-- Lines that were pasted.
local function paste(self, words)
  local lib = self.lib
  local text, at = lib.line()
  words = words:gsub("\r\n?", "\n"):gsub("%z", "")
  local head, last = words:match "^(.*\n)([^\n]*)$"
  if lib.is_searching() then
    table.insert(self.ahead, 1, { name = "bytes", text = (words:gsub("%c", " ")) })
    return
  end
  if not head then return lib.replace(at, words) end
  lib.clear_line()
  for line in (text:sub(1, at) .. head):gmatch "(.-)\n" do
    local mark = self.prompt:painted("prompt", self.prompt.session:prompt(self.pending ~= nil))
    self.prompt:write(mark .. clean_lines((line:gsub("\t", TAB))) .. "\n")
    self.pending = self.pending and self.pending .. "\n" .. line or line
  end
  self.mark = mark_of(self)
  lib.set_prompt(self.mark)
  lib.set_line(last .. text:sub(at + 1), #last)
  lib.draw_line()
end

local function begin(self)
  local lib = self.lib
  self.lines, self.is_interrupted, self.wanted, self.given = {}, false, nil, nil
  self.mark = mark_of(self)
  lib.binding.set_complete_function(function(text, from) return asked(self, text, from) end)
  lib.binding.handler_install(self.mark, function(line)
    self.lines[#self.lines + 1] = line or false
    lib.set_prompt "" -- readline shows it at once
  end)
  self.is_editing = true
end

local function finish(self)
  self.is_editing = false
  self.lib.binding.handler_remove()
  self.lib.binding.set_default_complete_function()
end

-- Bytes that belong together: what a key sends; a character.
local KEYS = { "^\27+%[[%d;<=>?]*[@-~]", "^\27+O%a", "^\27+[^\27]", "^\27+", "^[\192-\255][\128-\191]*", "^." }

local function key_at(bytes, at)
  for index = 1, #KEYS do
    local _, stop = bytes:find(KEYS[index], at)
    if stop then return stop end
  end
  return at -- a NUL
end

-- The first key of those that were typed.
local function take_key(self)
  local key = self.ahead[1]
  if key.name == "paste" then
    table.remove(self.ahead, 1)
    return paste(self, key.text)
  end
  local at = key.at or 1
  local stop = key_at(key.text, at)
  key.at = stop + 1
  if stop == #key.text then table.remove(self.ahead, 1) end
  self.lib.press(key.text:sub(at, stop))
  self.lib.mute(false)
end

function Readline:read(pending)
  self.pending = pending
  begin(self)
  while self.lines[1] == nil and not (self.is_interrupted or self.prompt.session.is_over) do
    if self.wanted then
      complete(self)
    elseif self.ahead[1] then
      take_key(self)
    elseif self.is_over then
      break
    else
      self.prompt:wait()
    end
  end
  local was_empty = not self.pending and self.lib.line() == ""
  local line = self.lines[1]
  if self.is_interrupted then
    self.lib.abandon_line()
  elseif line == nil and self.prompt.session.is_over then
    self.lib.clear_line()
  end
  finish(self)
  if self.is_interrupted then return nil, "interrupted", was_empty end
  if not line then return nil, "end" end
  return self.pending and self.pending .. "\n" .. line or line
end

function Readline:added(text)
  self.lib.add_history(text)
end

function Readline.close() end

return readline
