--- cueball attach: a program in a process of its own, entered by the command, from scripts and from a terminal.
local command = require "spec.support.command"
local shell = require "spec.support.shell"
local status = require "cueball.cli.status"
local tmux = require "spec.support.tmux"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local PROGRAM = [[
  local cueball = require "cueball"
  local to, allow = ...
  cueball.run(function()
    pool = cueball.pool {
      name = "db", max_connections = 4, connect = function() return {} end,
      resolver = cueball.resolver.static { "127.0.0.1:1", "127.0.0.1:2" },
    }
    assert(cueball.console.listen(to, { allow = allow, name = "shop", budget_ms = 2000 })) -- it counts the time of other processes, too
    pool:ready { connections = 2 }
    print "ready"
    io.stdout:flush()
    cueball.sleep(600000)
  end)
]]

local folder, program, has_ended

-- Starts the program; it is killed by its pid at the end.
local function start(allow)
  local path = folder .. "/program.lua"
  shell.write(path, PROGRAM)
  local stdout, line = uv.new_pipe(false), ""
  local root, build = shell.root, os.getenv "CUEBALL_BUILD" or "build"
  has_ended = false
  program = assert(uv.spawn("luajit", {
    args = { path, "unix:" .. folder .. "/sock", allow }, stdio = { nil, stdout, 2 }, env = {
      "PATH=" .. os.getenv "PATH", "CUEBALL_LOG=none", ("LUA_CPATH=%s/?.so;;"):format(build),
      ("LUA_PATH=%s/lua/?.lua;%s/lua/?/init.lua;%s/lua/?.lua;;"):format(root, root, build), "CUEBALL_BUILD=" .. build,
      "LD_PRELOAD=" .. (os.getenv "CUEBALL_PRELOAD" or ""), "ASAN_OPTIONS=" .. (os.getenv "ASAN_OPTIONS" or ""), -- a sanitized library
    },
  }, function() has_ended = true end))
  stdout:read_start(function(_, data) line = line .. (data or "\n") end)
  while not line:find "\n" do uv.run "once" end
  stdout:close()
  assert(line:find "ready", "the program did not start: " .. line)
end

-- Until then its address is not free.
local function stop()
  if not program then return end
  local handle = program
  program = nil
  handle:kill "sigkill"
  until_true(function() return has_ended end)
  handle:close()
  uv.run "nowait"
end

local function attach(arguments)
  return command.shell(("cueball attach unix:%s/sock %s"):format(folder, arguments))
end

local EDITORS = { "own", "readline" }

