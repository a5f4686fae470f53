--- cueball top on a real terminal, beside a program that answers what a file says, and beside a real one.
local command = require "spec.support.command"
local json = require "dkjson"
local port = require "spec.support.port"
local shell = require "spec.support.shell"
local tmux = require "spec.support.tmux"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local folder, number, stand_in

local function answer(changes)
  local db1 = { key = "10.0.0.1:5432", name = "データ", state = "up", since_ms = 1000, total = 4, total_max = 5, busy = 3, idle = 1,
    connecting = 0, reason = "well" }
  local db2 = { key = "10.0.0.2:5432", name = "e\27]0;owned\7vil", state = "dead", total = 1, busy = 0, idle = 0, connecting = 1,
    reason = "dead: connection refused" }
  local made = { process = { pid = 4711, role = "program", host = "uv", age_s = 1 }, pools = { { name = "db", state = "running",
    signals = { utilisation = 0.5, waiting = 2, claim_p99_ms = 3, churn_per_s = 0 }, backends = { db1, db2 },
    leases = { { id = 7, backend = "10.0.0.1:5432", held_ms = 1234, site = "app.lua:12" } }, waiters = {}, more = {} } } }
  if changes then changes(db1, db2) end
  return json.encode(made)
end

local function write(name, text)
  shell.write(folder .. "/new", text)
  assert(os.rename(folder .. "/new", folder .. "/" .. name))
end

-- Waits until it listens.
local function begin()
  local one, out = { has_ended = false }, uv.new_pipe(false)
  local said = ""
  local given = { args = { "spec/support/monitor_stand_in.lua", tostring(number), folder }, stdio = { nil, out, nil } }
  one.process = assert(uv.spawn("luajit", given, function() one.has_ended = true end))
  out:read_start(function(_, data) said = said .. (data or "") end)
  until_true(function() return said:find "ready" or one.has_ended end)
  out:close()
  assert(not one.has_ended, "the stand-in ended at once")
  stand_in = one
end

-- Waits until it has ended: its port is free from then on.
local function finish()
  local one = stand_in
  stand_in = nil
  if not one then return end
  one.process:kill "sigkill"
  until_true(function() return one.has_ended end)
  one.process:close()
  uv.run "nowait" -- luv before 1.45 does not like an end with handles that are closing
end

local function top(arguments, options)
  return tmux.start(("%s top -i 200ms 127.0.0.1:%d %s"):format(command.script, number, arguments or ""), options)
end

