--- cueball repl: a prompt in a program of its own, on the event loop or in virtual time; and the same for scripts and pipes.
local editors = require "cueball.cli.editor"
local output = require "cueball.cli.output"
local status = require "cueball.cli.status"
local text = require "cueball.text"

local repl = {}

repl.help = [==[
Usage: cueball repl [OPTION...] [SCRIPT [ARGUMENT...]]

A prompt for Lua and cueball. Pools live while you type: what waits is waited
for, and Ctrl-C ends it. :help lists the commands, ?pool:claim shows the
manual, Tab completes.

SCRIPT is run first; its variables stay. If standard input is no terminal, it
is read and run without a prompt.

  -e, --execute LUA  Run this, and end; as often as you like, in order
  -i, --interactive  With -e: go on with a prompt on the terminal
      --sim          In virtual time, on a network of the simulator's
      --seed N       Of all chance there is with --sim [1]
      --no-history   Neither read nor write the file of what was typed
]==] .. editors.HELP .. [==[
  -h, --help         Print this

Exit status: 0 all went well; 1 something that was run failed; 2 wrong usage;
4 something is missing or broken here; 129 the terminal went;
130 interrupted, at a prompt by the third Ctrl-C that nobody heard;
141 nobody reads stdout; 143 terminated.
]==]

local SEED_MAX = 2 ^ 53 - 1
local VERSION_LINE = "cueball %s%s. :help lists the commands, ?name shows the manual, Ctrl-D ends."

function repl.define(parser)
  parser:argument("script"):args "*"
  parser:option "-e --execute":count "*"
  parser:flag "-i --interactive"
  parser:flag "--sim"
  parser:option "--seed"
  parser:flag "--no-history"
  editors.define(parser)
end

-- What is wrong with how it was called, or nil.
local function fault_of(given)
  local seed = given.seed and tonumber(given.seed)
  if given.seed and not (seed and seed % 1 == 0 and seed >= 0 and seed <= SEED_MAX) then
    return text.format("option '--seed' must be a whole number from 0 to 2^53-1, not %q", given.seed)
  end
  if given.seed and not given.sim then return "option '--seed' is of --sim" end
end

-- ----------------------------------------------------------------- printing --

local LEVELS = { debug = 1, info = 2, warn = 3, error = 4, none = 5 }

-- Lines of the log stand above the input too.
local function log_to(system, host, world, print)
  local least = LEVELS[system.environment "CUEBALL_LOG" or "info"] or LEVELS.info
  local function show(level, message)
    if LEVELS[level] >= least then print(("%s: %s"):format(level, message), level == "error" and "error" or "note") end
  end
  if host.log_to then host.log_to(show) end
  if not world then return end
  local note = world.log
  function world.log(level, message)
    note(level, message)
    show(level, message)
  end
end

-- ------------------------------------------------------------- without prompt --

-- All of standard input, line by line.
local function each_line(system, host, take)
  local rest = ""
  for bytes in system.input(host) do
    rest = rest .. bytes
    for words in rest:gmatch "([^\n]*)\n" do
      if not take(words) then return end
    end
    rest = rest:match "([^\n]*)$"
  end
  if rest ~= "" then take(rest) end
end

-- Lines of a pipe: one that is not finished goes on with the next. The first failure ends it.
local function run_pipe(session, system, host)
  local pending = nil
  each_line(system, host, function(words)
    if not pending and words:sub(1, 2) == "#!" then return true end
    local input = pending and pending .. "\n" .. words or words
    pending = session:submit(input) == "incomplete" and input or nil
    return session.failed == 0 and not session.is_over
  end)
  if pending and session.failed == 0 then
    session.failed = 1
    session:print("the input ends in the middle of: " .. text.first_line(pending), "error")
  end
end

-- What was given on the command line, in order.
local function run_given(given, session, system, host, is_prompt)
  local path = given.script[1]
  if path and not session:run_file(path, unpack(given.script, 2)) and not is_prompt then return end
  for _, words in ipairs(given.execute) do
    if session.is_over then return end
    if session:submit(words) == "incomplete" then
      session.failed = session.failed + 1
      session:print("-e: it is not finished: " .. text.first_line(words), "error")
    end
    if session.failed > 0 and not is_prompt then return end
  end
  if not given.interactive and #given.execute == 0 and not path and not is_prompt then run_pipe(session, system, host) end
end

-- ----------------------------------------------------------------- together --

local function new_world(given)
  local world = require("cueball.host.sim").new { seed = tonumber(given.seed or 1), task_errors = "log", cpu_ms_max = false }
  require("cueball.host").use(world)
  return world
end

local function open_prompt(given, system)
  local prompt, message = require("cueball.cli.prompt").open {
    system = system, history = not given.no_history and "history" or nil, editor = given.editor,
  }
  if not prompt then error(message, 0) end
  local interruption = require "cueball.cli.interruption"
  interruption.adopt_modules()
  return prompt, interruption.adopt
end

-- What reads the terminal by itself, or starts a program that does, has it as it was meanwhile.
local function lend_terminal(prompt, globals)
  local function lent(fn)
    return function(...) return prompt:lend(fn, ...) end
  end
  globals.os = setmetatable({ execute = lent(os.execute) }, { __index = os })
  globals.io.read, globals.io.popen = lent(io.read), lent(io.popen)
end

local function new_session(given, world, prompt, adopt, print)
  local session = require("cueball.console.session").new {
    world = world, print = print, is_terminal = prompt ~= nil, adopt = adopt,
    interrupts = prompt and function() return prompt.terminal:interrupts() end or nil,
  }
  session.seed = tonumber(given.seed or 1)
  return session
end

local function has_prompt(given, system)
  return given.interactive or #given.execute == 0 and system.is_terminal_input()
end

local function run_all(given, system, host)
  local is_prompt = has_prompt(given, system)
  local world, prompt, adopt = given.sim and new_world(given) or nil, nil, nil
  if is_prompt then prompt, adopt = open_prompt(given, system) end
  local print = prompt and function(words, kind) prompt:print(words, kind) end or output.printer(system)
  local session = new_session(given, world, prompt, adopt, print)
  log_to(system, host, world, print)
  if prompt then
    lend_terminal(prompt, session.environment)
    print(VERSION_LINE:format(require("cueball").version, world and ", in virtual time, seed " .. session.seed or ""), "note")
  end
  if prompt then
    prompt:begin(session, host)
    local ok, message = prompt:busy(run_given, given, session, system, host, is_prompt)
    if not ok then error(message, 0) end
    if not session.is_over then prompt:run() end
  else
    run_given(given, session, system, host, is_prompt)
  end
  session:close()
  if prompt then prompt:close() end
  if session.is_over then return session.status end
  return (is_prompt or session.failed == 0) and status.found or status.failed
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function repl.run(given, system)
  given.execute = given.execute or {}
  local fault = fault_of(given)
  if not fault and has_prompt(given, system) then given.editor, fault = editors.named(given.editor, system.environment) end
  if fault then return nil, fault end
  if given.interactive and not system.is_terminal_input() then
    system.stderr:write "cueball: standard input is no terminal, as --interactive wants it\n"
    return status.broken
  end
  local host = system.host()
  return host.run(run_all, given, system, host)
end

return repl
