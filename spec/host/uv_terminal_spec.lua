--- host.terminal of the libuv host, on a real terminal; and a signal that is heard once.
local host = require "cueball.host.uv"
local shell = require "spec.support.shell"
local tmux = require "spec.support.tmux"

-- A sanitized library wants the sanitizer's first.
local LUAJIT = ("env LD_PRELOAD=%s luajit "):format(os.getenv "CUEBALL_PRELOAD" or "")

local folder

setup(function() folder = shell.must "mktemp -d" end)
teardown(function() shell.must("rm -r " .. folder) end)

-- Runs a program on a terminal. It has `host` and `terminal`.
local function start(program, options)
  local path = folder .. "/program.lua"
  shell.write(path, 'local host = require "cueball.host.uv"\nlocal terminal = assert(host.terminal())\n' .. program)
  return tmux.start(LUAJIT .. path .. "; stty -a | grep -o -- '-*\\bicanon'", options)
end

describe("host.terminal", function()
  after_each(tmux.stop_all)

  it("takes every key by itself, Ctrl-C too, and leaves the terminal as it was", function()
    local pane = start [[
      host.run(function()
        local waiter = host.waiter()
        terminal:raw()
        terminal:write "ready\r\n"
        terminal:read(function(bytes)
          terminal:write(("%q in a task: %s\n"):format(bytes, host.current() ~= nil))
          if bytes == "q" then waiter:wake() end
        end)
        waiter:wait()
        terminal:close()
        terminal:close()
      end)]]
    pane:wait_for "ready"
    pane:keys "x"
    pane:wait_for '"x" in a task: false'
    pane:keys "C-c"
    pane:wait_for '"\\3" in a task: false'
    pane:keys "q"
    assert.equal("icanon", pane:wait_for "\n(%-?icanon)")
  end)

  it("tells its size, and when that is another", function()
    local pane = start([[
      host.run(function()
        local waiter = host.waiter()
        terminal:write(("%d x %d\n"):format(terminal:size()))
        local forget = terminal:on_resize(function() waiter:wake() end)
        waiter:wait()
        forget()
        terminal:write(("%d x %d now, %s\n"):format(select(1, terminal:size()), select(2, terminal:size()), terminal:is_behind()))
      end)]], { columns = 70, rows = 20 })
    pane:wait_for "70 x 20"
    pane:resize(90, 25)
    pane:wait_for "90 x 25 now, false"
  end)

  it("is as it was though the program ends in the middle", function()
    local pane = start [[
      terminal:raw()
      terminal:write "raw\n"
      error "a fault"]]
    pane:wait_for "a fault"
    assert.equal("icanon", pane:wait_for "\n(%-?icanon)")
  end)

  it("stops and goes on as Ctrl-Z has it, raw again", function()
    local path = folder .. "/suspended.lua"
    shell.write(path, [[
      local host = require "cueball.host.uv"
      local terminal = host.terminal()
      host.run(function()
        local waiter = host.waiter()
        terminal:raw()
        terminal:write "one\n"
        terminal:read(function(bytes)
          if bytes == "z" then terminal:suspend() terminal:write "on again\n" else waiter:wake() end
        end)
        waiter:wait()
        terminal:close()
      end)
      print "over"]])
    local pane = tmux.start(("exec bash --norc -i -c 'set -m; %s; echo stopped; fg'"):format(LUAJIT .. path))
    pane:wait_for "one"
    pane:keys "z"
    pane:wait_for "stopped"
    pane:wait_for "on again"
    pane:keys "x"
    pane:wait_for "over"
  end)

  it("is refused where there is none", function()
    local output, status = shell.run([[luajit -e 'print(require("cueball.host.uv").terminal())' </dev/null]])
    assert.equal(0, status, output)
    assert.matches("^nil\tstandard %a+ is no terminal$", output)
  end)
end)

describe("host.on_signal with once", function()
  it("leaves the second signal to the system, even in a program that never comes back to its loop", function()
    local path = folder .. "/stuck.lua"
    shell.write(path, [[
      local host, uv = require "cueball.host.uv", require "luv"
      host.run(function()
        host.on_signal("int", function()
          io.stderr:write "one"
          uv.kill(uv.os_getpid(), "sigint")
          while true do end
        end, { once = true })
        uv.kill(uv.os_getpid(), "sigint")
        host.sleep(60000)
      end)]])
    local output, status = shell.run("timeout -k 1 30 luajit " .. path)
    assert.equal("one", output)
    assert.equal(130, status)
  end)

  it("checks what it is given", function()
    local _, message = pcall(function() host.on_signal("int", print, true) end)
    assert.matches("uv_terminal_spec.lua:%d+: on_signal: expected { once = true } or nothing, got true$", message)
  end)
end)
