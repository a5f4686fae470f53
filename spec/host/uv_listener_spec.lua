--- host.listen on libuv: who may have a path, who is at the other end, and what ends.
local host = require "cueball.host.uv"
local shell = require "spec.support.shell"
local uv = require "luv"

local folder

local function path(name) return folder .. "/" .. name end

local function nothing() end

local function connected(address, port)
  local client = host.tcp()
  assert(client:connect(address, port))
  return client
end

local function ask(address, port)
  local client = connected(address, port)
  client:send "hello\n"
  return client:receive "*l"
end

-- A child that listens, and is killed in the middle of it: its socket's file stays.
local function leave_behind(name)
  shell.must(("luajit -e %s"):format(shell.quote(([[
    local uv = require "luv"
    local pipe = uv.new_pipe(false)
    assert(pipe:bind("%s"))
    pipe:listen(1, function() end)
    uv.kill(uv.os_getpid(), "sigkill")]]):format(path(name)))) .. "; true")
end

describe("a listener of libuv", function()
  setup(function() folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/cueball-listener-XXXXXX")) end)
  teardown(function() shell.must("rm -rf " .. shell.quote(folder)) end)

  it("gives each who connects a task with a socket, and says who it is", function()
    host.run(function()
      local seen
      local listener = assert(host.listen("unix:" .. path "a", nil, function(socket, peer)
        seen = peer
        socket:send(socket:receive "*l" .. " yourself\n")
      end))
      assert.equal("hello yourself", ask("unix:" .. path "a"))
      assert.equal(uv.os_getpid(), seen.pid)
      assert.equal(uv.getuid(), seen.uid)
      assert.equal("unix:" .. path "a", seen.address)
      listener:close()
      assert.same({ nil, "no such file or directory" }, { host.tcp():connect("unix:" .. path "a") })
    end)
  end)

  it("gives its path the mode before anybody can connect", function()
    local modes = {}
    local before = uv.fs_chmod
    uv.fs_chmod = function(...) -- luacheck: ignore
      modes[1] = host.run(function() return select(2, host.tcp():connect("unix:" .. path "b")) end)
      return before(...)
    end
    local listener = host.listen("unix:" .. path "b", nil, nothing)
    uv.fs_chmod = before -- luacheck: ignore
    assert.same({ "connection refused" }, modes)
    assert.equal(tonumber("600", 8), uv.fs_stat(path "b").mode % 512)
    listener:close()
    listener = host.listen("unix:" .. path "b", { mode = tonumber("660", 8) }, nothing)
    assert.equal(tonumber("660", 8), uv.fs_stat(path "b").mode % 512)
    listener:close()
  end)

  it("replaces what a process left that is gone, and nothing else", function()
    leave_behind "c"
    assert.equal("socket", uv.fs_lstat(path "c").type)
    local listener = assert(host.listen("unix:" .. path "c", nil, nothing))
    assert.same({ nil, "unix:" .. path "c" .. ": somebody listens there already", "address_in_use" },
      { host.listen("unix:" .. path "c", nil, nothing) })
    listener:close()
    shell.write(path "d", "precious")
    assert.same({ nil, "unix:" .. path "d" .. " is there already, and is no socket but a file", "address_in_use" },
      { host.listen("unix:" .. path "d", nil, nothing) })
    assert.equal("precious", shell.read(path "d"))
    assert.same({ nil, "unix:" .. path "no/e" .. ": permission denied", "failed" }, { host.listen("unix:" .. path "no/e", nil, nothing) })
  end)

  it("closes at once what comes beyond its limit", function()
    host.run(function()
      local listener = assert(host.listen("127.0.0.1:0", { connections_max = 1 }, function(socket) socket:receive "*l" end))
      local address, port = listener.address:match "^(.*):(%d+)$"
      local first = connected(address, tonumber(port))
      assert.same({ nil, "closed", "" }, { connected(address, tonumber(port)):receive "*l" }) -- whoever has sent may hear of a reset
      first:send "bye\n"
      assert.same({ nil, "closed", "" }, { first:receive "*l" })
      local again = connected(address, tonumber(port))
      again:settimeout(50)
      assert.same({ nil, "timeout", "" }, { again:receive "*l" })
      listener:close()
      again:settimeout(60000)
      assert.same({ nil, "closed", "" }, { again:receive "*l" })
    end)
  end)

  it("keeps no loop alive, nor do its connections", function()
    local listener = assert(host.listen("unix:" .. path "f", nil, function(socket) socket:receive "*l" end))
    local pipe = uv.new_pipe(false)
    pipe:connect(path "f", function() pipe:unref() end)
    uv.run()
    listener:close()
    pipe:close()
    uv.run()
  end)

  it("refuses what is no address", function()
    assert.same({ nil, '"unix:x": expected unix:/PATH', "failed" }, { host.listen("unix:x", nil, nothing) })
    assert.same({ nil, '"127.0.0.1": there is no port', "failed" }, { host.listen("127.0.0.1", nil, nothing) })
    assert.matches("the path of a UNIX socket has 200 bytes", select(2, host.listen("unix:/" .. ("x"):rep(199), nil, nothing)))
    assert.matches("listener_spec.lua:%d+: listen: expected a function, got nil$",
      select(2, pcall(function() host.listen "127.0.0.1:0" end)))
    assert.matches("listener_spec.lua:%d+: listen: unknown option 'backlogs'; did you mean 'backlog'%?$",
      select(2, pcall(function() host.listen("127.0.0.1:0", { backlogs = 1 }, nothing) end)))
  end)
end)