describe("cueball top", function()
  before_each(function()
    folder, number = shell.must "mktemp -d", port.free()
    write("snapshot", answer())
    write("events", "")
    begin()
  end)

  after_each(function()
    tmux.stop_all()
    command.stop_all()
    finish()
    shell.must("rm -r " .. folder)
  end)

  it("shows a program, sorts, filters, holds, changes lists and size, and leaves the terminal as it was", function()
    local pane = top("", { columns = 120, rows = 20 })
    pane:wait_for "データ %(10.0.0.1:5432%) +up .*e\\x1b%]0;owned\\x07vil %(10.0.0.2:5432%) +dead .*1 backends"
    pane:keys "s"
    pane:wait_for "vil.*データ"
    pane:type "/well"
    pane:wait_for "/well +Enter keeps it"
    pane:keys "Enter"
    pane:wait_for "1 row, state  /well"
    pane:keys "Space"
    pane:wait_for "PAUSED at %d%d:%d%d"
    write("snapshot", answer(function(db1) db1.reason = "well, and new" end))
    os.execute "sleep 0.6"
    assert.is_nil(pane:screen():find "and new")
    pane:keys "Space"
    pane:wait_for "well, and new"
    pane:resize(70, 12)
    pane:wait_until("fewer columns", function(screen) return screen:find "データ" and not screen:find "LATENCY" end)
    pane:keys "Escape"
    pane:wait_for "2 rows"
    pane:keys "2"
    pane:wait_for "app.lua:12"
    pane:keys "4"
    write("events", 'event: record\ndata: {"time_s":1,"level":"warn","pool":"db","message":"日本 is dead \\u001b[2J"}\n\n')
    pane:wait_for "warn +日本 is dead \\x1b%[2J"
    pane:keys "?"
    pane:wait_for "Space +hold the picture"
    pane:keys "?"
    pane:keys "q"
    assert.equal(0, pane:status())
    pane:wait_until("the screen of before", function(screen) return not screen:find "cueball top" end)
  end)

  it("says that the program is gone, tries again, and goes on when it is back", function()
    local pane = top("", { columns = 120 })
    pane:wait_for "10.0.0.2"
    finish()
    pane:wait_for "No answer since %d%d:%d%d:%d%d: connection refused. Tried again in %d s. The figures are of"
    pane:wait_for "データ"
    begin()
    pane:wait_until("its answer", function(screen) return screen:find "10.0.0.2" and not screen:find "No answer" end)
    write("snapshot", '{"pools":' .. ("["):rep(100000))
    pane:wait_for "its answer is no snapshot of pools"
    write("snapshot", "500")
    pane:wait_for "it answers 500: no"
    write("snapshot", "no JSON")
    pane:wait_for "its answer is no snapshot of pools"
  end)

  it("leaves the terminal as it was however it ends", function()
    local cases = { { "C-c", 130 }, { "q", 0 }, { "TERM", 143, "Terminated\n" }, { "INT", 130 }, { "HUP", 129, "Hangup\n" } }
    for _, case in ipairs(cases) do
      local line = "trap : INT HUP; stty -a >%s/before; echo on it; %s top 127.0.0.1:%d; code=$?; stty -a >%s/after; "
        .. "echo over $code; read -r _"
      local pane = tmux.start(line:format(folder, command.script, number, folder))
      pane:wait_for "10.0.0.2"
      if case[1] == "C-c" or case[1] == "q" then
        pane:keys(case[1])
      else
        -- Without a sanitizer's library, with which pgrep hangs.
        local found = shell.must(("unset LD_PRELOAD; pgrep -f 'top 127.0.0.1:%d$' | tail -n 1"):format(number))
        shell.must(("kill -%s %s"):format(case[1], found))
      end
      pane:wait_for("on it\n" .. (case[3] or "") .. "over " .. case[2] .. "\n") -- the shell tells of signals
      assert.equal(shell.read(folder .. "/before"), shell.read(folder .. "/after"))
      pane:stop()
    end
  end)

  it("lets the shell have the terminal at Ctrl-Z, and draws anew when it goes on", function()
    local line = "exec bash --norc -i -c 'set -m; %s top 127.0.0.1:%d; echo stopped; read -r _; fg'"
    local pane = tmux.start(line:format(command.script, number))
    pane:wait_for "10.0.0.2"
    pane:keys "C-z"
    pane:wait_until("the screen of before", function(screen) return screen:find "stopped" and not screen:find "10.0.0.2" end)
    pane:keys "Enter"
    pane:wait_for "10.0.0.2"
    pane:type "/well"
    pane:wait_for "/well +Enter keeps it"
    pane:keys "C-c"                                       -- there it gives up the filter
    pane:wait_for "2 rows"
    pane:keys "q"
  end)

  it("has no colours where they are not wanted, and signs of ASCII where there is no UTF-8", function()
    local colored = top()
    colored:wait_for "10.0.0.2"
    assert.is_truthy(colored:screen(true):find "\27%[3%dm")
    local bare = top("", { environment = "NO_COLOR=1 LC_ALL=C" })
    bare:wait_for "10.0.0.2"
    assert.is_nil(bare:screen(true):find "\27%[3[1-7]m")
    assert.is_nil(bare:screen():find "[\128-\255]")
    local dumb = tmux.start(("%s top 127.0.0.1:%d"):format(command.script, number), { environment = "TERM=dumb" })
    assert.equal(0, dumb:status())
    dumb:wait_for "10.0.0.2"
    assert.is_nil(dumb:screen(true):find("\27", 1, true))
  end)

  it("prints a table once, where there is no terminal or it is told to", function()
    local status, out, err = command.run(("top 127.0.0.1:%d"):format(number))
    assert.equal("", err)
    assert.equal(0, status)
    assert.matches("^cueball top 127.0.0.1:%d+  pid 4711, program on uv, up 1.0 s\nPOOL  STATE", out)
    assert.matches("\nデータ %(10.0.0.1:5432%) +up .* well\n", out)
    assert.is_nil(out:find "[\27\7]")
    assert.matches("\27%[32mup", select(2, command.run(("top --once --color always 127.0.0.1:%d"):format(number))))
    status, out = command.run(("top --once -f refused -s state 127.0.0.1:%d"):format(number))
    assert.equal(0, status)
    assert.is_nil(out:find "データ")
  end)

  it("shows the token that the program wants", function()
    write("token", "sesame")
    local status, out, err = command.run(("top --once 127.0.0.1:%d"):format(number))
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("it wants a token %(401%); see %-%-token%-file\n$", err)
    assert.equal(0, (command.run(("top --once 127.0.0.1:%d"):format(number), "CUEBALL_TOKEN=sesame")))
    write("file", "sesame\n")
    assert.equal(0, (command.run(("top --once --token-file %s/file 127.0.0.1:%d"):format(folder, number))))
    write("file", "wrong")
    status, out, err = command.run(("top --once --token-file %s/file 127.0.0.1:%d"):format(folder, number))
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("it wants another token", err)
  end)

  it("tells whoever asks below another path than the monitor's where to ask", function()
    local status, out, err = command.run(("top --once http://127.0.0.1:%d/elsewhere/"):format(number))
    assert.equal(1, status)
    assert.equal("", out)
    assert.is_truthy(err:find("it answers 404: no pools are shown there; give the path of the monitor's location", 1, true), err)
  end)

  it("ends with what went wrong", function()
    finish()
    for arguments, expected in pairs {
      ["--once 127.0.0.1:" .. number] = { 1, "127.0.0.1:" .. number .. ": connection refused\n" },
      ["--once ftp://x/"] = { 2, '"ftp://x/" is no address: expected HOST:PORT, http://HOST:PORT/ or unix:/PATH\n' },
      ["--once unix:/nowhere/x"] = { 1, "unix:/nowhere/x: no such file or directory\n" },
      ["-i 5"] = { 2, "must be 100ms at least\n" },
      ["-s colour"] = { 2, "must be one of state, current, busy, latency, errors, since, backend" },
      ["--token-file /nowhere"] = { 2, "the token cannot be read: /nowhere: No such file or directory\n" },
    } do
      local status, out, err = command.run("top " .. arguments)
      assert.equal(expected[1], status, arguments .. err)
      assert.equal("", out)
      assert.is_truthy(err:find(expected[2], 1, true), err)
    end
  end)
end)

