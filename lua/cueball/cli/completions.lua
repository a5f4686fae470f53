--- cueball completions: what a shell completes the command by. argparse makes it of what the commands declare, with what the help says.
local output = require "cueball.cli.output"
local said = require("cueball.text").format

local completions = {}

completions.help = [[
Usage: cueball completions SHELL

Prints what completes the command, its options and files in bash, zsh or fish.
Installed with CMake it is in its place already; else:

  bash   eval "$(cueball completions bash)"            in ~/.bashrc
  zsh    cueball completions zsh >~/.zfunc/_cueball    with ~/.zfunc in fpath
  fish   cueball completions fish >~/.config/fish/completions/cueball.fish

Options:
  -h, --help  Print this

Exit status: 0 printed; 1 the output could not be written; 2 wrong usage.
]]

function completions.define(parser)
  parser:argument "shell":args "?"
end

local MAKERS = { bash = "get_bash_complete", zsh = "get_zsh_complete", fish = "get_fish_complete" }

-- What a help text says of an option, on the line where it begins.
local function description_of(help, names)
  for _, name in ipairs(names) do
    local pattern = "%f[^%s,]" .. name:gsub("%-", "%%-") .. "%f[^%w-]"
    for one in help:gmatch "[^\n]+" do
      local words = one:find "^ +%-" and one:find(pattern) and one:match "%S  +(%S.*)$"
      if words and one:find(pattern) < #one - #words then return (words:gsub(" %[[^%]]*%]$", "")) end
    end
  end
end

local function describe(element, help)
  for _, option in ipairs(element._options) do
    option:description(description_of(help, option._aliases) or "Print this")
    option:hidden(false)
  end
end

-- The parser, in which everything has a description.
local function described_parser(cli)
  local parser, by_name = cli.parser(), {}
  parser._name = "cueball"
  for _, row in ipairs(cli.commands) do by_name[row.name] = row end
  describe(parser, cli.help_text())
  for _, command in ipairs(parser._commands) do
    local row = by_name[command._name]
    command:description(row and row.summary or "Print the help of a command"):summary(row and row.summary or "Print the help of a command")
    describe(command, row and require(row.module).help or "")
  end
  return parser
end

--- The text for a shell; nil: it is none that is known.
function completions.text(shell)
  local maker = MAKERS[shell]
  if not maker then return nil end
  local parser = described_parser(require "cueball.cli")
  return parser[maker](parser)
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function completions.run(given, system)
  if not given.shell then return nil, "give a SHELL: bash, zsh or fish" end
  local made = completions.text(given.shell)
  if not made then return nil, said("%q is none of bash, zsh and fish", given.shell) end
  local out = output.new(system, {})
  return out:status_of(out:put(made))
end

return completions
