--- host.on_signal and host.versions of the libuv host.
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local function send(name) uv.kill(uv.os_getpid(), name) end

-- What keeps the loop alive.
local function keepers()
  local kinds = {}
  uv.walk(function(handle)
    if handle:is_active() and handle:has_ref() then kinds[#kinds + 1] = handle:get_type() end
  end)
  return table.concat(kinds, " ")
end

describe("host.on_signal", function()
  it("calls, outside of any task, as often as the signal comes, until it is ended", function()
    local before = server.open_handles()
    local calls, task = 0, "none"
    host.run(function()
      local waiter = host.waiter()
      local forget = assert(host.on_signal("hup", function()
        calls, task = calls + 1, host.current()
        waiter:wake()
      end))
      send "sighup"
      waiter:wait()
      waiter = host.waiter()
      send "sighup"
      waiter:wait()
      forget()
      forget()
    end)
    assert.equal(2, calls)
    assert.is_nil(task)
    assert.equal("", server.left_open(before))
  end)

  it("logs what its function throws, and goes on", function()
    local lines = {}
    host.log_to(function(_, message) lines[#lines + 1] = message end)
    host.run(function()
      local waiter = host.waiter()
      local forget = host.on_signal("term", function()
        waiter:wake()
        error "a fault"
      end)
      send "sigterm"
      waiter:wait()
      forget()
    end)
    host.log_to(nil)
    assert.equal(1, #lines)
    assert.is_truthy(lines[1]:find("a fault", 1, true))
  end)

  it("keeps the loop alive until it is ended", function()
    -- Servers of earlier specs have been killed; the loop may not have heard of their ends yet.
    until_true(function() return not uv.loop_alive() end, keepers)
    local forget = host.on_signal("int", function() end)
    assert.is_true(uv.loop_alive())
    forget()
    uv.run "nowait"
    assert.is_false(uv.loop_alive())
  end)

  it("refuses other names, and what is no function", function()
    local _, message = pcall(function() host.on_signal("kill", print) end)
    assert.matches('^spec/host/uv_signal_spec.lua:%d+: on_signal: expected "int", "term" or "hup", got kill$', message)
    _, message = pcall(function() host.on_signal "int" end)
    assert.matches("^spec/host/uv_signal_spec.lua:%d+: on_signal: expected a function, got nil$", message)
  end)
end)

describe("host.versions", function()
  it("has libuv's, and that of c-ares where the library has it", function()
    local lines = host.versions()
    assert.equal("libuv " .. uv.version_string(), lines[1])
    local has_dns = pcall(function() return require("cueball.native").lib.cueball_dns_new end)
    if has_dns then assert.is_truthy(lines[2]:find "^c%-ares %d+%.%d+") end
    assert.equal(has_dns and 2 or 1, #lines)
  end)
end)

describe("host.on_signal with once", function()
  local folder

  setup(function() folder = shell.must "mktemp -d" end)
  teardown(function() shell.must("rm -r " .. folder) end)

  it("leaves the second signal to the system, even in a program that never comes back to its loop", function()
    local path = folder .. "/stuck.lua"
    shell.write(path, [[
      local host, uv = require "cueball.host.uv", require "luv"
      host.run(function()
        host.on_signal("int", function()
          io.stderr:write "one"
          uv.kill(uv.os_getpid(), "sigint")
          while true do end
        end, { once = true })
        uv.kill(uv.os_getpid(), "sigint")
        host.sleep(60000)
      end)]])
    local output, status = shell.run("timeout -k 1 120 luajit " .. path)
    assert.equal("one", output)
    assert.equal(130, status)
  end)

  it("checks what it is given", function()
    local _, message = pcall(function() host.on_signal("int", print, true) end)
    assert.matches("uv_signal_spec.lua:%d+: on_signal: expected { once = true } or nothing, got true$", message)
  end)
end)
