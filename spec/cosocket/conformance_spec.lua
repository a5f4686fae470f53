--- The same program on a real nginx's cosockets and on those of libuv, beside one server: what they say must be the same.
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

-- Runs in both: run(tcp, sleep, port) → lines.
local PROGRAM = [==[
local lines = {}
local function text(value) return type(value) == "string" and ("%q"):format(value) or tostring(value) end
local function note(what, fn, ...)
  local got = { pcall(fn, ...) }
  for index = 1, 4 do got[index] = text(got[index]) end
  local line = what .. ": " .. table.concat(got, ", ", 1, 4)
  lines[#lines + 1] = (line:gsub("#%d to '[^']*'", "#N"))   -- a method called by pcall has no name, and counts its object
end
local function run(tcp, sleep, port)
  local function connected()
    local sock = tcp()
    sock:settimeouts(20000, 20000, 20000)
    assert(sock:connect("127.0.0.1", port))
    return sock
  end
  -- How many connections the server has reset.
  local function resets()
    local sock = connected()
    sock:send "resets\n"
    local count = tonumber(sock:receive())
    sock:close()
    return count
  end
  local function steps(what, sock, ...)
    for index, step in ipairs { ... } do
      if type(step) == "number" then sleep(step) else
        note(what .. " " .. index .. " " .. step[1], sock[step[1]], sock, unpack(step, 2))
      end
    end
  end
  local R, C, K = { "receive" }, { "close" }, { "setkeepalive" }

  local sock = connected()
  for index, data in ipairs { { "a", nil, "c" }, { "a", [4] = "d" }, { "a", k = "v" }, { [1.5] = "a" }, { [0] = "a" }, { "a", { k = 1 } },
      { "a", { [2] = "b" } }, { "a", true }, { { print } }, print, {}, { {}, "" }, "" } do
    steps("send of " .. index, sock, { "send", data })
  end
  for index, data in ipairs { 1, -0, 1.5, 1e15, 1e100, true, false, { "a", { 1, -0, { "b" } } } } do
    steps("echo of " .. index, sock, { "send", { data ~= true and data ~= false and data or tostring(data), "\n" } }, R)
  end
  steps("closed", sock, C, C, R, { "send", "x" }, K, { "getreusedtimes" })

  local function ask(line)
    local made = connected()
    made:send(line .. "\n")
    return made
  end
  local function reset()
    local before, made = resets(), ask "reset"
    repeat until resets() > before
    return made
  end
  steps("half", ask "half", R, R, R, { "receive", 0 }, { "receiveany", 1 }, { "getreusedtimes" }, K, { "send", "still" }, C, C)
  steps("all", ask "half", { "receive", "*a" }, { "receive", "*a" }, { "send", "x" }, R, { "send", "x" }, C)
  steps("part", ask "half", { "receive", 90 }, R, K, C, C)
  steps("bye", ask "bye", R, R, { "send", "a" }, 0.05, { "send", "b" }, { "send", "c" }, R, C)
  steps("reset", reset(), 0.05, R, R, { "send", "a" }, { "send", "b" }, K, C)
  steps("reset, sent", reset(), 0.05, { "send", "a" }, { "send", "b" }, R, C)
  local stuck = ask "stuck"
  stuck:settimeouts(20000, 50, 20000)
  note("stuck", stuck.send, stuck, ("x"):rep(3e7))
  steps("stuck", stuck, { "send", "x" }, R, { "settimeout", 50 }, R, K, C, C)
  steps("kept", connected(), { "setkeepalive", 1000, 10 }, { "send", "x" }, K, C)
  steps("unread", ask "abc", { "receive", 1 }, K, C)

  for index, one in ipairs { { "127.0.0.1" }, { "" }, { "", 80 }, { "127.0.0.1", "x" }, { "127.0.0.1", "" }, { "127.0.0.1", {} },
      { "127.0.0.1", -1 }, { "127.0.0.1", 65536 }, { "127.0.0.1", port + 0.5 }, { "127.0.0.1", tostring(port) }, { "unix:" },
      { "unix:/nonexistent/x" }, { "UNIX:/nonexistent/x", 80 }, { ":", 80 }, { ":80", 80 }, { "a:b", 80 }, { "[::1", 80 }, { "[]", 80 },
      { "[::1]:", 80 }, { "[::1]x", 80 }, { "[1.2.3.4]", 80 }, { "a/b", 80 }, { "a?b", 80 }, { "http://a", 80 },
      { "127.0.0.1:" .. port, 1 } } do
    local made = tcp()
    note("connect " .. index, made.connect, made, unpack(one))
    made:close()
  end
  steps("options", connected(), { "setoption" }, { "setoption", "keepalive" }, { "setoption", "keepalive", true },
    { "setoption", "keepalive", 0 }, { "setoption", "tcp-nodelay", false }, { "setoption", "sndbuf", 50000 },
    { "setoption", "rcvbuf", 50000 }, { "setoption", "tcp_nodelay", 1 }, { "setoption", 1, 1 }, C)
  return table.concat(lines, "\n")
end
return run
]==]

local reset_count = 0

-- Does what the first line asks for, and echoes all others.
local function serve(client)
  local is_told = false
  client:read_start(function(_, data)
    if client:is_closing() then return end
    if not data then return client:close() end
    local word = not is_told and data:match "^(%l+)\n"
    is_told = true
    if word == "half" then
      client:write "hi\n"
      client:shutdown()
    elseif word == "bye" then
      client:write("bye\n", function() client:close() end)
    elseif word == "reset" then
      client:close_reset()
      reset_count = reset_count + 1
    elseif word == "resets" then
      client:write(reset_count .. "\n")
    elseif word == "stuck" then
      client:read_stop()
      client:write "early\n"
    else
      client:write(data)
    end
  end)
end

local define = nginx.is_there() and it or pending

define("cosockets say what ngx_lua's say", function()
  local one = server.listen(serve)
  local there = nginx.start {
    files = { ["program.lua"] = PROGRAM },
    server = ([[
      location /run { content_by_lua_block { ngx.print(require "program"(ngx.socket.tcp, ngx.sleep, %d)) } }]]):format(one.port),
  }
  local ok, said = pcall(there.ask, there, "/run")
  there:stop()
  local here = host.run(loadstring(PROGRAM)(), host.tcp, function(seconds) host.sleep(seconds * 1000) end, one.port)
  one:close()
  assert(ok, said)
  assert.equal(said, here)
end)