describe("cueball attach", function()
  setup(function() folder = shell.must("mktemp -d"):match "[^\n]+" end)
  teardown(function() shell.must("rm -rf " .. shell.quote(folder)) end)
  after_each(function()
    tmux.stop_all()
    stop()
  end)

  it("runs one command for a script, and says by its status how it went", function()
    start "read"
    assert.same({ status.found, "2\n", "" }, { attach "-e '1 + 1'" })
    local code, out = attach "--json -e 'pools()'"
    assert.equal(status.found, code)
    assert.matches('^%[{.*"pool":"db".*}%]\n$', out)
    assert.same({ status.found, '{ 1, a = "x" }\n', "" }, { attach "--lua -e '{ 1, a = [[x]] }'" })
    local err
    code, out, err = attach "-e 'x = 5' -e 'x' -e 'nope()' -e '99'"
    assert.same({ status.failed, "5\n" }, { code, out })
    assert.matches("attempt to call global 'nope'", err)
    assert.same({ status.failed, "", "-e is not finished: for i = 1, 2 do\n" }, { attach "-e 'for i = 1, 2 do'" })
  end)

  it("takes back by :undo what a verb changed", function()
    start "write"
    local code, out = attach "-e 'set { max_connections = 6 }' -e ':undo' -e 'pool:max_connections()' -e ':undo'"
    assert.same({ status.failed, "true\n4\n" }, { code, out })
  end)

  it("reads a pipe, with inputs of several lines", function()
    start "read"
    local code, out = command.shell(("printf 'for i = 1, 2 do\\nprint(i)\\nend\\n:backends form=json\\n' | cueball attach unix:%s/sock")
      :format(folder))
    assert.equal(status.found, code)
    assert.matches('^1\n2\n%[{.*"backend":"127.0.0.1:1".*}%]\n$', out)
    local err
    code, out, err = command.shell(("printf 'if true then\\n' | cueball attach unix:%s/sock"):format(folder))
    assert.same({ status.failed, "", "the input ends in the middle of: if true then\n" }, { code, out, err })
  end)

  it("says what is wrong with how it is called, and with the program", function()
    local code, _, err = attach "-e 1"
    assert.equal(status.timeout, code)
    assert.matches("sock: [%l ]+\n$", err) -- no such file, or the last one's, which nobody has
    for arguments, pattern in pairs {
      ["10.0.0.1"] = "there is no port", ["unix:x -e 1"] = "expected unix:/PATH", ["unix:/x --json --lua"] = "exclude each other",
      ["unix:/x --worker one"] = "must be a whole number", ["unix:/x --path x"] = "must be a path", [""] = "give the ADDRESS",
      ["unix:/x --token-file /nowhere"] = "No such file", ["unix:/x script.lua"] = "too many arguments", -- no file is run
    } do
      code, _, err = command.run("attach " .. arguments)
      assert.equal(status.usage, code, arguments)
      assert.matches(pattern, err)
    end
  end)

  for _, editor in ipairs(EDITORS) do
    it("is a prompt on a terminal, with the editor " .. editor, function() -- it completes, is interrupted, leaves the program as it was
      start "write"
      local line = "trap : INT; %s attach --no-history --editor %s unix:%s/sock"
      local pane = tmux.start(line:format(command.script, editor, folder), { columns = 130 })
      pane:wait_for "shop%[%d+%] write %d+%w+>"
      pane:type "backe"
      pane:keys "Tab"
      pane:wait_for "> backends"
      pane:type "()"
      pane:keys "Enter"
      pane:wait_for "127.0.0.1:2"
      pane:type "set { max_connections = 6 }"
      pane:keys "Enter"
      pane:type "changes()[1].undo"
      pane:keys "Enter"
      pane:wait_for 'set { max_connections = 4, pool = '
      pane:type "print 'begun' require('cueball').sleep(600000)"
      pane:keys "Enter"
      pane:wait_for "\nbegun\n" -- Ctrl-C takes along what was not read yet
      pane:keys "C-c"
      pane:wait_for "interrupted"
      pane:type "while true do end"
      pane:keys "Enter"
      pane:wait_for "ran for more than 2000 ms"
      pane:keys "C-d"
      assert.equal(status.found, pane:status())
      assert.same({ status.found, "6\n", "" }, { attach "-e 'pool:max_connections()'" })
    end)
  end

  for _, editor in ipairs(EDITORS) do
    it("does not wait for completions of a program that hangs, with the editor " .. editor, function()
      start "write"
      local line = "trap : INT; %s attach --no-history --editor %s unix:%s/sock"
      local pane = tmux.start(line:format(command.script, editor, folder), { columns = 130 })
      pane:wait_for "write %d+%w+>"
      pane:type "poo"
      pane:wait_for "> poo"
      program:kill "sigstop"
      pane:keys "Tab"
      pane:type "more"
      pane:keys "C-c"
      pane:wait_for "> poo\n[^\n]*write %d+%w+>"
      program:kill "sigcont"
      pane:type "1 + 1"
      pane:keys "Enter"
      pane:wait_for "_1 = 2"
      pane:keys "C-d"
      assert.equal(status.found, pane:status())
    end)
  end

  it("tells what happens above the line that is being typed", function()
    start "write"
    local pane = tmux.start(("trap : INT; %s attach --no-history unix:%s/sock"):format(command.script, folder), { columns = 130 })
    pane:wait_for "write %d+%w+>"
    pane:type ":watch"
    pane:keys "Enter"
    pane:wait_for "watching db"
    pane:type "half a li"
    pane:wait_for "> half a li"
    assert.equal(status.found, (attach "-e 'set { max_connections = 6 }'"))
    pane:wait_for "db: a plan of %d connections was made.*> half a li"
    pane:type "ne"
    pane:wait_for "> half a line"
    pane:keys "C-c"
    pane:wait_for "half a line\n[^\n]*write %d+%w+>"
    pane:keys "C-c"
    pane:wait_for "ended: :watch db"
    pane:type ":watch off"
    pane:keys "Enter"
    pane:wait_for "nothing is watched"
    pane:keys "C-d"
    assert.equal(status.found, pane:status())
  end)

  for _, editor in ipairs { "own", "readline", "plain" } do
    it("tells that the program has gone, and ends, with the editor " .. editor, function()
      start "read"
      local pane = tmux.start(("trap : INT; %s attach --editor %s --no-history unix:%s/sock; echo status $?"):format(command.script, editor,
        folder), { columns = 130 })
      pane:wait_for "read %d+%w+>"
      pane:type "half"
      pane:wait_for "> half"
      stop()
      pane:wait_for "the connection to the program ended[^\n]*\n.*status 3\n"
      assert.is_nil(pane:screen():find "half%s*status")
    end)
  end
end)
