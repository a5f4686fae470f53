--- The prompt on a real terminal, as a person uses it; tmux is the terminal.
local shell = require "spec.support.shell"
local tmux = require "spec.support.tmux"
local command = require "spec.support.command"

describe("cueball repl on a terminal", function()
  local folder, pane

  before_each(function() folder = shell.must "mktemp -d" end)
  after_each(function()
    tmux.stop_all()
    shell.run("rm -rf " .. shell.quote(folder))
  end)

  local function start(arguments, options)
    options = options or {}
    options.environment = "XDG_STATE_HOME=" .. folder .. " " .. (options.environment or "")
    pane = tmux.start(command.script .. " repl " .. (arguments or ""), options)
    pane:wait_for "\n[^\n]*> *\n"
    return pane
  end

  local function enter(line)
    pane:type(line)
    pane:keys "Enter"
  end

  it("shows results, and what is printed meanwhile above the line that is being typed", function()
    start()
    enter "1 + 1"
    pane:wait_for "\n_1 = 2\n"
    enter "cueball.spawn(function() for i = 1, 3 do cueball.sleep(300) print('tick', i) end end) ; nil"
    pane:wait_for "input 2:1: "                           -- `;` is no expression
    enter "do cueball.spawn(function() for i = 1, 3 do cueball.sleep(300) print('tick', i) end end) end"
    pane:type "half a li"
    pane:wait_for "tick *3\n> half a li"
    assert.is_nil(pane:screen():find "half a li[^\n]*tick")
    pane:type "ne"
    pane:wait_for "tick *1\ntick *2\ntick *3\n> half a line"
  end)

  it("waits for what waits; Ctrl-C ends that, and not the session", function()
    start()
    enter "cueball.sleep(86400000)"
    pane:wait_for "> cueball.sleep%(86400000%)\n"
    pane:keys "C-c"
    pane:wait_for "interrupted\n>"
    enter "'still here'"
    pane:wait_for '_1 = "still here"'
  end)

  it("ends a loop without end by Ctrl-C, that of a module that was loaded too, and what catches errors", function()
    shell.write(folder .. "/endless.lua", "return function() local i = 0 while true do i = i + 1 end end")
    start(nil, { environment = ("LUA_PATH='%s/?.lua;'$LUA_PATH"):format(folder) })
    for index, line in ipairs { "while true do end", "while true do pcall(function() while true do end end) end", "require 'endless'()",
      "cueball.sleep(1) repeat until false", "load('while true do end')()" } do
      enter(line)
      pane:wait_for(line:sub(1, 20):gsub("%p", "%%%0") .. "[^\n]*\n")
      os.execute "sleep 0.3" -- it is to be in the middle of it
      pane:keys "C-c"
      pane:wait_for "interrupted.*\n>%s*$"
      enter(("'alive %d'"):format(index))
      pane:wait_for(("alive %d\"\n>"):format(index))
      pane:keys "C-l"
    end
  end)

  it("ends a task that loops in the background, and the prompt is there again", function()
    start()
    enter "do cueball.spawn(function() cueball.sleep(100) while true do end end) end"
    os.execute "sleep 0.5"
    pane:keys "C-c"
    pane:wait_for "error: input 1:1: interrupted"
    enter "7 * 6"
    pane:wait_for "_1 = 42"
  end)

  it("has what is typed be completed, with what options may be", function()
    start()
    enter "db = cueball.pool { name = 'db', resolver = cueball.resolver.static { '127.0.0.1:1' }, connect = function() return {} end }"
    pane:type "db:cl"
    pane:keys "Tab"
    pane:wait_for "\n> db:claim"
    pane:type " { tim"
    pane:keys "Tab"
    pane:wait_for "db:claim { timeout_ms"
    pane:keys "C-u"
    pane:type "cueball.pool { max_conn"
    pane:keys "Tab Tab"
    pane:wait_for "max_connections +a whole number from 1 to 1000000; default 10"
    pane:wait_for "> cueball.pool { max_connections"
    pane:keys "C-u"
    pane:type "?pool:cla"
    pane:keys "Tab Enter"
    pane:wait_for "docs/lua.md"
  end)

  it("takes a paste of 200 lines as one input, with its tabs, and runs it when Enter is pressed", function()
    start()
    local lines = { "sum = 0" }
    for index = 2, 199 do lines[index] = ("if true then\tsum = sum + %d end"):format(index) end
    lines[200] = "print('the sum is ' .. sum)"
    pane:paste(table.concat(lines, "\n"))
    pane:wait_for ">> print%('the sum is ' .. sum%)"
    assert.is_nil(pane:screen():find("the sum is 1", 1, true))
    pane:keys "Enter"
    pane:wait_for "the sum is 19899"
    pane:keys "Up"                                        -- it is one entry of the history
    pane:wait_for "the sum is 19899\n"
    pane:keys "C-c"
    pane:wait_for "\n>%s*$"
    assert.equal(1, select(2, shell.read(folder .. "/cueball/history"):gsub("[^\n]+", "")))
  end)

  it("has characters of any width in their places", function()
    start(nil, { columns = 40 })
    pane:type "x = 'hä日本語"
    pane:keys "Left Left BSpace"
    pane:type "字"
    pane:wait_for "> x = 'hä字本語"
    pane:keys "End"
    pane:type "'"
    pane:keys "Enter"
    enter "#x, x"
    pane:wait_for '_1, _2 = 12, "hä字本語"'
  end)

  it("stands well when the size of the terminal changes", function()
    start(nil, { columns = 60 })
    pane:type("x = '" .. ("abcdefghij"):rep(8) .. "'")
    for _, size in ipairs { { 40, 20 }, { 30, 15 }, { 100, 30 } } do
      pane:resize(size[1], size[2])
      os.execute "sleep 0.2"
    end
    pane:keys "Enter"
    enter "#x"
    pane:wait_for "\n_1 = 80\n>"
    assert.equal(1, select(2, pane:screen():gsub("> x = '", "")), pane:screen())
  end)

  it("keeps what was typed, entries of several lines whole, for its owner alone", function()
    start()
    enter "for i = 1, 2 do"
    pane:wait_for "\n>>"
    enter "print('row', i)"
    pane:keys "e n d Enter"
    pane:wait_for "row *2\n>"
    enter " 'secret'"
    pane:wait_for "_1 = "
    pane:keys "C-d"
    assert.equal(0, pane:status())
    assert.equal("600", (shell.must(("stat -c %%a %s/cueball/history"):format(folder)):match "%d+"))
    assert.equal("for i = 1, 2 do\\nprint('row', i)\\nend\n", shell.read(folder .. "/cueball/history"))
    pane:stop()
    start()
    pane:keys "Up"
    pane:wait_for "> for i = 1, 2 do\n>> print%('row', i%)\n>> end"
    pane:keys "C-c"
    pane:wait_for "\n>%s*$"
    pane:keys "C-r"
    pane:type "row"
    pane:wait_for "%(search `row'%) for i = 1, 2 do"
    pane:keys "Enter"
    pane:wait_for "row *1\nrow *2\n>"
  end)

  it("gives the terminal back, however it ends", function()
    for _, ending in ipairs { "C-d", ":quit Enter" } do
      start()
      pane:keys(ending:gsub("^:quit", "-l :quit \\; send-keys"))
      assert.equal(0, pane:status())
      pane:stop()
    end
    pane = tmux.start(("XDG_STATE_HOME=%s %s repl; stty -a | grep -o -- '-*icanon'"):format(folder, command.script))
    pane:wait_for "\n>"
    enter "os.execute('kill -TERM $PPID')"
    pane:wait_for "\nicanon"
  end)

  it("lets a program that it starts have the terminal", function()
    start()
    enter "io.read()"
    os.execute "sleep 0.3"
    enter "typed for the program"
    pane:wait_for '_1 = "typed for the program"'
  end)

  it("lives in virtual time with --sim: time goes on while something waits, and can be stopped", function()
    start "--sim"
    pane:wait_for "%[0 ms%] >"
    enter ":step 10s"
    pane:wait_for "%[10 s%] >"
    enter "while true do world.sleep(1) end"
    os.execute "sleep 0.5"
    pane:keys "C-c"
    pane:wait_for "interrupted\n%[[^\n]+%] >"
  end)

  it("runs a script first, and goes on though that failed", function()
    shell.write(folder .. "/s.lua", "value = 5\nerror 'half way'")
    start(folder .. "/s.lua")
    pane:wait_for "s.lua:2: half way"
    enter "value"
    pane:wait_for "_1 = 5"
  end)
end)
