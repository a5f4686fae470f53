--- The prompt on a real terminal, as a person uses it; tmux is the terminal.
local shell = require "spec.support.shell"
local tmux = require "spec.support.tmux"
local command = require "spec.support.command"
local signal = require "spec.support.signal"

-- Ctrl-C takes along what was typed and not read yet, also what is typed before it is heard: so each is pressed when the screen shows that
-- the program is where it is wanted, and the next key comes when it shows what became of that.

-- What an editor shows in its own way: an entry of several lines, and a search.
local EDITORS = {
  own = { more = ">> ", search = "%(search `row'%) for i = 1, 2 do" },
  readline = { more = "", search = "%(reverse%-i%-search%)`row': for i = 1, 2 do" },
}

for editor in pairs(EDITORS) do describe("cueball repl on a terminal, with the editor " .. editor, function()
  local folder, pane

  before_each(function() folder = shell.must "mktemp -d" end)
  after_each(function()
    tmux.stop_all()
    shell.run("rm -rf " .. shell.quote(folder))
  end)

  local function start(arguments, options)
    options = options or {}
    options.environment = ("XDG_STATE_HOME=%s CUEBALL_EDITOR=%s INPUTRC=%s/inputrc %s"):format(folder, editor, folder,
      options.environment or "")
    pane = tmux.start(command.script .. " repl " .. (arguments or ""), options)
    if not options.is_busy then pane:wait_for "\n[^\n]*> *\n" end
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
    enter "print 'begun' cueball.sleep(86400000)"
    pane:wait_for "\nbegun\n"
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
      enter(("print 'begun %d' %s"):format(index, line))
      pane:wait_for(("\nbegun %d\n"):format(index))
      pane:keys "C-c"
      pane:wait_for "interrupted.*\n>%s*$"
      enter(("'alive %d'"):format(index))
      pane:wait_for(("alive %d\"\n>"):format(index))
      pane:keys "C-l"
    end
  end)

  it("ends a task that loops in the background, and the prompt is there again", function()
    start()
    enter "do cueball.spawn(function() cueball.sleep(100) print 'begun' while true do end end) end"
    pane:wait_for "\nbegun\n"
    pane:keys "C-c"
    pane:wait_for "error: cueball: input 1:1: interrupted"
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
    pane:wait_for "the sum is 19899\n>"
    assert.equal(1, select(2, shell.read(folder .. "/cueball/history"):gsub("[^\n]+", "")))
    enter "sum = nil"
    pane:keys "Up Up Enter"                               -- it is one entry of the history, and whole
    enter "sum"
    pane:wait_for "_1 = 19899\n"
  end)

  it("bears keys that begin others in the middle of a search", function()
    start()
    enter "'found'"
    pane:wait_for '_1 = "found"\n>%s*$'
    pane:keys "C-r C-x u C-r x C-x C-x C-s C-x C-u"
    pane:type "y"
    pane:wait_for "\n> y"
    pane:keys "C-c"
    pane:wait_for "\n> y[^\n]*\n>%s*$"
    enter "'still ' .. 'here'"
    pane:wait_for '_2 = "still here"'
  end)

  it("goes on after Ctrl-C in the middle of a paste, whose end is thrown away", function()
    start()
    pane:type "\27[200~a = 1\nb = 2\n"
    pane:keys "C-c"
    pane:wait_for "\n> *\n>%s*$" -- nothing is seen of it
    enter "'still ' .. 'here'"
    pane:wait_for '_1 = "still here"'
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
    pane:wait_for(("> for i = 1, 2 do\n%sprint%%('row', i%%)\n%send"):format(EDITORS[editor].more, EDITORS[editor].more))
    pane:keys "C-c"
    pane:wait_for "\n>%s*$"
    pane:keys "C-r"
    pane:type "row"
    pane:wait_for(EDITORS[editor].search)
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
    local line = "trap : INT HUP; XDG_STATE_HOME=%s CUEBALL_EDITOR=%s %s repl; echo status $?; stty -a | grep -o -- '-*\\bicanon'"
    local stuck = 'print("in", require("luv").os_getpid()); ("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40))' -- in C
    for _, case in ipairs { { "os.execute('kill -TERM $PPID')", 143 }, { "os.execute('kill -HUP $PPID')", 129 }, { stuck, 130 } } do
      pane = tmux.start(line:format(folder, editor, command.script))
      pane:wait_for "\n>"
      enter(case[1])
      local pid = case[2] == 130 and pane:wait_for "\nin%s+(%d+)\n"
      for _ = 1, pid and 3 or 0 do signal.send(tonumber(pid), "INT") end
      pane:wait_for(("\nstatus %d\nicanon"):format(case[2]))
      pane:stop()
    end
  end)

  it("lets a program that it starts have the terminal", function()
    start()
    enter "io.read()"
    pane:wait_until("lines", function() return pane:modes():find "[^-]icanon" end)
    enter "typed for the program"
    pane:wait_for '_1 = "typed for the program"'
  end)

  it("lives in virtual time with --sim: time goes on while something waits, and can be stopped", function()
    start "--sim"
    pane:wait_for "%[0 ms%] >"
    enter ":step 10s"
    pane:wait_for "%[10 s%] >"
    enter "print 'begun' while true do world.sleep(1) end"
    pane:wait_for "\nbegun\n"
    pane:keys "C-c"
    pane:wait_for "interrupted\n%[[^\n]+%] >"
    enter "print 'again' while true do end"
    pane:wait_for "\nagain\n"
    pane:keys "C-c"
    pane:wait_for "input %d+:1: interrupted\n%[[^\n]+%] >"
  end)

  it("has Ctrl-C end the script that is run first, whether it waits or loops, and goes on", function()
    shell.write(folder .. "/waits.lua", "print 'begun' cueball.sleep(86400000)")
    shell.write(folder .. "/loops.lua", "print 'begun' while true do end")
    for _, arguments in ipairs { "%s/waits.lua", "%s/loops.lua", "--sim %s/loops.lua" } do
      start(arguments:format(folder), { is_busy = true })
      pane:wait_for "\nbegun\n"
      pane:keys "C-c"
      pane:wait_for "interrupted\n[^\n]*> *\n"
      enter "6 * 7"
      pane:wait_for "_1 = 42"
      tmux.stop_all()
    end
  end)

  it("runs a script first, and goes on though that failed", function()
    shell.write(folder .. "/s.lua", "value = 5\nerror 'half way'")
    start(folder .. "/s.lua")
    pane:wait_for "s.lua:2: half way"
    enter "value"
    pane:wait_for "_1 = 5"
  end)
