--- cueball run: a script in a task of the event loop.
--
-- The happy path: the script is run, and when it is done the pools that it has left are stopped. What can go wrong: it throws; it is
-- interrupted, and its pools are stopped while it goes on, so that whoever has a connection can finish; it is stuck, and a second Ctrl-C
-- is the system's own (host.on_signal with once); so is the first one, where the event loop does not hear of it in time.
local read = require "cueball.cli.read"
local said = require("cueball.text").format
local status = require "cueball.cli.status"
local text = require "cueball.text"

local run = {}

run.help = [[
Usage: cueball run [OPTION...] SCRIPT [ARGUMENT...]
       cueball run [OPTION...] -e CODE [ARGUMENT...]

Runs a Lua script in a task, so that it may claim, send and wait at once; "-" is
standard input. Its arguments are in the table arg, and in "...". What it
requires of cueball is found without LUA_PATH.

Options, before SCRIPT:
  -e, --execute CODE       Run this Lua; cueball is there without require
      --stop-timeout TIME  How long its pools may take to stop: 500ms, 5s [5s]
  -h, --help               Print this

Pools that are left when it is done are stopped, the last one made first. So
they are at Ctrl-C (SIGINT) and SIGTERM; a second one ends it at once. A script
that never waits is ended when the time of --stop-timeout is over.

Exit status: what the script returns, if that is a whole number from 0 to 255;
0 if it is done; 1 it threw an error or returned false; 2 wrong usage;
4 something is missing or broken here; 130 interrupted; 143 terminated.
]]

--- The first word that is no option ends them: what follows is the script's.
run.ends_options = { ["-e"] = true, ["--execute"] = true, ["--stop-timeout"] = true }

function run.define(parser)
  parser:argument "words":args "*"
  parser:option "-e --execute"
  parser:option "--stop-timeout":default "5s"
end

-- -------------------------------------------------------------------- the script --

-- What there is to run: { chunk, arguments, name }.
-- @return nil, message, status: there is nothing that could be
local function script_of(given)
  local words = given.words
  if given.execute then
    local chunk, message = loadstring(given.execute, "=(command line)")
    if not chunk then return nil, message, status.failed end
    setfenv(chunk, setmetatable({ cueball = require "cueball" }, { __index = _G, __newindex = _G }))
    return { chunk = chunk, arguments = words, name = "(command line)" }
  end
  local path = words[1]
  if not path then return nil, "give a SCRIPT, or Lua with -e" end
  if path ~= "-" then
    local file, message = io.open(path, "rb")
    if not file then return nil, "the script cannot be read: " .. message end
    local readable, why = file:read(0)
    file:close()
    if not readable and why then return nil, said("the script cannot be read: %s: %s", path, why) end
  end
  local chunk, message = loadfile(path ~= "-" and path or nil)
  if not chunk then return nil, message, status.failed end
  return { chunk = chunk, arguments = { unpack(words, 2) }, name = path }
end

-- As LuaJIT's own command has it: the script's name at 0, what came before it below.
local function set_arg(script)
  local list = { [0] = script.name, [-1] = "cueball run" }
  for index, word in ipairs(script.arguments) do list[index] = word end
  rawset(_G, "arg", list)
end

-- The exit status that the script's first result asks for.
local function status_of(result)
  if result == false then return status.failed end
  if type(result) == "number" and result % 1 == 0 and result >= 0 and result <= 255 then return result end
  return status.found
end

-- A traceback without what of it is not the script's: it ends where this file calls it.
local function own_traceback(message)
  if type(message) ~= "string" then return text.message(message) end
  local traced = debug.traceback(message, 2)
  return (traced:gsub("\n%s*%[C%]: in function 'xpcall'.*$", ""))
end

-- ----------------------------------------------------------------------- its end --

-- Stops the pools, the last one made first, each when the one before is through.
-- @return the names of those that are not, in the end
local function stop_pools(host, bound_ms)
  local registry = require "cueball.pool.registry"
  local waiter = host.waiter()
  local pools, left = registry.pools(), {}
  local task = host.spawn(function()
    for index = #pools, 1, -1 do pools[index]:stop() end
    waiter:wake(true)
  end)
  if waiter:wait(bound_ms) then return left end
  host.kill(task)
  for _, pool in ipairs(pools) do
    if pool:state() ~= "stopped" then left[#left + 1] = pool.name end
  end
  return left
end

local NUMBERS = { int = 2, term = 15 } -- POSIX has these

-- What becomes of the script and of signals, in one task.
-- @return the exit status
local function follow(host, script, bound_ms, complain)
  local lib = require("cueball.native").lib
  local waiter, endings = host.waiter(), {}
  local function hear(name, code)
    local function heard()
      lib.cueball_signal_heard()
      waiter:wake(code)
    end
    local forget = host.on_signal(name, heard, { once = true })
    if not forget then return end
    endings[#endings + 1] = forget
    lib.cueball_signal_bound(NUMBERS[name], math.max(1, math.ceil(bound_ms / 1000)))
  end
  hear("int", status.interrupted)
  hear("term", status.terminated)
  local task = host.spawn(function()
    local ok, result = xpcall(function() return script.chunk(unpack(script.arguments)) end, own_traceback)
    if not ok then complain(result) end
    waiter:wake(ok and status_of(result) or status.failed)
  end)
  local code = waiter:wait()
  for _, name in ipairs(stop_pools(host, bound_ms)) do
    complain(said("pool %s did not stop within %g ms; --stop-timeout allows more", name, bound_ms))
  end
  host.kill(task)
  for _, forget in ipairs(endings) do forget() end
  return code
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function run.run(given, system)
  local bound_ms, fault = read.time(given.stop_timeout)
  if not bound_ms then return nil, said("option '--stop-timeout' %s, not %q", fault, given.stop_timeout) end
  local function complain(words) system.stderr:write("cueball: ", text.clean_lines(words), "\n") end
  local script, message, code = script_of(given)
  if not script then
    if not code then return nil, message end
    complain(message)
    return code
  end
  set_arg(script)
  local host = system.host()
  return host.run(function() return follow(host, script, bound_ms, complain) end)
end

return run
