--- The terminal of the process, for prompts and screens, on a real one.
local program = require "spec.support.program"
local shell = require "spec.support.shell"
local signal = require "spec.support.signal"
local tmux = require "spec.support.tmux"

-- A sanitized library wants the sanitizer's first.
local LUAJIT = ("env LD_PRELOAD=%s luajit "):format(os.getenv "CUEBALL_PRELOAD" or "")

local BEGINNING = [[
  local host = require "cueball.host.uv"
  local terminal = assert(require("cueball.cli.terminal").open())
  terminal:sequences("<on>", "<off>")
  local function say(words) io.write(words, "\r\n") io.flush() end
]]

describe("a terminal", function()
  local folder

  setup(function() folder = shell.must "mktemp -d" end)
  teardown(function() shell.must("rm -r " .. folder) end)
  after_each(tmux.stop_all)

  local function write(text)
    local path = folder .. "/program.lua"
    shell.write(path, BEGINNING .. text)
    return LUAJIT .. path
  end

  -- Runs a program on a terminal. What it leaves of it is shown, and its status.
  local function start(text, options)
    local line = "ulimit -c 0; trap : INT HUP; echo on it; %s; echo status $?; stty -a | grep -o -- '-*\\bicanon'"
    return tmux.start(line:format(write(text)), options)
  end

  local WAITS = [[
    host.run(function()
      local waiter = host.waiter()
      terminal:watch(host, {
        keys = function()
          local bytes = terminal:read()
          say(("%q in a task: %s"):format(bytes, tostring(host.current() ~= nil)))
          if bytes == "q" then waiter:wake() end
        end,
        news = function(what) say(what .. (" %d x %d"):format(terminal:size())) end,
      })
      terminal:raw(true)
      say("ready" .. (" %d x %d"):format(terminal:size()))
      waiter:wait()
      terminal:close()
      terminal:close()
    end)]]

  it("takes every key by itself, tells of Ctrl-C and of another size, and is as it was afterwards", function()
    local pane = start(WAITS, { columns = 70, rows = 20 })
    pane:wait_for "<on>ready 70 x 20"
    pane:keys "x"
    pane:wait_for '"x" in a task: false'
    pane:keys "C-c"
    pane:wait_for "interrupted 70 x 20"
    pane:resize(90, 25)
    pane:wait_for "resized 90 x 25"
    pane:keys "q"
    pane:wait_for "<off>status 0\nicanon"
  end)

  it("keeps what is typed while nobody listens, or loses it", function()
    local pane = start [[
      host.run(function()
        local waiter, typed = host.waiter(), ""
        terminal:watch(host, {
          keys = function()
            typed = typed .. terminal:read()
            if typed:find "q" then waiter:wake() end
          end,
          news = function() end,
        })
        terminal:raw(true)
        terminal:listen(false)
        say "deaf"
        host.sleep(1000)
        if typed ~= "" then say "it listens" end
        terminal:listen(true)
        waiter:wait()
        say("typed " .. typed)
        terminal:listen(false)
        say "deaf again"
        local ffi, waiting = require "ffi", require "ffi".new "int[1]"
        ffi.cdef "int ioctl(int, unsigned long, ...);"
        repeat host.sleep(10) ffi.C.ioctl(0, 0x541b, waiting) until waiting[0] == 2 -- FIONREAD: bytes that are there
        terminal:forget_keys()
        typed = ""
        terminal:listen(true)
        waiter = host.waiter()
        say "and not"
        waiter:wait()
        say("typed " .. typed)
      end)]]
    pane:wait_for "deaf\n"
    pane:keys "a q"
    pane:wait_for "deaf\ntyped aq\ndeaf again"
    pane:keys "b q"
    pane:wait_for "and not"
    pane:keys "c q"
    pane:wait_for "typed cq\n"
  end)

  it("is as it was though the program ends in the middle: by an error, a signal, the third Ctrl-C", function()
    local stuck = "terminal:raw(true)\nsay 'raw'\nwhile true do end"
    local cases = {
      { program = "terminal:raw(true)\nsay 'raw'\nerror 'a fault'", status = 1 },
      { program = stuck, signal = "TERM", status = 143 }, { program = stuck, signal = "HUP", status = 129 },
      { program = stuck, signal = "QUIT", status = 131 }, { program = stuck, interrupts = 3, status = 130 },
      { program = stuck, signal = "ABRT", status = 134 },
    }
    -- A sanitizer hears of this one by itself.
    if not os.getenv "CUEBALL_PRELOAD" then cases[#cases + 1] = { program = stuck, signal = "SEGV", status = 139 } end
    for _, case in ipairs(cases) do
      local pane = start((case.program:gsub("say 'raw'", "say('raw ' .. require('luv').os_getpid())")))
      local pid = pane:wait_for "<on>raw (%d+)"
      if case.signal then shell.must(("kill -%s %s"):format(case.signal, pid)) end
      for _ = 1, case.interrupts or 0 do signal.send(tonumber(pid), "INT") end
      pane:wait_for(("<off>[^<]*status %d\nicanon"):format(case.status))
      pane:stop()
    end
  end)

  it("stops and goes on as Ctrl-Z has it, raw again", function()
    local pane = tmux.start(("exec bash --norc -i -c 'set -m; %s; echo stopped; fg'"):format(write(WAITS)))
    pane:wait_for "<on>ready"
    pane:keys "C-z"
    pane:wait_for "<off>[^<]*stopped[^<]*<on>continued"
    pane:keys "x"
    pane:wait_for '"x" in a task'
    pane:keys "q"
  end)

  it("is refused where there is none, and a sequence that is too long", function()
    shell.write(folder .. "/none.lua", 'print(require("cueball.cli.terminal").open())')
    local output, status = shell.run(("luajit %s/none.lua </dev/null"):format(folder))
    assert.equal(0, status, output)
    assert.matches("^nil\tstandard input is no terminal", output)
    local lib = require("cueball.native").lib
    assert.equal(-9, lib.cueball_terminal_sequences("", "")) -- EBADF: nothing is open
    tmux.start("echo on it; " .. LUAJIT .. "-e " .. shell.quote [[
      local terminal, lib = require("cueball.cli.terminal").open(), require("cueball.native").lib
      print(lib.cueball_terminal_sequences(("x"):rep(65), ""), lib.cueball_terminal_sequences("", ("x"):rep(64)))]]):wait_for "%-22%s+0"
  end)
end)

describe("what a terminal is sent", function()
  setup(program.setup)
  teardown(program.teardown)

  it("when it is given back is whole, though calls are interrupted, take little at a time, or no stack is left", function()
    program.run("terminal_test", "spec/cli/terminal_test.c src/terminal.c")
  end)
end)

describe("a bounded signal", function()
  it("ends the process only if nobody has heard of it, and is checked", function()
    local heard = [[
      local uv, lib = require "luv", require("cueball.native").lib
      local signal = uv.new_signal()
      signal:start("sigterm", function() %s signal:stop() end)
      assert(lib.cueball_signal_bound(15, 1) == 0)
      uv.kill(uv.os_getpid(), "sigterm")
      uv.new_timer():start(1500, 0, function() print "alive" end)
      uv.run()]]
    local function run(text)
      local output, status = shell.run(LUAJIT .. "-e " .. shell.quote(text))
      return (output:gsub("%s+$", "")), status
    end
    assert.same({ "alive", 0 }, { run(heard:format "lib.cueball_signal_heard()") })
    local output, status = run(heard:format "")
    assert.same({ 143, nil }, { status, output:match "alive" })
    output = run [[
      local lib = require("cueball.native").lib
      print(lib.cueball_signal_bound(0, 1), lib.cueball_signal_bound(15, 0), lib.cueball_signal_bound(9, 1))
      for number = 1, 3 do lib.cueball_signal_bound(number, 1) end
      print(lib.cueball_signal_bound(15, 1), lib.cueball_signal_bound(10, 1))]]
    assert.equal("-22\t-22\t-22\n0\t-28", output)
  end)
end)
