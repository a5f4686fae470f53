--- cueball repl without a terminal: scripts, pipes, -e; what goes where, and the exit status.
local command = require "spec.support.command"
local shell = require "spec.support.shell"

local quote = shell.quote

describe("cueball repl", function()
  local folder

  setup(function() folder = shell.must "mktemp -d" end)
  teardown(function() shell.run("rm -rf " .. quote(folder)) end)

  local function write(name, text)
    shell.write(folder .. "/" .. name, text)
    return quote(folder .. "/" .. name)
  end

  local function run(arguments, input)
    return command.run("repl " .. arguments .. " <" .. (input and write("input", input) or "/dev/null"))
  end

  it("runs what -e says, prints the results, and ends with 0", function()
    local status, out, err = run "-e '1 + 1' -e 'x = { 1, a = 2 }' -e x"
    assert.same({ 0, "2\n{ 1, a = 2 }\n", "" }, { status, out, err })
  end)

  it("ends with 1 at the first failure, which is told on stderr", function()
    local status, out, err = run [[-e 'print "before"' -e 'error "no"' -e 'print "after"']]
    assert.same({ 1, "before\n", "input 2:1: no\n" }, { status, out, err })
    status, out, err = run "-e 'for i = 1, 2 do'"
    assert.same({ 1, "", "-e: it is not finished: for i = 1, 2 do\n" }, { status, out, err })
  end)

  it("reads a pipe without a prompt, line by line, and what is not finished goes on", function()
    local status, out, err = run("",
      "#!/usr/bin/env cueball-repl\nx = 1\nfor i = 1, 2 do\n  print(i)\nend\nx + 1\n:quit 7\nprint 'after'\n")
    assert.same({ 7, "1\n2\n2\n", "" }, { status, out, err })
    status, out, err = run("", "print(1)\nf(\n")
    assert.same({ 1, "1\n", "the input ends in the middle of: f(\n" }, { status, out, err })
    status, out, err = run("", "nil, 'gone', 'x'\nlocal function f() error 'deep' end\nf()\nprint 'after'")
    assert.same({ 1, "" }, { status, out })
    assert.is_truthy(err:find('^nil, "gone", "x"\ninput 2:1: deep\n'), err)
  end)

  it("ends when nobody reads what it prints, or the disk is full", function()
    local status, out, err = command.shell [[{ yes '1 + 1' 2>/dev/null | cueball repl; echo "status $?" >&2; } | head -n 1]]
    assert.same({ 0, "2\n", "status 141\n" }, { status, out, err })
    -- So long that it is compiled.
    status, out, err = command.shell [[{ cueball repl -e 'while true do print(1) end'; echo "status $?" >&2; } | head -c 1000000 | wc -c]]
    assert.same({ 0, "1000000\n", "status 141\n" }, { status, out, err })
    if not io.open("/dev/full", "rb") then return end
    status, out, err = command.shell "cueball repl -e 1 -e 'io.stderr:write \"on\"' >/dev/full"
    assert.same({ 1, "", "cueball: stdout cannot be written: No space left on device\n" }, { status, out, err })
  end)

  it("bears that its input, or its output, is closed", function()
    assert.same({ 0, "", "" }, { command.shell "cueball repl <&-" })
    assert.same({ 0, "2\n", "" }, { command.shell "cueball repl -e 1+1 <&- 2>&-" })
    for _, line in ipairs { "echo 1 | cueball repl >&-", "cueball repl -e 1 >&- <&-", "cueball --help >&-" } do
      assert.same({ 1, "", "cueball: stdout cannot be written: Bad file descriptor\n" }, { command.shell(line) })
    end
  end)

  it("lets the loop go on while a pipe is slow", function()
    local spawns = [[do cueball.spawn(function() cueball.sleep(10) print "meanwhile" io.open(os.getenv "SAID", "w"):close() end) end]]
    local status, out = command.shell(("export SAID='%s/said'; "
      .. "{ echo '%s'; for _ in $(seq 600); do [ -e $SAID ] && break; sleep 0.05; done; echo 2; } | cueball repl"):format(folder, spawns))
    assert.same({ 0, "meanwhile\n2\n" }, { status, out })
  end)

  it("runs a script with its arguments; what it sets stays", function()
    local script = write("script.lua",
      "local a, b = ...\nfound = a .. b\ncueball.sleep(1)\nprint(cueball.run(function() return found end))")
    local status, out = run(script .. " one two -e found")
    assert.same({ 0, "onetwo\n\"onetwo\"\n" }, { status, out })
    local err
    status, out, err = run(write("broken.lua", "\nlocal x = nil\nx.y = 1"))
    assert.same({ 1, "" }, { status, out })
    assert.is_truthy(err:find "broken.lua:3: attempt to index local 'x'", err)
    status, out, err = run(quote(folder .. "/nothing.lua"))
    assert.same({ 1, "" }, { status, out })
    assert.is_truthy(err:find "cannot open", err)
  end)

  it("lives in virtual time with --sim, and the same seed gives the same", function()
    local line = "--sim --seed 7 "
      .. "-e ':pool \"10.0.0.1:80,10.0.0.2:80\" max=4' -e ':watch' -e ':step 1s' -e ':kill 10.0.0.1' -e ':step 5m' -e 'world.time_ms()'"
    local status, out, err = run(line)
    assert.equal(0, status, err)
    assert.equal("301000\n", out)
    assert.is_truthy(err:find("10.0.0.1:80 is dead after 3 attempts", 1, true))
    assert.equal(err, select(3, run(line)))
    assert.is_true(err ~= select(3, run((line:gsub("seed 7", "seed 8")))))
  end)

  it("is ended by Ctrl-C, whether what runs waits or loops, and says nothing", function()
    finally(command.stop_all)
    for _, arguments in ipairs { "-e 'print [[begun]] cueball.sleep(86400000)'", "-e 'print [[begun]] while true do end'",
      "--sim -e 'print [[begun]] while true do world.sleep(1) end'" } do
      local one = command.start("repl " .. arguments)
      one:wait_for "begun"
      one:signal "INT"
      assert.same({ 130, "begun\n", "" }, { one:wait() })
    end
  end)

  it("is told from wrong usage", function()
    for arguments, message in pairs {
      ["--seed 5"] = "option '--seed' is of --sim", ["--sim --seed x"] = "must be a whole number",
      ["--nonsense"] = "unknown option '--nonsense'",
    } do
      local status, out, err = run(arguments)
      assert.same({ 2, "" }, { status, out })
      assert.is_truthy(err:find(message, 1, true), err)
    end
    assert.same({ 4, "", "cueball: standard input is no terminal, as --interactive wants it\n" }, { run "-i" })
  end)

  it("tells the log on stderr, from CUEBALL_LOG on", function()
    local line = "repl -e 'cueball.host().log(\"info\", \"said\")' </dev/null"
    assert.is_truthy(select(3, command.run(line)):find("info: said", 1, true))
    local _, out, err = command.run(line, "CUEBALL_LOG=warn")
    assert.same({ "", "" }, { out, err:find("said", 1, true) and err or "" })
  end)
end)
