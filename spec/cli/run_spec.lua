--- cueball run, the real script: arguments, exit statuses, errors, and what becomes of pools when it is interrupted.
local command = require "spec.support.command"
local shell = require "spec.support.shell"

local folder

local function write(name, text)
  local path = folder .. "/" .. name
  shell.write(path, text)
  return path
end

-- Runs it until it says that it is ready, and sends it a signal.
-- @return its status, what it wrote to stdout, and to stderr
local function signalled(name, arguments)
  local one = command.start(arguments)
  one:wait_for "ready"
  one:signal(name)
  return one:wait()
end

-- Two pools, of which the second has a connection out until it is told to give it back.
local POOLS = [[
  local cueball = require "cueball"
  local host = cueball.host()
  host.log_to(function(_, message) if message:find "stop" then io.stderr:write(message, "\n") end end)
  local function pool(name)
    return cueball.pool { name = name, resolver = cueball.resolver.static { "127.0.0.1:1" }, drain_timeout_ms = 60000,
      connect = { connect = function() return {} end, close = function() end } }
  end
  local first, second = pool "first", pool "second"
]]

describe("cueball run", function()
  setup(function() folder = shell.must "mktemp -d" end)
  teardown(function() shell.must("rm -r " .. folder) end)
  after_each(command.stop_all)

  it("runs a script in a task, with its arguments as it was given them", function()
    local path = write("arguments.lua", [[
      require("cueball").sleep(1)
      print(arg[0]:match "[^/]*$", #arg, table.concat(arg, ","), ...)]])
    local status, out, err = command.run("run " .. path .. " a --why -- -e 'b c'")
    assert.equal("", err)
    assert.equal("arguments.lua\t5\ta,--why,--,-e,b c\ta\t--why\t--\t-e\tb c\n", out)
    assert.equal(0, status)
  end)

  it("runs Lua from the command line and from standard input", function()
    assert.same({ 0, "0.1.0\tx\n", "" }, { command.run "run -e 'print(cueball.version, ...)' x" })
    assert.same({ 0, "a\tb\n", "" }, { command.shell "echo 'print(...)' | cueball run - a b" })
    assert.same({ 0, "1\n", "" }, { command.run "run -e 'one = 1 print(_G.one)'" })
  end)

  it("ends with the status that the script returns", function()
    local cases = { ["return 7"] = 7, ["return 0"] = 0, ["return 256"] = 0, ["return true"] = 0, ["return false"] = 1, [""] = 0,
      ["os.exit(9)"] = 9 }
    for code, expected in pairs(cases) do assert.equal(expected, (command.run("run -e '" .. code .. "'")), code) end
  end)

  it("tells an error with the script's own traceback, and ends with 1", function()
    local path = write("fault.lua", "local function inner()\n  error 'a fault'\nend\ninner()\n")
    local status, out, err = command.run("run " .. path)
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("^cueball: [^\n]*fault.lua:2: a fault\nstack traceback:\n.*fault.lua:4: in main chunk\n$", err)
    status, out, err = command.run "run -e 'error {}'"
    assert.equal(1, status)
    assert.matches("^cueball: table: 0x", err)
    assert.equal("", out)
    status, out, err = command.run "run -e 'x ='"
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("^cueball: %(command line%):1: unexpected symbol", err)
  end)

  it("says what cannot be run, and ends with 2", function()
    for arguments, message in pairs {
      ["run"] = "cueball: give a SCRIPT, or Lua with -e\n",
      ["run /nowhere.lua"] = "cueball: the script cannot be read: /nowhere.lua: No such file or directory\n",
      ["run /"] = "cueball: the script cannot be read: /: Is a directory\n",
      ["run --stop-timeout 1h x.lua"] = "cueball: option '--stop-timeout' must be a time",
      ["run --nope x.lua"] = "cueball: unknown option '--nope'\n",
    } do
      local status, out, err = command.run(arguments)
      assert.equal(2, status, arguments .. err)
      assert.equal("", out)
      assert.equal(message, err:sub(1, #message))
    end
  end)

  it("stops pools that the script has left, the last one made first", function()
    local path = write("left.lua", POOLS)
    local status, _, err = command.run("run " .. path)
    assert.equal(0, status)
    assert.matches("second: stopping.*second: stopped.*first: stopping.*first: stopped", err)
  end)

  it("lets whoever has a connection finish when it is interrupted", function()
    local path = write("interrupted.lua", POOLS .. [[
      local lease = second:claim()
      print "ready" io.flush()
      while second:state() ~= "stopping" do cueball.sleep(5) end
      print(second:try_claim() == nil) io.flush()
      lease:release()
      cueball.sleep(60000)]])
    local status, out, err = signalled("INT", "run " .. path)
    assert.equal(130, status)
    assert.equal("ready\ntrue\n", out)
    assert.matches("second: stopped.*first: stopped", err)
  end)

  it("ends all the same when a pool does not stop in time, and says so", function()
    local path = write("held.lua", POOLS .. [[
      held = second:claim()
      print "ready" io.flush()
      cueball.sleep(60000)]])
    local status, _, err = signalled("TERM", "run --stop-timeout 200ms " .. path)
    assert.equal(143, status)
    assert.matches("cueball: pool first did not stop within 200 ms; %-%-stop%-timeout allows more\n", err)
    assert.matches("cueball: pool second did not stop within 200 ms", err)
  end)

  it("is ended at once by a second interrupt, also where the script never comes back to the loop", function()
    local path = write("stuck.lua", "print 'ready' io.flush()\nlocal n = 0\nwhile true do n = n + 1 end\n")
    local one = command.start("run " .. path)
    one:wait_for "ready"
    one:signal "INT"
    one:signal "INT"
    assert.equal(130, (one:wait()))
  end)

  it("ends at the first signal, if the script does not come back to the loop in time; a wait that does is not hurried", function()
    local path = write("stuck.lua", "print 'ready' io.flush()\nlocal n = 0\nwhile true do n = n + 1 end\n")
    for name, code in pairs { TERM = 143, INT = 130 } do
      assert.equal(code, (signalled(name, "run --stop-timeout 1s " .. path)))
    end
    path = write("slow.lua", POOLS .. [[
      local lease = second:claim()
      print "ready" io.flush()
      while second:state() ~= "stopping" do cueball.sleep(5) end
      cueball.sleep(1500)
      lease:release()]])
    local status, _, err = signalled("TERM", "run --stop-timeout 60s " .. path)
    assert.equal(143, status)
    assert.matches("second: stopped.*first: stopped", err)
  end)

  it("tells what a script throws with control characters escaped", function()
    local status, _, err = command.run [[run -e 'error("\27]0;owned\7 and\nmore", 0)']]
    assert.equal(1, status)
    assert.matches("^cueball: \\x1b%]0;owned\\x07 and\nmore\n", err)
    assert.is_nil(err:find "[%z\1-\8\27]")
  end)
end)
