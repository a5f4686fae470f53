--- Lines to stderr in a real process: their form on libuv, and what becomes of them where nobody reads.
local shell = require "spec.support.shell"

local folder

-- Runs a script with the shell's words around it.
local function run(script, words)
  shell.write(folder .. "/script.lua", script)
  local command = ("timeout 60 '%s/examples/run' '%s/script.lua'"):format(shell.root, folder)
  return shell.must((words:gsub("SCRIPT", (command:gsub("%%", "%%%%")))))
end

setup(function() folder = shell.must "mktemp -d" end)
teardown(function() shell.run("rm -rf " .. shell.quote(folder)) end)

local POOL = [[
  local cueball = require "cueball"
  %s
  cueball.run(function()
    local resolver = cueball.resolver.static { "127.0.0.1:1" }
    cueball.pool { resolver = resolver, connect = cueball.connection.tcp {}, name = "local" }:stop()
  end)
]]

local TIME = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"

describe("the log on libuv", function()
  it("is text on stderr, from the level in CUEBALL_LOG on", function()
    local output = run(POOL:format "", "CUEBALL_LOG=info SCRIPT 2>&1 >/dev/null")
    assert.matches("^" .. TIME .. " info cueball local: stopping %(was starting%)\n" .. TIME .. " info cueball local: stopped", output)
    assert.is_nil(output:find "debug")
    assert.equal("", run(POOL:format "", "CUEBALL_LOG=none SCRIPT 2>&1"))
    assert.matches(" debug cueball local: backend 127.0.0.1:1 added", run(POOL:format "", "CUEBALL_LOG=debug SCRIPT 2>&1"))
  end)

  it("is JSON if the program says so, from the same level on", function()
    local output = run(POOL:format "cueball.log.to { form = 'json' }", "CUEBALL_LOG=info SCRIPT 2>&1 >/dev/null")
    local count = 0
    for line in output:gmatch "[^\n]+" do
      local record = assert(require("dkjson").decode(line))
      assert.same({ "info", "local", "pool_state" }, { record.level, record.pool, record.event })
      count = count + 1
    end
    assert.equal(2, count)
  end)
end)

describe("a stderr that nobody reads", function()
  it("holds nobody up: lines are dropped, and the next one that can be written says how many", function()
    local output = run([[
      local stderr = require "cueball.log.stderr"
      local line, written = ("x"):rep(999), 0
      for _ = 1, 1000 do
        if stderr.write(line) then written = written + 1 end
      end
      print("written", written)
      local pipe = io.open "fifo"
      pipe:read(40000)
      stderr.write "the last one"
    ]], ([[cd '%s' && mkfifo fifo && exec 3<>fifo && SCRIPT 2>&3 && dd if=fifo bs=65536 count=1 status=none iflag=nonblock]])
      :format(folder))
    local written = tonumber(output:match "written%s+(%d+)")
    assert.is_true(written >= 40 and written < 100, output:sub(1, 100))
    local dropped, last = output:match "\ncueball: (%d+) lines of the log were dropped, as nobody read stderr\n([^\n]+)"
    assert.equal(1000 - written, tonumber(dropped))
    assert.equal("the last one", last)
  end)
end)
