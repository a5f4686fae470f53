--- The cueball command as people run it: the real script, in a process of its own.
--
--   local command = require "spec.support.command"
--   local status, out, err = command.run "resolve -S 127.0.0.1:80"
--   local status, out = command.run_on_terminal "resolve -S 127.0.0.1:80"     what a terminal is sent
--   local one = command.start "resolve -f db.example"                         goes on by itself; in a folder of its own
--   one:read(), one:wait_for(text), one:signal "INT", one:wait() → status;  after_each(command.stop_all)
local read = require("spec.support.shell").read

local command = {}

local build = os.getenv "CUEBALL_BUILD" or "build"
local preload = os.getenv "CUEBALL_PRELOAD" or ""

command.path = build .. "/bin/cueball"

-- A sanitizer is for LuaJIT alone, which the script's first line starts.
local SCRIPT = ("env %s '%s'"):format(preload ~= "" and "LD_PRELOAD='" .. preload .. "'" or "", command.path)
command.script = SCRIPT   -- for timeout(1) and the like, to which a function is nothing
local PREPARE = ("unset LD_PRELOAD; exec </dev/null; cueball() { %s \"$@\"; }; "):format(SCRIPT)

local function shell(text)
  local pipe = assert(io.popen(text))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

--- Runs a shell command in which `cueball` is the script.
-- @return its status, what it wrote to stdout, and to stderr
function command.shell(text)
  local folder = shell "mktemp -d":match "^[^\n]+"
  local status = shell(("{ %s { %s\n}; } >'%s/out' 2>'%s/err'; echo $?"):format(PREPARE, text, folder, folder))
  local out, err = read(folder .. "/out"), read(folder .. "/err")
  shell(("rm -r '%s'"):format(folder))
  return tonumber(status), out, err
end

--- Runs the script.
-- @param environment such as "NO_COLOR=1", or nil
function command.run(arguments, environment)
  return command.shell(("%s cueball %s"):format(environment or "", arguments))
end

--- Runs the script on a terminal of its own (script(1)): stdout and stderr in one, with lines ended as a terminal wants them.
function command.run_on_terminal(arguments, environment)
  return command.shell(("TERM=xterm %s script -qec \"%s %s\" /dev/null"):format(environment or "", SCRIPT, arguments))
end

local Running = {}
Running.__index = Running

local started = {}   -- every one whose end was not waited for

--- Starts the script and lets it run.
function command.start(arguments)
  local folder = shell "mktemp -d":match "^[^\n]+"
  -- exec, so that its process is the one whose number is known.
  shell(([[{ %s (exec %s %s >'F/out' 2>'F/err') & echo $! >'F/pid'; wait $!; echo $? >'F/new'; mv 'F/new' 'F/status'; } >/dev/null 2>&1 &]])
    :format(PREPARE, SCRIPT, arguments):gsub("'F/", "'" .. folder .. "/"))
  local self = setmetatable({ folder = folder }, Running)
  started[self] = true
  return self
end

local function content(path)
  local ok, text = pcall(read, path)
  return ok and text or nil
end

function Running:read()
  return content(self.folder .. "/out") or "", content(self.folder .. "/err") or ""
end

local function status_of(self)
  return tonumber(content(self.folder .. "/status") or nil)
end

local function fail(self, words)
  local out, err = self:read()
  error(("%s; it wrote %q to stdout, and %q to stderr"):format(words, out, err), 4)
end

-- Looks until fn() has something: processes are waited for, so the time that it takes is not known. Fails after a minute, and at once where
-- the process has ended without it.
local function await(self, what, fn)
  for _ = 1, 1200 do
    local status = status_of(self) -- before fn() looks: what it wrote is all there then
    local found = fn()
    if found then return found end
    if status then fail(self, ("it ended with status %d, without %s"):format(status, what)) end
    os.execute "sleep 0.05"
  end
  fail(self, "waited a minute for " .. what)
end

function Running:wait_for(pattern)
  local found = await(self, pattern, function()
    local out, err = self:read()
    return (out .. err):match(pattern)
  end)
  return found
end

function Running:signal(name)
  local pid = await(self, "its pid", function() return (content(self.folder .. "/pid") or ""):match "%d+" end)
  os.execute(("kill -%s %s"):format(name, pid))
end

--- Waits for its end; what it wrote is gone then.
-- @return its status, what it wrote to stdout, and to stderr
function Running:wait()
  local status = await(self, "its end", function() return status_of(self) end)
  local out, err = self:read()
  shell(("rm -r '%s'"):format(self.folder))
  started[self] = nil
  return status, out, err
end

--- Ends what a spec that failed left running: for after_each().
function command.stop_all()
  for one in pairs(started) do
    one:signal "KILL"
    one:wait()
  end
end

return command
