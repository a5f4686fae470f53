--- The real script, in a process of its own: what it prints, where, and its status.
local command = require "spec.support.command"

local quote = require("spec.support.shell").quote

describe("cueball", function()
  it("prints its version, and those of what it stands on", function()
    local status, out, err = command.run "--version"
    assert.equal(0, status, err)
    assert.is_truthy(out:find("^cueball %d+%.%d+%.%d+ %(.*libcueball.*%)\nLuaJIT 2"), out)
    assert.is_truthy(out:find("\nlibuv %d+%.%d+%.%d+\n"), out)
    assert.equal("", err)
    assert.equal(out, select(2, command.run "-V"))
  end)

  it("prints its help, also that of a command, however it is asked", function()
    local status, out, err = command.run "--help"
    assert.equal(0, status, err)
    assert.is_truthy(out:find("\n  resolve +Find"), out)
    for _, arguments in ipairs { "help", "-h" } do assert.equal(out, select(2, command.run(arguments))) end
    status, out, err = command.run "resolve --help"
    assert.equal(0, status, err)
    assert.equal(require("cueball.cli.resolve").help, out)
    for _, arguments in ipairs { "help resolve", "resolve -h", "--help resolve", "resolve db.example -h" } do
      assert.equal(out, select(2, command.run(arguments)), arguments)
    end
  end)

  it("ends with 2 on wrong usage, says what is wrong on stderr and nothing on stdout", function()
    for arguments, message in pairs {
      [""] = "cueball: a command is required\nTry 'cueball --help'.\n",
      ["reslve x"] = "cueball: unknown command 'reslve'\nDid you mean 'resolve'?\nTry 'cueball --help'.\n",
      ["help reslve"] = "cueball: there is no command 'reslve'\nTry 'cueball --help'.\n",
      ["--verson"] = "cueball: unknown option '--verson'\nDid you mean '--version'?\nTry 'cueball --help'.\n",
      ["resolve"] = "cueball: give a NAME, or addresses with -S\n",
      ["resolve --folow x"] = "cueball: unknown option '--folow'\nDid you mean '--follow'?\nTry 'cueball resolve --help'.\n",
      ["resolve -p"] = "cueball: option '-p' requires an argument\n",
      ["resolve -p 70000 x"] = "cueball: option '-p/--port' must be a whole number from 0 to 65535, not \"70000\"\n",
      ["resolve --timeout=5h x"] = "cueball: option '-t/--timeout' must be a time from 1ms to 1440m, such as 500ms, 5s or 1m "
        .. "(a bare number is milliseconds), not \"5h\"\n",
      ["resolve -r a,b x"] = "cueball: option '-r/--resolvers' must be nameservers",
      ["resolve -s http x"] = "cueball: option '-s/--service' must be a service such as _http._tcp, or none, not \"http\"\n",
      ["resolve --color=red x"] = "cueball: argument for option '--color' must be one of 'auto', 'always', 'never'\n",
      ["resolve -46 x"] = "cueball: options '-4' and '-6' exclude each other",
      ["resolve a b"] = "cueball: one NAME at a time, got 2; several addresses need -S\n",
      ["resolve a..b"] = "cueball: \"a..b\" is neither an address nor a name: two dots",
      ["resolve " .. ("x."):rep(122) .. "x"] = "is longer than the 253 octets that a name may have\n",
      ["resolve -S"] = "cueball: -S needs at least one ADDRESS:PORT\n",
      ["resolve -S 127.0.0.1"] = "cueball: \"127.0.0.1\": there is no port; write it behind the address, or give one with -p\n",
      ["resolve -S db.example:80"] = "cueball: \"db.example:80\" is not an address",
      ["resolve -S 127.0.0.1:80 127.0.0.1:80"] = "cueball: \"127.0.0.1:80\" is there twice\n",
      ["resolve -f -S 127.0.0.1:80"] = "cueball: -f has nothing to follow with -S: addresses typed in do not change\n",
      ["resolve -f 127.0.0.1:80"] = "cueball: -f has nothing to follow: 127.0.0.1:80 is an address\n",
    } do
      local status, out, err = command.run(arguments)
      assert.equal(2, status, arguments .. ": " .. err)
      assert.equal("", out)
      assert.is_truthy(err:find(message, 1, true), arguments .. ": " .. err)
      assert.is_truthy(err:find "\nTry 'cueball [^\n]*%-%-help'%.\n$", err)
    end
  end)

  it("works through a symbolic link, from another folder", function()
    local status, out, err = command.shell(("folder=$(mktemp -d) && ln -s %s $folder/link && cd / && $folder/link resolve -S 127.0.0.1:80; "
      .. "rm -r $folder"):format(quote(command.path)))
    assert.equal("127.0.0.1 80 127.0.0.1:80\n", out, err)
    assert.equal(0, status)
  end)

  it("says where its modules should be if they are not", function()
    local status, out, err = command.shell(("LUA_PATH=/nowhere/?.lua %s resolve -S 127.0.0.1:80"):format(quote(command.path)))
    assert.equal(4, status)
    assert.equal("", out)
    assert.is_truthy(err:find("cueball: its Lua modules cannot be loaded; they belong in /", 1, true), err)
  end)

  it("says how to get an event loop if there is none", function()
    local status, out, err = command.shell("LUA_CPATH=\"$CUEBALL_BUILD/?.so\" LUA_PATH=\"${LUA_PATH%;;};/usr/share/lua/5.1/?.lua\" "
      .. "cueball resolve db.example")
    assert.equal(4, status, err)
    assert.equal("", out)
    assert.is_truthy(err:find("apt install lua-luv", 1, true), err)
    assert.is_nil(err:find("stack traceback", 1, true), err)
  end)
end)

