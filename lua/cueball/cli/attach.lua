--- cueball attach: a prompt in a program that runs, over its console (cueball.console.listen).
local address_of = require "cueball.address"
local editors = require "cueball.cli.editor"
local output = require "cueball.cli.output"
local read = require "cueball.cli.read"
local status = require "cueball.cli.status"
local text = require "cueball.text"

local attach = {}

attach.help = [==[
Usage: cueball attach [OPTION...] ADDRESS

Looks into a running program that has a console: it calls
cueball.console.listen "unix:/run/app.sock". ADDRESS is unix:/PATH, or IP:PORT.

pools(), backends(), connections(), leases(), waiters() and events() tell what
is there; :help lists all. A console for reading changes nothing, whatever is
typed. Standard input that is no terminal is read and run without a prompt.

  -e, --execute LUA  Run this, and end; as often as you like, in order
      --json         Show results as JSON
      --lua          Show results as Lua that can be pasted
      --token-file F  The file that has the token; or set CUEBALL_TOKEN
      --worker N     The worker of nginx with this number
      --path PATH    The location in nginx [/console]
      --no-history   Neither read nor write the file of what was typed
]==] .. editors.HELP .. [==[
  -h, --help         Print this

Exit status: 0 all went well; 1 something that was run failed; 2 wrong usage;
3 the program cannot be reached; 4 something is missing or broken here;
129 the terminal went; 130 interrupted, at a prompt by the third Ctrl-C that
nobody heard; 141 nobody reads stdout; 143 terminated.
]==]

function attach.define(parser)
  parser:argument "address":args "?"
  parser:option "-e --execute":count "*"
  parser:flag "--json"
  parser:flag "--lua"
  parser:option "--token-file"
  parser:option "--worker"
  parser:option "--path":default "/console"
  parser:flag "--no-history"
  editors.define(parser)
end

-- What is wrong with how it was called, or nil.
local function fault_of(given)
  if not given.address then return "give the ADDRESS of the program's console: unix:/PATH, or IP:PORT" end
  local host, port = address_of.split(given.address)
  if not host then return port end
  if not port then return text.format("%q: there is no port; write IP:PORT, or unix:/PATH", given.address) end
  if given.json and given.lua then return "options '--json' and '--lua' exclude each other" end
  if given.worker and not given.worker:find "^%d+$" then
    return text.format("option '--worker' must be a whole number, not %q", given.worker)
  end
  if not given.path:find "^/[%w%-._~/]*$" then return text.format("option '--path' must be a path such as /console, not %q", given.path) end
end

local function submit(one, words, print, where)
  if one:submit(words) ~= "incomplete" then return end
  one.failed = one.failed + 1
  print(("%s is not finished: %s"):format(where, text.first_line(words)), "error")
end

-- Lines of a pipe: one that is not finished goes on with the next. The first failure ends it.
local function run_pipe(one, system, host, print)
  local pending, rest = nil, ""
  local function take(line)
    local input = pending and pending .. "\n" .. line or line
    pending = one:submit(input) == "incomplete" and input or nil
    return one.failed == 0 and not one.is_over
  end
  for bytes in system.input(host) do
    rest = rest .. bytes
    while rest:find("\n", 1, true) do
      local line
      line, rest = rest:match "^([^\n]*)\n(.*)$"
      if not take(line) then return end
    end
  end
  if rest ~= "" and not take(rest) then return end
  if pending then
    one.failed = one.failed + 1
    print("the input ends in the middle of: " .. text.first_line(pending), "error")
  end
end

local function connect(given, host, token, print, is_terminal)
  return require("cueball.console.remote").connect {
    host = host, address = given.address, token = token, path = given.path, worker = given.worker and tonumber(given.worker),
    form = given.json and "json" or given.lua and "lua" or nil, print = print, is_terminal = is_terminal,
  }
end

local function greet(one, print)
  local hello = one.hello
  print(("cueball %s on %s. :help lists the commands, Ctrl-D leaves; the program goes on."):format(text.message(hello.cueball or "?"),
    text.message(hello.host or "?")), "note")
end

local function with_prompt(given, system, host, token)
  local prompt, one
  local function print(words, kind) prompt:print(words, kind) end
  local message
  one, message = connect(given, host, token, print, true)
  if not one then return nil, message end
  prompt, message = require("cueball.cli.prompt").open {
    system = system, history = not given.no_history and "attach_history" or nil, editor = given.editor,
  }
  if not prompt then error(message, 0) end
  greet(one, print)
  prompt:begin(one, host)
  prompt:run()
  prompt:close()
  one:close()
  return one.status
end

local function has_prompt(given, system)
  return #given.execute == 0 and system.is_terminal_input()
end

local function run_all(given, system, host, token)
  local print = output.printer(system, text.clean_lines)
  local is_prompt = has_prompt(given, system)
  local one, message
  if is_prompt then
    one, message = with_prompt(given, system, host, token)
    if one then return one end
  else
    one, message = connect(given, host, token, print)
  end
  if not one then
    system.stderr:write("cueball: ", text.message(message), "\n")
    return status.timeout
  end
  for _, words in ipairs(given.execute) do
    if one.failed > 0 or one.is_over then break end
    submit(one, words, print, "-e")
  end
  if #given.execute == 0 then run_pipe(one, system, host, print) end
  one:close()
  if one.status ~= 0 then return one.status end
  return one.failed == 0 and status.found or status.failed
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function attach.run(given, system)
  given.execute = given.execute or {}
  local fault = fault_of(given)
  if not fault and has_prompt(given, system) then given.editor, fault = editors.named(given.editor, system.environment) end
  if fault then return nil, fault end
  local token, message = read.token(given.token_file, system.environment "CUEBALL_TOKEN")
  if message then return nil, message end
  local host = system.host()
  return host.run(run_all, given, system, host, token)
end

return attach
