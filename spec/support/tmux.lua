--- Programs on a real terminal: tmux is that terminal.
--
--   local tmux = require "spec.support.tmux"
--   local pane = tmux.start("build/bin/cueball top 127.0.0.1:9190", { columns = 80, rows = 24 })
--   pane:keys "C-c"                  keys by tmux's names, several with blanks between them
--   pane:type "local x = 1"          text, as it is
--   pane:paste(text)                 the same in one piece, as a paste comes
--   pane:screen()                    what stands there, without colours; pane:screen(true): with them
--   pane:wait_for(pattern)           until a pattern stands there → what string.match returns
--   pane:resize(100, 30)
--   pane:column()                    where the cursor is, from 0 on
--   pane:modes()                     those of the terminal, as `stty -a` tells them
--   pane:status()                    the program's exit status, waited for
--   after_each(tmux.stop_all)
--
-- Each has a server of its own, so none of the person's is touched; the terminal stays when the program has ended.
local shell = require "spec.support.shell"

local tmux = {}

local Pane = {}
Pane.__index = Pane

local running, count = {}, 0
local CONF = "set -g remain-on-exit on\nset -g status off\nset -g default-terminal tmux-256color\nset -g escape-time 0\n"
local LOOKS, LOOK_S = 600, 0.05

local function run(self, command)
  return shell.run(("tmux -S %s %s"):format(shell.quote(self.folder .. "/socket"), command))
end

--- Starts a shell command on a terminal of its own, in the repository.
-- @param options nil, or { columns = 80, rows = 24, environment = "NO_COLOR=1" }
function tmux.start(command, options)
  options = options or {}
  count = count + 1
  local self = setmetatable({ folder = shell.must "mktemp -d", number = count }, Pane)
  shell.write(self.folder .. "/conf", CONF)
  -- The program's status goes into a file: tmux 3.3 forgets it where the pane died before it was asked.
  shell.write(self.folder .. "/run", ("cd %s\nunset LD_PRELOAD NO_COLOR\nexport LANG=C.UTF-8 %s\n%s\necho $? >%s\n"):format(
    shell.quote(shell.root), options.environment or "", command, shell.quote(self.folder .. "/status")))
  running[self] = true
  local output, status = run(self, ("-u -f %s new-session -d -x %d -y %d sh %s"):format(shell.quote(self.folder .. "/conf"),
    options.columns or 80, options.rows or 24, shell.quote(self.folder .. "/run")))
  assert(status == 0, output)
  return self
end

function Pane:keys(names)
  run(self, "send-keys " .. names)
end

function Pane:type(text)
  run(self, "send-keys -l -- " .. shell.quote(text))
end

function Pane:paste(text)
  shell.write(self.folder .. "/paste", text)
  run(self, ("load-buffer %s"):format(shell.quote(self.folder .. "/paste")))
  run(self, "paste-buffer -p")
end

function Pane:screen(has_colors)
  return (run(self, "capture-pane -p" .. (has_colors and " -e" or "")))
end

function Pane:resize(columns, rows)
  run(self, ("resize-window -x %d -y %d"):format(columns, rows))
end

local function told(self, what)
  return (run(self, ("display-message -p '#{%s}'"):format(what)))
end

function Pane:column()
  return tonumber(told(self, "cursor_x"))
end

function Pane:modes()
  return (shell.run("stty -a -F " .. told(self, "pane_tty")))
end

-- Until fn() has something: how long a program takes on a busy machine is not known.
local function await(self, what, fn)
  for _ = 1, LOOKS do
    local found = { fn() }
    if found[1] then return unpack(found) end
    os.execute("sleep " .. LOOK_S)
  end
  error(("waited in vain for %s; on the screen:\n%s"):format(what, self:screen()), 3)
end

function Pane:wait_for(pattern)
  return await(self, pattern, function() return self:screen():match(pattern) end)
end

--- Until fn(screen) has something.
function Pane:wait_until(what, fn)
  return await(self, what, function() return fn(self:screen()) end)
end

function Pane:status()
  return await(self, "its end", function()
    local ok, text = pcall(shell.read, self.folder .. "/status")
    return ok and tonumber(text) or nil
  end)
end

-- What the shell runs does not hear that the terminal is gone where the shell does not: it would go on, in a loop perhaps.
function Pane:stop()
  local pid = told(self, "?pane_dead,,#{pane_pid}"):match "^%d+$"
  if pid then shell.run("kill -s KILL -- -" .. pid) end
  run(self, "kill-server")
  shell.run("rm -rf " .. shell.quote(self.folder))
  running[self] = nil
end

function tmux.stop_all()
  for pane in pairs(running) do pane:stop() end
end

return tmux
