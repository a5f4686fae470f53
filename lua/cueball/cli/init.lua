--- The `cueball` command: finds the subcommand and runs it.
--
-- A subcommand is a row of COMMANDS and a module with
--   help                          what `cueball help NAME` prints
--   define(parser)                declares its arguments to argparse
--   run(given, system) → status   does it; `given` is what argparse read.  A mistake of the caller's: nil, message
--   ends_options                  optional: the first word that is no option ends them, and what follows it is handed on as it is. The set
--                                 of the options that have an argument
--
-- Modules are loaded to read the command line, so what takes long to load belongs into `run`.
local cli = {}

-- In the order in which help lists them.
local COMMANDS = {
  { name = "attach", module = "cueball.cli.attach", summary = "A prompt in a program that runs, over its console" },
  { name = "repl", module = "cueball.cli.repl", summary = "A prompt for Lua and pools, on the event loop or in virtual time" },
  { name = "resolve", module = "cueball.cli.resolve", summary = "Find the nodes of a service, once or as they change" },
  { name = "run", module = "cueball.cli.run", summary = "Run a Lua script in the event loop" },
  { name = "bench", module = "cueball.cli.bench", summary = "Put load on a pool and measure it" },
  { name = "top", module = "cueball.cli.top", summary = "Watch the pools of a running program" },
  { name = "completions", module = "cueball.cli.completions", summary = "Print completion for a shell" },
}
cli.commands = COMMANDS

local status = require "cueball.cli.status"

local HELP = [[
Usage: cueball COMMAND [OPTION...] [ARGUMENT...]
       cueball help [COMMAND]

A pool of connections to a service with many nodes, on the command line.

Commands:
%s
Options:
  -h, --help      Print this, or with a command its help
  -V, --version   Print the versions of cueball and what it stands on

The manual is cueball(1).
]]

function cli.help_text()
  local lines = {}
  for index, command in ipairs(COMMANDS) do lines[index] = ("  %-14s  %s\n"):format(command.name, command.summary) end
  return HELP:format(table.concat(lines))
end

local function command_named(name)
  for _, command in ipairs(COMMANDS) do
    if command.name == name then return require(command.module) end
  end
end

--- The parser of the whole command line.
function cli.parser()
  local parser = require "argparse" "cueball":add_help(false):require_command(false):command_target "command"
  parser:flag "-h --help":target "help_of_all"   -- a command's own flag would take this one back
  parser:flag "-V --version"
  local help = parser:command "help":add_help(false)
  help:argument "topic":args "?"
  help:flag "-h --help"
  for _, command in ipairs(COMMANDS) do
    local own = parser:command(command.name):add_help(false)
    own:flag "-h --help"
    require(command.module).define(own)
  end
  return parser
end

local function complain(system, text)
  system.stderr:write("cueball: ", text, "\n")
end

local function misused(system, message, name)
  complain(system, message)
  system.stderr:write(("Try 'cueball %s--help'.\n"):format(command_named(name) and name .. " " or ""))
  return status.usage
end

-- What the command stands on, one a line. What is missing is said, not died of: people ask for this when something is.
local function versions(system)
  local native = require "cueball.native"
  local lines = { ("cueball %s (%s)"):format(native.version, native.path), jit.version }
  local found, host = pcall(system.host)
  if not found then
    lines[#lines + 1] = "no event loop: " .. tostring(host)
  else
    for _, line in ipairs(host.versions()) do lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function print_text(system, text)
  local out = require("cueball.cli.output").new(system, {})
  return out:status_of(out:put(text))
end

local function print_help(system, topic)
  if not topic then return print_text(system, cli.help_text()) end
  local command = command_named(topic)
  if not command then return misused(system, ("there is no command '%s'"):format(topic)) end
  return print_text(system, command.help)
end

-- The command line with "--" where the options of the command end: argparse would read those of a script as its own.
local function with_options_ended(arguments)
  local command = arguments[1] and command_named(arguments[1])
  local valued = command and command.ends_options
  if not valued then return arguments end
  local index = 2
  while arguments[index] do
    local word = arguments[index]
    if word == "--" then return arguments end
    if word == "-" or word:sub(1, 1) ~= "-" then
      local ended = { unpack(arguments, 1, index - 1) }
      ended[index] = "--"
      for rest = index, #arguments do ended[rest + 1] = arguments[rest] end
      return ended
    end
    index = index + (valued[word] and 2 or 1)
  end
  return arguments
end

local function run(arguments, system)
  arguments = with_options_ended(arguments)
  local is_read, given = cli.parser():pparse(arguments)
  local name = arguments[1]
  if not is_read then return misused(system, given, name) end
  if given.version then
    return print_text(system, versions(system))
  end
  if given.command == "help" then return print_help(system, given.topic) end
  if given.help or given.help_of_all then return print_help(system, given.command) end
  if not given.command then return misused(system, "a command is required") end
  local result, message = command_named(given.command).run(given, system)
  if not result then return misused(system, message, given.command) end
  return result
end

--- Runs the command line.
-- @param arguments list of texts, as `arg`
-- @param system    what it has of the machine; nil: cueball.cli.system
-- @return the exit status
function cli.main(arguments, system)
  system = system or require "cueball.cli.system"
  system.keep_standard()
  local is_well, result = xpcall(run, function(message)
    -- What is missing on this machine is told as a plain sentence; anything else is a fault in here.
    if type(message) ~= "string" or not message:find "^[^\n]-%.lua:%d+: " then return message end
    return debug.traceback(message, 2)
  end, arguments, system)
  if is_well then return result end
  complain(system, tostring(result))
  return status.broken
end

return cli
