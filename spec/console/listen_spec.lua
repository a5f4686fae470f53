--- Consoles over sockets: who may connect, what is said, and what is refused. The other end is within this process, or a child.
local cueball = require "cueball"
local free_port = require("spec.support.port").free
local host = require "cueball.host.uv"
local remote = require "cueball.console.remote"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local TOKEN = "a secret of more than 16 bytes"
local BUDGET_MS = 5000 -- it counts the time of other processes, too
local UPGRADE = "GET /console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: cueball-console\r\n%s\r\n"

local folder, listener, shown

local function address(name) return "unix:" .. folder .. "/" .. name end

local function listen(name, given)
  local options = { budget_ms = BUDGET_MS }
  for key, value in pairs(given or {}) do options[key] = value end
  listener = assert(cueball.console.listen(address(name), options))
  return address(name)
end

local function attach(to, given)
  shown = {}
  local options = { host = host, address = to, print = function(words, kind) shown[#shown + 1] = { words, kind } end }
  for key, value in pairs(given or {}) do options[key] = value end
  return remote.connect(options)
end

-- What a raw peer gets that says this.
local function raw(to, ...)
  local stream = host.tcp()
  stream:settimeout(30000) -- the machine may have others to serve
  local where, port = to, nil
  if to:find "^127" then where, port = to:match "^(.*):(%d+)$" end
  assert(port and stream:connect(where, tonumber(port)) or not port and stream:connect(where))
  for _, words in ipairs { ... } do stream:send(words) end
  local answer, _, rest = stream:receive "*a"
  stream:close()
  return answer or rest
end

describe("a console over a socket", function()
  setup(function() folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/cueball-console-XXXXXX")) end)
  teardown(function() shell.must("rm -rf " .. shell.quote(folder)) end)
  after_each(function()
    if listener then listener:close() end
    listener = nil
    uv.run "nowait" -- luv before 1.45 does not like an end with handles that are closing
  end)

  it("runs what is typed, completes, and says who it is", function()
    local to = listen("a", { name = "app" })
    host.run(function()
      local one = assert(attach(to))
      assert.equal("done", one:submit "1 + 1")
      assert.equal("incomplete", one:submit "for i = 1, 2 do")
      assert.equal("done", one:submit "for i = 1, 2 do\nprint(i)\nend")
      assert.equal("done", one:submit "error 'no'")
      assert.same({ { "2", "result" }, { "1", "output" }, { "2", "output" }, { "input 3:1: no", "error" } },
        { shown[1], shown[2], shown[3], { shown[4][1]:match "^[^\n]*", shown[4][2] } })
      assert.equal(1, one.failed)
      local list, start = one:complete("x = backe", 9)
      assert.equal(5, start)
      assert.equal("backends", list[1].text)
      assert.same({}, (one:complete((" "):rep(8190) .. "backe", 8195)))
      assert.matches("^app%[" .. uv.os_getpid() .. "%] read %d+%w+> $", one:prompt())
      assert.matches("^ +>> $", one:prompt(true))
      assert.equal(#one:prompt(), #one:prompt(true))
      assert.equal(require("cueball.native").version, one:snapshot().version)
      one:close()
    end)
  end)

  it("gives results as JSON and as Lua", function()
    local to = listen "a"
    host.run(function()
      local one = assert(attach(to, { form = "json" }))
      one:submit "{ 1, 2, { a = 'x\\n', b = 1/0 } }"
      one:submit "nil, 'no'"
      one:submit "pools { pool = '*' }"
      one:close()
      assert.equal('[1,2,{"a":"x\\n"}]', (shown[1][1]:gsub(',"b":[^}]*', "")))
      assert.equal("[]", shown[#shown][1])
      one = assert(attach(to, { form = "lua" }))
      one:submit "{ 1, a = 'x\\n' }"
      assert.equal('{ 1, a = "x\\n" }', shown[1][1])
      one:close()
    end)
  end)

  it("does not keep lines of text that go on for ever", function()
    local to = listen "a"
    host.run(function()
      local answer = raw(to, "x = {\n", (("1,"):rep(500) .. "\n"):rep(70), "}\n:quit\n")
      assert.matches("what goes on over several lines may have 65536 bytes at most\n", answer)
    end)
  end)

  it("speaks with people who have socat: lines of Lua, lines of text", function()
    local to = listen "a"
    host.run(function()
      assert.equal("2\nhello\n", raw(to, "1 + 1\nprint 'hello'\n:quit\n"))
      assert.equal("1\n2\n", raw(to, "for i = 1, 2 do\n", "print(i)\nend\n:quit\n"))
    end)
  end)

  it("is ended by Ctrl-C where it waits, and goes on", function()
    local to = listen("a", { allow = "write" })
    host.run(function()
      local one = assert(attach(to))
      local began = host.now()
      host.spawn(function()
        host.sleep(100)
        one:interrupt()
      end)
      assert.equal("done", one:submit "require('cueball').sleep(60000)")
      assert.is_true(host.now() - began < 30e9)
      assert.same({ "interrupted", "error" }, shown[1])
      assert.equal("done", one:submit "1")
      assert.equal("1", shown[2][1])
      one:close()
    end)
  end)

  it("ends what waits when its peer goes", function()
    local to = listen("a", { allow = "write" })
    host.run(function()
      local one, seen = assert(attach(to)), {}
      rawset(_G, "spec_console_seen", seen)
      host.spawn(function()
        one:submit [[
          require("cueball").host().guard { abort = function() spec_console_seen.is_over = true end }
          spec_console_seen.has_begun = true
          require("cueball").sleep(3600000)]]
      end)
      until_true(function() return seen.has_begun end)
      one:close()
      until_true(function() return seen.is_over end)
    end)
    rawset(_G, "spec_console_seen", nil)
  end)

  it("is for its own user: the mode, and whom the kernel names", function()
    local to = listen "a"
    assert.equal(tonumber("600", 8), uv.fs_stat(folder .. "/a").mode % 512)
    local workers = host.workers
    local uid = workers.uid
    finally(function() workers.uid = uid end)
    host.run(function()
      workers.uid = function() return 12345 end -- somebody else's program; root may
      assert.truthy(uv.getuid() ~= 0 or attach(to))
      listener:close()
      if uv.getuid() ~= 0 then return end
      shell.must("chmod 755 " .. shell.quote(folder))
      listen("b", { mode = tonumber("666", 8) })
      local command = ("timeout 60 setpriv --reuid=65534 --clear-groups luajit -e %s"):format(shell.quote(([[
        local uv = require "luv"
        local pipe = uv.new_pipe(false)
        pipe:connect("%s", function(err)
          pipe:read_start(function(e, data) print(e, data) pipe:close() end)
        end)
        uv.run()]]):format(folder .. "/b")))
      local output
      local stdout = uv.new_pipe(false)
      local waiter = host.waiter()
      uv.spawn("sh", { args = { "-c", command .. " 2>&1" }, stdio = { nil, stdout } }, function() end)
      output = ""
      stdout:read_start(function(_, data)
        output = output .. (data or "")
        if not data then waiter:wake() end
      end)
      waiter:wait(60000)
      stdout:close()
      assert.equal("nil\tnil\n", output)
    end)
  end)

  it("replaces what a dead program left, and not what lives", function()
    shell.must(("luajit -e %s"):format(shell.quote(([[
      local uv = require "luv"
      local pipe = uv.new_pipe(false)
      assert(pipe:bind("%s"))
      uv.kill(uv.os_getpid(), "sigkill")]]):format(folder .. "/dead"))) .. "; true")
    listen "dead"
    local other = assert(host.listen(address "live", nil, function() end))
    local made, message, name = cueball.console.listen(address "live")
    other:close()
    assert.same({ nil, "cueball.console.listen: " .. address "live" .. ": somebody listens there already", "address_in_use" },
      { made, message, name })
  end)

  it("takes new options when it is called again for its address", function()
    local to = listen "a"
    local first = listener
    listen("a", { allow = "write" })
    assert.equal(first, listener)
    host.run(function()
      local one = assert(attach(to))
      assert.equal("write", one.hello.role)
      one:close()
    end)
  end)

  it("wants a token on a port, and a port of loopback", function()
    local function fault(...) return select(2, pcall(cueball.console.listen, ...)) end
    assert.matches("a port wants option 'token'", fault "127.0.0.1:0")
    assert.matches("0.0.0.0:7 is no address of loopback", fault("0.0.0.0:7", { token = TOKEN }))
    assert.matches("%[::%]:7 is no address of loopback", fault("[::]:7", { token = TOKEN }))
    assert.matches("option 'token' must be a string of 16 to 1024 bytes without control characters, not the string that was given",
      fault("127.0.0.1:0", { token = "short" }))
    assert.matches("option 'values' is for a console with allow", fault(address "a", { values = {} }))
    assert.matches("unknown option 'alow'; did you mean 'allow'", fault(address "a", { alow = "write" }))
    assert.matches("listen_spec.lua:%d+: cueball.console.listen: expected an address, got nil",
      select(2, pcall(function() cueball.console.listen() end)))
    local port = free_port()
    listener = assert(cueball.console.listen("127.0.0.1:" .. port, { token = TOKEN, budget_ms = BUDGET_MS }))
    host.run(function()
      local to = "127.0.0.1:" .. port
      assert.same({ nil, to .. ": this console wants a token", "failed" }, { attach(to) })
      assert.same({ nil, to .. ": this token is wrong", "failed" }, { attach(to, { token = TOKEN .. "x" }) })
      assert.same({ nil, to .. ": this token is wrong", "failed" }, { attach(to, { token = ("b"):rep(#TOKEN) }) })
      local one = assert(attach(to, { token = TOKEN }))
      one:close()
      assert.equal("this console wants a token\n", raw(to, "1 + 1\n"))
    end)
  end)

  it("runs nothing that a browser was talked into sending", function()
    local to = listen("a", { allow = "write" })
    host.run(function()
      _G.spec_console_ran = nil
      for _, words in ipairs {
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\nspec_console_ran = 1\n_G.x = 1\n",
        "GET /console HTTP/1.1\r\nHost: localhost\r\n\r\n{\"hello\":1}\n",
        UPGRADE:format "Origin: http://evil.example\r\n" .. "{\"hello\":1}\n{\"id\":1,\"run\":\"_G.spec_console_ran = 1\"}\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
      } do
        assert.matches("^HTTP/1.1 400 Bad Request\r\n", raw(to, words), words)
      end
      assert.is_nil(rawget(_G, "spec_console_ran"))
    end)
  end)

  it("refuses what is no request, and goes on", function()
    local to = listen "a"
    host.run(function()
      local answer = raw(to, '{"hello":1}\n', "{\n", '{"id":2}\n', '{"id":3,"run":5}\n', '{"id":4,"run":"1","form":"xml"}\n',
        '{"id":5,"complete":"a","position":-1}\n', '{"id":6,"run":"1"}\n', '{"id":7,"run":":quit"}\n')
      assert.matches('"hello":1', answer)
      assert.matches("this line is no JSON object", answer)
      assert.equal(4, select(2, answer:gsub("expected run, complete, snapshot or interrupt", "")))
      assert.matches('"is_well":true', answer)
      assert.matches("speaks version 1", raw(to, '{"hello":99}\n'))
      assert.matches("a line may have 65536 bytes at most", raw(to, "x = 1\n", ("x"):rep(70000), "\n"))
    end)
  end)

  it("is not held up by long runs of blanks", function()
    local to = listen "a"
    host.run(function()
      local blanks, began = (" "):rep(50000), os.clock()
      assert.matches("^HTTP/1.1 431", raw(to, "GET /x HTTP/1.1\r\nA: x" .. blanks .. "x\r\nB:" .. blanks .. "\r\n\r\n"))
      assert.matches("no command", raw(to, '{"hello":1}\n', ('{"id":1,"run":":x%sx"}\n'):format(blanks), '{"id":2,"run":":quit"}\n'))
      assert.matches("x", raw(to, '{"hello":1}\n', ('{"id":1,"run":"? x%sx"}\n'):format(blanks), '{"id":2,"run":":quit"}\n'))
      assert.is_true(os.clock() - began < 3, "it took " .. os.clock() - began .. " s") -- of the processor; a pattern takes 20
    end)
  end)

  it("forgets lines that go on and on without an end", function()
    local to = listen "a"
    host.run(function()
      local words = "x = 1 +" .. (("1 + "):rep(7000) .. "1 +\n"):rep(3) -- 84 KB; each line has all be read anew
      assert.matches("what goes on over several lines may have 65536 bytes at most\n.*hello\n$",
        raw(to, words, "1\n", "print 'hello'\n", ":quit\n"))
    end)
  end)

  it("takes more lines at once than it keeps, while the first one takes its time", function()
    local to = listen("a", { allow = "write" })
    host.run(function()
      local lines = {}
      for number = 1, 300 do lines[number] = "print(" .. number .. ")\n" end
      local answer = raw(to, "require('cueball').sleep(400)\n", table.concat(lines), ":quit\n")
      assert.equal("true\n1\n2\n", answer:sub(1, 9))
      assert.equal("299\n300\n", answer:sub(-8))
    end)
  end)

  it("has room for so many, and the next are let in when one leaves", function()
    local to = listen("a", { connections_max = 2 })
    host.run(function()
      local first, second = assert(attach(to)), assert(attach(to))
      assert.matches("it closed the connection", select(2, attach(to)))
      first:close()
      local third
      until_true(function()
        third = attach(to)
        return third
      end)
      third:close()
      second:close()
    end)
  end)

  it("leaves the program four parts of the time, however many loops are typed", function()
    local to = listen("a", { budget_ms = 50 })
    host.run(function()
      local used = 0
      local began = host.now()
      for _ = 1, 3 do
        host.spawn(function()
          local one = assert(attach(to))
          for _ = 1, 3 do one:submit "while true do end" end
          one:close()
          used = used + 1
        end)
      end
      while used < 3 do host.sleep(10) end
      assert.is_true(host.now() - began > 8 * 200e6, "nine loops in a row")
    end)
  end)

  it("escapes what comes from the program, as names that an attacker chose do", function()
    local to = listen "a"
    host.run(function()
      local pool = cueball.pool {
        name = "evil", resolver = cueball.resolver.static { { address = "127.0.0.1", port = 1, name = "\226\128\174x" } },
        connect = function() return nil, "\27]0;title\7\27[2J<script>" end,
      }
      host.sleep(100)
      local one = assert(attach(to))
      one:submit "backends { pool = 'evil' }"
      one:submit "'\\27[2J'"
      one:submit "print '\\27[2J'"
      one:close()
      for _, line in ipairs(shown) do assert.is_nil(line[1]:find "[%z\1-\8\11-\31\127]", line[1]) end
      pool:stop()
    end)
  end)
end)
