--- The editors of the prompt, by name; each is cueball.cli.editor.NAME. An editor has the line that is being typed:
--   new(prompt)                        → it; or nil, message, whether somebody should be told: it cannot be had here
--   is_raw, enter, leave               how it wants the terminal: see Terminal:sequences
--   read(pending)                      in the task of Prompt:run, until there is an input: what was typed behind `pending`, which was not
--                                      finished, with that before it; or nil, "interrupted", whether nothing was typed; or nil, "end"
--   above(bytes)                       writes lines, above what is being typed
--   typed(bytes)                       outside of any task, what was typed; nil: the terminal is gone. read() waits by Prompt:wait
--   interrupt(is_running)              outside of any task: Ctrl-C was pressed, while something that was submitted runs, or not
--   redraw(is_written)                 the terminal has another size; or others have written to it
--   added(text)                        an input, for its history
--   close()
local text = require "cueball.text"

local editor = {}

--- "auto" is "readline" where it can be had, or "own".
editor.NAMES = { "auto", "readline", "own", "plain" }

--- What help says of it.
editor.HELP = [[
      --editor NAME  readline, own or plain; auto is readline, by lua-readline,
                     where that is installed, or own [auto, or CUEBALL_EDITOR]
]]

--- Declares --editor.
function editor.define(parser)
  parser:option "--editor":choices(editor.NAMES)
end

--- The editor that somebody asks for.
-- @param given       what --editor says, or nil
-- @param environment function(name) → value or nil
-- @return its name; or nil, message
function editor.named(given, environment)
  if given then return given end
  local name = environment "CUEBALL_EDITOR"
  if not name or name == "" then return environment "TERM" == "dumb" and "plain" or "auto" end
  for _, one in ipairs(editor.NAMES) do
    if one == name then return name end
  end
  return nil, text.format("CUEBALL_EDITOR must be one of %s, not %q", table.concat(editor.NAMES, ", "), name)
end

--- Makes it; where it cannot be had, the own.
-- @param prompt of cueball.cli.prompt
-- @return it, and nil or a message for whoever sits there
function editor.open(name, prompt)
  local one, message, is_told
  if name ~= "own" then
    one, message, is_told = require("cueball.cli.editor." .. (name == "auto" and "readline" or name)).new(prompt)
  end
  return one or require("cueball.cli.editor.own").new(prompt), is_told and message or nil
end

return editor