end) end

describe("cueball repl on GNU readline", function()
  local folder, pane

  before_each(function() folder = shell.must "mktemp -d" end)
  after_each(function()
    tmux.stop_all()
    shell.run("rm -rf " .. shell.quote(folder))
  end)

  local function start(inputrc, arguments, options)
    options = options or {}
    shell.write(folder .. "/inputrc", inputrc)
    options.environment = ("XDG_STATE_HOME=%s INPUTRC=%s/inputrc "):format(folder, folder) .. (options.environment or "")
    pane = tmux.start(("trap : INT; %s repl %s"):format(command.script, arguments or "--editor readline"), options)
    pane:wait_for "\n>%s*$"
  end

  it("obeys the user's inputrc: keys of vi, macros, a part of cueball's own", function()
    start 'set editing-mode vi\n$if cueball\n"\\C-xp": "6 * 7"\n$endif\n'
    pane:keys "C-x p Enter"
    pane:wait_for "_1 = 42\n"
    pane:type "1 + 10"
    pane:wait_for "> 1 %+ 10\n"
    local column = pane:column()
    pane:keys "Escape"
    pane:wait_until("vi's command mode", function() return pane:column() < column end) -- else it begins the next key
    pane:type "0r2A0"
    pane:keys "Enter"
    pane:wait_for "> 2 %+ 100\n_2 = 102\n"
  end)

  it("steps through what a word could become, and undoes a completion at once", function()
    start '"\\C-n": menu-complete\n'
    pane:type "cueball.resolver.st"
    pane:keys "Tab"
    pane:wait_for "> cueball.resolver.static\n"
    pane:keys "C-_"
    pane:wait_for "> cueball.resolver.st\n"
    pane:keys "C-u"
    pane:type "cueball.connection."
    pane:keys "C-n"
    pane:wait_for "> cueball.connection.native\n"
    pane:keys "C-n"
    pane:wait_for "> cueball.connection.postgres\n"
    pane:keys "C-n"
    pane:wait_for "> cueball.connection.redis\n"
    pane:keys "Tab"
    pane:type "  1"
    pane:wait_for "cueball.connection.redis *1\n"
    pane:keys "C-c"
    pane:wait_for "cueball.connection.redis *1\n>"
  end)

  it("ends a search by Ctrl-C, and lets what is printed stand above one", function()
    start ""
    pane:type "do cueball.spawn(function() cueball.sleep(1500) print 'meanwhile' end) end"
    pane:keys "Enter C-r"
    pane:type "sleep"
    pane:wait_for "meanwhile\n%(reverse%-i%-search%)`sleep': do cueball"
    pane:keys "C-c"
    pane:wait_for "\n>%s*$"
    pane:type "1 + 1"
    pane:keys "Enter"
    pane:wait_for "\n> 1 %+ 1\n_1 = 2\n"
  end)

  it("takes characters of UTF-8, where the environment names no others", function()
    start("", nil, { environment = "LANG= LC_ALL= LC_CTYPE=" })
    pane:type "x = 'hä日本語"
    pane:keys "Left Left BSpace"
    pane:type "字"
    pane:wait_for "> x = 'hä字本語"
    pane:keys "End"
    pane:type "' ; return #x"
    pane:keys "Enter"
    pane:wait_for "_1 = 12\n"
  end)

  it("bears keys that are not bound, and characters that the locale does not have", function()
    for _, options in ipairs { {}, { environment = "LANG=C" } } do
      start("", nil, options)
      pane:type "6"
      for _, key in ipairs { "1b 01", "1b 5a", "1b 5b 31 3b 35 50", "1b 5b 5b 41", "18 07", "c3 a4", "e6 97 a5" } do
        pane:keys("-H " .. key)
        pane:type "x"
      end
      pane:type "y"
      pane:wait_for "\n> 6[^\n]*y\n"
      pane:keys "C-c"
      pane:wait_for "y\n>%s*$"
      pane:type "6 * 7"
      pane:keys "Enter"
      pane:wait_for "_1 = 42\n"
      pane:stop()
    end
  end)

  it("bears an arrow, and bytes that are no characters, in the middle of a search", function()
    start ""
    pane:type "6 * 7"
    pane:keys "Enter"
    pane:wait_for "_1 = 42\n"
    for _ = 1, 10 do pane:keys "-H 13 6f 78 fd 1b 5b 44 78" end -- C-s, ox, a byte, Left
    for _ = 1, 10 do pane:keys "-H 12 f5 f1 1b 13 78" end
    pane:keys "C-c"
    pane:wait_for "\n>%s*$"
    pane:keys "C-r"
    pane:type "6"
    pane:keys "Left Right"
    pane:type "0"
    pane:keys "Enter"
    pane:wait_for "_2 = 420\n"
  end)

  it("bears rows of control keys that crash readline", function()
    -- Ctrl-R, Ctrl-S, Escape and Ctrl-X more often than others; not Ctrl-C, Ctrl-D, Ctrl-Z and Ctrl-\\.
    local OFTEN, NOT = { [0] = 18, 19, 27, 24 }, { [3] = true, [4] = true, [26] = true, [28] = true }
    for _, seed in ipairs { 3, 7, 16, 18, 24 } do
      start ""
      local row, drawn = {}, seed
      local function draw()
        drawn = drawn * 48271 % 2147483647
        return math.floor(drawn / 100)
      end
      while #row < 1000 do
        local kind, number = draw() % 3, draw()
        local key = kind == 0 and number % 32 or kind == 1 and OFTEN[number % 4] or number % 128
        if not NOT[key] then row[#row + 1] = ("%02x"):format(key) end
      end
      pane:keys("-H " .. table.concat(row, " "))
      pane:wait_until("an answer after the row of seed " .. seed, function(screen)
        if screen:find '= "alive"' then return true end
        assert.is_nil(screen:find "Pane is dead", "seed " .. seed)
        pane:keys "C-c"
        pane:type "'al'..'ive'"
        pane:keys "Enter"
        os.execute "sleep 0.5" -- for the rest of the row, and else the next Ctrl-C overtakes Enter
      end)
      pane:stop()
    end
  end)

  it("knows vi's Escape from the one of an arrow, and inserts all completions", function()
    start "set editing-mode vi\nset keymap vi-insert\n\"\\C-o\": insert-completions\n"
    pane:type "1 + 5"
    pane:keys "Left"
    pane:type "2"
    pane:keys "Enter"
    pane:wait_for "> 1 %+ 25\n_1 = 26\n"
    pane:type "cueball.connection.re"
    pane:keys "C-o"
    pane:wait_for "> cueball.connection.redis resty *\n"
  end)

  it("has what is pasted stand before and behind what was typed, and undoes", function()
    start ""
    pane:type "x ="
    pane:keys "Enter"
    pane:wait_for ">> *\n"
    pane:type "{ 1,  }"
    pane:keys "Left Left"
    pane:paste "2,\n\t3,\n4"
    pane:wait_for "\n>> { 1, 2,\n>>     3,\n>> 4 }"
    pane:type ", 5"
    pane:keys "Enter"
    pane:type "#x, x[5]"
    pane:keys "Enter"
    pane:wait_for "_1, _2 = 5, 5\n"
    pane:keys "Up Up"                                     -- an entry that was changed, and pasted into
    pane:type " "
    pane:paste "\n-- more\n"
    pane:keys "Enter"
    pane:type "#x"
    pane:keys "Enter"
    pane:wait_for "_3 = 5\n"
  end)

  it("is replaced by the own editor, without a word, where lua-readline cannot be had", function()
    local shadow = folder .. "/readline.lua"
    shell.write(shadow, "error 'built for another Lua'")
    start("", "", { environment = ("LUA_PATH='%s/?.lua;'$LUA_PATH"):format(folder) })
    assert.is_nil(pane:screen():find "built for another")
    pane:type "for i = 1, 1 do"
    pane:keys "Enter"
    pane:type "end"
    pane:keys "Enter Up"
    pane:wait_for "\n>> end\n"
  end)

  it("is replaced by the own editor where the inputrc includes itself, and says so", function()
    start(("$include %s/inputrc\n"):format(folder))
    pane:wait_for "^readline is not used: [^\n]*/inputrc includes itself\n"
    pane:type "6 * 7"
    pane:keys "Enter"
    pane:wait_for "_1 = 42\n"
  end)

  it("is not taken on a terminal that can do nothing, nor where another is asked for", function()
    start("", "", { environment = "TERM=dumb" })
    pane:type(("do cueball.spawn(function() repeat cueball.sleep(20) until io.open '%s/go' print 'meanwhile' end) end"):format(folder))
    pane:keys "Enter"
    pane:wait_for "end\n>%s*$"
    pane:type "1 + 1"
    pane:wait_for "\n> 1 %+ 1\n"
    shell.write(folder .. "/go", "")
    pane:wait_for "\n> 1 %+ 1\nmeanwhile\n>"
    pane:keys "Enter"
    pane:wait_for "_1 = 2\n>"
    pane:type "print 'begun' cueball.sleep(600000)"
    pane:keys "Enter"
    pane:wait_for "\nbegun\n"
    pane:keys "C-c"
    pane:wait_for "interrupted\n>"
    pane:type "lost"
    pane:keys "C-c"
    pane:wait_for "lost[^\n]*\n>"
    pane:keys "C-d"
    assert.equal(0, pane:status())
    pane:stop()
    pane = tmux.start("echo on it; " .. command.script .. " repl", { environment = "CUEBALL_EDITOR=emacs" })
    pane:wait_for 'CUEBALL_EDITOR must be one of auto, readline, own, plain, not "emacs"'
    assert.equal(2, pane:status())
  end)
end)