describe("cueball resolve of addresses", function()
  it("prints address, port and key, in order", function()
    local status, out, err = command.run "resolve -S 10.0.0.10:80 '[::1]:90' 10.0.0.2 -p 8080 unix:/run/db.sock"
    assert.equal("10.0.0.2 8080 10.0.0.2:8080\n10.0.0.10 80 10.0.0.10:80\n::1 90 [::1]:90\nunix:/run/db.sock 0 unix:/run/db.sock\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("needs no -S for one, with brackets or without", function()
    assert.equal("10.0.0.1 80 10.0.0.1:80\n", select(2, command.run "resolve 10.0.0.1"))
    assert.equal("10.0.0.1 81 10.0.0.1:81\n", select(2, command.run "resolve 10.0.0.1:81 -p 82"))
    assert.equal("::1 82 [::1]:82\n", select(2, command.run "resolve ::1 -p 82"))
    assert.equal("::1 80 [::1]:80\n", select(2, command.run "resolve '[::1]'"))
    assert.equal("::1 443 [::1]:443\n", select(2, command.run "resolve '[::1]:443'"))
  end)

  it("prints JSON", function()
    local status, out = command.run "resolve --json --why -S 127.0.0.1:80"
    assert.equal(0, status)
    assert.equal('{"name":null,"service":null,"backends":[{"name":"127.0.0.1:80","address":"127.0.0.1","port":80,'
      .. '"key":"127.0.0.1:80","priority":0,"weight":1,"why":{"provenance":"given as an address"}}]}\n', out)
  end)

  it("is aligned and coloured on a terminal, unless that is not wanted", function()
    local status, out = command.run_on_terminal "resolve -S 127.0.0.1:80 127.0.0.1:8080 --why"
    assert.equal(0, status, out)
    assert.is_truthy(out:find("\27", 1, true), "no colour")
    assert.equal("ADDRESS    PORT  KEY\r\n127.0.0.1    80  127.0.0.1:80\r\n  given as an address\r\n"
      .. "127.0.0.1  8080  127.0.0.1:8080\r\n  given as an address\r\n", (out:gsub("\27%[%d+m", "")))
    status, out = command.run_on_terminal("resolve -S 127.0.0.1:80", "NO_COLOR=1")
    assert.equal(0, status)
    assert.equal("ADDRESS    PORT  KEY\r\n127.0.0.1    80  127.0.0.1:80\r\n", out)
    assert.is_nil(select(2, command.run_on_terminal "resolve --color=never -S 127.0.0.1:80"):find("\27", 1, true))
  end)

  it("is coloured elsewhere only if asked to", function()
    assert.is_truthy(select(2, command.run "resolve --color=always -S 127.0.0.1:80"):find("\27", 1, true))
    assert.is_nil(select(2, command.run("resolve -S 127.0.0.1:80", "TERM=xterm")):find("\27", 1, true))
  end)

  it("ends quietly when nobody reads", function()
    -- Some 4,000 lines do not fit into a pipe.
    local status, out, err = command.shell [[
      many=""; i=1; while [ $i -le 60000 ]; do many="$many 10.0.0.1:$i"; i=$((i + 5)); done
      { cueball resolve -S $many; echo "status $?" >&2; } | head -n 1]]
    assert.equal(0, status)
    assert.equal("10.0.0.1 1 10.0.0.1:1\n", out)
    assert.equal("status 141\n", err)
  end)

  it("tells that the disk is full", function()
    if not io.open("/dev/full", "rb") then return pending "there is no /dev/full here" end
    for _, arguments in ipairs { "resolve -S 127.0.0.1:80", "--help", "help resolve", "--version" } do
      local status, _, err = command.shell("cueball " .. arguments .. " >/dev/full")
      assert.equal(1, status, arguments)
      assert.equal("cueball: stdout cannot be written: No space left on device\n", err)
    end
  end)
end)