-- A program with a pool over two servers of its own, one of which can be ended, and something that holds and waits.
local PROGRAM = [[
  local cueball = require "cueball"
  local uv = require "luv"
  local function echo(port)
    local server, clients = uv.new_tcp(), {}
    server:bind("127.0.0.1", port)
    server:listen(128, function()
      local client = uv.new_tcp()
      server:accept(client)
      clients[#clients + 1] = client
      client:read_start(function(_, data) if data then client:write(data) else client:close() end end)
    end)
    return "127.0.0.1:" .. server:getsockname().port, function()
      server:close()
      for _, client in ipairs(clients) do if not client:is_closing() then client:close() end end
    end
  end
  local first = echo(0)
  local second, stop = echo(0)
  local pool = cueball.pool { name = "real", resolver = cueball.resolver.static { first, second }, connect = cueball.connection.tcp {},
    max_connections = 2, claim_sites = true, recovery = { default = { attempts = 1, delay_ms = 100, max_delay_ms = 200 } } }
  assert(cueball.monitor.serve { listen = arg[1] })
  local leases = { pool:claim(), pool:claim() }
  cueball.spawn(function() pool:claim { timeout_ms = 600000 } end)
  cueball.host().on_signal("hup", function()
    stop()
    for _, lease in ipairs(leases) do
      if lease:backend().key == second then lease:close() end
    end
  end)
  print(first, second) io.flush()
  cueball.sleep(600000)]]

describe("cueball top beside a real program", function()
  after_each(function()
    tmux.stop_all()
    command.stop_all()
    shell.must("rm -r " .. folder)
  end)

  it("shows who holds, who waits, and how a backend dies", function()
    folder = shell.must "mktemp -d"
    write("program.lua", PROGRAM)
    local socket = "unix:" .. folder .. "/monitor"
    local program = command.start(("run %s/program.lua %s"):format(folder, socket))
    local first = program:wait_for "(127.0.0.1:%d+)\t127"
    local second = program:wait_for "\t(127.0.0.1:%d+)\n"
    first = first:gsub("%p", "%%%0")
    second = second:gsub("%p", "%%%0")
    local pane = tmux.start(("%s top -i 200ms %s"):format(command.script, socket), { columns = 140 })
    pane:wait_for("\n" .. first .. " +up +%S+ %a+ +1 +1 +2 +1 +0 +0 ")
    pane:wait_for "real +running +100 %% [^\n]* 1 "
    pane:keys "2"
    pane:wait_for "program.lua:%d+ .*program.lua:%d+ "
    pane:keys "3"
    pane:wait_for "\n +1 +%S+ %a+ .*program.lua:%d+"
    pane:keys "1"
    program:signal "HUP"
    pane:wait_for("\n" .. second .. " +dead +.* dead: connection refused")
    pane:keys "4"
    pane:wait_for "is dead"
    program:signal "TERM"
    program:wait()
    pane:wait_for "No answer since"
  end)

  it("speaks TLS, and believes only a certificate that is for the name", function()
    local certificates = require "spec.support.certificates"
    folder, number = shell.must "mktemp -d", port.free()
    local good, token = certificates.good, "0123456789abcdef"
    write("program.lua", ([[
      local cueball = require "cueball"
      assert(cueball.monitor.serve { listen = "127.0.0.1:%d", token = %q, tls = { cert_file = %q, key_file = %q } })
      print "ready" io.flush()
      cueball.sleep(600000)]]):format(number, token, good.cert, good.key))
    local program = command.start(("run %s/program.lua"):format(folder))
    program:wait_for "ready"
    local function once(arguments)
      local status, text
      until_true(function() -- it waits for 5 s, which is not the question here
        local out, err
        status, out, err = command.run(("top --once https://%s"):format(arguments), "CUEBALL_TOKEN=" .. token)
        text = out .. err
        return not text:find "took too long"
      end)
      return status, text
    end
    local status, text = once(("127.0.0.1:%d --ca-file %s"):format(number, certificates.ca.cert))
    assert.matches("pid %d+, program on uv", text)
    assert.equal(0, status)
    status, text = once("127.0.0.1:" .. number)
    assert.equal(1, status)
    assert.matches("TLS: ", text)
    status, text = command.run(("top --once http://127.0.0.1:%d"):format(number), "CUEBALL_TOKEN=" .. token)
    assert.equal(1, status, text)
    assert.matches("is for an ADDRESS with https://", select(3, command.run(("top --once --ca-file x 127.0.0.1:%d"):format(number))))
  end)

  it("asks a console, too", function()
    folder = shell.must "mktemp -d"
    write("program.lua", [[
      local cueball = require "cueball"
      assert(cueball.console.listen(arg[1], { budget_ms = 5000 }))
      local pool = cueball.pool { name = "seen", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = cueball.connection.tcp {} }
      print "ready" io.flush()
      cueball.sleep(600000)
      pool:stop()]])
    local socket = "unix:" .. folder .. "/console"
    command.start(("run %s/program.lua %s"):format(folder, socket)):wait_for "ready"
    local status, out, err = command.run("top --once " .. socket)
    assert.equal("", err)
    assert.equal(0, status)
    assert.matches("\nseen +%a+", out)
    assert.matches("\n127.0.0.1:1 ", out)
  end)
end)
